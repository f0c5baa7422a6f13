/* SPDX-License-Identifier: MIT */
/*
 * The sources `ibs` and `pebs`: samples of loads and stores that the CPU takes by itself, with the
 * physical address of the data.  UNTESTED ON HARDWARE: written by the manuals and the kernel's
 * headers, on machines that have neither; only the reading of the ring is tested (perfring.h).
 *
 * ibs   AMD's instruction-based sampling of ops.  It goes on while a guest runs, and the physical
 *       address is the machine's; the linear one would be the guest's and is not asked for.
 *       Wanted are accesses that the caches of a core did not serve.
 * pebs  Intel's CPUs write such samples to memory by linear address; Linux therefore turns that off
 *       while a guest runs, so there is never one of a guest's.  It is detected and refused.
 *
 * Each CPU of the guest's nodes has a ring of its own, for whatever runs there; samples of frames
 * that are not the guest's are dropped.  A sample stands for STANDS_FOR misses, so that thresholds
 * mean about the same as with other sources.
 * Threads: source.h.
 */
#include <errno.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "numa/policy.h"
#include "vmm/machine/mem.h"
#include "vmm/pager/framemap.h"
#include "vmm/pager/pager.h"
#include "vmm/pager/perfring.h"
#include "vmm/pager/source.h"

#define DEVICES "/sys/bus/event_source/devices"

enum {
    RING_PAGES = 64,    /* of each CPU's ring, a power of two */
    SAMPLE_NS = 2000,   /* cost of a sample: the interrupt, and reading it */
    STANDS_FOR = 64,    /* misses that a sample stands for */
    BATCH = 512,        /* samples taken at once */
    CPUS_MAX = 4096,    /* of a machine */
    IBS_COUNT_OPS = 19, /* bit of config: every so many ops, not cycles */
    IBS_L3_MISS = 16,   /* only those that missed in the L3, where the CPU can */
    RATE_LEAST = 100    /* samples a second of each CPU, at least */
};

/* A CPU's samples. */
struct cpu_ring {
    struct perf_event_mmap_page *page; /* the mapping: this, then the ring */
    struct perfring ring;
    int fd;       /* the event */
    uint8_t node; /* ours that the CPU is on */
};

/* State. */
struct perf {
    struct framemap frames; /* whose frames samples are of */
    struct cpu_ring *cpu;   /* n */
    unsigned n;             /* CPUs that are sampled */
    uint64_t budget_ns;     /* CPU time of ours in an interval */
};

/* ---- what the machine has ---- */

/* The number in a file; 0 or less: none. */
static long number_in(const char *path)
{
    char text[32] = "";
    FILE *f = fopen(path, "re");

    if (!f)
        return -1;
    if (!fgets(text, sizeof(text), f))
        *text = 0;
    fclose(f);
    return strtol(text, NULL, 10);
}

/* The event that samples ops; its type must be filled in. */
static struct perf_event_attr ibs_event(long type, uint64_t rate)
{
    bool l3 = access(DEVICES "/ibs_op/format/l3missonly", F_OK) == 0;

    return (struct perf_event_attr){.type = (uint32_t)type,
                                    .size = sizeof(struct perf_event_attr),
                                    .config = UINT64_C(1) << IBS_COUNT_OPS | (uint64_t)l3
                                                                                 << IBS_L3_MISS,
                                    .freq = 1,
                                    .sample_freq = rate,
                                    .sample_type = PERFRING_SAMPLE};
}

/* Opens the event on a CPU; -1 with errno. */
static int open_event(struct perf_event_attr *attr, int cpu)
{
    return (int)syscall(SYS_perf_event_open, attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static bool ibs_found(char *why, unsigned len)
{
    long type = number_in(DEVICES "/ibs_op/type");
    struct perf_event_attr attr = ibs_event(type, RATE_LEAST);
    int fd;

    if (type < 0) {
        snprintf(why, len,
                 "this CPU has no IBS (AMD's instruction-based sampling), or the "
                 "kernel does not offer it");
        return false;
    }
    fd = open_event(&attr, 0);
    if (fd < 0) {
        snprintf(why, len, "IBS: perf_event_open: %s (CAP_PERFMON is needed, and Linux 6.0)",
                 strerror(errno));
        return false;
    }
    close(fd);
    return framemap_allowed(why, len);
}

static bool pebs_found(char *why, unsigned len)
{
    if (access(DEVICES "/cpu/events/mem-loads", F_OK) && access(DEVICES "/cpu_core", F_OK))
        snprintf(why, len,
                 "this CPU has no sampled loads (Intel's PEBS), or the kernel does not "
                 "offer them");
    else
        snprintf(why, len,
                 "PEBS stands still while a guest runs: Linux turns it off, since it "
                 "would write to the guest's memory");
    return false;
}

/* ---- starting ---- */

/* Opens and maps one CPU's ring; 0 or -errno. */
static int open_cpu(struct cpu_ring *c, struct perf_event_attr *attr, int cpu, uint8_t node)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (1 + RING_PAGES) * page;

    *c = (struct cpu_ring){.fd = open_event(attr, cpu), .node = node};
    if (c->fd < 0)
        return -errno;
    c->page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
    if (c->page == MAP_FAILED) {
        int e = errno;

        close(c->fd);
        return -e;
    }
    c->ring =
        (struct perfring){.data = (const uint8_t *)c->page + page, .size = RING_PAGES * page};
    return 0;
}

/* Opens the CPUs of one of the guest's nodes. */
static int open_node(struct perf *p, struct perf_event_attr *attr, int host, uint8_t node)
{
    struct bitmask *cpus = numa_allocate_cpumask();
    int r = numa_node_to_cpus(host, cpus) ? -errno : 0;

    for (unsigned c = 0; !r && c < cpus->size && p->n < CPUS_MAX; c++) {
        if (!numa_bitmask_isbitset(cpus, c))
            continue;
        r = open_cpu(&p->cpu[p->n], attr, (int)c, node);
        p->n += r == 0;
        if (r == -ENODEV)
            r = 0; /* it is off */
    }
    numa_free_cpumask(cpus);
    return r;
}

/* Samples a second of each CPU that the share of its time buys. */
static uint64_t rate_for(unsigned share)
{
    uint64_t rate = UINT64_C(1000000) * share / SAMPLE_NS;
    long most = number_in("/proc/sys/kernel/perf_event_max_sample_rate");

    if (most > 0 && rate > (uint64_t)most)
        rate = (uint64_t)most;
    return rate < RATE_LEAST ? RATE_LEAST : rate;
}

static void stop(struct source *s)
{
    struct perf *p = s->own;

    if (!p)
        return;
    for (unsigned i = 0; i < p->n; i++) {
        munmap(p->cpu[i].page, (1 + RING_PAGES) * (size_t)sysconf(_SC_PAGESIZE));
        close(p->cpu[i].fd);
    }
    if (p->frames.pager)
        framemap_exit(&p->frames);
    free(p->cpu);
    free(p);
    s->own = NULL;
}

static int ibs_start(struct source *s, struct err *err)
{
    struct perf_event_attr attr =
        ibs_event(number_in(DEVICES "/ibs_op/type"), rate_for(s->spec.share));
    struct perf *p = xcalloc(1, sizeof(*p));
    int r;

    s->own = p;
    p->cpu = xcalloc(CPUS_MAX, sizeof(*p->cpu));
    p->budget_ns = s->spec.interval_ns / 1000 * s->spec.share * s->spec.cpus;
    r = framemap_init(&p->frames, s->spec.pager, framemap_top(), err);
    for (unsigned n = 0; n < s->spec.nnodes && !r; n++)
        if (s->spec.node_host[n] >= 0)
            r = open_node(p, &attr, s->spec.node_host[n], (uint8_t)n);
    if (!r && !p->n)
        r = -ENODEV;
    if (r) {
        r = fail_errno(err, EXIT_RESOURCE, -r, "sampling by ibs: perf_event_open");
        stop(s);
    }
    return r;
}

/* ---- an interval ---- */

/* Served by a core's own caches: no reason to move a page. */
static bool is_near_hit(uint64_t source)
{
    union perf_mem_data_src d = {.val = source};

    return d.mem_lvl & PERF_MEM_LVL_HIT &&
           d.mem_lvl & (PERF_MEM_LVL_L1 | PERF_MEM_LVL_LFB | PERF_MEM_LVL_L2);
}

/* Counts samples of one CPU.  Where their pages are is asked first. */
static void count(struct source *s, const struct cpu_ring *c,
                  const struct perfring_sample *sample, unsigned n)
{
    struct perf *p = s->own;
    struct pager_touch touch[BATCH];
    unsigned ours = 0;

    for (unsigned i = 0; i < n; i++) {
        union perf_mem_data_src d = {.val = sample[i].source};
        struct pager_touch t = {.node = c->node, .write = d.mem_op & PERF_MEM_OP_STORE};

        if (!sample[i].phys || is_near_hit(sample[i].source) ||
            !framemap_find(&p->frames, sample[i].phys / MEM_PAGE, &t.gfn))
            continue;
        touch[ours++] = t;
    }
    pager_locate_touched(s->spec.pager, touch, ours);
    for (unsigned i = 0; i < ours; i++)
        (void)source_saw(s, touch[i].gfn,
                         (struct node_use){.node = touch[i].node,
                                           .reads = touch[i].write ? 0 : STANDS_FOR,
                                           .writes = touch[i].write ? STANDS_FOR : 0});
}

/* Takes what one CPU has. */
static void drain(struct source *s, struct cpu_ring *c)
{
    uint64_t head = __atomic_load_n(&c->page->data_head, __ATOMIC_ACQUIRE);
    struct perfring_sample sample[BATCH];
    unsigned n;

    do {
        n = perfring_take(&c->ring, head, sample, BATCH);
        count(s, c, sample, n);
    } while (n == BATCH);
    __atomic_store_n(&c->page->data_tail, c->ring.tail, __ATOMIC_RELEASE);
}

static void collect(struct source *s)
{
    struct perf *p = s->own;

    framemap_refresh(&p->frames, framemap_clock() + p->budget_ns / 2);
    for (unsigned i = 0; i < p->n; i++)
        drain(s, &p->cpu[i]);
}

static void acted(struct source *s, const struct action *acts, unsigned n, unsigned good)
{
    struct perf *p = s->own;

    framemap_acted(&p->frames, acts, n, good);
}

static int pebs_start(struct source *s, struct err *err)
{
    char why[200];

    (void)s;
    (void)pebs_found(why, sizeof(why));
    return fail(err, EXIT_RESOURCE, ENOTSUP, "sampling by pebs: %s", why);
}

const struct source_ops source_ibs = {
    .name = "ibs",
    .about = "ops that AMD's CPUs sample by themselves (untested on hardware)",
    .found = ibs_found,
    .start = ibs_start,
    .collect = collect,
    .acted = acted,
    .stop = stop,
};

const struct source_ops source_pebs = {
    .name = "pebs",
    .about = "loads that Intel's CPUs sample by themselves; Linux stops it while a guest runs",
    .found = pebs_found,
    .start = pebs_start,
    .collect = collect,
    .stop = stop,
};
