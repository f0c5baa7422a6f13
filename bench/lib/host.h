/* SPDX-License-Identifier: MIT */
/*
 * What machine a result was measured on.  Threads: any.
 */
#ifndef DISCO_BENCH_LIB_HOST_H
#define DISCO_BENCH_LIB_HOST_H

struct json_t;

/* What of the machine besides itself a result rests on. */
enum host_part { HOST_EMULATOR = 1, HOST_KVM = 2 };

/* {"cpu", "cpus", "memory_mib", "kernel"} and, as `parts` (HOST_...) asks, "emulator" (the version of
 * the one installed), "kvm" (the module that has loaded): all strings; "unknown" where the machine
 * does not say. */
struct json_t *host_json(unsigned parts);

#endif
