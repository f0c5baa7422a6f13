/* SPDX-License-Identifier: MIT */
/*
 * The cell's side of the socket to the monitor.
 *
 * Threads.  The main thread has the channel until cell_start() and again after cell_wait();
 * between the two it belongs to io0, so it needs no lock.  Requests that stop or move vCPUs are
 * done on io0 and finish before the next is read.
 * Invariant V1: every request is answered once, or the channel is dead and the guest is killed.
 */
#include "vmm/cell/serve.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/log.h"
#include "vmm/cell/cell.h"
#include "vmm/cell/opener.h"
#include "vmm/cell/proto.h"
#include "vmm/cell/handover.h"

enum {
    LAST_WORDS_MS = 5000,    /* the monitor has so long to take the last message */
    READY_PERIOD = 20000000, /* ns between looks whether the guest is up */
    BATCH = 16,              /* requests served before the loop looks elsewhere */
};

/* State of this process. */
struct serve {
    struct proto_chan chan; /* to the monitor; see the head for who has it */
    struct evsrc src;       /* its source on io0 */
    struct evsrc timer;     /* looks whether the guest is up; fd -1: no need */
    struct cell *cell;      /* the guest */
    struct handover start;  /* what START said; the cell uses its configuration */
};

/* The monitor is gone or talks nonsense: nobody is there to answer to, the guest ends. */
static void give_up(struct serve *s, const char *why)
{
    log_warn("%s; the guest ends", why);
    evloop_del(cell_loop(s->cell), &s->src);
    proto_exit(&s->chan);
    cell_kill(s->cell);
}

/* Watches for room exactly while something is queued. */
static void watch(struct serve *s)
{
    uint32_t want = EPOLLIN | (proto_pending(&s->chan) ? EPOLLOUT : 0);

    if (want != s->src.events)
        evloop_mod(cell_loop(s->cell), &s->src, want);
}

/* Sends or queues a message. */
static void say(struct serve *s, const struct proto_out *out)
{
    if (proto_send(&s->chan, out))
        give_up(s, "the monitor does not read any more");
    else
        watch(s);
}

/* Puts a status and text together as a body; *len is its length.  malloc'd. */
static void *status_body(int status, const char *text, size_t *len)
{
    struct proto_status st = {.status = status};
    size_t n = strlen(text);
    uint8_t *body;

    if (n > PROTO_MAX_BODY - sizeof(st))
        n = PROTO_MAX_BODY - sizeof(st);
    *len = sizeof(st) + n;
    body = xcalloc(1, *len);
    memcpy(body, &st, sizeof(st));
    memcpy(body + sizeof(st), text, n);
    return body;
}

/* Answers request seq. */
static void reply(struct serve *s, uint32_t seq, int status, const char *text)
{
    size_t len;
    void *body = status_body(status, text, &len);

    say(s, &(struct proto_out){.type = PROTO_REPLY, .seq = seq, .body = body, .len = len});
    free(body);
}

/* All figures of the guest as text (malloc'd). */
static char *stat_text(struct cell *c)
{
    json_t *j = cell_stat(c);
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;

    json_decref(j);
    return text ? text : xstrdup("{}");
}

/* Does one request. */
static void handle(struct serve *s, const struct proto_msg *m)
{
    struct proto_balloon balloon;
    struct proto_rehome home;
    struct proto_move move;
    char *text = NULL;
    int r = 0;

    switch (m->type) {
    case PROTO_STAT:
        text = stat_text(s->cell);
        break;
    case PROTO_HEATMAP:
        text = cell_heatmap(s->cell);
        r = text ? 0 : -ENODEV;
        break;
    case PROTO_PAUSE:
        cell_pause(s->cell);
        break;
    case PROTO_RESUME:
        cell_resume(s->cell);
        break;
    case PROTO_STOP:
        cell_power_button(s->cell);
        break;
    case PROTO_KILL:
        cell_kill(s->cell);
        break;
    case PROTO_BALLOON:
        memcpy(&balloon, m->body, sizeof(balloon));
        r = cell_balloon(s->cell, balloon.bytes);
        break;
    case PROTO_REHOME:
        memcpy(&home, m->body, sizeof(home));
        r = home.from > INT_MAX || home.to > INT_MAX
                ? -EINVAL
                : cell_rehome(s->cell, (int)home.from, (int)home.to);
        break;
    case PROTO_MOVE:
        memcpy(&move, m->body, sizeof(move));
        r = cell_move_vcpu(s->cell, move.vcpu, move.view);
        break;
    default:
        r = -EPROTO; /* START or GO a second time */
        break;
    }
    reply(s, m->seq, r, text ? text : "");
    free(text);
}

/* The socket has something for us, or takes something again. */
static void chan_ready(void *arg, uint32_t revents)
{
    struct serve *s = arg;
    struct proto_msg m;
    int r = 0;

    if (revents & EPOLLOUT) {
        r = proto_flush(&s->chan);
        if (!r || r == -EAGAIN)
            watch(s);
    }
    for (int i = 0; i < BATCH && s->chan.fd >= 0; i++) {
        r = proto_recv(&s->chan, &m);
        if (r != 1)
            break;
        handle(s, &m);
        proto_msg_free(&m);
    }
    if (r < 0 && s->chan.fd >= 0)
        give_up(s, r == -EPIPE ? "the monitor is gone" : "the monitor's message is broken");
}

/* Looks whether the guest is up; tells the monitor once. */
static void timer_ready(void *arg, uint32_t revents)
{
    struct serve *s = arg;
    struct proto_ready body;
    uint64_t n;

    (void)revents;
    if (read(s->timer.fd, &n, sizeof(n)) < 0)
        return; /* not yet due */
    body.ready_ns = cell_ready_ns(s->cell);
    if (!body.ready_ns)
        return;
    evloop_del(cell_loop(s->cell), &s->timer);
    if (s->chan.fd >= 0)
        say(s, &(struct proto_out){.type = PROTO_READY, .body = &body, .len = sizeof(body)});
}

/* Tells the monitor why there will be no guest. */
static void report_failure(struct serve *s, const struct err *err)
{
    struct proto_out out = {.type = PROTO_FAILED};
    void *body = status_body(err->status, err->text, &out.len);

    out.body = body;
    if (!proto_send(&s->chan, &out))
        proto_drain(&s->chan, LAST_WORDS_MS);
    free(body);
}

/* Tells the monitor how the guest ended, with its last figures. */
static void report_end(struct serve *s, const struct cell_result *res, const char *stat)
{
    struct proto_ended e = {.end = res->end,
                            .status = res->status,
                            .ready_ns = res->ready_ns,
                            .run_ns = res->run_ns};
    size_t n = strlen(stat), max = PROTO_MAX_BODY - sizeof(e);
    struct proto_out out = {.type = PROTO_ENDED, .len = sizeof(e) + (n > max ? 0 : n)};
    uint8_t *body = xcalloc(1, out.len);

    snprintf(e.reason, sizeof(e.reason), "%s", res->reason);
    memcpy(body, &e, sizeof(e));
    memcpy(body + sizeof(e), stat, out.len - sizeof(e));
    out.body = body;
    if (s->chan.fd >= 0 && !proto_send(&s->chan, &out))
        proto_drain(&s->chan, LAST_WORDS_MS);
    free(body);
}

/* Waits for a message of one type; anything else, and the monitor's end, is -EPROTO. */
static int expect(struct serve *s, enum proto_type type, struct proto_msg *m)
{
    if (proto_wait(&s->chan, m, -1) != 1)
        return -EPROTO;
    if (m->type == type)
        return 0;
    proto_msg_free(m);
    return -EPROTO;
}

/* Takes START and makes the cell.  -EPROTO without a message: nobody is there to be told. */
static int make_cell(struct serve *s, bool *wants_ready, struct err *err)
{
    struct proto_msg m;
    struct handover *st = &s->start;
    char comm[16];
    int r = expect(s, PROTO_START, &m);

    if (r)
        return r;
    r = handover_unpack(st, (char *)m.body, m.fds, m.nfds, err);
    proto_msg_free(&m);
    if (r)
        return r;
    log_init((enum log_level)st->log_level, st->cfg.name);
    snprintf(comm, sizeof(comm), "disco:%.9s", st->cfg.name);
    prctl(PR_SET_NAME, comm);
    *wants_ready = st->cfg.ready != NULL;
    r = cell_new(&s->cell, &st->cfg, &st->place, &st->fds, err);
    cell_fds_init(&st->fds); /* they belong to the cell, whatever came of it */
    return r;
}

/* Puts the control socket, and the look for readiness if the guest has a sign of it, on io0. */
static int join_loop(struct serve *s, bool wants_ready, struct err *err)
{
    struct evloop *l = cell_loop(s->cell);
    int fd, r;

    s->src = (struct evsrc){.fd = s->chan.fd, .ready = chan_ready, .arg = s};
    r = evloop_add(l, &s->src, EPOLLIN);
    if (!r && wants_ready) {
        fd = evloop_timerfd(READY_PERIOD, READY_PERIOD);
        s->timer = (struct evsrc){.fd = fd, .ready = timer_ready, .arg = s};
        r = fd < 0 ? fd : evloop_add(l, &s->timer, EPOLLIN);
    }
    return r ? fail_errno(err, EXIT_INTERNAL, -r, "the control socket cannot be watched") : 0;
}

/* Runs the guest and reports its end. */
static void run_cell(struct serve *s)
{
    struct cell_result res = {0};
    char *stat;

    cell_wait(s->cell, &res);
    stat = stat_text(s->cell);
    cell_free(s->cell);
    s->cell = NULL;
    report_end(s, &res, stat);
    free(stat);
}

int cell_serve(int sock)
{
    struct serve s = {.timer.fd = -1};
    struct err err = {0};
    bool wants_ready = false;
    struct proto_msg m;
    int r;

    cell_fds_init(&s.start.fds);
    proto_init(&s.chan, sock, PROTO_AT_CELL);
    r = make_cell(&s, &wants_ready, &err);
    if (!r) {
        r = proto_send(&s.chan, &(struct proto_out){.type = PROTO_MADE});
        if (!r)
            r = expect(&s, PROTO_GO, &m);
        if (!r) {
            proto_msg_free(&m);
            r = join_loop(&s, wants_ready, &err);
        }
        if (!r)
            r = cell_start(s.cell, &err);
        if (!r)
            run_cell(&s);
        else
            cell_free(s.cell);
    }
    if (r && err.status)
        report_failure(&s, &err);
    if (s.timer.fd >= 0)
        close(s.timer.fd);
    proto_exit(&s.chan);
    handover_free(&s.start);
    return r ? (err.status ? err.status : EXIT_INTERNAL) : EXIT_OK;
}
