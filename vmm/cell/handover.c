/* SPDX-License-Identifier: MIT */
/*
 * The START message's text: JSON with the guest's configuration in its own language, the
 * placement, and the name of each descriptor that comes along.
 *
 * Invariant S1: each name stands for one place in struct cell_fds; fd_slot() lists them all, and
 * both directions use it.
 * Threads: any one; no state.
 */
#include "vmm/cell/handover.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/cell/opener.h"
#include "vmm/cell/proto.h"
#include "vmm/device/chario.h"

enum { FIXED_SLOTS = 7, SLOTS = FIXED_SLOTS + CFG_MAX_DISKS + CFG_MAX_NETS };

_Static_assert((int)SLOTS <= (int)PROTO_MAX_FDS,
               "a message must hold all of a cell's descriptors");

/* The i-th place for a descriptor, i < SLOTS, and its name. */
static int *fd_slot(struct cell_fds *f, unsigned i, char name[16])
{
    static const char *const names[FIXED_SLOTS] = {
        "kvm", "kernel", "initrd", "console.in", "console.out", "vconsole.in", "vconsole.out"};
    int *const fixed[FIXED_SLOTS] = {&f->kvm,           &f->kernel,        &f->initrd,
                                     &f->console.infd,  &f->console.outfd, &f->vconsole.infd,
                                     &f->vconsole.outfd};

    if (i < FIXED_SLOTS) {
        snprintf(name, 16, "%s", names[i]);
        return fixed[i];
    }
    i -= FIXED_SLOTS;
    snprintf(name, 16, i < CFG_MAX_DISKS ? "disk%u" : "net%u",
             i < CFG_MAX_DISKS ? i : i - CFG_MAX_DISKS);
    return i < CFG_MAX_DISKS ? &f->disk[i] : &f->net[i - CFG_MAX_DISKS];
}

/* A placement as JSON. */
static json_t *place_json(const struct place_got *p)
{
    json_t *nodes = json_array(), *bytes = json_array(), *views = json_array();
    json_t *cpus = json_array();

    for (unsigned i = 0; i < p->nnodes; i++) {
        json_array_append_new(nodes, json_integer(p->nodes[i]));
        json_array_append_new(bytes, json_integer((json_int_t)p->node_bytes[i]));
    }
    for (unsigned i = 0; i < p->views; i++)
        json_array_append_new(views, json_integer(p->view_node[i]));
    for (unsigned i = 0; i < p->ncpu_nodes; i++)
        json_array_append_new(cpus, json_integer(p->cpu_nodes[i]));
    return json_pack("{s:o, s:o, s:o, s:o}", "nodes", nodes, "bytes", bytes, "views", views,
                     "cpu_nodes", cpus);
}

/* The kind of a console as JSON; its descriptors travel by name. */
static json_t *console_json(const struct cell_console *c)
{
    return json_pack("{s:i, s:b}", "kind", c->kind, "tty", c->tty);
}

char *handover_pack(const struct handover *s, int *fds, unsigned *nfds)
{
    struct cell_fds copy = s->fds;
    char *cfg = config_print_guest(&s->cfg);
    json_t *names = json_array(), *j;
    char name[16], *text;

    *nfds = 0;
    for (unsigned i = 0; i < SLOTS; i++) {
        int fd = *fd_slot(&copy, i, name);

        if (fd < 0)
            continue;
        fds[(*nfds)++] = fd;
        json_array_append_new(names, json_string(name));
    }
    j = json_pack("{s:s, s:o, s:o, s:o, s:o, s:i}", "config", cfg, "place",
                  place_json(&s->place), "fds", names, "console", console_json(&s->fds.console),
                  "vconsole", console_json(&s->fds.vconsole), "log", s->log_level);
    INVARIANT(j, "a guest's configuration can be written as JSON");
    text = json_dumps(j, JSON_COMPACT);
    INVARIANT(text, "the host has no memory left for a message");
    json_decref(j);
    free(cfg);
    return text;
}

/* Reads an array of at most TOPO_MAX_NODES integers within [0, max]; returns their number or -1. */
static int read_ints(json_t *a, json_int_t *to, json_int_t max)
{
    size_t n = json_array_size(a);

    if (!json_is_array(a) || n > TOPO_MAX_NODES)
        return -1;
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(a, i);

        to[i] = json_integer_value(v);
        if (!json_is_integer(v) || to[i] < 0 || to[i] > max)
            return -1;
    }
    return (int)n;
}

/* Reads a placement and checks that its parts agree. */
static int read_place(struct place_got *p, json_t *j)
{
    json_int_t nodes[TOPO_MAX_NODES], bytes[TOPO_MAX_NODES], views[TOPO_MAX_NODES];
    json_int_t cpus[TOPO_MAX_NODES];
    int n = read_ints(json_object_get(j, "nodes"), nodes, INT32_MAX);
    int nb = read_ints(json_object_get(j, "bytes"), bytes, INT64_MAX);
    int nv = read_ints(json_object_get(j, "views"), views, INT32_MAX);
    int nc = read_ints(json_object_get(j, "cpu_nodes"), cpus, INT32_MAX);

    if (n < 1 || nb != n || nv < 1 || nc < 1)
        return -EPROTO;
    /* lists were bounded by read_ints(); their members are checked by who uses them */
    *p = (struct place_got){
        .nnodes = (unsigned)n, .views = (unsigned)nv, .ncpu_nodes = (unsigned)nc};
    for (int i = 0; i < n; i++) {
        p->nodes[i] = (int)nodes[i];
        p->node_bytes[i] = (uint64_t)bytes[i];
    }
    for (int i = 0; i < nv; i++)
        p->view_node[i] = (int)views[i];
    for (int i = 0; i < nc; i++)
        p->cpu_nodes[i] = (int)cpus[i];
    return 0;
}

/* Reads a console's kind. */
static int read_console(struct cell_console *c, json_t *j)
{
    json_t *kind = json_object_get(j, "kind");

    if (!json_is_integer(kind) || json_integer_value(kind) < CHARIO_NULL ||
        json_integer_value(kind) > CHARIO_LISTEN)
        return -EPROTO;
    c->kind = (int)json_integer_value(kind);
    c->tty = json_is_true(json_object_get(j, "tty"));
    return 0;
}

/* Puts each descriptor in the place its name stands for; no name twice, none unknown. */
static int read_fds(struct cell_fds *f, json_t *names, int *fds, unsigned nfds)
{
    char name[16];

    if (!json_is_array(names) || json_array_size(names) != nfds)
        return -EPROTO;
    for (unsigned n = 0; n < nfds; n++) {
        const char *want = json_string_value(json_array_get(names, n));
        int *slot = NULL;

        for (unsigned i = 0; want && i < SLOTS; i++) {
            slot = fd_slot(f, i, name);
            if (!strcmp(want, name))
                break;
            slot = NULL;
        }
        if (!slot || *slot >= 0)
            return -EPROTO; /* unknown, or twice; the caller closes what is left in fds */
        *slot = fds[n];
        fds[n] = -1;
    }
    return 0;
}

/* Reads all parts of the text. */
static int read_all(struct handover *s, json_t *j, int *fds, unsigned nfds, struct err *err)
{
    const char *cfg = json_string_value(json_object_get(j, "config"));
    json_t *level = json_object_get(j, "log");

    if (!cfg || !json_is_integer(level) || json_integer_value(level) < LOG_ERROR ||
        json_integer_value(level) > LOG_DEBUG ||
        read_place(&s->place, json_object_get(j, "place")) ||
        read_console(&s->fds.console, json_object_get(j, "console")) ||
        read_console(&s->fds.vconsole, json_object_get(j, "vconsole")) ||
        read_fds(&s->fds, json_object_get(j, "fds"), fds, nfds))
        return fail(err, EXIT_INTERNAL, EPROTO,
                    "the monitor's first message is not as it must be");
    s->log_level = (int)json_integer_value(level);
    return config_parse_guest(&s->cfg, cfg, err);
}

int handover_unpack(struct handover *s, const char *text, int *fds, unsigned nfds,
                    struct err *err)
{
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    int r;

    *s = (struct handover){0};
    cell_fds_init(&s->fds);
    r = read_all(s, j, fds, nfds, err);
    json_decref(j);
    if (r)
        handover_free(s);
    return r;
}

void handover_free(struct handover *s)
{
    config_free_guest(&s->cfg);
    cell_fds_close(&s->fds);
}
