/* SPDX-License-Identifier: MIT */
/*
 * What others than the cell ask of its paging: `disco doctor`.  Threads: any.
 */
#ifndef DISCO_VMM_CELL_PAGING_H
#define DISCO_VMM_CELL_PAGING_H

#include <stdbool.h>

/* Whether KVM here uses the CPU's nested paging.  Where it shadows a guest's page tables it writes
 * accessed bits itself and takes a protected table for a missing page: no pager then. */
bool paging_nested(void);

#endif
