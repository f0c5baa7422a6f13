/* SPDX-License-Identifier: MIT */
/*
 * Counters of memory use that a machine keeps by itself: for each page how often CPUs of each node
 * missed on it and wrote to it, as FLASH's memory controllers did; and more per CPU.  The lab's
 * emulated machine has them (bench/memsys, docs/memsys.md), no other that we know of.
 *
 * The memory with the counters is that of a PCI device (ivshmem) in the machine; outside, a file.
 * Who counts is the only writer; readers may look at any time, each number is whole, several
 * numbers need not be of one moment.  Numbers only grow between two resets (header.resets tells).
 * With sampling on, counters hold what the sampled sets saw: multiply all but insns by
 * header.sample.
 */
#ifndef DISCO_NUMA_FLASH_H
#define DISCO_NUMA_FLASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MEMSYS_CPUS = 31,  /* most CPUs: one bit each and one to spare in a word */
    MEMSYS_NODES = 16, /* most nodes */
    MEMSYS_TAGS = 8,   /* 0: the host; 1..7: guests */
    MEMSYS_PAGE = 4096,
    MEMSYS_VERSION = 2,
};
#define MEMSYS_MAGIC UINT64_C(0x6d656d7379732d31)

/* What an access is. */
enum memsys_kind { MEMSYS_READ, MEMSYS_WRITE, MEMSYS_FETCH, MEMSYS_KINDS };

/* In which part of the program a CPU is, told by the address of its code. */
enum memsys_mode { MEMSYS_USER, MEMSYS_KERNEL, MEMSYS_MODES };

/* What one CPU did for one tag in one mode.  Nodes are those of the memory. */
struct memsys_count {
    uint64_t insns;                            /* instructions begun */
    uint64_t access[MEMSYS_KINDS];             /* cache lines touched */
    uint64_t hit;                              /* of these, found in the cache as needed */
    uint64_t miss[MEMSYS_KINDS][MEMSYS_NODES]; /* lines fetched */
    uint64_t upgrade[MEMSYS_NODES];            /* lines that were there, but not for writing */
    uint64_t coherence;   /* misses of lines that another CPU's write had taken away */
    uint64_t dirty;       /* misses served by another CPU's cache */
    uint64_t invalidated; /* copies in other caches that writes took away */
    uint64_t writeback;   /* changed lines that had to leave */
    uint64_t io;          /* accesses to devices, which the model leaves alone */
    uint64_t stall_ps[MEMSYS_NODES]; /* time waited, by node */
    uint64_t bound_ps;               /* the same, had every line been local and memory quiet */
    uint64_t queue_ps;               /* of the time waited, what congestion added */
};

/* At offset 0. */
struct memsys_header {
    uint64_t magic;                     /* MEMSYS_MAGIC, written last */
    uint32_t version;                   /* MEMSYS_VERSION */
    uint32_t ncpus, nnodes;             /* of the emulated machine */
    uint32_t sample;                    /* one in so many sets is modelled */
    uint64_t node_bytes;                /* memory of each node, a power of two */
    uint64_t pages;                     /* entries of the page counters */
    uint64_t pages_at;                  /* their offset, bytes */
    uint64_t bytes;                     /* of the whole region that are used */
    uint64_t insn_ps;                   /* time of an instruction that never waits */
    uint64_t line;                      /* bytes */
    uint64_t resets;                    /* how often the counters were zeroed */
    uint64_t toggles;                   /* how often the model went on or off */
    uint64_t on;                        /* it is on */
    uint64_t mark;                      /* the last mark set by a program */
    uint64_t trace_records, trace_lost; /* written; dropped because the file was full */
    uint64_t tlb_checked, tlb_wrong;    /* translations compared with the emulator's own */
    char machine[16];                   /* name of the description, NUL-terminated */
    uint8_t node_of_cpu[32];            /* by CPU */
    uint64_t tag_of_cpu[32];            /* guest that runs there */
    uint64_t latency_ps[MEMSYS_NODES]
                       [MEMSYS_NODES]; /* from CPU's node to memory's node, quiet */
    uint64_t queue_ps[MEMSYS_NODES];   /* what the load of all adds at each node now */
};

/* One page at one node: what CPUs of that node did to it. */
struct memsys_page {
    uint32_t misses; /* lines of it fetched, all kinds; sticks at the largest number */
    uint32_t writes; /* lines of it taken for writing; the same */
};

enum { MEMSYS_COUNTS_AT = 8192 };

/* Offset of the page counters. */
static inline uint64_t memsys_pages_at(unsigned ncpus)
{
    uint64_t end = MEMSYS_COUNTS_AT +
                   (uint64_t)ncpus * MEMSYS_TAGS * MEMSYS_MODES * sizeof(struct memsys_count);

    return (end + MEMSYS_PAGE - 1) / MEMSYS_PAGE * MEMSYS_PAGE;
}

/* Bytes a region needs. */
static inline uint64_t memsys_region_bytes(unsigned ncpus, unsigned nnodes, uint64_t node_bytes)
{
    return memsys_pages_at(ncpus) +
           node_bytes / MEMSYS_PAGE * nnodes * nnodes * sizeof(struct memsys_page);
}

/* A CPU's counters. */
static inline struct memsys_count *memsys_counts(struct memsys_header *h, unsigned cpu,
                                                 unsigned tag, unsigned mode)
{
    return (struct memsys_count *)((char *)h + MEMSYS_COUNTS_AT) +
           ((size_t)cpu * MEMSYS_TAGS + tag) * MEMSYS_MODES + mode;
}

/* A page's counters, one entry per node of accessing CPUs; page: number within all nodes' memory,
 * node 0's first. */
static inline struct memsys_page *memsys_page(struct memsys_header *h, uint64_t page)
{
    return (struct memsys_page *)((char *)h + h->pages_at) + page * h->nnodes;
}

/* ---- reading them (flash.c) ---- */

/* Maps a region for reading: of a file, or of the machine's device when path is NULL (root).  NULL:
 * why not is in why (up to len bytes). */
struct memsys_header *flash_open(const char *path, char *why, unsigned len);
void flash_close(struct memsys_header *h);

/* Bytes of the memory of the machine we run in that lie below 4 GiB; 0: it does not tell (root is
 * needed). */
uint64_t flash_low_memory(void);

/* The page of the counters at a physical address; `low`: flash_low_memory(). */
uint64_t flash_page(uint64_t physical, uint64_t low);

#endif
