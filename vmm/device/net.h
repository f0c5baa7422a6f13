/* SPDX-License-Identifier: MIT */
/*
 * What carries a network card's frames: a tap device, user-mode networking (libslirp), or a port
 * of the virtual subnet between the guests of one monitor.
 *
 * A frame is preceded by a struct virtio_net_hdr_v1 (12 bytes) when the backend's `offload` is
 * true (tap, subnet), so checksums and segmentation pass through unfinished.  All functions run
 * on io0 with the card's lock held, except where noted.
 */
#ifndef DISCO_VMM_DEVICE_NET_H
#define DISCO_VMM_DEVICE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct err;
struct evloop;
struct net_backend;

/* What a backend does. */
struct net_backend_ops {
    const char *name; /* "tap" */
    bool offload;     /* frames carry a virtio_net_hdr_v1 both ways */
    /* Sends one frame. 0: taken (or dropped for good); -EAGAIN: full, try again when writable. */
    int (*send)(struct net_backend *be, const struct iovec *iov, unsigned n);
    /* Receives one frame into iov; bytes, 0: none now. Truncation drops the frame: -EMSGSIZE. */
    ssize_t (*recv)(struct net_backend *be, const struct iovec *iov, unsigned n);
    /* Starts delivering: ready(arg) is called on io0 (lock NOT held) when frames may be there or
     * sending may work again. want_read false: the card has no buffers, don't call for frames. */
    int (*start)(struct net_backend *be, struct evloop *io, void (*ready)(void *arg),
                 void *arg);
    void (*want)(struct net_backend *be, bool read, bool write);
    void (*free)(struct net_backend *be);
};

struct net_backend {
    const struct net_backend_ops *ops;
};

/* Makes a tap device (IFF_VNET_HDR, non-persistent) and returns its descriptor or -errno.
 * EXIT_RESOURCE when a device of that name exists already. Runs in the opener, not in the cell. */
int tap_open(const char *name, struct err *err);

/* A backend over a device of tap_open(), owned. */
struct net_backend *net_tap_new(int fd);

/* A backend over one end of a SOCK_SEQPACKET pair, owned: one frame a message. */
struct net_backend *net_subnet_new(int sock);

/* User-mode networking: DHCP, DNS, NAT, host forwards ("tcp:127.0.0.1:2222-:22,..."). */
struct net_backend *net_user_new(const char *hostfwd, struct err *err);

#endif
