/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous I/O on one disk: operations that run to their end, whatever short transfers and
 * retries that takes.  By io_uring; where the host forbids that, synchronously.
 *
 * Use: blk_io_queue() operations, then blk_io_run(), which hands them over and calls done() for
 * all that have ended; call blk_io_run() again when blk_io_eventfd() is readable.
 * Threads: any, one at a time: the caller's lock.  done() may call blk_io_queue().
 */
#ifndef DISCO_VMM_DEVICE_BLK_IO_H
#define DISCO_VMM_DEVICE_BLK_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct blk_io;

enum blk_op_kind {
    BLK_READ,    /* off, iov */
    BLK_WRITE,   /* off, iov */
    BLK_SYNC,    /* data written so far reaches the disk */
    BLK_DISCARD, /* off, left: contents no longer wanted; -EOPNOTSUPP where impossible */
    BLK_ZERO,    /* off, left: reads as zeros after; written out where nothing better exists */
};

/* One operation.  The caller's from done() to blk_io_queue(), the engine's between; so are the
 * segments and what they point to. */
struct blk_op {
    uint8_t kind;      /* enum blk_op_kind */
    bool durable;      /* BLK_WRITE: on the disk before it ends */
    bool unmap;        /* BLK_ZERO: space may be given back */
    struct iovec *iov; /* segments; consumed from the front */
    unsigned niov;     /* entries of iov */
    uint64_t off;      /* disk offset of the next byte */
    uint64_t left;     /* bytes to go: the sum of iov, or the range's length */
    uint64_t moved;    /* bytes done, set to 0 by blk_io_queue() */

    /* the engine's */
    bool by_write;       /* BLK_ZERO: write zeros, since nothing else is supported */
    uint8_t tries;       /* how often it was interrupted */
    int err;             /* outcome, while on the list of ended operations */
    struct blk_op *next; /* on that list */
};

/* Makes the engine for at most depth operations at a time on fd, which stays the caller's.
 * done(arg, op, err): err is 0 or -errno; a read past the end of a shrunk image is -ENODATA.
 * label: for messages, not copied.  Returns 0 or -errno. */
int blk_io_new(struct blk_io **out, int fd, unsigned depth, const char *label,
               void (*done)(void *arg, struct blk_op *op, int err), void *arg);

/* Nothing may be in flight. NULL is allowed. */
void blk_io_free(struct blk_io *io);

/* Readable when blk_io_run() has something to do; blk_io_run() empties it. */
int blk_io_eventfd(const struct blk_io *io);

/* Takes an operation. At most depth may be under way. */
void blk_io_queue(struct blk_io *io, struct blk_op *op);

/* Hands over what is queued and ends what is done.  Bounded; what is left is announced by the
 * eventfd. */
void blk_io_run(struct blk_io *io);

/* Waits until nothing is in flight; operations not finished yet may end with -ECANCELED. done()
 * must not queue. */
void blk_io_drain(struct blk_io *io);

#endif
