/* SPDX-License-Identifier: MIT */
/*
 * A guest that resets and whose configuration says on_reset = "restart": the cell takes its
 * machine and devices apart and makes them anew from the same configuration, out of copies of its
 * descriptors kept for this.  The event loop and whatever else hangs on it (control) stay.
 * Runs in cell_wait(), when no vCPU and no io0 runs; no locks.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/cell/opener.h"
#include "vmm/cell/private.h"

/* A copy of a descriptor; -1 stays -1. */
static int copy(int fd)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* Copies of both descriptors of a console. */
static void copy_console(struct cell_console *to, const struct cell_console *from)
{
    *to = *from;
    to->infd = copy(from->infd);
    to->outfd = copy(from->outfd);
}

/* Copies all but /dev/kvm, which the cell keeps anyway. */
static void copy_fds(struct cell_fds *to, const struct cell_fds *from)
{
    cell_fds_init(to);
    to->kernel = copy(from->kernel);
    to->initrd = copy(from->initrd);
    for (unsigned i = 0; i < CFG_MAX_DISKS; i++)
        to->disk[i] = copy(from->disk[i]);
    for (unsigned i = 0; i < CFG_MAX_NETS; i++)
        to->net[i] = copy(from->net[i]);
    copy_console(&to->console, &from->console);
    copy_console(&to->vconsole, &from->vconsole);
}

void restart_keep(struct cell *c, const struct cell_fds *fds)
{
    cell_fds_init(&c->kept);
    if (c->cfg.on_reset == CFG_EXIT_RESTART)
        copy_fds(&c->kept, fds);
}

bool restart_wanted(const struct cell *c)
{
    return c->cfg.on_reset == CFG_EXIT_RESTART && !atomic_load(&c->killed) &&
           atomic_load(&c->m.end) == MACHINE_RESET;
}

int restart(struct cell *c, struct err *err)
{
    struct cell_fds fds;
    int r;

    log_info("the guest resets: boot %u", c->boots + 1);
    devices_free(c);
    paging_free(c);
    machine_exit(&c->m);
    c->made = false;
    copy_fds(&fds, &c->kept);
    r = cell_assemble(c, &fds, err);
    cell_fds_close(&fds);
    if (r)
        return r;
    c->boots++;
    evloop_rearm(&c->io);
    return cell_start(c, err);
}
