/* SPDX-License-Identifier: MIT */
/*
 * Where a guest's memory lies: which host nodes hold the pages of its store, as the kernel says.
 * Interface: mem_usage().  Threads: any one; no state.
 */
#ifndef DISCO_VMM_CELL_USAGE_H
#define DISCO_VMM_CELL_USAGE_H

#include <stdbool.h>
#include <stdint.h>

struct guest_mem;

enum { USAGE_NODES = 1024 }; /* host nodes the kernel may number */

/* Bytes of guest memory, by the kernel's number of the host node. */
struct mem_usage {
    uint64_t used;              /* in all: pages of the store that exist */
    bool known;                 /* node is filled; else the kernel does not say */
    uint64_t node[USAGE_NODES]; /* on each node; sums to used */
};

/*
 * Counts.  Small guests are counted page by page; of larger ones some thousand pages, spread evenly,
 * stand for all, so that the time this takes (a few ms at most) does not grow with the guest.
 */
void mem_usage(const struct guest_mem *m, struct mem_usage *u);

/* Shares u->used among nodes in proportion to hits (USAGE_NODES numbers); the rest that division
 * leaves goes to the node with most.  u->known is false when there were none. */
void mem_usage_share(struct mem_usage *u, const unsigned *hits);

#endif
