/* SPDX-License-Identifier: MIT */
/* Debug exit with the value of code= by width= bytes: what `disco run` gives back. */
#include "guest.h"

void guest_test(const struct start *s)
{
    uint32_t code = option_number("code", 0), width = option_number("width", 4);

    (void)s;
    if (width == 1)
        outb(0xf4, (uint8_t)code);
    else if (width == 2)
        outw(0xf4, (uint16_t)code);
    else
        outl(0xf4, code);
    stop();
}
