/* SPDX-License-Identifier: MIT */
/*
 * The monitor's side of one guest.
 *
 * Invariants.  G1: pid != 0 exactly while a process is there that nobody has reaped, so signals
 * never go astray.  G2: ended() is called once, after the last message was taken and when nothing
 * of the guest is open any more but the rings of its consoles.  G3: nothing waits for a cell.
 * Threads: all on the monitor's loop.
 */
#include "vmm/monitor/mguest.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/cell/handover.h"
#include "vmm/cell/opener.h"
#include "vmm/monitor/conring.h"
#include "vmm/monitor/switch.h"

enum {
    BATCH = 16,        /* messages taken from one cell before the loop looks elsewhere */
    LAST_BATCH = 1024, /* messages taken from one that has ended */
    ASK_MAX = 256,     /* requests a cell may leave unanswered */
};

static const uint64_t SLAY_AFTER = 3000000000u; /* ns a cell has to end when told to */

uint64_t mguest_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void mguest_init(struct mguest *g, const struct mguest_host *host, const struct guest_cfg *cfg,
                 const struct place_got *place)
{
    *g = (struct mguest){.host = host,
                         .cfg = cfg,
                         .place = *place,
                         .chan.fd = -1,
                         .src.fd = -1,
                         .pidsrc.fd = -1};
    cell_fds_init(&g->fds);
}

const char *mguest_state_name(const struct mguest *g)
{
    switch (g->state) {
    case MGUEST_NEW:
    case MGUEST_MAKING:
    case MGUEST_MADE:
        return "starting";
    case MGUEST_RUNNING:
        return g->paused ? "paused" : "running";
    case MGUEST_ENDED:
        return "ended";
    }
    return "?";
}

/* ---- before it runs ---- */

/* Makes a console that the monitor keeps, if the configuration asks for one. */
static int open_console(struct mguest *g, unsigned i, const struct console_cfg *cfg,
                        struct cell_console *fds, struct err *err)
{
    char *path;
    int fd[2], r;

    if (cfg->type != CFG_CON_MONITOR && cfg->type != CFG_CON_STDIO)
        return 0;
    path = xasprintf("%s/%s.%s", g->host->rundir, g->cfg->name, i ? "vconsole" : "console");
    r = conring_new(&g->con[i], path, fd, err);
    free(path);
    if (!r) {
        fds->infd = fd[0];
        fds->outfd = fd[1];
    }
    return r;
}

/* A port of the subnet for one card; its address is the card's before the guest speaks. */
static int open_port(struct mguest *g, unsigned card, struct err *err)
{
    struct vswitch *subnet = g->host->subnet;
    uint8_t mac[6];
    int port;

    INVARIANT(subnet, "a site with subnet cards has a switch");
    port = vswitch_port(subnet, g->cfg->name, &g->fds.net[card], err);
    if (port < 0)
        return port;
    config_mac(g->cfg, card, mac);
    if (vswitch_own(subnet, port, mac))
        log_warn("%s: net %u: the switch has no room for its address", g->cfg->name, card);
    return 0;
}

int mguest_open(struct mguest *g, struct err *err)
{
    int r = open_console(g, 0, &g->cfg->console, &g->fds.console, err);

    if (!r)
        r = open_console(g, 1, &g->cfg->vconsole, &g->fds.vconsole, err);
    for (unsigned i = 0; !r && i < g->cfg->nnets; i++)
        if (g->cfg->nets[i].type == CFG_NET_SUBNET)
            r = open_port(g, i, err);
    if (r) {
        cell_fds_close(&g->fds);
        return r;
    }
    r = cell_open(g->cfg, true, &g->fds, err);
    g->opened = !r;
    return r;
}

/* Starts `disco cell NAME` with nothing but the socket and standard output and error. */
static int spawn(struct mguest *g, int sock)
{
    char exe[] = "/proc/self/exe", prog[] = "disco", cmd[] = "cell";
    char *name = xstrdup(g->cfg->name);
    char *argv[] = {prog, cmd, name, NULL};
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t none, all;
    int r;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&at);
    posix_spawnattr_setsigmask(&at, &none);
    posix_spawnattr_setsigdefault(&at, &all);
    /* a session of its own: ctrl-c at our terminal is for us */
    posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                      POSIX_SPAWN_SETSID);
    /* in this order: the socket may be any descriptor, even one of those overwritten later */
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, sock, PROTO_FD);
    posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, STDERR_FILENO, STDOUT_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&fa, PROTO_FD + 1);
    r = posix_spawn(&g->pid, exe, &fa, &at, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&at);
    free(name);
    if (r)
        g->pid = 0;
    return -r;
}

/* Sends START with all descriptors; they are the cell's from then on. */
static int send_start(struct mguest *g)
{
    struct handover h = {
        .cfg = *g->cfg, .place = g->place, .fds = g->fds, .log_level = g->host->log_level};
    int fds[PROTO_MAX_FDS];
    struct proto_out out = {.type = PROTO_START, .fds = fds};
    char *text = handover_pack(&h, fds, &out.nfds);
    int r;

    cell_fds_init(&g->fds); /* proto_send() owns them now */
    out.body = text;
    out.len = strlen(text);
    r = proto_send(&g->chan, &out);
    free(text);
    return r;
}

static void chan_ready(void *arg, uint32_t revents);
static void pid_ready(void *arg, uint32_t revents);

/* Watches the process and its socket. */
static int watch_process(struct mguest *g)
{
    int fd = (int)syscall(SYS_pidfd_open, g->pid, 0), r;

    if (fd < 0)
        return -errno;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    g->pidsrc = (struct evsrc){.fd = fd, .ready = pid_ready, .arg = g};
    r = evloop_add(g->host->loop, &g->pidsrc, EPOLLIN);
    g->src = (struct evsrc){.fd = g->chan.fd, .ready = chan_ready, .arg = g};
    return r ? r : evloop_add(g->host->loop, &g->src, EPOLLIN);
}

int mguest_spawn(struct mguest *g, struct err *err)
{
    int sv[2], r = proto_pair(sv);

    if (r)
        return fail_errno(err, EXIT_INTERNAL, -r, "socketpair for guest %s", g->cfg->name);
    proto_init(&g->chan, sv[0], PROTO_AT_MONITOR);
    proto_no_fds(sv[0]);
    r = spawn(g, sv[1]);
    close(sv[1]);
    if (r)
        return fail_errno(err, EXIT_INTERNAL, -r, "the process of guest %s cannot be started",
                          g->cfg->name);
    r = watch_process(g);
    if (!r)
        r = send_start(g);
    if (r && r != -EPIPE) /* dead already: its pidfd tells how */
        return fail_errno(err, EXIT_INTERNAL, -r, "the process of guest %s cannot be reached",
                          g->cfg->name);
    g->state = MGUEST_MAKING;
    return 0;
}

int mguest_listen(struct mguest *g, struct err *err)
{
    int r = 0;

    for (unsigned i = 0; !r && i < 2; i++)
        if (g->con[i])
            r = conring_start(g->con[i], g->host->loop, err);
    if (r)
        err_prefix(err, "guest %s", g->cfg->name);
    return r;
}

/* ---- messages ---- */

/* Watches for room exactly while something is queued. */
static void watch_room(struct mguest *g)
{
    uint32_t want = EPOLLIN | (proto_pending(&g->chan) ? EPOLLOUT : 0);

    if (g->src.fd >= 0 && want != g->src.events)
        evloop_mod(g->host->loop, &g->src, want);
}

uint32_t mguest_ask(struct mguest *g, enum proto_type type, const void *body, size_t len)
{
    struct proto_out out = {.type = type, .body = body, .len = len};

    if (g->src.fd < 0 || g->unanswered >= ASK_MAX)
        return 0;
    if (!++g->seq)
        g->seq = 1;
    out.seq = g->seq;
    g->unanswered += type != PROTO_GO;
    if (type == PROTO_PAUSE || type == PROTO_RESUME) {
        g->halt = type == PROTO_PAUSE;
        g->halt_seq = g->seq;
    }
    if (proto_send(&g->chan, &out)) {
        mguest_slay(g); /* it does not read: it hangs, or is gone */
        return 0;
    }
    watch_room(g);
    return g->seq;
}

void mguest_go(struct mguest *g)
{
    g->state = MGUEST_RUNNING;
    g->start_ns = mguest_now();
    mguest_ask(g, PROTO_GO, NULL, 0);
}

/* Stops listening to the cell. */
static void hang_up(struct mguest *g)
{
    if (g->src.fd < 0)
        return;
    evloop_del(g->host->loop, &g->src);
    g->src.fd = -1;
    proto_exit(&g->chan);
}

/* The cell broke the protocol. */
static void rubbish(struct mguest *g, const char *what)
{
    log_warn("the cell of guest %s %s and is killed", g->cfg->name, what);
    g->why = WHY_RUBBISH;
    hang_up(g);
    mguest_slay(g);
}

/* FAILED: there will be no guest. */
static void take_failed(struct mguest *g, const struct proto_msg *m)
{
    struct proto_status st;

    memcpy(&st, m->body, sizeof(st));
    g->err.status =
        st.status > EXIT_OK && st.status <= EXIT_INTERNAL ? st.status : EXIT_INTERNAL;
    proto_text(g->err.text, sizeof(g->err.text), m->body + sizeof(st), m->len - sizeof(st));
    g->slay_at = mguest_now() + SLAY_AFTER;
}

/* ENDED: how the guest ended; the process goes next. */
static void take_ended(struct mguest *g, const struct proto_msg *m)
{
    struct proto_ended e;

    memcpy(&e, m->body, sizeof(e));
    if (e.end == CELL_RUNNING || e.end > CELL_FAILED) {
        rubbish(g, "ended its guest in an unknown way");
        return;
    }
    g->told = true;
    g->kill_at = 0; /* that is done; slay_at sees to the process */
    g->res.end = (enum cell_end)e.end;
    g->res.status = e.status;
    g->res.ready_ns = e.ready_ns;
    g->res.run_ns = e.run_ns;
    proto_text(g->res.reason, sizeof(g->res.reason), e.reason, sizeof(e.reason));
    if (e.ready_ns && !g->ready_ns) { /* it was up for too short a time to be told before */
        g->ready_ns = e.ready_ns;
        g->host->ops->ready(g->host->arg, g);
    }
    /* figures are for showing only: what is no object is left out, no reason to doubt the end */
    json_decref(g->stat);
    g->stat = json_loadb((char *)m->body + sizeof(e), m->len - sizeof(e), 0, NULL);
    if (!json_is_object(g->stat)) {
        json_decref(g->stat);
        g->stat = NULL;
    }
    g->slay_at = mguest_now() + SLAY_AFTER;
}

/* REPLY: what it says of the guest's state holds whether or not the asker is still there. */
static void take_reply(struct mguest *g, const struct proto_msg *m)
{
    struct proto_status st;

    memcpy(&st, m->body, sizeof(st));
    g->unanswered--;
    if (m->seq == g->halt_seq && !st.status)
        g->paused = g->halt;
    g->host->ops->reply(g->host->arg, g, m);
}

/* Does what a message asks, if it may come in this state. */
static void handle(struct mguest *g, const struct proto_msg *m)
{
    struct proto_ready ready;
    bool runs = g->state == MGUEST_RUNNING && !g->told;

    switch (m->type) {
    case PROTO_MADE:
        if (g->state != MGUEST_MAKING)
            break;
        g->state = MGUEST_MADE;
        g->host->ops->made(g->host->arg, g);
        return;
    case PROTO_READY:
        if (!runs || g->ready_ns)
            break;
        memcpy(&ready, m->body, sizeof(ready));
        g->ready_ns = ready.ready_ns ? ready.ready_ns : 1;
        g->host->ops->ready(g->host->arg, g);
        return;
    case PROTO_REPLY:
        if (!g->unanswered || !m->seq || m->seq > g->seq)
            break;
        take_reply(g, m);
        return;
    case PROTO_FAILED:
        if (g->told || g->err.status)
            break;
        take_failed(g, m);
        return;
    case PROTO_ENDED:
        if (!runs)
            break;
        take_ended(g, m);
        return;
    default:
        break;
    }
    rubbish(g, "sent a message out of turn");
}

/* Takes up to n messages. */
static void take_messages(struct mguest *g, int n)
{
    struct proto_msg m;
    int r = 1;

    for (int i = 0; i < n && g->src.fd >= 0; i++) {
        r = proto_recv(&g->chan, &m);
        if (r != 1)
            break;
        handle(g, &m);
        proto_msg_free(&m);
    }
    if (g->src.fd < 0 || r >= 0)
        return;
    /* either way the process must be gone soon: its socket was its only way to be of use */
    if (r == -EPIPE)
        hang_up(g); /* its process ends, or has: the pidfd tells */
    else
        rubbish(g, "sent a broken message");
    if (g->pid && !g->slay_at)
        g->slay_at = mguest_now() + SLAY_AFTER;
}

/* The cell's socket has something for us, or takes something again. */
static void chan_ready(void *arg, uint32_t revents)
{
    struct mguest *g = arg;

    if ((revents & EPOLLOUT) && g->src.fd >= 0) {
        proto_flush(&g->chan); /* an error shows up when reading, too */
        watch_room(g);
    }
    take_messages(g, BATCH);
}

/* ---- the end ---- */

/* How a guest ended whose cell told us. */
static void conclude_told(struct mguest *g)
{
    const struct cell_result *res = &g->res;
    const char *fault = NULL;

    snprintf(g->end, sizeof(g->end), "%s", cell_end_name(res->end));
    if (res->end == CELL_DEBUG_EXIT) {
        snprintf(g->end, sizeof(g->end), "debug-exit %d", res->status);
        if (res->status != 1)
            fault = g->end;
    } else if (res->end == CELL_FAILED) {
        fault = res->reason[0] ? res->reason : "for no reason that was given";
    } else if (res->end == CELL_STOPPED && g->why == WHY_LATE) {
        fault = "did not switch itself off in time and was ended";
    } else if (res->end == CELL_STOPPED && g->why != WHY_NOW) {
        fault = g->why == WHY_KILL ? "ended by the user" : "ended from outside";
    }
    g->ok = !fault;
    snprintf(g->result, sizeof(g->result), "%s%s", fault ? "failed: " : "ok",
             fault ? fault : "");
}

/* How a guest ended that never ran: as its cell said. */
static void conclude_failed(struct mguest *g)
{
    static const char head[] = "failed: ";
    size_t n = sizeof(head) - 1;

    memcpy(g->result, head, n);
    proto_text(g->result + n, sizeof(g->result) - n, g->err.text, strlen(g->err.text));
}

/* How a guest ended whose process just ended; wstatus is wait's. */
static void conclude(struct mguest *g, int wstatus)
{
    /* "down --now" asks for exactly this; nobody else's signal is what the user asked for */
    bool by_us = g->why == WHY_NOW && WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGKILL;

    if (g->told && g->why != WHY_RUBBISH) {
        conclude_told(g);
        return;
    }
    if (WIFSIGNALED(wstatus))
        snprintf(g->end, sizeof(g->end), "killed by signal %d", WTERMSIG(wstatus));
    else
        snprintf(g->end, sizeof(g->end), "cell exit %d", WEXITSTATUS(wstatus));
    g->ok = by_us;
    if (g->why == WHY_RUBBISH)
        snprintf(g->result, sizeof(g->result), "failed: its cell broke the protocol");
    else if (g->err.status)
        conclude_failed(g);
    else
        snprintf(g->result, sizeof(g->result), by_us ? "ok" : "failed: %s", g->end);
    if (!g->err.status)
        fail(&g->err, EXIT_GUEST, 0, "guest %s: its process ended (%s)", g->cfg->name, g->end);
}

/* The process is gone: takes its last words, closes all, tells the monitor. */
static void process_ended(struct mguest *g, int wstatus)
{
    g->pid = 0; /* reaped (G1) */
    g->end_ns = mguest_now();
    g->kill_at = g->slay_at = 0;
    take_messages(g, LAST_BATCH); /* what it sent before it ended is still in the socket */
    g->slay_at = 0;
    hang_up(g);
    evloop_del(g->host->loop, &g->pidsrc);
    close(g->pidsrc.fd);
    g->pidsrc.fd = -1;
    cell_unlink(g->cfg);
    g->opened = false;
    conclude(g, wstatus);
    g->state = MGUEST_ENDED;
    for (unsigned i = 0; i < 2; i++)
        if (g->con[i])
            conring_ended(g->con[i]);
    g->host->ops->ended(g->host->arg, g);
}

/* The pidfd tells that the process ended. */
static void pid_ready(void *arg, uint32_t revents)
{
    struct mguest *g = arg;
    int wstatus;

    (void)revents;
    if (g->pid && waitpid(g->pid, &wstatus, WNOHANG) == g->pid)
        process_ended(g, wstatus);
}

void mguest_stop(struct mguest *g, uint64_t timeout_ms)
{
    uint64_t at = mguest_now() + timeout_ms * 1000000u;

    if (g->state != MGUEST_RUNNING) { /* there is no guest yet that could be asked */
        mguest_end(g, WHY_NOW);
        return;
    }
    if (!g->pid || g->told || g->why == WHY_RUBBISH)
        return;
    if (g->halt) /* a guest that stands still, or soon will, cannot switch itself off */
        mguest_ask(g, PROTO_RESUME, NULL, 0);
    g->why = WHY_ASKED;
    mguest_ask(g, PROTO_STOP, NULL, 0);
    if (timeout_ms && (!g->kill_at || at < g->kill_at))
        g->kill_at = at;
}

void mguest_end(struct mguest *g, enum mguest_why why)
{
    if (!g->pid || g->told || g->why == WHY_RUBBISH)
        return; /* it is ending already */
    g->why = why;
    g->kill_at = 0;
    /* a cell ends its guest in order: figures are taken, disks are flushed; but it must be quick */
    g->slay_at = mguest_now() + SLAY_AFTER;
    if (g->state != MGUEST_RUNNING || !mguest_ask(g, PROTO_KILL, NULL, 0))
        mguest_slay(g);
}

void mguest_slay(struct mguest *g)
{
    g->slay_at = 0;
    if (g->pid)
        kill(g->pid, SIGKILL);
}

uint64_t mguest_deadline(const struct mguest *g)
{
    if (!g->kill_at || (g->slay_at && g->slay_at < g->kill_at))
        return g->slay_at;
    return g->kill_at;
}

void mguest_expire(struct mguest *g, uint64_t now)
{
    if (g->kill_at && now >= g->kill_at) {
        g->kill_at =
            0; /* even if there is nothing to end: what is past must not be due again */
        mguest_end(g, WHY_LATE);
    }
    if (g->slay_at && now >= g->slay_at) {
        log_warn("the cell of guest %s does not end and is killed", g->cfg->name);
        mguest_slay(g);
    }
}

void mguest_free(struct mguest *g)
{
    mguest_slay(g);
    if (g->pid)
        waitpid(g->pid, NULL, 0);
    g->pid = 0;
    hang_up(g);
    proto_exit(&g->chan);
    if (g->pidsrc.fd >= 0) {
        evloop_del(g->host->loop, &g->pidsrc);
        close(g->pidsrc.fd);
        g->pidsrc.fd = -1;
    }
    cell_fds_close(&g->fds);
    if (g->opened)
        cell_unlink(g->cfg);
    for (unsigned i = 0; i < 2; i++)
        conring_free(g->con[i]);
    g->con[0] = g->con[1] = NULL;
    json_decref(g->stat);
    g->stat = NULL;
}
