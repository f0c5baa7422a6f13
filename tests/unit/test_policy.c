/* SPDX-License-Identifier: MIT */
/*
 * Tests of numa/policy*.c: what each policy does with pages of each kind, and its limits: L1
 * moves, L2 pages collapsed at once, L5 the same calls give the same actions.  L3 and L4:
 * test_policy_choose.c.
 */
#include "tests/unit/policy_guest.h"

static void test_homes(void **state)
{
    static const char *const names[] = {"first-touch", "migrate", "replicate", "carrefour"};
    struct guest *g;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        g = start(names[i], NULL);
        assert_int_equal(policy_home(&g->p, 17, PAGES, 3), 3);
        end(g);
    }
    g = start("interleave", NULL);
    assert_int_equal(policy_home(&g->p, 17, PAGES, 3), 1);
    assert_int_equal(policy_home(&g->p, PAGE_BLOCK | 512 * 6, PAGES, 3), 2);
    end(g);
    g = start("none", NULL);
    assert_int_equal(policy_home(&g->p, 0, PAGES, 3), 0);
    assert_int_equal(policy_home(&g->p, PAGES - 1, PAGES, 0), NODES - 1);
    end(g);
    assert_null(policy_by_name("best"));
    assert_string_equal(policies[0].name, "replicate");
}

/* A page that one node uses moves there and stays. */
static void test_private(void **state)
{
    struct guest *g = start("replicate", NULL);

    (void)state;
    for (int i = 0; i < 20; i++) {
        use(g, 5, 2, 300, 100);
        decide(g);
    }
    assert_int_equal(g->page[5].home, 2);
    assert_int_equal(g->p.numbers.act[ACT_MIGRATE], 1);
    assert_int_equal(g->p.numbers.act[ACT_REPLICATE], 0);
    end(g);
}

/* A page that all read is copied to all; one written is not touched; `migrate` does neither. */
static void test_shared(void **state)
{
    struct guest *g = start("replicate", NULL), *m = start("migrate", NULL);

    (void)state;
    for (int i = 0; i < 20; i++) {
        for (unsigned n = 0; n < NODES; n++) {
            use(g, 1, n, 400, 0);
            use(g, 2, n, 400, 100);
            use(m, 1, n, 400, 0);
            use(m, 2, n, 400, 100);
        }
        decide(g);
        decide(m);
    }
    assert_int_equal(g->page[1].replicas, 0xe);
    assert_int_equal(g->page[2].replicas, 0);
    assert_int_equal(g->page[2].home, 0);
    assert_int_equal(g->p.numbers.act[ACT_REPLICATE], 3);
    assert_int_equal(g->p.numbers.act[ACT_MIGRATE], 0);
    assert_int_equal(m->p.numbers.act[ACT_REPLICATE] + m->p.numbers.act[ACT_MIGRATE], 0);
    end(g);
    end(m);
}

/* Too little use to repay the cost: nothing. */
static void test_cold(void **state)
{
    struct guest *g = start("replicate", NULL);

    (void)state;
    for (int i = 0; i < 50; i++) {
        use(g, 5, 2, 2, 0);
        decide(g);
    }
    assert_int_equal(g->page[5].home, 0);
    end(g);
}

/* L1: a page that two nodes use in turn is moved a few times and then left alone. */
static void test_ping_pong(void **state)
{
    struct policy_tune t = policy_tune_default();
    struct guest *g;
    uint64_t first;

    (void)state;
    t.rest = 3;
    t.moves = 4;
    t.quick = 10;
    t.freeze = 100;
    g = start("replicate", &t);
    g->p.cost = policy_cost_by_copy; /* four intervals do not repay it */
    for (int i = 0; i < 60; i++) {
        use(g, 5, i / 4 % 2 ? 1 : 2, 200, 200);
        assert_true(decide(g) <= 1);
    }
    first = g->p.numbers.act[ACT_MIGRATE];
    assert_int_equal(first, 4);
    for (int i = 0; i < 1000; i++) {
        use(g, 5, i / 4 % 2 ? 1 : 2, 200, 200);
        decide(g);
    }
    assert_in_range(g->p.numbers.act[ACT_MIGRATE], 4,
                    16); /* 100, 200, 400, 800: fewer and fewer */
    end(g);
}

/* L2: a page table: replicated, collapsed at once, again, left alone for longer and longer. */
static void test_page_table(void **state)
{
    struct guest *g = start("replicate", NULL);
    unsigned made = 0;

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        for (unsigned n = 0; n < NODES; n++)
            use(g, 9, n, 500, 0);
        decide(g);
        if (g->page[9].replicas) {
            made++;
            g->page[9].replicas = 0;
            policy_collapsed(&g->p, 9, g->in.now);
        }
    }
    assert_in_range(made, 2, 14);
    end(g);
}

/* L2: a page that is written whenever it is watched before being copied: asked for less and less. */
static void test_written(void **state)
{
    struct guest *g = start("replicate", NULL);
    unsigned asked = 0;

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        for (unsigned n = 0; n < NODES; n++)
            use(g, 9, n, 500, 0);
        decide(g);
        if (g->page[9].replicas) {
            asked++;
            g->page[9].replicas = 0;
            policy_written(&g->p, 9, g->in.now);
        }
    }
    assert_in_range(asked, 2, 14);
    end(g);
}

/* A page written now and then, but read so much between that replicas repay, is replicated
 * again. */
static void test_read_mostly(void **state)
{
    struct guest *g = start("replicate", NULL);
    unsigned made = 0;

    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        for (unsigned n = 0; n < NODES; n++)
            use(g, 9, n, 2000, i % 20 == 19 && n == 1);
        if (i % 20 == 19 && g->page[9].replicas) {
            made++;
            g->page[9].replicas = 0;
            policy_collapsed(&g->p, 9, g->in.now);
        }
        decide(g);
    }
    assert_in_range(made, 8, 10);
    end(g);
}

/* A page that changes hands, but stays long enough to repay each move, is never left alone. */
static void test_repaid(void **state)
{
    struct guest *g = start("replicate", NULL);

    (void)state;
    for (int i = 0; i < 200; i++) {
        use(g, 5, i / 5 % 2 ? 1 : 2, 2000, 2000);
        decide(g);
    }
    assert_int_equal(g->p.numbers.act[ACT_MIGRATE], 40);
    assert_int_equal(g->p.numbers.resting, 0);
    end(g);
}

/* Replicas that had repaid when a write took them are made again in the same interval; those that
 * had not wait until no write is seen. */
static void test_again(void **state)
{
    struct guest *g = start("replicate", NULL);
    unsigned at_once = 0;

    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        bool write = i % 8 == 7;

        for (unsigned n = 0; n < NODES; n++)
            use(g, 9, n, 2000, write && n == 1);
        if (write && g->page[9].replicas) {
            g->page[9].replicas = 0;
            policy_collapsed(&g->p, 9, g->in.now);
        }
        decide(g);
        at_once += write && g->page[9].replicas == 0xe;
    }
    assert_int_equal(at_once, 5);
    for (unsigned i = 0; i < 4; i++) { /* now it is written in every interval */
        for (unsigned n = 0; n < NODES; n++)
            use(g, 9, n, 2000, n == 1);
        if (g->page[9].replicas) {
            g->page[9].replicas = 0;
            policy_collapsed(&g->p, 9, g->in.now);
        }
        decide(g);
        assert_true(!g->page[9].replicas);
    }
    end(g);
}

/* The page map hears why a page is left where it is. */
static void hear(void *arg, uint64_t page, enum policy_why why)
{
    struct guest *g = arg;

    if (page < PAGES)
        g->why[page] = why;
}

static void test_why(void **state)
{
    static const struct policy_pages curious = {look, next_replica, hear};
    struct policy_tune t = policy_tune_default();
    struct guest *g;

    (void)state;
    t.cpu = 1;
    t.burst = 1;
    g = start("replicate", &t);
    g->p.cost = policy_cost_by_copy;
    g->in.pages = &curious;
    g->in.cpus = 2; /* 200 us: one page alone */
    g->in.free[3] = 0;
    use(g, 1, 1, 90000, 0);
    use(g, 3, 2, 3000, 0);
    use(g, 5, 1, 1, 0);
    use(g, 7, 0, 90000, 0);
    decide(g);
    assert_int_equal(g->why[1], WHY_DONE);
    assert_int_equal(g->why[3], WHY_BUDGET);
    assert_int_equal(g->why[5], WHY_WORTH);
    assert_int_equal(g->why[9], WHY_NONE);
    use(g, 11, 3, 90000, 0);
    decide(g);
    assert_int_equal(g->why[11], WHY_MEMORY);
    end(g);
}

/* Fixed pages, pages that are gone, numbers out of the guest: nothing is told of them. */
static void test_unwilling(void **state)
{
    struct guest *g = start("replicate", NULL);

    (void)state;
    g->page[3].fixed = true;
    for (int i = 0; i < 10; i++) {
        use(g, 3, 1, 1000, 0);
        use(g, PAGES + 7, 1, 1000, 0);
        use(g, UINT64_MAX >> 2, 1, 1000, 0);
        assert_int_equal(decide(g), 0);
    }
    end(g);
}

/* A policy that does not replicate takes back what another one did. */
static void test_switch(void **state)
{
    struct guest *g = start("migrate", NULL);

    (void)state;
    g->page[4].replicas = 6;
    for (int i = 0; i < 3; i++) {
        use(g, 4, 3, 500, 0);
        decide(g);
    }
    assert_int_equal(g->page[4].replicas, 0);
    assert_int_equal(g->p.numbers.act[ACT_COLLAPSE], 1);
    end(g);
}

/* Nothing remote: nothing is looked at. */
static void test_gate(void **state)
{
    struct guest *g = start("replicate", NULL);

    (void)state;
    g->in.traffic.at[0] = 100000;
    g->in.traffic.local = 99950;
    use(g, 3, 1, 1000, 0);
    assert_int_equal(decide(g), 0);
    assert_int_equal(g->p.numbers.gated, 1);
    assert_int_equal(g->p.numbers.examined, 0);
    g->in.traffic.local = 50000;
    assert_int_equal(decide(g), 1);
    end(g);
}

/* Carrefour decides once a second, and only on a machine whose memory is busy. */
static void test_carrefour(void **state)
{
    struct guest *g = start("carrefour", NULL);
    unsigned when = 0;

    (void)state;
    for (unsigned i = 1; i <= 20; i++) {
        use(g, 3, 1, 1000, 0);
        if (decide(g) && !when)
            when = i;
    }
    assert_int_equal(when, 0); /* no traffic */
    for (unsigned n = 0; n < NODES; n++)
        g->in.traffic.at[n] = 5000000;
    g->in.traffic.local = 5000000;
    for (unsigned i = 1; i <= 20; i++) {
        use(g, 3, 1, 1000, 0);
        if (decide(g) && !when)
            when = i;
    }
    assert_int_equal(when, 10);
    assert_int_equal(g->page[3].home, 1);
    for (unsigned i = 0; i < 200;
         i++) { /* page read by all: replicated once 500 were asked for */
        for (uint64_t p = 0; p < PAGES; p++)
            for (unsigned n = 0; n < NODES; n++)
                use(g, p, n, 200, 0);
        decide(g);
    }
    assert_true(g->p.numbers.act[ACT_REPLICATE] > 0);
    end(g);
}

/* L5 */
static void test_same(void **state)
{
    struct guest *a = start("replicate", NULL), *b = start("replicate", NULL);

    (void)state;
    srand(3);
    for (int i = 0; i < 100; i++) {
        for (int k = 0; k < 500; k++) {
            uint64_t page = (uint64_t)rand() % PAGES;
            unsigned node = (unsigned)rand() % NODES;
            uint32_t n = (uint32_t)rand() % 500, w = rand() % 4 ? 0 : n;

            use(a, page, node, n, w);
            use(b, page, node, n, w);
        }
        assert_int_equal(decide(a), decide(b));
        for (unsigned k = 0; k < a->n; k++)
            assert_true(a->act[k].page == b->act[k].page && a->act[k].act == b->act[k].act &&
                        a->act[k].node == b->act[k].node);
    }
    end(a);
    end(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_homes),     cmocka_unit_test(test_private),
        cmocka_unit_test(test_shared),    cmocka_unit_test(test_cold),
        cmocka_unit_test(test_ping_pong), cmocka_unit_test(test_page_table),
        cmocka_unit_test(test_written),   cmocka_unit_test(test_read_mostly),
        cmocka_unit_test(test_unwilling), cmocka_unit_test(test_switch),
        cmocka_unit_test(test_gate),      cmocka_unit_test(test_carrefour),
        cmocka_unit_test(test_same),      cmocka_unit_test(test_repaid),
        cmocka_unit_test(test_again),     cmocka_unit_test(test_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
