/* SPDX-License-Identifier: MIT */
/*
 * Opens what a guest needs, one small function for each kind of resource; cell_open() is the list.
 *
 * Invariants.  O1: on failure nothing stays open.  O2: every descriptor is close-on-exec.
 * O3: an image that is open for writing is open nowhere else through us: the lock belongs to the
 * open file description, so it goes with the descriptor to the cell and ends with it.
 * Threads: any one; no state.
 */
#include "vmm/cell/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/cell/cell.h"
#include "vmm/config/config.h"
#include "vmm/device/chario.h"
#include "vmm/device/net.h"

/* A console that leads nowhere. */
static struct cell_console no_console(void)
{
    return (struct cell_console){.kind = CHARIO_NULL, .infd = -1, .outfd = -1};
}

void cell_fds_init(struct cell_fds *fds)
{
    *fds = (struct cell_fds){.kvm = -1, .kernel = -1, .initrd = -1};
    for (unsigned i = 0; i < CFG_MAX_DISKS; i++)
        fds->disk[i] = -1;
    for (unsigned i = 0; i < CFG_MAX_NETS; i++)
        fds->net[i] = -1;
    fds->console = fds->vconsole = no_console();
}

/* Closes *fd if it is open and forgets it. */
static void shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Closes a console's descriptors. */
static void console_close(struct cell_console *c)
{
    shut(&c->infd);
    shut(&c->outfd);
}

void cell_fds_close(struct cell_fds *fds)
{
    shut(&fds->kvm);
    shut(&fds->kernel);
    shut(&fds->initrd);
    for (unsigned i = 0; i < CFG_MAX_DISKS; i++)
        shut(&fds->disk[i]);
    for (unsigned i = 0; i < CFG_MAX_NETS; i++)
        shut(&fds->net[i]);
    console_close(&fds->console);
    console_close(&fds->vconsole);
}

/* Opens the kernel's KVM device. */
static int open_kvm(int *fd, struct err *err)
{
    int e;

    *fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (*fd >= 0 && ioctl(*fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION)
        return 0;
    if (*fd >= 0)
        return fail(err, EXIT_NOKVM, ENOTTY,
                    "/dev/kvm is not the device of KVM, or not of version %d: see what is "
                    "there (ls -l /dev/kvm; char 10, 232 is right), or give the container the "
                    "host's",
                    KVM_API_VERSION);
    e = errno;
    if (e == EACCES || e == EPERM)
        return fail(err, EXIT_PERMISSION, e,
                    "/dev/kvm may not be opened by this user: add the user to the group that "
                    "owns it (usually 'kvm'), or run as root");
    if (e == ENOENT || e == ENXIO || e == ENODEV)
        return fail(
            err, EXIT_NOKVM, e,
            "/dev/kvm is not there: load the module (modprobe kvm_intel or kvm_amd) and "
            "see that virtualization is switched on in the firmware; `disco doctor` "
            "tells more");
    return fail_errno(err, EXIT_NOKVM, e, "/dev/kvm cannot be opened");
}

/* Opens a file that may turn out to be a FIFO or a terminal, without waiting for anybody; what
 * reads it later may wait (io_uring gives -EAGAIN on a descriptor that must not). */
static int open_patiently(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd >= 0)
        fcntl(fd, F_SETFL, flags);
    return fd;
}

/* The exit status of a file that cannot be opened or made: of its own when this user may not. */
static enum exit_status status_of(int e, enum exit_status otherwise)
{
    return e == EACCES || e == EPERM ? EXIT_PERMISSION : otherwise;
}

/* Opens a kernel or initrd, which must be a plain file. */
static int open_image(int *fd, const char *what, const char *path, struct err *err)
{
    struct stat st;

    *fd = open_patiently(path, O_RDONLY);
    if (*fd < 0)
        return fail_errno(err, status_of(errno, EXIT_KERNEL), errno,
                          "the %s %s cannot be opened", what, path);
    if (fstat(*fd, &st) || !S_ISREG(st.st_mode))
        return fail(err, EXIT_KERNEL, EINVAL, "the %s %s is not a file", what, path);
    return 0;
}

/* Takes the lock of a disk's image: one writer, or any number of readers. */
static int lock_disk(int fd, const struct disk_cfg *d, struct err *err)
{
    struct flock fl = {.l_type = d->readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

    if (!fcntl(fd, F_OFD_SETLK, &fl))
        return 0;
    if (errno == EAGAIN || errno == EACCES)
        return fail(err, EXIT_RESOURCE, EBUSY,
                    d->readonly
                        ? "the disk %s is being written by another guest or program: "
                          "wait for it, or give this guest a copy"
                        : "the disk %s is in use by another guest or program: give each "
                          "writer a copy of its own, or all of them readonly = true",
                    d->path);
    return fail_errno(err, EXIT_RESOURCE, errno, "the disk %s cannot be locked", d->path);
}

/* Opens and locks one raw image or block device. */
static int open_disk(int *fd, const struct disk_cfg *d, struct err *err)
{
    struct stat st;

    *fd = open_patiently(d->path, d->readonly ? O_RDONLY : O_RDWR);
    if (*fd < 0)
        return fail_errno(err, status_of(errno, EXIT_RESOURCE), errno,
                          "the disk %s cannot be opened%s", d->path,
                          d->readonly ? "" : " for writing");
    if (fstat(*fd, &st) || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
        return fail(err, EXIT_RESOURCE, EINVAL,
                    "the disk %s is neither a file nor a block device", d->path);
    return lock_disk(*fd, d, err);
}

/* Opens one network card's carrier; a subnet port is there already. */
static int open_net(int *fd, const struct net_cfg *n, bool monitored, struct err *err)
{
    switch (n->type) {
    case CFG_NET_USER:
        return 0;
    case CFG_NET_TAP:
        *fd = tap_open(n->tap, err);
        return *fd < 0 ? *fd : 0;
    case CFG_NET_SUBNET:
        if (!monitored)
            return fail(err, EXIT_CONFIG, EINVAL,
                        "a card of type \"subnet\" needs a monitor: start the guest with "
                        "`disco up`, or use type = \"user\" or \"tap\"");
        INVARIANT(*fd >= 0, "the monitor gives the subnet's sockets");
        return 0;
    }
    return 0;
}

/* True when a process listens on the socket at path. */
static bool somebody_listens(const struct sockaddr_un *sa)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool yes = fd >= 0 && (!connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) ||
                           errno == EAGAIN || errno == EINPROGRESS);

    if (fd >= 0)
        close(fd);
    return yes;
}

/* Makes a listening socket at path; one that a dead process left there is replaced. */
static int open_socket(struct cell_console *c, const char *path, struct err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    struct stat st;

    if (strlen(path) >= sizeof(sa.sun_path))
        return fail(err, EXIT_RESOURCE, ENAMETOOLONG,
                    "the console socket's path %s is longer than %zu bytes", path,
                    sizeof(sa.sun_path) - 1);
    memcpy(sa.sun_path, path, strlen(path) + 1);
    if (!lstat(path, &st)) {
        if (!S_ISSOCK(st.st_mode) || somebody_listens(&sa))
            return fail(err, EXIT_RESOURCE, EEXIST, "the console socket %s exists already%s",
                        path, S_ISSOCK(st.st_mode) ? " and is in use" : " and is no socket");
        unlink(path);
    }
    c->infd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->infd >= 0 && !bind(c->infd, (struct sockaddr *)&sa, sizeof(sa)))
        c->kind = CHARIO_LISTEN; /* the socket is ours: cell_open() removes it on failure */
    if (c->kind != CHARIO_LISTEN || listen(c->infd, 4))
        return fail_errno(err, status_of(errno, EXIT_RESOURCE), errno,
                          "the console socket %s cannot be made", path);
    return 0;
}

/* Makes a pseudo-terminal in raw mode and says where it is. */
static int open_pty(struct cell_console *c, const char *guest, struct err *err)
{
    struct termios tio;
    char slave[64];

    c->kind = CHARIO_STREAM;
    c->infd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (c->infd < 0 || grantpt(c->infd) || unlockpt(c->infd) ||
        ptsname_r(c->infd, slave, sizeof(slave)))
        return fail_errno(err, EXIT_RESOURCE, errno, "no pseudo-terminal can be made");
    c->outfd = fcntl(c->infd, F_DUPFD_CLOEXEC, 0);
    if (c->outfd < 0 || tcgetattr(c->infd, &tio))
        return fail_errno(err, EXIT_RESOURCE, errno, "the pseudo-terminal %s cannot be used",
                          slave);
    cfmakeraw(&tio);
    tcsetattr(c->infd, TCSANOW, &tio);
    fprintf(stderr, "disco: the console of %s is %s\n", guest, slave);
    return 0;
}

/* Opens a console's output file. */
static int open_file(struct cell_console *c, const char *path, struct err *err)
{
    c->kind = CHARIO_STREAM;
    c->outfd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644);
    if (c->outfd < 0)
        return fail_errno(err, status_of(errno, EXIT_RESOURCE), errno,
                          "the console file %s cannot be opened", path);
    return 0;
}

/* Makes the program's own terminal, or whatever its input and output are, the console. */
static int open_stdio(struct cell_console *c, struct err *err)
{
    c->kind = CHARIO_STREAM;
    c->infd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    c->outfd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    c->tty = c->infd >= 0 && isatty(c->infd);
    if (c->outfd < 0)
        return fail_errno(err, EXIT_RESOURCE, errno,
                          "standard output, which is to be the console, cannot be used");
    return 0;
}

/* Opens one console as configured. */
static int open_console(struct cell_console *c, const struct console_cfg *cfg,
                        const char *guest, bool monitored, struct err *err)
{
    switch (cfg->type) {
    case CFG_CON_NONE:
        return 0;
    case CFG_CON_FILE:
        return open_file(c, cfg->path, err);
    case CFG_CON_SOCKET:
        return open_socket(c, cfg->path, err);
    case CFG_CON_PTY:
        return open_pty(c, guest, err);
    case CFG_CON_STDIO:
    case CFG_CON_MONITOR:
        if (!monitored)
            return open_stdio(c, err);
        INVARIANT(c->infd >= 0 && c->outfd >= 0, "the monitor gives its consoles");
        c->kind = CHARIO_STREAM;
        return 0;
    }
    return 0;
}

/* True for a console that is the terminal when there is no monitor. */
static bool wants_terminal(const struct console_cfg *c)
{
    return c->type == CFG_CON_STDIO || c->type == CFG_CON_MONITOR;
}

/* Opens both consoles; only one can be the terminal. */
static int open_consoles(const struct guest_cfg *g, bool monitored, struct cell_fds *fds,
                         struct err *err)
{
    int r;

    if (!monitored && wants_terminal(&g->console) && wants_terminal(&g->vconsole))
        return fail(err, EXIT_CONFIG, EINVAL,
                    "console and vconsole cannot both be the terminal: give one of them type "
                    "\"pty\", \"file\", \"socket\" or \"none\"");
    r = open_console(&fds->console, &g->console, g->name, monitored, err);
    return r ? r : open_console(&fds->vconsole, &g->vconsole, g->name, monitored, err);
}

/* The list of all that is opened; stops at the first failure. */
static int open_all(const struct guest_cfg *g, bool monitored, struct cell_fds *fds,
                    struct err *err)
{
    int r = open_kvm(&fds->kvm, err);

    if (!r)
        r = open_image(&fds->kernel, "kernel", g->kernel, err);
    if (!r && g->initrd)
        r = open_image(&fds->initrd, "initrd", g->initrd, err);
    for (unsigned i = 0; !r && i < g->ndisks; i++)
        r = open_disk(&fds->disk[i], &g->disks[i], err);
    for (unsigned i = 0; !r && i < g->nnets; i++)
        r = open_net(&fds->net[i], &g->nets[i], monitored, err);
    return r ? r : open_consoles(g, monitored, fds, err);
}

/* Removes a console's socket. */
static void unlink_console(const struct console_cfg *c)
{
    struct stat st;

    if (c->type == CFG_CON_SOCKET && !lstat(c->path, &st) && S_ISSOCK(st.st_mode))
        unlink(c->path);
}

int cell_open(const struct guest_cfg *g, bool monitored, struct cell_fds *fds, struct err *err)
{
    int r = open_all(g, monitored, fds, err);

    if (!r)
        return 0;
    err_prefix(err, "guest %s", g->name);
    if (fds->console.kind == CHARIO_LISTEN)
        unlink_console(&g->console);
    if (fds->vconsole.kind == CHARIO_LISTEN)
        unlink_console(&g->vconsole);
    cell_fds_close(fds);
    return r;
}

void cell_unlink(const struct guest_cfg *g)
{
    unlink_console(&g->console);
    unlink_console(&g->vconsole);
}
