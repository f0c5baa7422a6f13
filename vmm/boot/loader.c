/* SPDX-License-Identifier: MIT */
/*
 * Reads kernel files in bounds and places what they hold in guest memory.
 * Interface: vmm/boot/loader.h, the parts image_*() and loader_*().
 *
 * Invariant B1 of the header is kept here: nobody else claims guest memory for file contents.
 * Threads: one, before any vCPU runs.
 */
#include "vmm/boot/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/boot/boot.h"
#include "vmm/machine/mem.h"

#define MIB ((uint64_t)0x100000)

/* x rounded up to a multiple of the power of two to; callers keep x far from the end. */
static uint64_t round_up(uint64_t x, uint64_t to)
{
    return (x + to - 1) & ~(to - 1);
}

/* pread that goes on after short reads and signals; returns bytes read, less at the end of file,
 * or -errno. */
static int64_t read_fully(int fd, void *to, uint64_t len, uint64_t off)
{
    uint64_t done = 0;

    while (done < len) {
        ssize_t n = pread(fd, (uint8_t *)to + done, len - done, (off_t)(off + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (uint64_t)n;
    }
    return (int64_t)done;
}

int image_open(struct image *img, int fd, const char *name, const char *what, struct err *err)
{
    struct stat st;
    int64_t n;

    memset(img, 0, sizeof(*img));
    img->fd = fd;
    img->name = name;
    if (fstat(fd, &st) < 0)
        return fail_errno(err, EXIT_KERNEL, errno, "%s: fstat", name);
    if (S_ISDIR(st.st_mode))
        return fail(err, EXIT_KERNEL, EISDIR, "%s: is a directory; name the %s file in it",
                    name, what);
    if (!S_ISREG(st.st_mode))
        return fail(err, EXIT_KERNEL, EINVAL, "%s: is no regular file; a %s must be one", name,
                    what);
    if (st.st_size <= 0)
        return fail(err, EXIT_KERNEL, ENODATA, "%s: is empty; a %s has at least some bytes",
                    name, what);
    img->size = (uint64_t)st.st_size;
    n = read_fully(fd, img->head, sizeof(img->head), 0);
    if (n < 0)
        return fail_errno(err, EXIT_KERNEL, (int)-n, "%s: read", name);
    img->head_len = (size_t)n;
    return 0;
}

int image_read(const struct image *img, uint64_t off, void *to, uint64_t len, const char *what,
               struct err *err)
{
    int64_t n;

    if (off > img->size || len > img->size - off)
        return fail(err, EXIT_KERNEL, ENODATA,
                    "%s: truncated: %s takes %" PRIu64 " bytes at offset %" PRIu64
                    ", the file ends at %" PRIu64,
                    img->name, what, len, off, img->size);
    n = read_fully(img->fd, to, len, off);
    if (n < 0)
        return fail_errno(err, EXIT_KERNEL, (int)-n, "%s: read of %s", img->name, what);
    if ((uint64_t)n < len)
        return fail(err, EXIT_KERNEL, ENODATA, "%s: became shorter while it was read (%s)",
                    img->name, what);
    return 0;
}

/* Memory a guest needs so that RAM reaches up to gpa end, in MiB, ACPI tables included. */
static uint64_t need_mib(const struct loader *l, uint64_t end)
{
    return round_up(end + (l->mem->low - l->top), 2 * MIB) / MIB;
}

/* Tells that [gpa, gpa+len) is not in usable RAM, and what would help. */
static int place_no_ram(struct loader *l, uint64_t gpa, uint64_t len, const char *what)
{
    if (len > MEM_LOW_MAX || gpa > MEM_LOW_MAX - len)
        return fail(l->err, EXIT_KERNEL, EFBIG,
                    "%s: %s wants 0x%" PRIx64 " bytes at 0x%" PRIx64
                    "; a kernel must lie below 3 GiB",
                    l->kernel.name, what, len, gpa);
    return fail(l->err, EXIT_KERNEL, ENOMEM,
                "%s: does not fit in the guest's memory: %s reaches up to 0x%" PRIx64
                "; give the guest at least %" PRIu64 " MiB (it has %" PRIu64 " MiB)",
                l->kernel.name, what, gpa + len, need_mib(l, gpa + len), l->mem->size / MIB);
}

int loader_place(struct loader *l, uint64_t gpa, uint64_t len, const char *what)
{
    INVARIANT(len > 0, "boot: nothing to place");
    if (len > l->top || gpa > l->top - len)
        return place_no_ram(l, gpa, len, what);
    if (gpa < LAY_LOW_END)
        return fail(l->err, EXIT_KERNEL, EADDRINUSE,
                    "%s: %s at 0x%" PRIx64 " overlaps the boot structures below 0x%x; link the "
                    "kernel at 0x%x or above",
                    l->kernel.name, what, gpa, LAY_LOW_END, LAY_HIGH);
    if (gpa < LAY_HIGH && gpa + len > LAY_EBDA)
        return fail(l->err, EXIT_KERNEL, EADDRINUSE,
                    "%s: %s at 0x%" PRIx64 "-0x%" PRIx64 " overlaps the firmware area "
                    "0x%x-0x%x; link the kernel at 0x%x or above",
                    l->kernel.name, what, gpa, gpa + len - 1, LAY_EBDA, LAY_HIGH - 1, LAY_HIGH);
    if (gpa < l->kernel_lo)
        l->kernel_lo = gpa;
    if (gpa + len > l->kernel_hi)
        l->kernel_hi = gpa + len;
    return 0;
}

int loader_copy(struct loader *l, uint64_t off, uint64_t filesz, uint64_t gpa, uint64_t memsz,
                const char *what)
{
    uint8_t *to;
    int ret = loader_place(l, gpa, memsz, what);

    if (ret < 0)
        return ret;
    INVARIANT(filesz <= memsz, "boot: file part larger than its place");
    to = mem_at(l->mem, gpa, memsz, MEM_WRITE);
    INVARIANT(to != NULL, "B1: a placed range is RAM");
    if (filesz)
        ret = image_read(&l->kernel, off, to, filesz, what, l->err);
    if (ret == 0)
        memset(to + filesz, 0, memsz - filesz);
    return ret;
}

/* Looks for room for len bytes, page aligned, below end: above the kernel, else below it but
 * above 1 MiB.  Returns 0 when there is none. */
static uint64_t initrd_room(const struct loader *l, uint64_t len, uint64_t end)
{
    uint64_t at;

    if (end >= len) {
        at = (end - len) & ~(uint64_t)(MEM_PAGE - 1);
        if (at >= l->kernel_hi && at >= LAY_HIGH)
            return at;
    }
    if (end > l->kernel_lo)
        end = l->kernel_lo;
    if (end < len)
        return 0;
    at = (end - len) & ~(uint64_t)(MEM_PAGE - 1);
    return at >= LAY_HIGH ? at : 0;
}

/* Tells that the initrd has no room, and how much memory it would take. */
static int initrd_no_room(struct loader *l, const struct image *img, uint64_t addr_max)
{
    uint64_t from = l->kernel_hi > LAY_HIGH ? round_up(l->kernel_hi, MEM_PAGE) : LAY_HIGH;
    uint64_t limit = addr_max < MEM_LOW_MAX ? addr_max + 1 : MEM_LOW_MAX;

    if (img->size > limit || from > limit - img->size)
        return fail(l->err, EXIT_KERNEL, EFBIG,
                    "%s: initrd of %" PRIu64 " MiB is too large for the kernel %s, which takes "
                    "it between 0x%" PRIx64 " and 0x%" PRIx64 " only",
                    img->name, round_up(img->size, MIB) / MIB, l->kernel.name, from, limit - 1);
    return fail(l->err, EXIT_KERNEL, ENOMEM,
                "%s: initrd of %" PRIu64 " MiB does not fit beside the kernel in %" PRIu64
                " MiB of memory; give the guest at least %" PRIu64 " MiB",
                img->name, round_up(img->size, MIB) / MIB, l->mem->size / MIB,
                need_mib(l, round_up(from + img->size, MEM_PAGE)));
}

int loader_initrd(struct loader *l, uint64_t addr_max)
{
    struct image img;
    uint64_t at, end = l->top;
    void *to;
    int ret;

    if (l->spec->initrd_fd < 0)
        return 0;
    ret = image_open(&img, l->spec->initrd_fd, l->spec->initrd_name, "initrd", l->err);
    if (ret < 0)
        return ret;
    if (addr_max < end)
        end = addr_max + 1;
    at = initrd_room(l, img.size, end);
    if (at == 0)
        return initrd_no_room(l, &img, addr_max);
    to = mem_at(l->mem, at, img.size, MEM_WRITE);
    INVARIANT(to != NULL, "B1: the initrd's place is RAM");
    l->initrd = at;
    l->initrd_len = img.size;
    return image_read(&img, 0, to, img.size, "the initrd", l->err);
}

int loader_cmdline(struct loader *l, const char *prefix, uint64_t max)
{
    size_t npre = strlen(prefix), n = strlen(l->spec->cmdline);
    char *to;

    if (max > LAY_CMDLINE_LEN - 1)
        max = LAY_CMDLINE_LEN - 1;
    if (npre + n > max)
        return fail(l->err, EXIT_KERNEL, E2BIG,
                    "%s: command line too long: %zu bytes, this kernel takes at most %" PRIu64,
                    l->kernel.name, npre + n, max);
    to = loader_fixed(l, LAY_CMDLINE, npre + n + 1);
    memcpy(to, prefix, npre);
    memcpy(to + npre, l->spec->cmdline, n + 1);
    return 0;
}

void *loader_fixed(const struct loader *l, uint64_t gpa, uint64_t len)
{
    void *at = mem_at(l->mem, gpa, len, MEM_WRITE);

    INVARIANT(at != NULL && gpa + len <= LAY_LOW_END, "boot: fixed places lie in low RAM");
    memset(at, 0, len);
    return at;
}

/* Adds one range unless it is empty. */
static void map_add(struct memmap *map, uint64_t gpa, uint64_t len, uint32_t type)
{
    if (len == 0)
        return;
    INVARIANT(map->n < sizeof(map->e) / sizeof(map->e[0]), "boot: memory map is full");
    map->e[map->n].gpa = gpa;
    map->e[map->n].len = len;
    map->e[map->n].type = type;
    map->n++;
}

void loader_memmap(const struct loader *l, struct memmap *map)
{
    map->n = 0;
    map_add(map, 0, LAY_EBDA, MAP_RAM);
    map_add(map, LAY_EBDA, LAY_VGA - LAY_EBDA, MAP_RESERVED);
    map_add(map, LAY_FIRMWARE, LAY_HIGH - LAY_FIRMWARE, MAP_RESERVED);
    map_add(map, LAY_HIGH, l->top - LAY_HIGH, MAP_RAM);
    map_add(map, l->top, l->mem->low - l->top, MAP_RESERVED);
    map_add(map, MMIO_ECAM, MMIO_ECAM_SZ, MAP_RESERVED);
    map_add(map, MEM_HIGH, l->mem->high, MAP_RAM);
}

const char *loader_basename(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}
