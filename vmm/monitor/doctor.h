/* SPDX-License-Identifier: MIT */
/*
 * `disco doctor`: a list of checks of this host, each with what it means and what mends it.
 * Interface: struct doctor, filled by doctor_kvm(), doctor_host() and
 * doctor_pages(), shown by cmd_doctor.c.
 * Nothing is changed on the host.  Threads: one.
 */
#ifndef DISCO_VMM_MONITOR_DOCTOR_H
#define DISCO_VMM_MONITOR_DOCTOR_H

#include <stdbool.h>

#include "vmm/machine/kvmprobe.h"

enum { DOCTOR_MAX = 48 };

/* How a check came out. */
enum doctor_state {
    DOCTOR_OK,   /* as it should be */
    DOCTOR_WARN, /* guests run, but slower or with less */
    DOCTOR_FAIL, /* no guest runs */
};

/* One check that was made. */
struct doctor_check {
    const char *name;        /* a constant string */
    enum doctor_state state; /* how it came out */
    char *meaning;           /* what was found and what follows; owned */
    const char *mend;        /* the command that mends it, a constant string; NULL: none */
};

/* All checks. */
struct doctor {
    const char *root;                      /* prefix of /dev, /proc and /sys; "" is this host */
    struct doctor_check check[DOCTOR_MAX]; /* in the order they were made */
    unsigned n;                            /* entries of check */
    int status;                            /* exit status: that of the first failure */
    bool probed;                           /* probe is filled */
    struct kvm_probe probe;                /* what was measured */
};

/* Adds a check; mend must be a constant string or NULL. */
void doctor_say(struct doctor *d, const char *name, enum doctor_state state, const char *mend,
                const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Adds a failure that decides the exit status, unless an earlier one did. */
void doctor_fail(struct doctor *d, const char *name, int status, const char *mend,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Checks /dev/kvm: there, ours, capable, native (doctor_kvm.c). */
void doctor_kvm(struct doctor *d);

/* Checks the rest: nodes, kernel settings, limits, clocks (doctor_host.c). */
void doctor_host(struct doctor *d);

/* Checks what work on guests' pages needs: each thing that lacks means a lesser mode, or none
 * (doctor_pages.c). */
void doctor_pages(struct doctor *d);

/* Reads the first line of root/path, without its newline; false when it cannot be read. */
bool doctor_read(const struct doctor *d, const char *path, char *line, unsigned len);

#endif
