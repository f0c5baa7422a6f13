/* SPDX-License-Identifier: MIT */
/*
 * Slows down all time in the emulated machine: its timers and its time stamp counter alike, so that
 * nothing in there can tell.  While every access is modelled the CPUs are slow; at the clock's usual
 * rate they would do little but serve its ticks.
 *
 * How: QEMU asks its accelerator for the virtual clock and the counter where the accelerator has
 * functions for them; with TCG it has none, and we give it ours.
 * Threads: any may ask for the time, one lock; one changes the rate.
 */
#ifndef DISCO_BENCH_MEMSYS_CLOCK_H
#define DISCO_BENCH_MEMSYS_CLOCK_H

/* Puts our functions in place, before the first CPU runs; 0, or -1 after a message: this QEMU is
 * built in another way than is known. */
int clock_install(void);

/* From now on time is `slow` times slower than outside; 1: as fast. It never goes back. */
void clock_rate(unsigned slow);

#endif
