/* SPDX-License-Identifier: MIT */
/*
 * The rows of bench/numa's reports: read, compared with one another, as JSON.  Interface in report.h.
 * Threads: one.
 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/numa/report.h"

const char *const report_parts[RUN_PARTS] = {"user", "kernel", "host", "local stall",
                                             "remote stall"};

const struct row *report_base(const struct report *r, const struct row *row)
{
    const struct row *base = r->row;

    while (strcmp(base->workload, row->workload) != 0)
        base++;
    return base;
}

double report_part(const struct report *r, const struct row *row, unsigned part)
{
    const struct row *base = report_base(r, row);
    const struct run *run = row_typical(row->bound > 0 ? base : row);
    double v;

    if (!run || !base->n)
        return 0;
    v = run->all.part[part];
    if (row->bound > 0 && part == RUN_LOCAL)
        v = run->all.bound;
    if (row->bound > 0 && part == RUN_REMOTE)
        v = 0;
    return v / run_seconds(&row_typical(base)->all) * 100;
}

double report_relative(const struct report *r, const struct row *row)
{
    const struct row *base = report_base(r, row);

    if (!base->n)
        return 0;
    return (row->bound > 0 ? row->bound : row->time.median) / base->time.median * 100;
}

double report_user_spread(const struct report *r, const struct row *base)
{
    double least = 0, most = 0;

    for (unsigned i = 0; i < r->nrows; i++) {
        const struct row *row = &r->row[i];

        for (unsigned k = 0; k < row->n && !strcmp(row->workload, base->workload); k++) {
            double user = row->run[k]->all.user;

            least = least > 0 ? fmin(least, user) : user;
            most = fmax(most, user);
        }
    }
    return least > 0 ? (most - least) / least * 100 : 0;
}

unsigned report_results(const struct report *r, const struct row *base)
{
    const char *seen[REPORT_ROWS];
    unsigned n = 0;

    for (unsigned i = 0; i < r->nrows; i++) {
        const struct row *row = &r->row[i];

        for (unsigned k = 0; k < row->n && !strcmp(row->workload, base->workload); k++) {
            unsigned s = 0;

            while (s < n && strcmp(seen[s], row->run[k]->sum) != 0)
                s++;
            if (s == n && n < REPORT_ROWS)
                seen[n++] = row->run[k]->sum;
        }
    }
    return n;
}

/* Adds a row and reads its runs. */
static int add_row(struct report *r, const char *workload, const char *placement)
{
    struct row *row = &r->row[r->nrows];

    if (r->nrows == REPORT_ROWS)
        return -E2BIG;
    r->nrows++;
    snprintf(row->workload, sizeof(row->workload), "%s", workload);
    snprintf(row->placement, sizeof(row->placement), "%s", placement);
    row_read(row, r->raw, r->reps);
    return 0;
}

/* The row of what placement can reach at best. */
static int add_bound(struct report *r, const char *workload)
{
    struct row *row = &r->row[r->nrows];
    const struct row *base;
    const struct run *run;
    double stall;

    if (add_row(r, workload, "all-local"))
        return -E2BIG;
    base = report_base(r, row);
    run = row_typical(base);
    if (!run)
        return 0;
    stall = run->all.part[RUN_LOCAL] + run->all.part[RUN_REMOTE];
    row->bound = run_seconds(&run->all) - stall + run->all.bound;
    return 0;
}

int report_add_rows(struct report *r, const char *workloads, const char *placements)
{
    char *list = strdup(workloads), *next = NULL;
    int e = list ? 0 : -ENOMEM;

    for (char *w = e ? NULL : strtok_r(list, ",", &next); w && !e;
         w = strtok_r(NULL, ",", &next)) {
        char *where = strdup(placements), *inner = NULL;

        if (!where)
            e = -ENOMEM;
        for (char *p = e ? NULL : strtok_r(where, ",", &inner); p && !e;
             p = strtok_r(NULL, ",", &inner))
            e = add_row(r, w, p);
        e = e ? e : add_bound(r, w);
        free(where);
    }
    free(list);
    return e;
}

unsigned report_missing(const struct report *r)
{
    unsigned missing = 0;

    for (unsigned i = 0; i < r->nrows; i++)
        if (strcmp(r->row[i].placement, "all-local") != 0)
            missing += r->reps - r->row[i].n;
    return missing;
}

struct summary report_ms(const struct row *row)
{
    if (row->bound > 0)
        return (struct summary){1, row->bound * 1e3, row->bound * 1e3, row->bound * 1e3};
    return (struct summary){.n = row->n,
                            .median = row->time.median * 1e3,
                            .min = row->time.min * 1e3,
                            .max = row->time.max * 1e3};
}

void report_free(struct report *r)
{
    for (unsigned i = 0; i < r->nrows; i++)
        row_free(&r->row[i]);
}

/* An array of numbers times a factor. */
static json_t *numbers(const double *v, unsigned n, double factor)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < n; i++)
        json_array_append_new(a, json_real(v[i] * factor));
    return a;
}

/* A time with its parts, in ms, and misses and stalls by node. */
static json_t *time_json(const struct run_time *t, unsigned nnodes)
{
    json_t *o = json_object();

    for (unsigned i = 0; i < RUN_PARTS; i++)
        json_object_set_new(o, report_parts[i], json_real(t->part[i] * 1e3));
    json_object_set_new(o, "bound", json_real(t->bound * 1e3));
    json_object_set_new(o, "instructions", json_real(t->insns));
    json_object_set_new(o, "user instructions", json_real(t->user));
    json_object_set_new(o, "misses", json_real(run_misses(t)));
    json_object_set_new(o, "local misses", json_real(t->local));
    json_object_set_new(o, "misses by node", numbers(t->miss, nnodes, 1));
    json_object_set_new(o, "stall by node", numbers(t->stall, nnodes, 1e3));
    return o;
}

json_t *report_row_json(const struct report *r, const struct row *row)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:f}", "workload", row->workload, "placement",
                          row->placement, "measure", "modelled time of all CPUs", "unit", "ms",
                          "relative", report_relative(r, row));
    const struct run *run = row_typical(row);
    json_t *cpus = json_array();

    if (run) {
        json_object_set_new(o, "result", json_string(run->sum));
        json_object_set_new(o, "longest_cpu_ms", json_real(run_longest(run) * 1e3));
        json_object_set_new(o, "spread_percent", json_real(row_spread(row)));
        json_object_set_new(o, "all", time_json(&run->all, run->nnodes));
        for (unsigned c = 0; c < run->ncpus; c++) {
            json_t *cpu = time_json(&run->cpu[c], run->nnodes);

            json_object_set_new(cpu, "cpu", json_integer(c));
            json_object_set_new(cpu, "node", json_integer(run->cpu[c].node));
            json_array_append_new(cpus, cpu);
        }
        json_object_set(o, "cpus", cpus);
    } else if (row->bound > 0) {
        json_object_set_new(o, "bound", json_true());
    }
    json_decref(cpus);
    return o;
}

json_t *report_machine_json(const struct report *r)
{
    const struct run *any = NULL;
    json_t *o = json_pack("{s:s}", "model", r->machine);

    for (unsigned i = 0; i < r->nrows && !any; i++)
        any = row_typical(&r->row[i]);
    if (any) {
        json_object_set_new(o, "nodes", json_integer(any->nnodes));
        json_object_set_new(o, "cpus", json_integer(any->ncpus));
        json_object_set_new(o, "instruction_ns", json_real(any->insn_ns));
        json_object_set_new(o, "latency_from_node0_ns", numbers(any->latency, any->nnodes, 1));
    }
    return o;
}
