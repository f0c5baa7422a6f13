/* SPDX-License-Identifier: MIT */
/*
 * Large TCP frames (segmentation offload): checks that a frame is what its sender claims, and
 * cuts it into segments for a receiver that takes no large ones.  Pure; nothing is allocated.
 *
 * Segments are made in the frame itself: the headers of segment i are written over the payload of
 * segment i - 1, which must have been used by then.  Everything in the frame is hostile.
 */
#ifndef DISCO_VMM_DEVICE_GSO_H
#define DISCO_VMM_DEVICE_GSO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GSO_HDR_MAX = 192, /* Ethernet, two VLAN tags, IPv6 with options, TCP with options */
    GSO_MSS_MIN = 8,   /* less than this per segment is an attack, not TCP */
    GSO_CSUM = 16,     /* offset of the checksum in a TCP header */
};

/* One large frame. */
struct gso {
    bool v6;                  /* IPv6, else IPv4 */
    unsigned l3, l4, hlen;    /* offsets of IP, TCP and payload in the frame */
    size_t len;               /* bytes of the frame without what follows the IP packet */
    size_t mss;               /* payload bytes of a segment */
    size_t done;              /* payload bytes handed out so far */
    uint8_t hdr[GSO_HDR_MAX]; /* headers of the large frame */
};

/* Checks a frame of len bytes that claims to be TCP over IPv6 or IPv4 to be cut into mss bytes
 * each, and prepares *g.  False: it is not. */
bool gso_begin(struct gso *g, const uint8_t *frame, size_t len, size_t mss, bool v6);

/* Makes the next segment of the frame given to gso_begin: *seg points at it, inside frame, at
 * least at the frame's own start.  partial: the TCP checksum field gets the pseudo-header's sum
 * only.  Bytes of the segment; 0: there are no more. */
size_t gso_next(struct gso *g, uint8_t *frame, bool partial, uint8_t **seg);

/* Puts the pseudo-header's sum into the frame's TCP checksum field, for a receiver that takes it
 * whole. */
void gso_pseudo(const struct gso *g, uint8_t *frame);

#endif
