/* SPDX-License-Identifier: MIT */
/*
 * Carrefour (Dashti et al., ASPLOS 2013) with the parameters its authors released as those of
 * the paper, for comparison.  Once a second it looks at the whole machine: is memory busy at
 * all, is there room for replicas and are accesses mostly reads, are the memories unevenly
 * loaded, is much of the traffic remote?  That allows replication, interleaving and
 * migration.  Then each page: several nodes and no write seen: replicate; several nodes: to a
 * node picked at random, if interleaving is on; one node: move there.
 *
 * Differences, all forced: samples are counts divided by tune.carrefour_ibs; the ratio of
 * modified cache lines, a counter of AMD processors, is the share of writes; node loads are
 * those of the guest.  It weighs no cost; the budget and limits of policy.h hold for it too.
 */
#include "numa/policy_judge.h"

enum {
    BUSY_PER_US = 50,    /* DRAM accesses per us below which nothing is done */
    MEMORY_USE_MAX = 25, /* percent of memory in use with which replication is allowed */
    WRITES_MAX = 5,      /* percent of writes */
    READS_MIN = 90,      /* or this many reads */
    IMBALANCE_MIN = 35,  /* percent, deviation of node loads: interleave above */
    LOCAL_MIN = 80,      /* percent of local accesses: migrate below */
    FIRST_WANTED = 500,  /* pages that must ask before the first is replicated */
    SAMPLES_MIN = 2,     /* of a page, to move it */
};

/* Square root of a whole number, rounded down. */
static uint64_t root(uint64_t x)
{
    uint64_t r = 0;

    for (uint64_t bit = UINT64_C(1) << 31; bit; bit >>= 1)
        if ((r + bit) * (r + bit) <= x)
            r += bit;
    return r;
}

/* Standard deviation over mean of the nodes' loads, percent. */
static uint64_t imbalance(const struct policy *p, const struct policy_traffic *t, uint64_t all)
{
    uint64_t sum = 0, n = p->machine->nnodes;

    for (unsigned i = 0; i < n; i++) {
        int64_t off = (int64_t)(t->at[i] * 1000 * n / all) - 1000;

        sum += (uint64_t)(off * off);
    }
    return root(sum / n) / 10;
}

/* Percent of all nodes' memory that is in use. */
static uint64_t memory_use(const struct policy *p, const struct policy_input *in)
{
    uint64_t total = 0, left = 0;

    for (unsigned i = 0; i < p->machine->nnodes; i++) {
        total += in->total[i] >> 12;
        left += in->free[i] >> 12;
    }
    return total > left ? (total - left) * 100 / total : 0;
}

bool begin_carrefour(struct policy *p, const struct policy_input *in)
{
    const struct policy_traffic *t = &in->traffic;
    uint64_t all = 0, writes;

    for (unsigned i = 0; i < p->machine->nnodes; i++)
        all += t->at[i];
    p->replicate = p->interleave = p->migrate = false;
    if (!all || all * 1000 < in->interval_ns * BUSY_PER_US) {
        p->numbers.gated++;
        return false;
    }
    writes = t->writes * 100 / all;
    p->replicate = memory_use(p, in) <= MEMORY_USE_MAX &&
                   (writes <= WRITES_MAX || 100 - writes >= READS_MIN);
    p->interleave = t->local < all && imbalance(p, t, all) > IMBALANCE_MIN;
    p->migrate = t->local * 100 < all * LOCAL_MIN;
    if (p->replicate || p->interleave || p->migrate)
        return true;
    p->numbers.gated++;
    return false;
}

/* The next number of a generator (xorshift). */
static uint64_t next_random(struct policy *p)
{
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return p->random;
}

/* Samples of the page, and how many nodes had any; *node is one of these. */
static uint64_t samples(const struct policy *p, const struct policy_judge *j, unsigned *nodes,
                        unsigned *node)
{
    uint64_t sum = 0;

    *nodes = 0;
    for (unsigned i = 0; i < j->use.n; i++) {
        uint64_t s = j->total[i] / p->tune.carrefour_ibs;

        if (!s)
            continue;
        sum += s;
        *nodes += 1;
        *node = j->use.use[i].node;
    }
    return sum;
}

/* Copies the page to all who use it. */
static void copy_to_users(struct policy *p, struct policy_judge *j)
{
    if (p->wanted++ < FIRST_WANTED)
        return;
    for (unsigned i = 0; i < j->use.n; i++) {
        unsigned to = j->use.use[i].node;

        if (j->total[i] >= p->tune.carrefour_ibs && to != j->page.home &&
            !(j->page.replicas >> to & 1))
            judge_act(p, j, ACT_REPLICATE, to, judge_gain_copy(p, j, i));
    }
}

void judge_carrefour(struct policy *p, struct policy_judge *j)
{
    unsigned nodes, node = 0;
    uint64_t n = samples(p, j, &nodes, &node);
    bool written = j->writes / p->tune.carrefour_ibs > 0;

    if (nodes > 1 && p->replicate && !written && j->may_copy) {
        copy_to_users(p, j);
        return;
    }
    if (!nodes || j->page.replicas || !j->may_move)
        return;
    if (nodes > 1 && p->interleave)
        node = (unsigned)(next_random(p) % p->machine->nnodes);
    else if (nodes > 1 || !p->migrate || n < (p->interleave ? 1 : SAMPLES_MIN))
        return;
    if (node != j->page.home)
        judge_act(p, j, ACT_MIGRATE, node, 1);
}
