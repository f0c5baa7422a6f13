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

enum { PAGE_SHIFT = 12 };

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
    /* lock */
    pthread_mutex_t lock;
    struct pagemap *map;      /* written under the lock */
    struct pager_stats stats; /* counters */
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
void leave(struct pager *p, uint64_t since);

/* Of the n pages from gfn on, how many are RAM without a gap. */
uint64_t clip(const struct pager *p, uint64_t gfn, uint64_t n);

/* ---- room.c ---- */

/* Memory for n more pages on a node, and mappings for a run [gfn, gfn + n) to become a replica
 * there?  0, -ENOMEM or -ENOSPC. */
int room_for(struct pager *p, uint64_t gfn, uint64_t n, unsigned node);

/* Pages [gfn, gfn + n), alike, begin or cease to be seen as replicas by the views of a node:
 * keeps stats.maps.  Call before the map is changed. */
void room_count(struct pager *p, uint64_t gfn, uint64_t n, unsigned node, bool replica);

/* True when so many mappings are in use that collapses must not add to them. */
bool room_scarce(const struct pager *p);

/* Asks the system for the limit. */
void room_init(struct pager *p);

/* ---- actions.c; the lock is held ---- */

/* Takes back all replicated units that overlap [gfn, gfn + n). Returns pages taken back. */
uint64_t collapse_range(struct pager *p, uint64_t gfn, uint64_t n);

/* ---- move.c; the lock is held ---- */

/* Moves the masters of [gfn, gfn + n), private and not claimed, to a node.  Pages moved. */
uint64_t move_range(struct pager *p, uint64_t gfn, uint64_t n, unsigned node);

/* Whether the kernel lets us move pages that several views map. */
bool move_allowed(const struct pager *p);

#endif
