/* SPDX-License-Identifier: MIT */
/*
 * First registers of the first vCPU, as the boot protocol wants them.
 */
#ifndef DISCO_VMM_CELL_ENTRY_H
#define DISCO_VMM_CELL_ENTRY_H

struct boot_entry;
struct err;
struct machine;

/* Sets vCPU 0's registers for the entry. Before machine_start(). */
int entry_set(struct machine *m, const struct boot_entry *entry, struct err *err);

#endif
