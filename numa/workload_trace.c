/* SPDX-License-Identifier: MIT */
/*
 * Workloads from traces of the memory-system model (numa/trace_format.h; this is the one place
 * that reads them for replay).  Records are added up by page, interval and node, and sorted that
 * way.  A trace is not trusted: every number of it is checked here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "numa/trace_format.h"
#include "numa/workload.h"

enum {
    RECORDS_MAX = 1 << 27,
    INTERVALS_MAX = 1 << 20,
    CHUNK = 4096,
};

/* Use of one page in one interval by one node. */
struct use {
    uint32_t page, t, order; /* order: of the file, for who came first */
    uint32_t reads, writes;
    uint8_t node;
};

/* A trace in memory. */
struct workload_trace {
    uint32_t *page;      /* active pages, ascending */
    uint8_t *toucher;    /* of each */
    uint64_t *start;     /* of each: first entry of use; one more at the end */
    struct use *use;     /* by page, interval, node */
    uint64_t n;          /* entries of use */
    uint32_t intervals;  /* of the whole */
    uint64_t node_pages; /* the machine's pages on each node; 0: pages are a guest's */
};

/* Page k's first entry of interval t or later. */
static const struct use *find(const struct workload_trace *tr, uint32_t k, uint32_t t)
{
    uint64_t lo = tr->start[k], hi = tr->start[k + 1];

    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;

        if (tr->use[mid].t < t)
            lo = mid + 1;
        else
            hi = mid;
    }
    return &tr->use[lo];
}

static void trace_use(const struct workload *w, uint32_t k, uint32_t t, struct page_use *use)
{
    const struct workload_trace *tr = w->trace;
    const struct use *u = find(tr, k, t), *end = tr->use + tr->start[k + 1];

    use->page = tr->page[k];
    use->n = 0;
    for (; u < end && u->t == t && use->n < TOPO_MAX_NODES; u++)
        use->use[use->n++] = (struct node_use){u->reads, u->writes, u->node};
}

static unsigned trace_toucher(const struct workload *w, uint32_t k)
{
    const struct workload_trace *tr = w->trace;

    if (tr->node_pages && tr->page[k] / tr->node_pages < w->nnodes)
        return (unsigned)(tr->page[k] / tr->node_pages); /* there it was */
    return tr->toucher[k];
}

static bool trace_hidden(const struct workload *w, uint32_t k)
{
    (void)w;
    (void)k;
    return false;
}

static uint32_t trace_active(const struct workload *w, uint64_t unit)
{
    const struct workload_trace *tr = w->trace;
    uint32_t lo = 0, hi = w->active;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (tr->page[mid] < unit)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < w->active && tr->page[lo] == unit ? lo : UINT32_MAX;
}

static uint64_t trace_unit(const struct workload *w, uint32_t k)
{
    return w->trace->page[k];
}

static void trace_free(struct workload *w)
{
    struct workload_trace *tr = w->trace;

    free(tr->page);
    free(tr->toucher);
    free(tr->start);
    free(tr->use);
    free(tr);
    w->trace = NULL;
}

static const struct workload_ops trace_ops = {.use = trace_use,
                                              .toucher = trace_toucher,
                                              .hidden = trace_hidden,
                                              .active = trace_active,
                                              .unit = trace_unit,
                                              .free = trace_free};

/* ---- reading ---- */

/* A file as it is read. */
struct reader {
    const char *path;
    FILE *f;
    struct trace_header h;
    const struct workload_filter *filter;
    uint64_t records; /* in the file */
    uint64_t begin;   /* time of the first record */
    struct workload_trace *tr;
    struct err *err;
};

/* Says what is wrong with the file. */
static int bad(struct reader *r, const char *what)
{
    return fail(r->err, EXIT_RESOURCE, EINVAL, "trace %s: %s", r->path, what);
}

/* Reads and checks the header. */
static int read_header(struct reader *r, unsigned nnodes)
{
    const struct trace_header *h = &r->h;
    struct stat st;

    if (fread(&r->h, sizeof(r->h), 1, r->f) != 1 || fstat(fileno(r->f), &st))
        return bad(r, "too short for a trace");
    if (h->magic != TRACE_MAGIC || h->version != TRACE_VERSION)
        return bad(r, "not a trace of version 1 (`memsys trace` writes them)");
    if (!h->ncpus || h->ncpus > TRACE_CPUS || !h->nnodes || h->nnodes > TOPO_MAX_NODES ||
        !h->interval || !h->sample)
        return bad(r, "its header has impossible numbers");
    for (unsigned i = 0; i < h->ncpus; i++)
        if (h->node_of_cpu[i] >= h->nnodes)
            return bad(r, "its header has a CPU on a node that is not there");
    if (h->nnodes > nnodes)
        return fail(r->err, EXIT_RESOURCE, EINVAL,
                    "trace %s: it has %u nodes, --machine %u; as many are wanted at least",
                    r->path, h->nnodes, nnodes);
    r->records = ((uint64_t)st.st_size - sizeof(*h)) / sizeof(struct trace_record);
    if (!r->records || r->records > RECORDS_MAX)
        return bad(r, r->records ? "too many records" : "no records");
    return 0;
}

/* Count times the trace's sampling, at most 2^24-1 in all that one record can say. */
static uint32_t scaled(const struct reader *r, uint32_t n)
{
    uint64_t all = (uint64_t)n * r->h.sample;

    return all < UINT32_MAX / 256 ? (uint32_t)all : UINT32_MAX / 256;
}

/* Takes one record in. */
static int take(struct reader *r, const struct trace_record *c, uint64_t order)
{
    struct workload_trace *tr = r->tr;
    uint64_t t;

    if (c->cpu >= r->h.ncpus || c->time < r->begin)
        return bad(r, "a record names a CPU that is not there, or goes back in time");
    if ((r->filter->guest >= 0 && c->guest != r->filter->guest) || !c->misses)
        return 0;
    t = (c->time - r->begin) / (r->h.interval * r->filter->group);
    if (t >= INTERVALS_MAX)
        return bad(r, "more than 1048576 intervals: --group makes fewer of them");
    tr->use[tr->n++] = (struct use){.page = c->page,
                                    .t = (uint32_t)t,
                                    .order = (uint32_t)order,
                                    .reads = c->write ? 0 : scaled(r, c->misses),
                                    .writes = c->write ? scaled(r, c->misses) : 0,
                                    .node = r->h.node_of_cpu[c->cpu]};
    if (t >= tr->intervals)
        tr->intervals = (uint32_t)t + 1;
    return 0;
}

/* Reads all records. */
static int read_records(struct reader *r)
{
    struct trace_record *c = malloc(CHUNK * sizeof(*c));
    uint64_t done = 0;
    size_t n;
    int rc = c ? 0 : fail(r->err, EXIT_MEMORY, ENOMEM, "trace %s: no memory", r->path);

    while (!rc && done < r->records && (n = fread(c, sizeof(*c), CHUNK, r->f)) > 0) {
        if (!done)
            r->begin = c[0].time;
        for (size_t i = 0; i < n && !rc && done < r->records; i++, done++)
            rc = take(r, &c[i], done);
    }
    free(c);
    if (!rc && !r->tr->n)
        rc = bad(r, "no record of this guest missed the cache");
    return rc;
}

/* Order of uses: page, interval, node, place in the file. */
static int by_page(const void *a, const void *b)
{
    const struct use *x = a, *y = b;

    if (x->page != y->page)
        return x->page < y->page ? -1 : 1;
    if (x->t != y->t)
        return x->t < y->t ? -1 : 1;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Adds up what is of the same page, interval and node; counts pages. */
static uint32_t add_up(struct workload_trace *tr)
{
    uint64_t n = 0;
    uint32_t pages = 1;

    for (uint64_t i = 1; i < tr->n; i++) {
        struct use *to = &tr->use[n];
        const struct use *u = &tr->use[i];

        pages += u->page != to->page;
        if (u->page == to->page && u->t == to->t && u->node == to->node) {
            to->reads += u->reads < UINT32_MAX - to->reads ? u->reads : 0;
            to->writes += u->writes < UINT32_MAX - to->writes ? u->writes : 0;
            to->order = u->order < to->order ? u->order : to->order;
        } else {
            tr->use[++n] = *u;
        }
    }
    tr->n = n + 1;
    return pages;
}

/* Makes the index of pages. */
static int index_pages(struct workload *w, uint32_t pages)
{
    struct workload_trace *tr = w->trace;
    uint32_t k = 0, first = 0;

    tr->page = malloc(pages * sizeof(*tr->page));
    tr->toucher = malloc(pages);
    tr->start = malloc(((size_t)pages + 1) * sizeof(*tr->start));
    if (!tr->page || !tr->toucher || !tr->start)
        return -ENOMEM;
    for (uint64_t i = 0; i < tr->n; i++) {
        const struct use *u = &tr->use[i];

        if (i && u->page == tr->page[k - 1]) {
            if (u->t == tr->use[tr->start[k - 1]].t && u->order < first) {
                first = u->order;
                tr->toucher[k - 1] = u->node;
            }
            continue;
        }
        tr->page[k] = u->page;
        tr->toucher[k] = u->node;
        tr->start[k++] = i;
        first = u->order;
    }
    tr->start[k] = tr->n;
    w->active = k;
    return 0;
}

/* Everything behind the header. */
static int read_rest(struct reader *r, struct workload *w)
{
    struct workload_trace *tr = r->tr;
    int rc;

    tr->node_pages = r->h.node_bytes >> 12;
    tr->use = malloc(r->records * sizeof(*tr->use));
    if (!tr->use)
        return fail(r->err, EXIT_MEMORY, ENOMEM, "trace %s: no memory for %llu records",
                    r->path, (unsigned long long)r->records);
    rc = read_records(r);
    if (rc)
        return rc;
    qsort(tr->use, tr->n, sizeof(*tr->use), by_page);
    if (index_pages(w, add_up(tr)))
        return fail(r->err, EXIT_MEMORY, ENOMEM, "trace %s: no memory for its pages", r->path);
    w->units = (uint64_t)tr->page[w->active - 1] + 1;
    w->intervals = tr->intervals;
    w->interval_ns = r->h.interval * r->filter->group / r->h.ncpus * 1000 / r->filter->mhz;
    if (!w->interval_ns)
        w->interval_ns = 1;
    return 0;
}

int workload_trace(struct workload *w, const char *path, unsigned nnodes,
                   const struct workload_filter *filter, struct err *err)
{
    struct reader r = {.path = path, .f = fopen(path, "re"), .filter = filter, .err = err};
    const char *slash = strrchr(path, '/');
    int rc;

    *w = (struct workload){.nnodes = nnodes, .compute_ns = 100, .scale = 1 << 16};
    if (!r.f)
        return fail_errno(err, EXIT_RESOURCE, errno, "trace %s: cannot be read", path);
    snprintf(w->name, sizeof(w->name), "%s", slash ? slash + 1 : path);
    rc = read_header(&r, nnodes);
    if (!rc) {
        w->trace = r.tr = xcalloc(1, sizeof(*r.tr));
        w->ops = &trace_ops;
        rc = read_rest(&r, w);
        if (rc)
            workload_free(w);
    }
    fclose(r.f);
    return rc;
}
