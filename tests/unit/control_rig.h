/* SPDX-License-Identifier: MIT */
/*
 * A control socket without a monitor, for unit tests: a listening socket in /tmp, the loop that
 * serves it, and clients that dial it.  What requests mean is the test's: rig_init() takes its ops.
 * Threads: one, which serves and dials.
 */
#ifndef DISCO_TESTS_UNIT_CONTROL_RIG_H
#define DISCO_TESTS_UNIT_CONTROL_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "vmm/monitor/client.h"
#include "vmm/monitor/control.h"

#include <cmocka.h> /* last: its macro fail() would spoil base/err.h */

/* The socket and its loop. */
struct rig {
    struct evloop loop;     /* serves all */
    struct control control; /* the socket */
    char path[64];          /* where it is */
};

/* Makes all of it; ops are called with arg. */
static inline void rig_init(struct rig *r, const struct control_ops *ops, void *arg)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(r->path, sizeof(r->path), "/tmp/disco-control-%d.sock", (int)getpid());
    strcpy(sa.sun_path, r->path);
    unlink(r->path);
    assert_int_equal(evloop_init(&r->loop, NULL), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 100), 0);
    assert_int_equal(control_init(&r->control, &r->loop, fd, ops, arg), 0);
}

/* Undoes rig_init(). */
static inline void rig_exit(struct rig *r)
{
    control_exit(&r->control, 0);
    evloop_exit(&r->loop);
    unlink(r->path);
}

/* Serves what there is to serve. */
static inline void rig_serve(struct rig *r)
{
    for (int i = 0; i < 20; i++) {
        evloop_once(&r->loop, 1);
        control_reap(&r->control);
    }
}

/* A client's connection; its reads do not wait. */
static inline int rig_dial(struct rig *r)
{
    struct client_line l = {.socket = r->path};
    int fd = client_connect(&l, NULL);

    assert_true(fd >= 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

#endif
