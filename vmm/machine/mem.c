/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: makes the store (a sealed memfd), puts its ranges on host nodes and maps it for
 * the VMM and for every view.
 * Interface: mem_init() and mem_exit() make and unmake; mem_at(), mem_read(), mem_write() are
 * the checked accesses everybody else uses.
 *
 * Invariants: M1 and M2 of the header.  The store has its final size before it is sealed; no
 * page of the hole is ever touched, so the hole costs address space only.
 * Threads: one thread sets up; afterwards everything here is read-only.
 */
#include "vmm/machine/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <numa.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/err.h"

#define HUGE_PAGE 0x200000ull /* alignment of every mapping; RAM comes in multiples of it */
#define MIB       (1ull << 20)

/* One contiguous range of RAM as (gpa, length). */
struct span {
    uint64_t gpa; /* first byte */
    uint64_t len; /* bytes, may be 0 */
};

/* The gpa ranges of RAM bytes [from, from + len), counted without the hole: below and above. */
static void ram_to_gpa(const struct guest_mem *m, uint64_t from, uint64_t len,
                       struct span out[2])
{
    uint64_t below = from < m->low ? m->low - from : 0;

    if (below > len)
        below = len;
    out[0] = (struct span){.gpa = from, .len = below};
    out[1] = (struct span){.gpa = MEM_HIGH + (from + below - m->low), .len = len - below};
}

/* Checks what the configuration asks for, before anything is made. */
static int spec_check(const struct mem_spec *spec, struct err *err)
{
    uint64_t sum = 0;

    INVARIANT(spec->nviews >= 1 && spec->nviews <= MEM_MAX_VIEWS,
              "mem: 1..MEM_MAX_VIEWS views");
    INVARIANT(spec->nnodes <= MEM_MAX_NODES, "mem: at most MEM_MAX_NODES nodes");
    if (spec->size == 0 || spec->size % HUGE_PAGE)
        return fail(err, EXIT_MEMORY, EINVAL,
                    "guest memory of %llu bytes: must be a multiple of 2 MiB and not 0",
                    (unsigned long long)spec->size);
    for (unsigned i = 0; i < spec->nnodes; i++) {
        if (spec->node_bytes[i] % (spec->hugetlb ? HUGE_PAGE : MEM_PAGE))
            return fail(
                err, EXIT_MEMORY, EINVAL,
                "guest memory for node %d: %llu bytes is not a multiple of the page size",
                spec->nodes[i], (unsigned long long)spec->node_bytes[i]);
        sum += spec->node_bytes[i];
    }
    INVARIANT(spec->nnodes == 0 || sum == spec->size, "mem: node_bytes sum to size");
    return 0;
}

/* True when this host has nodes to choose from. */
static bool host_is_numa(void)
{
    return numa_available() >= 0 && numa_num_configured_nodes() > 1;
}

/* Refuses what cannot fit: more than a node, or the machine, has in all.  What is free now is the
 * business of whoever placed the guest. */
static int fits_check(const struct mem_spec *spec, struct err *err)
{
    struct sysinfo si;
    uint64_t have;

    if (sysinfo(&si) == 0) {
        have = (uint64_t)si.totalram * si.mem_unit;
        if (spec->size > have)
            return fail(err, EXIT_MEMORY, ENOMEM,
                        "guest memory of %llu MiB: this machine has %llu MiB in all",
                        (unsigned long long)(spec->size / MIB),
                        (unsigned long long)(have / MIB));
    }
    for (unsigned i = 0; host_is_numa() && i < spec->nnodes; i++) {
        long long node = numa_node_size64(spec->nodes[i], NULL);

        if (node < 0)
            return fail(err, EXIT_MEMORY, ENOENT, "guest memory on node %d: no such node here",
                        spec->nodes[i]);
        if (spec->node_bytes[i] > (uint64_t)node)
            return fail(err, EXIT_MEMORY, ENOMEM,
                        "guest memory of %llu MiB on node %d: that node has %llu MiB in all",
                        (unsigned long long)(spec->node_bytes[i] / MIB), spec->nodes[i],
                        (unsigned long long)((uint64_t)node / MIB));
    }
    return 0;
}

/* Makes the sealed memfd of m->span bytes. */
static int store_make(struct guest_mem *m, bool hugetlb, struct err *err)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

    if (hugetlb)
        flags |= MFD_HUGETLB | MFD_HUGE_2MB;
    m->fd = memfd_create("guest-memory", flags);
    if (m->fd < 0)
        return fail_errno(err, hugetlb ? EXIT_MEMORY : EXIT_INTERNAL, errno,
                          "guest memory: memfd_create%s", hugetlb ? " with 2 MiB pages" : "");
    if (ftruncate(m->fd, (off_t)m->span) < 0)
        return fail_errno(err, EXIT_MEMORY, errno, "guest memory: ftruncate to %llu MiB",
                          (unsigned long long)(m->span / MIB));
    if (fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return fail_errno(err, EXIT_INTERNAL, errno, "guest memory: F_ADD_SEALS");
    return 0;
}

/* Maps the store once more, at a multiple of 2 MiB. */
static int map_store(const struct guest_mem *m, uint8_t **out, struct err *err)
{
    uint8_t *hole, *at, *end;

    hole = mmap(NULL, m->span + HUGE_PAGE, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (hole == MAP_FAILED)
        return fail_errno(err, EXIT_MEMORY, errno, "guest memory: mmap of %llu MiB",
                          (unsigned long long)(m->span / MIB));
    end = hole + m->span + HUGE_PAGE;
    at = hole + (-(uintptr_t)hole & (HUGE_PAGE - 1));
    if (at > hole)
        munmap(hole, (size_t)(at - hole));
    if (end > at + m->span)
        munmap(at + m->span, (size_t)(end - at - m->span));
    if (mmap(at, m->span, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, m->fd,
             0) == MAP_FAILED) {
        int e = errno;

        munmap(at, m->span);
        return fail_errno(err, EXIT_MEMORY, e, "guest memory: mmap of %llu MiB of the store",
                          (unsigned long long)(m->span / MIB));
    }
    madvise(at, m->span, MADV_HUGEPAGE); /* refused where the host has no THP: nothing lost */
    madvise(at, m->span, MADV_DONTDUMP);
    *out = at;
    return 0;
}

/* Gives a span of RAM, counted without the hole, a policy on the nodes in mask.  It belongs to the file: it
 * holds for every mapping and every thread. */
static int set_policy(const struct guest_mem *m, struct span ram, int mode,
                      const struct bitmask *mask, struct err *err)
{
    struct span part[2];

    ram_to_gpa(m, ram.gpa, ram.len, part);
    for (unsigned i = 0; i < 2; i++)
        if (part[i].len && mbind(m->alias + part[i].gpa, part[i].len, mode, mask->maskp,
                                 mask->size + 1, 0) < 0)
            return fail_errno(
                err, EXIT_MEMORY, errno, "guest memory: mbind of %llu MiB to %u node%s",
                (unsigned long long)(part[i].len / MIB), numa_bitmask_weight(mask),
                numa_bitmask_weight(mask) == 1 ? "" : "s");
    return 0;
}

/* Adds a host node to a mask. */
static int add_node(struct bitmask *mask, int node, struct err *err)
{
    if (node < 0 || (unsigned)node >= mask->size)
        return fail(err, EXIT_MEMORY, ENOENT, "guest memory on node %d: no such node here",
                    node);
    numa_bitmask_setbit(mask, (unsigned)node);
    return 0;
}

/* Puts each node's share of RAM on that node: node 0's bytes first, counted without the hole. */
static int bind_split(const struct guest_mem *m, const struct mem_spec *spec,
                      struct bitmask *mask, struct err *err)
{
    struct span share = {.gpa = 0};
    int ret = 0;

    for (unsigned i = 0; i < spec->nnodes && ret == 0; i++) {
        numa_bitmask_clearall(mask);
        ret = add_node(mask, spec->nodes[i], err);
        share.len = spec->node_bytes[i];
        if (ret == 0 && share.len)
            ret = set_policy(m, share, MPOL_BIND, mask, err);
        share.gpa += share.len;
    }
    return ret;
}

/* All of RAM may be on any of the nodes.  Bound to several, a page goes to the one of the thread
 * that asks for it, or to the nearest with room. */
static int bind_all(const struct guest_mem *m, const struct mem_spec *spec,
                    struct bitmask *mask, struct err *err)
{
    int mode = spec->placement == MEM_INTERLEAVE ? MPOL_INTERLEAVE : MPOL_BIND, ret = 0;

    for (unsigned i = 0; i < spec->nnodes && ret == 0; i++)
        ret = add_node(mask, spec->nodes[i], err);
    return ret ? ret : set_policy(m, (struct span){.len = m->size}, mode, mask, err);
}

/* Tells the kernel where RAM is to be. */
static int bind_nodes(const struct guest_mem *m, const struct mem_spec *spec, struct err *err)
{
    struct bitmask *mask;
    int ret;

    if (spec->nnodes == 0 || !host_is_numa())
        return 0;
    mask = numa_allocate_nodemask();
    ret = spec->placement == MEM_SPLIT ? bind_split(m, spec, mask, err)
                                       : bind_all(m, spec, mask, err);
    numa_free_nodemask(mask);
    return ret;
}

int mem_rebind(const struct guest_mem *m, const struct mem_spec *spec, struct err *err)
{
    return bind_nodes(m, spec, err);
}

/* Takes the hugetlb pages now: a guest must not die later of a pool that was too small. */
static int take_hugetlb(const struct guest_mem *m, struct err *err)
{
    struct span part[2];

    ram_to_gpa(m, 0, m->size, part);
    for (unsigned i = 0; i < 2; i++)
        if (part[i].len && fallocate(m->fd, 0, (off_t)part[i].gpa, (off_t)part[i].len) < 0)
            return fail_errno(err, EXIT_MEMORY, errno,
                              "guest memory: %llu MiB in 2 MiB hugetlb pages (raise "
                              "/proc/sys/vm/nr_hugepages or leave hugetlb off)",
                              (unsigned long long)(m->size / MIB));
    return 0;
}

/* The steps of mem_init() that leave something to undo. */
static int make_and_map(struct guest_mem *m, const struct mem_spec *spec, struct err *err)
{
    int ret = store_make(m, spec->hugetlb, err);

    if (ret == 0)
        ret = map_store(m, &m->alias, err);
    if (ret == 0)
        ret = bind_nodes(m, spec, err);
    if (ret == 0 && spec->hugetlb)
        ret = take_hugetlb(m, err);
    for (; ret == 0 && m->nviews < spec->nviews; m->nviews += ret == 0)
        ret = map_store(m, &m->view[m->nviews], err);
    return ret;
}

int mem_init(struct guest_mem *m, const struct mem_spec *spec, struct err *err)
{
    int ret;

    *m = (struct guest_mem){.fd = -1};
    ret = spec_check(spec, err);
    if (ret == 0)
        ret = fits_check(spec, err);
    if (ret < 0)
        return ret;
    m->size = spec->size;
    m->low = spec->size < MEM_LOW_MAX ? spec->size : MEM_LOW_MAX;
    m->high = spec->size - m->low;
    m->span = m->high ? MEM_HIGH + m->high : m->low;
    ret = make_and_map(m, spec, err);
    if (ret < 0)
        mem_exit(m);
    return ret;
}

void mem_exit(struct guest_mem *m)
{
    for (unsigned i = 0; i < m->nviews; i++)
        munmap(m->view[i], m->span);
    if (m->alias)
        munmap(m->alias, m->span);
    if (m->fd >= 0)
        close(m->fd);
    *m = (struct guest_mem){.fd = -1};
}

/* The VMM's address of [gpa, gpa+len), NULL: not all of it is RAM. */
static void *translate(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
    if (len == 0)
        return NULL;
    if (gpa < m->low)
        return len <= m->low - gpa ? m->alias + gpa : NULL;
    if (gpa < MEM_HIGH || gpa - MEM_HIGH >= m->high)
        return NULL;
    return len <= m->high - (gpa - MEM_HIGH) ? m->alias + gpa : NULL;
}

void *mem_at(const struct guest_mem *m, uint64_t gpa, uint64_t len, enum mem_use use)
{
    void *p = translate(m, gpa, len);

    if (m->hook && use == MEM_WRITE && p)
        m->hook->begin(m->hook->arg, gpa, len);
    return p;
}

void mem_done(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
    if (m->hook && translate(m, gpa, len))
        m->hook->end(m->hook->arg, gpa, len);
}

bool mem_read(const struct guest_mem *m, uint64_t gpa, void *to, size_t len)
{
    const void *from = mem_at(m, gpa, len, MEM_READ);

    if (from)
        memcpy(to, from, len);
    return from != NULL;
}

bool mem_write(const struct guest_mem *m, uint64_t gpa, const void *from, size_t len)
{
    void *to = mem_at(m, gpa, len, MEM_WRITE);

    if (!to)
        return false;
    memcpy(to, from, len);
    mem_done(m, gpa, len);
    return true;
}
