/* SPDX-License-Identifier: MIT */
/*
 * A node's memory follows it: what lies on one node of the host goes to another, block by block,
 * for a guest whose home changes.  With a pager its map stays as it is, since a node of its own
 * only gets another number; replicas there are dropped, being cheaper to make than to move.
 *
 * Pages move by move_pages(2) of the alias, whoever maps them (MPOL_MF_MOVE_ALL; CAP_SYS_NICE).
 * Only what is in memory is looked at (SEEK_DATA), so nothing is made for the sake of moving it.
 * Threads: any one; the pager's lock is taken for a block at a time.
 */
#include <errno.h>
#include <numaif.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/machine/machine.h"
#include "vmm/pager/private.h"
#include "vmm/pager/settle.h"

enum { BATCH = PAGEMAP_BLOCK };

/* Pages of a block that are to move. */
struct settle {
    unsigned n;        /* entries of all */
    void *page[BATCH]; /* in the alias */
    int status[BATCH]; /* where each is, or -errno */
    int target[BATCH]; /* where it goes */
};

/* Adds the pages of a block that are in memory. */
static void add_data(const struct guest_mem *m, struct settle *s, uint64_t gpa, uint64_t end)
{
    while (gpa < end && s->n < BATCH) {
        off_t data = lseek(m->fd, (off_t)gpa, SEEK_DATA), hole;

        if (data < 0 || (uint64_t)data >= end)
            return;
        hole = lseek(m->fd, data, SEEK_HOLE);
        if (hole < 0 || (uint64_t)hole > end)
            hole = (off_t)end;
        (void)madvise(m->alias + data, (size_t)(hole - data), MADV_POPULATE_READ);
        for (gpa = (uint64_t)data & ~(MEM_PAGE - 1); gpa < (uint64_t)hole && s->n < BATCH;
             gpa += MEM_PAGE)
            s->page[s->n++] = m->alias + gpa;
    }
}

/* Moves those pages of a block that are on a node; how many did. */
static int64_t move_block(const struct guest_mem *m, uint64_t gpa, uint64_t end, int from,
                          int to)
{
    struct settle s = {.n = 0};
    unsigned k = 0;
    int64_t moved = 0;

    add_data(m, &s, gpa, end);
    if (!s.n)
        return 0;
    if (move_pages(0, s.n, s.page, NULL, s.status, 0))
        return -errno;
    for (unsigned i = 0; i < s.n; i++)
        if (s.status[i] == from)
            s.page[k++] = s.page[i];
    for (unsigned i = 0; i < k; i++) {
        s.target[i] = to;
        s.status[i] = -ENOENT;
    }
    if (k && move_pages(0, k, s.page, s.target, s.status, MPOL_MF_MOVE_ALL) < 0)
        return -errno;
    for (unsigned i = 0; i < k; i++)
        moved += s.status[i] == to;
    return moved;
}

/* Bytes of RAM from gpa on, at most to the end of its block. */
static uint64_t block_end(const struct guest_mem *m, uint64_t gpa)
{
    uint64_t end = (gpa | ((uint64_t)PAGEMAP_BLOCK * MEM_PAGE - 1)) + 1;
    uint64_t ram = gpa < m->low ? m->low : MEM_HIGH + m->high;

    return end < ram ? end : ram;
}

int64_t settle_block(struct guest_mem *m, struct pager *p, uint64_t gpa, int from, int to)
{
    uint64_t since;
    int64_t moved;

    if (!p)
        return move_block(m, gpa, block_end(m, gpa), from, to);
    for (unsigned n = 0; n < p->spec.nnodes; n++)
        if (p->spec.node_host[n] == to)
            (void)pager_evict(p, gpa >> PAGE_SHIFT, PAGEMAP_BLOCK, n);
    since = enter(p, false);
    moved = move_block(m, gpa, block_end(m, gpa), from, to);
    if (moved > 0)
        p->stats.settled += (uint64_t)moved;
    leave(p, since);
    return moved;
}

int pager_rehome(struct pager *p, int from, int to, struct err *err)
{
    uint64_t since = enter(p, false);
    int r = 0;

    for (unsigned n = 0; n < p->spec.nnodes && !r; n++) {
        if (p->spec.node_host[n] != from)
            continue;
        p->spec.node_host[n] = to;
        r = bind_store(p, n, err);
        for (unsigned v = 0; v < p->nviews; v++)
            if (p->spec.pin && p->spec.view_node[v] == n)
                guard_rehome(&p->guard[v], to);
    }
    p->free_ns = 0; /* another node's free memory counts */
    leave(p, since);
    return r;
}
