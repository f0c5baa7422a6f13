/* SPDX-License-Identifier: MIT */
/*
 * The event loop: epoll with one callback a source.  A source removed while a batch of events is
 * being served is remembered until the batch ends, so that a later event of the same batch never
 * calls a source that is gone.  All but stop/wake belongs to the loop's thread; no locks.
 */
#include "base/evloop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/err.h"

enum { BATCH = 64 };

/* Empties the wake-up descriptor. */
static void wake_ready(void *arg, uint32_t revents)
{
    struct evloop *l = arg;
    uint64_t n;

    (void)revents;
    while (read(l->wakefd, &n, sizeof(n)) == (ssize_t)sizeof(n))
        ;
}

int evloop_init(struct evloop *l, struct err *err)
{
    int r;

    *l = (struct evloop){.epfd = -1, .wakefd = -1};
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    if (l->epfd < 0)
        return fail_errno(err, EXIT_INTERNAL, errno, "epoll_create1");
    l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wakefd < 0) {
        int e = errno;

        evloop_exit(l);
        return fail_errno(err, EXIT_INTERNAL, e, "eventfd");
    }
    l->wake = (struct evsrc){.fd = l->wakefd, .ready = wake_ready, .arg = l};
    r = evloop_add(l, &l->wake, EPOLLIN);
    if (!r)
        return 0;
    evloop_exit(l);
    return fail_errno(err, EXIT_INTERNAL, -r, "epoll_ctl of the wake-up descriptor");
}

void evloop_exit(struct evloop *l)
{
    if (l->wakefd >= 0)
        close(l->wakefd);
    if (l->epfd >= 0)
        close(l->epfd);
    free(l->dead);
    *l = (struct evloop){.epfd = -1, .wakefd = -1};
}

int evloop_add(struct evloop *l, struct evsrc *src, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = src};

    src->events = events;
    return epoll_ctl(l->epfd, EPOLL_CTL_ADD, src->fd, &ev) ? -errno : 0;
}

int evloop_mod(struct evloop *l, struct evsrc *src, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = src};

    src->events = events;
    return epoll_ctl(l->epfd, EPOLL_CTL_MOD, src->fd, &ev) ? -errno : 0;
}

void evloop_del(struct evloop *l, struct evsrc *src)
{
    if (l->epfd < 0 || src->fd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_DEL, src->fd, NULL))
        return;
    if (l->ndead == l->capdead) {
        unsigned cap = l->capdead ? 2 * l->capdead : 16;
        struct evsrc **p = realloc(l->dead, cap * sizeof(*p));

        INVARIANT(p, "the host has no memory left for the event loop");
        l->dead = p;
        l->capdead = cap;
    }
    l->dead[l->ndead++] = src;
}

/* True when src was removed earlier in this batch. */
static bool is_dead(const struct evloop *l, const struct evsrc *src)
{
    for (unsigned i = 0; i < l->ndead; i++)
        if (l->dead[i] == src)
            return true;
    return false;
}

void evloop_once(struct evloop *l, int timeout_ms)
{
    struct epoll_event ev[BATCH];
    int n;

    l->ndead = 0;
    n = epoll_wait(l->epfd, ev, BATCH, timeout_ms);
    for (int i = 0; i < n; i++) {
        struct evsrc *src = ev[i].data.ptr;

        if (!is_dead(l, src))
            src->ready(src->arg, ev[i].events);
    }
    l->ndead = 0;
}

void evloop_run(struct evloop *l)
{
    while (!atomic_load(&l->stop))
        evloop_once(l, -1);
}

void evloop_stop(struct evloop *l)
{
    uint64_t one = 1;

    atomic_store(&l->stop, true);
    if (write(l->wakefd, &one, sizeof(one)) < 0)
        return; /* the counter is full: the loop is awake already */
}

void evloop_rearm(struct evloop *l)
{
    atomic_store(&l->stop, false);
}

int evloop_timerfd(uint64_t first_ns, uint64_t period_ns)
{
    struct itimerspec its = {
        .it_value = {.tv_sec = (time_t)(first_ns / 1000000000u),
                     .tv_nsec = (long)(first_ns % 1000000000u)},
        .it_interval = {.tv_sec = (time_t)(period_ns / 1000000000u),
                        .tv_nsec = (long)(period_ns % 1000000000u)},
    };
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

    if (fd < 0)
        return -errno;
    if (timerfd_settime(fd, 0, &its, NULL)) {
        int e = errno;

        close(fd);
        return -e;
    }
    return fd;
}
