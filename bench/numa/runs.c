/* SPDX-License-Identifier: MIT */
/*
 * Reads what `memsys --json show` and the guest's console left; runs.h has the meaning.
 * Threads: one.
 */
#include "bench/numa/runs.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PS 1e-12 /* seconds in one */

enum { PATH_LEN = 4096 };

/* A number of an object; 0 without it. */
static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* An entry of an array of numbers. */
static double entry(const json_t *o, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(o, key), i));
}

/* The text behind a word at the start of a line of a console's output. */
static bool console_word(const char *path, const char *word, char *text, size_t size)
{
    FILE *f = fopen(path, "re");
    bool found = false;
    char line[512];

    while (f && !found && fgets(line, sizeof(line), f)) {
        if (strncmp(line, word, strlen(word)) != 0)
            continue;
        line[strcspn(line, "\r\n")] = 0;
        snprintf(text, size, "%.*s", (int)size - 1, line + strlen(word));
        found = true;
    }
    if (f)
        fclose(f);
    return found;
}

/* Adds what one CPU did for one guest in one mode. */
static void add_count(struct run *r, const json_t *c)
{
    static const char *const misses[] = {"read_miss", "write_miss", "fetch_miss", "upgrade"};
    struct run_time *t = &r->cpu[(unsigned)number(c, "cpu") % RUN_CPUS];
    const char *mode = json_string_value(json_object_get(c, "mode"));
    bool user = mode && !strcmp(mode, "user"), host = number(c, "tag") == 0;
    enum run_part part = host ? RUN_HOST : user ? RUN_USER : RUN_KERNEL;
    double insns = number(c, "insns");

    t->part[part] += insns * r->insn_ns * 1e-9;
    t->insns += insns;
    t->user += part == RUN_USER ? insns : 0;
    t->bound += number(c, "bound_ps") * PS;
    for (unsigned n = 0; n < r->nnodes; n++) {
        double stall = entry(c, "stall_ps", n) * PS;

        t->stall[n] += stall;
        t->part[n == t->node ? RUN_LOCAL : RUN_REMOTE] += stall;
        for (unsigned k = 0; k < sizeof(misses) / sizeof(misses[0]); k++) {
            t->miss[n] += entry(c, misses[k], n);
            t->local += n == t->node ? entry(c, misses[k], n) : 0;
        }
    }
}

/* Adds one CPU to all. */
static void add_time(struct run_time *all, const struct run_time *t)
{
    for (unsigned i = 0; i < RUN_PARTS; i++)
        all->part[i] += t->part[i];
    for (unsigned i = 0; i < RUN_NODES; i++) {
        all->miss[i] += t->miss[i];
        all->stall[i] += t->stall[i];
    }
    all->local += t->local;
    all->bound += t->bound;
    all->insns += t->insns;
    all->user += t->user;
}

/* Fills a run from the model's report; false when it makes no sense. */
static bool fill(struct run *r, const json_t *j)
{
    json_t *counts = json_object_get(j, "counts");

    r->ncpus = (unsigned)number(j, "cpus");
    r->nnodes = (unsigned)number(j, "nodes");
    r->insn_ns = number(j, "insn_ps") / 1000;
    if (!r->ncpus || r->ncpus > RUN_CPUS || !r->nnodes || r->nnodes > RUN_NODES ||
        !json_array_size(counts))
        return false;
    for (unsigned n = 0; n < r->nnodes; n++)
        r->latency[n] = json_number_value(json_array_get(
                            json_array_get(json_object_get(j, "latency_ps"), 0), n)) /
                        1000;
    for (unsigned c = 0; c < r->ncpus; c++)
        r->cpu[c].node = (unsigned)entry(j, "node_of_cpu", c) % RUN_NODES;
    for (size_t i = 0; i < json_array_size(counts); i++)
        add_count(r, json_array_get(counts, i));
    for (unsigned c = 0; c < r->ncpus; c++)
        add_time(&r->all, &r->cpu[c]);
    return r->all.user > 0;
}

struct run *run_read(const char *raw, const char *workload, const char *placement, unsigned rep)
{
    struct run *r = calloc(1, sizeof(*r));
    char path[PATH_LEN], sectors[RUN_SUM];
    json_t *j;
    bool ok;

    if (!r)
        return NULL;
    snprintf(path, sizeof(path), "%s/%s.%s.%u.json", raw, workload, placement, rep);
    j = json_load_file(path, 0, NULL);
    ok = j && fill(r, j);
    json_decref(j);
    snprintf(path, sizeof(path), "%s/%s.%s.%u.con", raw, workload, placement, rep);
    r->sectors =
        console_word(path, "NUMA-DISK ", sectors, sizeof(sectors)) ? atof(sectors) : -1;
    if (ok && console_word(path, "NUMA-SUM ", r->sum, sizeof(r->sum)))
        return r;
    free(r);
    return NULL;
}

double run_seconds(const struct run_time *t)
{
    double sum = 0;

    for (unsigned i = 0; i < RUN_PARTS; i++)
        sum += t->part[i];
    return sum;
}

double run_misses(const struct run_time *t)
{
    double sum = 0;

    for (unsigned i = 0; i < RUN_NODES; i++)
        sum += t->miss[i];
    return sum;
}

double run_longest(const struct run *r)
{
    double most = 0;

    for (unsigned c = 0; c < r->ncpus; c++)
        most = fmax(most, run_seconds(&r->cpu[c]));
    return most;
}

/* Order of runs by their time, for qsort(). */
static int by_time(const void *a, const void *b)
{
    const struct run *const *x = a, *const *y = b;
    double s = run_seconds(&(*x)->all), t = run_seconds(&(*y)->all);

    return (s > t) - (s < t);
}

void row_read(struct row *row, const char *raw, unsigned reps)
{
    double time[RUN_REPS];

    for (unsigned rep = 1; rep <= reps && row->n < RUN_REPS; rep++) {
        row->run[row->n] = run_read(raw, row->workload, row->placement, rep);
        row->n += row->run[row->n] != NULL;
    }
    if (row->n)
        qsort(row->run, row->n, sizeof(row->run[0]), by_time);
    for (unsigned i = 0; i < row->n; i++)
        time[i] = run_seconds(&row->run[i]->all);
    row->time = summarize(time, row->n);
}

const struct run *row_typical(const struct row *row)
{
    return row->n ? row->run[(row->n - 1) / 2] : NULL;
}

double row_spread(const struct row *row)
{
    return row->time.median > 0 ? (row->time.max - row->time.min) / row->time.median * 100 : 0;
}

void row_free(struct row *row)
{
    for (unsigned i = 0; i < row->n; i++)
        free(row->run[i]);
    row->n = 0;
}
