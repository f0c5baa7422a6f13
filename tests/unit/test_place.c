/* SPDX-License-Identifier: MIT */
/*
 * Tests of numa/place.c: what is chosen on machines whose best answer is known, every error, and
 * properties on random machines of up to 64 nodes: P1 budgets hold, P2 sums are exact, P3 the
 * same input gives the same output, and a guest is refused only when the memory is not there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "numa/place.h"
#include "numa/topo.h"

#include <cmocka.h> /* last: its fail() is a macro */

#define MIB   (1ull << 20)
#define BLOCK (2 * MIB)

enum { MAX_GUESTS = 24, ROUNDS = 2000 };

/* Reads a description that must be right. */
static void machine(struct topo *t, const char *text)
{
    struct err err = {0};

    if (topo_read(t, text, &err))
        fail_msg("%s: %s", text, err.text);
}

/* Places guests that must fit. */
static void place_ok(const struct topo *t, const struct place_want *w, unsigned n,
                     struct place_got *g)
{
    struct err err = {0};

    if (place_guests(t, w, n, g, &err))
        fail_msg("%s", err.text);
}

/* Places one guest that must be refused with a status and all of some words in its message. */
static void refused(const char *text, const struct place_want *w, unsigned n, int status,
                    const char *a, const char *b, const char *c)
{
    struct place_got g[MAX_GUESTS];
    struct err err = {0};
    struct topo t;

    machine(&t, text);
    assert_true(place_guests(&t, w, n, g, &err) < 0);
    assert_int_equal(err.status, status);
    if (!strstr(err.text, a) || !strstr(err.text, b) || !strstr(err.text, c))
        fail_msg("\"%s\" lacks one of \"%s\", \"%s\", \"%s\"", err.text, a, b, c);
    topo_free(&t);
}

/* The demo: four guests of 2 vCPUs on 4 nodes of 2, one of them named on two nodes. */
static void test_spread(void **state)
{
    struct place_want w[4] = {{.name = "a", .vcpus = 2, .memory = 256 * MIB},
                              {.name = "b", .vcpus = 2, .memory = 256 * MIB},
                              {.name = "c", .vcpus = 2, .memory = 256 * MIB},
                              {.name = "d", .vcpus = 2, .memory = 256 * MIB}};
    struct place_got g[4];
    struct topo t;

    (void)state;
    machine(&t, "nodes=4,cpus=2,mem=1G");
    place_ok(&t, w, 4, g);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(g[i].nnodes, 1);
        assert_int_equal(g[i].nodes[0], i);
        assert_int_equal(g[i].views, 1);
        assert_int_equal(g[i].view_node[0], i);
        assert_int_equal(g[i].node_bytes[0], 256 * MIB);
    }
    w[3].nnodes = 2;
    w[3].nodes[0] = 0;
    w[3].nodes[1] = 1;
    place_ok(&t, w, 4, g);
    assert_int_equal(g[0].nodes[0], 2); /* the named guest has 0 and 1 */
    assert_int_equal(g[1].nodes[0], 3);
    assert_int_equal(g[3].views, 2);
    assert_int_equal(g[3].node_bytes[1], 128 * MIB);
    assert_int_equal(place_node_of_vcpu(&g[3], 2, 0), 0);
    assert_int_equal(place_node_of_vcpu(&g[3], 2, 1), 1);
    topo_free(&t);
}

/* Fewest nodes, then nearest, then emptiest. */
static void test_choice(void **state)
{
    struct place_want w = {.name = "big", .vcpus = 4, .memory = 1536 * MIB};
    struct place_got g;
    struct topo t;

    (void)state;
    machine(&t, "nodes=4,cpus=4,mem=1G,dist=10 30 20 40/30 10 40 15/20 40 10 30/40 15 30 10");
    place_ok(&t, &w, 1, &g); /* two nodes are needed; 1 and 3 are nearest */
    assert_int_equal(g.nnodes, 2);
    assert_int_equal(g.nodes[0], 1);
    assert_int_equal(g.nodes[1], 3);
    topo_free(&t);
    machine(&t, "nodes=3,cpus=4,mem=4G,free=2G/3G/3G");
    place_ok(&t, &w, 1, &g); /* one is enough; 1 has more free than 0, as much as 2 */
    assert_int_equal(g.nnodes, 1);
    assert_int_equal(g.nodes[0], 1);
    topo_free(&t);
    machine(&t, "nodes=4,cpus=2,mem=4G");
    place_ok(&t, &w, 1, &g); /* four vCPUs want four CPUs: two nodes */
    assert_int_equal(g.nnodes, 2);
    assert_int_equal(place_vcpus_on(&g, 4, g.nodes[0]), 2);
    topo_free(&t);
    machine(&t, "nodes=2,cpus=1,mem=4G");
    place_ok(&t, &w, 1, &g); /* more vCPUs than CPUs: all CPUs */
    assert_int_equal(g.nnodes, 2);
    topo_free(&t);
}

/* Memory-only nodes hold memory when nothing else does, never vCPUs or views. */
static void test_memory_only(void **state)
{
    struct place_want w = {.name = "m", .vcpus = 2, .memory = 512 * MIB};
    struct place_got g;
    struct topo t;

    (void)state;
    machine(&t, "nodes=3,cpus=2/2/0,mem=1G/1G/8G");
    place_ok(&t, &w, 1, &g);
    assert_int_equal(g.nodes[0], 0);
    w.memory = 2048 * MIB; /* both nodes with CPUs */
    place_ok(&t, &w, 1, &g);
    assert_int_equal(g.nnodes, 2);
    assert_int_equal(g.nodes[1], 1);
    w.memory = 4096 * MIB; /* and the other one: 1 GiB near the CPUs, the rest there */
    place_ok(&t, &w, 1, &g);
    assert_int_equal(g.nnodes, 2);
    assert_int_equal(g.nodes[1], 2);
    assert_int_equal(g.node_bytes[0], 1024 * MIB);
    assert_int_equal(g.node_bytes[1], 3072 * MIB);
    assert_int_equal(g.ncpu_nodes, 1);
    assert_int_equal(g.views, 1);
    assert_int_equal(g.view_node[0], 0);
    w.nnodes = 2;
    w.nodes[0] = 2;
    w.nodes[1] = 1;
    w.memory = 1024 * MIB;
    place_ok(&t, &w, 1, &g);
    assert_int_equal(g.nodes[0], 2); /* the order asked for stays */
    assert_int_equal(g.node_bytes[0], 512 * MIB);
    assert_int_equal(g.view_node[0], 1);
    assert_int_equal(place_vcpus_on(&g, 2, 2), 0);
    topo_free(&t);
}

/* More and fewer views than nodes. */
static void test_views(void **state)
{
    struct place_want w = {
        .name = "v", .vcpus = 8, .memory = 64 * MIB, .nnodes = 2, .nodes = {0, 1}, .views = 4};
    struct place_got g;
    struct topo t;

    (void)state;
    machine(&t, "nodes=2,cpus=4,mem=1G");
    place_ok(&t, &w, 1, &g);
    assert_int_equal(g.views, 4);
    assert_int_equal(g.view_node[1], 0);
    assert_int_equal(g.view_node[2], 1);
    assert_int_equal(place_view_of_vcpu(&g, 8, 7), 3);
    assert_int_equal(place_vcpus_on(&g, 8, 1), 4);
    w.views = 1; /* one view over two nodes: vCPUs are still split */
    place_ok(&t, &w, 1, &g);
    assert_int_equal(g.views, 1);
    assert_int_equal(place_view_of_vcpu(&g, 8, 7), 0);
    assert_int_equal(place_node_of_vcpu(&g, 8, 3), 0);
    assert_int_equal(place_node_of_vcpu(&g, 8, 4), 1);
    topo_free(&t);
}

/* Shares are even where they can be, and exact where they cannot. */
static void test_split(void **state)
{
    struct place_want w = {
        .name = "s", .vcpus = 3, .memory = 10 * MIB, .nnodes = 3, .nodes = {0, 1, 2}};
    struct place_got g;
    struct topo t;

    (void)state;
    machine(&t, "nodes=3,cpus=1,mem=1G,free=4M/4M/18M");
    place_ok(&t, &w, 1, &g); /* 5 blocks: 2, 2, 1 */
    assert_int_equal(g.node_bytes[0], 4 * MIB);
    assert_int_equal(g.node_bytes[1], 4 * MIB);
    assert_int_equal(g.node_bytes[2], 2 * MIB);
    w.memory = 16 * MIB; /* 8 blocks, of which the first two nodes hold 2 each */
    place_ok(&t, &w, 1, &g);
    assert_int_equal(g.node_bytes[0], 4 * MIB);
    assert_int_equal(g.node_bytes[2], 8 * MIB);
    w.memory = 26 * MIB; /* all there is */
    place_ok(&t, &w, 1, &g);
    assert_int_equal(g.node_bytes[2], 18 * MIB);
    w.nnodes = 0;
    place_ok(&t, &w, 1, &g);
    assert_int_equal(g.nnodes, 3);
    topo_free(&t);
    machine(&t, "nodes=2,cpus=1/1,mem=1G,free=0/1G"); /* a node may give CPUs only */
    w = (struct place_want){.name = "z", .vcpus = 2, .memory = 512 * MIB};
    place_ok(&t, &w, 1, &g);
    assert_int_equal(g.nnodes, 2);
    assert_int_equal(g.node_bytes[0], 0);
    topo_free(&t);
}

/* Memory that is not there. */
static void test_no_memory(void **state)
{
    struct place_want w[2] = {
        {.name = "one", .vcpus = 1, .memory = 768 * MIB, .nnodes = 1, .nodes = {1}},
        {.name = "two", .vcpus = 1, .memory = 512 * MIB, .nnodes = 1, .nodes = {1}}};

    (void)state;
    refused("nodes=2,cpus=1,mem=1G", w, 2, EXIT_MEMORY, "guest \"two\"",
            "512 MiB asked on node 1", "256 MiB of 1 GiB");
    w[1].nnodes = 0;
    w[1].memory = 4096 * MIB;
    refused("nodes=2,cpus=1,mem=1G", w, 2, EXIT_MEMORY, "guest \"two\"", "4 GiB asked, 1.2 GiB",
            "node 0: 1 GiB, node 1: 256 MiB");
    w[1].nnodes = 2;
    w[1].nodes[1] = 0;
    refused("nodes=2,cpus=1,mem=1G", w, 2, EXIT_MEMORY, "guest \"two\"", "its nodes",
            "node 1: 256 MiB, node 0: 1 GiB");
    w[0].memory = 1ull << 62;
    refused("nodes=2,cpus=1,mem=1G", w, 1, EXIT_MEMORY, "guest \"one\"", "node 1", "1 GiB");
}

/* Guests on hugetlb pages draw on the nodes' pools and leave ordinary memory alone. */
static void test_hugetlb(void **state)
{
    struct place_want w[3] = {
        {.name = "h", .vcpus = 1, .memory = 512 * MIB, .hugetlb = true},
        {.name = "o", .vcpus = 1, .memory = 512 * MIB, .nnodes = 1, .nodes = {1}},
        {.name = "p", .vcpus = 1, .memory = 4 * MIB, .hugetlb = true}};
    struct place_got g[3];
    struct topo t;

    (void)state;
    machine(&t, "nodes=2,cpus=2,mem=1G,huge=0/512M");
    assert_int_equal(t.node[1].mem_free, 512 * MIB);
    place_ok(&t, w, 2, g);
    assert_int_equal(g[0].nodes[0], 1);
    assert_int_equal(g[1].nodes[0], 1);
    topo_free(&t);
    refused("nodes=2,cpus=2,mem=1G,huge=0/512M", w, 3, EXIT_MEMORY, "guest \"p\"",
            "4 MiB asked, 0 B are free", "hugetlb pages");
}

/* Memory on one node: on the first named, or on nodes that each have room; counted there. */
static void test_one_node(void **state)
{
    struct place_want w[3] = {
        {.name = "a", .vcpus = 4, .memory = 768 * MIB, .nnodes = 2, .nodes = {2, 0}},
        {.name = "b", .vcpus = 4, .memory = 768 * MIB},
        {.name = "c", .vcpus = 8, .memory = 256 * MIB}};
    struct place_got g[3];
    struct topo t;

    (void)state;
    for (int i = 0; i < 3; i++)
        w[i].one_node = true;
    machine(&t, "nodes=4,cpus=2,mem=1G");
    place_ok(&t, w, 3, g);
    assert_int_equal(g[0].nnodes, 2);
    assert_int_equal(g[0].nodes[0], 2);
    assert_int_equal(g[0].node_bytes[0], 768 * MIB);
    assert_int_equal(g[0].node_bytes[1], 0);
    assert_int_equal(g[0].views, 2); /* vCPUs are spread as ever */
    assert_int_equal(g[1].node_bytes[0], 768 * MIB);
    assert_int_not_equal(g[1].nodes[0], 2);
    assert_int_equal(g[2].nnodes, 4);
    assert_int_equal(g[2].node_bytes[0], 256 * MIB);
    topo_free(&t);
    /* what two nodes have together is of no use */
    w[0].memory = 1536 * MIB;
    refused("nodes=4,cpus=2,mem=1G", w, 1, EXIT_MEMORY, "guest \"a\"", "on node 2", "1 GiB");
    w[1].memory = 1536 * MIB;
    refused("nodes=4,cpus=2,mem=1G", w + 1, 1, EXIT_MEMORY, "guest \"b\"", "on one node",
            "node 3: 1 GiB");
}

/* Wants that no machine could meet. */
static void test_bad_config(void **state)
{
    const struct place_want good = {.name = "x", .vcpus = 1, .memory = 64 * MIB};
    struct place_want w = good;

    (void)state;
    w.nnodes = 1;
    w.nodes[0] = 7;
    refused("nodes=4,cpus=1", &w, 1, EXIT_CONFIG, "guest \"x\"", "no node 7", "has 4: 0-3");
    w.nodes[0] = -1;
    refused("nodes=4,cpus=1", &w, 1, EXIT_CONFIG, "guest \"x\"", "no node -1", "0-3");
    w.nnodes = 2;
    w.nodes[0] = w.nodes[1] = 2;
    refused("nodes=4,cpus=1", &w, 1, EXIT_CONFIG, "guest \"x\"", "node 2", "twice");
    w.nodes[0] = 0;
    refused("nodes=4,cpus=0/1/0/1", &w, 1, EXIT_CONFIG, "guest \"x\"", "only memory",
            "add a node with CPUs");
    w = good;
    w.vcpus = 0;
    refused("nodes=1", &w, 1, EXIT_CONFIG, "guest \"x\"", "vcpus", "at least 1");
    w.vcpus = 5000;
    refused("nodes=1", &w, 1, EXIT_CONFIG, "guest \"x\"", "vcpus", "at most 4096");
    w = good;
    w.memory = 3 * MIB;
    refused("nodes=1", &w, 1, EXIT_CONFIG, "guest \"x\"", "memory", "2 MiB");
    w.memory = 0;
    refused("nodes=1", &w, 1, EXIT_CONFIG, "guest \"x\"", "memory", "2 MiB");
    w = good;
    w.views = 65;
    refused("nodes=1", &w, 1, EXIT_CONFIG, "guest \"x\"", "views", "at most 64");
    w = good;
    w.nnodes = 65;
    refused("nodes=1", &w, 1, EXIT_CONFIG, "guest \"x\"", "nodes", "at most 64");
}

/* A random number below n, from a seed that is advanced. */
static unsigned pick(unsigned *seed, unsigned n)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % n;
}

/* A random machine of up to 64 nodes, some of them memory only, some full. */
static void random_machine(struct topo *t, unsigned *seed)
{
    struct topo_node *n;

    memset(t, 0, sizeof(*t));
    t->name = xstrdup("random");
    t->nnodes = 1 + pick(seed, pick(seed, 4) ? 8 : TOPO_MAX_NODES);
    for (unsigned i = 0; i < t->nnodes; i++) {
        n = &t->node[i];
        n->os = (int)(i * 2); /* with holes */
        n->mem_total = 1024 * MIB;
        n->mem_free = pick(seed, 8) ? pick(seed, 1025) * MIB : 0;
        n->ncpus = i == 0 || pick(seed, 5) ? 1 + pick(seed, 16) : 0;
        n->cpus = xcalloc(n->ncpus, sizeof(int));
        for (unsigned c = 0; c < n->ncpus; c++)
            n->cpus[c] = (int)t->ncpus++;
        for (unsigned j = 0; j < i; j++)
            t->dist[i][j] = t->dist[j][i] = (uint8_t)(11 + pick(seed, 60));
        t->dist[i][i] = 10;
    }
}

/* Random wants; some name nodes that exist. */
static unsigned random_wants(const struct topo *t, struct place_want *w, unsigned *seed)
{
    unsigned n = 1 + pick(seed, MAX_GUESTS);

    for (unsigned i = 0; i < n; i++) {
        w[i] = (struct place_want){.name = "g",
                                   .vcpus = 1 + pick(seed, 40),
                                   .memory = (1 + pick(seed, pick(seed, 4) ? 64 : 900)) * BLOCK,
                                   .views = pick(seed, 3) ? 0 : 1 + pick(seed, 8)};
        if (pick(seed, 3))
            continue;
        w[i].nodes[w[i].nnodes++] = 0;
        for (unsigned k = 1; k < t->nnodes && w[i].nnodes < 4; k++)
            if (!pick(seed, 3))
                w[i].nodes[w[i].nnodes++] = (int)(k * 2);
    }
    return n;
}

/* P1 and P2 over all guests, and that views and vCPUs sit where there are CPUs. */
static void check_got(const struct topo *t, const struct place_want *w, unsigned n,
                      const struct place_got *g)
{
    uint64_t taken[TOPO_MAX_NODES] = {0}, sum;
    unsigned vcpus, i, k;

    for (i = 0; i < n; i++) {
        sum = 0;
        vcpus = 0;
        assert_in_range(g[i].nnodes, 1, t->nnodes);
        for (k = 0; k < g[i].nnodes; k++) {
            assert_true(topo_index(t, g[i].nodes[k]) >= 0);
            assert_int_equal(g[i].node_bytes[k] % BLOCK, 0);
            taken[topo_index(t, g[i].nodes[k])] += g[i].node_bytes[k];
            sum += g[i].node_bytes[k];
            vcpus += place_vcpus_on(&g[i], w[i].vcpus, g[i].nodes[k]);
            if (w[i].nnodes)
                assert_int_equal(g[i].nodes[k], w[i].nodes[k]);
        }
        assert_int_equal(sum, w[i].memory);
        assert_int_equal(vcpus, w[i].vcpus);
        assert_int_equal(g[i].views, w[i].views ? w[i].views : g[i].ncpu_nodes);
        for (k = 0; k < g[i].views; k++)
            assert_true(t->node[topo_index(t, g[i].view_node[k])].ncpus > 0);
        for (k = 0; k < w[i].vcpus; k++)
            assert_true(place_view_of_vcpu(&g[i], w[i].vcpus, k) < g[i].views);
    }
    for (i = 0; i < t->nnodes; i++)
        assert_true(taken[i] <= t->node[i].mem_free);
}

/* Properties on random machines. */
static void test_properties(void **state)
{
    struct place_want w[MAX_GUESTS];
    struct place_got g[MAX_GUESTS], again[MAX_GUESTS];
    unsigned seed = 42, placed = 0, n;
    struct err err;
    struct topo t;
    int rc;

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        memset(&err, 0, sizeof(err));
        memset(g, 0, sizeof(g));
        memset(again, 0, sizeof(again));
        random_machine(&t, &seed);
        n = random_wants(&t, w, &seed);
        rc = place_guests(&t, w, n, g, &err);
        assert_int_equal(place_guests(&t, w, n, again, NULL), rc);
        assert_memory_equal(g, again, sizeof(g)); /* P3 */
        if (!rc) {
            placed++;
            check_got(&t, w, n, g);
        } else {
            assert_int_equal(err.status, EXIT_MEMORY);
        }
        topo_free(&t);
    }
    assert_in_range(placed, ROUNDS / 10, ROUNDS - 1);
}

/* A lone guest without nodes is refused only when the whole machine lacks the blocks. */
static void test_no_false_refusal(void **state)
{
    struct place_want w = {.name = "g", .vcpus = 1};
    struct place_got g;
    unsigned seed = 7;
    uint64_t room;
    struct topo t;

    (void)state;
    for (unsigned round = 0; round < 500; round++) {
        random_machine(&t, &seed);
        room = 0;
        for (unsigned i = 0; i < t.nnodes; i++)
            room += t.node[i].mem_free / BLOCK;
        w.vcpus = 1 + pick(&seed, 200);
        w.memory = room * BLOCK;
        if (room) {
            place_ok(&t, &w, 1, &g);
            check_got(&t, &w, 1, &g);
        }
        w.memory += BLOCK;
        assert_true(place_guests(&t, &w, 1, &g, NULL) < 0);
        topo_free(&t);
    }
}

/* A guest goes from a node to another: all that was on the first is on the second, and no more. */
static void test_rehome(void **state)
{
    struct place_got g = {.nnodes = 2,
                          .nodes = {1, 2, 1},
                          .views = 3,
                          .view_node = {1, 2, 1, 1},
                          .ncpu_nodes = 1,
                          .cpu_nodes = {1, 1}};

    (void)state;
    place_rehome(&g, 1, 5);
    assert_int_equal(g.nodes[0], 5);
    assert_int_equal(g.nodes[1], 2);
    assert_int_equal(g.nodes[2], 1); /* not one of its nodes */
    assert_int_equal(g.view_node[0], 5);
    assert_int_equal(g.view_node[1], 2);
    assert_int_equal(g.view_node[2], 5);
    assert_int_equal(g.view_node[3], 1);
    assert_int_equal(g.cpu_nodes[0], 5);
    assert_int_equal(g.cpu_nodes[1], 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spread),     cmocka_unit_test(test_rehome),
        cmocka_unit_test(test_choice),     cmocka_unit_test(test_memory_only),
        cmocka_unit_test(test_views),      cmocka_unit_test(test_split),
        cmocka_unit_test(test_no_memory),  cmocka_unit_test(test_hugetlb),
        cmocka_unit_test(test_one_node),   cmocka_unit_test(test_bad_config),
        cmocka_unit_test(test_properties), cmocka_unit_test(test_no_false_refusal),
    };

    return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
