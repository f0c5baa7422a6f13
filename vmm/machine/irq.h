/* SPDX-License-Identifier: MIT */
/*
 * The guest's interrupt controllers, all in userspace: one local APIC a vCPU (xAPIC and x2APIC),
 * one IOAPIC, and messages (MSI).  Pure state machines: they know no KVM and no threads; time
 * and wake-ups come through struct irq_host.  Sources: Intel SDM vol. 3 chapter "APIC", IOAPIC
 * 82093AA data sheet, AMD APM vol. 2 chapter 16.
 *
 * Threads.  "owner" = the vCPU thread of that local APIC; "any" = any thread.
 *   owner: lapic_read/write, msr, pending, accept, timer, set_base, reset
 *   any:   irq_msi, irq_gsi, lapic_post, and everything the sender of an IPI does to a target
 * What others touch (IRR, TMR, LDR, DFR, mode, id) is atomic; see lapic.c for who writes what.
 * The IOAPIC has one mutex, taken by any; it is released before a local APIC is touched, except
 * as written in ioapic.c.
 */
#ifndef DISCO_VMM_MACHINE_IRQ_H
#define DISCO_VMM_MACHINE_IRQ_H

#include <stdbool.h>
#include <stdint.h>

struct irqchip;
struct lapic;
struct bus;
struct err;

enum { IOAPIC_PINS = 24 };

/* How the interrupt controllers reach the rest of the machine. */
struct irq_host {
    /* Required: the vCPU may have something deliverable; make it look. Any thread. */
    void (*kick)(void *ctx, unsigned vcpu);
    /* Required: NMI, INIT and startup IPIs for a vCPU. Any thread. */
    void (*nmi)(void *ctx, unsigned vcpu);
    void (*init)(void *ctx, unsigned vcpu);
    void (*sipi)(void *ctx, unsigned vcpu, uint8_t vector);
    /* Required: monotonic time in ns of the guest's timers. */
    uint64_t (*now_ns)(void *ctx);
    /* Required: when (in now_ns time) the guest's TSC reaches tsc; a past value gives <= now. */
    uint64_t (*tsc_to_ns)(void *ctx, uint64_t tsc);
    /* Optional: counts an IPI from vCPU src to vCPU dst (src = UINT32_MAX: a device). */
    void (*count_ipi)(void *ctx, uint32_t src, unsigned dst);
    void *ctx; /* first argument of all */
};

/* Makes the controllers for nvcpus (1..4096) vCPUs; APIC id = vCPU number. vCPU 0 is the BSP. */
int irqchip_new(struct irqchip **out, unsigned nvcpus, const struct irq_host *host,
                struct err *err);

/* Frees all of it.  No thread may be inside. */
void irqchip_free(struct irqchip *ic);

/* Puts the IOAPIC's registers on the MMIO bus. */
void irqchip_map(struct irqchip *ic, struct bus *mmio);

/* A message-signalled interrupt: address and data as the device's table holds them.  Extended
 * destination ids (address bits 11:5 = id bits 14:8, KVM_FEATURE_MSI_EXT_DEST_ID) are honoured. */
void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data);

/* Sets the level of an IOAPIC pin; an edge pin fires on a rising level. pin < IOAPIC_PINS. */
void irq_gsi(struct irqchip *ic, unsigned pin, bool level);

/* The local APIC of a vCPU. */
struct lapic *irq_lapic(struct irqchip *ic, unsigned vcpu);

/* ---- local APIC, owner thread ---- */

/* Power-up state, or INIT (which keeps the APIC id and the mode: SDM vol. 3, 10.12.5) */
void lapic_reset(struct lapic *l, bool init);

/* Tells the value of IA32_APIC_BASE KVM holds (mode bits 11:10, BSP bit 8). Cheap if unchanged. */
void lapic_set_base(struct lapic *l, uint64_t apic_base);

/* MMIO read of the register page, off < 4096: aligned 4-byte accesses matter, others read as 0; all
 * bits set when the mode is not xAPIC. */
uint32_t lapic_mmio_read(struct lapic *l, uint32_t off);

/* MMIO write to the register page: ignored where no register is, and when the mode is not xAPIC. */
void lapic_mmio_write(struct lapic *l, uint32_t off, uint32_t val);

/* MSR read: 0x800-0x8ff (x2APIC mode) and 0x6e0 (TSC deadline).  False: the guest gets #GP. */
bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *val);

/* MSR write of the same; also false, and nothing done, for reserved bits and read-only registers. */
bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t val);

/* The vector that may be delivered now (priority above PPR, APIC enabled), or -1. Does not change
 * state. */
int lapic_pending(const struct lapic *l);

/* The vector was handed to the vCPU: IRR -> ISR. */
void lapic_accept(struct lapic *l, uint8_t vector);

/* Takes CR8 as the vCPU has it over into the TPR (bits 7:4). */
void lapic_set_cr8(struct lapic *l, uint8_t cr8);

/* CR8 as the TPR has it, for the vCPU. */
uint8_t lapic_get_cr8(const struct lapic *l);

/* When the timer fires next, in host now_ns time; 0: never. */
uint64_t lapic_deadline(const struct lapic *l);

/* Fires the timer if its time has come; periodic timers are re-armed without drift. */
void lapic_timer_check(struct lapic *l);

/* Time stood still for the guest for delta_ns (a pause): moves deadlines of count-down timers;
 * TSC deadlines are computed anew from tsc_to_ns. */
void lapic_time_shift(struct lapic *l, uint64_t delta_ns);

/* ---- local APIC, any thread ---- */

/* Sets the request bit of a vector and kicks the vCPU. level: its EOI is told to the IOAPIC. */
void lapic_post(struct lapic *l, uint8_t vector, bool level);

#endif
