/* SPDX-License-Identifier: MIT */
/*
 * cases: runs the programs with known answers in the lab, as root, and prints for each figure what
 * was to be and what the model counted, one line of JSON each; bench/memsys/report.c judges.
 *
 * Use:  cases [--part NAME] [--rep N] [all | NAME...]     cases list
 *       cases [...] tlb                compared translations (checktlb=1) are to be right
 *       cases [...] guest TAG NODE LINES [CPU]   a guest with this tag is to have missed so many
 *                                      lines of that node (on that CPU, else on any), and none else
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/memsys/casekit.h"
#include "bench/memsys/cases.h"
#include "bench/memsys/roi.h"
#include "numa/machine_model.h"

/* Runs those of a table that were named; the number of them. */
static unsigned run_some(const struct kit *k, const struct known_case *table, int argc,
                         char **argv)
{
    unsigned n = 0;

    for (const struct known_case *c = table; c->name; c++)
        for (int i = 0; i < argc; i++)
            if (!strcmp(argv[i], c->name) || !strcmp(argv[i], "all")) {
                c->run(k, c->name);
                n++;
            }
    return n;
}

static int list(void)
{
    const struct known_case *const tables[] = {cases_one, cases_many};

    for (unsigned t = 0; t < 2; t++)
        for (const struct known_case *c = tables[t]; c->name; c++)
            printf("%-20s %s\n", c->name, c->about);
    return 0;
}

/*
 * Compares a guest's figures.  The guest (guestload) reads each line of a buffer much larger than
 * the cache; its pages lie anywhere in its memory, all of which is on one node: all lines miss there.
 */
static int guest(const struct kit *k, char **argv)
{
    unsigned tag = (unsigned)strtoul(argv[0], NULL, 10),
             node = (unsigned)strtoul(argv[1], NULL, 10);
    double lines = strtod(argv[2], NULL), others = 0;
    uint32_t cpus = argv[3] ? UINT32_C(1) << strtoul(argv[3], NULL, 10) : UINT32_MAX;
    struct memsys_count n;
    char variant[64];

    if (tag >= MEMSYS_TAGS || node >= k->nnodes)
        return 2;
    snprintf(variant, sizeof(variant), "tag %u, memory on node %u%s%s", tag, node,
             argv[3] ? ", CPU " : "", argv[3] ? argv[3] : "");
    kit_sum(k, cpus, tag, MEMSYS_USER, &n);
    for (unsigned i = 0; i < k->nnodes; i++)
        for (unsigned kind = 0; kind < MEMSYS_KINDS; kind++)
            others += kind == MEMSYS_READ && i == node ? 0 : (double)n.miss[kind][i];
    kit_row(k, "guest", variant, "read misses at its node", lines,
            (double)n.miss[MEMSYS_READ][node], 0);
    kit_row(k, "guest", variant, "all other misses", 0, others, lines);
    if (argv[3]) {
        unsigned from = (unsigned)strtoul(argv[3], NULL, 10) / (k->ncpus / k->nnodes);

        kit_row(k, "guest", variant, "stall, ps, without congestion",
                lines * (double)k->ps[from][node], (double)(n.stall_ps[node] - n.queue_ps), 0);
    }
    return 0;
}

/* All translations that the plugin kept are to be the emulator's own. */
static int tlb(const struct kit *k)
{
    double checked = (double)k->h->tlb_checked;

    kit_row(k, "translations", "all", "compared, fewer than a million", 0, checked < 1e6, 1);
    kit_row(k, "translations", "all", "wrong ones among those compared", 0,
            (double)k->h->tlb_wrong, checked / 1e6);
    fprintf(stderr, "cases: %.0f translations compared, %.0f wrong\n", checked,
            (double)k->h->tlb_wrong);
    return 0;
}

int main(int argc, char **argv)
{
    struct kit k = {.part = "cases", .rep = "1"};
    unsigned n;

    argc--, argv++;
    for (; argc > 1 && !strncmp(*argv, "--", 2); argc -= 2, argv += 2) {
        if (!strcmp(*argv, "--part"))
            k.part = argv[1];
        else if (!strcmp(*argv, "--rep"))
            k.rep = argv[1];
        else
            break;
    }
    if (argc == 1 && !strcmp(*argv, "list"))
        return list();
    if (argc < 1 || **argv == '-') {
        fprintf(stderr, "usage: cases [--part NAME] [--rep N] all | list | NAME... | tlb | "
                        "guest TAG NODE LINES [CPU]\n");
        return 2;
    }
    kit_open(&k);
    if (!strcmp(*argv, "guest") && (argc == 4 || argc == 5))
        return guest(&k, argv + 1);
    if (!strcmp(*argv, "tlb") && argc == 1)
        return tlb(&k);
    n = run_some(&k, cases_one, argc, argv) + run_some(&k, cases_many, argc, argv);
    if (!n)
        fprintf(stderr, "cases: no case of that name (cases list)\n");
    /* A model that broke its invariants ends the emulator here. */
    ROI(ROI_CHECK, 0);
    return n ? 0 : 2;
}
