/* SPDX-License-Identifier: MIT */
/*
 * A virtio device whatever its transport: lock, status, reset, start and stop of the type, kicks.
 * Interface: virtio.h.
 *
 * Invariants.  T1: type->start and type->stop alternate.  T3: FEATURES_OK is set only with a
 * subset of what was offered, VERSION_1 among it.  (T2 is virtio_pci.c's.)
 * Locks: the device's lock, held or taken as virtio.h says; kicks come on io0.
 */
#include "vmm/device/virtio.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/device/devices.h"
#include "vmm/device/host.h"

enum {
    STATUS_DRIVER_BITS = 0x8f, /* what a driver may set */
    ISR_CONFIG = 2,            /* ISR bit: the configuration changed */
    LOGGED_BREAKS = 16, /* a guest that resets and breaks for ever does not fill the log */
};

void virtio_lock(struct virtio_dev *d)
{
    int r = pthread_mutex_lock(&d->lock);

    INVARIANT(!r, "a virtio device's lock is not taken twice by a thread");
}

void virtio_unlock(struct virtio_dev *d)
{
    int r = pthread_mutex_unlock(&d->lock);

    INVARIANT(!r, "a virtio device's lock is released by its holder");
}

bool virtio_live(const struct virtio_dev *d)
{
    return (d->status & VIRTIO_S_DRIVER_OK) && !d->broken;
}

/* Interrupts for a change of configuration or status. Lock held. */
static void config_interrupt(struct virtio_dev *d)
{
    if (!(d->status & VIRTIO_S_DRIVER_OK))
        return;
    atomic_fetch_or(&d->isr, ISR_CONFIG);
    if (d->config_vector != VIRTIO_NO_VECTOR)
        pci_msix_raise(&d->pci, d->config_vector);
}

void virtio_break(struct virtio_dev *d, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    if (d->broken)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (d->breaks++ < LOGGED_BREAKS)
        log_warn("%s: stopped until the guest resets it: %s", d->label, text);
    d->broken = true;
    d->status |= VIRTIO_S_NEEDS_RESET;
    config_interrupt(d);
}

void virtio_config_changed(struct virtio_dev *d)
{
    d->generation++;
    config_interrupt(d);
}

/* Puts a queue into its state after reset. */
static void queue_reset(struct virtq *q)
{
    q->size = q->max;
    q->enabled = false;
    q->desc = q->avail = q->used = 0;
    q->next_avail = q->next_used = q->signalled = 0;
    vq_pin_end_all(q);
    q->signalled_valid = true; /* nothing pushed, nothing to tell */
    q->vector = VIRTIO_NO_VECTOR;
}

/* Takes the type out of service (T1). Lock held. */
static void stop_type(struct virtio_dev *d)
{
    if (d->started && d->type->stop)
        d->type->stop(d);
    d->started = false;
}

void virtio_reset(struct virtio_dev *d)
{
    stop_type(d);
    d->status = 0;
    d->features = 0;
    d->config_vector = VIRTIO_NO_VECTOR;
    d->queue_select = 0;
    d->dfeature_select = d->gfeature_select = 0;
    d->broken = false;
    atomic_store(&d->isr, 0);
    for (unsigned i = 0; i < d->nqueues; i++)
        queue_reset(&d->vq[i]);
}

/* True when the driver's features are acceptable (T3). */
static bool features_ok(const struct virtio_dev *d)
{
    return !(d->features & ~d->offered) && (d->features >> VIRTIO_F_VERSION_1 & 1);
}

/* The driver set DRIVER_OK: starts the type and looks at every queue once. Lock held. */
static void driver_ok(struct virtio_dev *d)
{
    d->started = true;
    if (d->type->start)
        d->type->start(d);
    for (unsigned i = 0; i < d->nqueues; i++)
        if (d->vq[i].enabled)
            vq_rekick(&d->vq[i]);
}

void virtio_set_status(struct virtio_dev *d, uint8_t val)
{
    uint8_t fresh = val & STATUS_DRIVER_BITS & (uint8_t)~d->status;

    if (!val) {
        virtio_reset(d);
        return;
    }
    if ((fresh & VIRTIO_S_FEATURES_OK) && !features_ok(d)) {
        log_debug("%s: refused features %#llx of %#llx", d->label,
                  (unsigned long long)d->features, (unsigned long long)d->offered);
        fresh &= (uint8_t)~VIRTIO_S_FEATURES_OK;
    }
    d->status |= fresh;
    if (!(fresh & VIRTIO_S_DRIVER_OK) || d->broken)
        return;
    if (d->status & VIRTIO_S_FEATURES_OK)
        driver_ok(d);
    else
        virtio_break(d, "DRIVER_OK without agreed features");
}

/* The guest kicked a queue. On io0. */
static void kicked(void *arg, uint32_t revents)
{
    struct virtq *q = arg;
    struct virtio_dev *d = q->dev;
    uint64_t n;

    (void)revents;
    if (read(q->kickfd, &n, sizeof(n)) != (ssize_t)sizeof(n))
        return;
    virtio_lock(d);
    q->kicks++;
    if (q->enabled && virtio_live(d))
        d->type->kick(d, q->index);
    virtio_unlock(d);
}

int virtio_queue_init(struct virtio_dev *d, unsigned i, uint16_t max)
{
    struct virtq *q = &d->vq[i];

    *q = (struct virtq){.dev = d, .index = i, .max = max};
    queue_reset(q);
    q->kickfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->kickfd < 0)
        return -errno;
    q->kick_src = (struct evsrc){.fd = q->kickfd, .ready = kicked, .arg = q};
    return evloop_add(d->host->io, &q->kick_src, EPOLLIN);
}

void virtio_queue_exit(struct virtio_dev *d, unsigned i)
{
    struct virtq *q = &d->vq[i];

    vq_pin_end_all(q);
    if (q->kickfd < 0)
        return;
    evloop_del(d->host->io, &q->kick_src);
    close(q->kickfd);
    q->kickfd = -1;
}

void virtio_dev_free(struct virtio_dev *d)
{
    if (d)
        d->type->free(d);
}

void virtio_dev_stats(struct virtio_dev *d, struct dev_stats *out)
{
    *out = (struct dev_stats){0};
    virtio_lock(d);
    d->type->stats(d, out);
    virtio_unlock(d);
}
