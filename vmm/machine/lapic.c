/* SPDX-License-Identifier: MIT */
/*
 * One local APIC: modes, priorities, acceptance, end of interrupt.  Registers are lapic_regs.c's,
 * the timer is lapic_timer.c's.
 *
 * Interface: lapic_*() of irq.h but for registers and time.
 * Invariants: L1 a vector once set in IRR stays until the owner accepts it or resets; L2 only the
 * owner clears IRR bits and touches ISR; L3 ppr is always computed from TPR and ISR as they are.
 *
 * Threads and memory order.  No locks.  A sender does
 *     TMR |= bit; IRR |= bit (seq_cst); host->kick: read the vCPU's run state (seq_cst)
 * and the vCPU loop does
 *     run state = in guest (seq_cst); lapic_pending: read IRR (seq_cst); KVM_RUN
 * so at least one side sees the other: either the loop finds the bit, or the sender finds "in
 * guest" and interrupts it.  The run state must be accessed seq_cst by the loop and by kick.
 * lapic_accept() clears the IRR bit by a read-modify-write (acquire): what a sender wrote before
 * its post is visible to the guest's handler.  TMR is written before IRR and read by the owner at
 * EOI, after it saw the IRR bit.  Published fields (see lapic.h) are stored by the owner alone;
 * a sender that reads an old value acts as one that sent a moment earlier.
 */
#include "vmm/machine/lapic.h"

#include <stddef.h>
#include <string.h>

#include "base/err.h"
#include "vmm/machine/ioapic.h"

enum {
    DFR_FLAT = 0xf,    /* DFR bits 31:28 */
    DFR_CLUSTER = 0x0, /* same */
};

/* The word and bit of a vector in IRR, TMR and ISR. */
static unsigned word_of(unsigned vector)
{
    return vector / 64;
}

static uint64_t bit_of(unsigned vector)
{
    return 1ull << (vector % 64);
}

int lapic_highest(const uint64_t w[4])
{
    for (int i = 3; i >= 0; i--) {
        if (w[i])
            return i * 64 + 63 - __builtin_clzll(w[i]);
    }
    return -1;
}

int lapic_requested(const struct lapic *l)
{
    uint64_t w[4];

    /* pairs with lapic_take() */
    for (int i = 0; i < 4; i++)
        w[i] = atomic_load_explicit(&l->irr[i], memory_order_seq_cst);
    return lapic_highest(w);
}

void lapic_update_ppr(struct lapic *l)
{
    int v = lapic_highest(l->isr);
    uint32_t isrv = v < 0 ? 0 : (uint32_t)v;

    lapic_put(&l->ppr, (l->tpr & 0xf0) >= (isrv & 0xf0) ? l->tpr : isrv & 0xf0);
}

/* ---- errors and local interrupts ---- */

void lapic_error(struct lapic *l, uint32_t bit)
{
    atomic_fetch_or(&l->errors, bit);
    lapic_fire(l, LVT_ERROR);
}

void lapic_fire(struct lapic *l, enum lvt which)
{
    uint32_t lvt = lapic_get(&l->lvt[which]);
    uint8_t vector = lvt & 0xff;

    if (lvt & LVT_MASKED)
        return;
    if (which == LVT_ERROR && vector < VECTOR_MIN) /* would report itself for ever */
        atomic_fetch_or(&l->errors, ESR_RECEIVED_BAD);
    else
        lapic_post(l, vector, false);
}

/* ---- modes and logical ids ---- */

void lapic_set_identity(struct lapic *l, enum lapic_mode mode, uint32_t ldr)
{
    bool logical = mode == LAPIC_XAPIC && ldr;

    /* the count goes up before the id can match, and down after it cannot */
    if (logical && !l->logical)
        atomic_fetch_add(&l->ic->nlogical, 1);
    atomic_store(&l->ldr, ldr);
    atomic_store(&l->mode, mode);
    if (!logical && l->logical)
        atomic_fetch_sub(&l->ic->nlogical, 1);
    l->logical = logical;
}

uint32_t lapic_x2apic_ldr(const struct lapic *l)
{
    return l->id >> 4 << 16 | 1u << (l->id & 15);
}

/* All registers as after power-up, in a given mode. */
static void power_up(struct lapic *l, enum lapic_mode mode)
{
    lapic_put(&l->svr, 0xff);
    for (int i = 0; i < LVT_COUNT; i++)
        lapic_put(&l->lvt[i], LVT_MASKED);
    timer_reset(l);
    lapic_set_identity(l, mode, 0);
    lapic_put(&l->dfr, UINT32_MAX);
    for (int i = 0; i < 4; i++) {
        atomic_store(&l->irr[i], 0);
        atomic_store(&l->tmr[i], 0);
    }
    memset(l->isr, 0, sizeof(l->isr));
    atomic_store(&l->errors, 0);
    l->tpr = l->esr = l->icr_low = l->icr_high = 0;
    lapic_update_ppr(l);
}

void lapic_setup(struct lapic *l, struct irqchip *ic, uint32_t id)
{
    l->ic = ic;
    l->id = id;
    power_up(l, LAPIC_XAPIC);
}

void lapic_reset(struct lapic *l, bool init)
{
    power_up(l, init ? lapic_get(&l->mode) : LAPIC_XAPIC);
}

void lapic_set_base(struct lapic *l, uint64_t apic_base)
{
    static const enum lapic_mode modes[] = {LAPIC_OFF, LAPIC_OFF, LAPIC_XAPIC, LAPIC_X2APIC};
    enum lapic_mode mode = modes[apic_base >> 10 & 3], old = lapic_get(&l->mode);

    if (mode == old)
        return;
    if (mode == LAPIC_OFF || old == LAPIC_OFF) {
        power_up(l, mode);
    } else {
        lapic_set_identity(l, mode, 0);
        l->icr_high = 0;
    }
}

bool lapic_matches(const struct lapic *l, uint32_t dest, bool wide)
{
    uint32_t ldr = atomic_load(&l->ldr) >> 24, dfr = lapic_get(&l->dfr) >> 28;

    switch (atomic_load(&l->mode)) {
    case LAPIC_X2APIC:
        return dest >> 16 == l->id >> 4 && (dest & lapic_x2apic_ldr(l) & 0xffff);
    case LAPIC_XAPIC:
        if (dest == 0xff && !wide)
            return true;
        if (dest > 0xff)
            return false;
        if (dfr == DFR_FLAT)
            return dest & ldr;
        return dfr == DFR_CLUSTER && dest >> 4 == ldr >> 4 && (dest & ldr & 0xf);
    default:
        return false;
    }
}

/* ---- interrupts come in and go out ---- */

bool lapic_accepts(const struct lapic *l)
{
    return lapic_get(&l->mode) != LAPIC_OFF && (lapic_get(&l->svr) & SVR_ENABLED);
}

bool lapic_take(struct lapic *l, uint8_t vector, bool level)
{
    _Atomic uint64_t *tmr = &l->tmr[word_of(vector)];
    uint64_t bit = bit_of(vector);

    if (!lapic_accepts(l))
        return false;
    if (vector < VECTOR_MIN) {
        lapic_error(l, ESR_RECEIVED_BAD);
        return false;
    }
    if (level)
        atomic_fetch_or(tmr, bit);
    else if (atomic_load_explicit(tmr, memory_order_relaxed) & bit)
        atomic_fetch_and(tmr, ~bit);
    atomic_fetch_or_explicit(&l->irr[word_of(vector)], bit, memory_order_seq_cst);
    l->ic->host.kick(l->ic->host.ctx, l->id);
    return true;
}

void lapic_post(struct lapic *l, uint8_t vector, bool level)
{
    lapic_take(l, vector, level);
}

int lapic_pending(const struct lapic *l)
{
    int v = lapic_requested(l);

    if (v < 0 || lapic_get(&l->mode) == LAPIC_OFF)
        return -1;
    return (v & 0xf0) > (int)(lapic_get(&l->ppr) & 0xf0) ? v : -1;
}

void lapic_accept(struct lapic *l, uint8_t vector)
{
    uint64_t bit = bit_of(vector);
    uint64_t old = atomic_fetch_and(&l->irr[word_of(vector)], ~bit);

    INVARIANT(old & bit, "L1: accepted vector is not in IRR");
    l->isr[word_of(vector)] |= bit;
    lapic_update_ppr(l);
}

void lapic_eoi(struct lapic *l)
{
    int v = lapic_highest(l->isr);

    if (v < 0)
        return;
    l->isr[word_of((unsigned)v)] &= ~bit_of((unsigned)v);
    lapic_update_ppr(l);
    if (atomic_load(&l->tmr[word_of((unsigned)v)]) & bit_of((unsigned)v))
        ioapic_eoi(l->ic->ioapic, (uint8_t)v);
}

void lapic_set_cr8(struct lapic *l, uint8_t cr8)
{
    if ((l->tpr >> 4) == (cr8 & 0xf))
        return;
    l->tpr = (uint32_t)(cr8 & 0xf) << 4;
    lapic_update_ppr(l);
}

uint8_t lapic_get_cr8(const struct lapic *l)
{
    return (uint8_t)(l->tpr >> 4);
}
