/* SPDX-License-Identifier: MIT */
/*
 * memsys: reads what the memory-system model counts, in the emulated machine as root; and tells
 * those who start the machine what it needs.
 *
 * Use:  memsys machines                  the machines that are known
 *       memsys slit MACHINE NODES        distances, row by row, for the lab
 *       memsys size CPUS NODES NODE_MB   bytes of the shared region, a power of two
 *       memsys show                      counters of each CPU (a table); --json: all of them
 *       memsys pages [N]                 the N pages with most misses (20); --json: all pages that
 *                                        had any
 *       memsys map PID TAG               where the pages of a guest's memory are (its process's
 *                                        memfd), for `memsys trace`
 *       memsys trace FILE [MAP]          a trace as text; with MAP only the guest's accesses, by
 *                                        the guest's pages
 * --region FILE reads a file instead of the PCI device.
 * Errors: one line and status 1; wrong use: status 2.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/memsys/reader.h"
#include "bench/memsys/region.h"
#include "bench/memsys/trace.h"
#include "numa/machine_model.h"

/* What was asked for. */
struct wish {
    bool json;          /* instead of a table */
    const char *region; /* a file, or NULL: the device */
};

static int wrong_use(void)
{
    fprintf(stderr, "usage: memsys machines | slit MACHINE NODES | size CPUS NODES NODE_MB |\n"
                    "       [--region FILE] [--json] show | pages [N] | map PID TAG |\n"
                    "       trace FILE [MAP]\n");
    return 2;
}

static int list_machines(void)
{
    for (const struct machine_model *m = machine_models; m->name; m++) {
        printf("%-8s %s: %u MHz, %u KiB %u-way, ns at distance", m->name, m->about, m->mhz,
               m->cache_kib, m->ways);
        for (int i = 0; i < MACHINE_MODEL_STEPS && m->step[i].distance; i++)
            printf(" %u: %u", m->step[i].distance, m->step[i].ns);
        printf("\n         source: %s\n", m->source);
    }
    return 0;
}

static int print_slit(const char *name, unsigned n)
{
    const struct machine_model *m = machine_model_by_name(name);

    if (!m || !n || n > m->nodes) {
        if (m)
            fprintf(stderr, "memsys: %s is described for 1 to %u nodes\n", name, m->nodes);
        else
            fprintf(stderr, "memsys: no machine %s (memsys machines lists them)\n", name);
        return 1;
    }
    for (unsigned i = 0; i < n * n; i++)
        printf("%u%s", machine_model_distance(m, n, i / n, i % n), i + 1 < n * n ? " " : "\n");
    return 0;
}

static int print_size(unsigned cpus, unsigned nodes, uint64_t mb)
{
    uint64_t bytes = 1 << 20, need;

    if (!cpus || !nodes || !mb || cpus > MEMSYS_CPUS || nodes > MEMSYS_NODES || mb > 1 << 20) {
        fprintf(stderr, "memsys: up to %d CPUs and %d nodes can be modelled\n", MEMSYS_CPUS,
                MEMSYS_NODES);
        return 1;
    }
    need = memsys_region_bytes(cpus, nodes, mb << 20);
    while (bytes < need)
        bytes <<= 1;
    printf("%" PRIu64 "\n", bytes);
    return 0;
}

/* ---- show ---- */

static json_t *json_nodes(const uint64_t *v, unsigned n, uint64_t factor)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < n; i++)
        json_array_append_new(a, json_integer((json_int_t)(v[i] * factor)));
    return a;
}

/* One CPU's counters for a tag and mode; sampled ones are scaled. */
static json_t *json_count(const struct memsys_header *h, const struct memsys_count *n)
{
    uint64_t f = h->sample;
    json_t *o = json_object();

    json_object_set_new(o, "insns", json_integer((json_int_t)n->insns));
    json_object_set_new(o, "access", json_nodes(n->access, MEMSYS_KINDS, f));
    json_object_set_new(o, "hit", json_integer((json_int_t)(n->hit * f)));
    json_object_set_new(o, "read_miss", json_nodes(n->miss[MEMSYS_READ], h->nnodes, f));
    json_object_set_new(o, "write_miss", json_nodes(n->miss[MEMSYS_WRITE], h->nnodes, f));
    json_object_set_new(o, "fetch_miss", json_nodes(n->miss[MEMSYS_FETCH], h->nnodes, f));
    json_object_set_new(o, "upgrade", json_nodes(n->upgrade, h->nnodes, f));
    json_object_set_new(o, "coherence", json_integer((json_int_t)(n->coherence * f)));
    json_object_set_new(o, "dirty", json_integer((json_int_t)(n->dirty * f)));
    json_object_set_new(o, "invalidated", json_integer((json_int_t)(n->invalidated * f)));
    json_object_set_new(o, "writeback", json_integer((json_int_t)(n->writeback * f)));
    json_object_set_new(o, "io", json_integer((json_int_t)(n->io * f)));
    json_object_set_new(o, "stall_ps", json_nodes(n->stall_ps, h->nnodes, f));
    json_object_set_new(o, "bound_ps", json_integer((json_int_t)(n->bound_ps * f)));
    json_object_set_new(o, "queue_ps", json_integer((json_int_t)(n->queue_ps * f)));
    return o;
}

static json_t *json_header(const struct memsys_header *h)
{
    json_t *o = json_object(), *node = json_array(), *tag = json_array(), *lat = json_array();

    json_object_set_new(o, "machine", json_string(h->machine));
    json_object_set_new(o, "cpus", json_integer(h->ncpus));
    json_object_set_new(o, "nodes", json_integer(h->nnodes));
    json_object_set_new(o, "node_bytes", json_integer((json_int_t)h->node_bytes));
    json_object_set_new(o, "sample", json_integer(h->sample));
    json_object_set_new(o, "line", json_integer((json_int_t)h->line));
    json_object_set_new(o, "insn_ps", json_integer((json_int_t)h->insn_ps));
    json_object_set_new(o, "resets", json_integer((json_int_t)h->resets));
    json_object_set_new(o, "toggles", json_integer((json_int_t)h->toggles));
    json_object_set_new(o, "on", json_boolean(h->on));
    json_object_set_new(o, "mark", json_integer((json_int_t)h->mark));
    json_object_set_new(o, "trace_records", json_integer((json_int_t)h->trace_records));
    json_object_set_new(o, "trace_lost", json_integer((json_int_t)h->trace_lost));
    json_object_set_new(o, "tlb_checked", json_integer((json_int_t)h->tlb_checked));
    json_object_set_new(o, "tlb_wrong", json_integer((json_int_t)h->tlb_wrong));
    for (unsigned c = 0; c < h->ncpus; c++) {
        json_array_append_new(node, json_integer(h->node_of_cpu[c]));
        json_array_append_new(tag, json_integer((json_int_t)h->tag_of_cpu[c]));
    }
    for (unsigned n = 0; n < h->nnodes; n++)
        json_array_append_new(lat, json_nodes(h->latency_ps[n], h->nnodes, 1));
    json_object_set_new(o, "node_of_cpu", node);
    json_object_set_new(o, "tag_of_cpu", tag);
    json_object_set_new(o, "latency_ps", lat);
    json_object_set_new(o, "queue_ps", json_nodes(h->queue_ps, h->nnodes, 1));
    return o;
}

/* Everything counted, as JSON: tags and modes that did nothing are left out. */
static int show_json(struct memsys_header *h)
{
    static const char *const mode_name[MEMSYS_MODES] = {"user", "kernel"};
    json_t *o = json_header(h), *counts = json_array();
    int err;

    for (unsigned i = 0; i < h->ncpus * MEMSYS_TAGS * MEMSYS_MODES; i++) {
        unsigned mode = i % MEMSYS_MODES, tag = i / MEMSYS_MODES % MEMSYS_TAGS;
        unsigned cpu = i / (MEMSYS_MODES * MEMSYS_TAGS);
        const struct memsys_count *n = memsys_counts(h, cpu, tag, mode);
        json_t *c;

        if (!n->insns)
            continue;
        c = json_count(h, n);
        json_object_set_new(c, "cpu", json_integer(cpu));
        json_object_set_new(c, "tag", json_integer(tag));
        json_object_set_new(c, "mode", json_string(mode_name[mode]));
        json_array_append_new(counts, c);
    }
    json_object_set_new(o, "counts", counts);
    err = json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(o);
    return err ? 1 : 0;
}

/* Misses and upgrades of a counter at a node. */
static uint64_t served(const struct memsys_count *n, unsigned node)
{
    return n->miss[MEMSYS_READ][node] + n->miss[MEMSYS_WRITE][node] +
           n->miss[MEMSYS_FETCH][node] + n->upgrade[node];
}

/* A line of the table. */
static void show_row(const struct memsys_header *h, unsigned cpu, unsigned tag,
                     const char *mode, const struct memsys_count *n)
{
    uint64_t local = 0, remote = 0, lstall = 0, rstall = 0;

    for (unsigned i = 0; i < h->nnodes; i++) {
        bool near = i == h->node_of_cpu[cpu];

        local += near ? served(n, i) : 0;
        remote += near ? 0 : served(n, i);
        lstall += near ? n->stall_ps[i] : 0;
        rstall += near ? 0 : n->stall_ps[i];
    }
    printf("%3u %3u %-6s %14" PRIu64 " %14" PRIu64 " %11" PRIu64 " %11" PRIu64 " %9" PRIu64
           " %9.3f %9.3f %9.3f\n",
           cpu, tag, mode, n->insns, n->hit * h->sample, local * h->sample, remote * h->sample,
           n->coherence * h->sample, (double)(n->insns * h->insn_ps) / 1e9,
           (double)(lstall * h->sample) / 1e9, (double)(rstall * h->sample) / 1e9);
}

static int show(struct memsys_header *h)
{
    static const char *const mode_name[MEMSYS_MODES] = {"user", "kernel"};

    printf("%s, %u nodes, %u CPUs, 1 of %u sets; modelled ms\n", h->machine, h->nnodes,
           h->ncpus, h->sample);
    printf("CPU tag mode     instructions           hits       local      remote coherence   "
           "running     local    remote\n");
    for (unsigned c = 0; c < h->ncpus; c++)
        for (unsigned t = 0; t < MEMSYS_TAGS; t++)
            for (unsigned m = 0; m < MEMSYS_MODES; m++)
                if (memsys_counts(h, c, t, m)->insns)
                    show_row(h, c, t, mode_name[m], memsys_counts(h, c, t, m));
    return 0;
}

/* ---- pages ---- */

/* A page and all its misses. */
struct hot {
    uint64_t page, misses;
};

static int by_misses(const void *a, const void *b)
{
    const struct hot *x = a, *y = b;

    return x->misses < y->misses ? 1 : x->misses > y->misses ? -1 : x->page > y->page;
}

/* Prints the pages that missed most. */
static int pages(struct memsys_header *h, unsigned long most, bool json)
{
    struct hot *hot = calloc(h->pages, sizeof(*hot));
    uint64_t n = 0;

    if (!hot)
        return 1;
    for (uint64_t i = 0; i < h->pages; i++) {
        const struct memsys_page *pg = memsys_page(h, i);
        uint64_t sum = 0;

        for (unsigned k = 0; k < h->nnodes; k++)
            sum += pg[k].misses + pg[k].writes;
        if (sum)
            hot[n++] = (struct hot){i, sum};
    }
    qsort(hot, n, sizeof(*hot), by_misses);
    if (json)
        printf("[");
    for (uint64_t i = 0; i < n && (json || i < most); i++) {
        const struct memsys_page *pg = memsys_page(h, hot[i].page);

        printf(json ? "%s{\"node\":%" PRIu64 ",\"page\":%" PRIu64 ",\"by\":["
                    : "%snode %" PRIu64 " page %8" PRIu64 " ",
               json && i ? ",\n" : "", hot[i].page * MEMSYS_PAGE / h->node_bytes, hot[i].page);
        for (unsigned k = 0; k < h->nnodes; k++)
            printf(json ? "%s[%u,%u]" : "%s  %8u/%-8u", json && k ? "," : "", pg[k].misses,
                   pg[k].writes);
        printf(json ? "]}" : "\n");
    }
    if (json)
        printf("]\n");
    free(hot);
    return 0;
}

/* ---- the command line ---- */

/* Commands that read the region. */
static int with_region(const struct wish *w, int argc, char **argv)
{
    struct memsys_header *h = reader_open(w->region);

    if (!h)
        return 1;
    if (!strcmp(argv[0], "show"))
        return w->json ? show_json(h) : show(h);
    if (!strcmp(argv[0], "map"))
        return argc == 3 ? reader_map(h, atoi(argv[1]), (unsigned)atoi(argv[2])) : wrong_use();
    return pages(h, argc > 1 ? strtoul(argv[1], NULL, 10) : 20, w->json);
}

int main(int argc, char **argv)
{
    struct wish w = {.json = false, .region = NULL};

    argc--, argv++;
    for (; argc && !strncmp(*argv, "--", 2); argc--, argv++) {
        if (!strcmp(*argv, "--json"))
            w.json = true;
        else if (!strcmp(*argv, "--region") && argc > 1)
            argc--, w.region = *++argv;
        else
            return wrong_use();
    }
    if (argc == 1 && !strcmp(*argv, "machines"))
        return list_machines();
    if (argc == 3 && !strcmp(*argv, "slit"))
        return print_slit(argv[1], (unsigned)strtoul(argv[2], NULL, 10));
    if (argc == 4 && !strcmp(*argv, "size"))
        return print_size((unsigned)strtoul(argv[1], NULL, 10),
                          (unsigned)strtoul(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    if ((argc == 2 || argc == 3) && !strcmp(*argv, "trace"))
        return reader_trace(argv[1], argc == 3 ? argv[2] : NULL);
    if (argc >= 1 &&
        (!strcmp(*argv, "show") || !strcmp(*argv, "pages") || !strcmp(*argv, "map")))
        return with_region(&w, argc, argv);
    return wrong_use();
}
