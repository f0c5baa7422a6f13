/* SPDX-License-Identifier: MIT */
/*
 * `disco console`: the terminal becomes a guest's console until ctrl-a d.
 * Threads: one.  Invariant: the terminal's mode is restored on every way out.
 */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/device/chario_fd.h"
#include "vmm/monitor/client.h"
#include "vmm/monitor/commands.h"

enum {
    ESCAPE = 1,     /* ctrl-a */
    QUIET_MS = 500, /* after the end of a script's input, so long a silence is the end */
};

/* A terminal that shows a console. */
struct screen {
    int fd;              /* connection to the monitor */
    bool tty;            /* standard input is a terminal */
    bool escaped;        /* ctrl-a was typed */
    bool input;          /* standard input still has something to say */
    int patience;        /* silence that ends it, ms; -1: none does */
    struct termios mode; /* what the terminal was before */
};

/* Writes all of a buffer; false when that fails. */
static bool write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t done = write(fd, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

/* Takes escape sequences out of what was typed; returns the bytes for the guest, or -1 when the
 * user leaves. */
static ssize_t filter(struct screen *s, char *buf, size_t n)
{
    size_t out = 0;

    for (size_t i = 0; i < n; i++) {
        char c = buf[i];

        if (!s->escaped && c == ESCAPE) {
            s->escaped = true;
            continue;
        }
        if (s->escaped && (c == 'd' || c == 'D' || c == 4))
            return -1;
        s->escaped = false;
        buf[out++] = c;
    }
    return (ssize_t)out;
}

/* Passes on what was typed; false when that is over. */
static bool typed(struct screen *s)
{
    char buf[1024];
    ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

    if (n < 0)
        return errno == EINTR;
    if (n == 0) { /* the end of a file or pipe: what the guest answers still counts */
        s->input = false;
        s->patience = QUIET_MS;
        return true;
    }
    if (s->tty)
        n = filter(s, buf, (size_t)n);
    return n >= 0 && write_all(s->fd, buf, (size_t)n);
}

/* Shows what the guest wrote; false at its end. */
static bool shown(struct screen *s)
{
    char buf[8192];
    ssize_t n = read(s->fd, buf, sizeof(buf));

    if (n < 0)
        return errno == EINTR;
    return n > 0 && write_all(STDOUT_FILENO, buf, (size_t)n);
}

/* Copies both ways until one side is over: the guest's, or the user's and what answers it. */
static void copy(struct screen *s)
{
    bool on = true;
    int n = 1;

    while (on && n) {
        struct pollfd p[2] = {{.fd = s->fd, .events = POLLIN},
                              {.fd = s->input ? STDIN_FILENO : -1, .events = POLLIN}};

        n = poll(p, 2, s->patience);
        if (n < 0 && errno != EINTR)
            break;
        if (n > 0 && p[0].revents)
            on = shown(s);
        if (n > 0 && on && p[1].revents)
            on = typed(s);
    }
}

/* Puts the terminal into raw mode and copies.  In the background it is not ours: only shows. */
static void use_console(struct screen *s)
{
    struct termios raw;

    s->input = tty_ours(STDIN_FILENO);
    s->tty = s->input && !tcgetattr(STDIN_FILENO, &s->mode);
    if (s->tty) {
        fprintf(stderr, "(ctrl-a d leaves)\r\n");
        raw = s->mode;
        cfmakeraw(&raw);
        tty_set(STDIN_FILENO, &raw);
    }
    copy(s);
    if (s->tty) {
        tty_set(STDIN_FILENO, &s->mode);
        fputc('\n', stderr);
    }
}

int cmd_console(int argc, char **argv)
{
    static const int one[2] = {1, 1};
    struct screen s = {.patience = -1};
    struct client_line l;
    struct err err = {0};
    json_t *rep;
    int r = client_parse(&l, argc, argv, CLIENT_VIRTIO, one);

    if (r)
        return r;
    signal(SIGPIPE, SIG_IGN);
    s.fd = client_connect(&l, &err);
    if (s.fd < 0)
        return cmd_fail(&err);
    rep = client_ask(s.fd,
                     json_pack("{s:s, s:s, s:b}", "cmd", "console", "guest", l.args[0],
                               "virtio", (l.given & CLIENT_VIRTIO) != 0),
                     &err);
    if (!rep) {
        close(s.fd);
        return cmd_fail(&err);
    }
    json_decref(rep);
    use_console(&s);
    close(s.fd);
    return EXIT_OK;
}
