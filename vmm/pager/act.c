/* SPDX-License-Identifier: MIT */
/*
 * Does what a policy said (numa/policy.h): actions of one kind on neighbours become one call, so
 * that mappings change once a run, not once a page.  Threads: any; the calls take the lock.
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

/* Does the action of a on n pages from its first on. */
static void act_on(struct pager *p, const struct action *a, uint64_t n)
{
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

/* Order: kind, node, whether it has to move, address. */
static int by_place(const void *x, const void *y)
{
    const struct action *a = x, *b = y;
    bool am = a->node != a->from, bm = b->node != b->from;

    if (a->act != b->act)
        return a->act < b->act ? -1 : 1;
    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    if (a->act == ACT_COLLAPSE && am != bm)
        return am < bm ? -1 : 1;
    if (first_of(a) == first_of(b))
        return 0;
    return first_of(a) < first_of(b) ? -1 : 1;
}

/* True if b goes on where a run that begins with a ends. */
static bool joins(const struct action *a, const struct action *b, uint64_t end)
{
    return a->act == b->act && a->node == b->node && first_of(b) == end &&
           (a->act != ACT_COLLAPSE || (a->node == a->from) == (b->node == b->from));
}

unsigned pager_act(struct pager *p, struct action *acts, unsigned n)
{
    unsigned good = 0;

    qsort(acts, n, sizeof(*acts), by_place);
    for (unsigned i = 0, next; i < n; i = next) {
        uint64_t end = first_of(&acts[i]) + pages_of(&acts[i]);

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
