/* SPDX-License-Identifier: MIT */
/*
 * The page map: for every page of a guest where its master is, which nodes hold replicas of it
 * and how often it moved.  A unit is a block of 2 MiB while that is whole, else a page of 4
 * KiB; all calls take a page number (gfn) and mean the unit it lies in.
 *
 *                                     pagemap_replicate (another node)
 *                                              +--+
 *            pagemap_share                     |  v   pagemap_evict (not the last)
 *   SHARED <--------------- PRIVATE -------> REPLICATED --+
 *     |  pagemap_break       ^ | ^   pagemap_replicate |  ^--+
 *     +----------------------+ | |                     |
 *             pagemap_move ^---+ +---------------------+
 *                                 pagemap_collapse, pagemap_evict (the last)
 *
 *   whole block --pagemap_split--> 512 pages alike --pagemap_form--> whole block (when all are
 *   alike)
 *
 * On its way along an arrow a unit is claimed (pagemap_claim, pagemap_release): the mappings are
 * being changed, so its state is not to be relied on.
 *
 * Invariants.
 *   I1  at any instant all views of a page hold equal bytes, or it is private
 *   I2  no view can write a store that another guest maps: SHARED is never written
 *   I3  a writer never loses a write and never waits on a thread that waits on it
 *   I4  after a guest ends every page it held is free
 * What the map itself keeps, and pagemap_check() proves:
 *   P1  REPLICATED if and only if there is a node with a replica; never the master's node
 *   P2  watched(block) = its units that are claimed or not PRIVATE, in pages
 *   P3  a whole block has no pages of its own
 *
 * Threads.  One writer at a time: who holds the pager's lock.  Readers take no lock: every unit
 * is one entry read under the sequence number of its block, and memory of split blocks is used
 * again for others but never returned while the map lives, so that a reader which is late reads
 * an entry of another block at worst, sees the number changed and reads again.
 *
 * Device threads follow a stricter rule, because they write: pagemap_pin() before,
 * pagemap_unpin() after.  A pin is counted first and watched is looked at then; who claims does
 * it the other way round.  Both are sequentially consistent, so one of them sees the other:
 * either the claim is refused, or the writer sees that it has to ask the pager (see Dekker's
 * algorithm).
 *
 * Size: 16 bytes for a page of a split block (0.39 %), 48 for a block.
 */
#ifndef DISCO_NUMA_PAGEMAP_H
#define DISCO_NUMA_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PAGEMAP_BLOCK = 512,    /* pages in a block */
    PAGEMAP_NODES = 64,     /* nodes there may be */
    PAGEMAP_OWN_STORE = 0,  /* number of the guest's own store */
    PAGEMAP_MOVES_MAX = 63, /* where counts of moves and collapses stop */
};

/* See the picture above. */
enum page_state { PAGE_PRIVATE, PAGE_REPLICATED, PAGE_SHARED };

/* What is known of a unit. */
struct page_info {
    uint64_t replicas; /* bit n: node n holds one */
    uint64_t first;    /* gfn of the unit's first page */
    uint32_t pages;    /* 1 or PAGEMAP_BLOCK */
    uint8_t state;     /* enum page_state */
    uint8_t store;     /* of the master: PAGEMAP_OWN_STORE or a pool's number */
    uint8_t node;      /* of the master */
    uint8_t moves;     /* migrations in this interval, at most PAGEMAP_MOVES_MAX */
    uint8_t collapses; /* likewise */
    bool claimed;      /* being changed */
};

struct pagemap;

/* Makes the map of pages 0..npages-1, rounded up to blocks; all private in the own store on
 * node 0 and whole.  Address space is reserved, memory is used where it is written.  NULL: none
 * left. */
struct pagemap *pagemap_new(uint64_t npages);

/* Frees the map.  No thread may read it any more. */
void pagemap_free(struct pagemap *m);

/* Pages in the map. */
uint64_t pagemap_pages(const struct pagemap *m);

/* Bytes of memory that the map uses now, at most. */
uint64_t pagemap_bytes(const struct pagemap *m);

/* ---- any thread, no locks ---- */

/* The unit that gfn lies in. */
struct page_info pagemap_get(const struct pagemap *m, uint64_t gfn);

/* True if some page of [gfn, gfn + n) may be other than private: a writer must ask the pager. */
bool pagemap_watched(const struct pagemap *m, uint64_t gfn, uint64_t n);

/* A device is about to write [gfn, gfn + n): until pagemap_unpin() no unit of the blocks there
 * can be claimed.  True if it must ask the pager first (see above). */
bool pagemap_pin(struct pagemap *m, uint64_t gfn, uint64_t n);

/* The device has written: undoes one pagemap_pin() of the same range. */
void pagemap_unpin(struct pagemap *m, uint64_t gfn, uint64_t n);

/* ---- the writer; the unit must be claimed where nothing else is said ---- */

/* A new interval begins: the counts of moves and collapses start anew. */
void pagemap_interval(struct pagemap *m);

/* Claims a unit.  0; -EBUSY: a device is writing there, or it is claimed.  With `even_pinned`
 * pins do not matter: for ways back to PRIVATE. */
int pagemap_claim(struct pagemap *m, uint64_t gfn, bool even_pinned);

/* Gives the claim up: the unit's state is whole again. */
void pagemap_release(struct pagemap *m, uint64_t gfn);

/* The arrows.  Each demands the state it starts from (INVARIANT). */

/* PRIVATE or REPLICATED: the node holds a replica from now on.  It held none and is not the
 * master's. */
void pagemap_replicate(struct pagemap *m, uint64_t gfn, unsigned node);

/* REPLICATED: all replicas are gone, the unit is PRIVATE again; counted as a collapse. */
void pagemap_collapse(struct pagemap *m, uint64_t gfn);

/* REPLICATED: the node's replica is gone; PRIVATE again when it was the last.  Not counted. */
void pagemap_evict(struct pagemap *m, uint64_t gfn, unsigned node);

/* PRIVATE: the master is on the node now; counted as a move. */
void pagemap_move(struct pagemap *m, uint64_t gfn, unsigned node);

/* PRIVATE: the master is in a pool's store now, which other guests map, on the node; SHARED. */
void pagemap_share(struct pagemap *m, uint64_t gfn, unsigned store, unsigned node);

/* SHARED: the master is in the own store again, on the node; PRIVATE. */
void pagemap_break(struct pagemap *m, uint64_t gfn, unsigned node);

/* Where the master is at the start: no claim, no move counted. */
void pagemap_place(struct pagemap *m, uint64_t gfn, unsigned node);

/* Makes pages of a block; 0 or -ENOMEM.  Already split: nothing.  No claim. */
int pagemap_split(struct pagemap *m, uint64_t gfn);

/* Makes a block of pages that are all alike and not claimed.  False: they are not alike. */
bool pagemap_form(struct pagemap *m, uint64_t gfn);

/* ---- proof ---- */

/* Looks for what breaks P1 to P3 and says it in buf; false: something does.  The writer. */
bool pagemap_check(const struct pagemap *m, char *buf, unsigned len);

#endif
