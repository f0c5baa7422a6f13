/* SPDX-License-Identifier: MIT */
/*
 * Tests of tap devices; those that make one need root and /dev/net/tun and are skipped, saying
 * why, where these are missing.
 */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "vmm/device/net.h"

#include <cmocka.h>

/* Makes a tap device of this process's own name, or skips the test. */
static int make(char *name, size_t size)
{
    struct err err = {0};
    int fd;

    snprintf(name, size, "disco-t%u", (unsigned)getpid() % 1000000);
    fd = tap_open(name, &err);
    if (fd < 0 && (err.status == EXIT_PERMISSION || fd == -ENOENT || fd == -ENODEV)) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    if (fd < 0)
        fail_msg("%s", err.text);
    return fd;
}

static void name_too_long(void **state)
{
    struct err err = {0};
    int r = tap_open("a-name-of-sixteen", &err);

    (void)state;
    if (err.status != EXIT_CONFIG) {
        print_message("skipped: %s\n", err.text);
        skip();
    }
    assert_int_equal(r, -ENAMETOOLONG);
    assert_non_null(strstr(err.text, "15"));
}

/* A second device of the name is refused with what to do; the name is free after the end. */
static void exists_already(void **state)
{
    struct err err = {0};
    char name[IFNAMSIZ];
    int fd = make(name, sizeof(name));

    (void)state;
    assert_true(if_nametoindex(name) > 0);
    assert_int_equal(tap_open(name, &err), -EBUSY);
    assert_int_equal(err.status, EXIT_RESOURCE);
    assert_non_null(strstr(err.text, name));
    assert_non_null(strstr(err.text, "exists already"));
    memset(&err, 0, sizeof(err));
    assert_int_equal(tap_open("lo", &err), -EBUSY);
    assert_non_null(strstr(err.text, "exists already"));
    close(fd);
    assert_int_equal(if_nametoindex(name), 0);
}

static void ready(void *arg)
{
    ++*(unsigned *)arg;
}

/* Frames with their header are taken; the host's own (it announces itself) have one. */
static void carries_frames(void **state)
{
    uint8_t frame[12 + 60] = {0};
    struct iovec iov = {frame, sizeof(frame)};
    struct net_backend *be;
    struct evloop io;
    char name[IFNAMSIZ];
    unsigned calls = 0;

    (void)state;
    be = net_tap_new(make(name, sizeof(name)));
    assert_true(be->ops->offload);
    assert_int_equal(evloop_init(&io, NULL), 0);
    assert_int_equal(be->ops->start(be, &io, ready, &calls), 0);
    memset(frame + 12, 0xff, 6);
    frame[18] = 2;
    frame[24] = 0x88;
    frame[25] = 0xb5; /* for experiments */
    assert_int_equal(be->ops->send(be, &iov, 1), 0);
    for (int i = 0; i < 20 && !calls; i++)
        evloop_once(&io, 100);
    if (calls)
        assert_true(be->ops->recv(be, &iov, 1) >= 12 + 14);
    be->ops->free(be);
    evloop_exit(&io);
    assert_int_equal(if_nametoindex(name), 0);
}

/* Takes an interface down. */
static void take_down(const char *name)
{
    struct ifreq ifr = {.ifr_flags = 0};
    int sock = socket(AF_INET, SOCK_DGRAM, 0);

    strcpy(ifr.ifr_name, name);
    assert_int_equal(ioctl(sock, SIOCSIFFLAGS, &ifr), 0);
    close(sock);
}

/* ip link del NAME. */
static void delete (const char *name)
{
    struct {
        struct nlmsghdr h;
        struct ifinfomsg i;
    } m = {
        .h = {.nlmsg_len = sizeof(m), .nlmsg_type = RTM_DELLINK, .nlmsg_flags = NLM_F_REQUEST},
        .i = {.ifi_index = (int)if_nametoindex(name)},
    };
    int sock = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

    assert_int_equal(send(sock, &m, sizeof(m), 0), sizeof(m));
    close(sock);
    assert_int_equal(if_nametoindex(name), 0);
}

/* The device is taken down, then deleted under the card: frames are dropped, the card never
 * waits for room, and the loop does not spin. */
static void vanishes(void **state)
{
    uint8_t frame[12 + 60] = {0};
    struct iovec iov = {frame, sizeof(frame)};
    struct net_backend *be;
    struct evloop io;
    char name[IFNAMSIZ];
    unsigned calls = 0;

    (void)state;
    be = net_tap_new(make(name, sizeof(name)));
    assert_int_equal(evloop_init(&io, NULL), 0);
    assert_int_equal(be->ops->start(be, &io, ready, &calls), 0);
    take_down(name);
    assert_int_equal(be->ops->send(be, &iov, 1), 0);
    delete (name);
    for (int i = 0; i < 100; i++)
        evloop_once(&io, 0);
    assert_in_range(calls, 1, 2);
    be->ops->want(be, true, true);
    evloop_once(&io, 0);
    assert_in_range(calls, 1, 2);
    assert_int_equal(be->ops->send(be, &iov, 1), 0);
    assert_int_equal(be->ops->recv(be, &iov, 1), 0);
    be->ops->free(be);
    evloop_exit(&io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(name_too_long),
        cmocka_unit_test(exists_already),
        cmocka_unit_test(carries_frames),
        cmocka_unit_test(vanishes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
