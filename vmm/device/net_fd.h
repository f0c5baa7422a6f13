/* SPDX-License-Identifier: MIT */
/*
 * A network backend over one descriptor that gives and takes a frame per read(2) and write(2):
 * tap devices, and one end of a SOCK_SEQPACKET pair.  Used by the backends in net.h.
 */
#ifndef DISCO_VMM_DEVICE_NET_FD_H
#define DISCO_VMM_DEVICE_NET_FD_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/evloop.h"
#include "vmm/device/net.h"

/* Guarded by the card's lock after start, unless said. */
struct net_fd {
    struct net_backend be;    /* first */
    int fd;                   /* non-blocking, owned */
    bool sock;                /* a SOCK_SEQPACKET socket, else a tap device; constant */
    struct evloop *io;        /* loop it is in, NULL before start */
    struct evsrc src;         /* its source */
    void (*ready)(void *arg); /* the card; constant after start */
    void *arg;                /* of ready */
    atomic_bool gone;         /* the other side hung up, src is out of the loop; set on io0 */
};

/* Initialises the common part; fd -1: not yet. */
void net_fd_init(struct net_fd *n, const struct net_backend_ops *ops, int fd, bool sock);

/* Room in a socket for frames the other side is slow to take: as much as the host allows. */
void net_fd_room(int sock);

/* ---- struct net_backend_ops, for const tables ---- */

/* A frame that the other side refuses for good is dropped, and so are all after it hung up. */
int net_fd_send(struct net_backend *be, const struct iovec *iov, unsigned n);

/* A frame longer than the segments is dropped: -EMSGSIZE from a socket; a tap device cuts it. */
ssize_t net_fd_recv(struct net_backend *be, const struct iovec *iov, unsigned n);

/* Watches the descriptor for frames; 0 or -errno. */
int net_fd_start(struct net_backend *be, struct evloop *io, void (*ready)(void *arg),
                 void *arg);

/* Cheap when nothing changes; any thread that holds the card's lock. */
void net_fd_want(struct net_backend *be, bool read, bool write);

/* Stops watching and closes; the caller frees its struct. */
void net_fd_exit(struct net_fd *n);

#endif
