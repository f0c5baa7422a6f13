/* SPDX-License-Identifier: MIT */
/*
 * Machines for replay: see replay_machine.h.
 */
#include "numa/replay_machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "numa/keys.h"
#include "numa/machine_model.h"

enum { MAX_CPUS = 1 << 20, MAX_NS = 65535 };

/* What a description says. */
struct said {
    uint64_t nodes, cpus;         /* numbers of them */
    uint64_t local, near, remote; /* ns; near 0: as remote */
    uint64_t group;               /* nodes near to one another, 0 or 1: none */
    uint64_t mem;                 /* bytes of a node, 0: as the guest needs */
};

/* Where the value of a key goes; NULL: there is no such key. */
static uint64_t *field(struct said *d, const struct key_pair *pair)
{
    const struct {
        const char *key;
        uint64_t *to;
    } keys[] = {{"nodes", &d->nodes},   {"cpus", &d->cpus},   {"local", &d->local},
                {"near", &d->near},     {"group", &d->group}, {"mem", &d->mem},
                {"remote", &d->remote}, {NULL, NULL}};

    for (unsigned i = 0; keys[i].key; i++)
        if (key_is(pair, keys[i].key))
            return keys[i].to;
    return NULL;
}

/* What is wrong with a description; NULL: nothing. */
static const char *wrong(const struct said *d)
{
    if (!d->nodes || d->nodes > TOPO_MAX_NODES)
        return "nodes= wants 1 to 64";
    if (d->cpus < d->nodes || d->cpus > MAX_CPUS)
        return "cpus= wants at least one CPU for each node, and at most 1048576";
    if (!d->local || d->local > MAX_NS || d->remote < d->local || d->remote > MAX_NS)
        return "local= and remote= want ns, 1 to 65535, remote= at least local=";
    if (d->near && (d->near < d->local || d->near > d->remote))
        return "near= wants ns between local= and remote=";
    return NULL;
}

/* Fills the machine. */
static void fill(struct replay_machine *m, const struct said *d)
{
    uint64_t group = d->group ? d->group : 1, near = d->near ? d->near : d->remote;

    *m = (struct replay_machine){.cpus = (unsigned)d->cpus, .node_bytes = d->mem};
    m->lat.nnodes = (unsigned)d->nodes;
    for (unsigned a = 0; a < m->lat.nnodes; a++)
        for (unsigned b = 0; b < m->lat.nnodes; b++)
            m->lat.ns[a][b] = (uint16_t)(a == b                   ? d->local
                                         : a / group == b / group ? near
                                                                  : d->remote);
}

/* Fills the machine from its description. */
static void fill_model(struct replay_machine *m, const struct machine_model *d)
{
    *m = (struct replay_machine){.cpus = d->cpus, .lat.nnodes = d->nodes};
    for (unsigned a = 0; a < d->nodes; a++)
        for (unsigned b = 0; b < d->nodes; b++)
            m->lat.ns[a][b] =
                (uint16_t)machine_model_latency(d, machine_model_distance(d, d->nodes, a, b));
}

int replay_machine_read(struct replay_machine *m, const char *text, struct err *err)
{
    struct said d = {0};
    const struct machine_model *model = machine_model_by_name(text);
    const char *s = text, *why;

    if (model) {
        fill_model(m, model);
        return 0;
    }
    for (const struct replay_machine_name *n = replay_machines; n->name; n++)
        if (!strcmp(n->name, text))
            s = n->text;
    while (*s) {
        struct key_pair pair;
        const char *at = s;
        uint64_t *to = NULL;

        if (key_next(&s, &pair))
            to = field(&d, &pair);
        if (!to)
            return fail(
                err, EXIT_USAGE, EINVAL,
                "machine \"%s\": wrong at \"%s\"; a name (flash, epyc2s, xeon4s, xeon8s, "
                "big64) or \"nodes=4,cpus=8,local=300,remote=900[,near=130,group=2]"
                "[,mem=64G]\" is right",
                text, at);
        *to = pair.value;
    }
    why = wrong(&d);
    if (why)
        return fail(err, EXIT_USAGE, EINVAL, "machine \"%s\": %s", text, why);
    fill(m, &d);
    return 0;
}

const struct replay_machine_name replay_machines[] = {
    {"big64", "64 nodes in groups of 8, of no maker",
     "nodes=64,cpus=1024,local=100,near=150,group=8,remote=300"},
    {0},
};
