/* SPDX-License-Identifier: MIT */
/*
 * The raw lines of bench/boot (one JSON object per run of a VMM, by runvmm.c) and questions to
 * them.  Threads: one.
 */
#ifndef DISCO_BENCH_BOOT_RUNS_H
#define DISCO_BENCH_BOOT_RUNS_H

#include <stddef.h>

#include "bench/lib/result.h"

struct json_t;

/* What was compared: a VMM as it was started, in one part of the experiment. */
struct subject {
    const char *part; /* "boot", "boot-elf" or "start" */
    const char *vmm;  /* label in the raw lines */
    unsigned vcpus;   /* likewise */
    const char *name; /* for people */
};

/* A figure of a run. */
struct measure {
    const char *path; /* where it is in the line: "text_ms", "kvm/io_exits" */
    const char *name; /* for people, and in the result */
    const char *unit; /* "ms", "KiB", "" for a count */
};

/* Adds all lines of a file to runs (an array); lines that are no JSON are passed over.  0, or -1
 * when there is no such file. */
int runs_read(struct json_t *runs, const char *path);

/* Summary of a figure over all runs of a subject in which the guest came as far as was waited for.
 * A KVM counter that is not in a line was 0. */
struct summary runs_of(const struct json_t *runs, const struct subject *s,
                       const struct measure *m);

/* Runs of a subject that were tried, with or without success. */
size_t runs_tried(const struct json_t *runs, const struct subject *s);

#endif
