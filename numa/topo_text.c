/* SPDX-License-Identifier: MIT */
/*
 * The machine and its guests as a table (topo_text) and as JSON (topo_json); see topo_draw.h.
 * Reads its input only; no state, no locks.
 */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/err.h"
#include "numa/place.h"
#include "numa/topo.h"
#include "numa/topo_draw.h"

enum {
    NAMES_MAX = 48, /* columns the guests of a node may take */
};

/* vCPUs of all guests on a node. */
static unsigned vcpus_on(const struct topo_guest *g, unsigned n, int node)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += place_vcpus_on(g[i].place, g[i].vcpus, node);
    return sum;
}

/* True if the guest has memory, vCPUs or a view on a node. */
static bool is_on(const struct topo_guest *g, int node)
{
    for (unsigned k = 0; k < g->place->nnodes; k++)
        if (g->place->nodes[k] == node)
            return true;
    return false;
}

/* Names of the guests on a node, cut to NAMES_MAX with a count of the others. */
static void print_names(FILE *f, const struct topo_guest *g, unsigned n, int node)
{
    unsigned used = 0, more = 0, len;

    for (unsigned i = 0; i < n; i++) {
        if (!is_on(&g[i], node))
            continue;
        len = (unsigned)strlen(g[i].name);
        if (used && used + len + 2 > NAMES_MAX) {
            more++;
            continue;
        }
        fprintf(f, "%s%s", used ? ", " : "", g[i].name);
        used += len + 2;
    }
    if (more)
        fprintf(f, " and %u more", more);
    if (!used)
        fputc('-', f);
}

/* The table of nodes. */
static void print_nodes(FILE *f, const struct topo *t, const struct topo_guest *g, unsigned n)
{
    char cpus[28], total[TOPO_SIZE_LEN], room[TOPO_SIZE_LEN], sock[16];
    const struct topo_node *d;

    fprintf(f, "%4s  %6s  %-27s %9s %9s%s\n", "node", "socket", "CPUs", "memory", "free",
            n ? "  vCPUs  guests" : "");
    for (unsigned i = 0; i < t->nnodes; i++) {
        d = &t->node[i];
        snprintf(sock, sizeof(sock), d->package < 0 ? "-" : "%d", d->package);
        if (d->ncpus)
            topo_ranges(cpus, sizeof(cpus), d->cpus, d->ncpus);
        else
            snprintf(cpus, sizeof(cpus), "- (memory only)");
        fprintf(f, "%4d  %6s  %-27s %9s %9s", d->os, sock, cpus, topo_size(total, d->mem_total),
                topo_size(room, d->mem_free));
        if (n) {
            fprintf(f, "  %5u  ", vcpus_on(g, n, d->os));
            print_names(f, g, n, d->os);
        }
        fputc('\n', f);
    }
}

/* The matrix of distances. */
static void print_dist(FILE *f, const struct topo *t)
{
    fprintf(f, "\ndistances (10 = local)\n    ");
    for (unsigned j = 0; j < t->nnodes; j++)
        fprintf(f, " %3d", t->node[j].os);
    fputc('\n', f);
    for (unsigned i = 0; i < t->nnodes; i++) {
        fprintf(f, "%4d", t->node[i].os);
        for (unsigned j = 0; j < t->nnodes; j++)
            fprintf(f, " %3u", t->dist[i][j]);
        fputc('\n', f);
    }
}

/* The nodes where a guest has views, each once. */
static void view_nodes(char *buf, unsigned len, const struct place_got *p)
{
    int node[TOPO_MAX_NODES];
    unsigned n = 0;

    for (unsigned v = 0; v < p->views; v++)
        if (!n || node[n - 1] != p->view_node[v])
            node[n++] = p->view_node[v];
    topo_ranges(buf, len, node, n);
}

/* The table of guests. */
static void print_guests(FILE *f, const struct topo_guest *g, unsigned n)
{
    char nodes[16], views[16], size[TOPO_SIZE_LEN];
    unsigned width = 5;
    const struct place_got *p;

    for (unsigned i = 0; i < n; i++)
        if (strlen(g[i].name) > width)
            width = (unsigned)strlen(g[i].name);
    fprintf(f, "\n%-*s  %5s  %9s  %-15s  %5s  %-15s  %s\n", (int)width, "guest", "vCPUs",
            "memory", "nodes", "views", "at nodes", "state");
    for (unsigned i = 0; i < n; i++) {
        p = g[i].place;
        topo_ranges(nodes, sizeof(nodes), p->nodes, p->nnodes);
        view_nodes(views, sizeof(views), p);
        fprintf(f, "%-*s  %5u  %9s  %-15s  %5u  %-15s  %s\n", (int)width, g[i].name, g[i].vcpus,
                topo_size(size, g[i].memory), nodes, p->views, views,
                g[i].state ? g[i].state : "-");
    }
}

int topo_text(FILE *f, const struct topo *t, const struct topo_guest *g, unsigned n)
{
    char total[TOPO_SIZE_LEN], room[TOPO_SIZE_LEN];

    fprintf(f, "%s: %u node%s, %u CPU%s, %s (%s free)\n\n", t->name, t->nnodes,
            t->nnodes == 1 ? "" : "s", t->ncpus, t->ncpus == 1 ? "" : "s",
            topo_size(total, topo_mem_total(t)), topo_size(room, topo_mem_free(t)));
    print_nodes(f, t, g, n);
    print_dist(f, t);
    if (n)
        print_guests(f, g, n);
    return fflush(f) || ferror(f) ? -EIO : 0;
}

/* A JSON value that cannot be made ends the process: these are small set-up objects. */
static json_t *sure(json_t *j)
{
    INVARIANT(j, "the host has no memory left for JSON, or a name is not UTF-8");
    return j;
}

/* A string, or one that says it was not UTF-8. */
static json_t *text_json(const char *s)
{
    json_t *j = json_string(s);

    return j ? j : sure(json_string("(not UTF-8)"));
}

/* An array of numbers. */
static json_t *ints_json(const int *v, unsigned n)
{
    json_t *a = sure(json_array());

    for (unsigned i = 0; i < n; i++)
        json_array_append_new(a, sure(json_integer(v[i])));
    return a;
}

/* One node. */
static json_t *node_json(const struct topo_node *d)
{
    json_t *j = sure(json_object());

    json_object_set_new(j, "node", json_integer(d->os));
    json_object_set_new(j, "package", json_integer(d->package));
    json_object_set_new(j, "cpus", ints_json(d->cpus, d->ncpus));
    json_object_set_new(j, "memory", json_integer((json_int_t)d->mem_total));
    json_object_set_new(j, "free", json_integer((json_int_t)d->mem_free));
    json_object_set_new(j, "hugetlb_free", json_integer((json_int_t)d->huge_free));
    return j;
}

/* The node of every vCPU, in order. */
static json_t *vcpu_nodes_json(const struct topo_guest *g)
{
    json_t *a = sure(json_array());

    for (unsigned v = 0; v < g->vcpus; v++)
        json_array_append_new(a, json_integer(place_node_of_vcpu(g->place, g->vcpus, v)));
    return a;
}

/* One guest. */
static json_t *guest_json(const struct topo_guest *g)
{
    json_t *j = sure(json_object()), *bytes = sure(json_array());
    const struct place_got *p = g->place;

    for (unsigned k = 0; k < p->nnodes; k++)
        json_array_append_new(bytes, json_integer((json_int_t)p->node_bytes[k]));
    json_object_set_new(j, "name", text_json(g->name));
    json_object_set_new(j, "state", g->state ? text_json(g->state) : json_null());
    json_object_set_new(j, "vcpus", json_integer(g->vcpus));
    json_object_set_new(j, "memory", json_integer((json_int_t)g->memory));
    json_object_set_new(j, "nodes", ints_json(p->nodes, p->nnodes));
    json_object_set_new(j, "node_bytes", bytes);
    json_object_set_new(j, "views", ints_json(p->view_node, p->views));
    json_object_set_new(j, "vcpu_nodes", vcpu_nodes_json(g));
    return j;
}

struct json_t *topo_json(const struct topo *t, const struct topo_guest *g, unsigned n)
{
    json_t *j = sure(json_object()), *nodes = sure(json_array()), *dist = sure(json_array());
    json_t *guests = sure(json_array()), *row;

    for (unsigned i = 0; i < t->nnodes; i++) {
        json_array_append_new(nodes, node_json(&t->node[i]));
        row = sure(json_array());
        for (unsigned k = 0; k < t->nnodes; k++)
            json_array_append_new(row, json_integer(t->dist[i][k]));
        json_array_append_new(dist, row);
    }
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(guests, guest_json(&g[i]));
    json_object_set_new(j, "name", text_json(t->name));
    json_object_set_new(j, "synthetic", json_boolean(t->synthetic));
    json_object_set_new(j, "nodes", nodes);
    json_object_set_new(j, "distances", dist);
    json_object_set_new(j, "guests", guests);
    return j;
}
