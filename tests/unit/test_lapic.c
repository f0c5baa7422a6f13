/* SPDX-License-Identifier: MIT */
/*
 * Tests of one local APIC: registers by both interfaces, modes, priorities, end of interrupt,
 * errors, and posting from several threads while the owner accepts.  Its timer is tested in
 * test_lapic_timer.c, routing between APICs in test_irqchip.c.
 */
#include <pthread.h>
#include <sched.h>

#include "irq_fake.h"

enum { POSTERS = 4, POSTS = 20000 };

/* Power-up values, and again after INIT. */
static void test_reset(void **state)
{
    struct fake *f = fake_new(3);
    struct lapic *l = irq_lapic(f->ic, 2);

    (void)state;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(lapic_mmio_read(l, ID), 2u << 24);
        assert_int_equal(lapic_mmio_read(l, VERSION), 0x50014);
        assert_int_equal(lapic_mmio_read(l, SVR), 0xff);
        assert_int_equal(lapic_mmio_read(l, TPR), 0);
        assert_int_equal(lapic_mmio_read(l, LDR), 0);
        assert_int_equal(lapic_mmio_read(l, DFR), 0xffffffff);
        assert_int_equal(lapic_mmio_read(l, IRR + 0x20), 0);
        assert_int_equal(lapic_mmio_read(l, ISR + 0x20), 0);
        assert_int_equal(lapic_mmio_read(l, TIMER_INITIAL), 0);
        for (uint32_t off = LVT_TIMER_REG; off <= LVT_ERROR_REG; off += 16)
            assert_int_equal(lapic_mmio_read(l, off), 0x10000);
        lapic_mmio_write(l, SVR, 0x1ff);
        lapic_mmio_write(l, LDR, 0xff000000);
        lapic_mmio_write(l, DFR, 0);
        lapic_mmio_write(l, TPR, 0x20);
        lapic_mmio_write(l, LVT_TIMER_REG, 0x40);
        lapic_mmio_write(l, TIMER_INITIAL, 100);
        lapic_post(l, 0x50, true);
        lapic_post(l, 0x51, true);
        lapic_accept(l, 0x50);
        lapic_reset(l, round == 0);
        assert_int_equal(lapic_pending(l), -1);
        assert_int_equal(lapic_deadline(l), 0);
    }
    irqchip_free(f->ic);
}

/* Read-only registers ignore writes, writable ones keep only their bits (MMIO). */
static void test_mmio_bits(void **state)
{
    static const struct {
        uint32_t off, written, read;
    } cases[] = {
        {ID, 0xffffffff, 0},
        {VERSION, 0, 0x50014},
        {TPR, 0xffffff35, 0x35},
        {PPR, 0xf0, 0x35},
        {LDR, 0x12345678, 0x12000000},
        {DFR, 0x01234567, 0x0fffffff},
        {SVR, 0xfffffdff, 0x1ff},
        {ISR, 0xffffffff, 0},
        {TMR, 0xffffffff, 0},
        {IRR, 0xffffffff, 0},
        {ICR_HIGH, 0x07654321, 0x07000000},
        {LVT_TIMER_REG, 0xffffffff, 0x700ff},
        {LVT_TIMER_REG + 0x10, 0xffffffff, 0x107ff},
        {LVT_TIMER_REG + 0x20, 0xffffffff, 0x107ff},
        {LVT_LINT0_REG, 0xffffffff, 0x1a7ff},
        {LVT_LINT0_REG + 0x10, 0xffffffff, 0x1a7ff},
        {LVT_ERROR_REG, 0xffffffff, 0x100ff},
        {TIMER_CURRENT, 5, 0},
        {TIMER_DIVIDE, 0xffffffff, 0xb},
        {EOI, 0xffffffff, 0},
    };
    struct fake *f = fake_new(1);
    struct lapic *l = irq_lapic(f->ic, 0);

    (void)state;
    lapic_mmio_write(l, SVR, 0x1ff);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        lapic_mmio_write(l, cases[i].off, cases[i].written);
        assert_int_equal(lapic_mmio_read(l, cases[i].off), cases[i].read);
    }
    irqchip_free(f->ic);
}

/* Odd offsets change nothing; reserved registers are noted in the ESR; nobody crashes. */
static void test_mmio_hostile(void **state)
{
    struct fake *f = fake_new(1);
    struct lapic *l = fake_enable(f, 0, BASE_XAPIC);

    (void)state;
    lapic_mmio_write(l, TPR + 4, 0xff);
    lapic_mmio_write(l, TPR + 1, 0xff);
    assert_int_equal(lapic_mmio_read(l, TPR), 0);
    lapic_mmio_write(l, ESR, 0);
    assert_int_equal(lapic_mmio_read(l, ESR), 0);
    assert_int_equal(lapic_mmio_read(l, 0x2f0), 0);
    lapic_mmio_write(l, ESR, 0);
    assert_int_equal(lapic_mmio_read(l, ESR), 0x80);
    for (uint32_t off = 0; off < 8192; off++) {
        if (off != ICR)
            lapic_mmio_write(l, off, 0xffffffff);
        lapic_mmio_read(l, off);
    }
    assert_int_equal(lapic_mmio_read(l, UINT32_MAX), 0);
    irqchip_free(f->ic);
}

/* Each x2APIC MSR: who may read it, who may write it, which bits fault. */
static void test_msr_rules(void **state)
{
    static const struct {
        uint32_t msr;
        bool read, write; /* allowed, with val 0 */
        uint64_t good;    /* largest value that may be written */
        uint64_t bad;     /* a value that faults */
    } cases[] = {
        {0x802, true, false, 0, 0},
        {0x803, true, false, 0, 0},
        {0x808, true, true, 0xff, 0x100},
        {0x809, false, false, 0, 0},
        {0x80a, true, false, 0, 0},
        {0x80b, false, true, 0, 1},
        {0x80c, false, false, 0, 0},
        {0x80d, true, false, 0, 0},
        {0x80e, false, false, 0, 0},
        {0x80f, true, true, 0x3ff, 0x1000},
        {0x810, true, false, 0, 0},
        {0x827, true, false, 0, 0},
        {0x828, true, true, 0, 1},
        {0x82f, false, false, 0, 0},
        {0x830, true, true, 0, 0x2000},
        {0x830, true, true, 0, 0x100000},
        {0x831, false, false, 0, 0},
        {0x832, true, true, 0x710ff, 0x80000},
        {0x833, true, true, 0x117ff, 0x2000},
        {0x834, true, true, 0x117ff, 0x20000},
        {0x835, true, true, 0x1f7ff, 0x800},
        {0x836, true, true, 0x1f7ff, 0x20000},
        {0x837, true, true, 0x110ff, 0x100},
        {0x838, true, true, 0xffffffff, 0x100000000},
        {0x839, true, false, 0, 0},
        {0x83e, true, true, 0xb, 0x4},
        {0x83f, false, true, 0xff, 0x100},
        {0x840, false, false, 0, 0},
        {0x8ff, false, false, 0, 0},
        {0x801, false, false, 0, 0},
    };
    struct fake *f = fake_new(20);
    struct lapic *l = fake_enable(f, 17, BASE_X2APIC);
    uint64_t val;

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(lapic_msr_read(l, cases[i].msr, &val), cases[i].read);
        assert_int_equal(lapic_msr_write(l, cases[i].msr, 0), cases[i].write);
        assert_int_equal(lapic_msr_write(l, cases[i].msr, cases[i].good), cases[i].write);
        if (cases[i].bad)
            assert_false(lapic_msr_write(l, cases[i].msr, cases[i].bad));
        if (cases[i].msr != 0x830)
            assert_false(lapic_msr_write(l, cases[i].msr, 1ull << 40));
    }
    assert_true(lapic_msr_read(l, 0x802, &val) && val == 17);
    assert_true(lapic_msr_read(l, 0x80d, &val) && val == 0x10002);
    assert_true(lapic_msr_write(l, 0x830, 0x1300000045));
    assert_true(lapic_msr_read(l, 0x830, &val) && val == 0x1300000045);
    irqchip_free(f->ic);
}

/* MSRs fault outside x2APIC mode, the page is dead outside xAPIC mode; what a change keeps. */
static void test_modes(void **state)
{
    struct fake *f = fake_new(300);
    struct lapic *l = fake_enable(f, 290, BASE_XAPIC);
    uint64_t val;

    (void)state;
    assert_false(lapic_msr_read(l, 0x802, &val));
    assert_false(lapic_msr_write(l, 0x808, 0));
    assert_int_equal(lapic_mmio_read(l, ID), 290u << 24);
    lapic_mmio_write(l, TPR, 0x33);
    lapic_mmio_write(l, LDR, 0x01000000);
    lapic_post(l, 0x70, false);
    lapic_set_base(l, 0xfee00000 | BASE_X2APIC);
    assert_int_equal(lapic_mmio_read(l, TPR), 0xffffffff);
    lapic_mmio_write(l, TPR, 0);
    assert_true(lapic_msr_read(l, 0x808, &val) && val == 0x33);
    assert_true(lapic_msr_read(l, 0x802, &val) && val == 290);
    assert_true(lapic_msr_read(l, 0x80d, &val) && val == (18 << 16 | 1 << 2));
    assert_int_equal(lapic_pending(l), 0x70);
    lapic_set_base(l, BASE_OFF);
    assert_int_equal(lapic_pending(l), -1);
    lapic_post(l, 0x71, false);
    assert_false(lapic_msr_read(l, 0x808, &val));
    lapic_reset(l, true);
    assert_int_equal(lapic_mmio_read(l, TPR), 0xffffffff);
    lapic_set_base(l, BASE_XAPIC);
    assert_int_equal(lapic_mmio_read(l, TPR), 0);
    assert_int_equal(lapic_mmio_read(l, SVR), 0xff);
    assert_int_equal(lapic_pending(l), -1);
    lapic_set_base(l, BASE_X2APIC);
    lapic_reset(l, true); /* INIT keeps the mode */
    assert_int_equal(lapic_mmio_read(l, SVR), 0xffffffff);
    assert_true(lapic_msr_read(l, 0x80f, &val) && val == 0xff);
    lapic_reset(l, false); /* power-up does not */
    assert_int_equal(lapic_mmio_read(l, SVR), 0xff);
    irqchip_free(f->ic);
}

/* A software-disabled APIC drops what comes, keeps what it had, and pins the LVT mask bits. */
static void test_software_disable(void **state)
{
    struct fake *f = fake_new(1);
    struct lapic *l = irq_lapic(f->ic, 0);

    (void)state;
    lapic_post(l, 0x40, false);
    assert_int_equal(atomic_load(&f->kicks[0]), 0);
    assert_int_equal(lapic_pending(l), -1);
    lapic_mmio_write(l, LVT_ERROR_REG, 0x30);
    assert_int_equal(lapic_mmio_read(l, LVT_ERROR_REG), 0x10030);
    lapic_mmio_write(l, SVR, 0x1ff);
    lapic_mmio_write(l, LVT_ERROR_REG, 0x30);
    assert_int_equal(lapic_mmio_read(l, LVT_ERROR_REG), 0x30);
    lapic_post(l, 0x40, false);
    lapic_mmio_write(l, SVR, 0xff);
    assert_int_equal(lapic_mmio_read(l, LVT_ERROR_REG), 0x10030);
    lapic_post(l, 0x90, false);
    fake_serve(l, 0x40);
    assert_int_equal(lapic_pending(l), -1);
    irqchip_free(f->ic);
}

/* Higher classes nest, equal and lower ones wait, EOI ends the highest; TPR and CR8 hold back. */
static void test_priorities(void **state)
{
    struct fake *f = fake_new(1);
    struct lapic *l = fake_enable(f, 0, BASE_XAPIC);

    (void)state;
    lapic_post(l, 0x41, false);
    lapic_post(l, 0x4f, false);
    assert_int_equal(lapic_pending(l), 0x4f);
    lapic_accept(l, 0x4f);
    assert_int_equal(lapic_mmio_read(l, PPR), 0x40);
    assert_int_equal(lapic_pending(l), -1);
    lapic_post(l, 0x50, false);
    assert_int_equal(lapic_pending(l), 0x50);
    lapic_accept(l, 0x50);
    assert_int_equal(lapic_mmio_read(l, ISR + 0x20), 1u << 15 | 1u << 16);
    lapic_mmio_write(l, EOI, 0);
    assert_int_equal(lapic_mmio_read(l, PPR), 0x40);
    lapic_mmio_write(l, EOI, 0);
    fake_serve(l, 0x41);
    lapic_mmio_write(l, EOI, 0);
    lapic_set_cr8(l, 5);
    lapic_post(l, 0x5f, false);
    assert_int_equal(lapic_pending(l), -1);
    assert_int_equal(lapic_mmio_read(l, PPR), 0x50);
    lapic_mmio_write(l, TPR, 0x4e);
    assert_int_equal(lapic_pending(l), 0x5f);
    lapic_set_cr8(l, 4);
    assert_int_equal(lapic_mmio_read(l, TPR), 0x4e);
    assert_int_equal(lapic_get_cr8(l), 4);
    lapic_set_cr8(l, 15);
    assert_int_equal(lapic_pending(l), -1);
    irqchip_free(f->ic);
}

/* PPR and APR follow the manual's formulas. */
static void test_ppr_apr(void **state)
{
    struct fake *f = fake_new(1);
    struct lapic *l = fake_enable(f, 0, BASE_XAPIC);

    (void)state;
    lapic_mmio_write(l, TPR, 0x25);
    assert_int_equal(lapic_mmio_read(l, PPR), 0x25);
    assert_int_equal(lapic_mmio_read(l, APR), 0x25);
    lapic_post(l, 0x73, false);
    assert_int_equal(lapic_mmio_read(l, APR), 0x70);
    lapic_accept(l, 0x73);
    assert_int_equal(lapic_mmio_read(l, PPR), 0x70);
    lapic_mmio_write(l, TPR, 0x7a);
    assert_int_equal(lapic_mmio_read(l, PPR), 0x7a);
    assert_int_equal(lapic_mmio_read(l, APR), 0x70);
    irqchip_free(f->ic);
}

/* Every legal vector passes through request, service and end; the edge bit stays clear. */
static void test_all_vectors(void **state)
{
    struct fake *f = fake_new(1);
    struct lapic *l = fake_enable(f, 0, BASE_X2APIC);

    (void)state;
    for (int v = 255; v >= 16; v--)
        lapic_post(l, (uint8_t)v, false);
    assert_int_equal(atomic_load(&f->kicks[0]), 240);
    for (int v = 255; v >= 16; v--)
        fake_serve(l, v);
    assert_int_equal(lapic_pending(l), -1);
    irqchip_free(f->ic);
}

/* A vector posted again while in service comes a second time, not a third. */
static void test_repost(void **state)
{
    struct fake *f = fake_new(1);
    struct lapic *l = fake_enable(f, 0, BASE_XAPIC);

    (void)state;
    lapic_post(l, 0x61, false);
    lapic_accept(l, 0x61);
    lapic_post(l, 0x61, true);
    lapic_post(l, 0x61, false);
    assert_int_equal(lapic_mmio_read(l, TMR + 0x30), 0);
    assert_int_equal(lapic_pending(l), -1);
    lapic_mmio_write(l, EOI, 0);
    fake_serve(l, 0x61);
    assert_int_equal(lapic_pending(l), -1);
    irqchip_free(f->ic);
}

/* Illegal vectors: sent and received are told apart, latched by a write, raise the error LVT. */
static void test_errors(void **state)
{
    struct fake *f = fake_new(1);
    struct lapic *l = fake_enable(f, 0, BASE_XAPIC);

    (void)state;
    lapic_post(l, 15, false);
    assert_int_equal(lapic_mmio_read(l, ESR), 0);
    lapic_mmio_write(l, ESR, 0);
    assert_int_equal(lapic_mmio_read(l, ESR), 0x40);
    lapic_mmio_write(l, LVT_ERROR_REG, 0xfe);
    lapic_mmio_write(l, ICR, 0x4000f);
    fake_serve(l, 0xfe);
    lapic_mmio_write(l, ESR, 0);
    assert_int_equal(lapic_mmio_read(l, ESR), 0x20);
    lapic_mmio_write(l, ESR, 0);
    assert_int_equal(lapic_mmio_read(l, ESR), 0);
    lapic_mmio_write(l, LVT_ERROR_REG, 3); /* an error vector that is an error itself */
    lapic_mmio_write(l, ICR, 0x40001);
    assert_int_equal(lapic_pending(l), -1);
    lapic_mmio_write(l, ESR, 0);
    assert_int_equal(lapic_mmio_read(l, ESR), 0x60);
    irqchip_free(f->ic);
}

/* ---- several threads post to one APIC ---- */

/* One posting thread's work: its own vectors, each posted again only after it was served. */
struct poster {
    pthread_t thread;         /* itself */
    struct lapic *l;          /* the target */
    _Atomic uint64_t *served; /* per vector: times served; owner writes */
    uint64_t *data;           /* per vector: plain data the handler must see */
    unsigned first;           /* its vectors: first, first + POSTERS ... */
};

static void *post_all(void *arg)
{
    struct poster *p = arg;
    unsigned v = p->first;

    for (uint64_t n = 1; n <= POSTS; n++) {
        uint64_t before = atomic_load(&p->served[v]);

        p->data[v] = before + 1;
        lapic_post(p->l, (uint8_t)v, n & 1);
        while (atomic_load(&p->served[v]) == before)
            sched_yield();
        v = v + POSTERS < 256 ? v + POSTERS : p->first;
    }
    return NULL;
}

/* No vector is lost or doubled, and a handler sees what was written before the post. */
static void test_threads(void **state)
{
    static _Atomic uint64_t served[256];
    static uint64_t data[256];
    struct fake *f = fake_new(1);
    struct lapic *l = fake_enable(f, 0, BASE_X2APIC);
    struct poster p[POSTERS];
    uint64_t left = (uint64_t)POSTERS * POSTS;
    int v;

    (void)state;
    for (unsigned i = 0; i < POSTERS; i++) {
        p[i] = (struct poster){.l = l, .served = served, .data = data, .first = 32 + i};
        assert_int_equal(pthread_create(&p[i].thread, NULL, post_all, &p[i]), 0);
    }
    while (left > 0) {
        v = lapic_pending(l);
        if (v < 0) {
            sched_yield();
            continue;
        }
        lapic_accept(l, (uint8_t)v);
        assert_true(data[v] == atomic_load(&served[v]) + 1);
        assert_true(lapic_msr_write(l, 0x80b, 0));
        atomic_fetch_add(&served[v], 1);
        left--;
    }
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(p[i].thread, NULL);
    assert_int_equal(lapic_pending(l), -1);
    assert_int_equal(atomic_load(&f->kicks[0]), POSTERS * POSTS);
    irqchip_free(f->ic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reset),        cmocka_unit_test(test_mmio_bits),
        cmocka_unit_test(test_mmio_hostile), cmocka_unit_test(test_msr_rules),
        cmocka_unit_test(test_modes),        cmocka_unit_test(test_software_disable),
        cmocka_unit_test(test_priorities),   cmocka_unit_test(test_ppr_apr),
        cmocka_unit_test(test_all_vectors),  cmocka_unit_test(test_repost),
        cmocka_unit_test(test_errors),       cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
