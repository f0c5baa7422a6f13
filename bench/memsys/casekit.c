/* SPDX-License-Identifier: MIT */
/*
 * What programs with known answers need; see casekit.h.
 */
#include "bench/memsys/casekit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <numaif.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/memsys/reader.h"
#include "bench/memsys/roi.h"
#include "numa/machine_model.h"

#define HUGE_PAGE ((size_t)2 << 20)

void kit_die(const char *what)
{
    fprintf(stderr, "cases: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Distances from one node, as Linux tells them, become latencies. */
static void read_distances(struct kit *k, unsigned from)
{
    char path[100];
    FILE *f;

    snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/distance", from);
    f = fopen(path, "re");
    if (!f)
        kit_die(path);
    for (unsigned to = 0; to < k->nnodes; to++) {
        unsigned d;

        if (fscanf(f, "%u", &d) != 1)
            kit_die(path);
        k->ps[from][to] = UINT64_C(1000) * machine_model_latency(k->machine, d);
    }
    fclose(f);
}

void kit_open(struct kit *k)
{
    k->h = reader_open(NULL);
    if (!k->h)
        exit(1);
    k->low = reader_low_memory();
    k->machine = machine_model_by_name(k->h->machine);
    if (!k->low || !k->machine)
        exit(1);
    k->cache = (size_t)k->machine->cache_kib << 10;
    k->line = k->machine->line;
    k->ncpus = k->h->ncpus;
    k->nnodes = k->h->nnodes;
    for (unsigned n = 0; n < k->nnodes; n++)
        read_distances(k, n);
}

/* The physical page at an address; it must be there. */
static uint64_t frame_of(const void *at)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entry = 0;

    if (fd < 0 || pread(fd, &entry, sizeof(entry),
                        (off_t)((uintptr_t)at / MEMSYS_PAGE * sizeof(entry))) != sizeof(entry))
        kit_die("/proc/self/pagemap");
    close(fd);
    if (!(entry >> 63) || !(entry & ((UINT64_C(1) << 55) - 1))) {
        errno = EFAULT;
        kit_die("a page is not in memory");
    }
    return entry & ((UINT64_C(1) << 55) - 1);
}

uint64_t kit_page(const struct kit *k, const void *at)
{
    return flash_page(frame_of(at) * MEMSYS_PAGE, k->low);
}

/* Every 2 MiB of a buffer must lie in one piece of memory, on the node. */
static void check_huge(const struct kit *k, const char *buffer, size_t bytes, unsigned node)
{
    uint64_t per_node = k->h->node_bytes / MEMSYS_PAGE;

    for (size_t at = 0; at < bytes; at += MEMSYS_PAGE) {
        const char *huge = buffer + at / HUGE_PAGE * HUGE_PAGE;

        errno = ENOMEM;
        if (frame_of(buffer + at) != frame_of(huge) + at % HUGE_PAGE / MEMSYS_PAGE ||
            frame_of(huge) % (HUGE_PAGE / MEMSYS_PAGE))
            kit_die("the buffer is not in huge pages");
        if (kit_page(k, buffer + at) / per_node != node)
            kit_die("the buffer is not on its node");
        /* Of each huge page the ends and something between are proof enough. */
        at += at % HUGE_PAGE < HUGE_PAGE - 16 * MEMSYS_PAGE ? 15 * MEMSYS_PAGE : 0;
    }
}

char *kit_buffer(const struct kit *k, unsigned node, size_t bytes, bool code)
{
    size_t size = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    unsigned long mask = 1UL << node;
    char *all = mmap(NULL, size + HUGE_PAGE, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *buffer = (char *)(((uintptr_t)all + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));

    if (all == MAP_FAILED ||
        mmap(buffer, size, PROT_READ | PROT_WRITE | (code ? PROT_EXEC : 0),
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        kit_die("mmap");
    if (mbind(buffer, size, MPOL_BIND, &mask, 8 * sizeof(mask), 0))
        kit_die("mbind");
    if (madvise(buffer, size, MADV_HUGEPAGE))
        kit_die("madvise");
    for (size_t at = 0; at < size; at += k->line)
        *(volatile uint64_t *)(buffer + at) = 0;
    check_huge(k, buffer, size, node);
    return buffer;
}

void kit_free(char *buffer, size_t bytes)
{
    munmap(buffer, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
}

void kit_go(unsigned cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set))
        kit_die("sched_setaffinity");
}

unsigned kit_cpu(const struct kit *k, unsigned node)
{
    return node * (k->ncpus / k->nnodes);
}

void kit_sum(const struct kit *k, uint32_t cpus, unsigned tag, enum memsys_mode mode,
             struct memsys_count *sum)
{
    uint64_t *to = (uint64_t *)sum;

    memset(sum, 0, sizeof(*sum));
    for (unsigned c = 0; c < k->ncpus; c++) {
        const uint64_t *from = (uint64_t *)memsys_counts(k->h, c, tag, mode);

        for (size_t i = 0; cpus >> c & 1 && i < sizeof(*sum) / sizeof(*to); i++)
            to[i] += from[i];
    }
    /* All but the first, the instructions, are those of sampled sets. */
    for (size_t i = 1; i < sizeof(*sum) / sizeof(*to); i++)
        to[i] *= k->h->sample;
}

void kit_row(const struct kit *k, const char *name, const char *variant, const char *measure,
             double expected, double value, double scale)
{
    printf("{\"part\":\"%s\",\"machine\":\"%s\",\"sample\":%u,\"rep\":\"%s\",\"case\":\"%s\","
           "\"variant\":\"%s\",\"measure\":\"%s\",\"expected\":%.9g,\"value\":%.9g,"
           "\"scale\":%.9g}\n",
           k->part, k->machine->name, k->h->sample, k->rep, name, variant, measure, expected,
           value, scale > 0 ? scale : expected);
    fflush(stdout);
}

/* A figure that is to be: its row. One that is not: what there is of it. */
static double compare_one(const struct kit *k, const char *const at[2], const char *measure,
                          double expected, uint64_t value)
{
    if (expected <= 0)
        return (double)value;
    kit_row(k, at[0], at[1], measure, expected, (double)value, 0);
    return 0;
}

/* The time waited follows from the counts that are to be. */
static void compare_time(const struct kit *k, const char *const at[2], unsigned cpu,
                         const struct want *w, const struct memsys_count *n)
{
    unsigned near = cpu / (k->ncpus / k->nnodes);
    double stall = w->dirty * k->machine->dirty_ns * 1000, bound = stall;
    uint64_t waited = 0;

    for (unsigned i = 0; i < k->nnodes; i++) {
        double lines = w->upgrade[i];

        for (unsigned kind = 0; kind < MEMSYS_KINDS; kind++)
            lines += w->miss[kind][i];
        stall += lines * (double)k->ps[near][i];
        bound += lines * (double)k->ps[near][near];
        waited += n->stall_ps[i];
    }
    if (stall <= 0)
        return;
    kit_row(k, at[0], at[1], "stall, ps, without congestion", stall,
            (double)(waited - n->queue_ps), 0);
    kit_row(k, at[0], at[1], "stall, ps, had all been local", bound, (double)n->bound_ps, 0);
}

void kit_compare(const struct kit *k, const char *name, const char *variant, unsigned cpu,
                 const struct want *w)
{
    static const char *const kinds[MEMSYS_KINDS] = {"read", "write", "fetch"};
    const char *const at[2] = {name, variant};
    struct memsys_count n;
    char measure[64];
    double others = 0;

    kit_sum(k, UINT32_C(1) << cpu, 0, MEMSYS_USER, &n);
    for (unsigned i = 0; i < k->nnodes; i++) {
        for (unsigned kind = 0; kind < MEMSYS_KINDS; kind++) {
            snprintf(measure, sizeof(measure), "%s misses at node %u", kinds[kind], i);
            others += compare_one(k, at, measure, w->miss[kind][i], n.miss[kind][i]);
        }
        snprintf(measure, sizeof(measure), "upgrades at node %u", i);
        others += compare_one(k, at, measure, w->upgrade[i], n.upgrade[i]);
    }
    others += compare_one(k, at, "misses of coherence", w->coherence, n.coherence);
    others += compare_one(k, at, "misses served dirty", w->dirty, n.dirty);
    others += compare_one(k, at, "copies invalidated", w->invalidated, n.invalidated);
    others += compare_one(k, at, "lines written back", w->writeback, n.writeback);
    kit_row(k, at[0], at[1], "all that was not expected", 0, others, w->access);
    compare_time(k, at, cpu, w, &n);
}

/* ---- turns ---- */

/* Waits until it is this side's turn; the emulator runs another CPU meanwhile. */
static void await_turn(const struct duo *d, unsigned side)
{
    while (*d->flag != side)
        __asm__ volatile("pause" ::: "memory");
}

/* Side 1. */
static void *second_side(void *data)
{
    const struct duo *d = data;

    kit_go(d->cpu[1]);
    for (unsigned i = 0; i < d->warm + d->rounds; i++) {
        await_turn(d, 1);
        d->turn[1](d, 1);
        *d->flag = 0;
    }
    /* What a thread does at its end must not be counted. */
    await_turn(d, 2);
    return NULL;
}

void duo_run(struct duo *d)
{
    pthread_t other;

    kit_go(d->cpu[0]);
    *d->flag = 0;
    errno = pthread_create(&other, NULL, second_side, d);
    if (errno)
        kit_die("pthread_create");
    /* It must have gone to its CPU, or the kernel's work would be in the counters. */
    usleep(100000);
    ROI(ROI_EMPTY, 0);
    ROI(ROI_ON, 0);
    for (unsigned i = 0; i < d->warm + d->rounds; i++) {
        if (i == d->warm)
            ROI(ROI_ZERO, 0);
        d->turn[0](d, 0);
        *d->flag = 1;
        await_turn(d, 0);
    }
    ROI(ROI_OFF, 0);
    *d->flag = 2;
    pthread_join(other, NULL);
}

void duo_flag(const struct duo *d, unsigned flag_node, struct want *w)
{
    w->miss[MEMSYS_READ][flag_node] += d->rounds;
    w->coherence += d->rounds;
    w->dirty += d->rounds;
    w->upgrade[flag_node] += d->rounds;
    w->invalidated += d->rounds;
}
