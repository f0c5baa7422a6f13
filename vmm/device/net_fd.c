/* SPDX-License-Identifier: MIT */
/*
 * Frames over one descriptor, for a tap device and for a port of the virtual subnet.
 * A frame that the other side cannot take for want of room gives -EAGAIN; one it refuses for
 * another reason is dropped.  Threads and locks: net.h.
 */
#include "vmm/device/net_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"

void net_fd_init(struct net_fd *n, const struct net_backend_ops *ops, int fd)
{
    n->be.ops = ops;
    n->fd = fd;
    n->src.fd = fd;
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

int net_fd_send(struct net_backend *be, const struct iovec *iov, unsigned n)
{
    struct net_fd *f = (struct net_fd *)be;

    if (writev(f->fd, iov, (int)n) < 0 && (errno == EAGAIN || errno == ENOBUFS) && !f->gone)
        return -EAGAIN;
    return 0;
}

ssize_t net_fd_recv(struct net_backend *be, const struct iovec *iov, unsigned n)
{
    struct net_fd *f = (struct net_fd *)be;
    ssize_t got = readv(f->fd, iov, (int)n);

    return got < 0 ? 0 : got;
}

/* Events of the descriptor.  A hang-up ends the watching: there is nobody to hear from. */
static void fd_ready(void *arg, uint32_t revents)
{
    struct net_fd *f = arg;

    if ((revents & (EPOLLHUP | EPOLLERR)) && !(revents & EPOLLIN)) {
        f->gone = true;
        evloop_del(f->io, &f->src);
    }
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

    if (!f->gone && f->src.events != events)
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

    net_fd_init(n, &subnet_ops, sock);
    return &n->be;
}
