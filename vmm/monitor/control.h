/* SPDX-License-Identifier: MIT */
/*
 * The monitor's end of its control socket: takes clients, cuts what they send into requests, and
 * sends answers, without ever waiting for one of them.
 *
 * A client sends one JSON object a line and gets one JSON object a line back, in order; the next
 * request is read once the one before is answered.  An answer may make the connection raw: from
 * then on it is a stream of bytes both ways (a console).  A client that sends lines too long, or
 * does not read what it gets, is dropped.
 *
 * Threads: all on the loop's thread.
 */
#ifndef DISCO_VMM_MONITOR_CONTROL_H
#define DISCO_VMM_MONITOR_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/evloop.h"

struct client;
struct err;
struct json_t;

enum {
    CONTROL_MAX_CLIENTS = 64,     /* more take the place of those that ask nothing, or wait */
    CONTROL_MAX_UNREAD = 1 << 22, /* bytes a client may leave unread before it is dropped */
};

/* What the owner of a control socket does. */
struct control_ops {
    /* Required: a request came; it belongs to the caller.  control_reply() answers it, at once
     * or later. */
    void (*request)(void *arg, struct client *cl, const struct json_t *req);
    /* Required: a client is gone; its pointer must be forgotten. */
    void (*gone)(void *arg, struct client *cl);
};

/* A control socket and its clients. */
struct control {
    struct evloop *loop;    /* where all happens */
    struct evsrc src;       /* the listening socket, owned */
    struct client *clients; /* those connected */
    struct client *dead;    /* those to be freed by control_reap() */
    uint64_t idle_ns;       /* silence after which a client has to make room for another */
    bool stalled;           /* somebody waits who could not be taken */
    unsigned nclients;      /* entries of clients */
    const struct control_ops *ops; /* what the owner does */
    void *arg;                     /* its first argument */
};

/* Starts taking clients on a listening non-blocking socket, which it owns from now on; undone by
 * control_exit(). */
int control_init(struct control *c, struct evloop *loop, int listener,
                 const struct control_ops *ops, void *arg);

/* Drops all clients, after giving them flush_ms, all together, to read what was sent. */
void control_exit(struct control *c, int flush_ms);

/* Frees clients that are gone, and tries again to take those who wait.  Between two batches of the
 * loop; from time to time while control_stalled(). */
void control_reap(struct control *c);

/* True while a client waits that could not be taken: too many are there, or the process has no
 * descriptor left.  The socket is not watched meanwhile, it would be ready all the time. */
bool control_stalled(const struct control *c);

/* Answers a client's request; takes the reference to rep. */
void control_reply(struct client *cl, struct json_t *rep);

/* The answer {"ok": false, "status": ..., "error": ...}. */
struct json_t *control_error(int status, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Answers, and makes the connection raw: what the client sends is handed to input(arg), which
 * says how much it took; the rest is offered again after control_more(). */
void control_raw(struct client *cl, struct json_t *rep,
                 size_t (*input)(void *arg, const uint8_t *p, size_t n), void *arg);

/* Sends bytes over a raw connection. */
void control_write(struct client *cl, const void *p, size_t n);

/* The owner of a raw connection has room for input again. */
void control_more(struct client *cl);

/* Closes a connection once all that was sent has been read. */
void control_finish(struct client *cl);

#endif
