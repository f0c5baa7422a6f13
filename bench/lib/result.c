/* SPDX-License-Identifier: MIT */
/*
 * Results of a benchmark: see result.h.  Numbers are written with nine digits, which is more than
 * any clock here is good for.
 */
#include "bench/lib/result.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Order of two doubles, for qsort(). */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

struct summary summarize(double *v, size_t n)
{
    struct summary s = {.n = n};

    if (!n)
        return s;
    qsort(v, n, sizeof(*v), by_value);
    s.min = v[0];
    s.max = v[n - 1];
    s.median = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
    return s;
}

void result_init(struct result *r, const char *bench, const char *commit,
                 struct json_t *machine, bool modelled)
{
    char date[32];
    time_t now = time(NULL);
    struct tm tm;

    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    r->rows = json_array();
    r->goals = json_array();
    r->root = json_pack("{s:s, s:s, s:s?, s:o, s:b, s:o, s:o}", "bench", bench, "date", date,
                        "commit", commit, "machine", machine, "modelled", (int)modelled, "rows",
                        r->rows, "goals", r->goals);
}

void result_row(struct result *r, struct json_t *labels, const struct summary *s)
{
    json_object_set_new(labels, "n", json_integer((json_int_t)s->n));
    json_object_set_new(labels, "median", json_real(s->median));
    json_object_set_new(labels, "min", json_real(s->min));
    json_object_set_new(labels, "max", json_real(s->max));
    json_array_append_new(r->rows, labels);
}

void result_goal_at_most(struct result *r, const char *name, const char *unit, double limit,
                         double value, bool measured)
{
    json_array_append_new(r->goals,
                          json_pack("{s:s, s:s, s:s, s:f, s:o, s:b}", "name", name, "unit",
                                    unit, "is", "at most", "goal", limit, "value",
                                    measured ? json_real(value) : json_null(), "holds",
                                    measured && value <= limit));
}

int result_write(struct result *r, const char *path)
{
    char tmp[4096];
    int rc;

    snprintf(tmp, sizeof(tmp), "%s.tmp", path);
    rc = json_dump_file(r->root, tmp, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    if (!rc)
        rc = rename(tmp, path);
    json_decref(r->root);
    r->root = r->rows = r->goals = NULL;
    return rc;
}
