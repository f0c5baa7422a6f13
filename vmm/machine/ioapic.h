/* SPDX-License-Identifier: MIT */
/*
 * The IOAPIC as irqchip.c and lapic.c see it.  Private to vmm/machine; devices use irq.h.
 * Threads: every function may be called from any thread; see ioapic.c for the lock.
 */
#ifndef DISCO_VMM_MACHINE_IOAPIC_H
#define DISCO_VMM_MACHINE_IOAPIC_H

#include <stdbool.h>
#include <stdint.h>

struct bus;
struct ioapic;
struct irqchip;

/* Makes an IOAPIC in its power-up state: all pins masked. NULL when the host has no memory. */
struct ioapic *ioapic_new(struct irqchip *ic);

/* Undoes ioapic_new(); NULL is allowed. */
void ioapic_free(struct ioapic *io);

/* Puts its registers at 0xfec00000. */
void ioapic_map(struct ioapic *io, struct bus *mmio);

/* Sets the level of a pin. pin < IOAPIC_PINS. */
void ioapic_set_pin(struct ioapic *io, unsigned pin, bool level);

/* A local APIC finished a level-triggered vector: clears remote IRR, sends again what is still
 * asserted. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);

#endif
