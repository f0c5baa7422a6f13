/* SPDX-License-Identifier: MIT */
/*
 * The two commands that become a guest: `disco run FILE` in the foreground without a monitor, and
 * `disco cell NAME`, which a monitor starts (for each guest one) and people do not.
 * Threads: the main thread sets up and waits; signals are taken on the cell's io0.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/log.h"
#include "base/signals.h"
#include "numa/place.h"
#include "numa/topo.h"
#include "vmm/cell/cell.h"
#include "vmm/cell/opener.h"
#include "vmm/cell/proto.h"
#include "vmm/cell/serve.h"
#include "vmm/config/config.h"
#include "vmm/monitor/commands.h"
#include "vmm/monitor/plan.h"

/* A guest in the foreground. */
struct run {
    struct site_cfg site;    /* of one guest */
    struct topo topo;        /* this machine */
    struct place_got *place; /* of the guest */
    struct cell_fds fds;     /* until the cell has them */
    struct cell *cell;       /* the guest */
    struct evsrc sigsrc;     /* signalfd: a signal ends the guest */
    bool json;               /* print all figures at the end */
    bool opened;             /* console sockets are there, and ours */
};

/* A signal asks us to end. */
static void on_signal(void *arg, uint32_t revents)
{
    struct run *r = arg;
    struct signalfd_siginfo si;

    (void)revents;
    if (read(r->sigsrc.fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
        cell_kill(r->cell);
}

/* Turns SIGINT, SIGTERM and SIGHUP into a descriptor; must come before any thread starts. */
static int take_signals(struct run *r, struct err *err)
{
    r->sigsrc = (struct evsrc){.fd = signals_fd(err), .ready = on_signal, .arg = r};
    return r->sigsrc.fd < 0 ? r->sigsrc.fd : 0;
}

/* Configuration, placement, descriptors: everything before the cell. */
static int prepare(struct run *r, const char *file, struct err *err)
{
    int e = config_load(&r->site, file, err);

    if (!e && r->site.nguests != 1)
        e = fail(err, EXIT_CONFIG, EINVAL,
                 "%s: `disco run` runs one guest, this site has %u: use `disco up`", file,
                 r->site.nguests);
    if (!e)
        e = config_check_files(&r->site, err);
    if (!e)
        e = topo_read_here(&r->topo, err);
    if (!e)
        e = site_plan(&r->site, &r->topo, &r->place, err);
    if (!e)
        e = take_signals(r, err);
    if (!e)
        e = cell_open(&r->site.guests[0], false, &r->fds, err);
    r->opened = !e;
    return e;
}

/* Prints the figures as one line of JSON. */
static void print_json(struct cell *c, const struct cell_result *res)
{
    json_t *j = cell_stat(c);

    if (!json_is_object(j))
        return;
    json_object_set_new(j, "end", json_string(cell_end_name(res->end)));
    json_object_set_new(j, "status", json_integer(res->status));
    json_object_set_new(j, "reason", json_string(res->reason));
    json_object_set_new(j, "run_ms", json_real((double)res->run_ns / 1e6));
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    fflush(stdout);
    json_decref(j);
}

/* Makes the cell, runs it to its end; 0 and *status, or -errno. */
static int run_guest(struct run *r, int *status, struct err *err)
{
    const struct guest_cfg *g = &r->site.guests[0];
    struct cell_result res = {0};
    int e = cell_new(&r->cell, g, r->place, &r->fds, err);

    cell_fds_init(&r->fds); /* the cell has them, or closed them */
    if (e)
        return e;
    e = evloop_add(cell_loop(r->cell), &r->sigsrc, EPOLLIN);
    e = e ? fail_errno(err, EXIT_INTERNAL, -e, "signals cannot be watched")
          : cell_start(r->cell, err);
    if (!e) {
        cell_wait(r->cell, &res);
        *status = res.status;
        if (r->json)
            print_json(r->cell, &res);
    }
    cell_free(r->cell); /* gives the terminal back before anything is printed */
    if (!e && res.end == CELL_FAILED)
        fprintf(stderr, "disco: guest %s: %s\n", g->name, res.reason);
    return e;
}

/* Undoes prepare(). */
static void unprepare(struct run *r)
{
    cell_fds_close(&r->fds);
    if (r->opened) /* what cell_open() refused may be another guest's */
        cell_unlink(&r->site.guests[0]);
    if (r->sigsrc.fd >= 0)
        close(r->sigsrc.fd);
    free(r->place);
    topo_free(&r->topo);
    config_free(&r->site);
}

int cmd_run(int argc, char **argv)
{
    static const struct option longopts[] = {
        {"json", no_argument, NULL, 'j'}, {"verbose", no_argument, NULL, 'v'}, {0}};
    struct run r = {.sigsrc.fd = -1};
    struct err err = {0};
    int o, status = EXIT_OK;

    while ((o = getopt_long(argc, argv, ":v", longopts, NULL)) != -1) {
        if (o == 'j')
            r.json = true;
        else if (o == 'v')
            log_init(LOG_DEBUG, NULL);
        else
            return cmd_option("run", o, argv);
    }
    if (optind != argc - 1)
        return cmd_usage("run", "exactly one configuration file is wanted");
    cell_fds_init(&r.fds);
    if (prepare(&r, argv[optind], &err) || run_guest(&r, &status, &err))
        status = cmd_fail(&err);
    unprepare(&r);
    return status;
}

int cmd_cell(int argc, char **argv)
{
    (void)argv;
    if (argc != 2)
        return cmd_usage("cell", "this command is the monitor's own");
    signal(SIGPIPE, SIG_IGN);
    /* even a cell that hangs must not outlive its monitor; one that died already closed the socket */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pthread_setname_np(pthread_self(), "disco-cell"); /* it was started as /proc/self/exe */
    return cell_serve(PROTO_FD);
}
