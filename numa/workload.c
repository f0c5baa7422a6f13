/* SPDX-License-Identifier: MIT */
/*
 * Synthetic workloads: every number is a hash of page and interval.  Reading descriptions of
 * them is in workload_parse.c.
 */
#include "numa/workload.h"

#include <stddef.h>

#include "numa/workload_synth.h"

enum { GROUP = 64 }; /* active pages that are neighbours */

/* A hash of two numbers (splitmix64's finish). */
static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = a * UINT64_C(0x9e3779b97f4a7c15) + b + 1;

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The class of an active page. */
static const struct workload_class *class_of(const struct workload *w, uint32_t k)
{
    const struct workload_class *c = w->classes;

    while (k >= c->first + c->pages)
        c++;
    return c;
}

/* What decides who uses a page: neighbours of one run have the same. */
static uint64_t fate(const struct workload *w, uint32_t k)
{
    return mix(w->seed, k / w->run);
}

/* A page's own node. */
static unsigned owner(const struct workload *w, uint32_t k)
{
    return (unsigned)(fate(w, k) % w->nnodes);
}

/* Misses on a page in an interval: its rate, give or take a quarter. */
static uint64_t misses(const struct workload *w, const struct workload_class *c, uint32_t k,
                       uint32_t t)
{
    uint64_t h = mix(w->seed ^ UINT64_C(0xa5a5), k);
    uint64_t rate = (uint64_t)c->rate * (64 + h % 128) / 128 >> (h >> 32) % (c->skew + 1);

    return (rate * (96 + mix(h, t) % 64) / 128 * w->scale) >> 16;
}

/* The only user of a page in an interval. */
static unsigned user(const struct workload *w, const struct workload_class *c, uint32_t k,
                     uint32_t t)
{
    uint64_t h = fate(w, k);
    uint32_t turn = (t + (uint32_t)(h >> 40) % c->period) / c->period;
    unsigned one = owner(w, k);

    if (c->kind == WL_ALTERNATE)
        return turn & 1 ? (one + 1) % w->nnodes : one;
    if (c->kind == WL_PHASES)
        return (unsigned)(mix(h, turn) % w->nnodes);
    return one;
}

/* Nodes that share a page of a class. */
static unsigned sharers(const struct workload *w, const struct workload_class *c)
{
    return c->nodes && c->nodes < w->nnodes ? c->nodes : w->nnodes;
}

/* Adds misses of a node, of which some percent write. */
static void add(struct page_use *use, unsigned node, uint64_t n, uint32_t writes)
{
    uint64_t w = n * writes / 100;

    if (n)
        use->use[use->n++] = (struct node_use){(uint32_t)(n - w), (uint32_t)w, (uint8_t)node};
}

static void synth_use(const struct workload *w, uint32_t k, uint32_t t, struct page_use *use)
{
    const struct workload_class *c = class_of(w, k);
    uint64_t all = misses(w, c, k, t), h;
    unsigned n, one, writer;

    use->page = workload_page(w, k);
    use->n = 0;
    if (c->kind == WL_PRIVATE || c->kind == WL_ALTERNATE || c->kind == WL_PHASES) {
        add(use, user(w, c, k, t), all, c->writes);
        return;
    }
    n = sharers(w, c);
    one = owner(w, k);
    for (unsigned i = 0; i < n; i++)
        add(use, (one + i) % w->nnodes, all / n, c->kind == WL_WRITE ? c->writes : 0);
    h = mix(w->seed, k) >> 40;
    if (c->kind != WL_MOSTLY || (t + h) % c->period || !use->n)
        return;
    writer = (unsigned)(mix(h, t) % use->n);
    use->use[writer].writes = 1;
}

static unsigned synth_toucher(const struct workload *w, uint32_t k)
{
    const struct workload_class *c = class_of(w, k);
    uint64_t h = mix(w->seed ^ UINT64_C(0x5a5a), k / w->run);
    unsigned one = user(w, c, k, 0);

    return h % 100 < c->moved ? (one + 1 + (unsigned)(h >> 32) % w->nnodes) % w->nnodes : one;
}

static bool synth_hidden(const struct workload *w, uint32_t k)
{
    return class_of(w, k)->kind == WL_TABLE;
}

static uint32_t synth_active(const struct workload *w, uint64_t unit)
{
    uint64_t group = unit / GROUP, k;

    if (group % w->stride)
        return UINT32_MAX;
    k = group / w->stride * GROUP + unit % GROUP;
    return k < w->active ? (uint32_t)k : UINT32_MAX;
}

static uint64_t synth_unit(const struct workload *w, uint32_t k)
{
    return (uint64_t)(k / GROUP) * w->stride * GROUP + k % GROUP;
}

bool workload_spread(struct workload *w)
{
    uint64_t groups = (w->active + (uint64_t)GROUP - 1) / GROUP;

    w->stride = w->units / GROUP / groups;
    w->ops = &workload_synth;
    return w->stride > 0;
}

void workload_fit(struct workload *w, unsigned cpus, unsigned local_ns)
{
    uint64_t sum = 0, time = w->interval_ns / 100 * w->busy * cpus, scale;

    if (!w->busy || !w->nclasses)
        return;
    w->scale = 1 << 16;
    for (uint32_t k = 0; k < w->active; k++)
        sum += misses(w, class_of(w, k), k, 0);
    scale =
        sum ? (uint64_t)((double)time / (w->compute_ns + local_ns) / (double)sum * 65536) : 0;
    w->scale = scale ? scale : 1;
}

static void synth_free(struct workload *w)
{
    (void)w;
}

void workload_free(struct workload *w)
{
    if (w->ops)
        w->ops->free(w);
    w->ops = NULL;
}

unsigned workload_class_of(const struct workload *w, uint32_t k)
{
    return w->nclasses ? (unsigned)(class_of(w, k) - w->classes) : 0;
}

uint64_t workload_page(const struct workload *w, uint32_t k)
{
    uint64_t unit = w->ops->unit(w, k);

    return w->block ? unit << 9 | PAGE_BLOCK : unit;
}

uint64_t workload_bytes(const struct workload *w)
{
    return w->block ? UINT64_C(2) << 20 : 4096;
}

const struct workload_ops workload_synth = {.use = synth_use,
                                            .toucher = synth_toucher,
                                            .hidden = synth_hidden,
                                            .active = synth_active,
                                            .unit = synth_unit,
                                            .free = synth_free};
