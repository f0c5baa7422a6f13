/* SPDX-License-Identifier: MIT */
/*
 * alternate: a load for which any placement that stays is wrong: sets of pages, each used by one
 * node for a while, then by the next.
 *
 * Use:  alternate CPUS PAIR PHASES PASSES   CPUS threads, one on each CPU; PAIR neighbouring ones
 *                                           share a set of SET_PAGES pages, as large as two caches.
 *                                           PHASES times all sets go to the next PAIR; each time
 *                                           every thread passes over its part PASSES times.
 *                                           Prints a number made of all sets.
 * Invariant: between two barriers a line belongs to one thread, so the number is always the same.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { SET_PAGES = 1024, PAGE = 4096, LINE = 64, CPUS_MAX = 64 };
enum { SET_LINES = SET_PAGES * PAGE / LINE };

/* Lines are read, one in four is written. */
struct line {
    uint64_t n; /* changes with every write */
    char room[LINE - sizeof(uint64_t)];
};

/* What a thread is told. */
struct work {
    struct line *sets;        /* all sets, one after the other */
    pthread_barrier_t *phase; /* all go on together */
    unsigned cpu;             /* where it runs */
    unsigned cpus, pair;      /* as on the command line */
    unsigned phases, passes;
};

/* Stays on a CPU from now on. */
static void stay_on(unsigned cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set)) {
        perror("alternate: sched_setaffinity");
        exit(1);
    }
}

/* One pass over n lines, in an order in which no two neighbours follow one another. */
static uint64_t pass(struct line *line, unsigned n, uint64_t sum)
{
    unsigned at = 0;

    for (unsigned i = 0; i < n; i++) {
        at = (at + 5 * 64 + 1) % n;
        sum += line[at].n;
        if (i % 4 == 0)
            line[at].n = sum;
    }
    return sum;
}

static void *use(void *arg)
{
    const struct work *w = arg;
    unsigned sets = w->cpus / w->pair, part = SET_LINES / w->pair;
    uint64_t sum = w->cpu;

    stay_on(w->cpu);
    for (unsigned p = 0; p < w->phases; p++) {
        unsigned set = (w->cpu / w->pair + p) % sets;
        struct line *mine = w->sets + (size_t)set * SET_LINES + w->cpu % w->pair * part;

        for (unsigned i = 0; i < w->passes; i++)
            sum = pass(mine, part, sum);
        pthread_barrier_wait(w->phase);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct work w = {.cpus = 0}, work[CPUS_MAX];
    pthread_barrier_t phase;
    pthread_t thread[CPUS_MAX];
    uint64_t sum = 0;
    size_t lines;

    if (argc == 5)
        w = (struct work){.cpus = (unsigned)atoi(argv[1]),
                          .pair = (unsigned)atoi(argv[2]),
                          .phases = (unsigned)atoi(argv[3]),
                          .passes = (unsigned)atoi(argv[4])};
    if (!w.cpus || !w.pair || w.cpus > CPUS_MAX || w.cpus % w.pair) {
        fprintf(stderr, "usage: alternate CPUS PAIR PHASES PASSES\n");
        return 2;
    }
    lines = (size_t)w.cpus / w.pair * SET_LINES;
    w.sets = aligned_alloc(PAGE, lines * sizeof(*w.sets));
    if (!w.sets)
        return 1;
    w.phase = &phase;
    pthread_barrier_init(&phase, NULL, w.cpus);
    for (unsigned c = 0; c < w.cpus; c++) {
        work[c] = w;
        work[c].cpu = c;
        if (pthread_create(&thread[c], NULL, use, &work[c]))
            return 1;
    }
    for (unsigned c = 0; c < w.cpus; c++)
        pthread_join(thread[c], NULL);
    for (size_t i = 0; i < lines; i++)
        sum = sum * 31 + w.sets[i].n;
    printf("%016llx\n", (unsigned long long)sum);
    free(w.sets);
    return 0;
}
