/* SPDX-License-Identifier: MIT */
/*
 * Where a guest's memory is and who uses it, as JSON for `disco heatmap`: RAM is cut into cells of
 * equal size, and each tells how many of its pages are private on which node, replicated, shared or
 * not there, and how often each node read and wrote in it.  docs/stat.md describes every field.
 *
 * Runs on io0, which serves devices too, so its time and its text are bounded: H1: at most LOOKS
 * pages are looked at, of larger guests some for all of their neighbours; what is known of uses
 * is bounded by the counters.  H2: so many cells that the text stays below TEXT_MOST, or nearly.
 * Reads the page map without a lock, so cells of one map may be some milliseconds apart.  Of
 * private pages the map only knows as much as the policy needed to; so some of each cell, its
 * samples, are asked of the kernel, and the cell's private pages are dealt out like them.
 */
#include <jansson.h>
#include <numaif.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"
#include "numa/counters.h"
#include "numa/pagemap.h"
#include "vmm/cell/private.h"
#include "vmm/pager/loop.h"
#include "vmm/pager/pager.h"

enum {
    CELLS_MOST = 4096, /* cells */
    PAGES_LEAST = 16,  /* in a cell */
    LOOKS = 1 << 18,   /* pages looked at (H1) */
    RUN = 8,           /* of these, so many side by side when not all are looked at */
    RUN_ALL = 512,     /* and when all are */
    ASKED = 32768, /* pages the kernel is asked for, times the mappings it is asked in (H1) */
    TEXT_MOST = 3 << 20, /* bytes of JSON (H2); less than PROTO_MAX_BODY */
    TEXT_CELL = 128,     /* of these a cell's own */
    TEXT_NODE = 64,      /* and for each node */
};

/* What is counted for each cell and node: pages but for the last two. */
enum kind { PRIVATE, MASTERS, REPLICAS, SHARED, READS, WRITES, KINDS };

static const char *const kind_name[KINDS] = {"private", "masters", "replicas",
                                             "shared",  "reads",   "writes"};

/* The map in the making. */
struct heat {
    const struct guest_mem *mem; /* RAM */
    const struct pagemap *map;   /* where pages are */
    uint64_t low, high;          /* pages of RAM below the hole and above */
    uint64_t size;               /* pages in a cell, a power of two */
    uint64_t step;               /* one page in so many is looked at; a power of two */
    unsigned nnodes;             /* of the guest */
    unsigned nlow, n;            /* cells below the hole, and all */
    uint64_t *count;             /* [n][KINDS][nnodes] */
    uint64_t *absent;            /* [n], pages that are not in memory */
    unsigned nsamples;           /* of a cell, at most */
    uint64_t *sample;            /* [n][nsamples], gfns of private pages */
    unsigned *taken;             /* [n], entries of sample that are filled */
};

/* ---- cells ---- */

/* Cells that so many pages take. */
static unsigned cells_of(uint64_t pages, uint64_t size)
{
    return (unsigned)((pages + size - 1) / size);
}

/* Cuts RAM into cells. */
static void cut(struct heat *h)
{
    unsigned most = TEXT_MOST / (TEXT_CELL + TEXT_NODE * h->nnodes);

    most = most < CELLS_MOST ? most : CELLS_MOST;
    h->low = h->mem->low / MEM_PAGE;
    h->high = h->mem->high / MEM_PAGE;
    for (h->step = 1; (h->low + h->high) / h->step > LOOKS; h->step *= 2)
        ;
    h->size = PAGES_LEAST;
    while ((h->low + h->high) / h->size + 2 > most)
        h->size *= 2;
    h->nlow = cells_of(h->low, h->size);
    h->n = h->nlow + cells_of(h->high, h->size);
    h->count = xcalloc((size_t)h->n * KINDS * h->nnodes, sizeof(*h->count));
    h->absent = xcalloc(h->n, sizeof(*h->absent));
    h->nsamples = ASKED / (h->mem->nviews + 1) / h->n;
    h->nsamples += !h->nsamples;
    h->sample = xcalloc((size_t)h->n * h->nsamples, sizeof(*h->sample));
    h->taken = xcalloc(h->n, sizeof(*h->taken));
}

/* Number of the cell that a page is in; h->n: it is no RAM. */
static unsigned cell_of(const struct heat *h, uint64_t gfn)
{
    if (gfn < h->low)
        return (unsigned)(gfn / h->size);
    gfn -= MEM_HIGH / MEM_PAGE; /* of a page in the hole: very large */
    return gfn < h->high ? h->nlow + (unsigned)(gfn / h->size) : h->n;
}

/* Pages of a cell; only the last below the hole and the last of all may have fewer. */
static uint64_t pages_of(const struct heat *h, unsigned cell)
{
    uint64_t at = (cell < h->nlow ? cell : cell - h->nlow) * h->size;
    uint64_t all = cell < h->nlow ? h->low : h->high;

    return all - at < h->size ? all - at : h->size;
}

/* Where a cell begins. */
static uint64_t gpa_of(const struct heat *h, unsigned cell)
{
    return cell < h->nlow ? cell * h->size * MEM_PAGE
                          : MEM_HIGH + (cell - h->nlow) * h->size * MEM_PAGE;
}

/* ---- counting ---- */

/* The counts of a cell, one for each node. */
static uint64_t *counts(const struct heat *h, unsigned cell, enum kind kind)
{
    return h->count + ((size_t)cell * KINDS + kind) * h->nnodes;
}

/* Makes a private page a sample if it is its turn. */
static void sample(const struct heat *h, unsigned cell, uint64_t gfn)
{
    uint64_t every = h->size / h->step / h->nsamples;

    if (h->taken[cell] < h->nsamples && gfn % h->size / h->step >= h->taken[cell] * every)
        h->sample[(size_t)cell * h->nsamples + h->taken[cell]++] = gfn;
}

/* Counts a page that is in memory, as so many. */
static void count(const struct heat *h, unsigned cell, const struct page_info *u, uint64_t as)
{
    static const enum kind by_state[] = {
        [PAGE_PRIVATE] = PRIVATE, [PAGE_REPLICATED] = MASTERS, [PAGE_SHARED] = SHARED};

    if (u->node < h->nnodes)
        counts(h, cell, by_state[u->state])[u->node] += as;
    for (uint64_t left = u->replicas; left; left &= left - 1)
        if ((unsigned)__builtin_ctzll(left) < h->nnodes)
            counts(h, cell, REPLICAS)[__builtin_ctzll(left)] += as;
}

/* Looks at n pages side by side, at most RUN_ALL; each stands for as many. */
static void look(const struct heat *h, uint64_t gfn, uint64_t n, uint64_t as)
{
    struct page_info u = {0};
    uint8_t there[RUN_ALL];

    if (mincore(h->mem->alias + gfn * MEM_PAGE, n * MEM_PAGE, there))
        memset(there, 1, n); /* not known */
    for (uint64_t i = 0; i < n; i++) {
        unsigned cell = cell_of(h, gfn + i);

        if (gfn + i >= u.first + u.pages)
            u = pagemap_get(h->map, gfn + i);
        if (there[i] & 1) {
            count(h, cell, &u, as);
            if (u.state == PAGE_PRIVATE)
                sample(h, cell, gfn + i);
        } else {
            h->absent[cell] += as;
        }
    }
}

/* Looks at the pages of a part of RAM, which is whole blocks. */
static void look_at_range(const struct heat *h, uint64_t gfn, uint64_t pages)
{
    uint64_t run = h->step == 1 ? RUN_ALL : RUN, stride = run * h->step;

    for (uint64_t end = gfn + pages; gfn < end; gfn += stride) {
        uint64_t len = end - gfn < stride ? end - gfn : stride, n = len < run ? len : run;

        look(h, gfn, n, len / n);
    }
}

/* ---- what the kernel says ---- */

/* Samples that are asked for in one mapping after another, until one has them. */
struct question {
    unsigned n;     /* entries left */
    unsigned *cell; /* whose */
    uint64_t *gfn;  /* page */
    void **at;      /* where it is in the mapping that is asked now */
    int *status;    /* the answers: a node of the host, or -errno */
};

/* Asks in one mapping and counts the answers; what that does not have is left.  False: nobody
 * answers. */
static bool ask(struct question *q, uint8_t *base, const struct heat *h, const int *nodes,
                uint64_t *hits)
{
    unsigned left = 0;

    for (unsigned i = 0; i < q->n; i++)
        q->at[i] = base + q->gfn[i] * MEM_PAGE;
    if (q->n && move_pages(0, q->n, q->at, NULL, q->status, 0) < 0)
        return false;
    for (unsigned i = 0; i < q->n; i++) {
        unsigned node = 0;

        if (q->status[i] < 0) {
            q->cell[left] = q->cell[i];
            q->gfn[left++] = q->gfn[i];
            continue;
        }
        while (node < h->nnodes && nodes[node] != q->status[i])
            node++;
        if (node < h->nnodes)
            hits[(size_t)q->cell[i] * h->nnodes + node]++;
    }
    q->n = left;
    return true;
}

/* Deals a cell's private pages out as its samples are; with none as the map says. */
static void deal(const struct heat *h, unsigned cell, const uint64_t *hits)
{
    uint64_t *n = counts(h, cell, PRIVATE), pages = 0, sum = 0, given = 0;
    unsigned most = 0;

    for (unsigned i = 0; i < h->nnodes; i++) {
        pages += n[i];
        sum += hits[i];
        most = hits[i] > hits[most] ? i : most;
    }
    for (unsigned i = 0; i < h->nnodes && sum; i++) {
        n[i] = pages * hits[i] / sum;
        given += n[i];
    }
    if (sum)
        n[most] += pages - given;
}

/* Asks the kernel for all samples. */
static void ask_kernel(const struct heat *h, const int *nodes)
{
    size_t most = (size_t)h->n * h->nsamples;
    struct question q = {.cell = xcalloc(most, sizeof(*q.cell)),
                         .gfn = xcalloc(most, sizeof(*q.gfn)),
                         .at = xcalloc(most, sizeof(*q.at)),
                         .status = xcalloc(most, sizeof(*q.status))};
    uint64_t *hits = xcalloc((size_t)h->n * h->nnodes, sizeof(*hits));
    bool answers = true;

    for (unsigned c = 0; c < h->n; c++)
        for (unsigned i = 0; i < h->taken[c]; i++, q.n++) {
            q.cell[q.n] = c;
            q.gfn[q.n] = h->sample[(size_t)c * h->nsamples + i];
        }
    for (unsigned v = 0; answers && v < h->mem->nviews; v++)
        answers = ask(&q, h->mem->view[v], h, nodes, hits);
    if (answers)
        (void)ask(&q, h->mem->alias, h, nodes, hits);
    for (unsigned c = 0; c < h->n; c++)
        deal(h, c, hits + (size_t)c * h->nnodes);
    free(q.cell);
    free(q.gfn);
    free(q.at);
    free(q.status);
    free(hits);
}

/* ---- use ---- */

/* Adds what is known of the use of a page, or of a block. */
static void add_use(void *arg, const struct page_use *use)
{
    const struct heat *h = arg;
    uint64_t gfn = use->page & ~PAGE_BLOCK;
    uint64_t n = use->page & PAGE_BLOCK ? PAGEMAP_BLOCK : 1,
             parts = n / h->size + (n < h->size);

    for (uint64_t i = 0; i < parts; i++) {
        unsigned cell = cell_of(h, gfn + i * h->size);

        for (unsigned k = 0; k < use->n && cell < h->n; k++) {
            if (use->use[k].node >= h->nnodes)
                continue;
            counts(h, cell, READS)[use->use[k].node] += use->use[k].reads / parts;
            counts(h, cell, WRITES)[use->use[k].node] += use->use[k].writes / parts;
        }
    }
}

/* ---- telling ---- */

/* JSON in the making.  Written by hand: a tree of so many numbers would take ten times as long. */
struct text {
    char *p;       /* malloc'd */
    size_t n, cap; /* bytes used and there */
};

static void put(struct text *t, const char *s)
{
    size_t len = strlen(s);

    if (t->n + len >= t->cap) {
        t->cap = 2 * t->cap + len + 1;
        t->p = realloc(t->p, t->cap);
        INVARIANT(t->p, "the host has no memory left for a map of memory");
    }
    memcpy(t->p + t->n, s, len + 1);
    t->n += len;
}

/* Puts a number behind a text. */
static void put_number(struct text *t, const char *before, uint64_t v)
{
    char digits[24], *at = digits + sizeof(digits);

    *--at = 0;
    do
        *--at = (char)('0' + v % 10);
    while (v /= 10);
    put(t, before);
    put(t, at);
}

/* One number a node; nothing when all are 0. */
static void put_counts(struct text *t, const char *name, const uint64_t *n, unsigned nnodes)
{
    uint64_t any = 0;

    for (unsigned i = 0; i < nnodes; i++)
        any |= n[i];
    if (!any)
        return;
    put(t, ",\"");
    put(t, name);
    for (unsigned i = 0; i < nnodes; i++)
        put_number(t, i ? "," : "\":[", n[i]);
    put(t, "]");
}

/* One cell; lists of zeros are left out, most would be. */
static void put_cell(struct text *t, const struct heat *h, unsigned cell)
{
    put_number(t, cell ? ",{\"gpa\":" : "{\"gpa\":", gpa_of(h, cell));
    put_number(t, ",\"bytes\":", pages_of(h, cell) * MEM_PAGE);
    if (h->absent[cell])
        put_number(t, ",\"absent\":", h->absent[cell]);
    for (unsigned k = 0; k < KINDS; k++)
        put_counts(t, kind_name[k], counts(h, cell, (enum kind)k), h->nnodes);
    put(t, "}");
}

/* All but the cells, malloc'd. */
static char *head_text(const struct heat *h, const struct cell *c)
{
    json_t *nodes = json_array(), *o;
    char *text;

    for (unsigned n = 0; n < h->nnodes; n++)
        json_array_append_new(nodes, json_integer(c->place.nodes[n]));
    o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:o}", "name", c->cfg.name, "policy",
                  config_policy_name(&c->cfg), "source", config_sampling_name(&c->cfg), "size",
                  (json_int_t)c->m.mem.size, "cell", (json_int_t)(h->size * MEM_PAGE), "step",
                  (json_int_t)h->step, "nodes", nodes);
    text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    INVARIANT(text, "a guest's names are text");
    json_decref(o);
    return text;
}

/* The whole map. */
static char *heat_text(const struct heat *h, const struct cell *c)
{
    struct text t = {0};
    char *head = head_text(h, c);

    head[strlen(head) - 1] = 0; /* its last brace comes at the end */
    put(&t, head);
    put(&t, ",\"cells\":[");
    for (unsigned i = 0; i < h->n; i++)
        put_cell(&t, h, i);
    put(&t, "]}");
    free(head);
    return t.p;
}

char *cell_heatmap(struct cell *c)
{
    struct heat h = {.mem = &c->m.mem, .nnodes = c->place.nnodes};
    char *text;

    if (!c->made || !paging_pager(c))
        return NULL;
    h.map = pager_map(paging_pager(c));
    cut(&h);
    look_at_range(&h, 0, h.low);
    look_at_range(&h, MEM_HIGH / MEM_PAGE, h.high);
    ask_kernel(&h, c->place.nodes);
    if (paging_loop(c))
        loop_uses(paging_loop(c), add_use, &h);
    text = heat_text(&h, c);
    free(h.count);
    free(h.absent);
    free(h.sample);
    free(h.taken);
    return text;
}
