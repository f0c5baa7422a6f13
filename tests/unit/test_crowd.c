/* SPDX-License-Identifier: MIT */
/*
 * Clients of the control socket that would keep the monitor from others: they ask without end, come
 * in crowds, read one byte a while, or come when no descriptor is left.  No guest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/unit/control_rig.h"

#include <cmocka.h> /* last: it takes the name fail for a macro */

/* A control socket without a monitor. */
struct fixture {
    struct rig rig; /* the socket */
    unsigned asked; /* requests that came */
    size_t size;    /* bytes of an answer */
};

static void on_request(void *arg, struct client *cl, const struct json_t *req)
{
    struct fixture *f = arg;
    char *text = xcalloc(1, f->size + 1);

    f->asked++;
    memset(text, 'x', f->size);
    if (strcmp(json_string_value(json_object_get(req, "cmd")), "late") != 0)
        control_reply(cl, json_pack("{s:b, s:s}", "ok", 1, "text", text));
    free(text);
}

static void on_gone(void *arg, struct client *cl)
{
    (void)arg;
    (void)cl;
}

static const struct control_ops ops = {.request = on_request, .gone = on_gone};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    rig_init(&f->rig, &ops, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    rig_exit(&f->rig);
    free(f);
    return 0;
}

/* Sends text. */
static void tell(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Bytes that came. */
static size_t heard(int fd)
{
    static char buf[1 << 20];
    size_t sum = 0;
    ssize_t n;

    while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
        sum += (size_t)n;
    return sum;
}

/* Milliseconds of the monotonic clock. */
static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Hundreds of requests at once: all are answered in the end, a few at a time. */
static void test_turns(void **state)
{
    struct fixture *f = *state;
    int greedy = rig_dial(&f->rig);
    unsigned most = 0;

    rig_serve(&f->rig);
    for (int i = 0; i < 200; i++)
        tell(greedy, "{\"cmd\":\"x\"}\n");
    shutdown(greedy, SHUT_WR);
    for (int i = 0; i < 400; i++) {
        unsigned before = f->asked;

        evloop_once(&f->rig.loop, 0);
        control_reap(&f->rig.control);
        most = f->asked - before > most ? f->asked - before : most;
        heard(greedy);
    }
    assert_int_equal(f->asked, 200);
    assert_in_range(most, 1, 16);
    assert_int_equal(f->rig.control.nclients, 0); /* it said that it will ask no more */
    close(greedy);
}

/* One that does not read its answers is asked no more, and not dropped for what it sent. */
static void test_unread_turns(void **state)
{
    struct fixture *f = *state;
    int slow = rig_dial(&f->rig);
    size_t got = 0;

    f->size = 100000;
    for (int i = 0; i < 100; i++)
        tell(slow, "{\"cmd\":\"x\"}\n");
    rig_serve(&f->rig);
    rig_serve(&f->rig);
    assert_in_range(f->asked, 1, 50);
    for (int i = 0; i < 100; i++) {
        got += heard(slow);
        rig_serve(&f->rig);
    }
    assert_int_equal(f->asked, 100);
    assert_true(got + heard(slow) > 100 * f->size);
    close(slow);
}

/* Connections that ask nothing make room for one who does; those that wait for an answer stay. */
static void test_room(void **state)
{
    struct fixture *f = *state;
    int fd[CONTROL_MAX_CLIENTS], late;

    for (int i = 0; i < CONTROL_MAX_CLIENTS; i++)
        fd[i] = rig_dial(&f->rig);
    for (int i = 0; i < 5; i++)
        rig_serve(&f->rig);
    tell(fd[0], "{\"cmd\":\"late\"}\n");
    rig_serve(&f->rig);
    late = rig_dial(&f->rig);
    tell(late, "{\"cmd\":\"x\"}\n");
    rig_serve(&f->rig);
    assert_int_equal(heard(late), 0); /* none was silent for long enough */
    assert_true(control_stalled(&f->rig.control));
    f->rig.control.idle_ns = 0;
    rig_serve(&f->rig);
    assert_true(heard(late) > 0);
    assert_false(control_stalled(&f->rig.control));
    assert_int_equal(f->rig.control.nclients, CONTROL_MAX_CLIENTS);
    assert_int_equal(recv(fd[0], &late, 1, MSG_DONTWAIT), -1); /* that one is still there */
    for (int i = 0; i < CONTROL_MAX_CLIENTS; i++)
        close(fd[i]);
    close(late);
}

/* No descriptor is left: the loop does not spin, and the client is taken when there is one. */
static void test_no_files(void **state)
{
    struct fixture *f = *state;
    struct rlimit was, none = {.rlim_cur = 0};
    int fd = rig_dial(&f->rig);
    uint64_t began;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none.rlim_max = was.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    evloop_once(&f->rig.loop, 100);
    assert_true(control_stalled(&f->rig.control));
    began = now_ms();
    evloop_once(&f->rig.loop, 100);
    assert_true(now_ms() - began >= 90); /* it slept */
    control_reap(&f->rig.control);
    assert_true(control_stalled(&f->rig.control));
    setrlimit(RLIMIT_NOFILE, &was);
    tell(fd, "{\"cmd\":\"x\"}\n");
    rig_serve(&f->rig);
    assert_true(heard(fd) > 0);
    close(fd);
}

/* Reads a little again and again until told to stop. */
struct sipper {
    int fd;           /* the connection */
    atomic_bool stop; /* enough */
};

static void *sip(void *arg)
{
    struct sipper *s = arg;
    char buf[32768];

    while (!atomic_load(&s->stop)) {
        (void)!recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT);
        usleep(50000);
    }
    return NULL;
}

/* The end of a monitor waits for slow readers, all together, no longer than it said. */
static void test_exit(void **state)
{
    struct fixture *f = *state;
    struct sipper s[4];
    pthread_t t[4];
    uint64_t began;
    int quick;

    f->size = 3 << 20;
    for (int i = 0; i < 4; i++) {
        s[i] = (struct sipper){.fd = rig_dial(&f->rig)};
        tell(s[i].fd, "{\"cmd\":\"x\"}\n");
    }
    rig_serve(&f->rig);
    f->size = 1000;
    quick = rig_dial(&f->rig);
    tell(quick, "{\"cmd\":\"x\"}\n");
    rig_serve(&f->rig);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, sip, &s[i]), 0);
    began = now_ms();
    control_exit(&f->rig.control, 300);
    assert_in_range(now_ms() - began, 0, 900);
    assert_true(heard(quick) > 1000);
    for (int i = 0; i < 4; i++) {
        atomic_store(&s[i].stop, true);
        pthread_join(t[i], NULL);
        close(s[i].fd);
    }
    close(quick);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {T(test_turns), T(test_unread_turns), T(test_room),
                                       T(test_no_files), T(test_exit)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
