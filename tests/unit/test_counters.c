/* SPDX-License-Identifier: MIT */
/*
 * Tests of numa/counters.c: counts of few and of many nodes, ageing, the list and who gets on
 * it, eviction in a full table, and a long random run against a simple model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa/counters.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* Adds reads and writes. */
static void add(struct counters *c, uint64_t page, unsigned node, uint32_t r, uint32_t w)
{
    counters_add(c, page, node, (struct node_use){r, w, (uint8_t)node});
}

/* Reads of one node, as counters_get() tells. */
static uint32_t reads(const struct counters *c, uint64_t page, unsigned node)
{
    struct page_use u;

    counters_get(c, page, &u);
    for (unsigned i = 0; i < u.n; i++)
        if (u.use[i].node == node)
            return u.use[i].reads;
    return 0;
}

/* A page that all 64 nodes use: inline slots and chunks. */
static void test_all_nodes(void **state)
{
    struct counters c;
    struct page_use u;
    uint64_t seen = 0;

    (void)state;
    assert_int_equal(counters_init(&c, 64), 0);
    for (unsigned round = 0; round < 3; round++)
        for (unsigned n = 0; n < TOPO_MAX_NODES; n++)
            add(&c, 7 | PAGE_BLOCK, n, n + 1, n);
    counters_get(&c, 7 | PAGE_BLOCK, &u);
    assert_int_equal(u.n, TOPO_MAX_NODES);
    for (unsigned i = 0; i < u.n; i++) {
        seen |= UINT64_C(1) << u.use[i].node;
        assert_int_equal(u.use[i].reads, 3 * (u.use[i].node + 1));
        assert_int_equal(u.use[i].writes, 3 * u.use[i].node);
    }
    assert_true(seen == UINT64_MAX);
    counters_get(&c, 7, &u); /* the page and the block are two */
    assert_int_equal(u.n, 0);
    counters_exit(&c);
}

static void test_age(void **state)
{
    struct counters c;
    struct page_use u;

    (void)state;
    assert_int_equal(counters_init(&c, 64), 0);
    add(&c, 1, 0, 1000, 3);
    counters_age(&c, 1);
    counters_age(&c, 2);
    assert_int_equal(reads(&c, 1, 0), 125);
    add(&c, 1, 0, 5, 0);
    assert_int_equal(reads(&c, 1, 0), 130);
    counters_age(&c, COUNTERS_FORGET);
    counters_get(&c, 1, &u);
    assert_int_equal(u.n, 0);
    add(&c, 1, 3, 1, 0);
    counters_get(&c, 1, &u);
    assert_int_equal(u.n, 1);
    counters_exit(&c);
}

/* Counts stop, they don't wrap. */
static void test_saturate(void **state)
{
    struct counters c;
    struct page_use u;

    (void)state;
    assert_int_equal(counters_init(&c, 64), 0);
    for (int i = 0; i < 3; i++)
        add(&c, 1, 63, UINT32_MAX - 1, UINT32_MAX);
    counters_get(&c, 1, &u);
    assert_true(u.use[0].reads == UINT32_MAX);
    assert_true(u.use[0].writes == (1u << 24) - 1);
    assert_int_equal(u.use[0].node, 63);
    counters_exit(&c);
}

/* Pages come off the list once, oldest first; near use does not put them on it. */
static void test_list(void **state)
{
    struct counters c;
    struct page_use u;

    (void)state;
    assert_int_equal(counters_init(&c, 1024), 0);
    for (uint64_t p = 0; p < 100; p++)
        add(&c, p, 1, 1, 0);
    for (uint64_t p = 0; p < 100; p++)
        add(&c, p, 2, 1, 0);
    for (uint64_t p = 0; p < 100; p++) {
        assert_true(counters_next(&c, &u));
        assert_true(u.page == p);
        assert_int_equal(u.n, 2);
    }
    assert_false(counters_next(&c, &u));
    counters_judged(&c, 5, 1 << 1 | 1 << 2, 8);
    add(&c, 5, 1, 1, 0);
    assert_false(counters_next(&c, &u));
    add(&c, 5, 3, 1, 0);
    assert_true(counters_next(&c, &u));
    assert_int_equal(u.n, 3);
    counters_changed(&c, 5);
    add(&c, 5, 1, 1, 0);
    assert_true(counters_next(&c, &u));
    counters_exit(&c);
}

/* A page of which nothing is done is looked at less and less often. */
static void test_pause(void **state)
{
    unsigned looks = 0, last = 0;
    struct counters c;
    struct page_use u;

    (void)state;
    assert_int_equal(counters_init(&c, 64), 0);
    for (unsigned i = 0; i < 100; i++) {
        add(&c, 9, 1, 1, 0);
        if (counters_next(&c, &u)) {
            looks++;
            if (i > 40)
                assert_int_equal(i - last, 8);
            last = i;
            counters_judged(&c, 9, 1, 8);
        }
        counters_tick(&c);
    }
    assert_in_range(looks, 13, 17);
    counters_exit(&c);
}

/* A full table keeps what is used most, and its memory. */
static void test_full(void **state)
{
    struct counters c;
    struct page_use u;
    uint64_t bytes;
    unsigned kept = 0;

    (void)state;
    assert_int_equal(counters_init(&c, 1024), 0);
    bytes = counters_bytes(&c);
    for (uint64_t p = 0; p < 64; p++)
        for (unsigned n = 0; n < 64; n++)
            add(&c, p, n, 1000, 0);
    for (uint64_t p = 1000; p < 200000; p++)
        add(&c, p, p % 64, 1, 0);
    for (uint64_t p = 0; p < 64; p++)
        kept += reads(&c, p, 0) == 1000;
    assert_int_equal(kept, 64);
    assert_true(c.evicted > 100000);
    assert_true(counters_bytes(&c) == bytes);
    assert_true(bytes <= 1024 * 110);
    for (unsigned i = 0; i < 1024; i++)
        if (!counters_next(&c, &u))
            break;
    assert_false(counters_next(&c, &u)); /* each entry was listed once at most */
    counters_exit(&c);
}

/* Chunks run out: counts are lost and said to be, nothing else happens; dropping gives them
 * back. */
static void test_chunks(void **state)
{
    struct counters c;
    struct page_use u;

    (void)state;
    assert_int_equal(counters_init(&c, 64), 0);
    for (uint64_t p = 0; p < 16; p++)
        for (unsigned n = 0; n < 64; n++)
            add(&c, p, n, 1, 0);
    assert_true(c.lost > 0);
    for (uint64_t p = 0; p < 16; p++)
        counters_drop(&c, p);
    c.lost = 0;
    for (unsigned n = 0; n < 64; n++)
        add(&c, 99, n, 1, 0);
    counters_get(&c, 99, &u);
    assert_int_equal(u.n, 64);
    assert_true(c.lost == 0);
    counters_exit(&c);
}

/* Random calls against a plain array. */
static void test_model(void **state)
{
    enum { PAGES = 40, ROUNDS = 200000 };
    static uint32_t model[PAGES][TOPO_MAX_NODES];
    struct counters c;
    struct page_use u;

    (void)state;
    srand(1);
    assert_int_equal(counters_init(&c, 4096), 0);
    for (int i = 0; i < ROUNDS; i++) {
        unsigned p = (unsigned)rand() % PAGES, n = (unsigned)rand() % TOPO_MAX_NODES;

        switch (rand() % 100) {
        case 0:
            counters_age(&c, 32);
            memset(model, 0, sizeof(model));
            break;
        case 1:
            counters_drop(&c, p);
            memset(model[p], 0, sizeof(model[p]));
            break;
        case 2:
            counters_next(&c, &u);
            break;
        default:
            add(&c, p, n, 3, 1);
            model[p][n] += 3;
        }
        assert_int_equal(reads(&c, p, n), model[p][n]);
    }
    counters_exit(&c);
}

/* counters_list(): a page comes on the list though its users are near, once; told twice in an
 * interval that nothing is to be done, its pause is that of the first. */
static void test_again(void **state)
{
    struct counters c;
    struct page_use use;

    (void)state;
    assert_int_equal(counters_init(&c, 64), 0);
    counters_list(&c, 5); /* nothing is known of it */
    assert_false(counters_next(&c, &use));
    counters_add(&c, 5, 1, (struct node_use){9, 0, 1});
    assert_true(counters_next(&c, &use));
    counters_judged(&c, 5, 2, 64);
    counters_add(&c, 5, 1, (struct node_use){9, 0, 1});
    assert_false(counters_next(&c, &use));
    counters_list(&c, 5);
    counters_list(&c, 5);
    assert_true(counters_next(&c, &use));
    assert_false(counters_next(&c, &use));
    counters_changed(&c, 5);
    counters_judged(&c, 5, 0, 64);
    counters_judged(&c, 5, 0, 64);
    counters_tick(&c);
    counters_add(&c, 5, 1, (struct node_use){9, 0, 1});
    assert_true(counters_next(&c, &use));
    counters_exit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_nodes), cmocka_unit_test(test_age),
        cmocka_unit_test(test_saturate),  cmocka_unit_test(test_list),
        cmocka_unit_test(test_pause),     cmocka_unit_test(test_full),
        cmocka_unit_test(test_chunks),    cmocka_unit_test(test_model),
        cmocka_unit_test(test_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
