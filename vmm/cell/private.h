/* SPDX-License-Identifier: MIT */
/*
 * Inside of a cell; included by vmm/cell/ only.
 * Constant after cell_new() unless noted.
 */
#ifndef DISCO_VMM_CELL_PRIVATE_H
#define DISCO_VMM_CELL_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/evloop.h"
#include "numa/place.h"
#include "vmm/cell/cell.h"
#include "vmm/device/host.h"
#include "vmm/machine/machine.h"

struct fwcfg;
struct page_loop;
struct pager;
struct mem_usage;
struct paging;
struct pci_bus;
struct rehome;
struct pm;
struct uart;
struct virtio_dev;

enum { CELL_MAX_DEVS = CFG_MAX_DISKS + CFG_MAX_NETS + 3 };

/* A device with the name it has in statistics. */
struct cell_dev {
    char name[32]; /* "disk0", "net1", "rng", ... */
    struct virtio_dev *dev;
};

/* The cell. */
struct cell {
    struct guest_cfg cfg;   /* its texts are the caller's of cell_new() */
    struct place_got place; /* where it is */
    int kvm_fd;             /* owned */
    struct machine m;       /* CPUs and memory */
    bool made;              /* m is initialised */
    struct rehome *rehome;  /* the last move of memory; NULL: none */
    char unpaged[256];      /* why there is no pager, where there is none */
    struct paging *paging;  /* who works on pages; NULL: nobody */
    struct evloop io;       /* loop of io0 */
    pthread_t io_thread;    /* io0 */
    bool io_runs;           /* io_thread is valid */
    struct dev_host host;   /* what devices use */
    struct pci_bus *pci;    /* all virtio devices */
    struct uart *uart;      /* COM1 */
    struct pm *pm;          /* power and reset */
    struct fwcfg *fwcfg;    /* or NULL */
    struct cell_dev dev[CELL_MAX_DEVS];
    unsigned ndevs;             /* entries of dev */
    struct virtio_dev *balloon; /* or NULL; also in dev */
    uint64_t made_ns;           /* when cell_new() began */
    _Atomic uint64_t ready_ns; /* when the console showed cfg.ready; 0: not yet. Written once */
    _Atomic uint64_t end_ns;   /* when the end was decided */
    struct cell_fds kept;      /* copies for a restart; nothing unless on_reset says restart */
    unsigned boots;            /* how often the guest was started */
    atomic_bool killed;        /* cell_kill() was called: no restart any more */
    atomic_bool paused;        /* between cell_pause and cell_resume */
};

/* Makes all devices of the configuration.  On error some may be made: cell_free() undoes. */
int devices_make(struct cell *c, struct cell_fds *fds, struct err *err);

/* Undoes devices_make(), also a part of it; no vCPU and no io0 runs. */
void devices_free(struct cell *c);

/* Makes machine, devices and kernel out of c->cfg and fds. On error cell_free() undoes. */
int cell_assemble(struct cell *c, struct cell_fds *fds, struct err *err);

/* ---- paging.c ---- */

/* Makes the pager, if the guest is to have one, and says in the log what it has instead where the
 * host does not allow it.  Kernel and devices are there, nothing runs. */
void paging_make(struct cell *c);

/* Undoes it; no vCPU, no io0 and no device are there any more. */
void paging_free(struct cell *c);

/* Starts and ends the pager's thread.  All of these do nothing where there is no pager. */
void paging_start(struct cell *c);
void paging_stop(struct cell *c);

/* The pager, and its thread while that runs; NULL: none.  For who holds off paging_stop(): io0. */
struct pager *paging_pager(const struct cell *c);
struct page_loop *paging_loop(const struct cell *c);

/* While the guest is paused nothing is decided. */
void paging_pause(struct cell *c, bool paused);

/* Figures of pages as JSON, null where there is no pager (docs/stat.md).  Not from the pager's
 * thread. */
struct json_t *paging_json(struct cell *c, const struct mem_usage *used);

/* ---- rehome.c ---- */

/* Ends a move that is under way, if there is one. */
void rehome_stop(struct cell *c);

/* The last move as JSON, null if there was none. */
struct json_t *rehome_json(const struct cell *c);

/* ---- restart.c ---- */

/* Keeps copies of the descriptors if the guest is to be restarted on reset. */
void restart_keep(struct cell *c, const struct cell_fds *fds);

/* The guest asked for a reset and shall have it. */
bool restart_wanted(const struct cell *c);

/* Takes the machine apart, makes it anew and starts it. No vCPU and no io0 runs. */
int restart(struct cell *c, struct err *err);

#endif
