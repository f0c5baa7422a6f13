/* SPDX-License-Identifier: MIT */
/*
 * Tap devices: made by the opener (which may be privileged), used by the cell.  The device lives
 * as long as its descriptor.  Frames carry the 12-byte virtio header, so checksums and
 * segmentation are left to the host's stack or hardware.  No locks of its own (net.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/device/net_fd.h"

enum { VNET_HDR = 12 };

/* Makes the device on an open /dev/net/tun. */
static int tap_create(int fd, const char *name, struct err *err)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL};
    unsigned offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    int size = VNET_HDR;

    if (strlen(name) >= IFNAMSIZ)
        return fail(err, EXIT_CONFIG, ENAMETOOLONG, "tap %s: a name has at most %d bytes", name,
                    IFNAMSIZ - 1);
    memcpy(ifr.ifr_name, name, strlen(name) + 1);
    if (ioctl(fd, TUNSETIFF, &ifr)) {
        if (errno == EBUSY || errno == EEXIST)
            return fail(err, EXIT_RESOURCE, EBUSY,
                        "tap %s: a network device of this name exists already; choose another "
                        "name, or remove it (ip link del %s)",
                        name, name);
        return fail_errno(err, errno == EPERM ? EXIT_PERMISSION : EXIT_RESOURCE, errno,
                          "tap %s: TUNSETIFF (needs CAP_NET_ADMIN)", name);
    }
    if (ioctl(fd, TUNSETVNETHDRSZ, &size))
        return fail_errno(err, EXIT_RESOURCE, errno, "tap %s: TUNSETVNETHDRSZ", name);
    if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)offload))
        log_warn("tap %s: no segmentation offload: %s", name, strerror(errno));
    return 0;
}

/* Brings the device up. */
static void tap_up(const char *name)
{
    struct ifreq ifr = {.ifr_flags = 0};
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (sock < 0)
        return;
    memcpy(ifr.ifr_name, name, strlen(name) + 1);
    if (!ioctl(sock, SIOCGIFFLAGS, &ifr)) {
        ifr.ifr_flags |= IFF_UP;
        if (ioctl(sock, SIOCSIFFLAGS, &ifr))
            log_warn("tap %s stays down: %s", name, strerror(errno));
    }
    close(sock);
}

int tap_open(const char *name, struct err *err)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), r;

    if (fd < 0)
        return fail_errno(err, errno == EACCES ? EXIT_PERMISSION : EXIT_RESOURCE, errno,
                          "tap %s: /dev/net/tun (modprobe tun)", name);
    r = tap_create(fd, name, err);
    if (r) {
        close(fd);
        return r;
    }
    tap_up(name);
    return fd;
}

/* Closes the device, which vanishes with its last descriptor. */
static void tap_free(struct net_backend *be)
{
    net_fd_exit((struct net_fd *)be);
    free(be);
}

static const struct net_backend_ops tap_ops = {
    .name = "tap",
    .offload = true,
    .send = net_fd_send,
    .recv = net_fd_recv,
    .start = net_fd_start,
    .want = net_fd_want,
    .free = tap_free,
};

struct net_backend *net_tap_new(int fd)
{
    struct net_fd *n = xcalloc(1, sizeof(*n));

    net_fd_init(n, &tap_ops, fd, false);
    return &n->be;
}
