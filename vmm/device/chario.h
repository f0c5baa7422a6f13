/* SPDX-License-Identifier: MIT */
/*
 * A byte stream for consoles: to a terminal, file, socket, pty or the monitor.  Never blocks
 * the guest: output that the other side does not take goes into a bounded buffer, then the oldest
 * is dropped and counted.
 *
 * Threads: chario_write from any one thread at a time (the device's lock); input is delivered on
 * the event loop's thread.
 */
#ifndef DISCO_VMM_DEVICE_CHARIO_H
#define DISCO_VMM_DEVICE_CHARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chario;
struct err;
struct evloop;

/* Bytes of output kept while nobody takes them. */
enum { CHARIO_BUFFER = 256 * 1024 };

enum chario_kind {
    CHARIO_NULL,   /* nowhere */
    CHARIO_STREAM, /* fds for input and output (terminal, pipe, pty master, connected socket) */
    CHARIO_LISTEN, /* a listening Unix socket: one client at a time, replaced by the next */
};

/* Makes a stream over descriptors that are open (infd may be -1: no input; for CHARIO_LISTEN infd
 * is the listener; what a client said before it left still reaches the consumer).  Owns them, but never closes descriptors 0 to 2.  infd and outfd may be the
 * same.  tty: put the terminal infd into raw mode until freed (ctrl-a x asks the cell to end,
 * ctrl-a ctrl-a sends ctrl-a).  A pty master's other side is put into raw mode and held open. */
struct chario *chario_new(enum chario_kind kind, int infd, int outfd, bool tty);

/* Restores the terminal, gives what is buffered half a second to leave, closes.  io0 must not
 * run, or be the caller.  NULL is allowed. */
void chario_free(struct chario *c);

/* Starts input on the loop: input(arg, bytes, n) returns how many it took; the rest is offered
 * again after chario_more().  quit(arg) is called on ctrl-a x (may be NULL).  Returns 0 or
 * -errno.  Before the loop runs, or on its thread. */
int chario_start(struct chario *c, struct evloop *io,
                 size_t (*input)(void *arg, const uint8_t *p, size_t n),
                 void (*quit)(void *arg), void *arg);

/* The consumer has room again. Any thread. */
void chario_more(struct chario *c);

/* Writes; never blocks. */
void chario_write(struct chario *c, const uint8_t *p, size_t n);

/* Calls seen(arg) once, on the writing thread, when the output has shown this text. Before the
 * first write; the text is copied. */
void chario_watch(struct chario *c, const char *text, void (*seen)(void *arg), void *arg);

/* Bytes dropped so far because nobody took them. Any thread. */
uint64_t chario_dropped(const struct chario *c);

#endif
