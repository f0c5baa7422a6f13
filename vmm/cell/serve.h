/* SPDX-License-Identifier: MIT */
/*
 * The life of a cell process under a monitor: takes START, makes the cell, says MADE, waits for
 * GO, runs the guest, answers the monitor's requests meanwhile and reports how it ended.
 * When the monitor goes away, so does the guest.
 * Threads: called by the main thread; requests are answered on the cell's io0.
 */
#ifndef DISCO_VMM_CELL_SERVE_H
#define DISCO_VMM_CELL_SERVE_H

/* Does all of the above over the socket sock, which it owns.  Returns the process's exit status:
 * 0 when the guest ran, however it ended. */
int cell_serve(int sock);

#endif
