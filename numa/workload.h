/* SPDX-License-Identifier: MIT */
/*
 * What a guest does with its memory, for replay: for each active page and interval, how often
 * each node missed on it.  Synthetic, or read from a trace.  A workload is a function of
 * (page, interval) without a state, so that replay can go by time and the oracle by page, and
 * a guest of 1 TiB costs the memory of its active pages' states only. Threads: read-only
 * after it was made.
 */
#ifndef DISCO_NUMA_WORKLOAD_H
#define DISCO_NUMA_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "numa/counters.h"

struct err;
struct workload;

/* How a workload tells. */
struct workload_ops {
    /* Use of active page k in interval t; use->n = 0: none. */
    void (*use)(const struct workload *w, uint32_t k, uint32_t t, struct page_use *use);
    /* Node that touches it first. */
    unsigned (*toucher)(const struct workload *w, uint32_t k);
    /* Do writes happen that no counter sees, as those of nested page walks to page tables? */
    bool (*hidden)(const struct workload *w, uint32_t k);
    /* Active page of a unit of the guest; UINT32_MAX: it is not active. */
    uint32_t (*active)(const struct workload *w, uint64_t unit);
    /* Unit of an active page. */
    uint64_t (*unit)(const struct workload *w, uint32_t k);
    void (*free)(struct workload *w);
};

enum { WORKLOAD_CLASSES = 16 };

enum workload_kind {
    WL_PRIVATE,   /* one node */
    WL_READ,      /* several nodes read, nobody writes */
    WL_WRITE,     /* several nodes read and write */
    WL_ALTERNATE, /* two nodes in turn */
    WL_PHASES,    /* one node, another one after a while */
    WL_MOSTLY,    /* several nodes read, now and then one writes */
    WL_TABLE,     /* as WL_READ; hidden writes */
    WL_KINDS
};

/* Pages that behave alike. */
struct workload_class {
    enum workload_kind kind;
    uint32_t first, pages; /* active pages */
    uint32_t rate;         /* misses per page and interval, all nodes together */
    uint32_t nodes;        /* that share a page; 0: all */
    uint32_t writes;       /* percent */
    uint32_t period;       /* intervals, of kinds that change */
    uint32_t moved;        /* percent of pages first touched by a node that does not use them */
    uint32_t skew;         /* rates are divided by 2^0 .. 2^skew */
};

/* A workload. */
struct workload {
    const struct workload_ops *ops;
    char name[64];        /* for people */
    unsigned nnodes;      /* of the machine */
    uint32_t active;      /* pages that are used at all */
    uint64_t units;       /* pages, or blocks, of the guest */
    bool block;           /* units are blocks of 2 MiB */
    uint32_t intervals;   /* of the whole */
    uint64_t interval_ns; /* length of one */
    uint32_t compute_ns;  /* work between two misses */
    uint64_t seed;        /* synthetic: of all that is random */
    uint32_t busy;   /* synthetic: percent of CPU time the load fills if all is local; 0: any */
    uint32_t run;    /* synthetic: so many neighbours are used by the same nodes, at least 1 */
    uint64_t scale;  /* synthetic: factor on all rates, 2^-16; at least 1 */
    uint64_t stride; /* synthetic: active pages are spread over the guest */
    unsigned nclasses; /* entries of classes */
    struct workload_class classes[WORKLOAD_CLASSES];
    struct workload_trace *trace; /* of a trace; else NULL */
};

/* A synthetic workload by name. */
struct workload_name {
    const char *name, *about, *text; /* text: its description */
};

/* All of them, ended by name == NULL. */
extern const struct workload_name workloads[];

/*
 * Reads a name or a description:
 * "[mem=1T,page=2M,intervals=100,interval=100,seed=1,compute=100,busy=100,run=1]" and then for each
 * class "+KIND=PAGES[,rate=400,nodes=0,writes=30,period=20,moved=50,skew=0]". KIND is
 * private, read, write, alternate, phases, mostly or table; interval is in ms, compute in ns;
 * run= says how many neighbours are used by the same nodes at the same times (rates and single
 * writes stay their own); with busy, rates matter relative to one another only (workload_fit()). 0 or -EINVAL
 * (EXIT_USAGE).
 */
int workload_read(struct workload *w, const char *text, unsigned nnodes, struct err *err);

/* Scales a synthetic workload with busy= to a machine: so many CPUs are busy for that
 * percentage of the time if every miss takes local_ns.  Others stay as they are. */
void workload_fit(struct workload *w, unsigned cpus, unsigned local_ns);

/* Which records of a trace are read. */
struct workload_filter {
    int guest;      /* tag; -1: all */
    uint32_t group; /* intervals of the trace that become one; at least 1 */
    uint32_t mhz;   /* instructions per us and CPU, while nothing misses; at least 1 */
};

/* Reads a trace of the memory-system model (numa/trace_format.h); nnodes are those of the
 * machine it is replayed on, and at least the trace's.  A page of a trace of a whole machine begins on the
 * node it was on; one of a guest's, where it is first used.  0 or -errno: EXIT_RESOURCE. */
int workload_trace(struct workload *w, const char *path, unsigned nnodes,
                   const struct workload_filter *filter, struct err *err);

/* Frees it. */
void workload_free(struct workload *w);

/* The class of an active page, an index of classes; 0 in a trace. */
unsigned workload_class_of(const struct workload *w, uint32_t k);

/* A class's kind by name; "trace" in a trace. */
const char *workload_class_name(const struct workload *w, unsigned i);

/* Number of a page for policies. */
uint64_t workload_page(const struct workload *w, uint32_t k);

/* Bytes of a unit. */
uint64_t workload_bytes(const struct workload *w);

#endif
