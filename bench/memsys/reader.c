/* SPDX-License-Identifier: MIT */
/*
 * Reading what the model shares.  The emulated machine (q35) has its memory from 0 up to the hole
 * below 4 GiB, and what is left from 4 GiB up; the nodes' memories follow one another in it.
 */
#include "bench/memsys/reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/memsys/region.h"
#include "bench/memsys/trace.h"

#define PCI          "/sys/bus/pci/devices"
#define FOUR_GIB     (UINT64_C(1) << 32)
#define PRESENT      (UINT64_C(1) << 63)       /* in /proc/PID/pagemap */
#define FRAME        ((UINT64_C(1) << 55) - 1) /* the same */
#define GUEST_MEMORY "memfd:guest-memory"      /* the store of a guest of disco */

/* The hexadecimal number in a file of a device; 0: none. */
static unsigned long id_of(const char *device, const char *file)
{
    char path[300], text[32] = "";
    FILE *f;

    snprintf(path, sizeof(path), PCI "/%s/%s", device, file);
    f = fopen(path, "re");
    if (f) {
        if (!fgets(text, sizeof(text), f))
            *text = 0;
        fclose(f);
    }
    return strtoul(text, NULL, 16);
}

/* Lets the device answer to memory accesses, and gives the path of its memory. */
static bool device_memory(char *path, size_t size)
{
    DIR *d = opendir(PCI);
    struct dirent *e;
    bool found = false;
    int fd;

    while (d && !found && (e = readdir(d))) {
        found = id_of(e->d_name, "vendor") == 0x1af4 && id_of(e->d_name, "device") == 0x1110;
        if (!found)
            continue;
        snprintf(path, size, PCI "/%s/enable", e->d_name);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0) {
            found = write(fd, "1", 1) == 1;
            close(fd);
        }
        snprintf(path, size, PCI "/%s/resource2", e->d_name);
    }
    if (d)
        closedir(d);
    return found;
}

struct memsys_header *reader_open(const char *path)
{
    char device[512];
    struct memsys_header *h;
    struct stat st;
    int fd;

    if (!path && !device_memory(device, sizeof(device))) {
        fprintf(stderr, "memsys: this machine has no shared memory device: start the lab with "
                        "--memsys, and be root\n");
        return NULL;
    }
    path = path ? path : device;
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st)) {
        fprintf(stderr, "memsys: %s: %s\n", path, strerror(errno));
        return NULL;
    }
    h = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (h == MAP_FAILED || (size_t)st.st_size < sizeof(*h)) {
        fprintf(stderr, "memsys: %s: cannot be mapped\n", path);
        return NULL;
    }
    if (h->magic != MEMSYS_MAGIC || h->version != MEMSYS_VERSION ||
        h->bytes > (uint64_t)st.st_size) {
        fprintf(stderr, "memsys: %s: no counters of version %d there: is the model loaded?\n",
                path, MEMSYS_VERSION);
        munmap(h, (size_t)st.st_size);
        return NULL;
    }
    return h;
}

uint64_t reader_low_memory(void)
{
    FILE *f = fopen("/proc/iomem", "re");
    uint64_t low = 0, start, end;
    char line[256];

    while (f && fgets(line, sizeof(line), f))
        if (*line != ' ' && strstr(line, "System RAM") &&
            sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 && end < FOUR_GIB)
            low = end + 1;
    if (f)
        fclose(f);
    if (low < MEMSYS_PAGE) {
        fprintf(stderr, "memsys: /proc/iomem tells no memory: root is needed\n");
        return 0;
    }
    /* Firmware keeps some at the end for its tables; the hole begins at a multiple of 256 MiB. */
    return (low + (1 << 28) - 1) >> 28 << 28;
}

uint64_t reader_page(uint64_t physical, uint64_t low)
{
    return (physical < FOUR_GIB ? physical : physical - FOUR_GIB + low) / MEMSYS_PAGE;
}

/* One mapping of a guest's store: what of it is in memory. */
static void map_range(const struct memsys_header *h, int pagemap, uint64_t start, uint64_t end,
                      uint64_t offset, uint8_t *seen, uint64_t low)
{
    for (uint64_t at = start; at < end; at += MEMSYS_PAGE) {
        uint64_t entry, gfn = (offset + at - start) / MEMSYS_PAGE, page;

        if (pread(pagemap, &entry, sizeof(entry), (off_t)(at / MEMSYS_PAGE * sizeof(entry))) !=
                sizeof(entry) ||
            !(entry & PRESENT) || gfn >= UINT32_MAX / 8)
            continue;
        page = reader_page((entry & FRAME) * MEMSYS_PAGE, low);
        if (page >= h->pages || seen[gfn / 8] >> gfn % 8 & 1)
            continue;
        seen[gfn / 8] |= (uint8_t)(1 << gfn % 8);
        printf("%" PRIu64 " %" PRIu64 "\n", gfn, page);
    }
}

int reader_map(const struct memsys_header *h, int pid, unsigned tag)
{
    uint64_t low = reader_low_memory(), start, end, offset;
    uint8_t *seen = low ? calloc(UINT32_MAX / 64 + 1, 1) : NULL;
    char path[64], line[512];
    int pagemap, found = 0;
    FILE *f;

    if (!seen)
        return 1;
    snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
    pagemap = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    f = fopen(path, "re");
    printf("tag %u\n", tag);
    while (f && pagemap >= 0 && fgets(line, sizeof(line), f)) {
        if (!strstr(line, GUEST_MEMORY) ||
            sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &start, &end, &offset) != 3)
            continue;
        map_range(h, pagemap, start, end, offset, seen, low);
        found++;
    }
    if (f)
        fclose(f);
    if (pagemap >= 0)
        close(pagemap);
    free(seen);
    if (!found)
        fprintf(stderr, "memsys: process %d has no memory of a guest\n", pid);
    return !found;
}

/* Guest page of each machine page, plus one; from a map file. NULL after a message. */
static uint32_t *read_map(const char *path, uint64_t pages, unsigned *tag)
{
    FILE *f = fopen(path, "re");
    uint32_t *gfn_of = f ? calloc(pages, sizeof(*gfn_of)) : NULL;
    uint64_t gfn, page;

    if (!gfn_of || fscanf(f, "tag %u\n", tag) != 1) {
        fprintf(stderr, "memsys: %s: no map of a guest\n", path);
        free(gfn_of);
        gfn_of = NULL;
    }
    while (gfn_of && fscanf(f, "%" SCNu64 " %" SCNu64, &gfn, &page) == 2)
        if (page < pages)
            gfn_of[page] = (uint32_t)gfn + 1;
    if (f)
        fclose(f);
    return gfn_of;
}

int reader_trace(const char *path, const char *map)
{
    FILE *f = fopen(path, "re");
    struct trace_header h;
    struct trace_record r;
    uint32_t *gfn_of = NULL;
    unsigned tag = 0;
    uint64_t pages;

    if (!f || fread(&h, sizeof(h), 1, f) != 1 || h.magic != TRACE_MAGIC ||
        h.version != TRACE_VERSION) {
        fprintf(stderr, "memsys: %s: %s\n", path, f ? "no trace" : strerror(errno));
        if (f)
            fclose(f);
        return 1;
    }
    pages = h.node_bytes / MEMSYS_PAGE * h.nnodes;
    if (map && !(gfn_of = read_map(map, pages, &tag))) {
        fclose(f);
        return 1;
    }
    printf("# %s, %u CPUs, %u nodes of %" PRIu64 " MiB, interval %" PRIu64 ", 1 of %u sets\n"
           "# time cpu node guest page rw accesses misses\n",
           h.machine, h.ncpus, h.nnodes, h.node_bytes >> 20, h.interval, h.sample);
    while (fread(&r, sizeof(r), 1, f) == 1) {
        uint32_t page = r.page;

        if (gfn_of) {
            if (r.guest != tag || page >= pages || !gfn_of[page])
                continue;
            page = gfn_of[page] - 1;
        }
        printf("%" PRIu64 " %u %u %u %" PRIu32 " %c %" PRIu32 " %" PRIu32 "\n", r.time, r.cpu,
               h.node_of_cpu[r.cpu % 32], r.guest, page, r.write ? 'w' : 'r', r.accesses,
               r.misses);
    }
    free(gfn_of);
    fclose(f);
    return 0;
}
