/* SPDX-License-Identifier: MIT */
/*
 * What the kernel lets a guard have; see the header.  Nothing that is opened here stays open.
 * Threads: any; no state.
 */
#include "vmm/pager/features.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <numaif.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By number: headers before Linux 6.1 lack some of the names. */
enum {
    FEATURE_SIGBUS = 1 << 7,
    FEATURE_MINOR_SHMEM = 1 << 10,
    FEATURE_WP_SHMEM = 1 << 12,
    FEATURE_WP_UNPOPULATED = 1 << 13
};
#define DEVICE_NEW _IO(0xaa, 0x00) /* /dev/userfaultfd's one ioctl */

int guard_uffd(bool *by_device)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), dev, e;

    *by_device = false;
    if (fd >= 0 || (errno != EPERM && errno != ENOSYS))
        return fd < 0 ? -errno : fd;
    e = errno;
    dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (dev < 0)
        return errno == ENOENT ? -e : -errno;
    fd = ioctl(dev, DEVICE_NEW, O_CLOEXEC | O_NONBLOCK);
    e = errno;
    close(dev);
    *by_device = fd >= 0;
    return fd < 0 ? -e : fd;
}

int guard_ask(struct guard_features *f)
{
    struct uffdio_api api = {.api = UFFD_API};
    int fd, r = 0;

    *f = (struct guard_features){0};
    fd = guard_uffd(&f->by_device);
    if (fd < 0)
        return fd;
    if (ioctl(fd, UFFDIO_API, &api))
        r = -errno;
    close(fd);
    if (r)
        return r;
    f->protects =
        api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP && api.features & FEATURE_WP_SHMEM;
    f->minor = api.features & FEATURE_MINOR_SHMEM;
    f->signals = api.features & FEATURE_SIGBUS;
    f->admits_protected = api.features & FEATURE_WP_UNPOPULATED;
    return 0;
}

bool guard_moves_all(void)
{
    /* the kernel asks for the privilege first, and then finds nothing to do */
    return !move_pages(0, 0, NULL, NULL, NULL, MPOL_MF_MOVE_ALL) || errno != EPERM;
}
