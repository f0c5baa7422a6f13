/* SPDX-License-Identifier: MIT */
/*
 * Tests of numa/policy_outcome.c: where use ends before actions have repaid, less is done; where it
 * goes on, all is done as before; and what was given up is tried again.
 */
#include "tests/unit/policy_guest.h"

enum { AT_ONCE = 32, ROUNDS = 400, LIFE = 6 };

/* Node 1 uses pages for LIFE intervals each, others after them; how many moves in so many intervals.
 * On end: other pages are used then, else the same for ever. */
static unsigned moves(struct guest *g, unsigned rounds, bool on_end, uint32_t times)
{
    unsigned n = 0;

    for (unsigned i = 0; i < rounds; i++) {
        unsigned first = on_end ? i / LIFE * AT_ONCE % PAGES : 0;

        if (on_end && i % LIFE == 0) /* the guest frees what it had: it comes back elsewhere */
            for (unsigned k = 0; k < AT_ONCE; k++) {
                g->page[first + k].home = 0;
                counters_changed(&g->counters, first + k);
            }
        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        for (unsigned k = first; k < first + AT_ONCE; k++) {
            use(g, k, 1, times, times);
            g->in.traffic.at[g->page[k].home] += 2 * times;
        }
        n += decide(g);
    }
    return n;
}

/* A policy that believes in long use. */
static struct guest *begin(const char *policy)
{
    struct policy_tune t = policy_tune_default();

    t.horizon = 100;
    t.decay = 1;
    return start(policy, &t);
}

/* A move repays in dozens of intervals and use ends after LIFE: after some tries it is left alone. */
static void test_short(void **state)
{
    struct guest *g = begin("migrate");
    unsigned early, late;

    (void)state;
    early = moves(g, 10 * LIFE, true, 1);
    assert_true(early >= 4 * AT_ONCE);
    (void)moves(g, 100 * LIFE, true, 1);
    late = moves(g, 100 * LIFE, true, 1);
    assert_true(late < 10 * early / 3); /* it was 10 times as long */
    end(g);
}

/* What repays at once is done all the same, however little is believed. */
static void test_hot(void **state)
{
    struct guest *g = begin("migrate");

    (void)state;
    (void)moves(g, 100 * LIFE, true, 2000);
    assert_in_range(moves(g, 10 * LIFE, true, 2000), 9 * AT_ONCE, 11 * AT_ONCE);
    end(g);
}

/* Use that goes on is believed in, also of replicas; copies that a write took do not count. */
static void test_long(void **state)
{
    struct guest *g = begin("replicate");

    (void)state;
    assert_int_equal(moves(g, ROUNDS, false, 4), AT_ONCE);
    assert_int_equal(g->p.outcome.believed[GAIN_NEARER], OUTCOME_WHOLE);
    assert_int_equal(g->p.outcome.of[GAIN_NEARER], 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        g->in.traffic.at[0] = 1000000;
        for (unsigned k = 100; k < 100 + AT_ONCE; k++)
            for (unsigned n = 0; n < NODES; n++)
                use(g, k, n, 20, 0);
        if (i == 1) {
            assert_true(g->p.outcome.of[GAIN_COPY] > 0);
            for (unsigned k = 100; k < 100 + AT_ONCE; k++) {
                g->page[k].replicas = 0;
                policy_collapsed(&g->p, k, g->in.now);
            }
        }
        decide(g);
        assert_int_equal(g->p.outcome.believed[GAIN_COPY], OUTCOME_WHOLE);
    }
    assert_int_equal(g->p.outcome.of[GAIN_COPY], 0);
    end(g);
}

/* Use that comes in one interval of twenty, while others are at work, is believed in by its share. */
static void test_bursts(void **state)
{
    struct guest *g = begin("migrate");
    int32_t least = OUTCOME_WHOLE;

    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        g->in.traffic.at[3] = 100;
        for (unsigned k = 0; i % 20 == 0 && k < AT_ONCE; k++) {
            use(g, k, 1, 20, 20);
            g->in.traffic.at[g->page[k].home] += 40;
        }
        decide(g);
        if (g->p.outcome.believed[GAIN_NEARER] < least)
            least = g->p.outcome.believed[GAIN_NEARER];
    }
    assert_int_equal(g->p.numbers.act[ACT_MIGRATE], AT_ONCE);
    assert_true(least < OUTCOME_WHOLE / 2);
    assert_in_range(policy_believed(&g->p, GAIN_NEARER), 1, OUTCOME_WHOLE);
    assert_int_equal(g->p.outcome.of[GAIN_NEARER], 0);
    end(g);
}

/* What is counted for a page once in SPAN intervals is of all these: a move is not worth more for it. */
static void test_span(void **state)
{
    enum { SPAN = 10 };
    struct guest *g[2];

    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        struct policy_tune t = policy_tune_default();

        t.horizon = 10;
        t.decay = 1;
        g[k] = start("migrate", &t);
        for (unsigned i = 0; i < 2 * SPAN; i++) {
            bool look = k == 0 || i % SPAN == SPAN - 1;

            memset(&g[k]->in.traffic, 0, sizeof(g[k]->in.traffic));
            g[k]->in.traffic.at[3] = look;
            g[k]->in.traffic.passed = k ? SPAN : 1;
            g[k]->in.traffic.span = !look ? 0 : k == 0 ? 1 : SPAN;
            for (unsigned page = 0; look && page < PAGES; page++)
                use(g[k], page, 1, (k ? SPAN : 1) * (page % 16), 0);
            decide(g[k]);
        }
    }
    assert_in_range(g[0]->p.numbers.act[ACT_MIGRATE], PAGES / 16, PAGES * 15 / 16);
    assert_in_range(g[1]->p.numbers.act[ACT_MIGRATE], g[0]->p.numbers.act[ACT_MIGRATE] * 9 / 10,
                    g[0]->p.numbers.act[ACT_MIGRATE] * 11 / 10);
    end(g[0]);
    end(g[1]);
}

/* Pages that are looked at seldom, all at once or some in each interval: use that goes on is believed in. */
static void test_seldom(void **state)
{
    static const struct {
        unsigned round, horizon;
        bool parts; /* others are looked at meanwhile */
    } cases[] = {
        {32, 100, false}, {60, 100, true}, {40, 8, true}, {32, 8, false}, {4, 100, true}};

    (void)state;
    for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct policy_tune t = policy_tune_default();
        struct guest *g;

        t.horizon = cases[c].horizon;
        g = start("migrate", &t);
        for (unsigned i = 0; i < 300 + 20 * cases[c].round; i++) {
            bool look = i % cases[c].round == cases[c].round - 1;

            memset(&g->in.traffic, 0, sizeof(g->in.traffic));
            g->in.traffic.at[3] = look || cases[c].parts;
            g->in.traffic.span = look || cases[c].parts ? cases[c].round : 0;
            g->in.traffic.passed = cases[c].parts ? 1 : look ? cases[c].round : 0;
            for (unsigned k = 0; look && k < AT_ONCE; k++)
                use(g, k, 1, 500 * cases[c].round, 0);
            decide(g);
        }
        assert_int_equal(g->p.numbers.act[ACT_MIGRATE], AT_ONCE);
        assert_true(g->p.outcome.settled[GAIN_NEARER] > 0);
        assert_in_range(g->p.outcome.believed[GAIN_NEARER], 700, OUTCOME_WHOLE);
        end(g);
    }
}

/* Use that ends is not believed to go on: what lies beyond the bet's time does not count. */
static void test_ends(void **state)
{
    enum { HORIZON = 400, BET = 100, USED = 40 };
    struct policy_tune t = policy_tune_default();
    struct guest *g;

    (void)state;
    t.horizon = HORIZON;
    t.decay = 1;
    g = start("migrate", &t);
    for (unsigned i = 0; i < 8 * (BET + 10); i++) {
        unsigned phase = i / (BET + 10), first = phase * AT_ONCE;

        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        g->in.traffic.at[3] = 100;
        for (unsigned k = first; i % (BET + 10) < USED && k < first + AT_ONCE; k++) {
            use(g, k, 1, 500, 500);
            g->in.traffic.at[g->page[k].home] += 1000;
        }
        decide(g);
    }
    assert_in_range(g->p.outcome.believed[GAIN_NEARER], 100, 900);
    assert_true(g->p.outcome.lasting[GAIN_NEARER] < 100);
    assert_true((int32_t)policy_believed(&g->p, GAIN_NEARER) <
                g->p.outcome.believed[GAIN_NEARER] / 2);
    end(g);
}

/* A page that comes to one node is far from the one it left: that one's use is lost, not left out. */
static void test_left(void **state)
{
    struct policy_tune t = policy_tune_default();
    struct guest *g;
    int32_t least = OUTCOME_WHOLE;

    (void)state;
    t.horizon = 100;
    t.decay = 1;
    t.queue = 0;
    g = start("migrate", &t);
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned user = i < 10 ? 1 : 0; /* the others: where the pages were */

        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        g->in.traffic.at[3] = 100;
        for (unsigned k = 0; k < AT_ONCE; k++) {
            use(g, k, user, 20, 20);
            use(g, k, 1, 19 * (user == 0),
                18 * (user == 0)); /* both use them: not worth a move */
            g->in.traffic.at[g->page[k].home] += 40;
        }
        decide(g);
        if (g->p.outcome.believed[GAIN_NEARER] < least)
            least = g->p.outcome.believed[GAIN_NEARER];
    }
    assert_int_equal(g->p.numbers.act[ACT_MIGRATE], AT_ONCE);
    assert_true(least < OUTCOME_WHOLE / 2); /* by the new node's use alone, nearly all came */
    end(g);
}

/* What loses as often as it gains, or gains so little that it may be chance, is worth nearly nothing. */
static void test_nothing(void **state)
{
    struct guest *g = begin("migrate");
    struct policy_outcome *o = &g->p.outcome;

    (void)state;
    assert_int_equal(policy_believed(&g->p, GAIN_COPY), OUTCOME_WHOLE);
    o->believed[GAIN_COPY] = -OUTCOME_WHOLE;
    assert_int_equal(policy_believed(&g->p, GAIN_COPY), 1);
    o->believed[GAIN_COPY] = 10;
    assert_int_equal(policy_believed(&g->p, GAIN_COPY), 1);
    o->believed[GAIN_COPY] = 100;
    assert_int_equal(policy_believed(&g->p, GAIN_COPY), 100);
    g->p.tune.horizon = 200;                                  /* half of it beyond the bets */
    assert_int_equal(policy_believed(&g->p, GAIN_COPY), 100); /* before any was seen */
    o->lasting[GAIN_COPY] = 500;
    assert_int_equal(policy_believed(&g->p, GAIN_COPY), 300);
    end(g);
}

/* Pages that all use, on one memory: what comes of balance is told by all of their use, and says
 * nothing of moves to users. */
static void test_even(void **state)
{
    struct guest *g = begin("migrate");
    unsigned most = 0;

    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        for (unsigned k = 0; k < AT_ONCE; k++)
            for (unsigned n = 0; n < NODES; n++) {
                use(g, k, n, 300, 300);
                g->in.traffic.at[g->page[k].home] += 600;
            }
        decide(g);
        most = g->p.outcome.of[GAIN_EVEN] > most ? g->p.outcome.of[GAIN_EVEN] : most;
        assert_int_equal(g->p.outcome.of[GAIN_NEARER], 0);
    }
    assert_true(g->p.numbers.act[ACT_MIGRATE] >= AT_ONCE / 2);
    assert_true(most > 0);
    assert_int_equal(g->p.outcome.of[GAIN_EVEN], 0);
    assert_true(g->p.outcome.believed[GAIN_EVEN] > OUTCOME_WHOLE * 9 / 10);
    end(g);
}

/* Moves that could not be done say nothing of those that could. */
static void test_failed(void **state)
{
    struct guest *g = begin("migrate");

    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        memset(&g->in.traffic, 0, sizeof(g->in.traffic));
        g->in.traffic.at[0] = 1000;
        for (unsigned k = 0; k < AT_ONCE; k++)
            use(g, k, 1, 100, 100);
        decide(g);
        for (unsigned k = 0; k < g->n; k++) {
            g->page[g->act[k].page].home = 0;
            policy_failed(&g->p, g->act[k].page, g->in.now);
        }
        assert_int_equal(g->p.outcome.believed[GAIN_NEARER], OUTCOME_WHOLE);
    }
    assert_true(g->p.numbers.act[ACT_MIGRATE] > AT_ONCE);
    end(g);
}

/* Belief that was lost comes back when nothing is done. */
static void test_return(void **state)
{
    struct guest *g = begin("migrate");

    (void)state;
    g->p.outcome.believed[GAIN_NEARER] = 1;
    for (unsigned i = 0; i < 20000; i++) {
        g->in.traffic.at[0] = 1000;
        decide(g);
    }
    assert_int_equal(g->p.outcome.believed[GAIN_NEARER], OUTCOME_WHOLE);
    end(g);
}

/* A source that ages counts by itself: all is believed. */
static void test_aged(void **state)
{
    struct guest *g = begin("migrate");

    (void)state;
    g->in.keep_age = true;
    (void)moves(g, 100 * LIFE, true, 1);
    assert_int_equal(g->p.outcome.believed[GAIN_NEARER], OUTCOME_WHOLE);
    end(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short),   cmocka_unit_test(test_hot),
        cmocka_unit_test(test_long),    cmocka_unit_test(test_return),
        cmocka_unit_test(test_aged),    cmocka_unit_test(test_bursts),
        cmocka_unit_test(test_failed),  cmocka_unit_test(test_ends),
        cmocka_unit_test(test_left),    cmocka_unit_test(test_even),
        cmocka_unit_test(test_seldom),  cmocka_unit_test(test_span),
        cmocka_unit_test(test_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
