/* SPDX-License-Identifier: MIT */
/*
 * A guest of a few pages under a policy, for the tests of numa/policy*.c: its pages are used, an
 * interval ends, what the policy says is done.  Threads: one.
 */
#ifndef DISCO_TESTS_UNIT_POLICY_GUEST_H
#define DISCO_TESTS_UNIT_POLICY_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa/policy.h"

#include <cmocka.h> /* last: its fail() is a macro */

enum { NODES = 4, PAGES = 1024, MOST = 4096 };

#define GIB (UINT64_C(1) << 30)

/* A guest of PAGES pages. */
struct guest {
    struct policy_page page[PAGES];
    struct counters counters;
    struct policy_machine m;
    struct policy p;
    struct policy_input in;
    struct action act[MOST];
    enum policy_why why[PAGES]; /* last told, test_why() */
    unsigned n;                 /* of act, last interval */
    unsigned rotor;
};

static inline bool look(void *arg, uint64_t page, struct policy_page *out)
{
    const struct guest *g = arg;

    if (page >= PAGES)
        return false;
    *out = g->page[page];
    return true;
}

static inline bool next_replica(void *arg, unsigned node, uint64_t *page)
{
    struct guest *g = arg;

    for (unsigned i = 0; i < PAGES; i++) {
        g->rotor = (g->rotor + 1) % PAGES;
        if (g->page[g->rotor].replicas >> node & 1) {
            *page = g->rotor;
            return true;
        }
    }
    return false;
}

static const struct policy_pages pages = {look, next_replica, NULL};

/* A guest under a policy, all pages on node 0, much free memory. */
static inline struct guest *start(const char *policy, const struct policy_tune *tune)
{
    struct guest *g = calloc(1, sizeof(*g));

    g->m.nnodes = NODES;
    for (unsigned a = 0; a < NODES; a++)
        for (unsigned b = 0; b < NODES; b++)
            g->m.ns[a][b] = a == b ? 100 : 300;
    assert_int_equal(counters_init(&g->counters, 4096), 0);
    assert_int_equal(policy_init(&g->p, policy_by_name(policy), &g->m, tune, 4096), 0);
    g->in = (struct policy_input){.interval_ns = 100000000,
                                  .cpus = 64,
                                  .counters = &g->counters,
                                  .pages = &pages,
                                  .arg = g};
    for (unsigned i = 0; i < NODES; i++)
        g->in.free[i] = g->in.total[i] = 4 * GIB;
    return g;
}

static inline void end(struct guest *g)
{
    policy_exit(&g->p);
    counters_exit(&g->counters);
    free(g);
}

/* One node uses a page. */
static inline void use(struct guest *g, uint64_t page, unsigned node, uint32_t r, uint32_t w)
{
    counters_add(&g->counters, page, node, (struct node_use){r, w, (uint8_t)node});
}

/* An interval ends; actions are done. */
static inline unsigned decide(struct guest *g)
{
    g->n = policy_decide(&g->p, &g->in, g->act, MOST);
    for (unsigned i = 0; i < g->n; i++) {
        struct policy_page *p = &g->page[g->act[i].page];
        unsigned node = g->act[i].node;

        assert_true(g->act[i].page < PAGES && node < NODES);
        switch (g->act[i].act) {
        case ACT_MIGRATE:
            assert_true(!p->replicas && p->home != node);
            p->home = (uint8_t)node;
            break;
        case ACT_REPLICATE:
            assert_true(p->home != node && !(p->replicas >> node & 1));
            p->replicas |= UINT64_C(1) << node;
            break;
        case ACT_COLLAPSE:
            p->replicas = 0;
            p->home = (uint8_t)node;
            break;
        case ACT_EVICT:
            assert_true(p->replicas >> node & 1);
            p->replicas &= ~(UINT64_C(1) << node);
            break;
        default:
            fail_msg("no action is told");
        }
    }
    g->in.now++;
    return g->n;
}

#endif
