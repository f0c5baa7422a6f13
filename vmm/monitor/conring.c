/* SPDX-License-Identifier: MIT */
/*
 * The monitor's end of a guest's console.
 *
 * Invariants.  K1: the guest's bytes are taken whenever there are any, whatever watchers and the
 * file do; a file that fails is given up with one log line.  K2: memory is bounded: a ring of
 * CONRING_KEEP and IN_MAX bytes typed.  K3: the file and its predecessor hold at most
 * 2 * CONRING_FILE_MAX bytes, so that a guest cannot fill the host's /run.
 * Threads: all on the loop's thread.
 */
#include "vmm/monitor/conring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/cell/proto.h"

enum {
    IN_MAX = 4096,   /* bytes typed that the guest has not taken yet */
    READ_MAX = 8192, /* bytes taken at once */
    ROUNDS = 8,      /* of that, before the loop looks elsewhere */
};

struct conring {
    struct evloop *loop;        /* NULL before conring_start() */
    struct evsrc src;           /* our end of the stream, owned; fd -1: the guest is gone */
    char *path;                 /* of the file */
    int file;                   /* the file; -1: none, or it failed */
    uint64_t filed;             /* bytes in it */
    struct conwatch *watchers;  /* all of them */
    size_t typed;               /* bytes in in */
    bool refused;               /* a watcher typed more than fits */
    uint8_t in[IN_MAX];         /* typed, not yet taken by the guest */
    uint64_t total;             /* bytes the guest wrote so far */
    uint8_t ring[CONRING_KEEP]; /* byte number b is at b % CONRING_KEEP */
};

int conring_new(struct conring **out, const char *path, int cell_fd[2], struct err *err)
{
    struct conring *r;
    int sv[2], dup;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv))
        return fail_errno(err, EXIT_INTERNAL, errno, "socketpair for a console");
    dup = fcntl(sv[1], F_DUPFD_CLOEXEC, 0);
    if (dup < 0) {
        int e = errno;

        close(sv[0]);
        close(sv[1]);
        return fail_errno(err, EXIT_INTERNAL, e, "dup for a console");
    }
    proto_no_fds(sv[0]);
    r = xcalloc(1, sizeof(*r));
    r->src.fd = sv[0];
    r->file = -1;
    r->path = xstrdup(path);
    cell_fd[0] = sv[1];
    cell_fd[1] = dup;
    *out = r;
    return 0;
}

/* Starts a new file; the one there becomes FILE.old. */
static int open_file(struct conring *r)
{
    char *old = xasprintf("%s.old", r->path);

    if (r->file >= 0)
        close(r->file);
    if (rename(r->path, old) && errno != ENOENT)
        log_debug("%s cannot become %s", r->path, old);
    free(old);
    r->filed = 0;
    r->file =
        open(r->path, O_WRONLY | O_CREAT | O_APPEND | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    return r->file < 0 ? -errno : 0;
}

/* Appends to the file. */
static void to_file(struct conring *r, const uint8_t *p, size_t n)
{
    while (r->file >= 0 && n) {
        ssize_t done = write(r->file, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            log_warn("the console file %s cannot be written (%s) and is given up", r->path,
                     strerror(errno));
            close(r->file);
            r->file = -1;
            return;
        }
        p += done;
        n -= (size_t)done;
        r->filed += (size_t)done;
    }
    if (r->file >= 0 && r->filed >= CONRING_FILE_MAX && open_file(r))
        log_warn("the console file %s cannot be made anew and is given up", r->path);
}

/* Keeps bytes in the ring. */
static void to_ring(struct conring *r, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        r->ring[(r->total + i) % CONRING_KEEP] = p[i];
    r->total += n;
}

/* Takes what the guest wrote, at most `rounds` reads; false at the end of the stream. */
static bool take(struct conring *r, int rounds)
{
    uint8_t buf[READ_MAX];

    for (int i = 0; i < rounds; i++) {
        ssize_t n = recv(r->src.fd, buf, sizeof(buf), MSG_DONTWAIT);
        struct conwatch *next;

        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (n == 0)
            return false;
        to_ring(r, buf, (size_t)n);
        to_file(r, buf, (size_t)n);
        for (struct conwatch *w = r->watchers; w; w = next) {
            next = w->next; /* a slow watcher may remove itself */
            w->show(w->arg, buf, (size_t)n);
        }
    }
    return true;
}

/* Hands what was typed to the guest; watches for room while something waits for it. */
static void give(struct conring *r)
{
    ssize_t n = r->typed ? send(r->src.fd, r->in, r->typed, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

    if (n > 0) {
        r->typed -= (size_t)n;
        memmove(r->in, r->in + n, r->typed);
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        r->typed = 0; /* nobody will take it */
    }
    if (r->loop)
        evloop_mod(r->loop, &r->src, EPOLLIN | (r->typed || r->refused ? EPOLLOUT : 0));
}

/* There is room for typing again: tells the watchers, if one was refused. */
static void tell_room(struct conring *r)
{
    struct conwatch *next;

    if (!r->refused || r->typed == IN_MAX)
        return;
    r->refused = false;
    for (struct conwatch *w = r->watchers; w; w = next) {
        next = w->next;
        w->room(w->arg);
    }
}

/* Stops listening to the guest. */
static void hang_up(struct conring *r)
{
    if (r->src.fd < 0)
        return;
    if (r->loop)
        evloop_del(r->loop, &r->src);
    close(r->src.fd);
    r->src.fd = -1;
}

/* The stream has something for us, or takes something again. */
static void stream_ready(void *arg, uint32_t revents)
{
    struct conring *r = arg;

    if (revents & EPOLLOUT) {
        give(r);
        tell_room(r);
    }
    if (!take(r, ROUNDS))
        hang_up(r);
}

int conring_start(struct conring *r, struct evloop *loop, struct err *err)
{
    int e = open_file(r);

    if (e)
        return fail_errno(err, EXIT_RESOURCE, -e, "the console file %s cannot be made",
                          r->path);
    r->loop = loop;
    r->src.ready = stream_ready;
    r->src.arg = r;
    e = evloop_add(loop, &r->src, EPOLLIN);
    return e ? fail_errno(err, EXIT_INTERNAL, -e, "a console cannot be watched") : 0;
}

void conring_ended(struct conring *r)
{
    struct conwatch *w;

    if (r->src.fd >= 0)
        take(r, CONRING_FILE_MAX / READ_MAX);
    hang_up(r);
    while ((w = r->watchers)) {
        r->watchers = w->next;
        w->end(w->arg);
    }
    if (r->file >= 0)
        close(r->file);
    r->file = -1;
}

void conring_free(struct conring *r)
{
    if (!r)
        return;
    hang_up(r);
    if (r->file >= 0)
        close(r->file);
    if (r->loop && !r->filed)
        unlink(r->path); /* it was ours, and nothing was said */
    free(r->path);
    free(r);
}

void conring_watch(struct conring *r, struct conwatch *w)
{
    uint64_t kept = r->total < CONRING_KEEP ? r->total : CONRING_KEEP;
    size_t at = (size_t)((r->total - kept) % CONRING_KEEP);
    size_t part = kept < CONRING_KEEP - at ? (size_t)kept : CONRING_KEEP - at;
    bool over = r->src.fd < 0;

    w->next = NULL;
    if (!over) {
        w->next = r->watchers;
        r->watchers = w;
    }
    w->show(w->arg, r->ring + at, part);
    w->show(w->arg, r->ring, (size_t)kept - part);
    if (over)
        w->end(w->arg);
}

void conring_unwatch(struct conring *r, struct conwatch *w)
{
    struct conwatch **pp = &r->watchers;

    while (*pp && *pp != w)
        pp = &(*pp)->next;
    if (*pp)
        *pp = w->next;
}

size_t conring_type(struct conring *r, const uint8_t *p, size_t n)
{
    size_t room = IN_MAX - r->typed;

    if (r->src.fd < 0)
        return n; /* to nobody */
    r->refused |= n > room;
    if (n > room)
        n = room;
    memcpy(r->in + r->typed, p, n);
    r->typed += n;
    give(r);
    return n;
}
