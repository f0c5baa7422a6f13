/* SPDX-License-Identifier: MIT */
/*
 * The monitor's answers to its clients.  A request is answered at once, or becomes an `op` that
 * waits for a cell's answer, for one guest's end or for all guests' end.
 *
 * Invariants.  Q1: a client has at most one op, and the op goes when its client goes.  Q2: every
 * op that waits for a cell has a deadline, so a cell that says nothing costs its asker a message.
 * Threads: all on the monitor's loop.
 */
#include "vmm/monitor/requests.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "numa/place.h"
#include "vmm/config/config.h"
#include "vmm/monitor/conring.h"
#include "vmm/monitor/control.h"
#include "vmm/monitor/monitor.h"

/* What an op waits for. */
enum op_wait {
    WAIT_REPLY, /* the cell's answer to request seq */
    WAIT_END,   /* the end of guest g; of all guests when g is NULL */
    WAIT_WATCH, /* nothing: it shows a console until client or guest is gone */
};

/* A request that is not answered yet, or a console that is watched. */
struct op {
    struct op *next;          /* in monitor.ops or monitor.dead_ops */
    struct monitor *m;        /* its monitor */
    struct client *cl;        /* who asked; NULL: nobody any more */
    enum op_wait wait;        /* what for */
    struct mguest *g;         /* of which guest */
    uint32_t seq;             /* WAIT_REPLY: number of the request */
    enum proto_type type;     /* WAIT_REPLY: what was asked */
    struct proto_rehome home; /* of a PROTO_REHOME */
    uint64_t deadline;        /* when it is given up; 0: never */
    struct conring *ring;     /* WAIT_WATCH: the console */
    struct conwatch watch;    /* WAIT_WATCH: our place there */
};

/* Whether a command names a guest under "guest". */
enum names { NAMES_NONE, NAMES_ONE, NAMES_MAYBE };

/* A command. */
struct request {
    const char *name; /* under "cmd" */
    enum names names; /* a guest, or none; run() gets NULL for none */
    void (*run)(struct monitor *m, struct client *cl, struct mguest *g,
                const json_t *req); /* answers, now or later */
};

static const struct request requests[];

static const uint64_t REPLY_NS = 30000000000u; /* a cell has so long to answer */

#define NO_ANSWER "the cell of guest %s does not answer"

/* ---- ops ---- */

/* Makes an op of a client that waits. */
static struct op *op_new(struct monitor *m, struct client *cl, enum op_wait wait,
                         struct mguest *g)
{
    struct op *op = xcalloc(1, sizeof(*op));

    *op = (struct op){.next = m->ops, .m = m, .cl = cl, .wait = wait, .g = g};
    m->ops = op;
    return op;
}

/* Takes an op off the list.  Its memory stays until bury_ops(): callbacks of a console further up
 * the stack may still hold it. */
static void op_free(struct op *op)
{
    struct op **pp = &op->m->ops;

    while (*pp != op)
        pp = &(*pp)->next;
    *pp = op->next;
    if (op->ring)
        conring_unwatch(op->ring, &op->watch);
    op->cl = NULL;
    op->next = op->m->dead_ops;
    op->m->dead_ops = op;
}

/* Frees the memory of ops that are done. */
static void bury_ops(struct monitor *m)
{
    struct op *op;

    while ((op = m->dead_ops)) {
        m->dead_ops = op->next;
        free(op);
    }
}

/* Answers an op's client and frees the op; takes the reference to rep. */
static void op_reply(struct op *op, json_t *rep)
{
    struct client *cl = op->cl;

    op_free(op);
    control_reply(cl, rep);
}

/* A client is gone. */
static void client_gone(void *arg, struct client *cl)
{
    struct monitor *m = arg;

    for (struct op *op = m->ops; op; op = op->next)
        if (op->cl == cl) {
            op_free(op);
            return;
        }
}

void requests_fail(struct monitor *m)
{
    while (m->ops)
        op_reply(m->ops,
                 control_error(EXIT_GUEST, "site %s was ended before it ran", m->site->name));
}

void requests_exit(struct monitor *m)
{
    while (m->ops)
        op_free(m->ops);
    bury_ops(m);
}

/* ---- answers ---- */

struct json_t *requests_guest_json(const struct mguest *g)
{
    json_t *nodes = json_array();
    uint64_t until = g->state == MGUEST_ENDED ? g->end_ns : mguest_now();
    json_t *o;

    for (unsigned i = 0; i < g->place.nnodes; i++)
        json_array_append_new(nodes, json_integer(g->place.nodes[i]));
    o = json_pack("{s:s, s:s, s:i, s:i, s:I, s:o, s:i}", "name", g->cfg->name, "state",
                  mguest_state_name(g), "pid", (int)g->pid, "vcpus", (int)g->cfg->vcpus,
                  "memory", (json_int_t)g->cfg->memory, "nodes", nodes, "views",
                  (int)g->place.views);
    INVARIANT(o, "a guest's names are text");
    json_object_set_new(
        o, "uptime_ms",
        json_integer(g->start_ns ? (json_int_t)((until - g->start_ns) / 1000000u) : 0));
    json_object_set_new(o, "ready_ms",
                        g->ready_ns ? json_real((double)g->ready_ns / 1e6) : json_null());
    if (g->state == MGUEST_ENDED) {
        json_t *result = json_string(g->result);

        json_object_set_new(o, "end", json_string(g->end));
        json_object_set_new(o, "result", result ? result : json_string("failed"));
        json_object_set_new(o, "ok", json_boolean(g->ok));
    }
    return o;
}

/* All guests, or just g, as the answer {"ok": true, "site": ..., "guests": [...]}. */
static json_t *guests_answer(struct monitor *m, const struct mguest *g)
{
    json_t *a = json_array();

    for (unsigned i = 0; i < m->site->nguests; i++)
        if (!g || g == &m->guests[i])
            json_array_append_new(a, requests_guest_json(&m->guests[i]));
    return json_pack("{s:b, s:s, s:i, s:o}", "ok", 1, "site", m->site->name, "pid",
                     (int)getpid(), "guests", a);
}

/* A time-out in a request, milliseconds; 0 when there is none. */
static uint64_t timeout_of(const json_t *req)
{
    json_t *t = json_object_get(req, "timeout_ms");
    json_int_t ms = json_integer_value(t);

    return !json_is_integer(t) || ms < 0 ? 0 : ms > 86400000 ? 86400000 : (uint64_t)ms;
}

void requests_ended(struct monitor *m)
{
    struct op *op = m->ops;

    while (op) {
        bool all = m->ended == m->site->nguests;
        struct op *done = op;

        op = op->next;
        if (done->wait == WAIT_REPLY && done->g->state == MGUEST_ENDED)
            op_reply(done, control_error(EXIT_GUEST, "guest %s has ended (%s)",
                                         done->g->cfg->name, done->g->end));
        else if (done->wait == WAIT_END && (done->g ? done->g->state == MGUEST_ENDED : all))
            op_reply(done, guests_answer(m, done->g));
        else
            continue;
        op = m->ops; /* answering may have dropped other ops: begin anew */
    }
}

uint64_t requests_deadline(const struct monitor *m)
{
    uint64_t at = 0;

    for (const struct op *op = m->ops; op; op = op->next)
        if (op->deadline && (!at || op->deadline < at))
            at = op->deadline;
    return at;
}

void requests_expire(struct monitor *m, uint64_t now)
{
    struct op *op;

    bury_ops(m);
    op = m->ops;
    while (op) {
        struct op *due = op;

        op = op->next;
        if (!due->deadline || now < due->deadline)
            continue;
        if (due->wait == WAIT_REPLY)
            op_reply(due, control_error(EXIT_GUEST, NO_ANSWER, due->g->cfg->name));
        else
            op_reply(due, control_error(EXIT_GUEST, "%s%s still runs",
                                        due->g ? "guest " : "the site ",
                                        due->g ? due->g->cfg->name : m->site->name));
        op = m->ops;
    }
}

/* ---- questions to a cell ---- */

/* Asks the guest's cell and answers when it does. */
static void ask(struct monitor *m, struct client *cl, struct mguest *g, enum proto_type type,
                const void *body, size_t len)
{
    uint32_t seq = g->state == MGUEST_RUNNING ? mguest_ask(g, type, body, len) : 0;
    struct op *op;

    if (!seq) {
        control_reply(cl,
                      g->state == MGUEST_RUNNING && g->pid
                          ? control_error(EXIT_GUEST, NO_ANSWER, g->cfg->name)
                          : control_error(EXIT_GUEST, "guest %s does not run", g->cfg->name));
        return;
    }
    op = op_new(m, cl, WAIT_REPLY, g);
    op->seq = seq;
    op->type = type;
    if (type == PROTO_REHOME)
        memcpy(&op->home, body, sizeof(op->home));
    op->deadline = mguest_now() + REPLY_NS;
}

/* What went wrong in a cell, for people. */
static json_t *cell_error(const struct op *op, int status)
{
    const char *name = op->g->cfg->name;

    if (op->type == PROTO_BALLOON && status == -ENODEV)
        return control_error(EXIT_USAGE, "guest %s has no balloon (balloon = false)", name);
    if (op->type == PROTO_HEATMAP && status == -ENODEV)
        return control_error(
            EXIT_GUEST,
            "guest %s: nobody works on its pages: `disco stat %s --pages` says "
            "why",
            name, name);
    if (op->type == PROTO_REHOME && status == -EBUSY)
        return control_error(EXIT_GUEST, "guest %s: its last move is not over yet", name);
    if (op->type == PROTO_REHOME && status == -ENODEV)
        return control_error(EXIT_USAGE, "the second is no node with memory: see `disco topo`");
    if (op->type == PROTO_REHOME && status == -ENOENT)
        return control_error(EXIT_USAGE, "guest %s has nothing on the first of these nodes",
                             name);
    if (op->type == PROTO_REHOME && status == -EEXIST)
        return control_error(EXIT_USAGE, "guest %s is on the second of these nodes already",
                             name);
    if (op->type == PROTO_REHOME && status == -EOPNOTSUPP)
        return control_error(EXIT_GUEST, "guest %s: reserved huge pages stay where they are",
                             name);
    if (op->type == PROTO_MOVE && status == -EINVAL)
        return control_error(EXIT_USAGE, "guest %s has %u vCPUs and %u views, from 0", name,
                             op->g->cfg->vcpus, op->g->place.views);
    return control_error(EXIT_GUEST, "guest %s: %s", name,
                         status < 0 && status > -4096 ? strerror(-status) : "failed");
}

/* The answer to a STAT or HEATMAP: what the monitor knows, and under `key` what the cell says. */
static json_t *cell_answer(struct monitor *m, struct mguest *g, const char *key, json_t *said)
{
    json_t *rep = guests_answer(m, g);

    json_object_set_new(rep, key, json_is_object(said) ? json_incref(said) : json_null());
    return rep;
}

void requests_reply(struct monitor *m, struct mguest *g, const struct proto_msg *msg)
{
    struct proto_status st;
    struct op *op = m->ops;
    json_t *said;

    while (op && !(op->wait == WAIT_REPLY && op->g == g && op->seq == msg->seq))
        op = op->next;
    if (!op)
        return; /* nobody waits for it (any more) */
    memcpy(&st, msg->body, sizeof(st));
    if (st.status) {
        op_reply(op, cell_error(op, st.status));
        return;
    }
    if (op->type == PROTO_REHOME)
        place_rehome(&g->place, (int)op->home.from, (int)op->home.to);
    if (op->type != PROTO_STAT && op->type != PROTO_HEATMAP) {
        op_reply(op, guests_answer(m, g));
        return;
    }
    said = json_loadb((const char *)msg->body + sizeof(st), msg->len - sizeof(st), 0, NULL);
    op_reply(op, cell_answer(m, g, op->type == PROTO_STAT ? "stat" : "heatmap", said));
    json_decref(said);
}

/* ---- the commands ---- */

/* All guests, as they are now. */
static void do_ps(struct monitor *m, struct client *cl, struct mguest *g, const json_t *req)
{
    (void)g;
    (void)req;
    control_reply(cl, guests_answer(m, NULL));
}

/* The cell's figures; of a guest that has ended, its last. */
static void do_stat(struct monitor *m, struct client *cl, struct mguest *g, const json_t *req)
{
    (void)req;
    if (g->state == MGUEST_ENDED)
        control_reply(cl, cell_answer(m, g, "stat", g->stat));
    else
        ask(m, cl, g, PROTO_STAT, NULL, 0);
}

/* Where the guest's memory is, and who uses it. */
static void do_heatmap(struct monitor *m, struct client *cl, struct mguest *g,
                       const json_t *req)
{
    (void)req;
    ask(m, cl, g, PROTO_HEATMAP, NULL, 0);
}

/* Stops the vCPUs.  The state changes when the cell says it is done. */
static void do_pause(struct monitor *m, struct client *cl, struct mguest *g, const json_t *req)
{
    (void)req;
    ask(m, cl, g, PROTO_PAUSE, NULL, 0);
}

/* Lets them go on. */
static void do_resume(struct monitor *m, struct client *cl, struct mguest *g, const json_t *req)
{
    (void)req;
    ask(m, cl, g, PROTO_RESUME, NULL, 0);
}

/* Asks for memory back: "bytes" in all. */
static void do_balloon(struct monitor *m, struct client *cl, struct mguest *g,
                       const json_t *req)
{
    json_t *bytes = json_object_get(req, "bytes");
    struct proto_balloon b = {.bytes = (uint64_t)json_integer_value(bytes)};

    if (!json_is_integer(bytes) || json_integer_value(bytes) < 0 || b.bytes > g->cfg->memory)
        control_reply(cl, control_error(EXIT_USAGE,
                                        "\"bytes\" is to be from 0 to the guest's memory, %llu",
                                        (unsigned long long)g->cfg->memory));
    else
        ask(m, cl, g, PROTO_BALLOON, &b, sizeof(b));
}

/* Moves "vcpu" to "view". */
static void do_move(struct monitor *m, struct client *cl, struct mguest *g, const json_t *req)
{
    json_t *vcpu = json_object_get(req, "vcpu"), *view = json_object_get(req, "view");
    json_int_t c = json_integer_value(vcpu), v = json_integer_value(view);
    struct proto_move mv = {.vcpu = (uint32_t)c, .view = (uint32_t)v};

    if (!json_is_integer(vcpu) || !json_is_integer(view) || c < 0 || c >= g->cfg->vcpus ||
        v < 0 || v >= g->place.views)
        control_reply(cl, control_error(EXIT_USAGE,
                                        "guest %s has %u vCPUs and %u views, counted from 0",
                                        g->cfg->name, g->cfg->vcpus, g->place.views));
    else
        ask(m, cl, g, PROTO_MOVE, &mv, sizeof(mv));
}

/* A guest goes from one node of the host to another. */
static void do_rehome(struct monitor *m, struct client *cl, struct mguest *g, const json_t *req)
{
    json_t *from = json_object_get(req, "from"), *to = json_object_get(req, "to");
    json_int_t a = json_integer_value(from), b = json_integer_value(to);
    struct proto_rehome home = {.from = (uint32_t)a, .to = (uint32_t)b};

    if (!json_is_integer(from) || !json_is_integer(to) || a < 0 || b < 0 || a > INT_MAX ||
        b > INT_MAX)
        control_reply(cl, control_error(EXIT_USAGE, "FROM and TO are nodes of this machine, as "
                                                    "`disco topo` shows them"));
    else
        ask(m, cl, g, PROTO_REHOME, &home, sizeof(home));
}

/* The power button; answered when the guest has ended, which may be never. */
static void do_stop(struct monitor *m, struct client *cl, struct mguest *g, const json_t *req)
{
    op_new(m, cl, WAIT_END, g);
    if (g->state != MGUEST_ENDED)
        mguest_stop(g, timeout_of(req));
    requests_ended(m);
}

/* The end without asking the guest. */
static void do_kill(struct monitor *m, struct client *cl, struct mguest *g, const json_t *req)
{
    (void)req;
    op_new(m, cl, WAIT_END, g);
    mguest_end(g, WHY_KILL);
    requests_ended(m);
}

/* The same for all guests, "now" without asking them. */
static void do_down(struct monitor *m, struct client *cl, struct mguest *g, const json_t *req)
{
    (void)g;
    op_new(m, cl, WAIT_END, NULL);
    monitor_stop(m, json_is_true(json_object_get(req, "now")), timeout_of(req));
    requests_ended(m);
}

/* Waits for ends that others bring about. */
static void do_wait(struct monitor *m, struct client *cl, struct mguest *g, const json_t *req)
{
    uint64_t ms = timeout_of(req);
    struct op *op;

    op = op_new(m, cl, WAIT_END, g);
    op->deadline = ms ? mguest_now() + ms * 1000000u : 0;
    requests_ended(m);
}

/* ---- consoles ---- */

/* The guest wrote. */
static void watch_show(void *arg, const uint8_t *p, size_t n)
{
    struct op *op = arg;

    if (op->cl)
        control_write(op->cl, p, n);
}

/* Typing is taken again. */
static void watch_room(void *arg)
{
    struct op *op = arg;

    if (op->cl)
        control_more(op->cl);
}

/* The guest is gone. */
static void watch_end(void *arg)
{
    struct op *op = arg;

    if (op->cl)
        control_finish(op->cl);
}

/* The client typed. */
static size_t watch_type(void *arg, const uint8_t *p, size_t n)
{
    struct op *op = arg;

    return conring_type(op->ring, p, n);
}

/* Makes the connection a console. */
static void do_console(struct monitor *m, struct client *cl, struct mguest *g,
                       const json_t *req)
{
    bool virtio = json_is_true(json_object_get(req, "virtio"));
    struct op *op;

    if (!virtio && !g->con[0])
        virtio = g->con[1] != NULL; /* the only one there is */
    if (!g->con[virtio]) {
        control_reply(cl, control_error(EXIT_USAGE,
                                        "the %sconsole of guest %s does not go to the monitor",
                                        virtio ? "virtio " : "", g->cfg->name));
        return;
    }
    op = op_new(m, cl, WAIT_WATCH, g);
    op->ring = g->con[virtio];
    op->watch =
        (struct conwatch){.show = watch_show, .room = watch_room, .end = watch_end, .arg = op};
    control_raw(cl, guests_answer(m, g), watch_type, op);
    if (op->cl)
        conring_watch(op->ring, &op->watch);
}

/* ---- dispatch ---- */

/* The guest a request names, or NULL after an error was sent. */
static struct mguest *named_guest(struct monitor *m, struct client *cl, const json_t *req)
{
    const char *name = json_string_value(json_object_get(req, "guest"));
    struct mguest *g = name ? monitor_guest(m, name) : NULL;

    if (!name)
        control_reply(cl, control_error(EXIT_USAGE, "the request names no guest of site %s",
                                        m->site->name));
    else if (!g)
        control_reply(cl, control_error(EXIT_USAGE,
                                        "site %s has no guest \"%.64s\": see `disco ps`",
                                        m->site->name, name));
    return g;
}

/* A request came. */
static void on_request(void *arg, struct client *cl, const struct json_t *req)
{
    struct monitor *m = arg;
    const char *cmd = json_string_value(json_object_get(req, "cmd"));
    const struct request *r = requests;
    struct mguest *g = NULL;

    while (r->name && strcmp(r->name, cmd) != 0)
        r++;
    if (!r->name) {
        control_reply(cl, control_error(EXIT_USAGE, "the monitor has no such command"));
        return;
    }
    if (r->names == NAMES_ONE || (r->names == NAMES_MAYBE && json_object_get(req, "guest"))) {
        g = named_guest(m, cl, req);
        if (!g)
            return;
    }
    r->run(m, cl, g, req);
}

const struct control_ops *requests_control(void)
{
    static const struct control_ops ops = {.request = on_request, .gone = client_gone};

    return &ops;
}

/* All commands (docs/control.md). */
static const struct request requests[] = {
    {"ps", NAMES_NONE, do_ps},          {"stat", NAMES_ONE, do_stat},
    {"pause", NAMES_ONE, do_pause},     {"resume", NAMES_ONE, do_resume},
    {"stop", NAMES_ONE, do_stop},       {"kill", NAMES_ONE, do_kill},
    {"balloon", NAMES_ONE, do_balloon}, {"move", NAMES_ONE, do_move},
    {"rehome", NAMES_ONE, do_rehome},   {"console", NAMES_ONE, do_console},
    {"down", NAMES_NONE, do_down},      {"wait", NAMES_MAYBE, do_wait},
    {"heatmap", NAMES_ONE, do_heatmap}, {0},
};
