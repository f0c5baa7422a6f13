/* SPDX-License-Identifier: MIT */
/*
 * A trace of page-level accesses: which CPU touched which page in an interval, how often, and how
 * often it missed.  The file's format is numa/trace_format.h.
 * Accesses to one page by one CPU within one interval become one record (two, when it also wrote),
 * or more when the table in which they are gathered has no room for them.
 *
 * Pages are numbers within all nodes' memory (see region.h).  Who wants guest pages joins the trace
 * with a map of the guest made while it ran: `memsys map`, `memsys trace --map`.
 * Threads: one writer.
 */
#ifndef DISCO_BENCH_MEMSYS_TRACE_H
#define DISCO_BENCH_MEMSYS_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "numa/trace_format.h"

struct trace;

/* Creates the file; at most `most` records are written. NULL with errno. */
struct trace *trace_new(const char *path, const struct trace_header *h, uint64_t most);

/* One access; `insns`: what all CPUs have begun so far. */
void trace_access(struct trace *t, unsigned cpu, unsigned guest, uint32_t page, bool write,
                  bool miss, uint64_t insns);

/* Writes out what is gathered. */
void trace_flush(struct trace *t, uint64_t insns);

/* Records written so far, and those lost: the file was full or could not be written. */
void trace_numbers(const struct trace *t, uint64_t *written, uint64_t *lost);

/* Writes out the rest and closes; 0 or -errno. */
int trace_close(struct trace *t, uint64_t insns);

#endif
