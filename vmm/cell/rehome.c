/* SPDX-License-Identifier: MIT */
/*
 * A guest's node changes: views and vCPUs go at once, memory follows, hot blocks first, while the
 * guest runs.  One move at a time; io0 asks for it and sees how far it is.
 *
 * Threads: `mover`, which lives for one move; rehome_*() are called by io0, and rehome_stop() by
 * who takes the cell apart.  Progress is in atomics, the mover writes them.
 */
#include <errno.h>
#include <jansson.h>
#include <numa.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/place.h"
#include "vmm/cell/private.h"
#include "vmm/pager/loop.h"
#include "vmm/pager/settle.h"

enum { BLOCK = 2 << 20 };

/* One move. */
struct rehome {
    struct cell *c;           /* whose */
    struct settle settle;     /* the mover's once it runs; from and to do not change */
    bool started;             /* thread is valid */
    pthread_t thread;         /* mover */
    uint64_t n;               /* entries of block */
    uint64_t *block;          /* gpa of each, in the order in which they move */
    atomic_bool stop;         /* the cell ends */
    atomic_bool over;         /* the mover is through */
    _Atomic uint64_t done;    /* blocks looked at */
    _Atomic uint64_t pages;   /* moved */
    _Atomic int failed;       /* 0 or -errno */
    uint64_t began_ns;        /* when it was asked for */
    _Atomic uint64_t took_ns; /* until it was over */
};

/* ---- the order ---- */

/* A block and how much it is used. */
struct heat {
    uint64_t gpa, use;
};

/* Hottest first, then by address. */
static int hotter(const void *x, const void *y)
{
    const struct heat *a = x, *b = y;

    if (a->use != b->use)
        return a->use > b->use ? -1 : 1;
    return a->gpa < b->gpa ? -1 : a->gpa > b->gpa;
}

/* Puts all blocks of RAM in order. */
static void order(struct rehome *r)
{
    const struct guest_mem *m = &r->c->m.mem;
    uint64_t all = (m->span + BLOCK - 1) / BLOCK, *use = xcalloc(all, sizeof(*use));
    struct heat *h = xcalloc(all, sizeof(*h));

    if (paging_loop(r->c))
        loop_heat(paging_loop(r->c), use, all);
    for (uint64_t b = 0; b < all; b++) {
        if (b * BLOCK >= m->low && b * BLOCK < MEM_HIGH)
            continue;
        h[r->n].gpa = b * BLOCK;
        h[r->n++].use = use[b];
    }
    qsort(h, r->n, sizeof(*h), hotter);
    r->block = xcalloc(r->n, sizeof(*r->block));
    for (uint64_t i = 0; i < r->n; i++)
        r->block[i] = h[i].gpa;
    free(h);
    free(use);
}

/* ---- the thread ---- */

static void *mover(void *arg)
{
    struct rehome *r = arg;
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    pthread_setname_np(pthread_self(), "mover");
    for (uint64_t i = 0; i < r->n && !atomic_load(&r->stop); i++) {
        int64_t n = settle_block(&r->c->m.mem, paging_pager(r->c), &r->settle, r->block[i]);

        if (n < 0) {
            atomic_store(&r->failed, (int)n);
            break;
        }
        atomic_fetch_add(&r->pages, (uint64_t)n);
        atomic_store(&r->done, i + 1);
    }
    atomic_store(&r->took_ns, machine_now_ns() - r->began_ns);
    atomic_store(&r->over, true);
    return NULL;
}

/* ---- asking ---- */

/* True for a node the guest spans. */
static bool spans(const struct place_got *p, int node)
{
    for (unsigned i = 0; i < p->nnodes; i++)
        if (p->nodes[i] == node)
            return true;
    return false;
}

/* Machine and pager take the new node. */
static int take_node(struct cell *c, int from, int to, struct err *err)
{
    int r = machine_rehome(&c->m, from, to, err);

    if (!r && paging_pager(c))
        r = pager_rehome(paging_pager(c), from, to, err);
    if (!r && paging_loop(c))
        loop_rehome(paging_loop(c), from, to);
    if (!r)
        place_rehome(&c->place, from, to);
    return r;
}

int cell_rehome(struct cell *c, int from, int to)
{
    struct rehome *r;
    struct err err = {0};
    long long left;
    int e;

    if (c->rehome && !atomic_load(&c->rehome->over))
        return -EBUSY;
    if (!spans(&c->place, from))
        return -ENOENT;
    if (spans(&c->place, to))
        return -EEXIST;
    if (to > numa_max_node() || numa_node_size64(to, &left) <= 0)
        return -ENODEV;
    if (c->cfg.hugetlb)
        return -EOPNOTSUPP;
    rehome_stop(c);
    e = take_node(c, from, to, &err);
    if (e) {
        log_warn("move from node %d to node %d: %s", from, to, err.text);
        return e;
    }
    r = xcalloc(1, sizeof(*r));
    *r = (struct rehome){.c = c, .began_ns = machine_now_ns()};
    settle_init(&r->settle, from, to, &r->stop);
    order(r);
    c->rehome = r;
    e = pthread_create(&r->thread, NULL, mover, r);
    r->started = !e;
    if (e)
        rehome_stop(c);
    return -e;
}

void rehome_stop(struct cell *c)
{
    struct rehome *r = c->rehome;

    if (!r)
        return;
    atomic_store(&r->stop, true);
    if (r->started)
        pthread_join(r->thread, NULL);
    free(r->block);
    free(r);
    c->rehome = NULL;
}

struct json_t *rehome_json(const struct cell *c)
{
    const struct rehome *r = c->rehome;
    bool over;
    int e;

    if (!r)
        return json_null();
    over = atomic_load(&r->over);
    e = atomic_load(&r->failed);
    return json_pack(
        "{s:i, s:i, s:I, s:I, s:I, s:b, s:o, s:f}", "from", r->settle.from, "to", r->settle.to,
        "blocks", (json_int_t)r->n, "done", (json_int_t)atomic_load(&r->done), "pages_moved",
        (json_int_t)atomic_load(&r->pages), "over", over, "error",
        e ? json_string(strerror(-e)) : json_null(), "ms",
        (double)(over ? atomic_load(&r->took_ns) : machine_now_ns() - r->began_ns) / 1e6);
}
