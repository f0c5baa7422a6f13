/* SPDX-License-Identifier: MIT */
/*
 * The virtual subnet's switch.  Learns source addresses, forwards to one port or floods.
 *
 * Locks: `lock` guards the port table and address table; held by the switch thread while it
 * serves one port's turn, and by vswitch_port/own/get.  Nothing is taken under it and no system
 * call under it can block (all sockets are non-blocking).
 */
#include "vmm/monitor/switch.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/signals.h"
#include "vmm/cell/proto.h"
#include "vmm/device/net_fd.h"

enum {
    MAX_PORTS = 4096,                  /* guests' cards */
    MAX_MACS = 4096,                   /* entries of the address table, a power of two */
    MACS_PER_PORT = 64,                /* addresses one guest may show */
    PROBE = 8,                         /* entries looked at per address */
    VNET_HDR = 12,                     /* bytes of the header before each frame */
    ETH_HDR = 14,                      /* destination, source, type */
    FRAME_MAX = VNET_HDR + 65536 + 64, /* bytes of the largest, unfinished by offload */
    TURN = 4 << 20,   /* cost of the frames of one port in one go: bytes copied and ... */
    CALL_COST = 4096, /* ... what a system call costs, in bytes */
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
    bool owned;     /* by vswitch_own(): not learnt */
    int port;       /* where it is, -1: free */
};

struct vswitch {
    struct evloop loop;              /* switch thread */
    pthread_t thread;                /* "switch" */
    pthread_mutex_t lock;            /* guards the rest */
    struct port *ports[MAX_PORTS];   /* NULL: free */
    uint32_t seed;                   /* of the hash: guests must not find collisions */
    int nports;                      /* one past the highest port in use */
    struct mac_entry macs[MAX_MACS]; /* open addressing, PROBE entries per address */
    uint8_t frame[FRAME_MAX];        /* the frame being forwarded */
};

/* Entry number i of the PROBE ones in which an address may be (FNV-1a with a secret). */
static struct mac_entry *mac_entry(struct vswitch *s, const uint8_t *mac, unsigned i)
{
    uint32_t h = 2166136261u ^ s->seed;

    for (int k = 0; k < 6; k++)
        h = (h ^ mac[k]) * 16777619u;
    return &s->macs[((h ^ h >> 16) + i) % MAX_MACS];
}

/* An address's entry, NULL: unknown. Lock held. */
static struct mac_entry *mac_find(struct vswitch *s, const uint8_t *mac)
{
    for (unsigned i = 0; i < PROBE; i++) {
        struct mac_entry *e = mac_entry(s, mac, i);

        if (e->port >= 0 && !memcmp(e->mac, mac, 6))
            return e;
    }
    return NULL;
}

/* Puts an address into an entry. Lock held. */
static void mac_put(struct mac_entry *e, const uint8_t *mac, const struct port *p, bool owned)
{
    memcpy(e->mac, mac, 6);
    e->port = p->number;
    e->owned = owned;
}

/* Remembers an unknown address, unless the port has shown too many or the table is full there.
 * Lock held. */
static void mac_learn(struct vswitch *s, const uint8_t *mac, struct port *p)
{
    if (p->nmacs >= MACS_PER_PORT)
        return;
    for (unsigned i = 0; i < PROBE; i++) {
        struct mac_entry *e = mac_entry(s, mac, i);

        if (e->port < 0) {
            mac_put(e, mac, p, false);
            p->nmacs++;
            return;
        }
    }
}

/* Gives an address to a port, if need be instead of a learnt one. Lock held. */
static int mac_own(struct vswitch *s, const uint8_t *mac, const struct port *p)
{
    struct mac_entry *e = mac_find(s, mac);

    if (e && e->owned && e->port != p->number)
        return -EEXIST;
    for (unsigned i = 0; i < PROBE && !e; i++)
        if (mac_entry(s, mac, i)->port < 0)
            e = mac_entry(s, mac, i);
    for (unsigned i = 0; i < PROBE && !e; i++)
        if (!mac_entry(s, mac, i)->owned)
            e = mac_entry(s, mac, i);
    if (!e)
        return -ENOSPC;
    if (e->port >= 0 && !e->owned)
        s->ports[e->port]->nmacs--;
    mac_put(e, mac, p, true);
    return 0;
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

/* True when the port may send from this address, which is remembered. Lock held. */
static bool may_send(struct vswitch *s, const uint8_t *mac, struct port *from)
{
    const struct mac_entry *e = mac_find(s, mac);

    if (mac[0] & 1)
        return false; /* nobody's */
    if (!e)
        mac_learn(s, mac, from);
    return !e || e->port == from->number;
}

/* Forwards the frame that came from a port; frames sent. Lock held. */
static unsigned forward(struct vswitch *s, struct port *from, size_t len)
{
    const uint8_t *eth = s->frame + VNET_HDR;
    const struct mac_entry *to = eth[0] & 1 ? NULL : mac_find(s, eth);
    unsigned sent = 0;

    if (len < VNET_HDR + ETH_HDR || len > sizeof(s->frame) || !may_send(s, eth + 6, from)) {
        from->stats.refused++;
        return 0;
    }
    from->stats.frames_out++;
    from->stats.bytes_out += len - VNET_HDR;
    for (int i = to ? to->port : 0; i < (to ? to->port + 1 : s->nports); i++)
        if (s->ports[i] && i != from->number) {
            send_to(s, s->ports[i], len);
            sent++;
        }
    return sent;
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
    for (size_t cost = 0; cost < TURN && !gone;) {
        ssize_t n = recv(p->src.fd, s->frame, sizeof(s->frame), MSG_DONTWAIT | MSG_TRUNC);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        cost += CALL_COST;
        if (n > 0)
            cost += (forward(s, p, (size_t)n) + 1) * (CALL_COST + (size_t)n);
        else if (n == 0 || errno != ECONNRESET) /* which is said once, before the last frames */
            gone = true;
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

    if (getrandom(&s->seed, sizeof(s->seed), GRND_NONBLOCK) < 0)
        s->seed = (uint32_t)getpid(); /* early boot: better than none */
    pthread_mutex_init(&s->lock, NULL);
    for (unsigned i = 0; i < MAX_MACS; i++)
        s->macs[i].port = -1;
    r = evloop_init(&s->loop, err);
    if (!r) {
        r = signals_thread(&s->thread, switch_thread, s);
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

int vswitch_port(struct vswitch *s, const char *guest, int *peer_fd, struct err *err)
{
    struct port *p;
    int pair[2], number = 0, r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
        return fail_errno(err, EXIT_INTERNAL, errno, "socketpair for the virtual subnet");
    proto_no_fds(pair[0]);
    net_fd_room(pair[0]);
    net_fd_room(pair[1]);
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

int vswitch_own(struct vswitch *s, int port, const uint8_t mac[6])
{
    int r = -ENOENT;

    if (mac[0] & 1)
        return -EINVAL;
    pthread_mutex_lock(&s->lock);
    if (port >= 0 && port < MAX_PORTS && s->ports[port])
        r = mac_own(s, mac, s->ports[port]);
    pthread_mutex_unlock(&s->lock);
    return r;
}

void vswitch_get(struct vswitch *s, int port, struct vswitch_stats *out)
{
    memset(out, 0, sizeof(*out));
    pthread_mutex_lock(&s->lock);
    if (port >= 0 && port < MAX_PORTS && s->ports[port])
        *out = s->ports[port]->stats;
    pthread_mutex_unlock(&s->lock);
}
