/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: layout, the edges of mem_at(), views of one store, seals, refusals, and that
 * nothing is left behind.
 * Threads: one.  Needs no /dev/kvm; sizes beyond the machine's RAM are skipped.
 */
#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <numaif.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/leaks.h"
#include "vmm/machine/mem.h"

#include <cmocka.h>

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* Makes memory, or skips the test where this machine is too small for it. */
static struct guest_mem make(uint64_t size, unsigned nviews)
{
    const struct mem_spec spec = {.size = size, .nviews = nviews};
    struct guest_mem m;
    struct err err = {0};

    if (mem_init(&m, &spec, &err) && err.status == EXIT_MEMORY && size >= GIB)
        skip();
    if (err.status)
        print_error("%s\n", err.text);
    assert_int_equal(err.status, 0);
    return m;
}

/* True when mem_at() gives just alias + gpa. */
static bool is_ram(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
    void *p = mem_at(m, gpa, len, MEM_WRITE);

    if (p)
        assert_ptr_equal(p, m->alias + gpa);
    return p != NULL;
}

static void test_low(void **state)
{
    struct guest_mem m = make(64 * MIB, 1);
    struct stat st;

    (void)state;
    assert_int_equal(m.low, 64 * MIB);
    assert_int_equal(m.high, 0);
    assert_int_equal(m.span, 64 * MIB);
    assert_int_equal(fstat(m.fd, &st), 0);
    assert_int_equal(st.st_size, 64 * MIB);
    assert_true(is_ram(&m, 0, 1));
    assert_true(is_ram(&m, 0, 64 * MIB));
    assert_false(is_ram(&m, 0, 64 * MIB + 1));
    assert_true(is_ram(&m, 64 * MIB - 1, 1));
    assert_false(is_ram(&m, 64 * MIB - 1, 2));
    assert_false(is_ram(&m, 64 * MIB, 1));
    assert_false(is_ram(&m, 0, 0));
    assert_false(is_ram(&m, 5, 0));
    assert_false(is_ram(&m, 1, UINT64_MAX));
    assert_false(is_ram(&m, UINT64_MAX, 1));
    assert_false(is_ram(&m, UINT64_MAX, UINT64_MAX));
    assert_false(is_ram(&m, UINT64_MAX - 10, 20));
    assert_false(is_ram(&m, MEM_HIGH, 1));
    mem_exit(&m);
}

static void test_high(void **state)
{
    struct guest_mem m = make(4 * GIB, 2);

    (void)state;
    assert_int_equal(m.low, 3 * GIB);
    assert_int_equal(m.high, GIB);
    assert_int_equal(m.span, 5 * GIB);
    assert_true(is_ram(&m, 3 * GIB - 1, 1));
    assert_false(is_ram(&m, 3 * GIB - 1, 2));       /* into the hole */
    assert_false(is_ram(&m, 3 * GIB - 1, GIB + 2)); /* across it */
    assert_false(is_ram(&m, 3 * GIB, 1));           /* in it */
    assert_false(is_ram(&m, MMIO_LAPIC, 4));        /* in it */
    assert_false(is_ram(&m, 4 * GIB - 1, 2));       /* out of it */
    assert_true(is_ram(&m, 4 * GIB, 1));
    assert_true(is_ram(&m, 4 * GIB, GIB));
    assert_true(is_ram(&m, 5 * GIB - 1, 1));
    assert_false(is_ram(&m, 5 * GIB - 1, 2));
    assert_false(is_ram(&m, 5 * GIB, 1));
    assert_false(is_ram(&m, 4 * GIB + 1, UINT64_MAX)); /* wraps to 4 GiB */
    assert_false(is_ram(&m, 0, 5 * GIB));
    *(uint8_t *)mem_at(&m, 5 * GIB - 1, 1, MEM_WRITE) = 0x5a;
    assert_int_equal(m.view[1][5 * GIB - 1], 0x5a);
    mem_exit(&m);
}

/* The last size without memory above 4 GiB, and the first with. */
static void test_border(void **state)
{
    struct guest_mem m = make(3 * GIB, 1);

    (void)state;
    assert_int_equal(m.high, 0);
    assert_int_equal(m.span, 3 * GIB);
    mem_exit(&m);
    m = make(3 * GIB + 2 * MIB, 1);
    assert_int_equal(m.high, 2 * MIB);
    assert_int_equal(m.span, 4 * GIB + 2 * MIB);
    assert_true(is_ram(&m, 4 * GIB, 2 * MIB));
    mem_exit(&m);
}

static void test_views(void **state)
{
    struct guest_mem m = make(16 * MIB, MEM_MAX_VIEWS);

    (void)state;
    assert_int_equal(m.nviews, MEM_MAX_VIEWS);
    assert_int_equal((uintptr_t)m.alias % (2 * MIB), 0);
    for (unsigned i = 0; i < m.nviews; i++) {
        assert_int_equal((uintptr_t)m.view[i] % (2 * MIB), 0);
        assert_ptr_not_equal(m.view[i], m.alias);
        m.view[i][i * 4096] = (uint8_t)(i + 1);
        assert_int_equal(m.alias[i * 4096], i + 1);
        assert_int_equal(m.view[(i + 7) % m.nviews][i * 4096], i + 1);
    }
    mem_exit(&m);
}

static void test_copies(void **state)
{
    struct guest_mem m = make(2 * MIB, 1);
    char buf[8] = "unharmd";

    (void)state;
    assert_true(mem_write(&m, 2 * MIB - 6, "hello", 6));
    assert_true(mem_read(&m, 2 * MIB - 6, buf, 6));
    assert_string_equal(buf, "hello");
    strcpy(buf, "unharmd");
    assert_false(mem_read(&m, 2 * MIB - 6, buf, 7));
    assert_string_equal(buf, "unharmd");
    assert_false(mem_write(&m, 2 * MIB - 6, "HELLO!!", 7));
    assert_memory_equal(m.alias + 2 * MIB - 6, "hello", 6);
    assert_false(mem_read(&m, 0, buf, 0));
    mem_exit(&m);
}

static void test_sealed(void **state)
{
    struct guest_mem m = make(4 * MIB, 1);

    (void)state;
    assert_int_equal(fcntl(m.fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    assert_true(fcntl(m.fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(ftruncate(m.fd, 2 * MIB), -1);
    assert_int_equal(ftruncate(m.fd, 8 * MIB), -1);
    mem_exit(&m);
}

/* Expects a refusal with EXIT_MEMORY and part in its message. */
static void refused(const struct mem_spec *spec, const char *part)
{
    unsigned fds = open_fds(), maps = open_maps();
    struct guest_mem m;
    struct err err = {0};

    assert_true(mem_init(&m, spec, &err) < 0);
    assert_int_equal(err.status, EXIT_MEMORY);
    if (!strstr(err.text, part))
        print_error("wanted \"%s\", got \"%s\"\n", part, err.text);
    assert_non_null(strstr(err.text, part));
    assert_int_equal(m.fd, -1);
    mem_exit(&m); /* harmless */
    assert_int_equal(open_fds(), fds);
    assert_int_equal(open_maps(), maps);
}

static void test_refused(void **state)
{
    (void)state;
    refused(&(struct mem_spec){.size = 0, .nviews = 1}, "multiple of 2 MiB");
    refused(&(struct mem_spec){.size = 3 * MIB, .nviews = 1}, "multiple of 2 MiB");
    refused(&(struct mem_spec){.size = 1ull << 60, .nviews = 1}, "this machine has");
    refused(&(struct mem_spec){.size = -2 * MIB, .nviews = 1}, "this machine has");
    refused(&(struct mem_spec){.size = 4 * MIB,
                               .nviews = 1,
                               .nnodes = 2,
                               .node_bytes = {MIB + 1, 3 * MIB - 1},
                               .nodes = {0, 1}},
            "page size");
}

/* A hugetlb pool too small for the guest is told at once. */
static void test_hugetlb(void **state)
{
    const struct mem_spec spec = {.size = 8 * MIB, .nviews = 2, .hugetlb = true};
    struct guest_mem m;
    struct err err = {0};

    (void)state;
    if (mem_init(&m, &spec, &err) == 0) {
        m.view[1][7 * MIB] = 3;
        assert_int_equal(m.alias[7 * MIB], 3);
        mem_exit(&m);
        return;
    }
    assert_int_equal(err.status, EXIT_MEMORY);
    assert_non_null(strstr(err.text, "2 MiB"));
}

/* Node of the page at p, after touching it. */
static int node_of(uint8_t *p)
{
    int node = -1;

    *p = 1;
    assert_int_equal(get_mempolicy(&node, NULL, 0, p, MPOL_F_NODE | MPOL_F_ADDR), 0);
    return node;
}

/* Each node's share is on that node, in all views, and a share across the hole is split right. */
static void test_nodes(void **state)
{
    struct mem_spec spec = {.size = 32 * MIB,
                            .nviews = 2,
                            .nnodes = 2,
                            .nodes = {1, 0},
                            .node_bytes = {20 * MIB, 12 * MIB}};
    struct guest_mem m;
    struct err err = {0};

    (void)state;
    if (numa_available() < 0 || numa_num_configured_nodes() < 2) {
        assert_int_equal(mem_init(&m, &spec, &err), 0); /* nodes are not looked at */
        mem_exit(&m);
        skip();
    }
    assert_int_equal(mem_init(&m, &spec, &err), 0);
    assert_int_equal(node_of(m.view[0]), 1);
    assert_int_equal(node_of(m.view[1] + 20 * MIB - 1), 1);
    assert_int_equal(node_of(m.view[0] + 20 * MIB), 0);
    assert_int_equal(node_of(m.view[1] + 32 * MIB - 1), 0);
    mem_exit(&m);
    spec.nodes[0] = 1000;
    refused(&spec, "no such node");
    spec.nodes[0] = 1;
    spec.size = 3 * GIB + 32 * MIB;
    spec.node_bytes[0] = 12 * MIB;
    spec.node_bytes[1] = spec.size - 12 * MIB;
    if (mem_init(&m, &spec, &err))
        return; /* node 0 is too small for this part */
    assert_int_equal(node_of(m.view[0] + 12 * MIB), 0);
    assert_int_equal(node_of(m.view[0] + MEM_HIGH), 0);
    assert_int_equal(node_of(m.alias), 1);
    mem_exit(&m);
}

/* Pages where their first user is, in turn over the nodes, and all on one. */
static void test_placement(void **state)
{
    struct mem_spec spec = {.size = 32 * MIB,
                            .nviews = 2,
                            .nnodes = 2,
                            .nodes = {1, 0},
                            .node_bytes = {16 * MIB, 16 * MIB},
                            .placement = MEM_FIRST_TOUCH};
    unsigned on[2] = {0, 0};
    struct guest_mem m;
    struct err err = {0};

    (void)state;
    if (numa_available() < 0 || numa_num_configured_nodes() < 2) {
        for (spec.placement = MEM_SPLIT; spec.placement <= MEM_INTERLEAVE; spec.placement++) {
            assert_int_equal(mem_init(&m, &spec, &err), 0); /* nodes are not looked at */
            mem_exit(&m);
        }
        skip();
    }
    assert_int_equal(mem_init(&m, &spec, &err), 0);
    for (int node = 0; node < 2; node++) {
        assert_int_equal(numa_run_on_node(node), 0);
        assert_int_equal(node_of(m.view[node] + node * 4 * MIB), node);
        assert_int_equal(node_of(m.alias + (8 + node * 4) * MIB), node);
    }
    assert_int_equal(node_of(m.view[1]), 0); /* it stays */
    mem_exit(&m);
    spec.placement = MEM_INTERLEAVE;
    assert_int_equal(mem_init(&m, &spec, &err), 0);
    for (uint64_t at = 0; at < 32 * MIB; at += 4096)
        on[node_of(m.alias + at)]++;
    assert_int_equal(on[0], on[1]);
    mem_exit(&m);
    spec.placement = MEM_SPLIT;
    spec.node_bytes[0] = 0;
    spec.node_bytes[1] = 32 * MIB;
    assert_int_equal(mem_init(&m, &spec, &err), 0);
    assert_int_equal(node_of(m.view[0]), 0);
    assert_int_equal(node_of(m.view[1] + 32 * MIB - 1), 0);
    mem_exit(&m);
    assert_int_equal(numa_run_on_node(-1), 0);
    spec.placement = MEM_FIRST_TOUCH;
    spec.nodes[1] = 1000;
    refused(&spec, "no such node");
}

static void test_leaks(void **state)
{
    struct guest_mem m = make(4 * MIB, 2); /* libraries open what they keep */
    unsigned fds, maps;

    (void)state;
    mem_exit(&m);
    fds = open_fds();
    maps = open_maps();
    for (unsigned i = 0; i < 100; i++) {
        m = make(16 * MIB, 1 + i % 8);
        m.view[0][i] = 1;
        mem_exit(&m);
        mem_exit(&m); /* twice is harmless */
    }
    assert_int_equal(open_fds(), fds);
    assert_int_equal(open_maps(), maps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_low),     cmocka_unit_test(test_high),
        cmocka_unit_test(test_border),  cmocka_unit_test(test_views),
        cmocka_unit_test(test_copies),  cmocka_unit_test(test_sealed),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_hugetlb),
        cmocka_unit_test(test_nodes),   cmocka_unit_test(test_placement),
        cmocka_unit_test(test_leaks),
    };

    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
