/* SPDX-License-Identifier: MIT */
/*
 * Power, reset, the power button's event port, debug exit and the quiet ports.  The interrupt pin
 * is a stub that keeps the level.
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
#include "vmm/machine/irq.h"

/* What a test works on. */
struct rig {
    struct bus pio;
    struct dev_host host;
    struct pm *pm;
    unsigned offs, resets, exits; /* calls seen */
    uint32_t value;               /* of the last debug exit */
};

static bool level; /* of the pin */

/* Stands in for the interrupt controllers. */
void irq_gsi(struct irqchip *ic, unsigned pin, bool lvl)
{
    (void)ic;
    assert_int_equal(pin, LEGACY_GED_PIN);
    level = lvl;
}

static void on_off(void *ctx)
{
    ((struct rig *)ctx)->offs++;
}

static void on_reset(void *ctx)
{
    ((struct rig *)ctx)->resets++;
}

static void on_exit_value(void *ctx, uint32_t value)
{
    ((struct rig *)ctx)->exits++;
    ((struct rig *)ctx)->value = value;
}

static uint32_t in(struct rig *r, uint16_t port, unsigned len)
{
    uint32_t v = 0;

    assert_true(bus_read(&r->pio, port, &v, len));
    return v;
}

static void out(struct rig *r, uint16_t port, uint32_t v, unsigned len)
{
    assert_true(bus_write(&r->pio, port, &v, len));
}

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));

    r->host = (struct dev_host){.pio = &r->pio,
                                .power_off = on_off,
                                .reset = on_reset,
                                .debug_exit = on_exit_value,
                                .ctx = r};
    level = false;
    r->pm = pm_new(&r->host);
    debug_exit_add(&r->host);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;

    pm_free(r->pm);
    pm_free(NULL);
    free(r);
    return 0;
}

/* Only SLP_EN with the type of S5 switches off. */
static void test_power_off(void **state)
{
    struct rig *r = *state;

    for (uint32_t v = 0; v < 256; v++)
        out(r, PM_PORT, v & ~0x20u, 1);
    out(r, PM_PORT, 0x20 | 3 << 2, 1);
    assert_int_equal(r->offs, 0);
    out(r, PM_PORT, 0x20 | 5 << 2, 1);
    assert_int_equal(r->offs, 1);
    assert_int_equal(in(r, PM_PORT, 1), 0);
    assert_int_equal(r->resets, 0);
}

/* The reset register and the keyboard controller reset, by their values only. */
static void test_reset(void **state)
{
    struct rig *r = *state;

    out(r, PM_RESET_PORT, 0, 1);
    out(r, PM_RESET_PORT, 2, 1);
    out(r, 0x64, 0xff, 1);
    out(r, 0x64, 0xd1, 1);
    assert_int_equal(r->resets, 0);
    out(r, PM_RESET_PORT, 1, 1);
    assert_int_equal(r->resets, 1);
    out(r, PM_PORT, 0x0100, 2); /* both registers at once */
    assert_int_equal(r->resets, 2);
    out(r, 0x64, 0xfe, 1);
    assert_int_equal(r->resets, 3);
    assert_int_equal(r->offs, 0);
}

/* The button raises the pin until the event is read; every width reads it. */
static void test_button(void **state)
{
    struct rig *r = *state;

    for (unsigned len = 1; len <= 4; len *= 2) {
        assert_int_equal(in(r, PM_GED_PORT, len), 0);
        assert_false(level);
        pm_power_button(r->pm);
        pm_power_button(r->pm);
        assert_true(level);
        if (len < 4)
            assert_int_equal(in(r, PM_GED_PORT + 2, len), 0); /* not the register */
        assert_true(level);
        pm_power_button(r->pm);
        assert_int_equal(in(r, PM_GED_PORT, len), GED_POWER_BUTTON);
        assert_false(level);
        out(r, PM_GED_PORT, 1, len);
        assert_int_equal(in(r, PM_GED_PORT, len), 0);
    }
}

/* The value of a debug exit arrives in all widths. */
static void test_debug_exit(void **state)
{
    struct rig *r = *state;

    out(r, DEBUG_EXIT_PORT, 0x12345678, 1);
    assert_int_equal(r->value, 0x78);
    out(r, DEBUG_EXIT_PORT, 0x12345678, 2);
    assert_int_equal(r->value, 0x5678);
    out(r, DEBUG_EXIT_PORT, 0x12345678, 4);
    assert_int_equal(r->value, 0x12345678);
    assert_int_equal(r->exits, 3);
}

/* Quiet ports answer what keeps an unmodified kernel from waiting. */
static void test_quiet(void **state)
{
    struct rig *r = *state;

    assert_int_equal(in(r, 0x42, 1), 0);
    assert_int_equal(in(r, 0x61, 1), 0x20);
    out(r, 0x70, 0x0a, 1);
    assert_int_equal(in(r, 0x71, 1), 0);
    assert_int_equal(in(r, 0x21, 1), 0xff);
    assert_int_equal(in(r, 0xa1, 1), 0xff);
    assert_int_equal(in(r, 0x64, 1), 0xff);
    assert_int_equal(in(r, 0x60, 1), 0xff);
    out(r, 0x80, 0, 1);
    out(r, 0xed, 0, 1);
    out(r, 0x43, 0x34, 1);
    assert_int_equal(r->offs + r->resets + r->exits, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_power_off), T(test_reset), T(test_button),
                                       T(test_debug_exit), T(test_quiet)};

    return cmocka_run_group_tests_name("pm", tests, NULL, NULL);
}
