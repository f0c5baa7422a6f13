/* SPDX-License-Identifier: MIT */
/*
 * What a test may leave behind: numbers to take before and after, and to hold against one another.
 * Threads: any; others that open or map meanwhile are counted, too.
 */
#ifndef DISCO_TESTS_LEAKS_H
#define DISCO_TESTS_LEAKS_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

/* Entries of a directory, which must be there. */
static inline int dir_entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;

    if (!d)
        abort();
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* This process's open descriptors, and always the same few more. */
static inline int open_fds(void)
{
    return dir_entries("/proc/self/fd");
}

/* This process's threads, and always the same few more. */
static inline int open_tasks(void)
{
    return dir_entries("/proc/self/task");
}

/* This process's mappings. */
static inline int open_maps(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    int n = 0, c;

    if (!f)
        abort();
    while ((c = fgetc(f)) != EOF)
        n += c == '\n';
    fclose(f);
    return n;
}

#endif
