/* SPDX-License-Identifier: MIT */
/*
 * Runs: actions of one kind on neighbours, which whoever does them does in one call, so that
 * beginning is paid once.  Batches: single pages that move, which the kernel does in one call
 * wherever they are.  What makes these, and what actions cost in them.  No state.
 */
#include <stdlib.h>

#include "numa/policy.h"

enum {
    LEARN_TABLE_NS = 1000000, /* of actions: for so much the table stands */
    LEARN_FORGET = 32,        /* intervals with actions, until two thirds are forgotten */
    LEARN_FORGET_IDLE = 256,  /* and without: what was dear once is tried again */
    LEARN_LEAST = 25,         /* percent of the table */
    LEARN_MOST = 25600
};

/* Does an action move the master? */
static bool moves(const struct action *a)
{
    return a->act == ACT_MIGRATE || (a->act == ACT_COLLAPSE && a->node != a->from);
}

/* The order as a number: kind, what frees memory first; blocks that move last, node, whether it
 * moves, address. */
static uint64_t place(const struct action *a)
{
    bool block = a->act == ACT_MIGRATE && a->page & PAGE_BLOCK;

    uint64_t kind = a->act == ACT_EVICT ? ACT_NONE : a->act;

    return kind << 60 | (uint64_t)block << 59 | (uint64_t)a->node << 53 |
           (uint64_t)moves(a) << 52 | (action_gfn(a) & ((UINT64_C(1) << 52) - 1));
}

static int by_place(const void *x, const void *y)
{
    uint64_t a = place(x), b = place(y);

    return (a > b) - (a < b);
}

void policy_order(struct action *a, unsigned n)
{
    qsort(a, n, sizeof(*a), by_place);
}

/* Does b go on where a ends, so that both are of one run? */
static bool joins(const struct action *a, const struct action *b)
{
    uint64_t end = action_gfn(a) + action_pages(a);

    return a->act == b->act && a->node == b->node && moves(a) == moves(b) &&
           action_gfn(b) == end && !((a->page ^ b->page) & PAGE_BLOCK);
}

unsigned policy_run(const struct action *a, unsigned n, uint64_t *pages)
{
    unsigned k = 1;

    *pages = action_pages(a);
    for (; k < n && joins(&a[k - 1], &a[k]); k++)
        *pages += action_pages(&a[k]);
    return k;
}

bool policy_batched(const struct policy_cost *c, const struct action *a)
{
    return c->batch && a->act == ACT_MIGRATE && !(a->page & PAGE_BLOCK);
}

/* What it costs to begin a run with an action, ns; without a move. */
static uint64_t cost_begin(const struct policy_cost *c, const struct action *a)
{
    switch ((enum act)a->act) {
    case ACT_REPLICATE:
        return a->further ? c->further_run : c->replicate_run;
    case ACT_COLLAPSE:
        return c->collapse_run;
    case ACT_EVICT:
        return c->evict_run;
    case ACT_MIGRATE:
    case ACT_NONE:
    case ACT_KINDS:
        break;
    }
    return 0;
}

uint64_t policy_cost_of(const struct policy_cost *c, enum act act, uint64_t page)
{
    bool block = page & PAGE_BLOCK;

    switch (act) {
    case ACT_MIGRATE:
        return block ? c->migrate_2m : c->migrate;
    case ACT_REPLICATE:
        return block ? c->replicate_2m : c->replicate;
    case ACT_COLLAPSE:
        return block ? c->collapse_2m : c->collapse;
    case ACT_EVICT:
        return block ? c->evict_2m : c->evict;
    case ACT_NONE:
    case ACT_KINDS:
        break;
    }
    return 0;
}

uint64_t policy_cost_broken(const struct policy_cost *c, uint64_t page)
{
    return page & PAGE_BLOCK ? c->broken_2m : c->broken;
}

uint64_t policy_cost_further(const struct policy_cost *c, uint64_t page)
{
    return page & PAGE_BLOCK ? c->further_2m : c->further;
}

uint64_t policy_bill(struct policy_bill *b, const struct action *a)
{
    const struct policy_cost *c = b->cost;
    bool batched = policy_batched(c, a), begins;
    uint64_t ns = a->act == ACT_REPLICATE && a->further
                      ? policy_cost_further(c, a->page)
                      : policy_cost_of(c, (enum act)a->act, a->page);

    if (batched)
        begins = !policy_batched(c, &b->last) || b->moved == c->batch;
    else
        begins = !joins(&b->last, a) || b->last.further != a->further;
    if (moves(a) && a->act != ACT_MIGRATE)
        ns += policy_cost_of(c, ACT_MIGRATE, a->page);
    if (moves(a) && begins)
        ns += c->migrate_run;
    ns += begins ? cost_begin(c, a) : 0;
    b->moved = batched && !begins ? b->moved + 1 : 1;
    b->begun += begins;
    b->last = *a;
    return ns;
}

void policy_learn(struct policy *p, uint64_t told_ns, uint64_t took_ns)
{
    struct policy_learnt *l = &p->learnt;
    uint64_t percent, part = told_ns ? LEARN_FORGET : LEARN_FORGET_IDLE;

    if (!l->percent)
        *l = (struct policy_learnt){.table = p->cost, .percent = 100};
    l->told_ns += told_ns * 100 / l->percent - l->told_ns / part;
    l->took_ns += (told_ns ? took_ns : 0) - l->took_ns / part;
    percent = (l->took_ns + LEARN_TABLE_NS) * 100 / (l->told_ns + LEARN_TABLE_NS);
    percent = percent < LEARN_LEAST ? LEARN_LEAST : percent;
    l->percent = (uint32_t)(percent < LEARN_MOST ? percent : LEARN_MOST);
    p->cost = policy_cost_scaled(&l->table, l->percent);
}

struct policy_cost policy_cost_scaled(const struct policy_cost *c, unsigned percent)
{
    struct policy_cost s = *c;
    uint32_t *const all[] = {&s.migrate_run, &s.replicate_run, &s.collapse_run, &s.evict_run,
                             &s.migrate,     &s.replicate,     &s.collapse,     &s.evict,
                             &s.migrate_2m,  &s.replicate_2m,  &s.collapse_2m,  &s.evict_2m,
                             &s.further_run, &s.further,       &s.further_2m,   &s.broken,
                             &s.broken_2m};

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        *all[i] = (uint32_t)((uint64_t)*all[i] * percent / 100);
    return s;
}
