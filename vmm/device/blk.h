/* SPDX-License-Identifier: MIT */
/*
 * Inside virtio block: the device's state, and requests.  For blk.c, which makes the device, and
 * blk_req.c, which checks requests and turns them into disk operations; blk_io.c carries them
 * out.
 *
 * Invariant K1: an operation in flight points into guest memory only between vq_pop() and
 * vq_push() of its request; stopping waits for all, so a reset driver's memory is its own again.
 *
 * Locks: the device's lock guards everything, the disk engine included.  Everything but stopping
 * and the registers runs on io0.
 */
#ifndef DISCO_VMM_DEVICE_BLK_H
#define DISCO_VMM_DEVICE_BLK_H

#include <linux/virtio_blk.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/evloop.h"
#include "vmm/device/blk_io.h"
#include "vmm/device/devices.h"
#include "vmm/device/virtio.h"

enum {
    BLK_QUEUES_MAX = 16,             /* of a disk */
    BLK_QUEUE_SIZE = 256,            /* also the requests in work, each queue */
    BLK_SECTOR = 512,                /* bytes, whatever the logical block size */
    BLK_SEG_MAX = 126,               /* data segments of a request */
    BLK_RANGE_MAX = 16,              /* ranges of a discard or write-zeroes request */
    BLK_RANGE_SECTORS_MAX = 1 << 22, /* sectors of a range: 2 GiB */
};

/* One request in work. */
struct blk_req {
    struct blk_op op;     /* first: done() gets this */
    struct blk_req *next; /* on the queue's free list */
    uint16_t head;        /* for vq_push() */
    uint8_t queue;        /* where it came from */
    uint8_t *status;      /* status byte in guest memory */
    uint32_t in_bytes;    /* bytes written for the driver, status not counted */
    unsigned range;       /* next entry of ranges */
    unsigned nranges;     /* entries of ranges */
    bool sync_after;      /* the disk is to be synced when all ranges are done */
    /* Data segments in guest memory (K1); ranges of the request, checked copies. */
    struct iovec iov[BLK_SEG_MAX];                                /* data segments */
    struct virtio_blk_discard_write_zeroes ranges[BLK_RANGE_MAX]; /* to discard or to zero */
};

/* What belongs to one queue. */
struct blk_queue {
    struct blk_req *pool; /* BLK_QUEUE_SIZE requests */
    struct blk_req *free; /* those that were used before and are free */
    unsigned fresh;       /* pool[fresh..] were never used: their memory is untouched */
    bool starved;         /* requests wait in the ring for a free one of ours */
    bool dirty;           /* something was pushed and not signalled */
};

/* The device. */
struct blk {
    struct virtio_dev dev;            /* first */
    int fd;                           /* the disk, owned */
    bool readonly;                    /* writes are refused */
    uint64_t sectors;                 /* capacity, 512-byte sectors */
    uint32_t block;                   /* logical block size, bytes */
    char serial[VIRTIO_BLK_ID_BYTES]; /* identity, zero-padded */

    /* the device's lock */
    uint8_t wce;                            /* write-back mode: 1 write-back, 0 write-through */
    bool stopping;                          /* the driver wants its memory back */
    struct blk_io *io;                      /* the disk engine */
    struct evsrc io_src;                    /* its eventfd on io0 */
    struct blk_queue queue[BLK_QUEUES_MAX]; /* dev.nqueues used */
    struct vq_chain chain;                  /* the request being parsed */
    struct dev_stats stats;                 /* counters */
    int64_t logged_s;                       /* when the disk's last failure was logged */
    uint64_t unlogged;                      /* failures since */
};

/* True when the driver accepted a feature (VIRTIO_BLK_F_*). */
static inline bool blk_has(const struct blk *b, unsigned feature)
{
    return b->dev.features >> feature & 1;
}

/* Takes what waits in a queue, as far as there are free requests of ours.  Lock held. */
void blk_serve(struct blk *b, unsigned q);

/* Carries out what was begun, answers what has ended, and goes on with queues that waited for a
 * free request.  Bounded.  Lock held. */
void blk_settle(struct blk *b);

/* An operation has ended: for blk_io_new(), arg is the struct blk.  Lock held. */
void blk_op_done(void *arg, struct blk_op *op, int err);

#endif
