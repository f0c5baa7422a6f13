/* SPDX-License-Identifier: MIT */
/*
 * Reading what the model shares: see the header.
 */
#include "bench/memsys/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/memsys/trace.h"
#include "numa/flash.h"

#define PRESENT      (UINT64_C(1) << 63)       /* in /proc/PID/pagemap */
#define FRAME        ((UINT64_C(1) << 55) - 1) /* the same */
#define GUEST_MEMORY "memfd:guest-memory"      /* the store of a guest of disco */

struct memsys_header *reader_open(const char *path)
{
    char why[300];
    struct memsys_header *h = flash_open(path, why, sizeof(why));

    if (!h)
        fprintf(stderr, "memsys: %s\n", why);
    return h;
}

uint64_t reader_low_memory(void)
{
    uint64_t low = flash_low_memory();

    if (!low)
        fprintf(stderr, "memsys: /proc/iomem tells no memory: root is needed\n");
    return low;
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
        page = flash_page((entry & FRAME) * MEMSYS_PAGE, low);
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
