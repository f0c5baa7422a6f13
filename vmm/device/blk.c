/* SPDX-License-Identifier: MIT */
/*
 * virtio block (VIRTIO 1.2, 5.2) over a raw image or a block device.  Interface: blk_new().
 * This file checks requests and turns them into disk operations; blk_io.c carries them out.
 *
 * A request the driver got wrong (beyond the end, not whole sectors, too many segments) fails
 * with IOERR; one without room for its status stops the device.  A disk that fails or vanishes
 * gives IOERR and a log line now and then.
 *
 * Invariant K1: an operation in flight points into guest memory only between vq_pop() and
 * vq_push() of its request; blk_stop() waits for all, so a reset driver's memory is its own again.
 *
 * Locks: the device's lock guards everything, the disk engine included.  Everything but blk_stop()
 * and the registers runs on io0.  Requests are bounded by the pool: QUEUE_SIZE a queue.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/device/blk_io.h"
#include "vmm/device/devices.h"
#include "vmm/device/host.h"
#include "vmm/device/virtio.h"

enum {
    BLK_ID = 2,
    BLK_CLASS = 0x010000 << 8, /* mass storage, SCSI: as drivers expect */
    CONFIG_LEN = offsetof(struct virtio_blk_config, max_secure_erase_sectors),
    MAX_QUEUES = 16,
    QUEUE_SIZE = 256,
    SECTOR = 512,
    SEG_MAX = 126,               /* data segments of a request */
    RANGE_MAX = 16,              /* ranges of a discard or write-zeroes request */
    RANGE_SECTORS_MAX = 1 << 22, /* sectors of a range: 2 GiB */
    PHYS_BLOCK = 4096,           /* what I/O is best aligned to, bytes */
    HDR_LEN = sizeof(struct virtio_blk_outhdr),
    KICK_MAX = 2 * QUEUE_SIZE, /* requests taken before others have their turn */
    SETTLE_MAX = 8,            /* rounds of settle() before others have their turn */
    LOG_PAUSE_S = 10,          /* between two lines about a failing disk */
    IN_FLIGHT = -1,            /* instead of a status: not known yet */
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
    struct iovec iov[SEG_MAX];
    struct virtio_blk_discard_write_zeroes ranges[RANGE_MAX]; /* checked copies */
};

/* What belongs to one queue. */
struct blk_queue {
    struct blk_req *pool; /* QUEUE_SIZE requests */
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
    uint8_t wce;                        /* write-back mode: 1 write-back, 0 write-through */
    bool stopping;                      /* the driver wants its memory back */
    struct blk_io *io;                  /* the disk engine */
    struct evsrc io_src;                /* its eventfd on io0 */
    struct blk_queue queue[MAX_QUEUES]; /* dev.nqueues used */
    struct vq_chain chain;              /* the request being parsed */
    struct dev_stats stats;             /* counters */
    int64_t logged_s;                   /* when the disk's last failure was logged */
    uint64_t unlogged;                  /* failures since */
};

/* ---- the pool ---- */

/* A free request of a queue; NULL: all are in work. */
static struct blk_req *req_get(struct blk_queue *bq)
{
    struct blk_req *r = bq->free;

    if (r)
        bq->free = r->next;
    else if (bq->fresh < QUEUE_SIZE)
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
        r->op.off = s->sector * SECTOR;
        r->op.left = (uint64_t)s->num_sectors * SECTOR;
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

/* An operation has ended: the request goes on or is answered. */
static void op_done(void *arg, struct blk_op *op, int err)
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
    uint64_t can = 1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE;

    return (b->dev.features & can) && b->wce;
}

/* True when n sectors from sector on are on the disk. */
static bool on_disk(const struct blk *b, uint64_t sector, uint64_t n)
{
    return sector <= b->sectors && n <= b->sectors - sector;
}

/* The len bytes from byte off on of segments, as segments; how many, 0: more than SEG_MAX. */
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
        if (got == SEG_MAX)
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

    if ((write && b->readonly) || len % SECTOR || !on_disk(b, sector, len / SECTOR))
        return VIRTIO_BLK_S_IOERR;
    if (!len)
        return VIRTIO_BLK_S_OK;
    r->op = (struct blk_op){.kind = write ? BLK_WRITE : BLK_READ,
                            .durable = write && !write_back(b),
                            .iov = r->iov,
                            .off = sector * SECTOR,
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
    if (s->num_sectors > RANGE_SECTORS_MAX || !on_disk(b, s->sector, s->num_sectors))
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
    if (!(b->dev.features >> feature & 1))
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

/* Takes what waits in a queue, as far as there are free requests of ours. */
static void serve(struct blk *b, unsigned q)
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
            bq->starved = true; /* settle() comes back here: no kick is needed */
            return;
        }
        req_put(bq, r);
        if (!left) {
            vq_rekick(vq);
            return;
        }
    } while (vq_arm(vq));
}

/* Carries out what was begun, answers what has ended, and goes on with starved queues. */
static void settle(struct blk *b)
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
                serve(b, q);
                again = true;
            }
        }
    }
    for (unsigned q = 0; again && q < b->dev.nqueues; q++)
        vq_rekick(&b->dev.vq[q]);
}

/* The driver kicked a queue. */
static void blk_kick(struct virtio_dev *d, unsigned q)
{
    struct blk *b = (struct blk *)d;

    serve(b, q);
    settle(b);
}

/* The engine has something to tell.  On io0, also while the driver uses no queues. */
static void io_ready(void *arg, uint32_t revents)
{
    struct blk *b = arg;

    (void)revents;
    virtio_lock(&b->dev);
    settle(b);
    virtio_unlock(&b->dev);
}

/* ---- the rest of the type ---- */

/* Device configuration space. */
static void blk_config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len)
{
    const struct blk *b = (struct blk *)d;
    struct virtio_blk_config c = {
        .capacity = htole64(b->sectors),
        .seg_max = htole32(SEG_MAX),
        .blk_size = htole32(b->block),
        .min_io_size = htole16((uint16_t)(b->block < PHYS_BLOCK ? PHYS_BLOCK / b->block : 1)),
        .wce = b->wce,
        .num_queues = htole16((uint16_t)d->nqueues),
        .max_discard_sectors = htole32(RANGE_SECTORS_MAX),
        .max_discard_seg = htole32(RANGE_MAX),
        .discard_sector_alignment = htole32(b->block / SECTOR),
        .max_write_zeroes_sectors = htole32(RANGE_SECTORS_MAX),
        .max_write_zeroes_seg = htole32(RANGE_MAX),
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
        (d->features >> VIRTIO_BLK_F_CONFIG_WCE & 1))
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
    for (unsigned q = 0; q < MAX_QUEUES; q++)
        free(b->queue[q].pool);
    close(b->fd);
    free(b);
}

static void blk_free(struct virtio_dev *d)
{
    virtio_exit(d);
    blk_destroy((struct blk *)d);
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

/* ---- make ---- */

/* Finds out size and block size of the disk. */
static int probe(struct blk *b, unsigned index, struct err *err)
{
    uint64_t bytes = 0;
    struct stat st;
    int block = SECTOR;

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
    if (bytes % SECTOR)
        log_warn("disk %u: the last %u bytes are not a whole sector: out of the guest's reach",
                 index, (unsigned)(bytes % SECTOR));
    b->sectors = bytes / SECTOR;
    b->block = block >= SECTOR && block <= 65536 ? (uint32_t)block : SECTOR;
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
    int e = blk_io_new(&b->io, b->fd, queues * QUEUE_SIZE, label, op_done, b);

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

    INVARIANT(queues >= 1 && queues <= MAX_QUEUES, "a disk has 1 to 16 queues");
    snprintf(label, sizeof(label), "blk%u", index);
    b->fd = fd;
    b->readonly = readonly;
    b->wce = 1;
    if (serial)
        memcpy(b->serial, serial, strnlen(serial, sizeof(b->serial)));
    for (unsigned q = 0; q < queues; q++)
        b->queue[q].pool = xcalloc(QUEUE_SIZE, sizeof(struct blk_req));
    b->dev.host = host; /* blk_destroy() needs it when the transport is not set up */
    e = probe(b, index, err);
    if (!e) {
        e = start_io(b, host, queues, label);
        if (!e)
            e = virtio_init(&b->dev, &blk_type, label, queues, QUEUE_SIZE, features(b, queues),
                            host, bus);
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
