/* SPDX-License-Identifier: MIT */
/*
 * Machines we do not have, in one line: "nodes=4,cpus=2,mem=1G,free=512M,dist=20" into struct topo.
 * Interface: topo_synth().  CPUs are numbered node after node; every node is its own socket.
 * Values per node are separated by '/', so are the rows of a distance matrix.
 * Every number is bounded before it is used: the text comes from a command line or a test.
 * No state, no locks.
 */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "numa/topo.h"

enum { LOCAL = 10, REMOTE = 20, HOP = 10 };

/* Largest memory of one node: keeps sums over 64 nodes far from wrapping. */
#define NODE_MEM_MAX (1ull << 48)

/* What the keys said, before it becomes a topology. */
struct synth {
    const char *text;              /* whole description, for messages */
    unsigned nodes;                /* 0: not said */
    uint64_t cpus[TOPO_MAX_NODES]; /* per node */
    uint64_t mem[TOPO_MAX_NODES];  /* bytes per node */
    uint64_t room[TOPO_MAX_NODES]; /* free bytes per node */
    uint64_t huge[TOPO_MAX_NODES]; /* bytes of hugetlb pages per node */
    unsigned ncpus, nmem;          /* values given: 0, 1 (for all) or one per node */
    unsigned nroom, nhuge;         /* as these */
    char *dist;                    /* text of the distances, NULL: default; owned */
};

bool topo_parse_size(const char *s, const char **end, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    const char *u;
    char *stop;
    double v;

    if (!isdigit((unsigned char)*s))
        return false;
    v = strtod(s, &stop);
    u = *stop ? strchr(units, toupper((unsigned char)*stop)) : NULL;
    if (u) {
        v = ldexp(v, 10 * (int)(u - units + 1));
        stop++;
        if (*stop == 'i')
            stop++;
    }
    if (*stop == 'B' || *stop == 'b')
        stop++;
    if (!(v < 9e18))
        return false;
    *end = stop;
    *bytes = (uint64_t)v;
    return true;
}

/* A message about one key. */
static int bad(const struct synth *s, const char *key, const char *right, struct err *err)
{
    return fail(err, EXIT_USAGE, EINVAL, "synthetic machine \"%s\": %s: %s", s->text, key,
                right);
}

/* Parses "v" or "v/v/v" into out; size: with units.  Returns how many, 0 when wrong. */
static unsigned parse_list(const char *v, bool size, uint64_t max, uint64_t *out)
{
    unsigned n = 0;
    char *stop;

    for (;;) {
        if (n == TOPO_MAX_NODES || !isdigit((unsigned char)*v))
            return 0;
        if (!size) {
            out[n] = strtoull(v, &stop, 10);
            v = stop;
        } else if (!topo_parse_size(v, &v, &out[n])) {
            return 0;
        }
        if (out[n++] > max)
            return 0;
        if (*v == 0)
            return n;
        if (*v++ != '/')
            return 0;
    }
}

/* Takes one key=value. */
static int take(struct synth *s, const char *key, const char *val, struct err *err)
{
    uint64_t n[TOPO_MAX_NODES];

    if (!strcmp(key, "nodes")) {
        if (parse_list(val, false, TOPO_MAX_NODES, n) != 1 || n[0] < 1)
            return bad(s, key, "a number of nodes from 1 to 64", err);
        s->nodes = (unsigned)n[0];
    } else if (!strcmp(key, "cpus")) {
        s->ncpus = parse_list(val, false, TOPO_MAX_CPUS, s->cpus);
        if (!s->ncpus)
            return bad(s, key, "CPUs per node, \"2\" or \"2/2/0/4\"", err);
    } else if (!strcmp(key, "mem")) {
        s->nmem = parse_list(val, true, NODE_MEM_MAX, s->mem);
        if (!s->nmem)
            return bad(s, key, "memory per node, \"1G\" or \"1G/1G/4G\", at most 256T", err);
    } else if (!strcmp(key, "free")) {
        s->nroom = parse_list(val, true, NODE_MEM_MAX, s->room);
        if (!s->nroom)
            return bad(s, key, "free memory per node, \"512M\" or \"512M/1G\"", err);
    } else if (!strcmp(key, "huge")) {
        s->nhuge = parse_list(val, true, NODE_MEM_MAX, s->huge);
        if (!s->nhuge)
            return bad(s, key, "hugetlb pages per node, \"512M\" or \"0/1G\"", err);
    } else if (!strcmp(key, "dist")) {
        free(s->dist);
        s->dist = xstrdup(val);
    } else {
        return bad(s, key, "unknown; known are nodes, cpus, mem, free, huge, dist", err);
    }
    return 0;
}

/* Splits the text at commas and takes every part. */
static int parse(struct synth *s, struct err *err)
{
    char *copy = xstrdup(s->text), *save = NULL, *eq;
    int rc = 0;

    for (char *p = strtok_r(copy, ",", &save); p && !rc; p = strtok_r(NULL, ",", &save)) {
        while (*p == ' ')
            p++;
        eq = strchr(p, '=');
        if (!eq) {
            rc = bad(s, p, "key=value is needed", err);
            break;
        }
        *eq = 0;
        rc = take(s, p, eq + 1, err);
    }
    free(copy);
    return rc;
}

/* Checks how many values a key got, and spreads a single one over all nodes. */
static int spread(const struct synth *s, const char *key, uint64_t *v, unsigned n,
                  struct err *err)
{
    if (n == 1)
        for (unsigned i = 1; i < s->nodes; i++)
            v[i] = v[0];
    else if (n != s->nodes)
        return fail(err, EXIT_USAGE, EINVAL,
                    "synthetic machine \"%s\": %s: %u values for %u nodes; give one for all or "
                    "one per node",
                    s->text, key, n, s->nodes);
    return 0;
}

/* Fills in what was not said and checks what was. */
static int complete(struct synth *s, struct err *err)
{
    uint64_t cpus = 0;
    int rc;

    if (!s->nodes)
        s->nodes = s->ncpus > 1 ? s->ncpus : s->nmem > 1 ? s->nmem : 1;
    if (!s->ncpus)
        s->ncpus = 1, s->cpus[0] = 1;
    if (!s->nmem)
        s->nmem = 1, s->mem[0] = 1ull << 30;
    rc = spread(s, "cpus", s->cpus, s->ncpus, err);
    if (!rc)
        rc = spread(s, "mem", s->mem, s->nmem, err);
    if (!rc && s->nroom)
        rc = spread(s, "free", s->room, s->nroom, err);
    if (!rc && s->nhuge)
        rc = spread(s, "huge", s->huge, s->nhuge, err);
    for (unsigned i = 0; i < s->nodes && !rc; i++) {
        cpus += s->cpus[i];
        if (!s->nroom)
            s->room[i] = s->mem[i] > s->huge[i] ? s->mem[i] - s->huge[i] : 0;
        if (s->room[i] + s->huge[i] > s->mem[i])
            rc = bad(s, "free", "with huge more than the node's memory", err);
    }
    if (!rc && (cpus < 1 || cpus > TOPO_MAX_CPUS))
        rc = bad(s, "cpus", "1 to 4096 CPUs in all", err);
    return rc;
}

/* Makes the nodes of a complete description. */
static void make_nodes(struct topo *t, const struct synth *s)
{
    struct topo_node *n;

    t->nnodes = s->nodes;
    for (unsigned i = 0; i < s->nodes; i++) {
        n = &t->node[i];
        n->os = (int)i;
        n->package = (int)i;
        n->mem_total = s->mem[i];
        n->mem_free = s->room[i];
        n->huge_free = s->huge[i];
        n->ncpus = (unsigned)s->cpus[i];
        n->cpus = n->ncpus ? xcalloc(n->ncpus, sizeof(int)) : NULL;
        for (unsigned c = 0; c < n->ncpus; c++)
            n->cpus[c] = (int)t->ncpus++;
    }
}

/* Distance of hops steps. */
static uint8_t hops_dist(unsigned hops)
{
    return hops * HOP > UINT8_MAX - LOCAL ? UINT8_MAX : (uint8_t)(LOCAL + hops * HOP);
}

/* Steps from i to j round a ring of n. */
static unsigned ring_hops(unsigned i, unsigned j, unsigned n)
{
    unsigned d = i > j ? i - j : j - i;

    return d < n - d ? d : n - d;
}

/* Fills distances by a formula: 'c'ube, 'r'ing, or one remote value. */
static void formula_dist(struct topo *t, char kind, uint8_t remote)
{
    for (unsigned i = 0; i < t->nnodes; i++) {
        for (unsigned j = 0; j < t->nnodes; j++) {
            if (kind == 'c')
                t->dist[i][j] = hops_dist((unsigned)__builtin_popcount(i ^ j));
            else if (kind == 'r')
                t->dist[i][j] = hops_dist(ring_hops(i, j, t->nnodes));
            else
                t->dist[i][j] = i == j ? LOCAL : remote;
        }
    }
}

/* Reads a whole matrix, rows separated by '/'; false when it is not n by n of 10..255, with 10
 * on the diagonal and more elsewhere. */
static bool matrix_dist(struct topo *t, const char *text)
{
    unsigned i = 0, j = 0;
    unsigned long d;
    char *end;

    for (const char *p = text;; p = end) {
        while (*p == ' ')
            p++;
        if (!isdigit((unsigned char)*p) || i >= t->nnodes || j >= t->nnodes)
            return false;
        d = strtoul(p, &end, 10);
        if (d > UINT8_MAX || (i == j ? d != LOCAL : d <= LOCAL))
            return false;
        t->dist[i][j++] = (uint8_t)d;
        while (*end == ' ')
            end++;
        if (*end != '/' && *end != 0)
            continue;
        if (j != t->nnodes)
            return false;
        i++;
        j = 0;
        if (*end == 0)
            return i == t->nnodes;
        end++;
    }
}

/* Fills the distances of t as dist= says. */
static int make_dist(struct topo *t, const struct synth *s, struct err *err)
{
    static const char right[] =
        "a remote distance from 11 to 255, \"ring\", \"cube\", or a row "
        "for each node: \"10 20/20 10\"";
    uint64_t v[TOPO_MAX_NODES];

    if (!s->dist) {
        formula_dist(t, 0, REMOTE);
    } else if (!strcmp(s->dist, "ring") || !strcmp(s->dist, "cube")) {
        formula_dist(t, s->dist[0], 0);
    } else if (strpbrk(s->dist, " /")) {
        if (!matrix_dist(t, s->dist))
            return bad(s, "dist", right, err);
    } else {
        if (parse_list(s->dist, false, UINT8_MAX, v) != 1 || v[0] <= LOCAL)
            return bad(s, "dist", right, err);
        formula_dist(t, 0, (uint8_t)v[0]);
    }
    return 0;
}

int topo_synth(struct topo *t, const char *text, struct err *err)
{
    struct synth *s = xcalloc(1, sizeof(*s));
    int rc;

    memset(t, 0, sizeof(*t));
    s->text = text;
    rc = parse(s, err);
    if (!rc)
        rc = complete(s, err);
    if (!rc) {
        t->synthetic = true;
        t->name = xstrdup(text);
        make_nodes(t, s);
        rc = make_dist(t, s, err);
        if (rc)
            topo_free(t);
    }
    free(s->dist);
    free(s);
    return rc;
}
