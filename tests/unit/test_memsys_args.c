/* SPDX-License-Identifier: MIT */
/*
 * Tests what the plugin of the memory-system model reads before it begins: its arguments, the
 * machines it knows, where the nodes' memories are mapped, the shared region, and instructions.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/memsys/args.h"
#include "bench/memsys/decode.h"
#include "bench/memsys/ranges.h"
#include "bench/memsys/region.h"
#include "bench/memsys/roi.h"
#include "numa/machine_model.h"

enum { ARGS_MAX = 20 };

#define GOOD \
    "machine=flash nodes=2 cpus=3 node_mb=512 dist=10:20:20:10 mem=/m/node region=/m/region"

/* Reads arguments that stand in one text; what is wrong, or NULL. */
static const char *parse(struct args *a, const char *text)
{
    static char copy[1000], what[300];
    char *argv[ARGS_MAX], *rest = NULL;
    int argc = 0;

    snprintf(copy, sizeof(copy), "%s", text);
    for (char *w = strtok_r(copy, " ", &rest); w && argc < ARGS_MAX;
         w = strtok_r(NULL, " ", &rest))
        argv[argc++] = w;
    return args_parse(a, argc, argv, what, sizeof(what)) ? NULL : what;
}

static void test_args(void **state)
{
    struct args a;

    (void)state;
    assert_null(parse(&a, GOOD));
    assert_string_equal(a.shape.machine->name, "flash");
    assert_int_equal(a.shape.nnodes, 2);
    assert_int_equal(a.shape.ncpus, 6);
    assert_true(a.shape.node_bytes == 512u << 20);
    assert_int_equal(a.shape.sample, 1);
    assert_int_equal(a.shape.distance[0][1], 20);
    assert_string_equal(a.mem, "/m/node");
    assert_string_equal(a.version, "7.2");
    assert_null(a.trace);
    assert_int_equal(a.quantum, 20000);
    assert_int_equal(a.slow, 16);
    assert_false(a.checktlb);
    assert_null(parse(&a, GOOD " sample=8 quantum=0 slow=1 checktlb=1 trace=/t=1 trace_most=5 "
                               "interval=100 qemu=7.2.1"));
    assert_int_equal(a.shape.sample, 8);
    assert_int_equal(a.quantum, 0);
    assert_int_equal(a.slow, 1);
    assert_true(a.checktlb);
    assert_string_equal(a.trace, "/t=1");
    assert_int_equal(a.trace_most, 5);
    assert_int_equal(a.interval, 100);
    assert_string_equal(a.version, "7.2.1");
}

/* Each is refused, and says why. */
static void test_wrong_args(void **state)
{
    static const char *const wrong[][2] = {
        {"", "nodes= is needed"},
        {"machine=flash nodes=2 cpus=3 node_mb=512 dist=10:20:20:10 mem=/m",
         "region= is needed"},
        {"nodes=2 cpus=3 node_mb=512 dist=10:20:20:10 mem=/m region=/r", "machine= is needed"},
        {GOOD " machine=cray", "machine=cray is not known; known: flash epyc2s xeon4s xeon8s"},
        {GOOD " colour=blue", "unknown argument colour=blue"},
        {GOOD " nodes", "unknown argument nodes"},
        {GOOD " node=2", "unknown argument node=2"},
        {GOOD " nodess=2", "unknown argument nodess=2"},
        {GOOD " =2", "unknown argument =2"},
        {GOOD " trace=", "trace=: a value is needed"},
        {GOOD " nodes=", "nodes=: a whole number is needed"},
        {GOOD " nodes=-1", "nodes=-1: a whole number is needed"},
        {GOOD " nodes=+2", "nodes=+2: a whole number is needed"},
        {GOOD " nodes=2x", "nodes=2x: a whole number is needed"},
        {GOOD " nodes=0x2", "nodes=0x2: a whole number is needed"},
        {GOOD " nodes=99999999999999999999", "a whole number is needed"},
        {GOOD " nodes=4294967298", "nodes=4294967298: from 1 to 16 can be"},
        {GOOD " nodes=17", "nodes=17: from 1 to 16 can be"},
        {GOOD " cpus=0", "cpus=0: from 1 to 31 can be"},
        {GOOD " cpus=16", "32 CPUs; up to 31"},
        {GOOD " node_mb=768", "a node of 786432 KiB; its size must be a power of two"},
        {GOOD " node_mb=1099511627776", "node_mb=1099511627776: from 1 to 1048576 can be"},
        {GOOD " sample=3", "sample=3; one set in 1, 2, 4 ... 64"},
        {GOOD " sample=0", "sample=0: from 1 to 4096 can be"},
        {GOOD " slow=0", "slow=0: from 1 to 1000 can be"},
        {GOOD " slow=1001", "slow=1001: from 1 to 1000 can be"},
        {GOOD " interval=0", "interval=0"},
        {GOOD " checktlb=2", "checktlb=2: from 0 to 1 can be"},
        {GOOD " dist=10:20:20", "dist=10:20:20: 4 distances from 10 to 254"},
        {GOOD " dist=10:20:20:10:20", "4 distances"},
        {GOOD " dist=10:20:20:10:", "4 distances"},
        {GOOD " dist=10:20::10", "4 distances"},
        {GOOD " dist=10:20:20:9", "4 distances"},
        {GOOD " dist=10:255:20:10", "4 distances"},
        {GOOD " dist=10:-20:20:10", "4 distances"},
        {GOOD " dist=10:21:20:10",
         "distance 21 from node 0 to node 1 is not in the description of flash"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct args a;
        const char *what = parse(&a, wrong[i][0]);

        if (!what || !strstr(what, wrong[i][1]))
            fail_msg("%s: %s", wrong[i][0], what ? what : "taken");
    }
}

/* Every description can be modelled, with every sampling; its distances are symmetric and known. */
static void test_machines(void **state)
{
    (void)state;
    for (const struct machine_model *m = machine_models; m->name; m++) {
        unsigned sets = m->cache_kib * 1024 / m->line / m->ways;

        assert_ptr_equal(machine_model_by_name(m->name), m);
        assert_true(sets && !(sets & (sets - 1)) &&
                    sets * m->ways * m->line == m->cache_kib * 1024);
        assert_true(m->mhz && m->ipc_percent && m->dirty_ns && m->mbps_per_cpu && *m->source);
        for (unsigned a = 0; a < m->nodes; a++)
            for (unsigned b = 0; b < m->nodes; b++) {
                unsigned d = machine_model_distance(m, m->nodes, a, b);

                assert_int_equal(d, machine_model_distance(m, m->nodes, b, a));
                assert_true((d == 10) == (a == b));
                assert_true(machine_model_latency(m, d) >= machine_model_latency(m, 10));
            }
        assert_int_equal(machine_model_distance(m, m->nodes + 1, 0, 0), 0);
        assert_int_equal(machine_model_distance(m, m->nodes, m->nodes, 0), 0);
    }
    assert_null(machine_model_by_name("cray"));
    assert_null(machine_model_by_name(""));
}

static void test_latencies(void **state)
{
    const struct machine_model *m =
        machine_model_by_name("epyc2s"); /* 10: 118, 12: 130, 32: 210 */

    (void)state;
    assert_int_equal(machine_model_latency(m, 9), 0);
    assert_int_equal(machine_model_latency(m, 10), 118);
    assert_int_equal(machine_model_latency(m, 11), 124);
    assert_int_equal(machine_model_latency(m, 12), 130);
    assert_int_equal(machine_model_latency(m, 22), 170);
    assert_int_equal(machine_model_latency(m, 32), 210);
    assert_int_equal(machine_model_latency(m, 33), 0);
    assert_int_equal(machine_model_latency(m, 0), 0);
    assert_int_equal(machine_model_latency(machine_model_by_name("flash"), 20), 900);
}

/* ---- where the nodes' memories are ---- */

#define MAPS                                                       \
    "7f0000000000-7f0000100000 rw-s 00000000 00:19 7  /m/node0\n"  \
    "7f0000200000-7f0000280000 rw-s 00000000 00:19 8  /m/node1\n"  \
    "7f0000280000-7f0000300000 rw-s 00080000 00:19 8  /m/node1\n"  \
    "7f0000400000-7f0000480000 rw-s 00000000 00:19 9  /m/region\n" \
    "7f0000500000-7f0000600000 rw-s 00000000 00:19 9  /m/node10\n" \
    "7f0000700000-7f0000800000 rw-p 00000000 00:00 0\n"            \
    "7fffdeadb000-7fffdeadc000 rw-p 00000000 00:00 0  [stack]\n"

static void test_ranges(void **state)
{
    struct ranges r;
    char what[300];

    (void)state;
    assert_true(ranges_find(&r, MAPS, "/m/node", "/m/region", 2, 1 << 20, what, sizeof(what)));
    assert_true(ranges_address(&r, (void *)0x7f0000000000) == 0);
    assert_true(ranges_address(&r, (void *)0x7f00000fffff) == 0xfffff);
    assert_true(ranges_address(&r, (void *)0x7f0000100000) == RANGES_NONE);
    assert_true(ranges_address(&r, (void *)0x7f0000290000) == 0x190000);
    assert_true(ranges_address(&r, (void *)0x7f0000500000) == RANGES_NONE);
    assert_true(ranges_address(&r, NULL) == RANGES_NONE);
    assert_true(ranges_in_region(&r, (void *)0x7f0000400000));
    assert_false(ranges_in_region(&r, (void *)0x7f0000480000));
    assert_false(ranges_in_region(&r, (void *)0x7f0000000000));
    /* The node that is not there, one that is too small, one in pieces, nothing at all. */
    assert_false(ranges_find(&r, MAPS, "/m/node", "/m/region", 3, 1 << 20, what, sizeof(what)));
    assert_non_null(strstr(what, "node 2: /m/node2 is not mapped with 1 MiB"));
    assert_false(ranges_find(&r, MAPS, "/m/node", "/m/region", 2, 2 << 20, what, sizeof(what)));
    assert_non_null(strstr(what, "node 0: /m/node0 is not mapped with 2 MiB"));
    assert_false(ranges_find(&r,
                             "1000-2000 rw-s 0 0 0 /m/node0\n"
                             "9000-a000 rw-s 0 0 0 /m/node0\n",
                             "/m/node", "/m/region", 1, 8192, what, sizeof(what)));
    assert_non_null(strstr(what, "node 0 is mapped in pieces"));
    assert_false(ranges_find(&r, "", "/m/node", "/m/region", 1, 1 << 20, what, sizeof(what)));
    assert_false(
        ranges_find(&r, "\n/\nx /m/node0\n-", "/m/node", "/r", 1, 1 << 20, what, sizeof(what)));
}

/* ---- the shared region ---- */

static void test_region(void **state)
{
    uint64_t need = memsys_region_bytes(8, 4, 64 << 20);
    char path[] = "/tmp/test_memsys.XXXXXX", what[300] = "";
    int fd = mkstemp(path);
    void *at;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)need - 1), 0);
    assert_null(region_map(path, 8, 4, 64 << 20, what, sizeof(what)));
    assert_non_null(strstr(what, "the counters of 65536 pages by 4 nodes need"));
    assert_int_equal(ftruncate(fd, (off_t)need), 0);
    at = region_map(path, 8, 4, 64 << 20, what, sizeof(what));
    assert_non_null(at);
    munmap(at, need);
    close(fd);
    unlink(path);
    assert_null(region_map(path, 8, 4, 64 << 20, what, sizeof(what)));
    assert_non_null(strstr(what, "No such file"));
    /* The parts of a region do not overlap, and the last counters end it. */
    assert_true(sizeof(struct memsys_header) <= MEMSYS_COUNTS_AT);
    assert_true(memsys_pages_at(8) >= MEMSYS_COUNTS_AT + 8 * MEMSYS_TAGS * MEMSYS_MODES *
                                                             sizeof(struct memsys_count));
    assert_true(need - memsys_pages_at(8) == 65536 * 4 * sizeof(struct memsys_page));
}

/* ---- instructions ---- */

/* An instruction and what it is. */
struct insn {
    uint8_t code[12];
    size_t size;
    bool drops, vmrun, locked;
    uint32_t command;
};

static void test_decode(void **state)
{
    static const struct insn insns[] = {
        {{0x0f, 0x22, 0xd8}, .size = 3, .drops = true},              /* mov %rax,%cr3 */
        {{0x41, 0x0f, 0x22, 0xd8}, .size = 4, .drops = true},        /* mov %r8,%cr3 */
        {{0x0f, 0x20, 0xd8}, .size = 3},                             /* mov %cr3,%rax */
        {{0x0f, 0x01, 0x38}, .size = 3, .drops = true},              /* invlpg (%rax) */
        {{0x66, 0x0f, 0x38, 0x82, 0x08}, .size = 5, .drops = true},  /* invpcid (%rax),%rcx */
        {{0x66, 0x0f, 0x38, 0x81, 0x08}, .size = 5},                 /* invvpid */
        {{0x0f, 0x01, 0xd8}, .size = 3, .vmrun = true},              /* vmrun */
        {{0x0f, 0x01, 0xd9}, .size = 3},                             /* vmmcall */
        {{0x0f, 0x01}, .size = 2},                                   /* cut off */
        {{0x66, 0x66, 0x66}, .size = 3},                             /* prefixes only */
        {{0xf0, 0x48, 0x83, 0x00, 0x01}, .size = 5, .locked = true}, /* lock addq $1,(%rax) */
        {{0x66, 0xf0, 0x0f, 0xc1, 0x08}, .size = 5, .locked = true}, /* lock xadd %cx,(%rax) */
        {{0x48, 0x83, 0x00, 0x01}, .size = 4},                       /* addq $1,(%rax) */
        {{0x48, 0x87, 0x08}, .size = 3, .locked = true},             /* xchg %rcx,(%rax) */
        {{0x86, 0x48, 0x08}, .size = 3, .locked = true},             /* xchg %cl,8(%rax) */
        {{0x48, 0x87, 0xc8}, .size = 3},                             /* xchg %rcx,%rax */
        {{0x0f, 0x87, 0, 0, 0, 0}, .size = 6},                       /* ja */
        {{0x0f, 0x1f, 0x80, 0, 1, 0x5c, 0x51}, .size = 7, .command = 0x100}, /* the model on */
        {{0x0f, 0x1f, 0x80, 3, 5, 0x5c, 0x51}, .size = 7, .command = 0x503}, /* tag 3 */
        {{0x0f, 0x1f, 0x80, 3, 5, 0x5c, 0x50}, .size = 7},    /* some other nop */
        {{0x0f, 0x1f, 0x84, 0, 0, 1, 0x5c, 0x51}, .size = 8}, /* likewise */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(insns) / sizeof(insns[0]); i++) {
        const struct insn *in = &insns[i];

        assert_int_equal(decode_drops_translations(in->code, in->size), in->drops);
        assert_int_equal(decode_is_vmrun(in->code, in->size), in->vmrun);
        assert_int_equal(decode_is_locked(in->code, in->size), in->locked);
        assert_int_equal(decode_command(in->code, in->size), in->command);
    }
    assert_false(decode_is_locked(insns[0].code, 0));
}

/* What the macro puts into a program is what the decoder knows. */
static void test_magic(void **state)
{
    const uint8_t *code;

    (void)state;
    __asm__ goto("" : : : : at);
at:
    code = &&at;
    ROI(ROI_MARK, 7);
    for (unsigned i = 0; i < 64; i++)
        if (decode_command(code + i, 7) == (ROI_MARK << 8 | 7))
            return;
    fail_msg("no command in the code");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_args),     cmocka_unit_test(test_wrong_args),
        cmocka_unit_test(test_machines), cmocka_unit_test(test_latencies),
        cmocka_unit_test(test_ranges),   cmocka_unit_test(test_region),
        cmocka_unit_test(test_decode),   cmocka_unit_test(test_magic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
