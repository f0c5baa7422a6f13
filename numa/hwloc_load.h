/* SPDX-License-Identifier: MIT */
/*
 * Loads libhwloc when the machine is first read through it.  A guest of a machine of one node starts
 * without (topo_read_here()), and the loading of hwloc and of what that needs was a twentieth of a
 * start.  Interface: hwloc_here(); the library's own functions may be called after it.
 */
#ifndef DISCO_NUMA_HWLOC_LOAD_H
#define DISCO_NUMA_HWLOC_LOAD_H

struct err;

/* Loads the library; again and again costs nothing.  0, or -errno with an EXIT_INTERNAL error. */
int hwloc_here(struct err *err);

#endif
