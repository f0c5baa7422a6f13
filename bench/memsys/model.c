/* SPDX-License-Identifier: MIT */
/*
 * The memory-system model.  A cache is an array of sets, most recently used way first; an entry
 * holds a line's number and its state.  A line that another CPU's write took away keeps its number
 * in state INVALID until the way is used again: so a miss on it is known as one of coherence.
 * The directory has a word for each line of all memory, most of them never touched.
 *
 * Protocol: MESI with a full map, replacements told to the directory.  Sources: Censier and Feautrier
 * 1978 (full-map directory), Papamarcos and Patel 1984 (the exclusive state).
 *
 * Congestion: each node's memory is a queue with a fixed time of service (M/D/1).  Each CPU measures
 * on its own modelled time what part of each memory's time it takes, window by window, smoothed.  A
 * CPU that asks waits for the load of the others, not for its own: it never has two requests at once
 * (the arrival theorem of closed networks).  CPUs run in turns, some longer than a window; so a load
 * is remembered until its CPU has missed three turns.
 */
#include "bench/memsys/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "numa/machine_model.h"

/* States of an entry, its low bits. */
enum { INVALID, SHARED, EXCLUSIVE, MODIFIED, STATE_BITS = 2, STATE = 3 };

#define EMPTY     UINT32_C(0)         /* an entry never used: line 0 in state INVALID */
#define ONE_OWNER (UINT32_C(1) << 31) /* directory: the one sharer may write */
#define WINDOW_PS UINT64_C(250000000) /* of a CPU's load: 0.25 ms */
#define SMOOTH    0.125               /* weight of the newest window */
#define IDLE_MIN  (UINT64_C(1) << 20) /* instructions of all CPUs, at least, till one is idle */
#define IDLE_MAX  (UINT64_C(1) << 26) /* the same where turns are not known */
#define LOAD_MAX  0.95                /* beyond, an open queue says nothing */
#define SLOWEST   4                   /* a memory's latency under load, times the quiet one */

/* A CPU. */
struct cpu {
    uint32_t *way;                   /* sets x ways entries */
    struct memsys_count *now;        /* where it counts */
    uint64_t clock_ps;               /* modelled time it has been busy */
    uint64_t window_ps;              /* clock_ps when its window began */
    uint64_t ran;                    /* instructions of all CPUs when it last began one */
    unsigned node;                   /* where it is */
    uint32_t requests[MEMSYS_NODES]; /* to each memory in its window */
    double load[MEMSYS_NODES];       /* part of each memory's time it takes, 0 to 1 */
    uint64_t queue_ps[MEMSYS_NODES]; /* what it waits at each for the others */
};

/* The model. */
struct memsys {
    struct memsys_header *h;         /* the shared region */
    struct cpu cpu[MEMSYS_CPUS];     /* by number */
    uint32_t *dir;                   /* by line: sharers, ONE_OWNER */
    uint64_t lines;                  /* entries of dir */
    unsigned nsets, ways;            /* of each cache */
    unsigned line_shift, page_shift; /* bytes to lines, lines to pages */
    unsigned node_shift;             /* lines to nodes */
    unsigned set_shift;              /* sampled: low bits of the line that say nothing */
    uint64_t dirty_ps;               /* for a line that another cache has changed */
    uint64_t service_ps;             /* of a node's memory for one line */
    uint64_t insns;                  /* of all CPUs */
    uint64_t idle;                   /* of these; a CPU that began none of them is idle */
};

static unsigned log2_of(uint64_t v)
{
    return 63 - (unsigned)__builtin_clzll(v);
}

static bool power_of_two(uint64_t v)
{
    return v && !(v & (v - 1));
}

bool memsys_shape_wrong(const struct memsys_shape *s, char *buf, unsigned size)
{
    *buf = 0;
    if (!s->nnodes || s->nnodes > MEMSYS_NODES)
        snprintf(buf, size, "%u nodes; 1 to %d can be modelled", s->nnodes, MEMSYS_NODES);
    else if (!s->ncpus || s->ncpus > MEMSYS_CPUS || s->ncpus % s->nnodes)
        snprintf(buf, size, "%u CPUs; up to %d, the same number on each of %u nodes, can be",
                 s->ncpus, MEMSYS_CPUS, s->nnodes);
    else if (!power_of_two(s->node_bytes) || s->node_bytes < 1 << 20)
        snprintf(buf, size,
                 "a node of %" PRIu64 " KiB; its size must be a power of two, 1 MiB or more",
                 s->node_bytes >> 10);
    else if (s->node_bytes / s->machine->line * s->nnodes > UINT32_C(1) << (32 - STATE_BITS))
        snprintf(buf, size,
                 "%" PRIu64 " GiB of memory; 64 GiB of 64 byte lines can be modelled",
                 s->node_bytes * s->nnodes >> 30);
    else if (!power_of_two(s->sample) || s->sample > MEMSYS_PAGE / s->machine->line)
        snprintf(buf, size, "sample=%u; one set in 1, 2, 4 ... %u can be modelled", s->sample,
                 MEMSYS_PAGE / s->machine->line);
    for (unsigned a = 0; !*buf && a < s->nnodes; a++)
        for (unsigned b = 0; !*buf && b < s->nnodes; b++)
            if (!machine_model_latency(s->machine, s->distance[a][b]))
                snprintf(buf, size,
                         "distance %u from node %u to node %u is not in the description of %s",
                         s->distance[a][b], a, b, s->machine->name);
    return *buf;
}

/* The header and the latencies. */
static void fill_header(struct memsys *m, const struct memsys_shape *s)
{
    struct memsys_header *h = m->h;
    const struct machine_model *mc = s->machine;

    h->version = MEMSYS_VERSION;
    h->ncpus = s->ncpus;
    h->nnodes = s->nnodes;
    h->sample = s->sample;
    h->node_bytes = s->node_bytes;
    h->pages = s->node_bytes / MEMSYS_PAGE * s->nnodes;
    h->pages_at = memsys_pages_at(s->ncpus);
    h->bytes = memsys_region_bytes(s->ncpus, s->nnodes, s->node_bytes);
    h->insn_ps = UINT64_C(100000000) / mc->mhz / mc->ipc_percent;
    h->line = mc->line;
    snprintf(h->machine, sizeof(h->machine), "%s", mc->name);
    for (unsigned a = 0; a < s->nnodes; a++)
        for (unsigned b = 0; b < s->nnodes; b++)
            h->latency_ps[a][b] = UINT64_C(1000) * machine_model_latency(mc, s->distance[a][b]);
    for (unsigned c = 0; c < s->ncpus; c++)
        h->node_of_cpu[c] = (uint8_t)m->cpu[c].node;
    h->magic = MEMSYS_MAGIC;
}

/* Zeroed memory that costs nothing until it is touched; NULL: none. */
static void *zeroes(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

struct memsys *memsys_new(const struct memsys_shape *s, void *region)
{
    const struct machine_model *mc = s->machine;
    struct memsys *m = calloc(1, sizeof(*m));

    if (!m)
        return NULL;
    m->h = region;
    m->ways = mc->ways;
    m->set_shift = log2_of(s->sample);
    m->nsets = mc->cache_kib * 1024 / mc->line / mc->ways / s->sample;
    m->line_shift = log2_of(mc->line);
    m->page_shift = log2_of(MEMSYS_PAGE) - m->line_shift;
    m->node_shift = log2_of(s->node_bytes) - m->line_shift;
    m->lines = s->node_bytes * s->nnodes / mc->line;
    m->dirty_ps = UINT64_C(1000) * mc->dirty_ns;
    /* All CPUs of a node share its bandwidth; a sampled line stands for all it was drawn from. */
    m->service_ps = UINT64_C(1000000) * mc->line / mc->mbps_per_cpu / (s->ncpus / s->nnodes);
    m->idle = s->turn ? 3 * s->turn * s->ncpus : IDLE_MAX;
    m->idle = m->idle < IDLE_MIN ? IDLE_MIN : m->idle;
    m->dir = zeroes(m->lines * sizeof(*m->dir));
    if (!m->dir) {
        free(m);
        return NULL;
    }
    for (unsigned c = 0; c < s->ncpus; c++) {
        m->cpu[c].node = c / (s->ncpus / s->nnodes);
        m->cpu[c].now = memsys_counts(m->h, c, 0, MEMSYS_KERNEL);
        m->cpu[c].way = calloc((size_t)m->nsets * m->ways, sizeof(*m->cpu[c].way));
        if (!m->cpu[c].way) {
            m->h->ncpus = s->ncpus;
            memsys_free(m);
            return NULL;
        }
    }
    fill_header(m, s);
    return m;
}

void memsys_free(struct memsys *m)
{
    if (!m)
        return;
    for (unsigned c = 0; c < MEMSYS_CPUS; c++)
        free(m->cpu[c].way);
    munmap(m->dir, m->lines * sizeof(*m->dir));
    free(m);
}

/* The set in which a CPU keeps a line. */
static inline uint32_t *set_of(const struct memsys *m, unsigned cpu, uint32_t line)
{
    return m->cpu[cpu].way + (size_t)((line >> m->set_shift) & (m->nsets - 1)) * m->ways;
}

/* The way of a set that names a line, whatever its state; m->ways: none. */
static inline unsigned find(const struct memsys *m, const uint32_t *set, uint32_t line)
{
    unsigned i = 0;

    while (i < m->ways && set[i] >> STATE_BITS != line)
        i++;
    return i;
}

/* Makes the entry the most recently used one. */
static inline void to_front(uint32_t *set, unsigned i, uint32_t entry)
{
    memmove(set + 1, set, i * sizeof(*set));
    set[0] = entry;
}

/* Puts a line that a cache holds into another state. Returns the state it had. */
static unsigned set_state(struct memsys *m, unsigned cpu, uint32_t line, unsigned state)
{
    uint32_t *set = set_of(m, cpu, line);
    unsigned i = find(m, set, line), was;

    if (i == m->ways)
        abort(); /* M2 is broken */
    was = set[i] & STATE;
    set[i] = (set[i] & ~(uint32_t)STATE) | state;
    return was;
}

/* Takes a line out of all caches but this CPU's. */
static void invalidate_others(struct memsys *m, unsigned cpu, uint32_t line)
{
    uint32_t others = m->dir[line] & ~ONE_OWNER & ~(UINT32_C(1) << cpu);

    for (; others; others &= others - 1) {
        set_state(m, (unsigned)__builtin_ctz(others), line, INVALID);
        m->cpu[cpu].now->invalidated++;
    }
}

/* A way for a new line: one that holds nothing, else the least recently used, whose line leaves. */
static unsigned make_room(struct memsys *m, unsigned cpu, const uint32_t *set)
{
    unsigned i = m->ways;
    uint32_t line;

    while (i--)
        if ((set[i] & STATE) == INVALID)
            return i;
    i = m->ways - 1;
    line = set[i] >> STATE_BITS;
    m->dir[line] &= ~(UINT32_C(1) << cpu) & ~ONE_OWNER;
    if ((set[i] & STATE) == MODIFIED) {
        m->cpu[cpu].now->writeback++;
        m->cpu[cpu].requests[line >> m->node_shift]++;
    }
    return i;
}

/* What one waits at a node's memory that is busy for this part of the time. */
static uint64_t wait_for(const struct memsys *m, unsigned node, double load)
{
    double most = (double)(m->h->latency_ps[node][node] * (SLOWEST - 1)), wait;

    load = load > LOAD_MAX ? LOAD_MAX : load;
    wait = load > 0 ? (double)m->service_ps * load / (2 * (1 - load)) : 0;
    return (uint64_t)(wait > most ? most : wait);
}

/* What all CPUs wait for one another at a node. */
static void share_load(struct memsys *m, unsigned node)
{
    double all = 0;

    for (unsigned c = 0; c < m->h->ncpus; c++) {
        if (m->insns - m->cpu[c].ran > m->idle)
            m->cpu[c].load[node] = 0;
        all += m->cpu[c].load[node];
    }
    for (unsigned c = 0; c < m->h->ncpus; c++)
        m->cpu[c].queue_ps[node] = wait_for(m, node, all - m->cpu[c].load[node]);
    m->h->queue_ps[node] = wait_for(m, node, all);
}

/* A CPU's window is over: its load is known anew. */
static void end_window(struct memsys *m, struct cpu *c)
{
    double elapsed = (double)(c->clock_ps - c->window_ps);

    for (unsigned n = 0; n < m->h->nnodes; n++) {
        double busy = (double)(c->requests[n] * m->service_ps * m->h->sample);

        c->load[n] += (busy / elapsed - c->load[n]) * SMOOTH;
        c->requests[n] = 0;
        share_load(m, n);
    }
    c->window_ps = c->clock_ps;
}

/* A CPU waits for the memory of a node, and for another cache when the line is dirty there. */
static void stall(struct memsys *m, unsigned cpu, unsigned node, bool dirty)
{
    struct cpu *c = &m->cpu[cpu];
    uint64_t other = dirty ? m->dirty_ps : 0;
    uint64_t ps = m->h->latency_ps[c->node][node] + c->queue_ps[node] + other;

    c->now->stall_ps[node] += ps;
    c->now->queue_ps += c->queue_ps[node];
    c->now->bound_ps += m->h->latency_ps[c->node][c->node] + other;
    c->clock_ps += ps * m->h->sample;
    c->requests[node]++;
    if (c->clock_ps - c->window_ps >= WINDOW_PS)
        end_window(m, c);
}

static inline void add(uint32_t *counter)
{
    if (*counter != UINT32_MAX)
        ++*counter;
}

/* The counters of a line's page that the CPU's node has. */
static inline struct memsys_page *page_of(struct memsys *m, unsigned cpu, uint32_t line)
{
    return memsys_page(m->h, line >> m->page_shift) + m->cpu[cpu].node;
}

/* A write to a line that this cache holds and may not write. */
static void upgrade(struct memsys *m, unsigned cpu, uint32_t line)
{
    unsigned node = line >> m->node_shift;

    invalidate_others(m, cpu, line);
    m->dir[line] = UINT32_C(1) << cpu | ONE_OWNER;
    m->cpu[cpu].now->upgrade[node]++;
    add(&page_of(m, cpu, line)->writes);
    stall(m, cpu, node, false);
}

/* Brings a line into this cache. `known`: the way that still has its number, or m->ways. */
static void fetch(struct memsys *m, unsigned cpu, uint32_t line, enum memsys_kind kind,
                  unsigned known)
{
    struct memsys_count *now = m->cpu[cpu].now;
    uint32_t me = UINT32_C(1) << cpu, *set = set_of(m, cpu, line), dir = m->dir[line];
    unsigned node = line >> m->node_shift, way = known, state = MODIFIED;
    bool dirty = false;

    if (known == m->ways)
        way = make_room(m, cpu, set);
    else
        now->coherence++;
    if (dir & ONE_OWNER) {
        unsigned owner = (unsigned)__builtin_ctz(dir);

        dirty = set_state(m, owner, line, SHARED) == MODIFIED;
        now->dirty += dirty;
    }
    if (kind == MEMSYS_WRITE) {
        invalidate_others(m, cpu, line);
        m->dir[line] = me | ONE_OWNER;
        add(&page_of(m, cpu, line)->writes);
    } else {
        state = dir ? SHARED : EXCLUSIVE;
        m->dir[line] = dir ? (dir & ~ONE_OWNER) | me : me | ONE_OWNER;
    }
    to_front(set, way, line << STATE_BITS | state);
    now->miss[kind][node]++;
    add(&page_of(m, cpu, line)->misses);
    stall(m, cpu, node, dirty);
}

bool memsys_access(struct memsys *m, unsigned cpu, uint64_t addr, enum memsys_kind kind)
{
    uint32_t line = (uint32_t)(addr >> m->line_shift), *set = set_of(m, cpu, line), entry;
    unsigned i = find(m, set, line);

    m->cpu[cpu].now->access[kind]++;
    if (i == m->ways || (set[i] & STATE) == INVALID) {
        /* An entry never used names line 0 and was taken away by nobody. */
        fetch(m, cpu, line, kind, i < m->ways && set[i] == EMPTY ? m->ways : i);
        return true;
    }
    entry = set[i];
    if (kind == MEMSYS_WRITE && (entry & STATE) != MODIFIED) {
        if ((entry & STATE) == SHARED) {
            upgrade(m, cpu, line);
        } else {
            m->cpu[cpu].now->hit++;
            add(&page_of(m, cpu, line)->writes);
        }
        entry = line << STATE_BITS | MODIFIED;
    } else {
        m->cpu[cpu].now->hit++;
    }
    if (i || entry != set[0])
        to_front(set, i, entry);
    return false;
}

void memsys_context(struct memsys *m, unsigned cpu, unsigned tag, enum memsys_mode mode)
{
    m->cpu[cpu].now = memsys_counts(m->h, cpu, tag, mode);
}

void memsys_insns(struct memsys *m, unsigned cpu, unsigned n)
{
    m->cpu[cpu].now->insns += n;
    m->cpu[cpu].clock_ps += n * m->h->insn_ps;
    m->insns += n;
    m->cpu[cpu].ran = m->insns;
}

struct memsys_count *memsys_current(struct memsys *m, unsigned cpu)
{
    return m->cpu[cpu].now;
}

void memsys_zero(struct memsys *m)
{
    memset((char *)m->h + MEMSYS_COUNTS_AT, 0, m->h->bytes - MEMSYS_COUNTS_AT);
    m->h->resets++;
}

void memsys_empty(struct memsys *m)
{
    size_t bytes = (size_t)m->nsets * m->ways * sizeof(*m->cpu[0].way);

    for (unsigned c = 0; c < m->h->ncpus; c++) {
        for (size_t i = 0; i < (size_t)m->nsets * m->ways; i++)
            if ((m->cpu[c].way[i] & STATE) != INVALID)
                m->dir[m->cpu[c].way[i] >> STATE_BITS] = 0;
        memset(m->cpu[c].way, 0, bytes);
        memset(m->cpu[c].requests, 0, sizeof(m->cpu[c].requests));
        memset(m->cpu[c].load, 0, sizeof(m->cpu[c].load));
        memset(m->cpu[c].queue_ps, 0, sizeof(m->cpu[c].queue_ps));
    }
    memset(m->h->queue_ps, 0, sizeof(m->h->queue_ps));
}

/* A violation: counted, the first one told. */
#define BROKEN(...) (bad++ ? 0 : snprintf(buf, size, __VA_ARGS__))

/* M1 and M2 of the entries of one cache: the directory names it, as what it is. `held`: lines. */
static unsigned check_cache(const struct memsys *m, unsigned cpu, uint64_t *held, char *buf,
                            unsigned size)
{
    uint32_t me = UINT32_C(1) << cpu;
    unsigned bad = 0;

    for (size_t i = 0; i < (size_t)m->nsets * m->ways; i++) {
        uint32_t entry = m->cpu[cpu].way[i], line = entry >> STATE_BITS, dir = m->dir[line];

        if ((entry & STATE) == INVALID)
            continue;
        ++*held;
        if (!(dir & me) || set_of(m, cpu, line) != m->cpu[cpu].way + i / m->ways * m->ways)
            BROKEN("M2: line %#x: in CPU %u's set %zu, directory %#x", line, cpu, i / m->ways,
                   dir);
        else if ((entry & STATE) != SHARED && (dir & ~ONE_OWNER) != me)
            BROKEN("M1: line %#x: CPU %u may write, directory %#x", line, cpu, dir);
        else if (((entry & STATE) != SHARED) != !!(dir & ONE_OWNER))
            BROKEN("M2: line %#x: CPU %u in state %u, directory %#x", line, cpu, entry & STATE,
                   dir);
    }
    return bad;
}

/* M3 of one set of counters. */
static bool count_wrong(const struct memsys_count *n)
{
    uint64_t sum = n->hit, all = 0;

    for (unsigned k = 0; k < MEMSYS_KINDS; k++) {
        all += n->access[k];
        for (unsigned i = 0; i < MEMSYS_NODES; i++)
            sum += n->miss[k][i];
    }
    for (unsigned i = 0; i < MEMSYS_NODES; i++)
        sum += n->upgrade[i];
    return sum != all;
}

unsigned memsys_check(struct memsys *m, char *buf, unsigned size)
{
    uint64_t held = 0, named = 0;
    unsigned bad = 0;

    for (unsigned c = 0; c < m->h->ncpus; c++)
        bad += check_cache(m, c, &held, buf, bad ? 0 : size);
    /* Each line that is held is named; as many are named as are held: no other one is named. */
    for (uint64_t line = 0; line < m->lines; line++) {
        named += (unsigned)__builtin_popcount(m->dir[line] & ~ONE_OWNER);
        if (m->dir[line] == ONE_OWNER)
            BROKEN("M2: line %#" PRIx64 ": an owner that is nobody", line);
    }
    if (named != held)
        BROKEN("M2: %" PRIu64 " lines are held, the directory names %" PRIu64, held, named);
    for (unsigned c = 0; c < m->h->ncpus; c++)
        for (unsigned t = 0; t < MEMSYS_TAGS * MEMSYS_MODES; t++)
            if (count_wrong(memsys_counts(m->h, c, t / MEMSYS_MODES, t % MEMSYS_MODES)))
                BROKEN("M3: CPU %u tag %u: accesses are not hits, misses and upgrades", c,
                       t / MEMSYS_MODES);
    return bad;
}
