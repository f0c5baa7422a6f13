/* SPDX-License-Identifier: MIT */
/*
 * `disco stat`: all figures of one guest, as tables or JSON.  Shows what is there and skips what
 * is not, so that cells of another version can be looked at.  Threads: one; no state.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/monitor/client.h"
#include "vmm/monitor/commands.h"
#include "vmm/monitor/member.h"
#include "vmm/monitor/stat_pages.h"
#include "vmm/monitor/table.h"

/* One kind of exit. */
struct kind {
    const char *name; /* as the cell calls it */
    json_int_t n;     /* how often */
};

/* Most frequent first. */
static int by_count(const void *a, const void *b)
{
    const struct kind *x = a, *y = b;

    return x->n < y->n ? 1 : x->n > y->n ? -1 : strcmp(x->name, y->name);
}

/* Adds a size, or "-" where there is none. */
static void size_cell(struct table *t, json_t *o, const char *key)
{
    char buf[16];

    if (json_is_number(json_object_get(o, key)))
        table_cell(t, "%s", human_size(buf, (uint64_t)member_num(o, key)));
    else
        table_cell(t, "-");
}

/* State, placement and times. */
static void print_guest(json_t *g, json_t *st)
{
    json_t *ready = json_object_get(g, "ready_ms");
    char size[16], t[24];

    printf("guest %s: %s", member_text(g, "name"), member_text(g, "state"));
    if (json_object_get(g, "result"))
        printf(" (%s)", member_text(g, "result"));
    printf(", %lld vCPUs, %s memory, %lld views, up %s", (long long)member_num(g, "vcpus"),
           human_size(size, (uint64_t)member_num(g, "memory")),
           (long long)member_num(g, "views"),
           human_time(t, (uint64_t)member_num(g, "uptime_ms")));
    if (json_is_number(ready))
        printf(", ready after %.0f ms", json_number_value(ready));
    if (json_is_number(json_object_get(st, "first_run_ms")))
        printf(", first run after %.1f ms",
               json_number_value(json_object_get(st, "first_run_ms")));
    putchar('\n');
}

/* Exits by kind. */
static void print_exits(json_t *exits)
{
    static const char *const heads[] = {"exit", ">count", ">share"};
    size_t n = json_object_size(exits), i = 0;
    struct kind *k = xcalloc(n, sizeof(*k));
    json_int_t total = member_num(exits, "total");
    struct table t;
    const char *name;
    json_t *v;

    json_object_foreach(exits, name, v)
    {
        k[i++] = (struct kind){name, json_integer_value(v)};
    }
    qsort(k, n, sizeof(*k), by_count);
    table_init(&t, heads, 3);
    for (i = 0; i < n; i++) {
        table_cell(&t, "%s", k[i].name);
        table_cell(&t, "%lld", (long long)k[i].n);
        table_cell(&t, "%.1f%%", total ? 100.0 * (double)k[i].n / (double)total : 0.0);
    }
    putchar('\n');
    table_print(&t, stdout);
    free(k);
}

/* One line a vCPU. */
static void print_vcpus(json_t *vcpus)
{
    static const char *const heads[] = {">vcpu",  ">tid",   ">view",       ">node",
                                        "state",  ">exits", ">interrupts", ">ipis",
                                        ">cross", ">moves", ">idle"};
    struct table t;
    json_t *v;
    size_t i;
    char buf[24];

    table_init(&t, heads, 11);
    json_array_foreach(vcpus, i, v)
    {
        table_cell(&t, "%lld", (long long)member_num(v, "id"));
        table_cell(&t, "%lld", (long long)member_num(v, "tid"));
        table_cell(&t, "%lld", (long long)member_num(v, "view"));
        table_cell(&t, "%lld", (long long)member_num(v, "node"));
        table_cell(&t, "%s", member_text(v, "state"));
        table_cell(&t, "%lld", (long long)member_num(json_object_get(v, "exits"), "total"));
        table_cell(&t, "%lld", (long long)member_num(v, "interrupts"));
        table_cell(&t, "%lld", (long long)member_num(v, "ipis_in"));
        table_cell(&t, "%lld", (long long)member_num(v, "ipis_cross_view"));
        table_cell(&t, "%lld", (long long)member_num(v, "moves"));
        table_cell(&t, "%s", human_time(buf, (uint64_t)member_num(v, "idle_ms")));
    }
    putchar('\n');
    table_print(&t, stdout);
}

/* Memory on each node, and the balloon. */
static void print_memory(json_t *mem, json_t *balloon)
{
    static const char *const heads[] = {">node", ">assigned", ">used"};
    char a[16], b[16];
    struct table t;
    json_t *n;
    size_t i;

    printf("\nmemory: %s, of which %s is in use",
           human_size(a, (uint64_t)member_num(mem, "size")),
           human_size(b, (uint64_t)member_num(mem, "used")));
    if (json_is_object(balloon))
        printf("; balloon: %s of %s asked for",
               human_size(a, (uint64_t)member_num(balloon, "actual")),
               human_size(b, (uint64_t)member_num(balloon, "target")));
    putchar('\n');
    table_init(&t, heads, 3);
    json_array_foreach(json_object_get(mem, "nodes"), i, n)
    {
        table_cell(&t, "%lld", (long long)member_num(n, "node"));
        size_cell(&t, n, "assigned");
        size_cell(&t, n, "used");
    }
    table_print(&t, stdout);
}

/* One line a device. */
static void print_devices(json_t *devices)
{
    static const char *const heads[] = {"device", ">requests", ">to guest", ">from guest",
                                        ">errors"};
    struct table t;
    json_t *d;
    size_t i;

    if (!json_array_size(devices))
        return;
    table_init(&t, heads, 5);
    json_array_foreach(devices, i, d)
    {
        table_cell(&t, "%s", member_text(d, "name"));
        table_cell(&t, "%lld", (long long)member_num(d, "requests"));
        size_cell(&t, d, "bytes_in");
        size_cell(&t, d, "bytes_out");
        table_cell(&t, "%lld", (long long)member_num(d, "errors"));
    }
    putchar('\n');
    table_print(&t, stdout);
}

/* Everything, for people. */
static void print_all(json_t *g, json_t *st)
{
    print_guest(g, st);
    if (!json_is_object(st)) {
        printf("its cell left no figures\n");
        return;
    }
    print_exits(json_object_get(st, "exits"));
    print_vcpus(json_object_get(st, "vcpus"));
    print_memory(json_object_get(st, "memory"), json_object_get(st, "balloon"));
    print_devices(json_object_get(st, "devices"));
}

/* As JSON: the cell's figures with the guest beside them, or those of its pages alone. */
static void print_json(json_t *g, json_t *st, bool pages)
{
    json_t *o = pages                ? stat_pages_json(g, st)
                : json_is_object(st) ? json_incref(st)
                                     : json_object();

    if (!pages)
        json_object_set(o, "monitor", g);
    json_dumpf(o, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(o);
}

int cmd_stat(int argc, char **argv)
{
    static const int one[2] = {1, 1};
    struct client_line l;
    struct err err = {0};
    json_t *rep, *g, *st;
    int r = client_parse(&l, argc, argv, CLIENT_JSON | CLIENT_PAGES, one);

    if (r)
        return r;
    rep = client_call(&l, json_pack("{s:s, s:s}", "cmd", "stat", "guest", l.args[0]), &err);
    if (!rep)
        return cmd_fail(&err);
    g = json_array_get(json_object_get(rep, "guests"), 0);
    st = json_object_get(rep, "stat");
    if (l.given & CLIENT_JSON)
        print_json(g, st, l.given & CLIENT_PAGES);
    else if (l.given & CLIENT_PAGES)
        stat_pages_print(stdout, g, st);
    else
        print_all(g, st);
    json_decref(rep);
    return EXIT_OK;
}
