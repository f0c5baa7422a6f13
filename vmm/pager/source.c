/* SPDX-License-Identifier: MIT */
/*
 * What all sources of samples share, and their table.  Threads: source.h.
 */
#include "vmm/pager/source.h"

#include <string.h>

#include "base/err.h"
#include "numa/agreement.h"
#include "vmm/machine/mem.h"
#include "vmm/pager/pager.h"

const struct source_ops *source_by_name(const char *name)
{
    for (const struct source_ops *const *o = sources; *o; o++)
        if (!strcmp((*o)->name, name))
            return *o;
    return NULL;
}

int source_start(struct source *s, const struct source_ops *ops, const struct source_spec *spec,
                 struct err *err)
{
    *s = (struct source){.ops = ops, .spec = *spec};
    return ops->start(s, err);
}

void source_stop(struct source *s)
{
    if (s->ops)
        s->ops->stop(s);
    s->ops = NULL;
}

void source_collect(struct source *s, uint32_t passed)
{
    s->traffic = (struct policy_traffic){.span = passed + 1, .passed = passed + 1};
    s->ops->collect(s);
}

void source_acted(struct source *s, const struct action *acts, unsigned n, unsigned good,
                  uint64_t took_ns)
{
    s->acted_ns += took_ns;
    if (s->ops->acted)
        s->ops->acted(s, acts, n, good);
}

bool source_saw(struct source *s, uint64_t gfn, struct node_use use)
{
    struct page_info u = pagemap_get(pager_map(s->spec.pager), gfn);
    uint64_t n = (uint64_t)use.reads + use.writes;
    bool near = u.node == use.node || (u.replicas >> use.node & 1);

    counters_add(s->spec.counters, gfn, use.node, use);
    s->traffic.at[near ? use.node : u.node] += n;
    s->traffic.local += near ? n : 0;
    s->traffic.writes += use.writes;
    s->writes += use.writes;
    *(near ? &s->local[use.node] : &s->remote[use.node]) += n;
    return near;
}

uint64_t source_unit(const struct source *s, uint64_t gfn)
{
    return gfn < s->spec.low / MEM_PAGE ? gfn
                                        : gfn - MEM_HIGH / MEM_PAGE + s->spec.low / MEM_PAGE;
}

uint64_t source_gfn(const struct source *s, uint64_t unit)
{
    return unit < s->spec.low / MEM_PAGE ? unit
                                         : unit - s->spec.low / MEM_PAGE + MEM_HIGH / MEM_PAGE;
}

/* Nodes that have a page near. */
static uint64_t near(const struct pagemap *map, uint64_t gfn)
{
    struct page_info u = pagemap_get(map, gfn);

    return u.replicas | UINT64_C(1) << u.node;
}

int source_agreement(const struct source *believed, const struct source *tried, uint32_t top,
                     struct agreement *out)
{
    const struct source_spec *spec = &tried->spec;
    struct agreement_spec ask = {.first = {0, MEM_HIGH / MEM_PAGE},
                                 .pages = {spec->low / MEM_PAGE, spec->high / MEM_PAGE},
                                 .top = top,
                                 .near = near,
                                 .map = pager_map(spec->pager)};

    return agreement_of(believed->spec.counters, spec->counters, &ask, out);
}

const struct source_ops *const sources[] = {&source_faults, &source_flash, &source_ibs,
                                            &source_pebs, NULL};
