/* SPDX-License-Identifier: MIT */
/*
 * Clients of a console's socket that behave as people and scripts do: they say something and
 * leave at once, they come when no descriptor is left.  And a file that may not grow.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/evloop.h"
#include "base/log.h"
#include "vmm/device/chario.h"

/* A console with a listener, and its guest. */
struct rig {
    struct evloop loop;      /* of io0 */
    struct chario *c;        /* the console */
    int listener;            /* its socket, owned by it */
    struct sockaddr_un addr; /* of the listener */
    socklen_t len;           /* bytes of it */
    uint8_t got[8192];       /* what the guest took */
    size_t n;                /* bytes of it */
    size_t room;             /* bytes the guest takes before it refuses */
};

/* The guest takes what it has room for. */
static size_t take(void *arg, const uint8_t *p, size_t n)
{
    struct rig *r = arg;

    n = n < r->room ? n : r->room;
    assert_true(n <= sizeof(r->got) - r->n);
    memcpy(r->got + r->n, p, n);
    r->n += n;
    r->room -= n;
    return n;
}

static int setup(void **state)
{
    struct rig *r = calloc(1, sizeof(*r));

    log_init(LOG_ERROR, "test");
    r->addr.sun_family = AF_UNIX;
    r->len = sizeof(r->addr);
    r->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(r->listener, (struct sockaddr *)&r->addr, sizeof(sa_family_t)), 0);
    assert_int_equal(getsockname(r->listener, (struct sockaddr *)&r->addr, &r->len), 0);
    assert_int_equal(listen(r->listener, 4), 0);
    assert_int_equal(evloop_init(&r->loop, NULL), 0);
    r->c = chario_new(CHARIO_LISTEN, r->listener, -1, false);
    assert_int_equal(chario_start(r->c, &r->loop, take, NULL, r), 0);
    *state = r;
    return 0;
}

static int teardown(void **state)
{
    struct rig *r = *state;

    chario_free(r->c);
    evloop_exit(&r->loop);
    free(r);
    return 0;
}

/* Lets the loop do all it can. */
static void spin(struct rig *r)
{
    for (int i = 0; i < 30; i++)
        evloop_once(&r->loop, 0);
}

/* A client that said n bytes; byte i is i. */
static int client(struct rig *r, size_t n)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    uint8_t text[8192];

    for (size_t i = 0; i < n; i++)
        text[i] = (uint8_t)i;
    assert_int_equal(connect(fd, (struct sockaddr *)&r->addr, r->len), 0);
    assert_int_equal(write(fd, text, n), n);
    return fd;
}

/* The guest takes n bytes at a time until nothing more comes; all of `want` came in order. */
static void take_all(struct rig *r, size_t n, size_t want)
{
    for (size_t before = SIZE_MAX; before != r->n;) {
        before = r->n;
        r->room = n;
        chario_more(r->c);
        spin(r);
    }
    assert_int_equal(r->n, want);
    for (size_t i = 0; i < want; i++)
        assert_int_equal(r->got[i], (uint8_t)i);
}

/* "echo command | nc -U socket": the guest's FIFO takes 16 bytes at once, the client is gone by
 * the time it has room for more. */
static void test_says_and_leaves(void **state)
{
    struct rig *r = *state;

    r->room = 16;
    close(client(r, 100));
    spin(r);
    assert_int_equal(r->n, 16);
    take_all(r, 16, 100);
}

/* The same with more than is read at once, and the guest echoes: writing fails first. */
static void test_echo_to_nobody(void **state)
{
    struct rig *r = *state;

    r->room = 16;
    close(client(r, 7000));
    evloop_once(&r->loop, 0); /* accepted */
    evloop_once(&r->loop, 0); /* the first piece was read */
    chario_write(r->c, (const uint8_t *)"echo", 4);
    spin(r);
    take_all(r, 500, 7000);
}

/* A client that left is forgotten, and what it did not take waits for the next. */
static void test_next_client(void **state)
{
    struct rig *r = *state;
    char got[64];
    int fd;

    r->room = 1000;
    close(client(r, 5));
    spin(r);
    chario_write(r->c, (const uint8_t *)"news", 4);
    spin(r);
    fd = client(r, 0);
    spin(r);
    assert_int_equal(read(fd, got, sizeof(got)), 4);
    close(fd);
    spin(r);
    assert_int_equal(r->n, 5);
}

/* No descriptor is left: the client is turned away, the listener does not stay readable (io0
 * would spin), and later clients are served. */
static void test_no_descriptors(void **state)
{
    struct rig *r = *state;
    struct pollfd p = {.fd = r->listener, .events = POLLIN};
    struct rlimit old, none;
    int fd = client(r, 0), fill[64], n = 0;
    char c;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    while (n < 64 && (fill[n] = dup(0)) >= 0)
        n++;
    spin(r);
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(read(fd, &c, 1), 0);
    close(fd);
    while (n > 0)
        close(fill[--n]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    r->room = 10;
    fd = client(r, 3);
    spin(r);
    assert_int_equal(r->n, 3);
    close(fd);
}

/* A log file at the limit of its size loses output; the guest lives. */
static void test_file_limit(void **state)
{
    struct rlimit ten = {.rlim_cur = 10, .rlim_max = 10};
    int fd = memfd_create("log", MFD_CLOEXEC), status;
    pid_t pid;

    (void)state;
    pid = fork();
    if (!pid) {
        struct chario *c;

        signal(SIGXFSZ, SIG_DFL);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        setrlimit(RLIMIT_FSIZE, &ten);
        c = chario_new(CHARIO_STREAM, -1, fd, false);
        for (int i = 0; i < 10; i++)
            chario_write(c, (const uint8_t *)"line\n", 5);
        _exit(chario_dropped(c) == 40 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 10);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_says_and_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_echo_to_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_next_client, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_descriptors, setup, teardown),
        cmocka_unit_test(test_file_limit),
    };

    return cmocka_run_group_tests_name("chario clients", tests, NULL, NULL);
}
