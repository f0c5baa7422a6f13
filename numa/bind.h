/* SPDX-License-Identifier: MIT */
/*
 * Binds the calling thread to the CPUs of a node.  Best effort: a node without CPUs, or one that
 * went away, leaves the thread where it may run.  No state; any thread.
 */
#ifndef DISCO_NUMA_BIND_H
#define DISCO_NUMA_BIND_H

#include <stdint.h>

/* node: the kernel's number; negative: nothing is done. */
void numa_bind_thread(int node);

/* The same for another thread of this process, by its kernel number. */
void numa_bind_task(int tid, int node);

/* Distance between two nodes of this machine as firmware tells it, 10 = the same; 20 where it
 * does not say. */
uint8_t numa_node_distance(int a, int b);

#endif
