/* SPDX-License-Identifier: MIT */
/*
 * The TSC across CPUs and views: CPU 0 and each other one hand a timestamp to and fro, and none is
 * ever smaller than the one before; and its rate against the local APIC's timer, 1 GHz here.
 * Options: rounds=N (handed over so often by each pair).
 */
#include "guest.h"

/* The word two CPUs share: whose turn it is, and the last timestamp. */
static volatile uint32_t turn;
static volatile uint64_t stamp;
static volatile uint32_t backward; /* timestamps that went backwards */
static volatile uint32_t finished; /* games the others played */
static volatile uint64_t worst;    /* by how much */

/* Plays one side: even turns are CPU 0's. */
static void play(uint32_t side, uint32_t rounds)
{
    for (uint32_t i = side; i < rounds; i += 2) {
        uint64_t now;

        while (turn != i)
            relax();
        __asm__ volatile("lfence" ::: "memory");
        now = rdtsc();
        if (now < stamp) {
            backward++;
            if (stamp - now > worst)
                worst = stamp - now;
        }
        stamp = now;
        turn = i + 1;
    }
}

void on_ap(uint32_t id)
{
    (void)id;
    play(1, option_number("rounds", 2000));
    finished++;
}

/* The timer's count and the TSC at the same moment: the tightest of some readings. */
static uint32_t sample(uint64_t *tsc)
{
    uint64_t best = UINT64_MAX;
    uint32_t count = 0;

    for (unsigned i = 0; i < 30; i++) {
        uint64_t before = rdtsc(), after;
        uint32_t now = apic_read(A_CURRENT);

        after = rdtsc();
        if (after - before >= best)
            continue;
        best = after - before;
        *tsc = before + best / 2;
        count = now;
    }
    return count;
}

/* TSC ticks in 50 ms or more of the timer, compared with what the host says; within 2 %. */
static void rate(void)
{
    uint32_t first, last, said = option_number("tsc_early_khz", 0), got;
    uint64_t start, end;

    apic_write(A_DIVIDE, 0xb);
    apic_write(A_INITIAL, 4000000000u);
    first = sample(&start);
    while (first - apic_read(A_CURRENT) < 50000000)
        relax();
    last = sample(&end);
    got = div64((end - start) * 1000, (first - last) / 1000);
    apic_write(A_INITIAL, 0);
    say("TSC %u kHz by the timer, %u kHz said\n", got, said);
    if (!said)
        return;
    CHECK(got > said - said / 50);
    CHECK(got < said + said / 50);
}

void guest_test(const struct start *s)
{
    uint32_t n = cpu_count(), rounds = option_number("rounds", 2000);

    (void)s;
    interrupts_init();
    apic_enable();
    rate();
    for (uint32_t i = 1; i < n; i++) {
        turn = 0;
        cpu_start(i);
        play(0, rounds);
        CHECK(wait_for(&finished, i, 5000));
        say("0 and %u: backwards %u times, worst %X\n", i, backward, worst);
        CHECK_EQ(backward, 0);
    }
}
