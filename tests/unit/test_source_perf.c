/* SPDX-License-Identifier: MIT */
/*
 * Tests of vmm/pager/perfring.c on hand-made records, whole and round the ring's end, lost ones,
 * kinds that nobody asked for, and lengths that cannot be; and that the sources of sampled
 * instructions are refused with a reason where they are missing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/pager/perfring.h"
#include "vmm/pager/source.h"

#include <cmocka.h> /* last: its fail() is a macro */

enum { SIZE = 256, SAMPLE = 32, MOST = 64 };

/* A ring that the test fills as the kernel does. */
struct rig {
    uint8_t data[SIZE];
    struct perfring ring;
    uint64_t head;
};

/* An empty ring of which so many bytes were used before. */
static void make(struct rig *r, uint64_t before)
{
    memset(r->data, 0xee, sizeof(r->data));
    r->ring = (struct perfring){.data = r->data, .size = SIZE, .tail = before};
    r->head = before;
}

/* Writes bytes, round the end. */
static void put(struct rig *r, const void *from, size_t len)
{
    for (size_t i = 0; i < len; i++)
        r->data[(r->head + i) % SIZE] = ((const uint8_t *)from)[i];
    r->head += len;
}

static void put_header(struct rig *r, uint32_t type, uint16_t size)
{
    struct perf_event_header h = {.type = type, .misc = 2, .size = size};

    put(r, &h, sizeof(h));
}

static void put_sample(struct rig *r, uint32_t cpu, uint64_t source, uint64_t phys)
{
    uint32_t pair[2] = {cpu, 0};

    put_header(r, PERF_RECORD_SAMPLE, SAMPLE);
    put(r, pair, sizeof(pair));
    put(r, &source, sizeof(source));
    put(r, &phys, sizeof(phys));
}

static void put_lost(struct rig *r, uint64_t n)
{
    uint64_t words[2] = {7, n};

    put_header(r, PERF_RECORD_LOST, 24);
    put(r, words, sizeof(words));
}

/* At every position in the ring, so also across its end. */
static void test_samples(void **state)
{
    struct perfring_sample s[MOST];
    struct rig r;

    (void)state;
    for (uint64_t at = 0; at < 3 * SIZE; at += 8) {
        make(&r, at);
        for (uint32_t i = 0; i < SIZE / SAMPLE; i++)
            put_sample(&r, i, 100 + i, UINT64_C(0x123456789000) + i);
        assert_int_equal(perfring_take(&r.ring, r.head, s, 5), 5);
        assert_int_equal(r.ring.tail, at + 5 * SAMPLE);
        assert_int_equal(perfring_take(&r.ring, r.head, s + 5, MOST - 5), 3);
        assert_int_equal(r.ring.tail, r.head);
        for (uint32_t i = 0; i < SIZE / SAMPLE; i++) {
            assert_int_equal(s[i].cpu, i);
            assert_int_equal(s[i].source, 100 + i);
            assert_true(s[i].phys == UINT64_C(0x123456789000) + i);
        }
        assert_int_equal(perfring_take(&r.ring, r.head, s, MOST), 0);
        assert_int_equal(r.ring.lost + r.ring.bad, 0);
    }
    make(&r, UINT64_MAX - 23); /* the count of bytes wraps */
    put_sample(&r, 1, 2, 3);
    assert_int_equal(perfring_take(&r.ring, r.head, s, MOST), 1);
    assert_int_equal(s[0].phys, 3);
}

/* What lies between samples. */
static void test_others(void **state)
{
    struct perfring_sample s[MOST];
    uint64_t word = 11, three[3] = {1, 2, 3};
    struct rig r;

    (void)state;
    make(&r, SIZE - 16);
    put_lost(&r, 40);
    put_sample(&r, 1, 0, 1);
    put_header(&r, PERF_RECORD_LOST_SAMPLES, 16);
    put(&r, &word, sizeof(word));
    put_header(&r, PERF_RECORD_THROTTLE, 32);
    put(&r, three, sizeof(three));
    put_header(&r, PERF_RECORD_LOST, 8); /* says nothing */
    put_header(&r, 12345, 8);
    put_sample(&r, 2, 0, 2);
    assert_int_equal(perfring_take(&r.ring, r.head, s, MOST), 2);
    assert_int_equal(s[0].phys + s[1].phys, 3);
    assert_int_equal(r.ring.lost, 51);
    assert_int_equal(r.ring.bad, 0);
}

/* Lengths that cannot be. */
static void test_hostile(void **state)
{
    static const uint16_t sizes[] = {0, 1, 7, 12, 33, 40, 65535, 65528};
    struct perfring_sample s[MOST];
    struct rig r;

    (void)state;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        make(&r, 8 * i);
        put_sample(&r, 1, 0, 1);
        put_header(&r, PERF_RECORD_SAMPLE, sizes[i]);
        put(&r, "123456789012345678901234", 24);
        assert_int_equal(perfring_take(&r.ring, r.head, s, MOST), 1);
        assert_int_equal(r.ring.bad, 1);
        assert_int_equal(r.ring.tail, r.head);
        put_sample(&r, 2, 0, 2); /* goes on after it */
        assert_int_equal(perfring_take(&r.ring, r.head, s, MOST), 1);
        assert_int_equal(s[0].phys, 2);
    }
    /* a sample of another make is passed over */
    make(&r, 0);
    put_header(&r, PERF_RECORD_SAMPLE, 16);
    put(&r, "12345678", 8);
    put_sample(&r, 2, 0, 2);
    assert_int_equal(perfring_take(&r.ring, r.head, s, MOST), 1);
    assert_int_equal(s[0].phys, 2);
    assert_int_equal(r.ring.bad, 1);
    /* a head that cannot be: too far, before the tail, within a header */
    make(&r, 64);
    assert_int_equal(perfring_take(&r.ring, 64 + SIZE + 8, s, MOST), 0);
    assert_int_equal(r.ring.bad, 1);
    make(&r, 64);
    assert_int_equal(perfring_take(&r.ring, 32, s, MOST), 0);
    assert_int_equal(r.ring.tail, 32);
    make(&r, 64);
    put_header(&r, PERF_RECORD_SAMPLE, SAMPLE);
    assert_int_equal(perfring_take(&r.ring, r.head - 4, s, MOST), 0);
    assert_int_equal(r.ring.bad, 1);
}

/* Rubbish of any kind ends, and leaves nothing behind. */
static void test_rubbish(void **state)
{
    struct perfring_sample s[MOST];
    struct rig r;

    (void)state;
    srand(1);
    for (unsigned round = 0; round < 20000; round++) {
        make(&r, (uint64_t)rand() * 8);
        for (unsigned i = 0; i < SIZE; i++)
            r.data[i] = (uint8_t)(rand() % 3 ? rand() % 40 : rand());
        r.head += (uint64_t)(rand() % (SIZE + 64));
        while (perfring_take(&r.ring, r.head, s, 3) == 3)
            ;
        assert_true(r.ring.tail == r.head);
    }
}

/* Where they are not, they say so; none of them starts. */
static void test_found(void **state)
{
    static const char *const names[] = {"ibs", "pebs"};
    struct err err = {0};
    struct source s;
    char why[200] = "";

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const struct source_ops *o = source_by_name(names[i]);

        assert_non_null(o);
        if (!o->found(why, sizeof(why)))
            assert_true(strlen(why) > 20);
        assert_false(o->found(why, 1) && i == 1);
    }
    assert_true(source_start(&s, &source_pebs, &(struct source_spec){.nnodes = 0}, &err) < 0);
    assert_int_equal(err.status, EXIT_RESOURCE);
    assert_non_null(strstr(err.text, "sampling by pebs: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples), cmocka_unit_test(test_others),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_rubbish),
        cmocka_unit_test(test_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
