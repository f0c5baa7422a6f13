/* SPDX-License-Identifier: MIT */
/*
 * Room for replicas: memory on the host's nodes, and mappings, of which a process has a limited
 * number (vm.max_map_count).
 *
 * A view is one mapping for each run of pages that come from one store; so the map alone tells
 * how many there are: one more wherever a page is seen as a replica and its neighbour is not. 
 * Replicas are made while this is below maps_limit, three quarters of what is left of the
 * system's limit at the start.  The last quarter is for collapses in the midst of runs, which
 * may add two a view; where half of that is used as well, collapses take whole runs and so
 * never add any (room_scarce()).  If the system refuses one earlier, since others of the process
 * have more than was left for them, the limit becomes less than what is in use (room_less()).
 * Invariant: stats.maps is what pager_check() counts in /proc/self/maps.  The lock is held.
 */
#include <errno.h>
#include <numa.h>
#include <stdio.h>
#include <sys/sysinfo.h>

#include "base/log.h"
#include "vmm/machine/machine.h"
#include "vmm/pager/private.h"

enum { MAPS_DEFAULT = 65530, MAPS_OURS = 2000, ASK_AGAIN_NS = 200000000 };

/* Bytes free on the node of the host that a node of ours is; all of the host's where it is
 * none. */
static uint64_t free_bytes(int host)
{
    struct sysinfo si;
    long long left = 0;

    if (host >= 0 && numa_available() >= 0 && numa_node_size64(host, &left) >= 0)
        return left > 0 ? (uint64_t)left : 0;
    return sysinfo(&si) ? 0 : ((uint64_t)si.freeram + si.bufferram) * si.mem_unit;
}

/* Asks what is free, not too often. */
static void refresh(struct pager *p)
{
    uint64_t now = machine_now_ns();

    if (p->free_ns && now - p->free_ns < ASK_AGAIN_NS)
        return;
    p->free_ns = now;
    for (unsigned n = 0; n < p->spec.nnodes; n++)
        p->free[n] = free_bytes(p->spec.node_host[n]);
}

uint64_t pager_spare(struct pager *p, unsigned node)
{
    uint64_t since = enter(p, true), n;

    refresh(p);
    n = p->free[node];
    leave(p, since);
    return n;
}

/* Views of a node. */
static unsigned views_of(const struct pager *p, unsigned node)
{
    unsigned n = 0;

    for (unsigned v = 0; v < p->nviews; v++)
        n += p->spec.view_node[v] == node;
    return n;
}

/* Whether a page of the map is seen as a replica by views of a node; beyond the ends none is. */
static bool seen(const struct pager *p, uint64_t gfn, unsigned node)
{
    struct page_info u;

    if (gfn >= p->spec.mem->span >> PAGE_SHIFT) /* gfn 0 less 1, too */
        return false;
    u = pagemap_get(p->map, gfn);
    return sees_replica(&u, node);
}

/* Mappings that a change of [gfn, gfn + n), alike, adds to one view. */
static int adds(const struct pager *p, uint64_t gfn, uint64_t n, unsigned node, bool replica)
{
    uint64_t end = p->spec.mem->span >> PAGE_SHIFT;
    bool before = seen(p, gfn - 1, node), behind = seen(p, gfn + n, node), was = !replica;
    int more = 0;

    if (gfn)
        more += (before != replica) - (before != was);
    if (gfn + n < end)
        more += (behind != replica) - (behind != was);
    return more;
}

void room_count(struct pager *p, uint64_t gfn, uint64_t n, unsigned node, bool replica)
{
    int more = adds(p, gfn, n, node, replica) * (int)views_of(p, node);

    p->stats.maps += (uint64_t)(int64_t)more;
    if (replica)
        p->free[node] -= p->free[node] < n << PAGE_SHIFT ? p->free[node] : n << PAGE_SHIFT;
}

/* Says once that mappings are used up. */
static void say_maps(struct pager *p)
{
    if (!p->said_maps)
        log_warn("replicas have all %llu mappings they may have: only neighbours of those "
                 "there are get any (raise vm.max_map_count)",
                 (unsigned long long)p->stats.maps);
    p->said_maps = true;
}

int room_for(struct pager *p, uint64_t gfn, uint64_t n, unsigned node)
{
    refresh(p);
    if (p->free[node] < p->spec.keep_free + (n << PAGE_SHIFT))
        return -ENOMEM;
    if (p->stats.maps + 2ull * views_of(p, node) > p->stats.maps_limit &&
        adds(p, gfn, n, node, true) > 0) {
        say_maps(p);
        return -ENOSPC;
    }
    return 0;
}

bool room_scarce(const struct pager *p)
{
    return p->stats.maps > p->stats.maps_limit + p->stats.maps_limit / 6;
}

void room_less(struct pager *p)
{
    say_maps(p);
    if (p->stats.maps_limit > p->stats.maps / 4 * 3)
        p->stats.maps_limit = p->stats.maps / 4 * 3;
}

void room_init(struct pager *p)
{
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
    unsigned most = MAPS_DEFAULT;

    if (f) {
        if (fscanf(f, "%u", &most) != 1)
            most = MAPS_DEFAULT;
        fclose(f);
    }
    if (p->spec.max_maps && p->spec.max_maps < most)
        most = p->spec.max_maps;
    p->stats.maps_limit = (most > 2 * MAPS_OURS ? most - MAPS_OURS : most / 2) / 4 * 3;
}
