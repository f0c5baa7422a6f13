/* SPDX-License-Identifier: MIT */
/*
 * Turns what `bench/numa/numa --policies` left into a table, numa.json, .md and .svg: what policies
 * that move and copy a guest's pages make of its time, beside placements that stay.
 *
 * Use: policies RAW MACHINES WORKLOADS PLACEMENTS REPS SECONDS COMMIT json|table [RESULTS]
 * Lists are by comma; RAW/MACHINE has what guests and model left.  The pictures of machines after the
 * first are numa-MACHINE.svg.  Status 1 when a run is missing.
 * Threads: one.
 */
#include "bench/numa/policies.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 4096 };

/* Goals of the issue, percent unless said otherwise. */
#define REMOTE_LIMIT  10.0 /* of a read-shared load's misses */
#define BOUND_LIMIT   15.0 /* beyond the time with all misses local */
#define PAPER_LIMIT   60.0 /* time, the better static placement 100 */
#define HOSTILE_LIMIT 2.0  /* beyond the best static placement */
#define WORK_LIMIT    3.0  /* of CPU time */

static const char *const statics[], *const judged[], *const shared[], *const paper[],
                                                                          *const hostile[];

/* Says what failed and ends. */
static void die(const char *what)
{
    fprintf(stderr, "policies: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- comparing ---- */

const struct row *policies_row(const struct report *r, const char *workload,
                               const char *placement)
{
    for (unsigned i = 0; i < r->nrows; i++) {
        const struct row *row = &r->row[i];

        if (!strcmp(row->workload, workload) && !strcmp(row->placement, placement))
            return row->n || row->bound > 0 ? row : NULL;
    }
    return NULL;
}

const struct row *policies_static(const struct report *r, const char *workload)
{
    const struct row *best = NULL;

    for (const char *const *s = statics; *s; s++) {
        const struct row *row = policies_row(r, workload, *s);

        if (row && (!best || row->time.median < best->time.median))
            best = row;
    }
    return best;
}

/* A row's time or bound, seconds. */
static double seconds(const struct row *row)
{
    return row->bound > 0 ? row->bound : row->time.median;
}

double policies_relative(const struct report *r, const struct row *row)
{
    const struct row *best = policies_static(r, row->workload);

    return best ? seconds(row) / best->time.median * 100 : 0;
}

double policies_work(const struct report *r, const struct row *row)
{
    const struct row *base = report_base(r, row);
    const struct run *run = row_typical(row), *other = row_typical(base);

    if (!run || !other)
        return 0;
    return (run->all.host - other->all.host) / run_seconds(&run->all) * 100;
}

double policies_rate(const struct row *row)
{
    const struct run *run = row_typical(row);
    double most = run ? run_longest(run) : 0;

    return most > 0 ? run_actions(&run->pages) / most : 0;
}

/* ---- goals ---- */

/* Adds a goal; returns it, for its value. */
static struct policies_goal *__attribute__((format(printf, 4, 5)))
goal(struct policies *p, const char *unit, double limit, const char *format, ...)
{
    struct policies_goal *g = &p->goal[p->ngoals];
    va_list args;

    if (p->ngoals == POLICIES_GOALS) {
        errno = E2BIG;
        die("goals");
    }
    p->ngoals++;
    *g = (struct policies_goal){.unit = unit, .limit = limit};
    va_start(args, format);
    vsnprintf(g->name, sizeof(g->name), format, args);
    va_end(args);
    return g;
}

/* What came out of a goal. */
static void came_out(struct policies_goal *g, double value)
{
    g->value = value;
    g->measured = true;
}

/* A load that all CPUs read: near, and nearly as good as can be. */
static void shared_goals(struct policies *p, const struct report *r, const char *workload,
                         const char *policy)
{
    const struct row *row = policies_row(r, workload, policy);
    const struct row *bound = policies_row(r, workload, "all-local");
    struct policies_goal *g;

    g = goal(p, "%", REMOTE_LIMIT, "%s, %s, %s: misses that are not local", r->machine,
             workload, policy);
    if (row)
        came_out(g, 100 - run_local_percent(row_typical(row)));
    g = goal(p, "%", BOUND_LIMIT, "%s, %s, %s: time beyond all-local", r->machine, workload,
             policy);
    if (row && bound)
        came_out(g, (row->time.median / bound->bound - 1) * 100);
}

/* The paper's cases: as good as there, or as all-local allows. */
static void paper_goal(struct policies *p, const struct report *r, const char *workload,
                       const char *policy)
{
    const struct row *row = policies_row(r, workload, policy);
    const struct row *bound = policies_row(r, workload, "all-local");
    double least = bound ? policies_relative(r, bound) : 0;
    struct policies_goal *g =
        goal(p, "", fmax(PAPER_LIMIT, least),
             "%s, %s, %s: time, the better static placement = 100 (all-local: %.0f)",
             r->machine, workload, policy, least);

    if (row)
        came_out(g, policies_relative(r, row));
}

/* A load that no placement helps. */
static void hostile_goal(struct policies *p, const struct report *r, const char *workload,
                         const char *policy)
{
    const struct row *row = policies_row(r, workload, policy);
    struct policies_goal *g =
        goal(p, "%", HOSTILE_LIMIT, "%s, %s, %s: time beyond the best static placement",
             r->machine, workload, policy);

    if (row)
        came_out(g, policies_relative(r, row) - 100);
}

/* What page work costs at most. */
static void work_goal(struct policies *p, const struct report *r, const char *policy)
{
    struct policies_goal *g =
        goal(p, "%", WORK_LIMIT, "%s, %s: page work, any workload", r->machine, policy);
    double most = -INFINITY;

    for (unsigned i = 0; i < r->nrows; i++)
        if (!strcmp(r->row[i].placement, policy) && r->row[i].n)
            most = fmax(most, policies_work(r, &r->row[i]));
    if (isfinite(most))
        came_out(g, most);
}

/* Whether a workload was asked for. */
static bool asked(const struct report *r, const char *workload)
{
    for (unsigned i = 0; i < r->nrows; i++)
        if (!strcmp(r->row[i].workload, workload))
            return true;
    return false;
}

/* Goals of the default policy on a machine, for one source of samples. */
static void machine_goals(struct policies *p, const struct report *r, const char *policy)
{
    for (const char *const *w = shared; *w; w++)
        if (asked(r, *w))
            shared_goals(p, r, *w, policy);
    for (const char *const *w = paper; *w; w++)
        if (asked(r, *w))
            paper_goal(p, r, *w, policy);
    for (const char *const *w = hostile; *w; w++)
        if (asked(r, *w))
            hostile_goal(p, r, *w, policy);
    work_goal(p, r, policy);
}

/* All goals; gives the number of runs that are missing. */
static unsigned fill_goals(struct policies *p)
{
    unsigned missing = 0, differ = 0;

    for (unsigned m = 0; m < p->nmachines; m++) {
        const struct report *r = &p->machine[m];

        missing += report_missing(r);
        for (unsigned i = 0; i < r->nrows; i++)
            differ +=
                report_base(r, &r->row[i]) == &r->row[i] && report_results(r, &r->row[i]) > 1;
    }
    came_out(goal(p, "guests", 0, "guests that did not do their work"), missing);
    came_out(goal(p, "workloads", 0, "workloads whose results differ between runs"), differ);
    for (unsigned m = 0; m < p->nmachines; m++)
        for (const char *const *j = judged; *j; j++)
            machine_goals(p, &p->machine[m], *j);
    return missing;
}

/* ---- files ---- */

/* Adds what the pager did to a row's labels. */
static void add_pages(json_t *o, const struct report *r, const struct row *row)
{
    const struct run *run = row_typical(row);
    const struct run_pages *p = run ? &run->pages : NULL;

    json_object_set_new(o, "machine", json_string(r->machine));
    json_object_set_new(o, "relative_to_best_static", json_real(policies_relative(r, row)));
    if (!run)
        return;
    json_object_set_new(o, "local_percent", json_real(run_local_percent(run)));
    json_object_set_new(o, "host_ms", json_real(run->all.host * 1e3));
    json_object_set_new(o, "page_work_percent", json_real(policies_work(r, row)));
    if (!p->known)
        return;
    json_object_set_new(o, "policy", json_string(p->policy));
    json_object_set_new(o, "sampling", json_string(p->source));
    json_object_set_new(o, "actions_per_second", json_real(policies_rate(row)));
    json_object_set_new(
        o, "pager",
        json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "migrated",
                  p->migrated, "replicated", p->replicated, "collapsed", p->collapsed,
                  "evicted", p->evicted, "refused", p->refused, "replicas", p->replicas,
                  "revoked", p->revoked, "touches", p->touches, "intervals", p->intervals,
                  "waited", p->waited, "work_ms", p->work_ms, "share_since_start", p->share));
    if (p->agreement)
        json_object_set(o, "agreement", p->agreement);
}

/* The machines that were modelled. */
static json_t *machines_json(const struct policies *p)
{
    json_t *o = report_machine_json(&p->machine[0]), *all = json_array();

    for (unsigned m = 0; m < p->nmachines; m++)
        json_array_append_new(all, report_machine_json(&p->machine[m]));
    json_object_set_new(o, "machines", all);
    return o;
}

/* Writes the result in the form of all benchmarks. */
static void write_json(const struct policies *p, const char *path)
{
    struct result out;

    result_init(&out, "numa", p->commit, machines_json(p), true);
    for (unsigned m = 0; m < p->nmachines; m++) {
        const struct report *r = &p->machine[m];

        for (unsigned i = 0; i < r->nrows; i++) {
            struct summary ms = report_ms(&r->row[i]);
            json_t *labels = report_row_json(r, &r->row[i]);

            add_pages(labels, r, &r->row[i]);
            result_row(&out, labels, &ms);
        }
    }
    for (unsigned i = 0; i < p->ngoals; i++) {
        const struct policies_goal *g = &p->goal[i];

        result_goal_at_most(&out, g->name, g->unit, g->limit, g->value, g->measured);
    }
    if (result_write(&out, path))
        die(path);
}

/* RESULTS/numa.svg, or numa-MACHINE.svg for a machine after the first. */
static void write_svg(const struct policies *p, const char *results, unsigned m)
{
    char path[PATH_LEN];
    FILE *f;

    snprintf(path, sizeof(path), "%s/numa%s%s.svg", results, m ? "-" : "",
             m ? p->machine[m].machine : "");
    f = fopen(path, "we");
    if (!f || stack_svg(f, &p->machine[m]) || fclose(f))
        die(path);
}

/* All files. */
static void write_results(const struct policies *p, const char *results)
{
    char path[PATH_LEN];
    FILE *f;

    snprintf(path, sizeof(path), "%s/numa.json", results);
    write_json(p, path);
    snprintf(path, sizeof(path), "%s/numa.md", results);
    f = fopen(path, "we");
    if (!f)
        die(path);
    policies_markdown(f, p);
    if (fclose(f))
        die(path);
    for (unsigned m = 0; m < p->nmachines; m++)
        write_svg(p, results, m);
}

/* Whether any guest did a workload. */
static bool was_done(const struct report *r, const char *workload)
{
    bool done = false;

    for (unsigned i = 0; i < r->nrows; i++)
        done |= !strcmp(r->row[i].workload, workload) && r->row[i].n;
    return done;
}

/* Leaves out the workloads that no guest came to do, for want of time. */
static void leave_out(struct report *r)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->nrows; i++)
        if (was_done(r, r->row[i].workload))
            r->row[n++] = r->row[i];
    r->nrows = n;
}

/* Reads all rows of all machines. */
static void read_all(struct policies *p, char **argv)
{
    char *next = NULL, raw[PATH_LEN];

    p->seconds = atof(argv[6]);
    p->commit = argv[7];
    for (char *m = strtok_r(argv[2], ",", &next); m; m = strtok_r(NULL, ",", &next)) {
        struct report *r = &p->machine[p->nmachines++];

        if (p->nmachines > POLICIES_MACHINES) {
            errno = E2BIG;
            die("machines");
        }
        snprintf(raw, sizeof(raw), "%s/%s", argv[1], m);
        *r = (struct report){.raw = raw,
                             .machine = m,
                             .commit = p->commit,
                             .reps = (unsigned)atoi(argv[5]),
                             .seconds = p->seconds};
        errno = -report_add_rows(r, argv[3], argv[4]);
        if (errno)
            die("rows");
        r->raw = NULL; /* it is read */
        leave_out(r);
    }
}

int main(int argc, char **argv)
{
    struct policies *p = calloc(1, sizeof(*p));
    unsigned missing;

    if (!p || argc < 9 || argc > 10) {
        fputs(
            "usage: policies RAW MACHINES WORKLOADS PLACEMENTS REPS SECONDS COMMIT json|table "
            "[RESULTS]\n",
            stderr);
        return 2;
    }
    read_all(p, argv);
    missing = fill_goals(p);
    if (argc == 10)
        write_results(p, argv[9]);
    if (!strcmp(argv[8], "json"))
        write_json(p, "/dev/stdout");
    for (unsigned m = 0; m < p->nmachines; m++) {
        if (strcmp(argv[8], "json") != 0)
            policies_table(stdout, &p->machine[m], false);
        report_free(&p->machine[m]);
    }
    free(p);
    return missing ? 1 : 0;
}

/* Placements that stay; policies that goals are about; workloads by kind. */
static const char *const statics[] = {"first-touch", "interleave", NULL};
static const char *const judged[] = {"replicate-flash", "replicate-faults", NULL};
static const char *const shared[] = {"raytrace", NULL};
static const char *const paper[] = {"engineering", "raytrace", NULL};
static const char *const hostile[] = {"alternate", "counters", NULL};
