/* SPDX-License-Identifier: MIT */
/*
 * The report on the memory-system model for people: memsys.md and the table on the terminal.
 * Interface: report.h.
 */
#include "bench/memsys/report.h"

#include <jansson.h>
#include <string.h>

static const char *text(const json_t *row, const char *key)
{
    const char *s = json_string_value(json_object_get(row, key));

    return s ? s : "";
}

void table_write(FILE *f, const struct report *r)
{
    unsigned good = 0;

    fprintf(f, "%-9s %-20s %4s %7s %9s %9s %8s %6s  %s\n", "part", "case", "reps", "figures",
            "median", "largest", "spread", "limit", "farthest off");
    for (unsigned i = 0; i < r->ncases; i++) {
        const struct judged *j = &r->cases[i];
        bool holds = judged_holds(j);

        good += holds;
        fprintf(f, "%-9s %-20s %4zu %7u %8.3f%% %8.3f%% %7.3f%% %5.0f%%  %s%s%s\n", j->part,
                j->name, j->worst.n, j->figures, j->worst.median, j->worst.max, j->spread,
                j->limit, holds ? "" : "FAILS: ", j->whole ? "" : "figures are missing; ",
                j->at);
    }
    fprintf(f, "memsys: %u cases hold, %u do not\n", good, r->ncases - good);
}

/* The cases of one part. */
static void part_table(FILE *f, const struct report *r, const char *part)
{
    fputs("| case | repetitions | figures | deviation, median | largest | spread | limit | "
          "holds |\n"
          "|---|--:|--:|--:|--:|--:|--:|---|\n",
          f);
    for (unsigned i = 0; i < r->ncases; i++) {
        const struct judged *j = &r->cases[i];

        if (!strcmp(j->part, part))
            fprintf(f, "| %s | %zu | %u | %.3f %% | %.3f %% | %.3f %% | %.0f %% | %s |\n",
                    j->name, j->worst.n, j->figures, j->worst.median, j->worst.max, j->spread,
                    j->limit, judged_holds(j) ? "yes" : "**no**");
    }
    fputc('\n', f);
}

/* Every figure of one part. */
static void figures(FILE *f, const struct report *r, const char *part)
{
    size_t i;
    json_t *row;

    fputs("| case | variant | figure | expected | median | min | max |\n"
          "|---|---|---|--:|--:|--:|--:|\n",
          f);
    json_array_foreach(r->rows, i, row)
    {
        double expected, scale;
        struct summary s;

        if (strcmp(text(row, "part"), part) || !report_first(r, i))
            continue;
        report_figure(r, row, &expected, &scale, &s);
        fprintf(f, "| %s | %s | %s | %.0f | %.0f | %.0f | %.0f |\n", text(row, "case"),
                text(row, "variant"), text(row, "measure"), expected, s.median, s.min, s.max);
    }
    fputc('\n', f);
}

void markdown_write(FILE *f, const struct report *r)
{
    size_t i;
    json_t *plan;

    fputs("# The memory-system model beside derived counts\n\n"
          "Written by `make memsys-check`; all figures in `memsys.json`; what the model is:\n"
          "[memsys.md](../memsys.md).\n\n![](memsys.svg)\n\n"
          "Each case is a program whose counts follow from the shape of the cache; the "
          "derivation\n"
          "stands above the program, in `bench/memsys/cases_one.c` and `cases_many.c`. A "
          "figure's\n"
          "deviation is what was counted beside what was derived, in per cent of that; of a "
          "case the\n"
          "largest of all its figures counts, in any repetition. What ought to be nothing is "
          "one\n"
          "figure too, \"all that was not expected\", in per cent of the case's accesses. The "
          "spread\n"
          "is the largest of all figures: (max - min) / median over the repetitions.\n\n",
          f);
    json_array_foreach(r->plans, i, plan)
    {
        const char *part = text(plan, "plan");

        fprintf(f, "## %s\n\n", text(plan, "about"));
        if (!strcmp(part, "off"))
            fputs(
                "CPU seconds of an emulated machine that boots, works and boots a guest, with "
                "the "
                "model\nloaded and off, beside those of one without it, in turn: what it adds. "
                "The median counts.\n\n",
                f);
        part_table(f, r, part);
    }
    fprintf(f, "## Every figure of the first part\n\n");
    figures(f, r, text(json_array_get(r->plans, 0), "plan"));
}
