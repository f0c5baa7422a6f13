/* SPDX-License-Identifier: MIT */
/*
 * Replicate, collapse, evict: how the mappings of a run of pages change under a running guest.
 *
 * The argument: no write is lost, and no two nodes see different bytes (I1, I3).
 * M is the page in the guest's own store, R a copy in a node's store.  Three kinds of writers:
 * vCPUs and KVM write through views, the VMM through the alias of M.  One change at a time is
 * made, under p->lock.  A mapping that the kernel has changed is changed for every CPU when the
 * system call returns: the TLBs of the host and, by MMU notifiers, those of guests are flushed.
 *
 *   replicate on node n          views of n                  other views          the VMM
 *   0 claim                      M, writable                 M, writable          see below
 *   1 protect every view         M, a writer waits           M, a writer waits    waits
 *   2 copy M to R                M, a writer waits           M, a writer waits    waits
 *   3 map R, view by view        M or R, a writer waits      M, a writer waits    waits
 *   4 state REPLICATED, unlock   R, a writer waits           M, a writer waits    collapses
 * M does not change from the end of 1 on: so R is equal to it at the end of 2, and whichever of
 * the two a view has in 3, all read the same.  A write that was under way in 1 was made before
 * the protection came and is in M when it is copied, or it faults and is made later: neither is
 * lost.
 *
 *   collapse                     views with R                views with M
 *   1 map M back, view by view   R or M, a writer waits      M, a writer waits
 *   2 the last view with R       M, writable                 M, a writer waits
 *   3 open every view            M, writable                 M, writable
 *   4 state PRIVATE; free R, wake who waited, unlock
 * M does not change before every view has M, so nobody ever reads an old R beside a new M.
 *
 *   evict of one replica while others stay: as step 1 of the collapse for the views of that
 *   node, and M is mapped protected.  Of the last replica: a collapse.
 *
 * The VMM's writes.  mem_at(..., MEM_WRITE) pins the block, then looks whether anything in it is
 * watched; a claim makes the block watched, then looks for pins (numa/pagemap.h).  So
 * either the claim in 0 sees the pin and gives up; or the writer sees the claim, waits for
 * p->lock, collapses, and writes while its pin keeps others from claiming.  A transfer by the
 * kernel into guest memory (io_uring) is such a write until mem_done().
 *
 * Who waits for whom.  A vCPU at a protected page waits, inside KVM_RUN, for the guard's thread;
 * that, a vCPU's own thread where it resolves faults, and device threads wait for p->lock.  Who
 * holds p->lock waits for the kernel alone: it touches guest memory through the alias and the
 * stores' descriptors, which are never protected, takes no other lock of ours, and a flush of
 * TLBs waits for CPUs to leave guest mode, which they do on an interrupt, whatever their thread
 * waits for next. So nobody waits in a circle.  An emulated instruction of the guest that KVM
 * cannot complete (on_vcpu) comes to the VMM as an access to device memory and is done as one
 * of its own writes (exits.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/counters.h"
#include "vmm/machine/machine.h"
#include "vmm/pager/private.h"

enum {
    RUN_MAX = 512,   /* pages that are changed in one piece, so under the lock */
    GIVE_WAY = 1000, /* how often an action lets writers go first */
    LAST_NAPS = 200, /* how often who is last lets others go first, */
    NAP_NS = 50000   /* and for how long each time */
};

/* Pages in work: neighbours, all in the same state and units of one size, all claimed. */
struct run {
    uint64_t gfn, n;       /* first, and how many */
    uint64_t end;          /* where the caller's range ends */
    struct page_info like; /* what they were; first and pages are the first unit's */
};

/* ---- runs ---- */

/* Pages from gfn on that are RAM without a gap; 0: gfn is not. */
static uint64_t ram_from(const struct guest_mem *m, uint64_t gfn)
{
    uint64_t low = m->low >> PAGE_SHIFT, high = MEM_HIGH >> PAGE_SHIFT;
    uint64_t end = high + (m->high >> PAGE_SHIFT);

    if (gfn < low)
        return low - gfn;
    return gfn >= high && gfn < end ? end - gfn : 0;
}

/* The unit at gfn.  A whole block of which less than [gfn, end) is wanted is split, if there is
 * memory for it. */
static struct page_info unit_at(struct pager *p, uint64_t gfn, uint64_t end)
{
    struct page_info u = pagemap_get(p->map, gfn);

    if (u.pages == 1 || (gfn == u.first && end >= u.first + u.pages))
        return u;
    if (pagemap_split(p->map, gfn))
        log_debug("pager: no memory to split a block");
    return pagemap_get(p->map, gfn);
}

/* Whether a unit may be in one run with others. */
static bool same(const struct page_info *a, const struct page_info *b)
{
    return a->state == b->state && a->replicas == b->replicas && a->node == b->node &&
           a->store == b->store;
}

/* Claims the run that begins at r->gfn; r->n = 0 and the pages to pass over if there is none. */
static uint64_t claim_run(struct pager *p, struct run *r, bool back,
                          bool (*fits)(const struct page_info *u, unsigned node), unsigned node)
{
    struct page_info u = unit_at(p, r->gfn, r->end);
    uint64_t pass = u.first + u.pages - r->gfn;

    r->like = u;
    r->n = 0;
    while (r->gfn + r->n < r->end && r->n < RUN_MAX && same(&u, &r->like) &&
           u.pages == r->like.pages) {
        if (u.first != r->gfn + r->n || u.first + u.pages > r->end || !fits(&u, node) ||
            pagemap_claim(p->map, u.first, back))
            break;
        r->n += u.pages;
        if (r->gfn + r->n < r->end)
            u = unit_at(p, r->gfn + r->n, r->end);
    }
    return r->n ? r->n : pass;
}

/* Does something to each unit of a run. */
static void each_unit(struct pager *p, const struct run *r,
                      void (*what)(struct pagemap *m, uint64_t gfn, unsigned node),
                      unsigned node)
{
    for (uint64_t at = 0; at < r->n; at += r->like.pages)
        what(p->map, r->gfn + at, node);
}

static void let_go(struct pagemap *m, uint64_t gfn, unsigned node)
{
    (void)node;
    pagemap_release(m, gfn);
}

static void collapsed(struct pagemap *m, uint64_t gfn, unsigned node)
{
    (void)node;
    pagemap_collapse(m, gfn);
    pagemap_release(m, gfn);
}

static void evicted(struct pagemap *m, uint64_t gfn, unsigned node)
{
    pagemap_evict(m, gfn, node);
    pagemap_release(m, gfn);
}

static void replicated(struct pagemap *m, uint64_t gfn, unsigned node)
{
    pagemap_replicate(m, gfn, node);
    pagemap_release(m, gfn);
}

/* Gives back the memory of a node's replicas. */
static void drop_copies(const struct pager *p, const struct run *r, unsigned node)
{
    int e = fallocate(p->store[node], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)(r->gfn << PAGE_SHIFT), (off_t)(r->n << PAGE_SHIFT));

    INVARIANT(!e, "I4: a replica's memory cannot be given back");
}

/* ---- collapse ---- */

/* A run on its way back. */
struct back {
    uint64_t gpa, len; /* bytes */
    uint64_t nodes;    /* whose views have a replica */
    bool protected;    /* it stays replicated elsewhere */
};

/* True if the view is one to take the replica from. */
static bool concerned(const struct pager *p, const struct back *b, unsigned view)
{
    return b->nodes >> p->spec.view_node[view] & 1 && (int)view != p->spec.forget_view;
}

/* Maps the master into all views that have a replica.  0 or the first error. */
static int map_back(struct pager *p, const struct back *b, int *open)
{
    unsigned left = 0;
    int r = 0;

    *open = -1;
    for (unsigned v = 0; v < p->nviews; v++)
        left += concerned(p, b, v);
    for (unsigned v = 0; v < p->nviews && !r; v++) {
        if (!concerned(p, b, v))
            continue;
        if (b->protected) {
            r = guard_map(&p->guard[v], b->gpa, b->len, p->spec.mem->fd);
            continue;
        }
        if (!--left)
            *open = (int)v; /* every other view has the master already */
        r = guard_back(&p->guard[v], b->gpa, b->len, !left);
    }
    return r;
}

/* Opens a run in all views, each of which has the master. */
static int open_all(struct pager *p, const struct back *b, int open)
{
    int r = 0;

    for (unsigned v = 0; v < p->nviews && !r; v++) {
        if (concerned(p, b, v))
            r = guard_settle(&p->guard[v], b->gpa, b->len, open == (int)v);
        else
            r = guard_open(&p->guard[v], b->gpa, b->len);
    }
    return r;
}

/* Takes replicas of a claimed run back. */
static void take_back(struct pager *p, const struct run *r, const struct back *b)
{
    int open, e = map_back(p, b, &open);

    if (!e && !b->protected)
        e = open_all(p, b, open);
    INVARIANT(!e, "I3: the kernel refuses to map a page back; its writer would wait for ever");
    for (unsigned n = 0; n < p->spec.nnodes; n++)
        if (b->nodes >> n & 1) {
            room_count(p, r->gfn, r->n, n, false);
            if (p->spec.forget_view < 0)
                drop_copies(p, r, n);
        }
    p->stats.replicas -= r->n * (unsigned)__builtin_popcountll(b->nodes);
}

static bool can_collapse(const struct page_info *u, unsigned node)
{
    (void)node;
    return u->state == PAGE_REPLICATED;
}

/* Where mappings are scarce a run is collapsed with its neighbours, which never needs a new one:
 * takes all into the range that are as the replicated unit it begins with. */
static void widen(const struct pager *p, struct run *r)
{
    struct page_info first = pagemap_get(p->map, r->gfn), u;
    uint64_t end = first.first + first.pages;

    if (!can_collapse(&first, 0))
        return;
    r->gfn = first.first;
    while (r->gfn) {
        u = pagemap_get(p->map, r->gfn - 1);
        if (!same(&u, &first))
            break;
        r->gfn = u.first;
    }
    while (end < pagemap_pages(p->map)) {
        u = pagemap_get(p->map, end);
        if (!same(&u, &first))
            break;
        end = u.first + u.pages;
    }
    if (r->end < end)
        r->end = end;
}

uint64_t collapse_range(struct pager *p, uint64_t gfn, uint64_t n)
{
    struct page_info u = pagemap_get(p->map, gfn), last = pagemap_get(p->map, gfn + n - 1);
    struct run r = {.gfn = u.first, .end = last.first + last.pages};
    uint64_t done = 0;

    if (room_scarce(p))
        widen(p, &r);
    while (r.gfn < r.end) {
        uint64_t step = claim_run(p, &r, true, can_collapse, 0);
        struct back b = {
            .gpa = r.gfn << PAGE_SHIFT, .len = r.n << PAGE_SHIFT, .nodes = r.like.replicas};

        if (r.n) {
            take_back(p, &r, &b);
            each_unit(p, &r, collapsed, 0);
            done += r.n;
        }
        r.gfn += step;
    }
    p->stats.collapsed += done;
    return done;
}

/* ---- replicate ---- */

static bool can_replicate(const struct page_info *u, unsigned node)
{
    return u->state != PAGE_SHARED && u->node != node && !(u->replicas >> node & 1);
}

/* Protects a run in every view, where it was watched before as a rule, or opens it again. */
static int protect_all(struct pager *p, const struct run *r, bool on)
{
    uint64_t gpa = r->gfn << PAGE_SHIFT, len = r->n << PAGE_SHIFT;
    int e = 0;

    for (unsigned v = 0; v < p->nviews && !e; v++)
        e = on ? guard_protect_again(&p->guard[v], gpa, len)
               : guard_open(&p->guard[v], gpa, len);
    return e;
}

/* Copies a run from the own store, which nobody writes now. */
static int copy_out(const struct pager *p, const struct run *r, unsigned node)
{
    uint64_t at = r->gfn << PAGE_SHIFT, end = at + (r->n << PAGE_SHIFT);

    while (at < end) {
        ssize_t n = pwrite(p->store[node], p->spec.mem->alias + at, end - at, (off_t)at);

        if (n <= 0 && errno != EINTR)
            return n ? -errno : -ENOSPC;
        if (n > 0)
            at += (uint64_t)n;
    }
    return 0;
}

/* Maps a copied run into the views of a node; all or none. */
static int map_copies(struct pager *p, const struct run *r, unsigned node)
{
    uint64_t gpa = r->gfn << PAGE_SHIFT, len = r->n << PAGE_SHIFT;
    int e = 0;

    for (unsigned v = 0; v < p->nviews && !e; v++)
        if (p->spec.view_node[v] == node)
            e = guard_map(&p->guard[v], gpa, len, p->store[node]);
    for (unsigned v = 0; v < p->nviews && !e; v++)
        if (p->spec.view_node[v] == node)
            guard_fill(&p->guard[v], gpa, len);
    if (!e)
        return 0;
    for (unsigned v = 0; v < p->nviews; v++)
        if (p->spec.view_node[v] == node)
            INVARIANT(!guard_map(&p->guard[v], gpa, len, p->spec.mem->fd),
                      "I1: a view that got a replica by half cannot be mended");
    return e;
}

/* Steps 1 to 4 for a claimed run; 0 or -errno with everything as before. */
static int replicate_run(struct pager *p, const struct run *r, unsigned node)
{
    bool first = r->like.state == PAGE_PRIVATE;
    int e = first ? protect_all(p, r, true) : 0;

    if (!e)
        e = copy_out(p, r, node);
    if (!e)
        e = map_copies(p, r, node);
    if (!e) {
        room_count(p, r->gfn, r->n, node, true);
        watch_drop(p, r->gfn, r->n);
        each_unit(p, r, replicated, node);
        p->stats.replicated += r->n;
        p->stats.replicas += r->n;
        return 0;
    }
    drop_copies(p, r, node);
    if (first)
        (void)protect_all(p, r, false);
    each_unit(p, r, let_go, 0);
    return e;
}

/* ---- evict ---- */

static bool can_evict(const struct page_info *u, unsigned node)
{
    return u->state == PAGE_REPLICATED && u->replicas >> node & 1;
}

static void evict_run(struct pager *p, const struct run *r, unsigned node)
{
    struct back b = {.gpa = r->gfn << PAGE_SHIFT,
                     .len = r->n << PAGE_SHIFT,
                     .nodes = 1ull << node,
                     .protected = (r->like.replicas & ~(1ull << node)) != 0};

    take_back(p, r, &b);
    each_unit(p, r, evicted, node);
    p->stats.evicted += r->n;
}

/* ---- for all threads ---- */

uint64_t enter(struct pager *p, bool urgent)
{
    if (urgent)
        atomic_fetch_add(&p->urgent, 1);
    else
        for (unsigned i = 0; i < GIVE_WAY && atomic_load(&p->urgent); i++)
            sched_yield();
    atomic_fetch_add(&p->wait, 1);
    pthread_mutex_lock(&p->lock);
    atomic_fetch_sub(&p->wait, 1);
    if (urgent)
        atomic_fetch_sub(&p->urgent, 1);
    else
        p->changes++;
    return machine_now_ns();
}

uint64_t enter_last(struct pager *p)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};

    for (unsigned i = 0; i < LAST_NAPS && atomic_load(&p->wait); i++)
        nanosleep(&nap, NULL);
    pthread_mutex_lock(&p->lock);
    p->changes++;
    return machine_now_ns();
}

void leave(struct pager *p, uint64_t since)
{
    p->stats.busy_ns += machine_now_ns() - since;
    pthread_mutex_unlock(&p->lock);
}

uint64_t clip(const struct pager *p, uint64_t gfn, uint64_t n)
{
    uint64_t ram = ram_from(p->spec.mem, gfn);

    return n < ram ? n : ram;
}

/* One piece of pager_replicate(): pages passed, *done of them replicated. */
static uint64_t replicate_some(struct pager *p, struct run *r, unsigned node, uint64_t *done)
{
    uint64_t since = enter(p, false), step = claim_run(p, r, false, can_replicate, node);
    int e = -EBUSY;

    if (r->n) {
        e = room_for(p, r->gfn, r->n, node);
        if (e)
            each_unit(p, r, let_go, 0);
        else
            e = replicate_run(p, r, node);
    }
    if (e)
        p->stats.refused += step;
    else
        *done += r->n;
    leave(p, since);
    return step;
}

uint64_t pager_replicate(struct pager *p, uint64_t gfn, uint64_t n, unsigned node)
{
    struct run r = {.gfn = gfn, .end = gfn + clip(p, gfn, n)};
    uint64_t done = 0;

    while (node < p->spec.nnodes && r.gfn < r.end)
        r.gfn += replicate_some(p, &r, node, &done);
    return done;
}

/* Splits the blocks that begin before or end behind [gfn, end). */
static void split_edges(struct pager *p, uint64_t gfn, uint64_t end)
{
    struct page_info last = pagemap_get(p->map, end - 1);

    (void)unit_at(p, gfn, end);
    if (last.first + last.pages > end)
        (void)pagemap_split(p->map, end - 1);
}

uint64_t pager_collapse(struct pager *p, uint64_t gfn, uint64_t n)
{
    uint64_t end = gfn + clip(p, gfn, n), done = 0;

    for (uint64_t part; gfn < end; gfn += part) {
        uint64_t since = enter(p, false);

        part = end - gfn < RUN_MAX ? end - gfn : RUN_MAX;
        split_edges(p, gfn, gfn + part);
        done += collapse_range(p, gfn, part);
        leave(p, since);
    }
    return done;
}

uint64_t pager_evict(struct pager *p, uint64_t gfn, uint64_t n, unsigned node)
{
    struct run r = {.gfn = gfn, .end = gfn + clip(p, gfn, n)};
    uint64_t done = 0;

    while (node < p->spec.nnodes && r.gfn < r.end) {
        uint64_t since = enter(p, false), step = claim_run(p, &r, true, can_evict, node);

        if (r.n)
            evict_run(p, &r, node);
        done += r.n;
        r.gfn += step;
        leave(p, since);
    }
    return done;
}

uint64_t pager_migrate(struct pager *p, uint64_t gfn, uint64_t n, unsigned node)
{
    uint64_t end = gfn + clip(p, gfn, n), done = 0;

    for (uint64_t part; node < p->spec.nnodes && gfn < end; gfn += part) {
        uint64_t since = enter(p, false), moved;

        part = RUN_MAX - gfn % RUN_MAX;
        if (part > end - gfn)
            part = end - gfn;
        split_edges(p, gfn, gfn + part);
        collapse_range(p, gfn, part);
        moved = move_range(p, gfn, part, node);
        p->stats.migrated += moved;
        p->stats.refused += part - moved;
        done += moved;
        leave(p, since);
    }
    return done;
}

uint64_t pager_migrate_pages(struct pager *p, const struct page_move *m, unsigned n)
{
    uint64_t since = enter(p, false), moved;
    struct page_move go[PAGER_MOVES];
    unsigned k = 0;

    INVARIANT(n <= PAGER_MOVES, "pager: so many pages are not moved at once");
    for (unsigned i = 0; i < n; i++) {
        if (m[i].node >= p->spec.nnodes || !clip(p, m[i].gfn, 1))
            continue;
        (void)unit_at(p, m[i].gfn, m[i].gfn + 1);
        collapse_range(p, m[i].gfn, 1);
        go[k++] = m[i];
    }
    moved = move_pages_of(p, go, k);
    p->stats.migrated += moved;
    p->stats.refused += n - moved;
    leave(p, since);
    return moved;
}

bool pager_split(struct pager *p, uint64_t gfn)
{
    uint64_t since = enter(p, false);
    int e = ram_from(p->spec.mem, gfn) ? pagemap_split(p->map, gfn) : -EINVAL;

    leave(p, since);
    return !e;
}

bool pager_form(struct pager *p, uint64_t gfn)
{
    uint64_t since = enter(p, false);
    bool formed = ram_from(p->spec.mem, gfn) && pagemap_form(p->map, gfn);

    leave(p, since);
    return formed;
}

bool collapse_unit(struct pager *p, uint64_t gfn)
{
    struct page_info u = pagemap_get(p->map, gfn);

    if (!collapse_range(p, u.first, u.pages))
        return false;
    p->changes++;
    seen_broken(p, u.first | (u.pages > 1 ? PAGE_BLOCK : 0));
    return true;
}

void resolve(struct pager *p, unsigned view, uint64_t gfn)
{
    struct page_info u = pagemap_get(p->map, gfn);

    p->stats.faults++;
    seen_touch(p, view, gfn, true);
    if (collapse_unit(p, gfn) || watch_ends(p, gfn))
        return;
    /* open by now, or only let in protected (sample.c) */
    p->stats.stray++;
    if (u.state == PAGE_PRIVATE)
        (void)guard_open(&p->guard[view], gfn << PAGE_SHIFT, 1ull << PAGE_SHIFT);
    guard_wake(&p->guard[view], gfn << PAGE_SHIFT, 1ull << PAGE_SHIFT);
}

bool pager_fault(void *pager, unsigned view, uint64_t gpa, uint64_t *seen)
{
    struct pager *p = pager;
    uint64_t since = enter(p, true);
    bool changed;

    if (view < p->nviews && ram_from(p->spec.mem, gpa >> PAGE_SHIFT))
        resolve(p, view, gpa >> PAGE_SHIFT);
    changed = *seen != p->changes;
    *seen = p->changes;
    leave(p, since);
    return changed;
}
