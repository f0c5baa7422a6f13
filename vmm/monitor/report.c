/* SPDX-License-Identifier: MIT */
/*
 * Progress, table, result file and picture of a site.
 *
 * Lines go to standard output one event each and are flushed at once, so that a pipe or a log in
 * the background shows them as they happen.  Names come from the configuration and are plain;
 * reasons come from cells and had their control characters taken out when they arrived.
 * Threads: all on the monitor's loop.
 */
#include "vmm/monitor/report.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "numa/place.h"
#include "numa/topo_draw.h"
#include "vmm/config/config.h"
#include "vmm/monitor/monitor.h"
#include "vmm/monitor/table.h"

enum {
    TOP_KINDS = 3,   /* kinds of exits the table names */
    NODES_TEXT = 64, /* bytes for a list of nodes */
};

/* The nodes of a guest as "0,1,3". */
static char *nodes_text(char buf[NODES_TEXT], const struct place_got *p)
{
    size_t n = 0;

    buf[0] = 0;
    for (unsigned i = 0; i < p->nnodes && n < NODES_TEXT - 8; i++)
        n += (size_t)snprintf(buf + n, NODES_TEXT - n, "%s%d", i ? "," : "", p->nodes[i]);
    return buf;
}

/* Begins a line: seconds since the monitor began, and the guest. */
static void begin_line(const struct report *r, const struct mguest *g)
{
    printf("[%8.3f] %-12s ", (double)(mguest_now() - r->m->begin_ns) / 1e9, g->cfg->name);
}

/* A guest was let go. */
static void on_started(void *arg, const struct mguest *g)
{
    const struct report *r = arg;
    char nodes[NODES_TEXT];

    if (r->quiet)
        return;
    begin_line(r, g);
    printf("started: pid %d, %u vCPU%s, node%s %s\n", (int)g->pid, g->cfg->vcpus,
           g->cfg->vcpus == 1 ? "" : "s", g->place.nnodes == 1 ? "" : "s",
           nodes_text(nodes, &g->place));
    fflush(stdout);
}

/* A guest's console showed that it is up. */
static void on_ready(void *arg, const struct mguest *g)
{
    const struct report *r = arg;

    if (r->quiet)
        return;
    begin_line(r, g);
    printf("ready after %.0f ms\n", (double)g->ready_ns / 1e6);
    fflush(stdout);
}

/* A guest is over. */
static void on_ended(void *arg, const struct mguest *g)
{
    const struct report *r = arg;
    char t[24];

    if (r->quiet)
        return;
    begin_line(r, g);
    printf("ended after %s: %s\n", human_time(t, (g->end_ns - g->start_ns) / 1000000u),
           g->ok ? g->end : g->result);
    fflush(stdout);
}

/* All were let go: with --detach the command that was typed ends here. */
static void on_running(void *arg)
{
    const struct report *r = arg;
    char ok = 0;

    if (r->tellfd >= 0 && write(r->tellfd, &ok, 1) < 0)
        return; /* nobody waits to hear it */
}

const struct monitor_events *report_events(void)
{
    static const struct monitor_events events = {
        .started = on_started, .ready = on_ready, .ended = on_ended, .running = on_running};

    return &events;
}

/* The most frequent exits as "hlt 12k, io 340". */
static char *top_exits(char buf[TABLE_CELL], json_t *exits)
{
    const char *used[TOP_KINDS] = {0};
    char n[16];
    size_t len = 0;

    buf[0] = 0;
    /* a selection sort that stops early: there are a few dozen kinds at most */
    for (unsigned k = 0; k < TOP_KINDS; k++) {
        const char *name, *best = NULL;
        json_t *v;
        json_int_t most = 0;

        json_object_foreach(exits, name, v)
        {
            bool old = !strcmp(name, "total");

            for (unsigned i = 0; i < k; i++)
                old |= !strcmp(name, used[i]);
            if (!old && json_integer_value(v) > most) {
                most = json_integer_value(v);
                best = name;
            }
        }
        if (!best)
            break;
        used[k] = best;
        len += (size_t)snprintf(buf + len, TABLE_CELL - len, "%s%.16s %s", k ? ", " : "", best,
                                human_count(n, (uint64_t)most));
    }
    return buf;
}

void report_table(const struct report *r)
{
    static const char *const heads[] = {"guest", "nodes",   ">vcpus", ">boot ms",
                                        "exits", ">memory", "result"};
    char nodes[NODES_TEXT], size[16], exits[TABLE_CELL];
    struct table t;

    if (r->quiet)
        return;
    table_init(&t, heads, 7);
    for (unsigned i = 0; i < r->m->site->nguests; i++) {
        const struct mguest *g = &r->m->guests[i];

        table_cell(&t, "%s", g->cfg->name);
        table_cell(&t, "%s", nodes_text(nodes, &g->place));
        table_cell(&t, "%u", g->cfg->vcpus);
        if (g->ready_ns)
            table_cell(&t, "%.0f", (double)g->ready_ns / 1e6);
        else
            table_cell(&t, "-");
        table_cell(&t, "%s", top_exits(exits, json_object_get(g->stat, "exits")));
        table_cell(&t, "%s", human_size(size, g->cfg->memory));
        if (g->ok)
            table_cell(&t, "ok (%s)", g->end);
        else
            table_cell(&t, "%s", g->result);
    }
    putchar('\n');
    table_print(&t, stdout);
    fflush(stdout);
}

/* One guest of the result file. */
static json_t *result_json(const struct mguest *g)
{
    json_t *nodes = json_array(), *exits = json_object_get(g->stat, "exits");
    json_t *result = json_string(g->result);
    /* a cell that was killed told nothing: then the monitor's own clock counts */
    uint64_t run_ns = g->told ? g->res.run_ns : g->end_ns - g->start_ns;

    for (unsigned i = 0; i < g->place.nnodes; i++)
        json_array_append_new(nodes, json_integer(g->place.nodes[i]));
    return json_pack("{s:s, s:o, s:o, s:i, s:i, s:o, s:f, s:o, s:I, s:s}", "name", g->cfg->name,
                     "result", result ? result : json_string("failed"), "nodes", nodes, "vcpus",
                     (int)g->cfg->vcpus, "views", (int)g->place.views, "boot_ms",
                     g->ready_ns ? json_real((double)g->ready_ns / 1e6) : json_null(), "run_ms",
                     (double)run_ns / 1e6, "exits",
                     json_is_object(exits) ? json_incref(exits) : json_object(), "memory",
                     (json_int_t)g->cfg->memory, "end", g->end);
}

int report_result_check(const char *path, struct err *err)
{
    char *tmp = xasprintf("%s.tmp", path);
    struct stat st;
    int fd = -1, e = !stat(path, &st) && S_ISDIR(st.st_mode) ? EISDIR : 0;

    if (!e) {
        fd = open(tmp, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
        e = fd < 0 ? errno : 0;
    }
    if (fd >= 0) {
        close(fd);
        unlink(tmp);
    }
    free(tmp);
    return e ? fail_errno(err, e == EACCES ? EXIT_PERMISSION : EXIT_RESOURCE, e,
                          "the result file %s cannot be written", path)
             : 0;
}

int report_result(const struct report *r, const char *path, struct err *err)
{
    /* readers find the old file or the whole new one, never half of it */
    char *tmp = xasprintf("%s.tmp", path);
    json_t *a = json_array(), *o;
    int e = 0;

    errno = 0;
    for (unsigned i = 0; i < r->m->site->nguests; i++)
        json_array_append_new(a, result_json(&r->m->guests[i]));
    o = json_pack("{s:s, s:o}", "site", r->m->site->name, "guests", a);
    if (json_dump_file(o, tmp, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) || rename(tmp, path))
        e = fail_errno(err, EXIT_RESOURCE, errno ? errno : EIO,
                       "the result file %s cannot be written", path);
    if (e)
        unlink(tmp);
    json_decref(o);
    free(tmp);
    return e;
}

int report_svg(const struct report *r, const struct topo *t, const char *path, struct err *err)
{
    unsigned n = r->m->site->nguests;
    struct topo_guest *tg = xcalloc(n, sizeof(*tg));
    FILE *f = fopen(path, "we");
    int e;

    for (unsigned i = 0; i < n; i++) {
        const struct mguest *g = &r->m->guests[i];

        tg[i] = (struct topo_guest){.name = g->cfg->name,
                                    .vcpus = g->cfg->vcpus,
                                    .memory = g->cfg->memory,
                                    .place = &g->place,
                                    .state = mguest_state_name(g)};
    }
    e = f ? topo_svg(f, t, tg, n) : -errno;
    if (f && fclose(f))
        e = -errno;
    free(tg);
    return e ? fail_errno(err, EXIT_RESOURCE, -e, "the picture %s cannot be written", path) : 0;
}

bool report_ok(const struct report *r)
{
    for (unsigned i = 0; i < r->m->site->nguests; i++)
        if (!r->m->guests[i].ok)
            return false;
    return true;
}
