/* SPDX-License-Identifier: MIT */
/*
 * Columns for terminals.  Invariant: what is printed has no control characters but newlines.
 * Threads: a table belongs to one thread.
 */
#include "vmm/monitor/table.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/cell/proto.h"

void table_init(struct table *t, const char *const *heads, unsigned ncols)
{
    INVARIANT(ncols && ncols <= TABLE_MAX_COLS, "a table has 1 to TABLE_MAX_COLS columns");
    *t = (struct table){.heads = heads, .ncols = ncols};
}

void table_cell(struct table *t, const char *fmt, ...)
{
    char raw[TABLE_CELL], *c;
    va_list ap;

    /* rows are not known beforehand: double as they come */
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->cells = realloc(t->cells, t->cap * sizeof(*t->cells));
        INVARIANT(t->cells, "the host has no memory left for a table");
    }
    c = t->cells[t->n++];
    va_start(ap, fmt);
    vsnprintf(raw, sizeof(raw), fmt, ap);
    va_end(ap);
    /* whatever a guest or cell put in, the terminal gets plain text */
    proto_text(c, TABLE_CELL, raw, strlen(raw));
}

/* Columns a text takes on a terminal: continuation bytes of UTF-8 take none. */
static unsigned width(const char *s)
{
    unsigned n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

/* Prints one cell filled up to w columns. */
static void print_cell(FILE *f, const char *s, unsigned w, bool right, bool last)
{
    int fill = (int)w - (int)width(s);

    /* the last column is not filled up: lines have no blanks at their end */
    if (right)
        fprintf(f, "%*s%s", fill > 0 ? fill : 0, "", s);
    else
        fprintf(f, "%s%*s", s, fill > 0 && !last ? fill : 0, "");
    fputs(last ? "\n" : "  ", f);
}

void table_print(struct table *t, FILE *f)
{
    unsigned w[TABLE_MAX_COLS];

    /* each column is as wide as its widest cell */
    for (unsigned c = 0; c < t->ncols; c++) {
        w[c] = width(t->heads[c] + (t->heads[c][0] == '>'));
        for (unsigned i = c; i < t->n; i += t->ncols)
            if (width(t->cells[i]) > w[c])
                w[c] = width(t->cells[i]);
    }
    for (unsigned c = 0; c < t->ncols; c++) {
        bool right = t->heads[c][0] == '>';

        print_cell(f, t->heads[c] + right, w[c], right, c + 1 == t->ncols);
    }
    for (unsigned i = 0; t->ncols && i < t->n; i++) {
        unsigned c = i % t->ncols;

        print_cell(f, t->cells[i], w[c], t->heads[c][0] == '>', c + 1 == t->ncols);
    }
    free(t->cells);
    *t = (struct table){0};
}

/* Scales n by `base` until it is below it, and writes it with at most one digit after the point. */
static char *scale(char buf[16], double n, double base, const char *const *units)
{
    while (n >= base && units[1]) {
        n /= base;
        units++;
    }
    /* "1.5G" but "12G" and "2M": two digits say enough */
    if (n < 10 && n != (double)(uint64_t)n)
        snprintf(buf, 16, "%.1f%s", n, *units);
    else
        snprintf(buf, 16, "%.0f%s", n, *units);
    return buf;
}

char *human_size(char buf[16], uint64_t bytes)
{
    static const char *const units[] = {"", "K", "M", "G", "T", "P", NULL};

    return scale(buf, (double)bytes, 1024, units);
}

char *human_count(char buf[16], uint64_t n)
{
    static const char *const units[] = {"", "k", "M", "G", "T", NULL};

    return scale(buf, (double)n, 1000, units);
}

char *human_time(char buf[24], uint64_t ms)
{
    uint64_t s = ms / 1000;

    if (ms < 1000)
        snprintf(buf, 24, "%u ms", (unsigned)ms);
    else if (s < 60)
        snprintf(buf, 24, "%.1f s", (double)ms / 1000);
    else if (s < 3600)
        snprintf(buf, 24, "%u min %u s", (unsigned)(s / 60), (unsigned)(s % 60));
    else
        snprintf(buf, 24, "%llu h %u min", (unsigned long long)s / 3600,
                 (unsigned)(s % 3600 / 60));
    return buf;
}
