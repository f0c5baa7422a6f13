/* SPDX-License-Identifier: MIT */
/*
 * The Internet checksum (RFC 1071): a one's complement sum of 16-bit words.  It does not depend on
 * the order of bytes in a word, so words are summed as they lie in memory, four bytes at a time.
 * Pure functions.
 */
#include "vmm/device/csum.h"

#include <string.h>

uint64_t csum_add(uint64_t sum, const void *p, size_t len)
{
    const uint8_t *b = p;
    uint8_t tail[4] = {0};
    uint32_t word;

    for (; len >= sizeof(word); len -= sizeof(word), b += sizeof(word)) {
        memcpy(&word, b, sizeof(word));
        sum += word;
    }
    memcpy(tail, b, len); /* zeros after the end don't count */
    memcpy(&word, tail, sizeof(word));
    return sum + word;
}

uint16_t csum_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

uint16_t csum_field(uint64_t sum)
{
    uint16_t c = (uint16_t)~csum_fold(sum);

    return c ? c : 0xffff; /* the same number in one's complement */
}

void csum_finish(uint8_t *frame, size_t len, size_t start, size_t at)
{
    uint16_t c = csum_field(csum_add(0, frame + start, len - start));

    memcpy(frame + at, &c, sizeof(c));
}
