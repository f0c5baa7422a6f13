/* SPDX-License-Identifier: MIT */
/*
 * The rules that tie keys or guests together, which no single row of the schema can say.
 * Inside of vmm/config only.  Errors as in read.h.  Threads: one.
 */
#ifndef DISCO_VMM_CONFIG_CHECK_H
#define DISCO_VMM_CONFIG_CHECK_H

struct guest_cfg;
struct place;
struct reader;
struct site_cfg;

/* Checks one completed guest by itself. */
int check_guest(struct reader *r, const struct guest_cfg *g, const struct place *place);

/* Checks that guests do not claim the same name, tap, mac, port, console or writable disk.
 * places: one per guest. */
int check_site(struct reader *r, const struct site_cfg *site, const struct place *places);

#endif
