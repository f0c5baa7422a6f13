/* SPDX-License-Identifier: MIT */
/*
 * The choice of the actions that repay their cost and that budget (L3) and free memory (L4) allow.
 *
 * What is chosen is pieces: runs of neighbours, and single pages of a batch.  A run pays its
 * beginning itself; batches' beginnings are paid by all the pages in them, so a page is weighed
 * with its share of them, and the budget with each one as a whole.  Replicas of a page beside
 * others cost less: which ones that are shows only as pieces are kept or dropped, in order, so it
 * is said anew each time.  State: struct policy's tokens, marks and numbers.
 */
#include "base/err.h"
#include "numa/policy_judge.h"

enum { BUCKETS = 32, BUCKET_EVEN = 8, PIECE = 64 };

/* log2 of gain over cost, BUCKET_EVEN where they are equal. */
static uint8_t bucket_of(uint64_t gain, uint64_t cost)
{
    uint64_t ratio = (gain << BUCKET_EVEN) / (cost ? cost : 1);
    unsigned b = ratio ? 63 - (unsigned)__builtin_clzll(ratio) : 0;

    return (uint8_t)(b < BUCKETS ? b : BUCKETS - 1);
}

/* What is chosen from: a run, of a long one a piece, so that hot pages are not held up by cold
 * ones; or one page of a batch.  Its end, when it begins at a[i]. */
static unsigned piece_end(const struct policy *p, const struct action *a, unsigned i,
                          unsigned n)
{
    uint64_t pages;

    if (policy_batched(&p->cost, &a[i]))
        return i + 1;
    return i + policy_run(&a[i], n - i < PIECE ? n - i : PIECE, &pages);
}

uint64_t choose_cost(const struct policy *p, const struct action *a, unsigned n)
{
    struct policy_bill bill = {.cost = &p->cost};
    uint64_t ns = 0;

    for (unsigned i = 0; i < n; i++)
        ns += policy_bill(&bill, &a[i]);
    return ns;
}

/* What a piece costs; of a batch, which others are in too, without the beginning. */
static uint64_t piece_cost(const struct policy *p, const struct action *a, unsigned n)
{
    uint64_t ns = choose_cost(p, a, n);

    return n && policy_batched(&p->cost, a) ? ns - p->cost.migrate_run : ns;
}

/* What it costs to begin the batches of so many pages. */
static uint64_t batches_cost(const struct policy *p, uint64_t moved)
{
    uint64_t most = p->cost.batch;

    return most ? (moved + most - 1) / most * p->cost.migrate_run : 0;
}

/* Sums up what a piece is believed to save within tune.horizon, ns. */
static uint64_t piece_gain(const struct policy *p, const struct action *a, unsigned n)
{
    uint64_t ns = 0;

    for (unsigned i = 0; i < n; i++)
        ns += outcome_gain(p, outcome_kind(&a[i]), a[i].gain * UINT64_C(1000));
    return ns;
}

/* Does a gain within tune.horizon repay a cost? */
static bool repays(const struct policy *p, uint64_t gain, uint64_t cost)
{
    return p->ops->blind || gain * 100 >= cost * p->tune.margin;
}

/* Do the pages that move in batches repay the beginnings, all together?  Each repays itself, or it
 * would not have been asked for.  Sets what one costs, with its share. */
static bool weigh_batches(struct policy *p, const struct action *a, unsigned n)
{
    uint64_t gain = 0, cost = 0, moved = 0;

    for (unsigned i = 0; i < n; i++) {
        if (!policy_batched(&p->cost, &a[i]))
            continue;
        gain += piece_gain(p, &a[i], 1);
        cost += piece_cost(p, &a[i], 1);
        moved++;
    }
    cost += batches_cost(p, moved);
    p->move_ns = moved ? cost / moved : 0;
    return repays(p, gain, cost);
}

/* Says of replicas of a piece whether their pages will have others by then. */
static void tell_further(const struct policy *p, struct action *a, unsigned n)
{
    for (unsigned i = 0; i < n && a[i].act == ACT_REPLICATE; i++)
        a[i].further = a[i].had || hist_marked(p->hist, a[i].page);
}

/* Marks the pages that a piece gives a replica. */
static void mark_copies(const struct policy *p, const struct action *a, unsigned n)
{
    for (unsigned i = 0; i < n && a[i].act == ACT_REPLICATE; i++)
        hist_mark(p->hist, a[i].page);
}

/* Notes that actions are not worth what they cost. */
static void not_worth(struct policy *p, const struct policy_input *in, const struct action *a,
                      unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        counters_judged(in->counters, a[i].page, UINT64_C(1) << a[i].from, p->tune.calm);
        judge_tell(in, a[i].page, WHY_WORTH);
    }
    p->numbers.not_worth += n;
}

/* Drops pieces that do not repay, the beginning included (tune.margin), and gives the others
 * their bucket; returns how many actions are left. */
static unsigned weigh(struct policy *p, const struct policy_input *in, struct action *a,
                      unsigned n)
{
    bool batches = weigh_batches(p, a, n);
    unsigned kept = 0;

    hist_unmark(p->hist);
    for (unsigned i = 0, end; i < n; i = end) {
        bool batched = policy_batched(&p->cost, &a[i]);
        uint64_t gain, cost;

        end = piece_end(p, a, i, n);
        tell_further(p, a + i, end - i);
        gain = piece_gain(p, a + i, end - i);
        cost = batched ? p->move_ns : piece_cost(p, a + i, end - i);
        if (batched ? !batches : a[i].act != ACT_COLLAPSE && !repays(p, gain, cost)) {
            not_worth(p, in, a + i, end - i);
            continue;
        }
        mark_copies(p, a + i, end - i);
        for (unsigned k = i; k < end; k++) {
            a[kept] = a[k];
            a[kept++].bucket = bucket_of(gain, cost) % BUCKETS;
        }
    }
    return kept;
}

/* What choosing goes by.  Batches are begun by pages of all buckets together. */
struct purse {
    unsigned from;  /* buckets from here on are done as a whole, the one below in part */
    uint64_t part;  /* ns left for that, and for what turns out dearer */
    uint64_t moved; /* pages in batches that are paid for */
};

/* Fills the purse with what candidates cost, the best first. */
static struct purse cut_off(const struct policy *p, const struct action *a, unsigned n)
{
    uint64_t cost[BUCKETS] = {0}, moved[BUCKETS] = {0};
    struct purse u = {.from = BUCKETS, .part = p->tokens};

    for (unsigned i = 0, end; i < n; i = end) {
        end = piece_end(p, a, i, n);
        cost[a[i].bucket] += piece_cost(p, a + i, end - i);
        moved[a[i].bucket] += policy_batched(&p->cost, &a[i]);
    }
    for (unsigned b = BUCKETS; b--; u.from = b) {
        uint64_t all = cost[b] + batches_cost(p, u.moved + moved[b]) - batches_cost(p, u.moved);

        if (all > u.part)
            break;
        u.part -= all;
        u.moved += moved[b];
    }
    return u;
}

/* Takes the memory an action needs (L4); false: there is none. */
static bool take_memory(struct policy *p, const struct policy_input *in, const struct action *a)
{
    uint64_t need = policy_bytes(a->page), keep = 0;

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

/* How many of a run's n actions a budget allows: all or none, so that runs stay whole; but of one
 * that is dear beside all that can be saved up, as many as there are. */
static unsigned affordable(const struct policy *p, const struct action *a, unsigned n,
                           uint64_t budget)
{
    struct policy_bill bill = {.cost = &p->cost};
    uint64_t all = piece_cost(p, a, n);
    unsigned k = 0;

    if (all <= budget)
        return n;
    if (all < p->savings / 2)
        return 0;
    for (; k < n; k++) {
        uint64_t cost = policy_bill(&bill, &a[k]);

        if (cost > budget)
            break;
        budget -= cost;
    }
    return k;
}

/* Pays for a page in a batch out of what is left; false: it is too dear. */
static bool pay_move(const struct policy *p, const struct action *a, struct purse *u)
{
    uint64_t cost =
        piece_cost(p, a, 1) + batches_cost(p, u->moved + 1) - batches_cost(p, u->moved);

    if (cost > u->part)
        return false;
    u->part -= cost;
    u->moved++;
    return true;
}

/* Pays for a piece; how many of its actions are paid.  Replicas that were to be further ones can be
 * the first by now: then they cost more than was put aside. */
static unsigned pay(const struct policy *p, struct action *a, unsigned n, struct purse *u)
{
    bool whole = a->bucket >= u->from;
    unsigned most;

    if (a->bucket + 1u < u->from)
        return 0;
    if (policy_batched(&p->cost, a))
        return whole || pay_move(p, a, u);
    u->part += whole ? piece_cost(p, a, n) : 0;
    tell_further(p, a, n);
    most = affordable(p, a, n, u->part);
    u->part -= piece_cost(p, a, most);
    return most;
}

/* Takes memory for a piece's actions, and notes them; returns how many are kept, at `to`. */
static unsigned keep(struct policy *p, const struct policy_input *in, const struct action *a,
                     unsigned n, struct action *to)
{
    uint64_t each = !n ? 0 : policy_batched(&p->cost, a) ? p->move_ns : piece_cost(p, a, n) / n;
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++) {
        bool room = take_memory(p, in, &a[i]);

        judge_tell(in, a[i].page, room ? WHY_DONE : WHY_MEMORY);
        if (!room)
            continue;
        limits_note(p, &a[i], each, in->now);
        p->numbers.act[a[i].act]++;
        to[kept++] = a[i];
    }
    return kept;
}

unsigned choose(struct policy *p, const struct policy_input *in, struct action *a, unsigned n)
{
    unsigned kept = 0;
    struct purse u;
    uint64_t cost;

    policy_order(a, n);
    n = weigh(p, in, a, n);
    u = cut_off(p, a, n);
    hist_unmark(p->hist);
    for (unsigned i = 0, end; i < n; i = end) {
        unsigned paid, done;

        end = piece_end(p, a, i, n);
        paid = pay(p, a + i, end - i, &u);
        for (unsigned k = i + paid; k < end; k++)
            judge_tell(in, a[k].page, WHY_BUDGET);
        p->numbers.over_budget += end - i - paid;
        cost = piece_cost(p, a + i, paid);
        done = keep(p, in, a + i, paid, a + kept);
        mark_copies(p, a + kept, done);
        u.part += cost - piece_cost(p, a + kept, done); /* what had no room */
        kept += done;
    }
    cost = choose_cost(p, a, kept);
    INVARIANT(cost <= p->tokens, "L3: actions cost more than the budget");
    p->numbers.cost_ns += cost;
    p->tokens -= cost;
    return kept;
}
