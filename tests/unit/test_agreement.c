/* SPDX-License-Identifier: MIT */
/*
 * Tests of numa/agreement.c: tables that agree, tables that do not in one respect, lists shorter
 * and longer than asked for, and nothing at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "numa/agreement.h"
#include "numa/counters.h"

#include <cmocka.h> /* last: its fail() is a macro */

enum { PAGES = 4096, HIGH = 1 << 20 };

#define NEAR(a, b) assert_true((a) > (b)-1e-9 && (a) < (b) + 1e-9)

/* Two tables. */
struct pair {
    struct counters a, b;
};

static void make(struct pair *p)
{
    assert_int_equal(counters_init(&p->a, PAGES), 0);
    assert_int_equal(counters_init(&p->b, PAGES), 0);
}

static void drop(struct pair *p)
{
    counters_exit(&p->a);
    counters_exit(&p->b);
}

/* Adds reads and writes of a node. */
static void add(struct counters *c, uint64_t page, unsigned node, uint32_t r, uint32_t w)
{
    counters_add(c, page, node, (struct node_use){r, w, (uint8_t)node});
}

/* All pages are on node 0. */
static uint64_t on_zero(const struct pagemap *map, uint64_t gfn)
{
    (void)map, (void)gfn;
    return 1;
}

static struct agreement compare(struct pair *p, uint32_t top)
{
    struct agreement_spec spec = {
        .first = {0, HIGH}, .pages = {PAGES, PAGES}, .top = top, .near = on_zero};
    struct agreement out;

    assert_int_equal(agreement_of(&p->a, &p->b, &spec, &out), 0);
    return out;
}

static void test_nothing(void **state)
{
    struct pair p;
    struct agreement g;

    (void)state;
    make(&p);
    g = compare(&p, 10);
    assert_int_equal(g.believed + g.tried + g.both + g.top, 0);
    assert_true(g.recall < 0 && g.precision < 0 && g.who < 0 && g.covered < 0);
    add(&p.a, 3, 1, 5, 0);
    g = compare(&p, 0); /* no list is asked for */
    assert_int_equal(g.top, 0);
    assert_true(g.recall < 0);
    NEAR(g.remote_believed, 1);
    NEAR(g.covered, 0);
    drop(&p);
}

/* The same in both, but for how often: all agrees. */
static void test_equal(void **state)
{
    struct pair p;
    struct agreement g;

    (void)state;
    make(&p);
    for (unsigned i = 0; i < 500; i++) {
        uint64_t page = i % 2 ? i : HIGH + i;

        add(&p.a, page, i % 3, 100 + i * 7, i % 5 == 0);
        add(&p.b, page, i % 3, 1 + i, i % 5 == 0);
    }
    g = compare(&p, 50);
    assert_int_equal(g.believed, 500);
    assert_int_equal(g.tried, 500);
    assert_int_equal(g.both, 500);
    assert_int_equal(g.top, 50);
    NEAR(g.covered, 1);
    NEAR(g.recall, 1);
    NEAR(g.precision, 1);
    NEAR(g.overlap, 1);
    NEAR(g.who, 1);
    NEAR(g.sharers, 1);
    NEAR(g.written, 1);
    drop(&p);
}

/* A table that has half of the pages, and one that nobody uses from afar. */
static void test_lists(void **state)
{
    struct pair p;
    struct agreement g;

    (void)state;
    make(&p);
    for (unsigned i = 0; i < 100; i++) {
        add(&p.a, i, 1, 1000 - i, 0);
        add(&p.a, 200 + i, 0, 1000, 0); /* near: in no list */
        if (i % 2)
            add(&p.b, i, 1, 10, 0);
    }
    add(&p.b, 300, 1, 10, 0);
    g = compare(&p, 20);
    assert_int_equal(g.top, 20);
    assert_int_equal(g.tried_top, 20);
    NEAR(g.recall, 0.5);
    NEAR(g.precision, 1); /* ties go to lower pages: 1, 3 ... 39 */
    NEAR(g.overlap, 0.5);
    g = compare(&p, 1000);
    assert_int_equal(g.top, 100);
    assert_int_equal(g.tried_top, 51);
    NEAR(g.recall, 0.5);
    NEAR(g.precision, 50.0 / 51);
    NEAR(g.overlap, 0.5);
    assert_int_equal(g.both, 50);
    NEAR(g.remote_tried, 1);
    drop(&p);
}

/* Who, how many and whether written: weighted by what is believed. */
static void test_respects(void **state)
{
    struct pair p;
    struct agreement g;

    (void)state;
    make(&p);
    add(&p.a, 1, 1, 600, 0); /* agree */
    add(&p.b, 1, 1, 6, 0);
    add(&p.a, 2, 1, 100, 0); /* another node */
    add(&p.b, 2, 2, 6, 0);
    add(&p.a, 3, 1, 100, 0); /* shared, says one only */
    add(&p.b, 3, 1, 4, 0);
    add(&p.b, 3, 2, 2, 0);
    add(&p.a, 4, 1, 100, 0); /* written, says one only */
    add(&p.b, 4, 1, 5, 1);
    add(&p.a, 5, 1, 50, 49); /* a small part is no sharer */
    add(&p.a, 5, 2, 1, 0);
    add(&p.b, 5, 1, 99, 1);
    add(&p.b, 5, 2, 2, 0);
    g = compare(&p, 10);
    NEAR(g.who, 0.9);
    NEAR(g.sharers, 0.9);
    NEAR(g.written, 0.9);
    drop(&p);
    make(&p);
    add(&p.a, 1, 1, 400, 0); /* rivals: either may be named */
    add(&p.a, 1, 2, 300, 0);
    add(&p.a, 1, 3, 299, 0); /* too little */
    add(&p.b, 1, 2, 6, 0);
    add(&p.b, 1, 1, 5, 0);
    g = compare(&p, 10);
    NEAR(g.who, 1);
    NEAR(g.sharers, 1);
    add(&p.b, 1, 3, 7, 0);
    g = compare(&p, 10);
    NEAR(g.who, 0);
    drop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_respects),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
