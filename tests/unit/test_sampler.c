/* SPDX-License-Identifier: MIT */
/*
 * Tests of numa/sampler.c: S1 the rate holds, S2 every page is named once a round, follow-ups,
 * the rate's rise and fall, what it may cost, and what a touch weighs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa/sampler.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* Limits for a guest of so many pages. */
static struct sampler_limits limits(uint64_t pages)
{
    return (struct sampler_limits){.pages = pages,
                                   .least = 16,
                                   .most = 1 << 20,
                                   .share = 10,
                                   .fault_ns = 3000,
                                   .revoke_ns = 500,
                                   .interval_ns = 100000000,
                                   .cpus = 8};
}

/* Names one interval's pages; counts them in hits, if that is not NULL. */
static uint32_t interval(struct sampler *s, uint8_t *hits)
{
    struct sampler_run r;
    uint32_t n = 0;

    while (sampler_next(s, &r)) {
        assert_true(r.count > 0 && r.first + r.count <= s->limits.pages);
        n += r.count;
        for (uint32_t i = 0; hits && i < r.count; i++)
            hits[r.first + i]++;
    }
    return n;
}

/* S1 and S2, for guests of awkward sizes. */
static void test_round(void **state)
{
    static const uint64_t sizes[] = {1, 7, 8, 9, 63, 1000, 4096, 99991};

    (void)state;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct sampler_limits l = limits(sizes[i]);
        uint8_t *hits = calloc(sizes[i], 1);
        struct sampler s;

        assert_int_equal(sampler_init(&s, &l), 0);
        while (s.rounds == 0) {
            uint32_t rate = 1 + (uint32_t)rand() % 100;

            sampler_set(&s, rate);
            rate = s.rate;
            assert_true(interval(&s, hits) <= rate);
        }
        for (uint64_t p = 0; p < sizes[i]; p++)
            assert_true(hits[p] >= 1);
        sampler_exit(&s);
        free(hits);
    }
}

/* Pages found remote are seen again next interval, and take half of the sample at most. */
static void test_follow(void **state)
{
    struct sampler_limits l = limits(1 << 20);
    static uint8_t hits[1 << 20];
    struct sampler s;

    (void)state;
    assert_int_equal(sampler_init(&s, &l), 0);
    sampler_set(&s, 200);
    for (uint64_t i = 0; i < 500; i++)
        sampler_again(&s, 1000 + i * 64);
    assert_int_equal(interval(&s, hits), 200);
    for (uint64_t i = 0; i < 100; i++)
        assert_true(hits[1000 + i * 64] >= 1);
    assert_int_equal(s.n, 400);
    for (unsigned i = 0; i < 2 * SAMPLER_FOLLOW; i++) /* too many are forgotten */
        sampler_again(&s, 5);
    assert_int_equal(s.n, SAMPLER_FOLLOW);
    sampler_exit(&s);
}

/* A guest that rests for a while is sampled as before when it goes on. */
static void test_rest(void **state)
{
    static const struct sampler_found quiet, remote = {.remote = 100};
    struct sampler_limits l = limits(100000);
    struct sampler s;
    uint32_t high;

    (void)state;
    assert_int_equal(sampler_init(&s, &l), 0);
    for (unsigned i = 0; i < 20; i++)
        sampler_adapt(&s, &remote);
    high = s.rate;
    assert_true(high > 4 * l.least);
    for (unsigned i = 0; i < 30; i++)
        sampler_adapt(&s, &quiet);
    assert_true(s.rate < high / 2);
    sampler_adapt(&s, &remote);
    assert_true(s.rate > high / 2);
    for (unsigned i = 0; i < 2000; i++)
        sampler_adapt(&s, &quiet);
    sampler_adapt(&s, &remote);
    assert_true(s.rate <= 2 * l.least + 128);
    sampler_exit(&s);
}

/* The rate falls while all is quiet and rises when remote use is found. */
static void test_adapt(void **state)
{
    struct sampler_limits l = limits(1 << 20);
    struct sampler_found quiet = {.local = 100}, remote = {.local = 50, .remote = 50};
    struct sampler s;
    uint32_t high;

    (void)state;
    assert_int_equal(sampler_init(&s, &l), 0);
    high = s.rate;
    assert_in_range(high, 100, 2000); /* 1 % of 8 CPUs, 6.5 us each */
    for (int i = 0; i < 60; i++) {
        interval(&s, NULL);
        sampler_adapt(&s, &quiet);
    }
    assert_int_equal(s.rate, l.least);
    for (int i = 0; i < 60; i++) {
        interval(&s, NULL);
        remote.remote = s.rate;
        remote.local = s.rate;
        sampler_adapt(&s, &remote);
    }
    assert_true(s.rate >= high * 9 / 10);
    /* two faults each: what is spent stays within the share */
    assert_true((uint64_t)s.rate * 6500 <= 8000000 + 6500);
    sampler_exit(&s);
}

/* Where faults are so dear that the share does not buy a run, samples come seldom, not never. */
static void test_dear(void **state)
{
    enum { INTERVALS = 1000 };
    struct sampler_limits l = limits(4096);
    struct sampler_found found = {0};
    uint64_t named = 0, samples = 0;
    struct sampler s;

    (void)state;
    l.least = SAMPLER_RUN;
    l.share = 1;
    l.fault_ns = 500000;
    assert_int_equal(sampler_init(&s, &l), 0);
    for (unsigned i = 0; i < INTERVALS; i++) {
        uint32_t n = interval(&s, NULL);

        found.local = n / 2; /* one touch each, half of them before the interval is over */
        samples += n > 0;
        named += n;
        sampler_adapt(&s, &found);
        found.local = n - n / 2;
        if (n && s.wait) {
            assert_int_equal(interval(&s, NULL), 0);
            sampler_adapt(&s, &found);
            i++;
        }
    }
    assert_true(samples >= INTERVALS / 64);
    assert_true(named * l.fault_ns <=
                l.interval_ns / 1000 * l.cpus * l.share * INTERVALS * 11 / 10);
    assert_in_range(sampler_round(&s), 4096 / SAMPLER_RUN * 2, 4096 / SAMPLER_RUN * 64);
    sampler_exit(&s);
}

/* Off is off. */
static void test_off(void **state)
{
    struct sampler_limits l = limits(4096);
    struct sampler_found none = {0};
    struct sampler s;

    (void)state;
    assert_int_equal(sampler_init(&s, &l), 0);
    sampler_set(&s, 0);
    sampler_again(&s, 1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(interval(&s, NULL), 0);
        sampler_adapt(&s, &none);
    }
    assert_int_equal(sampler_round(&s), 0);
    sampler_set(&s, 1);
    assert_int_equal(s.rate, l.least);
    assert_int_equal(interval(&s, NULL), l.least);
    sampler_exit(&s);
}

static void test_weight(void **state)
{
    (void)state;
    assert_int_equal(sampler_weight(100000000, 0, 4096), 4096);
    assert_int_equal(sampler_weight(100000000, 100000000, 4096), 1);
    assert_int_equal(sampler_weight(100000000, 1000000, 4096), 69);
    assert_int_equal(sampler_weight(100000000, UINT64_MAX, 4096), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round), cmocka_unit_test(test_follow),
        cmocka_unit_test(test_rest),  cmocka_unit_test(test_adapt),
        cmocka_unit_test(test_off),   cmocka_unit_test(test_weight),
        cmocka_unit_test(test_dear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
