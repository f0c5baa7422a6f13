/* SPDX-License-Identifier: MIT */
/*
 * The best that could be done with one page by someone who knows the future, at the same
 * costs of actions: what a policy's result is measured against.
 *
 * A page begins where it is first touched.  Before each interval it may move.  In a stretch
 * of intervals without writes it may instead be replicated, master included, to any nodes; a
 * write ends that.  Found by dynamic programming over (interval, node of the master), exact
 * but for two limits: the master is one of the first node and the ORACLE_NODES that use the
 * page most, and a stretch is replicated as a whole or not at all (beginning later or ending
 * sooner never pays).  A node reads its own copy or the master.  It knows no limits of memory
 * or of CPU time, so it can only be too good. Pure; threads: any.
 */
#ifndef DISCO_NUMA_ORACLE_H
#define DISCO_NUMA_ORACLE_H

#include "numa/policy.h"
#include "numa/workload.h"

enum { ORACLE_NODES = 5 };

/* What a page, or all pages, cost. */
struct oracle_result {
    uint64_t accesses;  /* misses */
    uint64_t ns;        /* stall and actions, at best */
    uint64_t local;     /* misses served by the same node then */
    uint64_t first_ns;  /* stall when pages stay where they are first touched */
    uint64_t static_ns; /* stall when each page is on the one node best for all of the time */
    uint64_t bound_ns;  /* stall if all were local: no placement is better */
};

/* Adds one page's cost to a result. */
void oracle_page(struct oracle_result *r, const struct workload *w, uint32_t k,
                 const struct policy_machine *m, const struct policy_cost *cost);

/* The whole workload. */
void oracle_run(struct oracle_result *r, const struct workload *w,
                const struct policy_machine *m, const struct policy_cost *cost);

#endif
