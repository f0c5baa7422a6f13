/* SPDX-License-Identifier: MIT */
/*
 * What the model must know of an x86 instruction.  Prefixes come first, in any order, then at most
 * one REX byte; a question that finds fewer bytes than it needs answers no.
 */
#include "bench/memsys/decode.h"

#include <string.h>

#include "bench/memsys/roi.h"

/* Bytes of prefixes; *lock: one of them is lock. */
static size_t prefixes(const uint8_t *code, size_t size, bool *lock)
{
    static const uint8_t known[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3};
    size_t at = 0;

    *lock = false;
    for (; at < size; at++) {
        if (code[at] == 0xf0)
            *lock = true;
        else if (!memchr(known, code[at], sizeof(known)))
            break;
    }
    return at + (at < size && (code[at] & 0xf0) == 0x40);
}

bool decode_drops_translations(const uint8_t *code, size_t size)
{
    bool lock;
    size_t at = prefixes(code, size, &lock);

    if (size - at < 3 || code[at] != 0x0f)
        return false;
    if (code[at + 1] == 0x22)
        return true;
    if (code[at + 1] == 0x01)
        return (code[at + 2] >> 3 & 7) == 7;
    return code[at + 1] == 0x38 && code[at + 2] == 0x82;
}

bool decode_is_vmrun(const uint8_t *code, size_t size)
{
    return size == 3 && code[0] == 0x0f && code[1] == 0x01 && code[2] == 0xd8;
}

bool decode_is_locked(const uint8_t *code, size_t size)
{
    bool lock;
    size_t at = prefixes(code, size, &lock);

    return lock ||
           (size - at >= 2 && (code[at] == 0x86 || code[at] == 0x87) && code[at + 1] >> 6 != 3);
}

uint32_t decode_command(const uint8_t *code, size_t size)
{
    uint32_t number;

    if (size != 7 || code[0] != 0x0f || code[1] != 0x1f || code[2] != 0x80)
        return 0;
    memcpy(&number, code + 3, sizeof(number));
    return (number & 0xffff0000) == ROI_MAGIC ? number & 0xffff : 0;
}
