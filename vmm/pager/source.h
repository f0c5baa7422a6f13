/* SPDX-License-Identifier: MIT */
/*
 * Where the pager learns who uses which page: sources of samples, an ops table.  All of them feed
 * the same counters.
 *
 * faults  a rotating sample of pages is revoked in the views (vmm/pager/sample.c); anywhere
 * flash   counters per page and node that the machine keeps: the emulated one of the lab does, as
 *         the FLASH machine did for which these policies were made
 * ibs     AMD's instruction-based sampling; pebs: Intel's sampled loads; where the host has them
 *
 * Threads: the pager's thread calls everything but source_by_name() and found().
 */
#ifndef DISCO_VMM_PAGER_SOURCE_H
#define DISCO_VMM_PAGER_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "numa/counters.h"
#include "numa/pagemap.h"
#include "numa/policy.h"

struct action;
struct agreement;
struct err;
struct pager;
struct source;

/* What a source is made of. */
struct source_spec {
    struct pager *pager;       /* whose pages; stays the caller's */
    struct counters *counters; /* where counts go; the same */
    unsigned nnodes;           /* of the pager */
    const int *node_host;      /* the host's number of each node, -1: none */
    uint64_t interval_ns;      /* between two calls of collect() */
    unsigned cpus;             /* of the guest */
    unsigned share;            /* permille of their time that sampling may take */
    bool steady;               /* to look in every interval, whatever is found */
    uint64_t low, high;        /* RAM from 0 on and from 4 GiB on, bytes */
    const char *region;        /* tests: a file in place of the machine's counters; NULL */
};

/* A kind of source. */
struct source_ops {
    const char *name, *about; /* for configurations; one line for people */
    bool revokes;             /* the pager must be made with spec.samples */
    /* Whether this host has it; if not, why (up to len bytes).  Any thread. */
    bool (*found)(char *why, unsigned len);
    /* Makes s->own; 0 or -errno with a message. */
    int (*start)(struct source *s, struct err *err);
    /* An interval is over: tells what was used in it by source_saw(). */
    void (*collect)(struct source *s);
    /* The pager did, just now, the first `good` of n actions, and tried the others; may be NULL.  No
     * lock is held. */
    void (*acted)(struct source *s, const struct action *acts, unsigned n, unsigned good);
    /* Counts age by a bit once in so many intervals; NULL: as the policy wants. */
    unsigned (*age_every)(const struct source *s);
    /* How much is sampled: units an interval; NULL: all there is. */
    uint64_t (*rate)(const struct source *s);
    void (*stop)(struct source *s);
};

/* A source at work. */
struct source {
    const struct source_ops *ops;
    struct source_spec spec;
    void *own;                     /* the kind's state */
    struct policy_traffic traffic; /* of this interval */
    /* since the start; weighted, as counts are */
    uint64_t local[PAGEMAP_NODES];  /* uses by a node of pages that it has near */
    uint64_t remote[PAGEMAP_NODES]; /* and of others */
    uint64_t writes;                /* of both */
    uint64_t acted_ns;              /* CPU time that actions took, since the start */
};

/* All kinds, ended by NULL; the first is the default. */
extern const struct source_ops *const sources[];

/* By name; NULL: there is none. */
const struct source_ops *source_by_name(const char *name);

/* Starts one; 0 or -errno with a message. */
int source_start(struct source *s, const struct source_ops *ops, const struct source_spec *spec,
                 struct err *err);
void source_stop(struct source *s);

/* An interval is over, after some that were let pass: begins with traffic of none and collects. */
void source_collect(struct source *s, uint32_t passed);

/* The pager did, just now, the first `good` of n actions, tried the others, and it took so much CPU time. */
void source_acted(struct source *s, const struct action *acts, unsigned n, unsigned good,
                  uint64_t took_ns);

/* A node used a page.  True: it has it near. */
bool source_saw(struct source *s, uint64_t gfn, struct node_use use);

/* Number of a page among all of RAM, without the hole, and back. */
uint64_t source_unit(const struct source *s, uint64_t gfn);
uint64_t source_gfn(const struct source *s, uint64_t unit);

/* How well a source agrees with one that is believed, by what both have counted so far, in lists of
 * `top` pages.  Both are of the same pager and have counters of their own.  0 or -ENOMEM. */
int source_agreement(const struct source *believed, const struct source *tried, uint32_t top,
                     struct agreement *out);

/* The kinds: rows of sources[]. */
extern const struct source_ops source_faults, source_flash, source_ibs, source_pebs;

#endif
