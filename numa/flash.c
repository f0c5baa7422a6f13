/* SPDX-License-Identifier: MIT */
/*
 * Finds the counters that the machine keeps (the header says which) and maps them.  The emulated
 * machine (q35) has its memory from 0 up to the hole below 4 GiB, and what is left from 4 GiB up;
 * the nodes' memories follow one another in it, and the counters' pages do.
 */
#include "numa/flash.h"

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

#define PCI      "/sys/bus/pci/devices"
#define FOUR_GIB (UINT64_C(1) << 32)

enum { VENDOR = 0x1af4, DEVICE = 0x1110, HOLE_SHIFT = 28 };

/* ---- the device ---- */

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

/* Lets a device answer to memory accesses. */
static bool enable(const char *device)
{
    char path[300];
    bool done = false;
    int fd;

    snprintf(path, sizeof(path), PCI "/%s/enable", device);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        done = write(fd, "1", 1) == 1;
        close(fd);
    }
    return done;
}

/* The path of the device's memory, or why there is none. */
static bool device_memory(char *path, size_t size, char *why, unsigned len)
{
    DIR *d = opendir(PCI);
    struct dirent *e;
    bool found = false;

    snprintf(why, len,
             "this machine keeps no counters of pages (no device %04x:%04x with them)", VENDOR,
             DEVICE);
    while (d && !found && (e = readdir(d))) {
        if (id_of(e->d_name, "vendor") != VENDOR || id_of(e->d_name, "device") != DEVICE)
            continue;
        found = enable(e->d_name);
        if (!found)
            snprintf(why, len, "the device with the machine's counters, %s, needs root",
                     e->d_name);
        snprintf(path, size, PCI "/%s/resource2", e->d_name);
    }
    if (d)
        closedir(d);
    return found;
}

/* ---- the region ---- */

/* True if all that a header tells lies in so many bytes. */
static bool sound(const struct memsys_header *h, uint64_t bytes)
{
    return h->magic == MEMSYS_MAGIC && h->version == MEMSYS_VERSION && h->bytes <= bytes &&
           h->ncpus >= 1 && h->ncpus <= MEMSYS_CPUS && h->nnodes >= 1 &&
           h->nnodes <= MEMSYS_NODES && h->node_bytes >= MEMSYS_PAGE &&
           h->pages <= h->bytes / sizeof(struct memsys_page) / h->nnodes &&
           h->pages_at <= h->bytes - h->pages * h->nnodes * sizeof(struct memsys_page);
}

/* Maps so many bytes of a file, or says why not. */
static struct memsys_header *map(const char *path, int fd, uint64_t bytes, char *why,
                                 unsigned len)
{
    void *at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);

    if (at != MAP_FAILED)
        return at;
    snprintf(why, len, "%s: mmap: %s", path, strerror(errno));
    return NULL;
}

/* The header first, then as much as it says. */
static struct memsys_header *map_all(const char *path, int fd, uint64_t size, char *why,
                                     unsigned len)
{
    struct memsys_header *h;
    uint64_t bytes = 0;

    if (size < sizeof(*h)) {
        snprintf(why, len, "%s: too short for the machine's counters", path);
        return NULL;
    }
    h = map(path, fd, sizeof(*h), why, len);
    if (!h)
        return NULL;
    if (sound(h, size))
        bytes = h->bytes;
    munmap(h, sizeof(*h));
    if (bytes)
        return map(path, fd, bytes, why, len);
    snprintf(why, len, "%s: no counters of version %d there: is the model loaded?", path,
             MEMSYS_VERSION);
    return NULL;
}

struct memsys_header *flash_open(const char *path, char *why, unsigned len)
{
    char device[512];
    struct memsys_header *h = NULL;
    struct stat st;
    int fd;

    if (!path && !device_memory(device, sizeof(device), why, len))
        return NULL;
    path = path ? path : device;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        snprintf(why, len, "%s: %s", path, strerror(errno));
    else
        h = map_all(path, fd, (uint64_t)st.st_size, why, len);
    if (fd >= 0)
        close(fd);
    return h;
}

void flash_close(struct memsys_header *h)
{
    if (h)
        munmap(h, h->bytes);
}

/* ---- pages ---- */

uint64_t flash_low_memory(void)
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
    if (low < MEMSYS_PAGE)
        return 0;
    /* Firmware keeps some at the end for its tables; the hole begins at a multiple of 256 MiB. */
    return (low + (UINT64_C(1) << HOLE_SHIFT) - 1) >> HOLE_SHIFT << HOLE_SHIFT;
}

uint64_t flash_page(uint64_t physical, uint64_t low)
{
    return (physical < FOUR_GIB ? physical : physical - FOUR_GIB + low) / MEMSYS_PAGE;
}
