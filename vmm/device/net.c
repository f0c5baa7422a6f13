/* SPDX-License-Identifier: MIT */
/*
 * virtio network card: one receive and one transmit queue in front of a backend (net.h).
 * Source: virtio 1.2, section 5.1.
 *
 * A frame is received into the card's bounce buffer first, because its length decides how many
 * of the guest's buffers it takes; a frame for which the guest has no buffers stays there and
 * the backend is asked for no more until buffers come.  What another guest wrote into the header
 * of a frame is checked, and what this guest's driver did not negotiate is finished here: the
 * checksum is computed, a large TCP frame is cut into segments (gso.h).
 *
 * Invariants.  N1: while rx_full, the receive queue is armed and the backend's reading is off;
 * a kick goes on.  N2: while tx_stalled, the backend calls when it takes frames again.  N3: a
 * frame or segments left when the batch ends without rx_full have a kick under way.
 * Threads: io0 under the device's lock; the driver's reset on a vCPU thread under the lock;
 * statistics by any under the lock.
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
#include "vmm/device/gso.h"
#include "vmm/device/host.h"
#include "vmm/device/virtio.h"

enum {
    RXQ = 0,                                /* queue of buffers for the guest's input */
    TXQ = 1,                                /* queue of frames to send */
    QUEUE_SIZE = 256,                       /* entries of each */
    HDR = sizeof(struct virtio_net_hdr_v1), /* bytes before each frame in guest memory */
    FRAME_MAX = 65536 + 64, /* the largest segmentation-offload frame, its Ethernet header */
    BATCH = 256,            /* frames in one go, so that other devices get their turn */
    BATCH_BYTES = 2 << 20,  /* likewise: about a millisecond of copying */
    MIN_FRAME = 14,         /* an Ethernet header */
    USUAL_FRAME = 1522,     /* Ethernet's largest, with a VLAN tag */
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
    uint8_t *at;                     /* the held frame, header first, inside frame */
    size_t held;                     /* bytes of a received frame waiting at `at`, 0: none */
    bool cutting;                    /* gso has segments left after the held one */
    bool rx_full;                    /* the held frame waits for the guest's buffers */
    bool tx_stalled;                 /* the backend was full; retry when it is ready */
    bool said_drop;                  /* one line about undeliverable frames was logged */
    struct gso gso;                  /* the large frame in frame */
    struct vq_chain first, chain;   /* first buffer of a received frame; request being served */
    uint8_t frame[HDR + FRAME_MAX]; /* bounce buffer: header and frame */
};

/* Work done in one go. */
struct budget {
    unsigned frames; /* frames so far */
    size_t bytes;    /* bytes in them */
};

/* True while another frame may be served. */
static bool within(const struct budget *b)
{
    return b->frames < BATCH && b->bytes < BATCH_BYTES;
}

/* True when the driver accepted a feature. */
static bool has(const struct net *n, unsigned feature)
{
    return n->v.features & 1ull << feature;
}

/* ---- receive: headers ---- */

/* The frame can't be given to this guest. */
static void drop(struct net *n, const char *why)
{
    n->stats.errors++;
    n->held = 0;
    n->cutting = false;
    if (n->said_drop)
        return;
    n->said_drop = true;
    log_warn("%s: frame dropped: %s (said once)", n->v.label, why);
}

/* Holds the next segment of a large frame. False: that was all. */
static bool next_segment(struct net *n)
{
    bool partial = has(n, VIRTIO_NET_F_GUEST_CSUM);
    struct virtio_net_hdr_v1 h = {0};
    uint8_t *seg;
    size_t len = gso_next(&n->gso, n->frame + HDR, partial, &seg);

    n->cutting = len > 0;
    if (!len)
        return false;
    if (partial) {
        h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        h.csum_start = htole16((uint16_t)n->gso.l4);
        h.csum_offset = htole16(GSO_CSUM);
    }
    n->at = seg - HDR; /* over what was delivered before, or the large frame's own header */
    memcpy(n->at, &h, HDR);
    n->held = HDR + len;
    return true;
}

/* Prepares a large frame: as it is for a driver that takes it, else by segments.  False: drop. */
static bool fit_large(struct net *n, struct virtio_net_hdr_v1 *h)
{
    bool v6 = h->gso_type == VIRTIO_NET_HDR_GSO_TCPV6, ready;

    ready = h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
    if ((!v6 && h->gso_type != VIRTIO_NET_HDR_GSO_TCPV4) ||
        !gso_begin(&n->gso, n->frame + HDR, n->held - HDR, le16toh(h->gso_size), v6))
        return false;
    if (ready && (le16toh(h->csum_start) != n->gso.l4 || le16toh(h->csum_offset) != GSO_CSUM))
        return false;
    if (!has(n, VIRTIO_NET_F_GUEST_CSUM) ||
        !has(n, v6 ? VIRTIO_NET_F_GUEST_TSO6 : VIRTIO_NET_F_GUEST_TSO4))
        return next_segment(n);
    if (!ready) /* a host's interface merged verified segments */
        gso_pseudo(&n->gso, n->frame + HDR);
    h->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    h->csum_start = htole16((uint16_t)n->gso.l4);
    h->csum_offset = htole16(GSO_CSUM);
    h->hdr_len = htole16((uint16_t)n->gso.hlen);
    n->held = HDR + n->gso.len;
    return true;
}

/* Checks the header another guest or the host wrote, and finishes what this driver did not
 * negotiate.  Returns false when the frame must be dropped. */
static bool fit_header(struct net *n)
{
    struct virtio_net_hdr_v1 *h = (struct virtio_net_hdr_v1 *)n->frame;
    size_t len = n->held - HDR;
    size_t start = le16toh(h->csum_start), at = start + le16toh(h->csum_offset);

    h->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;
    h->gso_type &= (uint8_t)~VIRTIO_NET_HDR_GSO_ECN; /* which nobody negotiated */
    if ((h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && (start >= len || at + 2 > len))
        return false;
    if (h->gso_type != VIRTIO_NET_HDR_GSO_NONE)
        return fit_large(n, h);
    if (!has(n, VIRTIO_NET_F_GUEST_CSUM)) {
        if (h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
            csum_finish(n->frame + HDR, len, start, at);
        h->flags = 0;
    }
    h->gso_size = h->hdr_len = 0;
    return true;
}

/* ---- receive: frames ---- */

/* Takes the next frame from the backend into the bounce buffer. False: none now. */
static bool take_frame(struct net *n)
{
    size_t skip = n->be->ops->offload ? 0 : HDR;
    struct iovec iov = {.iov_base = n->frame + skip, .iov_len = sizeof(n->frame) - skip};
    ssize_t got = n->be->ops->recv(n->be, &iov, 1);

    n->at = n->frame;
    n->held = 0;
    if (got == 0)
        return false;
    if (got < 0 || (size_t)got + skip < HDR + MIN_FRAME) {
        n->stats.errors++;
        return true;
    }
    if (skip)
        memset(n->frame, 0, HDR);
    n->held = (size_t)got + skip;
    return true;
}

/* Holds the next frame or segment; nothing held afterwards: it was dropped. False: none now. */
static bool fetch(struct net *n)
{
    if (n->cutting && next_segment(n))
        return true;
    if (!take_frame(n))
        return false;
    if (n->held && !fit_header(n))
        drop(n, "its header does not agree with its contents");
    return true;
}

/* Gives popped but unused receive buffers back. */
static void give_back(struct virtq *q, unsigned bufs)
{
    while (bufs-- > 0)
        vq_unpop(q);
}

/* Pops a receive buffer; when there is none, the queue is armed.  Results of vq_pop(). */
static int pop_armed(struct virtq *q, struct vq_chain *c)
{
    int r = vq_pop(q, c);

    /* Armed with all buffers popped, so that even a driver whose buffers are too few is heard
     * when it adds one. */
    if (!r && vq_arm(q)) {
        r = vq_pop(q, c);
        if (r == 1)
            vq_disarm(q);
    }
    return r;
}

/* Hands over the buffers that were filled with the held frame. */
static void publish(struct net *n, unsigned bufs)
{
    uint16_t count = htole16((uint16_t)bufs);

    iov_in(n->first.in, n->first.nin, offsetof(struct virtio_net_hdr_v1, num_buffers), &count,
           sizeof(count));
    vq_publish(&n->v.vq[RXQ], bufs);
    n->stats.requests++;
    n->stats.bytes_in += n->held - HDR;
    n->held = 0;
}

/* True when the held frame is so large that a driver need not have buffers for it.  Such a frame
 * does not wait: a neighbour could stop the card with it. */
static bool unasked(const struct net *n)
{
    const struct virtio_net_hdr_v1 *h = (const struct virtio_net_hdr_v1 *)n->at;

    return n->held > HDR + USUAL_FRAME && h->gso_type == VIRTIO_NET_HDR_GSO_NONE;
}

/* Puts the held frame into the guest's buffers: one, or several when the driver merges them.
 * 1: gone (delivered or dropped); 0: not enough buffers, armed; -1: the device is broken. */
static int deliver(struct net *n)
{
    struct virtq *q = &n->v.vq[RXQ];
    unsigned most = has(n, VIRTIO_NET_F_MRG_RXBUF) ? q->size : 1, bufs = 0;
    size_t off = 0;

    while (off < n->held) {
        struct vq_chain *c = bufs ? &n->chain : &n->first;
        size_t part;
        int r;

        if (bufs == most) {
            give_back(q, bufs);
            drop(n, "larger than the driver's buffers");
            return 1;
        }
        r = pop_armed(q, c);
        if (r < 0)
            return r;
        if (!r) {
            give_back(q, bufs);
            if (!bufs || !unasked(n))
                return 0;
            drop(n, "more than the buffers the driver keeps");
            return 1;
        }
        if (c->in_len < (bufs ? 1 : HDR)) {
            virtio_break(&n->v, "receive buffer of %zu bytes", c->in_len);
            return -1;
        }
        part = iov_in(c->in, c->nin, 0, n->at + off, n->held - off);
        vq_fill(q, bufs++, c->head, (uint32_t)part);
        off += part;
    }
    publish(n, bufs);
    return 1;
}

/* Receives until the backend is empty, the guest has no buffers, or the batch is full. */
static void receive(struct net *n)
{
    struct virtq *q = &n->v.vq[RXQ];
    struct budget b = {0};

    n->rx_full = false;
    for (; within(&b); b.frames++) {
        int r;

        if (!n->held && !fetch(n))
            break;
        if (!n->held)
            continue;
        b.bytes += n->held;
        r = deliver(n);
        if (r < 0)
            return;
        if (!r) {
            n->rx_full = true;
            break;
        }
    }
    if (!n->rx_full)
        vq_disarm(q);
    if (n->cutting && !n->rx_full)
        vq_rekick(q); /* the backend's descriptor does not tell of these */
    vq_signal(q);
    n->be->ops->want(n->be, !n->rx_full, n->tx_stalled);
}

/* ---- transmit ---- */

/* Leaves the first skip bytes of the segments out. */
static struct iovec *skip_bytes(struct iovec *iov, unsigned *n, size_t skip)
{
    for (; *n && iov->iov_len <= skip; iov++, (*n)--)
        skip -= iov->iov_len;
    if (*n) {
        iov->iov_base = (uint8_t *)iov->iov_base + skip;
        iov->iov_len -= skip;
    }
    return iov;
}

/* Sends one request. 0 or -EAGAIN. */
static int send_chain(struct net *n)
{
    struct vq_chain *c = &n->chain;
    struct iovec *iov = c->out;
    unsigned niov = c->nout;

    if (c->out_len < HDR + MIN_FRAME || c->out_len > sizeof(n->frame)) {
        n->stats.errors++;
        return 0;
    }
    if (!n->be->ops->offload)
        iov = skip_bytes(iov, &niov, HDR);
    if (n->be->ops->send(n->be, iov, niov) == -EAGAIN)
        return -EAGAIN;
    n->stats.requests++;
    n->stats.bytes_out += c->out_len - HDR;
    return 0;
}

/* Sends what the guest has queued, until the backend or the batch is full. */
static void transmit(struct net *n)
{
    struct virtq *q = &n->v.vq[TXQ];
    struct budget b = {0};
    int r = 1;

    n->tx_stalled = false;
    vq_disarm(q);
    while (within(&b) && (r = pop_armed(q, &n->chain)) == 1) {
        if (send_chain(n) == -EAGAIN) {
            vq_unpop(q);
            n->tx_stalled = true;
            break;
        }
        vq_push(q, n->chain.head, 0);
        b.frames++;
        b.bytes += n->chain.out_len;
    }
    if (r < 0)
        return;
    if (!within(&b))
        vq_rekick(q); /* go on after others had their turn */
    vq_signal(q);
    n->be->ops->want(n->be, !n->rx_full, n->tx_stalled);
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
        for (unsigned i = 0; i < BATCH && take_frame(n); i++)
            n->held = 0; /* nobody to give it to */
        n->be->ops->want(n->be, true, false);
    }
    virtio_unlock(&n->v);
}

/* Frames to send, or buffers to receive into. */
static void net_kick(struct virtio_dev *d, unsigned q)
{
    struct net *n = (struct net *)d;

    if (q == TXQ)
        transmit(n);
    else
        receive(n);
}

/* Device configuration space: constant. */
static void net_config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len)
{
    struct net *n = (struct net *)d;

    memcpy(data, (const uint8_t *)&n->config + off, len);
}

/* The driver let go of its queues.  Frames go on being taken from the backend, and dropped. */
static void net_stop(struct virtio_dev *d)
{
    struct net *n = (struct net *)d;

    n->held = 0;
    n->cutting = n->rx_full = n->tx_stalled = false;
    n->be->ops->want(n->be, true, false);
}

/* Counters. */
static void net_stats(struct virtio_dev *d, struct dev_stats *out)
{
    *out = ((struct net *)d)->stats;
}

/* See virtio_type.free. */
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
