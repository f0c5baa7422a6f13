/* SPDX-License-Identifier: MIT */
/*
 * What lapic.c, lapic_regs.c, lapic_timer.c, irqchip.c and ioapic.c share.  Private to them;
 * everybody else includes irq.h.
 *
 * Threads: a local APIC's fields are grouped by who writes them.  "Any" fields are atomic and
 * written by whoever sends an interrupt; "published" ones are atomic, written by the owner only
 * and read by senders; the rest is the owner's alone.
 */
#ifndef DISCO_VMM_MACHINE_LAPIC_H
#define DISCO_VMM_MACHINE_LAPIC_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/irq.h"

struct ioapic;

/* Modes of a local APIC, from IA32_APIC_BASE bits 11:10. */
enum lapic_mode { LAPIC_OFF, LAPIC_XAPIC, LAPIC_X2APIC };

/* Entries of the local vector table, in the order of registers 0x32 to 0x37. */
enum lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* Delivery modes as ICR, RTE and MSI data encode them in bits 10:8. */
enum delivery {
    DELIVER_FIXED = 0,  /* as the vector says */
    DELIVER_LOWEST = 1, /* to the one with the lowest priority */
    DELIVER_SMI = 2,    /* system management, not modelled */
    DELIVER_NMI = 4,    /* non-maskable */
    DELIVER_INIT = 5,   /* to INIT state */
    DELIVER_SIPI = 6,   /* start-up */
    DELIVER_EXTINT = 7, /* by an external 8259, not modelled */
};

/* Destination shorthands of the ICR, bits 19:18. */
enum shorthand { TO_DEST, TO_SELF, TO_ALL, TO_OTHERS };

enum {
    LVT_MASKED = 1 << 16,      /* LVT: nothing is delivered */
    SVR_ENABLED = 1 << 8,      /* SVR: the APIC is on */
    VECTOR_MIN = 16,           /* lower vectors are illegal in messages */
    ESR_SENT_BAD = 1 << 5,     /* send illegal vector */
    ESR_RECEIVED_BAD = 1 << 6, /* receive illegal vector */
    ESR_BAD_REGISTER = 1 << 7, /* illegal register address */
};

/* Sender of messages that no vCPU sent. */
#define IRQ_SRC_DEVICE UINT32_MAX

/* The timer of a local APIC.  Owner thread only.  Its mode and mask are in the LVT. */
struct lapic_timer {
    uint64_t deadline; /* when it expires next, host now_ns time; 0: not armed */
    uint64_t period;   /* ns of one whole count-down; valid in count-down modes */
    uint64_t tsc;      /* armed IA32_TSC_DEADLINE; 0: not armed */
    uint32_t initial;  /* initial-count register */
    uint32_t divide;   /* divide-configuration register, bits 3, 1 and 0 */
};

/* One local APIC. */
struct lapic {
    /* any: bit v = vector v, word v / 64 */
    alignas(64) _Atomic uint64_t irr[4]; /* requested; set by any, cleared by the owner */
    _Atomic uint64_t tmr[4];             /* 1: came level triggered */
    _Atomic uint32_t errors;             /* ESR bits since the guest last latched them */

    /* published */
    alignas(64) _Atomic uint32_t mode; /* enum lapic_mode */
    _Atomic uint32_t svr;              /* spurious-interrupt vector register */
    _Atomic uint32_t ldr;              /* logical destination, xAPIC form, bits 31:24 */
    _Atomic uint32_t dfr;              /* destination format, xAPIC only */
    _Atomic uint32_t lvt[LVT_COUNT];   /* local vector table; senders read LVT_ERROR */
    _Atomic uint32_t ppr;              /* processor priority, bits 7:0 */

    /* owner */
    uint64_t isr[4];          /* in service, as irr */
    uint32_t tpr;             /* task priority, bits 7:0 */
    uint32_t esr;             /* error status as last latched */
    uint32_t icr_low;         /* last interrupt command, delivery status always idle */
    uint32_t icr_high;        /* its destination: bits 31:24 (xAPIC) or all (x2APIC) */
    bool logical;             /* counted in irqchip.nlogical */
    struct lapic_timer timer; /* the timer */

    /* constant */
    uint32_t id;        /* APIC id = vCPU number */
    struct irqchip *ic; /* the machine's controllers */
};

/* All controllers of a machine. */
struct irqchip {
    struct irq_host host;  /* the rest of the machine; constant */
    unsigned n;            /* vCPUs; constant */
    struct lapic *lapic;   /* n local APICs, index = APIC id; constant */
    struct ioapic *ioapic; /* the IOAPIC; constant */
    atomic_uint nlogical;  /* local APICs in xAPIC mode with a logical id; owners write */
    atomic_uint turn;      /* rotates lowest-priority choice among equals; any */
};

/* An interrupt message on its way: an IPI, an MSI or an IOAPIC pin's. */
struct irq_msg {
    uint32_t src;             /* sending vCPU, or IRQ_SRC_DEVICE */
    uint32_t dest;            /* destination as the sender encodes it */
    enum shorthand shorthand; /* TO_DEST, or who else than dest */
    enum delivery mode;       /* what to do at the destination */
    uint8_t vector;           /* vector, or startup page */
    bool logical;             /* dest is a logical destination */
    bool wide;                /* dest is 32 bits, sent in x2APIC mode */
    bool level;               /* level triggered: EOI goes to the IOAPIC */
};

/* ---- irqchip.c ---- */

/* Sends a message to all it addresses.  Any thread.  True if at least one accepted it. */
bool irq_route(struct irqchip *ic, const struct irq_msg *m);

/* ---- lapic.c ---- */

/* Puts a zeroed local APIC into its power-up state. */
void lapic_setup(struct lapic *l, struct irqchip *ic, uint32_t id);

/* lapic_post() that tells whether the APIC took the vector.  Any thread. */
bool lapic_take(struct lapic *l, uint8_t vector, bool level);

/* True if fixed interrupts are accepted: neither globally nor software disabled.  Any thread. */
bool lapic_accepts(const struct lapic *l);

/* True if a logical destination names this APIC.  Any thread. */
bool lapic_matches(const struct lapic *l, uint32_t dest, bool wide);

/* Raises the interrupt of an LVT entry unless it is masked.  Any thread for LVT_ERROR, owner for
 * the others. */
void lapic_fire(struct lapic *l, enum lvt which);

/* Records an error for the ESR and raises the error interrupt.  Any thread. */
void lapic_error(struct lapic *l, uint32_t bit);

/* The highest vector set in a bitmap, or -1. */
int lapic_highest(const uint64_t w[4]);

/* The highest requested vector, or -1.  Owner. */
int lapic_requested(const struct lapic *l);

/* Recomputes the processor priority; after every change of TPR or ISR.  Owner. */
void lapic_update_ppr(struct lapic *l);

/* Ends the highest vector in service, tells the IOAPIC if it came level triggered.  Owner. */
void lapic_eoi(struct lapic *l);

/* Stores mode and logical id, and keeps the machine's count of xAPIC logical ids.  Owner. */
void lapic_set_identity(struct lapic *l, enum lapic_mode mode, uint32_t ldr);

/* The x2APIC logical id: cluster in the upper half, one bit of 16 in the lower. */
uint32_t lapic_x2apic_ldr(const struct lapic *l);

/* Loads a published field: each stands for itself, no order needed.  Any thread. */
static inline uint32_t lapic_get(const _Atomic uint32_t *field)
{
    return atomic_load_explicit(field, memory_order_relaxed);
}

/* Stores a published field.  Owner. */
static inline void lapic_put(_Atomic uint32_t *field, uint32_t val)
{
    atomic_store_explicit(field, val, memory_order_relaxed);
}

/* ---- lapic_timer.c, owner thread ---- */

/* Disarms and clears all timer registers. */
void timer_reset(struct lapic *l);

/* Stores the LVT timer entry; a change from or to TSC-deadline mode disarms. */
void timer_set_lvt(struct lapic *l, uint32_t lvt);

/* Writes the initial count: starts or, by 0, stops a count-down. */
void timer_set_initial(struct lapic *l, uint32_t count);

/* Writes the divide configuration; a running count goes on at the new rate. */
void timer_set_divide(struct lapic *l, uint32_t divide);

/* The current-count register. */
uint32_t timer_current(struct lapic *l);

/* Reads IA32_TSC_DEADLINE: 0 when not armed. */
uint64_t timer_get_tsc(struct lapic *l);

/* Writes IA32_TSC_DEADLINE: arms, or disarms by 0; ignored in other modes of the timer. */
void timer_set_tsc(struct lapic *l, uint64_t tsc);

#endif
