/* SPDX-License-Identifier: MIT */
/*
 * What the programs of the report on the memory-system model share: the judged cases, and how they
 * are written for people.
 */
#ifndef DISCO_BENCH_MEMSYS_REPORT_H
#define DISCO_BENCH_MEMSYS_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "bench/lib/result.h"

struct json_t;

enum { REPS_MAX = 50, CASES_MAX = 200 };

/* A case in a part, judged. */
struct judged {
    const char *part;     /* name of the plan */
    const char *about;    /* of the part, for people */
    const char *name;     /* of the case */
    double limit;         /* % */
    unsigned reps;        /* that were to be */
    unsigned figures;     /* compared in each repetition */
    bool whole;           /* every repetition has all of them */
    struct summary worst; /* over repetitions: the largest deviation of any figure, % */
    double spread;        /* the largest of all figures: (max - min) / median, % */
    const char *at;       /* the figure with the largest deviation */
};

/* All of it. */
struct report {
    struct json_t *plans;   /* in their order */
    struct json_t *rows;    /* of all parts */
    struct json_t *machine; /* {"host": {...}, "lab": {...}} */
    struct judged cases[CASES_MAX];
    unsigned ncases; /* entries of cases */
};

/* Does it hold? */
static inline bool judged_holds(const struct judged *j)
{
    return j->whole && j->worst.n && j->worst.max <= j->limit;
}

/* The figure of this part, case, variant and measure over all repetitions; its expected value, what
 * deviations are held against, and the summary.  False: not there. */
bool report_figure(const struct report *r, const struct json_t *like, double *expected,
                   double *scale, struct summary *s);

/* Is this row the first one of its figure? */
bool report_first(const struct report *r, size_t index);

/* The page for people, and the table on the terminal. */
void markdown_write(FILE *f, const struct report *r);
void table_write(FILE *f, const struct report *r);

#endif
