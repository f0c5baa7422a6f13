/* SPDX-License-Identifier: MIT */
/* Tests of the device bus: look-up, edges of ranges, hostile sizes, what bus_add() refuses. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/machine/bus.h"

/* A device that remembers its last access. */
struct probe {
    uint64_t off;   /* offset of the last access */
    unsigned len;   /* its length */
    unsigned calls; /* accesses so far */
    uint8_t byte;   /* what reads give, what was written first */
};

static void probe_read(void *dev, uint64_t off, void *data, unsigned len)
{
    struct probe *p = dev;

    p->off = off;
    p->len = len;
    p->calls++;
    memset(data, p->byte, len);
}

static void probe_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct probe *p = dev;

    p->off = off;
    p->len = len;
    p->calls++;
    p->byte = *(const uint8_t *)data;
}

static const struct bus_ops probe_ops = {.read = probe_read, .write = probe_write};

/* An empty bus answers nothing and reads as ones. */
static void test_empty(void **state)
{
    struct bus b = {.n = 0};
    uint64_t val = 0;

    (void)state;
    assert_false(bus_read(&b, 0, &val, 8));
    assert_true(val == UINT64_MAX);
    assert_false(bus_write(&b, UINT64_MAX, &val, 1));
}

/* Ranges added in any order are found, each at its own offsets. */
static void test_lookup(void **state)
{
    static const uint64_t base[] = {0x3f8, 0x60, 0xcf8, 0x64, 0x600};
    struct probe p[5] = {{.byte = 1}, {.byte = 2}, {.byte = 3}, {.byte = 4}, {.byte = 5}};
    struct bus b = {.n = 0};
    uint8_t val;

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        bus_add(&b, base[i], i == 0 ? 8 : 1, &probe_ops, &p[i], "probe");
    for (unsigned i = 0; i < 5; i++) {
        assert_true(bus_read(&b, base[i], &val, 1));
        assert_int_equal(val, i + 1);
        assert_int_equal(p[i].off, 0);
    }
    assert_true(bus_read(&b, 0x3ff, &val, 1));
    assert_int_equal(p[0].off, 7);
    assert_false(bus_read(&b, 0x400, &val, 1));
    assert_false(bus_read(&b, 0x5f, &val, 1));
    assert_false(bus_read(&b, 0x61, &val, 1));
    for (unsigned i = 1; i < b.n; i++)
        assert_true(b.range[i - 1].base < b.range[i].base);
}

/* Accesses that leave the range, or have a size no CPU makes, reach no device. */
static void test_hostile(void **state)
{
    static const unsigned bad[] = {0, 3, 5, 6, 7, 9, 16};
    struct probe p = {.byte = 0xaa};
    struct bus b = {.n = 0};
    uint8_t buf[16];

    (void)state;
    bus_add(&b, 0x1000, 0x10, &probe_ops, &p, "low");
    bus_add(&b, 0x1010, 0x10, &probe_ops, &p, "next");
    bus_add(&b, UINT64_MAX - 7, 8, &probe_ops, &p, "top");
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(buf, 0, sizeof(buf));
        assert_false(bus_read(&b, 0x1000, buf, bad[i]));
        assert_false(bus_write(&b, 0x1000, buf, bad[i]));
        for (unsigned k = 0; k < bad[i]; k++)
            assert_int_equal(buf[k], 0xff);
    }
    assert_false(bus_read(&b, 0x100e, buf, 4));
    assert_false(bus_read(&b, 0x101d, buf, 4));
    assert_false(bus_read(&b, 0xffe, buf, 4));
    assert_false(bus_read(&b, UINT64_MAX - 3, buf, 8));
    assert_int_equal(p.calls, 0);
    assert_true(bus_read(&b, 0x100c, buf, 4));
    assert_true(bus_write(&b, 0x1018, buf, 8));
    assert_true(bus_read(&b, UINT64_MAX - 7, buf, 8));
    assert_true(bus_write(&b, UINT64_MAX, buf, 1));
    assert_int_equal(p.calls, 4);
    assert_int_equal(p.off, 7);
}

/* True if adding this range to a bus that has 0x1000..0x1fff aborts. */
static bool add_aborts(uint64_t base, uint64_t len, unsigned before)
{
    struct probe p = {.calls = 0};
    struct bus b = {.n = 0};
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        close(2);
        bus_add(&b, 0x1000, 0x1000, &probe_ops, &p, "there");
        for (unsigned i = 0; i < before; i++)
            bus_add(&b, 0x10000 + i, 1, &probe_ops, &p, "filler");
        bus_add(&b, base, len, &probe_ops, &p, "new");
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* Overlaps, empty and wrapping ranges and a full table are programming errors. */
static void test_refused(void **state)
{
    (void)state;
    assert_true(add_aborts(0x1000, 0x1000, 0));
    assert_true(add_aborts(0x1fff, 1, 0));
    assert_true(add_aborts(0xfff, 2, 0));
    assert_true(add_aborts(0, UINT64_MAX, 0));
    assert_true(add_aborts(0x3000, 0, 0));
    assert_true(add_aborts(0x3000, UINT64_MAX, 0));
    assert_true(add_aborts(0x3000, 1, BUS_MAX - 1));
    assert_false(add_aborts(0x3000, 1, BUS_MAX - 2));
    assert_false(add_aborts(0xfff, 1, 0));
    assert_false(add_aborts(0x2000, 1, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
