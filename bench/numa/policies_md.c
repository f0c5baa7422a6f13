/* SPDX-License-Identifier: MIT */
/*
 * The table of `bench/numa/numa --policies`, for terminals and as Markdown, and the page around it.
 * Interface in policies.h.  Threads: one.
 */
#include <jansson.h>
#include <string.h>

#include "bench/numa/policies.h"

/* The cells of a row that was run. */
static void run_cells(FILE *f, const struct report *r, const struct row *row, const char *bar)
{
    const struct run *run = row_typical(row);
    const struct run_pages *p = &run->pages;

    fprintf(f, "%s %7.2f %s %5.1f %s %5.1f ", bar, row->time.median, bar,
            run_local_percent(run), bar, policies_work(r, row));
    if (p->known)
        fprintf(f, "%s %6.0f %s %6.0f %s %6.0f %s %6.0f %s %6.0f %s %5.1f ", bar,
                policies_rate(row), bar, p->migrated, bar, p->replicated, bar, p->collapsed,
                bar, p->evicted, bar, p->share * 100);
    else
        fprintf(f, "%s %6s %s %6s %s %6s %s %6s %s %6s %s %5s ", bar, "-", bar, "-", bar, "-",
                bar, "-", bar, "-", bar, "-");
    fprintf(f, "%s %u", bar, row->n);
}

/* One line. */
static void line(FILE *f, const struct report *r, const struct row *row, const char *bar)
{
    fprintf(f, "%s %-11s %s %-16s ", bar, row->workload, bar, row->placement);
    if (!row->n && !(row->bound > 0)) {
        fprintf(f, "%s did not run %s\n", bar, bar);
        return;
    }
    fprintf(f, "%s %5.1f %s %5.1f ", bar, report_relative(r, row), bar,
            policies_relative(r, row));
    for (unsigned i = 0; i < RUN_PARTS; i++)
        fprintf(f, "%s %6.1f ", bar, report_part(r, row, i));
    if (row->n)
        run_cells(f, r, row, bar);
    else
        fprintf(f, "%s %7.2f %s %5s %s", bar, row->bound, bar, "100", bar);
    fprintf(f, " %s\n", bar);
}

void policies_table(FILE *f, const struct report *r, bool markdown)
{
    const char *bar = markdown ? "|" : "";

    if (markdown)
        fputs(
            "| workload | pages | time | of best static | user | kernel | host | local stall | "
            "remote stall | seconds | local % | page work % | actions/s | migrated | "
            "replicated | "
            "collapsed | evicted | pager's own share % | n |\n"
            "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            f);
    else
        fprintf(f,
                "modelled time on %s, first row of each workload = 100\n"
                " workload     pages              time  best    user  kernel    host   local  "
                "remote "
                " seconds local  page actions   migr-   repli-   col-  evicted pager n\n"
                "                                       static                          stall  "
                " stall"
                "              %%  work %%  /s       ated    cated  lapsed             %%\n",
                r->machine);
    for (unsigned i = 0; i < r->nrows; i++) {
        if (!markdown && i && report_base(r, &r->row[i]) == &r->row[i])
            fputc('\n', f);
        line(f, r, &r->row[i], bar);
    }
}

/* Goals as a table. */
static void goals(FILE *f, const struct policies *p)
{
    fputs("| goal | at most | measured | holds |\n|---|--:|--:|---|\n", f);
    for (unsigned i = 0; i < p->ngoals; i++) {
        const struct policies_goal *g = &p->goal[i];

        fprintf(f, "| %s | %.3g %s | ", g->name, g->limit, g->unit);
        if (g->measured)
            fprintf(f, "%.3g %s | %s |\n", g->value, g->unit,
                    g->value <= g->limit ? "yes" : "**no**");
        else
            fputs("not measured | **no** |\n", f);
    }
}

/* A part of a whole. */
static void part_cell(FILE *f, const json_t *a, const char *key)
{
    const json_t *v = json_object_get(a, key);

    if (json_is_number(v))
        fprintf(f, " %.2f |", json_number_value(v));
    else
        fputs(" - |", f);
}

/* How well samples agree with what is believed, where that was asked. */
static void agreement(FILE *f, const struct report *r)
{
    static const char *const keys[] = {"covered", "recall",  "precision", "overlap",
                                       "who",     "sharers", "written",   NULL};
    bool begun = false;

    for (unsigned i = 0; i < r->nrows; i++) {
        const struct run *run = row_typical(&r->row[i]);

        if (!run || !run->pages.agreement)
            continue;
        if (!begun)
            fputs(
                "\nHow well `faults` agrees with `flash` at the end of the region; no page is "
                "acted on (docs/stat.md says what the columns are):\n\n"
                "| workload | sampling | covered | recall | precision | overlap | who | "
                "sharers | written |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n",
                f);
        begun = true;
        fprintf(f, "| %s | %s |", r->row[i].workload, r->row[i].placement);
        for (const char *const *k = keys; *k; k++)
            part_cell(f, run->pages.agreement, *k);
        fputc('\n', f);
    }
}

/* A machine's section. */
static void machine(FILE *f, const struct policies *p, unsigned m)
{
    const struct report *r = &p->machine[m];
    const struct run *any = NULL;

    for (unsigned i = 0; i < r->nrows && !any; i++)
        any = row_typical(&r->row[i]);
    fprintf(f, "\n## `%s`\n\n", r->machine);
    if (any)
        fprintf(
            f,
            "%u nodes, %u CPUs; an instruction takes %.2f ns, a line from the own node %.0f "
            "ns, "
            "from the farthest %.0f ns, more when that node is busy or another CPU has changed "
            "the line.\n\n",
            any->nnodes, any->ncpus, any->insn_ns, any->latency[0],
            any->latency[any->nnodes - 1]);
    fprintf(f, "![](numa%s%s.svg)\n\n", m ? "-" : "", m ? r->machine : "");
    policies_table(f, r, true);
    agreement(f, r);
}

void policies_markdown(FILE *f, const struct policies *p)
{
    fputs(
        "# What a guest gains when its pages migrate and replicate\n\n"
        "Written by `make bench-numa-policies` (`bench/numa/numa --policies`); all figures, by "
        "CPU "
        "and node, in `numa.json`. The policies, their settings and sources of samples are in "
        "`bench/numa/policies`.\n\n",
        f);
    goals(f, p);
    fprintf(
        f,
        "\n**Time is modelled, not measured**, as in [numa-baseline.md](numa-baseline.md), "
        "which "
        "also says what is weak in that. The work is longer here, and *raytrace* and "
        "*engineering* work on more memory; the region of interest begins when some of the "
        "work "
        "is done, with the model on and the policy at work. %u repetitions were asked for; the "
        "experiment took %.0f minutes. Workloads that no guest came to do on a machine are "
        "left "
        "out.\n\n"
        "`time`: the first row of each workload is 100; `of best static`: the better of "
        "first-touch and interleave is. `host` is what host and VMM did, but for stalls. `page "
        "work "
        "%%` is what host and VMM took more than in the first row, stalls included, of all "
        "time: "
        "sampling, decisions, actions, faults, and what they cost others. `actions/s` are per "
        "second of the CPU that took longest. `pager's own share` is by its own clock, since "
        "the "
        "guest's start. `all-local` is a bound, not a run.\n",
        p->machine[0].reps, p->seconds / 60);
    for (unsigned m = 0; m < p->nmachines; m++)
        machine(f, p, m);
    fputs(
        "\n## What is weak here\n\n"
        "- The lab's time is slowed down but goes on with this machine's clock: on a busy "
        "machine "
        "an interval holds less work, and interrupts take a larger share.\n"
        "- It goes by as it would for eight CPUs of `flash`. Those of `epyc2s` are several "
        "times as fast: there are as "
        "many times more intervals, timer interrupts and samples to the work than there should "
        "be.\n"
        "- The region is what comes after some rounds of the same work in which policies learn "
        "(pmake 6, raytrace 26, engineering 8, database 4, alternate and counters 4; "
        "placements that stay, and "
        "carrefour, get one): what moving in costs is mostly not in it. Programs that run for "
        "seconds only "
        "would not repay it on these machines.\n"
        "- *engineering* and *pmake* begin new processes in each round, on pages that their "
        "guest's kernel chooses anew: what was learnt in one round is of no use in the next. "
        "Programs that go on, as in the paper, are yet to come.\n"
        "- A sampled fault takes about 45,000 instructions here, so `faults` sees too little "
        "in "
        "these seconds to move anything.\n"
        "- An emulated machine does a page action with all its kernel's instructions and "
        "misses. On "
        "the 400-MIPS machine `flash` that makes actions several times as dear, in misses "
        "saved, as "
        "on hosts of today.\n"
        "- The lab's clock of CPU time counts instructions, not stalls, so the pager takes its "
        "actions to be cheaper than they are in modelled time.\n"
        "- `carrefour` decides once a second and only above 50 accesses per us: in regions of "
        "a few seconds it acts on "
        "`alternate` only, and its other rows show what sampling costs.\n",
        f);
}
