/* SPDX-License-Identifier: MIT */
/*
 * bench/numa's reports: all rows of a machine, and the forms in which they are shown.
 * Threads: one.
 */
#ifndef DISCO_BENCH_NUMA_REPORT_H
#define DISCO_BENCH_NUMA_REPORT_H

#include <stdio.h>

#include "bench/numa/runs.h"

enum { REPORT_ROWS = 128, REPORT_GOALS = 6 };

/* What was wanted and what came out. */
struct goal {
    const char *name, *unit; /* of the value */
    double limit, value;     /* the value is to be at most the limit */
    bool measured;           /* value means something */
};

struct json_t;

/* The experiment, on one machine. */
struct report {
    const char *raw;                /* directory of what guests and model left */
    const char *machine;            /* that was modelled */
    const char *commit;             /* of the tree; NULL: unknown */
    unsigned reps;                  /* that were asked for */
    double seconds;                 /* the whole experiment took */
    unsigned nrows;                 /* entries of row */
    struct row row[REPORT_ROWS];    /* by workload, then placement as in the table of them; the
                                       * first placement of each is what others are compared to */
    struct goal goal[REPORT_GOALS]; /* filled in last */
};

/* Reads the rows of all placements of each workload, both lists by comma, and adds to each the row
 * "all-local": the bound that placement can reach.  0, -E2BIG or -ENOMEM. */
int report_add_rows(struct report *r, const char *workloads, const char *placements);

/* Frees the rows. */
void report_free(struct report *r);

/* Runs that were asked for and are not there. */
unsigned report_missing(const struct report *r);

/* A row's time, or the bound's, in ms. */
struct summary report_ms(const struct row *row);

/* A row's labels: what was run, and its typical run in full. */
struct json_t *report_row_json(const struct report *r, const struct row *row);

/* The machine that was modelled. */
struct json_t *report_machine_json(const struct report *r);

/* The row a row is compared to: the first of its workload. */
const struct row *report_base(const struct report *r, const struct row *row);

/* A part of a row's typical time, with that of the base as 100. */
double report_part(const struct report *r, const struct row *row, unsigned part);

/* The median of a row's time, with that of the base as 100. */
double report_relative(const struct report *r, const struct row *row);

/* How far apart the user instructions of all runs of the base's workload are, percent. */
double report_user_spread(const struct report *r, const struct row *base);

/* Different results among the runs of a workload; 1: all the same. */
unsigned report_results(const struct report *r, const struct row *base);

/* The table, for a terminal or as Markdown. */
void table_print(FILE *f, const struct report *r, bool markdown);

/* numa-baseline.md: the table, what it means, where it is weak. */
void markdown_write(FILE *f, const struct report *r);

/* The stacked bars; 0, or -1 when the stream failed. */
int stack_svg(FILE *f, const struct report *r);

/* Names of the parts of the time, short. */
extern const char *const report_parts[RUN_PARTS];

#endif
