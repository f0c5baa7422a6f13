/* SPDX-License-Identifier: MIT */
/*
 * Judges the memory-system model: reads what was to be and what was counted, and writes the
 * validation table, memsys.json, memsys.svg and memsys.md.
 *
 * Use: report RAW RESULTS COMMIT.  RAW holds plan.jsonl (what was to run) and a file PART.jsonl for
 * each part; RESULTS "-": only the table.  Status 0: every case holds; 1: one does not, or something
 * is missing.
 * A figure's deviation is |counted - expected| in per cent of its scale (as a rule: of what was
 * expected); a case's is the largest of all its figures, in any repetition.
 * Threads: one.
 */
#include "bench/memsys/report.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/bars.h"
#include "bench/lib/host.h"

enum { PATH_LEN = 4096, PANELS = 8, LINE_LEN = 4096 };

/* Says what failed and ends. */
static void die(const char *what)
{
    fprintf(stderr, "report: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Adds all lines of a file to an array. */
static void read_lines(json_t *to, const char *dir, const char *name)
{
    char path[PATH_LEN], line[LINE_LEN];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s.jsonl", dir, name);
    f = fopen(path, "re");
    if (!f)
        die(path);
    while (fgets(line, sizeof(line), f)) {
        json_t *o = json_loads(line, 0, NULL);

        if (!o) {
            fprintf(stderr, "report: %s: no JSON: %s", path, line);
            exit(1);
        }
        json_array_append_new(to, o);
    }
    fclose(f);
}

/* A text or a number of a row; "" or 0 when it has none. */
static const char *text(const json_t *row, const char *key)
{
    const char *s = json_string_value(json_object_get(row, key));

    return s ? s : "";
}

static double number(const json_t *row, const char *key)
{
    return json_number_value(json_object_get(row, key));
}

/* Is it the same figure? */
static bool same(const json_t *a, const json_t *b)
{
    static const char *const keys[] = {"part", "case", "variant", "measure"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(text(a, keys[i]), text(b, keys[i])))
            return false;
    return true;
}

bool report_figure(const struct report *r, const json_t *like, double *expected, double *scale,
                   struct summary *s)
{
    double v[REPS_MAX];
    size_t n = 0, i;
    json_t *row;

    json_array_foreach(r->rows, i, row) if (n < REPS_MAX && same(row, like)) v[n++] =
        number(row, "value");
    *expected = number(like, "expected");
    *scale = number(like, "scale");
    *s = summarize(v, n);
    return n;
}

bool report_first(const struct report *r, size_t index)
{
    const json_t *row = json_array_get(r->rows, index);

    for (size_t i = 0; i < index; i++)
        if (same(json_array_get(r->rows, i), row))
            return false;
    return true;
}

/* How far off a row is, %. */
static double deviation(const json_t *row)
{
    double scale = number(row, "scale"), off = number(row, "value") - number(row, "expected");

    if (off == 0)
        return 0;
    return scale > 0 ? fabs(off) / scale * 100 : 100;
}

/* Spread of a figure, %; one that was not expected has none. */
static double spread(const struct report *r, const json_t *row)
{
    double expected, scale;
    struct summary s;

    report_figure(r, row, &expected, &scale, &s);
    return expected > 0 && s.median > 0 ? (s.max - s.min) / s.median * 100 : 0;
}

/* Is the row of this case? */
static bool of_case(const json_t *row, const struct judged *j)
{
    return !strcmp(text(row, "part"), j->part) && !strcmp(text(row, "case"), j->name);
}

/* Fills in a case from its rows. */
static void judge(const struct report *r, struct judged *j)
{
    double worst[REPS_MAX] = {0}, most = -1;
    unsigned figures[REPS_MAX] = {0};
    size_t i;
    json_t *row;

    json_array_foreach(r->rows, i, row)
    {
        unsigned long rep = strtoul(text(row, "rep"), NULL, 10);
        double d;

        if (!of_case(row, j) || !rep || rep > j->reps)
            continue;
        d = deviation(row);
        figures[rep - 1]++;
        worst[rep - 1] = fmax(worst[rep - 1], d);
        if (d > most) {
            most = d;
            j->at = text(row, "measure");
        }
        if (report_first(r, i))
            j->spread = fmax(j->spread, spread(r, row));
    }
    j->figures = figures[0];
    j->whole = figures[0] > 0;
    for (unsigned k = 0; k < j->reps; k++)
        j->whole &= figures[k] == figures[0];
    j->worst = summarize(worst, j->reps);
}

/* The cost while off: what the model adds to CPU time, %, by pairs. */
static void judge_off(const struct report *r, struct judged *j)
{
    double cost[REPS_MAX];
    size_t n = 0, i;
    json_t *row;

    json_array_foreach(r->rows, i, row) if (!strcmp(text(row, "part"), j->part) &&
                                            n < REPS_MAX && number(row, "without") > 0)
        cost[n++] = (number(row, "with") / number(row, "without") - 1) * 100;
    j->worst = summarize(cost, n);
    j->spread = j->worst.max - j->worst.min;
    j->at = "CPU time of the emulator, median of the pairs";
    j->figures = 1;
    j->whole = n == j->reps;
    /* One pair proves nothing on a shared machine: the median counts. */
    j->worst.max = j->worst.median;
}

/* The cases of a plan, one by one. */
static void judge_plan(struct report *r, const json_t *plan)
{
    char *cases = strdup(text(plan, "cases")), *rest = NULL;

    if (!cases)
        die("strdup");
    for (char *c = strtok_r(cases, " ", &rest); c && r->ncases < CASES_MAX;
         c = strtok_r(NULL, " ", &rest)) {
        struct judged *j = &r->cases[r->ncases++];

        *j = (struct judged){.part = text(plan, "plan"),
                             .about = text(plan, "about"),
                             .name = c,
                             .limit = number(plan, "limit"),
                             .reps = (unsigned)number(plan, "reps"),
                             .at = "nothing was measured"};
        if (!j->reps || j->reps > REPS_MAX)
            die("plan");
        if (!strcmp(j->part, "off"))
            judge_off(r, j);
        else
            judge(r, j);
    }
    /* The names stay in use until the end. */
}

/* memsys.json */
static void write_json(const struct report *r, const char *path, const char *commit)
{
    struct result out;
    size_t i;
    json_t *row;

    result_init(&out, "memsys", commit, json_incref(r->machine), true);
    json_array_foreach(r->rows, i, row)
    {
        double expected, scale;
        struct summary s;

        if (!json_object_get(row, "measure") || !report_first(r, i))
            continue;
        report_figure(r, row, &expected, &scale, &s);
        result_row(&out,
                   json_pack("{s:s, s:s, s:s, s:s, s:f, s:f}", "part", text(row, "part"),
                             "case", text(row, "case"), "variant", text(row, "variant"),
                             "measure", text(row, "measure"), "expected", expected, "scale",
                             scale),
                   &s);
    }
    for (unsigned k = 0; k < r->ncases; k++) {
        const struct judged *j = &r->cases[k];
        char name[300];

        snprintf(name, sizeof(name), "%s: %s (%s)", j->part, j->name, j->about);
        result_goal_at_most(&out, name, "%", j->limit, j->worst.max, j->whole && j->worst.n);
    }
    if (result_write(&out, path))
        die(path);
}

/* By deviation, the largest first. */
static int by_worst(const void *a, const void *b)
{
    const struct judged *x = a, *y = b;

    return x->worst.max < y->worst.max ? 1 : x->worst.max > y->worst.max ? -1 : 0;
}

/* memsys.svg: of each part the cases that are farthest off. */
static void write_svg(const struct report *r, const char *path)
{
    static struct panel p[PANELS];
    struct judged sorted[CASES_MAX];
    size_t n = 0;
    FILE *f = fopen(path, "we");

    memcpy(sorted, r->cases, sizeof(sorted));
    qsort(sorted, r->ncases, sizeof(sorted[0]), by_worst);
    for (size_t i = 0; i < json_array_size(r->plans) && n < PANELS; i++) {
        const json_t *plan = json_array_get(r->plans, i);
        struct panel *q = &p[n++];

        q->title = text(plan, "about");
        q->unit = "%";
        q->goal = number(plan, "limit");
        for (unsigned k = 0; k < r->ncases && q->nbars < BARS_MAX; k++)
            if (!strcmp(sorted[k].part, text(plan, "plan")))
                q->bars[q->nbars++] =
                    (struct bar){.label = sorted[k].name, .s = sorted[k].worst, .ours = true};
    }
    if (!f ||
        bars_svg(f, "The memory-system model beside derived counts",
                 "Of each part the cases that are farthest off: the largest deviation of any "
                 "figure in a repetition; bars: medians; lines: smallest to largest.",
                 p, n))
        die(path);
    if (fclose(f))
        die(path);
}

/* All files of the result. */
static void write_files(const struct report *r, const char *dir, const char *commit)
{
    char path[PATH_LEN];
    FILE *f;

    snprintf(path, sizeof(path), "%s/memsys.json", dir);
    write_json(r, path, commit);
    snprintf(path, sizeof(path), "%s/memsys.svg", dir);
    write_svg(r, path);
    snprintf(path, sizeof(path), "%s/memsys.md", dir);
    f = fopen(path, "we");
    if (!f)
        die(path);
    markdown_write(f, r);
    if (fclose(f))
        die(path);
}

int main(int argc, char **argv)
{
    static struct report r;
    bool good = true;
    size_t i;
    json_t *plan;

    if (argc != 4) {
        fputs("usage: report RAW RESULTS|- COMMIT\n", stderr);
        return 2;
    }
    r.plans = json_array();
    r.rows = json_array();
    r.machine = json_pack("{s:o}", "host", host_json(HOST_EMULATOR));
    read_lines(r.plans, argv[1], "plan");
    json_array_foreach(r.plans, i, plan) read_lines(r.rows, argv[1], text(plan, "plan"));
    json_array_foreach(r.plans, i, plan) judge_plan(&r, plan);
    if (strcmp(argv[2], "-"))
        write_files(&r, argv[2], argv[3]);
    table_write(stdout, &r);
    for (unsigned k = 0; k < r.ncases; k++)
        good &= judged_holds(&r.cases[k]);
    return r.ncases && good ? 0 : 1;
}
