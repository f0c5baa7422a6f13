/* SPDX-License-Identifier: MIT */
/*
 * Tests of the virtual subnet's switch: who gets a frame and who does not, guests that lie, are
 * slow, die or are many, and threads that come and go.  Whether a port got nothing is known for
 * certain: a marker sent afterwards by the same sender comes next.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/leaks.h"
#include "vmm/monitor/switch.h"

enum { HDR = 12, BIG = 65612, MIN = HDR + 14, NPORTS = 64, THREADS = 6, FRAMES = 3000 };

/* A switch and ports on it. */
struct fixture {
    struct vswitch *sw; /* the switch */
    int fd[NPORTS];     /* guests' ends, -1: none */
    int num[NPORTS];    /* port numbers */
    int fds;            /* descriptors open before */
    uint8_t buf[BIG + 1], got[BIG + 1];
};

static void plug(struct fixture *f, unsigned i)
{
    f->num[i] = vswitch_port(f->sw, "guest", &f->fd[i], NULL);
    assert_true(f->num[i] >= 0);
}

static void unplug(struct fixture *f, unsigned i)
{
    close(f->fd[i]);
    f->fd[i] = -1;
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    f->fds = open_fds();
    f->sw = vswitch_new(NULL);
    assert_non_null(f->sw);
    for (unsigned i = 0; i < NPORTS; i++)
        f->fd[i] = -1;
    for (unsigned i = 0; i < 4; i++)
        plug(f, i);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    vswitch_free(f->sw);
    for (unsigned i = 0; i < NPORTS; i++)
        if (f->fd[i] >= 0)
            close(f->fd[i]);
    assert_int_equal(open_fds(), f->fds);
    test_free(f);
    return 0;
}

/* The address of station i; 255: all of them. */
static void address(uint8_t *mac, unsigned i)
{
    memcpy(mac, "\x52\x54\0\0", 4);
    mac[4] = (uint8_t)(i >> 8);
    mac[5] = (uint8_t)i;
    if (i == 255)
        memset(mac, 255, 6);
}

/* Makes a frame. */
static void make(uint8_t *p, unsigned to, unsigned from, size_t len, uint8_t tag)
{
    memset(p, tag, len);
    address(p + HDR, to);
    address(p + HDR + 6, from);
}

/* Port i sends a frame that says it is from a station. */
static void say(struct fixture *f, unsigned i, unsigned to, unsigned from, uint8_t tag)
{
    make(f->buf, to, from, 100, tag);
    assert_int_equal(send(f->fd[i], f->buf, 100, 0), 100);
}

/* Waits for port i's next frame: its length, into f->got; 0: end of file; -1: nothing comes. */
static ssize_t hear(struct fixture *f, unsigned i)
{
    struct pollfd p = {.fd = f->fd[i], .events = POLLIN};

    if (poll(&p, 1, 5000) != 1)
        return -1;
    return recv(f->fd[i], f->got, sizeof(f->got), MSG_DONTWAIT);
}

/* The next frame of port i carries this tag. */
static void hears(struct fixture *f, unsigned i, uint8_t tag)
{
    assert_int_equal(hear(f, i), 100);
    assert_int_equal(f->got[HDR + 12], tag);
}

/* Port `from`, station `from`, sends a marker to all; ports in mask hear it next. */
static void marker(struct fixture *f, unsigned from, unsigned mask)
{
    say(f, from, 255, from, 0xee);
    for (unsigned i = 0; i < 4; i++)
        if (mask >> i & 1)
            hears(f, i, 0xee);
}

static struct vswitch_stats stats(struct fixture *f, unsigned i)
{
    struct vswitch_stats s;

    vswitch_get(f->sw, f->num[i], &s);
    return s;
}

static void learns_and_floods(void **state)
{
    struct fixture *f = *state;

    say(f, 0, 1, 0, 1); /* unknown: to all others */
    for (unsigned i = 1; i < 4; i++)
        hears(f, i, 1);
    say(f, 1, 0, 1, 2); /* known: to it only */
    hears(f, 0, 2);
    marker(f, 1, 0xd);
    say(f, 0, 1, 0, 3);
    hears(f, 1, 3);
    marker(f, 0, 0xe);
    say(f, 0, 0, 0, 4); /* to itself: to nobody */
    marker(f, 0, 0xe);
    assert_int_equal(stats(f, 0).frames_out, 5);
    assert_int_equal(stats(f, 0).bytes_out, 5 * 88);
    assert_int_equal(stats(f, 0).frames_in, 2);
    assert_int_equal(stats(f, 0).bytes_in, 2 * 88);
    assert_int_equal(stats(f, 0).dropped, 0);
}

/* The header travels with the frame, and the largest frame passes whole. */
static void large_frames(void **state)
{
    struct fixture *f = *state;

    marker(f, 1, 0xd);
    make(f->buf, 1, 0, BIG, 7);
    for (unsigned i = 0; i < HDR; i++)
        f->buf[i] = (uint8_t)i;
    assert_int_equal(send(f->fd[0], f->buf, BIG, 0), BIG);
    assert_int_equal(hear(f, 1), BIG);
    assert_memory_equal(f->got, f->buf, BIG);
    marker(f, 0, 0xe);
}

static void refuses_malformed(void **state)
{
    struct fixture *f = *state;

    make(f->buf, 255, 0, BIG + 1, 1);
    assert_int_equal(send(f->fd[0], f->buf, 1, 0), 1);
    assert_int_equal(send(f->fd[0], f->buf, HDR, 0), HDR);
    assert_int_equal(send(f->fd[0], f->buf, MIN - 1, 0), MIN - 1);
    assert_int_equal(send(f->fd[0], f->buf, BIG + 1, 0), BIG + 1);
    say(f, 0, 1, 255, 1); /* from a group */
    marker(f, 0, 0xe);
    assert_int_equal(stats(f, 0).refused, 5);
    assert_int_equal(stats(f, 0).frames_out, 1);
    assert_int_equal(send(f->fd[0], f->buf, MIN, 0), MIN);
    for (unsigned i = 1; i < 4; i++)
        assert_int_equal(hear(f, i), MIN);
}

/* The first to show an address keeps it. */
static void refuses_spoofs(void **state)
{
    struct fixture *f = *state;

    marker(f, 0, 0xe);
    say(f, 1, 2, 0, 9);
    say(f, 1, 255, 0, 9);
    marker(f, 1, 0xd);
    assert_int_equal(stats(f, 1).refused, 2);
    say(f, 2, 0, 2, 5);
    hears(f, 0, 5); /* still there */
    /* When its port goes the address is free. */
    unplug(f, 0);
    while (stats(f, 0).frames_out) /* until the switch has seen it */
        usleep(1000);
    say(f, 1, 255, 0, 6);
    hears(f, 2, 6);
    hears(f, 3, 6);
}

/* Addresses given by configuration. */
static void owned_addresses(void **state)
{
    struct fixture *f = *state;
    uint8_t mac[6];

    address(mac, 20);
    assert_int_equal(vswitch_own(f->sw, f->num[0], mac), 0);
    assert_int_equal(vswitch_own(f->sw, f->num[0], mac), 0);
    assert_int_equal(vswitch_own(f->sw, f->num[1], mac), -EEXIST);
    assert_int_equal(vswitch_own(f->sw, 4095, mac), -ENOENT);
    assert_int_equal(vswitch_own(f->sw, -1, mac), -ENOENT);
    assert_int_equal(vswitch_own(f->sw, 1 << 20, mac), -ENOENT);
    address(mac, 255);
    assert_int_equal(vswitch_own(f->sw, f->num[0], mac), -EINVAL);
    say(f, 1, 255, 20, 1); /* before its owner said anything */
    marker(f, 1, 0xd);
    say(f, 1, 20, 1, 2);
    hears(f, 0, 2);
    marker(f, 1, 0xd);
    /* One that showed it first loses it. */
    say(f, 1, 255, 21, 3);
    for (unsigned i = 0; i < 4; i++)
        if (i != 1)
            hears(f, i, 3);
    address(mac, 21);
    assert_int_equal(vswitch_own(f->sw, f->num[2], mac), 0);
    say(f, 1, 255, 21, 4);
    marker(f, 1, 0xd);
    say(f, 3, 21, 3, 5);
    hears(f, 2, 5);
    assert_int_equal(stats(f, 1).refused, 2);
}

/* A guest that makes addresses up fills its own share only. */
static void many_addresses(void **state)
{
    struct fixture *f = *state;
    unsigned known = 0;

    for (unsigned i = 0; i < 300; i++) {
        say(f, 0, 255, 1000 + i, 1);
        for (unsigned k = 1; k < 4; k++)
            hears(f, k, 1);
    }
    marker(f, 1, 0xd);
    for (unsigned i = 0; i < 300; i++) {
        say(f, 1, 1000 + i, 1, 2);
        hears(f, 0, 2);
        marker(f, 1, 1); /* after this the switch is done with the frame */
        for (unsigned k = 2; k < 4; k++) {
            assert_int_equal(hear(f, k), 100);
            if (f->got[HDR + 12] == 2) {
                hears(f, k, 0xee);
                continue;
            }
            assert_int_equal(f->got[HDR + 12], 0xee);
            known += k == 2;
        }
    }
    assert_in_range(known, 48, 64);
}

/* A guest that reads nothing loses its own frames, and only those. */
static void slow_port(void **state)
{
    struct fixture *f = *state;
    unsigned heard = 0;

    for (unsigned i = 0; i < 3; i++)
        marker(f, i, 0xf & ~(1u << i));
    for (unsigned i = 0; i < 2000; i++) {
        make(f->buf, 2, 0, BIG, (uint8_t)i);
        if (send(f->fd[0], f->buf, BIG, 0) != BIG)
            usleep(100);
        if (i % 100)
            continue;
        say(f, 3, 1, 3, 77);
        hears(f, 1, 77);
    }
    while (send(f->fd[0], f->buf, MIN, 0) != MIN)
        usleep(100);
    marker(f, 3, 3);
    assert_true(stats(f, 2).dropped > 0);
    assert_int_equal(stats(f, 1).dropped + stats(f, 0).dropped + stats(f, 3).dropped, 0);
    while (recv(f->fd[2], f->got, BIG, MSG_DONTWAIT) > 0)
        heard++;
    assert_true(heard > 0);
}

/* A guest that dies: what it said last is heard, its address is forgotten, its number free. */
static void ports_close(void **state)
{
    struct fixture *f = *state;

    for (unsigned round = 0; round < 20; round++) {
        int was = f->num[1];

        marker(f, 0, 0xe);
        say(f, 0, 255, 0, 1); /* which port 1 never reads */
        hears(f, 2, 1);
        say(f, 1, 0, 1, 2);
        say(f, 1, 0, 1, 3);
        unplug(f, 1);
        hears(f, 0, 2);
        hears(f, 0, 3);
        hears(f, 3, 1);
        while (stats(f, 1).frames_out)
            usleep(100);
        say(f, 0, 1, 0, 4); /* to nobody known */
        hears(f, 2, 4);
        hears(f, 3, 4);
        plug(f, 1);
        assert_int_equal(f->num[1], was);
    }
    assert_int_equal(stats(f, 1).frames_in, 0);
}

/* Many ports, each hears each. */
static void many_ports(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 4; i < NPORTS; i++)
        plug(f, i);
    for (unsigned i = 0; i < NPORTS; i++) {
        say(f, i, 255, i, (uint8_t)i);
        for (unsigned k = 0; k < NPORTS; k++)
            if (k != i)
                hears(f, k, (uint8_t)i);
    }
    for (unsigned i = 0; i < NPORTS; i++) {
        say(f, i, (i + 17) % NPORTS, i, (uint8_t)i);
        hears(f, (i + 17) % NPORTS, (uint8_t)i);
    }
    for (unsigned i = 0; i < NPORTS; i += 3)
        unplug(f, i);
    say(f, 1, 255, 1, 99);
    for (unsigned i = 2; i < NPORTS; i++)
        if (f->fd[i] >= 0)
            hears(f, i, 99);
}

/* One of the threads below. */
struct worker {
    struct fixture *f;    /* the switch */
    unsigned me;          /* port and station */
    atomic_uint *running; /* workers that still send */
    unsigned heard;       /* frames from the partner */
    uint32_t next;        /* least number the next may have */
    bool good;            /* all in order and whole */
};

/* Takes what is there. */
static void listen_to(struct worker *w)
{
    uint8_t in[1500];
    uint32_t got;
    ssize_t n;

    while ((n = recv(w->f->fd[w->me], in, sizeof(in), MSG_DONTWAIT)) > 0) {
        if (n != sizeof(in) || in[HDR + 11] != (w->me ^ 1))
            continue; /* flooded, before addresses were known */
        memcpy(&got, in + HDR + 14, 4);
        w->good = w->good && got >= w->next;
        w->next = got + 1;
        w->heard++;
    }
}

/* Sends FRAMES frames to its partner and hears as many at most, in order. */
static void *talk(void *arg)
{
    struct worker *w = arg;
    struct pollfd p = {.fd = w->f->fd[w->me], .events = POLLIN};
    uint8_t out[1500];

    for (uint32_t sent = 0; sent < FRAMES;) {
        make(out, w->me ^ 1, w->me, sizeof(out), 0);
        memcpy(out + HDR + 14, &sent, 4);
        if (send(p.fd, out, sizeof(out), MSG_DONTWAIT) == sizeof(out))
            sent++;
        listen_to(w);
    }
    atomic_fetch_sub(w->running, 1);
    for (unsigned idle = 0; idle < (w->heard ? 1 : 100) || atomic_load(w->running);) {
        idle = poll(&p, 1, 200) > 0 ? 0 : idle + 1;
        listen_to(w);
    }
    return NULL;
}

/* Ports come and go and figures are read while others talk. */
static void threads(void **state)
{
    struct fixture *f = *state;
    atomic_uint running = THREADS;
    struct worker w[THREADS];
    pthread_t t[THREADS];
    uint8_t mac[6];

    for (unsigned i = 4; i < THREADS; i++)
        plug(f, i);
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.f = f, .me = i, .running = &running, .good = true};
        assert_int_equal(pthread_create(&t[i], NULL, talk, &w[i]), 0);
    }
    for (unsigned i = 0; atomic_load(&running); i++) {
        plug(f, 40);
        address(mac, 40);
        (void)vswitch_own(f->sw, f->num[40], mac);
        say(f, 40, 255, 40, 1);
        (void)stats(f, i % THREADS);
        unplug(f, 40);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        assert_true(w[i].good);
        assert_true(w[i].heard > 0 && w[i].heard <= FRAMES);
    }
}

/* The switch ends while guests are connected and talk. */
static void ends_busy(void **state)
{
    struct fixture *f = *state;

    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 50; i++)
            say(f, i % 4, 255, i % 4, 1);
        vswitch_free(f->sw);
        for (unsigned i = 0; i < 4; i++) {
            ssize_t n;

            while ((n = hear(f, i)) > 0 || (n < 0 && errno == ECONNRESET))
                errno = 0;
            assert_int_equal(n, 0);
            unplug(f, i);
        }
        assert_int_equal(open_fds(), f->fds);
        f->sw = vswitch_new(NULL);
        for (unsigned i = 0; i < 4; i++)
            plug(f, i);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(learns_and_floods), T(large_frames),   T(refuses_malformed), T(refuses_spoofs),
        T(owned_addresses),   T(many_addresses), T(slow_port),         T(ports_close),
        T(many_ports),        T(threads),        T(ends_busy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
