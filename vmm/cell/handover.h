/* SPDX-License-Identifier: MIT */
/*
 * What the monitor hands a cell to start with, as one text and a list of descriptors: the guest's
 * configuration, its placement, the level of the log, and which descriptor is what.
 * handover_pack() at the monitor, handover_unpack() in the cell; the text is JSON.
 * Threads: any one; no state.
 */
#ifndef DISCO_VMM_CELL_HANDOVER_H
#define DISCO_VMM_CELL_HANDOVER_H

#include <stddef.h>

#include "numa/place.h"
#include "vmm/cell/cell.h"
#include "vmm/config/config.h"

struct err;

/* All of it. */
struct handover {
    struct guest_cfg cfg;   /* the guest, owned after handover_unpack() */
    struct place_got place; /* where it goes */
    struct cell_fds fds;    /* open descriptors */
    int log_level;          /* enum log_level */
};

/* Writes s as text (malloc'd) and lists its descriptors in the text's order in fds, which has
 * room for PROTO_MAX_FDS; *nfds is their number.  Nothing is closed or given away. */
char *handover_pack(const struct handover *s, int *fds, unsigned *nfds);

/*
 * Fills s from text (NUL-terminated) and nfds descriptors.  Descriptors that were used are set to
 * -1 in fds and belong to s.  -EPROTO with err set when anything is not as it must be; s is then
 * empty, with nothing open.
 */
int handover_unpack(struct handover *s, const char *text, int *fds, unsigned nfds,
                    struct err *err);

/* Frees the configuration and closes what is open. */
void handover_free(struct handover *s);

#endif
