/* SPDX-License-Identifier: MIT */
/*
 * The page map; picture, invariants and threads are in the header.
 *
 * An entry is two words: the nodes that hold replicas, and everything else packed.  A change
 * bumps the block's sequence number (odd: being written), writes words with release, bumps it
 * again.  A reader loads the number, words with acquire, the number again: if it read a word of
 * a change, it sees that change's first bump as well and tries again; so what it takes is
 * whole.  The same holds for an array that has become another block's: forming the old block
 * bumped it before.
 */
#include "numa/pagemap.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/err.h"

/* One unit. */
struct entry {
    _Atomic uint64_t replicas; /* bit n: node n */
    _Atomic uint64_t word;     /* see enum field */
};

/* Fields of entry.word: first bit. Widths in field_bits[]. */
enum field { F_STATE, F_STORE, F_NODE, F_MOVES, F_COLLAPSES, F_CLAIMED, F_EPOCH, FIELDS };

static const uint8_t field_at[FIELDS] = {0, 2, 10, 16, 22, 28, 32};
static const uint8_t field_bits[FIELDS] = {2, 8, 6, 6, 6, 1, 16};

/* A block of 2 MiB. */
struct block {
    struct entry whole;            /* the unit, while pages is NULL */
    _Atomic(struct entry *) pages; /* PAGEMAP_BLOCK of them, NULL: whole */
    _Atomic uint32_t seq;          /* odd: being written */
    _Atomic uint32_t watched;      /* pages claimed or not private (P2) */
    _Atomic uint32_t pins;         /* devices that write here */
    uint32_t spare;                /* nothing */
};

struct pagemap {
    uint64_t nblocks;        /* entries of block */
    struct block *block;     /* mapped; memory comes where it is written */
    struct entry *spares;    /* arrays of formed blocks, linked by their first word; writer */
    _Atomic uint64_t arrays; /* made so far, in use or spare; writer, read by any */
    _Atomic uint16_t epoch;  /* number of this interval; writer, read by any */
};

_Static_assert(sizeof(struct entry) == 16, "0.39 % of guest memory");
_Static_assert(sizeof(struct block) <= 48, "a block costs little");

/* ---- entries ---- */

static uint64_t field(uint64_t word, enum field f)
{
    return word >> field_at[f] & ((1ull << field_bits[f]) - 1);
}

static uint64_t with(uint64_t word, enum field f, uint64_t value)
{
    uint64_t mask = ((1ull << field_bits[f]) - 1) << field_at[f];

    INVARIANT(value <= mask >> field_at[f], "pagemap: a value too large for its field");
    return (word & ~mask) | value << field_at[f];
}

static struct block *block_of(const struct pagemap *m, uint64_t gfn)
{
    INVARIANT(gfn / PAGEMAP_BLOCK < m->nblocks, "pagemap: a page outside the map");
    return &m->block[gfn / PAGEMAP_BLOCK];
}

/* The entry of a unit, for the writer. */
static struct entry *entry_of(const struct block *b, uint64_t gfn)
{
    struct entry *pages = atomic_load_explicit(&b->pages, memory_order_relaxed);

    return pages ? &pages[gfn % PAGEMAP_BLOCK] : (struct entry *)(uintptr_t)&b->whole;
}

/* Pages of the units of a block. */
static uint32_t unit_pages(const struct block *b)
{
    return atomic_load_explicit(&b->pages, memory_order_relaxed) ? 1 : PAGEMAP_BLOCK;
}

/* Begins and ends a change of a block. */
static void write_begin(struct block *b)
{
    uint32_t seq = atomic_load_explicit(&b->seq, memory_order_relaxed);

    atomic_store_explicit(&b->seq, seq + 1, memory_order_relaxed);
}

static void write_end(struct block *b)
{
    uint32_t seq = atomic_load_explicit(&b->seq, memory_order_relaxed);

    atomic_store_explicit(&b->seq, seq + 1, memory_order_release);
}

/* Writes both words of a unit. */
static void entry_set(struct block *b, struct entry *e, uint64_t word, uint64_t replicas)
{
    write_begin(b);
    atomic_store_explicit(&e->word, word, memory_order_release);
    atomic_store_explicit(&e->replicas, replicas, memory_order_release);
    write_end(b);
}

/* Whether a unit counts as watched. */
static bool is_watched(uint64_t word)
{
    return field(word, F_STATE) != PAGE_PRIVATE || field(word, F_CLAIMED);
}

/* ---- making and undoing ---- */

/* The next array for use.  A late reader may look at the word: it is an atomic one. */
static struct entry *spare_next(const struct entry *s)
{
    return (struct entry *)(uintptr_t)atomic_load_explicit(&s->replicas, memory_order_relaxed);
}

struct pagemap *pagemap_new(uint64_t npages)
{
    struct pagemap *m = xcalloc(1, sizeof(*m));
    void *p;

    m->nblocks = (npages + PAGEMAP_BLOCK - 1) / PAGEMAP_BLOCK;
    p = mmap(NULL, m->nblocks * sizeof(*m->block), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        free(m);
        return NULL;
    }
    m->block = p;
    return m;
}

void pagemap_free(struct pagemap *m)
{
    for (uint64_t i = 0; i < m->nblocks && atomic_load(&m->arrays); i++)
        free(atomic_load(&m->block[i].pages));
    while (m->spares) {
        struct entry *s = m->spares;

        m->spares = spare_next(s);
        free(s);
    }
    munmap(m->block, m->nblocks * sizeof(*m->block));
    free(m);
}

uint64_t pagemap_pages(const struct pagemap *m)
{
    return m->nblocks * PAGEMAP_BLOCK;
}

uint64_t pagemap_bytes(const struct pagemap *m)
{
    return sizeof(*m) + m->nblocks * sizeof(*m->block) +
           atomic_load(&m->arrays) * PAGEMAP_BLOCK * sizeof(struct entry);
}

/* ---- readers ---- */

/* What a word says; counts of an older interval are 0. */
static void unpack(uint64_t word, uint16_t epoch, struct page_info *info)
{
    bool now = field(word, F_EPOCH) == epoch;

    info->state = (uint8_t)field(word, F_STATE);
    info->store = (uint8_t)field(word, F_STORE);
    info->node = (uint8_t)field(word, F_NODE);
    info->moves = now ? (uint8_t)field(word, F_MOVES) : 0;
    info->collapses = now ? (uint8_t)field(word, F_COLLAPSES) : 0;
    info->claimed = field(word, F_CLAIMED);
}

struct page_info pagemap_get(const struct pagemap *m, uint64_t gfn)
{
    const struct block *b = block_of(m, gfn);
    uint16_t epoch = atomic_load_explicit(&m->epoch, memory_order_relaxed);
    struct page_info info;
    uint32_t seq;

    do {
        const struct entry *e, *pages;

        seq = atomic_load_explicit(&b->seq, memory_order_acquire);
        pages = atomic_load_explicit(&b->pages, memory_order_acquire);
        e = pages ? &pages[gfn % PAGEMAP_BLOCK] : &b->whole;
        info.replicas = atomic_load_explicit(&e->replicas, memory_order_acquire);
        info.pages = pages ? 1 : PAGEMAP_BLOCK;
        unpack(atomic_load_explicit(&e->word, memory_order_acquire), epoch, &info);
    } while (seq & 1 || seq != atomic_load_explicit(&b->seq, memory_order_relaxed));
    info.first = gfn - gfn % info.pages;
    return info;
}

bool pagemap_watched(const struct pagemap *m, uint64_t gfn, uint64_t n)
{
    uint64_t last = (gfn + n - 1) / PAGEMAP_BLOCK;

    for (uint64_t i = gfn / PAGEMAP_BLOCK; n && i <= last && i < m->nblocks; i++)
        if (atomic_load(&m->block[i].watched))
            return true;
    return false;
}

bool pagemap_pin(struct pagemap *m, uint64_t gfn, uint64_t n)
{
    uint64_t last = (gfn + n - 1) / PAGEMAP_BLOCK;
    bool watched = false;

    for (uint64_t i = gfn / PAGEMAP_BLOCK; n && i <= last; i++) {
        struct block *b = block_of(m, i * PAGEMAP_BLOCK);

        atomic_fetch_add(&b->pins, 1);
        watched |= atomic_load(&b->watched) != 0;
    }
    return watched;
}

void pagemap_unpin(struct pagemap *m, uint64_t gfn, uint64_t n)
{
    uint64_t last = (gfn + n - 1) / PAGEMAP_BLOCK;

    for (uint64_t i = gfn / PAGEMAP_BLOCK; n && i <= last; i++) {
        uint32_t was = atomic_fetch_sub(&block_of(m, i * PAGEMAP_BLOCK)->pins, 1);

        INVARIANT(was, "pagemap: unpinned more often than pinned");
    }
}

/* ---- claims ---- */

void pagemap_interval(struct pagemap *m)
{
    atomic_fetch_add_explicit(&m->epoch, 1, memory_order_relaxed);
}

int pagemap_claim(struct pagemap *m, uint64_t gfn, bool even_pinned)
{
    struct block *b = block_of(m, gfn);
    struct entry *e = entry_of(b, gfn);
    uint64_t word = atomic_load_explicit(&e->word, memory_order_relaxed);
    bool was = is_watched(word);

    if (field(word, F_CLAIMED))
        return -EBUSY;
    if (!was)
        atomic_fetch_add(&b->watched, unit_pages(b));
    if (!even_pinned && atomic_load(&b->pins)) {
        if (!was)
            atomic_fetch_sub(&b->watched, unit_pages(b));
        return -EBUSY;
    }
    entry_set(b, e, with(word, F_CLAIMED, 1), atomic_load(&e->replicas));
    return 0;
}

void pagemap_release(struct pagemap *m, uint64_t gfn)
{
    struct block *b = block_of(m, gfn);
    struct entry *e = entry_of(b, gfn);
    uint64_t word = with(atomic_load(&e->word), F_CLAIMED, 0);

    INVARIANT(field(atomic_load(&e->word), F_CLAIMED), "pagemap: released without a claim");
    entry_set(b, e, word, atomic_load(&e->replicas));
    if (!is_watched(word))
        atomic_fetch_sub(&b->watched, unit_pages(b));
}

/* ---- the arrows ---- */

/* A claimed unit in work. */
struct change {
    struct block *b; /* where it is */
    struct entry *e; /* its entry */
    uint64_t word;   /* to be written */
    uint64_t mask;   /* likewise: nodes with replicas */
};

/* Looks a claimed unit up that must be in a state. */
static struct change from(const struct pagemap *m, uint64_t gfn, enum page_state state)
{
    struct change c = {.b = block_of(m, gfn)};

    c.e = entry_of(c.b, gfn);
    c.word = atomic_load_explicit(&c.e->word, memory_order_relaxed);
    c.mask = atomic_load_explicit(&c.e->replicas, memory_order_relaxed);
    INVARIANT(field(c.word, F_CLAIMED), "pagemap: changed without a claim");
    INVARIANT(field(c.word, F_STATE) == state, "pagemap: an arrow that the picture has not");
    return c;
}

static void done(const struct change *c)
{
    entry_set(c->b, c->e, c->word, c->mask);
}

/* Adds one to a count of this interval. */
static uint64_t count(const struct pagemap *m, uint64_t word, enum field f)
{
    uint64_t n, epoch = atomic_load_explicit(&m->epoch, memory_order_relaxed);

    if (field(word, F_EPOCH) != epoch)
        word = with(with(with(word, F_EPOCH, epoch), F_MOVES, 0), F_COLLAPSES, 0);
    n = field(word, f);
    return n < PAGEMAP_MOVES_MAX ? with(word, f, n + 1) : word;
}

void pagemap_replicate(struct pagemap *m, uint64_t gfn, unsigned node)
{
    const struct entry *e = entry_of(block_of(m, gfn), gfn);
    uint64_t state = field(atomic_load(&e->word), F_STATE);
    struct change c = from(m, gfn, state == PAGE_REPLICATED ? PAGE_REPLICATED : PAGE_PRIVATE);

    INVARIANT(node < PAGEMAP_NODES && field(c.word, F_NODE) != node && !(c.mask >> node & 1),
              "pagemap: a replica where the page already is");
    c.word = with(c.word, F_STATE, PAGE_REPLICATED);
    c.mask |= 1ull << node;
    done(&c);
}

void pagemap_collapse(struct pagemap *m, uint64_t gfn)
{
    struct change c = from(m, gfn, PAGE_REPLICATED);

    c.word = count(m, with(c.word, F_STATE, PAGE_PRIVATE), F_COLLAPSES);
    c.mask = 0;
    done(&c);
}

void pagemap_evict(struct pagemap *m, uint64_t gfn, unsigned node)
{
    struct change c = from(m, gfn, PAGE_REPLICATED);

    INVARIANT(node < PAGEMAP_NODES && c.mask >> node & 1, "pagemap: no replica to evict");
    c.mask &= ~(1ull << node);
    if (!c.mask)
        c.word = with(c.word, F_STATE, PAGE_PRIVATE);
    done(&c);
}

void pagemap_move(struct pagemap *m, uint64_t gfn, unsigned node)
{
    struct change c = from(m, gfn, PAGE_PRIVATE);

    c.word = count(m, with(c.word, F_NODE, node), F_MOVES);
    done(&c);
}

void pagemap_share(struct pagemap *m, uint64_t gfn, unsigned store, unsigned node)
{
    struct change c = from(m, gfn, PAGE_PRIVATE);

    INVARIANT(store != PAGEMAP_OWN_STORE, "pagemap: shared with nobody");
    c.word = with(with(with(c.word, F_STATE, PAGE_SHARED), F_STORE, store), F_NODE, node);
    done(&c);
}

void pagemap_break(struct pagemap *m, uint64_t gfn, unsigned node)
{
    struct change c = from(m, gfn, PAGE_SHARED);

    c.word = with(with(with(c.word, F_STATE, PAGE_PRIVATE), F_STORE, PAGEMAP_OWN_STORE), F_NODE,
                  node);
    done(&c);
}

void pagemap_place(struct pagemap *m, uint64_t gfn, unsigned node)
{
    struct block *b = block_of(m, gfn);
    struct entry *e = entry_of(b, gfn);
    uint64_t word = atomic_load(&e->word);

    INVARIANT(!is_watched(word), "pagemap: placed while in use");
    entry_set(b, e, with(word, F_NODE, node), 0);
}

/* ---- blocks and pages ---- */

/* Room for the pages of a block; contents are nothing. */
static struct entry *pages_new(struct pagemap *m)
{
    struct entry *s = m->spares;

    if (s) {
        m->spares = spare_next(s);
        return s;
    }
    s = calloc(PAGEMAP_BLOCK, sizeof(*s));
    if (s)
        atomic_fetch_add(&m->arrays, 1);
    return s;
}

int pagemap_split(struct pagemap *m, uint64_t gfn)
{
    struct block *b = block_of(m, gfn);
    uint64_t word = atomic_load(&b->whole.word), mask = atomic_load(&b->whole.replicas);
    struct entry *pages;

    if (atomic_load(&b->pages))
        return 0;
    pages = pages_new(m);
    if (!pages)
        return -ENOMEM;
    for (unsigned i = 0; i < PAGEMAP_BLOCK; i++) {
        atomic_store_explicit(&pages[i].word, word, memory_order_release);
        atomic_store_explicit(&pages[i].replicas, mask, memory_order_release);
    }
    write_begin(b);
    atomic_store_explicit(&b->pages, pages, memory_order_release);
    write_end(b);
    return 0;
}

/* True if two words mean the same but for counts. */
static bool alike(uint64_t a, uint64_t b)
{
    return field(a, F_STATE) == field(b, F_STATE) && field(a, F_STORE) == field(b, F_STORE) &&
           field(a, F_NODE) == field(b, F_NODE) && !field(a, F_CLAIMED) && !field(b, F_CLAIMED);
}

bool pagemap_form(struct pagemap *m, uint64_t gfn)
{
    struct block *b = block_of(m, gfn);
    struct entry *pages = atomic_load(&b->pages);
    uint64_t word, mask;

    if (!pages)
        return true;
    word = atomic_load(&pages[0].word);
    mask = atomic_load(&pages[0].replicas);
    for (unsigned i = 0; i < PAGEMAP_BLOCK; i++)
        if (!alike(word, atomic_load(&pages[i].word)) ||
            mask != atomic_load(&pages[i].replicas))
            return false;
    write_begin(b);
    atomic_store_explicit(&b->whole.word, word, memory_order_release);
    atomic_store_explicit(&b->whole.replicas, mask, memory_order_release);
    atomic_store_explicit(&b->pages, NULL, memory_order_release);
    write_end(b);
    atomic_store_explicit(&pages[0].replicas, (uintptr_t)m->spares, memory_order_release);
    m->spares = pages;
    return true;
}

/* ---- proof ---- */

/* P1 for one unit. */
static bool entry_sound(uint64_t word, uint64_t mask)
{
    bool replicated = field(word, F_STATE) == PAGE_REPLICATED;

    if (field(word, F_STATE) > PAGE_SHARED || replicated != (mask != 0))
        return false;
    if ((field(word, F_STATE) == PAGE_SHARED) == (field(word, F_STORE) == PAGEMAP_OWN_STORE))
        return false;
    return !(mask >> field(word, F_NODE) & 1);
}

bool pagemap_check(const struct pagemap *m, char *buf, unsigned len)
{
    for (uint64_t i = 0; i < m->nblocks; i++) {
        const struct block *b = &m->block[i];
        uint32_t n = unit_pages(b), watched = 0;

        if (atomic_load(&b->seq) & 1) {
            snprintf(buf, len, "block %llu: left half written", (unsigned long long)i);
            return false;
        }
        for (unsigned at = 0; at < PAGEMAP_BLOCK; at += n) {
            const struct entry *e = entry_of(b, at);
            uint64_t word = atomic_load(&e->word), mask = atomic_load(&e->replicas);

            watched += is_watched(word) ? n : 0;
            if (entry_sound(word, mask))
                continue;
            snprintf(buf, len, "P1: page %#llx: state %u, node %u, replicas %#llx",
                     (unsigned long long)i * PAGEMAP_BLOCK + at, (unsigned)field(word, F_STATE),
                     (unsigned)field(word, F_NODE), (unsigned long long)mask);
            return false;
        }
        if (watched != atomic_load(&b->watched)) {
            snprintf(buf, len, "P2: block %llu: %u watched, counted %u", (unsigned long long)i,
                     watched, atomic_load(&b->watched));
            return false;
        }
    }
    return true;
}
