/* SPDX-License-Identifier: MIT */
/*
 * The PCI bus: configuration space (ECAM and ports 0xcf8/0xcfc), 32-bit memory BARs, MSI-X.
 * Interface: pci.h.  Device 0 is a host bridge without BARs; devices have one function and no
 * interrupt pin, so MSI-X is the only way to interrupt.
 *
 * Invariants.  P1: bar_at[i] is the gpa a BAR answers at, or 0; it lies inside the PCI window
 * with all of the BAR, so a guest cannot put a device over RAM, ECAM or an interrupt controller.
 * P2: a device hears bar_mapped(off) for every bar_mapped(on), in order.
 *
 * Locks, in order of nesting:
 *   order   serialises changes of configuration space, each with its bar_mapped calls
 *   lock    configuration space, MSI-X tables and pending bits of all devices
 * vCPU threads look BARs up by bar_at without a lock (one writer at a time, under `order`).
 * The array of devices is set up before vCPUs run.
 */
#include "vmm/device/pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/device/host.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/irq.h"
#include "vmm/machine/mem.h"

/* Registers of a type 0 header (PCI 3.0, 6.1) and of the MSI-X capability (6.8.2). */
enum {
    REG_VENDOR = 0x00,         /* vendor, device */
    REG_COMMAND = 0x04,        /* what the device may do */
    REG_STATUS = 0x06,         /* what it has */
    REG_CLASS_REV = 0x08,      /* class and revision */
    REG_CACHE_LINE = 0x0c,     /* of no meaning, but written and read back */
    REG_BAR0 = 0x10,           /* the first of six BARs */
    REG_SUBSYS = 0x2c,         /* subsystem vendor and device */
    REG_CAP_PTR = 0x34,        /* where the list of capabilities begins */
    REG_IRQ_LINE = 0x3c,       /* written by firmware, read by drivers */
    CAP_FIRST = 0x40,          /* the first byte for capabilities */
    COMMAND_MEM = 0x0002,      /* memory BARs are decoded */
    COMMAND_WRITABLE = 0x0406, /* memory, bus master, INTx disable */
    STATUS_CAPS = 0x0010,      /* there is a list of capabilities */
    CAP_ID_MSIX = 0x11,        /* capability: MSI-X */
    MSIX_CTRL = 2,             /* offset of message control in the capability */
    MSIX_ENABLE = 0x8000,      /* message control: MSI-X on */
    MSIX_FN_MASK = 0x4000,     /* message control: all vectors masked */
    MSIX_PBA_OFF = 0x800,      /* where the pending bits are in the MSI-X BAR */
    MSIX_BAR_SIZE = 0x1000,    /* bytes: the table, then the pending bits */
    PORT_ADDR = 0xcf8,         /* which register the data port reaches */
    PORT_DATA = 0xcfc,         /* that register */
    RESET_OFF = 1, /* port 0xcf9 lies inside the address port: reset control of PC chipsets */
    RESET_CPU = 4, /* its bit that resets */
};

#define ADDR_ENABLE 0x80000000u /* port 0xcf8: accesses to 0xcfc reach configuration space */

/* The bus. */
struct pci_bus {
    const struct dev_host *host;       /* the machine */
    struct pci_dev *dev[PCI_MAX_DEVS]; /* by slot; set before vCPUs run */
    unsigned ndevs;                    /* slots used so far */
    uint64_t next_bar;                 /* where the next BAR may go, gpa */
    struct pci_dev bridge;             /* device 0 */
    _Atomic uint32_t port_addr;        /* the register at 0xcf8 */
    pthread_mutex_t order;             /* outer lock, see the head */
    pthread_mutex_t lock;              /* inner lock: cfg, msix, msix_pba of all devices */
};

/* What a change of configuration space did to one BAR. */
struct bar_move {
    uint64_t from, to; /* gpa before and after, 0: off */
};

/* Little-endian fields of configuration space. */
static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)v);
    put16(p + 2, (uint16_t)(v >> 16));
}

/* ---- MSI-X ---- */

/* Message control of the MSI-X capability; 0 without one. Bus mutex held. */
static uint16_t msix_ctrl(const struct pci_dev *d)
{
    return d->msix_cap ? get16(d->cfg + d->msix_cap + MSIX_CTRL) : 0;
}

/* True when the guest holds vector vec back. Bus mutex held. */
static bool msix_masked(const struct pci_dev *d, unsigned vec)
{
    return (msix_ctrl(d) & MSIX_FN_MASK) || (d->msix[vec].ctrl & 1);
}

/* Sends what waited for an unmask. Bus mutex held. */
static void msix_flush(struct pci_dev *d)
{
    if (!(msix_ctrl(d) & MSIX_ENABLE)) {
        d->msix_pba = 0;
        return;
    }
    for (unsigned i = 0; i < d->nmsix && d->msix_pba; i++) {
        if (!(d->msix_pba & 1ull << i) || msix_masked(d, i))
            continue;
        d->msix_pba &= ~(1ull << i);
        irq_msi(d->bus->host->irq, d->msix[i].addr, d->msix[i].data);
    }
}

/* One 32-bit word of an MSI-X table entry. */
static uint32_t msix_word(const struct msix_entry *e, unsigned word)
{
    switch (word) {
    case 0:
        return (uint32_t)e->addr;
    case 1:
        return (uint32_t)(e->addr >> 32);
    case 2:
        return e->data;
    default:
        return e->ctrl;
    }
}

/* Sets one; the message address keeps its low bits 0, of the control word only the mask is kept. */
static void msix_set_word(struct msix_entry *e, unsigned word, uint32_t v)
{
    switch (word) {
    case 0:
        e->addr = (e->addr & ~0xffffffffull) | (v & ~3u);
        break;
    case 1:
        e->addr = (e->addr & 0xffffffffull) | (uint64_t)v << 32;
        break;
    case 2:
        e->data = v;
        break;
    default:
        e->ctrl = v & 1;
    }
}

/* The word of the MSI-X BAR at off, a multiple of 4. Bus mutex held. */
static uint32_t msix_bar_word(const struct pci_dev *d, uint64_t off)
{
    if (off < d->nmsix * 16ull)
        return msix_word(&d->msix[off / 16], off / 4 % 4);
    if (off == MSIX_PBA_OFF || off == MSIX_PBA_OFF + 4)
        return (uint32_t)(d->msix_pba >> (off - MSIX_PBA_OFF) * 8);
    return 0;
}

/* Access to the MSI-X BAR: aligned words of 4 or 8 bytes; others read 0 and are ignored. */
static void msix_bar_read(struct pci_dev *d, uint64_t off, void *data, unsigned len)
{
    uint32_t w[2] = {0, 0};

    if (len >= 4 && off % len == 0) {
        pthread_mutex_lock(&d->bus->lock);
        for (unsigned i = 0; i < len / 4; i++)
            w[i] = msix_bar_word(d, off + 4 * i);
        pthread_mutex_unlock(&d->bus->lock);
    }
    memcpy(data, w, len);
}

/* A write to the table.  What waits is sent when this write was its unmask. */
static void msix_bar_write(struct pci_dev *d, uint64_t off, const void *data, unsigned len)
{
    uint32_t w[2] = {0, 0};

    if (len < 4 || off % len || off + len > d->nmsix * 16ull)
        return; /* the pending bits are read-only */
    memcpy(w, data, len);
    pthread_mutex_lock(&d->bus->lock);
    for (unsigned i = 0; i < len / 4; i++)
        msix_set_word(&d->msix[off / 16], (unsigned)(off / 4 % 4) + i, w[i]);
    msix_flush(d);
    pthread_mutex_unlock(&d->bus->lock);
}

void pci_msix_raise(struct pci_dev *d, unsigned vec)
{
    if (vec >= d->nmsix || !d->bus)
        return;
    pthread_mutex_lock(&d->bus->lock);
    if (msix_ctrl(d) & MSIX_ENABLE) {
        if (msix_masked(d, vec))
            d->msix_pba |= 1ull << vec;
        else
            irq_msi(d->bus->host->irq, d->msix[vec].addr, d->msix[vec].data);
    }
    pthread_mutex_unlock(&d->bus->lock);
}

/* ---- BARs ---- */

/* The device and BAR that answer at [gpa, gpa+len); NULL: none. Lock-free. */
static struct pci_dev *bar_find(struct pci_bus *b, uint64_t gpa, unsigned len, unsigned *bar,
                                uint64_t *off)
{
    for (unsigned s = 0; s < b->ndevs; s++) {
        struct pci_dev *d = b->dev[s];

        for (unsigned i = 0; d && i < PCI_MAX_BARS; i++) {
            uint64_t at = atomic_load_explicit(&d->bar_at[i], memory_order_acquire);

            if (!at || gpa < at || gpa - at + len > d->bar_size[i])
                continue;
            *bar = i;
            *off = gpa - at;
            return d;
        }
    }
    return NULL;
}

/* An access to the PCI window: finds the BAR that answers there now. */
static void window_read(void *dev, uint64_t off, void *data, unsigned len)
{
    unsigned bar;
    uint64_t at;
    struct pci_dev *d = bar_find(dev, MMIO_PCI + off, len, &bar, &at);

    if (!d)
        memset(data, 0xff, len);
    else if (d->nmsix && bar == d->msix_bar)
        msix_bar_read(d, at, data, len);
    else
        d->ops->bar_read(d, bar, at, data, len);
}

/* Likewise; where nothing answers it vanishes. */
static void window_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    unsigned bar;
    uint64_t at;
    struct pci_dev *d = bar_find(dev, MMIO_PCI + off, len, &bar, &at);

    if (!d)
        return;
    if (d->nmsix && bar == d->msix_bar)
        msix_bar_write(d, at, data, len);
    else
        d->ops->bar_write(d, bar, at, data, len);
}

/* Where BAR i answers by the registers as they stand; 0: nowhere (P1). Bus mutex held. */
static uint64_t bar_wanted(const struct pci_dev *d, unsigned i)
{
    uint64_t at = get32(d->cfg + REG_BAR0 + 4 * i) & ~0xfull;

    if (!d->bar_size[i] || !(get16(d->cfg + REG_COMMAND) & COMMAND_MEM))
        return 0;
    if (at < MMIO_PCI || at + d->bar_size[i] > MMIO_ECAM)
        return 0;
    return at;
}

/* Makes bar_at follow the registers; notes what moved. Both locks held. */
static void bars_update(struct pci_dev *d, struct bar_move move[PCI_MAX_BARS])
{
    for (unsigned i = 0; i < PCI_MAX_BARS; i++) {
        move[i].from = atomic_load_explicit(&d->bar_at[i], memory_order_relaxed);
        move[i].to = bar_wanted(d, i);
        if (move[i].from != move[i].to)
            atomic_store_explicit(&d->bar_at[i], move[i].to, memory_order_release);
    }
}

/* Tells the device what moved (P2). Order lock held, bus mutex not. */
static void bars_tell(struct pci_dev *d, const struct bar_move move[PCI_MAX_BARS])
{
    for (unsigned i = 0; d->ops->bar_mapped && i < PCI_MAX_BARS; i++) {
        if (move[i].from == move[i].to)
            continue;
        if (move[i].from)
            d->ops->bar_mapped(d, i, move[i].from, false);
        if (move[i].to)
            d->ops->bar_mapped(d, i, move[i].to, true);
    }
}

/* ---- configuration space ---- */

/* True for accesses that configuration space serves. */
static bool cfg_access_ok(unsigned off, unsigned len)
{
    return (len == 1 || len == 2 || len == 4) && off % len == 0 && off + len <= PCI_CFG_SIZE;
}

void pci_cfg_peek(struct pci_dev *d, unsigned off, void *data, unsigned len)
{
    INVARIANT(d->bus && off + len <= PCI_CFG_SIZE, "a peek lies inside configuration space");
    pthread_mutex_lock(&d->bus->lock);
    memcpy(data, d->cfg + off, len);
    pthread_mutex_unlock(&d->bus->lock);
}

/* A read of configuration space; all ones where nothing is. */
static void cfg_read(struct pci_dev *d, unsigned off, void *data, unsigned len)
{
    memset(data, 0xff, len);
    if (!d || !cfg_access_ok(off, len))
        return;
    if (off >= CAP_FIRST && d->ops->cfg_read && d->ops->cfg_read(d, off, data, len))
        return;
    pci_cfg_peek(d, off, data, len);
}

/* A write: changes the writable bits, then lets BARs and MSI-X follow. */
static void cfg_write(struct pci_dev *d, unsigned off, const void *data, unsigned len)
{
    struct bar_move move[PCI_MAX_BARS];
    const uint8_t *p = data;

    if (!d || !cfg_access_ok(off, len))
        return;
    if (off >= CAP_FIRST && d->ops->cfg_write && d->ops->cfg_write(d, off, data, len))
        return;
    pthread_mutex_lock(&d->bus->order);
    pthread_mutex_lock(&d->bus->lock);
    for (unsigned i = 0; i < len; i++) {
        uint8_t mask = d->cfg_wmask[off + i];

        d->cfg[off + i] = (uint8_t)((d->cfg[off + i] & ~mask) | (p[i] & mask));
    }
    if (d->msix_cap && off >= d->msix_cap && off < d->msix_cap + 4)
        msix_flush(d);
    bars_update(d, move);
    pthread_mutex_unlock(&d->bus->lock);
    bars_tell(d, move);
    pthread_mutex_unlock(&d->bus->order);
}

/* The device of an ECAM offset: bits 19:15 device, 14:12 function; NULL: none. */
static struct pci_dev *ecam_dev(struct pci_bus *b, uint64_t off)
{
    return (off >> 12 & 7) || off >> 20 ? NULL : b->dev[off >> 15 & 31];
}

/* Memory-mapped configuration space; from 256 on, where PCIe has more, there is nothing. */
static void ecam_read(void *dev, uint64_t off, void *data, unsigned len)
{
    cfg_read(ecam_dev(dev, off), off & 0xfff, data, len);
}

/* Likewise. */
static void ecam_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    cfg_write(ecam_dev(dev, off), off & 0xfff, data, len);
}

/* The device the address register selects (bus 23:16, device 15:11, function 10:8). */
static struct pci_dev *port_dev(struct pci_bus *b, unsigned *reg)
{
    uint32_t a = atomic_load_explicit(&b->port_addr, memory_order_relaxed);

    *reg = a & 0xfc;
    if (!(a & ADDR_ENABLE) || (a >> 16 & 0xff) || (a >> 8 & 7))
        return NULL;
    return b->dev[a >> 11 & 31];
}

/* Only whole words reach the address register; a byte at 0xcf9 is the reset register. */
static void port_addr_read(void *dev, uint64_t off, void *data, unsigned len)
{
    struct pci_bus *b = dev;
    uint32_t a = atomic_load_explicit(&b->port_addr, memory_order_relaxed);

    memset(data, off == RESET_OFF ? 0 : 0xff, len);
    if (off == 0 && len == 4)
        memcpy(data, &a, 4);
}

static void port_addr_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct pci_bus *b = dev;
    uint32_t a;

    if (off == RESET_OFF && len == 1 && (*(const uint8_t *)data & RESET_CPU) && b->host->reset)
        b->host->reset(b->host->ctx);
    if (off || len != 4)
        return;
    memcpy(&a, data, 4);
    atomic_store_explicit(&b->port_addr, a & 0x80fffffcu, memory_order_relaxed);
}

/* The data port: a register of the device the address port selects. */
static void port_data_read(void *dev, uint64_t off, void *data, unsigned len)
{
    unsigned reg;
    struct pci_dev *d = port_dev(dev, &reg);

    cfg_read(d, reg + (unsigned)off, data, len);
}

/* Likewise. */
static void port_data_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    unsigned reg;
    struct pci_dev *d = port_dev(dev, &reg);

    cfg_write(d, reg + (unsigned)off, data, len);
}

/* ---- set-up ---- */

unsigned pci_add_cap(struct pci_dev *d, const void *data, unsigned len, const uint8_t *wmask)
{
    unsigned at = d->cap_end, link = REG_CAP_PTR;

    INVARIANT(len >= 2 && at >= CAP_FIRST && at + len <= PCI_CFG_SIZE,
              "capabilities fit configuration space");
    while (d->cfg[link])
        link = d->cfg[link] + 1u;
    d->cfg[link] = (uint8_t)at;
    memcpy(d->cfg + at, data, len);
    d->cfg[at + 1] = 0;
    if (wmask)
        memcpy(d->cfg_wmask + at, wmask, len);
    put16(d->cfg + REG_STATUS, STATUS_CAPS);
    d->cap_end = (at + len + 3) & ~3u;
    return at;
}

/* Gives the MSI-X capability to a device that wants vectors. */
static void add_msix(struct pci_dev *d)
{
    uint8_t cap[12] = {CAP_ID_MSIX}, wmask[12] = {0};

    INVARIANT(d->nmsix <= PCI_MSIX_MAX && d->msix_bar < PCI_MAX_BARS, "MSI-X vectors in range");
    put16(cap + MSIX_CTRL, (uint16_t)(d->nmsix - 1));
    put32(cap + 4, d->msix_bar);
    put32(cap + 8, d->msix_bar | MSIX_PBA_OFF);
    put16(wmask + MSIX_CTRL, MSIX_ENABLE | MSIX_FN_MASK);
    d->msix_cap = pci_add_cap(d, cap, sizeof(cap), wmask);
    for (unsigned i = 0; i < d->nmsix; i++)
        d->msix[i] = (struct msix_entry){.ctrl = 1};
}

/* Puts BAR i at the next free place of the window, as firmware would. -ENOSPC when full. */
static int place_bar(struct pci_bus *b, struct pci_dev *d, unsigned i)
{
    uint64_t size = d->bar_size[i], at = (b->next_bar + size - 1) & ~(size - 1);

    if (!size)
        return 0;
    INVARIANT(size >= 16 && !(size & (size - 1)), "a BAR is a power of two of at least 16");
    if (at + size > MMIO_ECAM)
        return -ENOSPC;
    b->next_bar = at + size;
    put32(d->cfg + REG_BAR0 + 4 * i, (uint32_t)at);
    put32(d->cfg_wmask + REG_BAR0 + 4 * i, (uint32_t) ~(size - 1));
    return 0;
}

int pci_add(struct pci_bus *b, struct pci_dev *d)
{
    if (b->ndevs == PCI_MAX_DEVS)
        return -ENOSPC;
    d->bus = b;
    d->slot = b->ndevs;
    d->cap_end = CAP_FIRST;
    put16(d->cfg + REG_VENDOR, d->vendor);
    put16(d->cfg + REG_VENDOR + 2, d->device);
    put32(d->cfg + REG_CLASS_REV, d->class_rev);
    put16(d->cfg + REG_SUBSYS, d->subvendor);
    put16(d->cfg + REG_SUBSYS + 2, d->subdevice);
    put16(d->cfg_wmask + REG_COMMAND, COMMAND_WRITABLE);
    d->cfg_wmask[REG_CACHE_LINE] = 0xff;
    d->cfg_wmask[REG_IRQ_LINE] = 0xff;
    if (d->nmsix) {
        d->bar_size[d->msix_bar] = MSIX_BAR_SIZE;
        add_msix(d);
    }
    for (unsigned i = 0; i < PCI_MAX_BARS; i++) {
        if (place_bar(b, d, i)) {
            d->bus = NULL;
            return -ENOSPC;
        }
    }
    b->dev[b->ndevs++] = d;
    return 0;
}

void pci_del(struct pci_dev *d)
{
    struct bar_move move[PCI_MAX_BARS];

    if (!d->bus)
        return;
    pthread_mutex_lock(&d->bus->order);
    pthread_mutex_lock(&d->bus->lock);
    put16(d->cfg + REG_COMMAND, 0);
    bars_update(d, move);
    d->bus->dev[d->slot] = NULL;
    pthread_mutex_unlock(&d->bus->lock);
    bars_tell(d, move);
    pthread_mutex_unlock(&d->bus->order);
    d->bus = NULL;
}

/* The host bridge has no BARs: nobody gets here. */
static void bridge_read(struct pci_dev *d, unsigned bar, uint64_t off, void *data, unsigned len)
{
    (void)d, (void)bar, (void)off;
    memset(data, 0xff, len);
}

/* Likewise. */
static void bridge_write(struct pci_dev *d, unsigned bar, uint64_t off, const void *data,
                         unsigned len)
{
    (void)d, (void)bar, (void)off, (void)data, (void)len;
}

static const struct pci_ops bridge_ops = {.bar_read = bridge_read, .bar_write = bridge_write};
static const struct bus_ops window_ops = {.read = window_read, .write = window_write};
static const struct bus_ops ecam_ops = {.read = ecam_read, .write = ecam_write};
static const struct bus_ops port_addr_ops = {.read = port_addr_read, .write = port_addr_write};
static const struct bus_ops port_data_ops = {.read = port_data_read, .write = port_data_write};

int pci_bus_new(struct pci_bus **out, const struct dev_host *host)
{
    struct pci_bus *b = xcalloc(1, sizeof(*b));
    int r;

    b->host = host;
    b->next_bar = MMIO_PCI;
    pthread_mutex_init(&b->order, NULL);
    pthread_mutex_init(&b->lock, NULL);
    b->bridge = (struct pci_dev){
        .ops = &bridge_ops,
        .vendor = 0x1b36, /* Red Hat's ids for generic PCI parts */
        .device = 0x0008, /* generic PCIe host bridge */
        .subvendor = 0x1af4,
        .subdevice = 0x1100,
        .class_rev = 0x060000u << 8,
    };
    r = pci_add(b, &b->bridge);
    if (r) {
        pci_bus_free(b);
        return r;
    }
    bus_add(host->mmio, MMIO_PCI, MMIO_ECAM - MMIO_PCI, &window_ops, b, "PCI window");
    bus_add(host->mmio, MMIO_ECAM, MMIO_ECAM_SZ, &ecam_ops, b, "PCI ECAM");
    bus_add(host->pio, PORT_ADDR, 4, &port_addr_ops, b, "PCI address port");
    bus_add(host->pio, PORT_DATA, 4, &port_data_ops, b, "PCI data port");
    *out = b;
    return 0;
}

void pci_bus_free(struct pci_bus *b)
{
    if (!b)
        return;
    for (unsigned s = 0; s < PCI_MAX_DEVS; s++)
        if (b->dev[s])
            pci_del(b->dev[s]);
    pthread_mutex_destroy(&b->lock);
    pthread_mutex_destroy(&b->order);
    free(b);
}
