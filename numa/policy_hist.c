/* SPDX-License-Identifier: MIT */
/*
 * What was done to pages lately: a table of sets of eight records, see policy_judge.h.  A
 * page that nothing was done to has none.  A record that has to make room takes the page's
 * limits with it; it is the one whose limits ended first.  Beside it marks, a place for each by its
 * page's hash.
 */
#include <stdlib.h>
#include <string.h>

#include "numa/policy_judge.h"

enum { WAYS = 8, MARKS = 8192 };

#define NO_PAGE UINT64_MAX

/* A page that is marked, if that was since marks went last. */
struct mark {
    uint64_t page;
    uint32_t round; /* of hist_unmark() */
};

/* The table. */
struct policy_hist {
    uint32_t sets;  /* a power of two */
    uint32_t round; /* of marks that are set; never 0 */
    struct mark mark[MARKS];
    struct policy_record record[]; /* sets x WAYS */
};

struct policy_hist *hist_new(uint32_t pages)
{
    struct policy_hist *h;
    uint32_t sets = 8;

    while (sets < pages / WAYS && sets < UINT32_C(1) << 27)
        sets *= 2;
    h = malloc(sizeof(*h) + (size_t)sets * WAYS * sizeof(h->record[0]));
    if (!h)
        return NULL;
    h->sets = sets;
    h->round = 1;
    memset(h->mark, 0, sizeof(h->mark));
    for (size_t i = 0; i < (size_t)sets * WAYS; i++)
        h->record[i] = (struct policy_record){.page = NO_PAGE};
    return h;
}

void hist_free(struct policy_hist *h)
{
    free(h);
}

/* Page numbers, well mixed. */
static uint32_t hash(uint64_t page)
{
    return (uint32_t)((page ^ (page >> 32)) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

/* First record of a page's set. */
static struct policy_record *set_of(struct policy_hist *h, uint64_t page)
{
    return h->record + (size_t)(hash(page) & (h->sets - 1)) * WAYS;
}

struct policy_record *hist_find(struct policy_hist *h, uint64_t page)
{
    struct policy_record *r = set_of(h, page);

    for (unsigned i = 0; i < WAYS; i++)
        if (r[i].page == page)
            return &r[i];
    return NULL;
}

/* The interval after which a record says nothing any more. */
static uint32_t ends(const struct policy_record *r)
{
    if (r->page == NO_PAGE)
        return 0;
    return r->until > r->moved ? r->until : r->moved;
}

struct policy_record *hist_get(struct policy_hist *h, uint64_t page)
{
    struct policy_record *set = set_of(h, page), *r = hist_find(h, page);

    if (r)
        return r;
    r = set;
    for (unsigned i = 1; i < WAYS; i++)
        if (ends(&set[i]) < ends(r))
            r = &set[i];
    *r = (struct policy_record){.page = page};
    return r;
}

void hist_unmark(struct policy_hist *h)
{
    if (++h->round)
        return;
    memset(h->mark, 0, sizeof(h->mark));
    h->round = 1;
}

void hist_mark(struct policy_hist *h, uint64_t page)
{
    h->mark[hash(page) % MARKS] = (struct mark){page, h->round};
}

bool hist_marked(const struct policy_hist *h, uint64_t page)
{
    const struct mark *m = &h->mark[hash(page) % MARKS];

    return m->round == h->round && m->page == page;
}
