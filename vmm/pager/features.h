/* SPDX-License-Identifier: MIT */
/*
 * What the kernel lets a guard have: asked before there is a guest, for `disco doctor`.
 * Threads: any; no state.
 */
#ifndef DISCO_VMM_PAGER_FEATURES_H
#define DISCO_VMM_PAGER_FEATURES_H

#include <stdbool.h>

/* What userfaultfd has here; all false where it is not allowed. */
struct guard_features {
    bool by_device;        /* only /dev/userfaultfd lets us, not the system call */
    bool protects;         /* write-protects shared memory (Linux 5.19); without it no pager */
    bool minor;            /* tells touches of revoked pages (Linux 5.14): sampling by faults */
    bool signals;          /* sends writers away instead of stopping them: on_vcpu (guard.h) */
    bool admits_protected; /* puts pages back protected in one step (Linux 6.4) */
};

/* A userfaultfd that also hears of faults in the kernel: a privilege (CAP_SYS_PTRACE, or
 * vm.unprivileged_userfaultfd), or a device file.  The descriptor or -errno. */
int guard_uffd(bool *by_device);

/* Asks the kernel as guard_init() will; 0, or -errno where it lets us have none: -EPERM, -ENOSYS
 * (not built in), -EACCES (the device is another's). */
int guard_ask(struct guard_features *f);

/* Whether pages can move by move_pages(2), all mappings at once: CAP_SYS_NICE.  Else by copy. */
bool guard_moves_all(void);

#endif
