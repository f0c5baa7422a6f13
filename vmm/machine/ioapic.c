/* SPDX-License-Identifier: MIT */
/*
 * The IOAPIC: 24 pins, each with a redirection table entry (RTE) that says which message a pin
 * sends.  Version 0x20, so it has the EOI register at 0x40.
 *
 * Interface: irq_gsi() of irq.h moves pins; the guest sees three registers at 0xfec00000.
 * Pins are active high here: RTE polarity is kept but not looked at, a caller passes "asserted".
 * Edge pins send on a rising edge; an edge on a masked pin is lost, as the data sheet says.
 * Level pins send while asserted, unmasked and without remote IRR; remote IRR is set when a local
 * APIC took the message and cleared by the EOI of its vector.
 * RTE bits 55:49 are bits 14:8 of the destination id (KVM_FEATURE_MSI_EXT_DEST_ID).
 *
 * Locks: one mutex guards everything below.  It is held while a message is sent, so that after a
 * guest has changed an entry no interrupt of the old entry can still come, and so that the EOI of
 * a level interrupt cannot overtake the setting of remote IRR.  This is safe because a local
 * APIC never calls back from lapic_take(); host->kick, nmi and init must not call irq_gsi().
 */
#include "vmm/machine/ioapic.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/lapic.h"

/* Registers: MMIO offsets, then indices behind the window. */
enum {
    IOREGSEL = 0x00,                         /* index of the register behind the window */
    IOWIN = 0x10,                            /* the window */
    IOEOI = 0x40,                            /* end of interrupt by vector (version 0x20) */
    INDEX_ID = 0x00,                         /* id */
    INDEX_VERSION = 0x01,                    /* version, and the last pin */
    INDEX_ARB = 0x02,                        /* arbitration id */
    INDEX_RTE = 0x10,                        /* redirection table, two halves a pin */
    INDEX_END = INDEX_RTE + 2 * IOAPIC_PINS, /* behind the last */
};

static const uint64_t IOAPIC_BASE = 0xfec00000;
static const uint64_t IOAPIC_SIZE = 0x1000;

/* Fields of an RTE. */
enum {
    RTE_LOGICAL = 1 << 11,    /* destination mode: logical */
    RTE_STATUS = 1 << 12,     /* delivery status: still on its way */
    RTE_REMOTE_IRR = 1 << 14, /* level: taken by an APIC, no EOI yet */
    RTE_LEVEL = 1 << 15,      /* level-triggered, else edge */
    RTE_MASKED = 1 << 16,     /* nothing is sent */
};
/* What a guest may write of each half; delivery status and remote IRR are read-only. */
static const uint32_t RTE_LOW_BITS = 0x1afff;
static const uint32_t RTE_HIGH_BITS = 0xfffe0000;

/* The IOAPIC; all under lock. */
struct ioapic {
    pthread_mutex_t lock;      /* innermost but for what host->kick takes */
    uint64_t rte[IOAPIC_PINS]; /* redirection table */
    uint32_t lines;            /* bit per pin: asserted */
    uint32_t index;            /* IOREGSEL, bits 7:0 */
    uint32_t id;               /* ID register, bits 27:24 */
    struct irqchip *ic;        /* whom to send through; constant */
};

/* True if the entry waits for an EOI.  NMI and INIT are edge triggered whatever bit 15 says. */
static bool is_level(uint64_t rte)
{
    return (rte & RTE_LEVEL) && (rte >> 8 & 7) <= DELIVER_LOWEST;
}

/* Sends the message of an entry.  True if a local APIC took it. */
static bool send(const struct ioapic *io, uint64_t rte)
{
    struct irq_msg m = {
        .src = IRQ_SRC_DEVICE,
        .dest = (uint32_t)(rte >> 56) | (uint32_t)(rte >> 49 & 0x7f) << 8,
        .mode = (enum delivery)(rte >> 8 & 7),
        .vector = rte & 0xff,
        .logical = rte & RTE_LOGICAL,
        .level = is_level(rte),
    };

    return m.mode != DELIVER_SIPI && irq_route(io->ic, &m);
}

/* Sends what a pin has to send now; rose: its line has just been asserted.  Caller locks. */
static void service(struct ioapic *io, unsigned pin, bool rose)
{
    uint64_t *rte = &io->rte[pin];

    if (*rte & RTE_MASKED)
        return;
    if (!is_level(*rte)) {
        if (rose)
            send(io, *rte);
    } else if ((io->lines & 1u << pin) && !(*rte & RTE_REMOTE_IRR)) {
        if (send(io, *rte))
            *rte |= RTE_REMOTE_IRR;
    }
}

/* An entry as the guest reads it: a level interrupt nobody took yet shows as "send pending". */
static uint64_t visible(const struct ioapic *io, unsigned pin)
{
    uint64_t rte = io->rte[pin];
    bool waits = is_level(rte) && (io->lines & 1u << pin) && !(rte & RTE_MASKED) &&
                 !(rte & RTE_REMOTE_IRR);

    return waits ? rte | RTE_STATUS : rte;
}

/* Writes half an entry.  An entry made edge triggered forgets remote IRR. */
static void write_rte(struct ioapic *io, unsigned pin, bool high, uint32_t val)
{
    uint64_t old = io->rte[pin], new;

    if (high)
        new = (uint64_t)(val & RTE_HIGH_BITS) << 32 | (uint32_t)old;
    else
        new = (old >> 32 << 32) | (val & RTE_LOW_BITS) | (old & RTE_REMOTE_IRR);
    if (!is_level(new))
        new &= ~(uint64_t)RTE_REMOTE_IRR;
    io->rte[pin] = new;
    service(io, pin, false);
}

/* Clears remote IRR of all entries with this vector and sends again what is still asserted. */
static void end_vector(struct ioapic *io, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        if ((io->rte[pin] & RTE_REMOTE_IRR) && (io->rte[pin] & 0xff) == vector) {
            io->rte[pin] &= ~(uint64_t)RTE_REMOTE_IRR;
            service(io, pin, false);
        }
    }
}

/* Reads the register selected by IOREGSEL. */
static uint32_t read_window(const struct ioapic *io)
{
    uint64_t rte;

    switch (io->index) {
    case INDEX_ID:
    case INDEX_ARB:
        return io->id;
    case INDEX_VERSION:
        return (IOAPIC_PINS - 1) << 16 | 0x20;
    case INDEX_RTE ... INDEX_END - 1:
        rte = visible(io, (io->index - INDEX_RTE) / 2);
        return (uint32_t)(io->index & 1 ? rte >> 32 : rte);
    default:
        return 0;
    }
}

/* Writes the register selected by IOREGSEL. */
static void write_window(struct ioapic *io, uint32_t val)
{
    switch (io->index) {
    case INDEX_ID:
        io->id = val & 0x0f000000;
        break;
    case INDEX_RTE ... INDEX_END - 1:
        write_rte(io, (io->index - INDEX_RTE) / 2, io->index & 1, val);
        break;
    default:
        break;
    }
}

/* Bus read: 4 bytes (or 8, upper half 0) at a register; anything else reads 0. */
static void mmio_read(void *dev, uint64_t off, void *data, unsigned len)
{
    struct ioapic *io = dev;
    uint32_t val = 0;

    memset(data, 0, len);
    pthread_mutex_lock(&io->lock);
    if (off == IOREGSEL)
        val = io->index;
    else if (off == IOWIN)
        val = read_window(io);
    pthread_mutex_unlock(&io->lock);
    if (len >= sizeof(val))
        memcpy(data, &val, sizeof(val));
}

/* Bus write: 4 bytes (or the lower half of 8) at a register; the byte-wide ones, IOREGSEL and
 * EOI, take any size; anything else is ignored. */
static void mmio_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct ioapic *io = dev;
    uint32_t val = 0;

    memcpy(&val, data, len < sizeof(val) ? len : sizeof(val));
    pthread_mutex_lock(&io->lock);
    if (off == IOREGSEL)
        io->index = val & 0xff;
    else if (off == IOWIN && len >= sizeof(val))
        write_window(io, val);
    else if (off == IOEOI)
        end_vector(io, val & 0xff);
    pthread_mutex_unlock(&io->lock);
}

void ioapic_set_pin(struct ioapic *io, unsigned pin, bool level)
{
    uint32_t bit = 1u << pin;
    bool rose;

    pthread_mutex_lock(&io->lock);
    rose = level && !(io->lines & bit);
    io->lines = level ? io->lines | bit : io->lines & ~bit;
    service(io, pin, rose);
    pthread_mutex_unlock(&io->lock);
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
    pthread_mutex_lock(&io->lock);
    end_vector(io, vector);
    pthread_mutex_unlock(&io->lock);
}

struct ioapic *ioapic_new(struct irqchip *ic)
{
    struct ioapic *io = calloc(1, sizeof(*io));

    if (!io)
        return NULL;
    INVARIANT(pthread_mutex_init(&io->lock, NULL) == 0, "ioapic: mutex");
    io->ic = ic;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        io->rte[pin] = RTE_MASKED;
    return io;
}

void ioapic_free(struct ioapic *io)
{
    if (!io)
        return;
    pthread_mutex_destroy(&io->lock);
    free(io);
}

static const struct bus_ops ops = {.read = mmio_read, .write = mmio_write};

void ioapic_map(struct ioapic *io, struct bus *mmio)
{
    bus_add(mmio, IOAPIC_BASE, IOAPIC_SIZE, &ops, io, "ioapic");
}
