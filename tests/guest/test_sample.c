/* SPDX-License-Identifier: MIT */
/*
 * Sampling in running guests: pages are revoked while two vCPUs in two views work on them and
 * while they are replicated, collapsed and moved.  Nothing the guest does may come out wrong, and
 * what is told must be what the guest did.
 * Threads: the rig's, and this one, which works on the pages.
 */
#include <setjmp.h>
#include <stddef.h>

#include "numa/policy.h"
#include "tests/guest/pages_rig.h"

#include <cmocka.h> /* last: its fail() is a macro */

enum { SOME = 4096, ROUNDS = 4000 };

/* Litmus programs on two vCPUs in two views, on pages that are sampled. */
static struct pages_rig *sampled(bool probation)
{
    const struct rig_spec spec = {.nvcpus = 2,
                                  .nviews = 2,
                                  .nnodes = 2,
                                  .mover = PAGER_MOVE_COPY,
                                  .samples = true,
                                  .probation = probation,
                                  .forget_view = -1};

    return rig_new(&spec, PAGES_LITMUS);
}

/* Forbidden outcomes that they saw. */
static uint64_t wrong_in(const struct pages_rig *r)
{
    uint64_t wrong = 0;

    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < WRONG_KINDS; k++)
            wrong += rig_look(&r->ctl->side[i].wrong[k]);
    return wrong;
}

/* What was told of the arena, by node. */
struct told {
    uint64_t reads[2], writes[2]; /* touches */
    uint64_t sampled;             /* of all, pages that had been revoked */
    uint64_t elsewhere;           /* of pages that no program has */
};

/* Takes what was told. */
static void take(struct pages_rig *r, struct told *t)
{
    static struct pager_touch some[SOME];
    unsigned n = pager_touches(r->p, some, SOME);

    for (unsigned i = 0; i < n; i++) {
        assert_true(some[i].node < 2);
        *(some[i].write ? &t->writes[some[i].node] : &t->reads[some[i].node]) += 1;
        t->sampled += some[i].after_ns != UINT64_MAX;
        t->elsewhere += some[i].gfn >= RIG_SPARE_GFN && some[i].after_ns != UINT64_MAX;
    }
}

/* Pseudo-random numbers (xorshift). */
static uint64_t dice(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* Revokes some pages of the arena, and now and then does something else to them. */
static void disturb(struct pages_rig *r, uint64_t *x)
{
    uint64_t v = dice(x), at = v >> 8 & (PAGES_NARENA - 1), n = 1 + (v >> 16) % 16;
    uint64_t gfn = RIG_ARENA_GFN + at;
    unsigned node = (unsigned)(v >> 24) & 1;

    if (n > PAGES_NARENA - at)
        n = PAGES_NARENA - at;
    pager_revoke(r->p, gfn, n);
    switch (v % 8) {
    case 0 ... 2:
        pager_replicate(r->p, gfn, n, node);
        pager_revoke(r->p, gfn, n);
        break;
    case 3:
        pager_collapse(r->p, gfn, n);
        break;
    case 4:
        pager_migrate(r->p, gfn, n, node);
        break;
    case 5:
        pager_evict(r->p, gfn, n, node);
        break;
    default:
        break;
    }
}

/* Litmus programs while pages are revoked and changed. */
static void nothing_is_lost(void **state)
{
    struct pages_rig *r = sampled(false);
    uint64_t x = 88172645463325252ull;
    struct pager_stats s;
    struct told t = {0};

    (void)state;
    rig_start(r);
    for (unsigned i = 0; i < ROUNDS; i++) {
        rig_must_run(r);
        disturb(r, &x);
        usleep(200);
        if (i % 64 == 0)
            take(r, &t);
        if (i % 1000 == 0)
            rig_check(r);
    }
    rig_stop(r);
    rig_check(r);
    take(r, &t);
    pager_stats(r->p, &s);
    print_message(
        "     %lu outcomes; %lu revoked, %lu touches (%lu lost); told: reads %lu %lu, "
        "writes %lu %lu, of revoked pages %lu; %lu replicated, %lu collapsed\n",
        r->ctl->side[0].rounds, s.revoked, s.touches, s.lost, t.reads[0], t.reads[1],
        t.writes[0], t.writes[1], t.sampled, s.replicated, s.collapsed);
    assert_int_equal(wrong_in(r), 0);
    assert_true(r->ctl->side[0].rounds > 1000);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(t.reads[i] > 0);
        assert_true(t.writes[i] > 0);
    }
    assert_true(t.sampled > 0);
    rig_free(r);
}

/* Pages that nobody uses are not told of, and cost nothing after they were revoked. */
static void silence_is_told_of(void **state)
{
    struct pages_rig *r = sampled(false);
    struct told t = {0};

    (void)state;
    rig_start(r);
    for (unsigned i = 0; i < 20; i++) {
        pager_revoke(r->p, RIG_SPARE_GFN, 1024);
        usleep(1000);
        take(r, &t);
    }
    rig_stop(r);
    take(r, &t);
    rig_check(r);
    assert_int_equal(t.elsewhere, 0);
    rig_free(r);
}

/* Asks for a replica of a page on node 1. */
static bool replicate(struct pages_rig *r, uint64_t gfn)
{
    struct action a = {.page = gfn, .act = ACT_REPLICATE, .node = 1};

    return pager_act(r->p, &a, 1) == 1;
}

/* Pages that are written are found out before they are copied, others are copied a little later. */
static void written_pages_are_not_copied(void **state)
{
    struct pages_rig *r = sampled(true);
    uint64_t x = 88172645463325252ull, written[SOME], watched = 0;
    struct pager_stats s;

    (void)state;
    rig_start(r);
    assert_false(replicate(r, PAGES_CODE >> 12));
    usleep(20000);
    assert_true(replicate(r, PAGES_CODE >> 12));
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        rig_must_run(r);
        (void)replicate(r, RIG_ARENA_GFN + (dice(&x) & (PAGES_NARENA - 1)));
        disturb(r, &x);
        usleep(200);
        for (unsigned n = pager_broken(r->p, written, SOME), k = 0; k < n; k++)
            watched += (written[k] & PAGER_WATCHED) != 0;
        if (i % 250 == 0)
            rig_check(r);
    }
    rig_stop(r);
    rig_check(r);
    pager_stats(r->p, &s);
    print_message("     %lu watched pages were written; %lu replicated, %lu collapsed\n",
                  watched, s.replicated, s.collapsed);
    assert_int_equal(wrong_in(r), 0);
    assert_true(watched > 0);
    rig_free(r);
}

/* Neighbours are watched together, in whatever order they were asked for, and those alone. */
static void neighbours_are_watched(void **state)
{
    struct pages_rig *r = sampled(true);
    const unsigned order[] = {4, 2, 9, 3, 1, 10};
    struct action a[6];

    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = 0; i < 6; i++)
            a[i] = (struct action){
                .page = RIG_SPARE_GFN + order[i], .act = ACT_REPLICATE, .node = 1};
        assert_int_equal(pager_act(r->p, a, 6), 6 * k);
        for (unsigned i = 0; i < 12; i++)
            assert_int_equal(pager_unwritten(r->p, RIG_SPARE_GFN + i),
                             (i > 0 && i < 5) || i == 9 || i == 10);
        rig_check(r);
    }
    rig_free(r);
}

/* Takes touches of the spare pages: of how many it is true, of how many guessed. */
static void take_spare(struct pages_rig *r, unsigned *real, unsigned *beside)
{
    struct pager_touch some[64];
    unsigned n = pager_touches(r->p, some, 64);

    *real = *beside = 0;
    for (unsigned i = 0; i < n; i++)
        if (some[i].gfn >= RIG_SPARE_GFN && some[i].after_ns != UINT64_MAX)
            *(some[i].beside ? beside : real) += 1;
}

/* Of pages that were revoked together the first touch lets all in that are in memory. */
static void one_touch_tells_of_a_group(void **state)
{
    struct pages_rig *r = sampled(false);
    uint8_t *alias = r->m.mem.alias + ((uint64_t)RIG_SPARE_GFN << 12);
    const volatile uint8_t *view = r->m.mem.view[0] + ((uint64_t)RIG_SPARE_GFN << 12);
    const unsigned hole = 5, pages = 2 * PAGER_GROUP;
    unsigned real, beside;

    (void)state;
    for (unsigned i = 0; i < pages; i++)
        if (i != hole)
            alias[(uint64_t)i << 12] = (uint8_t)(i + 1);
    pager_revoke(r->p, RIG_SPARE_GFN, pages);
    assert_int_equal(view[3 << 12], 4);
    take_spare(r, &real, &beside);
    assert_int_equal(real, 1);
    assert_int_equal(beside, PAGER_GROUP - 2);
    for (unsigned i = 0; i < PAGER_GROUP; i++)
        assert_int_equal(view[i << 12], i == hole ? 0 : i + 1);
    take_spare(r, &real, &beside);
    assert_int_equal(real + beside, 0);
    assert_int_equal(view[PAGER_GROUP << 12], PAGER_GROUP + 1);
    take_spare(r, &real, &beside);
    assert_int_equal(real, 1);
    assert_int_equal(beside, PAGER_GROUP - 1);
    rig_check(r);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost),
        cmocka_unit_test(silence_is_told_of),
        cmocka_unit_test(written_pages_are_not_copied),
        cmocka_unit_test(neighbours_are_watched),
        cmocka_unit_test(one_touch_tells_of_a_group),
    };

    cmocka_set_test_filter(getenv("GUEST_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
