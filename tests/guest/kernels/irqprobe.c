/* SPDX-License-Identifier: MIT */
/*
 * Whether this KVM can interrupt a guest's kernel and return from the handler at all: passes or
 * dies.  A KVM that emulates kernels may lack it; run.sh then skips what needs it, with a reason.
 */
#include "guest.h"

void guest_test(const struct start *s)
{
    (void)s;
    interrupts_init();
    apic_enable();
    apic_send(0, ICR_SELF | 0x40);
    sti();
    for (uint64_t start = rdtsc(); !irq_count[0x40] && elapsed_us(start) < 100000;)
        relax();
    cli();
    CHECK_EQ(irq_count[0x40], 1);
}
