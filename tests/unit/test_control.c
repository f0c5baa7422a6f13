/* SPDX-License-Identifier: MIT */
/*
 * The monitor's control socket: lines, requests, clients that send rubbish, too much, or do not
 * read; and the consoles behind it.  All over socket pairs and one event loop, no guest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <jansson.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "tests/unit/control_rig.h"
#include "vmm/monitor/client.h"
#include "vmm/monitor/conring.h"
#include "vmm/monitor/control.h"
#include "vmm/monitor/line.h"
#include "vmm/monitor/table.h"

#include <cmocka.h> /* last: it takes the name fail for a macro */

/* ---- lines ---- */

/* Adds text to a buffer. */
static bool add(struct linebuf *b, const char *text, size_t n)
{
    while (n) {
        size_t room;
        char *to = line_room(b, &room);

        if (!to)
            return false;
        room = room < n ? room : n;
        memcpy(to, text, room);
        line_added(b, room);
        text += room;
        n -= room;
    }
    return true;
}

static void test_lines(void **state)
{
    struct linebuf b = {0};
    char *line, rest[8];
    size_t len;

    (void)state;
    assert_null(line_take(&b, &len));
    add(&b, "one\ntw", 6);
    line = line_take(&b, &len);
    assert_string_equal(line, "one");
    assert_int_equal(len, 3);
    free(line);
    assert_null(line_take(&b, &len));
    add(&b, "o\n\nraw", 6);
    line = line_take(&b, &len);
    assert_string_equal(line, "two");
    free(line);
    line = line_take(&b, &len);
    assert_int_equal(len, 0);
    free(line);
    assert_null(line_take(&b, &len));
    assert_int_equal(line_rest(&b, rest, 2), 2);
    assert_memory_equal(rest, "ra", 2);
    assert_int_equal(line_rest(&b, rest, sizeof(rest)), 1);
    line_free(&b);
}

/* A line as long as can be fits; one byte more has no room. */
static void test_line_limit(void **state)
{
    char *big = xcalloc(1, LINE_MAX_BYTES);
    struct linebuf b = {0};
    char *line;
    size_t len;

    (void)state;
    memset(big, 'x', LINE_MAX_BYTES);
    big[LINE_MAX_BYTES - 1] = '\n';
    assert_true(add(&b, big, LINE_MAX_BYTES));
    line = line_take(&b, &len);
    assert_int_equal(len, LINE_MAX_BYTES - 1);
    free(line);
    big[LINE_MAX_BYTES - 1] = 'x';
    assert_true(add(&b, big, LINE_MAX_BYTES));
    assert_null(line_take(&b, &len));
    assert_false(add(&b, "\n", 1));
    line_free(&b);
    free(big);
}

static void test_requests(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "ps",
        "{",
        "[]",
        "null",
        "\"ps\"",
        "{\"cmd\": 1}",
        "{\"c\": 1}",
        "{\"cmd\": \"ps\"} x",
        "{} {}",
        "{\"cmd\": \"\xff\"}",
        "{\"cmd\": \"a\", \"cmd\": \"b\"}",
        "{\"cmd\": \"a\\u0000b\"}",
        "{\"cmd\": \"ps\", \"a\": [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}"};
    const char *why;
    json_t *j;

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(line_request(bad[i], strlen(bad[i]), &why));
    j = line_request("{\"cmd\": \"ps\"}", 13, &why);
    assert_non_null(j);
    json_decref(j);
    assert_null(line_request("{\"cmd\": \"ps\"\0}", 14, &why));
}

/* ---- clients ---- */

/* A control socket without a monitor. */
struct fixture {
    struct rig rig;      /* the socket */
    struct client *late; /* who asked "late" and has no answer yet */
    unsigned gone;       /* clients that left */
    struct client *raw;  /* who asked "raw" */
    char typed[64];      /* what that one sent */
    bool full;           /* take none of it */
};

static size_t take_raw(void *arg, const uint8_t *p, size_t n)
{
    struct fixture *f = arg;
    size_t have = strlen(f->typed);

    if (f->full)
        return 0;
    if (n > 1)
        n = 1; /* one at a time, to have the rest offered again */
    memcpy(f->typed + have, p, n);
    return n;
}

static void on_request(void *arg, struct client *cl, const struct json_t *req)
{
    struct fixture *f = arg;
    const char *cmd = json_string_value(json_object_get(req, "cmd"));

    if (!strcmp(cmd, "late"))
        f->late = cl;
    else if (!strcmp(cmd, "raw")) {
        f->raw = cl;
        control_raw(cl, json_pack("{s:b}", "ok", 1), take_raw, f);
    } else if (!strcmp(cmd, "no"))
        control_reply(cl, control_error(EXIT_CONFIG, "no %d", 1));
    else
        control_reply(cl, json_pack("{s:b, s:s}", "ok", 1, "echo", cmd));
}

static void on_gone(void *arg, struct client *cl)
{
    struct fixture *f = arg;

    f->gone++;
    if (f->late == cl)
        f->late = NULL;
    if (f->raw == cl)
        f->raw = NULL;
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

/* Sends text and serves; returns what came back, in a static buffer. */
static const char *talk(struct fixture *f, int fd, const char *text)
{
    static char buf[65536];
    ssize_t n;

    if (text[0])
        assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    rig_serve(&f->rig);
    n = recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT);
    buf[n > 0 ? n : 0] = 0;
    return buf;
}

static void test_answers(void **state)
{
    struct fixture *f = *state;
    int fd = rig_dial(&f->rig);

    assert_string_equal(talk(f, fd, "{\"cmd\":\"x\"}\n"), "{\"ok\":true,\"echo\":\"x\"}\n");
    assert_string_equal(talk(f, fd, "{\"cmd\":"), "");
    assert_string_equal(talk(f, fd, "\"y\"}\n{\"cmd\":\"z\"}\n"),
                        "{\"ok\":true,\"echo\":\"y\"}\n{\"ok\":true,\"echo\":\"z\"}\n");
    assert_string_equal(talk(f, fd, "{\"cmd\":\"no\"}\n"),
                        "{\"ok\":false,\"status\":3,\"error\":\"no 1\"}\n");
    assert_non_null(strstr(talk(f, fd, "rubbish\n"), "\"ok\":false"));
    assert_string_equal(talk(f, fd, "{\"cmd\":\"x\"}\n"), "{\"ok\":true,\"echo\":\"x\"}\n");
    close(fd);
    rig_serve(&f->rig);
    assert_int_equal(f->gone, 1);
}

/* The next request waits for the answer to the one before; one who leaves meanwhile is told of. */
static void test_late(void **state)
{
    struct fixture *f = *state;
    int fd = rig_dial(&f->rig), other = rig_dial(&f->rig);

    assert_string_equal(talk(f, fd, "{\"cmd\":\"late\"}\n{\"cmd\":\"x\"}\n"), "");
    assert_string_equal(talk(f, other, "{\"cmd\":\"y\"}\n"), "{\"ok\":true,\"echo\":\"y\"}\n");
    assert_non_null(f->late);
    control_reply(f->late, json_pack("{s:b}", "ok", 1));
    assert_string_equal(talk(f, fd, ""), "{\"ok\":true}\n{\"ok\":true,\"echo\":\"x\"}\n");
    talk(f, fd, "{\"cmd\":\"late\"}\n");
    close(fd);
    rig_serve(&f->rig);
    assert_null(f->late);
    assert_int_equal(f->gone, 1);
    close(other);
}

/* One who says that it will ask no more still gets its answer. */
static void test_half_close(void **state)
{
    struct fixture *f = *state;
    int fd = rig_dial(&f->rig);

    talk(f, fd, "{\"cmd\":\"late\"}\n");
    shutdown(fd, SHUT_WR);
    rig_serve(&f->rig);
    assert_non_null(f->late);
    control_reply(f->late, json_pack("{s:b}", "ok", 1));
    assert_string_equal(talk(f, fd, ""), "{\"ok\":true}\n");
    rig_serve(&f->rig);
    assert_int_equal(f->gone, 1);
    close(fd);
}

static void test_long_line(void **state)
{
    struct fixture *f = *state;
    char *big = xcalloc(1, LINE_MAX_BYTES + 10);
    int fd = rig_dial(&f->rig);
    size_t sent = 0;

    memset(big, 'x', LINE_MAX_BYTES + 9);
    while (sent < LINE_MAX_BYTES + 9 && !f->gone) {
        ssize_t n = send(fd, big, LINE_MAX_BYTES + 9 - sent, MSG_NOSIGNAL);

        sent += n > 0 ? (size_t)n : 0;
        rig_serve(&f->rig);
    }
    assert_non_null(strstr(talk(f, rig_dial(&f->rig), "{\"cmd\":\"x\"}\n"), "\"x\""));
    recv(fd, big, LINE_MAX_BYTES, 0);
    assert_non_null(strstr(big, "longer than"));
    assert_int_equal(f->gone, 1);
    close(fd);
    free(big);
}

/* One who does not read is dropped and disturbs nobody. */
static void test_unread(void **state)
{
    struct fixture *f = *state;
    int slow = rig_dial(&f->rig), other = rig_dial(&f->rig);
    char block[4096] = {0};

    assert_string_equal(talk(f, slow, "{\"cmd\":\"raw\"}\n"), "{\"ok\":true}\n");
    for (int i = 0; i < 4096 && f->raw; i++)
        control_write(f->raw, block, sizeof(block));
    assert_null(f->raw);
    assert_int_equal(f->gone, 1);
    assert_non_null(strstr(talk(f, other, "{\"cmd\":\"x\"}\n"), "\"x\""));
    close(slow);
    close(other);
}

/* A raw stream: what follows the request is its first bytes; refused bytes come again. */
static void test_raw(void **state)
{
    struct fixture *f = *state;
    int fd = rig_dial(&f->rig);

    assert_string_equal(talk(f, fd, "{\"cmd\":\"raw\"}\nab\nc"), "{\"ok\":true}\n");
    for (int i = 0; i < 10; i++)
        control_more(f->raw);
    assert_string_equal(f->typed, "ab\nc");
    f->full = true;
    talk(f, fd, "de");
    assert_string_equal(f->typed, "ab\nc");
    f->full = false;
    for (int i = 0; i < 10; i++)
        control_more(f->raw);
    assert_string_equal(f->typed, "ab\ncde");
    control_write(f->raw, "out", 3);
    assert_string_equal(talk(f, fd, "f"), "out");
    control_finish(f->raw);
    rig_serve(&f->rig);
    assert_int_equal(f->gone, 1);
    close(fd);
}

/* More clients than there may be: the rest waits, and is served when others leave. */
static void test_crowd(void **state)
{
    struct fixture *f = *state;
    int fd[CONTROL_MAX_CLIENTS + 5];

    for (int i = 0; i < CONTROL_MAX_CLIENTS + 5; i++)
        fd[i] = rig_dial(&f->rig);
    for (int i = 0; i < 10; i++)
        rig_serve(&f->rig);
    assert_int_equal(f->rig.control.nclients, CONTROL_MAX_CLIENTS);
    for (int i = 0; i < 10; i++)
        close(fd[i]);
    for (int i = 0; i < 10; i++)
        rig_serve(&f->rig);
    assert_non_null(strstr(talk(f, fd[CONTROL_MAX_CLIENTS + 4], "{\"cmd\":\"x\"}\n"), "\"x\""));
    for (int i = 10; i < CONTROL_MAX_CLIENTS + 5; i++)
        close(fd[i]);
}

/* Random bytes from several clients. */
static void test_noise(void **state)
{
    struct fixture *f = *state;
    unsigned seed = 3;

    for (int i = 0; i < 200; i++) {
        char buf[512];
        size_t n = 1 + (size_t)rand_r(&seed) % sizeof(buf);
        int fd = rig_dial(&f->rig);

        for (size_t b = 0; b < n; b++)
            buf[b] = "{}[]\"cmd:x,\\\n\0\xff"[rand_r(&seed) % 15];
        assert_true(send(fd, buf, n, MSG_NOSIGNAL) > 0);
        evloop_once(&f->rig.loop, 1);
        evloop_once(&f->rig.loop, 1);
        close(fd);
        evloop_once(&f->rig.loop, 1);
        control_reap(&f->rig.control);
    }
    rig_serve(&f->rig);
    assert_int_equal(f->rig.control.nclients, 0);
}

/* ---- consoles ---- */

/* A watcher that counts. */
struct watcher {
    struct conwatch w; /* its place */
    char text[256];    /* what it saw last, if that was short */
    size_t n;          /* bytes it saw */
    bool over;         /* the guest is gone */
    unsigned room;     /* times it was told of room */
};

static void w_show(void *arg, const uint8_t *p, size_t n)
{
    struct watcher *w = arg;

    if (n < sizeof(w->text) - strlen(w->text))
        strncat(w->text, (const char *)p, n);
    w->n += n;
}

static void w_room(void *arg)
{
    struct watcher *w = arg;

    w->room++;
}

static void w_end(void *arg)
{
    struct watcher *w = arg;

    w->over = true;
}

/* A watcher that watches r. */
static void watch(struct conring *r, struct watcher *w)
{
    *w = (struct watcher){.w = {.show = w_show, .room = w_room, .end = w_end, .arg = w}};
    conring_watch(r, &w->w);
}

/* Serves the loop a while. */
static void spin(struct evloop *l)
{
    for (int i = 0; i < 50; i++)
        evloop_once(l, 1);
}

static void test_conring(void **state)
{
    struct fixture *f = *state;
    struct watcher early, late;
    struct conring *r;
    char path[64], buf[64], big[9000];
    struct stat st;
    int fd[2];

    snprintf(path, sizeof(path), "/tmp/disco-test-%d.console", (int)getpid());
    assert_int_equal(conring_new(&r, path, fd, NULL), 0);
    assert_int_equal(write(fd[1], "hello ", 6), 6);
    assert_int_equal(conring_start(r, &f->rig.loop, NULL), 0);
    watch(r, &early);
    spin(&f->rig.loop);
    assert_string_equal(early.text, "hello ");
    watch(r, &late);
    assert_string_equal(late.text, "hello ");
    assert_int_equal(write(fd[1], "world", 5), 5);
    spin(&f->rig.loop);
    assert_string_equal(late.text, "hello world");
    conring_unwatch(r, &early.w);
    conring_unwatch(r, &early.w);
    assert_int_equal(conring_type(r, (const uint8_t *)"keys", 4), 4);
    assert_int_equal(read(fd[0], buf, sizeof(buf)), 4);
    /* far more than the ring: all is taken, the last is kept */
    memset(big, 'z', sizeof(big));
    for (int i = 0; i < 100; i++) {
        ssize_t n = write(fd[1], big, sizeof(big));

        assert_true(n > 0 || errno == EAGAIN);
        spin(&f->rig.loop);
    }
    close(fd[0]);
    close(fd[1]);
    conring_ended(r);
    assert_true(late.over);
    assert_false(early.over);
    assert_int_equal(late.n, 11 + 900000);
    watch(r, &early);
    assert_int_equal(early.n, CONRING_KEEP);
    assert_true(early.over);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 11 + 900000);
    conring_free(r);
    unlink(path);
}

/* A guest that does not read: typing is refused, and taken again once it reads. */
static void test_conring_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t block[4096] = {0}, sink[65536];
    struct watcher w;
    struct conring *r;
    char path[64];
    int fd[2];

    snprintf(path, sizeof(path), "/tmp/disco-test-%d.console", (int)getpid());
    assert_int_equal(conring_new(&r, path, fd, NULL), 0);
    assert_int_equal(conring_start(r, &f->rig.loop, NULL), 0);
    watch(r, &w);
    while (conring_type(r, block, sizeof(block)) == sizeof(block))
        spin(&f->rig.loop);
    assert_int_equal(w.room, 0);
    while (read(fd[0], sink, sizeof(sink)) > 0)
        spin(&f->rig.loop);
    assert_int_equal(w.room, 1);
    assert_int_equal(conring_type(r, block, 100), 100);
    close(fd[0]);
    close(fd[1]);
    conring_free(r);
    unlink(path);
}

/* ---- numbers and tables ---- */

static void test_human(void **state)
{
    char b[24];
    uint64_t ms;

    (void)state;
    assert_string_equal(human_size(b, 0), "0");
    assert_string_equal(human_size(b, 512ull << 20), "512M");
    assert_string_equal(human_size(b, 3ull << 29), "1.5G");
    assert_string_equal(human_count(b, 999), "999");
    assert_string_equal(human_count(b, 12345), "12k");
    assert_string_equal(human_time(b, 999), "999 ms");
    assert_string_equal(human_time(b, 3400), "3.4 s");
    assert_string_equal(human_time(b, 125000), "2 min 5 s");
    assert_true(client_time("30", &ms) && ms == 30000);
    assert_true(client_time("500ms", &ms) && ms == 500);
    assert_true(client_time("2s", &ms) && ms == 2000);
    assert_false(client_time("", &ms));
    assert_false(client_time("-1", &ms));
    assert_false(client_time("5 parsecs", &ms));
    assert_false(client_time("99999999", &ms));
}

/* Control characters of a guest never reach the terminal. */
static void test_table(void **state)
{
    static const char *const heads[] = {"name", ">n"};
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    struct table t;

    (void)state;
    table_init(&t, heads, 2);
    table_cell(&t, "a\033[31m");
    table_cell(&t, "%d", 7);
    table_cell(&t, "longer name");
    table_cell(&t, "%d", 1234);
    table_print(&t, f);
    fclose(f);
    assert_string_equal(text, "name            n\na [31m          7\nlonger name  1234\n");
    free(text);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_line_limit),
        cmocka_unit_test(test_requests),
        T(test_answers),
        T(test_late),
        T(test_half_close),
        T(test_long_line),
        T(test_unread),
        T(test_raw),
        T(test_crowd),
        T(test_noise),
        T(test_conring),
        T(test_conring_refused),
        cmocka_unit_test(test_human),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
