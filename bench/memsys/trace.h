/* SPDX-License-Identifier: MIT */
/*
 * A trace of page-level accesses: which CPU touched which page in an interval, how often, and how
 * often it missed.  A file of a header and records of 24 bytes, little-endian, in order of time.
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

#define TRACE_MAGIC UINT64_C(0x6563617274736d64)
enum { TRACE_VERSION = 1 };

/* At the file's start. */
struct trace_header {
    uint64_t magic;          /* TRACE_MAGIC */
    uint32_t version;        /* TRACE_VERSION */
    uint32_t ncpus, nnodes;  /* of the machine */
    uint32_t sample;         /* counts are to be multiplied by it */
    uint64_t node_bytes;     /* memory of a node; 0: pages are a guest's */
    uint64_t interval;       /* instructions of all CPUs together */
    char machine[16];        /* description's name */
    uint8_t node_of_cpu[32]; /* by CPU */
};

/* One CPU's accesses to one page. */
struct trace_record {
    uint64_t time;     /* instructions all CPUs had begun at the end of the interval */
    uint32_t page;     /* 4 KiB pages */
    uint8_t cpu;       /* number */
    uint8_t guest;     /* tag of the guest, 0: the host */
    uint8_t write;     /* 1: these are writes, 0: reads and instruction fetches */
    uint8_t zero;      /* room */
    uint32_t accesses; /* lines touched */
    uint32_t misses;   /* of these, not in the cache */
};

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
