/* SPDX-License-Identifier: MIT */
/*
 * A virtio device that does nothing: tests serve its queues by hand.  One thread.
 */
#ifndef DISCO_TESTS_UNIT_TOY_H
#define DISCO_TESTS_UNIT_TOY_H

#include "vmm/device/virtio.h"

static void toy_kick(struct virtio_dev *d, unsigned q)
{
    (void)d, (void)q;
}

static void toy_free(struct virtio_dev *d)
{
    virtio_exit(d);
}

static void toy_stats(struct virtio_dev *d, struct dev_stats *out)
{
    (void)d, (void)out;
}

/* Its type, for virtio_init(). */
static const struct virtio_type toy_type = {
    .name = "toy", .id = 42, .kick = toy_kick, .free = toy_free, .stats = toy_stats};

#endif
