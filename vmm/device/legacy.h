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

/* 16550A at 0x3f8, IOAPIC pin ACPI_COM1_PIN. Owns io. quit: as chario_start. */
struct uart *uart_new(const struct dev_host *host, struct chario *io, void (*quit)(void *arg),
                      void *quit_arg);
void uart_free(struct uart *u);

/* Power and reset registers, port-0x64 reset (0xfe) and 0xcf9, event port; quiet stubs. */
struct pm *pm_new(const struct dev_host *host);
void pm_free(struct pm *p);

/* Presses the power button (generic event device). Any thread. */
void pm_power_button(struct pm *p);

/* isa-debug-exit at 0xf4: a write of v ends the guest with status (v << 1) | 1. */
void debug_exit_add(const struct dev_host *host);

/* fw_cfg at 0x510/0x511: signature, id, RAM size, number of CPUs, (max CPUs). */
struct fwcfg *fwcfg_new(const struct dev_host *host, uint64_t ram_size, unsigned nvcpus);
void fwcfg_free(struct fwcfg *f);

#endif
