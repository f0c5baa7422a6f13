/* SPDX-License-Identifier: MIT */
/*
 * The pager over running guests: each action does what it says and pager_check() agrees; string
 * I/O, device memory, code that changes and the VMM's own writes meet pages that come and go;
 * limits of memory and mappings are kept; nothing stays behind.
 * Threads: the rig's, this one, and one that writes as a device would.
 */
#include <dirent.h>
#include <numa.h>
#include <numaif.h>
#include <setjmp.h>
#include <stddef.h>

#include "numa/counters.h"
#include "numa/policy.h"
#include "tests/guest/pages_rig.h"
#include "vmm/pager/private.h"

#include <cmocka.h> /* last: its fail() is a macro */

static const struct rig_spec two_views = {
    .nvcpus = 2, .nviews = 2, .nnodes = 2, .mover = PAGER_MOVE_COPY, .forget_view = -1};
static const struct rig_spec one_vcpu = {
    .nvcpus = 1, .nviews = 2, .nnodes = 2, .mover = PAGER_MOVE_COPY, .forget_view = -1};
static const struct rig_spec four_views = {
    .nvcpus = 2, .nviews = 4, .nnodes = 3, .mover = PAGER_MOVE_AUTO, .forget_view = -1};

/* What the map says of a page. */
static struct page_info page(const struct pages_rig *r, uint64_t gfn)
{
    return pagemap_get(pager_map(r->p), gfn);
}

/* A byte as a view sees it. */
static uint8_t seen_by(const struct pages_rig *r, unsigned view, uint64_t gpa)
{
    return *(volatile uint8_t *)(r->m.mem.view[view] + gpa);
}

static struct pager_stats stats(struct pages_rig *r)
{
    struct pager_stats s;

    pager_stats(r->p, &s);
    return s;
}

/* Pages come and go at random until the guest has gone round so often, or for some seconds. */
static void churn(struct pages_rig *r, uint64_t loops, unsigned seconds)
{
    uint64_t until = machine_now_ns() + seconds * 1000000000ull, x = 0x9e3779b97f4a7c15ull;

    for (unsigned i = 1; machine_now_ns() < until; i++) {
        uint64_t gfn, n;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        gfn = RIG_ARENA_GFN + (x >> 8) % 48;
        n = 1 + (x >> 16) % 16;
        if (x % 4 == 3)
            pager_migrate(r->p, gfn, n, x >> 20 & 1);
        else
            pager_replicate(r->p, gfn, n, x >> 20 & 1);
        rig_must_run(r);
        if (i % 256 == 0)
            rig_check(r);
        if (rig_look(&r->ctl->side[0].loops) >= loops)
            break;
        usleep(200);
    }
}

/* ---- actions ---- */

/* One page through all states; what each view sees; what the counters say. */
static void page_goes_round(void **state)
{
    struct pages_rig *r = rig_new(&two_views, PAGES_READER);
    uint64_t gfn = RIG_SPARE_GFN + 5, gpa = gfn << 12;
    uint8_t byte = 0x11;

    (void)state;
    rig_start(r);
    assert_true(mem_write(&r->m.mem, gpa, &byte, 1));
    assert_int_equal(pager_replicate(r->p, gfn, 1, 0), 0); /* it is there */
    assert_int_equal(pager_replicate(r->p, gfn, 1, 1), 1);
    assert_int_equal(pager_replicate(r->p, gfn, 1, 1), 0);
    assert_int_equal(page(r, gfn).state, PAGE_REPLICATED);
    assert_int_equal(page(r, gfn).pages, 1);
    assert_int_equal(page(r, gfn).replicas, 2);
    assert_int_equal(page(r, gfn - 1).state, PAGE_PRIVATE);
    assert_int_equal(seen_by(r, 0, gpa) + seen_by(r, 1, gpa), 0x22);
    rig_check(r);
    byte = 0x22; /* the VMM writes: collapse */
    assert_true(mem_write(&r->m.mem, gpa, &byte, 1));
    assert_int_equal(page(r, gfn).state, PAGE_PRIVATE);
    assert_int_equal(page(r, gfn).collapses, 1);
    assert_int_equal(seen_by(r, 0, gpa) + seen_by(r, 1, gpa), 0x44);
    rig_check(r);
    assert_int_equal(pager_replicate(r->p, gfn, 1, 1), 1);
    assert_int_equal(pager_evict(r->p, gfn, 1, 1), 1);
    assert_int_equal(page(r, gfn).state, PAGE_PRIVATE);
    assert_int_equal(pager_migrate(r->p, gfn, 1, 1), 1);
    assert_int_equal(page(r, gfn).node, 1);
    assert_int_equal(page(r, gfn).moves, 1);
    assert_int_equal(pager_replicate(r->p, gfn, 1, 0), 1);
    assert_int_equal(pager_migrate(r->p, gfn, 1, 0), 1); /* collapses first */
    assert_int_equal(seen_by(r, 0, gpa) + seen_by(r, 1, gpa), 0x44);
    rig_check(r);
    pager_interval(r->p);
    assert_int_equal(page(r, gfn).moves, 0);
    assert_int_equal(stats(r).device_writes, 1);
    assert_int_equal(stats(r).replicas, 0);
    assert_int_equal(stats(r).maps, 0);
    rig_stop(r);
    rig_free(r);
}

/* Blocks: whole ones, split ones, formed again; three nodes, of which one has two views. */
static void round_of_a_block(struct pages_rig *r)
{
    uint64_t gfn = RIG_SPARE_GFN, n = PAGEMAP_BLOCK;

    rig_start(r);
    memset(mem_at(&r->m.mem, gfn << 12, n << 12, MEM_READ), 0x5a, n << 12);
    assert_int_equal(pager_replicate(r->p, gfn, n, 1), n);
    assert_int_equal(pager_replicate(r->p, gfn, n, 2), n);
    assert_int_equal(page(r, gfn + 7).pages, n);
    rig_check(r);
    assert_int_equal(stats(r).replicas, 2 * n);
    assert_int_equal(pager_evict(r->p, gfn, n, 1), n); /* views 1 see the master, protected */
    rig_check(r);
    assert_int_equal(pager_evict(r->p, gfn + 3, 2, 2), 2); /* splits */
    assert_int_equal(page(r, gfn).pages, 1);
    assert_false(pager_form(r->p, gfn));
    rig_check(r);
    assert_int_equal(pager_replicate(r->p, gfn, n, 2), 2);
    assert_true(pager_form(r->p, gfn));
    assert_int_equal(page(r, gfn).pages, n);
    rig_check(r);
    assert_int_equal(pager_collapse(r->p, gfn, n), n);
    assert_int_equal(pager_migrate(r->p, gfn, n, 2), n);
    assert_int_equal(page(r, gfn + 511).node, 2);
    assert_true(pager_split(r->p, gfn));
    rig_check(r);
    for (uint64_t i = 0; i < n << 12; i += 4000)
        for (unsigned v = 0; v < 4; v++)
            assert_int_equal(seen_by(r, v, (gfn << 12) + i), 0x5a);
    assert_int_equal(stats(r).replicas, 0);
    rig_stop(r);
}

static void block_goes_round(void **state)
{
    struct pages_rig *r = rig_new(&four_views, PAGES_READER);

    (void)state;
    round_of_a_block(r);
    rig_free(r);
}

/* Whether a view's guard takes a block for one that is mapped page by page. */
static bool split_in(const struct pages_rig *r, unsigned view, uint64_t gfn)
{
    return r->p->guard[view].split[gfn / PAGEMAP_BLOCK / 64] >> gfn / PAGEMAP_BLOCK % 64 & 1;
}

/* The same where the kernel's word that pages are protected has to be checked (Linux before 6.5): once
 * for each block, and again after all of it was mapped anew. */
static void word_is_checked(void **state)
{
    struct pages_rig *r = rig_new(&four_views, PAGES_READER);
    uint64_t gfn = RIG_SPARE_GFN + 2 * PAGEMAP_BLOCK;

    (void)state;
    for (unsigned v = 0; v < 4; v++)
        r->p->guard[v].true_word = false;
    round_of_a_block(r);
    assert_int_equal(pager_replicate(r->p, gfn + 3, 1, 1), 1);
    assert_int_equal(pager_replicate(r->p, gfn + 9, 1, 2), 1);
    for (unsigned v = 0; v < 4; v++)
        assert_true(split_in(r, v, gfn));
    rig_check(r);
    assert_int_equal(pager_collapse(r->p, gfn, PAGEMAP_BLOCK), 2);
    assert_true(split_in(r, 0, gfn));
    assert_true(pager_form(r->p, gfn));
    assert_int_equal(pager_replicate(r->p, gfn, PAGEMAP_BLOCK, 1), PAGEMAP_BLOCK);
    rig_check(r);
    assert_int_equal(pager_collapse(r->p, gfn, PAGEMAP_BLOCK), PAGEMAP_BLOCK);
    for (unsigned v = 0; v < 4; v++)
        assert_int_equal(split_in(r, v, gfn), r->p->spec.view_node[v] != 1);
    rig_check(r);
    rig_free(r);
}

/* What is no RAM, no node or no replica is refused. */
static void nonsense_is_refused(void **state)
{
    struct pages_rig *r = rig_new(&two_views, PAGES_READER);
    uint64_t end = RIG_MEMORY >> 12, seen = 0;

    (void)state;
    assert_int_equal(pager_replicate(r->p, end, 1, 1), 0);
    assert_int_equal(pager_replicate(r->p, UINT64_MAX - 1, 4, 1), 0);
    assert_int_equal(pager_replicate(r->p, end - 1, 100, 1), 1); /* the part that is RAM */
    assert_int_equal(pager_replicate(r->p, 0, 1, 2), 0);
    assert_int_equal(pager_evict(r->p, 0, 1, 1), 0);
    assert_int_equal(pager_collapse(r->p, 0, 0), 0);
    assert_int_equal(pager_migrate(r->p, 0, 1, 64), 0);
    (void)pager_fault(r->p, 0, UINT64_MAX, &seen);
    assert_false(pager_fault(r->p, 0, UINT64_MAX, &seen));
    assert_false(pager_fault(r->p, 9, 0, &seen));
    rig_check(r);
    rig_free(r);
}

/* Actions as policies tell them: neighbours at once, those that cannot be done at the end. */
static void policy_is_done(void **state)
{
    struct pages_rig *r = rig_new(&two_views, PAGES_READER);
    struct action a[] = {
        {.page = RIG_SPARE_GFN + 2, .act = ACT_REPLICATE, .node = 1},
        {.page = RIG_SPARE_GFN + 1, .act = ACT_REPLICATE, .node = 1},
        {.page = 1ull << 40, .act = ACT_REPLICATE, .node = 1}, /* no such page */
        {.page = (RIG_SPARE_GFN + 512) | PAGE_BLOCK, .act = ACT_MIGRATE, .node = 1},
        {.page = RIG_SPARE_GFN + 3, .act = ACT_REPLICATE, .node = 1},
    };
    struct action b[] = {
        {.page = RIG_SPARE_GFN + 2, .act = ACT_COLLAPSE, .node = 1, .from = 0},
        {.page = RIG_SPARE_GFN + 3, .act = ACT_EVICT, .node = 1},
    };

    (void)state;
    assert_int_equal(pager_act(r->p, a, 5), 4);
    assert_true(a[4].page == 1ull << 40);
    assert_int_equal(page(r, RIG_SPARE_GFN + 600).node, 1);
    rig_check(r);
    assert_int_equal(pager_act(r->p, b, 2), 2);
    assert_int_equal(page(r, RIG_SPARE_GFN + 1).state, PAGE_REPLICATED);
    assert_int_equal(page(r, RIG_SPARE_GFN + 2).state, PAGE_PRIVATE);
    assert_int_equal(page(r, RIG_SPARE_GFN + 2).node, 1);
    rig_check(r);
    rig_free(r);
}

/* ---- guests that meet pages in work ---- */

/* String input, string output and device memory, across pages that come and go.  What KVM writes
 * waits for the guard, or, where vCPUs see to faults, comes to the VMM as a write to a device. */
static void string_by(enum rig_faults faults)
{
    struct rig_spec spec = one_vcpu;
    struct pages_rig *r;
    uint64_t done;

    spec.faults = faults;
    r = rig_new(&spec, PAGES_STRING);
    rig_start(r);
    churn(r, 1000, 6);
    rig_stop(r);
    done = stats(r).faults + stats(r).device_writes;
    print_message("     %lu times round, %lu faults, %lu writes by the VMM\n",
                  r->ctl->side[0].loops, stats(r).faults, stats(r).device_writes);
    assert_int_equal(r->ctl->side[0].error, 0);
    assert_true(r->ctl->side[0].loops > 10 && done > 0);
    assert_int_equal(atomic_load(&r->wrong_bytes), 0);
    assert_int_equal(atomic_load(&r->in), atomic_load(&r->out));
    rig_check(r);
    rig_free(r);
}

static void string_io(void **state)
{
    (void)state;
    string_by(RIG_THREAD);
}

static void string_io_on_vcpu(void **state)
{
    (void)state;
    string_by(RIG_VCPU);
}

/* Code that one vCPU changes and both run. */
static void changing_code(void **state)
{
    struct pages_rig *r = rig_new(&two_views, PAGES_CODE_PATCH);

    (void)state;
    rig_start(r);
    churn(r, 3000, 6);
    rig_stop(r);
    print_message("     %lu times changed, %lu faults\n", r->ctl->side[0].loops,
                  stats(r).faults);
    assert_int_equal(r->ctl->side[0].error | r->ctl->side[1].error, 0);
    assert_true(r->ctl->side[0].loops > 10 && stats(r).faults > 0);
    rig_check(r);
    rig_free(r);
}

/* What the device's thread does and finds. */
struct device {
    struct pages_rig *r;
    atomic_bool stop;
    unsigned long writes, stale;
};

/* Writes words all over the arena, and looks whether every view sees them. */
static void *device_thread(void *arg)
{
    struct device *d = arg;

    for (uint64_t i = 1; !atomic_load(&d->stop); i++) {
        uint64_t gpa = PAGES_ARENA + (i * 7 % 64) * 4096 + i * 8 % 4096,
                 late = i + (1ull << 40);
        uint64_t *slow = mem_at(&d->r->m.mem, gpa, 8, MEM_WRITE);

        __atomic_store_n(slow, late, __ATOMIC_RELEASE); /* as a transfer that takes its time */
        if (i % 16 == 0)
            usleep(50);
        __atomic_store_n(slow, i, __ATOMIC_RELEASE);
        mem_done(&d->r->m.mem, gpa, 8);
        for (unsigned v = 0; v < d->r->m.spec.nviews; v++)
            d->stale += __atomic_load_n((uint64_t *)(void *)(d->r->m.mem.view[v] + gpa),
                                        __ATOMIC_ACQUIRE) != i;
        d->writes++;
        if (i % 64 == 0)
            usleep(100);
    }
    return NULL;
}

/* The VMM writes while pages come and go: nothing is lost, nothing seen late. */
static void device_writes(void **state)
{
    struct device d = {.r = rig_new(&two_views, PAGES_READER)};
    struct pages_rig *r = d.r;
    pthread_t thread;

    (void)state;
    rig_start(r);
    assert_int_equal(pthread_create(&thread, NULL, device_thread, &d), 0);
    churn(r, UINT64_MAX, 3);
    atomic_store(&d.stop, true);
    pthread_join(thread, NULL);
    print_message("     %lu writes, %lu collapses for them\n", d.writes,
                  stats(r).device_writes);
    assert_int_equal(d.stale, 0);
    assert_true(d.writes > 100 && stats(r).device_writes > 0);
    rig_check(r);
    rig_stop(r);
    rig_free(r);
}

/* A page that a device is writing is left alone, block and all, until it is done. */
static void pinned_pages_stay(void **state)
{
    struct pages_rig *r = rig_new(&two_views, PAGES_READER);
    uint64_t gfn = RIG_SPARE_GFN;

    (void)state;
    assert_non_null(mem_at(&r->m.mem, (gfn << 12) - 8, 16, MEM_WRITE));
    assert_int_equal(pager_replicate(r->p, gfn - 1, 2, 1), 0);
    assert_int_equal(pager_replicate(r->p, gfn + 100, 1, 1), 0);
    assert_int_equal(pager_migrate(r->p, gfn, 1, 1), 0);
    assert_int_equal(pager_replicate(r->p, gfn + 512, 1, 1), 1);
    mem_done(&r->m.mem, (gfn << 12) - 8, 16);
    assert_int_equal(pager_replicate(r->p, gfn - 1, 2, 1), 2);
    rig_check(r);
    rig_free(r);
}

/* ---- real nodes ---- */

/* The node of the host that a page is on, as a mapping sees it; negative: not there. */
static int host_node(uint8_t *base, uint64_t gfn)
{
    void *page = base + (gfn << 12);
    int status = -1;

    (void)*(volatile uint8_t *)page;
    return move_pages(0, 1, &page, NULL, &status, 0) ? -1 : status;
}

/* With nodes of the host: masters and replicas are where the map says, whoever moves them. */
static void nodes_are_real(void **state)
{
    struct rig_spec spec = two_views;

    (void)state;
    if (numa_available() < 0 || numa_num_configured_nodes() < 2)
        skip();
    /* The pager knows two nodes; on a host with more, pages must come from one of these. */
    assert_int_equal(numa_run_on_node(0), 0);
    spec.real_nodes = true;
    for (unsigned mover = PAGER_MOVE_KERNEL; mover <= PAGER_MOVE_COPY; mover++) {
        struct pages_rig *r;
        uint8_t *alias;
        uint64_t gfn = RIG_SPARE_GFN, n = 32;

        spec.mover = mover;
        r = rig_new(&spec, PAGES_READER);
        alias = r->m.mem.alias;
        rig_start(r);
        memset(alias + (gfn << 12), 7, n << 12);
        assert_int_equal(pager_locate(r->p, gfn, n), n);
        (void)pager_migrate(r->p, gfn, n, 0);
        assert_int_equal(page(r, gfn).node, 0);
        for (unsigned to = 1; to < 4; to++) {
            assert_int_equal(pager_migrate(r->p, gfn, n, to & 1), n);
            for (unsigned i = 0; i < n; i++)
                assert_int_equal(host_node(alias, gfn + i), to & 1);
            assert_int_equal(page(r, gfn + 3).node, to & 1);
            assert_int_equal(pager_locate(r->p, gfn, n), n);
            assert_int_equal(page(r, gfn + 3).node, to & 1);
        }
        assert_int_equal(pager_replicate(r->p, gfn, n, 0), n);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(host_node(r->m.mem.view[0], gfn + i), 0);
            assert_int_equal(host_node(r->m.mem.view[1], gfn + i), 1);
        }
        rig_check(r);
        rig_stop(r);
        rig_free(r);
    }
    numa_run_on_node(-1);
}

/* ---- limits ---- */

/* A host that allows few mappings: replicas are refused in time, collapses never fail. */
static void few_mappings(void **state)
{
    struct rig_spec spec = two_views;
    struct pages_rig *r;
    uint64_t got = 0;

    (void)state;
    spec.max_maps = 4400;
    r = rig_new(&spec, PAGES_READER);
    for (uint64_t i = 0; i < 6000; i += 2)
        got += pager_replicate(r->p, RIG_SPARE_GFN + i, 1, 1);
    assert_true(got > 500 && got < 1200);
    assert_true(stats(r).maps <= stats(r).maps_limit);
    assert_int_equal(pager_replicate(r->p, RIG_SPARE_GFN, 1000, 1),
                     500); /* fills gaps: fewer */
    assert_int_equal(pager_replicate(r->p, RIG_SPARE_GFN + 8000, 2000, 1), 2000);
    for (uint64_t i = 1; i < 2000; i += 2) /* holes in the run: more again, then whole runs */
        pager_collapse(r->p, RIG_SPARE_GFN + 8000 + i, 1);
    assert_true(stats(r).maps <= stats(r).maps_limit + stats(r).maps_limit / 3);
    rig_check(r);
    pager_collapse(r->p, RIG_SPARE_GFN, 12288);
    assert_int_equal(stats(r).maps, 0);
    rig_check(r);
    rig_free(r);
}

/* No free memory: no replicas, and nothing else is wrong. */
static void no_memory(void **state)
{
    struct rig_spec spec = two_views;
    struct pages_rig *r;

    (void)state;
    spec.keep_free = 1ull << 50;
    r = rig_new(&spec, PAGES_READER);
    assert_int_equal(pager_replicate(r->p, RIG_SPARE_GFN, 10, 1), 0);
    assert_int_equal(stats(r).refused, 10);
    rig_check(r);
    rig_free(r);
}

/* Entries of a directory. */
static unsigned entries(const char *path)
{
    DIR *d = opendir(path);
    unsigned n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Mappings of memfds in this process. */
static unsigned memfd_maps(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned n = 0;

    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        n += strstr(line, "memfd:") != NULL;
    fclose(f);
    return n;
}

/* A machine that ends with replicas in place leaves no descriptor, thread, mapping or store. */
static void nothing_is_left(void **state)
{
    unsigned fds = 0, threads = 0;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct pages_rig *r = rig_new(&four_views, PAGES_READER);

        rig_start(r);
        pager_replicate(r->p, RIG_SPARE_GFN, 2000, 1);
        pager_replicate(r->p, RIG_ARENA_GFN, 64, 2);
        rig_stop(r);
        rig_free(r);
        if (i == 0) {
            fds = entries("/proc/self/fd");
            threads = entries("/proc/self/task");
        }
    }
    assert_int_equal(entries("/proc/self/fd"), fds);
    assert_int_equal(entries("/proc/self/task"), threads);
    assert_int_equal(memfd_maps(), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(page_goes_round),     cmocka_unit_test(block_goes_round),
        cmocka_unit_test(nonsense_is_refused), cmocka_unit_test(policy_is_done),
        cmocka_unit_test(string_io),           cmocka_unit_test(string_io_on_vcpu),
        cmocka_unit_test(changing_code),       cmocka_unit_test(device_writes),
        cmocka_unit_test(pinned_pages_stay),   cmocka_unit_test(nodes_are_real),
        cmocka_unit_test(few_mappings),        cmocka_unit_test(word_is_checked),
        cmocka_unit_test(no_memory),           cmocka_unit_test(nothing_is_left),
    };

    if (access("/dev/kvm", R_OK | W_OK)) {
        fprintf(stderr, "no usable /dev/kvm here\n");
        return 77;
    }
    cmocka_set_test_filter(getenv("GUEST_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
