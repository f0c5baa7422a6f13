/* SPDX-License-Identifier: MIT */
/*
 * Where masters really are: asks the kernel and tells the map.  Who touches a page first
 * decides on its node, and the kernel may have put it elsewhere, so the map does not know by
 * itself. move_pages(2) tells of pages that the mapping asked about has in its page table: the
 * alias first, then the views.  The lock is held for one block at a time.
 */
#include <numaif.h>
#include <string.h>

#include "vmm/machine/machine.h"
#include "vmm/pager/private.h"

enum { BATCH = PAGEMAP_BLOCK, NOWHERE = -1 };

/* Our node of a host's, NOWHERE: none of ours. */
static int index_of(const struct pager *p, int host)
{
    for (unsigned n = 0; n < p->spec.nnodes && host >= 0; n++)
        if (p->spec.node_host[n] == host)
            return (int)n;
    return NOWHERE;
}

/* Asks one mapping about those of n pages whose node is not known. */
static void ask(const struct pager *p, uint8_t *base, uint64_t gfn, unsigned n, int *node)
{
    void *pages[BATCH];
    int status[BATCH];
    unsigned at[BATCH], open = 0;

    for (unsigned i = 0; i < n; i++)
        if (node[i] == NOWHERE) {
            at[open] = i;
            pages[open++] = base + ((gfn + i) << PAGE_SHIFT);
        }
    if (!open || move_pages(0, open, pages, NULL, status, 0))
        return;
    for (unsigned i = 0; i < open; i++)
        node[at[i]] = index_of(p, status[i]);
}

/* The node that most of n pages are on; NOWHERE: no page is there. */
static int most(const int *node, unsigned n)
{
    unsigned count[PAGEMAP_NODES] = {0}, best = 0;

    for (unsigned i = 0; i < n; i++)
        if (node[i] != NOWHERE)
            count[node[i]]++;
    for (unsigned i = 1; i < PAGEMAP_NODES; i++)
        if (count[i] > count[best])
            best = i;
    return count[best] ? (int)best : NOWHERE;
}

/* Does n pages, all of one block. */
static uint64_t locate(struct pager *p, uint64_t gfn, unsigned n)
{
    int node[BATCH];
    uint64_t known = 0;

    for (unsigned i = 0; i < n; i++)
        node[i] = NOWHERE;
    ask(p, p->spec.mem->alias, gfn, n, node);
    for (unsigned v = 0; v < p->nviews; v++)
        ask(p, p->spec.mem->view[v], gfn, n, node);
    for (unsigned i = 0, unit; i < n; i += unit) {
        struct page_info u = pagemap_get(p->map, gfn + i);
        int at;

        unit = u.pages < n - i ? u.pages : n - i;
        at = most(node + i, unit);
        if (at == NOWHERE || u.state != PAGE_PRIVATE)
            continue;
        known += unit;
        if (u.node != at)
            pagemap_place(p->map, u.first, (unsigned)at);
    }
    return known;
}

/* Notes that a page is on a node; a whole block of which that is not true is looked at whole. */
static void place(struct pager *p, uint64_t gfn, unsigned node)
{
    struct page_info u = pagemap_get(p->map, gfn);

    if (u.state != PAGE_PRIVATE || u.node == node)
        return;
    if (u.pages > 1 && !pagemap_split(p->map, gfn))
        locate(p, u.first, u.pages);
    else
        pagemap_place(p->map, gfn, node);
}

/* The first view of a node. */
static unsigned view_on(const struct pager *p, unsigned node)
{
    unsigned v = 0;

    while (v + 1 < p->nviews && p->spec.view_node[v] != node)
        v++;
    return v;
}

void pager_locate_touched(struct pager *p, const struct pager_touch *touch, unsigned n)
{
    void *pages[BATCH];
    int status[BATCH];

    for (unsigned part; n; n -= part, touch += part) {
        uint64_t since;

        part = n < BATCH ? n : BATCH;
        for (unsigned i = 0; i < part; i++)
            pages[i] =
                p->spec.mem->view[view_on(p, touch[i].node)] + (touch[i].gfn << PAGE_SHIFT);
        if (move_pages(0, part, pages, NULL, status, 0))
            continue;
        since = enter(p, false);
        for (unsigned i = 0; i < part; i++)
            if (index_of(p, status[i]) != NOWHERE)
                place(p, touch[i].gfn, (unsigned)index_of(p, status[i]));
        leave(p, since);
    }
}

void pager_place(struct pager *p, uint64_t gfn, unsigned node)
{
    uint64_t since = enter(p, false);

    if (clip(p, gfn, 1) && node < p->spec.nnodes)
        place(p, gfn, node);
    leave(p, since);
}

uint64_t pager_locate(struct pager *p, uint64_t gfn, uint64_t n)
{
    uint64_t known = 0, end = gfn + clip(p, gfn, n);

    for (unsigned part; gfn < end; gfn += part) {
        uint64_t since = enter(p, false);

        part = PAGEMAP_BLOCK - gfn % PAGEMAP_BLOCK;
        if (part > end - gfn)
            part = (unsigned)(end - gfn);
        known += locate(p, gfn, part);
        leave(p, since);
    }
    return known;
}
