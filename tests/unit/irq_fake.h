/* SPDX-License-Identifier: MIT */
/*
 * A machine around the interrupt controllers for unit tests: a clock that moves when told, a TSC
 * of 2 GHz, and counters of everything the controllers ask of their host.
 *
 * Threads: kicks are counted atomically; the rest is for single-threaded tests.
 */
#ifndef DISCO_TESTS_UNIT_IRQ_FAKE_H
#define DISCO_TESTS_UNIT_IRQ_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/machine/irq.h"

enum { FAKE_VCPUS = 4096 };

/* Register offsets of the xAPIC page; divided by 16 and plus 0x800 they are MSRs. */
enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = 0x80,
    APR = 0x90,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    LVT_TIMER_REG = 0x320,
    LVT_LINT0_REG = 0x350,
    LVT_ERROR_REG = 0x370,
    TIMER_INITIAL = 0x380,
    TIMER_CURRENT = 0x390,
    TIMER_DIVIDE = 0x3e0,
    SELF_IPI = 0x3f0,
    TSC_DEADLINE = 0x6e0,
};

/* IA32_APIC_BASE values. */
enum { BASE_OFF = 0, BASE_XAPIC = 0x800, BASE_X2APIC = 0xc00 };

/* What happened to the machine. */
struct fake {
    struct irqchip *ic;            /* the controllers under test */
    atomic_uint kicks[FAKE_VCPUS]; /* per vCPU */
    unsigned nmis[FAKE_VCPUS];     /* per vCPU */
    unsigned inits[FAKE_VCPUS];    /* per vCPU */
    unsigned sipis[FAKE_VCPUS];    /* per vCPU */
    unsigned total;                /* all NMIs, INITs and startup IPIs */
    uint8_t sipi_vector;           /* of the last startup IPI */
    atomic_uint ipis;              /* counted IPIs */
    _Atomic uint32_t ipi_src;      /* sender of the last counted IPI */
    uint64_t now;                  /* the clock, ns */
    uint64_t paused;               /* ns for which the TSC stood still */
};

static void fake_kick(void *ctx, unsigned vcpu)
{
    struct fake *f = ctx;

    atomic_fetch_add(&f->kicks[vcpu], 1);
}

static void fake_nmi(void *ctx, unsigned vcpu)
{
    struct fake *f = ctx;

    f->nmis[vcpu]++;
    f->total++;
}

static void fake_init(void *ctx, unsigned vcpu)
{
    struct fake *f = ctx;

    f->inits[vcpu]++;
    f->total++;
}

static void fake_sipi(void *ctx, unsigned vcpu, uint8_t vector)
{
    struct fake *f = ctx;

    f->sipis[vcpu]++;
    f->total++;
    f->sipi_vector = vector;
}

static uint64_t fake_now(void *ctx)
{
    struct fake *f = ctx;

    return f->now;
}

static uint64_t fake_tsc_to_ns(void *ctx, uint64_t tsc)
{
    struct fake *f = ctx;

    return tsc / 2 + f->paused;
}

static void fake_count(void *ctx, uint32_t src, unsigned dst)
{
    struct fake *f = ctx;

    (void)dst;
    atomic_fetch_add(&f->ipis, 1);
    atomic_store(&f->ipi_src, src);
}

/* A fresh machine of n vCPUs; one at a time. */
static struct fake *fake_new(unsigned n)
{
    static struct fake f;
    struct irq_host host = {.kick = fake_kick,
                            .nmi = fake_nmi,
                            .init = fake_init,
                            .sipi = fake_sipi,
                            .now_ns = fake_now,
                            .tsc_to_ns = fake_tsc_to_ns,
                            .count_ipi = fake_count,
                            .ctx = &f};

    memset((void *)&f, 0, sizeof(f));
    f.now = 1000000;
    assert_int_equal(irqchip_new(&f.ic, n, &host, NULL), 0);
    return &f;
}

/* Enables a local APIC by software, in xAPIC or x2APIC mode. */
__attribute__((unused)) static struct lapic *fake_enable(struct fake *f, unsigned vcpu,
                                                         uint64_t base)
{
    struct lapic *l = irq_lapic(f->ic, vcpu);

    lapic_set_base(l, base);
    if (base == BASE_X2APIC)
        assert_true(lapic_msr_write(l, 0x80f, 0x1ff));
    else
        lapic_mmio_write(l, SVR, 0x1ff);
    return l;
}

/* True if a vector is requested. */
__attribute__((unused)) static bool fake_has(struct fake *f, unsigned vcpu, uint8_t vector)
{
    struct lapic *l = irq_lapic(f->ic, vcpu);
    uint32_t off = IRR + vector / 32 * 16u;
    uint64_t x2 = 0;
    uint32_t val =
        lapic_msr_read(l, 0x800 + off / 16, &x2) ? (uint32_t)x2 : lapic_mmio_read(l, off);

    return val >> vector % 32 & 1;
}

/* The one vCPU of the first n that has the vector requested; -1 none, -2 several. */
__attribute__((unused)) static int fake_who(struct fake *f, unsigned n, uint8_t vector)
{
    int who = -1;

    for (unsigned i = 0; i < n; i++) {
        if (fake_has(f, i, vector))
            who = who == -1 ? (int)i : -2;
    }
    return who;
}

/* Accepts and ends the pending vector, which must be the one given. */
__attribute__((unused)) static void fake_serve(struct lapic *l, int vector)
{
    assert_int_equal(lapic_pending(l), vector);
    lapic_accept(l, (uint8_t)vector);
    if (!lapic_msr_write(l, 0x80b, 0))
        lapic_mmio_write(l, EOI, 0);
}

#endif
