/* SPDX-License-Identifier: MIT */
/*
 * Results of a benchmark in the one form all of them share: {"bench", "date", "commit", "machine",
 * "modelled", "rows": [{..., "n", "median", "min", "max"}], "goals": [{"name", "goal", "value",
 * "holds"}]}.  A goal that does not hold stays in the file as false.
 * Threads: one; everything hangs off struct result.
 */
#ifndef DISCO_BENCH_LIB_RESULT_H
#define DISCO_BENCH_LIB_RESULT_H

#include <stdbool.h>
#include <stddef.h>

struct json_t;

/* The file as it grows. */
struct result {
    struct json_t *root;  /* the whole object */
    struct json_t *rows;  /* borrowed from root */
    struct json_t *goals; /* borrowed from root */
};

/* A sample's summary; n = 0: nothing was measured, the rest is 0. */
struct summary {
    size_t n;                /* values */
    double median, min, max; /* in the unit of the values */
};

/* Summary of n values, which are sorted in place. */
struct summary summarize(double *v, size_t n);

/* Begins a result.  commit may be NULL (unknown); machine is taken over. */
void result_init(struct result *r, const char *bench, const char *commit,
                 struct json_t *machine, bool modelled);

/* Adds a row; labels (an object, taken over) says what was measured and in which unit. */
void result_row(struct result *r, struct json_t *labels, const struct summary *s);

/* Adds a goal: value is to be at most limit.  Nothing measured (n = 0) does not hold. */
void result_goal_at_most(struct result *r, const char *name, const char *unit, double limit,
                         double value, bool measured);

/* Writes the file by a temporary one and frees all; 0 or -1 with errno. */
int result_write(struct result *r, const char *path);

#endif
