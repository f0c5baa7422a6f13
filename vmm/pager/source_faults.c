/* SPDX-License-Identifier: MIT */
/*
 * The source `faults`: a sample of pages, chosen by numa/sampler.h in groups, is revoked in all
 * views; a touch says who reads or writes, and its delay how often.  What revoking and touches
 * cost is measured all the time, so that the sampler's budget is one of this host.  Threads:
 * source.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/err.h"
#include "numa/sampler.h"
#include "vmm/machine/mem.h"
#include "vmm/pager/pager.h"
#include "vmm/pager/source.h"

enum {
    TOUCHES = 8192,    /* touches taken at once */
    WEIGHT_MOST = 64,  /* uses that one touch may stand for */
    LEAST_SAMPLED = 8, /* groups an interval when all is quiet */
    TOUCHED = 2, /* of a touch's weight, the part of the page that was touched: 1 in so many */
    FAULT_NS =
        10000, /* cost of a touch, fault thread and vCPU together, until it is measured */
    REVOKE_NS = 5000, /* cost of revoking a group in all views, likewise */
    COST_MIN = 100,   /* no cost is believed to be less */
    SMOOTH = 8,       /* intervals over which costs are averaged */
};

/* State. */
struct faults {
    struct sampler sampler;
    struct pager_touch *touch; /* TOUCHES */
    uint64_t fault_ns;         /* CPU time of fault threads when last asked */
};

static bool found(char *why, unsigned len)
{
    (void)why, (void)len; /* the pager asks the kernel itself */
    return true;
}

static int start(struct source *s, struct err *err)
{
    const struct source_spec *spec = &s->spec;
    struct sampler_limits limits = {.pages = (spec->low + spec->high) / MEM_PAGE / PAGER_GROUP,
                                    .least = LEAST_SAMPLED,
                                    .most = UINT32_MAX / 2,
                                    .share = spec->share,
                                    .fault_ns = FAULT_NS,
                                    .revoke_ns = REVOKE_NS,
                                    .interval_ns = spec->interval_ns,
                                    .cpus = spec->cpus};
    struct faults *f = xcalloc(1, sizeof(*f));

    s->own = f;
    f->touch = xcalloc(TOUCHES, sizeof(*f->touch));
    if (!sampler_init(&f->sampler, &limits))
        return 0;
    free(f->touch);
    free(f);
    s->own = NULL;
    return fail(err, EXIT_MEMORY, ENOMEM, "sampling by faults: no memory");
}

static void stop(struct source *s)
{
    struct faults *f = s->own;

    if (!f)
        return;
    sampler_exit(&f->sampler);
    free(f->touch);
    free(f);
    s->own = NULL;
}

/* How many uses a touch stands for.  A group's first touch comes the sooner the more its pages are
 * used together: a neighbour gets an even part of that, the page itself half, as it may be the only
 * one. */
static uint32_t weight_of(const struct source *s, const struct pager_touch *t)
{
    uint32_t all = sampler_weight(s->spec.interval_ns, t->after_ns, WEIGHT_MOST);
    uint32_t part = t->beside ? PAGER_GROUP : TOUCHED;

    return (all + part - 1) / part;
}

/* Counts one touch; the sampler hears of it if the page had been revoked. */
static void count(struct source *s, const struct pager_touch *t, struct sampler_found *found)
{
    struct faults *f = s->own;
    bool sampled = t->after_ns != UINT64_MAX;
    uint32_t weight = sampled ? weight_of(s, t) : 1;
    struct node_use use = {
        .node = t->node, .reads = t->write ? 0 : weight, .writes = t->write ? weight : 0};
    bool near = source_saw(s, t->gfn, use);

    if (!sampled || t->beside)
        return;
    found->local += near;
    found->remote += !near;
    if (!near)
        sampler_again(&f->sampler, source_unit(s, t->gfn) / PAGER_GROUP);
}

/* CPU time of the calling thread, ns. */
static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Moves an average towards what n of a thing took together. */
static void learn(uint32_t *average, uint64_t ns, uint64_t n)
{
    uint64_t next;

    if (!n)
        return;
    next = (*average * (SMOOTH - 1ull) + ns / n) / SMOOTH;
    *average = (uint32_t)(next < COST_MIN ? COST_MIN : next);
}

/* Counts all touches of the interval; how many faults told of them. */
static uint64_t count_all(struct source *s, struct sampler_found *found)
{
    struct faults *f = s->own;
    uint64_t sum = 0;
    unsigned n;

    do {
        n = pager_touches(s->spec.pager, f->touch, TOUCHES);
        pager_locate_touched(s->spec.pager, f->touch, n);
        for (unsigned i = 0; i < n; i++) {
            count(s, &f->touch[i], found);
            sum += !f->touch[i].beside;
        }
    } while (n == TOUCHES);
    return sum;
}

/* Revokes the next sample; how many groups. */
static uint64_t revoke(struct source *s)
{
    struct faults *f = s->own;
    struct sampler_run run;
    uint64_t sum = 0;

    while (sampler_next(&f->sampler, &run)) {
        pager_revoke(s->spec.pager, source_gfn(s, run.first * PAGER_GROUP),
                     run.count * PAGER_GROUP);
        sum += run.count;
    }
    return sum;
}

static void collect(struct source *s)
{
    struct faults *f = s->own;
    struct sampler_found found = {0};
    uint64_t began = cpu_ns(), counted, touches = count_all(s, &found), faults;

    counted = cpu_ns() - began;
    faults = pager_fault_ns(s->spec.pager);
    /* a vCPU that waits loses what the thread that serves it takes */
    learn(&f->sampler.limits.fault_ns, counted + 2 * (faults - f->fault_ns), touches);
    f->fault_ns = faults;
    sampler_adapt(&f->sampler, &found);
    began = cpu_ns();
    touches = revoke(s);
    learn(&f->sampler.limits.revoke_ns, cpu_ns() - began, touches);
}

static unsigned age_every(const struct source *s)
{
    const struct faults *f = s->own;

    return sampler_age_every(&f->sampler);
}

static uint64_t rate(const struct source *s)
{
    const struct faults *f = s->own;

    return sampler_mean(&f->sampler) * PAGER_GROUP;
}

const struct source_ops source_faults = {
    .name = "faults",
    .about = "a rotating sample of pages is revoked; the next touch tells who uses them",
    .revokes = true,
    .found = found,
    .start = start,
    .collect = collect,
    .age_every = age_every,
    .rate = rate,
    .stop = stop,
};
