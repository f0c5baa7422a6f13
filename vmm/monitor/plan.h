/* SPDX-License-Identifier: MIT */
/*
 * Which nodes the guests of a site get: puts what a configuration says and what the machine has
 * before the placer.  Interface: site_plan().  Threads: any one; no state.
 */
#ifndef DISCO_VMM_MONITOR_PLAN_H
#define DISCO_VMM_MONITOR_PLAN_H

struct err;
struct place_got;
struct site_cfg;
struct topo;

/* Places all guests of site on t: *got is an array of site->nguests entries (free()).  0, or
 * -errno with an EXIT_MEMORY or EXIT_CONFIG error; *got is NULL then. */
int site_plan(const struct site_cfg *site, const struct topo *t, struct place_got **got,
              struct err *err);

#endif
