/* SPDX-License-Identifier: MIT */
/*
 * `disco stat GUEST --pages`: the figures of a guest's pages for people.  What the cell says is not
 * trusted: nothing of it harms a terminal, and the table has a largest size.
 * Threads: any; no state.
 */
#ifndef DISCO_VMM_MONITOR_STAT_PAGES_H
#define DISCO_VMM_MONITOR_STAT_PAGES_H

#include <stdio.h>

struct json_t;

/* Prints what the cell says of pages (member "pages" of stat), or one sentence why there is nothing
 * to say; g is the guest as the monitor shows it. */
void stat_pages_print(FILE *f, const struct json_t *g, const struct json_t *stat);

/* The same as JSON: {"name", "state", "pages", "why"}; one of the last two is null.  A new
 * reference. */
struct json_t *stat_pages_json(const struct json_t *g, const struct json_t *stat);

#endif
