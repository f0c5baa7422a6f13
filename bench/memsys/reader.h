/* SPDX-License-Identifier: MIT */
/*
 * Reading what the model shares: the region through its PCI device, where the pages of a guest are
 * in the machine's memory, and traces.  Messages go to standard error, one line each.
 * Threads: one.
 */
#ifndef DISCO_BENCH_MEMSYS_READER_H
#define DISCO_BENCH_MEMSYS_READER_H

#include <stdint.h>

struct memsys_header;

/* The region, mapped for reading; see flash_open().  NULL after a message. */
struct memsys_header *reader_open(const char *path);

/* As flash_low_memory(); 0 after a message. */
uint64_t reader_low_memory(void);

/* Prints "tag TAG", then a line "guest-page machine-page" for each page that a guest's process has
 * in its memory now. 0, or 1 after a message. */
int reader_map(const struct memsys_header *h, int pid, unsigned tag);

/* Prints a trace; with a map (may be NULL) the guest's accesses by the guest's pages.  0 or 1. */
int reader_trace(const char *path, const char *map);

#endif
