/* SPDX-License-Identifier: MIT */
/*
 * Placement of guests on nodes when a site starts: pure, deterministic.
 * A guest that names its nodes gets them; another gets the node (or the fewest near nodes) where
 * its memory fits and CPUs are least promised.  vCPUs and memory of a guest on several nodes are
 * split evenly, in order: vCPU v of n on k nodes goes to node v*k/n.
 */
#ifndef DISCO_NUMA_PLACE_H
#define DISCO_NUMA_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "numa/topo.h"

/* What one guest wants. */
struct place_want {
    const char *name;          /* for messages */
    unsigned vcpus;            /* at least 1 */
    uint64_t memory;           /* bytes, multiple of 2 MiB */
    unsigned nnodes;           /* entries of nodes; 0: choose */
    int nodes[TOPO_MAX_NODES]; /* kernel node numbers asked for */
    unsigned views;            /* 0: one per node */
};

/* What it gets. */
struct place_got {
    unsigned nnodes;                     /* nodes it spans */
    int nodes[TOPO_MAX_NODES];           /* kernel node numbers */
    uint64_t node_bytes[TOPO_MAX_NODES]; /* memory on each, multiples of 2 MiB, sum = memory */
    unsigned views;                      /* number of views */
    int view_node[TOPO_MAX_NODES];       /* kernel node number of each view (views may share) */
};

/* View of a vCPU: v*views/vcpus. */
unsigned place_view_of_vcpu(const struct place_got *g, unsigned vcpus, unsigned v);

/* Places n guests one after the other in the order given, counting what earlier ones took.
 * EXIT_MEMORY / EXIT_CONFIG errors name the guest, the node, what was asked and what is there. */
int place_guests(const struct topo *t, const struct place_want *want, unsigned n,
                 struct place_got *got, struct err *err);

#endif
