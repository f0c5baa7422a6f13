/* SPDX-License-Identifier: MIT */
/*
 * What all policies have in common: taking pages off the counters' list, sums and gains, memory
 * pressure, and the order of it all.  Which actions budget and free memory allow: policy_choose.c;
 * what is left alone: policy_limits.c.
 */
#include "numa/policy.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "numa/policy_judge.h"

enum { EVICT_MOST = 4096, COUNTS_A_LINE = 7, LOOKS_A_COPY = 3, ENOUGH = 3 };

/* Lists all nodes by their distance from one. */
static void sort_nodes(uint8_t *order, const struct policy_machine *m, unsigned from)
{
    for (unsigned n = 0; n < m->nnodes; n++) {
        unsigned at = n;

        for (; at && m->ns[from][order[at - 1]] > m->ns[from][n]; at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)n;
    }
}

int policy_init(struct policy *p, const struct policy_ops *ops,
                const struct policy_machine *machine, const struct policy_tune *tune,
                uint32_t pages)
{
    INVARIANT(machine->nnodes > 0 && machine->nnodes <= TOPO_MAX_NODES,
              "policy: a machine has 1 to TOPO_MAX_NODES nodes");
    *p = (struct policy){.ops = ops,
                         .machine = machine,
                         .tune = tune ? *tune : policy_tune_default(),
                         .cost = policy_cost_default,
                         .random = UINT64_C(0x9e3779b97f4a7c15)};
    for (unsigned i = 0; i < machine->nnodes; i++)
        sort_nodes(p->order[i], machine, i);
    outcome_init(&p->outcome);
    p->hist = hist_new(pages);
    return p->hist ? 0 : -ENOMEM;
}

void policy_exit(struct policy *p)
{
    hist_free(p->hist);
    p->hist = NULL;
}

unsigned policy_home(const struct policy *p, uint64_t page, uint64_t pages, unsigned toucher)
{
    return p->ops->home(p, page, pages, toucher);
}

/* ---- for judges ---- */

uint64_t judge_seen(const struct policy *p, uint64_t count)
{
    return judge_fades(count, (uint64_t)p->fade * p->span);
}

unsigned judge_serves(const struct policy *p, const struct policy_page *page, unsigned node)
{
    uint64_t near = page->replicas | UINT64_C(1) << page->home;
    const uint8_t *n = p->order[node];

    if (!page->replicas)
        return page->home;
    while (!(near >> *n & 1))
        n++;
    return *n;
}

int64_t judge_gain_move(const struct policy *p, const struct policy_judge *j, unsigned node)
{
    const struct policy_machine *m = p->machine;
    int64_t gain = 0;

    for (unsigned i = 0; i < j->use.n; i++) {
        unsigned user = j->use.use[i].node;

        gain += (int64_t)judge_seen(p, j->total[i]) *
                ((int64_t)m->ns[user][j->page.home] - m->ns[user][node]);
    }
    return gain / (int64_t)p->span;
}

uint64_t judge_gain_copy(const struct policy *p, const struct policy_judge *j, unsigned i)
{
    const struct policy_machine *m = p->machine;
    unsigned user = j->use.use[i].node;
    unsigned now = m->ns[user][judge_serves(p, &j->page, user)], then = m->ns[user][user];

    return now > then ? judge_seen(p, j->total[i]) * (now - then) / p->span : 0;
}

bool judge_pays(const struct policy *p, const struct policy_judge *j, enum gain kind,
                uint64_t gain_ns)
{
    enum act act = kind == GAIN_COPY ? ACT_REPLICATE : ACT_MIGRATE;
    uint64_t cost = act == ACT_REPLICATE && j->copied
                        ? policy_cost_further(&p->cost, j->use.page)
                        : policy_cost_of(&p->cost, act, j->use.page);

    return gain_ns &&
           outcome_gain(p, kind, gain_ns * p->tune.horizon) * 100 >= cost * p->tune.margin;
}

struct action *judge_act(struct policy *p, struct policy_judge *j, enum act act, unsigned node,
                         uint64_t gain_ns)
{
    uint64_t gain = gain_ns * p->tune.horizon, us = gain / 1000;

    if (j->n == j->most) {
        p->numbers.over_budget++;
        return NULL;
    }
    j->cost += policy_cost_of(&p->cost, act, j->use.page);
    j->out[j->n++] = (struct action){.page = j->use.page,
                                     .gain = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX,
                                     .act = (uint8_t)act,
                                     .node = (uint8_t)node,
                                     .from = j->page.home,
                                     .had = j->page.replicas != 0};
    j->copied |= act == ACT_REPLICATE;
    return &j->out[j->n - 1];
}

/* ---- judging ---- */

/* Sums up a page's use. */
static void sum_up(const struct policy *p, struct policy_judge *j)
{
    j->reads = j->writes = 0;
    j->top = j->sharers = 0;
    for (unsigned i = 0; i < j->use.n; i++) {
        const struct node_use *u = &j->use.use[i];

        j->reads += u->reads;
        j->writes += u->writes;
        j->total[i] = (uint64_t)u->reads + u->writes;
        j->sharers += j->total[i] >= p->tune.sharing;
        if (j->total[i] > j->total[j->top])
            j->top = i;
    }
}

/* Do L1 and L2 allow anything to be done to the page?  Sets may_move and may_copy. */
static bool may_act(struct policy *p, struct policy_judge *j)
{
    const struct policy_record *r = hist_find(p->hist, j->use.page);
    uint32_t now = j->in->now;

    j->may_move = j->may_copy = true;
    j->quiet = false;
    if (!r)
        return true;
    if (now < r->until) {
        p->numbers.resting++;
        return false;
    }
    j->may_move = now + 1 >= r->moved + p->tune.rest;
    j->may_copy = r->copied || r->repaid || j->may_move;
    j->quiet = r->repaid;
    p->numbers.resting += !j->may_copy;
    return j->may_copy;
}

/* Nodes that have a copy. */
static uint64_t near_of(const struct policy_page *page)
{
    return page->replicas | UINT64_C(1) << page->home;
}

/* Judges one page; false: nothing is to be done. */
static bool judge_page(struct policy *p, struct policy_judge *j)
{
    unsigned before = j->n;

    p->numbers.examined++;
    sum_up(p, j);
    j->page = (struct policy_page){.home = TOPO_MAX_NODES - 1};
    if (!j->in->pages->look(j->in->arg, j->use.page, &j->page) || j->page.fixed)
        return false;
    if (j->total[j->top] < p->tune.sharing) {
        judge_tell(j->in, j->use.page, WHY_WORTH);
        return false;
    }
    if (!may_act(p, j)) {
        judge_tell(j->in, j->use.page, WHY_LIMIT);
        return false;
    }
    j->copied = j->page.replicas != 0;
    p->ops->judge(p, j);
    if (j->n == before)
        judge_tell(j->in, j->use.page, WHY_WORTH);
    return j->n > before;
}

/* Judges pages off the list, as long as tune.examine and `most` allow and there are not far
 * more candidates than can be paid; returns their end. */
static unsigned judge_pages(struct policy *p, const struct policy_input *in, struct action *out,
                            unsigned n, unsigned most)
{
    struct policy_judge j = {.in = in, .out = out, .n = n, .most = most};
    uint64_t limit = p->tune.examine ? p->looks : UINT64_MAX, used = 0;

    j.enough = ENOUGH * p->tokens;
    while (used < limit && j.cost <= j.enough && j.n < most &&
           counters_next(in->counters, &j.use)) {
        unsigned before = j.n;

        used += 1 + j.use.n / COUNTS_A_LINE;
        if (!j.use.n)
            continue;
        if (judge_page(p, &j))
            counters_changed(in->counters, j.use.page);
        else if (!p->ops->resets)
            counters_judged(in->counters, j.use.page, near_of(&j.page), p->tune.calm);
        if (j.n > before + 1) /* each is ordered and noted */
            used += (uint64_t)LOOKS_A_COPY * (j.n - before - 1);
    }
    p->looks -= used < p->looks ? used : p->looks;
    return j.n;
}

/* ---- memory pressure ---- */

/* Evicts replicas from nodes short of memory, round the page map's rotation (L4). */
static unsigned relieve(struct policy *p, const struct policy_input *in, struct action *out,
                        unsigned most)
{
    unsigned n = 0;

    for (unsigned node = 0; node < p->machine->nnodes; node++) {
        uint64_t low = in->total[node] / 100 * p->tune.low_free, page, first = UINT64_MAX;
        unsigned here = 0;

        while (p->left[node] < low && n < most && here++ < EVICT_MOST &&
               in->pages->next_replica(in->arg, node, &page) && page != first) {
            first = here == 1 ? page : first; /* back there: that was all of them */
            out[n++] = (struct action){.page = page, .act = ACT_EVICT, .node = (uint8_t)node};
            p->left[node] += policy_bytes(page);
            p->numbers.act[ACT_EVICT]++;
        }
    }
    policy_order(out, n);
    p->numbers.cost_ns += choose_cost(p, out, n);
    return n;
}

/* ---- interface ---- */

/* Is it time for this policy to decide? */
static bool due(struct policy *p, const struct policy_input *in)
{
    uint64_t add = in->interval_ns / 1000 * in->cpus * p->tune.cpu;
    uint64_t most = add * p->tune.burst, looks = (uint64_t)p->tune.examine * p->tune.burst;

    if (!p->counters) { /* it begins rested */
        p->tokens = most;
        p->looks = looks;
    }
    p->counters = in->counters;
    p->fade = p->ops->resets ? COUNTERS_FORGET : in->keep_age ? 1 : p->tune.decay;
    if (in->keep_age)
        p->span = 1; /* the source weighs what it counts */
    else if (in->traffic.span || !p->span)
        p->span = in->traffic.span ? in->traffic.span : 1;
    p->since_ns += in->interval_ns;
    p->savings = most;
    p->tokens = p->tokens + add < most ? p->tokens + add : most;
    p->looks = p->looks + p->tune.examine < looks ? p->looks + p->tune.examine : looks;
    return p->ops->judge && p->since_ns >= p->ops->every_ns;
}

unsigned policy_decide(struct policy *p, const struct policy_input *in, struct action *out,
                       unsigned most)
{
    unsigned n, last;
    bool decide = due(p, in);

    memcpy(p->left, in->free, sizeof(p->left));
    n = relieve(p, in, out, most);
    outcome_look(p, in);
    if (decide && (!p->ops->begin || p->ops->begin(p, in))) {
        last = judge_pages(p, in, out, n, most) - n;
        n += choose(p, in, out + n, last);
    }
    if (p->ops->resets && decide)
        counters_age(in->counters, COUNTERS_FORGET);
    else if (!p->ops->resets && !in->keep_age)
        counters_age(in->counters, p->tune.decay);
    counters_tick(in->counters);
    if (decide)
        p->since_ns = 0;
    return n;
}
