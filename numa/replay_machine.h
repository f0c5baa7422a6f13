/* SPDX-License-Identifier: MIT */
/*
 * Machines for replay: nodes, CPUs, latencies, memory; by name or described.  The names are
 * those of numa/machine_model.h, with its latencies, and those of the table below.
 * Threads: any, nothing is written.
 */
#ifndef DISCO_NUMA_REPLAY_MACHINE_H
#define DISCO_NUMA_REPLAY_MACHINE_H

#include "numa/policy.h"

struct err;

/* A machine. */
struct replay_machine {
    struct policy_machine lat; /* nodes and latencies */
    unsigned cpus;             /* in all; node of CPU c is c * nodes / cpus */
    uint64_t node_bytes; /* memory of each node; 0: half as much again as the guest needs */
};

/* A machine by name. */
struct replay_machine_name {
    const char *name, *about; /* about: one line for people */
    const char *text;         /* its description */
};

/* Those that machine_model.h has not, ended by name == NULL. */
extern const struct replay_machine_name replay_machines[];

/*
 * Reads a name or "nodes=4,cpus=8,local=300,remote=900[,near=130,group=2][,mem=64G]": ns;
 * nodes of one group are near to one another; mem is that of a node.  0 or -EINVAL
 * (EXIT_USAGE).
 */
int replay_machine_read(struct replay_machine *m, const char *text, struct err *err);

#endif
