/* SPDX-License-Identifier: MIT */
/*
 * What a CPU writes by itself, or KVM in its place, to pages that are replicated, collapsed and
 * moved all the time: accessed and dirty bits of the guest's page tables, frames of interrupts
 * and exceptions on its stacks, accessed and busy bits of its descriptors.  Needs a KVM that runs
 * ring 0 on the CPU; where it emulates it, all is skipped.
 *
 * PAGES_SECONDS  how long each may take (2); GUEST_TEST  runs one test (a pattern); PAGES_RING0
 * set: does not look first whether ring 0 runs.
 * Threads: the rig's, and this one, which works on the pages.
 */
#include <setjmp.h>
#include <stddef.h>

#include "tests/guest/pages_churn.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* Ways to run a program: who sees to faults, and what else goes on. */
static const struct churn ways[] = {
    {.faults = RIG_THREAD, .mover = PAGER_MOVE_COPY, .nvcpus = 2, .nviews = 2},
    {.faults = RIG_VCPU, .mover = PAGER_MOVE_COPY, .nvcpus = 2, .nviews = 2},
    {.faults = RIG_BEST, .mover = PAGER_MOVE_AUTO, .nvcpus = 2, .nviews = 3, .move = true},
    {.mover = PAGER_MOVE_COPY, .nvcpus = 2, .nviews = 2, .samples = true},
    {.faults = RIG_BEST, .mover = PAGER_MOVE_AUTO, .nvcpus = 1, .nviews = 2},
};

static struct pages_rig *new_rig(const struct churn *c, unsigned nnodes)
{
    const struct rig_spec spec = {.nvcpus = c->nvcpus,
                                  .nviews = c->nviews,
                                  .nnodes = nnodes,
                                  .mover = c->mover,
                                  .faults = c->faults,
                                  .samples = c->samples,
                                  .forget_view = -1};

    return rig_new(&spec, c->prog);
}

/* PAGES_TABLES: what the tables say but for the CPU's bits, in every view. */
static void tables_are_whole(const struct pages_rig *r, unsigned nviews)
{
    for (unsigned v = 0; v < nviews; v++)
        for (uint64_t i = 0; i < 8 * 512; i++) {
            uint64_t is, should = (PAGES_FRESH + i * 4096) | 7;

            memcpy(&is, churn_arena(r, v) + 4 * 4096 + i * 8, 8);
            if ((is & ~0x60ull) != should)
                die("view %u: entry %lu is %#lx, not %#lx", v, i, is, should);
        }
}

/* Runs a program and looks at all it left. */
static void kernel_by(unsigned way, enum pages_prog prog)
{
    struct churn c = ways[way];
    struct pages_rig *r;
    struct churned d;
    uint64_t odd = 0;

    c.prog = prog;
    r = new_rig(&c, 2);
    d = churn_run(r, &c);
    for (unsigned i = 0; i < r->n; i++)
        odd += r->ctl->side[i].odd;
    print_message("     %lu rounds, %lu replicated, %lu collapsed, %lu migrated, %lu faults, "
                  "%lu fault exits, %lu vCPU moves, %lu checks; odd page faults: %lu\n",
                  d.loops, d.stats.replicated, d.stats.collapsed, d.stats.migrated,
                  d.stats.faults, d.exits, d.moves, d.checks, odd);
    assert_false(churn_error(r));
    assert_true(d.loops >= CHURN_ROUNDS && d.stats.faults + d.exits > 10);
    if (c.faults == RIG_THREAD) /* only while a mapping is being changed */
        assert_true(odd <= 2 + d.loops / 50);
    if (prog == PAGES_TABLES)
        tables_are_whole(r, c.nviews);
    rig_free(r);
}

#define KERNEL(name, prog)                   \
    static void name(void **state)           \
    {                                        \
        (void)state;                         \
        kernel_by(0, prog);                  \
    }                                        \
    static void name##_on_vcpu(void **state) \
    {                                        \
        (void)state;                         \
        kernel_by(1, prog);                  \
    }                                        \
    static void name##_moving(void **state)  \
    {                                        \
        (void)state;                         \
        kernel_by(2, prog);                  \
    }                                        \
    static void name##_sampled(void **state) \
    {                                        \
        (void)state;                         \
        kernel_by(3, prog);                  \
    }                                        \
    static void name##_alone(void **state)   \
    {                                        \
        (void)state;                         \
        kernel_by(4, prog);                  \
    }

KERNEL(page_tables, PAGES_TABLES)
KERNEL(frames, PAGES_FRAMES)
KERNEL(descriptors, PAGES_DESCRIPTORS)

/* Whether ring 0 runs here at all: each program alone, where nothing happens to pages. */
static bool ring0_runs(void)
{
    for (unsigned prog = PAGES_TABLES; prog <= PAGES_DESCRIPTORS; prog++) {
        struct churn c = ways[4];
        struct pages_rig *r;
        uint64_t until = machine_now_ns() + 20000000000ull;

        c.prog = prog;
        r = new_rig(&c, 1);
        rig_start(r);
        while (atomic_load(&r->m.end) == MACHINE_RUNS && machine_now_ns() < until &&
               churn_loops(r) < 50 && !churn_error(r))
            usleep(1000);
        if (churn_loops(r) < 50) {
            fprintf(stderr,
                    "this KVM does not run ring 0 as a CPU does: program %u, round %lu%s%s\n",
                    prog, churn_loops(r), atomic_load(&r->m.end) == MACHINE_RUNS ? "" : ", ",
                    r->m.end_reason);
            return false;
        }
        rig_stop(r);
        rig_free(r);
    }
    return true;
}

#define FIVE(name)                                                                             \
    cmocka_unit_test(name), cmocka_unit_test(name##_on_vcpu), cmocka_unit_test(name##_moving), \
        cmocka_unit_test(name##_sampled), cmocka_unit_test(name##_alone)

int main(void)
{
    static const struct CMUnitTest tests[] = {FIVE(page_tables), FIVE(frames),
                                              FIVE(descriptors)};

    if (access("/dev/kvm", R_OK | W_OK)) {
        fprintf(stderr, "no usable /dev/kvm here\n");
        return 77;
    }
    if (!getenv("PAGES_RING0") && !ring0_runs())
        return 77;
    cmocka_set_test_filter(getenv("GUEST_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
