/* SPDX-License-Identifier: MIT */
/*
 * virtio entropy (VIRTIO 1.2, 5.4): fills the driver's buffers from getrandom(2).
 *
 * A guest cannot make io0 work for long: a request gets at most REQUEST_MAX bytes, a kick serves
 * at most KICK_MAX bytes and then lets other devices have their turn.
 * Everything here runs under the device's lock.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/err.h"
#include "vmm/device/devices.h"
#include "vmm/device/virtio.h"

enum {
    RNG_ID = 4,             /* virtio's number of the device */
    RNG_CLASS = 0x00ff0000, /* unclassified */
    QUEUE_SIZE = 64,        /* entries of its one queue */
    REQUEST_MAX = 4096,     /* bytes for one request */
    REQUEST_COST = 256,     /* bytes a request costs at least */
    KICK_MAX = 65536,       /* bytes served before others have their turn */
};

/* The device. */
struct rng {
    struct virtio_dev dev;  /* first */
    struct vq_chain chain;  /* the request in work */
    struct dev_stats stats; /* counters */
};

/* Puts up to max random bytes into the segments; bytes put there. */
static size_t fill(const struct iovec *iov, unsigned n, size_t max)
{
    size_t done = 0;

    for (unsigned i = 0; i < n && done < max; i++) {
        size_t part = iov[i].iov_len < max - done ? iov[i].iov_len : max - done;
        ssize_t got = getrandom(iov[i].iov_base, part, 0);

        if (got <= 0)
            break;
        done += (size_t)got;
        if ((size_t)got < part)
            break;
    }
    return done;
}

/* Serves requests.  Small ones cost as if they had REQUEST_COST bytes. */
static void rng_kick(struct virtio_dev *d, unsigned qi)
{
    struct rng *r = (struct rng *)d;
    struct virtq *q = &d->vq[qi];
    long left = KICK_MAX;

    do {
        while (left > 0 && vq_pop(q, &r->chain) == 1) {
            size_t n = fill(r->chain.in, r->chain.nin, REQUEST_MAX);

            vq_push(q, r->chain.head, (uint32_t)n);
            r->stats.requests++;
            r->stats.bytes_in += n;
            r->stats.errors += !n;
            left -= n > REQUEST_COST ? (long)n : REQUEST_COST;
        }
        vq_signal(q);
    } while (left > 0 && vq_arm(q));
    if (left <= 0)
        vq_rekick(q);
}

/* Counters. */
static void rng_stats(struct virtio_dev *d, struct dev_stats *out)
{
    *out = ((struct rng *)d)->stats;
}

/* See virtio_type.free. */
static void rng_free(struct virtio_dev *d)
{
    virtio_exit(d);
    free(d);
}

static const struct virtio_type rng_type = {
    .name = "rng",
    .id = RNG_ID,
    .pci_class = RNG_CLASS,
    .kick = rng_kick,
    .free = rng_free,
    .stats = rng_stats,
};

int rng_new(struct virtio_dev **out, const struct dev_host *host, struct pci_bus *bus,
            struct err *err)
{
    struct rng *r = xcalloc(1, sizeof(*r));
    int e = virtio_init(&r->dev, &rng_type, "rng0", 1, QUEUE_SIZE, 0, host, bus);

    if (e) {
        free(r);
        return fail_errno(err, EXIT_INTERNAL, -e, "rng: cannot set up the device");
    }
    *out = &r->dev;
    return 0;
}
