/* SPDX-License-Identifier: MIT */
/*
 * Where the files that are the nodes' memories, and the shared region, are mapped in this process;
 * and the way back from a host address.
 * Invariant: once ranges_find() succeeded, each node has one whole range, and nothing changes.
 * Threads: ranges_find() once, before the others; those may be called by any.
 */
#ifndef DISCO_BENCH_MEMSYS_RANGES_H
#define DISCO_BENCH_MEMSYS_RANGES_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/memsys/region.h"

#define RANGES_NONE UINT64_MAX /* an address of no node */

/* Host addresses low to high - 1; both 0: not mapped. */
struct range {
    uint64_t low, high;
};

/* All of them. */
struct ranges {
    struct range node[MEMSYS_NODES]; /* by node */
    struct range region;             /* of the shared region */
    unsigned nnodes;                 /* entries of node */
    unsigned node_shift;             /* log2 of a node's bytes */
};

/*
 * Finds in `maps` (text as of /proc/self/maps) the files MEM0, MEM1 ..., each mapped whole with
 * node_bytes (a power of two), and the file `region`, which may be missing.  False: what is wrong
 * is in buf.
 */
bool ranges_find(struct ranges *r, const char *maps, const char *mem, const char *region,
                 unsigned nnodes, uint64_t node_bytes, char *buf, unsigned size);

/* The address in all nodes' memory, node 0's first, behind a host address; RANGES_NONE. */
static inline uint64_t ranges_address(const struct ranges *r, const void *host)
{
    uint64_t at = (uint64_t)host;

    for (unsigned n = 0; n < r->nnodes; n++)
        if (at - r->node[n].low < r->node[n].high - r->node[n].low)
            return ((uint64_t)n << r->node_shift) + (at - r->node[n].low);
    return RANGES_NONE;
}

/* Is it in the shared region? */
static inline bool ranges_in_region(const struct ranges *r, const void *host)
{
    return (uint64_t)host - r->region.low < r->region.high - r->region.low;
}

#endif
