/* SPDX-License-Identifier: MIT */
/*
 * An event loop over epoll: descriptors and timers with callbacks, run by one thread.
 *
 * Threads: sources are added and changed by any thread; removed by the loop's own thread, or by
 * any while the loop does not run.  evloop_stop() may be called from any thread.
 * A source may remove itself, or any other, from inside a callback.
 */
#ifndef DISCO_BASE_EVLOOP_H
#define DISCO_BASE_EVLOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct err;

/* One watched descriptor.  Storage belongs to the caller and must outlive its membership. */
struct evsrc {
    int fd;                                     /* watched descriptor, owned by the caller */
    uint32_t events;                            /* EPOLL* wanted, set by evloop_add/mod */
    void (*ready)(void *arg, uint32_t revents); /* called on the loop's thread */
    void *arg;                                  /* first argument of ready */
};

/* The loop. */
struct evloop {
    int epfd;            /* epoll descriptor */
    int wakefd;          /* eventfd that ends a wait */
    atomic_bool stop;    /* written by evloop_stop(), read by the loop */
    struct evsrc wake;   /* the source of wakefd */
    struct evsrc **dead; /* sources removed during the current batch */
    unsigned ndead;      /* entries of dead */
    unsigned capdead;    /* allocated entries of dead */
};

/* Makes an empty loop; undone by evloop_exit().  0 or -errno. */
int evloop_init(struct evloop *l, struct err *err);

/* Closes what evloop_init() opened.  The loop does not run; sources that are still in it are
 * forgotten, not closed. */
void evloop_exit(struct evloop *l);

/* Starts watching src->fd for events; src->ready and src->arg must be set. Returns 0 or -errno. */
int evloop_add(struct evloop *l, struct evsrc *src, uint32_t events);

/* Changes the events of a source that was added. Returns 0 or -errno. */
int evloop_mod(struct evloop *l, struct evsrc *src, uint32_t events);

/* Stops watching.  Safe for sources that were never added; ready is not called afterwards. */
void evloop_del(struct evloop *l, struct evsrc *src);

/* Runs callbacks until evloop_stop(). */
void evloop_run(struct evloop *l);

/* Runs one batch: waits at most timeout_ms (-1: for ever).  For loops that do more between. */
void evloop_once(struct evloop *l, int timeout_ms);

/* Ends evloop_run() soon.  Any thread. */
void evloop_stop(struct evloop *l);

/* Lets a stopped loop be run again.  While it does not run. */
void evloop_rearm(struct evloop *l);

/* Makes a periodic or one-shot timer descriptor: first after first_ns, then every period_ns
 * (0: once).  Returns the timerfd or -errno; its reader must read 8 bytes. */
int evloop_timerfd(uint64_t first_ns, uint64_t period_ns);

#endif
