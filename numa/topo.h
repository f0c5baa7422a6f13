/* SPDX-License-Identifier: MIT */
/*
 * The machine's shape: nodes, their CPUs, memory and distances.  Filled from hwloc for the real
 * machine, from a synthetic description for one we do not have, or by hand in a test; everything
 * that decides reads only this struct, so decisions are the same everywhere.
 * Threads: filled by one thread, read-only afterwards.
 */
#ifndef DISCO_NUMA_TOPO_H
#define DISCO_NUMA_TOPO_H

#include <stdbool.h>
#include <stdint.h>

struct err;

enum { TOPO_MAX_NODES = 64, TOPO_MAX_CPUS = 4096 };

/* One NUMA node. */
struct topo_node {
    int os;             /* the kernel's node number */
    uint64_t mem_total; /* bytes */
    uint64_t mem_free;  /* bytes when the topology was read; = mem_total if synthetic */
    unsigned ncpus;     /* entries of cpus; 0: memory only */
    int *cpus;          /* the kernel's CPU numbers, ascending; SMT siblings included */
    int package;        /* socket number, -1 unknown */
};

/* The machine. */
struct topo {
    char *name;      /* "this machine" or the synthetic description */
    bool synthetic;  /* not the machine we run on */
    unsigned nnodes; /* entries of node, at least 1, ascending os */
    unsigned ncpus;  /* CPUs in all */
    struct topo_node node[TOPO_MAX_NODES];
    uint8_t dist[TOPO_MAX_NODES][TOPO_MAX_NODES]; /* SLIT style, 10 = local, by index of node */
};

/* Reads this machine (synthetic == NULL) or a description: hwloc's synthetic syntax, or
 * "nodes=4,cpus=2,mem=1G[,dist=20]".  Distances default to 10/20. */
int topo_read(struct topo *t, const char *synthetic, struct err *err);
void topo_free(struct topo *t);

/* Index in node[] of a kernel node number, or -1. */
int topo_index(const struct topo *t, int os);

/* Index of the node that holds a kernel CPU number, or -1. */
int topo_node_of_cpu(const struct topo *t, int cpu);

#endif
