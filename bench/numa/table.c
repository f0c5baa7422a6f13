/* SPDX-License-Identifier: MIT */
/*
 * The table of bench/numa, for terminals and as Markdown, and the page around it.
 * Interface in report.h.  Threads: one.
 */
#include <string.h>

#include "bench/numa/report.h"

/* Why repetitions of a workload differ. */
struct cause {
    const char *workload; /* one or more */
    const char *text;     /* a sentence without its full stop */
};

static const struct cause causes[];

/* Misses of a run per thousand instructions, of guest and host. */
static double mpki(const struct run *r)
{
    return r->all.insns > 0 ? run_misses(&r->all) / r->all.insns * 1000 : 0;
}

/* The cells of a row that was run. */
static void run_cells(FILE *f, const struct row *row, const char *bar)
{
    const struct run *r = row_typical(row);

    fprintf(f, "%s %7.2f %s %7.2f %s %5.1f %s %6.2f %s %6.1f %s %u %s %5.1f", bar,
            row->time.median, bar, run_longest(r), bar, run_local_percent(r), bar, mpki(r), bar,
            r->all.user / 1e6, bar, row->n, bar, row_spread(row));
}

/* One line. */
static void line(FILE *f, const struct report *r, const struct row *row, const char *bar)
{
    fprintf(f, "%s %-11s %s %-11s ", bar, row->workload, bar, row->placement);
    if (!row->n && !(row->bound > 0)) {
        fprintf(f, "%s did not run %s\n", bar, bar);
        return;
    }
    fprintf(f, "%s %5.1f ", bar, report_relative(r, row));
    for (unsigned i = 0; i < RUN_PARTS; i++)
        fprintf(f, "%s %6.1f ", bar, report_part(r, row, i));
    if (row->n)
        run_cells(f, row, bar);
    else
        fprintf(f, "%s %7.2f %s %7s %s %5s %s %6s %s %6s %s %s %s %5s", bar, row->bound, bar,
                "-", bar, "100", bar, "-", bar, "-", bar, "-", bar, "-");
    fprintf(f, " %s\n", bar);
}

void table_print(FILE *f, const struct report *r, bool markdown)
{
    const char *bar = markdown ? "|" : "";

    if (markdown)
        fputs(
            "| workload | placement | time | user | kernel | host | local stall | remote stall "
            "| seconds | longest CPU | local % | misses/1000 | user M insns | n | spread % |\n"
            "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            f);
    else
        fprintf(f,
                "modelled time on %s, first placement of each workload = 100\n"
                " workload     placement      time    user  kernel    host   local  remote "
                " seconds longest   local misses    user n spread\n"
                "                                                           stall   stall "
                "             CPU       %%  /1000 M insns        %%\n",
                r->machine);
    for (unsigned i = 0; i < r->nrows; i++) {
        if (!markdown && i && report_base(r, &r->row[i]) == &r->row[i])
            fputc('\n', f);
        line(f, r, &r->row[i], bar);
    }
}

/* Goals as a table. */
static void goals(FILE *f, const struct report *r)
{
    fputs("| goal | at most | measured | holds |\n|---|--:|--:|---|\n", f);
    for (unsigned i = 0; i < REPORT_GOALS; i++) {
        const struct goal *g = &r->goal[i];

        fprintf(f, "| %s | %g %s | ", g->name, g->limit, g->unit);
        if (g->measured)
            fprintf(f, "%.3g %s | %s |\n", g->value, g->unit,
                    g->value <= g->limit ? "yes" : "**no**");
        else
            fputs("not measured | **no** |\n", f);
    }
}

/* What was the same, and where repetitions differ. */
static void checks(FILE *f, const struct report *r)
{
    fputs("| workload | results of all runs | user instructions differ by | largest spread of "
          "the "
          "time |\n|---|---|--:|--:|\n",
          f);
    for (unsigned i = 0; i < r->nrows; i++) {
        const struct row *base = &r->row[i];
        double spread = 0;

        if (report_base(r, base) != base)
            continue;
        for (unsigned k = i; k < r->nrows && !strcmp(r->row[k].workload, base->workload); k++)
            spread = row_spread(&r->row[k]) > spread ? row_spread(&r->row[k]) : spread;
        fprintf(f, "| %s | %s | %.2f %% | %.1f %% |\n", base->workload,
                report_results(r, base) == 1 ? "the same" : "**differ**",
                report_user_spread(r, base), spread);
    }
    fputs("\nWhat makes repetitions differ:\n\n", f);
    for (const struct cause *c = causes; c->workload; c++)
        fprintf(f, "- *%s*: %s.\n", c->workload, c->text);
}

void markdown_write(FILE *f, const struct report *r)
{
    const struct run *any = NULL;

    for (unsigned i = 0; i < r->nrows && !any; i++)
        any = row_typical(&r->row[i]);
    fprintf(
        f,
        "# What memory costs a guest on four nodes, by where its pages are\n\n"
        "Written by `make bench-numa` (`bench/numa/numa --machine %s`); all figures, by CPU "
        "and node, in `numa-baseline.json`.\n\n![](numa-baseline.svg)\n\n",
        r->machine);
    goals(f, r);
    fputs("\n**Time is modelled, not measured.** ", f);
    if (any)
        fprintf(
            f,
            "The guest runs in the lab, an emulated machine of %u nodes with %u CPUs, under "
            "the memory-system model (`bench/memsys`) of the machine `%s`: an instruction "
            "takes %.2f ns, a line from the own node %.0f ns, from another %.0f ns, more when "
            "that node is busy or another CPU has changed the line. ",
            any->nnodes, any->ncpus, r->machine, any->insn_ns, any->latency[0],
            any->latency[any->nnodes - 1]);
    fprintf(
        f,
        "The time of a run is the sum over all CPUs of instructions and stalls, of guest and "
        "host, from the beginning of the work to its end; halted CPUs take none. Each "
        "workload's first placement is 100. %u repetitions were asked for, each a guest "
        "freshly "
        "booted; of several the one with the median time is shown. The experiment took %.0f "
        "minutes.\n\n",
        r->reps, r->seconds / 60);
    table_print(f, r, true);
    fputs("\n`host` is all that host and VMM did meanwhile: faults of pages touched first, "
          "exits, "
          "interrupts. Their stalls are in the stalls. `local %` is the part of all misses "
          "(fetched lines and upgrades) at the CPU's own node. `all-local` is a bound, not a "
          "run: "
          "the first placement with every miss charged as local and memory quiet. `spread` is "
          "the "
          "largest time less the smallest, by the median.\n\n## Is it the same work?\n\n",
          f);
    checks(f, r);
    fputs(
        "\n## What is weak here\n\n"
        "- Time does not feed back: a stall is counted, but nobody waits. Who gets a lock "
        "first, "
        "and how a guest's scheduler spreads work, is the emulator's doing, which runs the "
        "CPUs in "
        "turn, 20000 instructions each. The emulated machine's time is 64 times slower than "
        "outside "
        "meanwhile: timer interrupts are rarer than they would be, and how many there are "
        "depends "
        "on how busy the machine outside is.\n"
        "- Page walks, nested or not, are not modelled; neither are devices' accesses.\n"
        "- Pages that devices fill are touched by the VMM's I/O thread, which is bound to the "
        "guest's first node: with `first-touch` the page cache of programs from the disk is "
        "there. A kernel booted by one CPU has its early data there too. Memory that a guest "
        "frees keeps its node: the next user of it may be anywhere.\n"
        "- Sectors read from a disk are counted from the program's start; of *raytrace* that "
        "is "
        "before the region begins.\n"
        "- *pmake* is eight of the package's sources, without optimisation, to keep regions "
        "short.\n",
        f);
}

static const struct cause causes[] = {
    {"pmake",
     "in the first series, under `first-touch` the guest's kernel lies where the VMM's thread "
     "that loads it "
     "happened to run: of its misses 470000, 102000 and 125000 went to node 3 in three "
     "runs, and 91000, 94000 and 459000 to node 1. Which CPU compiles what is the guest's "
     "scheduler's choice"},
    {"raytrace",
     "the CPU that reads the scene is fixed, and the region begins after it has. Before "
     "that, two runs under `one-node` differed by 15 % (2.64 s and 2.27 s), almost all of "
     "it in the CPU that took longest"},
    {"counters",
     "in the first series, under `first-touch` the lines lay where the thread that cleared "
     "them ran, one node or two; these were different ones in three runs"},
    {"others", "below 3 %, and not looked into"},
    {NULL, NULL},
};
