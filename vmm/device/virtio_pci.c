/* SPDX-License-Identifier: MIT */
/*
 * The transport: virtio 1.x over PCI (VIRTIO 1.2, 4.1), modern only.  Interface: virtio.h.
 *
 * BAR 0 holds the four structures, one page each; BAR 1 the MSI-X table.  Each queue has its own
 * notification address (multiplier 4); while BAR 0 is mapped it is an ioeventfd where the host
 * offers that, else the write traps and signals the same eventfd.
 *
 * Invariant T2: the ring addresses of an enabled queue were aligned and in RAM when it was enabled;
 * its size is a power of two <= max.  (T1 and T3 are virtio.c's.)
 *
 * Locks: registers are served on vCPU threads under the device's lock.
 * virtq.ioevent is changed in bar_mapped only, which pci.c serialises.
 */
#include "vmm/device/virtio.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/device/host.h"
#include "vmm/machine/mem.h"

/* Layout of BAR 0 and its capabilities. */
enum {
    BAR_REGS = 0,           /* BAR with the registers */
    BAR_MSIX = 1,           /* BAR with the MSI-X table, pci.c's */
    OFF_COMMON = 0x0000,    /* in BAR 0: the common configuration */
    OFF_ISR = 0x1000,       /* the ISR status */
    OFF_DEVICE = 0x2000,    /* the device's own configuration */
    OFF_NOTIFY = 0x3000,    /* where drivers kick */
    REGION = 0x1000,        /* bytes between these */
    BAR_REGS_SIZE = 0x4000, /* bytes of BAR 0 */
    COMMON_SIZE = 0x38,     /* bytes of the common configuration */
    NOTIFY_STEP = 4,        /* bytes between the addresses of two queues */
    NOTIFY_LEN = 2,         /* the driver writes the queue's number, 16 bits */
    CAP_COMMON = 1,         /* types of capabilities (virtio 1.2, 4.1.4) */
    CAP_NOTIFY = 2,         /* where drivers kick, and NOTIFY_STEP */
    CAP_ISR = 3,            /* interrupt status */
    CAP_DEVICE = 4,         /* the device's own configuration */
    CAP_PCI_CFG = 5,        /* a window on the BARs in configuration space */
};

/* Registers of the common configuration: offsets. */
enum {
    COMMON_DFSELECT = 0x00,   /* which half of the device's features is shown */
    COMMON_DF = 0x04,         /* that half */
    COMMON_GFSELECT = 0x08,   /* which half of the driver's features is meant */
    COMMON_GF = 0x0c,         /* that half */
    COMMON_MSIX = 0x10,       /* vector of configuration changes */
    COMMON_NUMQ = 0x12,       /* number of queues */
    COMMON_STATUS = 0x14,     /* device status; 0 resets */
    COMMON_GENERATION = 0x15, /* changes when the device's configuration does */
    COMMON_Q_SELECT = 0x16,   /* queue that the rest is about */
    COMMON_Q_SIZE = 0x18,     /* its entries */
    COMMON_Q_MSIX = 0x1a,     /* its vector */
    COMMON_Q_ENABLE = 0x1c,   /* 1: it may be used */
    COMMON_Q_NOFF = 0x1e,     /* its place behind OFF_NOTIFY, in steps */
    COMMON_Q_DESC = 0x20,     /* low half, high half at + 4 */
    COMMON_Q_AVAIL = 0x28,    /* likewise */
    COMMON_Q_USED = 0x30,     /* likewise */
};

/* Width of the register at each offset of the common configuration; 0: none starts there. */
static const uint8_t common_width[COMMON_SIZE] = {
    [COMMON_DFSELECT] = 4,   [COMMON_DF] = 4,          [COMMON_GFSELECT] = 4,
    [COMMON_GF] = 4,         [COMMON_MSIX] = 2,        [COMMON_NUMQ] = 2,
    [COMMON_STATUS] = 1,     [COMMON_GENERATION] = 1,  [COMMON_Q_SELECT] = 2,
    [COMMON_Q_SIZE] = 2,     [COMMON_Q_MSIX] = 2,      [COMMON_Q_ENABLE] = 2,
    [COMMON_Q_NOFF] = 2,     [COMMON_Q_DESC] = 4,      [COMMON_Q_DESC + 4] = 4,
    [COMMON_Q_AVAIL] = 4,    [COMMON_Q_AVAIL + 4] = 4, [COMMON_Q_USED] = 4,
    [COMMON_Q_USED + 4] = 4,
};

/* A capability that says where a structure is (virtio_pci_cap and what follows it). */
struct virtio_cap {
    uint8_t id, next, len, type; /* 9 (vendor), filled by pci.c, bytes, CAP_* */
    uint8_t bar, pad[3];         /* BAR it is in */
    uint32_t off, size;          /* where in the BAR, bytes */
    uint32_t extra;              /* notify: multiplier; pci-cfg: the data window */
};

/* The device a PCI device is embedded in. */
static struct virtio_dev *virtio_of(struct pci_dev *p)
{
    return (struct virtio_dev *)p;
}

/* ---- common configuration ---- */

/* The queue the driver selected; NULL: there is none. */
static struct virtq *selected(struct virtio_dev *d)
{
    return d->queue_select < d->nqueues ? &d->vq[d->queue_select] : NULL;
}

/* A 32-bit half of feature bits. */
static uint32_t half(uint64_t v, uint32_t select)
{
    return select < 2 ? (uint32_t)(v >> 32 * select) : 0;
}

/* Replaces half of a 64-bit register. */
static void set_half(uint64_t *v, unsigned high, uint32_t val)
{
    *v = high ? (*v & 0xffffffffull) | (uint64_t)val << 32 : (*v & ~0xffffffffull) | val;
}

/* The 64-bit ring address a register offset belongs to. */
static uint64_t *ring_address(struct virtq *q, unsigned off)
{
    if (off < COMMON_Q_AVAIL)
        return &q->desc;
    return off < COMMON_Q_USED ? &q->avail : &q->used;
}

/* A queue's register. Lock held. */
static uint32_t queue_read(struct virtio_dev *d, unsigned off)
{
    struct virtq *q = selected(d);

    if (!q)
        return 0;
    switch (off) {
    case COMMON_Q_SIZE:
        return q->size;
    case COMMON_Q_MSIX:
        return q->vector;
    case COMMON_Q_ENABLE:
        return q->enabled;
    case COMMON_Q_NOFF:
        return q->index;
    default:
        return half(*ring_address(q, off), off >> 2 & 1);
    }
}

/* A register of the common configuration. Lock held. */
static uint32_t common_read(struct virtio_dev *d, unsigned off)
{
    switch (off) {
    case COMMON_DFSELECT:
        return d->dfeature_select;
    case COMMON_DF:
        return half(d->offered, d->dfeature_select);
    case COMMON_GFSELECT:
        return d->gfeature_select;
    case COMMON_GF:
        return half(d->features, d->gfeature_select);
    case COMMON_MSIX:
        return d->config_vector;
    case COMMON_NUMQ:
        return d->nqueues;
    case COMMON_STATUS:
        return d->status;
    case COMMON_GENERATION:
        return d->generation;
    case COMMON_Q_SELECT:
        return d->queue_select;
    default:
        return queue_read(d, off);
    }
}

/* Checks what the driver set up and puts the queue into service (T2). Lock held. */
static void queue_enable(struct virtio_dev *d, struct virtq *q)
{
    const struct guest_mem *m = d->host->mem;
    uint64_t n = q->size;

    if (!(d->status & VIRTIO_S_FEATURES_OK))
        virtio_break(d, "queue %u enabled before features were agreed", q->index);
    else if (!n || n & (n - 1) || n > q->max)
        virtio_break(d, "queue %u: size %u of at most %u", q->index, q->size, q->max);
    else if (q->desc & 15 || q->avail & 1 || q->used & 3)
        virtio_break(d, "queue %u: rings are not aligned", q->index);
    else if (!mem_at(m, q->desc, 16 * n, MEM_READ) ||
             !mem_at(m, q->avail, 6 + 2 * n, MEM_READ) ||
             !mem_at(m, q->used, 6 + 8 * n, MEM_READ))
        virtio_break(d, "queue %u: rings outside RAM", q->index);
    else
        q->enabled = true;
    if (q->enabled && d->started)
        vq_rekick(q);
}

/* A vector number as the device keeps it. */
static uint16_t checked_vector(const struct virtio_dev *d, uint32_t val)
{
    return val < d->pci.nmsix ? (uint16_t)val : VIRTIO_NO_VECTOR;
}

/* The driver writes a queue's register; an enabled queue keeps its rings. Lock held. */
static void queue_write(struct virtio_dev *d, unsigned off, uint32_t val)
{
    struct virtq *q = selected(d);

    if (!q)
        return;
    if (off == COMMON_Q_MSIX) {
        q->vector = checked_vector(d, val);
        return;
    }
    if (q->enabled || d->broken)
        return;
    if (off == COMMON_Q_SIZE)
        q->size = (uint16_t)val;
    else if (off == COMMON_Q_ENABLE && val == 1)
        queue_enable(d, q);
    else if (off >= COMMON_Q_DESC)
        set_half(ring_address(q, off), off >> 2 & 1, val);
}

/* The driver writes a register of the common configuration. Lock held. */
static void common_write(struct virtio_dev *d, unsigned off, uint32_t val)
{
    switch (off) {
    case COMMON_DFSELECT:
        d->dfeature_select = val;
        break;
    case COMMON_GFSELECT:
        d->gfeature_select = val;
        break;
    case COMMON_GF:
        if (d->gfeature_select < 2 && !(d->status & VIRTIO_S_FEATURES_OK))
            set_half(&d->features, d->gfeature_select, val);
        break;
    case COMMON_MSIX:
        d->config_vector = checked_vector(d, val);
        break;
    case COMMON_STATUS:
        virtio_set_status(d, (uint8_t)val);
        break;
    case COMMON_Q_SELECT:
        d->queue_select = (uint16_t)val;
        break;
    default:
        if (off > COMMON_Q_SELECT)
            queue_write(d, off, val);
    }
}

/* ---- BAR 0 ---- */

/* True when an access is one register of the common configuration, whole. */
static bool common_access_ok(uint64_t off, unsigned len)
{
    return off < COMMON_SIZE && common_width[off] == len;
}

/* A read of BAR 0.  What no register is there for reads 0. */
static void regs_read(struct pci_dev *p, unsigned bar, uint64_t off, void *data, unsigned len)
{
    struct virtio_dev *d = virtio_of(p);
    uint64_t in = off % REGION;
    uint32_t val;

    memset(data, 0, len);
    if (bar != BAR_REGS)
        return;
    switch (off - in) {
    case OFF_COMMON:
        if (!common_access_ok(in, len))
            return;
        virtio_lock(d);
        val = common_read(d, (unsigned)in);
        virtio_unlock(d);
        memcpy(data, &val, len);
        return;
    case OFF_ISR:
        if (in == 0 && len == 1)
            *(uint8_t *)data = atomic_exchange(&d->isr, 0);
        return;
    case OFF_DEVICE:
        if (in + len > d->type->config_len)
            return;
        virtio_lock(d);
        d->type->config_read(d, (unsigned)in, data, len);
        virtio_unlock(d);
        return;
    default: /* notifications read as 0 */
        return;
    }
}

/* A write to BAR 0.  What no register is there for vanishes. */
static void regs_write(struct pci_dev *p, unsigned bar, uint64_t off, const void *data,
                       unsigned len)
{
    struct virtio_dev *d = virtio_of(p);
    uint64_t in = off % REGION;
    uint32_t val = 0;

    if (bar != BAR_REGS)
        return;
    switch (off - in) {
    case OFF_COMMON:
        if (!common_access_ok(in, len))
            return;
        memcpy(&val, data, len);
        virtio_lock(d);
        common_write(d, (unsigned)in, val);
        virtio_unlock(d);
        return;
    case OFF_DEVICE:
        if (in + len > d->type->config_len || !d->type->config_write)
            return;
        virtio_lock(d);
        d->type->config_write(d, (unsigned)in, data, len);
        virtio_unlock(d);
        return;
    case OFF_NOTIFY:
        if (in % NOTIFY_STEP == 0 && in / NOTIFY_STEP < d->nqueues)
            vq_rekick(&d->vq[in / NOTIFY_STEP]);
        return;
    default: /* the ISR is read-only */
        return;
    }
}

/* BAR 0 came or went: kicks become ioeventfds where the host can. */
static void regs_mapped(struct pci_dev *p, unsigned bar, uint64_t gpa, bool on)
{
    struct virtio_dev *d = virtio_of(p);

    if (bar != BAR_REGS || !d->host->ioeventfd)
        return;
    for (unsigned i = 0; i < d->nqueues; i++) {
        struct virtq *q = &d->vq[i];
        int r;

        if (q->ioevent == on)
            continue;
        r = d->host->ioeventfd(d->host->ctx, gpa + OFF_NOTIFY + NOTIFY_STEP * i, NOTIFY_LEN,
                               q->kickfd, on);
        if (r && on)
            log_debug("%s: no ioeventfd for queue %u, kicks trap: %s", d->label, i,
                      strerror(-r));
        q->ioevent = on && !r;
    }
}

/* ---- access through configuration space (CAP_PCI_CFG) ---- */

/* The access the driver described; false: it is not a valid one. */
static bool window_access(struct pci_dev *p, struct virtio_cap *cap)
{
    pci_cfg_peek(p, virtio_of(p)->cfg_window, cap, sizeof(*cap));
    return cap->bar == BAR_REGS && (cap->size == 1 || cap->size == 2 || cap->size == 4) &&
           cap->off % cap->size == 0 && cap->off <= BAR_REGS_SIZE - cap->size;
}

/* True when off is in the data window of the capability. */
static bool in_window(struct pci_dev *p, unsigned off)
{
    unsigned at = virtio_of(p)->cfg_window + (unsigned)offsetof(struct virtio_cap, extra);

    return off >= at && off < at + 4;
}

/* A read of the data window makes the access the driver described before. */
static bool window_read(struct pci_dev *p, unsigned off, void *data, unsigned len)
{
    struct virtio_cap cap;
    uint8_t val[4] = {0};

    if (!in_window(p, off))
        return false;
    if (window_access(p, &cap))
        regs_read(p, BAR_REGS, cap.off, val, cap.size);
    memcpy(data, val + off % 4, len);
    return true;
}

/* Likewise for writes.  A write shorter than the access makes none. */
static bool window_write(struct pci_dev *p, unsigned off, const void *data, unsigned len)
{
    struct virtio_cap cap;

    if (!in_window(p, off))
        return false;
    if (off % 4 == 0 && window_access(p, &cap) && cap.size <= len)
        regs_write(p, BAR_REGS, cap.off, data, cap.size);
    return true;
}

/* ---- set-up ---- */

/* Adds one capability; bytes: 16, or 20 with `extra`. Returns its offset. */
static unsigned add_cap(struct virtio_dev *d, struct virtio_cap cap, unsigned bytes)
{
    /* Only the pci-cfg window is written by drivers: BAR, offset, length. */
    static const uint8_t writable[sizeof(struct virtio_cap)] = {
        [4] = 0xff, [8] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

    cap.id = 9;
    cap.len = (uint8_t)bytes;
    return pci_add_cap(&d->pci, &cap, bytes, cap.type == CAP_PCI_CFG ? writable : NULL);
}

/* Tells drivers where the structures are. */
static void add_caps(struct virtio_dev *d)
{
    uint32_t notify = NOTIFY_STEP * d->nqueues, config = d->type->config_len;

    add_cap(d, (struct virtio_cap){.type = CAP_COMMON, .off = OFF_COMMON, .size = COMMON_SIZE},
            16);
    add_cap(d, (struct virtio_cap){.type = CAP_ISR, .off = OFF_ISR, .size = 1}, 16);
    if (config)
        add_cap(d, (struct virtio_cap){.type = CAP_DEVICE, .off = OFF_DEVICE, .size = config},
                16);
    add_cap(d,
            (struct virtio_cap){
                .type = CAP_NOTIFY, .off = OFF_NOTIFY, .size = notify, .extra = NOTIFY_STEP},
            20);
    d->cfg_window = add_cap(d, (struct virtio_cap){.type = CAP_PCI_CFG}, 20);
}

static const struct pci_ops virtio_pci_ops = {
    .bar_read = regs_read,
    .bar_write = regs_write,
    .bar_mapped = regs_mapped,
    .cfg_read = window_read,
    .cfg_write = window_write,
};

int virtio_init(struct virtio_dev *d, const struct virtio_type *type, const char *label,
                unsigned nqueues, uint16_t qmax, uint64_t offered, const struct dev_host *host,
                struct pci_bus *bus)
{
    pthread_mutexattr_t attr;
    int r = 0;

    INVARIANT(nqueues >= 1 && nqueues <= VIRTIO_MAX_QUEUES, "virtio: number of queues");
    INVARIANT(qmax && qmax <= VQ_MAX_SIZE && !(qmax & (qmax - 1)), "virtio: queue size");
    INVARIANT(type->config_len <= REGION && type->kick && type->free && type->stats &&
                  (type->config_read || !type->config_len),
              "virtio: the type's table is complete");
    d->type = type;
    d->host = host;
    snprintf(d->label, sizeof(d->label), "%s", label);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&d->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    d->offered = offered | 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_INDIRECT |
                 1ull << VIRTIO_F_EVENT_IDX;
    d->config_vector = VIRTIO_NO_VECTOR;
    for (unsigned i = 0; i < nqueues && !r; i++, d->nqueues++)
        r = virtio_queue_init(d, i, qmax);
    d->pci.ops = &virtio_pci_ops;
    d->pci.vendor = d->pci.subvendor = 0x1af4;
    d->pci.device = (uint16_t)(0x1040 + type->id);
    d->pci.subdevice = type->id;
    d->pci.class_rev = (type->pci_class & ~0xffu) | 1; /* revision 1: no legacy interface */
    d->pci.bar_size[BAR_REGS] = BAR_REGS_SIZE;
    d->pci.nmsix = nqueues + 1;
    d->pci.msix_bar = BAR_MSIX;
    if (!r)
        r = pci_add(bus, &d->pci);
    if (r)
        virtio_exit(d);
    else
        add_caps(d);
    return r;
}

void virtio_exit(struct virtio_dev *d)
{
    virtio_lock(d);
    virtio_reset(d);
    virtio_unlock(d);
    pci_del(&d->pci);
    for (unsigned i = 0; i < d->nqueues; i++)
        virtio_queue_exit(d, i);
    d->nqueues = 0;
    pthread_mutex_destroy(&d->lock);
}
