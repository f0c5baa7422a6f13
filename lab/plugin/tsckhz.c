/* SPDX-License-Identifier: MIT */
/*
 * tsckhz.c: prints the frequency of this machine's time stamp counter in kHz.
 *
 * The emulator hands its host's counter to the emulated machine, whose kernel would measure it
 * against an emulated timer: wrong by a factor when the development machine is busy, and then all
 * its time is wrong. lab/run.sh tells that kernel the number instead.
 *
 * Interface: tsckhz; takes a tenth of a second. Invariants: a pair of readings counts only if
 * nothing came between.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define SPAN_NS  100000000u /* between the two pairs of readings */
#define ATTEMPTS 1000       /* to take a pair of readings close together */

/* Both clocks read at one time. */
struct pair {
    uint64_t tsc; /* counter, cycles */
    uint64_t ns;  /* CLOCK_MONOTONIC_RAW, ns */
};

/* The pair whose readings were closest together, of many. */
static struct pair read_pair(void)
{
    struct pair best = {0, 0};
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < ATTEMPTS; i++) {
        struct timespec ts;
        uint64_t before = __rdtsc(), after;

        clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
        after = __rdtsc();
        if (after - before < least) {
            least = after - before;
            best.tsc = before + (after - before) / 2;
            best.ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
        }
    }
    return best;
}

int main(void)
{
    struct timespec wait = {0, SPAN_NS};
    struct pair a = read_pair(), b;

    nanosleep(&wait, NULL);
    b = read_pair();
    printf("%lu\n", (unsigned long)((b.tsc - a.tsc) * 1000000u / (b.ns - a.ns)));
    return 0;
}
