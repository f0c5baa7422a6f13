/* SPDX-License-Identifier: MIT */
/*
 * The raw lines of bench/boot: see runs.h.
 */
#include "bench/boot/runs.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int runs_read(struct json_t *runs, const char *path)
{
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;

    if (!f)
        return -1;
    while (getline(&line, &cap, f) > 0) {
        json_t *o = json_loads(line, 0, NULL);

        if (o)
            json_array_append_new(runs, o);
    }
    free(line);
    fclose(f);
    return 0;
}

/* Whether a line is a subject's. */
static bool is_of(const json_t *run, const struct subject *s)
{
    const char *part = json_string_value(json_object_get(run, "part"));
    const char *vmm = json_string_value(json_object_get(run, "vmm"));

    return part && vmm && !strcmp(part, s->part) && !strcmp(vmm, s->vmm) &&
           (unsigned)json_number_value(json_object_get(run, "vcpus")) == s->vcpus;
}

/* The value at a path, false when there is none. */
static bool value_at(const json_t *run, const char *path, double *v)
{
    const char *slash = strchr(path, '/');
    const json_t *in = run, *at;
    char first[32];

    if (slash) {
        snprintf(first, sizeof(first), "%.*s", (int)(slash - path), path);
        in = json_object_get(run, first);
        path = slash + 1;
    }
    at = json_object_get(in, path);
    *v = json_number_value(at);
    return at || (json_is_object(in) && slash && !strcmp(first, "kvm"));
}

struct summary runs_of(const struct json_t *runs, const struct subject *s,
                       const struct measure *m)
{
    double *v = calloc(json_array_size(runs) + 1, sizeof(*v));
    struct summary sum = {0};
    size_t n = 0, i;
    json_t *run;

    json_array_foreach(runs, i, run)
    {
        if (v && is_of(run, s) && json_object_get(run, "text_ms"))
            n += value_at(run, m->path, &v[n]);
    }
    if (v)
        sum = summarize(v, n);
    free(v);
    return sum;
}

size_t runs_tried(const struct json_t *runs, const struct subject *s)
{
    size_t n = 0, i;
    json_t *run;

    json_array_foreach(runs, i, run)
    {
        n += is_of(run, s);
    }
    return n;
}
