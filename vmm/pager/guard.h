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
 * A guard that samples (spec.samples) can also be asked who uses a page next: guard_revoke()
 * takes pages of the own store out of the view's page table, and the next touch waits, in the
 * same way, until guard_admit() puts them back.  So does the first touch of a page that somebody
 * else has brought into memory.  It needs the thread: KVM could not fetch an instruction that it
 * is to emulate if reads were sent away.
 *
 * Invariants.  G1: a read through the view always finds a page; it waits for nobody unless the
 * guard samples.  G2: the pages of a range are protected from before guard_map() or
 * guard_protect() returns until guard_open(), guard_back() or guard_settle() is called;
 * guard_revoke() and guard_admit() change nothing in that.  G3: outside of a call the view is
 * one mapping for each run of pages of one store: what is undone merges again.
 * Threads: calls are made under the pager's lock; `fault` comes from the guard's own thread.
 */
#ifndef DISCO_VMM_PAGER_GUARD_H
#define DISCO_VMM_PAGER_GUARD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct err;

/* What someone at a guarded page wants. */
enum guard_want {
    GUARD_WRITE,       /* to write; the page is protected */
    GUARD_TOUCH,       /* to read; the page was revoked, or nobody has used this view's yet */
    GUARD_TOUCH_WRITE, /* the same, to write */
};

/* How pages are put back. */
enum guard_admit {
    ADMIT_OPEN,      /* for all */
    ADMIT_WATCHED,   /* protected; where !admits_protected a write just then is not heard of */
    ADMIT_PROTECTED, /* protected without a gap */
};

/* What a guard is made of. */
struct guard_spec {
    uint8_t *base;  /* the view's mapping; all of it is mapped anew */
    uint64_t span;  /* bytes of it */
    int store;      /* memfd that it maps, offset = distance from base */
    unsigned index; /* the view's number */
    int host;       /* node of the host on which the thread is to run at first; -1: any */
    bool on_vcpu;   /* no thread: KVM_RUN returns EFAULT */
    bool huge;      /* 2 MiB pages come only where they are asked for */
    bool samples;   /* guard_revoke() will be called; not with on_vcpu */
    /* Someone waits at gpa. */
    void (*fault)(void *arg, unsigned view, uint64_t gpa, enum guard_want want);
    void *arg; /* its first argument */
};

/* One view's. */
struct guard {
    struct guard_spec spec; /* constant */
    int uffd;               /* userfaultfd */
    int stop;               /* eventfd: the thread is to end */
    int pagemap;            /* /proc/self/pagemap: what is protected */
    bool threaded;          /* thread was made */
    bool admits_protected;  /* a page is put back and protected in one step (6.4) */
    bool true_word;         /* what the kernel says is protected is (6.5; told by 6.6) */
    pthread_t thread;       /* faultN */
    uint64_t *split;        /* bit per 2 MiB of the view: page by page; pager's lock */
    _Atomic int tid;        /* the kernel's number of it, once it runs; the thread writes it */
    _Atomic int host;       /* host node on which it is to run; guard_rehome() writes it */
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

/* The same, where it probably is protected: if asking is cheap, asks first, which flushes no TLB. */
int guard_protect_again(const struct guard *g, uint64_t gpa, uint64_t len);

/* Lets writers at it again, and those who waited go on. */
int guard_open(const struct guard *g, uint64_t gpa, uint64_t len);

/* Maps a range of another store, protected. */
int guard_map(const struct guard *g, uint64_t gpa, uint64_t len, int store);

/* Maps a range of any store for reading only, in one step, and protects nothing. guard_settle() must
 * follow once it is the own store's. */
int guard_show(const struct guard *g, uint64_t gpa, uint64_t len, int store);

/* Puts a mapped range of another store into the view's page table, so that who uses it need not
 * wait for that. */
void guard_fill(const struct guard *g, uint64_t gpa, uint64_t len);

/* Maps the own store's range back, in one step; for reading only unless `writable`. 
 * guard_settle() must follow: it makes the range writable and wakes who waited. */
int guard_back(const struct guard *g, uint64_t gpa, uint64_t len, bool writable);
int guard_settle(const struct guard *g, uint64_t gpa, uint64_t len, bool was_writable);

/* Keeps writers out of pages that are not protected: they are sent away with EFAULT and not
 * heard of.  guard_settle() ends it. */
int guard_bar(const struct guard *g, uint64_t gpa, uint64_t len);

/* Takes pages of the own store out of the view's page table; who uses them next waits. */
int guard_revoke(const struct guard *g, uint64_t gpa, uint64_t len);

/* Puts pages of the own store into the view's page table, as far as they are in memory and not
 * there yet, and wakes who waits; who still finds none comes again.
 * -errno: no mapping is left to part it for (ADMIT_PROTECTED), and nobody was woken. */
int guard_admit(const struct guard *g, uint64_t gpa, uint64_t len, enum guard_admit how);

/* Puts pages for which nobody is known to wait into the view's page table, for all, up to the first
 * that is there already or not in memory. */
void guard_admit_behind(const struct guard *g, uint64_t gpa, uint64_t len);

/* The same for up to 64 pages, passing over those.  Returns a bit for each that came in. */
uint64_t guard_admit_beside(const struct guard *g, uint64_t gpa, uint64_t len);

/* The thread is to run on another node of the host. */
void guard_rehome(struct guard *g, int host);

/* Lets those go on who wait for a page of the range, which is open. */
void guard_wake(const struct guard *g, uint64_t gpa, uint64_t len);

#endif
