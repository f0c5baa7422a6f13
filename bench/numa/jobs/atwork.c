/* SPDX-License-Identifier: MIT */
/*
 * atwork: for a program that prepares in one thread and then works in many: LD_PRELOAD keeps it on
 * one CPU until its first pthread_create(), where the work begins; then it may run on all.  Without
 * that, the place of the thread that prepares would be luck, and most of the time.
 * The region of interest begins with the work or, with AT_WORK_WARM=N, when the Nth file is opened
 * for writing after that, and ends with N=AT_WORK_END.  Before it "NUMA-READY" on the console, after
 * it "NUMA-DONE", and two seconds each; with each file before that AT_WORK_REST seconds of rest with
 * the model off; all as in numa.sh.
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

/* Files that were opened for writing since the work began, and those of the region's limits. */
static int files, warm, end;

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

/* Says something on the console, and gives time to look at the guest. */
static void say(const char *what)
{
    open_fn next = (open_fn)dlsym(RTLD_NEXT, "fopen");
    FILE *f;

    ROI(ROI_OFF, 0);
    f = next("/dev/console", "w");
    if (f) {
        fprintf(f, "%s\n", what);
        fclose(f);
    }
    sleep(2);
}

/* Rests with the model off, while pages are moved. */
static void rest(void)
{
    ROI(ROI_OFF, 0);
    sleep((unsigned)number("AT_WORK_REST"));
    ROI(ROI_ON, 0);
}

/* Begins the region. */
static void ready(void)
{
    say("NUMA-READY");
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
        end = number("AT_WORK_END");
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

    if (mode[0] != 'w')
        return next(path, mode);
    if (++files <= warm)
        rest();
    if (files == warm)
        ready();
    else if (files == end)
        say("NUMA-DONE");
    return next(path, mode);
}
