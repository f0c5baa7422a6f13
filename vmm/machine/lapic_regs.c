/* SPDX-License-Identifier: MIT */
/*
 * The registers of a local APIC, as the guest sees them by MMIO page and by MSR.
 *
 * Interface: lapic_mmio_*() and lapic_msr_*() of irq.h.  Both reach the same registers: number
 * r = MMIO offset / 16 = MSR - 0x800.  The table of rules at the end says what each interface
 * may do with each; by MSR whatever it does not allow faults, by MMIO it is dropped, and a
 * reserved register is noted in the ESR.
 * Invariant: R1 read_reg() and write_reg() only see what the rules allow.
 * Threads: the owner of the local APIC only; no locks.
 */
#include <stddef.h>

#include "vmm/machine/lapic.h"

/* Registers, by number. */
enum {
    R_ID = 0x02,       /* APIC id */
    R_VERSION = 0x03,  /* version, and how many LVT entries */
    R_TPR = 0x08,      /* task priority: lower interrupts wait */
    R_APR = 0x09,      /* arbitration priority, of no use today */
    R_PPR = 0x0a,      /* processor priority: of the task and what is in service */
    R_EOI = 0x0b,      /* end of interrupt */
    R_RRD = 0x0c,      /* remote read, of no use today */
    R_LDR = 0x0d,      /* logical destination: what messages may call us */
    R_DFR = 0x0e,      /* how the logical destination is read: flat or clusters */
    R_SVR = 0x0f,      /* spurious vector, and the APIC's switch */
    R_ISR = 0x10,      /* in service, 8 registers */
    R_TMR = 0x18,      /* trigger mode: level, 8 registers */
    R_IRR = 0x20,      /* requested, 8 registers */
    R_ESR = 0x28,      /* errors */
    R_ICR = 0x30,      /* interrupt command: sends an IPI */
    R_ICR_HIGH = 0x31, /* its destination (xAPIC) */
    R_LVT = 0x32,      /* local vector table: enum lvt */
    R_LVT_END = 0x38,  /* behind its last entry */
    R_INITIAL = 0x38,  /* timer: count it begins at */
    R_CURRENT = 0x39,  /* timer: count now */
    R_DIVIDE = 0x3e,   /* timer: divider */
    R_SELF_IPI = 0x3f, /* sends to itself (x2APIC) */
    R_COUNT = 0x40,    /* no register */
};

enum {
    MSR_X2APIC = 0x800,       /* MSR of register 0 */
    MSR_TSC_DEADLINE = 0x6e0, /* the timer by TSC */
    VERSION = 0x50014,        /* integrated APIC, 6 LVT entries, no EOI suppression */
    LVT_READ_ONLY = 0x5000,   /* delivery status, remote IRR */
    ICR_LOGICAL = 1 << 11,    /* destination mode */
    ICR_BUSY = 1 << 12,       /* delivery status: always idle here */
    ICR_ASSERT = 1 << 14,     /* level */
    ICR_LEVEL = 1 << 15,      /* trigger mode */
};

/* What may be done with a register: X = by MMIO (xAPIC), M = by MSR (x2APIC). */
enum { XR = 1, XW = 2, MR = 4, MW = 8, RO = XR | MR, RW = XR | XW | MR | MW };

/* One register's rule. */
struct rule {
    uint8_t rights; /* XR.. ; 0: reserved */
    uint32_t bits;  /* bits a guest may set; others fault (MSR) or are dropped (MMIO) */
};

static const struct rule rules[R_COUNT];

/* The arbitration priority, as the manual computes it. */
static uint32_t arbitration_priority(const struct lapic *l)
{
    int r = lapic_requested(l), s = lapic_highest(l->isr);
    uint32_t irrv = r < 0 ? 0 : (uint32_t)r >> 4, isrv = s < 0 ? 0 : (uint32_t)s >> 4;
    uint32_t tpr = l->tpr >> 4;

    if (tpr >= irrv && tpr > isrv)
        return l->tpr;
    return ((tpr & isrv) > irrv ? tpr & isrv : irrv) << 4;
}

/* Stores an LVT entry; while the APIC is disabled by software its mask bit sticks. */
static void set_lvt(struct lapic *l, enum lvt which, uint32_t val)
{
    val &= ~(uint32_t)LVT_READ_ONLY;
    if (!(lapic_get(&l->svr) & SVR_ENABLED))
        val |= LVT_MASKED;
    if (which == LVT_TIMER)
        timer_set_lvt(l, val);
    else
        lapic_put(&l->lvt[which], val);
}

/* Stores SVR; disabling masks every LVT entry. */
static void set_svr(struct lapic *l, uint32_t val)
{
    lapic_timer_check(l);
    lapic_put(&l->svr, val);
    if (val & SVR_ENABLED)
        return;
    for (int i = 0; i < LVT_COUNT; i++)
        lapic_put(&l->lvt[i], lapic_get(&l->lvt[i]) | LVT_MASKED);
}

/* ---- interprocessor interrupts ---- */

/* Sends what the ICR says, or records why it cannot. */
static void send_ipi(struct lapic *l, uint32_t icr, uint32_t dest)
{
    bool wide = lapic_get(&l->mode) == LAPIC_X2APIC;
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
        lapic_error(l, ESR_SENT_BAD);
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
    bool x2 = lapic_get(&l->mode) == LAPIC_X2APIC;

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
        return lapic_get(&l->ppr);
    case R_LDR:
        return x2 ? lapic_x2apic_ldr(l) : lapic_get(&l->ldr);
    case R_DFR:
        return lapic_get(&l->dfr);
    case R_SVR:
        return lapic_get(&l->svr);
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
        return lapic_get(&l->lvt[r - R_LVT]);
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
        lapic_update_ppr(l);
        break;
    case R_EOI:
        lapic_eoi(l);
        break;
    case R_LDR:
        lapic_set_identity(l, LAPIC_XAPIC, val);
        break;
    case R_DFR:
        lapic_put(&l->dfr, val | 0x0fffffff);
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
        lapic_error(l, ESR_BAD_REGISTER);
        return R_COUNT;
    }
    return r;
}

uint32_t lapic_mmio_read(struct lapic *l, uint32_t off)
{
    uint8_t rights;
    unsigned r;

    if (lapic_get(&l->mode) != LAPIC_XAPIC)
        return UINT32_MAX; /* nobody decodes the page */
    r = mmio_reg(l, off, &rights);
    return r < R_COUNT && (rights & XR) ? read_reg(l, r) : 0;
}

void lapic_mmio_write(struct lapic *l, uint32_t off, uint32_t val)
{
    uint8_t rights;
    unsigned r;

    if (lapic_get(&l->mode) != LAPIC_XAPIC)
        return;
    r = mmio_reg(l, off, &rights);
    if (r < R_COUNT && (rights & XW))
        write_reg(l, r, val & rules[r].bits);
}

/* The x2APIC register of an MSR the guest may use so, or R_COUNT. */
static unsigned msr_reg(const struct lapic *l, uint32_t msr, uint8_t right)
{
    unsigned r = msr - MSR_X2APIC;

    if (lapic_get(&l->mode) != LAPIC_X2APIC || msr < MSR_X2APIC || r >= R_COUNT)
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
