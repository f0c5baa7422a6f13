/* SPDX-License-Identifier: MIT */
/*
 * Tests of replay: reading machines, workloads and traces, right and wrong; what policies make of
 * loads whose best answer is known, and what they are charged; conservation.
 */
#include <unistd.h>

#include "numa/machine_model.h"
#include "numa/trace_format.h"
#include "tests/unit/replay_scene.h"

static void test_machines(void **state)
{
    static const char *const wrong[] = {"",
                                        "flsh",
                                        "nodes=4",
                                        "nodes=0,cpus=1,local=1,remote=2",
                                        "nodes=65,cpus=65,local=1,remote=2",
                                        "nodes=4,cpus=3,local=100,remote=200",
                                        "nodes=4,cpus=4,local=300,remote=200",
                                        "nodes=4,cpus=4,local=100,remote=200,near=99",
                                        "nodes=4,cpus=4,local=100,remote=70000",
                                        "nodes=4,cpus=4,local=100,remote=200,far=1",
                                        "nodes=4,cpus=4,local=100,remote=200,",
                                        "nodes=4,,cpus=4"};
    struct replay_machine m;

    (void)state;
    for (const struct machine_model *d = machine_models; d->name; d++)
        assert_int_equal(replay_machine_read(&m, d->name, NULL), 0);
    for (const struct replay_machine_name *n = replay_machines; n->name; n++)
        assert_int_equal(replay_machine_read(&m, n->name, NULL), 0);
    assert_int_equal(replay_machine_read(&m, "epyc2s", NULL), 0);
    assert_int_equal(m.lat.ns[0][1], 130);
    assert_int_equal(m.lat.ns[2][1], 210);
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct err err = {0};

        assert_true(replay_machine_read(&m, wrong[i], &err) < 0);
        assert_int_equal(err.status, EXIT_USAGE);
    }
}

static void test_workloads(void **state)
{
    static const char *const wrong[] = {"",
                                        "mem=1G",
                                        "mem=1G+",
                                        "private",
                                        "+private=1",
                                        "private=0",
                                        "mem=2M+private=4096",
                                        "mem=1G+privat=5",
                                        "mem=1G+read=5,rate=1,foo=2",
                                        "mem=1G+read=5,nodes=65",
                                        "mem=1G,run=0+read=5",
                                        "mem=1G,page=8K+read=5",
                                        "mem=1G+read=5,period=0",
                                        "mem=1G,intervals=0+read=5",
                                        "mem=9999T+read=5",
                                        "read=300000000,rate=1"};
    struct workload w;

    (void)state;
    for (const struct workload_name *n = workloads; n->name; n++) {
        assert_int_equal(workload_read(&w, n->name, 64, NULL), 0);
        for (uint32_t k = 0; k < w.active; k += 1 + w.active / 1000) {
            struct page_use u;

            assert_true(w.ops->active(&w, w.ops->unit(&w, k)) == k);
            assert_true(w.ops->unit(&w, k) < w.units);
            assert_true(w.ops->toucher(&w, k) < 64);
            w.ops->use(&w, k, k % w.intervals, &u);
            assert_true(u.n <= 64);
            for (unsigned i = 0; i < u.n; i++)
                assert_true(u.use[i].node < 64);
        }
    }
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct err err = {0};

        if (!strcmp(wrong[i], "private"))
            continue;
        if (workload_read(&w, wrong[i], 4, &err) == 0)
            fail_msg("\"%s\" was taken", wrong[i]);
        assert_int_equal(err.status, EXIT_USAGE);
    }
}

/* ---- policies ---- */

/* Loads with a known best: shares of the oracle, with every miss seen. */
static void test_good(void **state)
{
    static const struct {
        const char *load;
        double least;
    } cases[] = {{"mem=64M,intervals=100,busy=100+private=2048,moved=100", 0.95},
                 {"mem=64M,intervals=100,busy=100+read=1024", 0.93},
                 {"mem=64M,intervals=100,busy=100+write=1024", 0.99},
                 {"mem=64M,intervals=100,busy=100+table=512", 0.99}};

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct replay_result r;
        struct scene s;

        scene(&s, "flash", cases[i].load);
        r = play(&s, "replicate", REPLAY_FLASH);
        if (share(&s, &r) < cases[i].least)
            fail_msg("%s: %.3f of the oracle", cases[i].load, share(&s, &r));
    }
}

/* Replays the default policy at costs of one's own. */
static struct replay_result play_at(const struct scene *s, const struct policy_cost *cost)
{
    struct replay_setup set = replay_setup_default();
    struct replay_result r;
    struct err err = {0};

    set.machine = &s->m;
    set.workload = &s->w;
    set.cost = *cost;
    if (replay_run(&set, &r, &err))
        fail_msg("%s", err.text);
    return r;
}

/* What moves are charged is what the pager pays: a beginning for each interval that moves pages, of
 * 512 pages at most, wherever they lie; by copy for each page that has no neighbours. */
static void test_charge_moves(void **state)
{
    const struct policy_cost *c = &policy_cost_default, *by_copy = &policy_cost_by_copy;
    struct replay_result r;
    struct scene s;

    (void)state;
    scene(&s, "flash", "mem=64M,intervals=50,busy=100+private=2048,moved=100");
    r = play_at(&s, c);
    assert_true(r.act[ACT_MIGRATE] > 1000 && r.act[ACT_REPLICATE] == 0);
    assert_true(r.runs >= r.act[ACT_MIGRATE] / c->batch);
    assert_true(r.runs <= r.act[ACT_MIGRATE] / c->batch + s.w.intervals);
    assert_true(r.work_ns == r.act[ACT_MIGRATE] * c->migrate + r.runs * c->migrate_run);
    r = play_at(&s, by_copy);
    assert_true(r.runs > r.act[ACT_MIGRATE] / 4);
    assert_true(r.work_ns ==
                r.act[ACT_MIGRATE] * by_copy->migrate + r.runs * by_copy->migrate_run);
}

/* Of a page's replicas one is charged as the first, others as further ones. */
static void test_charge_replicas(void **state)
{
    struct policy_cost c = policy_cost_default;
    struct replay_result r;
    struct scene s;

    (void)state;
    c.replicate_run = c.further_run = 0;
    c.replicate = 1001;
    c.further = 1;
    scene(&s, "flash", "mem=64M,intervals=50,busy=100+read=256,rate=1600");
    r = play_at(&s, &c);
    assert_true(r.act[ACT_REPLICATE] > 256 && r.act[ACT_MIGRATE] == 0 && !r.forced);
    assert_true(r.work_ns == 256 * 1000 + r.act[ACT_REPLICATE]);
}

/* Sampling by faults finds what perfect counters find, later. */
static void test_faults(void **state)
{
    struct replay_result r, none;
    struct scene s;

    (void)state;
    scene(&s, "flash",
          "mem=64M,intervals=200,busy=100+private=1024,moved=100+read=256,rate=1600");
    r = play(&s, "replicate", REPLAY_FAULTS);
    none = play(&s, "first-touch", REPLAY_FAULTS);
    assert_true(r.samples > 0 && none.samples == 0);
    assert_true(replay_time(&r) < replay_time(&none));
    assert_true(r.local > none.local);
    assert_true(r.sample_ns * 100 <= replay_time(&r) * 2);
}

/* Hostile loads: no worse than leaving pages alone, but for 2 %. */
static void test_hostile(void **state)
{
    static const char *const loads[] = {
        "mem=64M,intervals=200,busy=100+write=2048",
        "mem=64M,intervals=200,busy=100+alternate=2048,period=1",
        "mem=64M,intervals=200,busy=100+alternate=2048,period=3",
        "mem=64M,intervals=200,busy=100+mostly=1024,period=1",
        "mem=64M,intervals=200,busy=100+mostly=1024,period=2",
        "mem=64M,intervals=200,busy=100+table=1024"};

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        struct replay_result r, still;
        struct scene s;

        scene(&s, "epyc2s", loads[i]);
        r = play(&s, "replicate", REPLAY_FLASH);
        still = play(&s, "first-touch", REPLAY_FLASH);
        if (replay_time(&r) * 100 > replay_time(&still) * 102)
            fail_msg("%s: %.3f times as long", loads[i],
                     (double)replay_time(&r) / (double)replay_time(&still));
    }
}

/* Every policy serves the same misses; none is better than all local, or does better than it
 * may. */
static void test_conserved(void **state)
{
    struct scene s;

    (void)state;
    scene(
        &s, "xeon8s",
        "mem=128M,intervals=40,busy=50+private=1024+read=512+write=512+alternate=256,period=3+"
        "phases=512,period=10+mostly=256,period=5+table=128");
    for (const struct policy_ops *p = policies; p->name; p++) {
        struct replay_result r = play(&s, p->name, REPLAY_FLASH);

        assert_true(r.accesses == s.best.accesses);
        assert_true(r.stall_ns >= s.best.bound_ns);
        assert_true(r.local <= r.accesses);
        assert_int_equal(r.failed, 0);
        assert_true(r.numbers.cost_ns <=
                    (r.guest_ns + 10 * s.w.interval_ns) / 100 * 3 * s.m.cpus);
        if (!strcmp(p->name, "first-touch"))
            assert_true(r.stall_ns == s.best.first_ns);
    }
}

/* Every ns above all-local memory has a cause, and every miss a class. */
static void test_loss(void **state)
{
    struct replay_setup set = replay_setup_default();
    uint64_t loss = 0, stall = 0, work = 0, accesses = 0;
    struct replay_result r;
    struct err err = {0};
    struct scene s;

    (void)state;
    scene(&s, "flash",
          "mem=64M,run=4,intervals=60,busy=100+private=1024,moved=100+read=256+alternate=256,"
          "period=2+mostly=256,period=3+table=64");
    set.machine = &s.m;
    set.workload = &s.w;
    set.causes = true;
    assert_int_equal(replay_run(&set, &r, &err), 0);
    for (unsigned i = 0; i < LOSS_KINDS; i++) {
        assert_non_null(replay_loss_names[i]);
        loss += r.loss_ns[i];
    }
    for (unsigned i = 0; i < s.w.nclasses; i++) {
        stall += r.part[i].stall_ns;
        work += r.part[i].work_ns;
        accesses += r.part[i].accesses;
    }
    assert_true(loss == r.stall_ns + r.work_ns + r.sample_ns - s.best.bound_ns);
    assert_true(stall == r.stall_ns && work == r.work_ns && accesses == r.accesses);
    assert_true(r.loss_ns[LOSS_NEW] > 0 && r.loss_ns[LOSS_LIMIT] > 0);
    assert_true(r.runs > 0 && r.runs < r.act[ACT_MIGRATE] + r.act[ACT_REPLICATE]);
    assert_string_equal(workload_class_name(&s.w, 2), "alternate");
}

/* The oracle that learns late: as good as the oracle where nothing changes but for the beginning,
 * a third remote where two nodes take turns of three intervals; run= makes neighbours alike. */
static void test_late(void **state)
{
    struct page_use a, b;
    struct scene s;

    (void)state;
    scene(&s, "flash", "mem=64M,intervals=90,busy=100+private=512,moved=100");
    assert_true(s.best.delayed_ns > s.best.ns);
    assert_true(s.best.delayed_ns * 100 < s.best.ns * 103);
    scene(&s, "flash", "mem=64M,run=8,intervals=90,busy=100+alternate=512,period=3");
    assert_true(s.best.delayed_ns * 10 > s.best.ns * 16);
    for (uint32_t k = 0; k < 512; k += 8)
        for (uint32_t i = 1; i < 8; i++) {
            s.w.ops->use(&s.w, k, 40, &a);
            s.w.ops->use(&s.w, k + i, 40, &b);
            assert_int_equal(a.use[0].node, b.use[0].node);
            assert_int_equal(s.w.ops->toucher(&s.w, k), s.w.ops->toucher(&s.w, k + i));
        }
}

/* Tight memory: replicas only where there is room, and the guest always fits. */
static void test_tight(void **state)
{
    struct replay_machine m;
    struct replay_result r;
    struct scene s;
    struct err err = {0};
    struct replay_setup set = replay_setup_default();

    (void)state;
    scene(&s, "nodes=4,cpus=8,local=100,remote=300,mem=20M",
          "mem=64M,intervals=60,busy=100+read=4096");
    r = play(&s, "replicate", REPLAY_FLASH);
    assert_true(r.numbers.no_memory > 0);
    assert_true(r.replicas_most <= 4u * (20 - 16) * 256);
    assert_int_equal(r.failed, 0);
    assert_int_equal(
        replay_machine_read(&m, "nodes=4,cpus=8,local=100,remote=300,mem=15M", &err), 0);
    set.machine = &m;
    set.workload = &s.w;
    assert_true(replay_run(&set, &r, &err) < 0);
    assert_int_equal(err.status, EXIT_MEMORY);
}

/* ---- traces ---- */

/* A right header: 2 CPUs, 2 nodes. */
static struct trace_header right(void)
{
    return (struct trace_header){.magic = TRACE_MAGIC,
                                 .version = TRACE_VERSION,
                                 .ncpus = 2,
                                 .nnodes = 2,
                                 .sample = 1,
                                 .interval = 1000000,
                                 .node_of_cpu = {0, 1}};
}

/* Writes a trace; path is a template. */
static void write_trace(char *path, const struct trace_header *h, const struct trace_record *r,
                        size_t n)
{
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_true(write(fd, h, sizeof(*h)) == (ssize_t)sizeof(*h));
    assert_true(write(fd, r, n * sizeof(*r)) == (ssize_t)(n * sizeof(*r)));
    close(fd);
}

/* Reads a trace of these records with a filter; 0 or -errno. */
static int read_trace(struct workload *w, const struct trace_header *h,
                      const struct trace_record *r, size_t n, const struct workload_filter *f)
{
    char path[] = "/tmp/disco-trace-XXXXXX";
    struct err err = {0};
    int rc;

    write_trace(path, h, r, n);
    rc = workload_trace(w, path, 4, f, &err);
    unlink(path);
    if (rc)
        assert_non_null(strstr(err.text, path));
    return rc;
}

static const struct workload_filter everything = {.guest = -1, .group = 1, .mhz = 1000};

static void test_trace(void **state)
{
    static const struct trace_record r[] = {
        {1000000, 900, 1, 1, 0, 0, 50, 40}, {1000000, 7, 0, 1, 0, 0, 50, 10},
        {1000000, 7, 0, 1, 1, 0, 5, 5},     {1000000, 7, 1, 2, 0, 0, 50, 3},
        {2000000, 7, 1, 1, 0, 0, 9, 9},     {5000000, 900, 0, 1, 0, 0, 9, 0},
        {5000000, 900, 0, 1, 1, 0, 9, 2},
    };
    struct workload_filter one = {.guest = 1, .group = 2, .mhz = 1000};
    struct trace_header h = right();
    struct page_use u;
    struct workload w;

    (void)state;
    assert_int_equal(read_trace(&w, &h, r, 7, &everything), 0);
    assert_int_equal(w.active, 2);
    assert_int_equal(w.intervals, 5);
    assert_true(w.units == 901 && w.interval_ns == 500000);
    assert_true(w.ops->active(&w, 900) == 1 && w.ops->active(&w, 8) == UINT32_MAX);
    assert_int_equal(w.ops->toucher(&w, 0), 0);
    assert_int_equal(w.ops->toucher(&w, 1), 1);
    w.ops->use(&w, 0, 0, &u);
    assert_int_equal(u.n, 2);
    assert_int_equal(u.use[0].reads, 10);
    assert_int_equal(u.use[0].writes, 5);
    assert_int_equal(u.use[1].reads, 3);
    w.ops->use(&w, 1, 1, &u);
    assert_int_equal(u.n, 0);
    workload_free(&w);
    assert_int_equal(read_trace(&w, &h, r, 7, &one), 0);
    assert_int_equal(w.intervals, 3);
    w.ops->use(&w, 0, 0, &u);
    assert_int_equal(u.n, 2);
    assert_int_equal(u.use[1].reads, 9);
    workload_free(&w);
}

/* A policy on a trace: one page, always used from afar. */
static void test_trace_replay(void **state)
{
    static struct trace_record r[201];
    struct replay_result a;
    struct trace_header h = right();
    struct scene s = {0};

    (void)state;
    for (unsigned i = 0; i < 200; i++)
        r[i + 1] = (struct trace_record){1000000ull * (i + 2), 5, 1, 1, 0, 0, 600, 500};
    r[0] = (struct trace_record){1000000, 5, 0, 1, 1, 0, 1, 1};
    assert_int_equal(replay_machine_read(&s.m, "nodes=4,cpus=8,local=100,remote=300", NULL), 0);
    assert_int_equal(read_trace(&s.w, &h, r, 201, &everything), 0);
    oracle_run(&s.best, &s.w, &s.m.lat, &policy_cost_default, NULL);
    a = play(&s, "replicate", REPLAY_FLASH);
    assert_int_equal(a.act[ACT_MIGRATE], 1);
    assert_true(share(&s, &a) > 0.9);
    workload_free(&s.w);
}

static void test_bad_traces(void **state)
{
    static const struct trace_record good = {1000000, 7, 0, 1, 0, 0, 50, 10};
    struct trace_record r;
    struct trace_header h;
    struct workload w;
    struct err err = {0};

    (void)state;
    assert_true(workload_trace(&w, "/nonexistent/trace", 4, &everything, &err) < 0);
    assert_int_equal(err.status, EXIT_RESOURCE);
    h = right();
    assert_true(read_trace(&w, &h, &good, 0, &everything) < 0);
#define BAD(field, value)                                           \
    do {                                                            \
        h = right();                                                \
        h.field = value;                                            \
        assert_true(read_trace(&w, &h, &good, 1, &everything) < 0); \
    } while (0)
    BAD(magic, 1);
    BAD(version, 9);
    BAD(ncpus, 0);
    BAD(ncpus, 33);
    BAD(nnodes, 5);
    BAD(nnodes, 0);
    BAD(sample, 0);
    BAD(interval, 0);
    BAD(node_of_cpu[1], 2);
    h = right();
    r = good;
    r.cpu = 2;
    assert_true(read_trace(&w, &h, &r, 1, &everything) < 0);
    r = good;
    r.misses = 0;
    assert_true(read_trace(&w, &h, &r, 1, &everything) < 0);
    {
        struct trace_record far[2] = {good, good};

        far[1].time = UINT64_MAX;
        assert_true(read_trace(&w, &h, far, 2, &everything) < 0);
        far[1].time = 1;
        assert_true(read_trace(&w, &h, far, 2, &everything) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machines),
        cmocka_unit_test(test_workloads),
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_charge_moves),
        cmocka_unit_test(test_charge_replicas),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_conserved),
        cmocka_unit_test(test_tight),
        cmocka_unit_test(test_trace),
        cmocka_unit_test(test_trace_replay),
        cmocka_unit_test(test_bad_traces),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
