/* SPDX-License-Identifier: MIT */
/*
 * What the pager's files share; nobody else includes this.  All of struct pager is under its
 * lock but for what is said to be constant, and the map, which has readers.
 */
#ifndef DISCO_VMM_PAGER_PRIVATE_H
#define DISCO_VMM_PAGER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "vmm/pager/guard.h"
#include "vmm/pager/pager.h"

enum {
    PAGE_SHIFT = 12,
    TOUCHES_MAX = 1 << 17,     /* touches kept; a power of two */
    BROKEN_MAX = 8192,         /* broken units kept; a power of two */
    STAMP_PAGES = PAGER_GROUP, /* pages that share the time when they were revoked */
    STAMP_SHIFT = 16,          /* ns to units of that time */
};

/* What fault threads saw and the pager's thread has not asked for yet.  Under the pager's lock. */
struct seen {
    struct pager_touch *touch;        /* ring of TOUCHES_MAX */
    uint64_t touch_in, touch_out;     /* entries ever put in and taken out */
    uint64_t *broken;                 /* ring of BROKEN_MAX: gfns */
    uint64_t broken_in, broken_out;   /* as above */
    uint64_t *revoked[MEM_MAX_VIEWS]; /* bit per page: revoked and not touched since */
    uint64_t
        *watched;    /* bit per page: protected to see whether it is written; spec.probation */
    uint32_t *stamp; /* when pages were revoked, by STAMP_PAGES */
};

/* One guest's pager. */
struct pager {
    /* constant */
    struct pager_spec spec;            /* as asked for */
    unsigned nviews;                   /* of spec.mem */
    struct guard guard[MEM_MAX_VIEWS]; /* one a view */
    int store[PAGEMAP_NODES];          /* memfd of each node's replicas, -1: not made */
    struct mem_hook hook;              /* what mem_at() calls */
    /* any */
    _Atomic unsigned urgent; /* writers who wait for the lock: others let them go first */
    _Atomic unsigned wait;   /* all who wait for it, but in enter_last() */
    /* lock */
    pthread_mutex_t lock;
    struct pagemap *map;      /* written under the lock */
    struct pager_stats stats; /* counters */
    struct seen seen;         /* what sampling found */
    bool said_maps;           /* that mappings are used up */
    uint64_t changes;         /* times that mappings may have been changed, from 1 */
    uint64_t free_ns;         /* when free[] was last asked for, monotonic ns */
    uint64_t
        free[PAGEMAP_NODES]; /* bytes free on the host node then, less what was taken since */
};

/* Whether a page of a unit like this is seen as a replica by views of a node. */
static inline bool sees_replica(const struct page_info *u, unsigned node)
{
    return u->state == PAGE_REPLICATED && u->replicas >> node & 1;
}

/* ---- actions.c ---- */

/* Takes and releases the lock; leave() wants what enter() gave.  Who is not urgent lets writers
 * go first: mutexes are not fair, and a batch of actions would keep them waiting for long. */
uint64_t enter(struct pager *p, bool urgent);

/* Likewise, for what takes long and has time: lets all others go first. */
uint64_t enter_last(struct pager *p);
void leave(struct pager *p, uint64_t since);

/* Of the n pages from gfn on, how many are RAM without a gap. */
uint64_t clip(const struct pager *p, uint64_t gfn, uint64_t n);

/* ---- pager.c ---- */

/* Has a store's pages come from the node of the host that a node is, as far as it is any. */
int bind_store(const struct pager *p, unsigned node, struct err *err);

/* ---- room.c ---- */

/* Memory for n more pages on a node, and mappings for a run [gfn, gfn + n) to become a replica
 * there?  0, -ENOMEM or -ENOSPC. */
int room_for(struct pager *p, uint64_t gfn, uint64_t n, unsigned node);

/* Pages [gfn, gfn + n), alike, begin or cease to be seen as replicas by the views of a node:
 * keeps stats.maps.  Call before the map is changed. */
void room_count(struct pager *p, uint64_t gfn, uint64_t n, unsigned node, bool replica);

/* True when so many mappings are in use that collapses must not add to them. */
bool room_scarce(const struct pager *p);

/* The system has refused a mapping: there are fewer than was thought. */
void room_less(struct pager *p);

/* Asks the system for the limit. */
void room_init(struct pager *p);

/* ---- actions.c; the lock is held ---- */

/* Takes back the replicas of the unit at gfn, and tells of it.  False: it has none. */
bool collapse_unit(struct pager *p, uint64_t gfn);

/* Takes back all replicated units that overlap [gfn, gfn + n). Returns pages taken back. */
uint64_t collapse_range(struct pager *p, uint64_t gfn, uint64_t n);

/* Somebody wants to write to a page: takes back its replicas and lets him go on. */
void resolve(struct pager *p, unsigned view, uint64_t gfn);

/* ---- sample.c; the lock is held but for the first two ---- */

/* Makes and undoes what sampling needs; 0 or -ENOMEM. */
int seen_init(struct pager *p);
void seen_exit(struct pager *p);

/* Notes a use of a page by a view, and that a write took a unit's replicas away. */
void seen_touch(struct pager *p, unsigned view, uint64_t gfn, bool write);
void seen_broken(struct pager *p, uint64_t gfn);

/* A page that is watched was written: it is open in all views again.  False: it is not. */
bool watch_ends(struct pager *p, uint64_t gfn);

/* Pages are not watched any more: they have become replicas. */
void watch_drop(struct pager *p, uint64_t gfn, uint64_t n);

/* Somebody touched a page that was not in the view's page table. */
void page_touched(struct pager *p, unsigned view, uint64_t gfn, bool write);

/* ---- move.c; the lock is held ---- */

/* Moves the masters of [gfn, gfn + n), private and not claimed, to a node.  Pages moved. */
uint64_t move_range(struct pager *p, uint64_t gfn, uint64_t n, unsigned node);

/* Moves single pages, private and not claimed, to a node each; at most PAGER_MOVES. */
uint64_t move_pages_of(struct pager *p, const struct page_move *m, unsigned n);

/* Whether the kernel lets us move pages that several views map. */
bool move_allowed(const struct pager *p);

#endif
