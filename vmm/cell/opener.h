/* SPDX-License-Identifier: MIT */
/*
 * Opens everything a guest's configuration names, before the cell is made: the cell itself opens
 * nothing.  Interface: cell_fds_init(), cell_open(), cell_fds_close(), cell_unlink().
 * Every failure names the guest, what was to be opened and what would be right.
 * Threads: any one; no state.
 */
#ifndef DISCO_VMM_CELL_OPENER_H
#define DISCO_VMM_CELL_OPENER_H

#include <stdbool.h>

struct cell_fds;
struct err;
struct guest_cfg;

/* Fills fds with "nothing": -1 everywhere. */
void cell_fds_init(struct cell_fds *fds);

/* Closes all that is open in fds and makes it "nothing" again. */
void cell_fds_close(struct cell_fds *fds);

/*
 * Opens /dev/kvm, kernel, initrd, disks (and locks them: one writer or several readers), taps and
 * consoles of g into fds, which cell_fds_init() has filled.  For a guest of a monitor
 * (`monitored`) the caller has put in before: net[i] of the subnet cards, and both descriptors of
 * consoles that go to the monitor (types monitor and stdio).  Without a monitor those consoles
 * are the terminal, and a subnet card is an error.
 * Returns 0, or -errno with err set and all of fds closed, also what the caller had put in.
 */
int cell_open(const struct guest_cfg *g, bool monitored, struct cell_fds *fds, struct err *err);

/* Removes the console sockets cell_open() made.  After the guest has ended. */
void cell_unlink(const struct guest_cfg *g);

#endif
