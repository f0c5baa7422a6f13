/* SPDX-License-Identifier: MIT */
/*
 * counters: a load that no placement helps: all CPUs write the same lines, and nobody else reads them.
 *
 * Use:  counters CPUS ROUNDS     one thread on each CPU adds ROUNDS times to one of LINES counters,
 *                                each in a line of its own, in an order that depends on the thread
 *                                alone; prints a number made of all counters
 * Threads: the counters are shared, by atomic additions; all else is each thread's own.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* So many that a CPU seldom meets a line again before others had it. */
enum { LINES = 4096, LINE = 64, CPUS_MAX = 64 };

/* A counter alone in its line. */
struct counter {
    uint64_t n; /* additions */
    char room[LINE - sizeof(uint64_t)];
};

/* What a thread is told. */
struct work {
    struct counter *counters; /* shared */
    pthread_barrier_t *begin; /* all start together */
    unsigned cpu;             /* where it runs */
    unsigned long rounds;     /* additions */
};

/* Stays on a CPU from now on. */
static void stay_on(unsigned cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set)) {
        perror("counters: sched_setaffinity");
        exit(1);
    }
}

static void *add(void *arg)
{
    const struct work *w = arg;
    uint32_t x = w->cpu * 2654435761u + 1;

    stay_on(w->cpu);
    pthread_barrier_wait(w->begin);
    for (unsigned long i = 0; i < w->rounds; i++) {
        x = x * 1664525 + 1013904223;
        __atomic_fetch_add(&w->counters[x >> 20].n, w->cpu + 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned cpus = argc == 3 ? (unsigned)atoi(argv[1]) : 0;
    struct counter *counters = aligned_alloc(LINE, LINES * sizeof(*counters));
    pthread_barrier_t begin;
    pthread_t thread[CPUS_MAX];
    struct work work[CPUS_MAX];
    uint64_t sum = 0;

    _Static_assert(LINES == 1 << (32 - 20), "x >> 20 is a counter");
    if (!counters || !cpus || cpus > CPUS_MAX) {
        fprintf(stderr, "usage: counters CPUS ROUNDS\n");
        return 2;
    }
    for (unsigned i = 0; i < LINES; i++)
        counters[i].n = 0;
    pthread_barrier_init(&begin, NULL, cpus);
    for (unsigned c = 0; c < cpus; c++) {
        work[c] = (struct work){counters, &begin, c, strtoul(argv[2], NULL, 10)};
        if (pthread_create(&thread[c], NULL, add, &work[c]))
            return 1;
    }
    for (unsigned c = 0; c < cpus; c++)
        pthread_join(thread[c], NULL);
    for (unsigned i = 0; i < LINES; i++)
        sum = sum * 31 + counters[i].n;
    printf("%016llx\n", (unsigned long long)sum);
    free(counters);
    return 0;
}
