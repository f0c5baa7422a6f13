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
    t->host += host ? insns * r->insn_ns * 1e-9 : 0;
    t->insns += insns;
    t->user += part == RUN_USER ? insns : 0;
    t->bound += number(c, "bound_ps") * PS;
    for (unsigned n = 0; n < r->nnodes; n++) {
        double stall = entry(c, "stall_ps", n) * PS;

        t->stall[n] += stall;
        t->host += host ? stall : 0;
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
    all->host += t->host;
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

/* The "pages" of the cell's figures in a file; a new reference, or NULL. */
static json_t *load_pages(const char *path)
{
    json_t *j = json_load_file(path, 0, NULL), *pages = json_object_get(j, "pages");

    pages = json_is_object(pages) ? json_incref(pages) : NULL;
    json_decref(j);
    return pages;
}

/* CPU time of page work, ms. */
static double work_ms(const json_t *pages)
{
    const json_t *cost = json_object_get(pages, "cost");

    return number(cost, "pager_ms") + number(cost, "faults_ms");
}

/* Fills in what the pager did between two looks at it. */
static void fill_pages(struct run_pages *p, const json_t *from, const json_t *to)
{
    const json_t *done[2] = {json_object_get(from, "done"), json_object_get(to, "done")};
    const json_t *seen[2] = {json_object_get(from, "sampling"),
                             json_object_get(to, "sampling")};
    const char *policy = json_string_value(json_object_get(to, "policy"));
    const char *source = json_string_value(json_object_get(seen[1], "source"));
    const struct {
        const json_t **of;
        const char *key;
        double *to;
    } grown[] = {
        {done, "migrated", &p->migrated},   {done, "replicated", &p->replicated},
        {done, "collapsed", &p->collapsed}, {done, "evicted", &p->evicted},
        {done, "refused", &p->refused},     {seen, "touches", &p->touches},
        {seen, "revoked", &p->revoked},
    };

    for (size_t i = 0; i < sizeof(grown) / sizeof(grown[0]); i++)
        *grown[i].to =
            number(grown[i].of[1], grown[i].key) - number(grown[i].of[0], grown[i].key);
    p->intervals = number(to, "intervals") - number(from, "intervals");
    p->waited = number(to, "waited") - number(from, "waited");
    p->work_ms = work_ms(to) - work_ms(from);
    p->share = number(json_object_get(to, "cost"), "share");
    p->replicas = number(done[1], "replicas");
    snprintf(p->policy, sizeof(p->policy), "%s", policy ? policy : "");
    snprintf(p->source, sizeof(p->source), "%s", source ? source : "");
    p->agreement = json_object_get(seen[1], "agreement");
    p->agreement = json_is_object(p->agreement) ? json_incref(p->agreement) : NULL;
    p->known = true;
}

/* Reads both looks at the pager, if they are there. */
static void read_pages(struct run *r, const char *stem)
{
    char path[PATH_LEN + 8];
    json_t *from, *to;

    snprintf(path, sizeof(path), "%s.ready", stem);
    from = load_pages(path);
    snprintf(path, sizeof(path), "%s.run", stem);
    to = load_pages(path);
    if (from && to)
        fill_pages(&r->pages, from, to);
    json_decref(from);
    json_decref(to);
}

/* Frees a run. */
static void run_free(struct run *r)
{
    json_decref(r->pages.agreement);
    free(r);
}

struct run *run_read(const char *raw, const char *workload, const char *placement, unsigned rep)
{
    struct run *r = calloc(1, sizeof(*r));
    char stem[PATH_LEN], path[PATH_LEN + 8], sectors[RUN_SUM];
    json_t *j;
    bool ok;

    if (!r)
        return NULL;
    snprintf(stem, sizeof(stem), "%s/%s.%s.%u", raw, workload, placement, rep);
    read_pages(r, stem);
    snprintf(path, sizeof(path), "%s.json", stem);
    j = json_load_file(path, 0, NULL);
    ok = j && fill(r, j);
    json_decref(j);
    snprintf(path, sizeof(path), "%s.con", stem);
    r->sectors =
        console_word(path, "NUMA-DISK ", sectors, sizeof(sectors)) ? atof(sectors) : -1;
    if (ok && console_word(path, "NUMA-SUM ", r->sum, sizeof(r->sum)))
        return r;
    run_free(r);
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

double run_actions(const struct run_pages *p)
{
    return p->migrated + p->replicated + p->collapsed + p->evicted;
}

double run_local_percent(const struct run *r)
{
    double all = run_misses(&r->all);

    return all > 0 ? r->all.local / all * 100 : 0;
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
        run_free(row->run[i]);
    row->n = 0;
}
