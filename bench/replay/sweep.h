/* SPDX-License-Identifier: MIT */
/*
 * Sweeps of policy thresholds by replay: the points of all curves, and the pictures and
 * tables made of them.  Threads: one.
 */
#ifndef DISCO_BENCH_REPLAY_SWEEP_H
#define DISCO_BENCH_REPLAY_SWEEP_H

#include <stdio.h>

#include "numa/oracle.h"
#include "numa/replay.h"
#include "numa/replay_machine.h"

enum { LOADS = 3, VALUES = 8, KNOBS_MAX = 24, TEXT = 512 };

/* A load the thresholds are swept on. */
struct load {
    const char *name, *machine, *text; /* text: description for workload_read() */
    char made[TEXT];                   /* the description, if it is not text */
    struct replay_machine m;
    struct workload w;
    struct oracle_result oracle;
    struct oracle_result by_class[WORKLOAD_CLASSES];
};

/* One threshold's curve. */
struct curve {
    const char *knob;
    unsigned n;              /* entries of value */
    uint32_t value[VALUES];  /* swept */
    double y[LOADS][VALUES]; /* share of the oracle, 1: as good */
    double work[VALUES];     /* page work of the first load, percent of modelled time */
};

/* Draws all curves; 0 or -1. */
int sweep_svg(FILE *f, const struct load *loads, const struct curve *c, unsigned n);

/* Writes them as tables, for Markdown. */
void sweep_md(FILE *f, const struct load *loads, const struct curve *c, unsigned n);

/* Default of a threshold. */
uint32_t sweep_default(const char *knob);

#endif
