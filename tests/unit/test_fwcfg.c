/* SPDX-License-Identifier: MIT */
/*
 * fw_cfg as test kernels read it: the items, reading past their ends, hostile selections.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "vmm/device/host.h"
#include "vmm/device/legacy.h"
#include "vmm/machine/bus.h"

static struct bus pio;
static struct fwcfg *cfg;

static void selects(uint16_t key)
{
    assert_true(bus_write(&pio, FWCFG_PORT, &key, 2));
}

static uint8_t next(void)
{
    uint8_t v;

    assert_true(bus_read(&pio, FWCFG_PORT + 1, &v, 1));
    return v;
}

/* Reads n bytes, little-endian. */
static uint64_t value(uint16_t key, unsigned n)
{
    uint64_t v = 0;

    selects(key);
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)next() << (8 * i);
    return v;
}

static int setup(void **state)
{
    struct dev_host host = {.pio = &pio};

    (void)state;
    pio.n = 0;
    cfg = fwcfg_new(&host, 5ull << 30, 300);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fwcfg_free(cfg);
    fwcfg_free(NULL);
    return 0;
}

/* Every item, and zeros behind it. */
static void test_items(void **state)
{
    (void)state;
    assert_int_equal(next(), 0); /* nothing selected */
    assert_int_equal(value(0, 4), 0x554d4551);
    assert_int_equal(next(), 0);
    assert_int_equal(value(1, 4), 1);
    assert_int_equal(value(3, 8), 5ull << 30);
    assert_int_equal(value(5, 2), 300);
    assert_int_equal(value(0x0f, 2), 300);
    assert_int_equal(next(), 0);
    assert_int_equal(value(0x19, 8), 0); /* no files */
}

/* Selecting again starts anew; wrong widths and places change nothing. */
static void test_selection(void **state)
{
    uint8_t b = 3;
    uint32_t v = 0;
    uint16_t w = 0;

    (void)state;
    assert_int_equal(value(0, 2), 0x4551);
    bus_write(&pio, FWCFG_PORT, &b, 1);
    bus_write(&pio, FWCFG_PORT + 1, &b, 1);
    bus_write(&pio, FWCFG_PORT, &v, 4);
    assert_int_equal(next(), 'M');
    assert_true(bus_read(&pio, FWCFG_PORT, &w, 2));
    assert_int_equal(w >> 8, 'U');
    assert_int_equal(value(0, 4), 0x554d4551);
}

/* All keys read as something, always. */
static void test_all_keys(void **state)
{
    (void)state;
    for (uint32_t key = 0; key <= UINT16_MAX; key += 7) {
        selects((uint16_t)key);
        for (int i = 0; i < 12; i++)
            next();
        assert_int_equal(next(), 0);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_items), T(test_selection), T(test_all_keys)};

    return cmocka_run_group_tests_name("fwcfg", tests, NULL, NULL);
}
