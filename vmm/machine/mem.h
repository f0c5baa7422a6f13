/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: one memfd (the guest's own store, offset = guest-physical address), mapped once
 * for the VMM's own accesses (the alias) and once per view for KVM.
 *
 * Layout: RAM from 0 up to at most MEM_LOW_MAX, the rest from 4 GiB up.  The hole between holds
 * the PCI window, ECAM, IOAPIC and local APIC.
 *
 * Invariants.  M1: every access of the VMM to guest memory goes through mem_at() or the copies
 * built on it; no other code adds an offset to the base.  M2: the alias is never registered with
 * userfaultfd, so device threads cannot wait for the fault handler.
 * Threads: set up by one thread, read-only afterwards.
 */
#ifndef DISCO_VMM_MACHINE_MEM_H
#define DISCO_VMM_MACHINE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define MEM_PAGE      4096ull
#define MEM_LOW_MAX   0xc0000000ull  /* end of RAM below 4 GiB */
#define MEM_HIGH      0x100000000ull /* start of RAM above the hole */
#define MMIO_PCI      0xc0000000ull  /* 32-bit PCI window, up to MMIO_ECAM */
#define MMIO_ECAM     0xe0000000ull  /* PCI configuration space, 1 MiB a bus */
#define MMIO_ECAM_SZ  0x00100000ull  /* one bus */
#define MMIO_IOAPIC   0xfec00000ull
#define MMIO_LAPIC    0xfee00000ull
#define MEM_MAX_VIEWS 64 /* views one guest may have */
#define MEM_MAX_NODES 64 /* nodes one guest may be placed on */

/* What the caller of mem_at() will do with the bytes.  Before a write replicas of the page go,
 * and none is made until mem_done().  Who forgets that keeps the pages around from being
 * replicated. */
enum mem_use { MEM_READ, MEM_WRITE };

/* Who has to hear of writes of the VMM: the pager, where there is one.  Any thread. */
struct mem_hook {
    void (*begin)(void *arg, uint64_t gpa, uint64_t len); /* RAM is about to be written */
    void (*end)(void *arg, uint64_t gpa, uint64_t len);   /* it was, as told before */
    void *arg;                                            /* first argument of both */
};

/* Where the pages of RAM are put.  What touches a page first is a vCPU, or, for what it loads
 * and reads from disks, a thread of the VMM; huge pages go whole. */
enum mem_placement {
    MEM_SPLIT,       /* node_bytes on each node, in order of address */
    MEM_FIRST_TOUCH, /* on the node of the thread that touches it first, while there is room; else
                      * on the nearest other of the nodes */
    MEM_INTERLEAVE, /* on each of the nodes in turn, by address */
};

/* How the store is backed and where its pages are put. */
struct mem_spec {
    uint64_t size;            /* RAM, bytes, multiple of 2 MiB */
    unsigned nviews;          /* mappings for KVM, 1..MEM_MAX_VIEWS */
    bool hugetlb;             /* back by 2 MiB hugetlb pages (else THP where allowed) */
    unsigned nnodes;          /* host nodes of the guest, 0: no binding */
    int nodes[MEM_MAX_NODES]; /* host node numbers */
    uint64_t node_bytes[MEM_MAX_NODES]; /* bytes for each node, may be 0; sums to size */
    enum mem_placement placement;       /* what MEM_SPLIT says, or anywhere on the nodes */
};

/* Guest memory of one cell. */
struct guest_mem {
    int fd;                       /* the store, a sealed memfd */
    uint64_t size;                /* RAM, bytes */
    uint64_t low;                 /* RAM below the hole: gpa 0..low */
    uint64_t high;                /* RAM above 4 GiB: MEM_HIGH..MEM_HIGH+high, 0 if none */
    uint64_t span;                /* one past the last RAM gpa = size of the store */
    uint8_t *alias;               /* the VMM's own mapping, span bytes */
    unsigned nviews;              /* entries of view */
    uint8_t *view[MEM_MAX_VIEWS]; /* one mapping per view, span bytes each */
    const struct mem_hook *hook;  /* told of writes; NULL: nobody.  Set while nothing runs */
};

/* Makes the store, binds its ranges to nodes and maps it.  EXIT_MEMORY where it does not fit. */
int mem_init(struct guest_mem *m, const struct mem_spec *spec, struct err *err);

/* Unmaps all and closes the store: its pages are free afterwards. */
void mem_exit(struct guest_mem *m);

/* Tells the kernel anew where pages of RAM are to be that are not there yet: spec is that of
 * mem_init() with other nodes.  Pages that are there stay (pager_settle() moves them). */
int mem_rebind(const struct guest_mem *m, const struct mem_spec *spec, struct err *err);

/*
 * The one checked translation: the VMM's address of [gpa, gpa+len), or NULL when any byte of it
 * is not RAM, when it crosses the hole or wraps.  len 0 gives NULL.
 */
void *mem_at(const struct guest_mem *m, uint64_t gpa, uint64_t len, enum mem_use use);

/* Ends a use that began with mem_at(..., MEM_WRITE) of the same range: nothing is written any
 * more. */
void mem_done(const struct guest_mem *m, uint64_t gpa, uint64_t len);

/* Copies out of guest memory; false (nothing copied) when the range is not all RAM. */
bool mem_read(const struct guest_mem *m, uint64_t gpa, void *to, size_t len);

/* Copies into guest memory, as a write of mem_at() to mem_done(); false as mem_read(). */
bool mem_write(const struct guest_mem *m, uint64_t gpa, const void *from, size_t len);

#endif
