/* SPDX-License-Identifier: MIT */
/*
 * Tests of numa/policy_balance.c: pages that all nodes write go away from a memory that serves more
 * than others, until loads are even and no further; what is even, what is used by one node and what
 * a load cannot be known of stays.
 */
#include "tests/unit/policy_guest.h"

enum { SHARED = 64, ROUNDS = 40 };

/* Each node uses n pages from the first so often, and writes them; what memories serve is told. */
static void use_all(struct guest *g, unsigned first, unsigned n, uint32_t times)
{
    for (unsigned i = first; i < first + n; i++)
        for (unsigned node = 0; node < NODES; node++) {
            use(g, i, node, times, times);
            g->in.traffic.at[g->page[i].home] += 2 * times;
            g->in.traffic.local += node == g->page[i].home ? 2 * times : 0;
            g->in.traffic.writes += times;
        }
}

/* Intervals of such use; how many actions. */
static unsigned go(struct guest *g, unsigned n, unsigned intervals, uint32_t times)
{
    unsigned acts = 0;

    for (unsigned i = 0; i < intervals; i++) {
        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        use_all(g, 0, n, times);
        acts += decide(g);
    }
    return acts;
}

/* How many of n pages are on a node. */
static unsigned on(const struct guest *g, unsigned n, unsigned node)
{
    unsigned here = 0;

    for (unsigned i = 0; i < n; i++)
        here += g->page[i].home == node;
    return here;
}

/* All on one node: they are spread, each moves once, and then all is quiet. */
static void test_spread(void **state)
{
    struct guest *g = start("replicate", NULL);

    (void)state;
    assert_in_range(go(g, SHARED, ROUNDS, 2000), SHARED / 2, SHARED * 3 / 4);
    for (unsigned node = 0; node < NODES; node++)
        assert_in_range(on(g, SHARED, node), SHARED / NODES - 4, SHARED / NODES + 4);
    assert_int_equal(g->p.numbers.act[ACT_MIGRATE], SHARED - on(g, SHARED, 0));
    assert_int_equal(go(g, SHARED, ROUNDS, 2000), 0);
    end(g);
}

/* `queue` 0, little use, or one page alone: nothing moves. */
static void test_stay(void **state)
{
    struct policy_tune t = policy_tune_default();
    struct guest *g;

    (void)state;
    t.queue = 0;
    g = start("replicate", &t);
    assert_int_equal(go(g, SHARED, ROUNDS, 2000), 0);
    end(g);
    g = start("migrate", NULL);
    assert_int_equal(go(g, SHARED, ROUNDS, 2), 0);
    end(g);
    g = start("migrate", NULL);
    assert_int_equal(go(g, 1, ROUNDS, 100000), 0);
    end(g);
}

/* Where the source cannot tell what memories serve nothing is guessed. */
static void test_unknown(void **state)
{
    struct guest *g = start("migrate", NULL);

    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        use_all(g, 0, SHARED, 2000);
        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        decide(g);
    }
    assert_int_equal(g->p.numbers.act[ACT_MIGRATE], 0);
    end(g);
}

/* A source that looks at one node's pages after the other: loads are those of all, nothing goes to and fro. */
static void test_part(void **state)
{
    struct guest *g = start("migrate", NULL);

    (void)state;
    for (unsigned i = 0; i < SHARED; i++)
        g->page[i].home = i % NODES;
    for (unsigned round = 0; round < 20 * ROUNDS; round++) {
        unsigned home = round % NODES;

        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        g->in.traffic.part = home != NODES - 1;
        for (unsigned i = home; i < SHARED; i += NODES)
            use_all(g, i, 1, 2000);
        decide(g);
    }
    assert_int_equal(g->p.numbers.act[ACT_MIGRATE], 0);
    end(g);
}

/* Looks of several intervals, of which moves happen in some: they do not make for more moves. */
static void test_looks(void **state)
{
    struct guest *g = start("migrate", NULL);

    (void)state;
    for (unsigned round = 0; round < 10 * ROUNDS; round++) {
        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        g->in.traffic.part = round % 4 != 3;
        use_all(g, round % 4 * SHARED / 4, SHARED / 4, 2000);
        decide(g);
    }
    for (unsigned node = 0; node < NODES; node++)
        assert_in_range(on(g, SHARED, node), SHARED / NODES - 5, SHARED / NODES + 5);
    assert_in_range(g->p.numbers.act[ACT_MIGRATE], SHARED / 2, SHARED * 5 / 4);
    end(g);
}

/* Nodes that are nearly as near: what balance sends away is not drawn back. */
static void test_near(void **state)
{
    struct guest *g = start("migrate", NULL);

    (void)state;
    for (unsigned a = 0; a < NODES; a++)
        for (unsigned b = 0; b < NODES; b++)
            g->m.ns[a][b] = a == b ? 90 : 100;
    for (unsigned i = 0; i < 10 * ROUNDS; i++) {
        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        for (unsigned k = 0; k < SHARED; k++) {
            use(g, k, 0, 3000, 3000);
            use(g, k, 1, 2000, 2000);
            g->in.traffic.at[g->page[k].home] += 10000;
        }
        decide(g);
    }
    assert_in_range(g->p.numbers.act[ACT_MIGRATE], 1, SHARED);
    end(g);
}

/* A node without room gets none, and a page that one node uses is not sent away from it. */
static void test_where(void **state)
{
    struct guest *g = start("migrate", NULL);

    (void)state;
    g->in.free[2] = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        use_all(g, 0, SHARED, 2000);
        use(g, SHARED, 0, 5000, 5000);
        g->in.traffic.at[g->page[SHARED].home] += 10000;
        decide(g);
    }
    assert_int_equal(on(g, SHARED, 2), 0);
    assert_in_range(on(g, SHARED, 3), SHARED / 3 - 3, SHARED / 3 + 3);
    assert_int_equal(g->page[SHARED].home, 0);
    end(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spread),  cmocka_unit_test(test_stay),
        cmocka_unit_test(test_unknown), cmocka_unit_test(test_where),
        cmocka_unit_test(test_part),    cmocka_unit_test(test_looks),
        cmocka_unit_test(test_near),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
