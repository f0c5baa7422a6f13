/* SPDX-License-Identifier: MIT */
/*
 * TCP frames for unit tests: made from the standards' pictures byte by byte, and checked with a
 * slow checksum of their own, so that nothing of the code under test is trusted.
 */
#ifndef DISCO_TESTS_UNIT_TCPFRAME_H
#define DISCO_TESTS_UNIT_TCPFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TF_UNUSED __attribute__((unused)) static

enum { TF_SEQ = 0xfffffff0, TF_ID = 0xfffe, TF_FIN = 1, TF_PSH = 8, TF_ACK = 16, TF_CWR = 128 };

/* How a frame is laid out. */
struct tf {
    bool v6;         /* IPv6, else IPv4 */
    unsigned vlans;  /* VLAN tags */
    unsigned opts;   /* bytes of TCP options, a multiple of 4 */
    unsigned ipopts; /* bytes of IPv4 options, or of an IPv6 destination header (8 or 16) */
    uint8_t flags;   /* of TCP */
    unsigned l3, l4; /* results: offsets */
    unsigned hlen;   /* result: bytes of all headers */
};

TF_UNUSED void tf_put(uint8_t *p, unsigned n, uint64_t v)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> 8 * (n - 1 - i));
}

TF_UNUSED uint64_t tf_get(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

/* The textbook's sum: big-endian words, folded at each step. */
TF_UNUSED uint32_t tf_sum(uint32_t sum, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* The pseudo-header's sum of a frame of len bytes. */
TF_UNUSED uint32_t tf_pseudo(const struct tf *t, const uint8_t *f, size_t len)
{
    uint8_t w[8] = {0};

    tf_put(w, 4, len - t->l4);
    w[7] = 6;
    return tf_sum(tf_sum(0, w, 8), f + t->l3 + (t->v6 ? 8 : 12), t->v6 ? 32 : 8);
}

/* Byte i of every payload. */
TF_UNUSED uint8_t tf_byte(size_t i)
{
    return (uint8_t)(i * 7 + i / 251);
}

/* Makes a frame with n bytes of payload and checksums unfinished as a guest's driver leaves
 * them (pseudo-header's sum); returns its length. */
TF_UNUSED size_t tf_make(struct tf *t, uint8_t *f, size_t n)
{
    size_t len;
    uint8_t *ip, *tcp;

    t->l3 = 14 + 4 * t->vlans;
    t->l4 = t->l3 + (t->v6 ? 40 : 20) + t->ipopts;
    t->hlen = t->l4 + 20 + t->opts;
    len = t->hlen + n;
    memset(f, 0, t->hlen);
    memcpy(f, "\x52\x54\x00\x00\x00\x02\x52\x54\x00\x00\x00\x01", 12);
    for (unsigned i = 0; i < t->vlans; i++)
        tf_put(f + 12 + 4 * i, 2, i + 1 < t->vlans ? 0x88a8 : 0x8100);
    tf_put(f + t->l3 - 2, 2, t->v6 ? 0x86dd : 0x0800);
    ip = f + t->l3;
    if (t->v6) {
        ip[0] = 0x60;
        tf_put(ip + 4, 2, len - t->l3 - 40);
        ip[6] = t->ipopts ? 60 : 6;
        memcpy(ip + 8, "\xfd\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\x1\xfd\1\2\3\4\5\6\7\x8\x9",
               26);
        ip[39] = 2;
        if (t->ipopts) {
            ip[40] = 6;
            ip[41] = (uint8_t)(t->ipopts / 8 - 1);
        }
    } else {
        ip[0] = (uint8_t)(0x40 | (20 + t->ipopts) / 4);
        tf_put(ip + 2, 2, len - t->l3);
        tf_put(ip + 4, 2, TF_ID);
        ip[6] = 0x40;
        ip[8] = 64;
        ip[9] = 6;
        memcpy(ip + 12, "\x0a\1\0\1\x0a\1\0\2", 8);
        memset(ip + 20, 1, t->ipopts);
        tf_put(ip + 10, 2, (uint16_t)~tf_sum(0, ip, 20 + t->ipopts));
    }
    tcp = f + t->l4;
    tf_put(tcp, 4, 0x30390050);
    tf_put(tcp + 4, 4, TF_SEQ);
    tf_put(tcp + 8, 4, 0x01020304);
    tcp[12] = (uint8_t)((20 + t->opts) / 4 << 4);
    tcp[13] = t->flags;
    tf_put(tcp + 14, 2, 0x7210);
    memset(tcp + 20, 1, t->opts);
    for (size_t i = 0; i < n; i++)
        f[t->hlen + i] = tf_byte(i);
    tf_put(tcp + 16, 2, tf_pseudo(t, f, len));
    return len;
}

/* True when all checksums of a finished frame are right. */
TF_UNUSED bool tf_good(const struct tf *t, const uint8_t *f, size_t len)
{
    if (!t->v6 && tf_sum(0, f + t->l3, t->l4 - t->l3) != 0xffff)
        return false;
    return tf_sum(tf_pseudo(t, f, len), f + t->l4, len - t->l4) == 0xffff;
}

#endif
