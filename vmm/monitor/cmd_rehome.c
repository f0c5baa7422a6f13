/* SPDX-License-Identifier: MIT */
/*
 * `disco rehome`: asks for the move of a guest from one node to another and shows how far it is.
 * Threads: one; no state.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/monitor/client.h"
#include "vmm/monitor/commands.h"

enum { LOOK_US = 200000 };

/* A node's number. */
static bool node_of(const char *text, int *n)
{
    char *end;
    long v = strtol(text, &end, 10);

    *n = (int)v;
    return end != text && !*end && v >= 0 && v < 65536;
}

/* A number out of the cell's answer, which may lack it. */
static long long number(json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

/* How far it is, on one line that is written over on a terminal. */
static void show(json_t *move, bool last)
{
    bool tty = isatty(STDERR_FILENO);

    if (!tty && !last)
        return;
    fprintf(stderr, "%sdisco: node %lld to %lld: %lld of %lld blocks, %.1f MiB moved%s",
            tty ? "\r" : "", number(move, "from"), number(move, "to"), number(move, "done"),
            number(move, "blocks"), (double)number(move, "pages_moved") / 256,
            last ? "\n" : "");
}

/* Says how it ended; the exit status. */
static int ended(const struct client_line *l, json_t *move)
{
    const char *wrong = json_string_value(json_object_get(move, "error"));

    if (json_is_object(move) && !wrong)
        return EXIT_OK;
    fprintf(stderr, "disco: guest %s: not all memory moved: %s\n", l->args[0],
            wrong ? wrong : "the guest ended");
    return EXIT_GUEST;
}

/* Looks until the move is over; the exit status. */
static int wait_for(const struct client_line *l)
{
    for (;;) {
        struct err err = {0};
        json_t *rep =
            client_call(l, json_pack("{s:s, s:s}", "cmd", "stat", "guest", l->args[0]), &err);
        json_t *move = json_object_get(json_object_get(rep, "stat"), "move");
        bool over = !json_is_object(move) || json_is_true(json_object_get(move, "over"));
        int status;

        if (!rep)
            return cmd_fail(&err);
        if (json_is_object(move))
            show(move, over);
        status = over ? ended(l, move) : EXIT_OK;
        json_decref(rep);
        if (over)
            return status;
        usleep(LOOK_US);
    }
}

int cmd_rehome(int argc, char **argv)
{
    static const int range[2] = {3, 3};
    struct client_line l;
    struct err err = {0};
    json_t *rep;
    int r = client_parse(&l, argc, argv, CLIENT_NOW, range), from, to;

    if (r)
        return r;
    if (!node_of(l.args[1], &from) || !node_of(l.args[2], &to))
        return cmd_usage("rehome",
                         "FROM and TO are numbers of nodes, as `disco topo` shows them");
    rep = client_call(&l,
                      json_pack("{s:s, s:s, s:i, s:i}", "cmd", "rehome", "guest", l.args[0],
                                "from", from, "to", to),
                      &err);
    if (!rep)
        return cmd_fail(&err);
    json_decref(rep);
    return l.given & CLIENT_NOW ? EXIT_OK : wait_for(&l);
}
