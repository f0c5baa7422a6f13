/* SPDX-License-Identifier: MIT */
/*
 * Tests that the model's check of itself sees what is broken: the model's source is part of this
 * program, so that its caches and its directory can be broken from here, one at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/memsys/model.c"

#define NODE ((uint64_t)1 << 20)

/* Two CPUs of two nodes; line 1 is shared by both, line 2 CPU 0 has changed, line 3 nobody has. */
static struct memsys *begin(void)
{
    struct memsys_shape s = {.machine = machine_model_by_name("flash"),
                             .ncpus = 2,
                             .nnodes = 2,
                             .node_bytes = NODE,
                             .sample = 1,
                             .distance = {{10, 20}, {20, 10}}};
    void *region = calloc(1, memsys_region_bytes(2, 2, NODE));
    struct memsys *m = memsys_new(&s, region);
    char what[200] = "";

    assert_non_null(m);
    memsys_access(m, 0, 64, MEMSYS_READ);
    memsys_access(m, 1, 64, MEMSYS_READ);
    memsys_access(m, 0, 128, MEMSYS_WRITE);
    assert_int_equal(memsys_check(m, what, sizeof(what)), 0);
    assert_string_equal(what, "");
    return m;
}

/* The check must see something, and say this first. */
static void expect(struct memsys *m, const char *say)
{
    char what[200] = "";
    void *region = m->h;

    assert_true(memsys_check(m, what, sizeof(what)) > 0);
    if (!strstr(what, say))
        fail_msg("%s, not %s", what, say);
    memsys_free(m);
    free(region);
}

/* The entry of a line in a CPU's cache. */
static uint32_t *entry(struct memsys *m, unsigned cpu, uint32_t line)
{
    uint32_t *set = set_of(m, cpu, line);

    return &set[find(m, set, line)];
}

static void test_two_owners(void **state)
{
    struct memsys *m = begin();

    (void)state;
    *entry(m, 1, 1) |= STATE;
    expect(m, "M1: line 0x1: CPU 1 may write");
}

static void test_owner_unknown(void **state)
{
    struct memsys *m = begin();

    (void)state;
    m->dir[2] = 1;
    expect(m, "M2: line 0x2");
}

static void test_shared_by_an_owner(void **state)
{
    struct memsys *m = begin();

    (void)state;
    m->dir[1] |= ONE_OWNER;
    expect(m, "M2: line 0x1: CPU 0 in state 1");
}

static void test_holder_not_named(void **state)
{
    struct memsys *m = begin();

    (void)state;
    m->dir[1] = 1;
    expect(m, "M2: line 0x1: in CPU 1's set");
}

static void test_named_does_not_hold(void **state)
{
    struct memsys *m = begin();

    (void)state;
    m->dir[3] = 2;
    expect(m, "M2: 3 lines are held, the directory names 4");
}

static void test_owner_is_nobody(void **state)
{
    struct memsys *m = begin();

    (void)state;
    m->dir[3] = ONE_OWNER;
    expect(m, "M2: line 0x3: an owner that is nobody");
}

static void test_in_the_wrong_set(void **state)
{
    struct memsys *m = begin();

    (void)state;
    m->cpu[0].way[(size_t)50 * m->ways] = *entry(m, 0, 2);
    *entry(m, 0, 2) = EMPTY;
    expect(m, "M2: line 0x2: in CPU 0's set 50");
}

static void test_twice_in_a_set(void **state)
{
    struct memsys *m = begin();

    (void)state;
    set_of(m, 0, 1)[5] = *entry(m, 0, 1);
    expect(m, "M2: 4 lines are held");
}

static void test_count_lost(void **state)
{
    struct memsys *m = begin();

    (void)state;
    memsys_counts(m->h, 1, 0, MEMSYS_USER)->access[MEMSYS_READ]++;
    expect(m, "M3: CPU 1 tag 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_owners),          cmocka_unit_test(test_owner_unknown),
        cmocka_unit_test(test_shared_by_an_owner),  cmocka_unit_test(test_holder_not_named),
        cmocka_unit_test(test_named_does_not_hold), cmocka_unit_test(test_owner_is_nobody),
        cmocka_unit_test(test_in_the_wrong_set),    cmocka_unit_test(test_twice_in_a_set),
        cmocka_unit_test(test_count_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
