/* SPDX-License-Identifier: MIT */
/*
 * What programs with known answers need: huge pages on a chosen node, threads on chosen CPUs, turns
 * between two of them, and the comparison of what was to be with what the model counted.
 *
 * Only user-mode counters of the host (tag 0) are looked at, so interrupts do not count.  All
 * memory of a buffer is in huge pages, which is checked: so its lines fill the sets of a cache
 * evenly.  Every failure to set up ends the program with a line on standard error.
 * Threads: main, and those of struct duo.
 */
#ifndef DISCO_BENCH_MEMSYS_CASEKIT_H
#define DISCO_BENCH_MEMSYS_CASEKIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/memsys/region.h"

struct machine_model;

/* What we run on; written before the first case. */
struct kit {
    struct memsys_header *h;                 /* the model's counters */
    const struct machine_model *machine;     /* that is charged for */
    size_t cache;                            /* bytes of a CPU's cache */
    size_t line;                             /* bytes */
    uint64_t low;                            /* memory below 4 GiB, for flash_page() */
    unsigned ncpus, nnodes;                  /* of the lab */
    uint64_t ps[MEMSYS_NODES][MEMSYS_NODES]; /* latency by the distances that Linux tells */
    const char *part, *rep;                  /* labels of all that is printed */
    bool brief;                              /* less of everything */
};

/* What CPUs are to have counted; nothing: zero. */
struct want {
    double miss[MEMSYS_KINDS][MEMSYS_NODES]; /* lines, by node of the memory */
    double upgrade[MEMSYS_NODES];            /* lines */
    double coherence, dirty, invalidated;    /* lines */
    double writeback;                        /* lines */
    double access; /* lines touched as data, about: unexpected counts are
                                              * held against this */
};

/* Ends the program with a message and what errno says. */
void kit_die(const char *what) __attribute__((noreturn));

/* Opens the region, reads distances and memory map; needs root in the lab. */
void kit_open(struct kit *k);

/* A buffer of huge pages on a node, all of it written once; bytes are rounded up to 2 MiB. */
char *kit_buffer(const struct kit *k, unsigned node, size_t bytes, bool code);
void kit_free(char *buffer, size_t bytes);

/* The model's number of the page at an address; RANGES_NONE is never returned, it dies. */
uint64_t kit_page(const struct kit *k, const void *at);

/* The calling thread runs on this CPU from now on. */
void kit_go(unsigned cpu);

/* The first CPU of a node. */
unsigned kit_cpu(const struct kit *k, unsigned node);

/* Sum of the counters of some CPUs (bits) for a tag in a mode, scaled by the sampling. */
void kit_sum(const struct kit *k, uint32_t cpus, unsigned tag, enum memsys_mode mode,
             struct memsys_count *sum);

/* Prints one figure: what was to be, what is, and what a difference is held against (0: what was to
 * be). */
void kit_row(const struct kit *k, const char *name, const char *variant, const char *measure,
             double expected, double value, double scale);

/* Compares all counters of a CPU with what was to be; also the time waited for it, which follows
 * from the counts, the latencies and nothing else but congestion, which is left out. */
void kit_compare(const struct kit *k, const char *name, const char *variant, unsigned cpu,
                 const struct want *w);

/* ---- turns ---- */

struct duo;

/* What a side does in its turn. */
typedef void (*turn_fn)(const struct duo *d, unsigned side);

/* Two threads that work in turns: side 0 begins, hands over, side 1 works, hands back; a round. */
struct duo {
    const struct kit *k;
    unsigned cpu[2];         /* of each side */
    unsigned warm;           /* rounds before the counters are zeroed */
    unsigned rounds;         /* rounds that are counted */
    turn_fn turn[2];         /* what each side does */
    char *data;              /* what the sides share */
    size_t bytes;            /* of data */
    volatile unsigned *flag; /* whose turn it is; alone in its line */
};

/*
 * Runs all rounds with the model on and cold caches.  On top of what the turns do, each side reads
 * the flag once as a miss (dirty, taken away by the other) and upgrades its line once, which takes
 * one copy away, in each round: duo_flag() adds that to what is to be.
 */
void duo_run(struct duo *d);
void duo_flag(const struct duo *d, unsigned flag_node, struct want *w);

#endif
