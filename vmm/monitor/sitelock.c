/* SPDX-License-Identifier: MIT */
/*
 * One monitor a socket.  The lock is a flock on a file beside the socket: it ends with its holder
 * however that dies, so a socket file whose lock can be taken is stale and may be replaced.
 *
 * Invariant Y1: who holds the lock holds it on the file that is at the path now; the file is
 * removed only by its holder, and who waited for a removed one tries again.
 * Threads: any one.
 */
#include "vmm/monitor/sitelock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/config/config.h"

/* Makes a directory and those above it; those it makes are for this user only. */
static int make_dirs(const char *path, struct err *err)
{
    char *p = xstrdup(path);
    int r = 0;

    for (char *s = p + 1; !r; s++) {
        char c = *s;

        if (c != '/' && c)
            continue;
        *s = 0;
        if (mkdir(p, 0700) && errno != EEXIST)
            r = fail_errno(err, errno == EACCES ? EXIT_PERMISSION : EXIT_RESOURCE, errno,
                           "the directory %s cannot be made", p);
        *s = c;
        if (!c)
            break;
    }
    free(p);
    return r;
}

/* Makes the directory a file is to be in. */
static int make_parent(const char *path, struct err *err)
{
    char *dir = xstrdup(path), *slash = strrchr(dir, '/');
    int r = 0;

    if (slash && slash != dir) {
        *slash = 0;
        r = make_dirs(dir, err);
    }
    free(dir);
    return r;
}

/* True when fd is the file that is at path now. */
static bool same_file(int fd, const char *path)
{
    struct stat a, b;

    return !fstat(fd, &a) && !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Says who has the lock. */
static int busy(const struct site_place *p, int fd, struct err *err)
{
    char pid[32] = "";
    ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

    pid[n > 0 ? n : 0] = 0;
    pid[strcspn(pid, "\n")] = 0;
    close(fd);
    return fail(err, EXIT_BUSY, EBUSY,
                "another monitor (process %s) has the control socket %s: end it with "
                "`disco down -s %s`, or choose another by --socket",
                pid[0] ? pid : "unknown", p->socket, p->socket);
}

/* Takes the lock or says who has it. */
static int take_lock(struct site_place *p, struct err *err)
{
    int fd, e;

    for (;;) {
        fd = open(p->lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return fail_errno(err, errno == EACCES ? EXIT_PERMISSION : EXIT_RESOURCE, errno,
                              "the lock %s cannot be opened", p->lock);
        if (flock(fd, LOCK_EX | LOCK_NB)) {
            e = errno;
            if (e == EWOULDBLOCK)
                return busy(p, fd, err);
            close(fd);
            return fail_errno(err, EXIT_INTERNAL, e, "flock %s", p->lock);
        }
        if (same_file(fd, p->lock))
            break;
        close(fd); /* its holder removed it while we waited */
    }
    p->lockfd = fd;
    /* for the message of one who comes later; the lock itself does not need it */
    if (ftruncate(fd, 0) || dprintf(fd, "%d\n", (int)getpid()) < 0)
        return fail_errno(err, EXIT_RESOURCE, errno, "the lock %s cannot be written", p->lock);
    return 0;
}

/* The directory of a site that names none: its name, next to the control socket. */
static char *default_rundir(const char *sock, const char *name)
{
    const char *slash = strrchr(sock, '/');
    int n = slash ? (int)(slash - sock) : 1;

    return xasprintf("%.*s/%s", n, slash ? sock : ".", name);
}

int site_claim(struct site_place *p, const struct site_cfg *site, struct err *err)
{
    int r;

    *p = (struct site_place){.lockfd = -1};
    p->socket = site->socket ? xstrdup(site->socket) : config_default_socket(site->name);
    p->rundir = site->rundir ? xstrdup(site->rundir) : default_rundir(p->socket, site->name);
    p->lock = xasprintf("%s.lock", p->socket);
    r = make_parent(p->socket, err);
    if (!r)
        r = take_lock(p, err);
    if (!r)
        r = make_dirs(p->rundir, err);
    if (r)
        site_release(p);
    return r;
}

int site_listen(struct site_place *p, struct err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat st;
    int fd;

    if (strlen(p->socket) >= sizeof(sa.sun_path))
        return fail(err, EXIT_RESOURCE, ENAMETOOLONG,
                    "the control socket's path %s is longer than %zu bytes", p->socket,
                    sizeof(sa.sun_path) - 1);
    memcpy(sa.sun_path, p->socket, strlen(p->socket) + 1);
    if (!lstat(p->socket, &st)) {
        if (!S_ISSOCK(st.st_mode))
            return fail(err, EXIT_RESOURCE, EEXIST,
                        "%s, where the control socket is to be, is something else", p->socket);
        unlink(p->socket); /* we have the lock: its monitor is dead */
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && !bind(fd, (struct sockaddr *)&sa, sizeof(sa)))
        p->bound = true;
    /* nobody can connect before listen() */
    if (!p->bound || chmod(p->socket, 0600) || listen(fd, 16)) {
        int e = errno;

        if (fd >= 0)
            close(fd);
        return fail_errno(err, e == EACCES ? EXIT_PERMISSION : EXIT_RESOURCE, e,
                          "the control socket %s cannot be made", p->socket);
    }
    return fd;
}

void site_release(struct site_place *p)
{
    /* the socket before the lock: who gets the lock next must not lose its own (Y1) */
    if (p->bound)
        unlink(p->socket);
    if (p->lockfd >= 0) {
        unlink(p->lock);
        close(p->lockfd);
    }
    if (p->rundir)
        rmdir(p->rundir); /* only if it is empty */
    free(p->socket);
    free(p->lock);
    free(p->rundir);
    *p = (struct site_place){.lockfd = -1};
}
