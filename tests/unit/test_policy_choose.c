/* SPDX-License-Identifier: MIT */
/*
 * Tests of numa/policy_choose.c: which actions repay their cost, as runs, as batches and beside
 * other replicas; L3 the budget, L4 free memory.
 */
#include "tests/unit/policy_guest.h"

/* What the actions told cost. */
static uint64_t told_cost(const struct guest *g)
{
    struct policy_bill bill = {.cost = &g->p.cost};
    uint64_t ns = 0;

    for (unsigned i = 0; i < g->n; i++)
        ns += policy_bill(&bill, &g->act[i]);
    return ns;
}

/* L3: what is told costs no more than the budget, and the best is told first; for either mover. */
static void test_budget(void **state)
{
    static const struct policy_cost *const costs[] = {&policy_cost_default,
                                                      &policy_cost_by_copy};
    struct policy_tune t = policy_tune_default();
    uint64_t budget = 100000 * 32 * 1; /* 1 permille of 32 CPUs, 100 ms, ns */

    (void)state;
    t.cpu = 1;
    t.burst = 1;
    for (unsigned i = 0; i < 2; i++) {
        struct guest *g = start("replicate", &t);
        uint64_t cost;

        g->p.cost = *costs[i];
        g->in.cpus = 32;
        for (uint64_t p = 0; p < PAGES; p++)
            use(g, p, p < 100 ? 1 : p % 2 ? 2 : 3, p < 100 ? 100000 : 2000, 0);
        decide(g);
        assert_true(g->n > 100 && g->n < PAGES);
        cost = told_cost(g);
        assert_true(cost <= budget && cost + 2 * g->p.cost.migrate_run > budget);
        assert_true(cost == g->p.numbers.cost_ns);
        for (uint64_t p = 0; p < 100; p++)
            assert_int_equal(g->page[p].home, 1);
        assert_true(g->p.numbers.over_budget > 0);
        end(g);
    }
}

/* L3 with moves in batches and replicas of pages that have others or not, whatever the budget and
 * wherever memory is short. */
static void test_budget_strict(void **state)
{
    struct policy_tune t = policy_tune_default();

    (void)state;
    t.burst = 1;
    for (unsigned round = 0; round < 60; round++) {
        struct guest *g;
        uint64_t budget;

        t.cpu = round % 20 + 1;
        g = start("replicate", &t);
        g->in.cpus = 4 + round;
        g->p.cost.batch = round % 3 ? 40 : 512;
        g->in.free[1 + round % 3] = round % 2 ? (round + 1) << 12 : 4 * GIB;
        g->in.total[1 + round % 3] = round % 2 ? 0 : 4 * GIB;
        budget = g->in.interval_ns / 1000 * g->in.cpus * t.cpu;
        srandom(round);
        for (uint64_t p = 0; p < PAGES; p++) {
            g->page[p].replicas = p % 5 == 0 ? 8 : 0;
            for (unsigned n = 1; n < NODES; n++)
                if (random() % 3)
                    use(g, p, n, (uint32_t)(100 + random() % 4000), 0);
        }
        decide(g);
        assert_true(g->n > 0 && told_cost(g) <= budget);
        end(g);
    }
}

/* A page that does not repay a batch's beginning moves when others move in the same interval,
 * wherever they lie and go; by copy it does not. */
static void test_batch(void **state)
{
    (void)state;
    for (unsigned by_copy = 0; by_copy < 2; by_copy++) {
        struct guest *g = start("replicate", NULL);

        if (by_copy)
            g->p.cost = policy_cost_by_copy;
        for (int i = 0; i < 5; i++) { /* 16 us in 8 intervals */
            use(g, 7, 2, 10, 0);
            decide(g);
        }
        assert_int_equal(g->page[7].home, 0);
        assert_true(g->p.numbers.not_worth > 0);
        use(g, 7, 2, 10, 0);
        use(g, 700, 3, 4000, 0);
        decide(g);
        assert_int_equal(g->page[700].home, 3);
        assert_int_equal(g->page[7].home, by_copy ? 0 : 2);
        end(g);
    }
}

/* Many pages, none of which repays a beginning alone, move in one batch. */
static void test_batch_of_cold(void **state)
{
    struct guest *g = start("replicate", NULL);

    (void)state;
    for (uint64_t p = 0; p < PAGES; p += 31)
        use(g, p, 1 + p % 3, 10, 0);
    decide(g);
    assert_int_equal(g->n, (PAGES + 30) / 31);
    end(g);
}

/* A replica beside others is made when it repays its lower cost; the first of a page is not. */
static void test_further(void **state)
{
    const struct policy_cost *c = &policy_cost_default;
    uint32_t ns = (c->further_run + c->further + c->replicate_run + c->replicate) / 2;
    struct guest *g = start("replicate", NULL);

    (void)state;
    g->page[5].replicas = 2;
    use(g, 5, 1, 400, 0);
    use(g, 5, 2, ns / 8 / 200 + 1, 0);
    use(g, 9, 0, 400, 0);
    use(g, 9, 2, ns / 8 / 200 + 1, 0);
    decide(g);
    assert_int_equal(g->page[5].replicas, 2 | 4);
    assert_int_equal(g->page[9].replicas, 0);
    use(g, 9, 1, 4000, 0); /* now there is another */
    use(g, 9, 2, ns / 8 / 200 + 1, 0);
    decide(g);
    assert_int_equal(g->page[9].replicas, 2 | 4);
    end(g);
}

/* What does not repay for a page alone does for a run. */
static void test_neighbours(void **state)
{
    struct guest *g = start("replicate", NULL);

    (void)state;
    g->p.cost = policy_cost_by_copy;
    for (int i = 0; i < 5; i++) {
        for (uint64_t p = 100; p < 132; p++)
            use(g, p, 2, 20, 5);
        use(g, 7, 2, 20, 5);
        decide(g);
    }
    for (uint64_t p = 100; p < 132; p++)
        assert_int_equal(g->page[p].home, 2);
    assert_int_equal(g->page[7].home, 0);
    assert_true(g->p.numbers.not_worth > 0);
    end(g);
}

/* L4: no replica on a node short of memory; replicas go when it gets shorter. */
static void test_memory(void **state)
{
    struct guest *g = start("replicate", NULL);
    unsigned left = 0;

    (void)state;
    g->in.free[1] = g->in.total[1] / 100 * 9; /* below keep_free */
    for (int i = 0; i < 10; i++) {
        for (uint64_t p = 0; p < 64; p++)
            for (unsigned n = 0; n < NODES; n++)
                use(g, p, n, 400, 0);
        decide(g);
    }
    for (uint64_t p = 0; p < 64; p++)
        assert_int_equal(g->page[p].replicas, 0xc);
    assert_true(g->p.numbers.no_memory > 0);
    g->in.free[2] = g->in.total[2] / 100 * g->p.tune.low_free - 40 * 4096;
    decide(g);
    for (uint64_t p = 0; p < 64; p++)
        left += g->page[p].replicas >> 2 & 1;
    assert_int_equal(left, 24);
    assert_int_equal(g->p.numbers.act[ACT_EVICT], 40);
    decide(g); /* still short, and few are left: none is named twice, see decide() */
    for (uint64_t p = 0; p < 64; p++)
        assert_int_equal(g->page[p].replicas & 4, 0);
    g->in.free[1] = g->in.free[3] = 0; /* replicas make room on 3; on 1 there are none */
    for (int i = 0; i < 10; i++) {
        use(g, 500, 3, 4000, 0);
        use(g, 501, 1, 4000, 0);
        decide(g);
    }
    assert_int_equal(g->page[500].home, 3);
    assert_int_equal(g->page[501].home, 0);
    end(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budget),  cmocka_unit_test(test_budget_strict),
        cmocka_unit_test(test_batch),   cmocka_unit_test(test_batch_of_cold),
        cmocka_unit_test(test_further), cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
