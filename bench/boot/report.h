/* SPDX-License-Identifier: MIT */
/*
 * What report.c and markdown.c share: the subjects, the figures and the goals of bench/boot.
 */
#ifndef DISCO_BENCH_BOOT_REPORT_H
#define DISCO_BENCH_BOOT_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "bench/boot/runs.h"

struct json_t;

/* One goal and how it came out. */
struct goal {
    const char *name; /* what it is about */
    const char *unit; /* of limit and value */
    double limit;     /* at most this */
    double value;     /* what it is */
    bool measured;    /* value is valid */
};

enum { NGOALS = 4 };

/* All there is to tell. */
struct report {
    struct json_t *runs;       /* raw lines */
    struct json_t *machine;    /* {"host": {...}, "lab": {...}}, all strings */
    struct goal goals[NGOALS]; /* in the order of their table */
};

/* Subjects in the order in which they are shown, ended by part == NULL. */
extern const struct subject subjects[];

/* Figures of the two parts, ended by path == NULL. */
extern const struct measure boot_measures[];
extern const struct measure exit_measures[];
extern const struct measure start_measures[];

/* Writes the page for people. */
void markdown_write(FILE *f, const struct report *r);

#endif
