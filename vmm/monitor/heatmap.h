/* SPDX-License-Identifier: MIT */
/*
 * A guest's memory as `disco heatmap` shows it: what the cell says (docs/stat.md), checked, and the
 * picture of it.  Threads: any; a map belongs to one.
 */
#ifndef DISCO_VMM_MONITOR_HEATMAP_H
#define DISCO_VMM_MONITOR_HEATMAP_H

#include <stdint.h>
#include <stdio.h>

#include "numa/topo.h"
#include "vmm/monitor/member.h"

struct err;
struct json_t;

enum { HEATMAP_CELLS = 4096 };

/* What is counted for each node: pages but for the last two. */
enum heat_kind {
    HEAT_PRIVATE,  /* nobody else has it */
    HEAT_MASTERS,  /* it has replicas elsewhere */
    HEAT_REPLICAS, /* it is one */
    HEAT_SHARED,   /* other guests have it, too */
    HEAT_READS,    /* uses lately, weighted */
    HEAT_WRITES,
    HEAT_KINDS
};

/* A part of memory. */
struct heat_cell {
    uint64_t gpa, bytes; /* where; never 0 bytes */
    uint64_t absent;     /* pages that are not in memory */
};

/* A map.  Numbers are at most 2^53. */
struct heatmap {
    char name[MEMBER_SHOWN], policy[MEMBER_SHOWN], source[MEMBER_SHOWN]; /* of the guest */
    uint64_t size;            /* of the guest's memory, bytes */
    uint64_t step;            /* one page in so many was looked at */
    unsigned nnodes;          /* 1..TOPO_MAX_NODES */
    int node[TOPO_MAX_NODES]; /* their numbers */
    unsigned n;               /* entries of cell, at least 1 */
    struct heat_cell *cell;   /* by rising gpa, none over another */
    uint64_t *count;          /* [n][HEAT_KINDS][nnodes] */
};

/* Reads and checks what a cell said; EXIT_GUEST when it makes no sense.  Undone by
 * heatmap_free(). */
int heatmap_read(struct heatmap *h, const struct json_t *said, struct err *err);

void heatmap_free(struct heatmap *h);

/* The counts of a cell, one for each node. */
const uint64_t *heatmap_counts(const struct heatmap *h, unsigned cell, enum heat_kind kind);

/* Writes a self-contained SVG, 1200 units wide; 0, or -EIO when the file took not everything. */
int heatmap_svg(FILE *f, const struct heatmap *h);

#endif
