/* SPDX-License-Identifier: MIT */
/*
 * The commands that are one question to the monitor: down, stop, kill, pause, resume, balloon,
 * move, wait.  Threads: one; no state.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/units.h"
#include "vmm/monitor/client.h"
#include "vmm/monitor/commands.h"

enum { DOWN_TIMEOUT_MS = 30000 };

static const int one_arg[2] = {1, 1};

/* Asks and prints an error.  The exit status: with `ends`, whether all guests of the answer ended
 * as asked, and those that did not are named. */
static int ask(const struct client_line *l, json_t *req, bool ends)
{
    struct err err = {0};
    json_t *rep = client_call(l, req, &err), *g;
    int status = EXIT_OK;
    size_t i;

    if (!rep)
        return cmd_fail(&err);
    json_array_foreach(json_object_get(rep, "guests"), i, g)
    {
        const char *name = json_string_value(json_object_get(g, "name"));
        const char *result = json_string_value(json_object_get(g, "result"));

        if (!ends || json_is_true(json_object_get(g, "ok")))
            continue;
        fprintf(stderr, "disco: guest %s: %s\n", name ? name : "?", result ? result : "failed");
        status = EXIT_GUEST;
    }
    json_decref(rep);
    return status;
}

/* A command that names a guest and needs no more than that. */
static int simple(int argc, char **argv)
{
    struct client_line l;
    int r = client_parse(&l, argc, argv, 0, one_arg);

    return r ? r : ask(&l, json_pack("{s:s, s:s}", "cmd", argv[0], "guest", l.args[0]), false);
}

/* ---- the commands, as commands.h says ---- */

int cmd_pause(int argc, char **argv)
{
    return simple(argc, argv);
}

int cmd_resume(int argc, char **argv)
{
    return simple(argc, argv);
}

int cmd_kill(int argc, char **argv)
{
    return simple(argc, argv);
}

int cmd_stop(int argc, char **argv)
{
    struct client_line l;
    int r = client_parse(&l, argc, argv, CLIENT_TIMEOUT, one_arg);

    return r ? r
             : ask(&l,
                   json_pack("{s:s, s:s, s:I}", "cmd", "stop", "guest", l.args[0], "timeout_ms",
                             (json_int_t)l.timeout_ms),
                   true);
}

int cmd_down(int argc, char **argv)
{
    static const int none[2] = {0, 0};
    struct client_line l;
    int r = client_parse(&l, argc, argv, CLIENT_TIMEOUT | CLIENT_NOW, none);

    if (!(l.given & CLIENT_TIMEOUT))
        l.timeout_ms = DOWN_TIMEOUT_MS;
    return r ? r
             : ask(&l,
                   json_pack("{s:s, s:b, s:I}", "cmd", "down", "now",
                             (l.given & CLIENT_NOW) != 0, "timeout_ms",
                             (json_int_t)l.timeout_ms),
                   true);
}

int cmd_wait(int argc, char **argv)
{
    static const int range[2] = {0, 1};
    struct client_line l;
    int r = client_parse(&l, argc, argv, CLIENT_TIMEOUT, range);

    if (r)
        return r;
    /* a name that is no UTF-8 makes no request: it must not come to mean "all" */
    return ask(&l,
               json_pack(l.nargs ? "{s:s, s:I, s:s}" : "{s:s, s:I}", "cmd", "wait",
                         "timeout_ms", (json_int_t)l.timeout_ms, "guest",
                         l.nargs ? l.args[0] : NULL),
               true);
}

int cmd_balloon(int argc, char **argv)
{
    static const int range[2] = {2, 2};
    struct client_line l;
    uint64_t bytes;
    int r = client_parse(&l, argc, argv, 0, range);

    if (r)
        return r;
    if (units_parse_size(l.args[1], &bytes) || bytes > INT64_MAX)
        return cmd_usage("balloon", "'%s' is no size: want 512M, 2G, or 0", l.args[1]);
    return ask(&l,
               json_pack("{s:s, s:s, s:I}", "cmd", "balloon", "guest", l.args[0], "bytes",
                         (json_int_t)bytes),
               false);
}

/* Reads a small number from the command line. */
static bool index_of(const char *text, int *n)
{
    char *end;
    long v = strtol(text, &end, 10);

    *n = (int)v;
    return end != text && !*end && v >= 0 && v < 65536;
}

int cmd_move(int argc, char **argv)
{
    static const int range[2] = {3, 3};
    struct client_line l;
    int r = client_parse(&l, argc, argv, 0, range), vcpu, view;

    if (r)
        return r;
    if (!index_of(l.args[1], &vcpu) || !index_of(l.args[2], &view))
        return cmd_usage("move", "VCPU and VIEW are numbers, counted from 0");
    return ask(&l,
               json_pack("{s:s, s:s, s:i, s:i}", "cmd", "move", "guest", l.args[0], "vcpu",
                         vcpu, "view", view),
               false);
}
