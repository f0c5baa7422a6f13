/* SPDX-License-Identifier: MIT */
/*
 * The programs with known answers: cases_one.c for one CPU, cases_many.c for several.
 */
#ifndef DISCO_BENCH_MEMSYS_CASES_H
#define DISCO_BENCH_MEMSYS_CASES_H

struct kit;

/* One of them: it runs, compares and prints. */
struct known_case {
    const char *name;  /* as on the command line */
    const char *about; /* one line for people */
    void (*run)(const struct kit *k, const char *name);
};

/* Ended by name == NULL. */
extern const struct known_case cases_one[];
extern const struct known_case cases_many[];

#endif
