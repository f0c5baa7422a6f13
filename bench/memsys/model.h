/* SPDX-License-Identifier: MIT */
/*
 * The memory-system model: a cache for each CPU, kept coherent by a directory (MESI), memories at
 * different distances that get slower when they are busy, and counters of all that happens.
 * Pure: addresses in, counters out; the emulator's plugin drives it, and so do unit tests.
 *
 * Addresses are offsets into all nodes' memory, node 0's first.  Each CPU waits for every miss; the
 * model says for how long and never makes anyone wait.
 *
 * Invariants.  M1: a line that one cache has for writing is in no other cache.  M2: the directory
 * names exactly the caches that hold a line.  M3: hits + misses + upgrades = accesses, per CPU, tag
 * and mode.
 * memsys_check() proves all three.
 * Threads: one.  The emulator must run its CPUs in turn.
 */
#ifndef DISCO_BENCH_MEMSYS_MODEL_H
#define DISCO_BENCH_MEMSYS_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/memsys/region.h"

struct machine_model;
struct memsys;

/* What is modelled. */
struct memsys_shape {
    const struct machine_model *machine; /* latencies, caches */
    unsigned ncpus, nnodes;              /* ncpus is a multiple of nnodes, CPUs in node order */
    uint64_t node_bytes;                 /* a power of two, at least 1 MiB */
    unsigned sample; /* 1: all sets; else one in so many, a power of two up to 64 */
    uint64_t turn;   /* instructions of a CPU's turn; 0: not known */
    uint8_t distance[MEMSYS_NODES][MEMSYS_NODES]; /* firmware's */
};

/*
 * What cannot be modelled in a shape, as a message in buf (size bytes) that says what would be
 * right; false when all is well.
 */
bool memsys_shape_wrong(const struct memsys_shape *s, char *buf, unsigned size);

/*
 * Begins a model whose counters are in `region`, at least memsys_region_bytes() bytes of zeroes.
 * The shape must not be wrong.  NULL: no memory.
 */
struct memsys *memsys_new(const struct memsys_shape *s, void *region);
void memsys_free(struct memsys *m);

/* One access of a CPU to the line with this address.  True: it missed. */
bool memsys_access(struct memsys *m, unsigned cpu, uint64_t addr, enum memsys_kind kind);

/* Is the line sampled? Others must not be given to memsys_access(). */
static inline bool memsys_sampled(uint64_t addr, unsigned sample, unsigned line)
{
    return !(addr / line & (sample - 1));
}

/* From now on what the CPU does is counted for this tag and mode. */
void memsys_context(struct memsys *m, unsigned cpu, unsigned tag, enum memsys_mode mode);

/* Instructions a CPU began, counted where memsys_context() says. */
void memsys_insns(struct memsys *m, unsigned cpu, unsigned n);

/* The counters that memsys_context() chose. */
struct memsys_count *memsys_current(struct memsys *m, unsigned cpu);

/* Zeroes all counters; caches stay as they are. */
void memsys_zero(struct memsys *m);

/* Empties all caches, nothing counted. */
void memsys_empty(struct memsys *m);

/* Checks M1 and M2 over all caches, M3 over all counters; the number of violations, the first of
 * them in buf. */
unsigned memsys_check(struct memsys *m, char *buf, unsigned size);

#endif
