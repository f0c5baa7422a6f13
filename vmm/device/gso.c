/* SPDX-License-Identifier: MIT */
/*
 * Large TCP frames: parsing of Ethernet, VLAN, IPv4, IPv6 and TCP headers, and cutting into
 * segments as a network card would (RFC 9293; IPv4 ids count up, FIN and PSH only on the last
 * segment, CWR only on the first).  Interface and rules: gso.h.
 *
 * Invariant.  G1: 0 < l3 < l4 < hlen <= GSO_HDR_MAX, hlen < len <= length of the frame: no offset
 * used after gso_begin() comes from the frame.
 */
#include "vmm/device/gso.h"

#include <endian.h>
#include <string.h>

#include "vmm/device/csum.h"

enum {
    ETH_LEN = 14,        /* Ethernet: destination, source, type */
    MAX_VLAN = 2,        /* tags before the IP header */
    MAX_EXT = 4,         /* IPv6 extension headers */
    TYPE_IPV4 = 0x0800,  /* Ethernet types */
    TYPE_IPV6 = 0x86dd,  /* IPv6 */
    TYPE_VLAN = 0x8100,  /* a VLAN tag follows */
    TYPE_SVLAN = 0x88a8, /* a provider's tag follows */
    PROTO_TCP = 6,       /* IP's number of TCP */
    IPV4_LEN = 20,       /* without options */
    IPV6_LEN = 40,       /* without extensions */
    TCP_LEN = 20,        /* without options */
    EXT_HOP = 0,         /* IPv6 extension headers that don't change the pseudo-header */
    EXT_DST = 60,        /* destination options */
    TCP_SEQ = 4,         /* offsets in the TCP header */
    TCP_FLAGS = 13,      /* offset of the flags */
    FLAG_FIN = 1,        /* no more comes */
    FLAG_PSH = 8,        /* hand it over now */
    FLAG_CWR = 0x80,     /* congestion: window was reduced */
};

/* Big-endian fields, as networks have them. */
static unsigned get16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

/* ---- checking ---- */

/* Finds the IP header behind Ethernet and VLAN tags. */
static bool parse_eth(struct gso *g, const uint8_t *f, size_t len)
{
    unsigned at = ETH_LEN - 2;

    for (unsigned i = 0; i <= MAX_VLAN; i++, at += 4) {
        unsigned type;

        if (at + 2 > len)
            return false;
        type = get16(f + at);
        if (type == TYPE_VLAN || type == TYPE_SVLAN)
            continue;
        g->l3 = at + 2;
        return type == (g->v6 ? TYPE_IPV6 : TYPE_IPV4);
    }
    return false;
}

/* IPv4: not a fragment, TCP, and its own length inside the frame. */
static bool parse_ipv4(struct gso *g, const uint8_t *f, size_t len)
{
    const uint8_t *ip = f + g->l3;
    unsigned ihl, total;

    if (g->l3 + IPV4_LEN > len || ip[0] >> 4 != 4)
        return false;
    ihl = (ip[0] & 15) * 4u;
    total = get16(ip + 2);
    if (ihl < IPV4_LEN || ip[9] != PROTO_TCP || get16(ip + 6) & 0x3fff || g->l3 + total > len)
        return false;
    g->l4 = g->l3 + ihl;
    g->len = g->l3 + total;
    return true;
}

/* IPv6: TCP after at most a few extension headers that leave the addresses alone. */
static bool parse_ipv6(struct gso *g, const uint8_t *f, size_t len)
{
    const uint8_t *ip = f + g->l3;
    uint8_t next;

    if (g->l3 + IPV6_LEN > len || ip[0] >> 4 != 6 || g->l3 + IPV6_LEN + get16(ip + 4) > len)
        return false;
    g->len = g->l3 + IPV6_LEN + get16(ip + 4);
    g->l4 = g->l3 + IPV6_LEN;
    next = ip[6];
    for (unsigned i = 0; i < MAX_EXT && next != PROTO_TCP; i++) {
        if ((next != EXT_HOP && next != EXT_DST) || g->l4 + 8 > g->len)
            return false;
        next = f[g->l4];
        g->l4 += (f[g->l4 + 1] + 1u) * 8;
    }
    return next == PROTO_TCP;
}

bool gso_begin(struct gso *g, const uint8_t *frame, size_t len, size_t mss, bool v6)
{
    g->v6 = v6;
    g->mss = mss;
    g->done = 0;
    if (mss < GSO_MSS_MIN || !parse_eth(g, frame, len) ||
        !(v6 ? parse_ipv6 : parse_ipv4)(g, frame, len) || g->l4 + TCP_LEN > g->len)
        return false;
    g->hlen = g->l4 + (frame[g->l4 + 12] >> 4) * 4u;
    if (g->hlen < g->l4 + TCP_LEN || g->hlen >= g->len || g->hlen > GSO_HDR_MAX)
        return false;
    memcpy(g->hdr, frame, g->hlen);
    return true;
}

/* ---- cutting ---- */

/* The sum over the pseudo-header of n bytes of TCP header and payload. */
static uint64_t pseudo_sum(const struct gso *g, size_t n)
{
    unsigned addrs = g->v6 ? 8 : 12; /* offset of the two addresses in the IP header */
    uint32_t words[2] = {htobe32((uint32_t)n), htobe32(PROTO_TCP)};

    return csum_add(csum_add(0, words, sizeof(words)), g->hdr + g->l3 + addrs, g->v6 ? 32 : 8);
}

void gso_pseudo(const struct gso *g, uint8_t *frame)
{
    uint16_t c = csum_fold(pseudo_sum(g, g->len - g->l4));

    memcpy(frame + g->l4 + GSO_CSUM, &c, sizeof(c));
}

/* Makes the IP header of segment number i, whose packet ends at byte len of it. */
static void set_ip(const struct gso *g, uint8_t *seg, size_t len, size_t i)
{
    uint8_t *ip = seg + g->l3;
    uint16_t c;

    if (g->v6) {
        put16(ip + 4, len - g->l3 - IPV6_LEN);
        return;
    }
    put16(ip + 2, len - g->l3);
    put16(ip + 4, get16(ip + 4) + i);
    put16(ip + 10, 0);
    c = csum_field(csum_add(0, ip, g->l4 - g->l3));
    memcpy(ip + 10, &c, sizeof(c));
}

/* Makes the TCP header of the segment that starts at payload byte g->done; checksum 0. */
static void set_tcp(const struct gso *g, uint8_t *seg, bool last)
{
    uint8_t *tcp = seg + g->l4;

    put32(tcp + TCP_SEQ, get32(tcp + TCP_SEQ) + (uint32_t)g->done);
    if (!last)
        tcp[TCP_FLAGS] &= (uint8_t) ~(FLAG_FIN | FLAG_PSH);
    if (g->done)
        tcp[TCP_FLAGS] &= (uint8_t)~FLAG_CWR;
    put16(tcp + GSO_CSUM, 0);
}

size_t gso_next(struct gso *g, uint8_t *frame, bool partial, uint8_t **seg)
{
    size_t left = g->len - g->hlen - g->done;
    size_t part = left < g->mss ? left : g->mss, len = g->hlen + part;
    uint64_t sum = pseudo_sum(g, len - g->l4);
    uint16_t c;

    if (!left)
        return 0;
    *seg = frame + g->done;
    memcpy(*seg, g->hdr, g->hlen);
    set_ip(g, *seg, len, g->done / g->mss);
    set_tcp(g, *seg, part == left);
    c = partial ? csum_fold(sum) : csum_field(csum_add(sum, *seg + g->l4, len - g->l4));
    memcpy(*seg + g->l4 + GSO_CSUM, &c, sizeof(c));
    g->done += part;
    return len;
}
