/* SPDX-License-Identifier: MIT */
/*
 * How a program tells the memory-system model what it wants: by an instruction that does nothing,
 * `nopl disp32(%rax)` with a number the model knows.  It works in every mode, at every level of
 * nesting, and without the model.  A jump behind it ends the emulator's block of code: what follows
 * is in one that sees the command done.  Threads: any; TAG speaks of the CPU it runs on.
 */
#ifndef DISCO_BENCH_MEMSYS_ROI_H
#define DISCO_BENCH_MEMSYS_ROI_H

#define ROI_MAGIC \
    0x515c0000 /* upper half of the displacement; below it command << 8 | argument */

enum {
    ROI_ON = 1,    /* model from here on */
    ROI_OFF = 2,   /* and no longer */
    ROI_ZERO = 3,  /* all counters to zero */
    ROI_EMPTY = 4, /* all caches empty */
    ROI_TAG = 5,   /* argument 0 to 7: guest code on this CPU is this guest's */
    ROI_MARK = 6,  /* argument: to be found in the region's header */
    ROI_CHECK = 7, /* check the model's invariants; a violation ends the emulator */
    ROI_FLUSH = 8, /* what is gathered of the trace goes to its file */
};

/* One command; both must be constants. */
#define ROI(command, argument)                                                  \
    __asm__ volatile(".byte 0x0f, 0x1f, 0x80\n\t.long %c0\n\tjmp 1f\n1:" ::"i"( \
                         ROI_MAGIC | (command) << 8 | (argument))               \
                     : "memory")

#endif
