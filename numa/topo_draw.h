/* SPDX-License-Identifier: MIT */
/*
 * The machine and who is where, for people and programs: a table, a drawing, JSON.
 * All three take the same input and decide nothing.
 * Threads: any; nothing is kept between calls.
 */
#ifndef DISCO_NUMA_TOPO_DRAW_H
#define DISCO_NUMA_TOPO_DRAW_H

#include <stdint.h>
#include <stdio.h>

struct json_t;
struct place_got;
struct topo;

/* One guest to be shown.  Everything belongs to the caller. */
struct topo_guest {
    const char *name;              /* as in the configuration */
    unsigned vcpus;                /* at least 1 */
    uint64_t memory;               /* bytes */
    const struct place_got *place; /* where it is; its nodes exist in the topology */
    const char *state;             /* a word: "planned", "running"; NULL: not shown */
};

/* Writes the table: nodes, CPUs, memory, distances and, when n > 0, the guests.
 * Returns 0, or -EIO when the file took not everything. */
int topo_text(FILE *f, const struct topo *t, const struct topo_guest *g, unsigned n);

/* Writes a self-contained SVG, 1200 units wide.  Returns as topo_text(). */
int topo_svg(FILE *f, const struct topo *t, const struct topo_guest *g, unsigned n);

/* The same as JSON: {"name", "synthetic", "nodes": [..], "distances": [[..]], "guests": [..]}.
 * A new reference (jansson); never NULL. */
struct json_t *topo_json(const struct topo *t, const struct topo_guest *g, unsigned n);

#endif
