/* SPDX-License-Identifier: MIT */
/*
 * `disco doctor`: tells what this host lacks and the command that mends it.
 * Interface: cmd_doctor(); the checks are in doctor_kvm.c and doctor_host.c.
 * Checks are gathered in struct doctor and printed when all were made, as a table or as JSON.
 *
 * Exit status 0 when guests can run; else EXIT_NOKVM, EXIT_PERMISSION or EXIT_EMULATED.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/monitor/commands.h"
#include "vmm/monitor/doctor.h"

static const char *const state_name[] = {"ok", "warn", "fail"};

/* Adds a check with its text. */
static void add(struct doctor *d, const char *name, enum doctor_state state, const char *mend,
                char *meaning)
{
    INVARIANT(d->n < DOCTOR_MAX, "there is room for every check of the doctor");
    d->check[d->n++] =
        (struct doctor_check){.name = name, .state = state, .meaning = meaning, .mend = mend};
}

void doctor_say(struct doctor *d, const char *name, enum doctor_state state, const char *mend,
                const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add(d, name, state, mend, xvasprintf(fmt, ap));
    va_end(ap);
}

void doctor_fail(struct doctor *d, const char *name, int status, const char *mend,
                 const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add(d, name, DOCTOR_FAIL, mend, xvasprintf(fmt, ap));
    va_end(ap);
    if (!d->status)
        d->status = status;
}

bool doctor_read(const struct doctor *d, const char *path, char *line, unsigned len)
{
    char *full = xasprintf("%s%s", d->root, path);
    FILE *f = fopen(full, "re");
    bool ok = false;

    free(full);
    if (!f)
        return false;
    if (fgets(line, (int)len, f)) {
        line[strcspn(line, "\n")] = 0;
        ok = true;
    }
    fclose(f);
    return ok;
}

/* The table. */
static void print_table(const struct doctor *d)
{
    unsigned count[3] = {0};
    const struct doctor_check *c;

    printf("%-18s %-5s %s\n", "check", "state", "what it means");
    for (unsigned i = 0; i < d->n; i++) {
        c = &d->check[i];
        count[c->state]++;
        printf("%-18s %-5s %s\n", c->name, state_name[c->state], c->meaning);
        if (c->state != DOCTOR_OK && c->mend)
            printf("%-18s %-5s   mend: %s\n", "", "", c->mend);
    }
    printf("\n%s: %u ok, %u warn, %u fail\n",
           d->status ? "no guest can run on this host" : "guests can run on this host",
           count[DOCTOR_OK], count[DOCTOR_WARN], count[DOCTOR_FAIL]);
}

/* What the probe measured, or null. */
static json_t *probe_json(const struct doctor *d)
{
    const struct kvm_probe *p = &d->probe;
    json_t *missing = json_array();

    if (!d->probed) {
        json_decref(missing);
        return json_null();
    }
    for (unsigned i = 0; i < p->nmissing; i++)
        json_array_append_new(missing, json_string(p->missing[i]));
    return json_pack("{s:i, s:b, s:f, s:f, s:f, s:i, s:i, s:i, s:b, s:b, s:o}", "api", p->api,
                     "emulated", p->emulated, "kernel_ips", p->kernel_ips, "user_ips",
                     p->user_ips, "ratio", p->ratio, "nr_vcpus", (int)p->nr_vcpus, "max_vcpus",
                     (int)p->max_vcpus, "nr_memslots", (int)p->nr_memslots, "memory_fault_info",
                     p->memory_fault_info, "stats_fd", p->stats_fd, "missing", missing);
}

/* Everything as JSON. */
static void print_json(const struct doctor *d)
{
    json_t *checks = json_array(), *all;
    const struct doctor_check *c;

    for (unsigned i = 0; i < d->n; i++) {
        c = &d->check[i];
        json_array_append_new(checks, json_pack("{s:s, s:s, s:s, s:s?}", "check", c->name,
                                                "state", state_name[c->state], "meaning",
                                                c->meaning, "mend", c->state ? c->mend : NULL));
    }
    all = json_pack("{s:i, s:b, s:o, s:o}", "status", d->status, "guests_run", !d->status,
                    "checks", checks, "kvm", probe_json(d));
    INVARIANT(all, "the host has no memory left for JSON");
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

/* Reads the command line; EXIT_OK or EXIT_USAGE.  --root, for tests, looks at a recorded tree. */
static int parse(struct doctor *d, bool *json, int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"root", required_argument, NULL, 'r'},
                                            {NULL, 0, NULL, 0}};
    int c;

    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (c == 'j')
            *json = true;
        else if (c == 'r')
            d->root = optarg;
        else
            return cmd_option("doctor", c, argv);
    }
    if (optind < argc)
        return cmd_usage("doctor", "%s: no argument is taken", argv[optind]);
    return EXIT_OK;
}

int cmd_doctor(int argc, char **argv)
{
    struct doctor *d = xcalloc(1, sizeof(*d));
    bool json = false;
    int status;

    d->root = "";
    status = parse(d, &json, argc, argv);
    if (!status) {
        doctor_kvm(d);
        doctor_host(d);
        doctor_pages(d);
        if (json)
            print_json(d);
        else
            print_table(d);
        status = d->status;
        if (fflush(stdout) || ferror(stdout))
            status = status ? status : EXIT_RESOURCE;
    }
    for (unsigned i = 0; i < d->n; i++)
        free(d->check[i].meaning);
    free(d);
    return status;
}
