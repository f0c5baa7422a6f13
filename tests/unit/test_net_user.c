/* SPDX-License-Identifier: MIT */
/*
 * Tests of user-mode networking with the real libslirp, without a packet leaving this machine:
 * DHCP, ARP, a forwarded connection on loopback, hostile frames, threads and descriptors.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "tests/leaks.h"
#include "tests/unit/tcpframe.h"
#include "vmm/device/net.h"

#include <cmocka.h>

static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 7};

/* A backend in a loop. */
struct fixture {
    struct evloop io;       /* the loop */
    struct net_backend *be; /* the backend */
    unsigned calls;         /* of ready */
    uint8_t got[65536];     /* last frame */
};

static void ready(void *arg)
{
    ((struct fixture *)arg)->calls++;
}

static void begin(struct fixture *f, const char *hostfwd)
{
    struct err err = {0};

    assert_int_equal(evloop_init(&f->io, NULL), 0);
    f->be = net_user_new(hostfwd, &err);
    if (!f->be)
        fail_msg("%s", err.text);
    assert_false(f->be->ops->offload);
    assert_int_equal(f->be->ops->start(f->be, &f->io, ready, f), 0);
}

static void end(struct fixture *f)
{
    f->be->ops->free(f->be);
    evloop_exit(&f->io);
}

static void put(struct fixture *f, const void *frame, size_t len)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)frame, len / 2},
                           {(uint8_t *)(uintptr_t)frame + len / 2, len - len / 2}};

    assert_int_equal(f->be->ops->send(f->be, iov, 2), 0);
}

/* Waits for the next frame; 0: none comes. */
static size_t get(struct fixture *f)
{
    struct iovec iov = {f->got, sizeof(f->got)};

    for (int i = 0; i < 50; i++) {
        ssize_t n;

        evloop_once(&f->io, 100);
        n = f->be->ops->recv(f->be, &iov, 1);
        if (n > 0)
            return (size_t)n;
    }
    return 0;
}

/* Ethernet from us. */
static void eth(uint8_t *p, unsigned type)
{
    memset(p, 0xff, 6);
    memcpy(p + 6, mac, 6);
    tf_put(p + 12, 2, type);
}

/* An ARP packet of ours: op 1 asks, 2 answers. */
static void arp(uint8_t *p, unsigned op, uint32_t whom)
{
    memset(p, 0, 60);
    eth(p, 0x0806);
    memcpy(p + 14, "\0\1\x08\0\6\4", 6);
    tf_put(p + 20, 2, op);
    memcpy(p + 22, mac, 6);
    tf_put(p + 28, 4, 0x0a00020f);
    tf_put(p + 38, 4, whom);
}

/* A DHCP DISCOVER; its length. */
static size_t discover(uint8_t *p)
{
    size_t len = 14 + 20 + 8 + 300;

    memset(p, 0, len);
    eth(p, 0x0800);
    p[14] = 0x45;
    tf_put(p + 16, 2, len - 14);
    p[22] = 64;
    p[23] = 17;
    memset(p + 30, 0xff, 4);
    tf_put(p + 24, 2, (uint16_t)~tf_sum(0, p + 14, 20));
    tf_put(p + 34, 2, 68);
    tf_put(p + 36, 2, 67);
    tf_put(p + 38, 2, len - 34);
    p[42] = p[43] = 1;
    p[44] = 6;
    tf_put(p + 46, 4, 0x1badcafe);
    memcpy(p + 70, mac, 6);
    tf_put(p + 278, 4, 0x63825363);
    memcpy(p + 282, "\x35\1\1\xff", 4);
    return len;
}

static void offers_an_address(void **state)
{
    struct fixture f = {0};
    uint8_t p[400];
    size_t n;

    (void)state;
    begin(&f, NULL);
    put(&f, p, discover(p));
    n = get(&f);
    assert_in_range(n, 290, 600);
    assert_int_equal(tf_get(f.got + 12, 2), 0x0800);
    assert_int_equal(f.got[23], 17);
    assert_int_equal(tf_sum(0, f.got + 14, 20), 0xffff);
    assert_int_equal(tf_get(f.got + 34, 4), 67 << 16 | 68);
    assert_int_equal(f.got[42], 2);
    assert_int_equal(tf_get(f.got + 46, 4), 0x1badcafe);
    assert_int_equal(tf_get(f.got + 58, 4), 0x0a00020f); /* 10.0.2.15 */
    assert_memory_equal(f.got + 282, "\x35\1\2", 3);     /* OFFER */
    assert_true(f.calls > 0);
    end(&f);
}

static void answers_arp(void **state)
{
    struct fixture f = {0};
    uint8_t p[60];

    (void)state;
    begin(&f, "");
    arp(p, 1, 0x0a000202);
    put(&f, p, sizeof(p));
    assert_in_range(get(&f), 42, 64);
    assert_int_equal(tf_get(f.got + 12, 2), 0x0806);
    assert_int_equal(tf_get(f.got + 20, 2), 2);
    assert_int_equal(tf_get(f.got + 28, 4), 0x0a000202);
    assert_memory_equal(f.got + 32, mac, 6);
    end(&f);
}

/* Nothing a guest sends ends it or stops it. */
static void survives_junk(void **state)
{
    static uint8_t junk[65600];
    struct fixture f = {0};
    uint64_t s = 88172645463325252ull;
    uint8_t p[400];
    unsigned answers = 0;

    (void)state;
    begin(&f, NULL);
    for (unsigned i = 0; i < 2000; i++) {
        size_t len = 14 + i % 1500;

        for (size_t k = 0; k < len; k++) {
            s ^= s << 13, s ^= s >> 7, s ^= s << 17;
            junk[k] = (uint8_t)(s >> 24);
        }
        eth(junk, i % 3 ? 0x0806 : 0x86dd); /* nothing that could reach a network */
        struct iovec iov = {junk, len};
        (void)f.be->ops->send(f.be, &iov, 1);
        if (i % 50 == 0)
            evloop_once(&f.io, 0);
    }
    eth(junk, 0x0806);
    for (int tries = 0; tries < 5000; tries++) {
        struct iovec iov = {junk, sizeof(junk)};

        if (!f.be->ops->send(f.be, &iov, 1)) /* larger than it takes */
            break;
        usleep(1000);
    }
    put(&f, p, discover(p));
    for (unsigned i = 0; i < 5000 && !answers && get(&f); i++)
        answers += f.got[42] == 2 && tf_get(f.got + 46, 4) == 0x1badcafe;
    assert_int_equal(answers, 1);
    end(&f);
}

/* A port of loopback that is free now. */
static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int s = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(s, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&a, &len), 0);
    close(s);
    return ntohs(a.sin_port);
}

/* A connection to the host's port becomes a SYN to the guest's. */
static void forwards(void **state)
{
    static const char *const forms[] = {"tcp:127.0.0.1:%d-:22,udp:127.0.0.1:%d-:53",
                                        "tcp:127.0.0.1:%d-10.0.2.15:22"};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        int port = free_port(), s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons((uint16_t)port)};
        struct fixture f = {0};
        char fwd[64];
        uint8_t p[60];
        bool syn = false;

        snprintf(fwd, sizeof(fwd), i ? forms[1] : forms[0], port, port);
        begin(&f, fwd);
        arp(p, 1, 0x0a000202); /* so that our address is known */
        put(&f, p, sizeof(p));
        (void)connect(s, (struct sockaddr *)&a, sizeof(a));
        for (unsigned k = 0; k < 20 && !syn && get(&f); k++)
            syn = f.got[12] == 8 && f.got[13] == 0 && f.got[23] == 6 && f.got[47] == 2 &&
                  tf_get(f.got + 36, 2) == 22 && tf_get(f.got + 30, 4) == 0x0a00020f;
        assert_true(syn);
        close(s);
        end(&f);
    }
}

static void bad_forwards(void **state)
{
    static const char *const bad[] = {
        "tcp",          "sctp::1-:2",       "tcp:127.0.0.1:0-:22", "tcp::70000-:22",
        "tcp::22-:x",   "tcp:1.2.3:22-:22", "tcp::22-1.2.3:22",    "tcp::22",
        "tcp::22-:22x", "udp:::-:",         "tcp::1-:2:3",
    };
    struct err err;
    int before = open_fds();

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(&err, 0, sizeof(err));
        assert_null(net_user_new(bad[i], &err));
        assert_int_equal(err.status, EXIT_CONFIG);
        assert_non_null(strstr(err.text, bad[i]));
    }
    assert_int_equal(open_fds(), before);
}

/* A port that another holds: said so, and nothing stays behind. */
static void taken_port(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int s = socket(AF_INET, SOCK_STREAM, 0), fds;
    socklen_t len = sizeof(a);
    struct err err = {0};
    char fwd[64];

    (void)state;
    assert_int_equal(bind(s, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(s, 1), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&a, &len), 0);
    snprintf(fwd, sizeof(fwd), "tcp:127.0.0.1:%d-:22", ntohs(a.sin_port));
    fds = open_fds();
    assert_null(net_user_new(fwd, &err));
    assert_int_equal(err.status, EXIT_RESOURCE);
    assert_non_null(strstr(err.text, fwd));
    assert_int_equal(open_fds(), fds);
    close(s);
}

/* Threads and descriptors end with the backend, started or not, with traffic waiting or not. */
static void leaves_nothing(void **state)
{
    int fds, tasks;
    struct fixture f = {0};
    uint8_t p[400];

    (void)state;
    begin(&f, NULL); /* what the libraries keep for good */
    end(&f);
    fds = open_fds();
    tasks = open_tasks();
    for (unsigned i = 0; i < 30; i++) {
        begin(&f, NULL);
        for (unsigned k = 0; k < i; k++)
            put(&f, p, discover(p));
        end(&f);
        f.be = net_user_new(NULL, NULL);
        assert_non_null(f.be);
        assert_int_equal(open_tasks(), tasks + 1);
        f.be->ops->free(f.be);
    }
    assert_int_equal(open_fds(), fds);
    assert_int_equal(open_tasks(), tasks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offers_an_address), cmocka_unit_test(answers_arp),
        cmocka_unit_test(survives_junk),     cmocka_unit_test(forwards),
        cmocka_unit_test(bad_forwards),      cmocka_unit_test(taken_port),
        cmocka_unit_test(leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
