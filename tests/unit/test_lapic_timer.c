/* SPDX-License-Identifier: MIT */
/*
 * Tests of the local APIC timer with a clock that moves when told: one-shot, periodic without
 * drift, TSC deadline, dividers, mode changes, masks, hidden pauses.
 */
#include "irq_fake.h"

enum { VEC = 0xec, ONE_SHOT = VEC, PERIODIC = 0x20000 | VEC, DEADLINE = 0x40000 | VEC };
enum { BY_1 = 0xb };

/* A machine whose vCPU 0 has its timer in this mode, dividing by 1. */
static struct lapic *timer_new(struct fake **f, uint32_t lvt)
{
    struct lapic *l;

    *f = fake_new(1);
    l = fake_enable(*f, 0, BASE_XAPIC);
    lapic_mmio_write(l, TIMER_DIVIDE, BY_1);
    lapic_mmio_write(l, LVT_TIMER_REG, lvt);
    return l;
}

/* Moves the clock and lets the timer look. */
static void pass(struct fake *f, struct lapic *l, uint64_t ns)
{
    f->now += ns;
    lapic_timer_check(l);
}

/* Fires once at its time, not before, not again. */
static void test_one_shot(void **state)
{
    struct fake *f;
    struct lapic *l = timer_new(&f, ONE_SHOT);

    (void)state;
    assert_int_equal(lapic_deadline(l), 0);
    lapic_mmio_write(l, TIMER_INITIAL, 5000);
    assert_int_equal(lapic_deadline(l), f->now + 5000);
    pass(f, l, 4999);
    assert_int_equal(lapic_pending(l), -1);
    assert_int_equal(lapic_mmio_read(l, TIMER_CURRENT), 1);
    pass(f, l, 1);
    fake_serve(l, VEC);
    assert_int_equal(lapic_mmio_read(l, TIMER_CURRENT), 0);
    assert_int_equal(lapic_mmio_read(l, TIMER_INITIAL), 5000);
    assert_int_equal(lapic_deadline(l), 0);
    pass(f, l, 1000000);
    assert_int_equal(lapic_pending(l), -1);
    lapic_mmio_write(l, TIMER_INITIAL, 10);
    lapic_mmio_write(l, TIMER_INITIAL, 0);
    pass(f, l, 1000);
    assert_int_equal(lapic_pending(l), -1);
    irqchip_free(f->ic);
}

/* Every divide code; the count is rounded as a counter would show it. */
static void test_divide(void **state)
{
    static const struct {
        uint32_t code, by;
    } cases[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};
    struct fake *f;
    struct lapic *l = timer_new(&f, ONE_SHOT);

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        lapic_mmio_write(l, TIMER_DIVIDE, cases[i].code);
        lapic_mmio_write(l, TIMER_INITIAL, 0xffffffff);
        assert_int_equal(lapic_deadline(l), f->now + 0xffffffffull * cases[i].by);
        assert_int_equal(lapic_mmio_read(l, TIMER_CURRENT), 0xffffffff);
        f->now += 100 * cases[i].by;
        assert_int_equal(lapic_mmio_read(l, TIMER_CURRENT), 0xffffffff - 100);
    }
    lapic_mmio_write(l, TIMER_INITIAL, 1000);
    f->now += 500;
    lapic_mmio_write(l, TIMER_DIVIDE, 0); /* 500 counts left, now 2 ns each */
    assert_int_equal(lapic_deadline(l), f->now + 1000);
    assert_int_equal(lapic_mmio_read(l, TIMER_CURRENT), 500);
    irqchip_free(f->ic);
}

/* Expiries lie on the grid for ever, however late each is noticed; missed ones are skipped. */
static void test_periodic(void **state)
{
    struct fake *f;
    struct lapic *l = timer_new(&f, PERIODIC);
    uint64_t start = f->now, late = 0;

    (void)state;
    lapic_mmio_write(l, TIMER_INITIAL, 1000000);
    for (uint64_t n = 1; n <= 10000; n++) {
        assert_int_equal(lapic_deadline(l), start + n * 1000000);
        late = (late + 7919) % 900000;
        f->now = start + n * 1000000 + late;
        lapic_timer_check(l);
        fake_serve(l, VEC);
    }
    start += 10000 * 1000000ull;
    f->now = start + 123456789012; /* the vCPU did not run for two minutes */
    lapic_timer_check(l);
    fake_serve(l, VEC);
    lapic_timer_check(l);
    assert_int_equal(lapic_pending(l), -1);
    assert_int_equal(lapic_deadline(l), start + 123457000000);
    assert_int_equal(lapic_mmio_read(l, TIMER_CURRENT), 123457000000 - 123456789012);
    irqchip_free(f->ic);
}

/* A guest that asks for a 1 ns period cannot keep its thread busy with expiries. */
static void test_period_floor(void **state)
{
    struct fake *f;
    struct lapic *l = timer_new(&f, PERIODIC);

    (void)state;
    lapic_mmio_write(l, TIMER_INITIAL, 1);
    assert_true(lapic_deadline(l) >= f->now + 10000);
    assert_int_equal(lapic_mmio_read(l, TIMER_CURRENT), 1);
    lapic_mmio_write(l, LVT_TIMER_REG, ONE_SHOT);
    lapic_mmio_write(l, TIMER_INITIAL, 1);
    assert_int_equal(lapic_deadline(l), f->now + 1);
    lapic_mmio_write(l, LVT_TIMER_REG, PERIODIC);
    pass(f, l, 1);
    fake_serve(l, VEC);
    assert_true(lapic_deadline(l) >= f->now + 10000);
    irqchip_free(f->ic);
}

/* A masked timer counts on but neither fires nor wakes; what passed while masked stays lost. */
static void test_mask(void **state)
{
    struct fake *f;
    struct lapic *l = timer_new(&f, PERIODIC | 0x10000);
    uint64_t start = f->now;

    (void)state;
    lapic_mmio_write(l, TIMER_INITIAL, 100000);
    assert_int_equal(lapic_deadline(l), 0);
    f->now += 250000;
    assert_int_equal(lapic_mmio_read(l, TIMER_CURRENT), 50000);
    lapic_mmio_write(l, LVT_TIMER_REG, PERIODIC);
    assert_int_equal(lapic_pending(l), -1);
    assert_int_equal(lapic_deadline(l), start + 300000);
    f->now = start + 300000;
    lapic_mmio_write(l, SVR, 0xff); /* expired just before the APIC was disabled */
    assert_int_equal(lapic_pending(l), VEC);
    assert_int_equal(lapic_deadline(l), 0);
    irqchip_free(f->ic);
}

/* TSC deadline: past and future values, reading back, re-arming, disarming, other modes. */
static void test_tsc_deadline(void **state)
{
    struct fake *f;
    struct lapic *l = timer_new(&f, ONE_SHOT);
    uint64_t val = 1;

    (void)state;
    assert_true(lapic_msr_write(l, TSC_DEADLINE, 12345));
    assert_true(lapic_msr_read(l, TSC_DEADLINE, &val) && val == 0);
    lapic_mmio_write(l, LVT_TIMER_REG, DEADLINE);
    lapic_mmio_write(l, TIMER_INITIAL, 77);
    assert_int_equal(lapic_mmio_read(l, TIMER_INITIAL), 0);
    assert_int_equal(lapic_deadline(l), 0);
    assert_true(lapic_msr_write(l, TSC_DEADLINE, 2 * (f->now + 300)));
    assert_int_equal(lapic_deadline(l), f->now + 300);
    assert_int_equal(lapic_mmio_read(l, TIMER_CURRENT), 0);
    assert_true(lapic_msr_read(l, TSC_DEADLINE, &val) && val == 2 * (f->now + 300));
    pass(f, l, 299);
    assert_int_equal(lapic_pending(l), -1);
    pass(f, l, 1);
    fake_serve(l, VEC);
    assert_true(lapic_msr_read(l, TSC_DEADLINE, &val) && val == 0);
    assert_true(lapic_msr_write(l, TSC_DEADLINE, 1)); /* long past: at once */
    fake_serve(l, VEC);
    assert_true(lapic_msr_write(l, TSC_DEADLINE, 2 * (f->now + 300)));
    assert_true(lapic_msr_write(l, TSC_DEADLINE, 0));
    pass(f, l, 1000);
    assert_int_equal(lapic_pending(l), -1);
    assert_true(lapic_msr_write(l, TSC_DEADLINE, UINT64_MAX));
    pass(f, l, 1000000000);
    assert_int_equal(lapic_pending(l), -1);
    irqchip_free(f->ic);
}

/* Leaving or entering TSC-deadline mode disarms; one-shot and periodic do not disturb. */
static void test_mode_change(void **state)
{
    struct fake *f;
    struct lapic *l = timer_new(&f, DEADLINE);
    uint64_t val = 1;

    (void)state;
    assert_true(lapic_msr_write(l, TSC_DEADLINE, 2 * (f->now + 300)));
    lapic_mmio_write(l, LVT_TIMER_REG, DEADLINE | 0x10000);
    lapic_mmio_write(l, LVT_TIMER_REG, DEADLINE);
    assert_int_equal(lapic_deadline(l), f->now + 300);
    lapic_mmio_write(l, LVT_TIMER_REG, ONE_SHOT);
    assert_int_equal(lapic_deadline(l), 0);
    assert_true(lapic_msr_read(l, TSC_DEADLINE, &val) && val == 0);
    lapic_mmio_write(l, TIMER_INITIAL, 50000);
    lapic_mmio_write(l, LVT_TIMER_REG, PERIODIC);
    pass(f, l, 50000);
    fake_serve(l, VEC);
    assert_int_equal(lapic_deadline(l), f->now + 50000);
    lapic_mmio_write(l, LVT_TIMER_REG, ONE_SHOT);
    pass(f, l, 50000);
    fake_serve(l, VEC);
    assert_int_equal(lapic_deadline(l), 0);
    lapic_mmio_write(l, TIMER_INITIAL, 50000);
    lapic_mmio_write(l, LVT_TIMER_REG, DEADLINE);
    assert_int_equal(lapic_deadline(l), 0);
    lapic_mmio_write(l, LVT_TIMER_REG, 0x60000 | VEC); /* reserved mode */
    lapic_mmio_write(l, TIMER_INITIAL, 50000);
    pass(f, l, 100000);
    assert_int_equal(lapic_pending(l), -1);
    irqchip_free(f->ic);
}

/* A pause the guest must not see moves count-downs, and TSC deadlines follow the TSC. */
static void test_time_shift(void **state)
{
    struct fake *f;
    struct lapic *l = timer_new(&f, ONE_SHOT);

    (void)state;
    lapic_time_shift(l, 500);
    assert_int_equal(lapic_deadline(l), 0);
    lapic_mmio_write(l, TIMER_INITIAL, 1000);
    f->now += 5000;
    lapic_time_shift(l, 4500);
    lapic_timer_check(l);
    assert_int_equal(lapic_pending(l), -1);
    assert_int_equal(lapic_deadline(l), f->now + 500);
    pass(f, l, 500);
    fake_serve(l, VEC);
    lapic_mmio_write(l, LVT_TIMER_REG, DEADLINE);
    assert_true(lapic_msr_write(l, TSC_DEADLINE, 2 * (f->now + 3000)));
    f->now += 5000;
    f->paused = 5000;
    lapic_time_shift(l, 5000);
    assert_int_equal(lapic_deadline(l), f->now + 3000);
    irqchip_free(f->ic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_shot),    cmocka_unit_test(test_divide),
        cmocka_unit_test(test_periodic),    cmocka_unit_test(test_period_floor),
        cmocka_unit_test(test_mask),        cmocka_unit_test(test_tsc_deadline),
        cmocka_unit_test(test_mode_change), cmocka_unit_test(test_time_shift),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
