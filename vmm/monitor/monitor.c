/* SPDX-License-Identifier: MIT */
/*
 * Opens a site, starts it, and keeps it until its last guest has ended.
 *
 * The order of a start, which makes W1 true: socket and lock, loop, signals, the switch, every
 * guest's resources, the control socket; then all processes, then (all cells made) all guests.
 * monitor_close() undoes it from any point.
 * Threads and invariants: see monitor.h.  No locks.
 */
#include "vmm/monitor/monitor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/signals.h"
#include "numa/place.h"
#include "vmm/config/config.h"
#include "vmm/monitor/requests.h"
#include "vmm/monitor/switch.h"

enum { SIGNAL_TIMEOUT_MS = 30000 }; /* from a signal's power button to the end of who is left */

static const uint64_t START_LIMIT = 60000000000u; /* ns; see monitor.start_limit */
static const uint64_t RETRY_NS =
    500000000; /* until clients that could not be taken are tried again */

struct mguest *monitor_guest(struct monitor *m, const char *name)
{
    for (unsigned i = 0; i < m->site->nguests; i++)
        if (!strcmp(m->site->guests[i].name, name))
            return &m->guests[i];
    return NULL;
}

/* ---- what guests tell ---- */

/* A cell waits to be told to run; make_all() counts. */
static void guest_made(void *arg, struct mguest *g)
{
    struct monitor *m = arg;

    (void)g;
    m->made++;
    m->start_by = mguest_now() + m->start_limit;
}

/* Passed on to who shows progress. */
static void guest_ready(void *arg, struct mguest *g)
{
    struct monitor *m = arg;

    if (m->events && m->events->ready)
        m->events->ready(m->arg, g);
}

/* A process is gone.  Before the site runs this is a failed start, which make_all() reports. */
static void guest_ended(void *arg, struct mguest *g)
{
    struct monitor *m = arg;

    m->ended++;
    if (m->going && m->events && m->events->ended)
        m->events->ended(m->arg, g);
    requests_ended(m);
}

/* Passed on to the request that asked. */
static void guest_reply(void *arg, struct mguest *g, const struct proto_msg *msg)
{
    requests_reply(arg, g, msg);
}

static const struct mguest_ops guest_ops = {
    .made = guest_made, .ready = guest_ready, .ended = guest_ended, .reply = guest_reply};

/* ---- ending ---- */

void monitor_stop(struct monitor *m, bool now, uint64_t timeout_ms)
{
    m->stopping = true;
    for (unsigned i = 0; i < m->site->nguests; i++) {
        if (m->guests[i].state == MGUEST_ENDED)
            continue;
        if (now)
            mguest_end(&m->guests[i], WHY_NOW);
        else
            mguest_stop(&m->guests[i], timeout_ms);
    }
}

/* A signal: the first asks guests to end, the next ends them. */
static void on_signal(void *arg, uint32_t revents)
{
    struct monitor *m = arg;
    struct signalfd_siginfo si;

    (void)revents;
    while (read(m->sigsrc.fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
        monitor_stop(m, m->stopping, SIGNAL_TIMEOUT_MS);
}

/* ---- opening ---- */

/* Turns SIGINT, SIGTERM and SIGHUP into a descriptor; before any other thread starts. */
static int take_signals(struct monitor *m, struct err *err)
{
    int r;

    /* cells get an empty mask back, see mguest.c */
    m->sigsrc = (struct evsrc){.fd = signals_fd(err), .ready = on_signal, .arg = m};
    if (m->sigsrc.fd < 0)
        return m->sigsrc.fd;
    r = evloop_add(&m->loop, &m->sigsrc, EPOLLIN);
    return r ? fail_errno(err, EXIT_INTERNAL, -r, "signals cannot be watched") : 0;
}

/* True when some guest has a card on the subnet. */
static bool wants_subnet(const struct site_cfg *site)
{
    for (unsigned i = 0; i < site->nguests; i++)
        for (unsigned n = 0; n < site->guests[i].nnets; n++)
            if (site->guests[i].nets[n].type == CFG_NET_SUBNET)
                return true;
    return false;
}

/* Opens the resources of all guests. */
static int open_guests(struct monitor *m, struct err *err)
{
    int r = 0;

    if (wants_subnet(m->site)) {
        m->subnet = vswitch_new(err);
        if (!m->subnet)
            return -EIO;
    }
    m->host.subnet = m->subnet;
    for (unsigned i = 0; !r && i < m->site->nguests; i++)
        r = mguest_open(&m->guests[i], err);
    return r;
}

/* The control socket comes last: who can connect finds a site whose resources are all open. */
static int open_control(struct monitor *m, struct err *err)
{
    int fd = site_listen(&m->place, err), r;

    if (fd < 0)
        return fd;
    r = control_init(&m->control, &m->loop, fd, requests_control(), m);
    return r ? fail_errno(err, EXIT_INTERNAL, -r, "the control socket cannot be watched") : 0;
}

int monitor_open(struct monitor *m, const struct site_cfg *site, const struct place_got *got,
                 int log_level, struct err *err)
{
    int r;

    *m = (struct monitor){.site = site,
                          .place.lockfd = -1,
                          .sigsrc.fd = -1,
                          .control.src.fd = -1,
                          .begin_ns = mguest_now(),
                          .start_limit = START_LIMIT,
                          .loop = {.epfd = -1, .wakefd = -1}};
    r = site_claim(&m->place, site, err);
    if (r)
        return r;
    m->guests = xcalloc(site->nguests, sizeof(*m->guests));
    m->host = (struct mguest_host){.loop = &m->loop,
                                   .rundir = m->place.rundir,
                                   .log_level = log_level,
                                   .ops = &guest_ops,
                                   .arg = m};
    for (unsigned i = 0; i < site->nguests; i++)
        mguest_init(&m->guests[i], &m->host, &site->guests[i], &got[i]);
    r = evloop_init(&m->loop, err);
    if (!r)
        r = take_signals(m, err);
    if (!r)
        r = open_guests(m, err);
    if (!r)
        r = open_control(m, err);
    if (r)
        monitor_close(m);
    return r;
}

void monitor_close(struct monitor *m)
{
    for (unsigned i = 0; m->guests && i < m->site->nguests; i++)
        mguest_slay(&m->guests[i]); /* all at once; they are reaped below */
    requests_fail(m); /* who still waits is told that there is nothing to wait for */
    if (m->control.src.fd >= 0)
        control_exit(&m->control, 1000); /* before the consoles that clients watch */
    requests_exit(m);
    for (unsigned i = 0; m->guests && i < m->site->nguests; i++)
        mguest_free(&m->guests[i]);
    if (m->subnet)
        vswitch_free(m->subnet);
    if (m->sigsrc.fd >= 0) {
        evloop_del(&m->loop, &m->sigsrc);
        close(m->sigsrc.fd);
    }
    if (m->loop.epfd >= 0)
        evloop_exit(&m->loop);
    free(m->guests);
    m->guests = NULL;
    site_release(&m->place);
}

/* ---- running ---- */

/* The earlier of two times, 0 being never. */
static uint64_t earlier(uint64_t a, uint64_t b)
{
    return !a || (b && b < a) ? b : a;
}

/* Serves one batch of events and does what is due. */
static void step(struct monitor *m)
{
    uint64_t at = requests_deadline(m), now = mguest_now();
    int timeout = -1; /* ms; for ever when nothing is due */

    at = earlier(at, m->start_by);
    if (control_stalled(&m->control))
        at = earlier(at, now + RETRY_NS);
    for (unsigned i = 0; i < m->site->nguests; i++)
        at = earlier(at, mguest_deadline(&m->guests[i]));
    if (at)
        timeout = at <= now ? 0
                            : (int)((at - now) / 1000000u > 60000 ? 60000
                                                                  : (at - now) / 1000000u + 1);
    evloop_once(&m->loop, timeout);
    control_reap(&m->control);
    now = mguest_now();
    for (unsigned i = 0; i < m->site->nguests; i++)
        mguest_expire(&m->guests[i], now);
    requests_expire(m, now);
}

/* The first guest whose process ended without us, or NULL. */
static const struct mguest *first_ended(const struct monitor *m)
{
    for (unsigned i = 0; m->ended && i < m->site->nguests; i++)
        if (m->guests[i].state == MGUEST_ENDED && m->guests[i].why != WHY_NOW)
            return &m->guests[i];
    return NULL;
}

/* No cell got ready for too long: names the first that is not. */
static int too_slow(const struct monitor *m, struct err *err)
{
    const struct mguest *g = m->guests;

    while (g->state != MGUEST_MAKING)
        g++;
    return fail(err, EXIT_GUEST, ETIMEDOUT,
                "guest %s: its cell (process %d) is not made after %.3g s without progress: a "
                "host this slow needs a longer --start-limit",
                g->cfg->name, (int)g->pid, (double)m->start_limit / 1e9);
}

/* Starts all processes, waits until every cell is made, and starts the consoles. */
static int make_all(struct monitor *m, struct err *err)
{
    const struct mguest *g;
    int r = 0;

    for (unsigned i = 0; i < m->site->nguests; i++) {
        r = mguest_spawn(&m->guests[i], err);
        if (r)
            return r;
    }
    m->start_by = mguest_now() + m->start_limit;
    while (m->made < m->site->nguests && !m->ended && !m->stopping &&
           mguest_now() < m->start_by)
        step(m);
    m->start_by = 0;
    /* why it ended is the site's error; its cell may have named the guest already */
    g = first_ended(m);
    if (g && strncmp(g->err.text, "guest ", 6) != 0)
        return fail(err, g->err.status, EIO, "guest %s: %s", g->cfg->name, g->err.text);
    if (g)
        return fail(err, g->err.status, EIO, "%s", g->err.text);
    if (m->stopping || m->ended)
        return fail(err, EXIT_GUEST, EINTR, "the site was ended before it ran");
    if (m->made < m->site->nguests)
        return too_slow(m, err);
    for (unsigned i = 0; !r && i < m->site->nguests; i++)
        r = mguest_listen(&m->guests[i], err);
    return r;
}

int monitor_run(struct monitor *m, struct err *err)
{
    int r = make_all(m, err);

    if (r)
        return r;
    m->going = true;
    for (unsigned i = 0; i < m->site->nguests; i++) {
        mguest_go(&m->guests[i]);
        if (m->events && m->events->started)
            m->events->started(m->arg, &m->guests[i]);
    }
    if (m->events && m->events->running)
        m->events->running(m->arg);
    while (m->ended < m->site->nguests)
        step(m);
    return 0;
}
