/* SPDX-License-Identifier: MIT */
/*
 * Slows down the emulated machine's time.
 * The place of the accelerator's table is read from the code of QEMU's own two functions that use
 * it: a load of the table's address, and later a load from it at the function's offset.
 * Invariant: both clocks grow by the same factor, and neither ever goes back.
 */
#include "bench/memsys/clock.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { CODE_BYTES = 24 }; /* of a function, in which the loads are looked for */

typedef int64_t (*clock_fn)(void);

/* One clock: what it showed, and the emulator's own clock, when the rate was last changed. */
struct clock {
    clock_fn real;        /* the emulator's */
    int64_t shown, since; /* at the change */
};

/* All of it; clocks and rate are guarded by the lock. */
static struct clocks {
    pthread_mutex_t lock;
    struct clock ns, ticks; /* the virtual clock, the counter */
    int64_t slow;           /* rate */
} clocks = {.lock = PTHREAD_MUTEX_INITIALIZER, .slow = 1};

/* What a clock shows now; locked. */
static int64_t now(const struct clock *c)
{
    return c->shown + (c->real() - c->since) / clocks.slow;
}

static int64_t read_clock(const struct clock *c)
{
    int64_t t;

    pthread_mutex_lock(&clocks.lock);
    t = now(c);
    pthread_mutex_unlock(&clocks.lock);
    return t;
}

/* In the accelerator's place. */
static int64_t virtual_clock(void)
{
    return read_clock(&clocks.ns);
}

static int64_t elapsed_ticks(void)
{
    return read_clock(&clocks.ticks);
}

/* The entry of the accelerator's table that a function of QEMU calls, if it is empty; else NULL. */
static clock_fn *entry_used_by(const char *name)
{
    const unsigned char *code = dlsym(RTLD_DEFAULT, name);
    int32_t to_table, offset;
    const char *table;

    /* mov rel32(%rip),%rax; ...; mov disp32(%rax),%rax */
    if (!code || code[0] != 0x48 || code[1] != 0x8b || code[2] != 0x05)
        return NULL;
    memcpy(&to_table, code + 3, sizeof(to_table));
    memcpy(&table, code + 7 + to_table, sizeof(table));
    for (int i = 7; table && i + 7 <= CODE_BYTES; i++) {
        clock_fn *entry;

        if (code[i] != 0x48 || code[i + 1] != 0x8b || code[i + 2] != 0x80)
            continue;
        memcpy(&offset, code + i + 3, sizeof(offset));
        if (offset <= 0 || offset > 0x200 || offset % 8)
            return NULL;
        entry = (clock_fn *)(uintptr_t)(table + offset);
        return *entry ? NULL : entry;
    }
    return NULL;
}

int clock_install(void)
{
    clock_fn *ns = entry_used_by("cpus_get_virtual_clock");
    clock_fn *ticks = entry_used_by("cpus_get_elapsed_ticks");

    *(void **)&clocks.ns.real = dlsym(RTLD_DEFAULT, "cpu_get_clock");
    *(void **)&clocks.ticks.real = dlsym(RTLD_DEFAULT, "cpu_get_ticks");
    if (!ns || !ticks || ticks != ns + 1 || !clocks.ns.real || !clocks.ticks.real) {
        fprintf(stderr,
                "memsys: the clock of this QEMU cannot be slowed down: it is another one "
                "than Debian's 7.2, or runs with -icount\n");
        return -1;
    }
    *ns = virtual_clock;
    *ticks = elapsed_ticks;
    return 0;
}

void clock_rate(unsigned slow)
{
    pthread_mutex_lock(&clocks.lock);
    clocks.ns.shown = now(&clocks.ns);
    clocks.ticks.shown = now(&clocks.ticks);
    clocks.ns.since = clocks.ns.real();
    clocks.ticks.since = clocks.ticks.real();
    clocks.slow = slow;
    pthread_mutex_unlock(&clocks.lock);
}
