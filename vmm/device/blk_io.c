/* SPDX-License-Identifier: MIT */
/*
 * The disk engine; see the header.  An operation is a sequence of steps, each one system call or
 * io_uring entry: a short transfer is followed by a step for the rest, an interrupted step is
 * tried again, zeroing falls back to writing zeros.
 *
 * Invariants.  B1: inflight counts operations queued and not yet ended; each holds at most one
 * entry of the ring.  B2: the completion queue has room for depth entries, so none overflows.
 * No locks here: the caller's.
 */
#include "vmm/device/blk_io.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"

enum {
    SQ_MAX = 128,       /* entries of the submission queue */
    ZERO_BUF = 1 << 20, /* bytes of the buffer of zeros */
    TRIES_MAX = 100,    /* interrupted steps of one operation before it fails */
    TURNS_MAX = 16,     /* rounds of one blk_io_run() */
};

struct blk_io {
    int fd;                                              /* the disk, not owned */
    void (*done)(void *arg, struct blk_op *op, int err); /* the caller's */
    void *arg;                                           /* its first argument */
    bool sync;                                           /* no io_uring */
    bool draining;                                       /* no further steps */
    int eventfd;                                         /* completions are there */
    unsigned depth;                                      /* operations at a time */
    unsigned inflight;                                   /* operations under way (B1) */
    struct io_uring ring;                                /* unless sync */
    struct blk_op *ended, **ended_tail;                  /* done, done() not called yet */
    uint8_t *zeros;                                      /* ZERO_BUF bytes; NULL: not yet */
};

/* One step of an operation: what the kernel is asked to do. */
struct step {
    enum { STEP_READV, STEP_WRITEV, STEP_WRITE, STEP_SYNC, STEP_FALLOCATE } call;
    const void *buf; /* STEP_WRITE */
    uint64_t len;    /* STEP_WRITE, STEP_FALLOCATE: bytes */
    int mode;        /* STEP_FALLOCATE */
    int rw_flags;    /* RWF_* */
};

/* The next step of an operation. */
static struct step next_step(const struct blk_io *io, const struct blk_op *op)
{
    struct step s = {.rw_flags = op->durable ? RWF_DSYNC : 0, .len = op->left};

    switch (op->kind) {
    case BLK_READ:
        s.call = STEP_READV;
        s.rw_flags = 0;
        break;
    case BLK_WRITE:
        s.call = STEP_WRITEV;
        break;
    case BLK_SYNC:
        s.call = STEP_SYNC;
        break;
    case BLK_DISCARD:
        s.call = STEP_FALLOCATE;
        s.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        break;
    default:
        s.call = op->by_write ? STEP_WRITE : STEP_FALLOCATE;
        s.mode =
            FALLOC_FL_KEEP_SIZE | (op->unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
        s.buf = io->zeros;
        if (op->by_write && s.len > ZERO_BUF)
            s.len = ZERO_BUF;
    }
    return s;
}

/* ---- what a step's result means ---- */

/* Moves past n bytes that were transferred. */
static void advance(struct blk_op *op, uint64_t n)
{
    op->off += n;
    op->left -= n;
    op->moved += n;
    while (n && op->niov) {
        size_t part = op->iov->iov_len < n ? op->iov->iov_len : (size_t)n;

        op->iov->iov_base = (uint8_t *)op->iov->iov_base + part;
        op->iov->iov_len -= part;
        n -= part;
        if (!op->iov->iov_len) {
            op->iov++;
            op->niov--;
        }
    }
}

/* The buffer of zeros; reading it costs no memory. False: none to be had. */
static bool need_zeros(struct blk_io *io)
{
    void *p;

    if (io->zeros)
        return true;
    p = mmap(NULL, ZERO_BUF, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    io->zeros = p == MAP_FAILED ? NULL : p;
    return io->zeros;
}

/* Takes the result of a step (>= 0 or -errno).  True: *err is the outcome of the operation;
 * false: it needs another step. */
static bool step_done(struct blk_io *io, struct blk_op *op, int res, int *err)
{
    bool moves = op->kind == BLK_READ || op->kind == BLK_WRITE || op->by_write;

    *err = res < 0 ? res : 0;
    if ((res == -EINTR || res == -EAGAIN) && op->tries < TRIES_MAX) {
        op->tries++;
        return false;
    }
    if ((res == -EOPNOTSUPP || res == -EINVAL) && op->kind == BLK_ZERO && !op->by_write &&
        need_zeros(io)) {
        op->by_write = true;
        return false;
    }
    if (res < 0 || !moves)
        return true;
    if (res == 0 && op->left) {
        *err = op->kind == BLK_READ ? -ENODATA : -EIO;
        return true;
    }
    INVARIANT((uint64_t)res <= op->left, "a disk moved more bytes than it was asked to");
    advance(op, (uint64_t)res);
    return !op->left;
}

/* Puts an operation on the list of those that ended. */
static void end_op(struct blk_io *io, struct blk_op *op, int err)
{
    op->err = err;
    op->next = NULL;
    *io->ended_tail = op;
    io->ended_tail = &op->next;
}

/* Calls done() for all that ended; true when there was one. */
static bool report(struct blk_io *io)
{
    bool any = io->ended;

    while (io->ended) {
        struct blk_op *op = io->ended;

        io->ended = op->next;
        if (!io->ended)
            io->ended_tail = &io->ended;
        io->inflight--;
        io->done(io->arg, op, op->err);
    }
    return any;
}

/* ---- synchronous ---- */

/* Does one step now. */
static int step_sync(const struct blk_io *io, const struct blk_op *op)
{
    struct step s = next_step(io, op);
    ssize_t n;

    switch (s.call) {
    case STEP_READV:
        n = preadv(io->fd, op->iov, (int)op->niov, (off_t)op->off);
        break;
    case STEP_WRITEV:
        n = pwritev2(io->fd, op->iov, (int)op->niov, (off_t)op->off, s.rw_flags);
        break;
    case STEP_WRITE:
        n = pwrite(io->fd, s.buf, s.len, (off_t)op->off);
        break;
    case STEP_SYNC:
        n = fdatasync(io->fd);
        break;
    default:
        n = fallocate(io->fd, s.mode, (off_t)op->off, (off_t)s.len);
    }
    return n < 0 ? -errno : (int)n;
}

/* Does a whole operation now. */
static void run_sync(struct blk_io *io, struct blk_op *op)
{
    int err;

    while (!step_done(io, op, step_sync(io, op), &err))
        ;
    end_op(io, op, err);
}

/* ---- io_uring ---- */

/* Fills a ring entry with one step. */
static void prep(const struct blk_io *io, struct io_uring_sqe *sqe, struct blk_op *op)
{
    struct step s = next_step(io, op);

    switch (s.call) {
    case STEP_READV:
        io_uring_prep_readv(sqe, io->fd, op->iov, op->niov, op->off);
        break;
    case STEP_WRITEV:
        io_uring_prep_writev2(sqe, io->fd, op->iov, op->niov, op->off, s.rw_flags);
        break;
    case STEP_WRITE:
        io_uring_prep_write(sqe, io->fd, s.buf, (unsigned)s.len, op->off);
        break;
    case STEP_SYNC:
        io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
        break;
    case STEP_FALLOCATE:
        io_uring_prep_fallocate(sqe, io->fd, s.mode, (off_t)op->off, (off_t)s.len);
        break;
    }
    io_uring_sqe_set_data(sqe, op);
}

/* Queues the next step; fails the operation when the kernel takes no more. */
static void push_step(struct blk_io *io, struct blk_op *op)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);

    if (!sqe) {
        io_uring_submit(&io->ring);
        sqe = io_uring_get_sqe(&io->ring);
    }
    if (sqe)
        prep(io, sqe, op);
    else
        end_op(io, op, -ENOMEM);
}

/* Takes all completions there are. */
static void reap(struct blk_io *io)
{
    struct io_uring_cqe *cqe;

    while (!io_uring_peek_cqe(&io->ring, &cqe)) {
        struct blk_op *op = io_uring_cqe_get_data(cqe);
        int res = cqe->res, err;

        io_uring_cqe_seen(&io->ring, cqe);
        if (step_done(io, op, res, &err))
            end_op(io, op, err);
        else if (io->draining)
            end_op(io, op, -ECANCELED);
        else
            push_step(io, op);
    }
}

/* Empties the eventfd. */
static void clear_event(const struct blk_io *io)
{
    uint64_t n;

    if (read(io->eventfd, &n, sizeof(n)) < 0)
        return; /* it was empty */
}

/* Makes the eventfd readable. */
static void set_event(const struct blk_io *io)
{
    uint64_t one = 1;

    if (write(io->eventfd, &one, sizeof(one)) < 0)
        return; /* the counter is full: it is readable */
}

/* ---- interface ---- */

void blk_io_queue(struct blk_io *io, struct blk_op *op)
{
    INVARIANT(io->inflight < io->depth && !io->draining, "B1: too many disk operations");
    io->inflight++;
    op->moved = 0;
    op->tries = 0;
    op->by_write = false;
    if (io->sync)
        run_sync(io, op);
    else
        push_step(io, op);
}

void blk_io_run(struct blk_io *io)
{
    unsigned turns = 0;
    bool more = true;

    clear_event(io);
    if (!io->sync)
        io_uring_cq_eventfd_toggle(&io->ring, false);
    while (more && turns++ < TURNS_MAX) {
        if (!io->sync) {
            if (io_uring_sq_ready(&io->ring))
                io_uring_submit(&io->ring);
            reap(io);
        }
        more = report(io);
    }
    if (io->sync) {
        if (io->ended)
            set_event(io);
        return;
    }
    io_uring_cq_eventfd_toggle(&io->ring, true);
    /* The kernel adds a completion and then looks whether the eventfd is on; we switch it on and
     * then look for completions.  Unless the store above is seen before the loads below, both
     * can miss the other, and the last request of a guest is never answered. */
    atomic_thread_fence(memory_order_seq_cst);
    if (io->ended || io_uring_sq_ready(&io->ring) || io_uring_cq_ready(&io->ring))
        set_event(io);
}

void blk_io_drain(struct blk_io *io)
{
    io->draining = true;
    report(io);
    while (io->inflight) {
        int r = io_uring_submit_and_wait(&io->ring, 1);

        INVARIANT(r >= 0 || r == -EINTR || r == -EAGAIN || r == -EBUSY,
                  "io_uring_enter failed with disk operations in flight");
        reap(io);
        report(io);
    }
    io->draining = false;
}

/* Sets up the ring; 0 or -errno. */
static int ring_init(struct blk_io *io)
{
    struct io_uring_params p = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP};
    int r;

    p.cq_entries = io->depth < SQ_MAX ? SQ_MAX : io->depth;
    r = io_uring_queue_init_params(SQ_MAX, &io->ring, &p);
    if (r)
        return r;
    r = io_uring_register_eventfd(&io->ring, io->eventfd);
    if (r)
        io_uring_queue_exit(&io->ring);
    return r;
}

int blk_io_new(struct blk_io **out, int fd, unsigned depth, const char *label,
               void (*done)(void *arg, struct blk_op *op, int err), void *arg)
{
    struct blk_io *io = xcalloc(1, sizeof(*io));
    int r;

    io->fd = fd;
    io->depth = depth;
    io->done = done;
    io->arg = arg;
    io->ended_tail = &io->ended;
    io->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (io->eventfd < 0) {
        r = -errno;
        free(io);
        return r;
    }
    r = ring_init(io);
    if (r) {
        io->sync = true;
        log_warn("%s: io_uring is not available (%s): disk I/O is synchronous and slower",
                 label, strerror(-r));
    }
    *out = io;
    return 0;
}

void blk_io_free(struct blk_io *io)
{
    if (!io)
        return;
    INVARIANT(!io->inflight, "B1: a disk engine is freed with operations in flight");
    if (!io->sync)
        io_uring_queue_exit(&io->ring);
    if (io->zeros)
        munmap(io->zeros, ZERO_BUF);
    close(io->eventfd);
    free(io);
}

int blk_io_eventfd(const struct blk_io *io)
{
    return io->eventfd;
}
