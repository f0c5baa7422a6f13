/* SPDX-License-Identifier: MIT */
/*
 * Tests the memory-system model: states of lines, what counts as what, replacement, time, pages,
 * sampling, and a random load of 16 CPUs beside a second, plainer model of the same rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/memsys/model.h"
#include "numa/machine_model.h"

#define NODE ((uint64_t)4 << 20) /* bytes of a node */

enum { LINE = 64, WAYS = 8, SETS = 2048 }; /* of the machine flash */
enum { WAY = SETS * LINE, LOCAL = 300000, REMOTE = 900000, DIRTY = 300000 }; /* bytes; ps */

/* A model and its region. */
struct rig {
    struct memsys_shape shape;
    struct memsys_header *h;
    struct memsys *m;
};

/* flash with so many nodes and CPUs. */
static void set_up(struct rig *r, unsigned nodes, unsigned cpus, unsigned sample)
{
    char what[200];

    memset(r, 0, sizeof(*r));
    r->shape = (struct memsys_shape){.machine = machine_model_by_name("flash"),
                                     .ncpus = cpus,
                                     .nnodes = nodes,
                                     .node_bytes = NODE,
                                     .sample = sample,
                                     .turn = 20000};
    for (unsigned a = 0; a < nodes; a++)
        for (unsigned b = 0; b < nodes; b++)
            r->shape.distance[a][b] = a == b ? 10 : 20;
    assert_false(memsys_shape_wrong(&r->shape, what, sizeof(what)));
    r->h = calloc(1, memsys_region_bytes(cpus, nodes, NODE));
    assert_non_null(r->h);
    r->m = memsys_new(&r->shape, r->h);
    assert_non_null(r->m);
    for (unsigned c = 0; c < cpus; c++)
        memsys_context(r->m, c, 0, MEMSYS_USER);
}

/* Its invariants must hold at the end of every test. */
static void tear_down(struct rig *r)
{
    char what[200] = "";

    if (memsys_check(r->m, what, sizeof(what)))
        fail_msg("%s", what);
    memsys_free(r->m);
    free(r->h);
}

static struct memsys_count *user(const struct rig *r, unsigned cpu)
{
    return memsys_counts(r->h, cpu, 0, MEMSYS_USER);
}

static void test_header(void **state)
{
    struct rig r;

    (void)state;
    set_up(&r, 2, 4, 1);
    assert_true(r.h->magic == MEMSYS_MAGIC);
    assert_int_equal(r.h->version, MEMSYS_VERSION);
    assert_int_equal(r.h->insn_ps, 2500);
    assert_int_equal(r.h->pages, 2048);
    assert_int_equal(r.h->latency_ps[0][0], LOCAL);
    assert_int_equal(r.h->latency_ps[0][1], REMOTE);
    assert_int_equal(r.h->node_of_cpu[1], 0);
    assert_int_equal(r.h->node_of_cpu[2], 1);
    assert_string_equal(r.h->machine, "flash");
    tear_down(&r);
}

/* A line nobody has comes exclusive; writing it then costs nothing, but is a write to its page. */
static void test_exclusive(void **state)
{
    struct rig r;
    uint64_t a = NODE + 5 * MEMSYS_PAGE + 128;

    (void)state;
    set_up(&r, 2, 4, 1);
    assert_true(memsys_access(r.m, 0, a, MEMSYS_READ));
    assert_false(memsys_access(r.m, 0, a + 63, MEMSYS_READ));
    assert_false(memsys_access(r.m, 0, a, MEMSYS_WRITE));
    assert_false(memsys_access(r.m, 0, a, MEMSYS_WRITE));
    assert_int_equal(user(&r, 0)->miss[MEMSYS_READ][1], 1);
    assert_int_equal(user(&r, 0)->hit, 3);
    assert_int_equal(user(&r, 0)->upgrade[1], 0);
    assert_int_equal(user(&r, 0)->stall_ps[1], REMOTE);
    assert_int_equal(user(&r, 0)->bound_ps, LOCAL);
    assert_int_equal(memsys_page(r.h, 1024 + 5)[0].misses, 1);
    assert_int_equal(memsys_page(r.h, 1024 + 5)[0].writes, 1);
    assert_int_equal(memsys_page(r.h, 1024 + 5)[1].misses, 0);
    tear_down(&r);
}

/* Two readers, then one writes: an upgrade takes the other's copy; the other misses, dirty. */
static void test_upgrade(void **state)
{
    struct rig r;

    (void)state;
    set_up(&r, 2, 4, 1);
    memsys_access(r.m, 0, 64, MEMSYS_READ);
    memsys_access(r.m, 2, 64, MEMSYS_READ);
    assert_int_equal(user(&r, 2)->dirty, 0);
    assert_false(memsys_access(r.m, 0, 64, MEMSYS_WRITE));
    assert_int_equal(user(&r, 0)->upgrade[0], 1);
    assert_int_equal(user(&r, 0)->invalidated, 1);
    assert_int_equal(user(&r, 0)->hit, 0);
    assert_int_equal(user(&r, 0)->stall_ps[0], 2 * LOCAL);
    assert_true(memsys_access(r.m, 2, 64, MEMSYS_READ));
    assert_int_equal(user(&r, 2)->coherence, 1);
    assert_int_equal(user(&r, 2)->dirty, 1);
    assert_int_equal(user(&r, 2)->stall_ps[0], 2 * REMOTE + DIRTY);
    assert_int_equal(user(&r, 2)->bound_ps, 2 * LOCAL + DIRTY);
    /* The owner kept a shared copy: to write again is an upgrade again. */
    assert_false(memsys_access(r.m, 0, 64, MEMSYS_READ));
    memsys_access(r.m, 0, 64, MEMSYS_WRITE);
    assert_int_equal(user(&r, 0)->upgrade[0], 2);
    assert_int_equal(memsys_page(r.h, 0)[0].writes, 2);
    tear_down(&r);
}

/* A write to what others have takes all copies and the ownership in one miss. */
static void test_write_miss(void **state)
{
    struct rig r;

    (void)state;
    set_up(&r, 2, 4, 1);
    memsys_access(r.m, 0, 64, MEMSYS_WRITE);
    assert_true(memsys_access(r.m, 1, 64, MEMSYS_WRITE));
    assert_int_equal(user(&r, 1)->dirty, 1);
    assert_int_equal(user(&r, 1)->invalidated, 1);
    assert_int_equal(user(&r, 1)->coherence, 0);
    memsys_access(r.m, 0, 64, MEMSYS_READ);
    memsys_access(r.m, 2, 64, MEMSYS_FETCH);
    assert_true(memsys_access(r.m, 3, 64, MEMSYS_WRITE));
    assert_int_equal(user(&r, 3)->invalidated, 3);
    assert_int_equal(user(&r, 3)->dirty, 0);
    assert_int_equal(user(&r, 2)->miss[MEMSYS_FETCH][0], 1);
    /* An exclusive clean line is given up without being dirty. */
    memsys_access(r.m, 0, 128, MEMSYS_READ);
    memsys_access(r.m, 1, 128, MEMSYS_WRITE);
    assert_int_equal(user(&r, 1)->dirty, 1);
    assert_int_equal(user(&r, 1)->invalidated, 2);
    tear_down(&r);
}

/* The least recently used line leaves; a changed one is written back, a clean one is not. */
static void test_replacement(void **state)
{
    struct rig r;

    (void)state;
    set_up(&r, 2, 2, 1);
    for (unsigned i = 0; i < WAYS; i++)
        assert_true(memsys_access(r.m, 0, 64 + (uint64_t)i * WAY, MEMSYS_READ));
    assert_false(
        memsys_access(r.m, 0, 64, MEMSYS_WRITE)); /* line 0 is young now, and changed */
    assert_true(memsys_access(r.m, 0, 64 + (uint64_t)WAYS * WAY, MEMSYS_READ));
    assert_int_equal(user(&r, 0)->writeback, 0);
    assert_false(memsys_access(r.m, 0, 64, MEMSYS_READ));
    assert_true(memsys_access(r.m, 0, 64 + WAY, MEMSYS_READ)); /* that one had left */
    for (unsigned i = 2; i < 2 + WAYS; i++)
        memsys_access(r.m, 0, 64 + (uint64_t)(WAYS + i) * WAY, MEMSYS_READ);
    assert_int_equal(user(&r, 0)->writeback, 1);
    assert_int_equal(user(&r, 0)->coherence, 0);
    /* What has left is not in the directory: another's write takes nothing away. */
    memsys_access(r.m, 1, 64, MEMSYS_WRITE);
    assert_int_equal(user(&r, 1)->invalidated, 0);
    tear_down(&r);
}

/* A miss is one of coherence only while the way still tells of the line that was taken away. */
static void test_coherence_or_capacity(void **state)
{
    struct rig r;

    (void)state;
    set_up(&r, 2, 2, 1);
    memsys_access(r.m, 0, 64, MEMSYS_READ);
    memsys_access(r.m, 1, 64, MEMSYS_WRITE);
    memsys_access(r.m, 0, 64 + WAY, MEMSYS_READ); /* has ways that were never used: takes one */
    for (unsigned i = 2; i <= WAYS; i++)
        memsys_access(r.m, 0, 64 + (uint64_t)i * WAY, MEMSYS_READ);
    assert_true(memsys_access(r.m, 0, 64, MEMSYS_READ));
    assert_int_equal(user(&r, 0)->coherence, 0);
    assert_int_equal(user(&r, 0)->dirty, 1);
    /* The very first line of memory is like others, but for that word. */
    assert_true(memsys_access(r.m, 0, 0, MEMSYS_READ));
    assert_false(memsys_access(r.m, 0, 0, MEMSYS_READ));
    assert_true(memsys_access(r.m, 1, 0, MEMSYS_WRITE));
    assert_int_equal(user(&r, 1)->invalidated, 2); /* line 1 was the first */
    assert_true(memsys_access(r.m, 0, 0, MEMSYS_WRITE));
    assert_false(memsys_access(r.m, 0, 0, MEMSYS_WRITE));
    tear_down(&r);
}

/* Counts go to the tag and mode that are told; zeroing empties counters, not caches. */
static void test_context(void **state)
{
    struct rig r;

    (void)state;
    set_up(&r, 2, 2, 1);
    memsys_context(r.m, 0, 7, MEMSYS_KERNEL);
    memsys_insns(r.m, 0, 10);
    memsys_access(r.m, 0, 64, MEMSYS_READ);
    assert_true(memsys_current(r.m, 0) == memsys_counts(r.h, 0, 7, MEMSYS_KERNEL));
    assert_int_equal(memsys_counts(r.h, 0, 7, MEMSYS_KERNEL)->insns, 10);
    assert_int_equal(memsys_counts(r.h, 0, 7, MEMSYS_KERNEL)->access[MEMSYS_READ], 1);
    assert_int_equal(user(&r, 0)->access[MEMSYS_READ], 0);
    memsys_zero(r.m);
    assert_int_equal(r.h->resets, 1);
    assert_int_equal(memsys_counts(r.h, 0, 7, MEMSYS_KERNEL)->insns, 0);
    assert_int_equal(memsys_page(r.h, 0)[0].misses, 0);
    assert_false(memsys_access(r.m, 0, 64, MEMSYS_READ));
    memsys_empty(r.m);
    assert_true(memsys_access(r.m, 0, 64, MEMSYS_READ));
    assert_int_equal(memsys_counts(r.h, 0, 7, MEMSYS_KERNEL)->coherence, 0);
    tear_down(&r);
}

/* Counters of pages stick at their largest number. */
static void test_saturation(void **state)
{
    struct rig r;

    (void)state;
    set_up(&r, 2, 2, 1);
    memsys_page(r.h, 1)[0] = (struct memsys_page){UINT32_MAX - 1, UINT32_MAX};
    for (unsigned i = 0; i < 4; i++)
        memsys_access(r.m, 0, MEMSYS_PAGE + i * LINE, MEMSYS_WRITE);
    assert_int_equal(memsys_page(r.h, 1)[0].misses, UINT32_MAX);
    assert_int_equal(memsys_page(r.h, 1)[0].writes, UINT32_MAX);
    assert_int_equal(memsys_page(r.h, 1)[1].misses, 0);
    tear_down(&r);
}

/* ---- congestion ---- */

/* Each of the first n CPUs reads its own lines of node 0, all misses, in turns of so many. */
static void stream(struct rig *r, unsigned n, unsigned turns, unsigned lines)
{
    static uint64_t at[MEMSYS_CPUS];

    for (unsigned t = 0; t < turns; t++)
        for (unsigned c = 0; c < n; c++)
            for (unsigned i = 0; i < lines; i++) {
                /* Eight ways, 16 lines of each set: all miss. */
                uint64_t line = c % 2 * (NODE / 2) + at[c]++ % (2 * SETS * WAYS) * LINE;

                memsys_insns(r->m, c, 4);
                memsys_access(r->m, c, line, MEMSYS_READ);
            }
}

/* Who is alone waits for nobody; two wait for each other as the formula says; who goes idle is
 * forgotten. */
static void test_congestion(void **state)
{
    double low = 0, high = 1e6;
    struct rig r;
    uint64_t misses, queued;

    (void)state;
    set_up(&r, 2, 4, 1);
    stream(&r, 1, 10, 20000);
    assert_int_equal(user(&r, 0)->queue_ps, 0);
    assert_true(r.h->queue_ps[0] > 0);
    stream(&r, 2, 40, 5000); /* settle */
    memsys_zero(r.m);
    stream(&r, 2, 40, 5000);
    while (high - low > 1) {
        double w = (low + high) / 2, load = 100000 / (4 * 2500 + LOCAL + w);

        if (100000 * load / (2 * (1 - load)) > w)
            low = w;
        else
            high = w;
    }
    misses = user(&r, 0)->miss[MEMSYS_READ][0];
    queued = user(&r, 0)->queue_ps / misses;
    assert_int_equal(misses, 200000);
    assert_in_range(queued, (uint64_t)(low * 0.99), (uint64_t)(low * 1.01));
    assert_int_equal(user(&r, 0)->stall_ps[0] - user(&r, 0)->queue_ps, misses * LOCAL);
    stream(&r, 1, 1, 400000); /* more than a million instructions alone */
    memsys_zero(r.m);
    stream(&r, 1, 1, 1000);
    assert_int_equal(user(&r, 0)->queue_ps, 0);
    tear_down(&r);
}

/* However many ask, nobody waits more than three times the quiet latency, and it settles. */
static void test_saturated_memory(void **state)
{
    struct rig r;
    uint64_t a, b;

    (void)state;
    set_up(&r, 4, 16, 1);
    stream(&r, 16, 40, 2000);
    memsys_zero(r.m);
    stream(&r, 16, 20, 2000);
    a = user(&r, 5)->queue_ps;
    memsys_zero(r.m);
    stream(&r, 16, 20, 2000);
    b = user(&r, 5)->queue_ps;
    assert_true(a > 0 && a <= (uint64_t)40000 * 3 * LOCAL);
    assert_in_range(b, a - a / 20, a + a / 20);
    tear_down(&r);
}

/* ---- sampling ---- */

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* A load of words in a working set somewhat larger than the cache, partly shared. */
static uint64_t random_misses(unsigned sample)
{
    uint64_t random = 88172645463325252, misses = 0;
    struct rig r;

    set_up(&r, 2, 4, sample);
    for (unsigned i = 0; i < 1000000; i++) {
        uint64_t x = next_random(&random), a = x % (NODE / 2) * (x >> 40 & 1 ? 1 : 2) / 8 * 8;
        unsigned cpu = x >> 32 & 3;

        if (memsys_sampled(a, sample, LINE))
            memsys_access(r.m, cpu, a, x >> 36 & 3 ? MEMSYS_READ : MEMSYS_WRITE);
    }
    for (unsigned c = 0; c < 4; c++)
        for (unsigned k = 0; k < MEMSYS_KINDS; k++)
            misses += (user(&r, c)->miss[k][0] + user(&r, c)->miss[k][1]) * sample;
    tear_down(&r);
    return misses;
}

static void test_sampling(void **state)
{
    uint64_t full = random_misses(1);

    (void)state;
    assert_true(full > 100000);
    for (unsigned sample = 2; sample <= 16; sample *= 2)
        assert_in_range(random_misses(sample), full - full / 20, full + full / 20);
    assert_true(memsys_sampled(0, 64, LINE) && memsys_sampled(MEMSYS_PAGE, 64, LINE));
    assert_false(memsys_sampled(LINE, 2, LINE) || memsys_sampled(MEMSYS_PAGE - 1, 64, LINE));
}

/* ---- a second model of the same rules ---- */

enum { CPUS = 16, GONE, SHARED, OWNED, CHANGED };

/* A way of a cache. */
struct way {
    uint64_t line, used; /* used: time of the last access, 0: never */
    int state;           /* GONE and up */
};

/* All caches, and what they did. */
struct plain {
    struct way way[CPUS][SETS][WAYS];
    uint64_t time, miss[3][4], upgrade[4], hit, dirty, invalidated, writeback;
};

static struct way *plain_find(struct plain *p, unsigned cpu, uint64_t line)
{
    for (unsigned i = 0; i < WAYS; i++) {
        struct way *w = &p->way[cpu][line % SETS][i];

        if (w->used && w->state != GONE && w->line == line)
            return w;
    }
    return NULL;
}

/* Takes a line from all others. Was it changed there? */
static bool plain_take(struct plain *p, unsigned cpu, uint64_t line, bool away)
{
    bool changed = false;

    for (unsigned c = 0; c < CPUS; c++) {
        struct way *w = c == cpu ? NULL : plain_find(p, c, line);

        if (!w)
            continue;
        changed |= w->state == CHANGED;
        p->invalidated += away;
        w->state = away ? GONE : SHARED;
    }
    return changed;
}

/* The way that a new line gets: the one not used for longest, of those that hold nothing if any. */
static struct way *plain_victim(struct plain *p, unsigned cpu, uint64_t line)
{
    struct way *set = p->way[cpu][line % SETS], *best = NULL;

    for (unsigned i = 0; i < WAYS; i++)
        if ((!set[i].used || set[i].state == GONE) && (!best || set[i].used < best->used))
            best = &set[i];
    for (unsigned i = 0; !best && i < WAYS; i++)
        if (!best)
            best = &set[i];
    if (best->used && best->state != GONE)
        for (unsigned i = 0; i < WAYS; i++)
            if (set[i].used < best->used)
                best = &set[i];
    p->writeback += best->used && best->state == CHANGED;
    return best;
}

static void plain_access(struct plain *p, unsigned cpu, uint64_t addr, enum memsys_kind kind)
{
    uint64_t line = addr / LINE, node = addr / NODE;
    struct way *w = plain_find(p, cpu, line);
    bool others = false;

    p->time++;
    if (!w) {
        p->miss[kind][node]++;
        for (unsigned c = 0; c < CPUS; c++)
            others |= c != cpu && plain_find(p, c, line);
        p->dirty += plain_take(p, cpu, line, kind == MEMSYS_WRITE);
        w = NULL;
        for (unsigned i = 0; i < WAYS; i++) { /* its old way, when that still tells of it */
            struct way *old = &p->way[cpu][line % SETS][i];

            if (old->used && old->line == line)
                w = old;
        }
        w = w ? w : plain_victim(p, cpu, line);
        *w = (struct way){.line = line, .state = others ? SHARED : OWNED};
    } else if (kind == MEMSYS_WRITE && w->state == SHARED) {
        p->upgrade[node]++;
        plain_take(p, cpu, line, true);
    } else {
        p->hit++;
    }
    if (kind == MEMSYS_WRITE)
        w->state = CHANGED;
    w->used = p->time;
}

/* Both say the same of all counts. */
static void compare(const struct rig *r, const struct plain *p)
{
    struct memsys_count sum = {.insns = 0};

    for (unsigned c = 0; c < CPUS; c++)
        for (size_t i = 0; i < sizeof(sum) / sizeof(uint64_t); i++)
            ((uint64_t *)&sum)[i] += ((uint64_t *)user(r, c))[i];
    for (unsigned n = 0; n < 4; n++) {
        for (unsigned k = 0; k < MEMSYS_KINDS; k++)
            assert_int_equal(sum.miss[k][n], p->miss[k][n]);
        assert_int_equal(sum.upgrade[n], p->upgrade[n]);
    }
    assert_int_equal(sum.hit, p->hit);
    assert_int_equal(sum.dirty, p->dirty);
    assert_int_equal(sum.invalidated, p->invalidated);
    assert_int_equal(sum.writeback, p->writeback);
}

/* Two and a half million accesses by 16 CPUs: half to lines that all share, some sets much more often. */
static void test_random_load(void **state)
{
    struct plain *p = calloc(1, sizeof(*p));
    uint64_t random = 0x9e3779b97f4a7c15;
    char what[200] = "";
    struct rig r;

    (void)state;
    assert_non_null(p);
    set_up(&r, 4, CPUS, 1);
    for (unsigned i = 0; i < 2500000; i++) {
        uint64_t x = next_random(&random), a;
        unsigned cpu = x % CPUS;
        enum memsys_kind kind = (x >> 8) % 4 ? (x >> 8) % 3 : MEMSYS_WRITE;

        if (x >> 16 & 1)
            a = (x >> 20) % 4096 * LINE + (x >> 40) % 4 * NODE;
        else if (x >> 17 & 1)
            a = (x >> 20) % 16 * LINE + (x >> 40) % (4 * NODE / WAY) * WAY;
        else
            a = (x >> 20) % (4 * NODE);
        memsys_access(r.m, cpu, a, kind);
        plain_access(p, cpu, a, kind);
        if (i % 500000 == 0)
            assert_int_equal(memsys_check(r.m, what, sizeof(what)), 0);
    }
    compare(&r, p);
    tear_down(&r);
    free(p);
}

/* ---- what cannot be modelled ---- */

static void test_wrong_shapes(void **state)
{
    static const struct {
        unsigned nodes, cpus, sample;
        uint64_t bytes;
        uint8_t distance;
        const char *say;
    } wrong[] = {
        {0, 4, 1, NODE, 20, "nodes"},
        {17, 17, 1, NODE, 20, "nodes"},
        {2, 0, 1, NODE, 20, "CPUs"},
        {2, 3, 1, NODE, 20, "CPUs"},
        {2, 32, 1, NODE, 20, "CPUs"},
        {2, UINT32_MAX, 1, NODE, 20, "CPUs"},
        {2, 2, 1, 3 << 20, 20, "power of two"},
        {2, 2, 1, 1 << 19, 20, "1 MiB or more"},
        {2, 2, 1, 0, 20, "power of two"},
        {2, 2, 1, UINT64_MAX, 20, "power of two"},
        {2, 2, 1, (uint64_t)1 << 63, 20, "GiB"},
        {2, 2, 1, (uint64_t)64 << 30, 20, "64 GiB"},
        {2, 2, 0, NODE, 20, "sample=0"},
        {2, 2, 3, NODE, 20, "sample=3"},
        {2, 2, 128, NODE, 20, "sample=128"},
        {2, 2, 1, NODE, 21, "distance 21 from node 0 to node 1"},
        {2, 2, 1, NODE, 0, "distance 0"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct memsys_shape s = {.machine = machine_model_by_name("flash"),
                                 .ncpus = wrong[i].cpus,
                                 .nnodes = wrong[i].nodes,
                                 .node_bytes = wrong[i].bytes,
                                 .sample = wrong[i].sample};
        char what[200];

        for (unsigned a = 0; a < MEMSYS_NODES; a++)
            for (unsigned b = 0; b < MEMSYS_NODES; b++)
                s.distance[a][b] = a == b ? 10 : wrong[i].distance;
        assert_true(memsys_shape_wrong(&s, what, sizeof(what)));
        if (!strstr(what, wrong[i].say))
            fail_msg("%zu: %s", i, what);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),       cmocka_unit_test(test_exclusive),
        cmocka_unit_test(test_upgrade),      cmocka_unit_test(test_write_miss),
        cmocka_unit_test(test_replacement),  cmocka_unit_test(test_coherence_or_capacity),
        cmocka_unit_test(test_context),      cmocka_unit_test(test_saturation),
        cmocka_unit_test(test_congestion),   cmocka_unit_test(test_saturated_memory),
        cmocka_unit_test(test_sampling),     cmocka_unit_test(test_random_load),
        cmocka_unit_test(test_wrong_shapes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
