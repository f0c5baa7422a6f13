/* SPDX-License-Identifier: MIT */
/*
 * The Internet checksum (RFC 1071), for frames whose receiver cannot take them unfinished.  Pure.
 */
#ifndef DISCO_VMM_DEVICE_CSUM_H
#define DISCO_VMM_DEVICE_CSUM_H

#include <stddef.h>
#include <stdint.h>

/* Adds len bytes to a sum (0 at first).  Only the last piece of several may have an odd length.
 * The sum is of words as they lie in memory; at most 16 GiB may be added to one. */
uint64_t csum_add(uint64_t sum, const void *p, size_t len);

/* The sum in 16 bits, as it lies in memory, not complemented: a pseudo-header's. */
uint16_t csum_fold(uint64_t sum);

/* The sum ready to be stored as a checksum: complemented, never 0, which would mean "none" to
 * UDP. */
uint16_t csum_field(uint64_t sum);

/* Sums bytes start..len of the frame (the field at `at` holds the pseudo-header's sum, as the
 * sender left it) and stores the complement at `at`.  start < len and at + 2 <= len. */
void csum_finish(uint8_t *frame, size_t len, size_t start, size_t at);

#endif
