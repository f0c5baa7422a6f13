/* SPDX-License-Identifier: MIT */
/*
 * How often each node read and wrote each page lately, as far as was sampled.  Sparse: a page
 * costs one line of 64 bytes while it is among the pages seen last, and nothing otherwise, so
 * that a guest of 1 TiB is counted in the memory that counters_init() was given and not a
 * byte more.
 *
 * A table of sets of eight entries; a new page takes the place of the set's least used one.
 * An entry holds the counts of five nodes, further ones go to chunks of seven.  Counts age
 * lazily: each entry knows how much ageing it has had.
 *
 * Pages worth a look are on a list, oldest first, that counters_next() walks: those used
 * since they were last taken by a node that had no copy then (counters_judged() tells), and
 * not more often than they were found worth it.  So deciding costs by what goes wrong, not by
 * what is used.
 *
 * Invariants.  C1: a page is in at most one entry.  C2: an entry is on the list at most once.
 * C3: a chunk belongs to one entry or is free.  C4: nothing is allocated after counters_init().
 * Threads: one at a time (the pager's); events of other threads are queued by their owner.
 */
#ifndef DISCO_NUMA_COUNTERS_H
#define DISCO_NUMA_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "numa/topo.h"

/* Set in a page's number (a gfn) when a whole block of 2 MiB is meant, named by its first
 * gfn. */
#define PAGE_BLOCK (UINT64_C(1) << 63)

enum { COUNTERS_FORGET = 32 }; /* ageing that leaves nothing */

/* One node's use of one page. */
struct node_use {
    uint32_t reads, writes; /* weighted samples: misses, or what stands for them */
    uint8_t node;           /* index */
};

/* All use of one page. */
struct page_use {
    uint64_t page;                       /* gfn, perhaps with PAGE_BLOCK */
    unsigned n;                          /* entries of use */
    struct node_use use[TOPO_MAX_NODES]; /* each node at most once, in no order */
};

struct counters_page;  /* an entry */
struct counters_chunk; /* more nodes of an entry */

/* The table. */
struct counters {
    struct counters_page *page;   /* sets x ways entries */
    struct counters_chunk *chunk; /* 1..nchunks; 0 means none */
    uint32_t *list;               /* ring of entries counted and not yet taken */
    uint32_t sets;                /* a power of two */
    uint32_t size;                /* entries in all, and of list */
    uint32_t nchunks;             /* entries of chunk, less 1 */
    uint32_t free_chunk;          /* head of the free chunks, 0: none */
    uint32_t head, listed;        /* of list: first, and how many */
    uint32_t taken;               /* entry that was taken off the list last */
    uint32_t aged;                /* ageing in all, bits; wraps */
    uint32_t now;                 /* intervals, by counters_tick() */
    uint64_t evicted;             /* pages that had to make room while still counted */
    uint64_t lost;                /* counts dropped because no chunk was free */
};

/* Makes a table of at least `pages` entries (rounded up to a power of two, 64 at least),
 * about 100 bytes each.  0 or -ENOMEM. */
int counters_init(struct counters *c, uint32_t pages);

/* Frees it. */
void counters_exit(struct counters *c);

/* Bytes that the table takes. */
uint64_t counters_bytes(const struct counters *c);

/* A node (below TOPO_MAX_NODES) read and wrote a page so many times; counts stop at 2^32-1
 * reads and 2^24-1 writes. */
void counters_add(struct counters *c, uint64_t page, unsigned node, struct node_use add);

/* Time passes: all counts are shifted right by so many bits (1: halved; COUNTERS_FORGET:
 * gone). */
void counters_age(struct counters *c, unsigned bits);

/* What is known of a page now; use->n = 0: nothing. */
void counters_get(const struct counters *c, uint64_t page, struct page_use *use);

/* Tells of all pages one by one, in no order: begin with *at = 0; false: there are no more.  In
 * between other calls may come; a page is told at most once unless it is dropped and comes anew. */
bool counters_walk(const struct counters *c, uint32_t *at, struct page_use *use);

/* Takes the page that was put there first off the list.  false: the list is empty. */
bool counters_next(struct counters *c, struct page_use *use);

/* An interval is over. */
void counters_tick(struct counters *c);

/*
 * Tells of a page just taken, of which nothing is to be done now: `near` are the nodes that
 * have it near, so that their use alone does not put it on the list again.  If others use it,
 * their use does after a pause: one interval, and twice as long each time, at most `most`.  Told
 * twice in an interval, the first counts.
 */
void counters_judged(struct counters *c, uint64_t page, uint64_t near, uint32_t most);

/* The page has changed (moved, collapsed): any use puts it on the list again. */
void counters_changed(struct counters *c, uint64_t page);

/* Puts a page on the list that has counts and is not on it. */
void counters_list(struct counters *c, uint64_t page);

/* Forgets one page: it was freed, or its block was split. */
void counters_drop(struct counters *c, uint64_t page);

#endif
