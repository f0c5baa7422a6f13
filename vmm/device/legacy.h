/* SPDX-License-Identifier: MIT */
/*
 * Small devices at fixed ports: the 16550 console, power (ACPI sleep and reset registers, the
 * generic event device's port, keyboard-controller reset), debug exit, fw_cfg, and the stubs
 * Linux wants quiet answers from (PIT ports, CMOS, port 0x61, 0x80).
 * Each guards itself with its own mutex; ports are added to the bus before vCPUs run.
 */
#ifndef DISCO_VMM_DEVICE_LEGACY_H
#define DISCO_VMM_DEVICE_LEGACY_H

#include <stdint.h>

struct chario;
struct dev_host;
struct fwcfg;
struct pm;
struct uart;

/* Where things are.  The guest learns pins and PM ports from ACPI: they must match
 * vmm/boot/boot.h (ACPI_*). */
enum {
    LEGACY_COM1_PIN = 4,    /* IOAPIC pin of the 16550, edge */
    LEGACY_GED_PIN = 9,     /* IOAPIC pin of the generic event device, level, active high */
    COM1_PORT = 0x3f8,      /* 16550, 8 ports */
    PM_PORT = 0x600,        /* sleep control and status */
    PM_RESET_PORT = 0x601,  /* reset register, value 1 */
    PM_GED_PORT = 0x604,    /* pending events, 1 to 4 bytes; reading clears */
    DEBUG_EXIT_PORT = 0xf4, /* isa-debug-exit, 4 ports */
    FWCFG_PORT = 0x510,     /* selector; data at + 1 */
};

/* Events of the generic event device, as PM_GED_PORT reads. */
enum { GED_POWER_BUTTON = 1 };

/* 16550A at COM1_PORT. Owns io, and starts it on host->io. quit: as chario_start.  Output reaches
 * io by whole lines, else a millisecond late; all of it by uart_free(). */
struct uart *uart_new(const struct dev_host *host, struct chario *io, void (*quit)(void *arg),
                      void *quit_arg);

/* vCPUs must not run; io0 must not run or be the caller. NULL is allowed. */
void uart_free(struct uart *u);

/* Power and reset registers, port-0x64 reset (0xfe), event port; quiet stubs.  (Port 0xcf9
 * belongs to the PCI host bridge's range 0xcf8-0xcff.) */
struct pm *pm_new(const struct dev_host *host);

/* vCPUs must not run, and nobody presses the button any more. NULL is allowed. */
void pm_free(struct pm *p);

/* Presses the power button (generic event device). Any thread. */
void pm_power_button(struct pm *p);

/* isa-debug-exit: a write of v (1, 2 or 4 bytes) calls host->debug_exit(v), which ends the guest
 * with status (v << 1) | 1. */
void debug_exit_add(const struct dev_host *host);

/* fw_cfg: signature, id, RAM size, number of CPUs, (max CPUs). Traditional interface, no DMA. */
struct fwcfg *fwcfg_new(const struct dev_host *host, uint64_t ram_size, unsigned nvcpus);

/* vCPUs must not run. NULL is allowed. */
void fwcfg_free(struct fwcfg *f);

#endif
