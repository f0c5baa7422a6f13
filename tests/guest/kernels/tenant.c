/* SPDX-License-Identifier: MIT */
/*
 * A guest that lives until it is told to go, for the tests of the monitor: starts its other CPUs,
 * says "tenant up", sends back what is typed on the serial port, and switches itself off when the
 * power button is pressed.  It sleeps meanwhile.
 * Options: cpus=N (to start), deaf=1 (the power button does nothing), exit=N (ends at once by the
 * debug exit with N), off=1 (switches itself off at once).
 */
#include "guest.h"

enum {
    IOAPIC = 0xfec00000,
    COM_PIN = 4,
    COM_VECTOR = 0x40,
    BUTTON_PIN = 9,
    BUTTON_VECTOR = 0x41,
    LEVEL = 1 << 15,
    PM_CONTROL = 0x600,
    PM_EVENTS = 0x604,
    SLEEP_S5 = 0x34,
};

static uint8_t stack[4096] __attribute__((aligned(16))); /* of live() */

/* Routes a pin of the IOAPIC to this CPU. */
static void route(uint32_t pin, uint32_t low)
{
    set_mem32(IOAPIC, 0x11 + 2 * pin);
    set_mem32(IOAPIC + 0x10, 0);
    set_mem32(IOAPIC, 0x10 + 2 * pin);
    set_mem32(IOAPIC + 0x10, low);
}

/* Sends back all that was typed. */
static void echo(void)
{
    while (inb(COM1 + 5) & 1)
        outb(COM1, inb(COM1));
}

/* Switches the guest off. */
static _Noreturn void leave(void)
{
    say("tenant leaves\n");
    outb(PM_CONTROL, SLEEP_S5);
    stop();
}

/* Begins to wait, with nothing on the stack. */
static _Noreturn void live(void)
{
    echo();
    for (;;)
        __asm__ volatile("sti; hlt");
}

/* An interrupt: takes away what holds the line up, ends it, and waits anew. */
static void on_irq(struct frame *f)
{
    bool pressed = f->vector == BUTTON_VECTOR && (inb(PM_EVENTS) & 1);

    apic_write(A_EOI, 0);
    if (pressed && !option_is("deaf", "1"))
        leave();
    __asm__ volatile("movl %0, %%esp; jmp *%1" ::"r"(stack + sizeof(stack) - 16), "r"(live));
}

void guest_test(const struct start *s)
{
    uint32_t cpus = option_number("cpus", 1);

    (void)s;
    interrupts_init();
    apic_enable();
    irq_hook = on_irq;
    for (uint32_t i = 1; i < cpus; i++)
        cpu_start(i);
    if (cpus > 1)
        CHECK(wait_for(&cpus_up, cpus - 1, 10000));
    say("tenant up\n");
    if (option_is("exit", ""))
        outb(0xf4, (uint8_t)option_number("exit", 0));
    route(COM_PIN, COM_VECTOR);
    route(BUTTON_PIN, BUTTON_VECTOR | LEVEL);
    outb(COM1 + 4, 8); /* OUT2 lets the interrupt out */
    outb(COM1 + 1, 1); /* when something was typed */
    if (option_is("off", "1"))
        leave();
    live();
}
