/* SPDX-License-Identifier: MIT */
/*
 * atwork: for a program that prepares in one thread and then works in many: LD_PRELOAD keeps it on
 * one CPU until its first pthread_create(), where the work begins; then it may run on all.  Without
 * that, the place of the thread that prepares would be luck, and most of the time.
 * The region of interest begins with the work or, with AT_WORK_WARM=N, when the Nth file is opened
 * for writing after that.  Before it, "NUMA-READY" on the console, and two seconds, as in numa.sh.
 * Compiled in the guest, with its compiler.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "roi.h"

/* The C library's. */
typedef int (*create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
typedef FILE *(*open_fn)(const char *, const char *);

/* Files until the region begins; 0: it has begun, or there is no such. */
static int warm;

/* Where the program may run: a CPU, or all. */
static void stay_on(int first, int last)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    for (int cpu = first; cpu <= last; cpu++)
        CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

/* A whole number of the environment; 0 without it. */
static int number(const char *name)
{
    const char *s = getenv(name);

    return s ? atoi(s) : 0;
}

static void __attribute__((constructor)) begin(void)
{
    int cpu = number("AT_WORK_CPU");

    if (getenv("AT_WORK_CPU"))
        stay_on(cpu, cpu);
}

/* Says that the region is next, and gives time to look at the guest. */
static void ready(void)
{
    open_fn next = (open_fn)dlsym(RTLD_NEXT, "fopen");
    FILE *f;

    ROI(ROI_OFF, 0);
    f = next("/dev/console", "w");
    if (f) {
        fprintf(f, "NUMA-READY\n");
        fclose(f);
    }
    sleep(2);
    ROI(ROI_ZERO, 0);
    ROI(ROI_ON, 0);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                   void *arg)
{
    static create_fn next;

    if (!next) {
        next = (create_fn)dlsym(RTLD_NEXT, "pthread_create");
        stay_on(0, CPU_SETSIZE - 1);
        warm = number("AT_WORK_WARM");
        ROI(ROI_EMPTY, 0);
        if (warm)
            ROI(ROI_ON, 0);
        else
            ready();
    }
    return next(thread, attr, run, arg);
}

FILE *fopen(const char *path, const char *mode)
{
    open_fn next = (open_fn)dlsym(RTLD_NEXT, "fopen");

    if (mode[0] == 'w' && warm && !--warm)
        ready();
    return next(path, mode);
}
