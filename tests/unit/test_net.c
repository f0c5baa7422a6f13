/* SPDX-License-Identifier: MIT */
/*
 * Tests of the network card over the real subnet backend: the test is the guest's driver
 * (vdriver.h) on one side and the switch on the other end of the socket pair.
 */
#include "tests/leaks.h"
#include "tests/unit/vdriver.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/tcpframe.h"
#include "vmm/device/devices.h"
#include "vmm/device/net.h"
#include "vmm/machine/irq.h"

#define VERSION_1 (1ull << 32)
#define EVENT_IDX (1ull << 29)
#define F(name)   (1ull << VIRTIO_NET_F_##name)
#define TSO       (F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6))

enum { RXQ, TXQ, QSIZE = 256, HDR = 12, BIG = 65612, STRIDE = 0x800 };

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic, (void)addr, (void)data;
}

/* A machine with one card in slot 1. */
struct fixture {
    struct vd_machine m;     /* the machine */
    struct virtio_dev *card; /* the device */
    struct vd v;             /* its driver */
    int peer;                /* the other end, -1: closed */
    int fds;                 /* open before */
    uint8_t buf[BIG + 64];   /* a frame */
    uint8_t want[BIG + 64];  /* another */
};

static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 2};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    int pair[2], size = 1 << 20;

    f->fds = open_fds();
    vd_machine_init(&f->m);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    f->peer = pair[1];
    assert_int_equal(
        net_new(&f->card, &f->m.host, f->m.pci, 0, mac, net_subnet_new(pair[0]), NULL), 0);
    vd_find(&f->v, &f->m, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    virtio_dev_free(f->card);
    vd_machine_exit(&f->m);
    if (f->peer >= 0)
        close(f->peer);
    assert_int_equal(open_fds(), f->fds);
    test_free(f);
    return 0;
}

/* ---- helpers ---- */

/* Nothing is left to do for io0: it would sleep, not spin. */
static void assert_quiet(struct fixture *f)
{
    struct epoll_event ev;

    vd_io(&f->m);
    assert_int_equal(epoll_wait(f->m.io.epfd, &ev, 1, 0), 0);
}

static struct dev_stats stats(struct fixture *f)
{
    struct dev_stats s;

    virtio_dev_stats(f->card, &s);
    return s;
}

/* The gpa of buffer i. */
static uint64_t buffer(unsigned i)
{
    return VD_BUF + i * (uint64_t)STRIDE;
}

/* Posts receive buffer i of len bytes, without a kick. */
static void post(struct fixture *f, unsigned i, uint32_t len)
{
    memset(vd_mem(&f->m, buffer(i)), 0xcc, len);
    vd_desc(&f->m, vd_rings(RXQ), i, buffer(i), len, VD_WRITE, 0);
    vd_avail(&f->v, RXQ, (uint16_t)i);
}

/* Puts n bytes of payload after a zero header into f->buf; returns the message's length. */
static size_t plain(struct fixture *f, size_t n, unsigned tag)
{
    memset(f->buf, 0, HDR);
    for (size_t i = 0; i < n; i++)
        f->buf[HDR + i] = tf_byte(i + tag);
    return HDR + n;
}

/* The peer sends the first len bytes of f->buf, and io0 works. */
static void arrive(struct fixture *f, size_t len)
{
    assert_int_equal(send(f->peer, f->buf, len, 0), len);
    vd_io(&f->m);
}

/* A header in f->buf. */
static struct virtio_net_hdr_v1 *header(struct fixture *f)
{
    return (struct virtio_net_hdr_v1 *)f->buf;
}

/* Takes one received frame, header first, into f->want; its length, 0: none. */
static size_t received(struct fixture *f, unsigned *bufs)
{
    struct virtio_net_hdr_v1 h;
    size_t len = 0;
    uint32_t part;
    int head = vd_used(&f->v, RXQ, &part);

    *bufs = 0;
    if (head < 0)
        return 0;
    /* The first buffer may be shorter than the header. */
    for (unsigned n = 1; head >= 0; head = vd_used(&f->v, RXQ, &part)) {
        memcpy(f->want + len, vd_mem(&f->m, buffer((unsigned)head)), part);
        len += part;
        ++*bufs;
        if (len >= HDR) {
            memcpy(&h, f->want, HDR);
            n = h.num_buffers;
        }
        if (*bufs == n)
            return len;
    }
    fail_msg("fewer buffers than num_buffers says");
    return 0;
}

/* ---- tests ---- */

static void config(void **state)
{
    struct fixture *f = *state;
    uint64_t feat = vd_features(&f->v);

    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(vd_read(&f->m, f->v.config + i, 1), mac[i]);
    assert_int_equal(vd_read(&f->m, f->v.config + 6, 2), VIRTIO_NET_S_LINK_UP);
    assert_int_equal(feat & 0xffffff, F(MAC) | F(STATUS) | F(MRG_RXBUF) | F(CSUM) | TSO |
                                          F(HOST_TSO4) | F(HOST_TSO6));
}

/* One frame in three odd pieces; then one in a single buffer. */
static void sends(void **state)
{
    struct fixture *f = *state;
    size_t len = plain(f, 300, 1);

    vd_start(&f->v, VERSION_1 | EVENT_IDX | F(CSUM), 2, QSIZE);
    memcpy(vd_mem(&f->m, VD_BUF), f->buf, len);
    vd_desc(&f->m, vd_rings(TXQ), 0, VD_BUF, 5, VD_NEXT, 7);
    vd_desc(&f->m, vd_rings(TXQ), 7, VD_BUF + 5, 8, VD_NEXT, 3);
    vd_desc(&f->m, vd_rings(TXQ), 3, VD_BUF + 13, (uint32_t)len - 13, 0, 0);
    vd_avail(&f->v, TXQ, 0);
    vd_kick(&f->v, TXQ);
    assert_int_equal(vd_used(&f->v, TXQ, NULL), 0);
    assert_int_equal(recv(f->peer, f->want, BIG, 0), len);
    assert_memory_equal(f->want, f->buf, len);
    assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, (uint32_t)len, false), 0);
    assert_int_equal(recv(f->peer, f->want, BIG, 0), len);
    assert_int_equal(stats(f).bytes_out, 600);
    assert_int_equal(stats(f).requests, 2);
    assert_quiet(f);
}

/* Runts and giants are given back and go nowhere. */
static void refuses_sizes(void **state)
{
    struct fixture *f = *state;

    vd_start(&f->v, VERSION_1, 2, QSIZE);
    assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, 1, false), 0);
    assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, HDR, false), 0);
    assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, HDR + 13, false), 0);
    assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, BIG + 1, false), 0);
    assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, 1 << 20, false), 0);
    assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, 64, true), 0); /* nothing to read */
    assert_int_equal(recv(f->peer, f->want, BIG, 0), -1);
    assert_int_equal(stats(f).errors, 6);
    assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, HDR + 14, false), 0);
    assert_int_equal(recv(f->peer, f->want, BIG, 0), HDR + 14);
    assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, BIG, false), 0);
    assert_int_equal(recv(f->peer, f->want, BIG, 0), BIG);
}

static void receives_one(void **state)
{
    struct fixture *f = *state;
    unsigned bufs;
    size_t len;

    vd_start(&f->v, VERSION_1, 2, QSIZE);
    post(f, 0, 2000);
    post(f, 1, 100);
    vd_kick(&f->v, RXQ);
    len = plain(f, 1514, 3);
    arrive(f, len);
    assert_int_equal(received(f, &bufs), len);
    assert_int_equal(bufs, 1);
    assert_int_equal(f->want[10] | f->want[11], 1);
    assert_memory_equal(f->want + HDR, f->buf + HDR, len - HDR);
    /* The next buffer is too small for one, large enough for another. */
    arrive(f, plain(f, 89, 3));
    assert_int_equal(received(f, &bufs), 0);
    arrive(f, plain(f, 88, 3));
    assert_int_equal(received(f, &bufs), 100);
    assert_int_equal(stats(f).errors, 1);
    assert_int_equal(stats(f).bytes_in, 1514 + 88);
}

/* Frames that are no frames. */
static void receives_junk(void **state)
{
    struct fixture *f = *state;
    unsigned bufs;

    vd_start(&f->v, VERSION_1 | F(MRG_RXBUF), 2, QSIZE);
    for (unsigned i = 0; i < 40; i++)
        post(f, i, 2000);
    arrive(f, 1);
    arrive(f, HDR);
    arrive(f, HDR + 13);
    arrive(f, BIG + 1);
    assert_int_equal(stats(f).errors, 4);
    assert_int_equal(received(f, &bufs), 0);
    arrive(f, HDR + 14);
    assert_int_equal(received(f, &bufs), HDR + 14);
    arrive(f, BIG);
    assert_int_equal(received(f, &bufs), BIG);
    assert_int_equal(bufs, 33);
    assert_quiet(f);
}

/* Buffers of odd sizes are merged, each filled to its end. */
static void merges(void **state)
{
    static const uint32_t size[] = {12, 1, 13, 700, 64, 3, 999, 2000};
    struct fixture *f = *state;
    size_t len = plain(f, 1514, 9);
    unsigned bufs;

    vd_start(&f->v, VERSION_1 | F(MRG_RXBUF), 2, QSIZE);
    for (unsigned i = 0; i < 8; i++)
        post(f, i, size[i]);
    arrive(f, len);
    assert_int_equal(received(f, &bufs), len);
    assert_int_equal(bufs, 7);
    assert_memory_equal(f->want + HDR, f->buf + HDR, len - HDR);
    arrive(f, plain(f, 14, 0));
    assert_int_equal(received(f, &bufs), HDR + 14);
    assert_int_equal(bufs, 1);
}

/* The index at which the driver has to kick. */
static uint16_t kick_event(struct fixture *f)
{
    uint16_t e;

    memcpy(&e, vd_mem(&f->m, vd_rings(RXQ) + VD_USED + 4 + 8 * QSIZE), 2);
    return e;
}

/* No buffers, then too few of them: frames wait, io0 sleeps, the next kick is asked for. */
static void waits_for_buffers(void **state)
{
    struct fixture *f = *state;
    unsigned bufs;

    for (unsigned event = 0; event < 2; event++) {
        vd_start(&f->v, VERSION_1 | F(MRG_RXBUF) | (event ? EVENT_IDX : 0), 2, QSIZE);
        vd_kick(&f->v, RXQ);
        for (unsigned i = 0; i < 5; i++)
            arrive(f, plain(f, 1000, i));
        assert_quiet(f);
        post(f, 0, 300);
        post(f, 1, 300);
        vd_kick(&f->v, RXQ);
        assert_int_equal(received(f, &bufs), 0);
        assert_quiet(f);
        if (event)
            assert_int_equal(kick_event(f), 2); /* of the third, not of the first */
        else
            assert_int_equal(*(uint16_t *)vd_mem(&f->m, vd_rings(RXQ) + VD_USED), 0);
        post(f, 2, 2000);
        vd_kick(&f->v, RXQ);
        assert_int_equal(received(f, &bufs), HDR + 1000);
        assert_int_equal(bufs, 3);
        assert_quiet(f);
        for (unsigned i = 3; i < 10; i++)
            post(f, i, 2000);
        vd_kick(&f->v, RXQ);
        for (unsigned i = 1; i < 5; i++) {
            assert_int_equal(received(f, &bufs), HDR + 1000);
            assert_int_equal(f->want[HDR], tf_byte(i));
        }
        assert_int_equal(received(f, &bufs), 0);
        assert_quiet(f);
    }
}

/* A frame larger than the driver need expect does not block those after it. */
static void jumbo_does_not_block(void **state)
{
    struct fixture *f = *state;
    unsigned bufs;

    vd_start(&f->v, VERSION_1 | F(MRG_RXBUF), 2, QSIZE);
    for (unsigned i = 0; i < 4; i++)
        post(f, i, 1600);
    arrive(f, plain(f, 9000, 0));
    arrive(f, plain(f, 700, 5));
    assert_int_equal(received(f, &bufs), HDR + 700);
    assert_int_equal(stats(f).errors, 1);
    arrive(f, plain(f, 4000, 5)); /* for which there are enough */
    assert_int_equal(received(f, &bufs), HDR + 4000);
}

static void bad_headers(void **state)
{
    struct fixture *f = *state;
    unsigned bufs;

    vd_start(&f->v, VERSION_1 | TSO, 2, QSIZE);
    for (unsigned i = 0; i < 8; i++)
        post(f, i, 2000);
    for (unsigned i = 0; i < 6; i++) {
        size_t len = plain(f, 100, 0);
        struct virtio_net_hdr_v1 *h = header(f);

        h->flags = i < 3 ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0;
        h->csum_start = i == 0 ? 100 : i == 1 ? 90 : 65535;
        h->csum_offset = i == 1 ? 9 : 65535;
        h->gso_type = (uint8_t)(i == 3 ? 3 : i == 4 ? 77 : i == 5 ? 1 : 0);
        h->gso_size = 1000;
        arrive(f, len);
        assert_int_equal(stats(f).errors, i + 1);
    }
    assert_int_equal(received(f, &bufs), 0);
    /* What is not ours to pass on is wiped. */
    plain(f, 100, 0);
    header(f)->flags = 0xff;
    header(f)->csum_start = 14;
    header(f)->csum_offset = 84;
    header(f)->gso_size = header(f)->hdr_len = 0xffff;
    header(f)->num_buffers = 0xffff;
    arrive(f, HDR + 100);
    assert_int_equal(received(f, &bufs), HDR + 100);
    assert_memory_equal(f->want, "\3\0\0\0\0\0\x0e\0\x54\0\1\0", HDR);
}

/* A driver that takes no unfinished checksums gets them finished. */
static void finishes_checksum(void **state)
{
    struct fixture *f = *state;
    struct tf t = {.flags = TF_ACK};
    size_t len = tf_make(&t, f->buf + HDR, 777);
    unsigned bufs;

    for (int csum = 0; csum < 2; csum++) {
        vd_start(&f->v, VERSION_1 | (csum ? F(GUEST_CSUM) : 0), 2, QSIZE);
        post(f, 0, 2000);
        memset(f->buf, 0, HDR);
        header(f)->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header(f)->csum_start = (uint16_t)t.l4;
        header(f)->csum_offset = 16;
        arrive(f, HDR + len);
        assert_int_equal(received(f, &bufs), HDR + len);
        assert_int_equal(f->want[0], csum);
        assert_int_equal(tf_good(&t, f->want + HDR, len), !csum);
        if (csum)
            assert_memory_equal(f->want + HDR, f->buf + HDR, len);
    }
}

/* Makes a large TCP frame in f->buf as a guest's driver does; message length. */
static size_t large(struct fixture *f, struct tf *t, size_t n, uint16_t mss)
{
    size_t len = tf_make(t, f->buf + HDR, n);

    *header(f) = (struct virtio_net_hdr_v1){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = t->v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
        .gso_size = mss,
        .csum_start = (uint16_t)t->l4,
        .csum_offset = 16,
    };
    return HDR + len;
}

/* A large frame goes whole to a driver that takes it. */
static void large_whole(void **state)
{
    struct fixture *f = *state;
    unsigned bufs;

    vd_start(&f->v, VERSION_1 | TSO | F(MRG_RXBUF), 2, QSIZE);
    for (int i = 0; i < 4; i++) {
        struct tf t = {.v6 = i & 1, .vlans = i & 1, .opts = 12};
        size_t len = large(f, &t, 60000, 1448);

        for (unsigned k = 0; k < 32; k++)
            post(f, k, 2048);
        if (i >= 2) { /* as the host's stack does with merged frames it has verified */
            header(f)->flags = VIRTIO_NET_HDR_F_DATA_VALID;
            tf_put(f->buf + HDR + t.l4 + 16, 2, 0x1234);
        }
        arrive(f, len);
        assert_int_equal(received(f, &bufs), len);
        assert_int_equal(bufs, 30);
        assert_int_equal(f->want[0], VIRTIO_NET_HDR_F_NEEDS_CSUM);
        assert_int_equal(f->want[1], i & 1 ? 4 : 1);
        assert_int_equal(f->want[2] | f->want[3] << 8, t.hlen);
        assert_int_equal(tf_get(f->want + HDR + t.l4 + 16, 2),
                         tf_pseudo(&t, f->want + HDR, len - HDR));
        for (unsigned k = 30; k < 32; k++) { /* use up the rest */
            arrive(f, plain(f, 14, 0));
            assert_int_equal(received(f, &bufs), HDR + 14);
        }
    }
    assert_int_equal(stats(f).errors, 0);
}

/* Takes the segments of a large frame; payload bytes in them. */
static size_t take_segments(struct fixture *f, const struct tf *t, size_t from, bool csum)
{
    size_t len, done = from;
    unsigned bufs;

    while ((len = received(f, &bufs)) > 0) {
        const uint8_t *p = f->want + HDR;

        assert_int_equal(f->want[0], csum);
        assert_int_equal(f->want[1], 0);
        if (!csum)
            assert_true(tf_good(t, p, len - HDR));
        assert_int_equal(tf_get(p + t->l4 + 4, 4), (uint32_t)(TF_SEQ + done));
        for (size_t i = HDR + t->hlen; i < len; i++)
            assert_int_equal(f->want[i], tf_byte(done++));
    }
    return done - from;
}

/* A driver that takes no large frames gets segments, be it of a neighbour that sends them. */
static void large_cut(void **state)
{
    struct fixture *f = *state;

    for (unsigned i = 0; i < 8; i++) {
        struct tf t = {.v6 = i & 1, .opts = 12, .flags = TF_ACK | TF_PSH};
        uint64_t feat = i & 2 ? F(GUEST_CSUM) : 0;
        size_t len;

        vd_start(&f->v, VERSION_1 | feat | (i & 4 ? F(MRG_RXBUF) : 0), 2, QSIZE);
        for (unsigned k = 0; k < 48; k++)
            post(f, k, 1700);
        len = large(f, &t, 60000, 1448);
        arrive(f, len);
        assert_int_equal(take_segments(f, &t, 0, i & 2), 60000);
        assert_quiet(f);
    }
}

/* More segments than buffers and than one batch: they wait, and io0 sleeps meanwhile. */
static void large_cut_slowly(void **state)
{
    struct fixture *f = *state;
    struct tf t = {.flags = TF_ACK};
    size_t done = 0, len, total = 700 * 8;

    vd_start(&f->v, VERSION_1 | EVENT_IDX, 2, QSIZE);
    len = large(f, &t, total, 8);
    arrive(f, len);
    arrive(f, plain(f, 60, 0));
    assert_quiet(f);
    for (unsigned round = 0; done < total; round++) {
        assert_in_range(round, 0, 5);
        for (unsigned k = 0; k < (round == 1 ? 1 : QSIZE); k++)
            post(f, k, 1700);
        vd_kick(&f->v, RXQ);
        if (round == 3)
            break;
        done += take_segments(f, &t, done, false);
        assert_quiet(f);
    }
    /* 256 + 1 + 256 segments were taken; the last 187, then the small frame */
    assert_int_equal(done, 513 * 8);
    for (unsigned k = 0; k < 187; k++)
        assert_int_equal(vd_used(&f->v, RXQ, NULL), k);
    assert_int_equal(vd_used(&f->v, RXQ, NULL), 187);
    assert_int_equal(vd_used(&f->v, RXQ, NULL), -1);
    assert_int_equal(stats(f).requests, 701);
}

/* The switch does not take frames for a while: none is lost, and order is kept. */
static void full_backend(void **state)
{
    struct fixture *f = *state;
    unsigned next = 0;

    for (unsigned event = 0; event < 2; event++, next = 0) {
        vd_start(&f->v, VERSION_1 | (event ? EVENT_IDX : 0), 2, QSIZE);
        for (unsigned i = 0; i < QSIZE; i++) {
            memset(vd_mem(&f->m, buffer(i)), (int)i, STRIDE);
            vd_desc(&f->m, vd_rings(TXQ), i, buffer(i), STRIDE, 0, 0);
            vd_avail(&f->v, TXQ, (uint16_t)i);
        }
        vd_kick(&f->v, TXQ);
        assert_quiet(f);
        assert_in_range(stats(f).requests % QSIZE, 1, QSIZE - 1);
        for (unsigned idle = 0; next < QSIZE && idle < 3; idle++) {
            while (recv(f->peer, f->want, BIG, 0) == STRIDE) {
                assert_int_equal(f->want[HDR], next++);
                idle = 0;
            }
            vd_io(&f->m);
        }
        assert_int_equal(next, QSIZE);
        for (unsigned i = 0; i < QSIZE; i++)
            assert_int_equal(vd_used(&f->v, TXQ, NULL), i);
        assert_quiet(f);
        /* A kick is heard again. */
        assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, 100, false), 0);
        assert_int_equal(recv(f->peer, f->want, BIG, 0), 100);
    }
}

/* Segments left when a batch ends are not forgotten, though nothing more comes. */
static void batch_ends_in_segments(void **state)
{
    struct fixture *f = *state;
    struct tf t = {.flags = TF_ACK};
    size_t len;

    vd_start(&f->v, VERSION_1 | EVENT_IDX, 2, QSIZE);
    for (unsigned k = 0; k < 50; k++)
        post(f, k, 1700);
    vd_kick(&f->v, RXQ);
    for (unsigned k = 0; k < 250; k++)
        assert_int_equal(send(f->peer, f->buf, 1, 0), 1);
    len = large(f, &t, 40 * 100, 100);
    arrive(f, len);
    assert_int_equal(take_segments(f, &t, 0, false), 40 * 100);
    assert_quiet(f);
}

/* Makes sending stall. */
static void stall(struct fixture *f)
{
    for (unsigned i = 0; i < QSIZE; i++) {
        vd_desc(&f->m, vd_rings(TXQ), i, VD_BUF, 0x8000, 0, 0);
        vd_avail(&f->v, TXQ, (uint16_t)i);
    }
    vd_kick(&f->v, TXQ);
    assert_quiet(f);
}

/* The driver resets with a frame held, a large one half cut, frames behind it or not, and sending
 * stalled or not. */
static void resets(void **state)
{
    struct fixture *f = *state;
    struct tf t = {.flags = TF_ACK};
    unsigned bufs;

    for (unsigned i = 0; i < 4; i++) {
        vd_start(&f->v, VERSION_1, 2, QSIZE);
        post(f, 0, 1700);
        arrive(f, large(f, &t, 3000, 1000));
        if (i & 1)
            arrive(f, plain(f, 60, 0));
        if (i & 2)
            stall(f);
        vd_set(&f->v, 0x14, 1, 0);
        if (i & 1)
            arrive(f, plain(f, 61, 0));
        while (recv(f->peer, f->want, BIG, 0) > 0)
            ;
        assert_quiet(f);
        vd_start(&f->v, VERSION_1, 2, QSIZE);
        post(f, 0, 1700);
        post(f, 1, 1700);
        vd_kick(&f->v, RXQ);
        assert_int_equal(received(f, &bufs), 0); /* nothing from before */
        arrive(f, plain(f, 99, 0));
        assert_int_equal(received(f, &bufs), HDR + 99);
        assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, 100, false), 0);
        assert_int_equal(recv(f->peer, f->want, BIG, 0), 100);
    }
}

/* The monitor is gone: what it sent still arrives, then io0 sleeps, and frames go nowhere. */
static void peer_closes(void **state)
{
    struct fixture *f = *state;
    unsigned bufs;

    for (unsigned i = 0; i < 4; i++) {
        bool unread = i & 1, full = i & 2;

        if (i) {
            struct fixture *g;

            assert_int_equal(teardown((void **)&f), 0);
            assert_int_equal(setup((void **)&g), 0);
            *state = f = g;
        }
        vd_start(&f->v, VERSION_1, 2, QSIZE);
        if (!full)
            post(f, 0, 1700);
        if (unread)
            assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, 100, false), 0);
        assert_int_equal(send(f->peer, f->buf, plain(f, 60, 0), 0), HDR + 60);
        if (full)
            assert_quiet(f);
        close(f->peer);
        f->peer = -1;
        assert_quiet(f);
        if (full) {
            post(f, 0, 1700);
            vd_kick(&f->v, RXQ);
        }
        assert_int_equal(received(f, &bufs), HDR + 60);
        for (unsigned k = 0; k < 3; k++)
            assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, 100, false), 0);
        post(f, 1, 1700);
        vd_kick(&f->v, RXQ);
        assert_quiet(f);
    }
}

/* Sending was stalled when the monitor went. */
static void peer_closes_full(void **state)
{
    struct fixture *f = *state;

    vd_start(&f->v, VERSION_1 | EVENT_IDX, 2, QSIZE);
    for (unsigned i = 0; i < QSIZE; i++) {
        vd_desc(&f->m, vd_rings(TXQ), i, VD_BUF, 0x8000, 0, 0);
        vd_avail(&f->v, TXQ, (uint16_t)i);
    }
    vd_kick(&f->v, TXQ);
    assert_int_equal(send(f->peer, f->buf, plain(f, 60, 0), 0), HDR + 60);
    assert_quiet(f);
    close(f->peer);
    f->peer = -1;
    for (unsigned i = 0; i < 4; i++)
        vd_io(&f->m);
    for (unsigned i = 0; i < QSIZE; i++)
        assert_int_equal(vd_used(&f->v, TXQ, NULL), i);
    assert_quiet(f);
}

/* Broken rings: the device stops, its peer's frames are thrown away, a reset revives it. */
static void breaks(void **state)
{
    struct fixture *f = *state;
    unsigned bufs;

    for (unsigned i = 0; i < 5; i++) {
        vd_start(&f->v, VERSION_1 | F(MRG_RXBUF), 2, QSIZE);
        post(f, 0, i == 4 ? 11 : 12);
        vd_desc(&f->m, vd_rings(RXQ), 1, i == 0 ? 0xd0000000 : buffer(1), i == 1 ? 0 : 100,
                i == 2 ? 0 : VD_WRITE, 0);
        vd_avail(&f->v, RXQ, i == 3 ? QSIZE : 1);
        arrive(f, plain(f, 60, 0));
        assert_int_equal(vd_reg(&f->v, 0x14, 1), 15 | VIRTIO_S_NEEDS_RESET);
        assert_int_equal(received(f, &bufs), 0);
        for (unsigned k = 0; k < 300; k++)
            assert_int_equal(send(f->peer, f->buf, 74, 0), 74);
        assert_quiet(f);
        assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, 100, false), -1);
    }
    vd_start(&f->v, VERSION_1, 2, QSIZE);
    /* A ring that is broken on the sending side. */
    assert_int_equal(vd_one(&f->v, TXQ, 0xd0000000, 100, false), -1);
    assert_int_equal(vd_reg(&f->v, 0x14, 1), 15 | VIRTIO_S_NEEDS_RESET);
    vd_start(&f->v, VERSION_1, 2, QSIZE);
    post(f, 0, 1700);
    arrive(f, plain(f, 60, 0));
    assert_int_equal(received(f, &bufs), HDR + 60);
}

/* The rings at their wrap-around, both directions, with interrupts suppressed or not. */
static void wraps_around(void **state)
{
    struct fixture *f = *state;
    unsigned bufs;

    vd_start(&f->v, VERSION_1 | EVENT_IDX | F(MRG_RXBUF), 2, 16);
    for (unsigned i = 0; i < 70000; i++) {
        post(f, i % 16, 40);
        post(f, (i + 8) % 16, 40);
        assert_int_equal(send(f->peer, f->buf, plain(f, 60, 0), 0), 72);
        vd_kick(&f->v, RXQ);
        assert_int_equal(received(f, &bufs), 72);
        if (i % 8 == 0) {
            assert_int_equal(vd_one(&f->v, TXQ, VD_BUF, 100, false), 0);
            assert_int_equal(recv(f->peer, f->want, BIG, 0), 100);
        }
    }
}

/* ---- a backend without offloads, that counts ---- */

struct fake {
    struct net_backend be; /* first */
    unsigned frames;       /* sent */
    size_t bytes, last;    /* in them, in the last */
    unsigned calls;        /* most frames in one call of the loop */
    unsigned give;         /* frames to receive */
};

static int fake_send(struct net_backend *be, const struct iovec *iov, unsigned n)
{
    struct fake *k = (struct fake *)be;

    k->frames++;
    k->last = 0;
    for (unsigned i = 0; i < n; i++)
        k->last += iov[i].iov_len;
    k->bytes += k->last;
    return 0;
}

static ssize_t fake_recv(struct net_backend *be, const struct iovec *iov, unsigned n)
{
    struct fake *k = (struct fake *)be;

    assert_int_equal(n, 1);
    assert_int_equal(iov->iov_len, BIG - HDR);
    if (!k->give)
        return 0;
    k->give--;
    memset(iov->iov_base, 0x77, 60);
    return 60;
}

static int fake_start(struct net_backend *be, struct evloop *io, void (*ready)(void *arg),
                      void *arg)
{
    (void)io, (void)ready, (void)arg;
    return ((struct fake *)be)->calls ? -EMFILE : 0;
}

static void fake_want(struct net_backend *be, bool rd, bool wr)
{
    (void)be, (void)rd, (void)wr;
}

static void fake_free(struct net_backend *be)
{
    free(be);
}

static const struct net_backend_ops fake_ops = {
    .name = "fake",
    .send = fake_send,
    .recv = fake_recv,
    .start = fake_start,
    .want = fake_want,
    .free = fake_free,
};

/* No header at the backend, none of its features offered; a batch ends and goes on. */
static void without_offload(void **state)
{
    struct fixture *f = *state;
    struct fake *k = calloc(1, sizeof(*k));
    struct virtio_dev *card;
    unsigned bufs, split;

    k->be.ops = &fake_ops;
    assert_int_equal(net_new(&card, &f->m.host, f->m.pci, 1, mac, &k->be, NULL), 0);
    vd_find(&f->v, &f->m, 2);
    assert_int_equal(vd_features(&f->v) & 0xffffff, F(MAC) | F(STATUS) | F(MRG_RXBUF));
    vd_start(&f->v, VERSION_1 | F(MRG_RXBUF), 2, QSIZE);
    for (split = 1; split < HDR + 14; split++) {
        vd_desc(&f->m, vd_rings(TXQ), 0, VD_BUF, split, VD_NEXT, 1);
        vd_desc(&f->m, vd_rings(TXQ), 1, VD_BUF, HDR + 14 - split, 0, 0);
        vd_avail(&f->v, TXQ, 0);
        vd_kick(&f->v, TXQ);
        assert_int_equal(k->last, 14);
        assert_int_equal(vd_used(&f->v, TXQ, NULL), 0);
    }
    k->frames = 0;
    for (unsigned i = 0; i < QSIZE; i++) {
        vd_desc(&f->m, vd_rings(TXQ), i, VD_BUF, BIG, 0, 0);
        vd_avail(&f->v, TXQ, (uint16_t)i);
    }
    vd_write(&f->m, f->v.notify + TXQ * f->v.notify_mul, 2, TXQ);
    evloop_once(&f->m.io, 0);
    assert_in_range(k->frames, 16, 64); /* 16 MiB are too much for one turn */
    vd_io(&f->m);
    vd_io(&f->m);
    assert_int_equal(k->frames, QSIZE);
    k->give = 1;
    memset(vd_mem(&f->m, buffer(0)), 0xcc, 100);
    vd_desc(&f->m, vd_rings(RXQ), 0, buffer(0), 100, VD_WRITE, 0);
    vd_avail(&f->v, RXQ, 0);
    vd_kick(&f->v, RXQ);
    assert_int_equal(received(f, &bufs), HDR + 60);
    assert_memory_equal(f->want, "\0\0\0\0\0\0\0\0\0\0\1\0\x77", HDR + 1);
    virtio_dev_free(card);
}

/* A backend that cannot start. */
static void no_start(void **state)
{
    struct fixture *f = *state;
    struct fake *k = calloc(1, sizeof(*k));
    struct virtio_dev *card;
    struct err err = {0};

    k->be.ops = &fake_ops;
    k->calls = 1;
    assert_int_equal(net_new(&card, &f->m.host, f->m.pci, 1, mac, &k->be, &err), -EMFILE);
    assert_non_null(strstr(err.text, "network card 1"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(config),
        T(sends),
        T(refuses_sizes),
        T(receives_one),
        T(receives_junk),
        T(merges),
        T(waits_for_buffers),
        T(jumbo_does_not_block),
        T(bad_headers),
        T(finishes_checksum),
        T(large_whole),
        T(large_cut),
        T(large_cut_slowly),
        T(full_backend),
        T(resets),
        T(batch_ends_in_segments),
        T(peer_closes),
        T(peer_closes_full),
        T(breaks),
        T(wraps_around),
        T(without_offload),
        T(no_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
