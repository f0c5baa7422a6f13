/* SPDX-License-Identifier: MIT */
/*
 * The cell: one guest in one process.  Made from a checked configuration, a placement and
 * descriptors that are already open; after cell_new() it opens nothing.
 *
 * Threads: vcpuN run the guest, io0 runs devices and control, the caller waits in cell_wait().
 * The control functions may be called by any thread but a vCPU's, after cell_start().
 */
#ifndef DISCO_VMM_CELL_CELL_H
#define DISCO_VMM_CELL_CELL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/config/config.h"

struct cell;
struct chario;
struct err;
struct evloop;
struct json_t;
struct place_got;

/* Where a console's bytes go: as chario_new() takes them. kind: enum chario_kind. */
struct cell_console {
    int kind;        /* enum chario_kind */
    int infd, outfd; /* -1: none */
    bool tty;        /* infd is a terminal to put into raw mode */
};

/* What a cell is handed, all open; -1 where there is none.  cell_new() owns them whatever it
 * returns. */
struct cell_fds {
    int kvm;                 /* /dev/kvm */
    int kernel, initrd;      /* files */
    int disk[CFG_MAX_DISKS]; /* raw images, opened O_RDONLY or O_RDWR as configured */
    int net[CFG_MAX_NETS];   /* tap or subnet socket; -1 for user-mode networks */
    struct cell_console console, vconsole;
};

/* How a guest ended. */
enum cell_end {
    CELL_RUNNING,
    CELL_POWEROFF,   /* the guest switched itself off: as asked */
    CELL_RESET,      /* the guest reset and on_reset says that is the end: as asked */
    CELL_DEBUG_EXIT, /* isa-debug-exit; status = (value << 1) | 1 */
    CELL_STOPPED,    /* the host ended it (kill, ctrl-a x) */
    CELL_FAILED, /* triple fault without a reset being asked for, KVM error, emulation failure */
};

struct cell_result {
    enum cell_end end; /* how */
    int status;        /* exit status for `disco run`: 0, 1, or the debug exit's */
    char reason[256];  /* one line for people: registers' rip, exit reason, ... */
    uint64_t ready_ns; /* from cell_new to the console showing cfg->ready; 0: never seen */
    uint64_t run_ns;   /* from cell_new to the end */
};

/* Makes everything: views, vCPUs, devices, kernel loaded.  Nothing runs yet.  What cfg points to
 * stays the caller's and must outlive the cell; place is copied. */
int cell_new(struct cell **out, const struct guest_cfg *cfg, const struct place_got *place,
             struct cell_fds *fds, struct err *err);

/* Starts the threads. */
int cell_start(struct cell *c, struct err *err);

/* Waits until the guest has ended and all threads but the caller's are gone. */
void cell_wait(struct cell *c, struct cell_result *res);

/* Undoes cell_new(). After cell_wait(), or when cell_start() was never called. */
void cell_free(struct cell *c);

/* The loop of io0: other sources (a control socket) may be added before cell_start(). */
struct evloop *cell_loop(struct cell *c);

/* Stops all vCPUs and returns when none runs; the guest's clock stands still. */
void cell_pause(struct cell *c);

/* Lets them go on; the guest sees no time passed.  Harmless when it was not paused. */
void cell_resume(struct cell *c);

/* Whether cell_pause() was called and no cell_resume() after it.  Any thread. */
bool cell_paused(const struct cell *c);

/* Presses the power button. */
void cell_power_button(struct cell *c);

/* Ends the guest now. */
void cell_kill(struct cell *c);

/* Asks for memory back by the balloon; -ENODEV without one. */
int cell_balloon(struct cell *c, uint64_t bytes);

/* Moves a vCPU to a view (its state goes to that view's incarnation); returns when done.
 * -EINVAL when there is no such vCPU or view. */
int cell_move_vcpu(struct cell *c, unsigned vcpu, unsigned view);

/* What the guest has on node `from` of the host goes to node `to`: views and vCPUs at once, memory
 * from now on, hot blocks first; cell_stat() tells how far that is.  -EBUSY: the last such move is
 * not over; -ENODEV: `to` has no memory; -ENOENT: the guest has nothing on that node; -EEXIST: it has something on the other;
 * -EOPNOTSUPP: reserved huge pages.  From io0 only. */
int cell_rehome(struct cell *c, int from, int to);

/* From cell_new() to the console showing the configured text; 0: not yet. */
uint64_t cell_ready_ns(const struct cell *c);

/* All figures: see docs/stat.md.  Caller json_decref()s. */
struct json_t *cell_stat(struct cell *c);

/* Where the guest's memory is and who uses it, as the text of JSON, malloc'd: see docs/stat.md.
 * NULL where nobody works on its pages.  Takes some milliseconds, whatever the guest's size. */
char *cell_heatmap(struct cell *c);

/* Names of enum cell_end, for tables and JSON: "running", "poweroff", ... */
const char *cell_end_name(enum cell_end end);

#endif
