/* SPDX-License-Identifier: MIT */
/*
 * Does what a policy said (numa/policy.h): actions of one kind on neighbours become one call, so
 * that mappings change once a run, not once a page; pages that move go together.  Threads: any; the calls take the lock.
 */
#include <stdlib.h>

#include "numa/counters.h"
#include "numa/policy.h"
#include "vmm/pager/pager.h"

/* First page that an action means, and how many. */
static uint64_t first_of(const struct action *a)
{
    return a->page & ~PAGE_BLOCK;
}

static uint64_t pages_of(const struct action *a)
{
    return a->page & PAGE_BLOCK ? PAGEMAP_BLOCK : 1;
}

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
        split_under(p, first_of(a), n);
    switch (a->act) {
    case ACT_MIGRATE:
        pager_migrate(p, first_of(a), n, a->node);
        break;
    case ACT_REPLICATE:
        pager_replicate(p, first_of(a), n, a->node);
        break;
    case ACT_EVICT:
        pager_evict(p, first_of(a), n, a->node);
        break;
    case ACT_COLLAPSE:
        if (a->node == a->from)
            pager_collapse(p, first_of(a), n);
        else
            pager_migrate(p, first_of(a), n, a->node);
        break;
    default:
        break;
    }
}

/* Whether what an action wants is so. */
static bool holds(const struct pager *p, const struct action *a)
{
    struct page_info u;

    if (first_of(a) >= pagemap_pages(pager_map(p)))
        return false;
    u = pagemap_get(pager_map(p), first_of(a));
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

/* When a kind's turn comes: what frees memory first. */
static int turn(const struct action *a)
{
    return a->act == ACT_EVICT ? -1 : a->act;
}

/* Order: kind, blocks that move behind pages, which go together, node, whether it has to move,
 * address. */
static int by_place(const void *x, const void *y)
{
    const struct action *a = x, *b = y;
    bool am = a->node != a->from, bm = b->node != b->from;
    bool ab = a->act == ACT_MIGRATE && a->page & PAGE_BLOCK;
    bool bb = b->act == ACT_MIGRATE && b->page & PAGE_BLOCK;

    if (a->act != b->act)
        return turn(a) < turn(b) ? -1 : 1;
    if (ab != bb)
        return ab < bb ? -1 : 1;
    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    if (a->act == ACT_COLLAPSE && am != bm)
        return am < bm ? -1 : 1;
    if (first_of(a) == first_of(b))
        return 0;
    return first_of(a) < first_of(b) ? -1 : 1;
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
        m[k] = (struct page_move){first_of(&a[k]), a[k].node};
    if (k)
        pager_migrate_pages(p, m, k);
    return k;
}

/* True if b goes on where a run that begins with a ends. */
static bool joins(const struct action *a, const struct action *b, uint64_t end)
{
    return a->act == b->act && a->node == b->node && first_of(b) == end &&
           pages_of(a) == pages_of(b) &&
           (a->act != ACT_COLLAPSE || (a->node == a->from) == (b->node == b->from));
}

/* Takes replications of pages that are yet to be watched out of n actions and has them watched; how
 * many are left.  The others stand behind. */
static unsigned only_unwritten(struct pager *p, struct action *acts, unsigned n)
{
    unsigned left = n;

    for (unsigned i = 0; i < left;) {
        struct action t = acts[i];

        if (t.act != ACT_REPLICATE || t.page & PAGE_BLOCK || pager_unwritten(p, first_of(&t))) {
            i++;
            continue;
        }
        acts[i] = acts[--left];
        acts[left] = t;
    }
    for (unsigned i = left; i < n; i++)
        pager_watch(p, first_of(&acts[i]));
    return left;
}

unsigned pager_act(struct pager *p, struct action *acts, unsigned n)
{
    unsigned good = 0;

    n = only_unwritten(p, acts, n);
    qsort(acts, n, sizeof(*acts), by_place);
    for (unsigned i = 0, next; i < n; i = next) {
        uint64_t end = first_of(&acts[i]) + pages_of(&acts[i]);

        next = i + move_some(p, &acts[i], n - i);
        if (next > i)
            continue;
        for (next = i + 1; next < n && joins(&acts[i], &acts[next], end); next++)
            end += pages_of(&acts[next]);
        act_on(p, &acts[i], end - first_of(&acts[i]));
    }
    for (unsigned i = 0; i < n; i++)
        if (holds(p, &acts[i])) {
            struct action t = acts[good];

            acts[good++] = acts[i];
            acts[i] = t;
        }
    return good;
}
