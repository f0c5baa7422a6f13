/* SPDX-License-Identifier: MIT */
/*
 * The IOAPIC, by the interrupt of COM1's empty transmitter: registers, mask, edge, level with
 * remote IRR, logical destination.
 */
#include "guest.h"

enum {
    PIN = 4,
    VECTOR = 0x44,
    RTE = 0x10 + 2 * PIN,
    LEVEL = 1 << 15,
    REMOTE_IRR = 1 << 14,
    LOGICAL = 1 << 11,
    IER = COM1 + 1,
    IIR = COM1 + 2,
    THRI = 2,
};

static uint32_t io_read(uint32_t reg)
{
    set_mem32(0xfec00000, reg);
    return mem32(0xfec00010);
}

static void io_write(uint32_t reg, uint32_t v)
{
    set_mem32(0xfec00000, reg);
    set_mem32(0xfec00010, v);
}

/* Interrupts still to be answered without looking at the cause. */
static volatile uint32_t deaf;

/* Reads the cause, which takes the transmitter's interrupt away, once we listen again. */
static void on_uart(struct frame *f)
{
    if (f->vector != VECTOR)
        return;
    if (deaf)
        deaf--;
    else
        (void)inb(IIR);
}

/* Enables the transmitter's interrupt anew. */
static void arm(void)
{
    outb(IER, 0);
    outb(IER, THRI);
}

void guest_test(const struct start *s)
{
    (void)s;
    interrupts_init();
    apic_enable();
    irq_hook = on_uart;
    CHECK_EQ(io_read(1) & 0xff, 0x20);
    CHECK_EQ(io_read(1) >> 16 & 0xff, 23);
    for (uint32_t pin = 0; pin < 24; pin++)
        CHECK(io_read(0x10 + 2 * pin) & MASKED);
    outb(COM1 + 4, 8); /* OUT2: lets the interrupt out */

    io_write(RTE + 1, 0);
    io_write(RTE, MASKED | VECTOR);
    arm();
    window();
    CHECK_EQ(irq_count[VECTOR], 0); /* masked; the edge is lost */
    (void)inb(IIR);
    io_write(RTE, VECTOR);
    CHECK_EQ(io_read(RTE), VECTOR);
    for (uint32_t i = 1; i <= 3; i++) {
        arm();
        window();
        CHECK_EQ(irq_count[VECTOR], i);
    }

    /* level: comes again after each EOI until the cause is gone */
    irq_clear();
    outb(IER, 0);
    io_write(RTE, LEVEL | VECTOR);
    deaf = 3;
    outb(IER, THRI);
    for (uint32_t i = 0; i < 20; i++)
        window();
    CHECK_EQ(irq_count[VECTOR], 4);
    CHECK(!(io_read(RTE) & REMOTE_IRR));

    /* remote IRR is set while it is in service, and holds it back */
    irq_clear();
    irq_no_eoi[VECTOR] = true;
    deaf = 1;
    arm();
    window();
    CHECK_EQ(irq_count[VECTOR], 1);
    CHECK(io_read(RTE) & REMOTE_IRR);
    irq_no_eoi[VECTOR] = false;
    apic_write(A_EOI, 0);
    window();
    CHECK_EQ(irq_count[VECTOR], 2);
    CHECK(!(io_read(RTE) & REMOTE_IRR));

    /* logical destination */
    irq_clear();
    outb(IER, 0);
    apic_write(A_LDR, 0x02000000);
    io_write(RTE, MASKED | LOGICAL | VECTOR);
    io_write(RTE + 1, 0x02000000);
    io_write(RTE, LOGICAL | VECTOR);
    arm();
    window();
    CHECK_EQ(irq_count[VECTOR], 1);
    io_write(RTE + 1, 0x04000000);
    arm();
    window();
    CHECK_EQ(irq_count[VECTOR], 1);
    outb(IER, 0);
}
