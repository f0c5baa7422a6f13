/* SPDX-License-Identifier: MIT */
/*
 * The plugin's arguments, key=value each.  Pure: text in, numbers or one message out.
 * Threads: any.
 */
#ifndef DISCO_BENCH_MEMSYS_ARGS_H
#define DISCO_BENCH_MEMSYS_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/memsys/model.h"

/* All of them; strings belong to argv, which must stay. */
struct args {
    struct memsys_shape shape; /* machine=, nodes=, cpus=, node_mb=, dist=, sample= */
    const char *mem;     /* mem=: the nodes' memories are the files of this name and a number */
    const char *region;  /* region=: file of the shared memory */
    const char *trace;   /* trace=: file to be made, or NULL */
    const char *version; /* qemu=: what the emulator's version must begin with */
    uint64_t trace_most; /* records of the trace */
    uint64_t interval;   /* of the trace, instructions of all CPUs */
    int64_t quantum;     /* instructions in a CPU's turn; 0: the emulator's own turns */
    unsigned slow;       /* time goes by so many times slower while on, 1 to 1000 */
    bool checktlb;       /* compare translations with the emulator's */
};

/* Reads all arguments; what is wrong, and what would be right, is in buf (size bytes) when this is
 * false.  The shape is right in itself then: memsys_shape_wrong() was asked. */
bool args_parse(struct args *a, int argc, char **argv, char *buf, unsigned size);

#endif
