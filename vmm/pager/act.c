/* SPDX-License-Identifier: MIT */
/*
 * Does what a policy said (numa/policy.h): actions of one kind on neighbours become one call, so
 * that mappings change once a run, not once a page; pages that move go together.  Threads: any; the
 * calls take the lock.
 */
#include "numa/counters.h"
#include "numa/policy.h"
#include "vmm/pager/pager.h"

/* Actions on pages are for these pages, also where they make up a block: a write to one of them
 * is not to take the others' replicas away. */
static void split_under(struct pager *p, uint64_t gfn, uint64_t n)
{
    for (uint64_t at = gfn & ~(uint64_t)(PAGEMAP_BLOCK - 1); at < gfn + n; at += PAGEMAP_BLOCK)
        (void)pager_split(p, at);
}

/* Does the action of a on n pages from its first on. */
static void act_on(struct pager *p, const struct action *a, uint64_t n)
{
    if (!(a->page & PAGE_BLOCK))
        split_under(p, action_gfn(a), n);
    switch (a->act) {
    case ACT_MIGRATE:
        pager_migrate(p, action_gfn(a), n, a->node);
        break;
    case ACT_REPLICATE:
        pager_replicate(p, action_gfn(a), n, a->node);
        break;
    case ACT_EVICT:
        pager_evict(p, action_gfn(a), n, a->node);
        break;
    case ACT_COLLAPSE:
        if (a->node == a->from)
            pager_collapse(p, action_gfn(a), n);
        else
            pager_migrate(p, action_gfn(a), n, a->node);
        break;
    default:
        break;
    }
}

/* Whether what an action wants is so. */
static bool holds(const struct pager *p, const struct action *a)
{
    struct page_info u;

    if (action_gfn(a) >= pagemap_pages(pager_map(p)))
        return false;
    u = pagemap_get(pager_map(p), action_gfn(a));
    switch (a->act) {
    case ACT_MIGRATE:
        return u.node == a->node;
    case ACT_REPLICATE:
        return u.replicas >> a->node & 1;
    case ACT_EVICT:
        return !(u.replicas >> a->node & 1);
    case ACT_COLLAPSE:
        return !u.replicas && u.node == a->node;
    default:
        return true;
    }
}

/* True if a single page is to come to lie on another node. */
static bool moves(const struct action *a)
{
    return !(a->page & PAGE_BLOCK) &&
           (a->act == ACT_MIGRATE || (a->act == ACT_COLLAPSE && a->node != a->from));
}

/* Moves the pages of actions from the first on, as many as are alike in that; how many. */
static unsigned move_some(struct pager *p, const struct action *a, unsigned n)
{
    struct page_move m[PAGER_MOVES];
    unsigned k = 0;

    for (; k < n && k < PAGER_MOVES && moves(&a[k]); k++)
        m[k] = (struct page_move){action_gfn(&a[k]), a[k].node};
    if (k)
        pager_migrate_pages(p, m, k);
    return k;
}

/* Has pages watched, neighbours together. */
static void watch_all(struct pager *p, struct action *acts, unsigned n)
{
    policy_order(acts, n);
    for (unsigned i = 0; i < n;) {
        uint64_t gfn = action_gfn(&acts[i]), pages;

        i += policy_run(&acts[i], n - i, &pages);
        pager_watch(p, gfn, pages);
    }
}

/* Takes replications of pages that are yet to be watched out of n actions and has them watched; how
 * many are left.  The others stand behind. */
static unsigned only_unwritten(struct pager *p, struct action *acts, unsigned n)
{
    unsigned left = n;

    for (unsigned i = 0; i < left;) {
        struct action t = acts[i];

        if (t.act != ACT_REPLICATE || t.page & PAGE_BLOCK ||
            pager_unwritten(p, action_gfn(&t))) {
            i++;
            continue;
        }
        acts[i] = acts[--left];
        acts[left] = t;
    }
    watch_all(p, &acts[left], n - left);
    return left;
}

unsigned pager_act(struct pager *p, struct action *acts, unsigned n)
{
    unsigned good = 0;

    n = only_unwritten(p, acts, n);
    policy_order(acts, n);
    for (unsigned i = 0, count; i < n; i += count) {
        uint64_t pages;

        count = move_some(p, &acts[i], n - i);
        if (count)
            continue;
        count = policy_run(&acts[i], n - i, &pages);
        act_on(p, &acts[i], pages);
    }
    for (unsigned i = 0; i < n; i++)
        if (holds(p, &acts[i])) {
            struct action t = acts[good];

            acts[good++] = acts[i];
            acts[i] = t;
        }
    return good;
}
