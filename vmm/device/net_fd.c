/* SPDX-License-Identifier: MIT */
/*
 * Frames over one descriptor, for a tap device and for a port of the virtual subnet.
 * A frame that the other side cannot take for want of room gives -EAGAIN; one it refuses for
 * another reason is dropped.  When the other side hangs up the descriptor leaves the loop at
 * once, since a hang-up is reported for ever; frames are then dropped.
 * Threads and locks: net.h; events come on io0 without the lock, so `gone` is atomic.
 */
#include "vmm/device/net_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"

enum { SOCK_BUF = 4 << 20 };

void net_fd_init(struct net_fd *n, const struct net_backend_ops *ops, int fd, bool sock)
{
    n->be.ops = ops;
    n->fd = fd;
    n->sock = sock;
    n->src.fd = fd;
    if (fd >= 0)
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void net_fd_room(int sock)
{
    int size = SOCK_BUF;

    if (setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)))
        (void)setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

int net_fd_send(struct net_backend *be, const struct iovec *iov, unsigned n)
{
    struct net_fd *f = (struct net_fd *)be;
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
    ssize_t r;

    if (f->gone)
        return 0;
    if (f->sock)
        r = sendmsg(f->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    else
        r = writev(f->fd, iov, (int)n);
    return r < 0 && errno == EAGAIN ? -EAGAIN : 0;
}

/* The other side is gone: nobody to hear from.  A site that ends hangs up on its guests; a tap
 * device that vanishes is worth a line, for the guest sees nothing but silence.  On io0. */
static void hang_up(struct net_fd *f)
{
    if (!f->io || atomic_exchange(&f->gone, true))
        return;
    evloop_del(f->io, &f->src);
    if (!f->sock)
        log_warn("a tap device is gone: the card's frames are dropped from now on");
}

/* One message from a socket. */
static ssize_t recv_message(struct net_fd *f, const struct iovec *iov, unsigned n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
    ssize_t got = recvmsg(f->fd, &m, MSG_DONTWAIT);

    if (got < 0 && errno == ECONNRESET) /* said once, before what was sent earlier */
        got = recvmsg(f->fd, &m, MSG_DONTWAIT);
    if (got == 0)
        hang_up(f); /* nobody sends empty frames */
    if (got > 0 && (m.msg_flags & MSG_TRUNC))
        return -EMSGSIZE;
    return got < 0 ? 0 : got;
}

ssize_t net_fd_recv(struct net_backend *be, const struct iovec *iov, unsigned n)
{
    struct net_fd *f = (struct net_fd *)be;
    ssize_t got;

    if (f->sock)
        return recv_message(f, iov, n);
    got = readv(f->fd, iov, (int)n); /* a tap's frames are never larger than ours */
    return got < 0 ? 0 : got;
}

/* Events of the descriptor.  A hang-up with frames left ends with recv's end of file. */
static void fd_ready(void *arg, uint32_t revents)
{
    struct net_fd *f = arg;

    if ((revents & (EPOLLHUP | EPOLLERR)) && !(revents & EPOLLIN))
        hang_up(f);
    f->ready(f->arg);
}

int net_fd_start(struct net_backend *be, struct evloop *io, void (*ready)(void *arg), void *arg)
{
    struct net_fd *f = (struct net_fd *)be;

    f->io = io;
    f->ready = ready;
    f->arg = arg;
    f->src = (struct evsrc){.fd = f->fd, .ready = fd_ready, .arg = f};
    return evloop_add(io, &f->src, EPOLLIN);
}

void net_fd_want(struct net_backend *be, bool read, bool write)
{
    struct net_fd *f = (struct net_fd *)be;
    uint32_t events = (read ? (uint32_t)EPOLLIN : 0) | (write ? (uint32_t)EPOLLOUT : 0);

    if (f->io && !f->gone && f->src.events != events)
        (void)evloop_mod(f->io, &f->src, events);
}

void net_fd_exit(struct net_fd *n)
{
    if (n->io && !n->gone)
        evloop_del(n->io, &n->src);
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
}

/* ---- a port of the virtual subnet: nothing but the descriptor ---- */

/* Closes the port; the switch sees a hang-up. */
static void subnet_free(struct net_backend *be)
{
    net_fd_exit((struct net_fd *)be);
    free(be);
}

static const struct net_backend_ops subnet_ops = {
    .name = "subnet",
    .offload = true,
    .send = net_fd_send,
    .recv = net_fd_recv,
    .start = net_fd_start,
    .want = net_fd_want,
    .free = subnet_free,
};

struct net_backend *net_subnet_new(int sock)
{
    struct net_fd *n = xcalloc(1, sizeof(*n));

    net_fd_init(n, &subnet_ops, sock, true);
    return &n->be;
}
