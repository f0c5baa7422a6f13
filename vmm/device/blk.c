/* SPDX-License-Identifier: MIT */
/*
 * virtio block (VIRTIO 1.2, 5.2) over a raw image or a block device: making the device, its
 * configuration space, start and end.  Interface: blk_new().  Requests are in blk_req.c.
 *
 * Locks and invariants: see blk.h.
 */
#include "vmm/device/blk.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/device/host.h"

enum {
    BLK_ID = 2,                /* virtio's number of the device */
    BLK_CLASS = 0x010000 << 8, /* mass storage, SCSI: as drivers expect */
    CONFIG_LEN = offsetof(struct virtio_blk_config, max_secure_erase_sectors), /* bytes */
    PHYS_BLOCK = 4096, /* what I/O is best aligned to, bytes */
};

static const struct virtio_type blk_type;

/* The driver kicked a queue. */
static void blk_kick(struct virtio_dev *d, unsigned q)
{
    struct blk *b = (struct blk *)d;

    blk_serve(b, q);
    blk_settle(b);
}

/* The engine has something to tell.  On io0, also while the driver uses no queues. */
static void io_ready(void *arg, uint32_t revents)
{
    struct blk *b = arg;

    (void)revents;
    virtio_lock(&b->dev);
    blk_settle(b);
    virtio_unlock(&b->dev);
}

/* ---- the rest of the type ---- */

/* Device configuration space. */
static void blk_config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len)
{
    const struct blk *b = (struct blk *)d;
    struct virtio_blk_config c = {
        .capacity = htole64(b->sectors),
        .seg_max = htole32(BLK_SEG_MAX),
        .blk_size = htole32(b->block),
        .min_io_size = htole16((uint16_t)(b->block < PHYS_BLOCK ? PHYS_BLOCK / b->block : 1)),
        .wce = b->wce,
        .num_queues = htole16((uint16_t)d->nqueues),
        .max_discard_sectors = htole32(BLK_RANGE_SECTORS_MAX),
        .max_discard_seg = htole32(BLK_RANGE_MAX),
        .discard_sector_alignment = htole32(b->block / BLK_SECTOR),
        .max_write_zeroes_sectors = htole32(BLK_RANGE_SECTORS_MAX),
        .max_write_zeroes_seg = htole32(BLK_RANGE_MAX),
        .write_zeroes_may_unmap = 1,
    };

    for (uint32_t size = b->block; size < PHYS_BLOCK; size *= 2)
        c.physical_block_exp++;
    memcpy(data, (const uint8_t *)&c + off, len);
}

/* The one writable field: the cache mode. */
static void blk_config_write(struct virtio_dev *d, unsigned off, const void *data, unsigned len)
{
    struct blk *b = (struct blk *)d;

    if (off == offsetof(struct virtio_blk_config, wce) && len == 1 &&
        blk_has(b, VIRTIO_BLK_F_CONFIG_WCE))
        b->wce = *(const uint8_t *)data & 1;
}

/* The driver takes its memory back: waits for all that is in flight. */
static void blk_stop(struct virtio_dev *d)
{
    struct blk *b = (struct blk *)d;

    b->stopping = true;
    blk_io_drain(b->io);
    b->stopping = false;
    for (unsigned q = 0; q < d->nqueues; q++)
        b->queue[q].starved = b->queue[q].dirty = false;
    b->wce = 1;
}

/* Counters. */
static void blk_stats(struct virtio_dev *d, struct dev_stats *out)
{
    *out = ((struct blk *)d)->stats;
}

/* Undoes blk_new(), whatever of it was done; the transport is gone already. */
static void blk_destroy(struct blk *b)
{
    if (b->io) {
        evloop_del(b->dev.host->io, &b->io_src);
        blk_io_free(b->io);
    }
    for (unsigned q = 0; q < BLK_QUEUES_MAX; q++)
        free(b->queue[q].pool);
    close(b->fd);
    free(b);
}

/* See virtio_type.free; virtio_exit() has waited for what was in flight. */
static void blk_free(struct virtio_dev *d)
{
    virtio_exit(d);
    blk_destroy((struct blk *)d);
}

/* ---- make ---- */

/* Finds out size and block size of the disk. */
static int probe(struct blk *b, unsigned index, struct err *err)
{
    uint64_t bytes = 0;
    struct stat st;
    int block = BLK_SECTOR;

    if (fstat(b->fd, &st))
        return fail_errno(err, EXIT_RESOURCE, errno, "disk %u: fstat", index);
    if (!b->readonly && (fcntl(b->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
        return fail(err, EXIT_RESOURCE, EACCES,
                    "disk %u: the image is not writable; say readonly = true", index);
    if (S_ISREG(st.st_mode))
        bytes = (uint64_t)st.st_size;
    else if (!S_ISBLK(st.st_mode))
        return fail(err, EXIT_RESOURCE, ENOTBLK, "disk %u: not a regular file or block device",
                    index);
    else if (ioctl(b->fd, BLKGETSIZE64, &bytes) || ioctl(b->fd, BLKSSZGET, &block))
        return fail_errno(err, EXIT_RESOURCE, errno, "disk %u: cannot tell its size", index);
    if (bytes % BLK_SECTOR)
        log_warn("disk %u: the last %u bytes are not a whole sector: out of the guest's reach",
                 index, (unsigned)(bytes % BLK_SECTOR));
    b->sectors = bytes / BLK_SECTOR;
    b->block = block >= BLK_SECTOR && block <= 65536 ? (uint32_t)block : BLK_SECTOR;
    return 0;
}

/* What is offered to the driver. */
static uint64_t features(const struct blk *b, unsigned queues)
{
    uint64_t f = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
                 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_TOPOLOGY;

    if (queues > 1)
        f |= 1ull << VIRTIO_BLK_F_MQ;
    if (b->readonly)
        return f | 1ull << VIRTIO_BLK_F_RO;
    return f | 1ull << VIRTIO_BLK_F_CONFIG_WCE | 1ull << VIRTIO_BLK_F_DISCARD |
           1ull << VIRTIO_BLK_F_WRITE_ZEROES;
}

/* Makes the engine and has io0 watch it. */
static int start_io(struct blk *b, const struct dev_host *host, unsigned queues,
                    const char *label)
{
    int e = blk_io_new(&b->io, b->fd, queues * BLK_QUEUE_SIZE, label, blk_op_done, b);

    if (e)
        return e;
    b->io_src = (struct evsrc){.fd = blk_io_eventfd(b->io), .ready = io_ready, .arg = b};
    return evloop_add(host->io, &b->io_src, EPOLLIN);
}

int blk_new(struct virtio_dev **out, const struct dev_host *host, struct pci_bus *bus,
            unsigned index, int fd, bool readonly, unsigned queues, const char *serial,
            struct err *err)
{
    struct blk *b = xcalloc(1, sizeof(*b));
    char label[16];
    int e;

    INVARIANT(queues >= 1 && queues <= BLK_QUEUES_MAX, "a disk has 1 to 16 queues");
    snprintf(label, sizeof(label), "blk%u", index);
    b->fd = fd;
    b->readonly = readonly;
    b->wce = 1;
    if (serial)
        memcpy(b->serial, serial, strnlen(serial, sizeof(b->serial)));
    for (unsigned q = 0; q < queues; q++)
        b->queue[q].pool = xcalloc(BLK_QUEUE_SIZE, sizeof(struct blk_req));
    b->dev.host = host; /* blk_destroy() needs it when the transport is not set up */
    e = probe(b, index, err);
    if (!e) {
        e = start_io(b, host, queues, label);
        if (!e)
            e = virtio_init(&b->dev, &blk_type, label, queues, BLK_QUEUE_SIZE,
                            features(b, queues), host, bus);
        if (e)
            e = fail_errno(err, EXIT_INTERNAL, -e, "disk %u: cannot set up the device", index);
    }
    if (e) {
        b->dev.host = host;
        blk_destroy(b);
        return e;
    }
    *out = &b->dev;
    return 0;
}

static const struct virtio_type blk_type = {
    .name = "blk",
    .id = BLK_ID,
    .pci_class = BLK_CLASS,
    .config_len = CONFIG_LEN,
    .config_read = blk_config_read,
    .config_write = blk_config_write,
    .kick = blk_kick,
    .stop = blk_stop,
    .free = blk_free,
    .stats = blk_stats,
};
