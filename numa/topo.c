/* SPDX-License-Identifier: MIT */
/*
 * Reads the machine's shape through hwloc into struct topo: this machine, a recorded one
 * (HWLOC_FSROOT, HWLOC_XMLFILE) or hwloc's synthetic syntax; and the small helpers on the struct.
 *
 * What hwloc does not tell comes from sysfs below the same root: free memory (nodeN/meminfo), the
 * CPUs the kernel counts to a node (nodeN/cpulist; hwloc gives a memory-only node the CPUs near
 * it), and distances where hwloc has none (nodeN/distance).
 * Invariants: nodes ascend by kernel number; a CPU belongs to at most one node; every distance is
 * at least 10.  No state, no locks.
 */
#include "numa/topo.h"

#include <errno.h>
#include <hwloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "numa/hwloc_load.h"

enum {
    LOCAL = 10,         /* SLIT distance of a node to itself */
    REMOTE = 20,        /* assumed where nothing says better */
    RESERVE_SHARE = 64, /* 1/64 of a node's memory is never promised: the kernel's watermarks */
};

/* Opens root/sys/devices/system/node/nodeN/leaf, or NULL. */
static FILE *open_node_file(const char *root, int os, const char *leaf)
{
    char *path = xasprintf("%s/sys/devices/system/node/node%d/%s", root, os, leaf);
    FILE *f = fopen(path, "re");

    free(path);
    return f;
}

/* What a node's meminfo says. */
struct meminfo {
    uint64_t total; /* bytes of its memory; 0: not said */
    uint64_t free;  /* bytes guests could have: free pages, file cache and reclaimable slab */
    bool has_free;  /* free pages were said */
};

/* Reads a node's meminfo; false when there is none. */
static bool read_meminfo(const char *root, int os, struct meminfo *m)
{
    FILE *f = open_node_file(root, os, "meminfo");
    unsigned long long kib;
    char line[256], key[64];

    *m = (struct meminfo){0};
    if (!f)
        return false;
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "Node %*d %63[^:]: %llu kB", key, &kib) != 2)
            continue;
        m->has_free |= !strcmp(key, "MemFree");
        if (!strcmp(key, "MemTotal"))
            m->total = kib * 1024;
        else if (!strcmp(key, "MemFree") || !strcmp(key, "Active(file)") ||
                 !strcmp(key, "Inactive(file)") || !strcmp(key, "SReclaimable"))
            m->free += kib * 1024;
    }
    fclose(f);
    return true;
}

/* Bytes of a node that guests can be promised: what is free, less a reserve. */
static uint64_t promised(uint64_t total, uint64_t avail)
{
    uint64_t most = avail > total ? total : avail, reserve = total / RESERVE_SHARE;

    return most > reserve ? most - reserve : 0;
}

/* Bytes of free 2 MiB hugetlb pages of a node. */
static uint64_t read_huge(const char *root, int os)
{
    FILE *f = open_node_file(root, os, "hugepages/hugepages-2048kB/free_hugepages");
    unsigned long long n = 0;

    if (!f)
        return 0;
    if (fscanf(f, "%llu", &n) != 1)
        n = 0;
    fclose(f);
    return (uint64_t)n << 21;
}

/* Replaces set by the CPUs the kernel counts to the node; keeps it when sysfs does not say. */
static void read_cpulist(const char *root, int os, hwloc_bitmap_t set)
{
    FILE *f = open_node_file(root, os, "cpulist");
    char *line = NULL;
    size_t cap = 0;

    if (!f)
        return;
    hwloc_bitmap_zero(set);
    if (getline(&line, &cap, f) > 0) {
        /* A last CPU that stands alone is taken only when nothing follows it. */
        line[strcspn(line, "\n")] = 0;
        if (line[0])
            hwloc_bitmap_list_sscanf(set, line);
    }
    free(line);
    fclose(f);
}

/* Takes over the CPUs of set into a node. */
static void fill_cpus(struct topo *t, struct topo_node *n, hwloc_const_bitmap_t set)
{
    int count = hwloc_bitmap_weight(set), cpu;

    n->ncpus = 0;
    n->cpus = count > 0 ? xcalloc((size_t)count, sizeof(int)) : NULL;
    if (count <= 0)
        return;
    for (cpu = hwloc_bitmap_first(set); cpu >= 0; cpu = hwloc_bitmap_next(set, cpu))
        n->cpus[n->ncpus++] = cpu;
    t->ncpus += n->ncpus;
}

/* The socket a node hangs below, or -1.  A node above all sockets has none. */
static int package_of(hwloc_topology_t h, hwloc_obj_t node)
{
    hwloc_obj_t up = hwloc_get_ancestor_obj_by_type(h, HWLOC_OBJ_PACKAGE, node);

    return up ? (int)up->os_index : -1;
}

/* Fills one node from hwloc's object; taken holds the CPUs of the nodes before it. */
static void fill_node(struct topo *t, hwloc_topology_t h, hwloc_obj_t obj, const char *root,
                      hwloc_bitmap_t taken)
{
    struct topo_node *n = &t->node[t->nnodes++];
    hwloc_bitmap_t set = hwloc_bitmap_dup(obj->cpuset);
    struct meminfo m;

    INVARIANT(set, "the host has no memory left for a CPU set");
    n->os = (int)obj->os_index;
    n->package = package_of(h, obj);
    n->mem_total = obj->attr->numanode.local_memory;
    n->mem_free = n->mem_total;
    if (root) {
        if (read_meminfo(root, n->os, &m))
            n->mem_free = promised(n->mem_total, m.free);
        n->huge_free = read_huge(root, n->os);
        read_cpulist(root, n->os, set);
    }
    hwloc_bitmap_and(set, set, hwloc_topology_get_topology_cpuset(h));
    hwloc_bitmap_andnot(set, set, taken);
    hwloc_bitmap_or(taken, taken, set);
    fill_cpus(t, n, set);
    hwloc_bitmap_free(set);
}

/* A distance as it fits the matrix. */
static uint8_t clamp_dist(uint64_t d)
{
    return d < LOCAL ? LOCAL : d > UINT8_MAX ? UINT8_MAX : (uint8_t)d;
}

/* 10 on the diagonal, 20 elsewhere. */
static void default_dist(struct topo *t)
{
    for (unsigned i = 0; i < t->nnodes; i++)
        for (unsigned j = 0; j < t->nnodes; j++)
            t->dist[i][j] = i == j ? LOCAL : REMOTE;
}

/* Takes hwloc's latency matrix of nodes; false when it has none. */
static bool hwloc_dist(struct topo *t, hwloc_topology_t h)
{
    struct hwloc_distances_s *d = NULL;
    unsigned nr = 1;
    int i, j;

    if (hwloc_distances_get_by_type(h, HWLOC_OBJ_NUMANODE, &nr, &d,
                                    HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0) ||
        nr == 0)
        return false;
    for (unsigned a = 0; a < d->nbobjs; a++) {
        for (unsigned b = 0; b < d->nbobjs; b++) {
            i = topo_index(t, (int)d->objs[a]->os_index);
            j = topo_index(t, (int)d->objs[b]->os_index);
            if (i >= 0 && j >= 0)
                t->dist[i][j] = clamp_dist(d->values[a * d->nbobjs + b]);
        }
    }
    hwloc_distances_release(h, d);
    return true;
}

/* Reads nodeN/distance: one number per online node, in order. */
static void sysfs_dist(struct topo *t, const char *root)
{
    unsigned d;
    FILE *f;

    for (unsigned i = 0; i < t->nnodes; i++) {
        f = open_node_file(root, t->node[i].os, "distance");
        if (!f)
            continue;
        for (unsigned j = 0; j < t->nnodes && fscanf(f, "%u", &d) == 1; j++)
            t->dist[i][j] = clamp_dist(d);
        fclose(f);
    }
}

/* Fills t from a loaded hwloc topology; root is sysfs' prefix, NULL when there is none. */
static int fill(struct topo *t, hwloc_topology_t h, const char *root, struct err *err)
{
    int n = hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_NUMANODE);
    hwloc_bitmap_t taken;
    hwloc_obj_t obj = NULL;
    int os = -1;

    if (n < 1 || n > TOPO_MAX_NODES)
        return fail(err, t->synthetic ? EXIT_USAGE : EXIT_INTERNAL, EINVAL,
                    "%s has %d NUMA nodes; 1 to %d are supported", t->name, n, TOPO_MAX_NODES);
    if (hwloc_bitmap_weight(hwloc_topology_get_topology_cpuset(h)) > TOPO_MAX_CPUS)
        return fail(err, t->synthetic ? EXIT_USAGE : EXIT_INTERNAL, EINVAL,
                    "%s has %d CPUs; at most %d are supported", t->name,
                    hwloc_bitmap_weight(hwloc_topology_get_topology_cpuset(h)), TOPO_MAX_CPUS);
    taken = hwloc_bitmap_alloc();
    INVARIANT(taken, "the host has no memory left for a CPU set");
    hwloc_bitmap_foreach_begin(os, hwloc_topology_get_topology_nodeset(h))
    {
        obj = hwloc_get_numanode_obj_by_os_index(h, (unsigned)os);
        if (obj)
            fill_node(t, h, obj, root, taken);
    }
    hwloc_bitmap_foreach_end();
    hwloc_bitmap_free(taken);
    default_dist(t);
    if (!hwloc_dist(t, h) && root)
        sysfs_dist(t, root);
    return 0;
}

/* Loads hwloc's topology, from its synthetic syntax when text is not NULL. */
static int load(hwloc_topology_t *h, const char *text, struct err *err)
{
    /* hwloc's plugins look for graphics cards and the like, and load libraries for that which
     * take longer than all else we do; whoever wants them sets the variable */
    setenv("HWLOC_PLUGINS_PATH", "", 0);
    if (hwloc_topology_init(h))
        return fail(err, EXIT_INTERNAL, ENOMEM, "hwloc_topology_init failed");
    if (text && hwloc_topology_set_synthetic(*h, text)) {
        hwloc_topology_destroy(*h);
        return fail(err, EXIT_USAGE, EINVAL,
                    "synthetic machine \"%s\": neither \"nodes=4,cpus=2,mem=1G,dist=20\" nor a "
                    "description hwloc knows (such as \"pack:2 node:1 core:4 pu:2\")",
                    text);
    }
    /* the kernel's word is enough: no asking every CPU in turn */
    hwloc_topology_set_components(*h, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    hwloc_topology_set_all_types_filter(*h, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
    hwloc_topology_set_type_filter(*h, HWLOC_OBJ_PACKAGE, HWLOC_TYPE_FILTER_KEEP_ALL);
    if (hwloc_topology_load(*h)) {
        hwloc_topology_destroy(*h);
        return fail(err, text ? EXIT_USAGE : EXIT_INTERNAL, EINVAL,
                    "hwloc cannot read the topology of %s%s%s", text ? "\"" : "",
                    text ? text : "this machine", text ? "\"" : "");
    }
    return 0;
}

/* Prefix of sysfs for what hwloc read: "" here, the recorded tree's root, NULL for none. */
static const char *sysfs_root(hwloc_topology_t h, const char *text)
{
    const char *fsroot = getenv("HWLOC_FSROOT");

    if (text)
        return NULL;
    if (hwloc_topology_is_thissystem(h))
        return "";
    return getenv("HWLOC_XMLFILE") ? NULL : fsroot;
}

int topo_read(struct topo *t, const char *synthetic, struct err *err)
{
    hwloc_topology_t h;
    const char *root;
    int rc;

    if (synthetic && strchr(synthetic, '='))
        if (!strncmp(synthetic, "nodes=", 6) || !strpbrk(synthetic, ":[("))
            return topo_synth(t, synthetic, err);
    memset(t, 0, sizeof(*t));
    rc = hwloc_here(err);
    if (!rc)
        rc = load(&h, synthetic, err);
    if (rc)
        return rc;
    root = sysfs_root(h, synthetic);
    t->synthetic = synthetic || !hwloc_topology_is_thissystem(h);
    t->name = xstrdup(synthetic      ? synthetic
                      : t->synthetic ? "recorded machine"
                                     : "this machine");
    rc = fill(t, h, root, err);
    hwloc_topology_destroy(h);
    if (rc)
        topo_free(t);
    return rc;
}

/* Whether this machine has one node only, number 0, and nobody asks hwloc for another machine. */
static bool one_node(void)
{
    static const char *const other[] = {"HWLOC_FSROOT", "HWLOC_XMLFILE", "HWLOC_SYNTHETIC"};
    FILE *f = fopen("/sys/devices/system/node/online", "re");
    char line[8];
    bool one = f && fgets(line, sizeof(line), f) && !strcmp(line, "0\n");

    if (f)
        fclose(f);
    for (unsigned i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        one &= !getenv(other[i]);
    return one;
}

/* The CPUs that the kernel lets us use, all of them on the only node. */
static bool fill_allowed(struct topo *t, struct topo_node *n)
{
    cpu_set_t *set = CPU_ALLOC(TOPO_MAX_CPUS);
    size_t size = CPU_ALLOC_SIZE(TOPO_MAX_CPUS);
    bool ok = set && sched_getaffinity(0, size, set) == 0;

    if (ok) {
        n->cpus = xcalloc((size_t)CPU_COUNT_S(size, set), sizeof(int));
        for (int cpu = 0; cpu < TOPO_MAX_CPUS; cpu++)
            if (CPU_ISSET_S(cpu, size, set))
                n->cpus[n->ncpus++] = cpu;
        t->ncpus = n->ncpus;
    }
    CPU_FREE(set);
    return ok;
}

int topo_read_here(struct topo *t, struct err *err)
{
    struct topo_node *n = &t->node[0];
    struct meminfo m;

    memset(t, 0, sizeof(*t));
    if (!one_node() || !read_meminfo("", 0, &m) || !m.total || !m.has_free ||
        !fill_allowed(t, n))
        return topo_read(t, NULL, err);
    n->mem_total = m.total;
    n->mem_free = promised(m.total, m.free);
    n->package = -1;
    n->huge_free = read_huge("", 0);
    t->nnodes = 1;
    t->name = xstrdup("this machine");
    default_dist(t);
    return 0;
}

void topo_free(struct topo *t)
{
    for (unsigned i = 0; i < t->nnodes; i++)
        free(t->node[i].cpus);
    free(t->name);
    memset(t, 0, sizeof(*t));
}

int topo_index(const struct topo *t, int os)
{
    for (unsigned i = 0; i < t->nnodes; i++)
        if (t->node[i].os == os)
            return (int)i;
    return -1;
}

int topo_node_of_cpu(const struct topo *t, int cpu)
{
    for (unsigned i = 0; i < t->nnodes; i++)
        for (unsigned c = 0; c < t->node[i].ncpus; c++)
            if (t->node[i].cpus[c] == cpu)
                return (int)i;
    return -1;
}

uint64_t topo_mem_total(const struct topo *t)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < t->nnodes; i++)
        sum += t->node[i].mem_total;
    return sum;
}

uint64_t topo_mem_free(const struct topo *t)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < t->nnodes; i++)
        sum += t->node[i].mem_free;
    return sum;
}

const char *topo_size(char buf[TOPO_SIZE_LEN], uint64_t bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned u = 0, tenths;
    uint64_t v = bytes, rest = 0;

    while (v >= 1024 && u < 6) {
        rest = v % 1024;
        v /= 1024;
        u++;
    }
    tenths = (unsigned)(rest * 10 / 1024);
    if (v < 100 && tenths)
        snprintf(buf, TOPO_SIZE_LEN, "%u.%u %s", (unsigned)v, tenths, unit[u]);
    else
        snprintf(buf, TOPO_SIZE_LEN, "%u %s", (unsigned)v, unit[u]);
    return buf;
}

const char *topo_ranges(char *buf, unsigned len, const int *v, unsigned n)
{
    char part[32];
    unsigned used = 0, i, j;
    int k;

    INVARIANT(len >= 8, "topo_ranges needs room for its dots");
    buf[0] = 0;
    for (i = 0; i < n; i = j) {
        for (j = i + 1; j < n && v[j] == v[j - 1] + 1; j++)
            ;
        k = j - i == 1 ? snprintf(part, sizeof(part), "%s%d", i ? "," : "", v[i])
                       : snprintf(part, sizeof(part), "%s%d-%d", i ? "," : "", v[i], v[j - 1]);
        if (used + (unsigned)k + (j < n ? 3 : 0) >= len) {
            snprintf(buf + used, len - used, "...");
            break;
        }
        memcpy(buf + used, part, (unsigned)k + 1);
        used += (unsigned)k;
    }
    return buf;
}
