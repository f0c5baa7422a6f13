/* SPDX-License-Identifier: MIT */
/*
 * Sampling: pages are revoked in the views that see their master, and the next touch tells who
 * uses them.  A page that was read is let in protected, so that a write which follows is told as
 * well; then it is open as before.  What is told waits in two rings until the pager's thread asks.
 *
 * Why it never changes what the guest sees: a revoked page is out of a page table, not out of the
 * store; admitting puts the same page back.  A page that is replicated by the time it is touched
 * comes back protected without a gap (guard.h), or, to a writer, after its collapse.
 *
 * Watching: before a page is replicated it is protected for an interval while it stays private
 * (pager_unwritten()).  If it is written meanwhile it is open again, in all views at once.
 *
 * Groups: a page comes in with the neighbours that were revoked when it was, and they count as read:
 * users of neighbours are mostly the same, and a fault costs far more than a page.
 *
 * A view's first touch of a page that another one has brought into memory comes here as well.
 * It brings along those behind it that are in memory, up to the end of its block.
 * Threads: fault threads and the pager's; the pager's lock is held.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/err.h"
#include "vmm/machine/machine.h"
#include "vmm/pager/private.h"

#define PAGE_BYTES (1ull << PAGE_SHIFT)

enum { WATCH_MOST = 512 }; /* pages that are protected in one piece, so under the lock */

/* ---- making ---- */

/* Memory that is used where it is written only; NULL: none left. */
static void *sparse(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

/* Bytes of a bit for each page, and of the stamps. */
static size_t bitmap_bytes(const struct pager *p)
{
    return ((p->spec.mem->span >> PAGE_SHIFT) + 63) / 64 * 8;
}

static size_t stamp_bytes(const struct pager *p)
{
    return ((p->spec.mem->span >> PAGE_SHIFT) / STAMP_PAGES + 1) * sizeof(uint32_t);
}

int seen_init(struct pager *p)
{
    struct seen *s = &p->seen;

    s->broken = xcalloc(BROKEN_MAX, sizeof(*s->broken));
    s->watched = p->spec.probation ? sparse(bitmap_bytes(p)) : NULL;
    if (p->spec.probation && !s->watched)
        return -ENOMEM;
    if (!p->spec.samples)
        return 0;
    s->touch = sparse(TOUCHES_MAX * sizeof(*s->touch));
    s->stamp = sparse(stamp_bytes(p));
    for (unsigned v = 0; v < p->spec.mem->nviews; v++) {
        s->revoked[v] = sparse(bitmap_bytes(p));
        if (!s->revoked[v])
            return -ENOMEM;
    }
    return s->touch && s->stamp ? 0 : -ENOMEM;
}

void seen_exit(struct pager *p)
{
    struct seen *s = &p->seen;

    free(s->broken);
    if (s->touch)
        munmap(s->touch, TOUCHES_MAX * sizeof(*s->touch));
    if (s->watched)
        munmap(s->watched, bitmap_bytes(p));
    if (s->stamp)
        munmap(s->stamp, stamp_bytes(p));
    for (unsigned v = 0; v < p->spec.mem->nviews; v++)
        if (s->revoked[v])
            munmap(s->revoked[v], bitmap_bytes(p));
    *s = (struct seen){0};
}

/* ---- what was revoked ---- */

static bool is_revoked(const struct pager *p, unsigned view, uint64_t gfn)
{
    return p->seen.revoked[view][gfn / 64] >> gfn % 64 & 1;
}

static void set_revoked(struct pager *p, unsigned view, uint64_t gfn, bool on)
{
    uint64_t bit = 1ull << gfn % 64, *word = &p->seen.revoked[view][gfn / 64];

    *word = on ? *word | bit : *word & ~bit;
}

/* How long ago a page was revoked, ns. */
static uint64_t revoked_for(const struct pager *p, uint64_t gfn)
{
    uint32_t now = (uint32_t)(machine_now_ns() >> STAMP_SHIFT);

    return (uint64_t)(now - p->seen.stamp[gfn / STAMP_PAGES]) << STAMP_SHIFT;
}

/* ---- telling ---- */

static void put(struct pager *p, const struct pager_touch *t)
{
    struct seen *s = &p->seen;

    p->stats.touches += !t->beside;
    if (s->touch_in - s->touch_out == TOUCHES_MAX)
        p->stats.lost++;
    else
        s->touch[s->touch_in++ % TOUCHES_MAX] = *t;
}

void seen_touch(struct pager *p, unsigned view, uint64_t gfn, bool write)
{
    struct pager_touch t = {
        .gfn = gfn, .node = p->spec.view_node[view], .write = write, .after_ns = UINT64_MAX};

    if (!p->spec.samples)
        return;
    if (is_revoked(p, view, gfn))
        t.after_ns = revoked_for(p, gfn);
    put(p, &t);
}

void seen_broken(struct pager *p, uint64_t gfn)
{
    struct seen *s = &p->seen;

    if (s->broken_in - s->broken_out == BROKEN_MAX)
        p->stats.lost++;
    else
        s->broken[s->broken_in++ % BROKEN_MAX] = gfn;
}

unsigned pager_touches(struct pager *p, struct pager_touch *out, unsigned most)
{
    struct seen *s = &p->seen;
    unsigned n = 0;

    pthread_mutex_lock(&p->lock);
    for (; n < most && s->touch_out < s->touch_in; n++)
        out[n] = s->touch[s->touch_out++ % TOUCHES_MAX];
    pthread_mutex_unlock(&p->lock);
    return n;
}

unsigned pager_broken(struct pager *p, uint64_t *gfn, unsigned most)
{
    struct seen *s = &p->seen;
    unsigned n = 0;

    pthread_mutex_lock(&p->lock);
    for (; n < most && s->broken_out < s->broken_in; n++)
        gfn[n] = s->broken[s->broken_out++ % BROKEN_MAX];
    pthread_mutex_unlock(&p->lock);
    return n;
}

/* ---- watching ---- */

static bool is_watched(const struct pager *p, uint64_t gfn)
{
    return p->seen.watched && p->seen.watched[gfn / 64] >> gfn % 64 & 1;
}

void watch_drop(struct pager *p, uint64_t gfn, uint64_t n)
{
    for (uint64_t at = gfn; p->seen.watched && at < gfn + n; at++)
        p->seen.watched[at / 64] &= ~(1ull << at % 64);
}

bool watch_ends(struct pager *p, uint64_t gfn)
{
    if (!is_watched(p, gfn))
        return false;
    watch_drop(p, gfn, 1);
    for (unsigned v = 0; v < p->nviews; v++)
        (void)guard_open(&p->guard[v], gfn << PAGE_SHIFT, PAGE_BYTES);
    seen_broken(p, gfn | PAGER_WATCHED);
    return true;
}

/* Protects private pages in all views; they stay private. */
static bool watch(struct pager *p, uint64_t gfn, uint64_t n)
{
    for (unsigned v = 0; v < p->nviews; v++)
        if (guard_protect(&p->guard[v], gfn << PAGE_SHIFT, n << PAGE_SHIFT))
            return false; /* who writes finds them open, or is told of as a stray */
    for (uint64_t at = gfn; at < gfn + n; at++)
        p->seen.watched[at / 64] |= 1ull << at % 64;
    return true;
}

/* Whether a page can be watched that is not. */
static bool to_watch(const struct pager *p, uint64_t gfn)
{
    return pagemap_get(p->map, gfn).state == PAGE_PRIVATE && !is_watched(p, gfn);
}

/* Has those of [gfn, end) watched that can be: neighbours together, or, where the kernel does not let us,
 * one by one. */
static void watch_those(struct pager *p, uint64_t gfn, uint64_t end)
{
    for (uint64_t n; gfn < end; gfn += n ? n : 1) {
        for (n = 0; gfn + n < end && to_watch(p, gfn + n); n++)
            ;
        if (n && !watch(p, gfn, n))
            for (uint64_t at = gfn; n > 1 && at < gfn + n; at++)
                (void)watch(p, at, 1);
    }
}

void pager_watch(struct pager *p, uint64_t gfn, uint64_t n)
{
    uint64_t end = gfn + (p->seen.watched ? clip(p, gfn, n) : 0);

    for (uint64_t part; gfn < end; gfn += part) {
        uint64_t since = enter(p, false);

        part = end - gfn < WATCH_MOST ? end - gfn : WATCH_MOST;
        watch_those(p, gfn, gfn + part);
        leave(p, since);
    }
}

bool pager_unwritten(struct pager *p, uint64_t gfn)
{
    bool unwritten;
    uint64_t since;

    if (!p->seen.watched || !clip(p, gfn, 1))
        return true;
    since = enter(p, true);
    unwritten = pagemap_get(p->map, gfn).state != PAGE_PRIVATE || is_watched(p, gfn);
    leave(p, since);
    return unwritten;
}

/* ---- touches ---- */

/* True if a page may come in with its neighbours. */
static bool comes_along(const struct pager *p, unsigned view, uint64_t gfn)
{
    return !is_revoked(p, view, gfn) && !is_watched(p, gfn) &&
           pagemap_get(p->map, gfn).state == PAGE_PRIVATE;
}

/* Lets pages behind one in that are likely to be used next: to the end of the block, or the first
 * that is revoked, replicated, there already or not in memory. */
static void admit_behind(struct pager *p, unsigned view, uint64_t gfn)
{
    uint64_t end = (gfn | (PAGEMAP_BLOCK - 1)) + 1, at = gfn + 1;

    if (end > gfn + clip(p, gfn, PAGEMAP_BLOCK))
        end = gfn + clip(p, gfn, PAGEMAP_BLOCK);
    while (at < end && comes_along(p, view, at))
        at++;
    if (at > gfn + 1)
        guard_admit_behind(&p->guard[view], (gfn + 1) << PAGE_SHIFT,
                           (at - gfn - 1) << PAGE_SHIFT);
}

/* Whether a page may come in with a neighbour that was revoked when it was. */
static bool comes_in(const struct pager *p, unsigned view, uint64_t gfn)
{
    return is_revoked(p, view, gfn) && !is_watched(p, gfn) &&
           pagemap_get(p->map, gfn).state == PAGE_PRIVATE;
}

/* A sampled page was touched: its group comes in with it, for one fault tells of all. */
static void admit_group(struct pager *p, unsigned view, uint64_t gfn, uint64_t after_ns)
{
    uint64_t first = gfn & ~(uint64_t)(STAMP_PAGES - 1), a = gfn, b = gfn + 1, in;

    while (a > first && comes_in(p, view, a - 1))
        a--;
    while (b < first + STAMP_PAGES && comes_in(p, view, b))
        b++;
    if (b - a < 2)
        return;
    in = guard_admit_beside(&p->guard[view], a << PAGE_SHIFT, (b - a) << PAGE_SHIFT);
    for (uint64_t at = a; at < b; at++) {
        struct pager_touch t = {
            .gfn = at, .node = p->spec.view_node[view], .after_ns = after_ns, .beside = true};

        set_revoked(p, view, at, false);
        if (at != gfn && in >> (at - a) & 1)
            put(p, &t);
    }
}

/* Lets a page in that is its master's only copy. */
static void admit_private(struct pager *p, unsigned view, uint64_t gfn, bool write,
                          bool sampled)
{
    const struct guard *g = &p->guard[view];
    uint64_t gpa = gfn << PAGE_SHIFT;

    if (write && !watch_ends(p, gfn)) /* it may still be protected from before */
        (void)guard_open(g, gpa, PAGE_BYTES);
    (void)guard_admit(g, gpa, PAGE_BYTES,
                      !write && (sampled || is_watched(p, gfn)) ? ADMIT_WATCHED : ADMIT_OPEN);
    if (sampled)
        admit_group(p, view, gfn, revoked_for(p, gfn));
    else
        admit_behind(p, view, gfn);
}

/* Lets a reader see the master of a page that others see replicas of.  Where no mapping is left
 * for that he would come again for ever: so the replicas go. */
static void admit_protected(struct pager *p, unsigned view, uint64_t gfn)
{
    if (!guard_admit(&p->guard[view], gfn << PAGE_SHIFT, PAGE_BYTES, ADMIT_PROTECTED))
        return;
    room_less(p);
    (void)collapse_unit(p, gfn);
    admit_private(p, view, gfn, false, true);
}

void page_touched(struct pager *p, unsigned view, uint64_t gfn, bool write)
{
    bool sampled;
    struct page_info u;

    if (!clip(p, gfn, 1))
        return;
    u = pagemap_get(p->map, gfn);
    sampled = is_revoked(p, view, gfn);
    seen_touch(p, view, gfn, write);
    set_revoked(p, view, gfn, false);
    if (u.state == PAGE_PRIVATE) {
        admit_private(p, view, gfn, write, sampled);
    } else if (write && u.state == PAGE_REPLICATED) {
        (void)collapse_unit(p, gfn);
        admit_private(p, view, gfn, true, true);
    } else {
        admit_protected(p, view, gfn);
    }
}

/* ---- revoking ---- */

/* Pages of [gfn, end) that a view sees alike: masters, or replicas. */
static uint64_t alike(const struct pager *p, unsigned view, uint64_t gfn, uint64_t end,
                      bool *master)
{
    uint64_t n = 0;

    for (; gfn + n < end; n++) {
        struct page_info u = pagemap_get(p->map, gfn + n);
        bool m = !sees_replica(&u, p->spec.view_node[view]);

        if (n && m != *master)
            break;
        *master = m;
    }
    return n;
}

/* Whether nobody has used n pages in a view since they were revoked: that is then still so. */
static bool all_revoked(const struct pager *p, unsigned view, uint64_t gfn, uint64_t n)
{
    for (uint64_t k = 0; k < n; k++)
        if (!is_revoked(p, view, gfn + k))
            return false;
    return true;
}

/* Revokes what a view sees of the masters of [gfn, end). */
static void revoke_in(struct pager *p, unsigned view, uint64_t gfn, uint64_t end)
{
    bool master = false;

    for (uint64_t run; gfn < end; gfn += run) {
        run = alike(p, view, gfn, end, &master);
        if (!master || all_revoked(p, view, gfn, run) ||
            guard_revoke(&p->guard[view], gfn << PAGE_SHIFT, run << PAGE_SHIFT))
            continue;
        for (uint64_t k = 0; k < run; k++)
            set_revoked(p, view, gfn + k, true);
        p->stats.revoked += run;
    }
}

void pager_revoke(struct pager *p, uint64_t gfn, uint64_t n)
{
    uint64_t since, end;

    INVARIANT(p->spec.samples, "pager: revoke without sampling");
    since = enter(p, false);
    end = gfn + clip(p, gfn, n);
    for (uint64_t at = gfn; at < end; at++)
        p->seen.stamp[at / STAMP_PAGES] = (uint32_t)(machine_now_ns() >> STAMP_SHIFT);
    for (unsigned v = 0; v < p->nviews; v++)
        revoke_in(p, v, gfn, end);
    leave(p, since);
}
