/* SPDX-License-Identifier: MIT */
/*
 * The pager's hands: migrates, replicates, collapses and evicts pages of a running guest, and
 * takes a replicated page back when somebody writes to it.  What is to be done is decided
 * elsewhere (numa/policy.h); where pages are is in the page map (numa/pagemap.h).
 *
 * Stores.  Masters live in the guest's own store and never leave it; a node has a store of its
 * own for replicas, as long, with equal offsets.  Replicas take memory while they exist only.
 *
 * Nodes here are indices, 0..nnodes-1, each a node of the host or, for tests, one by name only.
 *
 * Threads.  Any thread may call what is below; p->lock is taken inside and held for one run of
 * pages at a time.  Lock order: a device's locks, then p->lock; under it only locks of the
 * kernel. Why no write is lost and no two nodes see different bytes: actions.c.
 */
#ifndef DISCO_VMM_PAGER_PAGER_H
#define DISCO_VMM_PAGER_PAGER_H

#include <stdbool.h>
#include <stdint.h>

#include "numa/pagemap.h"
#include "vmm/machine/mem.h"

struct action;
struct err;
struct pager;

/* How masters move. */
enum pager_mover {
    PAGER_MOVE_AUTO,   /* by the kernel where it lets us, else by copy */
    PAGER_MOVE_KERNEL, /* move_pages(2), all mappings at once; needs CAP_SYS_NICE */
    PAGER_MOVE_COPY,   /* out of the store and in again, while the guest is kept away */
};

/* What a pager is made of. */
struct pager_spec {
    struct guest_mem *mem;            /* stays the caller's; hooked while the pager lives */
    unsigned nnodes;                  /* 1..PAGEMAP_NODES */
    int node_host[PAGEMAP_NODES];     /* node of the host, -1: none, its memory is anywhere */
    uint8_t view_node[MEM_MAX_VIEWS]; /* node of each view of mem, below nnodes */
    uint64_t keep_free;               /* bytes of a host node that replicas leave free */
    unsigned max_maps;                /* mappings a process may have, 0: ask the system */
    enum pager_mover mover;           /* how masters move */
    bool on_vcpu;                     /* KVM tells the address of faults (guard.h) */
    bool samples;                     /* pager_revoke() will be called; then not on_vcpu */
    bool probation;                   /* pager_act() replicates no page that was not watched */
    bool pin;                         /* fault threads run on the node of their view */
    int forget_view;                  /* test of the tests: a collapse forgets it; -1: none */
};

enum { PAGER_MOVES = 512 };

/* A page that is to move. */
struct page_move {
    uint64_t gfn;
    unsigned node; /* where to */
};

enum { PAGER_GROUP = 8 };

/* A page was used by a view.  Of an aligned group of PAGER_GROUP pages, revoked together, the first
 * touch lets all in. */
struct pager_touch {
    uint64_t gfn;
    uint64_t after_ns; /* since it was revoked; UINT64_MAX: it was not */
    uint8_t node;      /* of the view */
    bool write;        /* it was written */
    bool beside;       /* guessed: a neighbour was used that was revoked together with it */
};

/* What was done since the start: units of 4 KiB pages unless said otherwise. */
struct pager_stats {
    uint64_t migrated, replicated, collapsed, evicted; /* pages */
    uint64_t faults;                                   /* writes that found a page protected */
    uint64_t stray;         /* of these, found open again when their turn came */
    uint64_t device_writes; /* collapses for the VMM's own writes, calls */
    uint64_t settled;       /* pages that followed their node to another of the host */
    uint64_t revoked;       /* pages taken out of views to see who uses them, all views */
    uint64_t touches;       /* of these, used since; and first uses of pages by a view */
    uint64_t lost;          /* touches and broken replicas that nobody asked for in time */
    uint64_t refused;    /* pages not acted on: busy, no memory, no mappings, nothing to do */
    uint64_t maps;       /* mappings that replicas cost now, counted by the map */
    uint64_t maps_limit; /* of these, as many as there may be */
    uint64_t replicas;   /* pages of replicas now, all nodes */
    uint64_t busy_ns;    /* time spent under the lock */
    bool kernel_moves;   /* masters move by move_pages() */
};

/* Asks a KVM, by a virtual machine of two pages, whether KVM_RUN tells where it found a page
 * that may not be written (Linux 6.8; some that say so do not): what on_vcpu may be. */
bool pager_kvm_tells(int kvm_fd);

/* Makes a pager over memory whose views KVM may already map, but no vCPU and no device runs yet.
 * 0 or -errno with a message: the guest can go on without. */
int pager_new(struct pager **out, const struct pager_spec *spec, struct err *err);

/* Unhooks, and ends the threads.  No vCPU and no device runs; replicas stay mapped in views,
 * which are of no use afterwards but to be unmapped. */
void pager_free(struct pager *p);

/* The page map, for readers. */
const struct pagemap *pager_map(const struct pager *p);

/* Does what a policy said, neighbours at once; the array is sorted for it.  Returns how many
 * hold afterwards; those that do not, because they could not be done or somebody has written
 * meanwhile, stand behind them. */
unsigned pager_act(struct pager *p, struct action *acts, unsigned n);

/* The actions on n pages from gfn.  Units that are not in the state for it, or busy, are passed
 * over; a whole block that is only partly meant is split.  Return how many pages were done. */
uint64_t pager_replicate(struct pager *p, uint64_t gfn, uint64_t n, unsigned node);
uint64_t pager_collapse(struct pager *p, uint64_t gfn, uint64_t n);
uint64_t pager_evict(struct pager *p, uint64_t gfn, uint64_t n, unsigned node);
uint64_t pager_migrate(struct pager *p, uint64_t gfn, uint64_t n, unsigned node);

/* Moves single pages, wherever they are, at once: much cheaper than one by one.  At most
 * PAGER_MOVES. */
uint64_t pager_migrate_pages(struct pager *p, const struct page_move *m, unsigned n);

/* Asks the kernel where the masters of n pages are and tells the map; a block that is whole
 * counts as where most of it is.  Replicated pages are passed over.  Returns of how many pages
 * the kernel knew; none when nodes are by name only. */
uint64_t pager_locate(struct pager *p, uint64_t gfn, uint64_t n);

/* The same for pages that were just touched, asked through the views that touched them; and for a
 * page of which the caller knows it. */
void pager_locate_touched(struct pager *p, const struct pager_touch *touch, unsigned n);
void pager_place(struct pager *p, uint64_t gfn, unsigned node);

/* Bytes free where a node's pages are, as of the last few intervals; and CPU time of the fault
 * threads so far, ns. */
uint64_t pager_spare(struct pager *p, unsigned node);
uint64_t pager_fault_ns(const struct pager *p);

/* Makes pages of a block, or a block of pages; false: memory is short, or they are not alike. */
bool pager_split(struct pager *p, uint64_t gfn);
bool pager_form(struct pager *p, uint64_t gfn);

/* A view's vCPU was sent away by KVM with EFAULT, at gpa or, UINT64_MAX, somewhere; for
 * machine.on_fault.  Waits until no action is under way and collapses what is at gpa.  False:
 * nothing was changed since *seen, so the fault is not of our making. */
bool pager_fault(void *pager, unsigned view, uint64_t gpa, uint64_t *seen);

/* Takes n pages from gfn out of the page tables of all views that see the master, so that their
 * next touch is told.  Only with spec.samples. */
void pager_revoke(struct pager *p, uint64_t gfn, uint64_t n);

/* Takes touches that were told, oldest first, at most `most`; how many. */
unsigned pager_touches(struct pager *p, struct pager_touch *out, unsigned most);

/* Set in what pager_broken() gives: the page had no replica, it was watched only. */
#define PAGER_WATCHED (UINT64_C(1) << 62)

/* Takes gfns of units whose replicas a guest's write took away, and of watched pages that were
 * written; likewise. */
unsigned pager_broken(struct pager *p, uint64_t *gfn, unsigned most);

/* Protects private pages in all views to see whether they are written; and whether one was not since
 * then.  A replica of a page that is written costs its making and its collapse, this only a fault.
 * Unwritten are also pages that are not private, and all without spec.probation. */
void pager_watch(struct pager *p, uint64_t gfn, uint64_t n);
bool pager_unwritten(struct pager *p, uint64_t gfn);

/* A new interval for the counts in the map. */
void pager_interval(struct pager *p);

void pager_stats(struct pager *p, struct pager_stats *out);

/* Proves I1, I2 and I4 over a running guest, with the lock held: every view maps what the map
 * says, at the right offset, protected where replicated, bytes equal in all views; stores hold
 * as many pages as there are replicas, nothing is mapped twice.  False: buf says what is wrong.
 * */
bool pager_check(struct pager *p, char *buf, unsigned len);

#endif
