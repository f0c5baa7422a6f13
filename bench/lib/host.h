/* SPDX-License-Identifier: MIT */
/*
 * What machine a result was measured on.  Threads: any.
 */
#ifndef DISCO_BENCH_LIB_HOST_H
#define DISCO_BENCH_LIB_HOST_H

struct json_t;

/* {"cpu", "cpus", "memory_mib", "kernel", "emulator"}, all strings; "unknown" where the machine does
 * not say. */
struct json_t *host_json(void);

#endif
