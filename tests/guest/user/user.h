/* SPDX-License-Identifier: MIT */
/*
 * What a user-mode guest program and its harness share: numbers of programs, fixed addresses, and
 * one slot for each vCPU.  The layout is known to state.S by the offsets below.
 */
#ifndef DISCO_TESTS_GUEST_USER_USER_H
#define DISCO_TESTS_GUEST_USER_USER_H

#define USER_CODE  0x200000 /* where the program is loaded and entered */
#define USER_SLOTS 0x100000 /* struct user_slot, one each USER_SLOT bytes */
#define USER_SLOT  0x4000
#define USER_GAME  0x180000   /* struct user_game: all share it */
#define USER_MMIO  0xc0000000 /* no RAM: byte i reads i * 17 */
#define USER_BYTES 0x190000   /* what PROG_STRING sends */

#define PORT_DONE   0xe0 /* a program ended */
#define PORT_STRING 0xe8 /* PROG_STRING's bytes, one port access each */

#define PROG_STATE  1 /* keeps registers and looks at them until told to stop */
#define PROG_PING   2 /* hands a timestamp to and fro with the other side */
#define PROG_COUNT  3 /* adds to a shared word, atomically */
#define PROG_CLOCK  4 /* reads the TSC until told to stop */
#define PROG_STRING 5 /* string output: 4096 bytes to PORT_STRING, again and again */
#define PROG_DEVICE 7 /* string input from PORT_STRING and wide reads of USER_MMIO */
#define PROG_LITMUS 6 /* store buffering with the other side */

/* Offsets in struct user_slot, for state.S. */
#define SLOT_SELF   0
#define SLOT_STACK  8
#define SLOT_STOP   16
#define SLOT_LOOPS  24
#define SLOT_ERROR  32
#define SLOT_LEVEL  40
#define SLOT_FLAGS  48
#define SLOT_MXCSR  56
#define SLOT_FCW    60
#define SLOT_TEMP   64
#define SLOT_FS     128
#define SLOT_GS     136
#define SLOT_VECTOR 1024

#ifndef __ASSEMBLER__
#include <stdint.h>

/* One vCPU's. Written by the guest but for what is said to be the harness's. */
struct user_slot {
    uint64_t self;       /* guest address of this slot; harness */
    uint64_t stack;      /* its stack pointer; harness */
    uint64_t stop;       /* harness: end soon */
    uint64_t loops;      /* times round */
    uint64_t error;      /* the first check that failed, 0: none */
    uint64_t level;      /* 0: SSE, 1: AVX, 2: AVX-512; harness */
    uint64_t flags;      /* RFLAGS that PROG_STATE keeps; harness */
    uint32_t mxcsr, fcw; /* likewise */
    uint8_t temp[64];    /* scratch */
    uint64_t fs, gs;     /* what FS:0 and GS:0 must read; harness */
    uint64_t prog;       /* PROG_*; harness */
    uint64_t side;       /* 0 or 1 in a game; harness */
    uint64_t rounds;     /* to play; harness */
    uint64_t done;       /* played */
    uint64_t backward;   /* timestamps that went backwards */
    uint64_t worst;      /* by how much, cycles */
    uint64_t gap;        /* longest time between two readings, cycles */
    uint64_t last;       /* last reading */
    uint64_t strange;    /* litmus outcomes that x86 forbids */
    uint64_t relaxed;    /* litmus outcomes that need a store buffer */
    uint8_t pad[1024 - 224];
    uint8_t vector[32][64]; /* what vector registers hold; harness */
};

/* Words two vCPUs meet at, each in a cache line of its own. */
struct user_game {
    uint64_t turn, pad0[7];
    uint64_t stamp, pad1[7];
    uint64_t counter, pad2[7];
    uint64_t x, pad3[7];
    uint64_t y, pad4[7];
    uint64_t barrier, pad5[7];
    uint64_t result[2], pad6[6];
};
#endif

#endif
