/* SPDX-License-Identifier: MIT */
/*
 * How well two tables of counters of the same guest agree: one that is believed (the machine's
 * own counters, say) and one on trial (sampled faults).  Asked is what a policy asks: which pages
 * are used from afar most, by whom, by how many, and are they written?
 *
 * Parts are between 0 and 1, negative where there was nothing to compare.  Pure; walks all pages
 * given.  Threads: one at a time for both tables.
 */
#ifndef DISCO_NUMA_AGREEMENT_H
#define DISCO_NUMA_AGREEMENT_H

#include <stdint.h>

struct counters;
struct pagemap;

enum {
    AGREEMENT_SHARER =
        8, /* who uses less of a page than one part in so many does not share it */
    AGREEMENT_RIVAL =
        75, /* who uses it so many percent as much as another might as well be named */
};

/* What to compare. */
struct agreement_spec {
    uint64_t first[2], pages[2]; /* up to two ranges of gfns; pages 0: none */
    uint32_t top;                /* length of the lists of pages most used from afar */
    /* Nodes that have a page near, bit n for node n. */
    uint64_t (*near)(const struct pagemap *map, uint64_t gfn);
    const struct pagemap *map; /* first argument of near */
};

/* What came of it. */
struct agreement {
    uint64_t believed, tried, both; /* pages that each table, and both, know any use of */
    uint64_t top, tried_top;        /* pages that each list has */
    double covered;                 /* of the use believed: by pages the other table knows */
    double remote_believed, remote_tried; /* of all use in each table: from afar */
    double recall;    /* of the believed list: pages where the other found use from afar */
    double precision; /* of the tried list: pages where there was use from afar */
    double overlap;   /* of the believed list: pages that are on the other list as well */
    /* of the use believed of pages that both know: by pages where both say that */
    double who;     /* the same node uses it most, or both name one of several rivals */
    double sharers; /* one node uses it, or several */
    double written; /* it is only read, or written */
};

/* Compares; 0 or -ENOMEM. */
int agreement_of(const struct counters *believed, const struct counters *tried,
                 const struct agreement_spec *spec, struct agreement *out);

#endif
