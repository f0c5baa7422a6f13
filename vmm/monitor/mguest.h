/* SPDX-License-Identifier: MIT */
/*
 * A guest as the monitor sees it: its resources before it runs, its process, the messages to and
 * from that, its consoles, and how it ended.
 *
 * States, and who moves between them:
 *   NEW --mguest_spawn--> MAKING --MADE came--> MADE --mguest_go--> RUNNING --process ended--> ENDED
 * and from any of MAKING, MADE and RUNNING to ENDED when the process ends.
 *
 * The process is not trusted: whatever it sends, says nothing or sends rubbish, costs that guest
 * only.  Threads: all on the monitor's loop.
 */
#ifndef DISCO_VMM_MONITOR_MGUEST_H
#define DISCO_VMM_MONITOR_MGUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/evloop.h"
#include "numa/place.h"
#include "vmm/cell/cell.h"
#include "vmm/cell/proto.h"

struct conring;
struct mguest;
struct vswitch;

enum mguest_state { MGUEST_NEW, MGUEST_MAKING, MGUEST_MADE, MGUEST_RUNNING, MGUEST_ENDED };

/* Why the monitor ended a guest, if it did; a later reason replaces an earlier. */
enum mguest_why {
    WHY_NOT,     /* it did not */
    WHY_ASKED,   /* the user pressed the power button */
    WHY_NOW,     /* the user ended the whole site at once */
    WHY_KILL,    /* the user ended this guest */
    WHY_LATE,    /* it did not switch itself off in time */
    WHY_RUBBISH, /* its cell broke the protocol */
};

/* What a guest tells the monitor.  All required. */
struct mguest_ops {
    void (*made)(void *arg, struct mguest *g);  /* it waits for mguest_go() */
    void (*ready)(void *arg, struct mguest *g); /* its console showed that it is up */
    void (*ended)(void *arg, struct mguest *g); /* its process is gone, all is closed */
    /* An answer to request seq: status 0 or -errno, and len bytes of text. */
    void (*reply)(void *arg, struct mguest *g, const struct proto_msg *m);
};

/* What all guests of a monitor share; constant while guests exist. */
struct mguest_host {
    struct evloop *loop;          /* where all happens */
    struct vswitch *subnet;       /* the switch; NULL when no guest has a port */
    const char *rundir;           /* where console files go */
    int log_level;                /* of the cells; enum log_level */
    const struct mguest_ops *ops; /* what guests tell */
    void *arg;                    /* first argument of ops */
};

/* A guest. */
struct mguest {
    const struct mguest_host *host; /* shared */
    const struct guest_cfg *cfg;    /* the site's */
    struct place_got place;         /* where it is, and will be when it starts again */
    struct cell_fds fds;            /* opened, until its process has them */
    bool opened;                    /* its console sockets are there */
    struct conring *con[2];         /* console and vconsole, NULL where they go elsewhere */
    struct proto_chan chan;         /* to its process */
    struct evsrc src;               /* of chan */
    pid_t pid;                      /* its process, 0: none or reaped */
    struct evsrc pidsrc;            /* pidfd, owned; -1: none */
    uint32_t seq;                   /* number of the last request */
    uint32_t unanswered;            /* requests the cell has yet to answer, at most ASK_MAX */
    uint32_t halt_seq;              /* number of the last PAUSE or RESUME; 0: none yet */
    bool halt;                      /* that was a PAUSE */
    enum mguest_state state;        /* see the head */
    bool paused;                    /* its cell said so, in answer to halt_seq */
    enum mguest_why why;            /* why it is being ended */
    uint64_t kill_at;               /* when it is ended unless it ended by itself; 0: never */
    uint64_t slay_at;               /* when its process is killed if still there; 0: never */
    uint64_t start_ns;              /* when it was let go */
    uint64_t ready_ns;              /* from being made to being up; 0: not yet, or no sign */
    uint64_t end_ns;                /* when its process ended */
    bool told;                      /* res is valid: its cell told how the guest ended */
    struct cell_result res;         /* that */
    struct err err;                 /* FAILED's message; or why the process ended */
    struct json_t *stat;            /* last figures, when it ended; NULL: none */
    bool ok;                        /* it ended as asked */
    char end[32];                   /* how it ended in a word or two: "poweroff" */
    char result[320];               /* "ok", or "failed: ..." */
};

/* Nanoseconds of the monotonic clock. */
uint64_t mguest_now(void);

/* Fills a guest in state NEW, with nothing open. */
void mguest_init(struct mguest *g, const struct mguest_host *host, const struct guest_cfg *cfg,
                 const struct place_got *place);

/* Undoes everything; a process that is still there is killed and reaped. */
void mguest_free(struct mguest *g);

/* NEW: makes consoles and ports and opens all the guest's resources. */
int mguest_open(struct mguest *g, struct err *err);

/* NEW -> MAKING: starts the process and hands it what was opened. */
int mguest_spawn(struct mguest *g, struct err *err);

/* MADE: starts its consoles, whose files replace those of the last time only now that all is well. */
int mguest_listen(struct mguest *g, struct err *err);

/* MADE -> RUNNING. */
void mguest_go(struct mguest *g);

/* Sends a request to the cell; returns its number, 0 when the cell is not there (any more) or has
 * too many to answer already. */
uint32_t mguest_ask(struct mguest *g, enum proto_type type, const void *body, size_t len);

/* Presses the power button of a guest that runs, paused or not; after timeout_ms (0: never) it is
 * ended.  A time set before stands if it comes first.  One that does not run yet is ended. */
void mguest_stop(struct mguest *g, uint64_t timeout_ms);

/* Ends the guest: asks its cell to, and kills the process when that is not done soon. */
void mguest_end(struct mguest *g, enum mguest_why why);

/* Kills the process now; ended() follows. */
void mguest_slay(struct mguest *g);

/* When mguest_expire() has something to do next; 0: nothing. */
uint64_t mguest_deadline(const struct mguest *g);

/* Does what is due. */
void mguest_expire(struct mguest *g, uint64_t now);

/* Name of its state: "starting", "running", "paused", "ended". */
const char *mguest_state_name(const struct mguest *g);

#endif
