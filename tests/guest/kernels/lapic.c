/* SPDX-License-Identifier: MIT */
/*
 * The local APIC as a guest sees it: reset values, self IPIs, priorities, TPR, EOI, errors, the
 * timer in its three modes, HLT, logical destinations, NMI; then the same through x2APIC MSRs
 * with the faults that interface has.
 * Options: iret=no leaves out the NMI, which needs IRET to be unblocked.
 */
#include "guest.h"

enum { SELF = ICR_SELF | ICR_ASSERT, MS = 1000000 };

/* Registers as after power-up. */
static void reset_values(void)
{
    uint32_t version = apic_read(A_VERSION);

    CHECK_EQ(apic_read(A_ID), 0);
    CHECK((version & 0xff) >= 0x10 && (version & 0xff) < 0x20);
    CHECK_EQ(version >> 16 & 0xff, 5);
    CHECK_EQ(apic_read(A_SVR), 0xff);
    CHECK_EQ(apic_read(A_TPR), 0);
    CHECK_EQ(apic_read(A_DFR), 0xffffffff);
    CHECK_EQ(apic_read(A_LDR), 0);
    for (unsigned r = 0x32; r <= 0x37; r++)
        CHECK_EQ(apic_read(r), MASKED);
    CHECK_EQ(apic_read(A_CURRENT), 0);
}

/* While disabled by software nothing is accepted and LVT entries stay masked. */
static void software_disabled(void)
{
    apic_send(0, SELF | 0x40);
    window();
    CHECK_EQ(irq_count[0x40], 0);
    apic_write(A_TIMER, 0x40);
    CHECK_EQ(apic_read(A_TIMER), MASKED | 0x40);
    apic_enable();
    CHECK_EQ(apic_read(A_SVR), 0x1ff);
}

static void self_ipi(void)
{
    irq_clear();
    cli();
    apic_send(0, SELF | 0x40);
    CHECK(apic_bit(A_IRR, 0x40));
    CHECK_EQ(irq_count[0x40], 0);
    window();
    CHECK_EQ(irq_count[0x40], 1);
    CHECK(!apic_bit(A_IRR, 0x40) && !apic_bit(A_ISR, 0x40));
    apic_send(0, ICR_ASSERT | 0x41); /* by physical id */
    apic_send(0, ICR_ALL | ICR_ASSERT | 0x42);
    apic_send(0, ICR_OTHERS | ICR_ASSERT | 0x43);
    apic_send(7, ICR_ASSERT | 0x44); /* nobody */
    window();
    CHECK_EQ(irq_count[0x41], 1);
    CHECK_EQ(irq_count[0x42], 1);
    CHECK_EQ(irq_count[0x43] + irq_count[0x44], 0);
}

/* The same vector sent twice while it waits comes once. */
static void coalesced(void)
{
    irq_clear();
    for (unsigned i = 0; i < 5; i++)
        apic_send(0, SELF | 0x45);
    window();
    CHECK_EQ(irq_count[0x45], 1);
}

static void task_priority(void)
{
    irq_clear();
    apic_write(A_TPR, 0x50);
    CHECK_EQ(apic_read(A_PPR), 0x50);
    apic_send(0, SELF | 0x5f);
    apic_send(0, SELF | 0x60);
    window();
    CHECK_EQ(irq_count[0x5f], 0);
    CHECK_EQ(irq_count[0x60], 1);
    CHECK(apic_bit(A_IRR, 0x5f));
    apic_write(A_TPR, 0x4f);
    window();
    CHECK_EQ(irq_count[0x5f], 1);
    apic_write(A_TPR, 0);
}

/* Highest first; what is in service holds back its class and below until its EOI. */
static void priorities(void)
{
    irq_clear();
    apic_send(0, SELF | 0x41);
    apic_send(0, SELF | 0x71);
    apic_send(0, SELF | 0x51);
    window();
    CHECK_EQ(irq_logged, 3);
    CHECK_EQ(irq_log[0], 0x71);
    CHECK_EQ(irq_log[1], 0x51);
    CHECK_EQ(irq_log[2], 0x41);

    irq_clear();
    irq_no_eoi[0x51] = true;
    apic_send(0, SELF | 0x51);
    window();
    CHECK_EQ(irq_count[0x51], 1);
    CHECK(apic_bit(A_ISR, 0x51));
    CHECK_EQ(apic_read(A_PPR), 0x50);
    apic_send(0, SELF | 0x58); /* same class */
    apic_send(0, SELF | 0x41); /* below */
    apic_send(0, SELF | 0x61); /* above */
    window();
    CHECK_EQ(irq_count[0x61], 1);
    CHECK_EQ(irq_count[0x58] + irq_count[0x41], 0);
    apic_write(A_EOI, 0);
    window();
    CHECK_EQ(irq_count[0x58], 1);
    CHECK_EQ(irq_count[0x41], 1);
    CHECK_EQ(irq_log[2], 0x58);
    CHECK_EQ(apic_read(A_PPR), 0);
    irq_no_eoi[0x51] = false;
}

/* Vectors below 16 are an error that the ESR tells after it was written. */
static void errors(void)
{
    apic_write(A_ESR, 0);
    apic_write(A_ESR, 0);
    CHECK_EQ(apic_read(A_ESR), 0);
    apic_send(0, SELF | 5);
    apic_write(A_ESR, 0);
    CHECK(apic_read(A_ESR) & 1 << 5);
    apic_write(A_ESR, 0);
    CHECK_EQ(apic_read(A_ESR), 0);
}

static void logical(void)
{
    irq_clear();
    apic_write(A_LDR, 0x04000000);
    CHECK_EQ(apic_read(A_LDR), 0x04000000);
    apic_send(0x04, ICR_LOGICAL | ICR_ASSERT | 0x46);
    apic_send(0xfb, ICR_LOGICAL | ICR_ASSERT | 0x47);
    window();
    CHECK_EQ(irq_count[0x46], 1);
    CHECK_EQ(irq_count[0x47], 0);
    apic_write(A_DFR, 0x0fffffff); /* clusters: 0, member 4 */
    apic_send(0x04, ICR_LOGICAL | ICR_ASSERT | 0x46);
    apic_send(0x14, ICR_LOGICAL | ICR_ASSERT | 0x47);
    window();
    CHECK_EQ(irq_count[0x46], 2);
    CHECK_EQ(irq_count[0x47], 0);
    apic_write(A_DFR, 0xffffffff);
}

/* Sleeps in HLT until the vector came n times; bounded by the runner's time limit. */
static void halt_until(uint8_t vector, uint32_t n)
{
    while (irq_count[vector] < n)
        sti_hlt_cli();
}

/* One-shot, periodic, masked; HLT ends with the interrupt, not before. */
static void timer_counts(void)
{
    uint64_t start;
    uint32_t a, b;

    irq_clear();
    apic_write(A_DIVIDE, 0xb);
    apic_write(A_TIMER, 0x48);
    start = rdtsc();
    apic_write(A_INITIAL, 20 * MS);
    a = apic_read(A_CURRENT);
    b = apic_read(A_CURRENT);
    CHECK(a <= 20 * MS && b < a && b > 0);
    halt_until(0x48, 1);
    CHECK(elapsed_us(start) >= 20000);
    CHECK(elapsed_us(start) < 2000000);
    CHECK_EQ(apic_read(A_CURRENT), 0);
    delay_us(30000);
    window();
    CHECK_EQ(irq_count[0x48], 1);

    apic_write(A_DIVIDE, 0); /* by two: 5 ms */
    apic_write(A_TIMER, TIMER_PERIODIC | 0x49);
    start = rdtsc();
    apic_write(A_INITIAL, 5 * MS / 2);
    halt_until(0x49, 4);
    CHECK(elapsed_us(start) >= 20000);
    apic_write(A_INITIAL, 0);
    window();
    a = irq_count[0x49];
    delay_us(20000);
    window();
    CHECK_EQ(irq_count[0x49], a);

    apic_write(A_TIMER, MASKED | 0x4a);
    apic_write(A_INITIAL, MS);
    delay_us(5000);
    window();
    CHECK_EQ(irq_count[0x4a], 0);
}

static void timer_deadline(void)
{
    uint64_t at, v = 1;

    irq_clear();
    apic_write(A_TIMER, TIMER_TSC | 0x4b);
    for (unsigned i = 1; i <= 3; i++) {
        at = rdtsc() + 5ull * tsc_khz;
        CHECK(wrmsr(MSR_TSC_DEADLINE, at));
        CHECK(rdmsr(MSR_TSC_DEADLINE, &v));
        CHECK(v == at || v == 0);
        halt_until(0x4b, i);
        CHECK(rdtsc() >= at);
        CHECK(rdmsr(MSR_TSC_DEADLINE, &v));
        CHECK(v == 0);
    }
    CHECK(wrmsr(MSR_TSC_DEADLINE, rdtsc() - 1)); /* the past: at once */
    window();
    CHECK_EQ(irq_count[0x4b], 4);
    CHECK(wrmsr(MSR_TSC_DEADLINE, rdtsc() + 5ull * tsc_khz));
    CHECK(wrmsr(MSR_TSC_DEADLINE, 0)); /* disarmed */
    delay_us(15000);
    window();
    CHECK_EQ(irq_count[0x4b], 4);
    apic_write(A_TIMER, MASKED);
}

/* Comes with interrupts off, ends HLT, does not touch the local APIC's priorities. */
static void nmi(void)
{
    if (no_iret)
        return;
    irq_clear();
    cli();
    apic_write(A_TPR, 0xff);
    for (unsigned i = 1; i <= 3; i++) {
        apic_send(0, ICR_NMI | ICR_ASSERT);
        for (uint64_t start = rdtsc(); irq_count[2] < i && elapsed_us(start) < 1000000;)
            relax();
        CHECK_EQ(irq_count[2], i);
    }
    apic_write(A_TPR, 0);
}

static void x2apic_msrs(void)
{
    uint64_t v = 1;

    CHECK(!rdmsr(0x802, &v)); /* not yet */
    CHECK(apic_x2());
    CHECK_EQ(apic_read(A_ID), 0);
    CHECK_EQ(mem32(0xfee00030), 0xffffffff);
    CHECK_EQ(apic_read(A_SVR), 0x1ff);
    CHECK_EQ(apic_read(A_LDR), 1);
    CHECK(!rdmsr(0x80b, &v));  /* EOI cannot be read */
    CHECK(!wrmsr(0x80b, 1));   /* and takes 0 only */
    CHECK(!wrmsr(0x802, 0));   /* ID is read-only */
    CHECK(!rdmsr(0x80e, &v));  /* no DFR */
    CHECK(!rdmsr(0x831, &v));  /* no upper ICR */
    CHECK(!wrmsr(0x808, 256)); /* reserved bits */
    CHECK(!rdmsr(0x83f, &v));  /* self IPI is write-only */
    CHECK(!rdmsr(0x840, &v));
    CHECK(!rdmsr(0x8ff, &v));
    irq_clear();
    CHECK(wrmsr(0x83f, 0x4c));
    window();
    CHECK_EQ(irq_count[0x4c], 1);
    apic_send(1, ICR_LOGICAL | ICR_ASSERT | 0x4d);
    apic_send(0xffffffff, ICR_ASSERT | 0x4e);
    apic_send(0x10001, ICR_LOGICAL | ICR_ASSERT | 0x4f); /* cluster 1 */
    window();
    CHECK_EQ(irq_count[0x4d], 1);
    CHECK_EQ(irq_count[0x4e], 1);
    CHECK_EQ(irq_count[0x4f], 0);
}

void guest_test(const struct start *s)
{
    (void)s;
    interrupts_init();
    reset_values();
    software_disabled();
    for (int x2 = 0; x2 < 2; x2++) {
        say(x2 ? "x2APIC\n" : "xAPIC\n");
        self_ipi();
        coalesced();
        task_priority();
        priorities();
        errors();
        if (!x2)
            logical();
        timer_counts();
        timer_deadline();
        nmi();
        if (!x2)
            x2apic_msrs();
    }
    CHECK_EQ(irq_count[0xff], 0); /* nothing spurious came */
}
