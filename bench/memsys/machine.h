/* SPDX-License-Identifier: MIT */
/*
 * Descriptions of the machines whose memory the model charges for: processor, cache, and latency by
 * distance.  One const table; what each number rests on is said beside it in machine.c.
 * Distances are those of firmware's SLIT (10: the same node).  Threads: any, nothing is written.
 */
#ifndef DISCO_BENCH_MEMSYS_MACHINE_H
#define DISCO_BENCH_MEMSYS_MACHINE_H

#include <stddef.h>
#include <stdint.h>

enum { MACHINE_MAX_STEPS = 6, MACHINE_MAX_NODES = 16 };

/* What memory at one distance costs. */
struct machine_step {
    unsigned distance; /* as firmware says, 10 and up; ascending in the table */
    unsigned ns;       /* a read miss served by a quiet memory there */
};

/* One machine. */
struct machine {
    const char *name;      /* as given on command lines */
    const char *about;     /* one line for people */
    const char *source;    /* what the numbers rest on */
    unsigned mhz;          /* clock of a CPU */
    unsigned ipc_percent;  /* instructions per 100 cycles while nothing misses */
    unsigned cache_kib;    /* of each CPU: its own caches and its part of shared ones */
    unsigned ways;         /* cache_kib / line / ways is a power of two */
    unsigned line;         /* bytes, a power of two */
    unsigned dirty_ns;     /* on top, when another CPU's cache has the only good copy */
    unsigned mbps_per_cpu; /* a node's memory bandwidth, for each of its CPUs, 10^6 bytes/s */
    struct machine_step step[MACHINE_MAX_STEPS]; /* ends with distance 0 */
    unsigned nodes;                              /* entries of slit's rows */
    const uint8_t *slit; /* nodes x nodes distances that a lab of this machine is given */
};

/* All of them, ended by name == NULL. */
extern const struct machine machines[];

/* By name; NULL: there is none. */
const struct machine *machine_by_name(const char *name);

/*
 * Latency in ns at a distance: of its step, or between two steps in proportion.
 * 0: nearer than the first step or farther than the last, the description says nothing.
 */
unsigned machine_latency(const struct machine *m, unsigned distance);

/* Distance from node a to node b in a lab of n nodes: the machine's own for the first n nodes, or
 * 0 when it has fewer than n. */
unsigned machine_distance(const struct machine *m, unsigned n, unsigned a, unsigned b);

#endif
