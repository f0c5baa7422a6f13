/* SPDX-License-Identifier: MIT */
/*
 * `disco up`: checks and places everything, becomes the monitor, and reports.  With --detach a
 * child becomes the monitor; the parent waits until all guests run, or fails with the child's
 * message.
 * Threads: one, and the switch's.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/place.h"
#include "numa/topo.h"
#include "vmm/config/config.h"
#include "vmm/config/valid.h"
#include "vmm/monitor/client.h"
#include "vmm/monitor/commands.h"
#include "vmm/monitor/monitor.h"
#include "vmm/monitor/plan.h"
#include "vmm/monitor/report.h"

/* What the command line says. */
struct up {
    const char *file;        /* configuration */
    const char *socket;      /* instead of the site's; NULL */
    const char *name;        /* instead of the site's; NULL */
    const char *result;      /* result file; NULL: none */
    const char *svg;         /* picture; NULL: none */
    bool detach;             /* go on in the background */
    bool quiet;              /* no progress */
    int log_level;           /* enum log_level */
    uint64_t start_limit;    /* ms; 0: the monitor's own */
    struct site_cfg site;    /* the configuration */
    struct topo topo;        /* this machine */
    struct place_got *place; /* of each guest */
};

/* Puts the command line's text in the place of the file's. */
static void override(char **field, const char *text)
{
    if (!text)
        return;
    free(*field);
    *field = xstrdup(text);
}

/* Configuration, files, machine, placement: nothing is touched yet. */
static int prepare(struct up *u, struct err *err)
{
    const char *bad = u->name ? valid_name(u->name) : NULL;
    int r = config_load(&u->site, u->file, err);

    if (r)
        return r;
    if (bad)
        return fail(err, EXIT_USAGE, EINVAL, "--site %s: want %s", u->name, bad);
    override(&u->site.socket, u->socket);
    override(&u->site.name, u->name);
    r = config_check_files(&u->site, err);
    if (!r && u->result)
        r = report_result_check(u->result, err);
    if (!r)
        r = topo_read(&u->topo, NULL, err);
    return r ? r : site_plan(&u->site, &u->topo, &u->place, err);
}

/* Lets go of the terminal: what is said from now on goes to a file in the site's directory. */
static int into_background(const struct monitor *m, struct err *err)
{
    char *path = xasprintf("%s/monitor.log", m->place.rundir);
    int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int r = 0;

    fflush(stdout);
    if (log < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
        dup2(log, STDERR_FILENO) < 0)
        r = fail_errno(err, EXIT_RESOURCE, errno, "the monitor's log %s cannot be opened",
                       path);
    if (log >= 0)
        close(log);
    if (null >= 0)
        close(null);
    free(path);
    return r;
}

/* The command that was typed, while it waits for --detach. */
struct asker {
    struct monitor *m; /* what it waits for */
    struct evsrc src;  /* the pipe it reads; not owned */
};

/* Who waits for the start reads no more.  Ctrl-c there means that the site is not wanted; once all
 * guests run it is the ordinary end of `up --detach`. */
static void asker_gone(void *arg, uint32_t revents)
{
    struct asker *a = arg;

    (void)revents;
    evloop_del(&a->m->loop, &a->src);
    if (!a->m->going)
        monitor_stop(a->m, true, 0);
}

/* Runs the site; tellfd as in struct report.  Returns the exit status. */
static int run_site(struct up *u, int tellfd, struct err *err)
{
    struct monitor m;
    struct report rep = {.m = &m, .quiet = u->quiet, .tellfd = tellfd};
    struct asker asker = {.m = &m, .src = {.fd = tellfd, .ready = asker_gone, .arg = &asker}};
    int r = monitor_open(&m, &u->site, u->place, u->log_level, err);
    bool ok;

    if (r)
        return err->status;
    m.events = report_events();
    if (u->start_limit)
        m.start_limit = u->start_limit * 1000000u;
    m.arg = &rep;
    if (tellfd >= 0) {
        evloop_add(&m.loop, &asker.src, 0);
        r = into_background(&m, err);
    }
    if (!r && u->svg)
        r = report_svg(&rep, &u->topo, u->svg, err);
    if (!r)
        r = monitor_run(&m, err);
    if (!r) {
        report_table(&rep);
        if (u->result)
            r = report_result(&rep, u->result, err);
    }
    ok = report_ok(&rep);
    monitor_close(&m);
    if (r)
        return err->status;
    return ok ? EXIT_OK : EXIT_GUEST;
}

/* The child of --detach: the monitor.  Says through tellfd what became of the start. */
static int child(struct up *u, int tellfd)
{
    struct err err = {0};
    int status;

    setsid();
    status = run_site(u, tellfd, &err);
    if (err.status && write(tellfd, &err, sizeof(err)) < 0)
        log_error("%s", err.text); /* the parent is gone */
    return status;
}

/* The parent of --detach: waits for one byte (all run) or an error. */
static int parent(pid_t pid, int fd)
{
    struct err err = {0};
    char *to = (char *)&err;
    size_t len = 0;
    ssize_t n;

    while (len < sizeof(err) && (n = read(fd, to + len, sizeof(err) - len)) != 0) {
        if (n > 0)
            len += (size_t)n;
        else if (errno != EINTR)
            break;
        if (len == 1 && !to[0])
            break;
    }
    if (len == 1) {
        printf("disco: the monitor runs in the background (process %d)\n", (int)pid);
        return EXIT_OK;
    }
    if (len == sizeof(err)) {
        err.text[sizeof(err.text) - 1] = 0;
        return cmd_fail(&err);
    }
    fprintf(stderr, "disco: the monitor ended before its guests ran\n");
    return EXIT_INTERNAL;
}

/* Forks for --detach. */
static int run_detached(struct up *u)
{
    struct err err = {0};
    int fd[2], status;
    pid_t pid;

    if (pipe2(fd, O_CLOEXEC)) {
        fail_errno(&err, EXIT_INTERNAL, errno, "pipe");
        return cmd_fail(&err);
    }
    fflush(NULL);
    pid = fork();
    if (pid < 0) {
        fail_errno(&err, EXIT_INTERNAL, errno, "fork");
        status = cmd_fail(&err);
    } else if (pid == 0) {
        close(fd[0]);
        status = child(u, fd[1]);
        close(fd[1]);
        return status;
    } else {
        close(fd[1]);
        fd[1] = -1;
        status = parent(pid, fd[0]);
    }
    close(fd[0]);
    if (fd[1] >= 0)
        close(fd[1]);
    return status;
}

/* Reads the command line; 0, or an exit status. */
static int parse(struct up *u, int argc, char **argv)
{
    static const struct option longopts[] = {
        {"detach", no_argument, NULL, 'd'},
        {"result", required_argument, NULL, 'R'},
        {"svg", required_argument, NULL, 'S'},
        {"socket", required_argument, NULL, 's'},
        {"site", required_argument, NULL, 'N'},
        {"quiet", no_argument, NULL, 'q'},
        {"start-limit", required_argument, NULL, 'L'},
        {"verbose", no_argument, NULL, 'v'},
        {0},
    };
    int o;

    while ((o = getopt_long(argc, argv, ":ds:qv", longopts, NULL)) != -1) {
        switch (o) {
        case 'd':
            u->detach = true;
            break;
        case 'R':
            u->result = optarg;
            break;
        case 'S':
            u->svg = optarg;
            break;
        case 's':
            u->socket = optarg;
            break;
        case 'N':
            u->name = optarg;
            break;
        case 'L':
            if (!client_time(optarg, &u->start_limit) || !u->start_limit)
                return cmd_usage("up", "'%s' is no time: want 60, 90s or 5min, up to 24h",
                                 optarg);
            break;
        case 'q':
            u->quiet = true;
            break;
        case 'v':
            u->log_level = LOG_DEBUG;
            break;
        default:
            return cmd_option("up", o, argv);
        }
    }
    if (optind != argc - 1)
        return cmd_usage("up", "exactly one configuration file is wanted");
    u->file = argv[optind];
    return 0;
}

int cmd_up(int argc, char **argv)
{
    struct up u = {.log_level = LOG_INFO};
    struct err err = {0};
    int status = parse(&u, argc, argv);

    if (status)
        return status;
    log_init((enum log_level)u.log_level, NULL);
    if (prepare(&u, &err)) {
        status = cmd_fail(&err);
    } else if (u.detach) {
        status = run_detached(&u);
    } else {
        status = run_site(&u, -1, &err);
        if (err.status)
            cmd_fail(&err);
    }
    free(u.place);
    topo_free(&u.topo);
    config_free(&u.site);
    return status;
}
