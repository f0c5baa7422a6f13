/* SPDX-License-Identifier: MIT */
/*
 * Litmus tests of memory order on pages that are replicated, collapsed, evicted and moved all
 * the time, by two vCPUs in two views, natively: no outcome that x86 forbids, no write lost. 
 * And the same with a collapse that forgets one view: that must be found.
 *
 * LITMUS_ROUNDS   outcomes to look at (2 million; a busy host: what it manages in 20 s);
 * LITMUS_ACTIONS  actions on pages meanwhile, at least (0): where CPUs are emulated in turn,
 *                 outcomes come faster than actions;
 * GUEST_TEST      runs one test (a pattern).
 * Threads: the rig's, and this one, which works on the pages.
 */
#include <setjmp.h>
#include <stddef.h>

#include "tests/guest/pages_rig.h"
#include "vmm/pager/settle.h"

#include <cmocka.h> /* last: its fail() is a macro */

static const char *const wrong_names[WRONG_KINDS] = {
    [WRONG_MP] = "message passing", [WRONG_SB] = "store buffering",
    [WRONG_LB] = "load buffering",  [WRONG_CORR] = "coherence",
    [WRONG_OWN] = "own words",      [WRONG_ATOMIC] = "atomics",
    [WRONG_WIDE] = "cmpxchg16b",    [WRONG_SPLIT] = "words across pages",
};

/* Pseudo-random numbers (xorshift). */
static uint64_t dice(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* One random action on some pages of the arena; `revoke`: they are sampled, too. */
static void disturb(struct pages_rig *r, uint64_t *x, unsigned nnodes, bool revoke)
{
    struct pager_touch touch[64];
    uint64_t v = dice(x), at = v >> 8 & (PAGES_NARENA - 1), n = 1 + (v >> 16) % 16;
    uint64_t gfn = RIG_ARENA_GFN + at;
    unsigned node = (unsigned)(v >> 24) % nnodes;

    if (n > PAGES_NARENA - at)
        n = PAGES_NARENA - at;
    if (revoke && v >> 40 & 1) {
        pager_revoke(r->p, gfn, n);
        (void)pager_touches(r->p, touch, 64);
        return;
    }
    switch (v % 16) {
    case 0 ... 9:
        pager_replicate(r->p, gfn, n, node);
        break;
    case 10:
        pager_collapse(r->p, gfn, n);
        break;
    case 11:
    case 12:
        pager_evict(r->p, gfn, n, node);
        break;
    case 13:
        pager_migrate(r->p, gfn, n, node);
        break;
    case 14:
        if (v >> 32 & 7)
            break;
        pager_collapse(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK);
        pager_migrate(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK, node);
        pager_form(r->p, gfn);
        pager_replicate(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK, !node);
        break;
    default: /* code, too: it is only read */
        pager_replicate(r->p, PAGES_CODE >> 12, 4, node);
    }
}

/* All outcomes that must not be, of both sides. */
static uint64_t wrong(const struct pages_rig *r)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < WRONG_KINDS; k++)
            all += rig_look(&r->ctl->side[i].wrong[k]);
    return all;
}

/* What was looked at and done. */
static void tell(struct pages_rig *r, uint64_t checks, uint64_t moves, uint64_t actions)
{
    struct pager_stats s;

    pager_stats(r->p, &s);
    print_message(
        "     %lu outcomes, %lu with store buffer; %lu actions; pages: %lu replicated, %lu "
        "collapsed, "
        "%lu evicted, %lu migrated; %lu faults (%lu stray); %lu checks, %lu vCPU moves\n",
        r->ctl->side[0].rounds, r->ctl->side[0].relaxed, actions, s.replicated, s.collapsed,
        s.evicted, s.migrated, s.faults, s.stray, checks, moves);
    for (unsigned k = 0; k < WRONG_KINDS; k++)
        if (r->ctl->side[0].wrong[k] + r->ctl->side[1].wrong[k])
            print_message("     forbidden: %s, %lu times\n", wrong_names[k],
                          r->ctl->side[0].wrong[k] + r->ctl->side[1].wrong[k]);
}

/* A number from the environment. */
static uint64_t wanted(const char *name, uint64_t otherwise)
{
    const char *s = getenv(name);

    return s && atoll(s) > 0 ? (uint64_t)atoll(s) : otherwise;
}

/* What else goes on while the program runs. */
struct torture {
    unsigned nnodes; /* of the pager */
    bool check;      /* the checker looks */
    bool move;       /* vCPUs change views */
    bool revoke;     /* pages are sampled */
};

/* Works on the pages of a running litmus program until it has looked at so many outcomes. */
static void torture(struct pages_rig *r, const struct torture *t)
{
    uint64_t x = 88172645463325252ull, began = machine_now_ns(), checked = began, checks = 0;
    uint64_t want = wanted("LITMUS_ROUNDS", 2000000), acts = wanted("LITMUS_ACTIONS", 0);
    uint64_t moves = 0, done = 0;
    bool more = getenv("LITMUS_ROUNDS") != NULL;

    rig_start(r);
    for (;;) {
        uint64_t rounds = rig_look(&r->ctl->side[0].rounds), now;

        rig_must_run(r);
        disturb(r, &x, t->nnodes, t->revoke);
        done++;
        usleep(200); /* two CPUs: the guest is to have them, too */
        now = machine_now_ns();
        if (t->check && now - checked > 200000000ull) {
            rig_check(r);
            checked = machine_now_ns();
            checks++;
        }
        if (t->move && dice(&x) % 64 == 0) {
            unsigned v = (unsigned)dice(&x) % 2, to = (unsigned)dice(&x) % r->m.spec.nviews;

            moves += machine_move_vcpu(&r->m, v, to) == 0;
        }
        if (wrong(r) || (rounds >= want && done >= acts) ||
            (!more && now - began > 20000000000ull))
            break;
    }
    rig_stop(r);
    if (t->check)
        rig_check(r);
    tell(r, checks, moves, done);
}

/* Two views, two nodes, masters move by copy. */
static void order_holds(void **state)
{
    const struct rig_spec spec = {.nvcpus = 2,
                                  .nviews = 2,
                                  .nnodes = 2,
                                  .mover = PAGER_MOVE_COPY,
                                  .forget_view = -1,
                                  .faults = RIG_THREAD};
    struct pages_rig *r = rig_new(&spec, PAGES_LITMUS);

    (void)state;
    torture(r, &(struct torture){.nnodes = 2, .check = true});
    assert_int_equal(wrong(r), 0);
    assert_true(r->ctl->side[0].rounds > 10000);
    rig_free(r);
}

/* Four views on two nodes, vCPUs change views; masters move by the kernel where it can. */
static void order_holds_while_vcpus_move(void **state)
{
    const struct rig_spec spec = {
        .nvcpus = 2, .nviews = 4, .nnodes = 2, .mover = PAGER_MOVE_AUTO, .forget_view = -1};
    struct pages_rig *r = rig_new(&spec, PAGES_LITMUS);

    (void)state;
    torture(r, &(struct torture){.nnodes = 2, .check = true, .move = true});
    assert_int_equal(wrong(r), 0);
    rig_free(r);
}

/* Faults are seen to by the vCPUs themselves. */
static void order_holds_on_vcpus(void **state)
{
    const struct rig_spec spec = {.nvcpus = 2,
                                  .nviews = 2,
                                  .nnodes = 2,
                                  .mover = PAGER_MOVE_COPY,
                                  .forget_view = -1,
                                  .faults = RIG_VCPU};
    struct pages_rig *r = rig_new(&spec, PAGES_LITMUS);

    (void)state;
    torture(r, &(struct torture){.nnodes = 2, .check = true});
    assert_int_equal(wrong(r), 0);
    rig_free(r);
}

/* Pages are taken out of page tables as well, to hear of their next use. */
static void order_holds_while_sampled(void **state)
{
    const struct rig_spec spec = {.nvcpus = 2,
                                  .nviews = 2,
                                  .nnodes = 2,
                                  .mover = PAGER_MOVE_COPY,
                                  .forget_view = -1,
                                  .samples = true};
    struct pages_rig *r = rig_new(&spec, PAGES_LITMUS);

    (void)state;
    torture(r, &(struct torture){.nnodes = 2, .check = true, .revoke = true});
    assert_int_equal(wrong(r), 0);
    rig_free(r);
}

/* A guest's memory that follows it, for as long as there is a guest. */
struct follow {
    struct pages_rig *r;
    atomic_bool stop;
    uint64_t rounds;
    int64_t pages; /* moved, or -errno */
};

static void *follow(void *arg)
{
    struct follow *f = arg;
    const struct guest_mem *m = &f->r->m.mem;
    struct settle s;

    /* One node will do: pages that move to where they are move all the same. */
    settle_init(&s, 0, 0, &f->stop);
    for (; !atomic_load(&f->stop); f->rounds++)
        for (uint64_t gpa = 0; gpa < m->low && f->pages >= 0; gpa += 2 << 20) {
            int64_t n = settle_block(&f->r->m.mem, f->r->p, &s, gpa);

            f->pages = n < 0 ? n : f->pages + n;
        }
    return NULL;
}

/* The guest's memory goes to another node meanwhile. */
static void order_holds_while_memory_follows(void **state)
{
    const struct rig_spec spec = {
        .nvcpus = 2, .nviews = 2, .nnodes = 2, .mover = PAGER_MOVE_AUTO, .forget_view = -1};
    struct pages_rig *r = rig_new(&spec, PAGES_LITMUS);
    struct follow f = {.r = r};
    struct pager_stats stats;
    pthread_t thread;

    (void)state;
    pager_stats(r->p, &stats);
    if (!stats.kernel_moves) {
        rig_free(r);
        print_message("     no CAP_SYS_NICE\n");
        skip();
    }
    assert_int_equal(pthread_create(&thread, NULL, follow, &f), 0);
    torture(r, &(struct torture){.nnodes = 2, .check = true});
    atomic_store(&f.stop, true);
    pthread_join(thread, NULL);
    pager_stats(r->p, &stats);
    print_message("     %ld pages in %lu rounds\n", (long)f.pages, (unsigned long)f.rounds);
    assert_true(f.pages > 0);
    assert_int_equal(stats.settled, f.pages);
    assert_int_equal(
        settle_block(&r->m.mem, r->p, &(struct settle){.stop = &f.stop, .pages = 16}, 0),
        0); /* no more, once it is to stop */
    assert_int_equal(wrong(r), 0);
    rig_free(r);
}

/* A collapse that leaves the replica in one view is found out. */
static void broken_collapse_is_found(void **state)
{
    const struct rig_spec spec = {
        .nvcpus = 2, .nviews = 2, .nnodes = 2, .mover = PAGER_MOVE_COPY, .forget_view = 1};
    struct pages_rig *r = rig_new(&spec, PAGES_LITMUS);

    (void)state;
    torture(r, &(struct torture){.nnodes = 2});
    assert_true(wrong(r) > 0);
    rig_free(r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_holds),
        cmocka_unit_test(order_holds_while_vcpus_move),
        cmocka_unit_test(order_holds_on_vcpus),
        cmocka_unit_test(order_holds_while_sampled),
        cmocka_unit_test(order_holds_while_memory_follows),
        cmocka_unit_test(broken_collapse_is_found),
    };

    if (access("/dev/kvm", R_OK | W_OK)) {
        fprintf(stderr, "no usable /dev/kvm here\n");
        return 77;
    }
    cmocka_set_test_filter(getenv("GUEST_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
