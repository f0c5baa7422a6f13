/* SPDX-License-Identifier: MIT */
/*
 * guestload: a load with a known answer, run in a guest of the lab's host; static, no libraries but
 * the C library.
 *
 * Use:  guestload stream MB PASSES   writes each page of so much memory; then again and again says
 *                                    GUESTLOAD READY, waits for a line, turns the model on, reads
 *                                    each line of the memory PASSES times, says GUESTLOAD DONE LINES
 *       guestload pages N TIMES      N pages; page i is read i * TIMES times, TIMES a multiple of 64;
 *                                    before that says GUESTLOAD PAGE GFN READS for each
 * Whoever started the guest says which tag it has, turns the model off and ends the guest.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/memsys/roi.h"

enum { PAGE = 4096, LINE = 64 };

/* Says that it is ready and waits for a line. */
static void await_line(void)
{
    char line[64];

    puts("GUESTLOAD READY");
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        exit(1);
}

/* Memory with all its pages there. */
static char *memory(size_t bytes)
{
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        perror("guestload: mmap");
        exit(1);
    }
    for (size_t at = 0; at < bytes; at += PAGE)
        p[at] = 1;
    return p;
}

static void stream(size_t mb, unsigned long passes)
{
    size_t bytes = mb << 20;
    char *p = memory(bytes);

    for (;;) {
        await_line();
        ROI(ROI_ON, 0);
        for (unsigned long i = 0; i < passes; i++)
            for (size_t at = 0; at < bytes; at += LINE)
                (void)*(volatile uint64_t *)(p + at);
        printf("GUESTLOAD DONE %lu\n", (unsigned long)(bytes / LINE * passes));
    }
}

/* The guest's page at an address. */
static uint64_t gfn_of(const void *at)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entry = 0;

    if (fd < 0 || pread(fd, &entry, sizeof(entry),
                        (off_t)((uintptr_t)at / PAGE * sizeof(entry))) != sizeof(entry))
        perror("guestload: pagemap");
    close(fd);
    return entry & ((UINT64_C(1) << 55) - 1);
}

static void pages(unsigned n, unsigned times)
{
    char *p = memory((size_t)n * PAGE);

    for (unsigned i = 0; i < n; i++)
        printf("GUESTLOAD PAGE %" PRIu64 " %u\n", gfn_of(p + (size_t)i * PAGE), i * times);
    await_line();
    ROI(ROI_ON, 0);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < i * times; k++)
            (void)*(volatile uint64_t *)(p + (size_t)i * PAGE + k * LINE % PAGE);
    ROI(ROI_FLUSH, 0);
    puts("GUESTLOAD DONE 0");
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "stream")) {
        stream(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
    } else if (argc == 4 && !strcmp(argv[1], "pages")) {
        pages((unsigned)strtoul(argv[2], NULL, 10), (unsigned)strtoul(argv[3], NULL, 10));
    } else {
        fprintf(stderr, "usage: guestload stream MB PASSES | pages N TIMES\n");
        return 2;
    }
    fflush(stdout);
    sleep(100000);
    return 0;
}
