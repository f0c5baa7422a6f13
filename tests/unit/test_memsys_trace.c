/* SPDX-License-Identifier: MIT */
/*
 * Tests the trace of page-level accesses: what is gathered into one record, what makes two, order of
 * time, and files that are full or cannot be written.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/memsys/trace.h"

enum { RECORDS = 400000 };

/* A trace's file, read back. */
struct back {
    struct trace_header h;
    struct trace_record *r;
    size_t n;
};

static char path[] = "/tmp/test_memsys_trace.XXXXXX";

static const struct trace_header header = {.magic = TRACE_MAGIC,
                                           .version = TRACE_VERSION,
                                           .ncpus = 4,
                                           .nnodes = 2,
                                           .sample = 1,
                                           .node_bytes = 1 << 20,
                                           .interval = 1000,
                                           .machine = "flash",
                                           .node_of_cpu = {0, 0, 1, 1}};

static int make_path(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd < 0 || close(fd);
}

static int remove_path(void **state)
{
    (void)state;
    return unlink(path);
}

static struct trace *begin(uint64_t most)
{
    struct trace *t = trace_new(path, &header, most);

    assert_non_null(t);
    return t;
}

/* Reads the whole file; times must not decrease. */
static void read_back(struct back *b)
{
    FILE *f = fopen(path, "re");

    assert_non_null(f);
    assert_int_equal(fread(&b->h, sizeof(b->h), 1, f), 1);
    b->r = calloc(RECORDS, sizeof(*b->r));
    assert_non_null(b->r);
    b->n = fread(b->r, sizeof(*b->r), RECORDS, f);
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
    for (size_t i = 1; i < b->n; i++)
        assert_true(b->r[i].time >= b->r[i - 1].time);
}

static void test_round_trip(void **state)
{
    struct trace *t = begin(100);
    struct back b;

    (void)state;
    assert_int_equal(sizeof(struct trace_record), 24);
    for (int i = 0; i < 10; i++)
        trace_access(t, 1, 3, 77, false, i < 4, 100);
    trace_access(t, 1, 3, 77, true, true, 200);
    trace_access(t, 2, 3, 77, false, false, 300);
    assert_int_equal(trace_close(t, 400), 0);
    read_back(&b);
    assert_memory_equal(&b.h, &header, sizeof(header));
    assert_int_equal(b.n, 3);
    assert_int_equal(b.r[0].page, 77);
    assert_int_equal(b.r[0].cpu, 1);
    assert_int_equal(b.r[0].guest, 3);
    assert_int_equal(b.r[0].accesses + b.r[1].accesses, 11);
    assert_int_equal(b.r[0].misses + b.r[1].misses, 5);
    assert_int_equal(b.r[0].write + b.r[1].write, 1);
    assert_int_equal(b.r[2].cpu, 2);
    assert_int_equal(b.r[2].time, 400);
    free(b.r);
}

/* An interval's end, another guest on the CPU and a page that wants the place make new records. */
static void test_intervals(void **state)
{
    struct trace *t = begin(100);
    struct back b;

    (void)state;
    trace_access(t, 0, 0, 5, false, false, 999);
    trace_access(t, 0, 0, 5, false, false, 1000);        /* the first interval is over */
    trace_access(t, 0, 1, 5, false, false, 1001);        /* a guest */
    trace_access(t, 0, 1, 5 + 4096, false, false, 1002); /* the same place */
    trace_access(t, 0, 1, 5, false, false, 987654);      /* many intervals later */
    assert_int_equal(trace_close(t, 987654), 0);
    read_back(&b);
    assert_int_equal(b.n, 5);
    assert_int_equal(b.r[0].time, 1000);
    assert_int_equal(b.r[1].guest, 0);
    assert_int_equal(b.r[2].guest, 1);
    assert_int_equal(b.r[2].page, 5);
    assert_int_equal(b.r[3].page, 5 + 4096);
    assert_int_equal(b.r[3].time, 987654);
    free(b.r);
}

/* However accesses come, none is lost or counted twice. */
static void test_sums(void **state)
{
    struct trace *t = begin(RECORDS);
    static uint32_t want[4][8192];
    uint64_t random = 88172645463325252, written, lost;
    struct back b;

    (void)state;
    for (uint64_t i = 0; i < 200000; i++) {
        unsigned cpu, page;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        cpu = random % 4;
        page = (random >> 8) % 64 * 128 + (random >> 32) % 4;
        want[cpu][page]++;
        trace_access(t, cpu, 0, page, random >> 40 & 1, false, i / 4);
    }
    trace_flush(t, 50000);
    trace_numbers(t, &written, &lost);
    assert_int_equal(lost, 0);
    assert_int_equal(trace_close(t, 50000), 0);
    read_back(&b);
    assert_int_equal(b.n, written);
    for (size_t i = 0; i < b.n; i++)
        want[b.r[i].cpu][b.r[i].page] -= b.r[i].accesses;
    for (unsigned cpu = 0; cpu < 4; cpu++)
        for (unsigned page = 0; page < 8192; page++)
            assert_int_equal(want[cpu][page], 0);
    free(b.r);
}

static void test_full(void **state)
{
    struct trace *t = begin(3);
    uint64_t written, lost;
    struct back b;

    (void)state;
    for (uint32_t page = 0; page < 10; page++)
        trace_access(t, 0, 0, page, false, false, 1);
    trace_flush(t, 2);
    trace_numbers(t, &written, &lost);
    assert_int_equal(written, 3);
    assert_int_equal(lost, 7);
    assert_int_equal(trace_close(t, 3), 0);
    read_back(&b);
    assert_int_equal(b.n, 3);
    free(b.r);
}

/* A device that is always full: records are lost, and the end tells of it. */
static void test_cannot_write(void **state)
{
    struct trace *t = trace_new("/dev/full", &header, RECORDS);
    uint64_t written, lost;

    (void)state;
    assert_non_null(t);
    for (uint32_t page = 0; page < 4096; page++)
        trace_access(t, page % 4, 0, page, false, false, 1);
    trace_flush(t, 2);
    trace_numbers(t, &written, &lost);
    assert_true(lost > 0);
    assert_int_equal(written + lost, 4096);
    assert_int_equal(trace_close(t, 3), -EIO);
    assert_null(trace_new("/tmp/no such directory/trace", &header, 1));
    assert_int_equal(errno, ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_intervals),
        cmocka_unit_test(test_sums),         cmocka_unit_test(test_full),
        cmocka_unit_test(test_cannot_write),
    };

    return cmocka_run_group_tests(tests, make_path, remove_path);
}
