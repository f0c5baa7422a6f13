/* SPDX-License-Identifier: MIT */
/*
 * The format of traces of page-level accesses: a header, then records of 24 bytes, little-endian,
 * in order of time.  bench/memsys/trace.c writes them, numa/workload_trace.c and
 * bench/memsys/reader.c read them.  Whoever changes a byte of it counts TRACE_VERSION up.
 * Threads: any, nothing but types.
 */
#ifndef DISCO_NUMA_TRACE_FORMAT_H
#define DISCO_NUMA_TRACE_FORMAT_H

#include <stdint.h>

#define TRACE_MAGIC UINT64_C(0x6563617274736d64)
enum { TRACE_VERSION = 1, TRACE_CPUS = 32 };

/* At the file's start. */
struct trace_header {
    uint64_t magic;         /* TRACE_MAGIC */
    uint32_t version;       /* TRACE_VERSION */
    uint32_t ncpus, nnodes; /* of the machine */
    uint32_t sample;        /* counts are to be multiplied by it */
    uint64_t node_bytes;    /* memory of a node, the pages are the machine's; 0: a guest's */
    uint64_t interval;      /* instructions of all CPUs together */
    char machine[16];       /* description's name */
    uint8_t node_of_cpu[TRACE_CPUS]; /* by CPU */
};

/* One CPU's accesses to one page in one interval. */
struct trace_record {
    uint64_t time;     /* instructions all CPUs had begun at the end of the interval */
    uint32_t page;     /* 4 KiB pages */
    uint8_t cpu;       /* number */
    uint8_t guest;     /* tag of the guest, 0: the host */
    uint8_t write;     /* 1: these are writes, 0: reads and instruction fetches */
    uint8_t zero;      /* room */
    uint32_t accesses; /* lines touched */
    uint32_t misses;   /* of these, not in the cache */
};

_Static_assert(sizeof(struct trace_header) == 88, "the header's bytes in a file");
_Static_assert(sizeof(struct trace_record) == 24, "a record's bytes in a file");

#endif
