/* SPDX-License-Identifier: MIT */
/*
 * User-mode networking: libslirp gives the guest 10.0.2.0/24 with DHCP, DNS and NAT, no
 * privilege needed.  libslirp runs on a thread of its own ("slirp") and talks to the card over a
 * SOCK_SEQPACKET pair, so the card sees an ordinary descriptor.  The library is loaded when the
 * first such card is made: guests without one do not pay for it.
 *
 * Threads: struct user's `slirp` side belongs to the slirp thread after net_user_new(); the card
 * side (fd) to io0.  Closing the card's end ends the thread.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/signals.h"
#include "vmm/device/net_fd.h"

enum {
    MAX_POLL = 1024,   /* sockets of the guest watched at once */
    MAX_TIMERS = 8,    /* slirp makes one or two */
    FRAME_MAX = 16384, /* no offload: Ethernet frames, if need be jumbo ones */
    BATCH = 64,        /* frames taken from the guest in one go */
};

/* The library's functions that we call. */
struct slirp_api {
    void *handle; /* of dlopen */
    Slirp *(*new)(const SlirpConfig *, const SlirpCb *,
                  void *);    /* makes a stack with its callbacks */
    void (*cleanup)(Slirp *); /* frees it */
    void (*fill)(Slirp *, uint32_t *, SlirpAddPollCb,
                 void *); /* says what it waits for, and for how many ms */
    void (*poll)(Slirp *, int, SlirpGetREventsCb, void *); /* serves what came */
    void (*input)(Slirp *, const uint8_t *, int);          /* a frame from the guest */
    int (*hostfwd)(Slirp *, int, struct in_addr, int, struct in_addr,
                   int); /* forwards a port of the host; 0 or -1 */
};

/* A timer of slirp. */
struct user_timer {
    SlirpTimerCb cb; /* NULL: free entry */
    void *arg;       /* of cb */
    int64_t at_ms;   /* when it fires, INT64_MAX: not armed */
};

/* The backend.  The card's side comes first. */
struct user {
    struct net_fd card; /* io0 */
    pthread_t thread;   /* slirp */
    bool runs;          /* thread is valid */
    /* slirp thread */
    struct slirp_api api;                /* constant after net_user_new() */
    Slirp *slirp;                        /* the stack */
    int fd;                              /* our end of the pair */
    struct pollfd pfd[MAX_POLL];         /* what is watched; entry 0 is fd */
    unsigned npfd;                       /* entries of pfd */
    struct user_timer timer[MAX_TIMERS]; /* what slirp set */
};

/* ---- callbacks of the library, slirp thread ---- */

/* A frame for the guest. */
static ssize_t to_guest(const void *buf, size_t len, void *opaque)
{
    struct user *u = opaque;

    (void)send(u->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL); /* full: dropped, as on a wire */
    return (ssize_t)len;
}

/* The guest sent what no stack sends.  It may do so all day: debug level only. */
static void guest_error(const char *msg, void *opaque)
{
    (void)opaque;
    log_debug("user network: %s", msg);
}

/* The library's clock. */
static int64_t clock_ns(void *opaque)
{
    struct timespec ts;

    (void)opaque;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* A timer, not armed. */
static void *timer_new(SlirpTimerCb cb, void *arg, void *opaque)
{
    struct user *u = opaque;

    for (unsigned i = 0; i < MAX_TIMERS; i++)
        if (!u->timer[i].cb) {
            u->timer[i] = (struct user_timer){.cb = cb, .arg = arg, .at_ms = INT64_MAX};
            return &u->timer[i];
        }
    INVARIANT(false, "libslirp makes more timers than we have room for");
    return NULL;
}

/* Gives a timer's entry back. */
static void timer_del(void *timer, void *opaque)
{
    (void)opaque;
    memset(timer, 0, sizeof(struct user_timer));
}

/* Arms a timer: at_ms in time of clock_ns(). */
static void timer_set(void *timer, int64_t at_ms, void *opaque)
{
    (void)opaque;
    ((struct user_timer *)timer)->at_ms = at_ms;
}

/* Descriptors are named anew for each poll: nothing to register. */
static void nothing_fd(int fd, void *opaque)
{
    (void)fd;
    (void)opaque;
}

/* There is nobody to wake: the library is called on this thread only. */
static void nothing(void *opaque)
{
    (void)opaque;
}

/* slirp's event bits <-> poll's. */
static const struct {
    int slirp;  /* SLIRP_POLL_* */
    short poll; /* POLL* */
} event_bits[] = {
    {SLIRP_POLL_IN, POLLIN},   {SLIRP_POLL_OUT, POLLOUT}, {SLIRP_POLL_PRI, POLLPRI},
    {SLIRP_POLL_ERR, POLLERR}, {SLIRP_POLL_HUP, POLLHUP},
};

/* The library wants a descriptor watched; its index for get_revents(), -1: no room, so its
 * connection waits until others end. */
static int add_poll(int fd, int events, void *opaque)
{
    struct user *u = opaque;
    short want = 0;

    if (u->npfd == MAX_POLL)
        return -1;
    for (unsigned i = 0; i < sizeof(event_bits) / sizeof(event_bits[0]); i++)
        if (events & event_bits[i].slirp)
            want = (short)(want | event_bits[i].poll);
    u->pfd[u->npfd] = (struct pollfd){.fd = fd, .events = want};
    return (int)u->npfd++;
}

/* What poll said about a descriptor of add_poll(). */
static int get_revents(int index, void *opaque)
{
    struct user *u = opaque;
    int got = 0;

    if (index < 0 || (unsigned)index >= u->npfd)
        return 0;
    for (unsigned i = 0; i < sizeof(event_bits) / sizeof(event_bits[0]); i++)
        if (u->pfd[index].revents & event_bits[i].poll)
            got |= event_bits[i].slirp;
    return got;
}

static const SlirpCb callbacks = {
    .send_packet = to_guest,
    .guest_error = guest_error,
    .clock_get_ns = clock_ns,
    .timer_new = timer_new,
    .timer_free = timer_del,
    .timer_mod = timer_set,
    .register_poll_fd = nothing_fd,
    .unregister_poll_fd = nothing_fd,
    .notify = nothing,
};

/* ---- the thread ---- */

/* Fires timers that are due and shortens the wait to the next one. */
static void run_timers(struct user *u, uint32_t *timeout_ms)
{
    int64_t now = clock_ns(u) / 1000000;

    for (unsigned i = 0; i < MAX_TIMERS; i++) {
        struct user_timer *t = &u->timer[i];

        if (t->cb && t->at_ms <= now) {
            t->at_ms = INT64_MAX;
            t->cb(t->arg);
        }
        if (t->cb && t->at_ms < now + (int64_t)*timeout_ms)
            *timeout_ms = (uint32_t)(t->at_ms - now);
    }
}

/* Hands the guest's frames to the stack. False: the card is gone. */
static bool from_guest(struct user *u)
{
    uint8_t frame[FRAME_MAX];

    for (unsigned i = 0; i < BATCH; i++) {
        ssize_t n = recv(u->fd, frame, sizeof(frame), MSG_DONTWAIT | MSG_TRUNC);

        if (n == 0)
            return false;
        if (n < 0)
            return errno == EAGAIN;
        if ((size_t)n <= sizeof(frame)) /* larger than any we told the guest of: dropped */
            u->api.input(u->slirp, frame, (int)n);
    }
    return true;
}

/* Body of the thread: waits for the guest's frames, the world's sockets and timers. */
static void *slirp_thread(void *arg)
{
    struct user *u = arg;
    bool go_on = true;

    pthread_setname_np(pthread_self(), "slirp");
    while (go_on) {
        uint32_t timeout = 1000;
        int n;

        u->pfd[0] = (struct pollfd){.fd = u->fd, .events = POLLIN};
        u->npfd = 1;
        u->api.fill(u->slirp, &timeout, add_poll, u);
        run_timers(u, &timeout);
        n = poll(u->pfd, u->npfd, (int)(timeout < 1000 ? timeout : 1000));
        u->api.poll(u->slirp, n < 0, get_revents, u);
        if (u->pfd[0].revents)
            go_on = from_guest(u);
    }
    return NULL;
}

/* ---- making and undoing ---- */

/* Finds one function of the library. */
static bool resolve(struct slirp_api *api, const char *name, void **fn)
{
    *fn = dlsym(api->handle, name);
    return *fn;
}

/* Loads the library and finds what we call. */
static int load_library(struct slirp_api *api, struct err *err)
{
    api->handle = dlopen("libslirp.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!api->handle)
        return fail(err, EXIT_RESOURCE, ENOENT,
                    "a user-mode network needs libslirp (apt-get install libslirp0): %s",
                    dlerror());
    if (!resolve(api, "slirp_new", (void **)&api->new) ||
        !resolve(api, "slirp_cleanup", (void **)&api->cleanup) ||
        !resolve(api, "slirp_pollfds_fill", (void **)&api->fill) ||
        !resolve(api, "slirp_pollfds_poll", (void **)&api->poll) ||
        !resolve(api, "slirp_input", (void **)&api->input) ||
        !resolve(api, "slirp_add_hostfwd", (void **)&api->hostfwd))
        return fail(err, EXIT_RESOURCE, ENOSYS, "this libslirp is too old: %s", dlerror());
    return 0;
}

/* An address of a forward; an empty one leaves *addr. */
static bool forward_addr(const char *text, struct in_addr *addr)
{
    return text && (!*text || inet_pton(AF_INET, text, addr) == 1);
}

/* A port of a forward; 0: not one. */
static int forward_port(const char *text)
{
    char *end = NULL;
    unsigned long port = text ? strtoul(text, &end, 10) : 0;

    return text && end != text && !*end && port <= UINT16_MAX ? (int)port : 0;
}

/* One forward: "tcp:127.0.0.1:2222-:22". The configuration's checker saw its syntax already.
 * Its text is cut into pieces. */
static int add_forward(struct user *u, char *text, struct err *err)
{
    struct in_addr haddr = {.s_addr = htonl(INADDR_ANY)}, gaddr = {.s_addr = 0};
    char *whole = xstrdup(text), *proto, *host, *guest;
    bool udp, fits;
    int hport, gport, r = 0;

    proto = strsep(&text, ":");
    host = strsep(&text, ":");
    hport = forward_port(strsep(&text, "-"));
    guest = strsep(&text, ":");
    gport = forward_port(text);
    udp = !strcmp(proto, "udp");
    fits = (udp || !strcmp(proto, "tcp")) && hport && gport && forward_addr(host, &haddr) &&
           forward_addr(guest, &gaddr);
    if (!fits)
        r = fail(err, EXIT_CONFIG, EINVAL,
                 "hostfwd \"%s\": want tcp: or udp:, [host address]:port-[guest address]:port",
                 whole);
    else if (u->api.hostfwd(u->slirp, udp, haddr, hport, gaddr, gport))
        r = fail_errno(err, EXIT_RESOURCE, errno ? errno : EADDRINUSE,
                       "hostfwd \"%s\": the host's port cannot be taken", whole);
    free(whole);
    return r;
}

/* All forwards, separated by commas. */
static int add_forwards(struct user *u, const char *list, struct err *err)
{
    char *copy = xstrdup(list ? list : ""), *save = NULL;
    int r = 0;

    for (char *t = strtok_r(copy, ",", &save); t && !r; t = strtok_r(NULL, ",", &save))
        r = add_forward(u, t, err);
    free(copy);
    return r;
}

/* Undoes net_user_new(), whatever of it was done.  The thread ends when the card's end closes. */
static void user_free(struct net_backend *be)
{
    struct user *u = (struct user *)be;

    net_fd_exit(&u->card);
    if (u->runs)
        pthread_join(u->thread, NULL);
    if (u->slirp)
        u->api.cleanup(u->slirp);
    if (u->fd >= 0)
        close(u->fd);
    if (u->api.handle)
        dlclose(u->api.handle);
    free(u);
}

static const struct net_backend_ops user_ops = {
    .name = "user",
    .offload = false,
    .send = net_fd_send,
    .recv = net_fd_recv,
    .start = net_fd_start,
    .want = net_fd_want,
    .free = user_free,
};

/* The stack with the addresses everyone knows from user-mode networks. */
static int start_stack(struct user *u, const char *hostfwd, struct err *err)
{
    SlirpConfig cfg = {
        .version = 1,
        .in_enabled = true,
        .vnetwork = {.s_addr = htonl(0x0a000200)},
        .vnetmask = {.s_addr = htonl(0xffffff00)},
        .vhost = {.s_addr = htonl(0x0a000202)},
        .vdhcp_start = {.s_addr = htonl(0x0a00020f)},
        .vnameserver = {.s_addr = htonl(0x0a000203)},
        .vhostname = "disco",
    };
    int r;

    u->slirp = u->api.new(&cfg, &callbacks, u);
    if (!u->slirp)
        return fail(err, EXIT_RESOURCE, ENOMEM, "user-mode network: slirp_new failed");
    r = add_forwards(u, hostfwd, err);
    if (r)
        return r;
    r = signals_thread(&u->thread, slirp_thread, u);
    u->runs = !r;
    if (r)
        return fail_errno(err, EXIT_INTERNAL, r, "pthread_create for slirp");
    return 0;
}

struct net_backend *net_user_new(const char *hostfwd, struct err *err)
{
    struct user *u = xcalloc(1, sizeof(*u));
    int pair[2];

    u->fd = -1;
    net_fd_init(&u->card, &user_ops, -1, true);
    if (load_library(&u->api, err))
        goto undo;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
        fail_errno(err, EXIT_INTERNAL, errno, "socketpair");
        goto undo;
    }
    u->fd = pair[1];
    net_fd_init(&u->card, &user_ops, pair[0], true);
    net_fd_room(pair[0]);
    net_fd_room(pair[1]);
    if (!start_stack(u, hostfwd, err))
        return &u->card.be;
undo:
    user_free(&u->card.be);
    return NULL;
}
