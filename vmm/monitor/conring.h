/* SPDX-License-Identifier: MIT */
/*
 * A guest's console at the monitor: takes whatever the guest writes, keeps the last of it,
 * appends all of it to a file, and shows it to whoever watches; what watchers type goes to the
 * guest.  The guest never waits: its bytes are always taken.
 *
 * Threads: all on the loop's thread.
 */
#ifndef DISCO_VMM_MONITOR_CONRING_H
#define DISCO_VMM_MONITOR_CONRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/evloop.h"

struct conring;
struct err;

enum {
    CONRING_KEEP = 65536,       /* bytes kept for those who come later */
    CONRING_FILE_MAX = 8 << 20, /* bytes of a file before it becomes FILE.old */
};

/* One who watches a console; storage is the watcher's. */
struct conwatch {
    struct conwatch *next;                               /* managed by conring */
    void (*show)(void *arg, const uint8_t *p, size_t n); /* the guest wrote */
    void (*room)(void *arg);                             /* typing is taken again */
    void (*end)(void *arg);                              /* the guest is gone */
    void *arg;                                           /* first argument of all three */
};

/* Makes a console: *out, and in cell_fd[0] and [1] the guest's ends for input and output, which
 * the caller owns.  The file at path is made when conring_start() is called. */
int conring_new(struct conring **out, const char *path, int cell_fd[2], struct err *err);

/* Opens the file (an older one becomes FILE.old) and starts taking bytes on the loop. */
int conring_start(struct conring *r, struct evloop *loop, struct err *err);

/* Takes what is left after the guest's end and tells the watchers; the ring can still be read. */
void conring_ended(struct conring *r);

/* Frees it; a file into which nothing came is removed. */
void conring_free(struct conring *r);

/* Adds a watcher: show() is called with what is kept, then with all that comes; end() at once
 * when the guest has ended. */
void conring_watch(struct conring *r, struct conwatch *w);

/* Removes a watcher; harmless for one that was never added. */
void conring_unwatch(struct conring *r, struct conwatch *w);

/* Types: returns how many bytes were taken; after fewer than n, room() is called later. */
size_t conring_type(struct conring *r, const uint8_t *p, size_t n);

#endif
