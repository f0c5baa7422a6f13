/* SPDX-License-Identifier: MIT */
/*
 * Memory that follows its guest to another node of the host.  Threads: any one.
 */
#ifndef DISCO_VMM_PAGER_SETTLE_H
#define DISCO_VMM_PAGER_SETTLE_H

#include <stdint.h>

struct err;
struct guest_mem;
struct pager;

/* Moves what lies on the host's node `from` of the 2 MiB block at gpa, which is RAM, to node `to`;
 * the guest may run.  p: its pager, which was told by pager_rehome() before, or NULL.  Pages
 * moved, or -errno: -EPERM without CAP_SYS_NICE. */
int64_t settle_block(struct guest_mem *m, struct pager *p, uint64_t gpa, int from, int to);

/* The pager's node that was the host's `from` is `to` from now on.  0 or -errno with a message. */
int pager_rehome(struct pager *p, int from, int to, struct err *err);

#endif
