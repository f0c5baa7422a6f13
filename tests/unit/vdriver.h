/* SPDX-License-Identifier: MIT */
/*
 * A small machine and a small virtio driver for unit tests: the driver finds a device by ECAM,
 * negotiates, sets up queues in guest memory and moves buffers, all through the same accesses a
 * guest makes.  Interrupts end in irq_msi() of the test that includes this.  One thread.
 */
#ifndef DISCO_TESTS_UNIT_VDRIVER_H
#define DISCO_TESTS_UNIT_VDRIVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/evloop.h"
#include "vmm/device/host.h"
#include "vmm/device/virtio.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/mem.h"

#include <cmocka.h> /* last: its macro fail() would spoil base/err.h */

#define VD_UNUSED __attribute__((unused)) static
#define VD_RINGS  0x100000ull /* gpa of the rings of queue 0; 64 KiB a queue */
#define VD_BUF    0x800000ull /* gpa of buffers */

enum {
    VD_AVAIL = 0x4000,    /* offset of the available ring in a queue's 64 KiB */
    VD_USED = 0x6000,     /* offset of the used ring */
    VD_INDIRECT = 0xa000, /* offset of room for an indirect table */
    VD_NEXT = 1,
    VD_WRITE = 2,
    VD_IND = 4,
};

/* The machine devices sit in. */
struct vd_machine {
    struct guest_mem mem; /* 16 MiB */
    struct bus pio, mmio; /* address spaces */
    struct evloop io;     /* the loop of io0 */
    struct dev_host host; /* what devices see */
    struct pci_bus *pci;  /* the bus */
};

/* The driver of one device. */
struct vd {
    struct vd_machine *m;                 /* where */
    unsigned slot;                        /* which */
    uint64_t common, isr, config, notify; /* gpas of the structures */
    unsigned notify_mul;                  /* bytes between notification addresses */
    unsigned size[VIRTIO_MAX_QUEUES];     /* sizes set up */
    uint16_t avail[VIRTIO_MAX_QUEUES];    /* next available index */
    uint16_t used[VIRTIO_MAX_QUEUES];     /* next used index to look at */
};

VD_UNUSED void vd_machine_init(struct vd_machine *m)
{
    struct mem_spec spec = {.size = 16 << 20, .nviews = 1};

    memset(m, 0, sizeof(*m));
    assert_int_equal(mem_init(&m->mem, &spec, NULL), 0);
    assert_int_equal(evloop_init(&m->io, NULL), 0);
    m->host = (struct dev_host){.mem = &m->mem, .io = &m->io, .pio = &m->pio, .mmio = &m->mmio};
    assert_int_equal(pci_bus_new(&m->pci, &m->host), 0);
}

VD_UNUSED void vd_machine_exit(struct vd_machine *m)
{
    pci_bus_free(m->pci);
    evloop_exit(&m->io);
    mem_exit(&m->mem);
}

/* ---- accesses ---- */

VD_UNUSED uint64_t vd_read(struct vd_machine *m, uint64_t gpa, unsigned len)
{
    uint64_t v = 0;

    bus_read(&m->mmio, gpa, &v, len);
    return v;
}

VD_UNUSED void vd_write(struct vd_machine *m, uint64_t gpa, unsigned len, uint64_t v)
{
    bus_write(&m->mmio, gpa, &v, len);
}

VD_UNUSED uint32_t vd_cfg(struct vd_machine *m, unsigned slot, unsigned reg, unsigned len)
{
    return (uint32_t)vd_read(m, MMIO_ECAM + (slot << 15) + reg, len);
}

VD_UNUSED void vd_cfg_set(struct vd_machine *m, unsigned slot, unsigned reg, unsigned len,
                          uint32_t v)
{
    vd_write(m, MMIO_ECAM + (slot << 15) + reg, len, v);
}

/* Guest memory at gpa. */
VD_UNUSED void *vd_mem(struct vd_machine *m, uint64_t gpa)
{
    void *p = mem_at(&m->mem, gpa, 1, MEM_WRITE);

    assert_non_null(p);
    return p;
}

/* Lets io0 serve what is pending. */
VD_UNUSED void vd_io(struct vd_machine *m)
{
    for (int i = 0; i < 8; i++)
        evloop_once(&m->io, 0);
}

/* ---- the driver ---- */

/* The next capability with this id after `after` (0: the first); 0: none. */
VD_UNUSED unsigned vd_cap(struct vd_machine *m, unsigned slot, uint8_t id, unsigned after)
{
    unsigned at = vd_cfg(m, slot, after ? after + 1 : 0x34, 1);

    for (int i = 0; at && i < 48; i++, at = vd_cfg(m, slot, at + 1, 1))
        if (vd_cfg(m, slot, at, 1) == id)
            return at;
    return 0;
}

/* Finds the structures of a device and switches memory decoding on. */
VD_UNUSED void vd_find(struct vd *v, struct vd_machine *m, unsigned slot)
{
    *v = (struct vd){.m = m, .slot = slot};
    vd_cfg_set(m, slot, 4, 2, 6);
    for (unsigned c = vd_cap(m, slot, 9, 0); c; c = vd_cap(m, slot, 9, c)) {
        unsigned bar = vd_cfg(m, slot, c + 4, 1);
        uint64_t at =
            (vd_cfg(m, slot, 0x10 + 4 * bar, 4) & ~15u) + (uint64_t)vd_cfg(m, slot, c + 8, 4);

        switch (vd_cfg(m, slot, c + 3, 1)) {
        case 1:
            v->common = at;
            break;
        case 2:
            v->notify = at;
            v->notify_mul = vd_cfg(m, slot, c + 16, 4);
            break;
        case 3:
            v->isr = at;
            break;
        case 4:
            v->config = at;
            break;
        default:
            break;
        }
    }
}

VD_UNUSED uint32_t vd_reg(struct vd *v, unsigned off, unsigned len)
{
    return (uint32_t)vd_read(v->m, v->common + off, len);
}

VD_UNUSED void vd_set(struct vd *v, unsigned off, unsigned len, uint32_t val)
{
    vd_write(v->m, v->common + off, len, val);
}

VD_UNUSED uint64_t vd_features(struct vd *v)
{
    uint64_t f;

    vd_set(v, 0, 4, 0);
    f = vd_reg(v, 4, 4);
    vd_set(v, 0, 4, 1);
    return f | (uint64_t)vd_reg(v, 4, 4) << 32;
}

/* Reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK; the status afterwards. */
VD_UNUSED uint8_t vd_negotiate(struct vd *v, uint64_t features)
{
    vd_set(v, 0x14, 1, 0);
    assert_int_equal(vd_reg(v, 0x14, 1), 0);
    vd_set(v, 0x14, 1, 1);
    vd_set(v, 0x14, 1, 3);
    vd_set(v, 8, 4, 0);
    vd_set(v, 12, 4, (uint32_t)features);
    vd_set(v, 8, 4, 1);
    vd_set(v, 12, 4, (uint32_t)(features >> 32));
    vd_set(v, 0x14, 1, 11);
    return (uint8_t)vd_reg(v, 0x14, 1);
}

/* The gpa of queue q's rings. */
VD_UNUSED uint64_t vd_rings(unsigned q)
{
    return VD_RINGS + q * 0x10000ull;
}

/* Sets a queue up with its own vector q + 1 and enables it. */
VD_UNUSED void vd_queue(struct vd *v, unsigned q, unsigned size)
{
    uint64_t at = vd_rings(q);

    memset(vd_mem(v->m, at), 0, 0x10000);
    vd_set(v, 0x16, 2, q);
    vd_set(v, 0x18, 2, size);
    vd_set(v, 0x1a, 2, q + 1);
    vd_set(v, 0x20, 4, (uint32_t)at);
    vd_set(v, 0x24, 4, 0);
    vd_set(v, 0x28, 4, (uint32_t)at + VD_AVAIL);
    vd_set(v, 0x2c, 4, 0);
    vd_set(v, 0x30, 4, (uint32_t)at + VD_USED);
    vd_set(v, 0x34, 4, 0);
    vd_set(v, 0x1c, 2, 1);
    v->size[q] = size;
    v->avail[q] = v->used[q] = 0;
}

/* All of the above: features, nq queues, DRIVER_OK, MSI-X with message (0xfee00000, vector). */
VD_UNUSED void vd_start(struct vd *v, uint64_t features, unsigned nq, unsigned size)
{
    unsigned cap = vd_cap(v->m, v->slot, 0x11, 0);
    uint64_t table = vd_cfg(v->m, v->slot, 0x14, 4) & ~15u;

    for (unsigned i = 0; i <= nq; i++) {
        vd_write(v->m, table + 16 * i, 8, 0xfee00000);
        vd_write(v->m, table + 16 * i + 8, 4, i);
        vd_write(v->m, table + 16 * i + 12, 4, 0);
    }
    vd_cfg_set(v->m, v->slot, cap + 2, 2, 0x8000);
    assert_int_equal(vd_negotiate(v, features), 11);
    vd_set(v, 0x10, 2, 0);
    for (unsigned q = 0; q < nq; q++)
        vd_queue(v, q, size);
    vd_set(v, 0x14, 1, 15);
    assert_int_equal(vd_reg(v, 0x14, 1), 15);
}

/* Writes entry i of a descriptor table at gpa. */
VD_UNUSED void vd_desc(struct vd_machine *m, uint64_t table, unsigned i, uint64_t addr,
                       uint32_t len, uint16_t flags, uint16_t next)
{
    uint8_t *p = vd_mem(m, table + 16ull * i);

    memcpy(p, &addr, 8);
    memcpy(p + 8, &len, 4);
    memcpy(p + 12, &flags, 2);
    memcpy(p + 14, &next, 2);
}

/* Makes a chain available. */
VD_UNUSED void vd_avail(struct vd *v, unsigned q, uint16_t head)
{
    uint16_t *a = vd_mem(v->m, vd_rings(q) + VD_AVAIL);

    a[2 + v->avail[q] % v->size[q]] = head;
    v->avail[q]++;
    a[1] = v->avail[q];
}

/* Kicks by the notification address, and lets the device work. */
VD_UNUSED void vd_kick(struct vd *v, unsigned q)
{
    vd_write(v->m, v->notify + q * v->notify_mul, 2, q);
    vd_io(v->m);
}

/* The next used entry: its head, *len; -1: none. */
VD_UNUSED int vd_used(struct vd *v, unsigned q, uint32_t *len)
{
    uint8_t *u = vd_mem(v->m, vd_rings(q) + VD_USED);
    uint16_t idx;
    uint32_t e[2];

    memcpy(&idx, u + 2, 2);
    if (idx == v->used[q])
        return -1;
    memcpy(e, u + 4 + 8 * (v->used[q] % v->size[q]), 8);
    v->used[q]++;
    if (len)
        *len = e[1];
    return (int)e[0];
}

/* One buffer as a whole request: descriptor 0 of queue q; kicks; bytes used, -1: not served. */
VD_UNUSED long vd_one(struct vd *v, unsigned q, uint64_t gpa, uint32_t len, bool write)
{
    uint32_t got = 0;

    vd_desc(v->m, vd_rings(q), 0, gpa, len, write ? VD_WRITE : 0, 0);
    vd_avail(v, q, 0);
    vd_kick(v, q);
    return vd_used(v, q, &got) < 0 ? -1 : (long)got;
}

#endif
