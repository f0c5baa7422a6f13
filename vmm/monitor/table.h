/* SPDX-License-Identifier: MIT */
/*
 * Plain-text tables, and numbers the way people read them.
 * Cells may hold text from guests: control characters never reach the terminal.
 * Threads: a table belongs to one thread.
 */
#ifndef DISCO_VMM_MONITOR_TABLE_H
#define DISCO_VMM_MONITOR_TABLE_H

#include <stdint.h>
#include <stdio.h>

enum { TABLE_MAX_COLS = 12, TABLE_CELL = 96 };

/* A table in the making. */
struct table {
    const char *const *heads;  /* ncols headings; one that begins with '>' is aligned right */
    unsigned ncols;            /* at most TABLE_MAX_COLS */
    unsigned n, cap;           /* cells filled and allocated */
    char (*cells)[TABLE_CELL]; /* row by row */
};

/* Begins a table; heads must outlive it. */
void table_init(struct table *t, const char *const *heads, unsigned ncols);

/* Adds the next cell; text too long is cut. */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prints headings and rows in columns as wide as needed, and frees the table. */
void table_print(struct table *t, FILE *f);

/* Bytes as "512M", "1.5G"; returns buf. */
char *human_size(char buf[16], uint64_t bytes);

/* A count as "950", "12k", "3.4M"; returns buf. */
char *human_count(char buf[16], uint64_t n);

/* Milliseconds as "12 ms", "3.4 s", "2 min 5 s", "3 h 10 min"; returns buf. */
char *human_time(char buf[24], uint64_t ms);

#endif
