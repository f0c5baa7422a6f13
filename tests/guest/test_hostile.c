/* SPDX-License-Identifier: MIT */
/*
 * The monitor against cells that lie: this program is the monitor, and the processes it starts are
 * itself again as `disco cell NAME`, which misbehave as their name says.  One honest cell runs
 * beside them and must not notice.  Needs /dev/kvm only because a monitor opens it for its cells.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/place.h"
#include "numa/topo.h"
#include "vmm/cell/cell.h"
#include "vmm/cell/proto.h"
#include "vmm/config/config.h"
#include "vmm/monitor/monitor.h"
#include "vmm/monitor/plan.h"
#include "vmm/monitor/report.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* ---- the cells ---- */

enum { STATUS_REFUSED = 42 }; /* of a cell whose descriptors the kernel refused to pass */

/* One way to misbehave. */
struct lie {
    const char *name;                    /* of the guest */
    bool made;                           /* says MADE and waits for GO first */
    void (*tell)(struct proto_chan *ch); /* what it does then */
    const char *result;                  /* how the monitor must report it; a beginning */
};

/* Sends a message of the protocol. */
static void say(struct proto_chan *ch, enum proto_type type, const void *body, size_t len)
{
    proto_send(ch, &(struct proto_out){.type = type, .seq = 1, .body = body, .len = len});
    proto_drain(ch, 1000);
}

static void tell_garbage(struct proto_chan *ch)
{
    uint8_t buf[4096];

    memset(buf, 0xa5, sizeof(buf));
    for (int i = 0; i < 1000; i++)
        if (send(ch->fd, buf, sizeof(buf), MSG_NOSIGNAL) < 0 && errno != EAGAIN)
            break;
    sleep(60);
}

static void tell_header_only(struct proto_chan *ch)
{
    struct proto_hdr h = {.magic = PROTO_MAGIC, .type = PROTO_READY, .len = 1000};

    send(ch->fd, &h, sizeof(h), MSG_NOSIGNAL);
    sleep(60);
}

static void tell_made_again(struct proto_chan *ch)
{
    say(ch, PROTO_MADE, NULL, 0);
    sleep(60);
}

static void tell_unasked(struct proto_chan *ch)
{
    struct proto_status st = {0};

    for (int i = 0; i < 1000000 && !proto_flush(ch); i++)
        say(ch, PROTO_REPLY, &st, sizeof(st));
    sleep(60);
}

static void tell_end_badly(struct proto_chan *ch)
{
    struct proto_ended e = {.end = 77};

    say(ch, PROTO_ENDED, &e, sizeof(e));
    sleep(60);
}

/* The guest ended, but its process stays. */
static void tell_end_stay(struct proto_chan *ch)
{
    struct proto_ended e = {.end = CELL_POWEROFF};

    say(ch, PROTO_ENDED, &e, sizeof(e));
    sleep(60);
}

/* Figures that nest without end, and a reason that would clear the screen. */
static void tell_deep(struct proto_chan *ch)
{
    size_t n = 1 << 20;
    uint8_t *body = xcalloc(1, sizeof(struct proto_ended) + n);
    struct proto_ended e = {.end = CELL_FAILED};

    memset(e.reason, '\033', sizeof(e.reason));
    memcpy(body, &e, sizeof(e));
    memset(body + sizeof(e), '[', n);
    say(ch, PROTO_ENDED, body, sizeof(e) + n);
    free(body);
}

/* Descriptors nobody asked for, many times. */
static void tell_descriptors(struct proto_chan *ch)
{
    for (int i = 0; i < 100; i++) {
        int fds[PROTO_MAX_FDS];

        for (int f = 0; f < PROTO_MAX_FDS; f++)
            fds[f] = dup(STDIN_FILENO);
        proto_send(ch,
                   &(struct proto_out){.type = PROTO_MADE, .fds = fds, .nfds = PROTO_MAX_FDS});
        /* Linux 6.16 and later refuse them before the monitor sees them. */
        if (proto_drain(ch, 100) < 0)
            exit(STATUS_REFUSED);
    }
    sleep(60);
}

static void tell_hang_up(struct proto_chan *ch)
{
    proto_exit(ch);
    sleep(60);
}

static void tell_exit(struct proto_chan *ch)
{
    (void)ch;
    _exit(7);
}

/* Does what a cell does; ends when asked to. */
static void tell_truth(struct proto_chan *ch)
{
    struct proto_ended e = {.end = CELL_POWEROFF, .run_ns = 1};
    struct proto_status st = {0};
    struct proto_msg m;

    while (proto_wait(ch, &m, -1) == 1) {
        enum proto_type type = m.type;

        proto_send(ch, &(struct proto_out){
                           .type = PROTO_REPLY, .seq = m.seq, .body = &st, .len = sizeof(st)});
        proto_msg_free(&m);
        if (type == PROTO_STOP || type == PROTO_KILL) {
            say(ch, PROTO_ENDED, &e, sizeof(e));
            return;
        }
    }
}

static const struct lie lies[] = {
    {"honest", true, tell_truth, "ok"},
    {"garbage", true, tell_garbage, "failed: its cell broke the protocol"},
    {"header", true, tell_header_only, "failed: its cell broke the protocol"},
    {"again", true, tell_made_again, "failed: its cell broke the protocol"},
    {"unasked", true, tell_unasked, "failed: its cell broke the protocol"},
    {"endbad", true, tell_end_badly, "failed: its cell broke the protocol"},
    {"endstay", true, tell_end_stay, "ok"},
    {"deep", true, tell_deep, "failed:  "},
    {"descr", true, tell_descriptors, "failed: its cell broke the protocol"},
    {"hangup", true, tell_hang_up, "failed: killed by signal 9"},
    {"exit", true, tell_exit, "failed: cell exit 7"},
    /* these lie before the site runs */
    {"early", false, tell_garbage, NULL},
    {"earlyend", false, tell_end_stay, NULL},
    {"earlyexit", false, tell_exit, NULL},
    {0},
};

/* This program as `disco cell NAME`. */
static int cell_main(const char *name)
{
    const struct lie *l = lies;
    struct proto_chan ch;
    struct proto_msg m;

    while (strcmp(l->name, name) != 0)
        l++;
    proto_init(&ch, PROTO_FD, PROTO_AT_CELL);
    if (proto_wait(&ch, &m, -1) != 1 || m.type != PROTO_START)
        return 1;
    proto_msg_free(&m);
    if (l->made) {
        say(&ch, PROTO_MADE, NULL, 0);
        if (proto_wait(&ch, &m, -1) != 1 || m.type != PROTO_GO)
            return 1;
        proto_msg_free(&m);
    }
    l->tell(&ch);
    proto_exit(&ch);
    return 0;
}

/* ---- the monitor ---- */

/* A site of such cells. */
struct fixture {
    char dir[32];            /* where all is */
    struct site_cfg site;    /* the guests */
    struct topo topo;        /* this machine */
    struct place_got *place; /* where they go */
    struct monitor m;        /* the monitor */
};

/* Descriptors this process has open. */
static int open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Writes and loads a site of the guests named, NULL at the end. */
static void load(struct fixture *f, const char *const *names)
{
    char path[64], exe[256];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    struct err err = {0};
    FILE *cfg;

    exe[n] = 0;
    *f = (struct fixture){.dir = "/tmp/disco-hostile.XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    snprintf(path, sizeof(path), "%s/s.cfg", f->dir);
    cfg = fopen(path, "w");
    fprintf(cfg, "socket = \"%s/s\"; rundir = \"%s/run\"; guests = (", f->dir, f->dir);
    for (unsigned i = 0; names[i]; i++)
        fprintf(cfg, "%s { name = \"%s\"; memory = \"4M\"; kernel = \"%s\"; }", i ? "," : "",
                names[i], exe);
    fprintf(cfg, ");\n");
    fclose(cfg);
    if (config_load(&f->site, path, &err) || topo_read(&f->topo, NULL, &err) ||
        site_plan(&f->site, &f->topo, &f->place, &err))
        fail_msg("%s", err.text);
}

/* Removes what load() made; the monitor is closed. */
static void unload(struct fixture *f)
{
    char *cmd = xasprintf("rm -rf %s", f->dir);

    free(f->place);
    topo_free(&f->topo);
    config_free(&f->site);
    assert_int_equal(system(cmd), 0);
    free(cmd);
}

/* When only one guest is left it is the honest one: tells it to go. */
static void on_ended(void *arg, const struct mguest *g)
{
    struct fixture *f = arg;

    (void)g;
    if (f->m.ended == f->site.nguests - 1)
        monitor_stop(&f->m, false, 5000);
}

static const struct monitor_events events = {.ended = on_ended};

/* All lies at once: each costs its own guest. */
static void test_lies(void **state)
{
    const char *names[16] = {0};
    struct fixture f;
    struct err err = {0};
    int before = open_fds();
    unsigned n = 0;

    (void)state;
    for (const struct lie *l = lies; l->name; l++)
        if (l->result)
            names[n++] = l->name;
    load(&f, names);
    if (monitor_open(&f.m, &f.site, f.place, LOG_WARN, &err))
        fail_msg("%s", err.text);
    f.m.events = &events;
    f.m.arg = &f;
    if (monitor_run(&f.m, &err))
        fail_msg("%s", err.text);
    for (unsigned i = 0; i < n; i++) {
        const struct mguest *g = &f.m.guests[i];

        if (lies[i].tell == tell_descriptors && !strcmp(g->result, "failed: cell exit 42"))
            continue;
        if (strncmp(g->result, lies[i].result, strlen(lies[i].result)) != 0)
            fail_msg("%s: '%s' instead of '%s'", names[i], g->result, lies[i].result);
        assert_null(strchr(g->result, '\033'));
    }
    monitor_close(&f.m);
    unload(&f);
    assert_int_equal(open_fds(), before);
}

/* A cell that lies before the site runs: nothing runs, nothing is left. */
static void test_early_lies(void **state)
{
    int before = open_fds();

    (void)state;
    for (const struct lie *l = lies; l->name; l++) {
        const char *names[] = {"honest", l->name, NULL};
        struct fixture f;
        struct err err = {0};

        if (l->result)
            continue;
        load(&f, names);
        if (monitor_open(&f.m, &f.site, f.place, LOG_WARN, &err))
            fail_msg("%s", err.text);
        assert_true(monitor_run(&f.m, &err) < 0);
        assert_non_null(strstr(err.text, l->name));
        monitor_close(&f.m);
        unload(&f);
    }
    assert_int_equal(open_fds(), before);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_early_lies),
    };

    if (argc == 3 && !strcmp(argv[1], "cell"))
        return cell_main(argv[2]);
    if (access("/dev/kvm", R_OK | W_OK)) {
        print_message("skipped: /dev/kvm cannot be opened\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
