/* SPDX-License-Identifier: MIT */
/*
 * Signals: who takes them and who does not.  The signals that end a program become a descriptor of
 * its loop, and threads that have no part in them are started with all of them blocked.
 * Threads: signals_fd() before any other thread starts, signals_thread() from any.
 */
#ifndef DISCO_BASE_SIGNALS_H
#define DISCO_BASE_SIGNALS_H

#include <pthread.h>

struct err;

/*
 * Blocks SIGINT, SIGTERM and SIGHUP, for threads and processes to come, too, and gives the signalfd
 * (non-blocking, closed on exec, the caller's) they are read from; ignores SIGPIPE.
 * -errno after a message (EXIT_INTERNAL).
 */
int signals_fd(struct err *err);

/* pthread_create() of a joinable thread with all signals blocked: they are for others.  0 or an
 * errno number, as pthread_create(). */
int signals_thread(pthread_t *thread, void *(*run)(void *), void *arg);

#endif
