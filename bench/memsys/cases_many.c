/* SPDX-License-Identifier: MIT */
/*
 * Programs with known answers on several CPUs: turns between two of them, one on the first node and
 * one on the last, data and flag in the middle of nowhere else than said; and crowds that run at the
 * same time.
 *
 * Letters in the derivations: N lines of the data, R rounds that are counted.  In all turns the flag
 * adds to each side, each round, what casekit.h says.
 */
#include "bench/memsys/cases.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/memsys/casekit.h"
#include "bench/memsys/roi.h"
#include "numa/machine_model.h"

enum { ROUNDS = 500, WARM = 4, LINES = 128 };

static void write_first(const struct duo *d, unsigned side)
{
    (void)side;
    for (size_t i = 0; i < d->bytes; i += d->k->line)
        *(volatile uint64_t *)(d->data + i) = 1;
}

static void count_up(const struct duo *d, unsigned side)
{
    (void)side;
    for (size_t i = 0; i < d->bytes; i += d->k->line)
        ++*(volatile uint64_t *)(d->data + i);
}

static void count_up_locked(const struct duo *d, unsigned side)
{
    (void)side;
    for (size_t i = 0; i < d->bytes; i += d->k->line)
        __asm__ volatile("lock addq $1, %0" : "+m"(*(volatile uint64_t *)(d->data + i)));
}

/* A word of its own in each line. */
static void write_own_word(const struct duo *d, unsigned side)
{
    for (size_t i = 0; i < d->bytes; i += d->k->line)
        *(volatile uint64_t *)(d->data + i + side * sizeof(uint64_t)) = 1;
}

/* A line of its own, of each two. */
static void write_own_line(const struct duo *d, unsigned side)
{
    for (size_t i = side * d->k->line; i < d->bytes; i += 2 * d->k->line)
        *(volatile uint64_t *)(d->data + i) = 1;
}

static void read_first(const struct duo *d, unsigned side)
{
    (void)side;
    for (size_t i = 0; i < d->bytes; i += d->k->line)
        (void)*(volatile uint64_t *)(d->data + i);
}

/* Two sides by turns, and what each of them is to have counted besides the flag. */
static void by_turns(const struct kit *k, const char *name, turn_fn first, turn_fn second,
                     unsigned lines, const struct want *want)
{
    unsigned last = k->nnodes - 1;
    struct duo d = {.k = k,
                    .cpu = {kit_cpu(k, 0), kit_cpu(k, last)},
                    .warm = WARM,
                    .rounds = ROUNDS,
                    .turn = {first, second},
                    .bytes = lines * k->line};
    char *flags = kit_buffer(k, last, MEMSYS_PAGE, false);

    if (d.cpu[1] == d.cpu[0])
        d.cpu[1] = k->ncpus - 1;
    d.data = kit_buffer(k, 0, d.bytes, false);
    /* In a set of no line of the data, and in none that is sampled. */
    d.flag = (volatile unsigned *)(flags + MEMSYS_PAGE - k->line);
    duo_run(&d);
    for (unsigned side = 0; side < 2; side++) {
        struct want w = want[side];

        w.access = (double)(lines * ROUNDS);
        if (k->h->sample == 1)
            duo_flag(&d, last, &w);
        kit_compare(k, name, side ? "second side, remote" : "first side, local", d.cpu[side],
                    &w);
    }
    kit_free(d.data, d.bytes);
    kit_free(flags, MEMSYS_PAGE);
}

/* N R lines for both sides that the other has changed since, taken for writing at once. */
static void taken_for_writing(struct want w[2], double lines)
{
    for (unsigned side = 0; side < 2; side++) {
        w[side].miss[MEMSYS_WRITE][0] = lines;
        w[side].coherence = w[side].dirty = w[side].invalidated = lines;
    }
}

/*
 * True sharing, written: each line is modified in the other side's cache and is taken from there for
 * writing.  For both sides, N R write misses at the data's node, all of coherence, all dirty, each
 * takes away one copy.
 */
static void true_sharing(const struct kit *k, const char *name)
{
    struct want w[2] = {{.access = 0}};

    taken_for_writing(w, LINES * ROUNDS);
    by_turns(k, name, write_first, write_first, LINES, w);
}

/*
 * True sharing, counted up: an add reads first.  N R read misses, of coherence, dirty, which leave
 * the line shared; then the write upgrades it, N R upgrades, each takes away one copy.
 */
static void true_sharing_add(const struct kit *k, const char *name)
{
    struct want w[2] = {{.access = 0}};

    for (unsigned side = 0; side < 2; side++) {
        w[side].miss[MEMSYS_READ][0] = w[side].upgrade[0] = LINES * ROUNDS;
        w[side].coherence = w[side].dirty = w[side].invalidated = LINES * ROUNDS;
    }
    by_turns(k, name, count_up, count_up, LINES, w);
}

/* The same with a locked add, which takes the line for writing at once: as if only written. */
static void true_sharing_locked(const struct kit *k, const char *name)
{
    struct want w[2] = {{.access = 0}};

    taken_for_writing(w, LINES * ROUNDS);
    by_turns(k, name, count_up_locked, count_up_locked, LINES, w);
}

/* False sharing: other words of the same lines.  A cache knows only lines: as true sharing. */
static void false_sharing(const struct kit *k, const char *name)
{
    struct want w[2] = {{.access = 0}};

    taken_for_writing(w, LINES * ROUNDS);
    by_turns(k, name, write_own_word, write_own_word, LINES, w);
}

/* Its control: words in lines of their own; N / 2 lines for each side, which all stay: nothing but
 * the flag. */
static void padded(const struct kit *k, const char *name)
{
    static const struct want w[2];

    by_turns(k, name, write_own_line, write_own_line, 2 * LINES, w);
}

/*
 * Producer and consumer.  The consumer's reads left all lines shared: the producer's writes are N R
 * upgrades, each takes away the consumer's copy.  The consumer then misses N R times, of coherence,
 * and gets each line from the producer's cache, dirty.
 */
static void producer_consumer(const struct kit *k, const char *name)
{
    struct want w[2] = {{.access = 0}};

    w[0].upgrade[0] = w[0].invalidated = LINES * ROUNDS;
    w[1].miss[MEMSYS_READ][0] = w[1].coherence = w[1].dirty = LINES * ROUNDS;
    by_turns(k, name, write_first, read_first, LINES, w);
}

/* ---- crowds ---- */

struct member;

/* Threads on several CPUs that work at the same time. */
struct crowd {
    const struct kit *k;
    unsigned n; /* members, the first is main() */
    void (*work)(const struct member *m);
    char *flags; /* see flag() */
};

/* One of them. */
struct member {
    struct crowd *crowd;
    pthread_t thread;
    unsigned cpu, number;
    char *data;      /* what it works on */
    size_t bytes;    /* of data */
    unsigned passes; /* over data */
    uint64_t *seen;  /* figures of one who watches: went back, grew, last */
};

/* Flags of a crowd: work may begin, all may end, and member i's work is done. */
enum { GO, STOP, DONE };

/* A flag: alone in its line, which is in no sampled set. */
static volatile unsigned *flag(const struct crowd *c, unsigned i)
{
    return (volatile unsigned *)(c->flags + (8 * i + 1) * c->k->line);
}

static void pause_cpu(void)
{
    __asm__ volatile("pause" ::: "memory");
}

static void *member_runs(void *data)
{
    struct member *m = data;

    kit_go(m->cpu);
    while (!*flag(m->crowd, GO))
        pause_cpu();
    m->crowd->work(m);
    *flag(m->crowd, DONE + m->number) = 1;
    while (!*flag(m->crowd, STOP))
        pause_cpu();
    return NULL;
}

/* All work with the model on and cold caches, counted from the beginning. */
static void crowd_run(struct crowd *c, struct member *m)
{
    size_t bytes = (size_t)(DONE + c->n) * 8 * c->k->line;

    c->flags = kit_buffer(c->k, c->k->nnodes - 1, bytes, false);
    for (unsigned i = 0; i < c->n; i++) {
        m[i].crowd = c;
        m[i].number = i;
        errno = i ? pthread_create(&m[i].thread, NULL, member_runs, &m[i]) : 0;
        if (errno)
            kit_die("pthread_create");
    }
    kit_go(m[0].cpu);
    usleep(100000);
    ROI(ROI_EMPTY, 0);
    ROI(ROI_ZERO, 0);
    ROI(ROI_ON, 0);
    *flag(c, GO) = 1;
    c->work(&m[0]);
    *flag(c, DONE) = 1;
    for (unsigned i = 1; i < c->n; i++)
        while (!*flag(c, DONE + i))
            pause_cpu();
    ROI(ROI_OFF, 0);
    *flag(c, STOP) = 1;
    for (unsigned i = 1; i < c->n; i++)
        pthread_join(m[i].thread, NULL);
    kit_free(c->flags, bytes);
}

static void read_passes(const struct member *m)
{
    for (unsigned pass = 0; pass < m->passes; pass++)
        for (size_t i = 0; i < m->bytes; i += m->crowd->k->line)
            (void)*(const volatile uint64_t *)(m->data + i);
}

/*
 * A table of three quarters of the cache on the first node, read ten times by all CPUs at once.
 * Each brings in each line once, N read misses; what another reads takes nothing away: no line is dirty,
 * none upgraded, none invalidated.
 */
static void read_shared(const struct kit *k, const char *name)
{
    struct crowd c = {.k = k, .n = k->ncpus, .work = read_passes};
    static struct member m[MEMSYS_CPUS];
    size_t bytes = k->cache / 4 * 3;
    char *table = kit_buffer(k, 0, bytes, false), label[32];

    memset(m, 0, sizeof(m));
    for (unsigned i = 0; i < c.n; i++)
        m[i] = (struct member){.cpu = i, .data = table, .bytes = bytes, .passes = 10};
    crowd_run(&c, m);
    for (unsigned i = 0; i < c.n; i++) {
        struct want w = {.access = 10 * (double)(bytes / k->line)};

        w.miss[MEMSYS_READ][0] = (double)(bytes / k->line);
        snprintf(label, sizeof(label), "CPU %u", i);
        kit_compare(k, name, label, i, &w);
    }
    kit_free(table, bytes);
}

/* The wait at a memory that others keep busy for a part of the time: M/D/1. */
static double wait_at(double service, double load)
{
    return service * load / (2 * (1 - load));
}

/*
 * Congestion: the CPUs of the first node each stream a buffer of four caches there.  With service
 * time s, quiet latency l and e for the instructions of an access (and its part of the time that
 * interrupts take), a CPU's access takes t = e + l + w
 * and the memory s of it; it waits for the c - 1 others: w = wait_at((c - 1) s / t).  The fixed
 * point is found by bisection; the wait per miss must be it, and all accesses must be misses.
 */
static void congestion(const struct kit *k, const char *name)
{
    enum { PASSES = 32 };
    unsigned n = k->ncpus / k->nnodes;
    struct crowd c = {.k = k, .n = n, .work = read_passes};
    static struct member m[MEMSYS_CPUS];
    double s = 1e6 * (double)k->line / k->machine->mbps_per_cpu / n, low = 0, high = 1e7;
    double l = (double)k->ps[0][0], e, lines = (double)(PASSES * 4 * k->cache / k->line);
    struct memsys_count sum, kernel;

    if (n < 2)
        return;
    memset(m, 0, sizeof(m));
    for (unsigned i = 0; i < n; i++)
        m[i] = (struct member){.cpu = i,
                               .data = kit_buffer(k, 0, 4 * k->cache, false),
                               .bytes = 4 * k->cache,
                               .passes = PASSES};
    crowd_run(&c, m);
    kit_sum(k, (UINT32_C(1) << n) - 1, 0, MEMSYS_USER, &sum);
    kit_sum(k, (UINT32_C(1) << n) - 1, 0, MEMSYS_KERNEL, &kernel);
    kit_row(k, name, "all CPUs of a node", "read misses at node 0", n * lines,
            (double)sum.miss[MEMSYS_READ][0], 0);
    e = (double)((sum.insns + kernel.insns) * k->h->insn_ps);
    for (unsigned i = 0; i < k->nnodes; i++)
        e += (double)kernel.stall_ps[i];
    e /= n * lines;
    while (high - low > 1) {
        double w = (low + high) / 2, load = (n - 1) * s / (e + l + w);

        /* Too short a wait makes for more load than it comes from. */
        if (load >= 1 || wait_at(s, load) > w)
            low = w;
        else
            high = w;
    }
    kit_row(k, name, "all CPUs of a node", "ps waited for others at each miss", low,
            (double)sum.queue_ps / (n * lines), 0);
    for (unsigned i = 0; i < n; i++)
        kit_free(m[i].data, m[i].bytes);
}

/* CPU 0 streams, the other one watches its counter of misses. */
static void stream_or_watch(const struct member *m)
{
    const struct kit *k = m->crowd->k;
    const volatile uint64_t *counter =
        &memsys_counts(k->h, 0, 0, MEMSYS_USER)->miss[MEMSYS_READ][0];
    uint64_t before = 0;

    if (!m->cpu) {
        read_passes(m);
        return;
    }
    do {
        uint64_t now = *counter;

        m->seen[0] += now < before;
        m->seen[1] += now > before;
        before = m->seen[2] = now;
        pause_cpu();
    } while (!*flag(m->crowd, DONE));
    m->seen[2] = *counter;
}

/*
 * Reading live: while one CPU streams four caches, another one reads the first one's counter of
 * misses from the device.  It must be seen to grow, in steps, never to shrink, and to end at N P.
 */
static void live(const struct kit *k, const char *name)
{
    struct crowd c = {.k = k, .n = 2, .work = stream_or_watch};
    static struct member m[2];
    uint64_t seen[3] = {0};
    char *data = kit_buffer(k, 0, 4 * k->cache, false);

    memset(m, 0, sizeof(m));
    for (unsigned i = 0; i < 2; i++)
        m[i] = (struct member){.cpu = i ? kit_cpu(k, k->nnodes - 1) : 0,
                               .data = data,
                               .bytes = 4 * k->cache,
                               .seen = seen,
                               .passes = 4};
    if (!m[1].cpu)
        m[1].cpu = k->ncpus - 1;
    crowd_run(&c, m);
    kit_row(k, name, "another CPU reads", "times the counter went back", 0, (double)seen[0], 1);
    kit_row(k, name, "another CPU reads", "growth seen fewer than 10 times", 0, seen[1] < 10,
            1);
    kit_row(k, name, "another CPU reads", "misses seen at the end",
            (double)(4 * 4 * k->cache / k->line), (double)(seen[2] * k->h->sample), 0);
    kit_free(data, 4 * k->cache);
}

const struct known_case cases_many[] = {
    {"true-sharing", "the same words are written by turns", true_sharing},
    {"true-sharing-add", "the same words are counted up by turns", true_sharing_add},
    {"true-sharing-locked", "the same, by a locked add", true_sharing_locked},
    {"false-sharing", "other words of the same lines are written by turns", false_sharing},
    {"padded", "its control: other lines", padded},
    {"producer-consumer", "one writes, the other reads, by turns", producer_consumer},
    {"read-shared", "all CPUs read one table", read_shared},
    {"congestion", "all CPUs of a node keep its memory busy", congestion},
    {"live", "counters are read while they grow", live},
    {0},
};
