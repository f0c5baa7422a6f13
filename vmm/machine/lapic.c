/* SPDX-License-Identifier: MIT */
/*
 * One local APIC: registers by MMIO page and by MSR, priorities, acceptance, end of interrupt.
 *
 * Interface: lapic_*() of irq.h.  Both register interfaces reach the same registers: number
 * r = MMIO offset / 16 = MSR - 0x800; the table of rules at the end says what each may do.
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

/* Registers, by number. */
enum {
    R_ID = 0x02,
    R_VERSION = 0x03,
    R_TPR = 0x08,
    R_APR = 0x09,
    R_PPR = 0x0a,
    R_EOI = 0x0b,
    R_RRD = 0x0c,
    R_LDR = 0x0d,
    R_DFR = 0x0e,
    R_SVR = 0x0f,
    R_ISR = 0x10,
    R_TMR = 0x18,
    R_IRR = 0x20,
    R_ESR = 0x28,
    R_ICR = 0x30,
    R_ICR_HIGH = 0x31,
    R_LVT = 0x32,
    R_LVT_END = 0x38,
    R_INITIAL = 0x38,
    R_CURRENT = 0x39,
    R_DIVIDE = 0x3e,
    R_SELF_IPI = 0x3f,
    R_COUNT = 0x40,
};

enum {
    MSR_X2APIC = 0x800,
    MSR_X2APIC_LAST = 0x8ff,
    MSR_TSC_DEADLINE = 0x6e0,
    VERSION = 0x50014,      /* integrated APIC, 6 LVT entries, no EOI suppression */
    LVT_READ_ONLY = 0x5000, /* delivery status, remote IRR */
    ICR_BUSY = 1 << 12,     /* delivery status: always idle here */
    ICR_ASSERT = 1 << 14,   /* level */
    ICR_LEVEL = 1 << 15,    /* trigger mode */
    ICR_LOGICAL = 1 << 11,  /* destination mode */
    DFR_FLAT = 0xf,         /* DFR bits 31:28 */
    DFR_CLUSTER = 0x0,      /* same */
};

/* What may be done with a register: X = by MMIO (xAPIC), M = by MSR (x2APIC). */
enum { XR = 1, XW = 2, MR = 4, MW = 8, RO = XR | MR, RW = XR | XW | MR | MW };

/* One register's rule. */
struct rule {
    uint8_t rights; /* XR.. ; 0: reserved */
    uint32_t bits;  /* bits a guest may set; others fault (MSR) or are dropped (MMIO) */
};

static const struct rule rules[R_COUNT];

/* The word and bit of a vector in IRR, TMR and ISR. */
static unsigned word_of(unsigned vector)
{
    return vector / 64;
}

static uint64_t bit_of(unsigned vector)
{
    return 1ull << (vector % 64);
}

/* The highest vector set, or -1. */
static int highest(const uint64_t w[4])
{
    for (int i = 3; i >= 0; i--) {
        if (w[i])
            return i * 64 + 63 - __builtin_clzll(w[i]);
    }
    return -1;
}

/* The highest requested vector, or -1. The seq_cst loads pair with lapic_take(). */
static int highest_requested(const struct lapic *l)
{
    uint64_t w[4];

    for (int i = 0; i < 4; i++)
        w[i] = atomic_load_explicit(&l->irr[i], memory_order_seq_cst);
    return highest(w);
}

/* Load and store of published fields: each stands for itself, no order needed. */
static uint32_t get(const _Atomic uint32_t *field)
{
    return atomic_load_explicit(field, memory_order_relaxed);
}

static void put(_Atomic uint32_t *field, uint32_t val)
{
    atomic_store_explicit(field, val, memory_order_relaxed);
}

/* Recomputes the processor priority; after every change of TPR or ISR (L3). */
static void update_ppr(struct lapic *l)
{
    int v = highest(l->isr);
    uint32_t isrv = v < 0 ? 0 : (uint32_t)v;

    put(&l->ppr, (l->tpr & 0xf0) >= (isrv & 0xf0) ? l->tpr : isrv & 0xf0);
}

/* The arbitration priority, as the manual computes it. */
static uint32_t arbitration_priority(const struct lapic *l)
{
    int r = highest_requested(l), s = highest(l->isr);
    uint32_t irrv = r < 0 ? 0 : (uint32_t)r >> 4, isrv = s < 0 ? 0 : (uint32_t)s >> 4;
    uint32_t tpr = l->tpr >> 4;

    if (tpr >= irrv && tpr > isrv)
        return l->tpr;
    return ((tpr & isrv) > irrv ? tpr & isrv : irrv) << 4;
}

/* ---- errors and local interrupts ---- */

/* Records an error for the ESR and raises the error interrupt.  Any thread. */
static void error(struct lapic *l, uint32_t bit)
{
    atomic_fetch_or(&l->errors, bit);
    lapic_fire(l, LVT_ERROR);
}

void lapic_fire(struct lapic *l, enum lvt which)
{
    uint32_t lvt = get(&l->lvt[which]);
    uint8_t vector = lvt & 0xff;

    if (lvt & LVT_MASKED)
        return;
    if (which == LVT_ERROR && vector < VECTOR_MIN) /* would report itself for ever */
        atomic_fetch_or(&l->errors, ESR_RECEIVED_BAD);
    else
        lapic_post(l, vector, false);
}

/* Stores an LVT entry; while the APIC is disabled by software its mask bit sticks. */
static void set_lvt(struct lapic *l, enum lvt which, uint32_t val)
{
    val &= ~(uint32_t)LVT_READ_ONLY;
    if (!(get(&l->svr) & SVR_ENABLED))
        val |= LVT_MASKED;
    if (which == LVT_TIMER)
        timer_set_lvt(l, val);
    else
        put(&l->lvt[which], val);
}

/* Stores SVR; disabling masks every LVT entry. */
static void set_svr(struct lapic *l, uint32_t val)
{
    lapic_timer_check(l);
    put(&l->svr, val);
    if (val & SVR_ENABLED)
        return;
    for (int i = 0; i < LVT_COUNT; i++)
        put(&l->lvt[i], get(&l->lvt[i]) | LVT_MASKED);
}

/* ---- modes and logical ids ---- */

/* Stores mode and logical id, and keeps the machine's count of xAPIC logical ids.  The count
 * goes up before the id can match and down after it cannot. */
static void set_identity(struct lapic *l, enum lapic_mode mode, uint32_t ldr)
{
    bool logical = mode == LAPIC_XAPIC && ldr;

    if (logical && !l->logical)
        atomic_fetch_add(&l->ic->nlogical, 1);
    atomic_store(&l->ldr, ldr);
    atomic_store(&l->mode, mode);
    if (!logical && l->logical)
        atomic_fetch_sub(&l->ic->nlogical, 1);
    l->logical = logical;
}

/* The x2APIC logical id: cluster in the upper half, one bit of 16 in the lower. */
static uint32_t x2apic_ldr(const struct lapic *l)
{
    return l->id >> 4 << 16 | 1u << (l->id & 15);
}

/* All registers as after power-up, in a given mode. */
static void power_up(struct lapic *l, enum lapic_mode mode)
{
    put(&l->svr, 0xff);
    for (int i = 0; i < LVT_COUNT; i++)
        put(&l->lvt[i], LVT_MASKED);
    timer_reset(l);
    set_identity(l, mode, 0);
    put(&l->dfr, UINT32_MAX);
    for (int i = 0; i < 4; i++) {
        atomic_store(&l->irr[i], 0);
        atomic_store(&l->tmr[i], 0);
    }
    memset(l->isr, 0, sizeof(l->isr));
    atomic_store(&l->errors, 0);
    l->tpr = l->esr = l->icr_low = l->icr_high = 0;
    update_ppr(l);
}

void lapic_setup(struct lapic *l, struct irqchip *ic, uint32_t id)
{
    l->ic = ic;
    l->id = id;
    power_up(l, LAPIC_XAPIC);
}

void lapic_reset(struct lapic *l, bool init)
{
    bool off = init && get(&l->mode) == LAPIC_OFF;

    power_up(l, off ? LAPIC_OFF : LAPIC_XAPIC);
}

void lapic_set_base(struct lapic *l, uint64_t apic_base)
{
    static const enum lapic_mode modes[] = {LAPIC_OFF, LAPIC_OFF, LAPIC_XAPIC, LAPIC_X2APIC};
    enum lapic_mode mode = modes[apic_base >> 10 & 3], old = get(&l->mode);

    if (mode == old)
        return;
    if (mode == LAPIC_OFF || old == LAPIC_OFF) {
        power_up(l, mode);
    } else {
        set_identity(l, mode, 0);
        l->icr_high = 0;
    }
}

bool lapic_matches(const struct lapic *l, uint32_t dest, bool wide)
{
    uint32_t ldr = atomic_load(&l->ldr) >> 24, dfr = get(&l->dfr) >> 28;

    switch (atomic_load(&l->mode)) {
    case LAPIC_X2APIC:
        return dest >> 16 == l->id >> 4 && (dest & x2apic_ldr(l) & 0xffff);
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
    return get(&l->mode) != LAPIC_OFF && (get(&l->svr) & SVR_ENABLED);
}

bool lapic_take(struct lapic *l, uint8_t vector, bool level)
{
    _Atomic uint64_t *tmr = &l->tmr[word_of(vector)];
    uint64_t bit = bit_of(vector);

    if (!lapic_accepts(l))
        return false;
    if (vector < VECTOR_MIN) {
        error(l, ESR_RECEIVED_BAD);
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
    int v = highest_requested(l);

    if (v < 0 || get(&l->mode) == LAPIC_OFF)
        return -1;
    return (v & 0xf0) > (int)(get(&l->ppr) & 0xf0) ? v : -1;
}

void lapic_accept(struct lapic *l, uint8_t vector)
{
    uint64_t bit = bit_of(vector);
    uint64_t old = atomic_fetch_and(&l->irr[word_of(vector)], ~bit);

    INVARIANT(old & bit, "L1: accepted vector is not in IRR");
    l->isr[word_of(vector)] |= bit;
    update_ppr(l);
}

/* End of interrupt: the highest vector in service is done. */
static void eoi(struct lapic *l)
{
    int v = highest(l->isr);

    if (v < 0)
        return;
    l->isr[word_of((unsigned)v)] &= ~bit_of((unsigned)v);
    update_ppr(l);
    if (atomic_load(&l->tmr[word_of((unsigned)v)]) & bit_of((unsigned)v))
        ioapic_eoi(l->ic->ioapic, (uint8_t)v);
}

void lapic_set_cr8(struct lapic *l, uint8_t cr8)
{
    if ((l->tpr >> 4) == (cr8 & 0xf))
        return;
    l->tpr = (uint32_t)(cr8 & 0xf) << 4;
    update_ppr(l);
}

uint8_t lapic_get_cr8(const struct lapic *l)
{
    return (uint8_t)(l->tpr >> 4);
}

/* ---- interprocessor interrupts ---- */

/* Sends what the ICR says, or records why it cannot. */
static void send_ipi(struct lapic *l, uint32_t icr, uint32_t dest)
{
    bool wide = get(&l->mode) == LAPIC_X2APIC;
    struct irq_msg m = {
        .src = l->id,
        .dest = wide ? dest : dest >> 24,
        .shorthand = (enum shorthand)(icr >> 18 & 3),
        .mode = (enum delivery)(icr >> 8 & 7),
        .vector = icr & 0xff,
        .logical = icr & ICR_LOGICAL,
        .wide = wide,
    };
    bool self = m.shorthand == TO_SELF || m.shorthand == TO_ALL;

    if (m.mode <= DELIVER_LOWEST && m.vector < VECTOR_MIN) {
        error(l, ESR_SENT_BAD);
        return;
    }
    if (m.mode == DELIVER_INIT && (icr & ICR_LEVEL) && !(icr & ICR_ASSERT))
        return; /* level de-assert: nothing to do since the Pentium 4 */
    if (self && (m.mode == DELIVER_INIT || m.mode == DELIVER_SIPI))
        return; /* invalid combination */
    irq_route(l->ic, &m);
}

/* ICR low word, or all of it in x2APIC mode. */
static void set_icr(struct lapic *l, uint32_t val)
{
    l->icr_low = val & ~(uint32_t)ICR_BUSY;
    send_ipi(l, l->icr_low, l->icr_high);
}

/* ---- registers ---- */

/* A 32-bit slice of a bitmap; r counts slices from the start of any of the three. */
static uint32_t slice(uint64_t word, unsigned r)
{
    return (uint32_t)(word >> 32 * (r & 1));
}

/* Reads a register that the rules allow to be read. */
static uint32_t read_reg(struct lapic *l, unsigned r)
{
    bool x2 = get(&l->mode) == LAPIC_X2APIC;

    switch (r) {
    case R_ID:
        return x2 ? l->id : l->id << 24;
    case R_VERSION:
        return VERSION;
    case R_TPR:
        return l->tpr;
    case R_APR:
        return arbitration_priority(l);
    case R_PPR:
        return get(&l->ppr);
    case R_LDR:
        return x2 ? x2apic_ldr(l) : get(&l->ldr);
    case R_DFR:
        return get(&l->dfr);
    case R_SVR:
        return get(&l->svr);
    case R_ISR ... R_ISR + 7:
        return slice(l->isr[(r - R_ISR) / 2], r);
    case R_TMR ... R_TMR + 7:
        return slice(atomic_load(&l->tmr[(r - R_TMR) / 2]), r);
    case R_IRR ... R_IRR + 7:
        return slice(atomic_load(&l->irr[(r - R_IRR) / 2]), r);
    case R_ESR:
        return l->esr;
    case R_ICR:
        return l->icr_low;
    case R_ICR_HIGH:
        return l->icr_high;
    case R_LVT ... R_LVT_END - 1:
        return get(&l->lvt[r - R_LVT]);
    case R_INITIAL:
        return l->timer.initial;
    case R_CURRENT:
        return timer_current(l);
    case R_DIVIDE:
        return l->timer.divide;
    default: /* write-only by MMIO, or no function: EOI, remote read */
        return 0;
    }
}

/* Writes a register that the rules allow to be written, bits already checked. */
static void write_reg(struct lapic *l, unsigned r, uint32_t val)
{
    switch (r) {
    case R_TPR:
        l->tpr = val;
        update_ppr(l);
        break;
    case R_EOI:
        eoi(l);
        break;
    case R_LDR:
        set_identity(l, LAPIC_XAPIC, val);
        break;
    case R_DFR:
        put(&l->dfr, val | 0x0fffffff);
        break;
    case R_SVR:
        set_svr(l, val);
        break;
    case R_ESR:
        l->esr = atomic_exchange(&l->errors, 0);
        break;
    case R_ICR:
        set_icr(l, val);
        break;
    case R_ICR_HIGH:
        l->icr_high = val;
        break;
    case R_LVT ... R_LVT_END - 1:
        set_lvt(l, (enum lvt)(r - R_LVT), val);
        break;
    case R_INITIAL:
        timer_set_initial(l, val);
        break;
    case R_DIVIDE:
        timer_set_divide(l, val);
        break;
    case R_SELF_IPI:
        send_ipi(l, (uint32_t)TO_SELF << 18 | val, 0);
        break;
    default:
        break;
    }
}

/* The register an MMIO access means, or R_COUNT if it means none. */
static unsigned mmio_reg(struct lapic *l, uint32_t off, uint8_t *rights)
{
    unsigned r = off >> 4;

    if (off & 15 || off >= 4096)
        return R_COUNT;
    *rights = r < R_COUNT ? rules[r].rights & (XR | XW) : 0;
    if (!*rights) {
        error(l, ESR_BAD_REGISTER);
        return R_COUNT;
    }
    return r;
}

uint32_t lapic_mmio_read(struct lapic *l, uint32_t off)
{
    uint8_t rights;
    unsigned r;

    if (get(&l->mode) != LAPIC_XAPIC)
        return UINT32_MAX; /* nobody decodes the page */
    r = mmio_reg(l, off, &rights);
    return r < R_COUNT && (rights & XR) ? read_reg(l, r) : 0;
}

void lapic_mmio_write(struct lapic *l, uint32_t off, uint32_t val)
{
    uint8_t rights;
    unsigned r;

    if (get(&l->mode) != LAPIC_XAPIC)
        return;
    r = mmio_reg(l, off, &rights);
    if (r < R_COUNT && (rights & XW))
        write_reg(l, r, val & rules[r].bits);
}

/* The x2APIC register of an MSR the guest may use so, or R_COUNT. */
static unsigned msr_reg(const struct lapic *l, uint32_t msr, uint8_t right)
{
    unsigned r = msr - MSR_X2APIC;

    if (get(&l->mode) != LAPIC_X2APIC || msr < MSR_X2APIC || r >= R_COUNT)
        return R_COUNT;
    return rules[r].rights & right ? r : R_COUNT;
}

bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *val)
{
    unsigned r;

    if (msr == MSR_TSC_DEADLINE) {
        *val = timer_get_tsc(l);
        return true;
    }
    r = msr_reg(l, msr, MR);
    if (r == R_COUNT)
        return false;
    *val = read_reg(l, r);
    if (r == R_ICR)
        *val |= (uint64_t)l->icr_high << 32;
    return true;
}

bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t val)
{
    unsigned r;

    if (msr == MSR_TSC_DEADLINE) {
        timer_set_tsc(l, val);
        return true;
    }
    r = msr_reg(l, msr, MW);
    if (r == R_COUNT)
        return false;
    if (r == R_ICR && !((uint32_t)val & ~rules[r].bits))
        l->icr_high = (uint32_t)(val >> 32);
    else if (val & ~(uint64_t)rules[r].bits)
        return false;
    write_reg(l, r, (uint32_t)val);
    return true;
}

/* EOI and ESR take any value by MMIO (all bits dropped) and 0 only by MSR. */
static const struct rule rules[R_COUNT] = {
    [R_ID] = {RO, 0},
    [R_VERSION] = {RO, 0},
    [R_TPR] = {RW, 0xff},
    [R_APR] = {XR, 0},
    [R_PPR] = {RO, 0},
    [R_EOI] = {XR | XW | MW, 0},
    [R_RRD] = {XR, 0},
    [R_LDR] = {XR | XW | MR, 0xff000000},
    [R_DFR] = {XR | XW, 0xf0000000},
    [R_SVR] = {RW, 0x3ff},
    [R_ISR... R_IRR + 7] = {RO, 0},
    [R_ESR] = {RW, 0},
    [R_ICR] = {RW, 0xcdfff},
    [R_ICR_HIGH] = {XR | XW, 0xff000000},
    [R_LVT + LVT_TIMER] = {RW, 0x710ff},
    [R_LVT + LVT_THERMAL] = {RW, 0x117ff},
    [R_LVT + LVT_PERF] = {RW, 0x117ff},
    [R_LVT + LVT_LINT0] = {RW, 0x1f7ff},
    [R_LVT + LVT_LINT1] = {RW, 0x1f7ff},
    [R_LVT + LVT_ERROR] = {RW, 0x110ff},
    [R_INITIAL] = {RW, UINT32_MAX},
    [R_CURRENT] = {RO, 0},
    [R_DIVIDE] = {RW, 0xb},
    [R_SELF_IPI] = {MW, 0xff},
};
