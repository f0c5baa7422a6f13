/* SPDX-License-Identifier: MIT */
/*
 * The virtual subnet's switch.  Learns source addresses, forwards to one port or floods.
 *
 * Locks: `lock` guards the port table and address table; held by the switch thread while it
 * serves one port's batch, and by vswitch_port/get.  Nothing is taken under it and no system call
 * under it can block (all sockets are non-blocking).
 */
#include "vmm/monitor/switch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/log.h"

enum {
    MAX_PORTS = 4096,
    MAX_MACS = 4096,    /* entries of the address table, a power of two */
    MACS_PER_PORT = 64, /* addresses one guest may show */
    PROBE = 8,          /* entries looked at per address */
    VNET_HDR = 12,
    ETH_HDR = 14,
    FRAME_MAX = VNET_HDR + 65536 + 64,
    BATCH = 64,         /* frames of one port in one go */
    SOCK_BUF = 4 << 20, /* bytes a port holds for a guest that is slow */
};

/* One guest's card. */
struct port {
    struct vswitch *sw;         /* owner */
    int number;                 /* index in the table */
    char guest[64];             /* whose it is, for messages */
    struct evsrc src;           /* our end of the pair */
    unsigned nmacs;             /* addresses learnt */
    struct vswitch_stats stats; /* counters */
};

/* One learnt address. */
struct mac_entry {
    uint8_t mac[6]; /* address */
    int port;       /* where it is, -1: free */
};

struct vswitch {
    struct evloop loop;              /* switch thread */
    pthread_t thread;                /* "switch" */
    pthread_mutex_t lock;            /* guards the rest */
    struct port *ports[MAX_PORTS];   /* NULL: free */
    int nports;                      /* one past the highest port in use */
    struct mac_entry macs[MAX_MACS]; /* open addressing, PROBE entries per address */
    uint8_t frame[FRAME_MAX];        /* the frame being forwarded */
};

/* First entry to look at for an address (FNV-1a). */
static unsigned mac_slot(const uint8_t *mac)
{
    uint32_t h = 2166136261u;

    for (int i = 0; i < 6; i++)
        h = (h ^ mac[i]) * 16777619u;
    return h % MAX_MACS;
}

/* Port of an address, -1 unknown. Lock held. */
static int mac_find(const struct vswitch *s, const uint8_t *mac)
{
    for (unsigned i = 0; i < PROBE; i++) {
        const struct mac_entry *e = &s->macs[(mac_slot(mac) + i) % MAX_MACS];

        if (e->port >= 0 && !memcmp(e->mac, mac, 6))
            return e->port;
    }
    return -1;
}

/* Remembers an address, unless the port has shown too many or the table is full there. */
static void mac_learn(struct vswitch *s, const uint8_t *mac, struct port *p)
{
    if ((mac[0] & 1) || p->nmacs >= MACS_PER_PORT || mac_find(s, mac) >= 0)
        return;
    for (unsigned i = 0; i < PROBE; i++) {
        struct mac_entry *e = &s->macs[(mac_slot(mac) + i) % MAX_MACS];

        if (e->port < 0) {
            memcpy(e->mac, mac, 6);
            e->port = p->number;
            p->nmacs++;
            return;
        }
    }
}

/* Forgets a port's addresses. */
static void mac_forget(struct vswitch *s, int port)
{
    for (unsigned i = 0; i < MAX_MACS; i++)
        if (s->macs[i].port == port)
            s->macs[i].port = -1;
}

/* Gives the frame to one port. Lock held. */
static void send_to(struct vswitch *s, struct port *p, size_t len)
{
    if (send(p->src.fd, s->frame, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len) {
        p->stats.frames_in++;
        p->stats.bytes_in += len - VNET_HDR;
    } else {
        p->stats.dropped++;
    }
}

/* Forwards the frame that came from a port. Lock held. */
static void forward(struct vswitch *s, struct port *from, size_t len)
{
    const uint8_t *eth = s->frame + VNET_HDR;
    int to = eth[0] & 1 ? -1 : mac_find(s, eth);

    from->stats.frames_out++;
    from->stats.bytes_out += len - VNET_HDR;
    mac_learn(s, eth + 6, from);
    if (mac_find(s, eth + 6) != from->number && !(eth[6] & 1) && mac_find(s, eth + 6) >= 0)
        return; /* another port's address: a guest must not speak for its neighbour */
    if (to >= 0) {
        if (to != from->number && s->ports[to])
            send_to(s, s->ports[to], len);
        return;
    }
    for (int i = 0; i < s->nports; i++)
        if (s->ports[i] && i != from->number)
            send_to(s, s->ports[i], len);
}

/* Closes a port. Lock held. */
static void port_close(struct vswitch *s, struct port *p)
{
    evloop_del(&s->loop, &p->src);
    close(p->src.fd);
    mac_forget(s, p->number);
    s->ports[p->number] = NULL;
    while (s->nports > 0 && !s->ports[s->nports - 1])
        s->nports--;
    free(p);
}

/* Frames from a guest, or its end. Switch thread. */
static void port_ready(void *arg, uint32_t revents)
{
    struct port *p = arg;
    struct vswitch *s = p->sw;
    bool gone = false;

    (void)revents;
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < BATCH && !gone; i++) {
        ssize_t n = recv(p->src.fd, s->frame, sizeof(s->frame), MSG_DONTWAIT | MSG_TRUNC);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        gone = n <= 0;
        if (!gone && n >= VNET_HDR + ETH_HDR && n <= (ssize_t)sizeof(s->frame))
            forward(s, p, (size_t)n);
    }
    if (gone)
        port_close(s, p);
    pthread_mutex_unlock(&s->lock);
}

static void *switch_thread(void *arg)
{
    struct vswitch *s = arg;

    pthread_setname_np(pthread_self(), "switch");
    evloop_run(&s->loop);
    return NULL;
}

struct vswitch *vswitch_new(struct err *err)
{
    struct vswitch *s = xcalloc(1, sizeof(*s));
    int r;

    pthread_mutex_init(&s->lock, NULL);
    for (unsigned i = 0; i < MAX_MACS; i++)
        s->macs[i].port = -1;
    r = evloop_init(&s->loop, err);
    if (!r) {
        r = pthread_create(&s->thread, NULL, switch_thread, s);
        if (!r)
            return s;
        fail_errno(err, EXIT_INTERNAL, r, "pthread_create for the switch");
        evloop_exit(&s->loop);
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
    return NULL;
}

void vswitch_free(struct vswitch *s)
{
    evloop_stop(&s->loop);
    pthread_join(s->thread, NULL);
    while (s->nports > 0)
        port_close(s, s->ports[s->nports - 1]);
    evloop_exit(&s->loop);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* Room for frames to a guest that is slow; the larger limit needs privilege. */
static void set_buffer(int fd)
{
    int size = SOCK_BUF;

    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

int vswitch_port(struct vswitch *s, const char *guest, int *peer_fd, struct err *err)
{
    struct port *p;
    int pair[2], number = 0, r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
        return fail_errno(err, EXIT_INTERNAL, errno, "socketpair for the virtual subnet");
    set_buffer(pair[0]);
    set_buffer(pair[1]);
    p = xcalloc(1, sizeof(*p));
    snprintf(p->guest, sizeof(p->guest), "%s", guest);
    p->sw = s;
    p->src = (struct evsrc){.fd = pair[0], .ready = port_ready, .arg = p};
    pthread_mutex_lock(&s->lock);
    while (number < MAX_PORTS && s->ports[number])
        number++;
    r = number < MAX_PORTS ? evloop_add(&s->loop, &p->src, EPOLLIN) : -ENOSPC;
    if (!r) {
        p->number = number;
        s->ports[number] = p;
        if (number >= s->nports)
            s->nports = number + 1;
    }
    pthread_mutex_unlock(&s->lock);
    if (!r) {
        *peer_fd = pair[1];
        return number;
    }
    free(p);
    close(pair[0]);
    close(pair[1]);
    return fail_errno(err, EXIT_RESOURCE, -r, "virtual subnet: a port for guest %s", guest);
}

void vswitch_get(struct vswitch *s, int port, struct vswitch_stats *out)
{
    memset(out, 0, sizeof(*out));
    pthread_mutex_lock(&s->lock);
    if (port >= 0 && port < MAX_PORTS && s->ports[port])
        *out = s->ports[port]->stats;
    pthread_mutex_unlock(&s->lock);
}
