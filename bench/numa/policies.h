/* SPDX-License-Identifier: MIT */
/*
 * bench/numa --policies: the rows of all machines, goals, and the forms in which they are shown.
 * Threads: one.
 */
#ifndef DISCO_BENCH_NUMA_POLICIES_H
#define DISCO_BENCH_NUMA_POLICIES_H

#include <stdio.h>

#include "bench/numa/report.h"

enum { POLICIES_MACHINES = 4, POLICIES_GOALS = 96, POLICIES_NAME = 160 };

/* What was wanted and what came out. */
struct policies_goal {
    char name[POLICIES_NAME];
    const char *unit;    /* of the value */
    double limit, value; /* the value is to be at most the limit */
    bool measured;       /* value means something */
};

/* The experiment. */
struct policies {
    const char *commit; /* of the tree; NULL: unknown */
    double seconds;     /* the whole experiment took */
    unsigned nmachines, ngoals;
    struct report machine[POLICIES_MACHINES];
    struct policies_goal goal[POLICIES_GOALS];
};

/* A row of a machine by its names; NULL: there is none, or it did not run. */
const struct row *policies_row(const struct report *r, const char *workload,
                               const char *placement);

/* The better of first-touch and interleave for a row's workload; NULL: neither ran. */
const struct row *policies_static(const struct report *r, const char *workload);

/* A row's time where that of the better static placement is 100; 0: not known. */
double policies_relative(const struct report *r, const struct row *row);

/* What host and VMM took more than in the workload's first row, percent of all time. */
double policies_work(const struct report *r, const struct row *row);

/* Actions per second of modelled time, the longest CPU's. */
double policies_rate(const struct row *row);

/* The table of a machine, for a terminal or as Markdown. */
void policies_table(FILE *f, const struct report *r, bool markdown);

/* numa.md. */
void policies_markdown(FILE *f, const struct policies *p);

#endif
