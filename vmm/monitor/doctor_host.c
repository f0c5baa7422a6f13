/* SPDX-License-Identifier: MIT */
/*
 * The checks of the host around KVM: nodes and their memory, kernel settings, limits, clocks,
 * huge pages, network.  Interface: doctor_host().  None of these keeps a guest from
 * running, so none decides the exit status; each warning says what is lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/err.h"
#include "numa/topo.h"
#include "vmm/monitor/doctor.h"

enum {
    NOFILE = 4096,      /* descriptors of a monitor with many guests */
    MEMLOCK_MIB = 64,   /* locked memory for the rings of disks */
    NODE_MIN_MIB = 256, /* a node with less free holds no useful guest */
    HUGE_PAGE_MIB = 2,  /* of the hugetlb pool that is looked at */
};

/* Nodes, and free memory on each. */
static void check_nodes(struct doctor *d)
{
    char one[TOPO_SIZE_LEN], list[256] = "";
    struct err err = {0};
    bool poor = false;
    size_t used = 0;
    struct topo t;

    if (topo_read(&t, NULL, &err)) {
        doctor_say(d, "NUMA nodes", DOCTOR_WARN, NULL, "%s", err.text);
        return;
    }
    if (t.nnodes > 1)
        doctor_say(d, "NUMA nodes", DOCTOR_OK, NULL, "%u nodes, %u CPUs", t.nnodes, t.ncpus);
    else
        doctor_say(
            d, "NUMA nodes", DOCTOR_WARN, "make lab   # an emulated machine with 4 nodes",
            "1 node, %u CPUs: guests run, but there is nothing to place or replicate", t.ncpus);
    for (unsigned i = 0; i < t.nnodes; i++) {
        poor |= t.node[i].mem_total && t.node[i].mem_free >> 20 < NODE_MIN_MIB;
        if (used < sizeof(list) - 32)
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%snode %d: %s",
                                     i ? ", " : "", t.node[i].os,
                                     topo_size(one, t.node[i].mem_free));
    }
    doctor_say(d, "free memory", poor ? DOCTOR_WARN : DOCTOR_OK,
               poor ? "ps -eo pid,rss,comm --sort -rss | head   # and end what is not needed"
                    : NULL,
               "%s%s", list, poor ? ": too little for a guest somewhere" : "");
    topo_free(&t);
}

/* The kernel must not move guest memory behind our back. */
static void check_balancing(struct doctor *d)
{
    char v[16];

    if (!doctor_read(d, "/proc/sys/kernel/numa_balancing", v, sizeof(v)))
        doctor_say(d, "NUMA balancing", DOCTOR_OK, NULL, "this kernel has none");
    else if (!strcmp(v, "0"))
        doctor_say(d, "NUMA balancing", DOCTOR_OK, NULL, "off, as it should be");
    else
        doctor_say(d, "NUMA balancing", DOCTOR_WARN, "sysctl -w kernel.numa_balancing=0",
                   "on: the kernel's page moves fight with disco's");
}

/* Huge pages for guest memory, which is shared memory. */
static void check_thp(struct doctor *d)
{
    static const char path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    char v[128];

    if (!doctor_read(d, path, v, sizeof(v)))
        doctor_say(d, "huge guest pages", DOCTOR_WARN,
                   "boot a kernel with CONFIG_TRANSPARENT_HUGEPAGE",
                   "this kernel has no transparent huge pages: guests run slower");
    else if (strstr(v, "[never]") || strstr(v, "[deny]"))
        doctor_say(d, "huge guest pages", DOCTOR_WARN,
                   "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
                   "off for shared memory: guests run on 4 KiB pages, slower");
    else
        doctor_say(d, "huge guest pages", DOCTOR_OK, NULL, "transparent, for shared memory: %s",
                   v);
}

/* Pages of the hugetlb pool, only for guests that ask. */
static void check_hugetlb(struct doctor *d)
{
    static const char path[] = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
    char v[32], *name = xasprintf("%sfree_hugepages", path);
    unsigned long n = 0;

    if (doctor_read(d, name, v, sizeof(v)))
        n = strtoul(v, NULL, 10);
    free(name);
    doctor_say(d, "hugetlb pages", DOCTOR_OK, NULL,
               "%lu free (%lu MiB); only for guests with hugepages = \"hugetlb\"", n,
               n * HUGE_PAGE_MIB);
}

/* Asynchronous disk I/O. */
static void check_uring(struct doctor *d)
{
    char v[16];

    if (doctor_read(d, "/proc/sys/kernel/io_uring_disabled", v, sizeof(v)) &&
        (v[0] == '2' || (v[0] == '1' && geteuid() != 0)))
        doctor_say(d, "disk I/O", DOCTOR_WARN, "sysctl -w kernel.io_uring_disabled=0",
                   "io_uring is switched off: guests with disks do not start");
    else
        doctor_say(d, "disk I/O", DOCTOR_OK, NULL, "io_uring may be used");
}

/* Tap devices for guests. */
static void check_tun(struct doctor *d)
{
    char *path = xasprintf("%s/dev/net/tun", d->root);
    int fd = open(path, O_RDWR | O_CLOEXEC), e = errno;

    free(path);
    if (fd >= 0) {
        doctor_say(d, "tap network", DOCTOR_OK, NULL, "/dev/net/tun may be used");
        close(fd);
    } else if (e == EACCES || e == EPERM) {
        doctor_say(d, "tap network", DOCTOR_WARN, "chmod 666 /dev/net/tun",
                   "/dev/net/tun may not be opened: no taps; user-mode network works");
    } else {
        doctor_say(d, "tap network", DOCTOR_WARN, "modprobe tun",
                   "/dev/net/tun: %s: no taps; user-mode network works", strerror(e));
    }
}

/* Limits of this process, which guests inherit. */
static void check_limits(struct doctor *d)
{
    struct rlimit files = {0}, lock = {0};

    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_MEMLOCK, &lock);
    if (files.rlim_max < NOFILE)
        doctor_say(d, "open files", DOCTOR_WARN, "ulimit -Hn 65536",
                   "at most %llu: too few for many guests", (unsigned long long)files.rlim_max);
    else
        doctor_say(d, "open files", DOCTOR_OK, NULL, "up to %llu",
                   (unsigned long long)files.rlim_max);
    if (lock.rlim_cur != RLIM_INFINITY && lock.rlim_cur >> 20 < MEMLOCK_MIB && geteuid() != 0)
        doctor_say(d, "locked memory", DOCTOR_WARN, "ulimit -l unlimited",
                   "%llu MiB: kernels before 5.12 count the rings of disks here",
                   (unsigned long long)(lock.rlim_cur >> 20));
    else
        doctor_say(d, "locked memory", DOCTOR_OK, NULL, "enough for this user");
}

/* The host's own clock must be the TSC, or KVM re-bases the guests'. */
static void check_clock(struct doctor *d)
{
    static const char dir[] = "/sys/devices/system/clocksource/clocksource0/";
    char *current = xasprintf("%scurrent_clocksource", dir), now[32] = "unknown", all[128] = "";
    char *available = xasprintf("%savailable_clocksource", dir);

    doctor_read(d, current, now, sizeof(now));
    doctor_read(d, available, all, sizeof(all));
    if (!strcmp(now, "tsc"))
        doctor_say(d, "host clock", DOCTOR_OK, NULL, "tsc, stable");
    else if (strstr(all, "tsc"))
        doctor_say(
            d, "host clock", DOCTOR_WARN,
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
            "%s: use the tsc so that guests' clocks agree across views", now);
    else
        doctor_say(d, "host clock", DOCTOR_WARN, "boot this host with tsc=reliable",
                   "%s, and the tsc is not trusted: guests' clocks may differ across views",
                   now);
    free(current);
    free(available);
}

/* Kernel samepage merging: nothing to us. */
static void check_ksm(struct doctor *d)
{
    char v[16] = "0";

    doctor_read(d, "/sys/kernel/mm/ksm/run", v, sizeof(v));
    doctor_say(d, "KSM", DOCTOR_OK, NULL, "%s; it never touches guest memory, which is shared",
               v[0] == '1' ? "running" : "off");
}

void doctor_host(struct doctor *d)
{
    check_nodes(d);
    check_balancing(d);
    check_thp(d);
    check_hugetlb(d);
    check_uring(d);
    check_tun(d);
    check_limits(d);
    check_clock(d);
    check_ksm(d);
}
