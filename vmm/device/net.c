/* SPDX-License-Identifier: MIT */
/*
 * virtio network card: one receive and one transmit queue in front of a backend (net.h).
 * Source: virtio 1.2, section 5.1.
 *
 * A frame is received into the card's bounce buffer first, because its length decides how many
 * of the guest's buffers it takes; a frame for which the guest has no buffers stays there and
 * the backend is asked for no more until buffers come.  What another guest wrote into the header
 * of a frame is checked and cut to what this guest's driver negotiated.
 * Threads: io0 under the device's lock; statistics by any under the lock.
 */
#include "vmm/device/net.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/device/csum.h"
#include "vmm/device/devices.h"
#include "vmm/device/host.h"
#include "vmm/device/virtio.h"

enum {
    RXQ = 0,
    TXQ = 1,
    QUEUE_SIZE = 256,
    HDR = sizeof(struct virtio_net_hdr_v1),
    FRAME_MAX =
        65536 + 64, /* the largest segmentation-offload frame with its Ethernet header */
    BATCH = 128,    /* frames in one go, so that other devices get their turn */
    MIN_FRAME = 14,
};

/* Features a driver may use when the backend carries unfinished frames. */
static const uint64_t offload_features =
    1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_GUEST_CSUM |
    1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6 |
    1ull << VIRTIO_NET_F_GUEST_TSO4 | 1ull << VIRTIO_NET_F_GUEST_TSO6;

/* The card.  Guarded by v.lock after net_new(). */
struct net {
    struct virtio_dev v;             /* transport; first */
    struct net_backend *be;          /* owned */
    struct virtio_net_config config; /* MAC and link status */
    struct dev_stats stats;          /* counters */
    size_t held;                     /* bytes of a received frame waiting in frame, 0: none */
    bool tx_stalled;                 /* the backend was full; retry when it is ready */
    bool said_drop;                  /* one line about undeliverable frames was logged */
    struct vq_chain first, chain;   /* first buffer of a received frame; request being served */
    uint8_t frame[HDR + FRAME_MAX]; /* bounce buffer: header and frame */
};

static bool has(const struct net *n, unsigned feature)
{
    return n->v.features & 1ull << feature;
}

/* ---- receive ---- */

/* The frame can't be given to this guest. */
static void drop(struct net *n, const char *why)
{
    n->stats.errors++;
    n->held = 0;
    if (n->said_drop)
        return;
    n->said_drop = true;
    log_warn("%s: frame dropped: %s (said once)", n->v.label, why);
}

/* Checks the header another guest or the host wrote, and finishes what this driver did not
 * negotiate.  Returns false when the frame must be dropped. */
static bool fit_header(struct net *n)
{
    struct virtio_net_hdr_v1 *h = (struct virtio_net_hdr_v1 *)n->frame;
    size_t len = n->held - HDR;
    uint8_t gso = h->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    size_t start = le16toh(h->csum_start), at = start + le16toh(h->csum_offset);

    h->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;
    if ((h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && (start >= len || at + 2 > len))
        return false;
    if (gso != VIRTIO_NET_HDR_GSO_NONE) {
        bool v4 = gso == VIRTIO_NET_HDR_GSO_TCPV4 && has(n, VIRTIO_NET_F_GUEST_TSO4);
        bool v6 = gso == VIRTIO_NET_HDR_GSO_TCPV6 && has(n, VIRTIO_NET_F_GUEST_TSO6);

        h->gso_type = gso; /* ECN is not negotiated by anyone */
        return (v4 || v6) && le16toh(h->gso_size) > 0 && le16toh(h->hdr_len) <= len;
    }
    if ((h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && !has(n, VIRTIO_NET_F_GUEST_CSUM)) {
        csum_finish(n->frame + HDR, len, start, at);
        h->flags = 0;
    }
    if (!has(n, VIRTIO_NET_F_GUEST_CSUM))
        h->flags = 0;
    h->gso_type = VIRTIO_NET_HDR_GSO_NONE;
    h->gso_size = h->hdr_len = 0;
    return true;
}

/* Gives popped but unused receive buffers back. */
static void give_back(struct virtq *q, unsigned bufs)
{
    while (bufs-- > 0)
        vq_unpop(q);
}

/* Puts the held frame into the guest's buffers: one, or several when the driver merges them.
 * 1: gone (delivered or dropped); 0: not enough buffers now; -1: the device is broken. */
static int deliver(struct net *n)
{
    struct virtq *q = &n->v.vq[RXQ];
    unsigned most = has(n, VIRTIO_NET_F_MRG_RXBUF) ? q->size : 1, bufs = 0;
    size_t off = 0;
    uint16_t count;

    while (off < n->held) {
        struct vq_chain *c = bufs ? &n->chain : &n->first;
        int r = bufs < most ? vq_pop(q, c) : 1;
        size_t part;

        if (r <= 0) {
            if (!r)
                give_back(q, bufs);
            return r;
        }
        if (bufs == most || c->in_len == 0 || (bufs == 0 && c->in_len < HDR)) {
            give_back(q, bufs);
            drop(n, "larger than the driver's buffers");
            return 1;
        }
        part = iov_in(c->in, c->nin, 0, n->frame + off, n->held - off);
        vq_fill(q, bufs++, c->head, (uint32_t)part);
        off += part;
    }
    count = htole16((uint16_t)bufs);
    iov_in(n->first.in, n->first.nin, offsetof(struct virtio_net_hdr_v1, num_buffers), &count,
           sizeof(count));
    vq_publish(q, bufs);
    n->stats.requests++;
    n->stats.bytes_in += n->held - HDR;
    n->held = 0;
    return 1;
}

/* Takes the next frame from the backend into the bounce buffer. False: none now. */
static bool fetch(struct net *n)
{
    size_t skip = n->be->ops->offload ? 0 : HDR;
    struct iovec iov = {.iov_base = n->frame + skip, .iov_len = sizeof(n->frame) - skip};
    ssize_t got = n->be->ops->recv(n->be, &iov, 1);

    if (got == 0)
        return false;
    if (got < 0 || (size_t)got + skip < HDR + MIN_FRAME) {
        n->stats.errors++;
        return true;
    }
    if (skip)
        memset(n->frame, 0, HDR);
    n->held = (size_t)got + skip;
    if (!fit_header(n))
        drop(n, "its header asks for what the driver did not negotiate");
    return true;
}

/* Receives until the backend is empty, the guest has no buffers, or the batch is full. */
static void receive(struct net *n)
{
    struct virtq *q = &n->v.vq[RXQ];
    bool full = false;

    for (unsigned i = 0; i < BATCH && !full; i++) {
        int r;

        if (!n->held && !fetch(n))
            break;
        if (!n->held)
            continue;
        r = deliver(n);
        if (r < 0)
            return;
        full = r == 0 && !vq_arm(q);
    }
    if (!full)
        vq_disarm(q);
    vq_signal(q);
    n->be->ops->want(n->be, !full, n->tx_stalled);
}

/* ---- transmit ---- */

/* Sends one request. 0 or -EAGAIN. */
static int send_chain(struct net *n)
{
    struct vq_chain *c = &n->chain;
    struct iovec *iov = c->out;
    unsigned niov = c->nout;
    size_t skip = n->be->ops->offload ? 0 : HDR;
    int r;

    if (c->out_len < HDR + MIN_FRAME || c->out_len > sizeof(n->frame)) {
        n->stats.errors++;
        return 0;
    }
    while (skip > 0) { /* out_len > HDR: this ends */
        size_t part = iov->iov_len < skip ? iov->iov_len : skip;

        iov->iov_base = (uint8_t *)iov->iov_base + part;
        iov->iov_len -= part;
        skip -= part;
        if (!iov->iov_len) {
            iov++;
            niov--;
        }
    }
    r = n->be->ops->send(n->be, iov, niov);
    if (r == -EAGAIN)
        return r;
    n->stats.requests++;
    n->stats.bytes_out += c->out_len - HDR;
    return 0;
}

/* Sends what the guest has queued, until the backend is full. */
static void transmit(struct net *n)
{
    struct virtq *q = &n->v.vq[TXQ];
    unsigned sent = 0;

    n->tx_stalled = false;
    do {
        int r;

        while (sent < 4 * BATCH && (r = vq_pop(q, &n->chain)) == 1) {
            if (send_chain(n) == -EAGAIN) {
                vq_unpop(q);
                n->tx_stalled = true;
                break;
            }
            vq_push(q, n->chain.head, 0);
            sent++;
        }
    } while (virtio_live(&n->v) && !n->tx_stalled && sent < 4 * BATCH && vq_arm(q));
    if (!virtio_live(&n->v))
        return;
    if (sent >= 4 * BATCH)
        n->tx_stalled = true; /* go on after others had their turn */
    if (n->tx_stalled)
        vq_disarm(q);
    vq_signal(q);
    n->be->ops->want(n->be, !n->held, n->tx_stalled);
}

/* ---- entries ---- */

/* The backend has frames or takes some again. On io0, lock not held. */
static void backend_ready(void *arg)
{
    struct net *n = arg;

    virtio_lock(&n->v);
    if (virtio_live(&n->v)) {
        if (n->tx_stalled)
            transmit(n);
        if (virtio_live(&n->v))
            receive(n);
    } else {
        for (unsigned i = 0; i < BATCH && fetch(n); i++)
            n->held = 0; /* nobody to give it to */
        n->be->ops->want(n->be, true, false);
    }
    virtio_unlock(&n->v);
}

static void net_kick(struct virtio_dev *d, unsigned q)
{
    struct net *n = (struct net *)d;

    if (q == TXQ)
        transmit(n);
    else
        receive(n);
}

static void net_config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len)
{
    struct net *n = (struct net *)d;

    memcpy(data, (const uint8_t *)&n->config + off, len);
}

/* The driver let go of its queues. */
static void net_stop(struct virtio_dev *d)
{
    struct net *n = (struct net *)d;

    n->held = 0;
    n->tx_stalled = false;
}

static void net_stats(struct virtio_dev *d, struct dev_stats *out)
{
    *out = ((struct net *)d)->stats;
}

static void net_free(struct virtio_dev *d)
{
    struct net *n = (struct net *)d;

    virtio_exit(d);
    n->be->ops->free(n->be);
    free(n);
}

static const struct virtio_type net_type = {
    .name = "net",
    .id = VIRTIO_ID_NET,
    .pci_class = 0x02000000,
    .config_len = offsetof(struct virtio_net_config, max_virtqueue_pairs),
    .config_read = net_config_read,
    .kick = net_kick,
    .stop = net_stop,
    .stats = net_stats,
    .free = net_free,
};

int net_new(struct virtio_dev **out, const struct dev_host *host, struct pci_bus *bus,
            unsigned index, const uint8_t mac[6], struct net_backend *be, struct err *err)
{
    struct net *n = xcalloc(1, sizeof(*n));
    uint64_t features =
        1ull << VIRTIO_NET_F_MAC | 1ull << VIRTIO_NET_F_STATUS | 1ull << VIRTIO_NET_F_MRG_RXBUF;
    char label[16];
    int r;

    n->be = be;
    memcpy(n->config.mac, mac, 6);
    n->config.status = htole16(VIRTIO_NET_S_LINK_UP);
    if (be->ops->offload)
        features |= offload_features;
    snprintf(label, sizeof(label), "net%u", index);
    r = virtio_init(&n->v, &net_type, label, 2, QUEUE_SIZE, features, host, bus);
    if (r) {
        be->ops->free(be);
        free(n);
        return fail_errno(err, EXIT_INTERNAL, -r, "network card %u", index);
    }
    r = be->ops->start(be, host->io, backend_ready, n);
    if (r) {
        net_free(&n->v);
        return fail_errno(err, EXIT_INTERNAL, -r, "network card %u: event source", index);
    }
    *out = &n->v;
    return 0;
}
