/* SPDX-License-Identifier: MIT */
/*
 * The figures of a cell as JSON, for `disco stat`, result files and metrics.  Reads counters that
 * others write (relaxed atomics), so figures of one snapshot may be a few events apart.
 * No locks but the devices' own, taken one at a time.  docs/stat.md describes every field.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/cell/cell.h"
#include "vmm/cell/private.h"
#include "vmm/cell/usage.h"
#include "vmm/device/devices.h"

/* Reads a counter. */
static json_int_t load(const _Atomic uint64_t *counter)
{
    return (json_int_t)atomic_load_explicit(counter, memory_order_relaxed);
}

/* Exits by kind, summed over vCPUs first..first+n; kinds that never happened are left out. */
static json_t *exits_json(const struct cell *c, unsigned first, unsigned n)
{
    json_t *o = json_object();
    json_int_t total = 0;

    for (int k = 0; k < EXIT_KINDS; k++) {
        json_int_t sum = 0;

        for (unsigned i = first; i < first + n; i++)
            sum += load(&c->m.vcpus[i].exits[k]);
        if (sum)
            json_object_set_new(o, exit_kind_name((enum exit_kind)k), json_integer(sum));
        total += sum;
    }
    json_object_set_new(o, "total", json_integer(total));
    return o;
}

static const char *state_name(const struct vcpu *v)
{
    switch (atomic_load(&v->state)) {
    case VCPU_GUEST:
        return "guest";
    case VCPU_HALTED:
        return "idle";
    default:
        return "vmm";
    }
}

static json_t *vcpu_json(const struct cell *c, unsigned i)
{
    const struct vcpu *v = &c->m.vcpus[i];

    return json_pack("{s:i, s:i, s:i, s:i, s:s, s:o, s:I, s:I, s:I, s:I, s:f}", "id", (int)i,
                     "tid", (int)atomic_load(&v->tid), "view", (int)atomic_load(&v->view),
                     "node", (int)atomic_load(&v->node), "state", state_name(v), "exits",
                     exits_json(c, i, 1), "interrupts", load(&v->injected), "ipis_in",
                     load(&v->ipi_in), "ipis_cross_view", load(&v->ipi_cross), "moves",
                     load(&v->moves), "idle_ms", (double)load(&v->halt_ns) / 1e6);
}

static json_t *vcpus_json(const struct cell *c)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < c->m.spec.nvcpus; i++)
        json_array_append_new(a, vcpu_json(c, i));
    return a;
}

/* True for a node the guest was given. */
static bool place_has(const struct place_got *p, int node)
{
    for (unsigned i = 0; i < p->nnodes; i++)
        if (p->nodes[i] == node)
            return true;
    return false;
}

/* One host node: how much of the guest was to be there, and how much is. */
static json_t *node_json(int node, uint64_t assigned, const struct mem_usage *u)
{
    bool known = u->known && node >= 0 && node < USAGE_NODES;

    return json_pack("{s:i, s:I, s:o}", "node", node, "assigned", (json_int_t)assigned, "used",
                     known ? json_integer((json_int_t)u->node[node]) : json_null());
}

/* What the guest has in memory, and on which nodes: first those it was given, then others. */
static json_t *memory_json(const struct cell *c, const struct mem_usage *u)
{
    const struct place_got *p = &c->place;
    json_t *nodes = json_array();

    for (unsigned i = 0; i < p->nnodes; i++) {
        json_array_append_new(nodes, node_json(p->nodes[i], p->node_bytes[i], u));
    }
    for (int n = 0; n < USAGE_NODES && u->known; n++)
        if (u->node[n] && !place_has(p, n))
            json_array_append_new(nodes, node_json(n, 0, u));
    return json_pack("{s:I, s:I, s:o}", "size", (json_int_t)c->cfg.memory, "used",
                     (json_int_t)u->used, "nodes", nodes);
}

static json_t *devices_json(const struct cell *c)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < c->ndevs; i++) {
        struct dev_stats s = {0};

        virtio_dev_stats(c->dev[i].dev, &s);
        json_array_append_new(
            a, json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", c->dev[i].name, "requests",
                         (json_int_t)s.requests, "bytes_in", (json_int_t)s.bytes_in,
                         "bytes_out", (json_int_t)s.bytes_out, "errors", (json_int_t)s.errors));
    }
    return a;
}

static json_t *balloon_json(const struct cell *c)
{
    struct balloon_stats b = {0};

    if (!c->balloon)
        return json_null();
    balloon_get(c->balloon, &b);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "target", (json_int_t)b.target, "actual",
                     (json_int_t)b.actual, "reported", (json_int_t)b.reported, "guest_free",
                     (json_int_t)b.free, "guest_available", (json_int_t)b.available,
                     "guest_total", (json_int_t)b.total);
}

/* Nodes the guest spans and the view of each. */
static json_t *views_json(const struct cell *c)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < c->m.spec.nviews; i++)
        json_array_append_new(
            a, json_pack("{s:i, s:i}", "view", (int)i, "node", c->m.views[i].node));
    return a;
}

/* How the guest stands: running, paused, or how it ended. */
static const char *cell_state(const struct cell *c)
{
    if (atomic_load(&c->m.end) != MACHINE_RUNS)
        return "ended";
    return cell_paused(c) ? "paused" : "running";
}

/* Milliseconds from the cell's making to an event, or null while it has not happened. */
static json_t *ms_since_made(const struct cell *c, uint64_t at_ns)
{
    return at_ns ? json_real((double)(at_ns - c->made_ns) / 1e6) : json_null();
}

struct json_t *cell_stat(struct cell *c)
{
    struct mem_usage *used;
    json_t *o;

    if (!c->made) /* a restart failed */
        return json_pack("{s:s, s:s}", "name", c->cfg.name, "state", "ended");
    o = json_pack("{s:s, s:s, s:i, s:o, s:o}", "name", c->cfg.name, "state", cell_state(c),
                  "pid", (int)getpid(), "exits", exits_json(c, 0, c->m.spec.nvcpus), "views",
                  views_json(c));

    json_object_set_new(o, "uptime_ms", ms_since_made(c, machine_now_ns()));
    json_object_set_new(o, "first_run_ms", ms_since_made(c, atomic_load(&c->m.first_run_ns)));
    json_object_set_new(o, "ready_ms", ms_since_made(c, atomic_load(&c->ready_ns)));
    json_object_set_new(o, "boots", json_integer((json_int_t)c->boots));
    json_object_set_new(o, "vcpus", vcpus_json(c));
    used = xcalloc(1, sizeof(*used));
    mem_usage(&c->m.mem, used);
    json_object_set_new(o, "memory", memory_json(c, used));
    json_object_set_new(o, "move", rehome_json(c));
    json_object_set_new(o, "pages", paging_json(c, used));
    free(used);
    json_object_set_new(o, "devices", devices_json(c));
    json_object_set_new(o, "balloon", balloon_json(c));
    return o;
}
