/* SPDX-License-Identifier: MIT */
/*
 * clockcheck.c: for the small guest: does time ever go backwards or jump, seen from all CPUs at
 * once?
 *
 * Interface: clockcheck SECONDS [JUMP_MS]; one line "CLOCK cpus N reads N backwards N worst_ns N
 * gap_ms N span_ms N"; the status is 1 if a clock went backwards (CLOCK_MONOTONIC, or the time
 * stamp counter of another CPU), or if two reads of one thread that should follow closely were
 * further apart than JUMP_MS (default 5000: other vCPUs may run).
 * Invariants: a reader compares with the largest value that any CPU has published before it read
 * its own clock.
 * Threads: one pinned to each CPU; they share only `shared`.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define CPUS_MAX 512

/* What all readers share. */
static struct shared {
    _Atomic uint64_t ns;        /* largest CLOCK_MONOTONIC seen, ns */
    _Atomic uint64_t tsc;       /* largest time stamp counter seen */
    _Atomic uint64_t reads;     /* of all CPUs */
    _Atomic uint64_t backwards; /* how often a clock was behind */
    _Atomic uint64_t worst;     /* by how much at most, ns */
    _Atomic uint64_t gap;       /* longest time between two reads of one CPU, ns */
    uint64_t end;               /* when to stop, CLOCK_MONOTONIC ns */
} shared;

/* The clock that programs use, in ns. */
static uint64_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Raises *max to at least value. */
static void raise_to(_Atomic uint64_t *max, uint64_t value)
{
    uint64_t old = atomic_load(max);

    while (old < value && !atomic_compare_exchange_weak(max, &old, value))
        ;
}

/* One CPU: reads both clocks until the end. */
static void *reader(void *arg)
{
    cpu_set_t set;
    uint64_t last = now(), reads = 0;

    CPU_ZERO(&set);
    CPU_SET((size_t)(uintptr_t)arg, &set);
    sched_setaffinity(0, sizeof(set), &set);
    while (last < shared.end) {
        uint64_t seen = atomic_load(&shared.ns), seen_tsc = atomic_load(&shared.tsc), tsc, t;

        _mm_lfence();
        tsc = __rdtsc();
        _mm_lfence();
        t = now();
        if (t < seen) {
            atomic_fetch_add(&shared.backwards, 1);
            raise_to(&shared.worst, seen - t);
        }
        if (tsc < seen_tsc)
            atomic_fetch_add(&shared.backwards, 1);
        if (t > last)
            raise_to(&shared.gap, t - last);
        raise_to(&shared.ns, t);
        raise_to(&shared.tsc, tsc);
        last = t;
        if (++reads % 64 == 0)
            sched_yield();
    }
    atomic_fetch_add(&shared.reads, reads);
    return NULL;
}

int main(int argc, char **argv)
{
    static pthread_t threads[CPUS_MAX];
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 10;
    uint64_t jump_ms = argc > 2 ? strtoull(argv[2], NULL, 10) : 5000;
    uint64_t begin = now();

    if (cpus > CPUS_MAX)
        cpus = CPUS_MAX;
    shared.end = begin + seconds * 1000000000u;
    for (long i = 0; i < cpus; i++)
        if (pthread_create(&threads[i], NULL, reader, (void *)(uintptr_t)i))
            return 2;
    for (long i = 0; i < cpus; i++)
        pthread_join(threads[i], NULL);
    printf("CLOCK cpus %ld reads %lu backwards %lu worst_ns %lu gap_ms %lu span_ms %lu\n", cpus,
           (unsigned long)shared.reads, (unsigned long)shared.backwards,
           (unsigned long)shared.worst, (unsigned long)(shared.gap / 1000000),
           (unsigned long)((now() - begin) / 1000000));
    return shared.backwards || shared.gap > jump_ms * 1000000u;
}
