/* SPDX-License-Identifier: MIT */
/*
 * Turns what bench/numa/numa left into a table, numa-baseline.json, .md and .svg.
 *
 * Use: report RAW MACHINE WORKLOADS PLACEMENTS REPS SECONDS COMMIT json|table [RESULTS]
 * Lists are by comma.  A row "all-local" is added to each workload: the bound that placement can
 * reach.  Status 1 when a run is missing.
 * Threads: one.
 */
#include "bench/numa/report.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 4096 };

/* What repetitions of a workload may differ by, and what its instructions may, percent. */
#define SPREAD_LIMIT 5.0
#define USER_LIMIT   2.0
#define MINUTES      15.0

/* Says what failed and ends. */
static void die(const char *what)
{
    fprintf(stderr, "report: %s: %s\n", what, strerror(errno));
    exit(1);
}

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
static void add_row(struct report *r, const char *workload, const char *placement)
{
    struct row *row = &r->row[r->nrows];

    if (r->nrows == REPORT_ROWS) {
        errno = E2BIG;
        die("rows");
    }
    r->nrows++;
    snprintf(row->workload, sizeof(row->workload), "%s", workload);
    snprintf(row->placement, sizeof(row->placement), "%s", placement);
    row_read(row, r->raw, r->reps);
}

/* The row of what placement can reach at best. */
static void add_bound(struct report *r, const char *workload)
{
    struct row *row = &r->row[r->nrows];
    const struct row *base;
    const struct run *run;
    double stall;

    add_row(r, workload, "all-local");
    base = report_base(r, row);
    run = row_typical(base);
    if (!run)
        return;
    stall = run->all.part[RUN_LOCAL] + run->all.part[RUN_REMOTE];
    row->bound = run_seconds(&run->all) - stall + run->all.bound;
}

/* All rows, from the lists. */
static void add_rows(struct report *r, char *workloads, const char *placements)
{
    char *next = NULL;

    for (char *w = strtok_r(workloads, ",", &next); w; w = strtok_r(NULL, ",", &next)) {
        char *list = strdup(placements), *inner = NULL;

        if (!list)
            die("memory");
        for (char *p = strtok_r(list, ",", &inner); p; p = strtok_r(NULL, ",", &inner))
            add_row(r, w, p);
        add_bound(r, w);
        free(list);
    }
}

/* Holds what came out against what was wanted; gives the number of runs that are missing. */
static unsigned fill_goals(struct report *r)
{
    double spread = 0, user = 0, sectors = 0;
    bool known = true;
    unsigned missing = 0, differ = 0, repeated = 0;

    for (unsigned i = 0; i < r->nrows; i++) {
        const struct row *row = &r->row[i];

        if (strcmp(row->placement, "all-local") != 0)
            missing += r->reps - row->n;
        for (unsigned k = 0; k < row->n; k++) {
            sectors = fmax(sectors, row->run[k]->sectors);
            known = known && row->run[k]->sectors >= 0;
        }
        spread = fmax(spread, row_spread(row));
        repeated += row->n > 1;
        if (report_base(r, row) != row)
            continue;
        user = fmax(user, report_user_spread(r, row));
        differ += report_results(r, row) > 1;
    }
    r->goal[0] = (struct goal){"guests that did not do their work", "guests", 0, missing, true};
    r->goal[1] = (struct goal){"workloads whose results differ between runs", "workloads", 0,
                               differ, true};
    r->goal[2] = (struct goal){"user instructions of a workload: difference of any two runs",
                               "%", USER_LIMIT, user, true};
    r->goal[3] = (struct goal){"modelled time: spread between repetitions", "%", SPREAD_LIMIT,
                               spread, repeated > 0};
    r->goal[4] =
        (struct goal){"the whole experiment", "minutes", MINUTES, r->seconds / 60, true};
    r->goal[5] = (struct goal){"read from a disk during the work, by any run", "sectors", 0,
                               sectors, known};
    return missing;
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

/* One row's labels: what was run, and its typical run in full. */
static json_t *row_json(const struct report *r, const struct row *row)
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

/* The machine that was modelled. */
static json_t *machine_json(const struct report *r)
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

/* Writes the result in the form of all benchmarks. */
static void write_json(const struct report *r, const char *path)
{
    struct result out;

    result_init(&out, "numa-baseline", r->commit, machine_json(r), true);
    for (unsigned i = 0; i < r->nrows; i++) {
        const struct row *row = &r->row[i];
        struct summary ms = {.n = row->n,
                             .median = row->time.median * 1e3,
                             .min = row->time.min * 1e3,
                             .max = row->time.max * 1e3};

        if (row->bound > 0)
            ms = (struct summary){1, row->bound * 1e3, row->bound * 1e3, row->bound * 1e3};
        result_row(&out, row_json(r, row), &ms);
    }
    for (unsigned i = 0; i < REPORT_GOALS; i++)
        result_goal_at_most(&out, r->goal[i].name, r->goal[i].unit, r->goal[i].limit,
                            r->goal[i].value, r->goal[i].measured);
    if (result_write(&out, path))
        die(path);
}

/* Opens RESULTS/numa-baseline.SUFFIX. */
static FILE *open_result(const char *results, const char *suffix)
{
    char path[PATH_LEN];
    FILE *f;

    snprintf(path, sizeof(path), "%s/numa-baseline.%s", results, suffix);
    f = fopen(path, "we");
    if (!f)
        die(path);
    return f;
}

/* All three files. */
static void write_results(const struct report *r, const char *results)
{
    char path[PATH_LEN];
    FILE *f;

    snprintf(path, sizeof(path), "%s/numa-baseline.json", results);
    write_json(r, path);
    f = open_result(results, "md");
    markdown_write(f, r);
    if (fclose(f))
        die("numa-baseline.md");
    f = open_result(results, "svg");
    if (stack_svg(f, r) || fclose(f))
        die("numa-baseline.svg");
}

int main(int argc, char **argv)
{
    struct report *r = calloc(1, sizeof(*r));
    unsigned missing;

    if (!r || argc < 9 || argc > 10) {
        fputs("usage: report RAW MACHINE WORKLOADS PLACEMENTS REPS SECONDS COMMIT json|table "
              "[RESULTS]\n",
              stderr);
        return 2;
    }
    r->raw = argv[1];
    r->machine = argv[2];
    r->reps = (unsigned)atoi(argv[5]);
    r->seconds = atof(argv[6]);
    r->commit = argv[7];
    add_rows(r, argv[3], argv[4]);
    missing = fill_goals(r);
    if (argc == 10)
        write_results(r, argv[9]);
    if (!strcmp(argv[8], "json"))
        write_json(r, "/dev/stdout");
    else
        table_print(stdout, r, false);
    for (unsigned i = 0; i < r->nrows; i++)
        row_free(&r->row[i]);
    free(r);
    return missing ? 1 : 0;
}
