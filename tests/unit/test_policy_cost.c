/* SPDX-License-Identifier: MIT */
/*
 * Tests of what policies are set up with: thresholds by name, and what actions cost as runs of
 * neighbours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "numa/policy.h"

#include <cmocka.h> /* last: its fail() is a macro */

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
    policy_order(a, 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(a[i].page == page[i]);
        assert_true(policy_cost_next(&c, i ? &a[i - 1] : NULL, &a[i]) == want[i]);
    }
    assert_int_equal(half.migrate_run, 50);
    assert_int_equal(half.migrate_2m, 25);
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
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_tune),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
