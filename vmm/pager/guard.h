/* SPDX-License-Identifier: MIT */
/*
 * The guard of one view: write-protects pages in it, puts pages of another store in their place
 * and says who writes nevertheless.  One userfaultfd a view, in write-protect mode on shared
 * memory (Linux 5.19).
 *
 * Who writes to a protected page stops inside KVM_RUN; a thread (faultN) hears of it, calls
 * `fault` and the writer goes on when the page is open again.  What KVM itself writes
 * for the guest (string input, an emulated instruction) waits in the same way.  Where KVM tells
 * the address of a fault (on_vcpu), there is no thread: KVM_RUN of the writer returns EFAULT,
 * and whoever runs that vCPU calls `fault`.
 *
 * Invariants.  G1: a read through the view never waits and always finds a page.  G2: the pages
 * of a range are protected from before guard_map() or guard_protect() returns until
 * guard_open(), guard_back() or guard_settle() is called.  G3: outside of a call the view is
 * one mapping for each run of pages of one store: what is undone merges again.
 * Threads: calls are made under the pager's lock; `fault` comes from the guard's own thread.
 */
#ifndef DISCO_VMM_PAGER_GUARD_H
#define DISCO_VMM_PAGER_GUARD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct err;

/* What a guard is made of. */
struct guard_spec {
    uint8_t *base;  /* the view's mapping; all of it is mapped anew */
    uint64_t span;  /* bytes of it */
    int store;      /* memfd that it maps, offset = distance from base */
    unsigned index; /* the view's number */
    bool on_vcpu;   /* no thread: KVM_RUN returns EFAULT */
    bool huge;      /* 2 MiB pages come only where they are asked for */
    void (*fault)(void *arg, unsigned view, uint64_t gpa); /* someone wants to write to gpa */
    void *arg;                                             /* its first argument */
};

/* One view's. */
struct guard {
    struct guard_spec spec; /* constant */
    int uffd;               /* userfaultfd */
    int stop;               /* eventfd: the thread is to end */
    bool threaded;          /* thread was made */
    pthread_t thread;       /* faultN */
};

/* Makes the guard; nothing is protected.  EXIT_INTERNAL where the kernel lacks what is needed
 * or does not let us. */
int guard_init(struct guard *g, const struct guard_spec *spec, struct err *err);

/* Ends the thread and closes; ranges that are still protected are open afterwards. */
void guard_exit(struct guard *g);

/* Maps the memory of a store plainly at `at`: no flags, so that neighbours merge.  0 or -errno.
 * */
int guard_plain(const struct guard_spec *spec, uint64_t gpa, uint64_t len, int prot, int store);

/* All return 0 or -errno.  Ranges are whole pages inside the view. */

/* Protects a range as it is mapped. */
int guard_protect(const struct guard *g, uint64_t gpa, uint64_t len);

/* Lets writers at it again, and those who waited go on. */
int guard_open(const struct guard *g, uint64_t gpa, uint64_t len);

/* Maps a range of another store, protected. */
int guard_map(const struct guard *g, uint64_t gpa, uint64_t len, int store);

/* Maps the own store's range back, in one step; for reading only unless `writable`. 
 * guard_settle() must follow: it makes the range writable and wakes who waited. */
int guard_back(const struct guard *g, uint64_t gpa, uint64_t len, bool writable);
int guard_settle(const struct guard *g, uint64_t gpa, uint64_t len, bool was_writable);

/* Keeps writers out of pages that are not protected: they are sent away with EFAULT and not
 * heard of.  guard_settle() ends it. */
int guard_bar(const struct guard *g, uint64_t gpa, uint64_t len);

/* Lets those go on who wait for a page of the range, which is open. */
void guard_wake(const struct guard *g, uint64_t gpa, uint64_t len);

#endif
