/* SPDX-License-Identifier: MIT */
/*
 * The figures of a guest's pages; see the header.  docs/stat.md has every field.
 */
#include "vmm/monitor/stat_pages.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "numa/topo.h"
#include "vmm/cell/proto.h"
#include "vmm/monitor/member.h"
#include "vmm/monitor/table.h"

enum { PAGE = 4096, WHY_SHOWN = 400 };

/* A figure of pages as bytes. */
static void pages_cell(struct table *t, const json_t *o, const char *key)
{
    char buf[16];

    if (json_is_number(json_object_get(o, key)))
        table_cell(t, "%s", human_size(buf, member_count(o, key) * PAGE));
    else
        table_cell(t, "-");
}

/* A part of a whole as per cent, with a digit or two behind the point; "-" where there is none. */
static const char *percent(char buf[16], double part)
{
    if (part < 0 || part > 1e6)
        return "-";
    snprintf(buf, 16, part < 0.01 ? "%.2f%%" : "%.1f%%", 100 * part);
    return buf;
}

/* One node, or with a name all of them. */
static void node_row(struct table *t, const json_t *n, const char *name)
{
    uint64_t uses = member_count(n, "uses_local") + member_count(n, "uses_remote");
    char buf[16];

    if (name)
        table_cell(t, "%s", name);
    else
        table_cell(t, "%lld%s", (long long)member_num(n, "node"),
                   json_is_true(json_object_get(n, "cpuless")) ? " (no CPUs)" : "");
    pages_cell(t, n, "private");
    pages_cell(t, n, "masters");
    pages_cell(t, n, "replicas");
    pages_cell(t, n, "shared");
    table_cell(t, "%s", percent(buf, member_real(n, "local_fraction")));
    table_cell(t, "%s", human_count(buf, uses));
}

/* Adds a node's figure to the sum's, where it has it. */
static void add_to(json_t *sum, const json_t *n, const char *key)
{
    uint64_t all = member_count(sum, key) + member_count(n, key);

    if (json_is_number(json_object_get(n, key)))
        json_object_set_new(sum, key, json_integer((json_int_t)all));
}

/* The table of nodes, with a line of sums. */
static void print_nodes(FILE *f, const json_t *pages)
{
    static const char *const heads[] = {
        "node", ">private", ">replicated", ">replicas", ">shared", ">local fraction", ">uses"};
    static const char *const sums[] = {"private", "masters",    "replicas",
                                       "shared",  "uses_local", "uses_remote"};
    json_t *nodes = json_object_get(pages, "nodes"), *sum = json_object(), *n;
    struct table t;
    size_t i;

    json_object_set(sum, "local_fraction", json_object_get(pages, "local_fraction"));
    table_init(&t, heads, 7);
    json_array_foreach(nodes, i, n)
    {
        if (i == TOPO_MAX_NODES)
            break;
        node_row(&t, n, NULL);
        for (unsigned k = 0; k < 6; k++)
            add_to(sum, n, sums[k]);
    }
    node_row(&t, sum, "all");
    table_print(&t, f);
    json_decref(sum);
}

/* A figure as "950", "12k"; of several a line, each needs a buffer. */
static const char *figure(char buf[16], const json_t *o, const char *key)
{
    return human_count(buf, member_count(o, key));
}

/* What was done. */
static void print_done(FILE *f, const json_t *d)
{
    char a[16], b[16], c[16], e[16], g[16];

    fprintf(f,
            "\npages     %s migrated, %s replicated, %s collapsed, %s evicted, %s not done\n",
            figure(a, d, "migrated"), figure(b, d, "replicated"), figure(c, d, "collapsed"),
            figure(e, d, "evicted"), figure(g, d, "refused"));
    fprintf(f, "writes    %s found a page protected, %s of them open again; %s by devices\n",
            figure(a, d, "write_faults"), figure(b, d, "stray_faults"),
            figure(c, d, "device_writes"));
    fprintf(f, "mappings  %s for replicas, of %s there may be", figure(a, d, "mappings"),
            figure(b, d, "mappings_limit"));
    if (json_is_boolean(json_object_get(d, "kernel_moves")))
        fprintf(f, "; pages move by %s",
                json_is_true(json_object_get(d, "kernel_moves")) ? "the kernel" : "copy");
    fputc('\n', f);
}

/* How well that agrees with what is believed. */
static void print_agreement(FILE *f, const json_t *a)
{
    char name[MEMBER_SHOWN], n[16], p[4][16];

    if (!json_is_object(a))
        return;
    fprintf(f, "agrees    with %s on", member_shown(name, a, "with"));
    fprintf(
        f,
        " %s of the %s pages most used from afar; who uses them %s, sharers %s, written %s\n",
        percent(p[0], member_real(a, "recall")), figure(n, a, "top"),
        percent(p[1], member_real(a, "who")), percent(p[2], member_real(a, "sharers")),
        percent(p[3], member_real(a, "written")));
}

/* What was sampled. */
static void print_sampling(FILE *f, const json_t *s)
{
    char a[16], b[16], c[16], e[16], name[MEMBER_SHOWN];
    uint64_t rate = member_count(s, "rate");

    fprintf(f, "sampling  %s, ", member_shown(name, s, "source"));
    if (rate)
        fprintf(f, "%s pages an interval; ", human_count(e, rate));
    fprintf(f, "%s revoked, %s touches, %s lost\n", figure(a, s, "revoked"),
            figure(b, s, "touches"), figure(c, s, "lost"));
    print_agreement(f, json_object_get(s, "agreement"));
}

/* Milliseconds for people: small ones with a digit behind the point. */
static const char *ms(char buf[24], const json_t *o, const char *key)
{
    double v = member_real(o, key);

    if (v < 0)
        return "-";
    if (v < 100)
        snprintf(buf, 24, "%.1f ms", v);
    else
        human_time(buf, member_count(o, key));
    return buf;
}

/* What it cost. */
static void print_cost(FILE *f, const json_t *c)
{
    char a[24], b[24], d[24], e[24], p[16];

    fprintf(f, "cost      %s of the guest's CPU time: pager %s, faults %s in %s",
            percent(p, member_real(c, "share")), ms(a, c, "pager_ms"), ms(b, c, "faults_ms"),
            ms(d, c, "elapsed_ms"));
    fprintf(f, "; proofs %s\n", ms(e, c, "checks_ms"));
}

/* Policy and how it goes. */
static void print_policy(FILE *f, const json_t *g, const json_t *pages)
{
    char name[MEMBER_SHOWN], state[MEMBER_SHOWN], policy[MEMBER_SHOWN], a[16], b[16], c[16],
        p[16], t[24];

    fprintf(f, "guest %s: %s; policy %s every %s, %s times so far",
            member_shown(name, g, "name"), member_shown(state, g, "state"),
            member_shown(policy, pages, "policy"), ms(t, pages, "interval_ms"),
            figure(a, pages, "intervals"));
    if (member_count(pages, "waited"))
        fprintf(f, ", put off %s times for lack of CPU time", figure(b, pages, "waited"));
    fprintf(f, "\n%s of all uses were local; %s proofs held\n\n",
            percent(p, member_real(pages, "local_fraction")), figure(c, pages, "checks"));
}

/* Why there are no figures of pages; malloc'd.  NULL: there are. */
static char *why_not(const json_t *g, const json_t *stat)
{
    const json_t *pages = json_object_get(stat, "pages");
    const char *why = json_string_value(json_object_get(pages, "why"));
    char shown[WHY_SHOWN];

    if (!json_is_object(stat))
        return xstrdup("its cell left no figures");
    if (why) {
        proto_text(shown, sizeof(shown), why, strlen(why));
        return xasprintf("its pages stay where they were put first: %s", shown);
    }
    if (json_is_object(json_object_get(pages, "done")))
        return NULL;
    if (member_num(g, "views") < 2)
        return xstrdup("it has one view, so its pages have nowhere to go");
    return xstrdup("its pages stay where they were put first: its policy is none, or this host "
                   "lacks something; its log says what, `disco doctor` what mends it");
}

void stat_pages_print(FILE *f, const struct json_t *g, const struct json_t *stat)
{
    const json_t *pages = json_object_get(stat, "pages");
    char *why = why_not(g, stat), name[MEMBER_SHOWN];

    if (why) {
        fprintf(f, "guest %s: %s\n", member_shown(name, g, "name"), why);
        free(why);
        return;
    }
    print_policy(f, g, pages);
    print_nodes(f, pages);
    print_done(f, json_object_get(pages, "done"));
    print_sampling(f, json_object_get(pages, "sampling"));
    print_cost(f, json_object_get(pages, "cost"));
}

struct json_t *stat_pages_json(const struct json_t *g, const struct json_t *stat)
{
    char *why = why_not(g, stat);
    json_t *o = json_pack("{s:O?, s:O?, s:O?, s:s?}", "name", json_object_get(g, "name"),
                          "state", json_object_get(g, "state"), "pages",
                          why ? NULL : json_object_get(stat, "pages"), "why", why);

    free(why);
    INVARIANT(o, "the host has no memory left for JSON");
    return o;
}
