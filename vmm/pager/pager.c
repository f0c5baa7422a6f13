/* SPDX-License-Identifier: MIT */
/*
 * Makes the pager: stores, guards, map, and the hook by which the VMM's own writes are told.
 * Threads and locks: pager.h; the argument for correctness: actions.c.
 */
#include "vmm/pager/pager.h"

#include <errno.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <numaif.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/machine/machine.h"
#include "vmm/pager/private.h"

/* ---- the VMM's writes ---- */

/* Pages that [gpa, gpa + len) touches. */
static uint64_t touched(uint64_t gpa, uint64_t len)
{
    return ((gpa + len - 1) >> PAGE_SHIFT) - (gpa >> PAGE_SHIFT) + 1;
}

static void write_begins(void *arg, uint64_t gpa, uint64_t len)
{
    struct pager *p = arg;
    uint64_t gfn = gpa >> PAGE_SHIFT, n = touched(gpa, len), since;

    if (!pagemap_pin(p->map, gfn, n))
        return;
    since = enter(p, true);
    if (collapse_range(p, gfn, n)) {
        p->stats.device_writes++;
        p->changes++;
    }
    leave(p, since);
}

static void write_ends(void *arg, uint64_t gpa, uint64_t len)
{
    struct pager *p = arg;

    pagemap_unpin(p->map, gpa >> PAGE_SHIFT, touched(gpa, len));
}

/* ---- making ---- */

int bind_store(const struct pager *p, unsigned node, struct err *err)
{
    int host = p->spec.node_host[node];
    unsigned long mask = host >= 0 && host < 64 ? 1ul << host : 0;
    void *at;
    int e;

    if (!mask)
        return 0;
    at =
        mmap(NULL, p->spec.mem->span, PROT_NONE, MAP_SHARED | MAP_NORESERVE, p->store[node], 0);
    if (at == MAP_FAILED)
        return fail_errno(err, EXIT_MEMORY, errno, "store for replicas: mmap");
    e = mbind(at, p->spec.mem->span, MPOL_PREFERRED, &mask, 65, 0) ? errno : 0;
    munmap(at, p->spec.mem->span);
    return e ? fail_errno(err, EXIT_MEMORY, e, "store for replicas: mbind to node %d", host)
             : 0;
}

/* One memfd a node, as long as the guest's own and empty. */
static int make_stores(struct pager *p, struct err *err)
{
    int r = 0;

    for (unsigned n = 0; n < p->spec.nnodes && !r; n++) {
        p->store[n] = memfd_create("replicas", MFD_CLOEXEC);
        if (p->store[n] < 0 || ftruncate(p->store[n], (off_t)p->spec.mem->span))
            return fail_errno(err, EXIT_MEMORY, errno, "store for replicas");
        r = bind_store(p, n, err);
    }
    return r;
}

/* A vCPU waits at a guarded page. */
static void on_guard(void *arg, unsigned view, uint64_t gpa, enum guard_want want)
{
    struct pager *p = arg;
    uint64_t seen = 0, since;

    if (want == GUARD_WRITE) {
        (void)pager_fault(p, view, gpa, &seen);
        return;
    }
    since = enter(p, true);
    page_touched(p, view, gpa >> PAGE_SHIFT, want == GUARD_TOUCH_WRITE);
    leave(p, since);
}

/* A guard a view. */
static int make_guards(struct pager *p, struct err *err)
{
    const struct guest_mem *m = p->spec.mem;
    int r = 0;

    for (unsigned v = 0; v < m->nviews && !r; v++) {
        struct guard_spec spec = {.base = m->view[v],
                                  .span = m->span,
                                  .store = m->fd,
                                  .index = v,
                                  .host = -1,
                                  .on_vcpu = p->spec.on_vcpu,
                                  .samples = p->spec.samples,
                                  .fault = on_guard,
                                  .arg = p};

        if (p->spec.pin)
            spec.host = p->spec.node_host[p->spec.view_node[v]];
        r = guard_init(&p->guard[v], &spec, err);
        p->nviews += r == 0;
    }
    return r;
}

/* The alias, too, is mapped without flags: pages that moved by copy merge with their
 * neighbours. */
static int plain_alias(struct pager *p, struct err *err)
{
    struct guard_spec alias = {.base = p->spec.mem->alias};
    int r = guard_plain(&alias, 0, p->spec.mem->span, PROT_READ | PROT_WRITE, p->spec.mem->fd);

    return r ? fail_errno(err, EXIT_MEMORY, -r, "guest memory: mmap of the alias") : 0;
}

/* Refuses stores whose pages cannot be taken one by one. */
static int check_store(const struct pager_spec *spec, struct err *err)
{
    struct statfs fs;

    if (!fstatfs(spec->mem->fd, &fs) && fs.f_type == HUGETLBFS_MAGIC)
        return fail(err, EXIT_MEMORY, ENOTSUP,
                    "guest memory in hugetlb pages can't be replicated (leave hugetlb off)");
    return 0;
}

/* Where masters move. */
static bool kernel_moves(const struct pager *p)
{
    if (p->spec.mover == PAGER_MOVE_AUTO)
        return move_allowed(p);
    return p->spec.mover == PAGER_MOVE_KERNEL;
}

int pager_new(struct pager **out, const struct pager_spec *spec, struct err *err)
{
    struct pager *p = xcalloc(1, sizeof(*p));
    int r = check_store(spec, err);

    INVARIANT(spec->nnodes >= 1 && spec->nnodes <= PAGEMAP_NODES, "pager: 1..64 nodes");
    INVARIANT(!spec->samples || !spec->on_vcpu, "pager: reads must not be sent away");
    p->spec = *spec;
    for (unsigned n = 0; n < PAGEMAP_NODES; n++)
        p->store[n] = -1;
    pthread_mutex_init(&p->lock, NULL);
    p->map = pagemap_new(spec->mem->span >> PAGE_SHIFT);
    if (!r && !p->map)
        r = fail(err, EXIT_MEMORY, ENOMEM, "page map of %llu MiB of guest memory",
                 (unsigned long long)(spec->mem->span >> 20));
    if (!r && seen_init(p))
        r = fail(err, EXIT_MEMORY, ENOMEM, "the record of sampled pages");
    if (!r)
        r = make_stores(p, err);
    if (!r)
        r = plain_alias(p, err);
    if (!r)
        r = make_guards(p, err);
    if (r) {
        pager_free(p);
        return r;
    }
    room_init(p);
    p->changes = 1;
    p->stats.kernel_moves = kernel_moves(p);
    p->hook = (struct mem_hook){.begin = write_begins, .end = write_ends, .arg = p};
    spec->mem->hook = &p->hook;
    *out = p;
    return 0;
}

void pager_free(struct pager *p)
{
    if (p->spec.mem->hook == &p->hook)
        p->spec.mem->hook = NULL;
    for (unsigned v = 0; v < p->nviews; v++)
        guard_exit(&p->guard[v]);
    for (unsigned n = 0; n < p->spec.nnodes; n++)
        if (p->store[n] >= 0)
            close(p->store[n]);
    seen_exit(p);
    if (p->map)
        pagemap_free(p->map);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- looking ---- */

const struct pagemap *pager_map(const struct pager *p)
{
    return p->map;
}

uint64_t pager_fault_ns(const struct pager *p)
{
    uint64_t sum = 0;

    for (unsigned v = 0; v < p->nviews; v++) {
        struct timespec t;
        clockid_t clock;

        if (p->guard[v].threaded && !pthread_getcpuclockid(p->guard[v].thread, &clock) &&
            !clock_gettime(clock, &t))
            sum += (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    return sum;
}

void pager_interval(struct pager *p)
{
    pthread_mutex_lock(&p->lock);
    pagemap_interval(p->map);
    pthread_mutex_unlock(&p->lock);
}

void pager_stats(struct pager *p, struct pager_stats *out)
{
    uint64_t since = enter(p, true); /* io0 must not wait behind a long row of actions */

    *out = p->stats;
    leave(p, since);
}
