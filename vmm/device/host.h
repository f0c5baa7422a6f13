/* SPDX-License-Identifier: MIT */
/*
 * What a device may use of the machine it sits in.  Filled by the cell before devices are made,
 * read-only afterwards.
 */
#ifndef DISCO_VMM_DEVICE_HOST_H
#define DISCO_VMM_DEVICE_HOST_H

#include <stdbool.h>
#include <stdint.h>

struct bus;
struct evloop;
struct guest_mem;
struct irqchip;

struct dev_host {
    struct guest_mem *mem; /* guest memory; use mem_at() */
    struct irqchip *irq;   /* irq_gsi(), irq_msi(): any thread */
    struct evloop *io;     /* loop of thread io0, which serves queues and backends */
    struct bus *pio;       /* port space; add ranges before vCPUs run */
    struct bus *mmio;      /* memory-mapped space; likewise */
    /* Makes a write of len bytes (any value) to gpa signal fd in all views, without an exit to
     * us; add = false undoes it.  Any thread; 0 or -errno.  NULL in tests. */
    int (*ioeventfd)(void *ctx, uint64_t gpa, unsigned len, int fd, bool add);
    /* The guest asks for: power-off, reset, or exit with a status (debug exit). Any thread. */
    void (*power_off)(void *ctx);
    void (*reset)(void *ctx);
    void (*debug_exit)(void *ctx, uint32_t value);
    void *ctx; /* first argument of the functions */
};

#endif
