/* SPDX-License-Identifier: MIT */
/*
 * The policies `migrate` and `replicate` (the default): Verghese et al. (ASPLOS 1996), as
 * Disco used it, with each action weighed against its cost on this machine.  A page used by
 * one node moves there; a page read by several is copied to each that reads it enough; a page
 * written by several stays, unless none of them is near it or its memory is busier than others
 * (policy_balance.c).  No state but struct policy's.
 */
#include "numa/policy_judge.h"

bool begin_unless_quiet(struct policy *p, const struct policy_input *in)
{
    uint64_t all = policy_misses(p, in);

    balance_begin(p, in);
    if (!all || (all - in->traffic.local) * 1000 >= all * p->tune.gate)
        return true;
    p->numbers.gated++;
    return false;
}

/* The page is to go to a node; why. */
static void move_to(struct policy *p, struct policy_judge *j, unsigned node, uint64_t gain,
                    enum gain kind)
{
    struct action *a = judge_act(p, j, ACT_MIGRATE, node, gain);

    if (!a)
        return;
    a->evens = kind == GAIN_EVEN;
    balance_moved(p, j, node);
}

/* Is the page to be near the node that uses it most?  False: others use it as well, one of them is
 * near it. */
static bool drawn(const struct policy *p, const struct policy_judge *j)
{
    return j->sharers < 2 ||
           j->total[j->top] * 100 >= (j->reads + j->writes) * p->tune.dominate ||
           policy_use_by(&j->use, j->page.home) < p->tune.sharing;
}

void judge_migrate(struct policy *p, struct policy_judge *j)
{
    unsigned node = j->use.use[j->top].node;
    uint64_t balanced;
    int64_t gain;

    if (j->page.replicas) { /* another policy was at work here */
        judge_act(p, j, ACT_COLLAPSE, j->page.home, 0);
        return;
    }
    if (!j->may_move || j->total[j->top] < p->tune.trigger)
        return;
    gain = drawn(p, j) && node != j->page.home
               ? judge_gain_move(p, j, node) + balance_gain(p, j, node)
               : 0;
    if (gain > 0 && judge_pays(p, j, GAIN_NEARER, (uint64_t)gain))
        move_to(p, j, node, (uint64_t)gain, GAIN_NEARER);
    else if (j->sharers > 1 && balance_node(p, j, &node, &balanced))
        move_to(p, j, node, balanced, GAIN_EVEN);
}

/* Copies a page to those who read it and have no copy. */
static void copy_to_readers(struct policy *p, struct policy_judge *j)
{
    for (unsigned i = 0; i < j->use.n; i++) {
        unsigned node = j->use.use[i].node;
        uint64_t gain;

        if (node == j->page.home || (j->page.replicas >> node & 1) ||
            j->total[i] < p->tune.sharing)
            continue;
        gain = judge_gain_copy(p, j, i);
        if (judge_pays(p, j, GAIN_COPY, gain))
            judge_act(p, j, ACT_REPLICATE, node, gain);
    }
}

void judge_replicate(struct policy *p, struct policy_judge *j)
{
    bool read_only = j->writes < p->tune.write || j->quiet;

    if (j->page.replicas) {
        if (read_only && j->may_copy)
            copy_to_readers(p, j);
        return;
    }
    if (j->sharers < 2 || !read_only)
        judge_migrate(p, j);
    else if (j->may_copy && j->total[j->top] >= p->tune.trigger)
        copy_to_readers(p, j);
}
