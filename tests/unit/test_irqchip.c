/* SPDX-License-Identifier: MIT */
/*
 * Tests of routing: IPIs and MSIs by every destination mode, shorthand and delivery mode, in
 * xAPIC and x2APIC mode, up to 4096 vCPUs.
 */
#include "irq_fake.h"

enum { VEC = 0x41, LOWEST = 0x100, NMI = 0x400, INIT = 0x500, SIPI = 0x600 };
enum { LOGICAL = 0x800, ASSERT = 0x4000, LEVEL = 0x8000 };
enum { SELF = 1 << 18, ALL = 2 << 18, OTHERS = 3 << 18 };
enum { MSI_ADDR = 0xfee00000u, MSI_DM = 4, MSI_RH = 8 };

/* A machine with all n local APICs enabled in a mode. */
static struct fake *all_new(unsigned n, uint64_t base)
{
    struct fake *f = fake_new(n);

    for (unsigned i = 0; i < n; i++)
        fake_enable(f, i, base);
    return f;
}

/* Sends an IPI from a vCPU in xAPIC mode. */
static void ipi(struct fake *f, unsigned src, uint8_t dest, uint32_t icr)
{
    struct lapic *l = irq_lapic(f->ic, src);

    lapic_mmio_write(l, ICR_HIGH, (uint32_t)dest << 24);
    lapic_mmio_write(l, ICR, icr);
    assert_int_equal(lapic_mmio_read(l, ICR), icr & ~0x1000u);
}

/* Sends an IPI from a vCPU in x2APIC mode. */
static void ipi2(struct fake *f, unsigned src, uint32_t dest, uint32_t icr)
{
    assert_true(lapic_msr_write(irq_lapic(f->ic, src), 0x830, (uint64_t)dest << 32 | icr));
}

/* The first 64 vCPUs that have the vector requested, as a bitmap; forgets them. */
static uint64_t whose(struct fake *f, unsigned n, uint8_t vector)
{
    uint64_t who = 0;

    for (unsigned i = 0; i < n; i++) {
        if (fake_has(f, i, vector)) {
            who |= i < 64 ? 1ull << i : 0;
            lapic_accept(irq_lapic(f->ic, i), vector);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        if (!lapic_msr_write(irq_lapic(f->ic, i), 0x80b, 0))
            lapic_mmio_write(irq_lapic(f->ic, i), EOI, 0);
    }
    return who;
}

/* Physical destinations, absent ones, and broadcast, from xAPIC mode. */
static void test_physical(void **state)
{
    struct fake *f = all_new(5, BASE_XAPIC);

    (void)state;
    ipi(f, 0, 3, VEC);
    assert_int_equal(whose(f, 5, VEC), 1 << 3);
    assert_int_equal(atomic_load(&f->ipis), 1);
    assert_int_equal(atomic_load(&f->ipi_src), 0);
    ipi(f, 2, 2, VEC);
    assert_int_equal(whose(f, 5, VEC), 1 << 2);
    ipi(f, 0, 5, VEC);
    ipi(f, 0, 254, VEC);
    assert_int_equal(whose(f, 5, VEC), 0);
    ipi(f, 1, 0xff, VEC);
    assert_int_equal(whose(f, 5, VEC), 0x1f);
    irqchip_free(f->ic);
}

/* All shorthands in both modes; trigger mode of a fixed IPI is ignored. */
static void test_shorthands(void **state)
{
    struct fake *f = all_new(4, BASE_XAPIC);

    (void)state;
    ipi(f, 2, 0, SELF | VEC | LEVEL | ASSERT);
    assert_int_equal(lapic_mmio_read(irq_lapic(f->ic, 2), TMR + 0x20), 0);
    assert_int_equal(whose(f, 4, VEC), 1 << 2);
    ipi(f, 2, 0, ALL | VEC);
    assert_int_equal(whose(f, 4, VEC), 0xf);
    ipi(f, 2, 0, OTHERS | VEC);
    assert_int_equal(whose(f, 4, VEC), 0xb);
    irqchip_free(f->ic);
    f = all_new(4, BASE_X2APIC);
    ipi2(f, 1, 0, SELF | VEC);
    assert_int_equal(whose(f, 4, VEC), 1 << 1);
    ipi2(f, 1, 0, OTHERS | VEC);
    assert_int_equal(whose(f, 4, VEC), 0xd);
    assert_true(lapic_msr_write(irq_lapic(f->ic, 3), 0x83f, VEC));
    assert_int_equal(whose(f, 4, VEC), 1 << 3);
    irqchip_free(f->ic);
}

/* NMI, INIT with assert and de-assert, startup; software-disabled targets take them too. */
static void test_control_ipis(void **state)
{
    struct fake *f = fake_new(4);

    (void)state;
    ipi(f, 0, 1, INIT | LEVEL | ASSERT);
    ipi(f, 0, 1, INIT | LEVEL);
    ipi(f, 0, 1, SIPI | 0x9a);
    assert_int_equal(f->inits[1], 1);
    assert_int_equal(f->sipis[1], 1);
    assert_int_equal(f->sipi_vector, 0x9a);
    ipi(f, 0, 0, OTHERS | INIT);
    assert_int_equal(f->inits[1] + f->inits[2] + f->inits[3], 4);
    assert_int_equal(f->inits[0], 0);
    ipi(f, 0, 0, ALL | INIT);
    ipi(f, 0, 0, SELF | SIPI | 1);
    assert_int_equal(f->total, 5);
    ipi(f, 3, 0, ALL | NMI);
    assert_int_equal(f->nmis[0] + f->nmis[1] + f->nmis[2] + f->nmis[3], 4);
    ipi(f, 0, 2, NMI | 2);
    assert_int_equal(f->nmis[2], 2);
    ipi(f, 0, 2, 0x200);
    ipi(f, 0, 2, 0x300);
    ipi(f, 0, 2, 0x700 | VEC);
    ipi(f, 0, 2, VEC); /* fixed: dropped, the target is disabled */
    assert_int_equal(f->total, 10);
    assert_int_equal(whose(f, 4, VEC), 0);
    irqchip_free(f->ic);
}

/* Flat and cluster logical ids, broadcast, and a nonsense format that matches nothing. */
static void test_logical_xapic(void **state)
{
    struct fake *f = all_new(8, BASE_XAPIC);

    (void)state;
    for (unsigned i = 0; i < 7; i++)
        lapic_mmio_write(irq_lapic(f->ic, i), LDR, 1u << (24 + i));
    ipi(f, 0, 0x2a, LOGICAL | VEC);
    assert_int_equal(whose(f, 8, VEC), 0x2a);
    ipi(f, 0, 0x80, LOGICAL | VEC);
    assert_int_equal(whose(f, 8, VEC), 0);
    ipi(f, 0, 0xff, LOGICAL | VEC);
    assert_int_equal(whose(f, 8, VEC), 0xff);
    for (unsigned i = 0; i < 8; i++) {
        lapic_mmio_write(irq_lapic(f->ic, i), DFR, 0);
        lapic_mmio_write(irq_lapic(f->ic, i), LDR, (i / 4 << 4 | 1u << i % 4) << 24);
    }
    ipi(f, 0, 0x06, LOGICAL | VEC);
    assert_int_equal(whose(f, 8, VEC), 0x06);
    ipi(f, 0, 0x19, LOGICAL | VEC);
    assert_int_equal(whose(f, 8, VEC), 0x90);
    ipi(f, 0, 0x2f, LOGICAL | VEC);
    assert_int_equal(whose(f, 8, VEC), 0);
    ipi(f, 0, 0xff, LOGICAL | VEC);
    assert_int_equal(whose(f, 8, VEC), 0xff);
    lapic_mmio_write(irq_lapic(f->ic, 1), DFR, 0x50000000);
    ipi(f, 0, 0x06, LOGICAL | VEC);
    assert_int_equal(whose(f, 8, VEC), 0x04);
    irqchip_free(f->ic);
}

/* x2APIC: clusters of 16, 32-bit physical ids, broadcast of all ones only. */
static void test_x2apic(void **state)
{
    struct fake *f = all_new(40, BASE_X2APIC);

    (void)state;
    ipi2(f, 0, 17, VEC);
    assert_int_equal(whose(f, 40, VEC), 1u << 17);
    ipi2(f, 0, 0x00010006, LOGICAL | VEC);
    assert_int_equal(whose(f, 40, VEC), 3u << 17);
    ipi2(f, 0, 0x0000ffff, LOGICAL | VEC);
    assert_int_equal(whose(f, 40, VEC), 0xffff);
    ipi2(f, 0, 0x000000ff, LOGICAL | VEC);
    assert_int_equal(whose(f, 40, VEC), 0xff);
    ipi2(f, 0, 0x0002ffff, LOGICAL | VEC);
    assert_int_equal(whose(f, 40, VEC), 0xff00000000);
    ipi2(f, 0, 0x0003ffff, LOGICAL | VEC);
    ipi2(f, 0, 0xfffeffff, LOGICAL | VEC);
    ipi2(f, 0, 0xff, VEC);
    ipi2(f, 0, 0xfffffffe, VEC);
    assert_int_equal(whose(f, 40, VEC), 0);
    ipi2(f, 0, 0xffffffff, VEC);
    assert_int_equal(whose(f, 40, VEC), 0xffffffffff);
    ipi2(f, 0, 0xffffffff, LOGICAL | VEC);
    assert_int_equal(whose(f, 40, VEC), 0xffffffffff);
    irqchip_free(f->ic);
}

/* 4096 vCPUs: the last is reached by id while still in xAPIC mode; id 255 is no broadcast. */
static void test_many(void **state)
{
    struct fake *f = fake_new(4096);

    (void)state;
    fake_enable(f, 0, BASE_X2APIC);
    ipi2(f, 0, 4095, INIT | LEVEL | ASSERT);
    ipi2(f, 0, 4095, SIPI | 8);
    assert_int_equal(f->inits[4095], 1);
    assert_int_equal(f->sipis[4095], 1);
    assert_int_equal(f->total, 2);
    fake_enable(f, 4095, BASE_X2APIC);
    fake_enable(f, 255, BASE_X2APIC);
    fake_enable(f, 3, BASE_X2APIC);
    ipi2(f, 0, 255 << 16 | 0x8000, LOGICAL | VEC);
    assert_int_equal(fake_who(f, 4096, VEC), 4095);
    ipi2(f, 0, 255, VEC + 1);
    assert_int_equal(fake_who(f, 4096, VEC + 1), 255);
    irq_msi(f->ic, MSI_ADDR | 0xff << 12, VEC + 2);
    assert_int_equal(fake_who(f, 4096, VEC + 2), 255);
    irq_msi(f->ic, MSI_ADDR | 0xff << 12 | 0xf << 5, VEC + 3);
    assert_int_equal(fake_who(f, 4096, VEC + 3), 4095);
    irqchip_free(f->ic);
}

/* A guest half way to x2APIC: narrow logical ids still reach those in xAPIC mode, and only them
 * when a wide sender's destination could be either. */
static void test_mixed(void **state)
{
    struct fake *f = all_new(4, BASE_XAPIC);

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        lapic_mmio_write(irq_lapic(f->ic, i), LDR, 0x10u << (24 + i));
    lapic_set_base(irq_lapic(f->ic, 0), BASE_X2APIC);
    ipi2(f, 0, 2, VEC);
    assert_int_equal(whose(f, 4, VEC), 1 << 2);
    ipi2(f, 0, 0x20, LOGICAL | VEC);
    assert_int_equal(whose(f, 4, VEC), 1 << 1);
    ipi(f, 1, 0xff, VEC);
    assert_int_equal(whose(f, 4, VEC), 0xf);
    lapic_set_base(irq_lapic(f->ic, 2), BASE_OFF);
    ipi(f, 1, 0xff, VEC);
    lapic_set_base(irq_lapic(f->ic, 2), BASE_XAPIC);
    assert_int_equal(whose(f, 4, VEC), 0xb);
    irqchip_free(f->ic);
}

/* Lowest priority: one target only, the least busy, disabled ones left out, equals in turn. */
static void test_lowest(void **state)
{
    struct fake *f = all_new(4, BASE_XAPIC);
    unsigned hits[4] = {0};

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        lapic_mmio_write(irq_lapic(f->ic, i), LDR, 1u << (24 + i));
    for (unsigned k = 0; k < 40; k++) {
        ipi(f, 0, 0x0f, LOGICAL | LOWEST | VEC);
        hits[__builtin_ctzll(whose(f, 4, VEC))]++;
    }
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(hits[i], 10);
    lapic_mmio_write(irq_lapic(f->ic, 0), TPR, 0x30);
    lapic_mmio_write(irq_lapic(f->ic, 1), TPR, 0x20);
    lapic_mmio_write(irq_lapic(f->ic, 3), TPR, 0x30);
    lapic_mmio_write(irq_lapic(f->ic, 2), SVR, 0xff);
    for (unsigned k = 0; k < 8; k++) {
        ipi(f, 0, 0x0f, LOGICAL | LOWEST | VEC);
        assert_int_equal(fake_who(f, 4, VEC), 1);
        whose(f, 4, VEC);
    }
    ipi(f, 0, 0x04, LOGICAL | LOWEST | VEC);
    ipi(f, 0, 2, LOWEST | VEC);
    assert_int_equal(whose(f, 4, VEC), 0);
    ipi(f, 0, 3, LOWEST | VEC);
    assert_int_equal(whose(f, 4, VEC), 1 << 3);
    irqchip_free(f->ic);
}

/* MSI: physical, extended, logical, redirected; delivery modes; what is not a message at all. */
static void test_msi(void **state)
{
    struct fake *f = all_new(4, BASE_XAPIC);

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        lapic_mmio_write(irq_lapic(f->ic, i), LDR, 1u << (24 + i));
    irq_msi(f->ic, MSI_ADDR | 2 << 12, VEC);
    assert_int_equal(whose(f, 4, VEC), 1 << 2);
    assert_int_equal(atomic_load(&f->ipi_src), UINT32_MAX);
    irq_msi(f->ic, MSI_ADDR | 6 << 12 | MSI_DM, VEC);
    assert_int_equal(whose(f, 4, VEC), 6);
    irq_msi(f->ic, MSI_ADDR | 6 << 12 | MSI_DM | MSI_RH, VEC);
    assert_true(fake_who(f, 4, VEC) >= 0);
    whose(f, 4, VEC);
    irq_msi(f->ic, MSI_ADDR | 0xff << 12, VEC);
    assert_int_equal(whose(f, 4, VEC), 0xf);
    irq_msi(f->ic, MSI_ADDR | 2 << 12 | 1 << 5, VEC); /* id 258 */
    irq_msi(f->ic, 1ull << 32 | MSI_ADDR, VEC);
    irq_msi(f->ic, 0x1000, VEC);
    irq_msi(f->ic, MSI_ADDR, VEC | LEVEL);
    irq_msi(f->ic, MSI_ADDR, SIPI | VEC);
    irq_msi(f->ic, MSI_ADDR, 0x200 | VEC);
    irq_msi(f->ic, MSI_ADDR, 0x700 | VEC);
    irq_msi(f->ic, UINT64_MAX, UINT32_MAX);
    assert_int_equal(whose(f, 4, VEC), 0);
    assert_int_equal(f->total, 0);
    irq_msi(f->ic, MSI_ADDR | 1 << 12, VEC | LEVEL | ASSERT);
    assert_int_equal(lapic_mmio_read(irq_lapic(f->ic, 1), TMR + 0x20), 1 << 1);
    irq_msi(f->ic, MSI_ADDR | 3 << 12, NMI);
    assert_int_equal(f->nmis[3], 1);
    irqchip_free(f->ic);
}

/* A reproducible sequence of random numbers. */
static uint64_t rnd(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* One random act of a hostile guest, or of the machine around it, on one vCPU. */
static void storm_step(struct fake *f, struct lapic *l, uint64_t *x)
{
    static const uint64_t bases[] = {BASE_OFF, BASE_XAPIC, BASE_X2APIC, BASE_XAPIC};
    uint64_t val = rnd(x) >> (rnd(x) & 63), ignored;
    uint32_t r = rnd(x) % 0x42;
    int v = lapic_pending(l);

    switch (rnd(x) % 10) {
    case 0:
        lapic_set_base(l, bases[rnd(x) % 64 < 4 ? rnd(x) % 4 : 1 + rnd(x) % 2]);
        break;
    case 1 ... 3:
        lapic_mmio_write(l, r * 16, (uint32_t)val);
        lapic_mmio_read(l, r * 16);
        break;
    case 4 ... 5:
        lapic_msr_write(l, 0x800 + r, val);
        lapic_msr_read(l, 0x800 + r, &ignored);
        break;
    case 6:
        lapic_msr_write(l, TSC_DEADLINE, val);
        irq_msi(f->ic, MSI_ADDR | (val & 0xfffff), (uint32_t)rnd(x));
        break;
    case 7:
        irq_gsi(f->ic, val % IOAPIC_PINS, rnd(x) & 1);
        break;
    case 8:
        f->now += val % 1000000000;
        lapic_timer_check(l);
        assert_true(lapic_deadline(l) == 0 || lapic_deadline(l) > f->now);
        break;
    default:
        if (v >= 0)
            lapic_accept(l, (uint8_t)v);
        break;
    }
}

/* Random acts on all registers: nothing breaks, and what is pending is above PPR. */
static void test_storm(void **state)
{
    struct fake *f = all_new(20, BASE_XAPIC);
    uint64_t x = 0x9e3779b97f4a7c15;

    (void)state;
    for (unsigned n = 0; n < 300000; n++) {
        struct lapic *l = irq_lapic(f->ic, rnd(&x) % 20);
        uint64_t ppr = 0;
        int v;

        storm_step(f, l, &x);
        v = lapic_pending(l);
        if (!lapic_msr_read(l, 0x80a, &ppr))
            ppr = lapic_mmio_read(l, PPR);
        assert_true(v < 0 || (unsigned)v >> 4 > ppr >> 4);
    }
    assert_true(atomic_load(&f->ipis) > 10000);
    for (unsigned i = 0; i < 20; i++)
        lapic_reset(irq_lapic(f->ic, i), false);
    irqchip_free(f->ic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_physical),     cmocka_unit_test(test_shorthands),
        cmocka_unit_test(test_control_ipis), cmocka_unit_test(test_logical_xapic),
        cmocka_unit_test(test_x2apic),       cmocka_unit_test(test_many),
        cmocka_unit_test(test_mixed),        cmocka_unit_test(test_lowest),
        cmocka_unit_test(test_msi),          cmocka_unit_test(test_storm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
