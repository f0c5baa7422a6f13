/* SPDX-License-Identifier: MIT */
/*
 * Migration: the master of a page comes to lie on another node.  It stays in the guest's own
 * store at its offset, so no mapping changes for good and a guest may have moved all of its
 * pages.
 *
 * By the kernel: move_pages(2) of the alias's addresses.  The kernel replaces all mappings of
 * the page by migration entries, at which every access waits, copies, and maps the new page;
 * pages that a transfer has pinned are passed over.  Views map the page too, so
 * MPOL_MF_MOVE_ALL is needed, which is CAP_SYS_NICE's.
 *
 * By copy, where that is refused.  T is a page in the target node's store, M the page in the own
 * one.
 *                               views                       the VMM's alias
 *   0 claim (no device writes)  M, all                      M; writers see the claim and wait
 *   1 bar all views             M, readers                  M
 *   2 copy M to T               M, readers                  M
 *   3 map T, one by one         M or T, readers             M or T
 *   4 free M, write T back      T, readers                  T; M is made anew, on the node
 *   5 map M, one by one         T or M, readers             T or M
 *   6 open all views            M, all                      M
 * Nobody writes from the end of 1 to the end of 5, and T and M are equal while anybody can see
 * both, so no write is lost and all read the same.  A writer is sent away: KVM_RUN returns
 * EFAULT and is called again when p->lock is free; what KVM itself writes comes to the VMM
 * (exits.c). Readers are never sent away: KVM could not fetch an instruction that it is to
 * emulate.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/pager/private.h"

enum { BATCH = PAGER_MOVES };

/* ---- by the kernel ---- */

bool move_allowed(const struct pager *p)
{
    void *page = p->spec.mem->alias;
    int node = 0, status = 0;

    /* whatever becomes of the page, EPERM is told first */
    return move_pages(0, 1, &page, &node, &status, MPOL_MF_MOVE_ALL) == 0 || errno != EPERM;
}

/* Notes that a private page moved. */
static void note(struct pager *p, uint64_t gfn, unsigned node)
{
    if (pagemap_claim(p->map, gfn, true))
        return;
    pagemap_move(p->map, gfn, node);
    pagemap_release(p->map, gfn);
}

/* Pages on their way. */
struct batch {
    unsigned n;           /* entries of all */
    uint64_t gfn[BATCH];  /* whole units, page after page */
    void *page[BATCH];    /* in the alias */
    int node[BATCH];      /* of the host */
    int status[BATCH];    /* the kernel's answers: a node, or -errno */
    uint8_t index[BATCH]; /* our node */
};

/* Notes what became of a batch; units of several pages count as moved when all of them did. */
static uint64_t note_all(struct pager *p, const struct batch *b)
{
    uint64_t done = 0;

    for (unsigned i = 0, unit; i < b->n; i += unit) {
        struct page_info u = pagemap_get(p->map, b->gfn[i]);
        int host = p->spec.node_host[b->index[i]];
        unsigned there = 0;

        unit = u.pages < b->n - i ? u.pages : b->n - i;
        for (unsigned k = 0; k < unit; k++)
            there += b->status[i + k] == host || host < 0;
        if (u.state != PAGE_PRIVATE || there < u.pages || u.node == b->index[i])
            continue;
        note(p, u.first, b->index[i]);
        done += unit;
    }
    return done;
}

/* Adds a page.  One that nobody has touched yet has no place to move from and is made: first of
 * all it must be in the alias's page table. */
static void add(const struct pager *p, struct batch *b, uint64_t gfn, unsigned node)
{
    unsigned i = b->n++;

    b->gfn[i] = gfn;
    b->page[i] = p->spec.mem->alias + (gfn << PAGE_SHIFT);
    b->index[i] = (uint8_t)node;
    b->node[i] = p->spec.node_host[node] < 0 ? 0 : p->spec.node_host[node];
    b->status[i] = -ENOENT;
    (void)*(volatile const uint8_t *)b->page[i];
}

/* Moves a batch; the call costs far more than a page (it empties queues of every CPU). */
static uint64_t by_kernel(struct pager *p, struct batch *b)
{
    if (!b->n || move_pages(0, b->n, b->page, b->node, b->status, MPOL_MF_MOVE_ALL) < 0)
        return 0;
    return note_all(p, b);
}

/* ---- by copy ---- */

/* Copies len bytes at gpa from where the alias maps them to a store; 0 or -errno. */
static int copy_to(const struct pager *p, uint64_t gpa, uint64_t len, int store)
{
    for (uint64_t at = 0; at < len;) {
        ssize_t n = pwrite(store, p->spec.mem->alias + gpa + at, len - at, (off_t)(gpa + at));

        if (n <= 0 && errno != EINTR)
            return n ? -errno : -ENOSPC;
        if (n > 0)
            at += (uint64_t)n;
    }
    return 0;
}

/* Maps a store into the alias; it never fails for want of mappings, which are kept free. */
static void alias_map(const struct pager *p, uint64_t gpa, uint64_t len, int store)
{
    struct guard_spec alias = {.base = p->spec.mem->alias, .huge = p->guard[0].spec.huge};

    INVARIANT(!guard_plain(&alias, gpa, len, PROT_READ | PROT_WRITE, store),
              "I1: the VMM's own mapping cannot be changed");
}

static void punch(int store, uint64_t gpa, uint64_t len)
{
    INVARIANT(
        !fallocate(store, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)gpa, (off_t)len),
        "I4: a page's memory cannot be given back");
}

/* From now on the own store's pages of a range come from a node of the host.  The policy
 * belongs to the file; set through a mapping made for it, as it would part those it is set on.
 * */
static void prefer(const struct pager *p, uint64_t gpa, uint64_t len, int host)
{
    unsigned long mask = host >= 0 && host < 64 ? 1ul << host : 0;
    void *at;

    if (!mask)
        return;
    at = mmap(NULL, len, PROT_NONE, MAP_SHARED, p->spec.mem->fd, (off_t)gpa);
    if (at == MAP_FAILED)
        return;
    if (mbind(at, len, MPOL_PREFERRED, &mask, 65, 0))
        log_debug("pager: mbind: %s", strerror(errno));
    munmap(at, len);
}

/* Steps 3 and 5: every view, and the alias, get another store's pages; readers may go on. */
static int map_all(const struct pager *p, uint64_t gpa, uint64_t len, int store)
{
    int e = 0;

    for (unsigned v = 0; v < p->nviews && !e; v++)
        e = guard_show(&p->guard[v], gpa, len, store);
    alias_map(p, gpa, len, store);
    return e;
}

/* Step 6, also when only some views came as far as step 1. */
static int open_all(const struct pager *p, uint64_t gpa, uint64_t len)
{
    int e = 0;

    for (unsigned v = 0; v < p->nviews && !e; v++)
        e = guard_settle(&p->guard[v], gpa, len, false);
    return e;
}

/* Steps 1 to 6 for claimed pages; 0 or -errno with everything as before. */
static int copy_run(struct pager *p, uint64_t gpa, uint64_t len, unsigned node)
{
    int e = 0;

    for (unsigned v = 0; v < p->nviews && !e; v++)
        e = guard_bar(&p->guard[v], gpa, len);
    if (!e)
        e = copy_to(p, gpa, len, p->store[node]);
    if (!e) {
        e = map_all(p, gpa, len, p->store[node]);
        if (!e) {
            prefer(p, gpa, len, p->spec.node_host[node]);
            punch(p->spec.mem->fd, gpa, len);
            INVARIANT(!copy_to(p, gpa, len, p->spec.mem->fd),
                      "I1: no memory to put a page back");
        }
        INVARIANT(!map_all(p, gpa, len, p->spec.mem->fd), "I1: a view cannot be mended");
    }
    punch(p->store[node], gpa, len);
    INVARIANT(!open_all(p, gpa, len), "I3: a view cannot be opened again");
    return e;
}

/* Claims pages from gfn on that are to move to a node, up to end; how many. */
static uint64_t claim_movable(struct pager *p, uint64_t gfn, uint64_t end, unsigned node)
{
    uint64_t n = 0;

    while (gfn + n < end) {
        struct page_info u = pagemap_get(p->map, gfn + n);

        if (u.first != gfn + n || u.first + u.pages > end || u.state != PAGE_PRIVATE ||
            u.node == node || pagemap_claim(p->map, u.first, false))
            break;
        n += u.pages;
    }
    return n;
}

/* Lets claimed pages go, which have moved to the node or not. */
static void let_go(struct pager *p, uint64_t gfn, uint64_t n, bool moved, unsigned node)
{
    for (uint64_t at = gfn; at < gfn + n; at += pagemap_get(p->map, at).pages) {
        if (moved)
            pagemap_move(p->map, at, node);
        pagemap_release(p->map, at);
    }
}

static uint64_t by_copy(struct pager *p, uint64_t gfn, uint64_t n, unsigned node)
{
    uint64_t done = 0, run;

    for (uint64_t at = gfn, end = gfn + n; at < end; at += run) {
        bool moved;

        run = claim_movable(p, at, end, node);
        if (!run) {
            struct page_info u = pagemap_get(p->map, at);

            run = u.first + u.pages - at; /* not this one */
            continue;
        }
        moved = !room_for(p, at, run, node) &&
                !copy_run(p, at << PAGE_SHIFT, run << PAGE_SHIFT, node);
        let_go(p, at, run, moved, node);
        done += moved ? run : 0;
    }
    return done;
}

uint64_t move_range(struct pager *p, uint64_t gfn, uint64_t n, unsigned node)
{
    uint64_t done = 0;

    if (!p->stats.kernel_moves)
        return by_copy(p, gfn, n, node);
    while (n) {
        struct batch b = {.n = 0};

        for (; n && b.n < BATCH; n--)
            add(p, &b, gfn++, node);
        done += by_kernel(p, &b);
    }
    return done;
}

uint64_t move_pages_of(struct pager *p, const struct page_move *m, unsigned n)
{
    uint64_t done = 0;
    struct batch b = {.n = 0};

    INVARIANT(n <= BATCH, "pager: so many pages are not moved at once");
    if (p->stats.kernel_moves) {
        for (unsigned i = 0; i < n; i++)
            add(p, &b, m[i].gfn, m[i].node);
        return by_kernel(p, &b);
    }
    for (unsigned i = 0; i < n; i++)
        done += by_copy(p, m[i].gfn, 1, m[i].node);
    return done;
}
