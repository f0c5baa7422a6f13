/* SPDX-License-Identifier: MIT */
/*
 * The page map: every arrow of its picture, what it refuses, its size, blocks and pages, readers
 * without locks beside a writer, and writers of devices beside claims.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "numa/pagemap.h"

#include <cmocka.h> /* last */

enum { PAGES = 4 * PAGEMAP_BLOCK };

/* Nothing breaks P1 to P3. */
static void sound(const struct pagemap *m)
{
    char wrong[128] = "";

    if (!pagemap_check(m, wrong, sizeof(wrong)))
        fail_msg("%s", wrong);
}

/* Claims, goes along an arrow and releases. */
#define GO(m, gfn, arrow)                                  \
    do {                                                   \
        assert_int_equal(pagemap_claim(m, gfn, false), 0); \
        arrow;                                             \
        pagemap_release(m, gfn);                           \
        sound(m);                                          \
    } while (0)

static void all_arrows(void **state)
{
    struct pagemap *m = pagemap_new(PAGES - 5); /* rounded up */
    struct page_info u;

    (void)state;
    assert_int_equal(pagemap_pages(m), PAGES);
    u = pagemap_get(m, PAGES - 1);
    assert_int_equal(u.state, PAGE_PRIVATE);
    assert_int_equal(u.pages, PAGEMAP_BLOCK);
    assert_int_equal(u.first, PAGES - PAGEMAP_BLOCK);
    assert_false(pagemap_watched(m, 0, PAGES));
    GO(m, 5, pagemap_replicate(m, 5, 63));
    GO(m, 6, pagemap_replicate(m, 6, 1)); /* the same unit */
    u = pagemap_get(m, 511);
    assert_int_equal(u.state, PAGE_REPLICATED);
    assert_true(u.replicas == (1ull << 63 | 2));
    assert_true(pagemap_watched(m, 300, 1));
    assert_true(pagemap_watched(m, 0, PAGES));
    assert_false(pagemap_watched(m, 512, PAGES - 512));
    GO(m, 7, pagemap_evict(m, 7, 63));
    assert_int_equal(pagemap_get(m, 0).state, PAGE_REPLICATED);
    GO(m, 7, pagemap_evict(m, 7, 1));
    assert_int_equal(pagemap_get(m, 0).state, PAGE_PRIVATE);
    assert_false(pagemap_watched(m, 0, 512));
    GO(m, 0, pagemap_move(m, 0, 7));
    GO(m, 0, pagemap_replicate(m, 0, 0));
    GO(m, 0, pagemap_collapse(m, 0));
    u = pagemap_get(m, 0);
    assert_int_equal(u.node, 7);
    assert_int_equal(u.moves, 1);
    assert_int_equal(u.collapses, 1);
    GO(m, 0, pagemap_share(m, 0, 9, 3));
    u = pagemap_get(m, 0);
    assert_int_equal(u.state, PAGE_SHARED);
    assert_int_equal(u.store, 9);
    assert_int_equal(u.node, 3);
    GO(m, 0, pagemap_break(m, 0, 2));
    assert_int_equal(pagemap_get(m, 0).store, PAGEMAP_OWN_STORE);
    assert_int_equal(pagemap_get(m, 0).node, 2);
    pagemap_place(m, 1024, 33);
    assert_int_equal(pagemap_get(m, 1500).node, 33);
    sound(m);
    pagemap_free(m);
}

/* Counts stop at their maximum and are of one interval. */
static void counts(void **state)
{
    struct pagemap *m = pagemap_new(PAGES);

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        GO(m, 0, pagemap_move(m, 0, i % 2));
    assert_int_equal(pagemap_get(m, 0).moves, PAGEMAP_MOVES_MAX);
    pagemap_interval(m);
    assert_int_equal(pagemap_get(m, 0).moves, 0);
    GO(m, 0, pagemap_move(m, 0, 1));
    assert_int_equal(pagemap_get(m, 0).moves, 1);
    pagemap_free(m);
}

static void blocks(void **state)
{
    struct pagemap *m = pagemap_new(PAGES);
    uint64_t bytes = pagemap_bytes(m);

    (void)state;
    GO(m, 600, pagemap_replicate(m, 600, 4));
    assert_int_equal(pagemap_split(m, 600), 0);
    assert_int_equal(pagemap_split(m, 601), 0);
    sound(m);
    assert_int_equal(pagemap_get(m, 1023).pages, 1);
    assert_int_equal(pagemap_get(m, 1023).state, PAGE_REPLICATED);
    GO(m, 700, pagemap_collapse(m, 700));
    assert_false(pagemap_form(m, 700));
    for (uint64_t g = 512; g < 1024; g++)
        if (g != 700)
            GO(m, g, pagemap_collapse(m, g));
    assert_int_equal(pagemap_claim(m, 900, false), 0);
    assert_false(pagemap_form(m, 700)); /* one is claimed */
    pagemap_release(m, 900);
    assert_true(pagemap_form(m, 700));
    assert_true(pagemap_form(m, 700));
    assert_int_equal(pagemap_get(m, 700).pages, PAGEMAP_BLOCK);
    sound(m);
    assert_int_equal(pagemap_split(m, 0), 0); /* takes the memory that became free */
    assert_true(pagemap_bytes(m) - bytes <= PAGEMAP_BLOCK * 20);
    assert_int_equal(pagemap_get(m, 3).state, PAGE_PRIVATE);
    pagemap_free(m);
}

/* At most 0.5 % of guest memory when all is split; hardly anything of 1 TiB when nothing is. */
static void size(void **state)
{
    struct pagemap *m = pagemap_new(1ull << 28);
    uint64_t whole = pagemap_bytes(m);

    (void)state;
    assert_true(whole <= (1ull << 40) / 20000);
    for (uint64_t g = 0; g < 64 * PAGEMAP_BLOCK; g += PAGEMAP_BLOCK)
        assert_int_equal(pagemap_split(m, g), 0);
    assert_true(pagemap_bytes(m) - whole <= 64 * (2ull << 20) / 200);
    assert_true(16 * PAGEMAP_BLOCK + 48 <= (2 << 20) / 200);
    pagemap_free(m);
}

static void pins(void **state)
{
    struct pagemap *m = pagemap_new(PAGES);

    (void)state;
    assert_false(pagemap_pin(m, 511, 2)); /* two blocks */
    assert_int_equal(pagemap_claim(m, 0, false), -EBUSY);
    assert_int_equal(pagemap_claim(m, 1000, false), -EBUSY);
    assert_int_equal(pagemap_claim(m, 1024, false), 0);
    assert_int_equal(pagemap_claim(m, 1024, false), -EBUSY); /* claimed */
    assert_true(pagemap_pin(m, 1030, 1));                    /* has to ask */
    pagemap_unpin(m, 1030, 1);
    pagemap_release(m, 1024);
    assert_int_equal(pagemap_claim(m, 0, true), 0);
    pagemap_release(m, 0);
    pagemap_unpin(m, 511, 2);
    assert_int_equal(pagemap_claim(m, 0, false), 0);
    pagemap_release(m, 0);
    sound(m);
    pagemap_free(m);
}

/* Runs a wrong call in a child: it must abort. */
static void must_abort(void (*wrong)(struct pagemap *m))
{
    pid_t pid = fork();
    int status = 0;

    if (!pid) {
        struct pagemap *m = pagemap_new(PAGES);

        close(2);
        signal(SIGABRT, SIG_DFL);
        wrong(m);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void wrong_unclaimed(struct pagemap *m)
{
    pagemap_move(m, 0, 1);
}

static void wrong_collapse(struct pagemap *m)
{
    (void)pagemap_claim(m, 0, false);
    pagemap_collapse(m, 0);
}

static void wrong_home(struct pagemap *m)
{
    (void)pagemap_claim(m, 0, false);
    pagemap_replicate(m, 0, 0);
}

static void wrong_page(struct pagemap *m)
{
    (void)pagemap_get(m, PAGES);
}

static void wrong_unpin(struct pagemap *m)
{
    pagemap_unpin(m, 0, 1);
}

static void wrong_share(struct pagemap *m)
{
    (void)pagemap_claim(m, 0, false);
    pagemap_replicate(m, 0, 1);
    pagemap_share(m, 0, 1, 1);
}

static void wrong_arrows_abort(void **state)
{
    (void)state;
    must_abort(wrong_unclaimed);
    must_abort(wrong_collapse);
    must_abort(wrong_home);
    must_abort(wrong_page);
    must_abort(wrong_unpin);
    must_abort(wrong_share);
}

/* ---- threads ---- */

/* What threads share. */
struct race {
    struct pagemap *m;
    atomic_bool stop;
    atomic_ulong torn, looks; /* entries that are no state of the picture; looks in all */
    atomic_ulong lost;        /* device writes that met a claim */
    _Atomic bool claimed;     /* the writer is between claim and release of block 1 */
};

/* An entry must be one that was written: nodes and states go together. */
static void *reader(void *arg)
{
    struct race *r = arg;

    while (!atomic_load(&r->stop))
        for (uint64_t g = 0; g < 1024; g += 37) {
            struct page_info u = pagemap_get(r->m, g);
            bool good = (u.state == PAGE_REPLICATED) == (u.replicas != 0) &&
                        !(u.replicas >> u.node & 1) && u.first <= g && g < u.first + u.pages &&
                        (u.replicas == 0 || u.replicas == 1ull << ((u.node + 1) % 64));

            atomic_fetch_add(&r->torn, !good);
            atomic_fetch_add(&r->looks, 1);
        }
    return NULL;
}

/* Readers beside a writer that changes, splits and forms. */
static void readers_see_whole_entries(void **state)
{
    struct race r = {.m = pagemap_new(PAGES)};
    pthread_t t[2];

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, reader, &r);
    for (unsigned i = 0; i < 20000 || atomic_load(&r.looks) < 100000; i++) {
        uint64_t block = i % 2 * 512ull;
        unsigned node = i % 64;

        assert_int_equal(pagemap_claim(r.m, block, false), 0);
        if (pagemap_get(r.m, block).state == PAGE_REPLICATED)
            pagemap_collapse(r.m, block);
        pagemap_move(r.m, block, node);
        pagemap_replicate(r.m, block, (node + 1) % 64);
        pagemap_release(r.m, block);
        if (i % 8 == 3)
            assert_int_equal(pagemap_split(r.m, block), 0);
        if (i % 8 == 3 || i % 8 == 4)
            (void)pagemap_form(r.m, block);
        while (pagemap_get(r.m, block).pages == 1 && !pagemap_form(r.m, block)) {
            fail_msg("pages are not alike");
        }
    }
    atomic_store(&r.stop, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&r.torn), 0);
    sound(r.m);
    pagemap_free(r.m);
}

/* A device that need not ask must never meet a claim that was granted. */
static void *pinner(void *arg)
{
    struct race *r = arg;

    while (!atomic_load(&r->stop)) {
        if (!pagemap_pin(r->m, 512, 1)) {
            for (unsigned i = 0; i < 10; i++)
                atomic_fetch_add(&r->lost, atomic_load(&r->claimed));
            atomic_fetch_add(&r->looks, 1);
        }
        pagemap_unpin(r->m, 512, 1);
    }
    return NULL;
}

static void pin_or_claim(void **state)
{
    struct race r = {.m = pagemap_new(PAGES)};
    unsigned long granted = 0, refused = 0;
    pthread_t t;

    (void)state;
    pthread_create(&t, NULL, pinner, &r);
    while (granted < 20000 || atomic_load(&r.looks) < 20000) {
        if (pagemap_claim(r.m, 512, false)) {
            refused++;
            continue;
        }
        atomic_store(&r.claimed, true);
        granted++;
        atomic_store(&r.claimed, false);
        pagemap_release(r.m, 512);
    }
    atomic_store(&r.stop, true);
    pthread_join(t, NULL);
    assert_int_equal(atomic_load(&r.lost), 0);
    sound(r.m);
    print_message("     %lu claims, %lu refused, %lu writes\n", granted, refused,
                  atomic_load(&r.looks));
    pagemap_free(r.m);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_arrows),
        cmocka_unit_test(counts),
        cmocka_unit_test(blocks),
        cmocka_unit_test(size),
        cmocka_unit_test(pins),
        cmocka_unit_test(wrong_arrows_abort),
        cmocka_unit_test(readers_see_whole_entries),
        cmocka_unit_test(pin_or_claim),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
