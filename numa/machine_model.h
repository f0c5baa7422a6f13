/* SPDX-License-Identifier: MIT */
/*
 * Descriptions of machines by name: processors, cache, and latency of memory by distance.  What the
 * lab's memory-system model charges for (bench/memsys) and what replay plays on (replay_machine.h)
 * are these; what each number rests on is said beside it in machine_model.c.
 * Distances are those of firmware's SLIT (10: the same node).  Threads: any, nothing is written.
 */
#ifndef DISCO_NUMA_MACHINE_MODEL_H
#define DISCO_NUMA_MACHINE_MODEL_H

#include <stddef.h>
#include <stdint.h>

enum { MACHINE_MODEL_STEPS = 6 };

/* What memory at one distance costs. */
struct machine_model_step {
    unsigned distance; /* as firmware says, 10 and up; ascending in the table */
    unsigned ns;       /* a read miss served by a quiet memory there */
};

/* One machine. */
struct machine_model {
    const char *name;      /* as given on command lines */
    const char *about;     /* one line for people */
    const char *source;    /* what the numbers rest on */
    unsigned cpus;         /* of the whole machine, as many on each node; a lab has fewer */
    unsigned mhz;          /* clock of a CPU */
    unsigned ipc_percent;  /* instructions per 100 cycles while nothing misses */
    unsigned cache_kib;    /* of each CPU: its own caches and its part of shared ones */
    unsigned ways;         /* cache_kib / line / ways is a power of two */
    unsigned line;         /* bytes, a power of two */
    unsigned dirty_ns;     /* on top, when another CPU's cache has the only good copy */
    unsigned mbps_per_cpu; /* a node's memory bandwidth, for each of its CPUs, 10^6 bytes/s */
    struct machine_model_step step[MACHINE_MODEL_STEPS]; /* ends with distance 0 */
    unsigned nodes;                                      /* entries of slit's rows */
    const uint8_t *slit; /* nodes x nodes distances that a lab of this machine is given */
};

/* All of them, ended by name == NULL. */
extern const struct machine_model machine_models[];

/* By name; NULL: there is none. */
const struct machine_model *machine_model_by_name(const char *name);

/*
 * Latency in ns at a distance: of its step, or between two steps in proportion.
 * 0: nearer than the first step or farther than the last, the description says nothing.
 */
unsigned machine_model_latency(const struct machine_model *m, unsigned distance);

/* Distance from node a to node b in a lab of n nodes: the machine's own for the first n nodes, or
 * 0 when it has fewer than n. */
unsigned machine_model_distance(const struct machine_model *m, unsigned n, unsigned a,
                                unsigned b);

#endif
