/* SPDX-License-Identifier: MIT */
/*
 * All policies, and those that never move a page.  No state.
 */
#include <string.h>

#include "numa/policy_judge.h"

/* As the guest was placed: an even share of its memory, in order, on each node. */
unsigned home_spread(const struct policy *p, uint64_t page, uint64_t pages, unsigned toucher)
{
    uint64_t gfn = page & ~PAGE_BLOCK;

    (void)toucher;
    return pages && gfn < pages ? (unsigned)(gfn * p->machine->nnodes / pages) : 0;
}

/* One page, or block, to each node in turn. */
unsigned home_interleave(const struct policy *p, uint64_t page, uint64_t pages,
                         unsigned toucher)
{
    uint64_t number = page & PAGE_BLOCK ? (page & ~PAGE_BLOCK) >> 9 : page;

    (void)pages;
    (void)toucher;
    return (unsigned)(number % p->machine->nnodes);
}

/* Where it is first touched. */
unsigned home_toucher(const struct policy *p, uint64_t page, uint64_t pages, unsigned toucher)
{
    (void)p;
    (void)page;
    (void)pages;
    return toucher;
}

const struct policy_ops *policy_by_name(const char *name)
{
    for (const struct policy_ops *o = policies; o->name; o++)
        if (!strcmp(o->name, name))
            return o;
    return NULL;
}

const struct policy_ops policies[] = {
    {.name = "replicate",
     .about = "pages move to the node that uses them, are copied to nodes that read them",
     .home = home_toucher,
     .begin = begin_unless_quiet,
     .judge = judge_replicate},
    {.name = "migrate",
     .about = "pages move to the node that uses them",
     .home = home_toucher,
     .begin = begin_unless_quiet,
     .judge = judge_migrate},
    {.name = "first-touch",
     .about = "pages stay where they are touched first",
     .home = home_toucher},
    {.name = "interleave",
     .about = "pages go to the nodes in turn and stay",
     .home = home_interleave},
    {.name = "none", .about = "pages stay where the guest was placed", .home = home_spread},
    {.name = "carrefour",
     .about = "as published: Dashti et al., ASPLOS 2013",
     .every_ns = UINT64_C(1000000000),
     .resets = true,
     .blind = true,
     .home = home_toucher,
     .begin = begin_carrefour,
     .judge = judge_carrefour},
    {0},
};
