/* SPDX-License-Identifier: MIT */
/*
 * Bar charts as SVG: one picture of several panels below one another, each with horizontal bars on
 * an axis of its own; a bar ends at the median and carries a line from minimum to maximum.
 * Draws on a stream; keeps nothing.  Threads: one.
 */
#ifndef DISCO_BENCH_LIB_BARS_H
#define DISCO_BENCH_LIB_BARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "bench/lib/result.h"

enum { BARS_MAX = 8 };

/* One bar. */
struct bar {
    const char *label; /* left of it */
    struct summary s;  /* what it shows */
    bool ours;         /* drawn in the strong colour */
};

/* One panel. */
struct panel {
    const char *title; /* above it */
    const char *unit;  /* behind every number */
    bool logarithmic;  /* axis; all values must be above 0 */
    double goal;       /* a dashed line there; 0: none */
    unsigned nbars;    /* entries of bars */
    struct bar bars[BARS_MAX];
};

/* Draws the picture: title, a line below it, the panels.  0, or -1 when the stream failed. */
int bars_svg(FILE *f, const char *title, const char *note, const struct panel *panels,
             size_t npanels);

#endif
