/* SPDX-License-Identifier: MIT */
/*
 * mover: asks a monitor to move a guest's vCPUs between its views at random, and to pause and resume the guest.
 *
 * Use: mover SOCKET GUEST VCPUS VIEWS SECONDS PAUSES [SEED].  Runs on the host, until the time is over or the monitor
 * refuses (which it does when the guest has ended).
 * Prints "MOVER moves N pauses N refused N"; the status is 0 when nothing was refused.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int fd; /* connection to the monitor */

/* Sends one request; 1 when the answer is good, 0 when it is not (shown). */
static int ask(const char *req)
{
    static char line[1 << 16];
    size_t len = 0;

    if (write(fd, req, strlen(req)) < 0)
        return 0;
    do {
        ssize_t n = read(fd, line + len, sizeof(line) - 1 - len);

        if (n <= 0)
            return 0;
        len += (size_t)n;
    } while (line[len - 1] != '\n' && len < sizeof(line) - 1);
    line[len] = 0;
    if (strstr(line, "\"ok\":true") && !strstr(line, "\"error\""))
        return 1;
    fprintf(stderr, "mover: %s -> %s", req, line);
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    unsigned vcpus, views, seconds, pauses, moved = 0, paused = 0, refused = 0;
    time_t begin = time(NULL);
    char req[256];

    if (argc < 7)
        return 2;
    strncpy(sa.sun_path, argv[1], sizeof(sa.sun_path) - 1);
    vcpus = (unsigned)atoi(argv[3]);
    views = (unsigned)atoi(argv[4]);
    seconds = (unsigned)atoi(argv[5]);
    pauses = (unsigned)atoi(argv[6]);
    srand(argc > 7 ? (unsigned)atoi(argv[7]) : 1);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
        perror(argv[1]);
        return 1;
    }
    while (time(NULL) - begin < (time_t)seconds && refused < 3) {
        snprintf(req, sizeof(req),
                 "{\"cmd\":\"move\",\"guest\":\"%s\",\"vcpu\":%u,\"view\":%u}\n", argv[2],
                 (unsigned)rand() % vcpus, (unsigned)rand() % views);
        if (ask(req))
            moved++;
        else
            refused++;
        usleep((useconds_t)(rand() % 40000));
        /* The pauses are spread over the time. */
        if (paused < pauses && (time(NULL) - begin) * (time_t)pauses >=
                                   (time_t)((paused + 1) * seconds) * 9 / 10) {
            snprintf(req, sizeof(req), "{\"cmd\":\"pause\",\"guest\":\"%s\"}\n", argv[2]);
            refused += !ask(req);
            usleep((useconds_t)(rand() % 300000));
            snprintf(req, sizeof(req), "{\"cmd\":\"resume\",\"guest\":\"%s\"}\n", argv[2]);
            refused += !ask(req);
            paused++;
        }
    }
    printf("MOVER moves %u pauses %u refused %u\n", moved, paused, refused);
    return refused != 0;
}
