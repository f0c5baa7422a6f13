/* SPDX-License-Identifier: MIT */
/*
 * A guest as the monitor sees it, with cells that lie, hang and talk nonsense.  The cells are this
 * program again: the monitor starts /proc/self/exe as `... cell NAME`, and main() then plays what
 * NAME says.  No KVM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/log.h"
#include "numa/place.h"
#include "tests/leaks.h"
#include "vmm/cell/proto.h"
#include "vmm/config/config.h"
#include "vmm/monitor/mguest.h"

#include <cmocka.h> /* last: it takes the name fail for a macro */

enum { SECOND = 1000000000 };

/* ---- cells ---- */

/* Sends one packet as it is. */
static void raw(uint32_t magic, uint16_t type, uint16_t flags, uint32_t len, size_t bytes)
{
    static uint8_t buf[sizeof(struct proto_hdr) + PROTO_CHUNK];
    struct proto_hdr h = {.magic = magic, .type = type, .flags = flags, .len = len, .seq = 1};
    struct pollfd room = {.fd = PROTO_FD, .events = POLLOUT};

    memcpy(buf, &h, sizeof(h));
    poll(&room, 1, 1000); /* a full socket is the monitor's to empty */
    (void)!send(PROTO_FD, buf, bytes, MSG_NOSIGNAL);
}

/* Sends a message of n zero bytes. */
static void say(uint16_t type, uint32_t n)
{
    raw(PROTO_MAGIC, type, 0, n, sizeof(struct proto_hdr) + n);
}

/* Kinds of rubbish, by number; the first four are said before GO. */
static bool rubbish(int kind)
{
    struct proto_ended e = {.end = 77};

    switch (kind) {
    case 0: /* a second MADE, before GO */
        say(PROTO_MADE, 0);
        return true;
    case 1: /* it does not run yet */
        say(PROTO_READY, sizeof(struct proto_ready));
        return true;
    case 2:
        say(PROTO_ENDED, sizeof(e));
        return true;
    case 3:
        say(PROTO_REPLY, sizeof(struct proto_status));
        return true;
    case 4: /* half a header */
        raw(PROTO_MAGIC, PROTO_MADE, 0, 0, 7);
        return true;
    case 5:
        raw(1, PROTO_READY, 0, 8, sizeof(struct proto_hdr) + 8);
        return true;
    case 6: /* a length that is not the packet's */
        raw(PROTO_MAGIC, PROTO_READY, 0, 4096, sizeof(struct proto_hdr) + 8);
        return true;
    case 7:
        raw(PROTO_MAGIC, PROTO_NTYPES, 0, 0, sizeof(struct proto_hdr));
        return true;
    case 8: /* the monitor's own */
        say(PROTO_KILL, 0);
        return true;
    case 9: /* too short for its type */
        say(PROTO_READY, 4);
        return true;
    case 10: /* an endless message */
        for (int i = 0; i < 1000; i++)
            raw(PROTO_MAGIC, PROTO_REPLY, PROTO_MORE, PROTO_CHUNK,
                sizeof(struct proto_hdr) + PROTO_CHUNK);
        return true;
    case 11: /* ended in no known way: zeros are "it runs" */
        say(PROTO_ENDED, sizeof(e));
        return true;
    case 12: /* an answer to nothing, for ever */
        for (int i = 0; i < 1000; i++)
            say(PROTO_REPLY, sizeof(struct proto_status));
        return true;
    default:
        return false;
    }
}

/* Answers requests as a cell does; a guest that is paused takes no notice of its power button. */
static void serve(struct proto_chan *ch)
{
    struct proto_ended e = {.end = CELL_POWEROFF};
    struct proto_status st = {0};
    struct proto_msg m;
    bool paused = false, off = false;

    while (!off && proto_wait(ch, &m, -1) == 1) {
        off = (m.type == PROTO_STOP && !paused) || m.type == PROTO_KILL;
        e.end = m.type == PROTO_KILL ? CELL_STOPPED : CELL_POWEROFF;
        if (m.type == PROTO_PAUSE || m.type == PROTO_RESUME)
            paused = m.type == PROTO_PAUSE;
        proto_send(ch, &(struct proto_out){
                           .type = PROTO_REPLY, .seq = m.seq, .body = &st, .len = sizeof(st)});
        proto_msg_free(&m);
    }
    proto_send(ch, &(struct proto_out){.type = PROTO_ENDED, .body = &e, .len = sizeof(e)});
}

/* What the process of a guest called `name` does. */
static int cell_main(const char *name)
{
    static const char odd[] = "\0\0\0\0\0\0\0\0bad \033[2J\xc2\x9b\x31m \xff k\xc3\xbc";
    struct proto_chan ch;
    struct proto_msg m;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    proto_init(&ch, PROTO_FD, PROTO_AT_CELL);
    if (proto_wait(&ch, &m, 5000) != 1 || m.type != PROTO_START)
        return 1;
    proto_msg_free(&m);
    if (!strcmp(name, "odd")) /* FAILED, with text to harm a terminal */
        return proto_send(&ch, &(struct proto_out){
                                   .type = PROTO_FAILED, .body = odd, .len = sizeof(odd) - 1});
    proto_send(&ch, &(struct proto_out){.type = PROTO_MADE});
    if (!strncmp(name, "early", 5)) {
        rubbish(atoi(name + 5));
        pause();
    }
    if (proto_wait(&ch, &m, 5000) != 1 || m.type != PROTO_GO)
        return 1;
    proto_msg_free(&m);
    if (!strncmp(name, "rubbish", 7) && rubbish(atoi(name + 7)))
        pause();
    if (!strcmp(name, "deaf"))
        pause();
    serve(&ch);
    if (!strcmp(name, "hang")) /* it has said that it ended, and does not go */
        pause();
    proto_exit(&ch);
    return 0;
}

/* ---- the monitor's side ---- */

/* One guest and what was told of it. */
struct fixture {
    struct evloop loop;      /* the monitor's */
    struct mguest_host host; /* shared by all guests of it */
    struct guest_cfg cfg;    /* the guest's */
    struct place_got place;  /* the guest's */
    struct mguest g;         /* under test */
    unsigned made, ended;    /* calls of these */
    unsigned replies;        /* likewise */
    int fds;                 /* descriptors open before */
};

static void on_made(void *arg, struct mguest *g)
{
    (void)g;
    ((struct fixture *)arg)->made++;
}

static void on_ready(void *arg, struct mguest *g)
{
    (void)arg;
    (void)g;
}

static void on_ended(void *arg, struct mguest *g)
{
    (void)g;
    ((struct fixture *)arg)->ended++;
}

static void on_reply(void *arg, struct mguest *g, const struct proto_msg *m)
{
    (void)g;
    (void)m;
    ((struct fixture *)arg)->replies++;
}

static const struct mguest_ops ops = {
    .made = on_made, .ready = on_ready, .ended = on_ended, .reply = on_reply};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    log_init(LOG_ERROR, NULL);
    f->fds = open_fds();
    assert_int_equal(evloop_init(&f->loop, NULL), 0);
    f->host = (struct mguest_host){.loop = &f->loop, .rundir = "/tmp", .ops = &ops, .arg = f};
    assert_int_equal(config_parse_guest(&f->cfg, "name = \"g\"; kernel = \"/k\";", NULL), 0);
    f->place = (struct place_got){.nnodes = 1, .views = 1, .ncpu_nodes = 1};
    f->place.node_bytes[0] = f->cfg.memory;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    int leaked;

    config_free_guest(&f->cfg);
    evloop_exit(&f->loop);
    leaked = open_fds() - f->fds;
    free(f);
    return leaked;
}

/* Serves until *n is at least want, or for some seconds; true when it is. */
static bool serve_until(struct fixture *f, const unsigned *n, unsigned want)
{
    uint64_t until = mguest_now() + 10ull * SECOND;

    while (*n < want && mguest_now() < until) {
        evloop_once(&f->loop, 10);
        mguest_expire(&f->g, mguest_now());
    }
    return *n >= want;
}

/* Starts a cell that plays `name`; up to GO if it shall run. */
static void start(struct fixture *f, const char *name, bool run)
{
    free(f->cfg.name);
    f->cfg.name = xstrdup(name);
    f->made = f->ended = f->replies = 0;
    mguest_init(&f->g, &f->host, &f->cfg, &f->place);
    assert_int_equal(mguest_spawn(&f->g, NULL), 0);
    if (!run)
        return;
    assert_true(serve_until(f, &f->made, 1));
    mguest_go(&f->g);
}

/* A cell that does as it should. */
static void test_honest(void **state)
{
    struct fixture *f = *state;

    start(f, "honest", true);
    assert_true(mguest_ask(&f->g, PROTO_STAT, NULL, 0) > 0);
    assert_true(serve_until(f, &f->replies, 1));
    mguest_end(&f->g, WHY_NOW);
    assert_true(serve_until(f, &f->ended, 1));
    assert_string_equal(f->g.end, "stopped");
    assert_true(f->g.ok);
    mguest_free(&f->g);
}

/* The state follows the cell's answers, also when nobody waits for them any more. */
static void test_pause(void **state)
{
    struct fixture *f = *state;

    start(f, "honest", true);
    mguest_ask(&f->g, PROTO_PAUSE, NULL, 0);
    assert_false(f->g.paused);
    assert_true(serve_until(f, &f->replies, 1));
    assert_true(f->g.paused);
    assert_string_equal(mguest_state_name(&f->g), "paused");
    mguest_ask(&f->g, PROTO_RESUME, NULL, 0);
    mguest_ask(&f->g, PROTO_PAUSE, NULL, 0);
    assert_true(serve_until(f, &f->replies, 3));
    assert_true(f->g.paused);
    /* a guest that stands still, or is about to, hears its power button nevertheless */
    mguest_ask(&f->g, PROTO_RESUME, NULL, 0);
    assert_true(serve_until(f, &f->replies, 4));
    mguest_ask(&f->g, PROTO_PAUSE, NULL, 0);
    mguest_stop(&f->g, 0);
    assert_true(serve_until(f, &f->ended, 1));
    assert_string_equal(f->g.end, "poweroff");
    assert_true(f->g.ok);
    mguest_free(&f->g);
}

/* Of several times after which a guest is ended the first counts. */
static void test_stop_twice(void **state)
{
    struct fixture *f = *state;
    uint64_t at;

    start(f, "deaf", true);
    mguest_stop(&f->g, 200);
    at = f->g.kill_at;
    mguest_stop(&f->g, 3600000);
    assert_true(f->g.kill_at == at);
    mguest_stop(&f->g, 0);
    assert_true(f->g.kill_at == at);
    mguest_stop(&f->g, 100);
    assert_true(f->g.kill_at < at);
    assert_true(serve_until(f, &f->ended, 1));
    assert_false(f->g.ok);
    mguest_free(&f->g);
}

/* One that takes no requests costs bounded memory, and ends when told to. */
static void test_deaf(void **state)
{
    struct fixture *f = *state;
    unsigned n = 0;

    start(f, "deaf", true);
    while (n < 10000 && mguest_ask(&f->g, PROTO_STAT, NULL, 0))
        n++;
    assert_in_range(n, 64, 1024);
    assert_int_not_equal(f->g.pid, 0);
    mguest_end(&f->g, WHY_KILL);
    assert_true(serve_until(f, &f->ended, 1));
    assert_string_equal(f->g.end, "killed by signal 9");
    mguest_free(&f->g);
}

/* One that has ended but does not go: its power button's time passes without being due for ever. */
static void test_hang(void **state)
{
    struct fixture *f = *state;
    uint64_t until = mguest_now() + 5ull * SECOND;

    start(f, "hang", true);
    mguest_stop(&f->g, 100);
    while (!f->g.told && mguest_now() < until)
        evloop_once(&f->loop, 10);
    assert_true(f->g.told);
    usleep(200000);
    mguest_expire(&f->g, mguest_now());
    assert_true(!mguest_deadline(&f->g) || mguest_deadline(&f->g) > mguest_now());
    assert_true(serve_until(f, &f->ended, 1));
    assert_string_equal(f->g.end, "poweroff");
    mguest_free(&f->g);
}

/* Rubbish costs that guest, and looks like nothing else whatever the user asks for meanwhile. */
static void test_rubbish(void **state)
{
    struct fixture *f = *state;
    char name[32];

    for (int kind = 0; kind < 13; kind++) {
        snprintf(name, sizeof(name), "%s%d", kind < 4 ? "early" : "rubbish", kind);
        start(f, name, kind >= 4);
        for (int i = 0; i < 500 && f->g.why != WHY_RUBBISH; i++)
            evloop_once(&f->loop, 10);
        assert_int_equal(f->g.why, WHY_RUBBISH);
        mguest_end(&f->g, WHY_NOW);
        mguest_stop(&f->g, 1);
        assert_true(serve_until(f, &f->ended, 1));
        assert_string_equal(f->g.result, "failed: its cell broke the protocol");
        assert_false(f->g.ok);
        mguest_free(&f->g);
    }
}

/* What a cell says reaches people without control characters, as valid UTF-8. */
static void test_odd_text(void **state)
{
    struct fixture *f = *state;

    start(f, "odd", false);
    assert_true(serve_until(f, &f->ended, 1));
    assert_string_equal(f->g.result, "failed: bad  [2J  1m   k\xc3\xbc");
    mguest_free(&f->g);
}

/* All is undone at any point: no process, no descriptor is left. */
static void test_free_anytime(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 20; i++) {
        pid_t pid;

        start(f, "honest", i % 4 == 3);
        for (int k = 0; k < i % 4; k++)
            evloop_once(&f->loop, 1);
        pid = f->g.pid;
        mguest_free(&f->g);
        assert_int_equal(kill(pid, 0), -1);
        assert_int_equal(errno, ESRCH);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        T(test_honest), T(test_pause),   T(test_stop_twice), T(test_deaf),
        T(test_hang),   T(test_rubbish), T(test_odd_text),   T(test_free_anytime),
    };

    if (argc == 3 && !strcmp(argv[1], "cell"))
        return cell_main(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
