/* SPDX-License-Identifier: MIT */
/*
 * Counts per page and node: see counters.h.
 */
#include "numa/counters.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WAYS = 8, INLINE = 5, CHUNK = 7, WRITES_BITS = 24 };

#define WRITES_MAX ((UINT32_C(1) << WRITES_BITS) - 1)
#define NO_PAGE    UINT64_MAX

/* One node's counts. */
struct slot {
    uint32_t reads;
    uint32_t node : 7;
    uint32_t near : 1; /* has a copy: its use is no reason to look at the page */
    uint32_t writes : WRITES_BITS;
};

/* A page: one cache line. */
struct counters_page {
    uint64_t page; /* NO_PAGE: empty */
    uint32_t aged; /* counters.aged when last brought up to date */
    uint32_t more; /* first chunk, 0: none */
    uint8_t n;     /* slots in use, here and in chunks */
    bool listed;   /* is on the list */
    uint8_t pause; /* intervals between two looks at it */
    uint8_t room;
    uint32_t wake; /* counters.now from which it may be listed */
    struct slot slot[INLINE];
};

/* More slots of a page. */
struct counters_chunk {
    uint32_t next; /* chunk, 0: last; or the next free one */
    uint32_t room;
    struct slot slot[CHUNK];
};

_Static_assert(sizeof(struct counters_page) == 64, "a page is one cache line");
_Static_assert(sizeof(struct counters_chunk) == 64, "a chunk is one cache line");

int counters_init(struct counters *c, uint32_t pages)
{
    uint32_t size = 64;

    while (size < pages && size < UINT32_C(1) << 30)
        size *= 2;
    *c = (struct counters){.size = size, .sets = size / WAYS, .nchunks = size / 2};
    c->page = aligned_alloc(64, (size_t)size * sizeof(*c->page));
    c->chunk = aligned_alloc(64, ((size_t)c->nchunks + 1) * sizeof(*c->chunk));
    c->list = malloc((size_t)size * sizeof(*c->list));
    if (!c->page || !c->chunk || !c->list) {
        counters_exit(c);
        return -ENOMEM;
    }
    memset(c->page, 0, (size_t)size * sizeof(*c->page));
    for (uint32_t i = 0; i < size; i++)
        c->page[i].page = NO_PAGE;
    for (uint32_t i = 0; i <= c->nchunks; i++)
        c->chunk[i].next = i < c->nchunks ? i + 1 : 0;
    c->free_chunk = c->chunk[0].next;
    return 0;
}

void counters_exit(struct counters *c)
{
    free(c->page);
    free(c->chunk);
    free(c->list);
    *c = (struct counters){0};
}

uint64_t counters_bytes(const struct counters *c)
{
    return (uint64_t)c->size * (sizeof(*c->page) + sizeof(*c->list)) +
           ((uint64_t)c->nchunks + 1) * sizeof(*c->chunk);
}

/* First entry of the set a page belongs to (splitmix64's finish). */
static struct counters_page *set_of(const struct counters *c, uint64_t page)
{
    uint64_t x = page;

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    return c->page + (size_t)(x & (c->sets - 1)) * WAYS;
}

/* Slot number i of an entry, for loops that begin at 0 and leave no i out; *at is the loop's.
 * */
static struct slot *slot_at(const struct counters *c, struct counters_page *p, unsigned i,
                            uint32_t *at)
{
    if (i < INLINE)
        return &p->slot[i];
    if ((i - INLINE) % CHUNK == 0)
        *at = i == INLINE ? p->more : c->chunk[*at].next;
    return &c->chunk[*at].slot[(i - INLINE) % CHUNK];
}

/* Gives back an entry's chunks (C3). */
static void free_chunks(struct counters *c, struct counters_page *p)
{
    uint32_t last = p->more;

    if (!last)
        return;
    while (c->chunk[last].next)
        last = c->chunk[last].next;
    c->chunk[last].next = c->free_chunk;
    c->free_chunk = p->more;
    p->more = 0;
}

/* The node's slot of an entry; a new one when it has none, NULL when there is no room for
 * one. */
static struct slot *slot_of(struct counters *c, struct counters_page *p, unsigned node)
{
    uint32_t *tail = &p->more, fresh;
    struct slot *s;

    for (unsigned i = 0; i < p->n && i < INLINE; i++)
        if (p->slot[i].node == node)
            return &p->slot[i];
    for (unsigned i = INLINE; i < p->n; i++) {
        unsigned at = (i - INLINE) % CHUNK;

        if (c->chunk[*tail].slot[at].node == node)
            return &c->chunk[*tail].slot[at];
        if (at == CHUNK - 1)
            tail = &c->chunk[*tail].next;
    }
    if (p->n >= INLINE && (p->n - INLINE) % CHUNK == 0) {
        fresh = c->free_chunk;
        if (!fresh)
            return NULL;
        c->free_chunk = c->chunk[fresh].next;
        c->chunk[fresh].next = 0;
        *tail = fresh;
    }
    s = p->n < INLINE ? &p->slot[p->n] : &c->chunk[*tail].slot[(p->n - INLINE) % CHUNK];
    *s = (struct slot){.node = node & 0x7f};
    p->n++;
    return s;
}

/* Applies the ageing an entry has missed. */
static void bring_up(struct counters *c, struct counters_page *p)
{
    uint32_t bits = c->aged - p->aged, at = 0;

    p->aged = c->aged;
    if (!bits || !p->n)
        return;
    if (bits >= COUNTERS_FORGET) {
        p->n = 0;
        free_chunks(c, p);
        return;
    }
    for (unsigned i = 0; i < p->n; i++) {
        struct slot *s = slot_at(c, p, i, &at);

        s->reads >>= bits;
        s->writes = (s->writes >> bits) & WRITES_MAX;
    }
}

/* How much an entry is worth keeping: its counts as they are now. */
static uint64_t worth(const struct counters *c, const struct counters_page *p)
{
    uint32_t bits = c->aged - p->aged;
    uint64_t sum = 0;

    if (bits >= COUNTERS_FORGET)
        return 0;
    for (unsigned i = 0; i < p->n && i < INLINE; i++)
        sum += (uint64_t)p->slot[i].reads + p->slot[i].writes;
    return sum >> bits;
}

/* The page's entry, NULL: it has none. */
static struct counters_page *find(const struct counters *c, uint64_t page)
{
    struct counters_page *p = set_of(c, page);

    for (unsigned i = 0; i < WAYS; i++)
        if (p[i].page == page)
            return &p[i];
    return NULL;
}

/* Makes an entry for a page that has none, in the place of the set's least used (C1). */
static struct counters_page *admit(struct counters *c, uint64_t page)
{
    struct counters_page *set = set_of(c, page), *p = set;
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < WAYS && least; i++) {
        uint64_t w = set[i].page == NO_PAGE ? 0 : worth(c, &set[i]);

        if (w < least) {
            least = w;
            p = &set[i];
        }
    }
    c->evicted += least > 0;
    free_chunks(c, p);
    p->page = page;
    p->n = p->pause = 0;
    p->aged = c->aged;
    p->wake = c->now;
    return p;
}

/* a + b, at most max. */
static uint32_t add_sat(uint32_t a, uint32_t b, uint32_t max)
{
    uint64_t sum = (uint64_t)a + b;

    return sum < max ? (uint32_t)sum : max;
}

/* Puts an entry on the list (C2). */
static void put_on_list(struct counters *c, struct counters_page *p)
{
    if (p->listed)
        return;
    p->listed = true;
    c->list[(c->head + c->listed++) & (c->size - 1)] = (uint32_t)(p - c->page);
}

void counters_add(struct counters *c, uint64_t page, unsigned node, struct node_use add)
{
    struct counters_page *p = find(c, page);
    struct slot *s;

    if (!p)
        p = admit(c, page);
    bring_up(c, p);
    s = slot_of(c, p, node);
    if (!s) {
        c->lost++;
        return;
    }
    s->reads = add_sat(s->reads, add.reads, UINT32_MAX);
    s->writes = add_sat(s->writes, add.writes, WRITES_MAX) & WRITES_MAX;
    if (!s->near && (int32_t)(c->now - p->wake) >= 0)
        put_on_list(c, p);
}

void counters_list(struct counters *c, uint64_t page)
{
    struct counters_page *p = find(c, page);

    if (p && p->n)
        put_on_list(c, p);
}

void counters_age(struct counters *c, unsigned bits)
{
    c->aged += bits < COUNTERS_FORGET ? bits : COUNTERS_FORGET;
}

/* Copies an entry's counts, aged. */
static void copy(const struct counters *c, struct counters_page *p, struct page_use *use)
{
    uint32_t bits = c->aged - p->aged, at = 0;

    use->page = p->page;
    use->n = 0;
    for (unsigned i = 0; i < p->n && bits < COUNTERS_FORGET; i++) {
        struct slot s = *slot_at(c, p, i, &at);

        s.reads >>= bits;
        s.writes = (s.writes >> bits) & WRITES_MAX;
        if (s.reads || s.writes)
            use->use[use->n++] = (struct node_use){s.reads, s.writes, (uint8_t)s.node};
    }
}

void counters_get(const struct counters *c, uint64_t page, struct page_use *use)
{
    struct counters_page *p = find(c, page);

    use->page = page;
    use->n = 0;
    if (p)
        copy(c, p, use);
}

bool counters_next(struct counters *c, struct page_use *use)
{
    struct counters_page *p;

    do {
        if (!c->listed)
            return false;
        p = &c->page[c->list[c->head]];
        c->head = (c->head + 1) & (c->size - 1);
        c->listed--;
        p->listed = false;
        if (c->listed > 4)
            __builtin_prefetch(&c->page[c->list[(c->head + 4) & (c->size - 1)]]);
    } while (p->page == NO_PAGE);
    copy(c, p, use);
    c->taken = (uint32_t)(p - c->page);
    return true;
}

/* As find(), for a page that is likely the one taken last. */
static struct counters_page *find_taken(struct counters *c, uint64_t page)
{
    return c->page[c->taken].page == page ? &c->page[c->taken] : find(c, page);
}

void counters_tick(struct counters *c)
{
    c->now++;
}

void counters_judged(struct counters *c, uint64_t page, uint64_t near, uint32_t most)
{
    struct counters_page *p = find_taken(c, page);
    bool all = true;
    uint32_t at = 0;

    if (!p || (int32_t)(p->wake - c->now) > 0)
        return;
    for (unsigned i = 0; i < p->n; i++) {
        struct slot *s = slot_at(c, p, i, &at);

        s->near = near >> s->node & 1;
        all = all && s->near;
    }
    p->pause = (uint8_t)(all ? 0 : p->pause ? p->pause * 2 : 1);
    if (p->pause > most)
        p->pause = (uint8_t)most;
    p->wake = c->now + p->pause;
}

void counters_changed(struct counters *c, uint64_t page)
{
    struct counters_page *p = find_taken(c, page);
    uint32_t at = 0;

    if (!p)
        return;
    for (unsigned i = 0; i < p->n; i++)
        slot_at(c, p, i, &at)->near = 0;
    p->pause = 0;
    p->wake = c->now;
}

void counters_drop(struct counters *c, uint64_t page)
{
    struct counters_page *p = find(c, page);

    if (!p)
        return;
    free_chunks(c, p);
    p->page = NO_PAGE;
    p->n = 0;
}

bool counters_walk(const struct counters *c, uint32_t *at, struct page_use *use)
{
    while (*at < c->size) {
        struct counters_page *p = &c->page[(*at)++];

        if (p->page == NO_PAGE)
            continue;
        copy(c, p, use);
        if (use->n)
            return true;
    }
    return false;
}
