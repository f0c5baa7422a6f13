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

enum {
    BUCKETS = 32,
    BUCKET_EVEN = 8,
    EVICT_MOST = 4096,
    COUNTS_A_LINE = 7,
    LOOKS_A_COPY = 3,
    PIECE = 64,
    ENOUGH = 3
};

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
    j->out[j->n++] = (struct action){.page = j->use.page,
                                     .gain = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX,
                                     .act = (uint8_t)act,
                                     .node = (uint8_t)node,
                                     .from = j->page.home};
}

/* Tells what came of looking at a page. */
static void tell(const struct policy_input *in, uint64_t page, enum policy_why why)
{
    if (in->pages->told)
        in->pages->told(in->arg, page, why);
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
        tell(j->in, j->use.page, WHY_WORTH);
        return false;
    }
    if (!may_act(p, j)) {
        tell(j->in, j->use.page, WHY_LIMIT);
        return false;
    }
    p->ops->judge(p, j);
    if (j->n == before)
        tell(j->in, j->use.page, WHY_WORTH);
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

/* ---- choosing ---- */

/* End of the run that begins at a[i]; long ones are chosen piece by piece, so that hot pages
 * are not held up by cold ones. */
static unsigned run_end(const struct action *a, unsigned i, unsigned n)
{
    unsigned most = i + PIECE < n ? i + PIECE : n;

    for (i++; i < most && policy_joins(&a[i - 1], &a[i]);)
        i++;
    return i;
}

/* What a run costs. */
static uint64_t run_cost(const struct policy *p, const struct action *a, unsigned n)
{
    uint64_t ns = 0;

    for (unsigned i = 0; i < n; i++)
        ns += policy_cost_next(&p->cost, i ? &a[i - 1] : NULL, &a[i]);
    return ns;
}

/* Sums up what a run saves within tune.horizon, ns. */
static uint64_t run_gain(const struct action *a, unsigned n)
{
    uint64_t us = 0;

    for (unsigned i = 0; i < n; i++)
        us += a[i].gain;
    return us * 1000;
}

/* Drops runs that do not repay, the beginning included (tune.margin), and gives the others
 * their bucket; returns how many actions are left. */
static unsigned weigh_runs(struct policy *p, const struct policy_input *in, struct action *a,
                           unsigned n)
{
    unsigned kept = 0;

    for (unsigned i = 0, end; i < n; i = end) {
        uint64_t gain, cost;
        bool pays;

        end = run_end(a, i, n);
        gain = run_gain(a + i, end - i);
        cost = run_cost(p, a + i, end - i);
        pays = p->ops->blind || a[i].act == ACT_COLLAPSE || gain * 100 >= cost * p->tune.margin;
        for (unsigned k = i; k < end; k++) {
            if (!pays) {
                counters_judged(in->counters, a[k].page, UINT64_C(1) << a[k].from,
                                p->tune.calm);
                tell(in, a[k].page, WHY_WORTH);
                p->numbers.not_worth++;
                continue;
            }
            a[kept] = a[k];
            a[kept++].bucket = bucket_of(gain, cost);
        }
    }
    return kept;
}

/* The bucket from which on candidates fit into the budget; *part is what is left for it. */
static unsigned cut_off(const struct policy *p, const struct action *a, unsigned n,
                        uint64_t *part)
{
    uint64_t cost[BUCKETS] = {0}, budget = *part;
    unsigned b = BUCKETS;

    for (unsigned i = 0, end; i < n; i = end) {
        end = run_end(a, i, n);
        cost[a[i].bucket] += run_cost(p, a + i, end - i);
    }
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

/* Intervals, at most 255, in which a gain (us in tune.horizon) repays a cost (us). */
static uint8_t repays_in(const struct policy *p, uint64_t cost, uint64_t gain)
{
    uint64_t n = gain ? cost * p->tune.horizon / gain + 1 : 255;

    return (uint8_t)(n < 255 ? n : 255);
}

/* Notes a replica, of so many ns: all that the page has are to repay together what they cost and
 * the write that takes them. */
static void note_copy(const struct policy *p, struct policy_record *r, const struct action *a,
                      uint64_t cost, uint32_t now)
{
    if (!r->copied) { /* its life is that of the first replica */
        r->moved = now + 1;
        r->gain = 0;
        r->cost = (uint32_t)(policy_cost_broken(&p->cost, a->page) / 1000);
    }
    r->copied = true;
    r->cost = (uint32_t)(r->cost + cost / 1000);
    r->gain = r->gain + a->gain > r->gain ? r->gain + a->gain : UINT32_MAX;
    r->payback = repays_in(p, r->cost, r->gain);
}

/* Has the last move, that now ends after so many intervals, repaid?  There and back costs
 * twice, and each is seen an interval late. */
static bool repaid(const struct policy *p, const struct policy_record *r, uint32_t life)
{
    return life > 2 && (uint64_t)(life - 2) * r->gain >= (uint64_t)r->cost * p->tune.horizon;
}

/* Notes an action, of so many ns, in the page's record (L1). */
static void note(struct policy *p, const struct action *a, uint64_t cost, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, a->page);
    uint32_t life = now + 1 - r->moved;

    if (a->act == ACT_REPLICATE) {
        note_copy(p, r, a, cost, now);
        return;
    }
    if (!r->moved || life > p->tune.quick || (!r->copied && repaid(p, r, life))) {
        r->moves = 0;
        r->level = (uint8_t)(r->level - (r->level > 0 && now >= r->until + p->tune.freeze));
    }
    r->cost = (uint32_t)(2 * cost / 1000);
    r->gain = a->gain;
    r->copied = false;
    r->moved = now + 1;
    if (++r->moves >= p->tune.moves)
        leave_alone(p, r, now);
}

/* How many of n actions of a run a budget allows: all or none, so that runs stay whole; but of one
 * that is dear beside all that can be saved up, as many as there are. */
static unsigned affordable(const struct policy *p, const struct action *a, unsigned n,
                           uint64_t budget)
{
    uint64_t all = run_cost(p, a, n);
    unsigned k = 0;

    if (all <= budget)
        return n;
    if (all < p->savings / 2)
        return 0;
    for (; k < n; k++) {
        uint64_t cost = policy_cost_next(&p->cost, k ? &a[k - 1] : NULL, &a[k]);

        if (cost > budget)
            break;
        budget -= cost;
    }
    return k;
}

/* Takes memory for actions of a run, and notes them; returns how many of them are kept, at `to`. */
static unsigned keep(struct policy *p, const struct policy_input *in, const struct action *a,
                     unsigned n, struct action *to)
{
    uint64_t each = n ? run_cost(p, a, n) / n : 0;
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++) {
        bool room = take_memory(p, in, &a[i]);

        tell(in, a[i].page, room ? WHY_DONE : WHY_MEMORY);
        if (!room)
            continue;
        note(p, &a[i], each, in->now);
        p->numbers.act[a[i].act]++;
        to[kept++] = a[i];
    }
    return kept;
}

/* Keeps the candidates that budget (L3) and memory allow, the best; returns how many.  They are
 * in order before and after. */
static unsigned choose(struct policy *p, const struct policy_input *in, struct action *a,
                       unsigned n)
{
    uint64_t part = p->tokens, cost;
    unsigned from = cut_off(p, a, n, &part), kept = 0;

    for (unsigned i = 0, end; i < n; i = end) {
        unsigned b = a[i].bucket, most;

        end = run_end(a, i, n);
        most = b >= from ? end - i : b + 1 == from ? affordable(p, a + i, end - i, part) : 0;
        if (b < from)
            part -= run_cost(p, a + i, most);
        for (unsigned k = i + most; k < end; k++)
            tell(in, a[k].page, WHY_BUDGET);
        p->numbers.over_budget += end - i - most;
        kept += keep(p, in, a + i, most, a + kept);
    }
    cost = run_cost(p, a, kept);
    p->numbers.cost_ns += cost;
    p->tokens -= cost < p->tokens ? cost : p->tokens;
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
        }
    }
    policy_order(out, n);
    p->numbers.cost_ns += run_cost(p, out, n);
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
    if (decide && (!p->ops->begin || p->ops->begin(p, in))) {
        last = judge_pages(p, in, out, n, most) - n;
        policy_order(out + n, last);
        last = weigh_runs(p, in, out + n, last);
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

void policy_collapsed(struct policy *p, uint64_t page, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, page);
    uint32_t life = now + 1 - r->moved;
    bool lost = r->copied && (life <= 1 || life < r->payback);

    if (p->counters) {
        counters_changed(p->counters, page);
        counters_list(p->counters, page);
    }
    r->repaid = r->copied && !lost;
    if (lost) {
        if (++r->strikes >= p->tune.collapses)
            leave_alone(p, r, now);
    } else if (r->copied) {
        r->strikes = 0;
        r->level = (uint8_t)(r->level - (r->level > 0));
    }
    r->copied = false;
    r->moved = now + 1;
}

void policy_written(struct policy *p, uint64_t page, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, page);

    if (++r->strikes >= p->tune.collapses)
        leave_alone(p, r, now);
    r->moved = now + 1;
}

void policy_failed(struct policy *p, uint64_t page, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, page);

    r->copied = false;
    r->moved = now + 1;
}
