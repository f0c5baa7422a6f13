/* SPDX-License-Identifier: MIT */
/*
 * Console streams.  Output goes straight to the descriptor while that takes it; what is left
 * waits in a ring until io0 finds the descriptor writable.  Input is read on io0 and offered to
 * the consumer; what it refuses is kept and offered again after chario_more().
 *
 * Threads and locks.  `lock` guards the output: descriptor, ring and what is known of them.
 * chario_write() takes it on any thread, under the device's lock; it is never held while the
 * consumer is called.  Descriptors are closed and sources changed on io0 only; other threads ask
 * for that by the eventfd `wakefd`.  The input side belongs to io0 and has no lock.
 * Invariant C1: bytes leave in the order they came in, so a direct write happens only while the
 * ring is empty.
 */
#include "vmm/device/chario.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/log.h"
#include "vmm/device/chario_fd.h"
#include "vmm/device/textwatch.h"

enum {
    IN_CAP = 4096,  /* bytes of input kept for a consumer that is busy */
    READ_MAX = 512, /* bytes read at once */
    DRAIN_MS = 500, /* chario_free() waits at most so long for output to leave */
    ESCAPE = 1,     /* ctrl-a */
};

struct chario {
    enum chario_kind kind; /* as made */
    bool tty;              /* the input is a terminal in raw mode */
    int peer;              /* other side of a pty master, held open; -1: none */
    int in_flags;          /* file status flags to restore on the input; -1: none */
    int out_flags;         /* likewise on the output */

    /* io0; before chario_start() the maker */
    struct evloop *loop;                                    /* NULL before chario_start() */
    size_t (*input)(void *arg, const uint8_t *p, size_t n); /* the consumer */
    void (*quit)(void *arg);                                /* ctrl-a x; may be NULL */
    void *arg;                                              /* first argument of both */
    struct evsrc wake_src;                                  /* eventfd: look at all again */
    struct evsrc listen_src;                                /* the listener; fd -1: none */
    int spare;                                              /* see client_accept(); -1: none */
    struct evsrc in_src;                                    /* the input; fd -1: none */
    bool in_watched;                                        /* in_src is in the loop */
    bool in_ended;                                          /* nothing comes any more */
    bool in_nopoll;                                         /* a file: always readable */
    bool escaped;                                           /* ctrl-a was typed */
    size_t in_len;                                          /* bytes in in_buf */
    uint8_t in_buf[IN_CAP];                                 /* read, not yet taken */

    /* lock */
    pthread_mutex_t lock;
    struct evsrc out_src;     /* the output; fd -1: none.  Changed on io0 with the lock */
    bool out_watched;         /* out_src is in the loop */
    bool out_file;            /* a regular file or disk: written at once */
    bool out_nopoll;          /* epoll refuses it: the next write flushes */
    bool out_gone;            /* writing failed: nobody is there any more */
    size_t head;              /* index of the oldest byte in ring */
    size_t len;               /* bytes in ring, 0..CHARIO_BUFFER */
    uint8_t *ring;            /* CHARIO_BUFFER bytes */
    _Atomic uint64_t dropped; /* bytes lost; written under the lock, read by any */

    /* the writer, under its device's lock */
    struct textwatch watch;  /* the text that is looked for in the output */
    void (*seen)(void *arg); /* called when it was seen */
    void *seen_arg;          /* first argument of seen */
};

/* ---- output; all with the lock held ---- */

/* True when bytes can be handed to somebody. */
static bool out_open(const struct chario *c)
{
    return c->out_src.fd >= 0 && !c->out_gone;
}

/* Counts lost bytes. */
static void lose(struct chario *c, size_t n)
{
    atomic_fetch_add_explicit(&c->dropped, n, memory_order_relaxed);
}

/* Appends to the ring; the oldest bytes make room. */
static void ring_push(struct chario *c, const uint8_t *p, size_t n)
{
    size_t at, part;

    if (n > CHARIO_BUFFER) {
        lose(c, n - CHARIO_BUFFER);
        p += n - CHARIO_BUFFER;
        n = CHARIO_BUFFER;
    }
    if (c->len + n > CHARIO_BUFFER) {
        size_t over = c->len + n - CHARIO_BUFFER;

        lose(c, over);
        c->head = (c->head + over) % CHARIO_BUFFER;
        c->len -= over;
    }
    at = (c->head + c->len) % CHARIO_BUFFER;
    part = n < CHARIO_BUFFER - at ? n : CHARIO_BUFFER - at;
    memcpy(c->ring + at, p, part);
    memcpy(c->ring, p + part, n - part);
    c->len += n;
}

/* Forgets what is in the ring. */
static void ring_clear(struct chario *c)
{
    lose(c, c->len);
    c->len = 0;
}

/* Hands bytes to the descriptor until it takes no more; returns how many it took.  A file that
 * fails (no space) loses the rest; anything else that fails is gone. */
static size_t out_write(struct chario *c, const uint8_t *p, size_t n)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got = write(c->out_src.fd, p + done, n - done);

        if (got > 0) {
            done += (size_t)got;
        } else if (got < 0 && errno == EINTR) {
            continue;
        } else if (c->out_file) {
            lose(c, n - done);
            return n;
        } else {
            c->out_gone = !(got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
            break;
        }
    }
    return done;
}

/* Hands on what the ring holds. */
static void out_flush(struct chario *c)
{
    while (c->len && out_open(c)) {
        size_t part = CHARIO_BUFFER - c->head;
        size_t done;

        part = c->len < part ? c->len : part;
        done = out_write(c, c->ring + c->head, part);
        c->head = (c->head + done) % CHARIO_BUFFER;
        c->len -= done;
        if (done < part)
            break;
    }
    if (c->out_gone && c->kind == CHARIO_STREAM)
        ring_clear(c);
}

/* Watches the output exactly while something waits for it.  On io0. */
static void out_watch(struct chario *c)
{
    bool want = c->len && out_open(c) && !c->out_nopoll;

    if (want == c->out_watched)
        return;
    if (!want)
        evloop_del(c->loop, &c->out_src);
    else if (evloop_add(c->loop, &c->out_src, EPOLLOUT)) {
        c->out_nopoll = true;
        return;
    }
    c->out_watched = want;
}

/* Asks io0 to look at everything again.  Any thread, with or without the lock. */
static void wake(struct chario *c)
{
    uint64_t one = 1;

    if (write(c->wake_src.fd, &one, sizeof(one)) < 0)
        return; /* the counter is full: io0 is awake already */
}

void chario_watch(struct chario *c, const char *text, void (*seen)(void *arg), void *arg)
{
    textwatch_set(&c->watch, text);
    c->seen = seen;
    c->seen_arg = arg;
}

void chario_write(struct chario *c, const uint8_t *p, size_t n)
{
    size_t done = 0;

    if (textwatch_feed(&c->watch, p, n))
        c->seen(c->seen_arg);
    if (c->kind == CHARIO_NULL || !n)
        return;
    pthread_mutex_lock(&c->lock);
    if (c->kind == CHARIO_STREAM && !out_open(c)) {
        lose(c, n);
    } else {
        bool was_gone = c->out_gone;

        if (c->len && (!c->loop || c->out_nopoll))
            out_flush(c);
        if (!c->len && out_open(c))
            done = out_write(c, p, n);
        if (done < n) {
            ring_push(c, p + done, n - done);
            if (c->out_gone && c->kind == CHARIO_STREAM)
                ring_clear(c);
            if ((out_open(c) && !c->out_watched) || c->out_gone != was_gone)
                wake(c);
        }
    }
    pthread_mutex_unlock(&c->lock);
}

uint64_t chario_dropped(const struct chario *c)
{
    return atomic_load_explicit(&c->dropped, memory_order_relaxed);
}

/* ---- clients of a listener; on io0 ---- */

/* Closes the client's output, if there is one; what it did not take waits for the next.  Lock
 * held. */
static void client_deaf(struct chario *c)
{
    evloop_del(c->loop, &c->out_src);
    confd_close(c->out_src.fd, -1);
    c->out_src.fd = -1;
    c->out_watched = c->out_nopoll = c->out_gone = false;
}

/* Parts with the client, if there is one.  What it said before is still for the guest. */
static void client_drop(struct chario *c)
{
    evloop_del(c->loop, &c->in_src);
    confd_close(c->in_src.fd, -1);
    c->in_src.fd = -1;
    c->in_watched = c->in_ended = false;
    pthread_mutex_lock(&c->lock);
    client_deaf(c);
    pthread_mutex_unlock(&c->lock);
}

/* ---- input; on io0 ---- */

/* Stops reading for good.  The descriptor stays open: its flags may be the output's too, and a
 * client may still listen to us. */
static void in_end(struct chario *c)
{
    if (c->in_watched)
        evloop_del(c->loop, &c->in_src);
    c->in_watched = false;
    c->in_ended = true;
}

/* Keeps a byte for the consumer; a full buffer (terminals only) loses it. */
static void in_keep(struct chario *c, uint8_t b)
{
    if (c->in_len < IN_CAP)
        c->in_buf[c->in_len++] = b;
}

/* Takes a byte from the terminal, looking for escapes. */
static void in_typed(struct chario *c, uint8_t b)
{
    if (!c->escaped && b == ESCAPE) {
        c->escaped = true;
        return;
    }
    if (c->escaped && b == 'x') {
        if (c->quit)
            c->quit(c->arg);
    } else {
        if (c->escaped && b != ESCAPE)
            in_keep(c, ESCAPE);
        in_keep(c, b);
    }
    c->escaped = false;
}

/* Offers what is kept to the consumer. */
static void in_offer(struct chario *c)
{
    size_t took = 0, n = 1;

    while (took < c->in_len && n) {
        n = c->input(c->arg, c->in_buf + took, c->in_len - took);
        took += n;
    }
    memmove(c->in_buf, c->in_buf + took, c->in_len - took);
    c->in_len -= took;
}

/* Reads once; false when there was nothing or the input has ended. */
static bool in_read(struct chario *c, uint32_t revents)
{
    uint8_t tmp[READ_MAX];
    size_t room = IN_CAP - c->in_len;
    ssize_t n;

    room = c->tty || room > sizeof(tmp) ? sizeof(tmp) : room;
    n = read(c->in_src.fd, tmp, room);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        if (c->kind == CHARIO_LISTEN && (n < 0 || (revents & EPOLLHUP)))
            client_drop(c);
        else
            in_end(c);
        return false;
    }
    for (ssize_t i = 0; i < n; i++)
        if (c->tty)
            in_typed(c, tmp[i]);
        else
            in_keep(c, tmp[i]);
    return true;
}

/* Watches the input while there is room for it.  A terminal is always watched: ctrl-a x must
 * work when the guest takes nothing.  Files that epoll refuses are read by in_pump(). */
static void in_watch(struct chario *c)
{
    bool want = c->in_src.fd >= 0 && !c->in_ended && !c->in_nopoll;

    want = want && (c->tty || c->in_len < IN_CAP);
    if (want == c->in_watched || !c->loop)
        return;
    if (!want)
        evloop_del(c->loop, &c->in_src);
    else if (evloop_add(c->loop, &c->in_src, EPOLLIN)) {
        c->in_nopoll = true;
        wake(c);
        return;
    }
    c->in_watched = want;
}

/* A file: reads a piece and asks to be called again; stops while the consumer is busy. */
static void in_pump(struct chario *c)
{
    if (!c->in_nopoll || c->in_ended || c->in_len)
        return;
    if (in_read(c, 0)) {
        in_offer(c);
        if (!c->in_len)
            wake(c);
    }
}

/* ---- callbacks of the loop ---- */

/* The input has bytes, or ended. */
static void in_ready(void *arg, uint32_t revents)
{
    struct chario *c = arg;

    if (c->in_src.fd < 0 || c->in_ended || !in_read(c, revents))
        return;
    in_offer(c);
    in_watch(c);
}

/* The output takes bytes again, or broke.  A client that hears nothing any more may have said
 * things that are still to be read: it stays until its input ends, too. */
static void out_ready(void *arg, uint32_t revents)
{
    struct chario *c = arg;
    bool lost;

    (void)revents;
    pthread_mutex_lock(&c->lock);
    out_flush(c);
    out_watch(c);
    lost = c->out_gone && c->kind == CHARIO_LISTEN;
    if (lost)
        client_deaf(c);
    pthread_mutex_unlock(&c->lock);
    if (lost && c->in_ended)
        client_drop(c);
}

/* Somebody asked to look again: consumer has room, output waits, or a client is lost. */
static void wake_ready(void *arg, uint32_t revents)
{
    struct chario *c = arg;
    uint64_t n;

    (void)revents;
    if (read(c->wake_src.fd, &n, sizeof(n)) < 0)
        return;
    out_ready(c, 0);
    in_offer(c);
    in_pump(c);
    in_watch(c);
}

/* Takes a client from the listener; -1: none.  Without descriptors left (a guest may have used
 * them up for connections) it is turned away by the spare one: in the queue it would keep the
 * listener readable, and io0 busy, for ever. */
static int client_accept(struct chario *c)
{
    int fd = accept4(c->listen_src.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0 || (errno != EMFILE && errno != ENFILE) || c->spare < 0)
        return fd;
    close(c->spare);
    fd = accept4(c->listen_src.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    c->spare = fcntl(c->wake_src.fd, F_DUPFD_CLOEXEC, 3);
    log_warn("a console's client is turned away: no descriptor left");
    return -1;
}

/* A client connects: it replaces the one there is and gets what waited. */
static void listen_ready(void *arg, uint32_t revents)
{
    struct chario *c = arg;
    int fd = client_accept(c), out;

    (void)revents;
    if (fd < 0)
        return;
    out = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (out < 0) {
        close(fd);
        return;
    }
    client_drop(c);
    c->in_src.fd = fd;
    pthread_mutex_lock(&c->lock);
    c->out_src.fd = out;
    pthread_mutex_unlock(&c->lock);
    out_ready(c, 0);
    in_watch(c);
}

/* ---- make, start, free ---- */

/* Sets up the two ends of a stream. */
static void stream_init(struct chario *c, int infd, int outfd)
{
    if (infd >= 0 && infd == outfd)
        outfd = fcntl(infd, F_DUPFD_CLOEXEC, 3);
    c->peer = infd >= 0 ? tty_peer(infd) : outfd >= 0 ? tty_peer(outfd) : -1;
    c->out_file = outfd >= 0 && confd_is_file(outfd);
    if (infd >= 0)
        c->in_src.fd =
            confd_is_file(infd) ? infd : confd_nonblock(infd, O_RDONLY, &c->in_flags);
    if (outfd >= 0)
        c->out_src.fd = c->out_file ? outfd : confd_nonblock(outfd, O_WRONLY, &c->out_flags);
    if (c->tty && c->in_src.fd >= 0) {
        /* in the background what is typed is for others: reading it would stop us */
        c->in_ended = !tty_ours(c->in_src.fd);
        c->tty = tty_raw(c->in_src.fd) == 0;
    }
}

/* A pipe or socket whose reader left must give EPIPE, and a file at the limit of its size EFBIG,
 * not kill us. */
static void ignore_write_signals(void)
{
    static const int sigs[] = {SIGPIPE, SIGXFSZ};
    struct sigaction old;

    for (unsigned i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
        if (!sigaction(sigs[i], NULL, &old) && !(old.sa_flags & SA_SIGINFO) &&
            old.sa_handler == SIG_DFL)
            signal(sigs[i], SIG_IGN);
}

struct chario *chario_new(enum chario_kind kind, int infd, int outfd, bool tty)
{
    struct chario *c = xcalloc(1, sizeof(*c));

    c->kind = kind;
    c->tty = tty && kind == CHARIO_STREAM;
    c->peer = c->in_flags = c->out_flags = c->spare = -1;
    c->ring = kind == CHARIO_NULL ? NULL : xcalloc(1, CHARIO_BUFFER);
    pthread_mutex_init(&c->lock, NULL);
    c->wake_src = (struct evsrc){
        .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = wake_ready, .arg = c};
    INVARIANT(c->wake_src.fd >= 0, "no descriptor left for a console's eventfd");
    c->listen_src = (struct evsrc){.fd = -1, .ready = listen_ready, .arg = c};
    c->in_src = (struct evsrc){.fd = -1, .ready = in_ready, .arg = c};
    c->out_src = (struct evsrc){.fd = -1, .ready = out_ready, .arg = c};
    ignore_write_signals();
    if (kind == CHARIO_LISTEN) {
        c->listen_src.fd = infd;
        c->spare = fcntl(c->wake_src.fd, F_DUPFD_CLOEXEC, 3);
        fcntl(infd, F_SETFL, fcntl(infd, F_GETFL) | O_NONBLOCK);
        confd_close(outfd, -1);
    } else if (kind == CHARIO_STREAM) {
        stream_init(c, infd, outfd);
    } else {
        confd_close(infd, -1);
        if (outfd != infd)
            confd_close(outfd, -1);
    }
    return c;
}

int chario_start(struct chario *c, struct evloop *io,
                 size_t (*input)(void *arg, const uint8_t *p, size_t n),
                 void (*quit)(void *arg), void *arg)
{
    int r = 0;

    c->input = input;
    c->quit = quit;
    c->arg = arg;
    r = evloop_add(io, &c->wake_src, EPOLLIN);
    if (!r && c->listen_src.fd >= 0)
        r = evloop_add(io, &c->listen_src, EPOLLIN);
    if (r)
        return r;
    pthread_mutex_lock(&c->lock);
    c->loop = io;
    out_watch(c);
    pthread_mutex_unlock(&c->lock);
    in_watch(c);
    return 0;
}

void chario_more(struct chario *c)
{
    wake(c);
}

/* Waits a little for output that still has to leave. */
static void drain(struct chario *c)
{
    struct timespec t;
    int64_t end, now;

    clock_gettime(CLOCK_MONOTONIC, &t);
    end = t.tv_sec * 1000 + t.tv_nsec / 1000000 + DRAIN_MS;
    out_flush(c);
    while (c->len && out_open(c)) {
        struct pollfd p = {.fd = c->out_src.fd, .events = POLLOUT};

        clock_gettime(CLOCK_MONOTONIC, &t);
        now = t.tv_sec * 1000 + t.tv_nsec / 1000000;
        if (now >= end || poll(&p, 1, (int)(end - now)) <= 0)
            break;
        out_flush(c);
    }
}

void chario_free(struct chario *c)
{
    if (!c)
        return;
    if (c->loop) {
        evloop_del(c->loop, &c->wake_src);
        evloop_del(c->loop, &c->listen_src);
        evloop_del(c->loop, &c->in_src);
        evloop_del(c->loop, &c->out_src);
    }
    drain(c);
    if (c->tty)
        tty_restore();
    confd_close(c->out_src.fd, c->out_flags);
    confd_close(c->in_src.fd, c->in_flags);
    confd_close(c->listen_src.fd, -1);
    confd_close(c->spare, -1);
    confd_close(c->peer, -1);
    close(c->wake_src.fd);
    pthread_mutex_destroy(&c->lock);
    textwatch_exit(&c->watch);
    free(c->ring);
    free(c);
}
