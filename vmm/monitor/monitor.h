/* SPDX-License-Identifier: MIT */
/*
 * The monitor: all guests of one site, from opening their resources to the last one's end.
 *
 * Threads: everything runs on the caller's thread; the switch of the virtual subnet has its own.
 * Invariants.  W1: all resources of all guests are open before the first process starts, and all
 * cells are made before the first guest runs; any failure before that leaves nothing behind.
 * W2: nothing a cell or a client does makes the monitor wait or end.
 */
#ifndef DISCO_VMM_MONITOR_MONITOR_H
#define DISCO_VMM_MONITOR_MONITOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/evloop.h"
#include "vmm/monitor/control.h"
#include "vmm/monitor/mguest.h"
#include "vmm/monitor/sitelock.h"

struct err;
struct op;
struct place_got;
struct site_cfg;

/* What is told to the user while a site runs; NULL entries of events are skipped. */
struct monitor_events {
    void (*started)(void *arg, const struct mguest *g); /* it was let go */
    void (*ready)(void *arg, const struct mguest *g);   /* it is up */
    void (*ended)(void *arg, const struct mguest *g);   /* it is over */
    void (*running)(void *arg);                         /* all were let go */
};

/* The monitor. */
struct monitor {
    const struct site_cfg *site; /* what it runs */
    struct site_place place;     /* its socket, lock and directory */
    struct evloop loop;          /* its one loop */
    struct control control;      /* clients */
    struct vswitch *subnet;      /* NULL when no guest has a port */
    struct mguest_host host;     /* what its guests share */
    struct mguest *guests;       /* site->nguests entries */
    unsigned made;               /* guests that reached MADE */
    unsigned ended;              /* guests in ENDED */
    bool going;                  /* all were told to run */
    bool stopping;               /* all were asked to end */
    struct evsrc sigsrc;         /* signalfd, owned; -1: none */
    struct op *ops;              /* requests that wait for something (requests.c) */
    struct op *dead_ops;         /* those that are done, until the next batch */
    uint64_t begin_ns;           /* when monitor_open() began */
    uint64_t start_limit;        /* ns that may pass while cells are made and none gets ready;
                                            the caller may change it before monitor_run() */
    uint64_t start_by;           /* when the start is given up; 0: never, all are made */
    const struct monitor_events *events; /* what is told */
    void *arg;                           /* first argument of events */
};

/*
 * Takes the site's socket, opens everything of every guest and starts taking clients.  got: one
 * placement a guest; both stay the caller's and must outlive the monitor.  log_level: of cells.
 * On failure nothing is left behind.
 */
int monitor_open(struct monitor *m, const struct site_cfg *site, const struct place_got *got,
                 int log_level, struct err *err);

/* Starts all guests, runs until all have ended.  0, or the error that kept the site from
 * starting; then nothing runs. */
int monitor_run(struct monitor *m, struct err *err);

/* Undoes monitor_open(): processes that still run are killed. */
void monitor_close(struct monitor *m);

/* Guest by name, or NULL. */
struct mguest *monitor_guest(struct monitor *m, const char *name);

/* Asks all guests to end: by the power button, and after timeout_ms (0: never) for good; or for
 * good at once. */
void monitor_stop(struct monitor *m, bool now, uint64_t timeout_ms);

#endif
