/* SPDX-License-Identifier: MIT */
/*
 * Tests of what policies are set up with: thresholds by name, and what actions cost as runs of
 * neighbours, as batches, and beside other replicas.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "numa/policy.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* Orders actions and adds their bill; it must say what is wanted of each. */
static void bill(const struct policy_cost *c, struct action *a, const uint64_t *want,
                 unsigned n)
{
    struct policy_bill b = {.cost = c};

    policy_order(a, n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(policy_bill(&b, &a[i]), want[i]);
}

/* Actions on neighbours are one run, which is begun once; the order brings them together. */
static void test_runs(void **state)
{
    static const struct policy_cost c = {
        .migrate_run = 100, .migrate = 1, .migrate_2m = 50, .collapse_run = 10, .collapse = 2};
    struct action a[] = {
        {.page = 9, .act = ACT_MIGRATE, .node = 1},
        {.page = 7, .act = ACT_MIGRATE, .node = 1},
        {.page = 8, .act = ACT_MIGRATE, .node = 2},
        {.page = 8, .act = ACT_MIGRATE, .node = 1},
        {.page = 1024 | PAGE_BLOCK, .act = ACT_MIGRATE, .node = 3},
        {.page = 512 | PAGE_BLOCK, .act = ACT_MIGRATE, .node = 3},
        {.page = 5, .act = ACT_COLLAPSE, .node = 1, .from = 2},
        {.page = 4, .act = ACT_COLLAPSE, .node = 1, .from = 1},
    };
    static const uint64_t want[] = {101, 1, 1, 101, 150, 50, 12, 12 + 101};
    static const uint64_t page[] = {7, 8, 9, 8, 512 | PAGE_BLOCK, 1024 | PAGE_BLOCK, 4, 5};
    struct policy_cost half = policy_cost_scaled(&c, 50);

    (void)state;
    bill(&c, a, want, 8);
    for (unsigned i = 0; i < 8; i++)
        assert_true(a[i].page == page[i]);
    assert_int_equal(half.migrate_run, 50);
    assert_int_equal(half.migrate_2m, 25);
}

/* Single pages that move are one batch, wherever they lie and go, as many as fit; blocks are not of
 * it and do not come between. */
static void test_batches(void **state)
{
    static const struct policy_cost c = {
        .migrate_run = 100, .migrate = 2, .migrate_2m = 50, .batch = 3};
    struct action a[] = {
        {.page = 512 | PAGE_BLOCK, .act = ACT_MIGRATE, .node = 1},
        {.page = 9, .act = ACT_MIGRATE, .node = 1},
        {.page = 2000, .act = ACT_MIGRATE, .node = 1},
        {.page = 70, .act = ACT_MIGRATE, .node = 2},
        {.page = 30, .act = ACT_MIGRATE, .node = 3},
        {.page = 31, .act = ACT_MIGRATE, .node = 3},
    };
    static const uint64_t want[] = {102, 2, 2, 102, 2, 150};

    (void)state;
    bill(&c, a, want, 6);
    assert_true(a[5].page == (512 | PAGE_BLOCK));
    assert_true(policy_batched(&c, &a[0]) && !policy_batched(&c, &a[5]));
    assert_true(policy_cost_default.batch && !policy_cost_by_copy.batch);
}

/* A replica beside others costs less, and is not of a run with first ones; a block does not go on
 * where pages end. */
static void test_further(void **state)
{
    static const struct policy_cost c = {.replicate_run = 30,
                                         .replicate = 5,
                                         .replicate_2m = 400,
                                         .further_run = 20,
                                         .further = 3,
                                         .further_2m = 300};
    struct action a[] = {
        {.page = 510, .act = ACT_REPLICATE, .node = 1},
        {.page = 511, .act = ACT_REPLICATE, .node = 1},
        {.page = 512 | PAGE_BLOCK, .act = ACT_REPLICATE, .node = 1},
        {.page = 510, .act = ACT_REPLICATE, .node = 2, .further = true},
        {.page = 511, .act = ACT_REPLICATE, .node = 2, .further = true},
        {.page = 512, .act = ACT_REPLICATE, .node = 2},
        {.page = 1024 | PAGE_BLOCK, .act = ACT_REPLICATE, .node = 2, .further = true},
    };
    static const uint64_t want[] = {35, 5, 430, 23, 3, 35, 320};

    (void)state;
    bill(&c, a, want, 7);
    assert_int_equal(policy_cost_further(&c, 7), 3);
    assert_int_equal(policy_cost_scaled(&c, 200).further_run, 40);
}

/* Costs follow what actions take, within limits, and come back. */
static void test_learn(void **state)
{
    const struct policy_ops *ops = policy_by_name("replicate");
    struct policy_machine m = {.nnodes = 2};
    struct policy p;
    uint32_t was;

    (void)state;
    assert_int_equal(policy_init(&p, ops, &m, NULL, 16), 0);
    was = p.cost.replicate_run;
    policy_learn(&p, 0, 1000000000); /* nothing was done */
    assert_int_equal(p.cost.replicate_run, was);
    for (unsigned i = 0; i < 200; i++)
        policy_learn(&p, 1000000ull * p.cost.replicate_run / was, 10000000);
    assert_in_range(p.learnt.percent, 950, 1050);
    assert_int_equal(p.cost.replicate_run, (uint64_t)was * p.learnt.percent / 100);
    for (unsigned i = 0; i < 1000; i++)
        policy_learn(&p, 1000, UINT32_MAX);
    assert_int_equal(p.learnt.percent, 25600);
    for (unsigned i = 0; i < 10000; i++)
        policy_learn(&p, 0, 1000);
    assert_in_range(p.learnt.percent, 95, 110);
    assert_in_range(p.cost.replicate_run, was * 95 / 100, was * 110 / 100);
    for (unsigned i = 0; i < 1000; i++)
        policy_learn(&p, 100000000, 1);
    assert_int_equal(p.learnt.percent, 25);
    policy_exit(&p);
}

static void test_tune(void **state)
{
    struct policy_tune t = policy_tune_default();

    (void)state;
    for (const struct policy_knob *k = policy_knobs; k->name; k++) {
        assert_true(k->def >= k->min && k->def <= k->max);
        assert_int_equal(policy_tune_set(&t, k->name, k->max), 0);
        assert_true(policy_tune_set(&t, k->name, (uint64_t)k->max + 1) < 0);
    }
    assert_true(policy_tune_set(&t, "no such", 1) < 0);
    assert_true(policy_tune_set(&t, "trigger", 0) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),    cmocka_unit_test(test_batches),
        cmocka_unit_test(test_further), cmocka_unit_test(test_learn),
        cmocka_unit_test(test_tune),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
