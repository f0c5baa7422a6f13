/* SPDX-License-Identifier: MIT */
/*
 * Tests of the oracle: against an exhaustive search, at several costs.
 */
#include "tests/unit/replay_scene.h"

/* Least cost from interval t on, of a page that is on `home` with replicas; tries everything.
 * */
static uint64_t least(const struct scene *s, const struct policy_cost *c, uint32_t k,
                      uint32_t t, unsigned home, unsigned replicas)
{
    unsigned n = s->m.lat.nnodes, sets = 1u << n;
    struct page_use use;
    uint64_t best = UINT64_MAX, writes = 0;
    bool written = false;

    if (t == s->w.intervals)
        return 0;
    s->w.ops->use(&s->w, k, t, &use);
    for (unsigned i = 0; i < use.n; i++)
        writes += use.use[i].writes;
    written = writes > 0;
    for (unsigned to = 0; to < 2 * n * sets; to++) {
        unsigned h = to / 2 / sets, set = to / 2 % sets;
        bool broken = to & 1; /* by the write; else collapsed when the interval begins */
        uint64_t cost = 0;

        if ((set >> h & 1) || (written && set) || (set && h != home && replicas) ||
            (broken && !(written && replicas)))
            continue;
        if (broken)
            cost += c->broken;
        else if (replicas & ~set)
            cost += c->collapse;
        cost += h != home ? c->migrate : 0;
        cost += (uint64_t)__builtin_popcount(set & ~replicas) * c->further;
        cost += set & ~replicas && !replicas ? c->replicate - c->further : 0;
        for (unsigned i = 0; i < use.n; i++) {
            unsigned node = use.use[i].node, at = set >> node & 1 ? node : h;
            unsigned old = replicas >> node & 1 ? node : home;
            uint64_t all = (uint64_t)use.use[i].reads + use.use[i].writes;
            uint64_t before = broken ? all / (writes + 1) : 0;

            cost += (all - before) * s->m.lat.ns[node][at] + before * s->m.lat.ns[node][old];
        }
        cost += least(s, c, k, t + 1, h, set);
        best = cost < best ? cost : best;
    }
    return best;
}

/* The oracle is as good as trying everything, or nearly: its limits cost at most 1 %. */
static void test_oracle(void **state)
{
    static const char *const loads[] = {
        "mem=2M,intervals=4+private=8,rate=90,moved=100+read=8,rate=120+write=8,rate=200",
        "mem=2M,intervals=4+alternate=8,rate=300,period=2+phases=8,rate=60,period=2+"
        "mostly=8,rate=200,period=3"};
    struct policy_cost dear = policy_cost_default; /* first replicas are */
    const struct policy_cost *const costs[] = {&policy_cost_default, &policy_cost_by_copy,
                                               &dear};
    uint64_t all = 0, ours = 0;
    struct scene s;

    (void)state;
    dear.replicate = 15000;
    for (unsigned l = 0; l < 2 * 3; l++) {
        s = (struct scene){0};
        scene(&s, "nodes=3,cpus=3,local=100,remote=300", loads[l % 2]);
        for (uint32_t k = 0; k < s.w.active; k++) {
            struct oracle_result r = {0};
            uint64_t b = least(&s, costs[l / 2], k, 0, s.w.ops->toucher(&s.w, k), 0);

            oracle_page(&r, &s.w, k, &s.m.lat, costs[l / 2]);
            assert_true(r.ns >= b);
            assert_true(r.ns <= r.first_ns);
            assert_true(r.delayed_ns >= r.ns && r.delayed_ns <= r.first_ns);
            all += b;
            ours += r.ns;
        }
    }
    assert_true(ours * 100 <= all * 101);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
