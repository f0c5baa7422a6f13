/* SPDX-License-Identifier: MIT */
/*
 * Placement of guests on nodes when a site starts: pure, deterministic.
 * A guest that names its nodes gets them; another gets the node (or the fewest near nodes) where
 * its memory fits and CPUs are least promised.  vCPUs and memory of a guest on several nodes are
 * split evenly, in order: vCPU v of n on k nodes goes to node v*k/n.  A node with less room than
 * its even share gives what it has and the others give more.
 *
 * A guest whose memory is to be on one node has all of it on the first of its nodes; when it names
 * none, each of those chosen has room for all.
 *
 * How nodes are chosen: the fewest on which the memory fits and the guest has a CPU for each vCPU
 * (or every CPU, when the machine has fewer); of these the set with fewest vCPUs beyond its CPUs,
 * then nearest to one another, least promised, most free memory, lowest numbers.  Memory-only
 * nodes are taken last, and hold memory only: no vCPU and no view.  Sets of several nodes are
 * grown from each node by its nearest neighbour, so they are near, not proven nearest.
 *
 * Invariants.  P1: no node is promised more memory than mem_free, or
 * huge_free for guests on hugetlb pages.  P2: node_bytes sum to the
 * guest's memory, in multiples of 2 MiB.  P3: same input, same output.
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
    uint64_t memory;           /* bytes, multiple of 2 MiB, not 0 */
    unsigned nnodes;           /* entries of nodes; 0: choose */
    int nodes[TOPO_MAX_NODES]; /* kernel node numbers asked for */
    bool hugetlb;              /* memory comes from the nodes' pools of 2 MiB hugetlb pages */
    unsigned views;            /* 0: one per node with CPUs; else 1..TOPO_MAX_NODES */
    bool one_node;             /* all memory on the first node; else split evenly */
};

/* What it gets. */
struct place_got {
    unsigned nnodes;                     /* nodes it spans */
    int nodes[TOPO_MAX_NODES];           /* kernel node numbers */
    uint64_t node_bytes[TOPO_MAX_NODES]; /* memory on each, multiples of 2 MiB, sum = memory */
    unsigned views;                      /* number of views */
    int view_node[TOPO_MAX_NODES];       /* kernel node number of each view (views may share) */
    unsigned ncpu_nodes;                 /* entries of cpu_nodes, at least 1 */
    int cpu_nodes[TOPO_MAX_NODES];       /* those of nodes that have CPUs, in the same order */
};

/* View of a vCPU: v*views/vcpus. */
unsigned place_view_of_vcpu(const struct place_got *g, unsigned vcpus, unsigned v);

/* Kernel node number where a vCPU belongs: the node of its view, or, when the guest has fewer
 * views than nodes with CPUs, its even share of these. */
int place_node_of_vcpu(const struct place_got *g, unsigned vcpus, unsigned v);

/* vCPUs of the guest that belong to a node (kernel node number). */
unsigned place_vcpus_on(const struct place_got *g, unsigned vcpus, int node);

/* The guest has gone from one node to another (kernel node numbers), which it did not span. */
void place_rehome(struct place_got *g, int from, int to);

/*
 * Places n guests one after the other, counting what earlier ones took: first those that name
 * their nodes, then the others, both in the order given.  EXIT_MEMORY / EXIT_CONFIG errors name
 * the guest, the node, what was asked and what is there.  got holds n entries, undefined on error.
 */
int place_guests(const struct topo *t, const struct place_want *want, unsigned n,
                 struct place_got *got, struct err *err);

#endif
