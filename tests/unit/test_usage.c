/* SPDX-License-Identifier: MIT */
/*
 * Where a guest's memory lies: sharing by samples, and the count of a real store of this process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "vmm/cell/usage.h"
#include "vmm/machine/mem.h"

#include <cmocka.h> /* last: it takes the name fail for a macro */

/* Bytes on all nodes. */
static uint64_t sum(const struct mem_usage *u)
{
    uint64_t n = 0;

    for (int i = 0; i < USAGE_NODES; i++)
        n += u->node[i];
    return n;
}

static void test_share(void **state)
{
    static unsigned hits[USAGE_NODES];
    static struct mem_usage u;

    (void)state;
    u.used = 10 * MEM_PAGE;
    mem_usage_share(&u, hits);
    assert_false(u.known);
    assert_int_equal(sum(&u), 0);
    hits[3] = 1;
    hits[1023] = 2;
    mem_usage_share(&u, hits);
    assert_true(u.known);
    assert_int_equal(u.node[3], 3 * MEM_PAGE);
    assert_int_equal(u.node[1023], 7 * MEM_PAGE);
    u.used = UINT64_MAX / MEM_PAGE * MEM_PAGE;
    hits[0] = 32000;
    mem_usage_share(&u, hits);
    assert_true(sum(&u) == u.used);
    assert_true(u.node[0] > u.used / 100 * 99);
    u.used = 0; /* nothing there: that is known of every node */
    memset(hits, 0, sizeof(hits));
    mem_usage_share(&u, hits);
    assert_true(u.known);
}

/* A store with its hole; pages touched through either mapping are found. */
static void test_count(void **state)
{
    static struct mem_usage u;
    struct mem_spec spec = {.size = 8 << 20, .nviews = 2};
    struct guest_mem m;

    (void)state;
    assert_int_equal(mem_init(&m, &spec, NULL), 0);
    mem_usage(&m, &u);
    assert_int_equal(u.used, 0);
    assert_true(u.known);
    memset(m.view[1] + (2 << 20), 1, 2 << 20);
    memset(m.alias + (6 << 20), 1, MEM_PAGE);
    mem_usage(&m, &u);
    assert_true(u.used >= (2 << 20) + MEM_PAGE);
    assert_true(u.known);
    assert_int_equal(sum(&u), u.used);
    mem_exit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_share),
                                       cmocka_unit_test(test_count)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
