/* SPDX-License-Identifier: MIT */
/*
 * One way to end: how= acpi-off, acpi-reset, kbd, cf9, triple-reset (empty IDT), triple-fault
 * (IDT of absent gates), hang (cli; jmp), halt (cli; hlt), sleep (HLT and a timer for ms= of them).
 * The runner looks at `disco run`'s exit status and "end".  Coming past the end is a failed check.
 */
#include "guest.h"

/* Faults with the IDT given. */
static void triple(uint16_t limit, uint64_t *idt)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) ptr = {limit, (uint32_t)idt};

    __asm__ volatile("lidt %0; ud2" ::"m"(ptr));
}

/* As a kernel does that shuts down: it had interrupts, its local APIC is off, its IDT empty.  (On
 * AMD the IDT is lost with a triple fault, and the VMM goes by the local APIC.) */
static void triple_reset(void)
{
    interrupts_init();
    apic_enable();
    apic_send(0, ICR_SELF | ICR_ASSERT | 0x40);
    window();
    apic_write(A_SVR, 0xff);
    triple(0, NULL);
}

/* Sleeps; wakes up for the timer only. */
static void sleep_ms(uint32_t ms)
{
    interrupts_init();
    apic_enable();
    apic_write(A_DIVIDE, 0xb);
    apic_write(A_TIMER, 0x50);
    apic_write(A_INITIAL, ms * 1000000);
    while (!irq_count[0x50])
        sti_hlt_cli();
    pass();
}

void guest_test(const struct start *s)
{
    static uint64_t absent[64];

    (void)s;
    say("ready\n");
    if (option_is("how", "acpi-off"))
        outb(0x600, 5 << 2 | 1 << 5);
    else if (option_is("how", "acpi-reset"))
        outb(0x601, 1);
    else if (option_is("how", "kbd"))
        outb(0x64, 0xfe);
    else if (option_is("how", "cf9"))
        outb(0xcf9, 2), outb(0xcf9, 6);
    else if (option_is("how", "triple-reset"))
        triple_reset();
    else if (option_is("how", "triple-fault"))
        triple(sizeof(absent) - 1, absent);
    else if (option_is("how", "hang"))
        __asm__ volatile("cli; 1: jmp 1b");
    else if (option_is("how", "halt"))
        stop();
    else if (option_is("how", "sleep"))
        sleep_ms(option_number("ms", 1000));
    delay_us(2000000);
    CHECK(false);
}
