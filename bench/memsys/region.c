/* SPDX-License-Identifier: MIT */
/*
 * The model's side of the shared region: the file must exist and have room for all counters.
 */
#include "bench/memsys/region.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void *region_map(const char *path, unsigned ncpus, unsigned nnodes, uint64_t node_bytes,
                 char *buf, unsigned size)
{
    uint64_t need = memsys_region_bytes(ncpus, nnodes, node_bytes);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *at = MAP_FAILED;
    struct stat st;

    if (fd < 0 || fstat(fd, &st)) {
        snprintf(buf, size, "region=%s: %s", path, strerror(errno));
    } else if ((uint64_t)st.st_size < need) {
        snprintf(buf, size,
                 "region=%s has %" PRIu64 " KiB; the counters of %" PRIu64
                 " pages by %u nodes need %" PRIu64 " KiB",
                 path, (uint64_t)st.st_size >> 10, node_bytes / MEMSYS_PAGE * nnodes, nnodes,
                 (need + 1023) >> 10);
    } else {
        at = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED)
            snprintf(buf, size, "region=%s: mmap: %s", path, strerror(errno));
    }
    if (fd >= 0)
        close(fd);
    return at == MAP_FAILED ? NULL : at;
}
