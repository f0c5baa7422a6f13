/* SPDX-License-Identifier: MIT */
/*
 * The Internet checksum, for frames whose receiver cannot take them unfinished.  Pure.
 */
#ifndef DISCO_VMM_DEVICE_CSUM_H
#define DISCO_VMM_DEVICE_CSUM_H

#include <stddef.h>
#include <stdint.h>

/* Sums bytes start..len of the frame (the field at `at` holds the pseudo-header's sum, as the
 * sender left it) and stores the complement at `at`.  start < len and at + 2 <= len. RFC 1071. */
void csum_finish(uint8_t *frame, size_t len, size_t start, size_t at);

#endif
