/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of consoles; see the header.  The saved settings of the terminal are process-wide
 * because a terminal is, and because an exit handler and a signal handler must find them: one
 * static struct, filled before its `fd` is set, used by whoever takes `fd` away.  No locks.
 */
#include "vmm/device/chario_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

/* What there is to restore. */
static struct {
    atomic_int fd;        /* terminal + 1; 0: nothing to restore */
    struct termios saved; /* its settings before */
    bool hooked;          /* the exit handler is installed */
} raw;

bool confd_is_file(int fd)
{
    struct stat st;

    return !fstat(fd, &st) && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

/* True when opening fd's file again gives the same thing: not so for sockets and pty masters. */
static bool reopens(int fd)
{
    struct stat st;
    unsigned n;

    if (fstat(fd, &st))
        return false;
    if (S_ISFIFO(st.st_mode))
        return true;
    return S_ISCHR(st.st_mode) && isatty(fd) && ioctl(fd, TIOCGPTN, &n);
}

int confd_nonblock(int fd, int access, int *saved)
{
    if (reopens(fd)) {
        char path[40];
        int nfd;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        nfd = open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (nfd >= 0) {
            confd_close(fd, -1);
            return nfd;
        }
    }
    *saved = fcntl(fd, F_GETFL);
    if (*saved >= 0)
        fcntl(fd, F_SETFL, *saved | O_NONBLOCK);
    return fd;
}

void confd_close(int fd, int saved)
{
    if (fd >= 0 && saved >= 0)
        fcntl(fd, F_SETFL, saved);
    if (fd > 2)
        close(fd);
}

bool tty_ours(int fd)
{
    pid_t front = tcgetpgrp(fd);

    return front < 0 || front == getpgrp(); /* < 0: not our controlling terminal, or none */
}

int tty_set(int fd, const struct termios *t)
{
    sigset_t ttou, old;
    int e;

    if (!tty_ours(fd))
        return -EPERM;
    /* we may be sent to the background right now: SIGTTOU would stop us in the kernel */
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &old);
    e = tcsetattr(fd, TCSANOW, t) ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -e;
}

void tty_restore(void)
{
    int fd = atomic_exchange(&raw.fd, 0), e = errno;

    if (fd)
        tty_set(fd - 1, &raw.saved);
    errno = e;
}

/* Fatal signals: restores the terminal and dies of the same signal. */
static void on_fatal(int sig)
{
    tty_restore();
    raise(sig);
}

/* Installs the handlers; signals somebody handles already are left alone. */
static void hook(void)
{
    static const int sigs[] = {SIGHUP,  SIGINT, SIGQUIT, SIGTERM, SIGABRT,
                               SIGSEGV, SIGBUS, SIGFPE,  SIGILL};
    struct sigaction sa = {.sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND};
    struct sigaction old;

    if (!raw.hooked)
        atexit(tty_restore);
    raw.hooked = true;
    for (unsigned i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
        if (!sigaction(sigs[i], NULL, &old) && !(old.sa_flags & SA_SIGINFO) &&
            old.sa_handler == SIG_DFL)
            sigaction(sigs[i], &sa, NULL);
}

int tty_raw(int fd)
{
    struct termios t;
    int r;

    if (!tty_ours(fd))
        return -EPERM;
    if (tcgetattr(fd, &t))
        return -errno;
    tty_restore();
    hook();
    raw.saved = t;
    atomic_store(&raw.fd, fd + 1);
    cfmakeraw(&t);
    t.c_oflag |= OPOST;
    r = tty_set(fd, &t);
    if (r)
        atomic_store(&raw.fd, 0);
    return r;
}

int tty_peer(int fd)
{
    struct termios t;
    unsigned n;
    int peer;

    if (ioctl(fd, TIOCGPTN, &n))
        return -1;
    peer = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (peer >= 0 && !tcgetattr(peer, &t)) {
        cfmakeraw(&t);
        tty_set(peer, &t);
    }
    return peer;
}
