/* SPDX-License-Identifier: MIT */
/*
 * What the model counted for one guest of bench/numa, as modelled time, and all repetitions of a
 * workload under a placement.
 * Time is what the CPUs were busy or waited for memory, summed over all of them: instructions at the
 * machine's rate, and stalls.  A halted CPU takes none.
 * Threads: one.
 */
#ifndef DISCO_BENCH_NUMA_RUNS_H
#define DISCO_BENCH_NUMA_RUNS_H

#include <stdbool.h>
#include <stddef.h>

#include "bench/lib/result.h"

enum { RUN_CPUS = 32, RUN_NODES = 16, RUN_REPS = 64, RUN_SUM = 32 };

/* Parts of the time: instructions of the guest's programs, of its kernel, of the host and its VMM;
 * waiting, by all of them, for memory of the CPU's own node and of others. */
enum run_part { RUN_USER, RUN_KERNEL, RUN_HOST, RUN_LOCAL, RUN_REMOTE, RUN_PARTS };

/* One CPU, or all of them together. */
struct run_time {
    unsigned node;           /* where the CPU is; of all together 0 */
    double part[RUN_PARTS];  /* seconds */
    double miss[RUN_NODES];  /* lines fetched or made writable, by node of the memory */
    double stall[RUN_NODES]; /* seconds, likewise */
    double local;            /* of all misses, those at the CPU's own node */
    double bound;            /* seconds of stall had all been local and memory quiet */
    double insns, user;      /* instructions; those of the guest's programs */
    double host;             /* seconds of host and VMM, stalls included */
};

/* What the pager did in one guest during the region, by its own figures. */
struct run_pages {
    bool known;      /* there was a pager, and both looks at it succeeded */
    char policy[24]; /* names */
    char source[24];
    double migrated, replicated, collapsed, evicted; /* pages */
    double refused;                                  /* actions that did not come about */
    double touches, revoked;                         /* of samples */
    double intervals, waited;                        /* decisions; times one was put off */
    double work_ms;  /* CPU time of the pager and of fault threads, by the lab's clock */
    double share;    /* of all CPU time since the guest's start; likewise */
    double replicas; /* pages that there are at the end */
    struct json_t
        *agreement; /* of samples with what is believed (docs/stat.md); NULL: unknown */
};

/* One guest. */
struct run {
    char sum[RUN_SUM];             /* of the workload's output */
    double sectors;                /* read from the guest's disk meanwhile; -1: unknown */
    unsigned ncpus, nnodes;        /* of the machine */
    double insn_ns;                /* time of an instruction */
    double latency[RUN_NODES];     /* ns from a CPU of node 0, by node of the memory */
    struct run_pages pages;        /* what the pager did */
    struct run_time all;           /* the sum of cpu */
    struct run_time cpu[RUN_CPUS]; /* by number */
};

/* A workload under a placement. */
struct row {
    char workload[32], placement[32]; /* names */
    unsigned n;                       /* entries of run */
    struct run *run[RUN_REPS];        /* in order of their time */
    struct summary time;              /* seconds */
    double bound;                     /* above 0: not run, computed from others */
};

/* Reads RAW/WORKLOAD.PLACEMENT.REP.json, .con, .ready and .run; NULL when one of the first two is
 * missing or makes no sense. */
struct run *run_read(const char *raw, const char *workload, const char *placement,
                     unsigned rep);

/* All of it, seconds. */
double run_seconds(const struct run_time *t);

/* All misses of a CPU or of all. */
double run_misses(const struct run_time *t);

/* Actions that the pager did: pages moved, copied, collapsed and evicted. */
double run_actions(const struct run_pages *p);

/* Of all misses those to the CPU's own node, percent. */
double run_local_percent(const struct run *r);

/* The time of the CPU that took longest, seconds. */
double run_longest(const struct run *r);

/* Reads up to reps repetitions into a row and sums up. */
void row_read(struct row *row, const char *raw, unsigned reps);

/* The run whose time is the row's median (the lower of two); NULL without runs. */
const struct run *row_typical(const struct row *row);

/* (largest - smallest) / median, in percent. */
double row_spread(const struct row *row);

/* Frees the runs. */
void row_free(struct row *row);

#endif
