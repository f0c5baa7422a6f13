/* SPDX-License-Identifier: MIT */
/*
 * Finds the nodes' memories among the mappings of a process.
 */
#include "bench/memsys/ranges.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds what is mapped next to what is there; false: it is elsewhere. */
static bool extend(struct range *r, uint64_t low, uint64_t high)
{
    if (r->high && r->high != low)
        return false;
    r->low = r->high ? r->low : low;
    r->high = high;
    return true;
}

/* One mapping; false: a node's memory is not in one piece. */
static bool add_mapping(struct ranges *r, const char *line, const char *mem, const char *region,
                        char *buf, unsigned size)
{
    const char *end = line + strcspn(line, "\n"),
               *name = memchr(line, '/', (size_t)(end - line));
    uint64_t low, high;
    unsigned long node;
    char *after;

    if (!name || sscanf(line, "%" SCNx64 "-%" SCNx64, &low, &high) != 2)
        return true;
    if (!strncmp(name, region, strlen(region)) && name + strlen(region) == end) {
        (void)extend(&r->region, low, high);
        return true;
    }
    if (strncmp(name, mem, strlen(mem)))
        return true;
    name += strlen(mem);
    node = strtoul(name, &after, 10);
    if (after == name || after != end || *name < '0' || *name > '9' || node >= r->nnodes)
        return true;
    if (extend(&r->node[node], low, high))
        return true;
    snprintf(buf, size, "the memory of node %lu is mapped in pieces", node);
    return false;
}

bool ranges_find(struct ranges *r, const char *maps, const char *mem, const char *region,
                 unsigned nnodes, uint64_t node_bytes, char *buf, unsigned size)
{
    *r = (struct ranges){.nnodes = nnodes,
                         .node_shift = 63 - (unsigned)__builtin_clzll(node_bytes)};
    for (const char *line = maps; *line; line += *line == '\n') {
        if (!add_mapping(r, line, mem, region, buf, size))
            return false;
        line += strcspn(line, "\n");
    }
    for (unsigned n = 0; n < nnodes; n++) {
        if (r->node[n].high - r->node[n].low == node_bytes)
            continue;
        snprintf(buf, size,
                 "node %u: %s%u is not mapped with %" PRIu64 " MiB: give each node a "
                 "memory-backend-file of that name",
                 n, mem, n, node_bytes >> 20);
        return false;
    }
    return true;
}
