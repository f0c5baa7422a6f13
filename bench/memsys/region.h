/* SPDX-License-Identifier: MIT */
/*
 * The memory that the model in the emulator and its readers in the emulated machine share: the
 * writer's side.  What is in it: numa/flash.h.
 */
#ifndef DISCO_BENCH_MEMSYS_REGION_H
#define DISCO_BENCH_MEMSYS_REGION_H

#include <stdint.h>

#include "numa/flash.h"

/* Maps a region's file for writing; NULL when it cannot be or is too small for such a machine: then
 * what is wrong is in buf (size bytes). */
void *region_map(const char *path, unsigned ncpus, unsigned nnodes, uint64_t node_bytes,
                 char *buf, unsigned size);

#endif
