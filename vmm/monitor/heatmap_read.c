/* SPDX-License-Identifier: MIT */
/*
 * Checks what a cell says of its guest's memory; see the header.  The cell is not trusted: whatever
 * it says gives a map that can be drawn, or an error.  No state.
 */
#include "vmm/monitor/heatmap.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/err.h"

enum { GAPS = 4 }; /* holes between cells, at most: a PC's memory has one */

#define MOST ((json_int_t)1 << 53)

static const char *const kind_name[HEAT_KINDS] = {"private", "masters", "replicas",
                                                  "shared",  "reads",   "writes"};

/* A number from 0 to MOST; false: it is none. */
static bool number(const json_t *v, uint64_t *out)
{
    json_int_t n = json_integer_value(v);

    *out = (uint64_t)n;
    return json_is_integer(v) && n >= 0 && n <= MOST;
}

/* Numbers of the nodes. */
static bool read_nodes(struct heatmap *h, const json_t *nodes)
{
    size_t n = json_array_size(nodes);

    if (!n || n > TOPO_MAX_NODES)
        return false;
    h->nnodes = (unsigned)n;
    for (unsigned i = 0; i < h->nnodes; i++) {
        const json_t *v = json_array_get(nodes, i);
        json_int_t node = json_integer_value(v);

        if (!json_is_integer(v) || node < -1 || node > UINT16_MAX)
            return false;
        h->node[i] = (int)node;
    }
    return true;
}

/* One number a node; a list that is not there is all 0. */
static bool read_counts(const struct heatmap *h, const json_t *list, uint64_t *out)
{
    if (!list)
        return true;
    if (json_array_size(list) != h->nnodes)
        return false;
    for (unsigned i = 0; i < h->nnodes; i++)
        if (!number(json_array_get(list, i), &out[i]))
            return false;
    return true;
}

/* One cell, which must come behind the one before; *gaps counts those between cells. */
static bool read_cell(struct heatmap *h, unsigned i, const json_t *o, unsigned *gaps)
{
    struct heat_cell *c = &h->cell[i];
    const json_t *absent = json_object_get(o, "absent");

    if (!number(json_object_get(o, "gpa"), &c->gpa) ||
        !number(json_object_get(o, "bytes"), &c->bytes) || !c->bytes)
        return false;
    if (i && c->gpa < c[-1].gpa + c[-1].bytes)
        return false;
    if (i && c->gpa > c[-1].gpa + c[-1].bytes && ++*gaps > GAPS)
        return false;
    if (absent && !number(absent, &c->absent))
        return false;
    for (unsigned k = 0; k < HEAT_KINDS; k++)
        if (!read_counts(h, json_object_get(o, kind_name[k]),
                         h->count + ((size_t)i * HEAT_KINDS + k) * h->nnodes))
            return false;
    return true;
}

/* All of it; false: it makes no sense. */
static bool read_all(struct heatmap *h, const json_t *said)
{
    const json_t *cells = json_object_get(said, "cells");
    size_t n = json_array_size(cells);
    unsigned gaps = 0;

    member_shown(h->name, said, "name");
    member_shown(h->policy, said, "policy");
    member_shown(h->source, said, "source");
    h->size = member_count(said, "size");
    h->step = member_count(said, "step");
    if (!read_nodes(h, json_object_get(said, "nodes")) || !n || n > HEATMAP_CELLS)
        return false;
    h->n = (unsigned)n;
    h->cell = xcalloc(n, sizeof(*h->cell));
    h->count = xcalloc(n * HEAT_KINDS * h->nnodes, sizeof(*h->count));
    for (unsigned i = 0; i < h->n; i++)
        if (!read_cell(h, i, json_array_get(cells, i), &gaps))
            return false;
    return true;
}

int heatmap_read(struct heatmap *h, const struct json_t *said, struct err *err)
{
    *h = (struct heatmap){0};
    if (read_all(h, said))
        return 0;
    heatmap_free(h);
    return fail(err, EXIT_GUEST, EPROTO, "what the cell says of its memory makes no sense");
}

void heatmap_free(struct heatmap *h)
{
    free(h->cell);
    free(h->count);
    *h = (struct heatmap){0};
}

const uint64_t *heatmap_counts(const struct heatmap *h, unsigned cell, enum heat_kind kind)
{
    return h->count + ((size_t)cell * HEAT_KINDS + kind) * h->nnodes;
}
