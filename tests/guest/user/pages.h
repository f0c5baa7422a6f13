/* SPDX-License-Identifier: MIT */
/*
 * What the programs of pages.c and their harness share: fixed addresses, numbers of programs,
 * and the control page.  Pages of the arena are what the harness replicates, collapses and
 * moves; the control page it leaves alone, so that programs can meet there even when memory is
 * broken.
 */
#ifndef DISCO_TESTS_GUEST_USER_PAGES_H
#define DISCO_TESTS_GUEST_USER_PAGES_H

#include <stdint.h>

#define PAGES_CTL    0x100000 /* struct pages_ctl */
#define PAGES_STACK  0x108000 /* stacks grow down from here, 0x1000 a vCPU further up each */
#define PAGES_CODE   0x200000 /* where the program is loaded and entered */
#define PAGES_ARENA  0x400000 /* PAGES_NARENA pages that are acted on */
#define PAGES_NARENA 64
#define PAGES_RESULT 0x600000  /* what each vCPU read: 64 KiB each */
#define PAGES_MODEL  0x700000  /* what each side believes it wrote to the arena: 256 KiB each */
#define PAGES_OWN    0x800000  /* tables of a side for ring 0: 64 KiB each */
#define PAGES_FRESH  0x2000000 /* 16 MiB that only guest page tables of the arena map */
#define PAGES_MMIO   0xc0000000 /* no RAM: byte i reads i * 17 */
#define PAGES_SINK   0xc0001000 /* takes byte i * 29 + 3 at i */
/* A word a side, 64 bytes apart: reads what was written last.  Not where a stack word may be in its
 * page: KVM takes a call's push there for the operand. */
#define PAGES_LATCH 0xc0002800

#define PORT_PAGES_ACT  0xd0 /* 4 bytes: page | want << 8 | pages << 16, see pages_act() */
#define PORT_PAGES_SIDE 0xd8 /* 4 ports a side: string input and output of its own */
#define PORT_PAGES_DONE 0xe0 /* a program ended */
#define PORT_PAGES_IO   0xe8 /* string input: the byte that is next; string output: takes it */

enum pages_prog {
    PAGES_LITMUS = 1, /* all litmus tests by two sides, until told to stop */
    PAGES_STRING,     /* string input and output, MMIO into memory; one vCPU alone */
    PAGES_CODE_PATCH, /* one side changes code, both run it */
    PAGES_READER,     /* reads the arena's words again and again */
    PAGES_WRITER,     /* writes one word when told (ctl.poke), tells when done (ctl.poked) */
    /* pages_access.c: one kind of access each, by any number of sides */
    PAGES_SPLIT,   /* plain and locked accesses across two pages */
    PAGES_PAIRS,   /* 16-byte compare-and-exchange */
    PAGES_STRINGS, /* string input and output of all widths, both directions */
    PAGES_EMULATE, /* instructions with one operand in device memory, one in the arena */
    PAGES_MODIFY,  /* code that each side changes in turn and both run; two sides */
    /* pages_kernel.c: in ring 0 */
    PAGES_TABLES,      /* page tables in the arena: accessed and dirty bits */
    PAGES_FRAMES,      /* interrupts and exceptions: stacks, IDT and TSS in the arena */
    PAGES_DESCRIPTORS, /* GDT in the arena: accessed and busy bits */
};

/* True for programs that run in ring 0. */
static inline int pages_ring0(uint64_t prog)
{
    return prog >= PAGES_TABLES;
}

/* What litmus found wrong, by test. */
enum pages_wrong {
    WRONG_MP,     /* message passing: saw the flag, not the message */
    WRONG_SB,     /* store buffering with fences: neither saw the other */
    WRONG_LB,     /* load buffering: each saw the other's later store */
    WRONG_CORR,   /* one location: a newer value, then an older one */
    WRONG_OWN,    /* own word: not what was written last */
    WRONG_ATOMIC, /* additions lost */
    WRONG_WIDE,   /* 16-byte compare-and-exchange: halves disagree or were lost */
    WRONG_SPLIT,  /* the same for a word across two pages */
    WRONG_KINDS
};

enum {
    LITMUS_CELLS =
        256,          /* cells of each test in a batch, a cache line each: 4 pages a location */
    LITMUS_TESTS = 4, /* tests with cells: MP, SB, LB, CoRR */
    LITMUS_STEP = 32, /* cells after which both sides meet */
};

/* One vCPU's part; written by the guest but for what is said to be the harness's. */
struct pages_side {
    uint64_t prog, side;         /* what to run, which side; harness */
    uint64_t rounds;             /* outcomes looked at */
    uint64_t wrong[WRONG_KINDS]; /* outcomes that x86 forbids */
    uint64_t relaxed;            /* outcomes that need a store buffer: allowed */
    uint64_t error;              /* the first check that failed */
    uint64_t loops;              /* times round */
    uint64_t detail[4];          /* of the error: what was found, and where */
    uint64_t odd;                /* page faults that a guest need not expect, but can repeat */
    uint64_t pad[3];
};

/* The control page. */
struct pages_ctl {
    uint64_t barrier, pad0[7]; /* arrivals so far */
    uint64_t leave, pad1[7];   /* both leave when this is set: by side 0 between batches */
    uint64_t stop, pad2[7];    /* harness: end soon */
    uint64_t poke, pad3[7];    /* harness: address to write to and the value, see below */
    uint64_t poked, pad4[7];   /* the last poke that was done */
    uint64_t adds, pad5[7];    /* additions done by both sides, for the harness */
    struct pages_side side[4];
};

/* Where things are in the arena, in pages: each location's cells, then single words. */
enum {
    ARENA_X = 0,       /* x of test t: 4 pages from 8 * t, y: 4 pages after that */
    ARENA_WORDS = 32,  /* one page: counters, own words, wide pair */
    ARENA_SPLIT = 33,  /* three pages: words across their borders */
    ARENA_PATCH = 36,  /* one page: code that is changed */
    ARENA_STRING = 40, /* four pages: string buffers */
};

#endif
