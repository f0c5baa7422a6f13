/* SPDX-License-Identifier: MIT */
/*
 * Between the two halves of synthetic workloads: reading and doing.  For numa/workload*.c only.
 */
#ifndef DISCO_NUMA_WORKLOAD_SYNTH_H
#define DISCO_NUMA_WORKLOAD_SYNTH_H

#include "numa/workload.h"

/* How a synthetic workload tells. */
extern const struct workload_ops workload_synth;

/* Sets ops, and spreads the active pages over the guest; false: it is too small for them. */
bool workload_spread(struct workload *w);

#endif
