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

/* Holds what came out against what was wanted; gives the number of runs that are missing. */
static unsigned fill_goals(struct report *r)
{
    double spread = 0, user = 0, sectors = 0;
    bool known = true;
    unsigned missing = report_missing(r), differ = 0, repeated = 0;

    for (unsigned i = 0; i < r->nrows; i++) {
        const struct row *row = &r->row[i];

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

/* Writes the result in the form of all benchmarks. */
static void write_json(const struct report *r, const char *path)
{
    struct result out;

    result_init(&out, "numa-baseline", r->commit, report_machine_json(r), true);
    for (unsigned i = 0; i < r->nrows; i++) {
        const struct row *row = &r->row[i];
        struct summary ms = report_ms(row);

        result_row(&out, report_row_json(r, row), &ms);
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
    errno = -report_add_rows(r, argv[3], argv[4]);
    if (errno)
        die("rows");
    missing = fill_goals(r);
    if (argc == 10)
        write_results(r, argv[9]);
    if (!strcmp(argv[8], "json"))
        write_json(r, "/dev/stdout");
    else
        table_print(stdout, r, false);
    report_free(r);
    free(r);
    return missing ? 1 : 0;
}
