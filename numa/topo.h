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
    uint64_t mem_free;  /* bytes guests could have when the topology was read (free, and file
                         * cache that can go, less a reserve); = mem_total if synthetic */
    uint64_t huge_free; /* bytes of free 2 MiB hugetlb pages, besides mem_free */
    unsigned ncpus;     /* entries of cpus; 0: memory only */
    int *cpus;          /* the kernel's CPU numbers, ascending; SMT siblings included */
    int package;        /* socket number, -1 unknown */
};

/* The machine. */
struct topo {
    char *name;                            /* "this machine" or the synthetic description */
    bool synthetic;                        /* not the machine we run on */
    unsigned nnodes;                       /* entries of node, at least 1, ascending os */
    unsigned ncpus;                        /* CPUs in all */
    struct topo_node node[TOPO_MAX_NODES]; /* the nodes */
    uint8_t dist[TOPO_MAX_NODES][TOPO_MAX_NODES]; /* SLIT style, 10 = local, by index of node */
};

/*
 * Reads this machine (synthetic == NULL) or a description: hwloc's synthetic syntax, or
 * "nodes=4,cpus=2,mem=1G[,free=512M][,huge=0][,dist=20]".  Distances default to 10/20.  cpus, mem,
 * free (bytes guests could have) and huge (bytes of free hugetlb pages, besides free) also take one value per node ("cpus=2/2/0": node 2 has memory only); dist also takes "ring",
 * "cube" (distance grows by 10 a hop) or the whole matrix ("dist=10 20/20 10").
 * CPUs and nodes that are offline or denied by the caller's cpuset are left out.  hwloc's
 * HWLOC_FSROOT (a recorded /sys and /proc) and HWLOC_XMLFILE replace this machine; t->synthetic
 * is then set.  Returns 0 or -errno: EXIT_USAGE for a wrong description, EXIT_INTERNAL when the
 * machine cannot be read.  On failure there is nothing to free.
 */
int topo_read(struct topo *t, const char *synthetic, struct err *err);

/*
 * As topo_read() of this machine, for one who is in a hurry and wants to place guests only: on a
 * machine of one node hwloc is not asked, and the package stays unknown.  Freed by topo_free().
 */
int topo_read_here(struct topo *t, struct err *err);

/* Frees what topo_read() allocated; t is empty afterwards. */
void topo_free(struct topo *t);

/* The key=value syntax of topo_read(), without hwloc. */
int topo_synth(struct topo *t, const char *text, struct err *err);

/* Index in node[] of a kernel node number, or -1. */
int topo_index(const struct topo *t, int os);

/* Index of the node that holds a kernel CPU number, or -1. */
int topo_node_of_cpu(const struct topo *t, int cpu);

/* Bytes of memory of all nodes. */
uint64_t topo_mem_total(const struct topo *t);

/* Bytes of it that were free, less each node's reserve, when the topology was read. */
uint64_t topo_mem_free(const struct topo *t);

enum { TOPO_SIZE_LEN = 16 };

/* Writes bytes for people: "512 MiB", "1.5 GiB".  Returns buf. */
const char *topo_size(char buf[TOPO_SIZE_LEN], uint64_t bytes);

/* Parses "512M", "1G", "1.5G", "4096" (bytes; K, M, G, T, with or without "iB" are powers of
 * 1024).  Reads up to *end; false when there is no number or it is out of range. */
bool topo_parse_size(const char *s, const char **end, uint64_t *bytes);

/* Writes numbers as ranges, "0-3,8": ascending input, result cut at len with "...". */
const char *topo_ranges(char *buf, unsigned len, const int *v, unsigned n);

#endif
