/* SPDX-License-Identifier: MIT */
/*
 * Memory that follows its guest to another node of the host.  Threads: any one.
 */
#ifndef DISCO_VMM_PAGER_SETTLE_H
#define DISCO_VMM_PAGER_SETTLE_H

#include <stdatomic.h>
#include <stdint.h>

struct err;
struct guest_mem;
struct pager;

/* A move; settle_init() makes it. */
struct settle {
    int from, to;            /* nodes of the host */
    const atomic_bool *stop; /* set: no more pages */
    unsigned pages;          /* how many are looked at, and moved, in one go */
};

/* A move from a node of the host to another, until somebody sets *stop. */
void settle_init(struct settle *s, int from, int to, const atomic_bool *stop);

/* Moves what lies on s->from of the 2 MiB block at gpa, which is RAM, to s->to; the guest may run,
 * and the pager is kept for some milliseconds at a time.  p: the guest's pager, which was told by
 * pager_rehome() before, or NULL.  Pages moved, or -errno: -EPERM without CAP_SYS_NICE. */
int64_t settle_block(struct guest_mem *m, struct pager *p, struct settle *s, uint64_t gpa);

/* The pager's node that was the host's `from` is `to` from now on.  0 or -errno with a message. */
int pager_rehome(struct pager *p, int from, int to, struct err *err);

#endif
