/* SPDX-License-Identifier: MIT */
/*
 * Several CPUs in one or several views: start by INIT and startup IPIs, a counter that all add to
 * exactly, IPIs from the first CPU to each other and broadcast, NMI to another CPU, INIT of a
 * running CPU and its second start.
 * Options: incs=N (additions of each CPU), apic=x2.
 */
#include "guest.h"

enum { PING = 0x60, STEP_RUN = 1, STEP_COUNT, STEP_IPI, STEP_BEAT };

static volatile uint32_t step;          /* what the others do now */
static volatile uint32_t counter, done; /* shared sum; CPUs that finished a step */
static volatile uint32_t starts[16];    /* times each CPU came to on_ap() */
static volatile uint32_t wrong_id;      /* a CPU that does not know who it is */
static volatile uint32_t pings[16];     /* IPIs each CPU got */
static volatile uint32_t beat[16];      /* counts while a CPU runs */
static volatile uint32_t nmis[16];      /* NMIs each CPU got */
static uint32_t n;                      /* CPUs */
static uint32_t incs;                   /* additions of each */

static void add(volatile uint32_t *p)
{
    __asm__ volatile("lock incl %0" : "+m"(*p)::"memory");
}

static uint32_t me(void)
{
    return apic_id();
}

/* Each CPU's way to its local APIC.  INIT keeps x2APIC mode, so a second start finds it. */
static void apic_up(void)
{
    if (option_is("apic", "x2") && !apic_x2())
        wrong_id = UINT32_MAX;
    apic_enable();
}

/* Counts by CPU what the global counters cannot. */
static void on_irq(struct frame *f)
{
    if (f->vector == PING)
        add(&pings[me()]);
    if (f->vector == 2)
        add(&nmis[me()]);
}

static void count(void)
{
    for (uint32_t i = 0; i < incs; i++)
        add(&counter);
    add(&done);
}

void on_ap(uint32_t id)
{
    apic_up();
    if (me() != id)
        wrong_id = id;
    add(&starts[id]);
    add(&cpus_up);
    while (step < STEP_COUNT)
        relax();
    count();
    while (step < STEP_IPI)
        relax();
    while (step < STEP_BEAT)
        window();
    for (;;) {
        beat[id]++;
        window();
    }
}

/* Sends a ping to one CPU and waits until it came. */
static void ping(uint32_t to)
{
    uint32_t want = pings[to] + 1;

    apic_send(to, ICR_ASSERT | PING);
    if (to == 0)
        window();
    CHECK(wait_for(&pings[to], want, 20000));
    CHECK_EQ(pings[to], want);
}

static void all_pings(void)
{
    uint32_t before[16];

    for (uint32_t round = 0; round < 20; round++)
        for (uint32_t to = 0; to < n; to++)
            ping(to);
    for (uint32_t i = 0; i < n; i++)
        before[i] = pings[i];
    apic_send(0, ICR_OTHERS | ICR_ASSERT | PING);
    for (uint32_t i = 1; i < n; i++)
        CHECK(wait_for(&pings[i], before[i] + 1, 20000));
    window();
    CHECK_EQ(pings[0], before[0]);
    for (uint32_t i = 1; i < n; i++) {
        apic_send(i, ICR_NMI | ICR_ASSERT);
        CHECK(wait_for(&nmis[i], 1, 20000));
    }
}

/* INIT stops a running CPU; it stays stopped; a startup IPI brings it back from the start. */
static void again(uint32_t id)
{
    uint32_t b = beat[id];

    CHECK(wait_for(&beat[id], b + 2, 20000));
    apic_send(id, ICR_INIT | ICR_ASSERT);
    delay_us(20000);
    b = beat[id];
    delay_us(50000);
    CHECK_EQ(beat[id], b);
    CHECK_EQ(starts[id], 1);
    apic_send(id, ICR_ASSERT | PING); /* nobody there to take it */
    cpu_start(id);
    CHECK(wait_for(&starts[id], 2, 20000));
    CHECK(wait_for(&beat[id], b + 2, 5000));
    CHECK_EQ(starts[id], 2);
    ping(id);
    apic_send(id, ICR_SIPI | ICR_ASSERT | AP_PAGE >> 12); /* ignored: it runs */
    delay_us(20000);
    CHECK_EQ(starts[id], 2);
}

void guest_test(const struct start *s)
{
    (void)s;
    interrupts_init();
    apic_up();
    irq_hook = on_irq;
    n = cpu_count();
    incs = option_number("incs", 20000);
    CHECK(n >= 2);
    step = STEP_RUN;
    delay_us(5000);
    CHECK_EQ(cpus_up, 0); /* nobody runs unasked */
    for (uint32_t i = 1; i < n; i++) {
        cpu_start(i);
        CHECK(wait_for(&cpus_up, i, 5000));
        CHECK_EQ(starts[i], 1);
    }
    CHECK_EQ(wrong_id, 0);
    say("%u CPUs up\n", n);
    step = STEP_COUNT;
    count();
    CHECK(wait_for(&done, n, 60000));
    CHECK_EQ(counter, n * incs);
    say("counted\n");
    step = STEP_IPI;
    all_pings();
    say("IPIs\n");
    step = STEP_BEAT;
    for (uint32_t i = 1; i < n; i++)
        again(i);
}
