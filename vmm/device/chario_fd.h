/* SPDX-License-Identifier: MIT */
/*
 * The descriptors consoles sit on: made non-blocking without disturbing others who share them;
 * terminals in raw mode, restored also when the process dies; the other side of a pty.
 * Threads: called by the thread that makes and frees the console.
 */
#ifndef DISCO_VMM_DEVICE_CHARIO_FD_H
#define DISCO_VMM_DEVICE_CHARIO_FD_H

#include <stdbool.h>

struct termios;

/* True for a regular file or a disk: always ready, never EAGAIN. */
bool confd_is_file(int fd);

/*
 * Gives a non-blocking descriptor for fd's file, opened for access (O_RDONLY, O_WRONLY, O_RDWR).
 * Terminals and pipes are opened anew where possible and fd is closed, because the flag belongs
 * to the open file, which other processes share; else fd itself is changed and *saved receives
 * the status flags to restore (left alone otherwise).
 */
int confd_nonblock(int fd, int access, int *saved);

/* Restores saved flags (-1: none) and closes fd unless it is a standard stream or -1. */
void confd_close(int fd, int saved);

/* False for our controlling terminal while another process group has it: who reads it or changes
 * its settings then is stopped by the kernel.  Async-signal-safe. */
bool tty_ours(int fd);

/* Changes the settings of a terminal that is ours, at once and without ever being stopped.
 * Returns 0 or -errno; -EPERM when it is not ours.  Async-signal-safe. */
int tty_set(int fd, const struct termios *t);

/* Puts the terminal fd into raw mode (output processing stays, so that log lines look right) and
 * sees to it that exit() and fatal signals without a handler restore it.  One terminal a process.
 * Returns 0 or -errno (-EPERM: we are in the background, the terminal is left alone); fd must
 * stay open until tty_restore(). */
int tty_raw(int fd);

/* Undoes tty_raw(); harmless without it, and while we are in the background. */
void tty_restore(void);

/* The other side of pty master fd, opened and in raw mode, or -1 when fd is no pty master. */
int tty_peer(int fd);

#endif
