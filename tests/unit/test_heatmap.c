/* SPDX-License-Identifier: MIT */
/*
 * The map of a guest's memory as the cell makes it (vmm/cell/heatmap.c): every page is counted once,
 * on both sides of the hole, in guests from 2 MiB to 1 TiB and on up to 64 nodes; uses arrive where
 * they belong; the text fits into a message, and what is asked of the kernel is believed.  The pager
 * and its thread are this test's: they have a page map and some uses.
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "numa/counters.h"
#include "numa/pagemap.h"
#include "tests/leaks.h"
#include "vmm/cell/private.h"
#include "vmm/cell/proto.h"
#include "vmm/monitor/heatmap.h"
#include "vmm/pager/loop.h"
#include "vmm/pager/pager.h"

#include <cmocka.h> /* last: its fail() is a macro */

enum { USES = 8 };

/* A guest in the making. */
struct fake {
    struct cell *c;
    struct pagemap *map;
    struct page_use use[USES]; /* what the pager's thread knows */
    unsigned nuses;            /* entries of use */
    size_t len;                /* bytes of the last map's text */
    double ms;                 /* CPU time it took */
};

static struct fake *now; /* the one under test */

/* ---- in the place of vmm/cell/paging.c and vmm/pager ---- */

struct pager *paging_pager(const struct cell *c)
{
    return c == now->c && now->map ? (struct pager *)now : NULL;
}

struct page_loop *paging_loop(const struct cell *c)
{
    return c == now->c ? (struct page_loop *)now : NULL;
}

const struct pagemap *pager_map(const struct pager *p)
{
    assert_ptr_equal(p, now);
    return now->map;
}

void loop_uses(struct page_loop *l, void (*see)(void *arg, const struct page_use *use),
               void *arg)
{
    assert_ptr_equal(l, now);
    for (unsigned i = 0; i < now->nuses; i++)
        see(arg, &now->use[i]);
}

/* ---- guests ---- */

/* A guest with so much memory below the hole and above, one view, and so many nodes. */
static void make(struct fake *f, uint64_t low, uint64_t high, unsigned nodes)
{
    struct guest_mem *m;

    *f = (struct fake){.c = xcalloc(1, sizeof(*f->c))};
    now = f;
    m = &f->c->m.mem;
    f->c->made = true;
    f->c->cfg.name = xstrdup("g");
    m->low = low;
    m->high = high;
    m->size = low + high;
    m->span = high ? MEM_HIGH + high : low;
    m->fd = memfd_create("guest", MFD_CLOEXEC);
    assert_true(m->fd >= 0);
    assert_int_equal(ftruncate(m->fd, (off_t)m->span), 0);
    m->nviews = 1;
    m->alias =
        mmap(NULL, m->span, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, 0);
    m->view[0] =
        mmap(NULL, m->span, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, 0);
    assert_true(m->alias != MAP_FAILED && m->view[0] != MAP_FAILED);
    f->c->place.nnodes = nodes;
    for (unsigned n = 0; n < nodes; n++)
        f->c->place.nodes[n] = (int)n;
    f->map = pagemap_new(m->span / MEM_PAGE);
    assert_non_null(f->map);
}

static void unmake(struct fake *f)
{
    struct guest_mem *m = &f->c->m.mem;

    munmap(m->alias, m->span);
    munmap(m->view[0], m->span);
    close(m->fd);
    pagemap_free(f->map);
    free((void *)(uintptr_t)f->c->cfg.name);
    free(f->c);
}

/* Makes the map and reads it as the monitor's user does. */
static void take(struct fake *f, struct heatmap *h)
{
    struct timespec a, b;
    json_t *j;
    char *text;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    text = cell_heatmap(f->c);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    assert_non_null(text);
    f->ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
    f->len = strlen(text);
    assert_true(f->len + sizeof(struct proto_status) <= PROTO_MAX_BODY);
    j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    assert_int_equal(heatmap_read(h, j, NULL), 0);
    json_decref(j);
    free(text);
}

/* Pages of a kind on a node. */
static uint64_t on(const struct heatmap *h, enum heat_kind kind, unsigned node)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < h->n; i++)
        sum += heatmap_counts(h, i, kind)[node];
    return sum;
}

/* All of RAM is in the map, in order, and each page is counted once. */
static void check_whole(const struct fake *f, const struct heatmap *h)
{
    const struct guest_mem *m = &f->c->m.mem;
    uint64_t bytes = 0, pages = 0;

    for (unsigned i = 0; i < h->n; i++) {
        uint64_t here = h->cell[i].absent;

        for (unsigned n = 0; n < h->nnodes; n++)
            here += heatmap_counts(h, i, HEAT_PRIVATE)[n] +
                    heatmap_counts(h, i, HEAT_MASTERS)[n] +
                    heatmap_counts(h, i, HEAT_SHARED)[n];
        assert_int_equal(here * MEM_PAGE, h->cell[i].bytes);
        assert_true(h->cell[i].gpa + h->cell[i].bytes <= m->low || h->cell[i].gpa >= MEM_HIGH);
        assert_true(h->cell[i].gpa + h->cell[i].bytes <= m->span);
        bytes += h->cell[i].bytes;
        pages += here;
    }
    assert_int_equal(bytes, m->size);
    assert_int_equal(pages * MEM_PAGE, m->size);
    assert_in_range(h->n, 1, HEATMAP_CELLS);
}

/* Uses so many pages in a view. */
static void touch(const struct fake *f, uint64_t gpa, unsigned pages)
{
    for (unsigned i = 0; i < pages; i++)
        f->c->m.mem.view[0][gpa + i * MEM_PAGE] = 1;
}

/* ---- tests ---- */

/* No pager, or a machine that could not be made again: no map. */
static void test_none(void **state)
{
    struct fake f;
    struct pagemap *map;

    (void)state;
    make(&f, 2 << 20, 0, 2);
    map = f.map;
    f.map = NULL;
    assert_null(cell_heatmap(f.c));
    f.map = map;
    f.c->made = false;
    assert_null(cell_heatmap(f.c));
    unmake(&f);
}

/* States of pages. */
static void test_states(void **state)
{
    struct fake f;
    struct heatmap h;
    int fds;

    (void)state;
    make(&f, 64 << 20, 0, 3);
    touch(&f, 0, 32);
    touch(&f, 4 << 20, 8);
    assert_int_equal(pagemap_split(f.map, 1024), 0);
    for (uint64_t gfn = 1024; gfn < 1028; gfn++) {
        assert_int_equal(pagemap_claim(f.map, gfn, true), 0);
        pagemap_move(f.map, gfn, 2); /* says the map; the kernel knows better */
        if (gfn < 1026) {
            pagemap_replicate(f.map, gfn, 0);
            pagemap_replicate(f.map, gfn, 1);
        }
        pagemap_release(f.map, gfn);
    }
    fds = open_fds();
    take(&f, &h);
    assert_int_equal(open_fds(), fds);
    check_whole(&f, &h);
    assert_int_equal(h.n, 1024); /* 16 pages each */
    assert_int_equal(h.step, 1);
    assert_int_equal(on(&h, HEAT_PRIVATE, 0), 32 + 6);
    assert_int_equal(on(&h, HEAT_PRIVATE, 2), 0);
    assert_int_equal(on(&h, HEAT_MASTERS, 2), 2);
    assert_int_equal(on(&h, HEAT_REPLICAS, 0), 2);
    assert_int_equal(on(&h, HEAT_REPLICAS, 1), 2);
    assert_int_equal(heatmap_counts(&h, 64, HEAT_MASTERS)[2], 2);
    assert_int_equal(heatmap_counts(&h, 0, HEAT_PRIVATE)[0], 16);
    heatmap_free(&h);
    unmake(&f);
}

/* Uses of pages, of blocks, of nodes and addresses that are none. */
static void test_uses(void **state)
{
    struct fake f;
    struct heatmap h;

    (void)state;
    make(&f, MEM_LOW_MAX, 1ull << 30, 2);
    f.use[0] = (struct page_use){.page = 5, .n = 2, .use = {{7, 1, 0}, {3, 0, 1}}};
    f.use[1] = (struct page_use){.page = 512 | PAGE_BLOCK, .n = 1, .use = {{1 << 20, 0, 1}}};
    f.use[2] = (struct page_use){.page = MEM_LOW_MAX / MEM_PAGE, .n = 1, .use = {{9, 9, 0}}};
    f.use[3] = (struct page_use){
        .page = (MEM_HIGH + (1ull << 30)) / MEM_PAGE, .n = 1, .use = {{9, 9, 0}}};
    f.use[4] = (struct page_use){.page = 6, .n = 1, .use = {{9, 9, 2}}};
    f.use[5] = (struct page_use){.page = MEM_HIGH / MEM_PAGE, .n = 1, .use = {{0, 5, 1}}};
    f.use[6] = (struct page_use){.page = UINT64_MAX, .n = 1, .use = {{9, 9, 0}}};
    f.nuses = 7;
    take(&f, &h);
    check_whole(&f, &h);
    assert_int_equal(on(&h, HEAT_READS, 0), 7);
    assert_int_equal(on(&h, HEAT_WRITES, 0), 1);
    assert_int_equal(on(&h, HEAT_READS, 1), 3 + (1 << 20));
    assert_int_equal(on(&h, HEAT_WRITES, 1), 5);
    assert_int_equal(heatmap_counts(&h, 0, HEAT_READS)[0], 7);
    heatmap_free(&h);
    unmake(&f);
}

/* Guests of all sizes on few nodes and many. */
static void test_sizes(void **state)
{
    static const struct {
        uint64_t low, high;
        unsigned nodes;
    } guests[] = {
        {2ull << 20, 0, 2},
        {10ull << 20, 0, 4},
        {640ull << 20, 0, 4},
        {MEM_LOW_MAX, 2ull << 20, 2},
        {MEM_LOW_MAX, 13ull << 30, 8},
        {1000ull << 20, 0, 64},
        {MEM_LOW_MAX, 1021ull << 30, 4},
        {MEM_LOW_MAX, 1021ull << 30, 64},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(guests) / sizeof(guests[0]); i++) {
        struct heatmap h;
        struct fake f;

        make(&f, guests[i].low, guests[i].high, guests[i].nodes);
        touch(&f, 0, 512);
        take(&f, &h);
        check_whole(&f, &h);
        assert_int_equal(h.nnodes, guests[i].nodes);
        assert_true(on(&h, HEAT_PRIVATE, 0) >= 512);
        printf("%6llu MiB, %2u nodes: %4u cells, step %5llu, %7zu bytes, %.1f ms\n",
               (unsigned long long)((guests[i].low + guests[i].high) >> 20), guests[i].nodes,
               h.n, (unsigned long long)h.step, f.len, f.ms);
        heatmap_free(&h);
        unmake(&f);
    }
}

/* The longest text and the most work: every page is there, split and replicated, on 64 nodes. */
static void test_most(void **state)
{
    struct heatmap h;
    struct fake f;

    (void)state;
    make(&f, 256ull << 20, 0, 64);
    memset(f.c->m.mem.alias, 1, f.c->m.mem.size);
    for (uint64_t gfn = 0; gfn < 65536; gfn++) {
        if (gfn % PAGEMAP_BLOCK == 0)
            assert_int_equal(pagemap_split(f.map, gfn), 0);
        assert_int_equal(pagemap_claim(f.map, gfn, true), 0);
        for (unsigned n = 1; n < 64 && gfn % 2; n++)
            pagemap_replicate(f.map, gfn, n);
        pagemap_release(f.map, gfn);
    }
    take(&f, &h);
    check_whole(&f, &h);
    assert_int_equal(on(&h, HEAT_MASTERS, 0), 32768);
    assert_int_equal(on(&h, HEAT_REPLICAS, 63), 32768);
    assert_int_equal(on(&h, HEAT_PRIVATE, 0), 32768);
    printf("all pages replicated on 64 nodes: %zu bytes, %.1f ms\n", f.len, f.ms);
    heatmap_free(&h);
    unmake(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none), cmocka_unit_test(test_states),
        cmocka_unit_test(test_uses), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_most),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
