/* SPDX-License-Identifier: MIT */
/*
 * The machine's interrupt controllers together: making them, and finding the local APICs that a
 * message means.
 *
 * Interface: irqchip_*() and irq_*() of irq.h for the machine and its devices; irq_route() of
 * lapic.h for IPIs, MSIs and IOAPIC pins alike.
 * Invariants: C1 APIC id = vCPU number = index into lapic[], so a physical destination is found
 * without a search, whatever mode its APIC is in (a vCPU above 254 gets its INIT and startup IPI
 * while still in xAPIC mode); C2 an x2APIC cluster is 16 neighbours, so at most 16 are looked at.
 * Only xAPIC logical ids, which guests choose freely, and broadcasts need a walk over all.
 * Threads: nothing here changes after irqchip_new() but two atomic counters; no locks.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/machine/ioapic.h"
#include "vmm/machine/lapic.h"

enum {
    VCPUS_MAX = 4096,      /* in one machine */
    BROADCAST8 = 0xff,     /* everybody, in an 8-bit destination */
    CLUSTER = 16,          /* APICs of an x2APIC cluster */
    MSI_PAGE = 0xfee,      /* address bits 63:20 of a message */
    MSI_LOGICAL = 1 << 2,  /* address: destination mode */
    MSI_REDIRECT = 1 << 3, /* address: redirection hint, to the lowest priority */
    MSI_ASSERT = 1 << 14,  /* data: level */
    MSI_LEVEL = 1 << 15,   /* data: trigger mode */
    NOBODY = -1,           /* no target chosen */
};

/* Which local APICs to look at. */
struct targets {
    unsigned first; /* first vCPU */
    unsigned count; /* vCPUs from there on; 0: none */
    uint32_t skip;  /* a vCPU to leave out, or IRQ_SRC_DEVICE */
    bool all;       /* each of them is meant; else ask lapic_matches() */
};

/*
 * True if the destination means every APIC.  A device's physical 0xff does, unless there is a
 * vCPU 255 in x2APIC mode: then that is who a guest with extended destination ids means.
 */
static bool is_broadcast(const struct irqchip *ic, const struct irq_msg *m)
{
    if (m->wide)
        return m->dest == UINT32_MAX;
    if (m->logical || m->dest != BROADCAST8)
        return false;
    return m->src != IRQ_SRC_DEVICE || ic->n <= BROADCAST8 ||
           atomic_load(&ic->lapic[BROADCAST8].mode) != LAPIC_X2APIC;
}

/* The APICs a logical destination can match. */
static struct targets logical_targets(const struct irqchip *ic, const struct irq_msg *m)
{
    uint32_t first = (m->dest >> 16) * CLUSTER;
    bool everybody = !m->wide && m->dest == BROADCAST8;
    struct targets t = {.count = ic->n, .skip = IRQ_SRC_DEVICE};

    if (m->dest <= 0xff && (everybody || atomic_load(&ic->nlogical) > 0))
        return t;
    t.first = first;
    t.count = first >= ic->n ? 0 : ic->n - first;
    if (t.count > CLUSTER)
        t.count = CLUSTER;
    return t;
}

/* The APICs a message can mean. */
static struct targets find_targets(const struct irqchip *ic, const struct irq_msg *m)
{
    struct targets t = {.count = ic->n, .skip = IRQ_SRC_DEVICE, .all = true};

    if (m->shorthand == TO_SELF) {
        t.first = m->src;
        t.count = 1;
    } else if (m->shorthand == TO_OTHERS) {
        t.skip = m->src;
    } else if (m->shorthand == TO_DEST && !is_broadcast(ic, m)) {
        if (m->logical)
            return logical_targets(ic, m);
        t.first = m->dest;
        t.count = m->dest < ic->n;
    }
    return t;
}

/* True if vCPU i, one of the targets, is meant. */
static bool is_meant(const struct irqchip *ic, const struct irq_msg *m, const struct targets *t,
                     unsigned i)
{
    return i != t->skip && (t->all || lapic_matches(&ic->lapic[i], m->dest, m->wide));
}

/* Hands the message to one vCPU. True if it took it. */
static bool deliver(struct irqchip *ic, const struct irq_msg *m, unsigned i)
{
    const struct irq_host *h = &ic->host;
    bool taken = true;

    switch (m->mode) {
    case DELIVER_FIXED:
    case DELIVER_LOWEST:
        taken = lapic_take(&ic->lapic[i], m->vector, m->level);
        break;
    case DELIVER_NMI:
        h->nmi(h->ctx, i);
        break;
    case DELIVER_INIT:
        h->init(h->ctx, i);
        break;
    case DELIVER_SIPI:
        h->sipi(h->ctx, i, m->vector);
        break;
    default: /* SMI and ExtINT: this machine has neither; the rest is reserved */
        return false;
    }
    if (taken && h->count_ipi)
        h->count_ipi(h->ctx, m->src, i);
    return taken;
}

/* Chooses the target with the lowest priority; equals take turns. */
static int choose_lowest(struct irqchip *ic, const struct irq_msg *m, const struct targets *t)
{
    unsigned turn = atomic_fetch_add_explicit(&ic->turn, 1, memory_order_relaxed);
    uint32_t best = UINT32_MAX;
    int chosen = NOBODY;

    for (unsigned k = 0; k < t->count; k++) {
        unsigned i = t->first + (turn % t->count + k) % t->count;
        uint32_t ppr = atomic_load_explicit(&ic->lapic[i].ppr, memory_order_relaxed) >> 4;

        if (ppr < best && is_meant(ic, m, t, i) && lapic_accepts(&ic->lapic[i])) {
            best = ppr;
            chosen = (int)i;
        }
    }
    return chosen;
}

bool irq_route(struct irqchip *ic, const struct irq_msg *m)
{
    struct targets t = find_targets(ic, m);
    bool taken = false;
    int i;

    if (m->mode == DELIVER_LOWEST && t.count > 1) {
        i = choose_lowest(ic, m, &t);
        return i != NOBODY && deliver(ic, m, (unsigned)i);
    }
    for (unsigned k = t.first; k < t.first + t.count; k++) {
        if (is_meant(ic, m, &t, k))
            taken |= deliver(ic, m, k);
    }
    return taken;
}

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    struct irq_msg m = {
        .src = IRQ_SRC_DEVICE,
        .dest = (uint32_t)(addr >> 12 & 0xff) | (uint32_t)(addr >> 5 & 0x7f) << 8,
        .mode = (enum delivery)(data >> 8 & 7),
        .vector = data & 0xff,
        .logical = addr & MSI_LOGICAL,
        .level = data & MSI_LEVEL,
    };

    if (addr >> 20 != MSI_PAGE)
        return; /* a write to memory, not a message */
    if (m.level && !(data & MSI_ASSERT))
        return; /* level de-assert */
    if (m.mode == DELIVER_SIPI)
        return; /* reserved for IPIs */
    if (m.mode == DELIVER_FIXED && (addr & MSI_REDIRECT))
        m.mode = DELIVER_LOWEST;
    irq_route(ic, &m);
}

void irq_gsi(struct irqchip *ic, unsigned pin, bool level)
{
    INVARIANT(pin < IOAPIC_PINS, "irqchip: no such IOAPIC pin");
    ioapic_set_pin(ic->ioapic, pin, level);
}

struct lapic *irq_lapic(struct irqchip *ic, unsigned vcpu)
{
    INVARIANT(vcpu < ic->n, "irqchip: no such vCPU");
    return &ic->lapic[vcpu];
}

int irqchip_new(struct irqchip **out, unsigned nvcpus, const struct irq_host *host,
                struct err *err)
{
    struct irqchip *ic = xcalloc(1, sizeof(*ic));
    size_t size = nvcpus * sizeof(*ic->lapic);

    INVARIANT(nvcpus >= 1 && nvcpus <= VCPUS_MAX, "irqchip: vCPUs out of range");
    INVARIANT(host->kick && host->nmi && host->init && host->sipi && host->now_ns &&
                  host->tsc_to_ns,
              "irqchip: a required host function is missing");
    ic->host = *host;
    ic->n = nvcpus;
    ic->lapic = aligned_alloc(alignof(struct lapic), size);
    ic->ioapic = ioapic_new(ic);
    if (!ic->lapic || !ic->ioapic) {
        irqchip_free(ic);
        return fail(err, EXIT_MEMORY, ENOMEM, "no memory for %u local APICs", nvcpus);
    }
    memset(ic->lapic, 0, size);
    for (unsigned i = 0; i < nvcpus; i++)
        lapic_setup(&ic->lapic[i], ic, i);
    *out = ic;
    return 0;
}

void irqchip_free(struct irqchip *ic)
{
    if (!ic)
        return;
    ioapic_free(ic->ioapic);
    free(ic->lapic);
    free(ic);
}

void irqchip_map(struct irqchip *ic, struct bus *mmio)
{
    ioapic_map(ic->ioapic, mmio);
}
