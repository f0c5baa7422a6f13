/* SPDX-License-Identifier: MIT */
/*
 * The pager's thread: once in an interval it takes what was sampled, lets the policy decide and has
 * it done.  Also runs the checker, where that is asked for.
 *
 * Threads.  The thread `pager`; the calls here come from any other.  Lock order: loop's lock, then
 * the pager's.  Invariant L6: a page work budget holds over any interval, the policy sees to it
 * (numa/policy.h, L3); what sampling may cost the source sees to.
 */
#ifndef DISCO_VMM_PAGER_LOOP_H
#define DISCO_VMM_PAGER_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "numa/agreement.h"
#include "numa/pagemap.h"
#include "numa/policy.h"
#include "vmm/pager/pager.h"

struct err;
struct page_loop;
struct source_ops;

/* What the thread is made of. */
struct loop_spec {
    struct pager *pager;             /* stays the caller's, must outlive the loop */
    const struct policy_ops *policy; /* what decides; with a judge */
    const struct source_ops *source; /* what tells */
    const struct source_ops *check;  /* what tells how good it is; NULL */
    struct policy_tune tune;         /* thresholds */
    struct policy_machine machine;   /* latencies */
    int node_host[PAGEMAP_NODES];    /* the host's number of each node, -1: none */
    uint64_t low, high;              /* RAM from 0 on and from 4 GiB on, bytes */
    uint64_t interval_ns;            /* length of an interval */
    uint64_t check_ns;               /* the checker's period; 0: it does not run */
    unsigned cpus;                   /* of the guest */
    unsigned sample_share;           /* permille of their time that sampling may take */
};

/* What it has seen and done since the start. */
struct loop_figures {
    const char *policy, *source;    /* names */
    uint64_t interval_ns;           /* length of an interval */
    uint64_t intervals;             /* of them */
    uint64_t waited;                /* of them, in which actions done before had to be paid */
    uint64_t checks;                /* proofs that held */
    uint64_t elapsed_ns;            /* since the start, without pauses */
    uint64_t thread_ns;             /* CPU time of the pager's thread */
    uint64_t fault_ns;              /* CPU time of fault threads */
    uint64_t check_ns;              /* of thread_ns, for proofs */
    uint64_t rate;                  /* pages sampled per interval now; 0: all */
    uint64_t writes;                /* of all uses seen, weighted */
    uint64_t local[PAGEMAP_NODES];  /* uses by each node of pages it has near */
    uint64_t remote[PAGEMAP_NODES]; /* and of others */
    struct policy_numbers decided;  /* by the policy */
    struct pager_stats done;        /* by the pager */
    uint64_t failed;                /* actions that did not come about */
    unsigned cost_percent;          /* what actions cost here, of what the table says */
    unsigned believed[GAIN_KINDS];  /* permille of gains that come, by what they are */
    uint32_t span;                  /* intervals between two looks at a page */
    bool cpuless[PAGEMAP_NODES];    /* the host took the node's CPUs away */
    unsigned cpus;                  /* of the guest */
    const char *check;              /* name of what `agreement` is with; NULL: none */
    struct agreement agreement;     /* of what is known of pages now */
};

/* Starts the thread; 0 or -errno with a message. */
int loop_start(struct page_loop **out, const struct loop_spec *spec, struct err *err);

/* Ends it; no action is under way when this returns.  last: what it has seen and done. */
void loop_stop(struct page_loop *l, struct loop_figures *last);

/* While the guest is paused nothing is decided. */
void loop_pause(struct page_loop *l, bool paused);

/* How it stands; while an interval's look takes long, as it stood when last asked, but for what the
 * pager has done.  One thread at a time asks: the cell's io0. */
void loop_figures(struct page_loop *l, struct loop_figures *out);

/* What is known of the use of a page now; use->n = 0: nothing. */
void loop_use(struct page_loop *l, uint64_t gfn, struct page_use *use);

/* Tells see(arg, use) of every page of which something is known, in no order, with the loop's lock
 * held: see() calls nothing here.  The lock is let go now and then, so that no interval is late. */
void loop_uses(struct page_loop *l, void (*see)(void *arg, const struct page_use *use),
               void *arg);

/* A node is another one of the host from now on: its free memory and CPUs are looked at. */
void loop_rehome(struct page_loop *l, int from, int to);

/* Adds the use of all pages that are counted to the entries of `sum` of their 2 MiB blocks; n of
 * them. */
void loop_heat(struct page_loop *l, uint64_t *sum, uint64_t n);

#endif
