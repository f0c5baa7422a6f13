/* SPDX-License-Identifier: MIT */
/*
 * xfer: sends a stream of pseudo-random bytes over TCP and verifies each of them on the other side.
 *
 * Use: xfer send ADDRESS PORT MIB SEED | xfer recv PORT MIB SEED.  The sender tries to connect for two minutes.
 * Prints "XFER send|recv bytes N hash H seconds S ok" (H over all words, so both sides must agree), or
 * "XFER BAD what at N"; the status is 0 only when all bytes came and were right.
 * Invariant: nobody waits for more than a minute for the next bytes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, WORDS = CHUNK / 8, TRIES = 120 };

static uint64_t chunk[WORDS], got[WORDS]; /* what shall come; what came */

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The next chunk of the stream (xorshift64), and its part of the hash. */
static uint64_t fill(uint64_t *state, uint64_t hash)
{
    uint64_t x = *state;

    for (int i = 0; i < WORDS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        chunk[i] = x;
        hash = (hash ^ x) * 0x100000001b3u;
    }
    *state = x;
    return hash;
}

static int bad(const char *what, uint64_t at)
{
    printf("XFER BAD %s at %lu: %s\n", what, at, strerror(errno));
    return 1;
}

static void limit(int fd)
{
    struct timeval tv = {.tv_sec = 60};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

/* A connection to the receiver; -1 after all tries. */
static int reach(const char *addr, int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    inet_pton(AF_INET, addr, &sa.sin_addr);
    for (int i = 0; i < TRIES; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        limit(fd);
        if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
            return fd;
        close(fd);
        sleep(1);
    }
    return -1;
}

/* The first who connects. */
static int await(int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1, c;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, 1))
        return -1;
    c = accept(fd, NULL, NULL);
    limit(c);
    return c;
}

/* Moves one chunk; the bytes that went. */
static size_t move(int fd, int sending)
{
    char *p = sending ? (char *)chunk : (char *)got;
    size_t done = 0;

    while (done < CHUNK) {
        ssize_t n =
            sending ? write(fd, p + done, CHUNK - done) : read(fd, p + done, CHUNK - done);

        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

int main(int argc, char **argv)
{
    int sending = argc > 1 && !strcmp(argv[1], "send"), first = sending ? 3 : 2, fd;
    uint64_t mib, state, hash = 0xcbf29ce484222325u;
    char byte = 1;
    double t0;

    if (argc != (sending ? 6 : 5))
        return 2;
    mib = strtoull(argv[first + 1], NULL, 10);
    state = strtoull(argv[first + 2], NULL, 10) | 1;
    fd = sending ? reach(argv[2], atoi(argv[3])) : await(atoi(argv[2]));
    if (fd < 0)
        return bad("no connection", 0);
    t0 = now();
    for (uint64_t i = 0; i < mib; i++) {
        size_t n;

        hash = fill(&state, hash);
        n = move(fd, sending);
        if (n != CHUNK)
            return bad("ended", i * CHUNK + n);
        if (!sending && memcmp(chunk, got, CHUNK))
            return bad("wrong bytes", i * CHUNK);
        if (i % 128 == 127) {
            printf("XFER-AT %lu MiB %.1f s\n", i + 1, now() - t0);
            fflush(stdout);
        }
    }
    /* The sender stays until the receiver has seen all. */
    if (sending ? read(fd, &byte, 1) != 1 : write(fd, &byte, 1) != 1)
        return bad("no farewell", mib * CHUNK);
    printf("XFER %s bytes %lu hash %016lx seconds %.1f ok\n", argv[1], mib * CHUNK, hash,
           now() - t0);
    return 0;
}
