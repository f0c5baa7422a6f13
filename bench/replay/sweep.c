/* SPDX-License-Identifier: MIT */
/*
 * Measures placement policies by replay: one threshold after the other swept on three loads,
 * all policies compared, the largest guest.  Writes replay.json, replay.svg and replay.md.
 *
 * Use: sweep RESULTS COMMIT.  All figures are modelled, but the CPU time of decisions, which is
 * this computer's.  Threads: one.
 */
#include "bench/replay/sweep.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "bench/lib/result.h"

enum { PATH_LEN = 4096 };

/* Loads for sweeps: half as long as those of the same name, to save time. */
static struct load sweep_loads[LOADS] = {
    {.name = "mix",
     .machine = "flash",
     .text =
         "mem=4G,run=16,intervals=60,busy=100+private=8192,skew=4+read=2048,rate=1600,skew=3+"
         "write=2048,"
         "skew=2+alternate=512,period=3+phases=2048,period=25+mostly=512,period=5,rate=800+"
         "table=256"},
    {.name = "compile",
     .machine = "flash",
     .text = "mem=4G,run=16,intervals=60,busy=100+private=16384,skew=4,moved=75+read=1024,rate="
             "4000,"
             "skew=4,"
             "moved=0+write=1024,skew=2+table=256+mostly=256,period=10"},
    {.name = "hostile",
     .machine = "epyc2s",
     .text = "mem=1G,run=16,intervals=60,busy=20+write=2048,skew=2+alternate=2048,period=3+"
             "mostly=512,"
             "period=2,"
             "rate=800+table=512,rate=800"},
};

static const struct curve curves_wanted[] = {
    {.knob = "trigger", .n = 7, .value = {1, 4, 8, 16, 32, 64, 128}},
    {.knob = "sharing", .n = 6, .value = {1, 2, 4, 8, 16, 32}},
    {.knob = "write", .n = 5, .value = {1, 2, 4, 16, 64}},
    {.knob = "decay", .n = 5, .value = {1, 2, 3, 4, 32}},
    {.knob = "horizon", .n = 6, .value = {1, 2, 4, 8, 16, 32}},
    {.knob = "margin", .n = 5, .value = {50, 100, 200, 400, 800}},
    {.knob = "dominate", .n = 4, .value = {60, 70, 80, 90}},
    {.knob = "rest", .n = 5, .value = {1, 2, 3, 5, 10}},
    {.knob = "moves", .n = 5, .value = {1, 2, 4, 8, 16}},
    {.knob = "quick", .n = 5, .value = {1, 2, 5, 10, 20}},
    {.knob = "freeze", .n = 5, .value = {10, 30, 100, 300, 1000}},
    {.knob = "collapses", .n = 4, .value = {1, 2, 4, 8}},
    {.knob = "gate", .n = 5, .value = {0, 10, 50, 100, 200}},
    {.knob = "cpu", .n = 6, .value = {2, 5, 10, 30, 60, 100}},
    {.knob = "burst", .n = 4, .value = {1, 3, 10, 30}},
    {.knob = "calm", .n = 6, .value = {0, 2, 8, 16, 32, 64}},
    {.knob = "examine", .n = 5, .value = {512, 2048, 8192, 32768, 131072}},
};
enum { NCURVES = sizeof(curves_wanted) / sizeof(curves_wanted[0]) };

/* One comparison of policies. */
struct duel {
    const char *load, *machine;
};

static const struct duel duels[] = {
    {"private", "flash"}, {"read", "flash"},   {"write", "flash"},    {"ping", "flash"},
    {"mostly", "flash"},  {"tables", "flash"}, {"phases", "flash"},   {"compile", "flash"},
    {"scan", "flash"},    {"mix", "flash"},    {"compile", "epyc2s"}, {"scan", "epyc2s"},
    {"mix", "epyc2s"},
};
enum { NDUELS = sizeof(duels) / sizeof(duels[0]) };

/* How many neighbours have the same users: each page its own, as the loads are given; and 16. */
static const unsigned alike[] = {1, 16};
enum { ALIKE = sizeof(alike) / sizeof(alike[0]) };

/* The worst that a policy makes of the loads of one kind. */
struct worst {
    double mix;     /* of the mixes on epyc2s and flash: the oracle's over ours, least */
    double late;    /* the same of the oracle that learns an interval late */
    double bound;   /* the late oracle's share of the oracle, least */
    double hostile; /* of hostile loads: ours over the best static placement, most */
};

/* The whole run. */
struct run {
    struct result out;
    FILE *md;
    struct curve curves[NCURVES];
    struct worst worst[ALIKE];
};

/* Ends with a message. */
static void die(const char *what, const struct err *err)
{
    fprintf(stderr, "sweep: %s: %s\n", what, err && err->text[0] ? err->text : strerror(errno));
    exit(1);
}

/* Reads a load and asks the oracle. */
static void prepare(struct load *l)
{
    struct err err = {0};

    if (replay_machine_read(&l->m, l->machine, &err) ||
        workload_read(&l->w, l->made[0] ? l->made : l->text, l->m.lat.nnodes, &err))
        die(l->name, &err);
    workload_fit(&l->w, l->m.cpus, l->m.lat.ns[0][0]);
    oracle_run(&l->oracle, &l->w, &l->m.lat, &policy_cost_default, l->by_class);
}

/* One replay. */
static struct replay_result replay(const struct load *l, const struct replay_setup *base)
{
    struct replay_setup s = *base;
    struct replay_result r;
    struct err err = {0};

    s.machine = &l->m;
    s.workload = &l->w;
    if (replay_run(&s, &r, &err))
        die(l->name, &err);
    return r;
}

/* All that is lost to memory and page work. */
static double lost(const struct replay_result *r)
{
    return (double)(r->stall_ns + r->work_ns + r->sample_ns);
}

/* A row with one value. */
static void row(struct run *run, json_t *labels, double value)
{
    struct summary s = summarize(&value, 1);

    result_row(&run->out, labels, &s);
}

/* Measures one curve. */
static void measure(struct run *run, struct curve *c)
{
    for (unsigned i = 0; i < c->n; i++)
        for (unsigned l = 0; l < LOADS; l++) {
            struct replay_setup s = replay_setup_default();
            struct replay_result r;

            if (policy_tune_set(&s.tune, c->knob, c->value[i]))
                die(c->knob, NULL);
            r = replay(&sweep_loads[l], &s);
            c->y[l][i] = (double)sweep_loads[l].oracle.ns / lost(&r);
            if (!l)
                c->work[i] = 100.0 * (double)r.work_ns / (double)replay_time(&r);
            row(run,
                json_pack("{s:s, s:s, s:s, s:i, s:s, s:s}", "part", "sweep", "load",
                          sweep_loads[l].name, "knob", c->knob, "value", (int)c->value[i],
                          "measure", "share of the oracle", "unit", "1"),
                c->y[l][i]);
        }
    fprintf(stderr, "sweep: %s\n", c->knob);
}

/* Adds a policy's rows, and its line of the table. */
static void duel_row(struct run *run, const struct load *l, const char *policy,
                     const char *source, const struct replay_result *r)
{
    const struct {
        const char *name, *unit;
        double value;
    } m[] = {{"local fraction", "%", 100.0 * (double)r->local / (double)r->accesses},
             {"modelled time, first-touch = 100", "%",
              100.0 * (double)replay_time(r) / (double)(l->oracle.first_ns + r->compute_ns)},
             {"share of the oracle", "1", (double)l->oracle.ns / lost(r)},
             {"share of the late oracle", "1", (double)l->oracle.delayed_ns / lost(r)},
             {"page work", "%", 100.0 * (double)r->work_ns / (double)replay_time(r)},
             {"actions per second", "1/s",
              (double)(r->act[ACT_MIGRATE] + r->act[ACT_REPLICATE] + r->forced) * 1e9 /
                  (double)r->guest_ns}};

    fprintf(run->md, "| %s, %u | %s | %s | %s |", l->name, l->w.run, l->machine, policy,
            source);
    for (unsigned i = 0; i < sizeof(m) / sizeof(m[0]); i++) {
        row(run,
            json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s, s:s}", "part", "policies", "load",
                      l->name, "alike", (int)l->w.run, "machine", l->machine, "policy", policy,
                      "source", source, "measure", m[i].name, "unit", m[i].unit),
            m[i].value);
        fprintf(run->md,
                i == 2 || i == 3 ? " %.3f |"
                : i == 4         ? " %.2f |"
                                 : " %.1f |",
                m[i].value);
    }
    fputc('\n', run->md);
}

/* Is a load made to make policies look bad? */
static bool hostile(const char *name)
{
    return !strcmp(name, "write") || !strcmp(name, "ping") || !strcmp(name, "mostly") ||
           !strcmp(name, "tables");
}

/* Notes what the goals are about. */
static void note(struct worst *to, const struct load *l, const struct replay_result *r)
{
    double share = (double)l->oracle.ns / lost(r);
    double late = (double)l->oracle.delayed_ns / lost(r);
    double bound = (double)l->oracle.ns / (double)l->oracle.delayed_ns;
    double over = (double)replay_time(r) / (double)(l->oracle.static_ns + r->compute_ns);

    if (hostile(l->name))
        to->hostile = over > to->hostile ? over : to->hostile;
    if (strcmp(l->name, "mix") != 0 && strcmp(l->name, "compile") != 0 &&
        strcmp(l->name, "scan") != 0)
        return;
    to->mix = share < to->mix ? share : to->mix;
    to->late = late < to->late ? late : to->late;
    to->bound = bound < to->bound ? bound : to->bound;
}

/* Where a replay loses: by class and by cause, both as percent of the oracle's time. */
static void loss_md(struct run *run, const struct load *l, const struct replay_result *r)
{
    double all = (double)l->oracle.ns / 100;

    fprintf(run->md,
            "\n%s on %s, neighbours alike: %u; %% of the oracle's time\n\n| class | local, %% "
            "| stall "
            "| work | oracle | late oracle |\n|---|--:|--:|--:|--:|--:|\n",
            l->name, l->machine, l->w.run);
    for (unsigned i = 0; i < l->w.nclasses; i++)
        fprintf(run->md, "| %s | %.1f | %.1f | %.1f | %.1f | %.1f |\n",
                workload_class_name(&l->w, i),
                100.0 * (double)r->part[i].local / (double)(r->part[i].accesses + 1),
                (double)r->part[i].stall_ns / all, (double)r->part[i].work_ns / all,
                (double)l->by_class[i].ns / all, (double)l->by_class[i].delayed_ns / all);
    fputs("\n| above all local, because of | |\n|---|--:|\n", run->md);
    for (unsigned i = 0; i < LOSS_KINDS; i++) {
        fprintf(run->md, "| %s | %.1f |\n", replay_loss_names[i], (double)r->loss_ns[i] / all);
        row(run,
            json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "part", "loss", "load", l->name,
                      "alike", (int)l->w.run, "machine", l->machine, "measure",
                      replay_loss_names[i], "unit", "% of the oracle"),
            (double)r->loss_ns[i] / all);
    }
    fprintf(run->md, "| (the oracle, of all kinds) | %.1f |\n",
            (double)(l->oracle.ns - l->oracle.bound_ns) / all);
}

/* A load of a duel. */
static struct load load_of(const struct duel *d, unsigned run)
{
    struct load l = {.name = d->load, .machine = d->machine};

    for (const struct workload_name *n = workloads; n->name; n++)
        if (!strcmp(n->name, d->load))
            snprintf(l.made, sizeof(l.made), "run=%u,%s", run, n->text);
    return l;
}

/* All policies on one load; with neighbours alike the default one only. */
static void compare(struct run *run, const struct duel *d, unsigned i)
{
    struct load l = load_of(d, alike[i]);
    struct replay_setup s = replay_setup_default();
    struct replay_result r;

    prepare(&l);
    for (const struct policy_ops *p = policies; p->name && (!i || p == policies); p++) {
        s.policy = p;
        r = replay(&l, &s);
        duel_row(run, &l, p->name, "flash", &r);
        if (p == policies)
            note(&run->worst[i], &l, &r);
    }
    s.policy = &policies[0];
    s.source = REPLAY_FAULTS;
    r = replay(&l, &s);
    duel_row(run, &l, s.policy->name, "faults", &r);
    fprintf(run->md, "| %s, %u | %s | oracle | | %.1f | %.1f | 1 | %.3f | | |\n", l.name,
            l.w.run, l.machine, 100.0 * (double)l.oracle.local / (double)l.oracle.accesses,
            100.0 * (double)(l.oracle.ns + r.compute_ns) /
                (double)(l.oracle.first_ns + r.compute_ns),
            (double)l.oracle.delayed_ns / (double)l.oracle.ns);
    fprintf(stderr, "sweep: %s on %s\n", l.name, l.machine);
}

/* Where the mixes lose. */
static void losses(struct run *run)
{
    static const struct duel mixes[] = {{"mix", "flash"}, {"compile", "flash"}};

    fputs("\n## Where it is lost\n", run->md);
    for (unsigned i = 0; i < ALIKE; i++)
        for (unsigned k = 0; k < sizeof(mixes) / sizeof(mixes[0]); k++) {
            struct load l = load_of(&mixes[k], alike[i]);
            struct replay_setup s = replay_setup_default();
            struct replay_result r;

            s.causes = true;
            prepare(&l);
            r = replay(&l, &s);
            loss_md(run, &l, &r);
        }
}

/* The mix at other costs of actions, the oracle's as well. */
static void costs(struct run *run)
{
    static const unsigned percent[] = {10, 25, 50, 100, 200};
    static const struct duel mix = {"mix", "flash"};

    fputs("\n## Costs of actions\n\n`mix` on `flash`, all costs of actions but faults scaled, "
          "the "
          "oracle's too; share of the oracle.\n\n| neighbours alike | 10 % | 25 % | 50 % | 100 "
          "% | "
          "200 % |\n|---|--:|--:|--:|--:|--:|\n",
          run->md);
    for (unsigned i = 0; i < ALIKE; i++) {
        struct load l = load_of(&mix, alike[i]);
        struct replay_setup s = replay_setup_default();

        prepare(&l);
        fprintf(run->md, "| %u |", alike[i]);
        for (unsigned k = 0; k < sizeof(percent) / sizeof(percent[0]); k++) {
            struct replay_result r;

            s.cost = policy_cost_scaled(&policy_cost_default, percent[k]);
            oracle_run(&l.oracle, &l.w, &l.m.lat, &s.cost, NULL);
            r = replay(&l, &s);
            fprintf(run->md, " %.3f |", (double)l.oracle.ns / lost(&r));
            row(run,
                json_pack("{s:s, s:s, s:i, s:s, s:i, s:s, s:s, s:s}", "part", "costs", "load",
                          "mix", "alike", (int)alike[i], "machine", "flash", "percent",
                          (int)percent[k], "measure", "share of the oracle", "unit", "1",
                          "policy", "replicate"),
                (double)l.oracle.ns / lost(&r));
        }
        fputc('\n', run->md);
    }
}

/* The mixes, and what moves most to no end, on a host where pages move by copy; the oracle's costs
 * are these as well. */
static void by_copy(struct run *run)
{
    static const struct duel loads[] = {
        {"mix", "flash"}, {"compile", "flash"}, {"scan", "flash"}, {"ping", "flash"}};

    fputs("\n## Moves by copy\n\nWhere the kernel does not let us move pages, "
          "`policy_cost_by_copy`; on `flash`.\n\n"
          "| load, neighbours alike | of the oracle | of the late oracle | time, best static "
          "placement = 100 |\n|---|--:|--:|--:|\n",
          run->md);
    for (unsigned k = 0; k < ALIKE * sizeof(loads) / sizeof(loads[0]); k++) {
        struct load l = load_of(&loads[k / ALIKE], alike[k % ALIKE]);
        struct replay_setup s = replay_setup_default();
        struct replay_result r;

        prepare(&l);
        s.cost = policy_cost_by_copy;
        oracle_run(&l.oracle, &l.w, &l.m.lat, &s.cost, NULL);
        r = replay(&l, &s);
        fprintf(run->md, "| %s, %u | %.3f | %.3f | %.1f |\n", l.name, l.w.run,
                (double)l.oracle.ns / lost(&r), (double)l.oracle.delayed_ns / lost(&r),
                100.0 * (double)replay_time(&r) / (double)(l.oracle.static_ns + r.compute_ns));
        row(run,
            json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "part", "by copy", "load", l.name,
                      "alike", (int)l.w.run, "machine", l.machine, "measure",
                      "share of the oracle", "unit", "1"),
            (double)l.oracle.ns / lost(&r));
    }
}

/* The largest guest: the price of decisions. */
static void largest(struct run *run)
{
    struct load l = {.name = "huge", .machine = "big64", .text = "huge"};
    struct replay_setup s = replay_setup_default();
    struct replay_result r;
    double share, decide;

    prepare(&l);
    r = replay(&l, &s);
    share = (double)l.oracle.ns / lost(&r);
    decide = 100.0 * (double)r.decide_ns / (double)r.guest_ns;
    fprintf(
        run->md,
        "\n## The largest guest\n\n1 TiB in blocks of 2 MiB, %u of them in use, 64 nodes, 1024 "
        "CPUs, %u intervals of 100 ms (load `huge`, machine `big64`): decisions took %.2f %% "
        "of "
        "one CPU of this computer, the longest %.1f ms; share of the oracle %.3f, the late "
        "oracle's %.3f; %.1f %% local "
        "(oracle %.1f %%); counters %.1f MiB. Counting itself, every miss of 1024 CPUs, took "
        "%.0f %% of one CPU: `flash` has hardware for that, and `faults` sees less.\n",
        l.w.active, l.w.intervals, decide, (double)r.decide_most / 1e6, share,
        (double)l.oracle.ns / (double)l.oracle.delayed_ns,
        100.0 * (double)r.local / (double)r.accesses,
        100.0 * (double)l.oracle.local / (double)l.oracle.accesses,
        (double)r.counters_bytes / 1048576, 100.0 * (double)r.count_ns / (double)r.guest_ns);
    s.causes = true;
    r = replay(&l, &s);
    loss_md(run, &l, &r);
    row(run,
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "part", "largest", "load", "huge", "machine",
                  "big64", "measure", "decisions", "unit", "% of one CPU"),
        decide);
    result_goal_at_most(&run->out, "1 TiB, 64 nodes, 1024 CPUs: decisions", "% of one CPU", 1,
                        decide, true);
    result_goal_at_most(&run->out,
                        "1 TiB: stall and work over the oracle's (0.95 of it is 1.053)", "x",
                        1 / 0.95, 1 / share, true);
}

/* The goals that comparisons answer. */
static void goals(struct run *run)
{
    for (unsigned i = 0; i < ALIKE; i++) {
        const struct worst *o = &run->worst[i];
        char name[200];

        snprintf(
            name, sizeof(name),
            "neighbours alike: %u; compile, scan, mix on flash and epyc2s, the worst: stall "
            "and work over the oracle's (0.95 of it is 1.053; learning an interval late it "
            "is itself %.3f)",
            alike[i], 1 / o->bound);
        result_goal_at_most(&run->out, name, "x", 1 / 0.95, 1 / o->mix, true);
        snprintf(name, sizeof(name),
                 "neighbours alike: %u; the same over the oracle that learns an interval late",
                 alike[i]);
        result_goal_at_most(&run->out, name, "x", 1 / 0.95, 1 / o->late, true);
        snprintf(name, sizeof(name),
                 "neighbours alike: %u; hostile loads, the worst: modelled time over that of "
                 "the best static placement",
                 alike[i]);
        result_goal_at_most(&run->out, name, "x", 1.02, o->hostile, true);
    }
}

/* Writes the goals into the Markdown. */
static void goals_md(struct run *run)
{
    size_t i;
    json_t *g;

    fputs("\n## Goals\n\n| goal | at most | measured | holds |\n|---|--:|--:|---|\n", run->md);
    json_array_foreach(run->out.goals, i, g)
        fprintf(run->md, "| %s | %.3f %s | %.3f | %s |\n",
                json_string_value(json_object_get(g, "name")),
                json_real_value(json_object_get(g, "goal")),
                json_string_value(json_object_get(g, "unit")),
                json_real_value(json_object_get(g, "value")),
                json_is_true(json_object_get(g, "holds")) ? "yes" : "**no**");
}

/* Opens DIRECTORY/NAME. */
static FILE *create(const char *dir, const char *name)
{
    char path[PATH_LEN];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "we");
    if (!f)
        die(path, NULL);
    return f;
}

/* The sweeps, their picture and tables. */
static void sweeps(struct run *run, const char *dir)
{
    FILE *svg = create(dir, "replay.svg");

    for (unsigned i = 0; i < LOADS; i++)
        prepare(&sweep_loads[i]);
    for (unsigned i = 0; i < NCURVES; i++) {
        run->curves[i] = curves_wanted[i];
        measure(run, &run->curves[i]);
    }
    if (sweep_svg(svg, sweep_loads, run->curves, NCURVES) || fclose(svg))
        die("replay.svg", NULL);
}

int main(int argc, char **argv)
{
    static struct run run;
    char path[PATH_LEN];

    if (argc != 3) {
        fprintf(stderr, "use: sweep RESULTS COMMIT\n");
        return 2;
    }
    result_init(&run.out, "replay", *argv[2] ? argv[2] : NULL,
                json_pack("{s:s}", "model", "numa/replay_machine.c"), true);
    run.md = create(argv[1], "replay.md");
    fputs(
        "# Placement policies by replay\n\nWritten by `make bench-replay`; raw figures in "
        "`replay.json`. All is modelled (`disco replay`, docs/policies.md): latencies of "
        "described machines, synthetic loads, no queues.\n\n![](replay.svg)\n\n## Policies\n\n"
        "| load, neighbours alike | machine | policy | source | local, % | time | of the "
        "oracle | of "
        "the late oracle | work, % | actions/s |\n|---|---|---|---|--:|--:|--:|--:|--:|--:|\n",
        run.md);
    for (unsigned i = 0; i < ALIKE; i++) {
        run.worst[i] = (struct worst){.mix = 1, .late = 1, .bound = 1};
        for (unsigned k = 0; k < NDUELS; k++)
            compare(&run, &duels[k], i);
    }
    fputs("\nTime: first-touch is 100. Of the oracle: its stall and work over the policy's. "
          "The late "
          "oracle learns everything an interval late.\n",
          run.md);
    losses(&run);
    costs(&run);
    by_copy(&run);
    largest(&run);
    goals(&run);
    goals_md(&run);
    sweeps(&run, argv[1]);
    fputs("\n## Thresholds\n\nOne varied at a time, the others as by default (bold). Share of "
          "the "
          "oracle.\n",
          run.md);
    sweep_md(run.md, sweep_loads, run.curves, NCURVES);
    snprintf(path, sizeof(path), "%s/replay.json", argv[1]);
    if (fclose(run.md) || result_write(&run.out, path))
        die(path, NULL);
    return 0;
}
