/* SPDX-License-Identifier: MIT */
/*
 * A node's memory follows it: what lies on one node of the host goes to another, block by block,
 * for a guest whose home changes.  With a pager its map stays as it is, since a node of its own
 * only gets another number; replicas there are dropped, being cheaper to make than to move.
 *
 * Pages move by move_pages(2) of the alias, whoever maps them (MPOL_MF_MOVE_ALL; CAP_SYS_NICE).
 * Only what is in memory is looked at (SEEK_DATA), so nothing is made for the sake of moving it.
 *
 * Threads: any one.  The pager's lock is taken for a piece of a block at a time, as many pages as
 * go in about HOLD_NS: writers, and io0 with its figures, wait for it.  A page takes 5 us on most
 * machines, so that pieces are whole blocks, but each asks all CPUs that map it to forget it, and
 * where those are slow to answer (emulated, more CPUs than there are) it was 13 ms.
 */
#include <errno.h>
#include <numaif.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/machine/machine.h"
#include "vmm/pager/private.h"
#include "vmm/pager/settle.h"

enum {
    BATCH = PAGEMAP_BLOCK,
    LEAST = 16,        /* pages of a piece: each call drains all CPUs' lists first */
    HOLD_NS = 5000000, /* for which a piece may have the lock */
};

/* Pages of a piece that are to move. */
struct piece {
    unsigned n;        /* entries of all */
    void *page[BATCH]; /* in the alias */
    int status[BATCH]; /* where each is, or -errno */
    int target[BATCH]; /* where it goes */
};

/* Adds the pages of a piece that are in memory. */
static void add_data(const struct guest_mem *m, struct piece *s, uint64_t gpa, uint64_t end)
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

/* Moves those pages of a piece that are on a node; how many did. */
static int64_t move_piece(const struct guest_mem *m, uint64_t gpa, uint64_t end,
                          const struct settle *to)
{
    struct piece s = {.n = 0};
    unsigned k = 0;
    int64_t moved = 0;

    add_data(m, &s, gpa, end);
    if (!s.n)
        return 0;
    if (move_pages(0, s.n, s.page, NULL, s.status, 0))
        return -errno;
    for (unsigned i = 0; i < s.n; i++)
        if (s.status[i] == to->from)
            s.page[k++] = s.page[i];
    for (unsigned i = 0; i < k; i++) {
        s.target[i] = to->to;
        s.status[i] = -ENOENT;
    }
    if (k && move_pages(0, k, s.page, s.target, s.status, MPOL_MF_MOVE_ALL) < 0)
        return -errno;
    for (unsigned i = 0; i < k; i++)
        moved += s.status[i] == to->to;
    return moved;
}

/* Bytes of RAM from gpa on, at most to the end of its block. */
static uint64_t block_end(const struct guest_mem *m, uint64_t gpa)
{
    uint64_t end = (gpa | ((uint64_t)PAGEMAP_BLOCK * MEM_PAGE - 1)) + 1;
    uint64_t ram = gpa < m->low ? m->low : MEM_HIGH + m->high;

    return end < ram ? end : ram;
}

/* The next piece is to take about as long as it may. */
static void pace(struct settle *s, uint64_t took_ns)
{
    if (took_ns > HOLD_NS && s->pages > LEAST)
        s->pages /= 2;
    else if (took_ns < HOLD_NS / 4 && s->pages < BATCH)
        s->pages *= 2;
}

/* One piece, with the pager's lock, if there is one. */
static int64_t settle_piece(struct guest_mem *m, struct pager *p, struct settle *s,
                            uint64_t gpa, uint64_t end)
{
    uint64_t since = p ? enter_last(p) : machine_now_ns();
    int64_t moved = move_piece(m, gpa, end, s);

    if (moved)
        pace(s, machine_now_ns() - since);
    if (p && moved > 0)
        p->stats.settled += (uint64_t)moved;
    if (p)
        leave(p, since);
    return moved;
}

void settle_init(struct settle *s, int from, int to, const atomic_bool *stop)
{
    *s = (struct settle){.from = from, .to = to, .stop = stop, .pages = LEAST};
}

int64_t settle_block(struct guest_mem *m, struct pager *p, struct settle *s, uint64_t gpa)
{
    uint64_t all = block_end(m, gpa), end;
    int64_t moved = 0, r = 0;

    for (unsigned n = 0; p && n < p->spec.nnodes; n++)
        if (p->spec.node_host[n] == s->to)
            (void)pager_evict(p, gpa >> PAGE_SHIFT, PAGEMAP_BLOCK, n);
    for (; gpa < all && r >= 0 && !atomic_load(s->stop); gpa = end) {
        end = gpa + s->pages * MEM_PAGE;
        if (end > all)
            end = all;
        r = settle_piece(m, p, s, gpa, end);
        moved += r;
    }
    return r < 0 ? r : moved;
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
