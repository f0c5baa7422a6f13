/* SPDX-License-Identifier: MIT */
/*
 * Clients of the monitor.
 *
 * Invariants.  L1: nothing here waits, and no client keeps the loop for more than a turn.  L2: what
 * is held for one client is bounded (LINE_MAX_BYTES in, four times CONTROL_MAX_UNREAD out).  L3: a client that is gone is on the list `dead`,
 * out of the loop and closed, and its owner has been told; its memory stays until control_reap(),
 * so callbacks further up the stack may still hold its pointer.
 * Threads: all on the loop's thread.
 */
#include "vmm/monitor/control.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/monitor/line.h"

/* How a connection stands. */
enum mode {
    MODE_LINES, /* waits for a request */
    MODE_BUSY,  /* a request is being done */
    MODE_RAW,   /* a stream of bytes */
    MODE_LAST,  /* closes when all is sent */
    MODE_DEAD,  /* closed */
};

struct client {
    struct client *next;   /* in clients or dead */
    struct control *ctl;   /* its socket */
    struct evsrc src;      /* the connection, owned */
    enum mode mode;        /* how it stands */
    bool eof;              /* it will send no more */
    bool inside;           /* next_request() is at work on it */
    bool more;             /* in may hold another whole request, left for the next turn */
    uint64_t since;        /* when it last came, or asked something */
    struct linebuf in;     /* what came and waits */
    uint8_t *out;          /* what waits to be sent */
    size_t outcap, outlen; /* allocated and filled */
    size_t outoff;         /* of outlen, sent already */
    void *arg;             /* first argument of input */
    size_t (*input)(void *arg, const uint8_t *p, size_t n); /* consumer of a raw stream */
};

enum {
    TURN = 8,        /* requests of one client before the loop looks elsewhere */
    BACKLOG = 65536, /* bytes a client may leave unread and still ask for more */
};

static const uint64_t IDLE_NS = 30000000000u;

/* Nanoseconds of the monotonic clock. */
static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Closes a connection and tells the owner. */
static void drop(struct client *cl)
{
    struct control *c = cl->ctl;
    struct client **pp = &c->clients;

    if (cl->mode == MODE_DEAD)
        return;
    cl->mode = MODE_DEAD;
    while (*pp != cl)
        pp = &(*pp)->next;
    *pp = cl->next;
    c->nclients--;
    evloop_del(c->loop, &cl->src);
    close(cl->src.fd);
    c->ops->gone(c->arg, cl);
    cl->next = c->dead;
    c->dead = cl;
}

bool control_stalled(const struct control *c)
{
    return c->stalled;
}

static void accept_ready(void *arg, uint32_t revents);

void control_reap(struct control *c)
{
    while (c->dead) {
        struct client *cl = c->dead;

        c->dead = cl->next;
        line_free(&cl->in);
        free(cl->out);
        free(cl);
    }
    if (c->stalled)
        accept_ready(c, 0);
}

/* Watches for what the connection can make use of. */
static void watch(struct client *cl)
{
    bool room = cl->in.len < LINE_MAX_BYTES && !cl->eof;
    uint32_t want = cl->outlen > cl->outoff ? EPOLLOUT : 0;

    if (cl->mode == MODE_DEAD)
        return;
    if ((cl->mode == MODE_LINES || (cl->mode == MODE_RAW && !cl->in.len)) && room)
        want |= EPOLLIN;
    if (cl->mode == MODE_LINES && cl->more)
        want |= EPOLLOUT; /* its turn comes when it has read what it got */
    if (want != cl->src.events)
        evloop_mod(cl->ctl->loop, &cl->src, want);
}

/* Sends what waits, as far as the socket takes it. */
static void flush(struct client *cl)
{
    while (cl->mode != MODE_DEAD && cl->outoff < cl->outlen) {
        ssize_t n = send(cl->src.fd, cl->out + cl->outoff, cl->outlen - cl->outoff,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0)
            cl->outoff += (size_t)n;
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            drop(cl);
    }
    cl->outlen = cl->outoff = 0;
    if (cl->mode == MODE_LAST)
        drop(cl);
}

void control_write(struct client *cl, const void *p, size_t n)
{
    if (cl->mode == MODE_DEAD)
        return;
    if (cl->outlen - cl->outoff + n > CONTROL_MAX_UNREAD) {
        drop(cl);
        return;
    }
    /* moving costs as much as what is moved: only where half of the buffer becomes free */
    if (cl->outoff && cl->outlen + n > cl->outcap && cl->outoff >= cl->outlen / 2) {
        cl->outlen -= cl->outoff;
        memmove(cl->out, cl->out + cl->outoff, cl->outlen);
        cl->outoff = 0;
    }
    if (cl->outlen + n > cl->outcap) {
        cl->outcap = (2 * cl->outlen + n + 4095) & ~(size_t)4095;
        cl->out = realloc(cl->out, cl->outcap);
        INVARIANT(cl->out, "the host has no memory left for an answer");
    }
    memcpy(cl->out + cl->outlen, p, n);
    cl->outlen += n;
    flush(cl);
    watch(cl);
}

/* Puts an answer on its way. */
static void send_json(struct client *cl, json_t *rep)
{
    char *text = json_dumps(rep, JSON_COMPACT);
    size_t n;

    json_decref(rep);
    INVARIANT(text, "an answer can be written as JSON");
    n = strlen(text);
    text[n++] = '\n'; /* in place of the terminator */
    control_write(cl, text, n);
    free(text);
}

/* True when another request of this client may be taken now, after `turn` others. */
static bool may_ask(const struct client *cl, int turn)
{
    return turn < TURN && cl->outlen - cl->outoff < BACKLOG;
}

/* Hands the requests that have come to the owner, one at a time. */
static void next_request(struct client *cl)
{
    struct control *c = cl->ctl;
    const char *why;
    json_t *req;
    size_t len;
    char *line;
    int turn = 0;

    cl->inside = true;
    cl->more = false;
    while (cl->mode == MODE_LINES && may_ask(cl, turn) && (line = line_take(&cl->in, &len))) {
        turn++;
        cl->mode = MODE_BUSY;
        cl->since = now_ns();
        req = line_request(line, len, &why);
        free(line);
        if (req)
            c->ops->request(c->arg, cl, req);
        else
            control_reply(cl, control_error(EXIT_USAGE, "%s", why));
        json_decref(req);
    }
    cl->inside = false;
    cl->more = !may_ask(cl, turn) && cl->in.len > 0;
    if (cl->more)
        return;
    if (cl->mode == MODE_LINES && cl->in.len == LINE_MAX_BYTES) {
        send_json(cl, control_error(EXIT_USAGE, "the request is longer than %d bytes",
                                    LINE_MAX_BYTES));
        control_finish(cl);
    }
    if (cl->mode == MODE_LINES && cl->eof)
        control_finish(cl); /* nobody asks any more, and all is answered */
}

void control_reply(struct client *cl, struct json_t *rep)
{
    if (cl->mode != MODE_BUSY) {
        json_decref(rep);
        return;
    }
    cl->mode = MODE_LINES;
    send_json(cl, rep);
    if (!cl->inside) { /* a late answer: what was asked meanwhile is next */
        next_request(cl);
        watch(cl);
    }
}

/* Offers a raw connection's bytes to their consumer. */
static void offer(struct client *cl)
{
    uint8_t buf[4096];
    size_t n, took;

    while (cl->mode == MODE_RAW && cl->in.len) {
        n = cl->in.len < sizeof(buf) ? cl->in.len : sizeof(buf);
        memcpy(buf, cl->in.p, n);
        took = cl->input(cl->arg, buf, n);
        INVARIANT(took <= n, "nobody takes more than is offered");
        line_rest(&cl->in, buf, took);
        if (took < n)
            break;
    }
}

void control_raw(struct client *cl, struct json_t *rep,
                 size_t (*input)(void *arg, const uint8_t *p, size_t n), void *arg)
{
    control_reply(cl, rep);
    if (cl->mode != MODE_LINES)
        return;
    cl->mode = MODE_RAW;
    cl->input = input;
    cl->arg = arg;
    offer(cl);
    watch(cl);
}

void control_more(struct client *cl)
{
    offer(cl);
    watch(cl);
}

void control_finish(struct client *cl)
{
    if (cl->mode == MODE_DEAD)
        return;
    cl->mode = MODE_LAST;
    flush(cl);
    watch(cl);
}

struct json_t *control_error(int status, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    json_t *j;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    j = json_pack("{s:b, s:i, s:s}", "ok", 0, "status", status, "error", text);
    if (j)
        return j;
    /* a character cut in half: no UTF-8 any more */
    for (char *p = text; *p; p++)
        if (*p & 0x80)
            *p = '?';
    return json_pack("{s:b, s:i, s:s}", "ok", 0, "status", status, "error", text);
}

/* Reads what came; false when the client is done. */
static bool receive(struct client *cl)
{
    size_t cap;
    char *to = line_room(&cl->in, &cap);
    ssize_t n = to ? recv(cl->src.fd, to, cap, MSG_DONTWAIT) : 0;

    if (n > 0)
        line_added(&cl->in, (size_t)n);
    if (to && n == 0)
        cl->eof = true;
    return n >= 0 || errno == EAGAIN || errno == EINTR;
}

/* Something happened on a connection. */
static void client_ready(void *arg, uint32_t revents)
{
    struct client *cl = arg;

    if (revents & EPOLLOUT)
        flush(cl);
    if (cl->mode != MODE_DEAD && (revents & EPOLLIN) && !receive(cl))
        drop(cl);
    if (cl->mode == MODE_RAW)
        offer(cl);
    else
        next_request(cl);
    if ((revents & (EPOLLERR | EPOLLHUP)) || (cl->mode == MODE_RAW && cl->eof))
        drop(cl); /* nobody is there any more */
    watch(cl);
}

/* Drops the client that has asked nothing for the longest time, if that is long enough. */
static bool make_room(struct control *c)
{
    struct client *idle = NULL;

    for (struct client *cl = c->clients; cl; cl = cl->next)
        if ((cl->mode == MODE_LINES || cl->mode == MODE_LAST) &&
            (!idle || cl->since < idle->since))
            idle = cl;
    if (!idle || now_ns() - idle->since < c->idle_ns)
        return false;
    drop(idle);
    return true;
}

/* Stops looking for new clients, or looks again. */
static void stall(struct control *c, bool on)
{
    if (c->stalled != on)
        evloop_mod(c->loop, &c->src, on ? 0 : EPOLLIN);
    c->stalled = on;
}

/* Takes a new client. */
static void accept_ready(void *arg, uint32_t revents)
{
    struct control *c = arg;
    struct client *cl;
    int fd;

    (void)revents;
    if (c->nclients >= CONTROL_MAX_CLIENTS && !make_room(c)) {
        stall(c, true);
        return;
    }
    fd = accept4(c->src.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    /* out of descriptors or memory: it would be ready again at once */
    stall(c, fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED);
    if (fd < 0)
        return;
    cl = xcalloc(1, sizeof(*cl));
    cl->ctl = c;
    cl->since = now_ns();
    cl->src = (struct evsrc){.fd = fd, .ready = client_ready, .arg = cl};
    if (evloop_add(c->loop, &cl->src, EPOLLIN)) {
        close(fd);
        free(cl);
        return;
    }
    cl->next = c->clients;
    c->clients = cl;
    c->nclients++;
}

int control_init(struct control *c, struct evloop *loop, int listener,
                 const struct control_ops *ops, void *arg)
{
    *c = (struct control){.loop = loop, .ops = ops, .arg = arg, .idle_ns = IDLE_NS};
    c->src = (struct evsrc){.fd = listener, .ready = accept_ready, .arg = c};
    return evloop_add(loop, &c->src, EPOLLIN);
}

/* Sends a client what waits for it, until a time. */
static void flush_until(struct client *cl, uint64_t until)
{
    struct pollfd pfd = {.fd = cl->src.fd, .events = POLLOUT};
    uint64_t now;

    flush(cl);
    while (cl->mode != MODE_DEAD && cl->outlen && (now = now_ns()) < until) {
        if (poll(&pfd, 1, (int)((until - now) / 1000000u) + 1) <= 0)
            return;
        flush(cl);
    }
}

void control_exit(struct control *c, int flush_ms)
{
    uint64_t until = now_ns() + (uint64_t)flush_ms * 1000000u;

    /* those that read get theirs whatever the slow ones do: each is tried before any is waited for */
    for (struct client *cl = c->clients, *next; cl; cl = next) {
        next = cl->next;
        flush(cl);
    }
    while (c->clients) {
        struct client *cl = c->clients;

        flush_until(cl, until);
        drop(cl);
    }
    c->stalled = false;
    control_reap(c);
    evloop_del(c->loop, &c->src);
    if (c->src.fd >= 0)
        close(c->src.fd);
    c->src.fd = -1;
}
