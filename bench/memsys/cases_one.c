/* SPDX-License-Identifier: MIT */
/*
 * Programs with known answers on one CPU.  Before what is counted there is a pass that is not: the
 * model goes on with empty caches, the pass brings in code, stack and data, the counters are zeroed.
 *
 * Letters in the derivations: C the cache's bytes, W its ways, L the line's bytes, S the buffer's
 * bytes, N = S / L its lines, P passes that are counted.
 */
#include "bench/memsys/cases.h"

#include <stdio.h>
#include <string.h>

#include "bench/memsys/casekit.h"
#include "bench/memsys/reader.h"
#include "bench/memsys/roi.h"
#include "numa/machine_model.h"

enum { PASSES = 2 };

/* What is walked. */
struct walk {
    char *buffer; /* its first byte */
    size_t bytes; /* of it */
    size_t line;  /* distance of accesses */
};

typedef void (*pass_fn)(const struct walk *w);

/* One pass that is not counted, PASSES that are. */
static void measure(pass_fn pass, const struct walk *w)
{
    ROI(ROI_EMPTY, 0);
    ROI(ROI_ON, 0);
    pass(w);
    ROI(ROI_ZERO, 0);
    for (int i = 0; i < PASSES; i++)
        pass(w);
    ROI(ROI_OFF, 0);
}

static void read_all(const struct walk *w)
{
    for (const char *p = w->buffer, *end = p + w->bytes; p < end; p += w->line)
        (void)*(const volatile uint64_t *)p;
}

static void write_all(const struct walk *w)
{
    for (char *p = w->buffer, *end = p + w->bytes; p < end; p += w->line)
        *(volatile uint64_t *)p = 1;
}

static void lock_all(const struct walk *w)
{
    for (char *p = w->buffer, *end = p + w->bytes; p < end; p += w->line)
        __asm__ volatile("lock addq $1, %0" : "+m"(*(volatile uint64_t *)p));
}

static void read_then_write(const struct walk *w)
{
    read_all(w);
    write_all(w);
}

/* Reads where each line says the next one is, once around. */
static void chase(const struct walk *w)
{
    const char *p = w->buffer;

    for (size_t i = w->bytes / w->line; i; i--)
        p = *(const char *const volatile *)p;
    __asm__ volatile("" ::"r"(p));
}

static void call_all(const struct walk *w)
{
    void (*code)(void);

    memcpy(&code, &w->buffer, sizeof(code));
    code();
}

/* A variant's label. */
static const char *node_label(char buf[32], unsigned node)
{
    snprintf(buf, 32, "node %u", node);
    return buf;
}

/*
 * Stream: S = 4 C from each node in turn, on CPU 0.  LRU: between two accesses to a line come those
 * to 4 W - 1 others of its set, so every access misses: P N at the buffer's node, nothing else.
 * Reads: no other cache has a line, so it comes exclusive and leaves clean: nothing is written back.
 * Writes: the cache is full of changed lines of the pass before, each that comes drives one out:
 * P N are written back.
 * Locked: as writes; the read that is part of it is no access of its own.
 */
static void stream(const struct kit *k, const char *name, pass_fn pass, enum memsys_kind kind)
{
    char label[32];

    kit_go(0);
    for (unsigned node = 0; node < k->nnodes; node++) {
        struct walk w = {.bytes = 4 * k->cache, .line = k->line};
        double lines = (double)(PASSES * w.bytes / k->line);
        struct want want = {.access = lines};

        w.buffer = kit_buffer(k, node, w.bytes, false);
        measure(pass, &w);
        want.miss[kind][node] = lines;
        want.writeback = kind == MEMSYS_WRITE ? lines : 0;
        kit_compare(k, name, node_label(label, node), 0, &want);
        kit_free(w.buffer, w.bytes);
    }
}

static void stream_read(const struct kit *k, const char *name)
{
    stream(k, name, read_all, MEMSYS_READ);
}

static void stream_write(const struct kit *k, const char *name)
{
    stream(k, name, write_all, MEMSYS_WRITE);
}

static void stream_locked(const struct kit *k, const char *name)
{
    stream(k, name, lock_all, MEMSYS_WRITE);
}

/*
 * Read, then write, S = C / 2: it all stays in the cache after the first pass, which made all lines
 * modified.  With caches emptied in between: N read misses at the node, each line exclusive; the
 * writes to them change that in silence: no upgrade, no miss.
 */
static void exclusive(const struct kit *k, const char *name)
{
    unsigned node = k->nnodes - 1;
    struct walk w = {.bytes = k->cache / 2, .line = k->line};
    struct want want = {.access = 2 * (double)(w.bytes / k->line)};

    kit_go(0);
    w.buffer = kit_buffer(k, node, w.bytes, false);
    ROI(ROI_ON, 0);
    read_then_write(&w);
    ROI(ROI_EMPTY, 0);
    ROI(ROI_ZERO, 0);
    read_then_write(&w);
    ROI(ROI_OFF, 0);
    want.miss[MEMSYS_READ][node] = (double)(w.bytes / k->line);
    kit_compare(k, name, "read, then written", 0, &want);
    kit_free(w.buffer, w.bytes);
}

/* Makes one cycle of all lines in random order (Sattolo's algorithm). */
static void make_cycle(const struct walk *w)
{
    size_t n = w->bytes / w->line;
    uint64_t random = 88172645463325252;

    for (size_t i = 0; i < n; i++)
        *(char **)(w->buffer + i * w->line) = w->buffer + i * w->line;
    for (size_t i = n - 1; i; i--) {
        char **a = (char **)(w->buffer + i * w->line), **b, *t;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        b = (char **)(w->buffer + random % i * w->line);
        t = *a;
        *a = *b;
        *b = t;
    }
}

/*
 * Pointer chase around one random cycle, on the farthest node.  The cycle visits the lines of each
 * set in the same order every time around; buffers are in huge pages, a way (C / W) divides those,
 * so each set has S W / C of the lines.
 * C / 2 and C (W - 2) / W: at most W - 2 lines in a set: after the first time around all stay, no
 * miss; two ways are left for code, stack and the kernel's work at interrupts.  (With one way less
 * only, a second line of the kernel in a set drives out the line that is needed next, and so on
 * around: 1.1 % of misses were seen.)  C (W + 1) / W: one line too many in each set; the one that is needed next is always the
 * least recently used one, which has just left: every access misses, P N.  4 C: likewise.
 */
static void pointer_chase(const struct kit *k, const char *name)
{
    size_t way = k->cache / k->machine->ways;
    const struct {
        const char *label;
        size_t bytes;
        bool fits;
    } sizes[] = {
        {"half of the cache", k->cache / 2, true},
        {"two ways less than the cache", k->cache - 2 * way, true},
        {"one way more than the cache", k->cache + way, false},
        {"four caches", 4 * k->cache, false},
    };

    kit_go(0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct walk w = {.bytes = sizes[i].bytes, .line = k->line};
        double lines = (double)(PASSES * w.bytes / k->line);
        struct want want = {.access = lines};

        w.buffer = kit_buffer(k, k->nnodes - 1, w.bytes, false);
        make_cycle(&w);
        measure(chase, &w);
        want.miss[MEMSYS_READ][k->nnodes - 1] = sizes[i].fits ? 0 : lines;
        kit_compare(k, name, sizes[i].label, 0, &want);
        kit_free(w.buffer, w.bytes);
    }
}

/* Fills a buffer with instructions of eight bytes that do nothing, and a return at its end. */
static void make_code(const struct walk *w)
{
    static const unsigned char nop[8] = {0x0f, 0x1f, 0x84};

    for (size_t at = 0; at < w->bytes; at += sizeof(nop))
        memcpy(w->buffer + at, nop, sizeof(nop));
    w->buffer[w->bytes - 1 - 7] = (char)0xc3;
}

/*
 * Code that lies on a node, run on CPU 0; eight instructions fill a line.
 * 2 C: as a stream, P N fetch misses at that node.  C / 2: after the first pass all is there, no
 * miss.  In both P N lines of code are fetched and 8 P N instructions run.
 */
static void code(const struct kit *k, const char *name)
{
    kit_go(0);
    for (unsigned i = 0; i < 3; i++) {
        unsigned node = i == 1 ? 0 : k->nnodes - 1;
        struct walk w = {.bytes = i == 2 ? k->cache / 2 : 2 * k->cache, .line = k->line};
        double lines = (double)(PASSES * w.bytes / k->line);
        struct want want = {.access = lines};
        struct memsys_count n;
        char label[32];

        snprintf(label, sizeof(label), "%s, node %u", i == 2 ? "fits" : "does not fit", node);
        w.buffer = kit_buffer(k, node, w.bytes, true);
        make_code(&w);
        measure(call_all, &w);
        want.miss[MEMSYS_FETCH][node] = i == 2 ? 0 : lines;
        kit_compare(k, name, label, 0, &want);
        kit_sum(k, 1, 0, MEMSYS_USER, &n);
        kit_row(k, name, label, "lines of code run", lines, (double)n.access[MEMSYS_FETCH], 0);
        kit_row(k, name, label, "instructions", lines * 8, (double)n.insns, 0);
        kit_free(w.buffer, w.bytes);
    }
}

/* Touches the first lines of a page. */
static void touch(char *page, unsigned lines, size_t line, bool write)
{
    for (unsigned i = 0; i < lines; i++) {
        if (write)
            *(volatile uint64_t *)(page + i * line) = 1;
        else
            (void)*(volatile uint64_t *)(page + i * line);
    }
}

/*
 * Counters of pages, exact.  Caches are empty.  A CPU of the first node reads the first i lines of
 * page i, a CPU of the last node writes the first i / 2 of them: page i then has i misses and no
 * write by the first node, i / 2 misses and i / 2 writes by the last one, none by others.
 */
static void pages(const struct kit *k, const char *name)
{
    enum { PAGES = 64 };
    unsigned last = k->nnodes - 1, node = last / 2;
    char *buffer = kit_buffer(k, node, (size_t)PAGES * MEMSYS_PAGE, false);
    double off = 0, sum = 0;

    ROI(ROI_EMPTY, 0);
    ROI(ROI_ZERO, 0);
    for (unsigned from = 0; from <= last; from += last ? last : 1) {
        kit_go(kit_cpu(k, from));
        ROI(ROI_ON, 0);
        for (unsigned i = 0; i < PAGES; i++)
            touch(buffer + (size_t)i * MEMSYS_PAGE, from ? i / 2 : i, k->line, from);
        ROI(ROI_OFF, 0);
    }
    for (unsigned i = 0; i < PAGES; i++) {
        const struct memsys_page *pg = memsys_page(k->h, kit_page(k, buffer + i * MEMSYS_PAGE));

        for (unsigned n = 0; n < k->nnodes; n++) {
            double misses = n == 0 ? i : n == last ? i / 2 : 0, writes = n == last ? i / 2 : 0;

            off += misses > pg[n].misses ? misses - pg[n].misses : pg[n].misses - misses;
            off += writes > pg[n].writes ? writes - pg[n].writes : pg[n].writes - writes;
            sum += misses + writes;
        }
    }
    /* With sampling only the lines of sampled sets are there to be counted. */
    if (k->h->sample == 1)
        kit_row(k, name, "64 pages", "lines counted for a wrong page or node", 0, off, sum);
    kit_free(buffer, (size_t)PAGES * MEMSYS_PAGE);
}

const struct known_case cases_one[] = {
    {"stream-read", "each line of four caches is read, on each node", stream_read},
    {"stream-write", "each line of four caches is written, on each node", stream_write},
    {"stream-locked", "each line of four caches is counted up by a locked add", stream_locked},
    {"exclusive", "lines that are read and then written by one CPU", exclusive},
    {"pointer-chase", "one random cycle that fits, just fits, just does not, does not",
     pointer_chase},
    {"code", "code run from the farthest node and from the nearest", code},
    {"pages", "counters of pages, by node", pages},
    {0},
};
