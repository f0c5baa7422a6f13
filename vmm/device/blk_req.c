/* SPDX-License-Identifier: MIT */
/*
 * Requests of virtio block (VIRTIO 1.2, 5.2.6): checks, what they become, how they end.
 * Interface: blk_serve(), blk_settle(), blk_op_done().
 *
 * A request the driver got wrong (beyond the end, not whole sectors, too many segments) fails
 * with IOERR; one without room for its status stops the device.  A disk that fails or vanishes
 * gives IOERR and a log line now and then.
 *
 * Locks: all with the device's lock held.  See blk.h for K1.
 */
#include "vmm/device/blk.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

enum {
    HDR_LEN = sizeof(struct virtio_blk_outhdr), /* bytes before the data: type, sector */
    KICK_MAX = 2 * BLK_QUEUE_SIZE, /* requests taken before others have their turn */
    SETTLE_MAX = 8,                /* rounds of blk_settle() before others have their turn */
    LOG_PAUSE_S = 10,              /* between two lines about a failing disk */
    IN_FLIGHT = -1,                /* instead of a status: not known yet */
};

/* ---- the pool ---- */

/* A free request of a queue; NULL: all are in work. */
static struct blk_req *req_get(struct blk_queue *bq)
{
    struct blk_req *r = bq->free;

    if (r)
        bq->free = r->next;
    else if (bq->fresh < BLK_QUEUE_SIZE)
        r = &bq->pool[bq->fresh++];
    return r;
}

/* Gives it back. */
static void req_put(struct blk_queue *bq, struct blk_req *r)
{
    r->next = bq->free;
    bq->free = r;
}

/* ---- ends of requests ---- */

/* Answers a request and forgets it. */
static void finish(struct blk *b, struct blk_req *r, int status)
{
    struct blk_queue *bq = &b->queue[r->queue];

    if (!b->stopping) {
        *r->status = (uint8_t)status;
        vq_push(&b->dev.vq[r->queue], r->head, r->in_bytes + 1);
        bq->dirty = true;
    }
    b->stats.requests++;
    b->stats.errors += status != VIRTIO_BLK_S_OK;
    req_put(bq, r);
}

/* Logs a failure of the disk, at most one line in LOG_PAUSE_S. */
static void log_failure(struct blk *b, const struct blk_op *op, int err)
{
    static const char *const what[] = {[BLK_READ] = "reading",
                                       [BLK_WRITE] = "writing",
                                       [BLK_SYNC] = "syncing",
                                       [BLK_DISCARD] = "discarding",
                                       [BLK_ZERO] = "zeroing"};
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (b->logged_s && now.tv_sec - b->logged_s < LOG_PAUSE_S) {
        b->unlogged++;
        return;
    }
    log_warn("%s: %s at byte %" PRIu64 " failed: %s (%" PRIu64 " failures not told before)",
             b->dev.label, what[op->kind], op->off,
             err == -ENODATA ? "the image has become shorter" : strerror(-err), b->unlogged);
    b->logged_s = now.tv_sec ? now.tv_sec : 1;
    b->unlogged = 0;
}

/* Starts on the next range of a request; false: there is none. */
static bool next_range(struct blk *b, struct blk_req *r)
{
    while (r->range < r->nranges) {
        const struct virtio_blk_discard_write_zeroes *s = &r->ranges[r->range++];

        if (!s->num_sectors)
            continue;
        r->op.off = s->sector * BLK_SECTOR;
        r->op.left = (uint64_t)s->num_sectors * BLK_SECTOR;
        r->op.unmap = s->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
        blk_io_queue(b->io, &r->op);
        return true;
    }
    if (!r->sync_after)
        return false;
    r->sync_after = false;
    r->op.kind = BLK_SYNC;
    blk_io_queue(b->io, &r->op);
    return true;
}

void blk_op_done(void *arg, struct blk_op *op, int err)
{
    struct blk *b = arg;
    struct blk_req *r = (struct blk_req *)op;

    if (op->kind == BLK_READ) {
        r->in_bytes = (uint32_t)op->moved;
        b->stats.bytes_in += op->moved;
    } else if (op->kind == BLK_WRITE) {
        b->stats.bytes_out += op->moved;
    }
    if (!err && !b->stopping && next_range(b, r))
        return;
    if (err == -EOPNOTSUPP && op->kind == BLK_DISCARD) {
        finish(b, r, VIRTIO_BLK_S_UNSUPP);
        return;
    }
    if (err && err != -ECANCELED)
        log_failure(b, op, err);
    finish(b, r, err ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

/* ---- beginnings of requests ---- */

/* True when writes may stay in the host's cache until a flush. */
static bool write_back(const struct blk *b)
{
    return b->wce && (blk_has(b, VIRTIO_BLK_F_FLUSH) || blk_has(b, VIRTIO_BLK_F_CONFIG_WCE));
}

/* True when n sectors from sector on are on the disk. */
static bool on_disk(const struct blk *b, uint64_t sector, uint64_t n)
{
    return sector <= b->sectors && n <= b->sectors - sector;
}

/* The len bytes from byte off on of segments, as segments; how many, 0: more than BLK_SEG_MAX. */
static unsigned slice(struct iovec *to, const struct iovec *from, unsigned n, size_t off,
                      size_t len)
{
    unsigned got = 0;

    for (unsigned i = 0; i < n && len; i++) {
        size_t part = from[i].iov_len;

        if (off >= part) {
            off -= part;
            continue;
        }
        part = part - off < len ? part - off : len;
        if (got == BLK_SEG_MAX)
            return 0;
        to[got].iov_base = (uint8_t *)from[i].iov_base + off;
        to[got++].iov_len = part;
        off = 0;
        len -= part;
    }
    return got;
}

/* Reads or writes; a status or IN_FLIGHT. */
static int begin_rw(struct blk *b, struct blk_req *r, uint64_t sector, bool write)
{
    const struct vq_chain *c = &b->chain;
    uint64_t len = write ? c->out_len - HDR_LEN : c->in_len - 1;

    if ((write && b->readonly) || len % BLK_SECTOR || !on_disk(b, sector, len / BLK_SECTOR))
        return VIRTIO_BLK_S_IOERR;
    if (!len)
        return VIRTIO_BLK_S_OK;
    r->op = (struct blk_op){.kind = write ? BLK_WRITE : BLK_READ,
                            .durable = write && !write_back(b),
                            .iov = r->iov,
                            .off = sector * BLK_SECTOR,
                            .left = len};
    if (write)
        r->op.niov = slice(r->iov, c->out, c->nout, HDR_LEN, len);
    else
        r->op.niov = slice(r->iov, c->in, c->nin, 0, len);
    if (!r->op.niov)
        return VIRTIO_BLK_S_IOERR;
    blk_io_queue(b->io, &r->op);
    return IN_FLIGHT;
}

/* Checks one range and brings it into host order; a status. */
static int check_range(const struct blk *b, struct virtio_blk_discard_write_zeroes *s,
                       bool zero)
{
    s->sector = le64toh(s->sector);
    s->num_sectors = le32toh(s->num_sectors);
    s->flags = le32toh(s->flags);
    if (s->flags & ~(zero ? (uint32_t)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0))
        return VIRTIO_BLK_S_UNSUPP;
    if (s->num_sectors > BLK_RANGE_SECTORS_MAX || !on_disk(b, s->sector, s->num_sectors))
        return VIRTIO_BLK_S_IOERR;
    return VIRTIO_BLK_S_OK;
}

/* Discards or zeroes ranges; all are checked before the first is touched. */
static int begin_ranges(struct blk *b, struct blk_req *r, bool zero)
{
    unsigned feature = zero ? VIRTIO_BLK_F_WRITE_ZEROES : VIRTIO_BLK_F_DISCARD;
    size_t len = b->chain.out_len - HDR_LEN;
    int status = VIRTIO_BLK_S_OK;

    if (b->readonly)
        return VIRTIO_BLK_S_IOERR;
    if (!blk_has(b, feature))
        return VIRTIO_BLK_S_UNSUPP;
    if (!len || len % sizeof(r->ranges[0]) || len > sizeof(r->ranges))
        return VIRTIO_BLK_S_IOERR;
    iov_out(b->chain.out, b->chain.nout, HDR_LEN, r->ranges, len);
    r->nranges = (unsigned)(len / sizeof(r->ranges[0]));
    for (unsigned i = 0; i < r->nranges && !status; i++)
        status = check_range(b, &r->ranges[i], zero);
    if (status) {
        r->nranges = 0;
        return status;
    }
    r->op = (struct blk_op){.kind = zero ? BLK_ZERO : BLK_DISCARD};
    r->sync_after = zero && !write_back(b);
    return next_range(b, r) ? IN_FLIGHT : VIRTIO_BLK_S_OK;
}

/* Gives the identity string. */
static int give_id(struct blk *b, struct blk_req *r)
{
    size_t len = b->chain.in_len - 1;

    len = len < sizeof(b->serial) ? len : sizeof(b->serial);
    r->in_bytes = (uint32_t)iov_in(b->chain.in, b->chain.nin, 0, b->serial, len);
    return VIRTIO_BLK_S_OK;
}

/* Makes what was written durable. */
static int begin_flush(struct blk *b, struct blk_req *r)
{
    if (b->readonly)
        return VIRTIO_BLK_S_OK;
    r->op = (struct blk_op){.kind = BLK_SYNC};
    blk_io_queue(b->io, &r->op);
    return IN_FLIGHT;
}

/* Begins the request in b->chain; a status or IN_FLIGHT. */
static int begin(struct blk *b, struct blk_req *r)
{
    struct virtio_blk_outhdr h;

    if (iov_out(b->chain.out, b->chain.nout, 0, &h, HDR_LEN) != HDR_LEN)
        return VIRTIO_BLK_S_IOERR;
    switch (le32toh(h.type)) {
    case VIRTIO_BLK_T_IN:
        return begin_rw(b, r, le64toh(h.sector), false);
    case VIRTIO_BLK_T_OUT:
        return begin_rw(b, r, le64toh(h.sector), true);
    case VIRTIO_BLK_T_FLUSH:
        return begin_flush(b, r);
    case VIRTIO_BLK_T_GET_ID:
        return give_id(b, r);
    case VIRTIO_BLK_T_DISCARD:
        return begin_ranges(b, r, false);
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return begin_ranges(b, r, true);
    default:
        return VIRTIO_BLK_S_UNSUPP;
    }
}

/* Takes the request in b->chain, with r to keep it. */
static void take(struct blk *b, unsigned q, struct blk_req *r)
{
    const struct vq_chain *c = &b->chain;
    int status;

    if (!c->nin) {
        req_put(&b->queue[q], r);
        virtio_break(&b->dev, "queue %u: request without room for its status", q);
        return;
    }
    r->queue = (uint8_t)q;
    r->head = c->head;
    r->in_bytes = 0;
    r->range = r->nranges = 0;
    r->sync_after = false;
    r->status = (uint8_t *)c->in[c->nin - 1].iov_base + c->in[c->nin - 1].iov_len - 1;
    status = begin(b, r);
    if (status != IN_FLIGHT)
        finish(b, r, status);
}

void blk_serve(struct blk *b, unsigned q)
{
    struct blk_queue *bq = &b->queue[q];
    struct virtq *vq = &b->dev.vq[q];
    unsigned left = KICK_MAX;

    bq->starved = false;
    vq_disarm(vq);
    do {
        struct blk_req *r;

        while ((r = req_get(bq)) && left && vq_pop(vq, &b->chain) == 1) {
            take(b, q, r);
            left--;
        }
        if (!r) {
            bq->starved = true; /* blk_settle() comes back here: no kick is needed */
            return;
        }
        req_put(bq, r);
        if (!left) {
            vq_rekick(vq);
            return;
        }
    } while (vq_arm(vq));
}

void blk_settle(struct blk *b)
{
    bool again = true;

    for (unsigned turn = 0; again && turn < SETTLE_MAX; turn++) {
        blk_io_run(b->io);
        again = false;
        for (unsigned q = 0; q < b->dev.nqueues; q++) {
            struct blk_queue *bq = &b->queue[q];

            if (bq->dirty)
                vq_signal(&b->dev.vq[q]);
            bq->dirty = false;
            if (bq->starved && bq->free && virtio_live(&b->dev)) {
                blk_serve(b, q);
                again = true;
            }
        }
    }
    for (unsigned q = 0; again && q < b->dev.nqueues; q++)
        vq_rekick(&b->dev.vq[q]);
}
