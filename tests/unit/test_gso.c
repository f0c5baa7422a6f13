/* SPDX-License-Identifier: MIT */
/*
 * Tests of segmentation: what a receiver puts together again is what was sent, every segment is
 * valid by itself, and no frame that lies about itself gets through or is read past its end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/tcpframe.h"
#include "vmm/device/gso.h"

enum { BIG = 65600 };

static uint8_t frame[BIG], orig[BIG];

/* Checks one segment that carries payload from byte `done` of n. */
static void check_segment(const struct tf *t, const uint8_t *seg, size_t len, size_t done,
                          size_t n, unsigned i, bool partial)
{
    size_t part = len - t->hlen;
    uint8_t flags = seg[t->l4 + 13], want = t->flags;
    uint8_t copy[2048];

    assert_in_range(len, t->hlen + 1, sizeof(copy));
    memcpy(copy, seg, len);
    if (partial) { /* the receiver's stack finishes it: add the rest of the sum */
        uint32_t sum = tf_sum(0, copy + t->l4, len - t->l4);

        assert_int_equal(tf_get(copy + t->l4 + 16, 2), tf_pseudo(t, copy, len));
        tf_put(copy + t->l4 + 16, 2, (uint16_t)~sum);
    }
    assert_true(tf_good(t, copy, len));
    if (done + part < n)
        want &= (uint8_t) ~(TF_FIN | TF_PSH);
    if (done)
        want &= (uint8_t)~TF_CWR;
    assert_int_equal(flags, want);
    assert_int_equal(tf_get(seg + t->l4 + 4, 4), (uint32_t)(TF_SEQ + done));
    if (t->v6) {
        assert_int_equal(tf_get(seg + t->l3 + 4, 2), len - t->l3 - 40);
    } else {
        assert_int_equal(tf_get(seg + t->l3 + 2, 2), len - t->l3);
        assert_int_equal(tf_get(seg + t->l3 + 4, 2), (uint16_t)(TF_ID + i));
    }
    assert_memory_equal(seg, orig, t->l3);
    assert_memory_equal(seg + t->hlen, orig + t->hlen + done, part);
}

/* Cuts a frame of n payload bytes, with some bytes of padding behind it. */
static void cut(struct tf t, size_t n, size_t mss, size_t pad, bool partial)
{
    size_t len = tf_make(&t, frame, n), done = 0, got;
    unsigned i = 0;
    uint8_t *seg;
    struct gso g;

    memset(frame + len, 0xee, pad);
    memcpy(orig, frame, len);
    assert_true(gso_begin(&g, frame, len + pad, mss, t.v6));
    assert_int_equal(g.l4, t.l4);
    assert_int_equal(g.hlen, t.hlen);
    assert_int_equal(g.len, len);
    while ((got = gso_next(&g, frame, partial, &seg)) > 0) {
        assert_ptr_equal(seg, frame + done);
        check_segment(&t, seg, got, done, n, i++, partial);
        done += got - t.hlen;
        /* What was handed out may be overwritten before the next call. */
        memset(seg, 0x55, got - t.hlen < t.hlen ? got - t.hlen : t.hlen);
    }
    assert_int_equal(done, n);
    assert_int_equal(i, (n + mss - 1) / mss);
    assert_int_equal(gso_next(&g, frame, partial, &seg), 0);
}

static void whole_and_parts(void **state)
{
    static const size_t sizes[] = {1, 7, 8, 9, 1447, 1448, 1449, 2896, 40000, 65000};
    static const size_t mss[] = {8, 13, 536, 1448};

    (void)state;
    for (unsigned v = 0; v < 16; v++) {
        struct tf t = {.v6 = v & 1,
                       .vlans = v >> 1 & 1,
                       .opts = v & 4 ? 12 : 0,
                       .ipopts = v & 8 ? 8 : 0,
                       .flags = TF_ACK | TF_PSH | TF_FIN | TF_CWR};

        for (unsigned s = 0; s < 10; s++)
            for (unsigned m = 0; m < 4; m++)
                cut(t, sizes[s], mss[m], v % 3, (s + m) & 1);
    }
}

/* The largest headers there are room for, and beyond. */
static void large_headers(void **state)
{
    struct tf t = {.v6 = true, .vlans = 2, .opts = 40, .ipopts = 16};
    struct gso g;

    (void)state;
    cut(t, 5000, 1000, 0, false);
    t.ipopts = 64;
    cut(t, 5000, 1000, 0, false); /* 186 bytes */
    t.ipopts = 72;
    assert_false(gso_begin(&g, frame, tf_make(&t, frame, 5000), 1000, true));
    t.ipopts = 8;
    t.vlans = 3;
    assert_false(gso_begin(&g, frame, tf_make(&t, frame, 5000), 1000, true));
}

/* One byte of the headers changed: refused. */
static void refuses_byte(const struct tf *like, unsigned at, uint8_t val)
{
    struct tf t = *like;
    size_t len = tf_make(&t, frame, 3000);
    struct gso g;

    assert_true(gso_begin(&g, frame, len, 1000, t.v6));
    frame[at] = val;
    assert_false(gso_begin(&g, frame, len, 1000, t.v6));
}

static void lies(void **state)
{
    struct tf v4 = {.flags = TF_ACK}, v6 = {.v6 = true}, v6x = {.v6 = true, .ipopts = 8};
    size_t len = tf_make(&v4, frame, 3000);
    struct gso g;

    (void)state;
    assert_false(gso_begin(&g, frame, len, 0, false));
    assert_false(gso_begin(&g, frame, len, 7, false));
    assert_false(gso_begin(&g, frame, len, 1000, true)); /* not IPv6 */
    assert_true(gso_begin(&g, frame, len, 60000, false));
    refuses_byte(&v4, 12, 0x09);      /* no IP */
    refuses_byte(&v4, 14, 0x65);      /* version */
    refuses_byte(&v4, 14, 0x44);      /* header too short */
    refuses_byte(&v4, 14 + 2, 0xff);  /* longer than the frame */
    refuses_byte(&v4, 14 + 6, 0x20);  /* a fragment */
    refuses_byte(&v4, 14 + 7, 0x01);  /* a later fragment */
    refuses_byte(&v4, 14 + 9, 17);    /* UDP */
    refuses_byte(&v4, 34 + 12, 0x40); /* TCP header too short */
    refuses_byte(&v6, 14, 0x40);
    refuses_byte(&v6, 14 + 4, 0xff);
    refuses_byte(&v6, 14 + 6, 44); /* a fragment header */
    refuses_byte(&v6, 14 + 6, 43); /* a routing header */
    refuses_byte(&v6x, 54, 17);
    refuses_byte(&v6x, 55, 255); /* the extension goes on behind the packet */
    /* An IP packet that ends inside its own headers, or has no payload. */
    tf_make(&v4, frame, 3000);
    for (unsigned total = 0; total <= v4.hlen - 14; total++) {
        tf_put(frame + 16, 2, total);
        assert_false(gso_begin(&g, frame, len, 1000, false));
    }
    tf_make(&v6x, frame, 3000);
    for (unsigned total = 0; total <= v6x.hlen - 54; total++) {
        tf_put(frame + 18, 2, total);
        assert_false(gso_begin(&g, frame, len, 1000, true));
    }
}

/* Every truncation, in memory that ends there. */
static void truncated(void **state)
{
    (void)state;
    for (unsigned v = 0; v < 3; v++) {
        struct tf t = {.v6 = v & 1, .vlans = v, .opts = 12, .ipopts = 8};
        size_t len = tf_make(&t, frame, 10);

        for (size_t n = 0; n < len; n++) {
            uint8_t *p = malloc(n + !n);
            struct gso g;

            memcpy(p, frame, n);
            assert_false(gso_begin(&g, p, n, 8, t.v6));
            free(p);
        }
    }
}

/* Nothing that gets through is read or written outside the frame (for the sanitizers). */
static void garbage(void **state)
{
    uint64_t s = 88172645463325252ull;
    unsigned passed = 0;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        struct tf t = {.v6 = round & 1, .vlans = round >> 1 & 1, .ipopts = round & 4 ? 8 : 0};
        size_t len = tf_make(&t, orig, round % 300), got, max = 0;
        uint8_t *p = malloc(len), *seg;
        struct gso g;

        memcpy(p, orig, len);
        for (unsigned k = 0; k < 1 + round % 3; k++) {
            s ^= s << 13, s ^= s >> 7, s ^= s << 17;
            p[12 + s % (t.hlen - 12)] = (uint8_t)(s >> 32);
        }
        if (gso_begin(&g, p, len, 8 + s % 64, t.v6)) {
            passed++;
            while ((got = gso_next(&g, p, s & 1, &seg)) > 0)
                max = got > max ? got : max;
            assert_in_range(max, 1, GSO_HDR_MAX + 8 + 64);
        }
        free(p);
    }
    assert_in_range(passed, 1000, 19999);
}

/* The sum for a receiver that takes the frame whole. */
static void pseudo(void **state)
{
    (void)state;
    for (int v6 = 0; v6 < 2; v6++) {
        struct tf t = {.v6 = v6};
        size_t len = tf_make(&t, frame, 30001);
        struct gso g;

        memcpy(orig, frame, len);
        tf_put(frame + t.l4 + 16, 2, 0xabcd);
        assert_true(gso_begin(&g, frame, len, 1448, v6));
        gso_pseudo(&g, frame);
        assert_memory_equal(frame, orig, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_and_parts),
        cmocka_unit_test(large_headers),
        cmocka_unit_test(lies),
        cmocka_unit_test(truncated),
        cmocka_unit_test(garbage),
        cmocka_unit_test(pseudo),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
