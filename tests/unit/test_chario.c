/* SPDX-License-Identifier: MIT */
/*
 * Console streams: nobody reads and nothing blocks; losses are counted; terminals, ptys, files,
 * listeners with clients that come and go; back-pressure; nothing leaks.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/evloop.h"
#include "tests/leaks.h"
#include "vmm/device/chario.h"

/* A consumer of input that takes as much as it is told to. */
struct sink {
    char got[8192]; /* what came */
    size_t n;       /* bytes of it */
    size_t room;    /* how many it takes before it refuses */
    size_t quits;   /* ctrl-a x seen */
};

static struct evloop loop;
static struct sink sink;

static size_t take(void *arg, const uint8_t *p, size_t n)
{
    struct sink *s = arg;

    n = n < s->room ? n : s->room;
    n = n < sizeof(s->got) - s->n ? n : sizeof(s->got) - s->n;
    memcpy(s->got + s->n, p, n);
    s->n += n;
    s->room -= n;
    return n;
}

static void quit(void *arg)
{
    ((struct sink *)arg)->quits++;
}

static unsigned fds_before;

static int setup(void **state)
{
    (void)state;
    fds_before = open_fds();
    sink = (struct sink){.room = SIZE_MAX};
    return evloop_init(&loop, NULL);
}

static int teardown(void **state)
{
    (void)state;
    evloop_exit(&loop);
    assert_int_equal(open_fds(), fds_before);
    return 0;
}

/* Lets the loop do all it can. */
static void spin(void)
{
    for (int i = 0; i < 20; i++)
        evloop_once(&loop, 0);
}

/* Lets the loop run until *what is n; terminals deliver by a kernel worker, a little later. */
static void await_count(const size_t *what, size_t n)
{
    const volatile size_t *v = what;

    for (int i = 0; i < 2000 && *v != n; i++)
        evloop_once(&loop, 1);
    assert_int_equal(*v, n);
}

static void start(struct chario *c)
{
    assert_int_equal(chario_start(c, &loop, take, quit, &sink), 0);
}

static void put(struct chario *c, const char *s)
{
    chario_write(c, (const uint8_t *)s, strlen(s));
}

/* Reads exactly what is there now. */
static size_t drain(int fd, char *to, size_t cap)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    size_t n = 0;

    while (n < cap && poll(&p, 1, 0) > 0) {
        ssize_t got = read(fd, to + n, cap - n);

        if (got <= 0)
            break;
        n += (size_t)got;
    }
    return n;
}

/* Milliseconds of the monotonic clock. */
static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A pipe nobody reads: two MiB are written at once, the newest 256 KiB are kept. */
static void test_stuck_pipe(void **state)
{
    enum { CHUNK = 1024, CHUNKS = 2048 };
    uint8_t chunk[CHUNK];
    int p[2];
    size_t total = 0, n;
    uint64_t lost;
    char *all = malloc(4u << 20);
    struct chario *c;
    int64_t t0;

    (void)state;
    assert_int_equal(pipe(p), 0);
    c = chario_new(CHARIO_STREAM, -1, p[1], false);
    start(c);
    t0 = now_ms();
    for (unsigned i = 0; i < CHUNKS; i++) {
        memset(chunk, (int)(i & 0xff), CHUNK);
        chario_write(c, chunk, CHUNK);
        if (i % 64 == 0)
            evloop_once(&loop, 0);
    }
    assert_true(now_ms() - t0 < 2000);
    lost = chario_dropped(c);
    assert_true(lost > 0);
    for (int i = 0; i < 1000 && (n = drain(p[0], all + total, (4u << 20) - total), 1); i++) {
        total += n;
        spin();
    }
    assert_int_equal(total + lost, CHUNK * CHUNKS);
    assert_true(total >= CHARIO_BUFFER);
    for (size_t i = 0; i < CHARIO_BUFFER; i++) /* the end is whole */
        assert_int_equal((uint8_t)all[total - 1 - i], (CHUNK * CHUNKS - 1 - i) / CHUNK & 0xff);
    assert_int_equal(chario_dropped(c), lost);
    put(c, "again");
    assert_int_equal(drain(p[0], all, 16), 5);
    chario_free(c);
    close(p[0]);
    free(all);
}

/* One write larger than the buffer keeps its end. */
static void test_huge_write(void **state)
{
    int s[2];
    size_t n = 3 * CHARIO_BUFFER, got = 0, last = 0;
    char *b = malloc(n);
    struct chario *c;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    for (size_t i = 0; i < n; i++)
        b[i] = (char)(i % 251);
    c = chario_new(CHARIO_STREAM, s[1], s[1], false);
    start(c);
    chario_write(c, (uint8_t *)b, n);
    for (int i = 0; i < 1000; i++) {
        char tmp[4096];
        size_t k = drain(s[0], tmp, sizeof(tmp));

        got += k;
        last = k ? (uint8_t)tmp[k - 1] : last;
        spin();
    }
    assert_int_equal(got + chario_dropped(c), n);
    assert_int_equal(last, (n - 1) % 251);
    chario_free(c);
    close(s[0]);
    free(b);
}

/* Bytes written before the loop knows the stream are not lost, nor those left at the end. */
static void test_before_and_after(void **state)
{
    int p[2];
    char got[64];
    struct chario *c;

    (void)state;
    assert_int_equal(pipe(p), 0);
    c = chario_new(CHARIO_STREAM, -1, p[1], false);
    put(c, "early ");
    start(c);
    put(c, "late");
    chario_free(c);
    assert_int_equal(read(p[0], got, sizeof(got)), 10);
    assert_memory_equal(got, "early late", 10);
    assert_int_equal(read(p[0], got, sizeof(got)), 0);
    close(p[0]);
}

/* The reader leaves: writing goes on, counted as lost, no signal. */
static void test_reader_gone(void **state)
{
    int p[2];
    struct chario *c;

    (void)state;
    assert_int_equal(pipe(p), 0);
    c = chario_new(CHARIO_STREAM, -1, p[1], false);
    start(c);
    close(p[0]);
    put(c, "0123456789");
    spin();
    put(c, "0123456789");
    assert_int_equal(chario_dropped(c), 20);
    chario_free(c);
}

/* Files are written at once; a full one loses bytes and nothing else. */
static void test_file(void **state)
{
    char name[] = "/tmp/chario-XXXXXX", got[16];
    int fd = mkstemp(name), full = open("/dev/full", O_WRONLY);
    struct chario *c = chario_new(CHARIO_STREAM, -1, fd, false);

    (void)state;
    start(c);
    put(c, "to a file");
    fd = open(name, O_RDONLY);
    assert_int_equal(read(fd, got, sizeof(got)), 9);
    close(fd);
    unlink(name);
    chario_free(c);
    c = chario_new(CHARIO_STREAM, -1, full, false);
    start(c);
    put(c, "no space");
    spin();
    assert_int_equal(chario_dropped(c), 8);
    chario_free(c);
}

/* Input from a file is read to its end, through a consumer that refuses in between. */
static void test_file_input(void **state)
{
    FILE *f = tmpfile();
    struct chario *c;

    (void)state;
    for (int i = 0; i < 1000; i++)
        fprintf(f, "%04d\n", i);
    rewind(f);
    c = chario_new(CHARIO_STREAM, dup(fileno(f)), -1, false);
    fclose(f);
    sink.room = 100;
    start(c);
    spin();
    assert_int_equal(sink.n, 100);
    for (int i = 0; i < 100; i++) {
        sink.room = 100;
        chario_more(c);
        spin();
    }
    assert_int_equal(sink.n, 5000);
    assert_memory_equal(sink.got + 4995, "0999\n", 5);
    chario_free(c);
}

/* A busy consumer: the writer of a pipe is held up, nothing is lost. */
static void test_backpressure(void **state)
{
    int p[2];
    char block[4096];
    size_t sent = 0;
    struct chario *c;

    (void)state;
    assert_int_equal(pipe(p), 0);
    fcntl(p[1], F_SETFL, O_NONBLOCK);
    fcntl(p[1], F_SETPIPE_SZ, 4096);
    c = chario_new(CHARIO_STREAM, p[0], -1, false);
    sink.room = 0;
    start(c);
    memset(block, 'b', sizeof(block));
    for (int i = 0; i < 10; i++) {
        ssize_t n = write(p[1], block, 1000);

        sent += n > 0 ? (size_t)n : 0;
        spin();
    }
    assert_int_equal(sink.n, 0);
    assert_true(sent < 10000);
    sink.room = SIZE_MAX;
    chario_more(c);
    spin();
    assert_int_equal(sink.n, sent);
    close(p[1]);
    spin();
    chario_free(c);
}

/* Makes a connected client of a listener. */
static int client(const struct sockaddr_un *a, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (const struct sockaddr *)a, len), 0);
    return fd;
}

/* A listener: what was written before is seen, the next client replaces the first. */
static void test_listen(void **state)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(a);
    int l = socket(AF_UNIX, SOCK_STREAM, 0), one, two;
    char got[64];
    struct chario *c;

    (void)state;
    assert_int_equal(bind(l, (struct sockaddr *)&a, sizeof(sa_family_t)), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)&a, &len), 0);
    assert_int_equal(listen(l, 4), 0);
    c = chario_new(CHARIO_LISTEN, l, -1, false);
    start(c);
    put(c, "boot log\n");
    one = client(&a, len);
    spin();
    assert_int_equal(drain(one, got, sizeof(got)), 9);
    assert_int_equal(write(one, "ls\n", 3), 3);
    spin();
    assert_int_equal(sink.n, 3);
    two = client(&a, len);
    spin();
    assert_int_equal(read(one, got, sizeof(got)), 0);
    put(c, "for two");
    assert_int_equal(drain(two, got, sizeof(got)), 7);
    close(two);
    put(c, "for three");
    spin();
    put(c, "!");
    close(one);
    one = client(&a, len);
    spin();
    assert_int_equal(drain(one, got, sizeof(got)), 10);
    assert_memory_equal(got, "for three!", 10);
    shutdown(one, SHUT_WR); /* still listens */
    spin();
    put(c, "more");
    assert_int_equal(drain(one, got, sizeof(got)), 4);
    chario_free(c);
    assert_int_equal(read(one, got, sizeof(got)), 0);
    close(one);
}

/* A pty: raw, held open, never blocking, bytes both ways. */
static void test_pty(void **state)
{
    int m = posix_openpt(O_RDWR | O_NOCTTY), s;
    char got[64];
    struct chario *c;
    struct termios t;

    (void)state;
    assert_true(m >= 0 && !grantpt(m) && !unlockpt(m));
    s = open(ptsname(m), O_RDWR | O_NOCTTY);
    c = chario_new(CHARIO_STREAM, m, m, false);
    start(c);
    assert_int_equal(tcgetattr(s, &t), 0);
    assert_int_equal(t.c_lflag & (ECHO | ICANON), 0);
    put(c, "out\r\n");
    assert_int_equal(read(s, got, sizeof(got)), 5);
    assert_int_equal(write(s, "in", 2), 2);
    await_count(&sink.n, 2);
    close(s);
    for (int i = 0; i < 100000; i++)
        put(c, "nobody reads\n");
    spin();
    assert_true(chario_dropped(c) > 0);
    chario_free(c);
}

/* A terminal: raw while used, restored after; ctrl-a x also while the guest takes nothing. */
static void test_tty(void **state)
{
    int m = posix_openpt(O_RDWR | O_NOCTTY), s;
    struct termios before = {0}, during, after = {0};
    struct chario *c;

    (void)state;
    assert_true(m >= 0 && !grantpt(m) && !unlockpt(m));
    s = open(ptsname(m), O_RDWR | O_NOCTTY);
    assert_int_equal(tcgetattr(s, &before), 0);
    c = chario_new(CHARIO_STREAM, s, dup(s), true);
    start(c);
    assert_int_equal(tcgetattr(m, &during), 0);
    assert_int_equal(during.c_lflag & (ECHO | ICANON | ISIG), 0);
    assert_true(during.c_oflag & OPOST);
    assert_int_equal(write(m, "a\1\1b\1c\3", 7), 7);
    await_count(&sink.n, 6);
    assert_memory_equal(sink.got, "a\1b\1c\3", 6);
    assert_int_equal(sink.quits, 0);
    sink.room = 0;
    for (int i = 0; i < 100; i++) {
        assert_true(write(m, "0123456789012345678901234567890123456789012345678901234567", 58));
        spin();
    }
    assert_int_equal(write(m, "\1x", 2), 2);
    await_count(&sink.quits, 1);
    chario_free(c);
    assert_int_equal(tcgetattr(m, &after), 0);
    assert_memory_equal(&before, &after, sizeof(before));
    close(m);
}

/* A process that dies of a signal restores its terminal; a caller's file flags come back too. */
static void test_tty_dies(void **state)
{
    int m = posix_openpt(O_RDWR | O_NOCTTY), s, status;
    struct termios before = {0}, after = {0};
    pid_t pid;

    (void)state;
    assert_true(m >= 0 && !grantpt(m) && !unlockpt(m));
    s = open(ptsname(m), O_RDWR | O_NOCTTY);
    assert_int_equal(tcgetattr(s, &before), 0);
    pid = fork();
    if (!pid) {
        signal(SIGTERM, SIG_DFL);
        chario_new(CHARIO_STREAM, s, dup(s), true);
        raise(SIGTERM);
        _exit(9);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    assert_int_equal(tcgetattr(s, &after), 0);
    assert_memory_equal(&before, &after, sizeof(before));
    close(s);
    close(m);
}

/* What a background process group does with the terminal it got: 0 when all is well. */
static int in_background(int s)
{
    struct evloop own;
    struct sink got = {.room = SIZE_MAX};
    struct chario *c;

    if (setpgid(0, 0) || tcgetpgrp(s) == getpgrp() || evloop_init(&own, NULL))
        return 2;
    c = chario_new(CHARIO_STREAM, dup(s), dup(s), true);
    if (chario_start(c, &own, take, quit, &got))
        return 3;
    put(c, "from behind\n");
    for (int i = 0; i < 20; i++)
        evloop_once(&own, 10);
    chario_free(c);
    evloop_exit(&own);
    return got.n || got.quits ? 4 : 0;
}

/* A session of its own, whose leader has the terminal; its child is in the background. */
static int session(int m)
{
    int s, status = 0;
    pid_t pid;

    setsid();
    s = open(ptsname(m), O_RDWR);
    if (s < 0 || tcgetpgrp(s) != getpgrp())
        return 11;
    pid = fork();
    if (!pid)
        _exit(in_background(s));
    if (waitpid(pid, &status, WUNTRACED) != pid)
        return 12;
    if (WIFSTOPPED(status)) { /* what this is about: the kernel stopped it */
        kill(pid, SIGKILL);
        return 13;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 14;
}

/* In the background a terminal is another's: not changed, not read, and nothing hangs. */
static void test_tty_background(void **state)
{
    int m = posix_openpt(O_RDWR | O_NOCTTY), s, status;
    struct termios before = {0}, after = {0};
    char got[64];
    pid_t pid;

    (void)state;
    assert_true(m >= 0 && !grantpt(m) && !unlockpt(m));
    s = open(ptsname(m), O_RDWR | O_NOCTTY);
    assert_int_equal(tcgetattr(s, &before), 0);
    assert_int_equal(write(m, "for the shell\n", 14), 14);
    pid = fork();
    if (!pid)
        _exit(session(m));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(tcgetattr(s, &after), 0);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_true(drain(m, got, sizeof(got)) > 11); /* it may write all the same */
    close(s);
    close(m);
}

/* A socket shared with others keeps its flags after us. */
static void test_flags_restored(void **state)
{
    int s[2], keep;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    keep = dup(s[0]);
    chario_free(chario_new(CHARIO_STREAM, s[0], s[0], false));
    assert_int_equal(fcntl(keep, F_GETFL) & O_NONBLOCK, 0);
    close(keep);
    close(s[1]);
}

/* The far side of a socket, read by another thread until it ends. */
static void *reader(void *arg)
{
    int fd = *(int *)arg;
    uint8_t want = 0, b[777];
    ssize_t n;

    while ((n = read(fd, b, sizeof(b))) > 0)
        for (ssize_t i = 0; i < n; i++)
            if (b[i] != want++)
                return NULL;
    return arg;
}

/* Runs the loop beside the writer. */
static void *looper(void *arg)
{
    (void)arg;
    evloop_run(&loop);
    return NULL;
}

/* Writer, loop and reader on three threads: order holds; all the writer says fits the buffer, so
 * nothing may be lost however slow the reader is. */
static void test_threads(void **state)
{
    pthread_t r, l;
    int s[2];
    void *ok;
    uint8_t n = 0;
    struct chario *c;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    c = chario_new(CHARIO_STREAM, s[1], s[1], false);
    start(c);
    pthread_create(&r, NULL, reader, &s[0]);
    pthread_create(&l, NULL, looper, NULL);
    for (int i = 0; i < 12000; i++) {
        uint8_t b[32];

        for (unsigned k = 0; k < sizeof(b); k++)
            b[k] = n++;
        chario_write(c, b, 1 + (unsigned)i % 32);
        n = (uint8_t)(n - sizeof(b) + 1 + (unsigned)i % 32);
        if (i % 2000 == 0)
            usleep(5000);
    }
    evloop_stop(&loop);
    pthread_join(l, NULL);
    assert_int_equal(chario_dropped(c), 0);
    chario_free(c);
    pthread_join(r, &ok);
    assert_non_null(ok);
    close(s[0]);
}

/* Nowhere. */
static void test_null(void **state)
{
    struct chario *c = chario_new(CHARIO_NULL, -1, -1, false);

    (void)state;
    start(c);
    put(c, "x");
    spin();
    assert_int_equal(chario_dropped(c), 0);
    chario_free(c);
    chario_free(NULL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_stuck_pipe),
        T(test_huge_write),
        T(test_before_and_after),
        T(test_reader_gone),
        T(test_file),
        T(test_file_input),
        T(test_backpressure),
        T(test_listen),
        T(test_pty),
        T(test_tty),
        T(test_tty_dies),
        T(test_tty_background),
        T(test_flags_restored),
        T(test_threads),
        T(test_null),
    };

    return cmocka_run_group_tests_name("chario", tests, NULL, NULL);
}
