/* SPDX-License-Identifier: MIT */
/*
 * The Internet checksum (RFC 1071): a one's complement sum of 16-bit words.  Pure functions.
 */
#include "vmm/device/csum.h"

void csum_finish(uint8_t *frame, size_t len, size_t start, size_t at)
{
    uint64_t sum = 0;
    uint16_t folded;

    for (size_t i = start; i < len; i += 2)
        sum += (uint64_t)frame[i] << 8 | (i + 1 < len ? frame[i + 1] : 0);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    folded = (uint16_t)~sum;
    if (!folded)
        folded = 0xffff; /* 0 means "no checksum" to UDP, and equals 0xffff to TCP */
    frame[at] = (uint8_t)(folded >> 8);
    frame[at + 1] = (uint8_t)folded;
}
