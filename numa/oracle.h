/* SPDX-License-Identifier: MIT */
/*
 * The best that could be done with one page by someone who knows the future, at the same
 * costs of actions: what a policy's result is measured against.
 *
 * Each action costs what it costs within a run of neighbours, however long, and a move what it
 * costs in a batch, never a beginning; of a page's replicas made at once the first costs more than
 * the others.  Pages are looked at one by one, so it can only be too good.
 *
 * A page begins where it is first touched.  Before each interval it may move.  In a stretch
 * of intervals without writes it may instead be replicated, master included, to any nodes; a
 * write ends that.  Found by dynamic programming over (interval, node of the master), exact
 * but for two limits: the master is one of the first node and the ORACLE_NODES that use the
 * page most, and a stretch is replicated as a whole or not at all (beginning later or ending
 * sooner never pays).  A node reads its own copy or the master.  Of the interval of a write,
 * one part of (writes + 1) comes before it and is read from the copies, as in replay; or the
 * page is collapsed when that interval begins, which is cheaper.  It knows no limits of memory
 * or of CPU time.
 *
 * The same search with a delay of one interval is the bound for those who do not know the
 * future: a page moves to a node, or is copied to one, only if that node used it in the last
 * interval in which it was used at all.  Whether that will repay is still foreseen, so nobody
 * who acts on what was seen can do better, only who guesses where a page is used next; as long
 * as to copy costs no more than to move.
 * Pure; threads: any.
 */
#ifndef DISCO_NUMA_ORACLE_H
#define DISCO_NUMA_ORACLE_H

#include "numa/policy.h"
#include "numa/workload.h"

enum { ORACLE_NODES = 5 };

/* What a page, or all pages, cost. */
struct oracle_result {
    uint64_t accesses;   /* misses */
    uint64_t ns;         /* stall and actions, at best */
    uint64_t local;      /* misses served by the same node then */
    uint64_t delayed_ns; /* as ns, when everything is learned an interval late */
    uint64_t first_ns;   /* stall when pages stay where they are first touched */
    uint64_t static_ns;  /* stall when each page is on the one node best for all of the time */
    uint64_t bound_ns;   /* stall if all were local: no placement is better */
};

/* Adds one page's cost to a result. */
void oracle_page(struct oracle_result *r, const struct workload *w, uint32_t k,
                 const struct policy_machine *m, const struct policy_cost *cost);

/* The whole workload; by_class (WORKLOAD_CLASSES entries, or NULL) gets the same by class. */
void oracle_run(struct oracle_result *r, const struct workload *w,
                const struct policy_machine *m, const struct policy_cost *cost,
                struct oracle_result *by_class);

#endif
