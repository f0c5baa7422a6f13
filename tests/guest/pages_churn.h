/* SPDX-License-Identifier: MIT */
/*
 * Runs a program of pages_access.c or pages_kernel.c while this thread replicates, collapses,
 * evicts and moves pages of the arena at random, moves vCPUs between views, and has the checker
 * look; and compares what is in memory afterwards with what the program believes.
 */
#ifndef DISCO_TESTS_GUEST_PAGES_CHURN_H
#define DISCO_TESTS_GUEST_PAGES_CHURN_H

#include "tests/guest/pages_rig.h"

#define CHURN_LATE_NS 30000000000ull /* how much longer a slow machine may take */

enum { CHURN_ROUNDS = 40 }; /* times round at least */

/* How a program is run. */
struct churn {
    enum pages_prog prog;    /* what */
    enum rig_faults faults;  /* who sees to faults */
    enum pager_mover mover;  /* how masters move */
    unsigned nvcpus, nviews; /* shape */
    bool move;               /* vCPUs change views meanwhile */
    bool samples;            /* pages are revoked, too; faults go to threads */
    bool broken;             /* collapses forget view 1: no checker, something must be wrong */
};

/* What became of it. */
struct churned {
    struct pager_stats stats;      /* pages */
    uint64_t loops, checks, moves; /* times round of the slowest; proofs; vCPU moves */
    uint64_t exits;                /* vCPUs that came out of KVM for a page in work */
};

/* Pseudo-random numbers (xorshift). */
static inline uint64_t churn_dice(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* One action on some pages; a whole block now and then. */
static inline void churn_act(struct pages_rig *r, const struct churn *c, uint64_t *x)
{
    struct pager_touch touch[64];
    uint64_t v = churn_dice(x), at = (v >> 8) % PAGES_NARENA, n = 1 + (v >> 16) % 16;
    unsigned node = (unsigned)(v >> 24) % r->nnodes;

    if (n > PAGES_NARENA - at)
        n = PAGES_NARENA - at;
    if (c->samples && v >> 40 & 1) {
        pager_revoke(r->p, RIG_ARENA_GFN + at, n);
        (void)pager_touches(r->p, touch, 64);
        return;
    }
    switch (v % 16) {
    case 0:
        pager_collapse(r->p, RIG_ARENA_GFN + at, n);
        break;
    case 1:
    case 2:
        pager_evict(r->p, RIG_ARENA_GFN + at, n, node);
        break;
    case 3:
    case 4:
        pager_migrate(r->p, RIG_ARENA_GFN + at, n, node);
        break;
    case 5:
        if (v >> 32 & 7)
            break;
        pager_migrate(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK, node);
        pager_form(r->p, RIG_ARENA_GFN);
        pager_replicate(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK, !node);
        break;
    default:
        pager_replicate(r->p, RIG_ARENA_GFN + at, n, node);
    }
}

/* Times round of the slowest side. */
static inline uint64_t churn_loops(const struct pages_rig *r)
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < r->n; i++) {
        uint64_t n = rig_look(&r->ctl->side[i].loops);

        least = n < least ? n : least;
    }
    return least;
}

/* Says what a side found wrong; true if one did. */
static inline bool churn_error(const struct pages_rig *r)
{
    bool any = false;

    for (unsigned i = 0; i < r->n; i++) {
        const struct pages_side *s = &r->ctl->side[i];

        if (!rig_look(&s->error))
            continue;
        any = true;
        fprintf(stderr, "side %u, round %lu: check %lu failed at %#lx: %#lx, not %#lx (%#lx)\n",
                i, s->loops, s->error, s->detail[0], s->detail[1], s->detail[2], s->detail[3]);
    }
    return any;
}

static inline uint64_t churn_seconds(void)
{
    const char *s = getenv("PAGES_SECONDS");

    return s && atoi(s) > 0 ? (uint64_t)atoi(s) : 2;
}

/* True until time is over and the slowest side went round often enough, or one found something;
 * a slow machine has till `late` for it. */
static inline bool churn_goes_on(const struct pages_rig *r, uint64_t until, uint64_t late)
{
    uint64_t now = machine_now_ns();

    if (churn_error(r))
        return false;
    return now < until || (now < late && churn_loops(r) < CHURN_ROUNDS);
}

/* Works on the pages while a program runs, for churn_seconds(). */
static inline struct churned churn_run(struct pages_rig *r, const struct churn *c)
{
    uint64_t x = 0x9e3779b97f4a7c15ull, began = machine_now_ns(), checked = began;
    uint64_t until = began + churn_seconds() * 1000000000ull, late = until + CHURN_LATE_NS;
    struct churned d = {0};

    rig_start(r);
    while (churn_goes_on(r, until, late)) {
        churn_act(r, c, &x);
        rig_must_run(r);
        if (!c->broken && machine_now_ns() - checked > 200000000ull) {
            rig_check(r);
            checked = machine_now_ns();
            d.checks++;
        }
        if (c->move && churn_dice(&x) % 16 == 0)
            d.moves += !machine_move_vcpu(&r->m, (unsigned)churn_dice(&x) % r->n,
                                          (unsigned)churn_dice(&x) % c->nviews);
        usleep(200); /* two CPUs: the guest is to have them, too */
    }
    rig_stop(r);
    if (!c->broken)
        rig_check(r);
    pager_stats(r->p, &d.stats);
    d.loops = churn_loops(r);
    for (unsigned i = 0; i < r->n; i++)
        d.exits += atomic_load(&r->m.vcpus[i].exits[EXIT_KIND_FAULT]);
    return d;
}

/* The arena as a view sees it. */
static inline const uint8_t *churn_arena(const struct pages_rig *r, unsigned view)
{
    return r->m.mem.view[view] + PAGES_ARENA;
}

/* What a side believes. */
static inline const uint8_t *churn_model(const struct pages_rig *r, unsigned side)
{
    return r->m.mem.alias + PAGES_MODEL + side * 0x40000ul;
}

#endif
