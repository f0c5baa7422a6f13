/* SPDX-License-Identifier: MIT */
/*
 * An address space of devices (ports, or MMIO): ranges with a read and a write function.
 *
 * Threads: ranges are added before the first vCPU runs; afterwards the table is read-only and
 * vCPU threads look it up without a lock.  A device guards itself.
 */
#ifndef DISCO_VMM_MACHINE_BUS_H
#define DISCO_VMM_MACHINE_BUS_H

#include <stdbool.h>
#include <stdint.h>

struct err;

enum { BUS_MAX = 64 };

/* What a device does with accesses to its range.  len is 1, 2, 4 or 8; off + len lies inside. */
struct bus_ops {
    /* Required.  Fills len bytes at data. */
    void (*read)(void *dev, uint64_t off, void *data, unsigned len);
    /* Required. */
    void (*write)(void *dev, uint64_t off, const void *data, unsigned len);
};

/* One range. */
struct bus_range {
    uint64_t base;             /* first address */
    uint64_t len;              /* bytes */
    const struct bus_ops *ops; /* what to call */
    void *dev;                 /* first argument of ops */
    const char *name;          /* for messages */
};

/* The address space; zeroed is empty. */
struct bus {
    struct bus_range range[BUS_MAX]; /* sorted by base, no overlap */
    unsigned n;                      /* entries used */
};

/* Adds a range; overlap or a full table is a programming error (INVARIANT). */
void bus_add(struct bus *b, uint64_t base, uint64_t len, const struct bus_ops *ops, void *dev,
             const char *name);

/* Reads; where nothing answers, fills data with 0xff and returns false. */
bool bus_read(const struct bus *b, uint64_t addr, void *data, unsigned len);

/* Writes; false where nothing answers. */
bool bus_write(const struct bus *b, uint64_t addr, const void *data, unsigned len);

#endif
