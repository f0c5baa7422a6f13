/* SPDX-License-Identifier: MIT */
/*
 * `disco replay`: runs the placement policies on a trace or a synthetic workload, on a
 * described machine, beside the oracle that knows the future.  Interface: cmd_replay().
 * Needs no guest and no KVM, and starts nothing; one thread.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "numa/oracle.h"
#include "numa/replay.h"
#include "numa/replay_machine.h"
#include "vmm/monitor/commands.h"

enum { POLICIES_MAX = 16 };

/* What the command line asked for; strings belong to it. */
struct ask {
    const char *trace, *synthetic, *policy, *machine;
    struct workload_filter filter; /* of a trace */
    struct replay_setup setup;     /* all but machine, workload and policy */
    bool json;                     /* JSON instead of the table */
    bool loss;                     /* say where the first policy loses */
};

/* One policy's result. */
struct outcome {
    const struct policy_ops *policy;
    struct replay_result r;
};

/* All there is to show. */
struct shown {
    const struct ask *ask;
    const struct replay_machine *machine;
    const struct workload *workload;
    struct oracle_result oracle;
    struct oracle_result by_class[WORKLOAD_CLASSES];
    unsigned n; /* entries of outcome */
    struct outcome outcome[POLICIES_MAX];
};

/* a / b, 0 if b is 0. */
static double ratio(uint64_t a, uint64_t b)
{
    return b ? (double)a / (double)b : 0;
}

/* The oracle's stall and actions over the policy's: 1 is as good as can be. */
static double of_oracle(const struct shown *s, const struct replay_result *r)
{
    return ratio(s->oracle.ns, r->stall_ns + r->work_ns + r->sample_ns);
}

/* Modelled time over that of pages left where they were first touched. */
static double of_first(const struct shown *s, const struct replay_result *r)
{
    return ratio(replay_time(r), s->oracle.first_ns + r->compute_ns);
}

/* Share of one CPU, of modelled time, that deciding took. */
static double decide_share(const struct replay_result *r)
{
    return ratio(r->decide_ns, r->guest_ns);
}

/* ---- JSON ---- */

/* What was done. */
static json_t *actions_json(const struct replay_result *r)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "migrate",
        (json_int_t)r->act[ACT_MIGRATE], "replicate", (json_int_t)r->act[ACT_REPLICATE],
        "collapse", (json_int_t)r->act[ACT_COLLAPSE], "evict", (json_int_t)r->act[ACT_EVICT],
        "collapsed_by_write", (json_int_t)r->forced, "failed", (json_int_t)r->failed,
        "over_budget", (json_int_t)r->numbers.over_budget, "no_memory",
        (json_int_t)r->numbers.no_memory, "resting", (json_int_t)r->numbers.resting);
}

/* One policy. */
static json_t *outcome_json(const struct shown *s, const struct outcome *o)
{
    const struct replay_result *r = &o->r;
    json_t *j =
        json_pack("{s:s, s:f, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "policy",
                  o->policy->name, "local", ratio(r->local, r->accesses), "time_ns",
                  (json_int_t)replay_time(r), "of_first_touch", of_first(s, r), "of_oracle",
                  of_oracle(s, r), "stall_ns", (json_int_t)r->stall_ns, "compute_ns",
                  (json_int_t)r->compute_ns, "work_ns", (json_int_t)r->work_ns, "sample_ns",
                  (json_int_t)r->sample_ns, "samples", (json_int_t)r->samples, "replicas_most",
                  (json_int_t)r->replicas_most, "actions", actions_json(r));

    json_object_update_new(
        j, json_pack("{s:I, s:f, s:I, s:I, s:I, s:I}", "decide_ns", (json_int_t)r->decide_ns,
                     "decide_share", decide_share(r), "decide_most_ns",
                     (json_int_t)r->decide_most, "count_ns", (json_int_t)r->count_ns,
                     "examined", (json_int_t)r->numbers.examined, "counters_bytes",
                     (json_int_t)r->counters_bytes));
    return j;
}

/* Everything. */
static int show_json(const struct shown *s)
{
    const struct workload *w = s->workload;
    const struct oracle_result *o = &s->oracle;
    uint64_t guest = w->units * workload_bytes(w);
    json_t *list = json_array(), *j;
    int rc;

    for (unsigned i = 0; i < s->n; i++)
        json_array_append_new(list, outcome_json(s, &s->outcome[i]));
    j = json_pack(
        "{s:{s:s, s:i, s:i, s:I}, s:{s:s, s:I, s:I, s:i, s:i, s:I}, s:s, "
        "s:{s:I, s:f, s:I, s:I, s:I, s:I}, s:o}",
        "machine", "name", s->ask->machine, "nodes", (int)s->machine->lat.nnodes, "cpus",
        (int)s->machine->cpus, "node_bytes", (json_int_t)replay_node_bytes(s->machine, w),
        "workload", "name", w->name, "guest_bytes", (json_int_t)guest, "page_bytes",
        (json_int_t)workload_bytes(w), "active_pages", (int)w->active, "intervals",
        (int)w->intervals, "interval_ns", (json_int_t)w->interval_ns, "source",
        s->ask->setup.source == REPLAY_FAULTS ? "faults" : "flash", "oracle", "ns",
        (json_int_t)o->ns, "local", ratio(o->local, o->accesses), "first_touch_ns",
        (json_int_t)o->first_ns, "static_ns", (json_int_t)o->static_ns, "bound_ns",
        (json_int_t)o->bound_ns, "delayed_ns", (json_int_t)o->delayed_ns, "policies", list);
    rc = json_dumpf(j, stdout, JSON_INDENT(1));
    json_decref(j);
    putchar('\n');
    return rc;
}

/* ---- the table ---- */

/* Where the first policy loses, by class of pages and by cause, as percent of the oracle's time. */
static void show_loss(const struct shown *s)
{
    const struct replay_result *r = &s->outcome[0].r;
    const struct workload *w = s->workload;

    if (!s->ask->loss)
        return;
    printf("\n%s, stall and work, %% of the oracle's:\n%-12s %7s %7s %7s %7s %7s %7s\n",
           s->outcome[0].policy->name, "class", "local", "stall", "work", "oracle", "late",
           "lost");
    for (unsigned i = 0; i < (w->nclasses ? w->nclasses : 1); i++) {
        const struct replay_part *part = &r->part[i];
        const struct oracle_result *o = &s->by_class[i];
        uint64_t all = s->oracle.ns;

        printf("%-12s %6.1f%% %6.1f%% %6.1f%% %6.1f%% %6.1f%% %6.1f%%\n",
               workload_class_name(w, i), 100 * ratio(part->local, part->accesses),
               100 * ratio(part->stall_ns, all), 100 * ratio(part->work_ns, all),
               100 * ratio(o->ns, all), 100 * ratio(o->delayed_ns, all),
               100 * (ratio(part->stall_ns + part->work_ns, all) - ratio(o->ns, all)));
    }
    printf("\n%-28s %7s\n", "above all local, because of", "");
    for (unsigned i = 0; i < LOSS_KINDS; i++)
        printf("%-28s %6.1f%%\n", replay_loss_names[i],
               100 * ratio(r->loss_ns[i], s->oracle.ns));
    printf("%-28s %6.1f%%\n\n", "(the oracle, of all kinds)",
           100 * ratio(s->oracle.ns - s->oracle.bound_ns, s->oracle.ns));
}

/* Everything. */
static void show_text(const struct shown *s)
{
    const struct workload *w = s->workload;
    const struct oracle_result *o = &s->oracle;
    uint64_t kib = workload_bytes(w) >> 10;
    char guest[TOPO_SIZE_LEN];

    printf("%s on %s: %s guest, %u pages of %llu KiB in use, %u intervals of %.0f ms, "
           "%u nodes, %u CPUs, seen by %s\n",
           w->name, s->ask->machine, topo_size(guest, w->units * workload_bytes(w)), w->active,
           (unsigned long long)kib, w->intervals, (double)w->interval_ns / 1e6,
           s->machine->lat.nnodes, s->machine->cpus,
           s->ask->setup.source == REPLAY_FAULTS ? "faults" : "flash");
    printf("%-12s %7s %7s %7s %9s %9s %9s %7s %7s %8s\n", "policy", "local", "time", "oracle",
           "moves", "copies", "collapses", "work", "samples", "decide");
    for (unsigned i = 0; i < s->n; i++) {
        const struct replay_result *r = &s->outcome[i].r;
        uint64_t time = replay_time(r);

        printf("%-12s %6.1f%% %6.1f%% %7.3f %9llu %9llu %9llu %6.2f%% %6.2f%% %7.3f%%\n",
               s->outcome[i].policy->name, 100 * ratio(r->local, r->accesses),
               100 * of_first(s, r), of_oracle(s, r), (unsigned long long)r->act[ACT_MIGRATE],
               (unsigned long long)r->act[ACT_REPLICATE],
               (unsigned long long)r->forced + r->act[ACT_COLLAPSE],
               100 * ratio(r->work_ns, time), 100 * ratio(r->sample_ns, time),
               100 * decide_share(r));
    }
    printf("%-12s %6.1f%% %6.1f%% %7.3f\n", "oracle", 100 * ratio(o->local, o->accesses),
           100 * ratio(o->ns + s->outcome[0].r.compute_ns,
                       o->first_ns + s->outcome[0].r.compute_ns),
           1.0);
    printf("%-12s %7s %6.1f%% %7.3f\n", "one late", "",
           100 * ratio(o->delayed_ns + s->outcome[0].r.compute_ns,
                       o->first_ns + s->outcome[0].r.compute_ns),
           ratio(o->ns, o->delayed_ns));
    show_loss(s);
    printf("one late: the oracle when it learns everything an interval late.\n"
           "time: of first-touch's. oracle: the oracle's stall and work over the policy's. "
           "decide: of one CPU.\n");
}

/* ---- running ---- */

/* Replays one policy. */
static int one(struct shown *s, const struct policy_ops *ops, struct err *err)
{
    struct replay_setup setup = s->ask->setup;
    struct outcome *o = &s->outcome[s->n];
    int rc;

    setup.causes = s->ask->loss;
    setup.machine = s->machine;
    setup.workload = s->workload;
    setup.policy = o->policy = ops;
    rc = replay_run(&setup, &o->r, err);
    s->n += !rc;
    return rc;
}

/* Replays all policies that were asked for. */
static int replay_all(struct shown *s, struct err *err)
{
    const struct policy_ops *ops = policy_by_name(s->ask->policy);
    int rc = ops ? one(s, ops, err) : 0;

    for (const struct policy_ops *p = policies; !ops && p->name && !rc; p++)
        rc = s->n < POLICIES_MAX ? one(s, p, err) : 0;
    if (!rc)
        oracle_run(&s->oracle, s->workload, &s->machine->lat, &s->ask->setup.cost, s->by_class);
    return rc;
}

/* Shows; 0 or -errno. */
static int show(const struct shown *s, struct err *err)
{
    int rc = 0;

    if (s->ask->json)
        rc = show_json(s);
    else
        show_text(s);
    if (rc || fflush(stdout) || ferror(stdout))
        return fail(err, EXIT_RESOURCE, EIO, "standard output: writing failed");
    return 0;
}

/* Reads machine and workload, replays, shows. */
static int run(const struct ask *ask, struct err *err)
{
    struct replay_machine m;
    struct workload w = {0};
    struct shown *s;
    int rc = replay_machine_read(&m, ask->machine, err);

    if (rc)
        return rc;
    if (ask->trace)
        rc = workload_trace(&w, ask->trace, m.lat.nnodes, &ask->filter, err);
    else
        rc = workload_read(&w, ask->synthetic, m.lat.nnodes, err);
    if (rc)
        return rc;
    workload_fit(&w, m.cpus, m.lat.ns[0][0]);
    s = xcalloc(1, sizeof(*s));
    s->ask = ask;
    s->machine = &m;
    s->workload = &w;
    rc = replay_all(s, err);
    if (!rc)
        rc = show(s, err);
    free(s);
    workload_free(&w);
    return rc;
}

/* ---- the command line ---- */

/* Reads a whole number within a range. */
static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno && *value >= min && *value <= max;
}

/* --set NAME=VALUE */
static int set(struct ask *ask, const char *text)
{
    const char *eq = strchr(text, '=');
    uint64_t value;
    char name[32];
    int rc;

    if (!eq || (size_t)(eq - text) >= sizeof(name))
        return cmd_usage("replay", "--set %s: NAME=VALUE is right", text);
    memcpy(name, text, (size_t)(eq - text));
    name[eq - text] = 0;
    if (!number(eq + 1, 0, UINT32_MAX, &value))
        return cmd_usage("replay", "--set %s: the value wants a whole number", text);
    rc = policy_tune_set(&ask->setup.tune, name, value);
    if (rc == -ENOENT)
        return cmd_usage("replay", "--set %s: there is no threshold \"%s\"", text, name);
    return rc ? cmd_usage("replay", "--set %s: out of range", text) : EXIT_OK;
}

/* --source NAME */
static int source(struct ask *ask, const char *name)
{
    ask->setup.source = !strcmp(name, "faults") ? REPLAY_FAULTS : REPLAY_FLASH;
    if (ask->setup.source == REPLAY_FAULTS || !strcmp(name, "flash"))
        return EXIT_OK;
    return cmd_usage("replay", "--source %s: flash or faults is right", name);
}

/* One option with a value; letters are those of parse(). */
static int option(struct ask *ask, int letter, const char *text)
{
    uint64_t n;

    switch (letter) {
    case 's':
        ask->synthetic = text;
        return EXIT_OK;
    case 'p':
        ask->policy = text;
        if (!strcmp(text, "all") || policy_by_name(text))
            return EXIT_OK;
        return cmd_usage("replay", "--policy %s: there is no such policy", text);
    case 'm':
        ask->machine = text;
        return EXIT_OK;
    case 'c':
        return source(ask, text);
    case 't':
        return set(ask, text);
    case 'g':
        if (!number(text, 0, 255, &n))
            return cmd_usage("replay", "--guest %s: a tag from 0 to 255 is right", text);
        ask->filter.guest = (int)n;
        return EXIT_OK;
    default:
        if (!number(text, 1, 1000000, &n))
            return cmd_usage("replay", "--group %s: 1 to 1000000 is right", text);
        ask->filter.group = (uint32_t)n;
        return EXIT_OK;
    }
}

/* Reads the command line; EXIT_OK or EXIT_USAGE. */
static int parse(struct ask *ask, int argc, char **argv)
{
    static const struct option options[] = {{"synthetic", required_argument, NULL, 's'},
                                            {"policy", required_argument, NULL, 'p'},
                                            {"machine", required_argument, NULL, 'm'},
                                            {"source", required_argument, NULL, 'c'},
                                            {"set", required_argument, NULL, 't'},
                                            {"guest", required_argument, NULL, 'g'},
                                            {"group", required_argument, NULL, 'n'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"loss", no_argument, NULL, 'l'},
                                            {NULL, 0, NULL, 0}};
    int c, rc;

    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (c == ':' || c == '?')
            return cmd_option("replay", c, argv);
        if (c == 'j' || c == 'l') {
            ask->json |= c == 'j';
            ask->loss |= c == 'l';
            continue;
        }
        rc = option(ask, c, optarg);
        if (rc)
            return rc;
    }
    if (argc - optind > 1)
        return cmd_usage("replay", "one trace at most, %d given", argc - optind);
    ask->trace = optind < argc ? argv[optind] : NULL;
    if (!ask->trace == !ask->synthetic)
        return cmd_usage("replay", "a trace or --synthetic is wanted, one of them");
    return EXIT_OK;
}

int cmd_replay(int argc, char **argv)
{
    struct ask ask = {.policy = "replicate",
                      .machine = "flash",
                      .filter = {.guest = -1, .group = 1, .mhz = 1000},
                      .setup = replay_setup_default()};
    struct err err = {0};
    int rc = parse(&ask, argc, argv);

    if (rc)
        return rc;
    return run(&ask, &err) ? cmd_fail(&err) : EXIT_OK;
}
