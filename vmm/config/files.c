/* SPDX-License-Identifier: MIT */
/*
 * What a configuration needs of the host it is read on: files that exist, a place for the control
 * socket; and hardware addresses that nobody configured.  Interface in config.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/config/config.h"
#include "vmm/config/valid.h"

/* One disk as the kernel sees it. */
struct seen {
    dev_t dev;                   /* file system and number of the file, */
    ino_t ino;                   /* or number of the block device and 0 */
    bool readonly;               /* as configured */
    const struct guest_cfg *g;   /* who has it */
    const struct disk_cfg *disk; /* which one */
};

/* Kinds of file that will do. */
enum want { WANT_FILE, WANT_DISK };

/* Fails for a file of a guest: "site.cfg:7: guest web: kernel: /path: why". */
static int bad_file(const struct guest_cfg *g, const char *key, const char *path, int error,
                    const char *why, struct err *err)
{
    enum exit_status status = EXIT_RESOURCE;

    if (error == EACCES || error == EPERM)
        status = EXIT_PERMISSION;
    else if (!strcmp(key, "kernel") || !strcmp(key, "initrd"))
        status = EXIT_KERNEL;
    return fail(err, status, error, "%s:%d: guest %s: %s: %.512s: %s",
                g->file ? g->file : "guest", g->line, g->name, key, path, why);
}

/* What a file is that is not of the right kind. */
static const char *kind_of(mode_t mode)
{
    if (S_ISREG(mode))
        return "a regular file";
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISBLK(mode))
        return "a block device";
    if (S_ISCHR(mode))
        return "a character device";
    return S_ISFIFO(mode) ? "a FIFO" : "a socket";
}

/* Fails for a file that is of another kind than it should be. */
static int bad_kind(const struct guest_cfg *g, const char *key, const char *path,
                    const char *want, mode_t mode, struct err *err)
{
    char why[96];

    snprintf(why, sizeof(why), "is %s, want %s", kind_of(mode), want);
    return bad_file(g, key, path, EINVAL, why, err);
}

/* Checks that a file exists, is of the right kind and may be opened as it will be. */
static int check_file(const struct guest_cfg *g, const char *key, const char *path,
                      enum want want, bool writes, struct stat *st, struct err *err)
{
    if (stat(path, st) < 0)
        return bad_file(g, key, path, errno, strerror(errno), err);
    if (want == WANT_DISK && !S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
        return bad_kind(g, key, path, "a regular file or a block device", st->st_mode, err);
    if (want == WANT_FILE && !S_ISREG(st->st_mode))
        return bad_kind(g, key, path, "a regular file", st->st_mode, err);
    if (access(path, writes ? R_OK | W_OK : R_OK) < 0)
        return bad_file(g, key, path, errno,
                        writes
                            ? "may not be read and written (readonly = true needs reading only)"
                            : "may not be read",
                        err);
    return 0;
}

/* Checks the files of one guest; its disks go to seen, *n of them so far. */
static int check_guest_files(const struct guest_cfg *g, struct seen *seen, size_t *n,
                             struct err *err)
{
    struct stat st;
    int ret = check_file(g, "kernel", g->kernel, WANT_FILE, false, &st, err);

    if (!ret && g->initrd)
        ret = check_file(g, "initrd", g->initrd, WANT_FILE, false, &st, err);
    for (unsigned i = 0; i < g->ndisks && !ret; i++) {
        const struct disk_cfg *d = &g->disks[i];

        ret = check_file(g, "disk", d->path, WANT_DISK, !d->readonly, &st, err);
        if (ret)
            break;
        seen[(*n)++] = (struct seen){.dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev,
                                     .ino = S_ISBLK(st.st_mode) ? 0 : st.st_ino,
                                     .readonly = d->readonly,
                                     .g = g,
                                     .disk = d};
    }
    return ret;
}

/* Sorts disks: identity, writable ones first. */
static int compare(const void *x, const void *y)
{
    const struct seen *a = x, *b = y;

    if (a->dev != b->dev)
        return a->dev < b->dev ? -1 : 1;
    if (a->ino != b->ino)
        return a->ino < b->ino ? -1 : 1;
    return a->readonly - b->readonly;
}

/* Finds two names of one disk of which one may be written. */
static int check_shared(struct seen *seen, size_t n, struct err *err)
{
    if (n)
        qsort(seen, n, sizeof(seen[0]), compare);
    for (size_t i = 1; i < n; i++) {
        const struct seen *a = &seen[i - 1], *b = &seen[i];

        if (a->dev == b->dev && a->ino == b->ino && !(a->readonly && b->readonly))
            return fail(err, EXIT_RESOURCE, EBUSY,
                        "%s:%d: guest %s: disk: %.256s is the same file as %.256s of guest %s "
                        "(%s:%d), want a disk for each or readonly = true in all",
                        b->g->file, b->g->line, b->g->name, b->disk->path, a->disk->path,
                        a->g->name, a->g->file, a->g->line);
    }
    return 0;
}

int config_check_files(const struct site_cfg *site, struct err *err)
{
    struct seen *seen;
    size_t total = 0, n = 0;
    int ret = 0;

    for (unsigned i = 0; i < site->nguests; i++)
        total += site->guests[i].ndisks;
    seen = xcalloc(total, sizeof(seen[0]));
    for (unsigned i = 0; i < site->nguests && !ret; i++)
        ret = check_guest_files(&site->guests[i], seen, &n, err);
    if (!ret)
        ret = check_shared(seen, n, err);
    free(seen);
    return ret;
}

char *config_default_socket(const char *name)
{
    const char *dir = getenv("XDG_RUNTIME_DIR");

    if (geteuid() == 0)
        return xasprintf("/run/disco/%s.sock", name);
    if (dir && dir[0] == '/')
        return xasprintf("%s/disco/%s.sock", dir, name);
    return xasprintf("/tmp/disco-%u/%s.sock", (unsigned)geteuid(), name);
}

/* FNV-1a over a string and its terminator. */
static uint64_t hash(uint64_t h, const char *s)
{
    do {
        h = (h ^ (unsigned char)*s) * 0x100000001b3ull;
    } while (*s++);
    return h;
}

void config_mac(const struct guest_cfg *guest, unsigned index, uint8_t out[6])
{
    uint64_t h = 0xcbf29ce484222325ull;
    char number[16];

    INVARIANT(index < guest->nnets, "a card asked for its address exists");
    if (guest->nets[index].mac && !valid_parse_mac(guest->nets[index].mac, out))
        return;
    snprintf(number, sizeof(number), "%u", index);
    h = hash(hash(hash(h, guest->site ? guest->site : ""), guest->name), number);
    h ^= h >> 29; /* FNV leaves the top bits of short strings alike: stir once more */
    h *= 0xbf58476d1ce4e5b9ull;
    h ^= h >> 32;
    out[0] = 0x52; /* locally administered, one station */
    for (unsigned i = 1; i < 6; i++)
        out[i] = (uint8_t)(h >> (8 * (i - 1)));
}
