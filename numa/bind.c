/* SPDX-License-Identifier: MIT */
/*
 * Thread affinity by node: the kernel's list of a node's CPUs, then sched_setaffinity(2).
 * libnuma does both; its lazily made tables are why this is called after set-up by one thread
 * first.  No locks of ours.
 */
#include "numa/bind.h"

#include <numa.h>
#include <stddef.h>

void numa_bind_thread(int node)
{
    numa_bind_task(0, node);
}

void numa_bind_task(int tid, int node)
{
    struct bitmask *cpus;

    if (node < 0 || numa_available() < 0 || node > numa_max_node())
        return;
    if (numa_max_node() == 0) /* nothing to choose from */
        return;
    cpus = numa_allocate_cpumask();
    if (!cpus)
        return;
    if (!numa_node_to_cpus(node, cpus) && numa_bitmask_weight(cpus) > 0)
        (void)numa_sched_setaffinity(tid, cpus);
    numa_bitmask_free(cpus);
}

uint8_t numa_node_distance(int a, int b)
{
    int d = numa_available() < 0 ? 0 : numa_distance(a, b);

    if (a == b)
        return 10;
    return d > 10 && d < 255 ? (uint8_t)d : 20;
}
