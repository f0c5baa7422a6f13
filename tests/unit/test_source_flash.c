/* SPDX-License-Identifier: MIT */
/*
 * Tests of vmm/pager/source_flash.c and framemap.c on this machine's own page tables: guest memory
 * of two views without a guest, the machine's counters a file that the test writes.  What is
 * counted for a frame must come out at the page it holds, be it the master's or a replica's, and at
 * none once the frame is somebody else's.
 *
 * Skipped where /proc/self/pagemap hides frames (it takes CAP_SYS_ADMIN).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "numa/flash.h"
#include "vmm/machine/mem.h"
#include "vmm/pager/framemap.h"
#include "vmm/pager/private.h"
#include "vmm/pager/source.h"

#include <cmocka.h> /* last: its fail() is a macro */

enum { MIB = 1 << 20, NODES = 2, PAGES = 1024, ROUND = PAGES / FRAMEMAP_CHUNK };

#define HOUR (UINT64_C(3600) * 1000000000) /* ns: more than anything here takes */

/* A guest's memory, its pager without threads, the counters and the source. */
struct rig {
    struct guest_mem mem;
    struct pager pager;
    struct counters counters;
    struct source source;
    struct memsys_header *h; /* the counters, for writing */
    int region;              /* their file */
    uint64_t low;            /* flash_low_memory() */
    int host[NODES];         /* the host's node of each of the guest's */
    int copies;              /* store of replicas */
};

/* ---- the rig ---- */

/* The frame of an address; 0: none. */
static uint64_t frame_at(const void *at)
{
    FILE *f = fopen("/proc/self/pagemap", "re");
    uint64_t entry = 0;

    assert_non_null(f);
    assert_int_equal(fseek(f, (long)((uintptr_t)at / MEMSYS_PAGE * 8), SEEK_SET), 0);
    assert_int_equal(fread(&entry, sizeof(entry), 1, f), 1);
    fclose(f);
    return entry >> 63 ? entry & ((UINT64_C(1) << 55) - 1) : 0;
}

/* A region for two nodes of 2^k pages that cover all of this machine's memory. */
static void make_region(struct rig *r, uint32_t sample)
{
    uint64_t frames = framemap_top(), node = 1 << 18;
    void *at;

    while (node * NODES < frames)
        node *= 2;
    r->region = memfd_create("region", MFD_CLOEXEC);
    at = mmap(NULL, memsys_region_bytes(1, NODES, node * MEMSYS_PAGE), PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_NORESERVE, r->region, 0);
    assert_true(at != MAP_FAILED);
    assert_int_equal(
        ftruncate(r->region, (off_t)memsys_region_bytes(1, NODES, node * MEMSYS_PAGE)), 0);
    r->h = at;
    *r->h = (struct memsys_header){.magic = MEMSYS_MAGIC,
                                   .version = MEMSYS_VERSION,
                                   .ncpus = 1,
                                   .nnodes = NODES,
                                   .sample = sample,
                                   .node_bytes = node * MEMSYS_PAGE,
                                   .pages = node * NODES,
                                   .pages_at = memsys_pages_at(1),
                                   .on = 1};
    r->h->bytes = memsys_region_bytes(1, NODES, node * MEMSYS_PAGE);
}

/* Makes all of it; `host`: the host's numbers of the guest's nodes. */
static void make(struct rig *r, const int host[NODES], uint32_t sample)
{
    struct mem_spec mem = {.size = 4 * MIB, .nviews = NODES};
    struct err err = {0};
    char path[64];

    memset(r, 0, sizeof(*r));
    assert_int_equal(mem_init(&r->mem, &mem, &err), 0);
    for (unsigned v = 0; v < NODES; v++)
        madvise(r->mem.view[v], r->mem.span, MADV_NOHUGEPAGE);
    r->pager.spec = (struct pager_spec){
        .mem = &r->mem, .nnodes = NODES, .node_host = {host[0], host[1]}, .view_node = {0, 1}};
    r->pager.nviews = NODES;
    r->pager.map = pagemap_new(PAGES);
    pthread_mutex_init(&r->pager.lock, NULL);
    assert_int_equal(counters_init(&r->counters, 16 * PAGES), 0);
    make_region(r, sample);
    r->low = flash_low_memory();
    memcpy(r->host, host, sizeof(r->host));
    r->copies = memfd_create("copies", MFD_CLOEXEC);
    assert_int_equal(ftruncate(r->copies, (off_t)r->mem.span), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", r->region);
    struct source_spec spec = {.pager = &r->pager,
                               .counters = &r->counters,
                               .nnodes = NODES,
                               .node_host = r->host,
                               .interval_ns = 1000000000,
                               .cpus = 4,
                               .share = 1000,
                               .steady = true,
                               .low = r->mem.low,
                               .region = path};

    if (source_start(&r->source, &source_flash, &spec, &err))
        fail_msg("%s", err.text);
}

static void drop(struct rig *r)
{
    source_stop(&r->source);
    munmap(r->h, r->h->bytes);
    close(r->region);
    close(r->copies);
    counters_exit(&r->counters);
    pagemap_free(r->pager.map);
    pthread_mutex_destroy(&r->pager.lock);
    mem_exit(&r->mem);
}

/* The counters of a frame by a node of the machine. */
static struct memsys_page *counters_of(struct rig *r, uint64_t frame, unsigned node)
{
    return memsys_page(r->h, flash_page(frame * MEMSYS_PAGE, r->low)) + node;
}

/* A node of the machine misses on a frame and writes it. */
static void used(struct rig *r, uint64_t frame, unsigned node, uint32_t misses, uint32_t writes)
{
    counters_of(r, frame, node)->misses += misses;
    counters_of(r, frame, node)->writes += writes;
}

/* Touches a page through a view; its frame. */
static uint64_t touch(struct rig *r, unsigned view, uint64_t gfn)
{
    uint8_t *at = r->mem.view[view] + gfn * MEMSYS_PAGE;

    (void)*(volatile uint8_t *)at;
    if (!pagemap_watched(r->pager.map, gfn, 1))
        *(volatile uint8_t *)at = 1;
    assert_true(frame_at(at) != 0);
    return frame_at(at);
}

/* Uses counted so far: reads, and writes << 32. */
static uint64_t seen(const struct rig *r, uint64_t gfn, unsigned node)
{
    struct page_use u;

    counters_get(&r->counters, gfn, &u);
    for (unsigned i = 0; i < u.n; i++)
        if (u.use[i].node == node)
            return u.use[i].reads | (uint64_t)u.use[i].writes << 32;
    return 0;
}

#define SEEN(reads, writes) ((uint64_t)(reads) | (uint64_t)(writes) << 32)

static const int plain[NODES] = {0, 1};

/* ---- tests ---- */

static void test_counts(void **state)
{
    uint64_t frame[3];
    unsigned node;
    struct rig r;

    (void)state;
    make(&r, plain, 1);
    for (unsigned i = 0; i < 3; i++)
        frame[i] = touch(&r, i % 2, 100 + i);
    used(&r, frame[0], 0, 1000, 1000);   /* before it was ours */
    for (unsigned i = 0; i < ROUND; i++) /* few are missing: they are looked for slowly */
        source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 100, 0), 0);
    /* the page map has learnt where masters are */
    node =
        (unsigned)(flash_page(frame[0] * MEMSYS_PAGE, r.low) * MEMSYS_PAGE / r.h->node_bytes);
    assert_int_equal(pagemap_get(r.pager.map, 100).node, node);
    used(&r, frame[0], 0, 10, 3);
    used(&r, frame[0], 1, 5, 0);
    used(&r, frame[1], 1, 1, 4); /* had lines already */
    used(&r, 1, 1, 77, 7);       /* nobody's */
    source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 100, 0), SEEN(7, 3));
    assert_int_equal(seen(&r, 100, 1), SEEN(5, 0));
    assert_int_equal(seen(&r, 101, 1), SEEN(0, 4));
    assert_int_equal(seen(&r, 102, 0), 0);
    assert_int_equal(r.source.writes, 7);
    source_collect(&r.source, 0); /* nothing new */
    assert_int_equal(seen(&r, 100, 0), SEEN(7, 3));
    drop(&r);
}

/* Samples stand for many; nodes have other numbers, and others than the guest's are ignored. */
static void test_sample(void **state)
{
    static const int swapped[NODES] = {1, 7};
    struct rig r;
    uint64_t frame;

    (void)state;
    make(&r, swapped, 8);
    frame = touch(&r, 0, 5);
    source_collect(&r.source, 0);
    used(&r, frame, 1, 10, 2);
    used(&r, frame, 0, 10, 2);
    source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 5, 0), SEEN(64, 16));
    assert_int_equal(seen(&r, 5, 1), 0);
    used(&r, frame, 1, UINT32_MAX - 10, 0); /* does not fit */
    source_collect(&r.source, 0);
    assert_int_equal((uint32_t)seen(&r, 5, 0), UINT32_MAX);
    drop(&r);
}

/* Counters zeroed, and the model off. */
static void test_reset(void **state)
{
    struct rig r;
    uint64_t frame;

    (void)state;
    make(&r, plain, 1);
    frame = touch(&r, 0, 5);
    source_collect(&r.source, 0);
    used(&r, frame, 1, 50, 0);
    source_collect(&r.source, 0);
    counters_of(&r, frame, 1)->misses = 0;
    r.h->resets++;
    used(&r, frame, 1, 70, 0);
    source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 5, 1), SEEN(120, 0));
    used(&r, frame, 1, 1, 0);
    r.h->on = 0;
    r.h->toggles++;
    source_collect(&r.source, 0); /* the rest still counts */
    assert_int_equal(seen(&r, 5, 1), SEEN(121, 0));
    used(&r, frame, 1, 1, 0); /* cannot be, and is not looked at */
    source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 5, 1), SEEN(121, 0));
    drop(&r);
}

/* A frame whose counters add up to what would be a mark of 0 is no frame without counts. */
static void test_marks(void **state)
{
    struct rig r;
    uint64_t frame;

    (void)state;
    make(&r, plain, 1);
    frame = touch(&r, 0, 5);
    source_collect(&r.source, 0);
    used(&r, frame, 1, UINT16_MAX, 1); /* of which one write missed */
    source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 5, 1), SEEN(UINT16_MAX - 1, 1));
    used(&r, frame, 1, 5, 0);
    source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 5, 1), SEEN(UINT16_MAX + 4, 1));
    drop(&r);
}

/* Maps a store's page into a view. */
static void map_page(struct rig *r, unsigned view, uint64_t gfn, int store)
{
    void *at = r->mem.view[view] + gfn * MEMSYS_PAGE;

    assert_true(mmap(at, MEMSYS_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, store,
                     (off_t)(gfn * MEMSYS_PAGE)) == at);
}

/* A replica's frame belongs to its page while it is one. */
static void test_replica(void **state)
{
    unsigned node, other;
    uint64_t master, copy;
    struct action act;
    struct rig r;

    (void)state;
    make(&r, plain, 1);
    master = touch(&r, 0, 9);
    source_collect(&r.source, 0);
    node = pagemap_get(r.pager.map, 9).node;
    other = 1 - node;
    assert_int_equal(pagemap_split(r.pager.map, 9), 0);
    assert_int_equal(pagemap_claim(r.pager.map, 9, false), 0);
    pagemap_replicate(r.pager.map, 9, other);
    pagemap_release(r.pager.map, 9);
    map_page(&r, other, 9, r.copies);
    copy = touch(&r, other, 9);
    assert_true(copy != master);
    act = (struct action){.page = 9, .act = ACT_REPLICATE, .node = (uint8_t)other};
    r.pager.stats.replicated++;
    used(&r, master, node, 32, 0); /* the copying */
    source_acted(&r.source, &act, 1, 1, 0);
    used(&r, copy, other, 6, 0);
    used(&r, master, node, 4, 0);
    source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 9, other), SEEN(6, 0));
    assert_int_equal(seen(&r, 9, node), SEEN(4, 0));
    assert_int_equal(pagemap_get(r.pager.map, 9).node, node);

    /* it collapses: its frame is nobody's */
    assert_int_equal(pagemap_claim(r.pager.map, 9, true), 0);
    pagemap_collapse(r.pager.map, 9);
    pagemap_release(r.pager.map, 9);
    map_page(&r, other, 9, r.mem.fd);
    used(&r, copy, other, 100, 0);
    used(&r, master, node, 1, 1);
    source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 9, other), SEEN(6, 0));
    assert_int_equal(seen(&r, 9, node), SEEN(4, 1));
    drop(&r);
}

/* Pages that come later are found, and a frame that was given away is forgotten in time. */
static void test_growth(void **state)
{
    uint64_t frame[PAGES], gone;
    struct rig r;

    (void)state;
    make(&r, plain, 1);
    source_collect(&r.source, 0);
    for (unsigned i = 0; i < PAGES; i++)
        frame[i] = touch(&r, i / 3 % 2, i);
    source_collect(&r.source, 0);
    for (unsigned i = 0; i < PAGES; i++)
        used(&r, frame[i], 0, i + 1, 0);
    source_collect(&r.source, 0);
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(seen(&r, i, 0), SEEN(i + 1, 0));
    gone = frame[77];
    assert_int_equal(madvise(r.mem.view[0] + 77 * MEMSYS_PAGE, MEMSYS_PAGE, MADV_REMOVE), 0);
    for (unsigned i = 0; i < 2 * FRAMEMAP_ROUND; i++)
        source_collect(&r.source, 0);
    used(&r, gone, 1, 5, 0);
    used(&r, frame[78], 1, 5, 0);
    source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 77, 1), 0);
    assert_int_equal(seen(&r, 78, 1), SEEN(5, 0));
    drop(&r);
}

/* When much has left the store what is known is read again: what comes instead is found. */
static void test_gone(void **state)
{
    uint64_t frame[PAGES];
    struct rig r;

    (void)state;
    make(&r, plain, 1);
    for (unsigned i = 0; i < PAGES; i++)
        (void)touch(&r, 0, i);
    for (unsigned i = 0; i < 2 * ROUND; i++)
        source_collect(&r.source, 0);
    assert_int_equal(madvise(r.mem.view[0], PAGES / 2 * MEMSYS_PAGE, MADV_REMOVE), 0);
    source_collect(&r.source, 0);
    for (unsigned i = 0; i < PAGES / 2; i++)
        frame[i] = touch(&r, 1, i);
    for (unsigned i = 0; i < 2; i++)
        source_collect(&r.source, 0);
    for (unsigned i = 0; i < PAGES / 2; i++)
        used(&r, frame[i], 0, 3, 0);
    source_collect(&r.source, 0);
    for (unsigned i = 0; i < PAGES / 2; i++)
        assert_int_equal(seen(&r, i, 0), SEEN(3, 0));
    drop(&r);
}

/* A rig where page 100 has been used evenly for long, from its node or the other: looks are rare,
 * and one has just been.  The page's frame; *near: its node. */
static uint64_t make_settled(struct rig *r, bool local, unsigned *near)
{
    uint64_t frame;

    make(r, plain, 1);
    r->source.spec.steady = false;
    frame = touch(r, 0, 100);
    for (unsigned i = 0; i < ROUND; i++)
        source_collect(&r->source, 0);
    *near = pagemap_get(r->pager.map, 100).node;
    for (unsigned i = 0; i < 200 || r->source.traffic.span; i++) {
        used(r, frame, local ? *near : 1 - *near, 1, 0);
        source_collect(&r->source, 0);
    }
    return frame;
}

/* While nothing is remote intervals pass without a look; what is used meanwhile is found later. */
static void test_pauses(void **state)
{
    uint64_t frame;
    unsigned near, calls = 0;
    struct rig r;

    (void)state;
    frame = make_settled(&r, true, &near);
    used(&r, frame, 1 - near, 9, 0);
    while (!seen(&r, 100, 1 - near) && calls++ < 64)
        source_collect(&r.source, 0);
    assert_in_range(calls, 0, 32);
    assert_int_equal(seen(&r, 100, 1 - near), SEEN(9, 0));
    assert_int_equal(r.source.traffic.span, 32); /* it says of how many intervals that is */
    assert_int_equal(r.source.traffic.passed, 32);
    source_acted(&r.source, NULL, 0, 0, HOUR);
    used(&r, frame, 1 - near, 5, 0);
    source_collect(&r.source, 0); /* much is remote: in each interval again */
    assert_int_equal(seen(&r, 100, 1 - near), SEEN(14, 0));
    assert_int_equal(r.source.traffic.span, 1);
    used(&r, frame, 1 - near, 5, 0);
    source_collect(&r.source, 3); /* after three that nobody worked on */
    assert_int_equal(r.source.traffic.span, 4);
    assert_int_equal(r.source.traffic.passed, 4);
    source_collect(&r.source, 0);
    assert_int_equal(r.source.traffic.span, 0); /* nothing was used */
    for (unsigned i = 0; i < 200; i++)
        source_collect(&r.source, 0);
    r.h->toggles++; /* the model was off and is on again: another time */
    used(&r, frame, 1 - near, 5, 0);
    source_collect(&r.source, 0);
    used(&r, frame, 1 - near, 5, 0);
    source_collect(&r.source, 0);
    assert_int_equal(seen(&r, 100, 1 - near), SEEN(29, 0));
    drop(&r);
}

/* Looks that cost more than what is done because of them come seldom, however much is remote; when
 * more is done again, often. */
static void test_not_worth(void **state)
{
    unsigned calls = 0;
    uint64_t frame;
    unsigned near;
    struct rig r;

    (void)state;
    frame = make_settled(&r, false, &near);
    do {
        used(&r, frame, 1 - near, 1, 0);
        source_collect(&r.source, 0);
    } while (!r.source.traffic.span && calls++ < 64);
    assert_int_equal(r.source.traffic.span, 32);
    source_acted(&r.source, NULL, 0, 0, HOUR);
    for (unsigned i = 0; i < 32; i++) {
        used(&r, frame, 1 - near, 1, 0);
        source_collect(&r.source, 0);
    }
    assert_int_equal(r.source.traffic.span, 32);
    used(&r, frame, 1 - near, 1, 0);
    source_collect(&r.source, 0);
    assert_int_equal(r.source.traffic.span, 1);
    drop(&r);
}

/* What is no region is refused with a reason. */
static void test_bad_region(void **state)
{
    struct memsys_header h = {.magic = MEMSYS_MAGIC,
                              .version = MEMSYS_VERSION,
                              .ncpus = 1,
                              .nnodes = 2,
                              .node_bytes = MIB,
                              .pages = 512,
                              .pages_at = 8192,
                              .bytes = 65536};
    struct memsys_header bad[7];
    char path[64], why[200];
    int fd = memfd_create("bad", MFD_CLOEXEC);

    (void)state;
    for (unsigned i = 0; i < 7; i++)
        bad[i] = h;
    bad[0].magic++;
    bad[1].version++;
    bad[2].nnodes = MEMSYS_NODES + 1;
    bad[3].pages = UINT64_MAX / 2;
    bad[4].pages_at = UINT64_MAX - 8;
    bad[5].bytes = 1 << 20;
    bad[6].nnodes = 0;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_null(flash_open(path, why, sizeof(why)));
    assert_non_null(strstr(why, "too short"));
    assert_int_equal(ftruncate(fd, 65536), 0);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(pwrite(fd, &bad[i], sizeof(h), 0), sizeof(h));
        assert_null(flash_open(path, why, sizeof(why)));
        assert_non_null(strstr(why, "no counters of version"));
    }
    assert_int_equal(pwrite(fd, &h, sizeof(h), 0), sizeof(h));
    flash_close(flash_open(path, why, sizeof(why)));
    assert_null(flash_open("/nowhere", why, sizeof(why)));
    assert_non_null(strstr(why, "/nowhere: No such file"));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),    cmocka_unit_test(test_sample),
        cmocka_unit_test(test_reset),     cmocka_unit_test(test_replica),
        cmocka_unit_test(test_growth),    cmocka_unit_test(test_gone),
        cmocka_unit_test(test_pauses),    cmocka_unit_test(test_marks),
        cmocka_unit_test(test_not_worth), cmocka_unit_test(test_bad_region),
    };
    char why[200];

    if (!framemap_allowed(why, sizeof(why)) || !flash_low_memory()) {
        printf("skipped: %s\n", why);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
