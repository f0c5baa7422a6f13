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
#define PAGES_RESULT 0x600000   /* what each vCPU read: 64 KiB each */
#define PAGES_MMIO   0xc0000000 /* no RAM: byte i reads i * 17 */

#define PORT_PAGES_DONE 0xe0 /* a program ended */
#define PORT_PAGES_IO   0xe8 /* string input: the byte that is next; string output: takes it */

enum pages_prog {
    PAGES_LITMUS = 1, /* all litmus tests by two sides, until told to stop */
    PAGES_STRING,     /* string input and output, MMIO into memory; one vCPU alone */
    PAGES_CODE_PATCH, /* one side changes code, both run it */
    PAGES_READER,     /* reads the arena's words again and again */
    PAGES_WRITER,     /* writes one word when told (ctl.poke), tells when done (ctl.poked) */
};

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
    uint64_t error;              /* string and code programs: the first check that failed */
    uint64_t loops;              /* times round */
    uint64_t pad[8];
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
