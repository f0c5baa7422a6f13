/* SPDX-License-Identifier: MIT */
/*
 * What all policies have in common: taking pages off the counters' list, sums and gains, the
 * choice of the actions that budget and free memory allow, and the limits on what is done to
 * one page.
 */
#include "numa/policy.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "numa/policy_judge.h"

enum { BUCKETS = 32, BUCKET_EVEN = 8, EVICT_MOST = 4096, COUNTS_OF_EMPTY = 1, ENOUGH = 3 };

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

/* Bytes of a page or block. */
static uint64_t bytes_of(uint64_t page)
{
    return page & PAGE_BLOCK ? UINT64_C(2) << 20 : 4096;
}

/* ---- for judges ---- */

/* Counts are sums over past intervals, fading; this is what one interval adds to them. */
static uint64_t rate(const struct policy *p, uint64_t count)
{
    return p->fade && p->fade < COUNTERS_FORGET ? count - (count >> p->fade) : count;
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

        gain += (int64_t)rate(p, j->total[i]) *
                ((int64_t)m->ns[user][j->page.home] - m->ns[user][node]);
    }
    return gain;
}

uint64_t judge_gain_copy(const struct policy *p, const struct policy_judge *j, unsigned i)
{
    const struct policy_machine *m = p->machine;
    unsigned user = j->use.use[i].node;
    unsigned now = m->ns[user][judge_serves(p, &j->page, user)], then = m->ns[user][user];

    return now > then ? rate(p, j->total[i]) * (now - then) : 0;
}

bool judge_pays(const struct policy *p, const struct policy_judge *j, enum act act,
                uint64_t gain_ns)
{
    uint64_t cost = policy_cost_of(&p->cost, act, j->use.page);

    return gain_ns && gain_ns * p->tune.horizon * 100 >= cost * p->tune.margin;
}

/* log2 of gain over cost, BUCKET_EVEN where they are equal. */
static uint8_t bucket_of(uint64_t gain, uint64_t cost)
{
    uint64_t ratio = (gain << BUCKET_EVEN) / (cost ? cost : 1);
    unsigned b = ratio ? 63 - (unsigned)__builtin_clzll(ratio) : 0;

    return (uint8_t)(b < BUCKETS ? b : BUCKETS - 1);
}

void judge_act(struct policy *p, struct policy_judge *j, enum act act, unsigned node,
               uint64_t gain_ns)
{
    uint64_t gain = gain_ns * p->tune.horizon, us = gain / 1000;

    if (j->n == j->most) {
        p->numbers.over_budget++;
        return;
    }
    j->cost += policy_cost_of(&p->cost, act, j->use.page);
    j->out[j->n++] =
        (struct action){.page = j->use.page,
                        .gain = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX,
                        .act = (uint8_t)act,
                        .node = (uint8_t)node,
                        .from = j->page.home,
                        .bucket = bucket_of(gain, policy_cost_of(&p->cost, act, j->use.page))};
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
    if (!r)
        return true;
    if (now < r->until) {
        p->numbers.resting++;
        return false;
    }
    j->may_move = now + 1 >= r->moved + p->tune.rest;
    j->may_copy = r->copied || j->may_move;
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
    if (j->total[j->top] >= p->tune.sharing && may_act(p, j))
        p->ops->judge(p, j);
    return j->n > before;
}

/* Judges pages off the list, as long as tune.examine and `most` allow and there are not far
 * more candidates than can be paid; returns their end. */
static unsigned judge_pages(struct policy *p, const struct policy_input *in, struct action *out,
                            unsigned n, unsigned most)
{
    struct policy_judge j = {.in = in, .out = out, .n = n, .most = most};
    uint64_t limit = p->tune.examine ? p->tune.examine : UINT64_MAX, used = 0;

    j.enough = ENOUGH * p->tokens;
    while (used < limit && j.cost <= j.enough && j.n < most &&
           counters_next(in->counters, &j.use)) {
        used += COUNTS_OF_EMPTY + j.use.n;
        if (j.use.n && !judge_page(p, &j) && !p->ops->resets)
            counters_judged(in->counters, j.use.page, near_of(&j.page), p->tune.calm);
    }
    return j.n;
}

/* ---- choosing ---- */

/* The bucket from which on candidates fit into the budget; *part is what is left for it. */
static unsigned cut_off(const struct policy *p, const struct action *a, unsigned n,
                        uint64_t *part)
{
    uint64_t cost[BUCKETS] = {0}, budget = *part;
    unsigned b = BUCKETS;

    for (unsigned i = 0; i < n; i++)
        cost[a[i].bucket] += policy_cost_of(&p->cost, a[i].act, a[i].page);
    while (b && cost[b - 1] <= budget)
        budget -= cost[--b];
    *part = budget;
    return b; /* bucket b - 1 in part, b and above as a whole */
}

/* Takes the memory an action needs (L4); false: there is none. */
static bool take_memory(struct policy *p, const struct policy_input *in, const struct action *a)
{
    uint64_t need = bytes_of(a->page), keep = 0;

    if (a->act == ACT_EVICT || (a->act == ACT_COLLAPSE && a->node == a->from))
        return true;
    if (a->act == ACT_REPLICATE)
        keep = in->total[a->node] / 100 * p->tune.keep_free;
    if (p->left[a->node] < need + keep) {
        p->numbers.no_memory++;
        return false;
    }
    p->left[a->node] -= need;
    return true;
}

/* Leaves a page alone from now on, longer each time. */
static void leave_alone(const struct policy *p, struct policy_record *r, uint32_t now)
{
    r->until = now + (p->tune.freeze << r->level);
    r->level = (uint8_t)(r->level + (r->level < LEVEL_MAX));
    r->moves = r->strikes = 0;
}

/* Notes an action in the page's record (L1). */
static void note(struct policy *p, const struct action *a, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, a->page);
    uint64_t cost = policy_cost_of(&p->cost, a->act, a->page), gain = a->gain;
    uint64_t risk = a->act == ACT_REPLICATE ? policy_cost_broken(&p->cost, a->page) : 0;
    uint64_t pay = gain ? (cost + risk) * p->tune.horizon / (gain * 1000) + 1 : 255;
    bool soon = r->moved && now + 1 - r->moved <= p->tune.quick;

    r->payback = (uint8_t)(pay < 255 ? pay : 255);
    if (a->act == ACT_REPLICATE) {
        if (!r->copied) /* its life is that of the first replica */
            r->moved = now + 1;
        r->copied = true;
        return;
    }
    if (!soon) {
        r->moves = 0;
        r->level = (uint8_t)(r->level - (r->level > 0 && now >= r->until + p->tune.freeze));
    }
    r->copied = false;
    r->moved = now + 1;
    if (++r->moves >= p->tune.moves)
        leave_alone(p, r, now);
}

/* Keeps the candidates that budget (L3) and memory allow, best first; returns how many. */
static unsigned choose(struct policy *p, const struct policy_input *in, struct action *a,
                       unsigned n)
{
    uint64_t part = p->tokens;
    unsigned from = cut_off(p, a, n, &part), kept = 0;

    for (unsigned i = 0; i < n; i++) {
        uint64_t cost = policy_cost_of(&p->cost, a[i].act, a[i].page);
        bool whole = a[i].bucket >= from;

        if (!whole && (a[i].bucket + 1u < from || cost > part)) {
            p->numbers.over_budget++;
            continue;
        }
        if (!take_memory(p, in, &a[i]))
            continue;
        if (!whole)
            part -= cost;
        p->tokens -= cost;
        if (!kept || a[kept - 1].page != a[i].page || a[i].act != ACT_REPLICATE) {
            note(p, &a[i], in->now);
            counters_changed(in->counters, a[i].page);
        }
        p->numbers.act[a[i].act]++;
        p->numbers.cost_ns += cost;
        a[kept++] = a[i];
    }
    return kept;
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
            out[n++] = (struct action){
                .page = page, .act = ACT_EVICT, .node = (uint8_t)node, .bucket = BUCKETS - 1};
            p->left[node] += bytes_of(page);
            p->numbers.act[ACT_EVICT]++;
            p->numbers.cost_ns += policy_cost_of(&p->cost, ACT_EVICT, page);
        }
    }
    return n;
}

/* ---- interface ---- */

/* Is it time for this policy to decide? */
static bool due(struct policy *p, const struct policy_input *in)
{
    uint64_t add = in->interval_ns / 1000 * in->cpus * p->tune.cpu;
    uint64_t most = add * p->tune.burst;

    if (!p->counters)
        p->tokens = most; /* it begins rested */
    p->counters = in->counters;
    p->fade = p->ops->resets ? COUNTERS_FORGET : in->keep_age ? 1 : p->tune.decay;
    p->since_ns += in->interval_ns;
    p->tokens = p->tokens + add < most ? p->tokens + add : most;
    return p->ops->judge && p->since_ns >= p->ops->every_ns;
}

unsigned policy_decide(struct policy *p, const struct policy_input *in, struct action *out,
                       unsigned most)
{
    unsigned n, last;
    bool decide = due(p, in);

    memcpy(p->left, in->free, sizeof(p->left));
    n = relieve(p, in, out, most);
    if (decide && (!p->ops->begin || p->ops->begin(p, in))) {
        last = judge_pages(p, in, out, n, most);
        n += choose(p, in, out + n, last - n);
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

void policy_collapsed(struct policy *p, uint64_t page, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, page);
    uint32_t life = now + 1 - r->moved;

    if (p->counters)
        counters_changed(p->counters, page);
    if (r->copied && (life <= 1 || life < r->payback)) {
        if (++r->strikes >= p->tune.collapses)
            leave_alone(p, r, now);
    } else if (r->copied) {
        r->strikes = 0;
        r->level = (uint8_t)(r->level - (r->level > 0));
    }
    r->copied = false;
    r->moved = now + 1;
}

void policy_failed(struct policy *p, uint64_t page, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, page);

    r->copied = false;
    r->moved = now + 1;
}
