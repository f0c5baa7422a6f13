/* SPDX-License-Identifier: MIT */
/*
 * What `disco up` tells its user: a line for each event, the table at the end, the result file
 * and the picture.  Reads the monitor, changes nothing.
 * Threads: all on the monitor's loop.
 */
#ifndef DISCO_VMM_MONITOR_REPORT_H
#define DISCO_VMM_MONITOR_REPORT_H

#include <stdbool.h>

struct err;
struct monitor;
struct monitor_events;
struct topo;

/* What there is to tell with. */
struct report {
    const struct monitor *m; /* whose guests */
    bool quiet;              /* say nothing while guests run, and no table */
    int tellfd;              /* where a process waits to hear that all run; -1: nobody */
};

/* Events for monitor.events; the argument is a struct report. */
const struct monitor_events *report_events(void);

/* Prints the table of guests. */
void report_table(const struct report *r);

/* Fails as report_result() would for a file that cannot be written: before the site starts. */
int report_result_check(const char *path, struct err *err);

/* Writes {"guests": [...]}; the file is replaced as a whole. */
int report_result(const struct report *r, const char *path, struct err *err);

/* Draws machine and guests. */
int report_svg(const struct report *r, const struct topo *t, const char *path, struct err *err);

/* True when every guest ended as asked. */
bool report_ok(const struct report *r);

#endif
