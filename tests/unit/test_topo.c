/* SPDX-License-Identifier: MIT */
/*
 * Tests of numa/topo.c, topo_synth.c, topo_text.c and topo_svg.c: descriptions right and wrong,
 * hwloc's syntax, this machine, a recorded /sys with a memory-only node, an offline CPU and a
 * hole in the numbering; and what the table, the drawing and the JSON say.
 */
#include <errno.h>
#include <ftw.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "numa/place.h"
#include "numa/topo.h"
#include "numa/topo_draw.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* Reads a description that must be right. */
static void read_ok(struct topo *t, const char *text)
{
    struct err err = {0};

    if (topo_read(t, text, &err))
        fail_msg("%s: %s", text, err.text);
}

/* One line of everything. */
static void test_synth(void **state)
{
    struct topo t;

    (void)state;
    read_ok(&t, "nodes=4,cpus=2,mem=1G,dist=21");
    assert_true(t.synthetic);
    assert_int_equal(t.nnodes, 4);
    assert_int_equal(t.ncpus, 8);
    assert_string_equal(t.name, "nodes=4,cpus=2,mem=1G,dist=21");
    for (int i = 0; i < 4; i++) {
        assert_int_equal(t.node[i].os, i);
        assert_int_equal(t.node[i].mem_total, 1ull << 30);
        assert_int_equal(t.node[i].mem_free, 1ull << 30);
        assert_int_equal(t.node[i].ncpus, 2);
        assert_int_equal(t.node[i].cpus[1], i * 2 + 1);
        assert_int_equal(topo_node_of_cpu(&t, i * 2), i);
        for (int j = 0; j < 4; j++)
            assert_int_equal(t.dist[i][j], i == j ? 10 : 21);
    }
    assert_int_equal(topo_node_of_cpu(&t, 8), -1);
    assert_int_equal(topo_index(&t, 3), 3);
    assert_int_equal(topo_index(&t, 4), -1);
    assert_int_equal(topo_mem_total(&t), 4ull << 30);
    topo_free(&t);
    assert_int_equal(t.nnodes, 0);
}

/* Defaults, values per node, memory-only nodes. */
static void test_synth_per_node(void **state)
{
    struct topo t;

    (void)state;
    read_ok(&t, "nodes=2");
    assert_int_equal(t.ncpus, 2);
    assert_int_equal(t.node[1].mem_total, 1ull << 30);
    assert_int_equal(t.dist[0][1], 20);
    topo_free(&t);
    read_ok(&t, "nodes=3,cpus=2/1/0,mem=512M/1.5GiB/4T,free=1M");
    assert_int_equal(t.ncpus, 3);
    assert_int_equal(t.node[0].mem_total, 512ull << 20);
    assert_int_equal(t.node[1].mem_total, 1536ull << 20);
    assert_int_equal(t.node[2].mem_total, 4ull << 40);
    assert_int_equal(t.node[2].mem_free, 1ull << 20);
    assert_int_equal(t.node[2].ncpus, 0);
    assert_int_equal(t.node[1].cpus[0], 2);
    topo_free(&t);
    read_ok(&t, "cpus=2/2/2");
    assert_int_equal(t.nnodes, 3);
    topo_free(&t);
    read_ok(&t, "nodes=64,cpus=64,mem=256T");
    assert_int_equal(t.ncpus, 4096);
    assert_int_equal(topo_mem_total(&t), 64ull << 48);
    topo_free(&t);
}

/* Distances by formula and by matrix. */
static void test_synth_dist(void **state)
{
    struct topo t;

    (void)state;
    read_ok(&t, "nodes=8,dist=cube");
    assert_int_equal(t.dist[0][7], 40);
    assert_int_equal(t.dist[5][4], 20);
    topo_free(&t);
    read_ok(&t, "nodes=64,dist=ring");
    assert_int_equal(t.dist[0][63], 20);
    assert_int_equal(t.dist[0][32], 255);
    topo_free(&t);
    read_ok(&t, "nodes=2,dist=10 17/28 10");
    assert_int_equal(t.dist[0][1], 17);
    assert_int_equal(t.dist[1][0], 28);
    topo_free(&t);
}

/* Every way to be wrong has its message, status and no leak. */
static void test_synth_errors(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"nodes=0", "nodes: "},
        {"nodes=65", "from 1 to 64"},
        {"nodes=two", "nodes: "},
        {"nodes=4,", NULL},
        {"nodes=4,cpus", "key=value"},
        {"nodes=4,cpus=", "cpus: "},
        {"nodes=4,cpus=1/2", "2 values for 4 nodes"},
        {"nodes=2,cpus=-1", "cpus: "},
        {"nodes=2,cpus=0", "1 to 4096 CPUs"},
        {"nodes=2,cpus=4000", "1 to 4096 CPUs"},
        {"nodes=2,cpus=99999999999999999999", "cpus: "},
        {"nodes=2,mem=1X", "mem: "},
        {"nodes=2,mem=1e300", "mem: "},
        {"nodes=2,mem=257T", "mem: "},
        {"nodes=2,mem=1G/1G/1G", "3 values for 2 nodes"},
        {"nodes=2,mem=1G,free=2G", "more than the node's memory"},
        {"nodes=2,huge=x", "huge: "},
        {"nodes=2,huge=2G", "more than the node's memory"},
        {"nodes=2,dist=10", "dist: "},
        {"nodes=2,dist=256", "dist: "},
        {"nodes=2,dist=10 20", "dist: "},
        {"nodes=2,dist=10 20/20 11", "dist: "},
        {"nodes=2,dist=10 20/20 10/10 20", "dist: "},
        {"nodes=2,dist=10 20 20/20 10", "dist: "},
        {"nodes=2,dist=10 9/20 10", "dist: "},
        {"nodes=2,dist=star", "dist: "},
        {"nodes=2,memory=1G", "known are"},
        {"zork=2", "known are"},
        {"pack:0", "neither"},
        {"hello world", "neither"},
        {"", "neither"},
        {"pack:65 node:1 pu:1", "1 to 64"},
        {"pack:2 node:1 pu:3000", "at most 4096"},
    };
    struct err err;
    struct topo t;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(&err, 0, sizeof(err));
        if (!bad[i].says) {
            assert_int_equal(topo_read(&t, bad[i].text, &err), 0);
            topo_free(&t);
            continue;
        }
        if (!topo_read(&t, bad[i].text, &err))
            fail_msg("\"%s\" was taken", bad[i].text);
        assert_int_equal(err.status, EXIT_USAGE);
        if (!strstr(err.text, bad[i].says))
            fail_msg("\"%s\": \"%s\" does not say \"%s\"", bad[i].text, err.text, bad[i].says);
    }
}

/* Mutations of a right description neither crash nor leave a half-made topology. */
static void test_synth_mutations(void **state)
{
    static const char chars[] = "0123456789=,/. -GMkdnist\x80\xff";
    unsigned seed = 1, right = 0;
    char text[64];
    struct topo t;

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(text, sizeof(text), "nodes=2,cpus=2/1,mem=1G,dist=10 20/20 10");
        for (unsigned k = 0; k < 1 + i % 3; k++) {
            seed = seed * 1103515245 + 12345;
            text[6 + (seed >> 8) % (strlen(text) - 6)] =
                chars[(seed >> 16) % (sizeof(chars) - 1)];
        }
        if (topo_synth(&t, text, NULL))
            continue;
        right++;
        assert_in_range(t.nnodes, 1, TOPO_MAX_NODES);
        assert_in_range(t.ncpus, 1, TOPO_MAX_CPUS);
        topo_free(&t);
    }
    assert_true(right > 100);
}

/* hwloc's own syntax. */
static void test_hwloc_syntax(void **state)
{
    struct topo t;

    (void)state;
    read_ok(&t, "package:4 [numa(memory=1073741824)] core:2 pu:2");
    assert_int_equal(t.nnodes, 4);
    assert_int_equal(t.ncpus, 16);
    assert_int_equal(t.node[3].mem_total, 1ull << 30);
    assert_int_equal(t.node[3].mem_free, 1ull << 30);
    assert_int_equal(t.node[3].ncpus, 4);
    assert_int_equal(t.node[3].package, 3);
    assert_int_equal(t.dist[0][1], 20);
    assert_int_equal(t.dist[2][2], 10);
    topo_free(&t);
}

/* The machine the test runs on. */
static void test_this_machine(void **state)
{
    struct err err = {0};
    struct topo t;

    (void)state;
    assert_int_equal(topo_read(&t, NULL, &err), 0);
    assert_false(t.synthetic);
    assert_in_range(t.nnodes, 1, TOPO_MAX_NODES);
    assert_true(t.ncpus >= 1);
    for (unsigned i = 0; i < t.nnodes; i++) {
        assert_true(t.node[i].mem_free <= t.node[i].mem_total);
        assert_int_equal(t.dist[i][i], 10);
        if (i)
            assert_true(t.node[i].os > t.node[i - 1].os);
    }
    topo_free(&t);
}

/* The quick way finds what hwloc finds. */
static void test_here(void **state)
{
    struct err err = {0};
    struct topo quick, full;

    (void)state;
    assert_int_equal(topo_read_here(&quick, &err), 0);
    assert_int_equal(topo_read(&full, NULL, &err), 0);
    assert_int_equal(quick.nnodes, full.nnodes);
    assert_int_equal(quick.node[0].os, full.node[0].os);
    assert_int_equal(quick.node[0].mem_total, full.node[0].mem_total);
    assert_true(quick.node[0].mem_free <= quick.node[0].mem_total);
    assert_true(quick.ncpus >= 1 && quick.ncpus <= full.ncpus);
    assert_int_equal(quick.dist[0][0], 10);
    topo_free(&quick);
    topo_free(&full);
}

/* Writes root/path, making its directories. */
static void put(const char *root, const char *path, const char *text)
{
    char *full = xasprintf("%s/%s", root, path);
    FILE *f;

    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0755);
        *p = '/';
    }
    f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    free(full);
}

/* One CPU of the recorded machine. */
static void put_cpu(const char *root, int cpu, bool online)
{
    char *dir = xasprintf("sys/devices/system/cpu/cpu%d", cpu), *path, *text;

    path = xasprintf("%s/online", dir);
    put(root, path, online ? "1\n" : "0\n");
    free(path);
    if (online) {
        path = xasprintf("%s/topology/physical_package_id", dir);
        text = xasprintf("%d\n", cpu / 2);
        put(root, path, text);
        free(path);
        free(text);
        path = xasprintf("%s/topology/core_id", dir);
        put(root, path, "0\n");
        free(path);
        path = xasprintf("%s/topology/core_cpus", dir);
        text = xasprintf("%08x\n", 1u << cpu);
        put(root, path, text);
        free(path);
        path = xasprintf("%s/topology/package_cpus", dir);
        free(text);
        text = xasprintf("%08x\n", 3u << (cpu & ~1));
        put(root, path, text);
        free(path);
        free(text);
    }
    free(dir);
}

/* One node of the recorded machine. */
static void put_node(const char *root, int os, const char *map, const char *list,
                     const char *dist)
{
    static const char meminfo[] = "Node %d MemTotal:       1048576 kB\n"
                                  "Node %d MemFree:         524288 kB\n"
                                  "Node %d MemUsed:         524288 kB\n"
                                  "Node %d Active(anon):    400000 kB\n"
                                  "Node %d Active(file):     10240 kB\n"
                                  "Node %d Inactive(file):   10240 kB\n"
                                  "Node %d SReclaimable:      1024 kB\n";
    char *dir = xasprintf("sys/devices/system/node/node%d", os), *path, *text;

    text = xasprintf(meminfo, os, os, os, os, os, os, os);
    path = xasprintf("%s/meminfo", dir);
    put(root, path, text);
    free(path);
    free(text);
    path = xasprintf("%s/cpumap", dir);
    put(root, path, map);
    free(path);
    path = xasprintf("%s/cpulist", dir);
    put(root, path, list);
    free(path);
    path = xasprintf("%s/distance", dir);
    put(root, path, dist);
    free(path);
    free(dir);
}

/* Removes what nftw() shows. */
static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Nodes 0, 1 and 3 of a recorded machine: 3 has memory only, CPU 3 is offline. */
static void test_recorded(void **state)
{
    char root[] = "/tmp/test_topo.XXXXXX";
    struct err err = {0};
    struct topo t;
    int rc;

    (void)state;
    assert_non_null(mkdtemp(root));
    put(root, "proc/cpuinfo", "processor\t: 0\nvendor_id\t: AuthenticAMD\n\n");
    put(root, "proc/mounts", "sysfs /sys sysfs rw 0 0\n");
    put(root, "sys/devices/system/cpu/online", "0-2\n");
    put(root, "sys/devices/system/cpu/possible", "0-3\n");
    put(root, "sys/devices/system/node/online", "0-1,3\n");
    put(root, "sys/devices/system/node/possible", "0-3\n");
    for (int cpu = 0; cpu < 4; cpu++)
        put_cpu(root, cpu, cpu != 3);
    put_node(root, 0, "00000003\n", "0-1\n", "10 21 17\n");
    put_node(root, 1, "00000004\n", "2\n", "21 10 28\n"); /* a single CPU has no dash */
    put_node(root, 3, "00000000\n", "\n", "17 28 10\n");
    setenv("HWLOC_FSROOT", root, 1);
    rc = topo_read(&t, NULL, &err);
    unsetenv("HWLOC_FSROOT");
    nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    if (rc)
        fail_msg("%s", err.text);
    assert_true(t.synthetic);
    assert_int_equal(t.nnodes, 3);
    assert_int_equal(t.ncpus, 3);
    assert_int_equal(t.node[0].ncpus, 2);
    assert_int_equal(t.node[1].ncpus, 1);
    assert_int_equal(t.node[1].cpus[0], 2);
    assert_int_equal(t.node[2].os, 3);
    assert_int_equal(t.node[2].ncpus, 0);
    assert_int_equal(t.node[2].mem_total, 1ull << 30);
    /* MemFree + file cache + slab, less 1/64 of the node. */
    assert_int_equal(t.node[0].mem_free, (524288 + 20480 + 1024 - 16384) * 1024ull);
    assert_int_equal(t.dist[0][2], 17);
    assert_int_equal(t.dist[2][1], 28);
    topo_free(&t);
}

/* Sizes, both ways. */
static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } right[] = {{"4096", 4096},       {"512M", 512ull << 20}, {"1GiB", 1ull << 30},
                 {"1.5G", 3ull << 29}, {"2T", 2ull << 40},     {"8kb", 8192}};
    static const char *const wrong[] = {"",    "G",           "-1G", " 1G",
                                        ".5G", "9999999999T", "nan", "inf"};
    char buf[TOPO_SIZE_LEN];
    const char *end;
    uint64_t v;

    (void)state;
    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        assert_true(topo_parse_size(right[i].text, &end, &v));
        assert_int_equal(*end, 0);
        assert_int_equal(v, right[i].bytes);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(topo_parse_size(wrong[i], &end, &v));
    assert_string_equal(topo_size(buf, 0), "0 B");
    assert_string_equal(topo_size(buf, 512ull << 20), "512 MiB");
    assert_string_equal(topo_size(buf, 3ull << 29), "1.5 GiB");
    assert_string_equal(topo_size(buf, 1023), "1023 B");
    assert_string_equal(topo_size(buf, UINT64_MAX), "15.9 EiB");
}

/* Ranges, and what happens when there is no room for them. */
static void test_ranges(void **state)
{
    static const int v[] = {0, 1, 2, 5, 7, 8}, one[] = {3};
    char buf[32];

    (void)state;
    assert_string_equal(topo_ranges(buf, sizeof(buf), v, 6), "0-2,5,7-8");
    assert_string_equal(topo_ranges(buf, sizeof(buf), one, 1), "3");
    assert_string_equal(topo_ranges(buf, sizeof(buf), v, 0), "");
    assert_string_equal(topo_ranges(buf, 10, v, 6), "0-2,5,7-8");
    assert_string_equal(topo_ranges(buf, 9, v, 6), "0-2,5...");
    assert_string_equal(topo_ranges(buf, 8, v, 6), "0-2...");
}

/* Draws three guests, one of them with a hostile name, on a machine with a memory-only node. */
static char *draw(int how, size_t *len)
{
    static const struct place_want want[] = {
        {.name = "a<&\">\xff", .vcpus = 1, .memory = 64 << 20},
        {.name = "wide", .vcpus = 4, .memory = 128 << 20, .nnodes = 2, .nodes = {0, 1}},
        {.name = "deep", .vcpus = 1, .memory = 1ull << 30, .nnodes = 2, .nodes = {1, 2}},
    };
    struct topo_guest g[3];
    struct place_got got[3];
    struct err err = {0};
    char *text = NULL;
    struct topo t;
    FILE *f;

    read_ok(&t, "nodes=3,cpus=2/2/0,mem=1G");
    if (place_guests(&t, want, 3, got, &err))
        fail_msg("%s", err.text);
    for (unsigned i = 0; i < 3; i++)
        g[i] = (struct topo_guest){.name = want[i].name,
                                   .vcpus = want[i].vcpus,
                                   .memory = want[i].memory,
                                   .place = &got[i],
                                   .state = i ? "running" : NULL};
    if (how == 'j') {
        json_t *j = topo_json(&t, g, 3);

        text = json_dumps(j, 0);
        *len = strlen(text);
        json_decref(j);
    } else {
        f = open_memstream(&text, len);
        assert_int_equal(how == 's' ? topo_svg(f, &t, g, 3) : topo_text(f, &t, g, 3), 0);
        fclose(f);
    }
    topo_free(&t);
    return text;
}

/* Times a word stands in a text. */
static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;

    for (; (text = strstr(text, word)); text += strlen(word))
        n++;
    return n;
}

/* The drawing is well-formed, escapes names and has a segment for every part of a guest. */
static void test_svg(void **state)
{
    size_t len;
    char *s = draw('s', &len);

    (void)state;
    assert_int_equal(strncmp(s, "<svg ", 5), 0);
    assert_string_equal(s + len - 7, "</svg>\n");
    assert_int_equal(count(s, "<g>"), count(s, "</g>"));
    assert_int_equal(count(s, "<text"), count(s, "</text>"));
    assert_null(strchr(s, '\xff'));
    assert_null(strstr(s, "a<&"));
    assert_int_equal(count(s, "a&lt;&amp;&quot;&gt;?"), 2);
    assert_int_equal(count(s, ">wide<"), 3);
    assert_int_equal(count(s, "memory only"), 1);
    assert_int_equal(count(s, "<line "), 2);
    assert_null(strstr(s, "http://www.w3.org/1999")); /* nothing outside is referred to */
    free(s);
}

/* The table names every guest on its nodes. */
static void test_text(void **state)
{
    size_t len;
    char *s = draw('t', &len);

    (void)state;
    assert_non_null(strstr(s, "3 nodes, 4 CPUs, 3 GiB (3 GiB free)"));
    assert_non_null(strstr(s, "- (memory only)"));
    assert_int_equal(count(s, "wide"), 3);
    assert_int_equal(count(s, "deep"), 3);
    assert_non_null(strstr(s, "running"));
    free(s);
}

/* The JSON holds what the structs hold. */
static void test_json(void **state)
{
    size_t len;
    char *s = draw('j', &len);
    json_t *j = json_loads(s, 0, NULL), *g, *n;

    (void)state;
    assert_non_null(j);
    assert_true(json_is_true(json_object_get(j, "synthetic")));
    assert_int_equal(json_array_size(json_object_get(j, "nodes")), 3);
    n = json_array_get(json_object_get(j, "distances"), 1);
    assert_int_equal(json_integer_value(json_array_get(n, 0)), 20);
    g = json_array_get(json_object_get(j, "guests"), 1);
    assert_string_equal(json_string_value(json_object_get(g, "name")), "wide");
    assert_int_equal(json_array_size(json_object_get(g, "vcpu_nodes")), 4);
    n = json_object_get(g, "node_bytes");
    assert_int_equal(json_integer_value(json_array_get(n, 1)), 64 << 20);
    json_decref(j);
    free(s);
}

/* A full disk is an error. */
static void test_write_error(void **state)
{
    FILE *f = fopen("/dev/full", "w");
    struct topo t;

    (void)state;
    if (!f)
        skip();
    read_ok(&t, "nodes=2");
    assert_int_equal(topo_svg(f, &t, NULL, 0), -EIO);
    fclose(f);
    f = fopen("/dev/full", "w");
    assert_int_equal(topo_text(f, &t, NULL, 0), -EIO);
    fclose(f);
    topo_free(&t);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_synth),
        cmocka_unit_test(test_synth_per_node),
        cmocka_unit_test(test_synth_dist),
        cmocka_unit_test(test_synth_errors),
        cmocka_unit_test(test_synth_mutations),
        cmocka_unit_test(test_hwloc_syntax),
        cmocka_unit_test(test_this_machine),
        cmocka_unit_test(test_here),
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_svg),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_write_error),
    };

    return cmocka_run_group_tests_name("topo", tests, NULL, NULL);
}
