/* SPDX-License-Identifier: MIT */
/*
 * virtio console (VIRTIO 1.2, 5.3): one port over a chario, no multiport, no size.
 *
 * Input that finds no buffer of the driver stays in the chario, which is asked again (chario_more)
 * when the driver kicks the receive queue.  Output never waits: chario drops what nobody takes.
 * A kick moves at most KICK_MAX bytes before other devices have their turn.
 *
 * Locks: the device's lock guards everything.  chario is called with it held; it calls back
 * (input) on io0 without any lock of its own.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/device/chario.h"
#include "vmm/device/devices.h"
#include "vmm/device/host.h"
#include "vmm/device/virtio.h"

enum {
    CONSOLE_ID = 3,                /* virtio's number of the device */
    CONSOLE_CLASS = 0x078000 << 8, /* other communication controller */
    CONFIG_LEN = 12,               /* columns, rows, ports, emergency write: all 0, unoffered */
    Q_RX = 0,                      /* queue of buffers for the guest's input */
    Q_TX = 1,                      /* queue of its output */
    QUEUE_SIZE = 64,               /* entries of each */
    REQUEST_COST = 256,            /* bytes a request costs at least */
    KICK_MAX = 256 << 10           /* bytes moved before others have their turn */
};

/* The device. */
struct vconsole {
    struct virtio_dev dev;  /* first */
    struct chario *io;      /* the other side; owned */
    struct vq_chain chain;  /* the request in work */
    struct dev_stats stats; /* counters */
};

/* Bytes from the other side, on io0: how many the driver's buffers took. */
static size_t input(void *arg, const uint8_t *p, size_t n)
{
    struct vconsole *c = arg;
    struct virtq *q = &c->dev.vq[Q_RX];
    size_t done = 0;

    virtio_lock(&c->dev);
    while (done < n && vq_pop(q, &c->chain) == 1) {
        size_t part = iov_in(c->chain.in, c->chain.nin, 0, p + done, n - done);

        if (!part) {
            virtio_break(&c->dev, "receive buffer without room");
            break;
        }
        vq_push(q, c->chain.head, (uint32_t)part);
        done += part;
        c->stats.requests++;
    }
    c->stats.bytes_in += done;
    vq_signal(q);
    /* Nothing taken is offered again when the driver kicks: ask for that kick. */
    if (done < n && vq_arm(q))
        vq_rekick(q);
    virtio_unlock(&c->dev);
    return done;
}

/* Writes a request's bytes; those beyond KICK_MAX are dropped. Returns what it cost. */
static size_t output(struct vconsole *c)
{
    size_t left = KICK_MAX;

    for (unsigned i = 0; i < c->chain.nout && left; i++) {
        size_t part = c->chain.out[i].iov_len < left ? c->chain.out[i].iov_len : left;

        chario_write(c->io, c->chain.out[i].iov_base, part);
        left -= part;
    }
    c->stats.requests++;
    c->stats.bytes_out += KICK_MAX - left;
    if (c->chain.out_len > KICK_MAX)
        c->stats.errors++;
    return KICK_MAX - left < REQUEST_COST ? REQUEST_COST : KICK_MAX - left;
}

/* Serves the transmit queue. */
static void transmit(struct vconsole *c)
{
    struct virtq *q = &c->dev.vq[Q_TX];
    size_t cost = 0;

    do {
        while (cost < KICK_MAX && vq_pop(q, &c->chain) == 1) {
            cost += output(c);
            vq_push(q, c->chain.head, 0);
        }
        vq_signal(q);
    } while (cost < KICK_MAX && vq_arm(q));
    if (cost >= KICK_MAX)
        vq_rekick(q);
}

/* Output to write, or room for input that waits in the stream. */
static void vconsole_kick(struct virtio_dev *d, unsigned qi)
{
    struct vconsole *c = (struct vconsole *)d;

    if (qi == Q_TX)
        transmit(c);
    else
        chario_more(c->io);
}

/* No feature that gives these fields a meaning is offered. */
static void config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len)
{
    (void)d, (void)off;
    memset(data, 0, len);
}

/* Counters; bytes of output nobody took count as errors. */
static void vconsole_stats(struct virtio_dev *d, struct dev_stats *out)
{
    struct vconsole *c = (struct vconsole *)d;

    *out = c->stats;
    out->errors += chario_dropped(c->io);
}

/* See virtio_type.free.  The transport goes first: the stream's input uses its queues. */
static void vconsole_free(struct virtio_dev *d)
{
    struct vconsole *c = (struct vconsole *)d;

    virtio_exit(d);
    chario_free(c->io);
    free(c);
}

static const struct virtio_type vconsole_type = {
    .name = "console",
    .id = CONSOLE_ID,
    .pci_class = CONSOLE_CLASS,
    .config_len = CONFIG_LEN,
    .config_read = config_read,
    .kick = vconsole_kick,
    .free = vconsole_free,
    .stats = vconsole_stats,
};

int vconsole_new(struct virtio_dev **out, const struct dev_host *host, struct pci_bus *bus,
                 struct chario *io, struct err *err)
{
    struct vconsole *c = xcalloc(1, sizeof(*c));
    int r = virtio_init(&c->dev, &vconsole_type, "console0", 2, QUEUE_SIZE, 0, host, bus);

    c->io = io;
    if (r) {
        chario_free(io);
        free(c);
        return fail_errno(err, EXIT_INTERNAL, -r, "virtio console: cannot set up the device");
    }
    r = chario_start(io, host->io, input, NULL, c);
    if (r) {
        vconsole_free(&c->dev);
        return fail_errno(err, EXIT_INTERNAL, -r,
                          "virtio console: cannot watch its descriptors");
    }
    *out = &c->dev;
    return 0;
}
