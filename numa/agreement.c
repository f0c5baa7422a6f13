/* SPDX-License-Identifier: MIT */
/*
 * Comparing two tables of counters: see the header.
 */
#include "numa/agreement.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "numa/counters.h"

enum { BELIEVED, TRIED, TABLES };

/* What a table knows of a page. */
struct view {
    uint64_t all, remote; /* uses */
    unsigned most;        /* node that uses it most */
    uint64_t rivals;      /* it, and those that use it about as much, bit n for node n */
    unsigned sharers;     /* nodes that use a good part of it */
    bool written;         /* ever */
};

/* A page in a list. */
struct far {
    uint64_t gfn, remote; /* uses from afar */
    bool other;           /* the other table has such use, too */
};

/* The pages most used from afar, a heap with the least used at its root. */
struct list {
    struct far *page; /* room for spec.top */
    uint32_t n, most; /* in use, and room */
};

/* Sums in work. */
struct sums {
    uint64_t all[TABLES], remote[TABLES]; /* uses in each table */
    uint64_t both;                        /* of those believed, of pages that both know */
    uint64_t who, sharers, written;       /* of these, where both agree */
};

/* ---- lists ---- */

/* Order: by use, then by page, so that the same tables give the same lists. */
static bool less(const struct far *a, const struct far *b)
{
    return a->remote != b->remote ? a->remote < b->remote : a->gfn > b->gfn;
}

/* Restores the heap below i. */
static void sink(struct list *l, uint32_t i)
{
    for (;;) {
        uint32_t least = i, left = 2 * i + 1;
        struct far t;

        for (uint32_t k = left; k < left + 2 && k < l->n; k++)
            if (less(&l->page[k], &l->page[least]))
                least = k;
        if (least == i)
            return;
        t = l->page[i];
        l->page[i] = l->page[least];
        l->page[least] = t;
        i = least;
    }
}

/* Enters a page, if it is used more than the least used one. */
static void enter(struct list *l, struct far f)
{
    if (l->n < l->most) {
        l->page[l->n++] = f;
        if (l->n == l->most)
            for (uint32_t i = l->n; i--;)
                sink(l, i);
    } else if (l->most && less(&l->page[0], &f)) {
        l->page[0] = f;
        sink(l, 0);
    }
}

static int by_page(const void *x, const void *y)
{
    const struct far *a = x, *b = y;

    return a->gfn < b->gfn ? -1 : a->gfn > b->gfn;
}

/* Pages that are on both lists, which are sorted by this. */
static uint32_t in_both(struct list *a, struct list *b)
{
    uint32_t n = 0;

    qsort(a->page, a->n, sizeof(*a->page), by_page);
    qsort(b->page, b->n, sizeof(*b->page), by_page);
    for (uint32_t i = 0, k = 0; i < a->n && k < b->n;) {
        int order = by_page(&a->page[i], &b->page[k]);

        n += order == 0;
        i += order <= 0;
        k += order >= 0;
    }
    return n;
}

/* Pages of a list of which the other table knows use from afar. */
static uint32_t known(const struct list *l)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < l->n; i++)
        n += l->page[i].other;
    return n;
}

/* ---- pages ---- */

static uint64_t uses(const struct node_use *u)
{
    return (uint64_t)u->reads + u->writes;
}

/* What a table says of a page that the nodes `near` have near. */
static struct view view_of(const struct counters *c, uint64_t gfn, uint64_t near)
{
    struct view v = {0};
    struct page_use use;
    uint64_t most = 0;

    counters_get(c, gfn, &use);
    for (unsigned i = 0; i < use.n; i++) {
        uint64_t n = uses(&use.use[i]);

        v.all += n;
        v.remote += near >> use.use[i].node & 1 ? 0 : n;
        v.written |= use.use[i].writes > 0;
        if (n > most) {
            most = n;
            v.most = use.use[i].node;
        }
    }
    for (unsigned i = 0; i < use.n && v.all; i++) {
        uint64_t n = uses(&use.use[i]);

        v.sharers += n && n >= v.all / AGREEMENT_SHARER;
        if (n * 100 >= most * AGREEMENT_RIVAL)
            v.rivals |= UINT64_C(1) << use.use[i].node;
    }
    return v;
}

/* Adds one page to the sums. */
static void add(struct agreement *out, struct sums *s, const struct view v[TABLES])
{
    for (unsigned t = 0; t < TABLES; t++) {
        s->all[t] += v[t].all;
        s->remote[t] += v[t].remote;
    }
    out->believed += v[BELIEVED].all > 0;
    out->tried += v[TRIED].all > 0;
    if (!v[BELIEVED].all || !v[TRIED].all)
        return;
    out->both++;
    s->both += v[BELIEVED].all;
    if (v[BELIEVED].rivals >> v[TRIED].most & 1)
        s->who += v[BELIEVED].all;
    if ((v[BELIEVED].sharers > 1) == (v[TRIED].sharers > 1))
        s->sharers += v[BELIEVED].all;
    if (v[BELIEVED].written == v[TRIED].written)
        s->written += v[BELIEVED].all;
}

/* Walks all pages. */
static void walk(const struct counters *const table[TABLES], const struct agreement_spec *spec,
                 struct list list[TABLES], struct sums *s, struct agreement *out)
{
    for (unsigned r = 0; r < 2; r++)
        for (uint64_t gfn = spec->first[r]; gfn < spec->first[r] + spec->pages[r]; gfn++) {
            uint64_t near = spec->near(spec->map, gfn);
            struct view v[TABLES];

            for (unsigned t = 0; t < TABLES; t++)
                v[t] = view_of(table[t], gfn, near);
            add(out, s, v);
            for (unsigned t = 0; t < TABLES; t++)
                if (v[t].remote)
                    enter(&list[t], (struct far){gfn, v[t].remote, v[!t].remote > 0});
        }
}

/* ---- all ---- */

static double part(uint64_t n, uint64_t of)
{
    return of ? (double)n / (double)of : -1;
}

int agreement_of(const struct counters *believed, const struct counters *tried,
                 const struct agreement_spec *spec, struct agreement *out)
{
    const struct counters *const table[TABLES] = {believed, tried};
    struct list list[TABLES] = {{.most = spec->top}, {.most = spec->top}};
    struct sums s = {0};

    *out = (struct agreement){0};
    for (unsigned t = 0; t < TABLES; t++)
        list[t].page = calloc((size_t)spec->top + 1, sizeof(*list[t].page));
    if (!list[BELIEVED].page || !list[TRIED].page) {
        free(list[BELIEVED].page);
        free(list[TRIED].page);
        return -ENOMEM;
    }
    walk(table, spec, list, &s, out);
    out->top = list[BELIEVED].n;
    out->tried_top = list[TRIED].n;
    out->covered = part(s.both, s.all[BELIEVED]);
    out->remote_believed = part(s.remote[BELIEVED], s.all[BELIEVED]);
    out->remote_tried = part(s.remote[TRIED], s.all[TRIED]);
    out->recall = part(known(&list[BELIEVED]), out->top);
    out->precision = part(known(&list[TRIED]), out->tried_top);
    out->overlap = part(in_both(&list[BELIEVED], &list[TRIED]), out->top);
    out->who = part(s.who, s.both);
    out->sharers = part(s.sharers, s.both);
    out->written = part(s.written, s.both);
    free(list[BELIEVED].page);
    free(list[TRIED].page);
    return 0;
}
