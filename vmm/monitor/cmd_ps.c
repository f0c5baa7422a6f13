/* SPDX-License-Identifier: MIT */
/*
 * `disco ps`: the guests of a site as a table or JSON.  Threads: one; no state.
 */
#include <jansson.h>
#include <stdio.h>

#include "base/err.h"
#include "vmm/monitor/client.h"
#include "vmm/monitor/commands.h"
#include "vmm/monitor/table.h"

/* The nodes of a guest as "0,1". */
static void nodes_cell(struct table *t, json_t *nodes)
{
    char buf[TABLE_CELL] = "-";
    size_t n = 0, i;
    json_t *v;

    json_array_foreach(nodes, i, v)
    {
        if (n < sizeof(buf) - 16)
            n += (size_t)snprintf(buf + n, sizeof(buf) - n, "%s%lld", i ? "," : "",
                                  (long long)json_integer_value(v));
    }
    table_cell(t, "%s", buf);
}

/* Adds one guest. */
static void guest_row(struct table *t, json_t *g)
{
    const char *name = json_string_value(json_object_get(g, "name"));
    const char *state = json_string_value(json_object_get(g, "state"));
    const char *end = json_string_value(json_object_get(g, "end"));
    json_int_t pid = json_integer_value(json_object_get(g, "pid"));
    json_t *ready = json_object_get(g, "ready_ms");
    char buf[24];

    table_cell(t, "%s", name ? name : "?");
    table_cell(t, end ? "%s: %s" : "%s", state ? state : "?", end);
    if (pid)
        table_cell(t, "%lld", (long long)pid);
    else
        table_cell(t, "-");
    table_cell(t, "%lld", (long long)json_integer_value(json_object_get(g, "vcpus")));
    table_cell(t, "%s",
               human_size(buf, (uint64_t)json_integer_value(json_object_get(g, "memory"))));
    nodes_cell(t, json_object_get(g, "nodes"));
    table_cell(t, "%lld", (long long)json_integer_value(json_object_get(g, "views")));
    table_cell(t, "%s",
               human_time(buf, (uint64_t)json_integer_value(json_object_get(g, "uptime_ms"))));
    if (json_is_number(ready))
        table_cell(t, "%.0f", json_number_value(ready));
    else
        table_cell(t, "-");
}

int cmd_ps(int argc, char **argv)
{
    static const char *const heads[] = {"guest", "state",  ">pid",    ">vcpus",   ">memory",
                                        "nodes", ">views", ">uptime", ">ready ms"};
    static const int none[2] = {0, 0};
    struct client_line l;
    struct err err = {0};
    struct table t;
    json_t *rep, *g;
    size_t i;
    int r = client_parse(&l, argc, argv, CLIENT_JSON, none);

    if (r)
        return r;
    rep = client_call(&l, json_pack("{s:s}", "cmd", "ps"), &err);
    if (!rep)
        return cmd_fail(&err);
    if (l.given & CLIENT_JSON) {
        json_dumpf(rep, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
        putchar('\n');
    } else {
        table_init(&t, heads, 9);
        json_array_foreach(json_object_get(rep, "guests"), i, g)
        {
            guest_row(&t, g);
        }
        table_print(&t, stdout);
    }
    json_decref(rep);
    return EXIT_OK;
}
