/* SPDX-License-Identifier: MIT */
/*
 * atwork: for a program that prepares in one thread and then works in many: LD_PRELOAD keeps it on
 * one CPU until its first pthread_create(), where the region of interest begins; then it may run on
 * all.  Without that, the place of the thread that prepares would be luck, and most of the time.
 * Compiled in the guest, with its compiler.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "roi.h"

/* The C library's. */
typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/* Where the program may run: a CPU, or all. */
static void stay_on(int first, int last)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    for (int cpu = first; cpu <= last; cpu++)
        CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static void __attribute__((constructor)) begin(void)
{
    const char *cpu = getenv("AT_WORK_CPU");

    if (cpu)
        stay_on(atoi(cpu), atoi(cpu));
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                   void *arg)
{
    static create_fn next;

    if (!next) {
        next = (create_fn)dlsym(RTLD_NEXT, "pthread_create");
        stay_on(0, CPU_SETSIZE - 1);
        ROI(ROI_ZERO, 0);
        ROI(ROI_EMPTY, 0);
        ROI(ROI_ON, 0);
    }
    return next(thread, attr, run, arg);
}
