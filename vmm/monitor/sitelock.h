/* SPDX-License-Identifier: MIT */
/*
 * The place of a site's monitor: its control socket, the lock beside it that only one living
 * monitor can hold, and the directory where it writes.
 * Interface: site_claim(), site_listen(), site_release().  Threads: any one.
 */
#ifndef DISCO_VMM_MONITOR_SITELOCK_H
#define DISCO_VMM_MONITOR_SITELOCK_H

#include <stdbool.h>

struct err;
struct site_cfg;

/* A place that is ours. */
struct site_place {
    char *socket; /* path of the control socket */
    char *lock;   /* path of the lock: socket + ".lock" */
    char *rundir; /* directory of console files and the log */
    int lockfd;   /* held lock; -1: none */
    bool bound;   /* the socket is there and ours */
};

/*
 * Makes the directories and takes the lock of the site's control socket.  EXIT_BUSY, with the
 * other's process number, when a living monitor has it.  On failure nothing is held.
 */
int site_claim(struct site_place *p, const struct site_cfg *site, struct err *err);

/* Makes the control socket, in place of one that a dead monitor left.  Returns the listening
 * descriptor (the caller's) or -errno.  After site_claim(). */
int site_listen(struct site_place *p, struct err *err);

/* Removes socket and lock, and the directory if nothing was written there. */
void site_release(struct site_place *p);

#endif
