/* SPDX-License-Identifier: MIT */
/*
 * pagenodes: on which nodes the memory of a guest lies.
 *
 * Use: pagenodes PID BYTES (of the guest's memory), on the host, as root.  Asks for every page of every mapping of the
 * cell's store; what one mapping has not touched another may have.
 * Prints "HALF 0|1 node N pages N" for each half of the memory and each node with pages there.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, BATCH = 1024, NODES = 64 };

int main(int argc, char **argv)
{
    static long count[2][NODES];
    uint64_t bytes;
    char line[512], path[64];
    uint8_t *known;
    FILE *f;
    int pid;

    if (argc != 3)
        return 2;
    pid = atoi(argv[1]);
    bytes = strtoull(argv[2], NULL, 10);
    known = calloc(bytes / PAGE, 1);
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f)) {
        unsigned long start, end, off;

        if (!strstr(line, "guest-memory") ||
            sscanf(line, "%lx-%lx %*s %lx", &start, &end, &off) != 3)
            continue;
        for (uint64_t at = start; at < end; at += (uint64_t)BATCH * PAGE) {
            void *page[BATCH];
            int status[BATCH], n = 0;

            while (n < BATCH && at + (uint64_t)n * PAGE < end) {
                page[n] = (void *)(uintptr_t)(at + (uint64_t)n * PAGE);
                n++;
            }
            if (syscall(SYS_move_pages, pid, (long)n, page, NULL, status, 0)) {
                perror("move_pages");
                return 1;
            }
            for (int i = 0; i < n; i++) {
                uint64_t gpa = at - start + off + (uint64_t)i * PAGE;

                if (status[i] < 0 || status[i] >= NODES || gpa >= bytes || known[gpa / PAGE])
                    continue;
                known[gpa / PAGE] = 1;
                count[gpa >= bytes / 2][status[i]]++;
            }
        }
    }
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < NODES; i++)
            if (count[h][i])
                printf("HALF %d node %d pages %ld\n", h, i, count[h][i]);
    return 0;
}
