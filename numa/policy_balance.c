/* SPDX-License-Identifier: MIT */
/*
 * Loads of memories: a page written by several nodes is far from some of them wherever it is, but a
 * memory that serves more than its share of misses lets them wait.  Such pages go to the memory that
 * serves least, while what is saved, distances counted in, repays the move.
 *
 * The model: a miss waits in proportion to the share of all misses that its memory serves, tune.queue
 * percent of a local miss where that is all of them.  (Measured on the modelled machine `flash`:
 * docs/policies.md.  Carrefour, Dashti et al. 2013, goes by the loads' deviation, and moves pages at
 * random.)  What was asked for in this interval counts as done, so that a load is shifted once; and
 * no page goes where it would make the load larger than the one that it leaves.  For both a page's load
 * is all that is counted for it, what is left of past intervals included: too large rather than too small.
 * Sources that look at a part of all pages in an interval tell loads when all have been looked at; a
 * look in the midst of which pages moved is of no use, and what was known before, with the moves, stays.
 * State: struct policy's load, load_all, part, shifted, idlest.
 */
#include <string.h>

#include "numa/policy_judge.h"

/* A memory is busier than others if it serves so many percent more than its even share: loads of an
 * interval are never quite even, and to follow each difference costs more than it saves. */
enum { BUSIER = 25 };

/* ns that a miss waits at a node's memory. */
static int64_t waits(const struct policy *p, unsigned node)
{
    uint64_t whole = (uint64_t)p->machine->ns[node][node] * p->tune.queue / 100;

    return (int64_t)(whole * (p->load[node] * 1024 / p->load_all) / 1024);
}

int64_t balance_gain(const struct policy *p, const struct policy_judge *j, unsigned node)
{
    int64_t misses = (int64_t)judge_seen(p, j->reads + j->writes);

    return p->load_all ? misses * (waits(p, j->page.home) - waits(p, node)) / (int64_t)p->span
                       : 0;
}

/* The node that serves least of those that have room to spare; TOPO_MAX_NODES: none. */
static unsigned find_idlest(const struct policy *p, const struct policy_input *in)
{
    unsigned best = TOPO_MAX_NODES;

    for (unsigned n = 0; n < p->machine->nnodes; n++)
        if (p->left[n] >= in->total[n] / 100 * p->tune.keep_free + policy_bytes(PAGE_BLOCK) &&
            (best == TOPO_MAX_NODES || p->load[n] < p->load[best]))
            best = n;
    return best;
}

/* All pages have been looked at: what was served meanwhile are the loads. */
static void take_loads(struct policy *p)
{
    p->load_all = 0;
    for (unsigned n = 0; n < p->machine->nnodes; n++)
        p->load_all += p->load[n] = p->part[n];
}

void balance_begin(struct policy *p, const struct policy_input *in)
{
    for (unsigned n = 0; n < p->machine->nnodes; n++)
        p->part[n] += in->traffic.at[n];
    if (!in->traffic.part) {
        if (!p->shifted)
            take_loads(p);
        memset(p->part, 0, sizeof(p->part));
        p->shifted = false;
    }
    p->idlest = find_idlest(p, in);
}

void balance_moved(struct policy *p, const struct policy_judge *j, unsigned node)
{
    uint64_t all = j->reads + j->writes, *from = &p->load[j->page.home];
    uint64_t part = all < *from ? all : *from;

    *from -= part;
    p->load[node] += part;
    p->shifted |= j->in->traffic.part;
    p->idlest = find_idlest(p, j->in);
}

bool balance_node(const struct policy *p, const struct policy_judge *j, unsigned *node,
                  uint64_t *gain_ns)
{
    uint64_t all = j->reads + j->writes, home = p->load[j->page.home];
    int64_t gain;

    if (!p->load_all || !p->tune.queue)
        return false;
    *node = p->idlest;
    if (*node == TOPO_MAX_NODES || home < p->load[*node] + 2 * all ||
        home * 100 * p->machine->nnodes < p->load_all * (100 + BUSIER))
        return false;
    gain = judge_gain_move(p, j, *node) + balance_gain(p, j, *node);
    if (gain <= 0 || !judge_pays(p, j, GAIN_EVEN, (uint64_t)gain))
        return false;
    *gain_ns = (uint64_t)gain;
    return true;
}
