/* SPDX-License-Identifier: MIT */
/*
 * Every kind of access that a guest's user mode, or KVM on its behalf, makes to pages that are
 * replicated, collapsed and moved all the time: across two pages (all four ways of private and
 * replicated), locked, 16 bytes at once, string input and output, instructions that KVM emulates
 * because one operand is device memory, code that is changed.  Two vCPUs in two views, on real
 * CPUs where user mode runs directly; faults by threads and on vCPUs; also while vCPUs move.
 *
 * PAGES_SECONDS  how long each may take (2); GUEST_TEST  runs one test (a pattern).
 * Threads: the rig's, and this one, which works on the pages.
 */
#include <setjmp.h>
#include <stddef.h>

#include "tests/guest/pages_churn.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* Whether the shared words of a program lie at a byte, and what is to be there: a word that
 * both add to.  Returns its bytes, 0: none here. */
typedef unsigned shared_words(uint64_t at);

/* PAGES_SPLIT: across every third border. */
static unsigned split_words(uint64_t at)
{
    uint64_t page = (at + 7) / 4096;

    return page > 0 && page <= 60 && (page - 1) % 3 == 2 &&
                   at == page * 4096 - (1 + (page - 1) % 7)
               ? 8
               : 0;
}

/* PAGES_PAIRS: eight a page; the high half is three times the low one. */
static unsigned pair_words(uint64_t at)
{
    return at % 512 == 0 && at / 4096 < 60 ? 16 : 0;
}

static unsigned no_words(uint64_t at)
{
    (void)at;
    return 0;
}

/* 8 bytes, anywhere. */
static uint64_t word_at(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return v;
}

/* One view's arena against both sides' models; false, with a message, if a byte is wrong. */
static bool view_is_right(const struct pages_rig *r, unsigned view, shared_words *shared)
{
    const uint8_t *a = churn_arena(r, view), *m0 = churn_model(r, 0), *m1 = churn_model(r, 1);

    for (uint64_t at = 0, n; at < PAGES_NARENA * 4096ull - 32; at += n ? n : 1) {
        uint64_t is = word_at(a + at), sum = word_at(m0 + at) + word_at(m1 + at);

        n = shared(at);
        if (n ? is == sum && (n < 16 || word_at(a + at + 8) == 3 * sum)
              : a[at] == (m0[at] ^ m1[at]))
            continue;
        print_message("     view %u, %#lx: %#lx, not %#lx\n", view, at, n ? is : a[at],
                      n ? sum : (uint64_t)(m0[at] ^ m1[at]));
        return false;
    }
    return true;
}

/* Whether all that a program left, and found, is right. */
static bool all_is_right(const struct pages_rig *r, unsigned nviews, shared_words *shared)
{
    bool right = !churn_error(r) && !atomic_load(&r->wrong_bytes) &&
                 !(r->strings[0].wrong + r->strings[1].wrong);

    for (unsigned v = 0; right && shared && v < nviews; v++)
        right = view_is_right(r, v, shared);
    return right;
}

/* Runs a program and looks at all it left. */
static void access_by(const struct churn *c, shared_words *shared)
{
    const struct rig_spec spec = {.nvcpus = c->nvcpus,
                                  .nviews = c->nviews,
                                  .nnodes = 2,
                                  .mover = c->mover,
                                  .faults = c->faults,
                                  .samples = c->samples,
                                  .forget_view = -1};
    struct pages_rig *r = rig_new(&spec, c->prog);
    struct churned d = churn_run(r, c);
    uint64_t seen_to = d.stats.faults + d.stats.device_writes + d.exits;

    print_message("     %lu rounds, %lu replicated, %lu collapsed, %lu migrated, %lu faults, "
                  "%lu VMM writes, %lu fault exits, %lu vCPU moves, %lu checks\n",
                  d.loops, d.stats.replicated, d.stats.collapsed, d.stats.migrated,
                  d.stats.faults, d.stats.device_writes, d.exits, d.moves, d.checks);
    if (c->prog != PAGES_MODIFY)
        print_message(
            "     pages were as wanted (pp rp pr rr): %lu/%lu %lu/%lu %lu/%lu %lu/%lu\n",
            r->had[0], r->want[0], r->had[1], r->want[1], r->had[2], r->want[2], r->had[3],
            r->want[3]);
    assert_true(all_is_right(r, c->nviews, shared));
    assert_true(d.loops >= CHURN_ROUNDS && seen_to > 10);
    for (unsigned w = 0; w < 4; w++)
        assert_true(!r->want[w] || r->had[w] > 0);
    rig_free(r);
}

/* Ways to run a program: who sees to faults, and what else goes on. */
static const struct churn ways[] = {
    {.faults = RIG_THREAD, .mover = PAGER_MOVE_COPY, .nvcpus = 2, .nviews = 2},
    {.faults = RIG_VCPU, .mover = PAGER_MOVE_COPY, .nvcpus = 2, .nviews = 2},
    {.faults = RIG_BEST, .mover = PAGER_MOVE_AUTO, .nvcpus = 2, .nviews = 3, .move = true},
    {.mover = PAGER_MOVE_COPY, .nvcpus = 2, .nviews = 2, .samples = true},
};

static void access_way(unsigned way, enum pages_prog prog, shared_words *shared)
{
    struct churn c = ways[way];

    c.prog = prog;
    access_by(&c, shared);
}

#define ACCESS(name, prog, shared)           \
    static void name(void **state)           \
    {                                        \
        (void)state;                         \
        access_way(0, prog, shared);         \
    }                                        \
    static void name##_on_vcpu(void **state) \
    {                                        \
        (void)state;                         \
        access_way(1, prog, shared);         \
    }                                        \
    static void name##_moving(void **state)  \
    {                                        \
        (void)state;                         \
        access_way(2, prog, shared);         \
    }                                        \
    static void name##_sampled(void **state) \
    {                                        \
        (void)state;                         \
        access_way(3, prog, shared);         \
    }

ACCESS(across_pages, PAGES_SPLIT, split_words)
ACCESS(sixteen_bytes, PAGES_PAIRS, pair_words)
ACCESS(strings, PAGES_STRINGS, no_words)
ACCESS(emulated, PAGES_EMULATE, no_words)
ACCESS(changing_code, PAGES_MODIFY, NULL)

/* With a collapse that leaves the replica in one view, each program finds something wrong. */
static void broken_collapse_is_found(void **state)
{
    static const enum pages_prog progs[] = {PAGES_SPLIT, PAGES_PAIRS, PAGES_STRINGS,
                                            PAGES_EMULATE, PAGES_MODIFY};
    shared_words *const shared[] = {split_words, pair_words, no_words, no_words, NULL};

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        struct churn c = ways[0];
        const struct rig_spec spec = {.nvcpus = 2,
                                      .nviews = 2,
                                      .nnodes = 2,
                                      .forget_view = 1,
                                      .mover = c.mover,
                                      .faults = c.faults};
        struct pages_rig *r = rig_new(&spec, progs[i]);

        c.broken = true;
        (void)churn_run(r, &c);
        assert_false(all_is_right(r, 2, shared[i]));
        rig_free(r);
    }
}

#define FOUR(name)                                                                             \
    cmocka_unit_test(name), cmocka_unit_test(name##_on_vcpu), cmocka_unit_test(name##_moving), \
        cmocka_unit_test(name##_sampled)

/* Which way RIG_BEST is here. */
static void tell_about_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

    printf("KVM tells the address of a fault: %s\n", pager_kvm_tells(fd) ? "yes" : "no");
    fflush(stdout);
    close(fd);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        FOUR(across_pages), FOUR(sixteen_bytes), FOUR(strings),
        FOUR(emulated),     FOUR(changing_code), cmocka_unit_test(broken_collapse_is_found),
    };

    if (access("/dev/kvm", R_OK | W_OK)) {
        fprintf(stderr, "no usable /dev/kvm here\n");
        return 77;
    }
    tell_about_kvm();
    cmocka_set_test_filter(getenv("GUEST_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
