/* SPDX-License-Identifier: MIT */
/*
 * What people are shown of a guest's pages: the table of `disco stat --pages`, the map and picture
 * of `disco heatmap`, and what the host is asked for `disco doctor`.  What a cell says may be wrong
 * in every way: no text of it harms a terminal or a picture, nothing takes more than its share.
 */
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "numa/counters.h"
#include "tests/leaks.h"
#include "vmm/monitor/heatmap.h"
#include "vmm/monitor/stat_pages.h"
#include "vmm/pager/features.h"

#include <cmocka.h> /* last: its fail() is a macro */

enum { ROUNDS = 3000, TEXT = 4096 };

/* ---- helpers ---- */

/* Reads JSON written with ' for ". */
static json_t *parse(const char *text)
{
    char *copy = xstrdup(text);
    json_t *j;

    for (char *p = copy; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    j = json_loads(copy, 0, NULL);
    assert_non_null(j);
    free(copy);
    return j;
}

/* The name of the tag at *p, up to its end; steps behind the tag. False: it is none. */
static bool tag_at(const char **p, char name[32], bool *closed)
{
    size_t n = strspn(*p, "abcdefghijklmnopqrstuvwxyz");
    bool quoted = false;

    if (!n || n >= 32)
        return false;
    memcpy(name, *p, n);
    name[n] = 0;
    for (*p += n; **p && (quoted || **p != '>'); ++*p) {
        quoted ^= **p == '"';
        if (**p == '<' || (**p == '&' && !strstr(*p, ";")))
            return false;
    }
    *closed = (*p)[-1] == '/';
    return *(*p)++ == '>';
}

/* True for XML that is well-formed, as far as our pictures use it: elements in one another, quoted
 * attributes, no character that must be escaped, no control character. */
static bool well_formed(const char *s)
{
    char stack[16][32], name[32];
    unsigned depth = 0;
    bool closed;

    for (const char *p = s; *p;) {
        if (*p == '&' && strncmp(p, "&lt;", 4) != 0 && strncmp(p, "&gt;", 4) != 0 &&
            strncmp(p, "&amp;", 5) != 0 && strncmp(p, "&quot;", 6) != 0)
            return false;
        if ((unsigned char)*p < 0x20 && *p != '\n')
            return false;
        if (*p++ != '<')
            continue;
        if (*p == '/') {
            p++;
            if (!tag_at(&p, name, &closed) || !depth || strcmp(stack[--depth], name) != 0)
                return false;
        } else if (!tag_at(&p, name, &closed) || depth == 16) {
            return false;
        } else if (!closed) {
            memcpy(stack[depth++], name, sizeof(name));
        }
    }
    return !depth;
}

/* The picture of what a cell said, malloc'd; NULL: it was refused. */
static char *picture(const json_t *said)
{
    struct heatmap h;
    struct err err = {0};
    char *s = NULL;
    size_t len = 0;
    FILE *f;

    if (heatmap_read(&h, said, &err)) {
        assert_int_equal(err.status, EXIT_GUEST);
        return NULL;
    }
    f = open_memstream(&s, &len);
    assert_int_equal(heatmap_svg(f, &h), 0);
    fclose(f);
    heatmap_free(&h);
    assert_true(well_formed(s));
    return s;
}

/* What people are told of a guest's pages, malloc'd. */
static char *told(const json_t *g, const json_t *stat)
{
    char *s = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&s, &len);

    stat_pages_print(f, g, stat);
    fclose(f);
    for (size_t i = 0; i < len; i++)
        assert_true((unsigned char)s[i] >= 0x20 || s[i] == '\n');
    return s;
}

/* ---- disco stat --pages ---- */

static const char guest_text[] = "{'name':'g','state':'running','views':2}";

static const char pages_text[] =
    "{'pages':{'policy':'replicate','interval_ms':100.0,'intervals':1234,'waited':7,'checks':"
    "60,"
    "'local_fraction':0.875,'nodes':["
    "{'node':0,'private':256,'masters':512,'replicas':0,'shared':0,'uses_local':700,"
    "'uses_remote':100,'local_fraction':0.875,'cpuless':false},"
    "{'node':3,'private':null,'masters':0,'replicas':512,'shared':0,'uses_local':0,"
    "'uses_remote':0,'local_fraction':null,'cpuless':true}],"
    "'done':{'migrated':1000,'replicated':2500,'collapsed':12,'evicted':3,'write_faults':15,"
    "'stray_faults':2,'device_writes':4,'refused':9,'replicas':512,'mappings':42,"
    "'mappings_limit':47647},"
    "'sampling':{'source':'faults','rate':4096,'revoked':100000,'touches':90000,'lost':1,"
    "'writes':5,'agreement':{'with':'flash','top':1000,'recall':0.5,'who':0.9,'sharers':0.8,"
    "'written':null}},"
    "'cost':{'pager_ms':120.5,'faults_ms':30.25,'checks_ms':4000.0,'elapsed_ms':60000.0,"
    "'share':0.0031}}}";

/* A guest with a pager. */
static void test_table(void **state)
{
    json_t *g = parse(guest_text), *st = parse(pages_text), *j;
    char *s = told(g, st);

    (void)state;
    assert_non_null(strstr(s, "policy replicate every 100 ms, 1.2k times"));
    assert_non_null(strstr(s, "87.5% of all uses were local; 60 proofs held"));
    assert_non_null(strstr(
        s, "node         private  replicated  replicas  shared  local fraction  uses\n"));
    assert_non_null(strstr(
        s, "\n0                 1M          2M         0       0           87.5%   800\n"));
    assert_non_null(strstr(
        s, "\n3 (no CPUs)        -           0        2M       0               -     0\n"));
    assert_non_null(strstr(
        s, "\nall               1M          2M        2M       0           87.5%   800\n"));
    assert_non_null(strstr(s, "1k migrated, 2.5k replicated, 12 collapsed, 3 evicted"));
    assert_non_null(strstr(s, "faults, 4.1k pages an interval; 100k revoked, 90k touches"));
    assert_non_null(strstr(s, "0.31% of the guest's CPU time: pager 120 ms"));
    assert_non_null(strstr(s, "with flash on 50.0% of the 1k pages most used from afar; who "
                              "uses them 90.0%, sharers 80.0%, written -\n"));
    free(s);
    j = stat_pages_json(g, st);
    assert_true(json_is_null(json_object_get(j, "why")));
    assert_true(json_equal(json_object_get(j, "pages"), json_object_get(st, "pages")));
    json_decref(j);
    json_decref(g);
    json_decref(st);
}

/* Guests without: one sentence. */
static void test_why(void **state)
{
    static const struct {
        const char *guest, *stat, *want;
    } cases[] = {
        {"{'name':'g','views':1}", "{'pages':null}",
         "guest g: it has one view, so its pages have nowhere to go\n"},
        {guest_text, "{'pages':null}", "its policy is none, or this host lacks something"},
        {guest_text, "{}", "its policy is none, or this host lacks something"},
        {guest_text, "null", "guest g: its cell left no figures\n"},
        {guest_text, "{'pages':{'policy':'none','why':'no \\u001b[2Juserfaultfd'}}",
         "guest g: its pages stay where they were put first: no  [2Juserfaultfd\n"},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *g = parse(cases[i].guest);
        json_t *st = strcmp(cases[i].stat, "null") != 0 ? parse(cases[i].stat) : json_null(),
               *j;
        char *s = told(g, st);

        assert_non_null(strstr(s, cases[i].want));
        assert_ptr_equal(strchr(s, '\n'), s + strlen(s) - 1);
        free(s);
        j = stat_pages_json(g, st);
        assert_true(json_is_null(json_object_get(j, "pages")));
        assert_true(json_is_string(json_object_get(j, "why")));
        json_decref(j);
        json_decref(g);
        json_decref(st);
    }
}

/* ---- disco heatmap ---- */

static const char map_text[] =
    "{'name':'g <&>','policy':'replicate','source':'faults','size':8388608,'cell':2097152,"
    "'step':1,'nodes':[0,3],'cells':["
    "{'gpa':0,'bytes':2097152,'private':[512,0],'reads':[100,4],'writes':[1,0]},"
    "{'gpa':2097152,'bytes':2097152,'masters':[500,0],'replicas':[0,500],'private':[2,10],"
    "'reads':[50,70]},"
    "{'gpa':4294967296,'bytes':2097152,'absent':512},"
    "{'gpa':4297064448,'bytes':2097152,'shared':[0,512],'writes':[0,7]}]}";

/* Numbers arrive where they belong. */
static void test_map(void **state)
{
    json_t *said = parse(map_text);
    struct heatmap h;

    (void)state;
    assert_int_equal(heatmap_read(&h, said, NULL), 0);
    assert_string_equal(h.name, "g <&>");
    assert_int_equal(h.nnodes, 2);
    assert_int_equal(h.node[1], 3);
    assert_int_equal(h.n, 4);
    assert_int_equal(h.cell[2].gpa, 1ull << 32);
    assert_int_equal(h.cell[2].absent, 512);
    assert_int_equal(heatmap_counts(&h, 0, HEAT_PRIVATE)[0], 512);
    assert_int_equal(heatmap_counts(&h, 1, HEAT_REPLICAS)[1], 500);
    assert_int_equal(heatmap_counts(&h, 1, HEAT_WRITES)[1], 0);
    assert_int_equal(heatmap_counts(&h, 3, HEAT_SHARED)[1], 512);
    heatmap_free(&h);
    json_decref(said);
}

/* The picture is XML and has what was told. */
static void test_picture(void **state)
{
    json_t *said = parse(map_text);
    char *s = picture(said);

    (void)state;
    assert_non_null(s);
    assert_int_equal(strncmp(s, "<svg xmlns=", 11), 0);
    assert_non_null(strstr(s, ">g &lt;&amp;&gt;<"));
    assert_non_null(strstr(s, "policy replicate · uses seen by faults: 224 reads, 8 writes"));
    assert_non_null(strstr(s, ">node 3<"));
    assert_non_null(strstr(s, "replicated pages node 0: 500\nreplicas node 3: 500"));
    assert_non_null(strstr(s, "fill=\"url(#shared)\""));
    assert_non_null(strstr(s, ">4G<"));
    free(s);
    json_decref(said);
}

/* The same picture with its text checked by the checker's own mistakes: it must find them. */
static void test_checker(void **state)
{
    (void)state;
    assert_true(well_formed("<svg a=\"b>\"><g>x &lt; y</g><r/></svg>\n"));
    assert_false(well_formed("<svg><g></svg></g>"));
    assert_false(well_formed("<svg>"));
    assert_false(well_formed("<svg>a & b</svg>"));
    assert_false(well_formed("<svg a=\"<\"></svg>"));
    assert_false(well_formed("<svg>\033</svg>"));
}

/* Replaces a piece of the good map; what comes of it is refused. */
static void refuse(const char *old, const char *new)
{
    char text[TEXT];
    const char *at = strstr(map_text, old);
    json_t *said;

    assert_non_null(at);
    snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - map_text), map_text, new,
             at + strlen(old));
    said = parse(text);
    if (picture(said))
        fail_msg("taken: %s instead of %s", new, old);
    json_decref(said);
}

/* Maps that make no sense. */
static void test_refused(void **state)
{
    int fds = open_fds();
    json_t *null = json_null();

    (void)state;
    assert_null(picture(null));
    assert_null(picture(NULL));
    refuse("'nodes':[0,3]", "'nodes':[]");
    refuse("'nodes':[0,3]", "'nodes':[0]");
    refuse("'nodes':[0,3]", "'nodes':[0,'3']");
    refuse("'nodes':[0,3]", "'nodes':[0,-2]");
    refuse("'nodes':[0,3]", "'nodes':{}");
    refuse("'nodes':[0,3],", "");
    refuse("'cells':[", "'cells':[7,");
    refuse("'gpa':0,", "'gpa':-4096,");
    refuse("'gpa':0,", "'gpa':1.5,");
    refuse("'gpa':0,", "'gpa':9223372036854775807,");
    refuse("'gpa':0,", "'gpa':4096,"); /* over the next */
    refuse("'gpa':2097152,'bytes':2097152", "'gpa':2097152,'bytes':0");
    refuse("[512,0]", "[512,-1]");
    refuse("[512,0]", "[512]");
    refuse("[512,0]", "[512,0,0]");
    refuse("[512,0]", "'512'");
    refuse("[512,0]", "null");
    refuse("'absent':512", "'absent':[1]");
    assert_int_equal(open_fds(), fds);
}

/* Too many cells, nodes or holes. */
static void test_too_much(void **state)
{
    json_t *said = parse(map_text), *cells = json_array(), *nodes = json_array();

    (void)state;
    json_object_set_new(said, "cells", cells);
    for (int i = 0; i <= HEATMAP_CELLS; i++)
        json_array_append_new(
            cells, json_pack("{s:I, s:i}", "gpa", (json_int_t)i * 4096, "bytes", 4096));
    assert_null(picture(said));
    json_array_remove(cells, HEATMAP_CELLS);
    free(picture(said));
    json_array_clear(cells);
    for (int i = 0; i < 100; i++)
        json_array_append_new(
            cells, json_pack("{s:I, s:i}", "gpa", (json_int_t)i * 8192, "bytes", 4096));
    assert_null(picture(said));
    json_object_set_new(said, "nodes", nodes);
    for (int i = 0; i <= TOPO_MAX_NODES; i++)
        json_array_append_new(nodes, json_integer(i));
    assert_null(picture(said));
    json_decref(said);
}

/* Numbers as large as they may be, on as many nodes: no arithmetic breaks. */
static void test_largest(void **state)
{
    const json_int_t most = (json_int_t)1 << 53;
    json_t *said = parse(map_text), *cells = json_array(), *nodes = json_array(), *list;
    char *s;

    (void)state;
    list = json_array();
    for (int i = 0; i < TOPO_MAX_NODES; i++) {
        json_array_append_new(nodes, json_integer(UINT16_MAX - i));
        json_array_append_new(list, json_integer(most));
    }
    for (int i = 0; i < 300; i++)
        json_array_append_new(cells,
                              json_pack("{s:I, s:i, s:I, s:O, s:O, s:O, s:O, s:O, s:O}", "gpa",
                                        (json_int_t)i, "bytes", 1, "absent", most, "private",
                                        list, "masters", list, "replicas", list, "shared", list,
                                        "reads", list, "writes", list));
    json_object_set_new(said, "nodes", nodes);
    json_object_set_new(said, "cells", cells);
    json_object_set_new(said, "step", json_integer(most));
    json_object_set_new(said, "size", json_integer(INT64_MAX));
    s = picture(said);
    assert_non_null(s);
    assert_null(strstr(s, "nan"));
    assert_null(strstr(s, "inf"));
    free(s);
    json_decref(list);
    json_decref(said);
}

/* A guest of 4 views as the lab has it: every cell in some state. */
static void test_many(void **state)
{
    json_t *said = parse(map_text), *cells = json_array();
    char *s;

    (void)state;
    json_object_set_new(said, "cells", cells);
    json_object_set_new(said, "nodes", parse("[0,1,2,3]"));
    for (int i = 0; i < 2560; i++)
        json_array_append_new(
            cells, json_pack("{s:I, s:i, s:[i,i,i,i], s:[i,i,i,i], s:[i,i,i,i], s:[i,i,i,i]}",
                             "gpa", (json_int_t)i << 18, "bytes", 1 << 18, "private",
                             i % 7 ? 64 : 0, 0, i % 5 ? 0 : 8, 0, "masters", i % 7 ? 0 : 64, 0,
                             0, 0, "replicas", 0, i % 7 ? 0 : 64, i % 14 ? 0 : 64, 0, "reads",
                             i % 40, i * i % 300, 0, i % 3));
    s = picture(said);
    assert_non_null(s);
    assert_true(strlen(s) < 4u << 20);
    free(s);
    json_decref(said);
}

/* ---- rubbish ---- */

/* Breaks one value of an object somewhere. */
static void spoil(json_t *j, unsigned *seed)
{
    static const char *const bad[] = {"null",  "-1",   "1e300",    "'\\u001b]0;x\\u0007'",
                                      "[]",    "{}",   "true",     "9223372036854775807",
                                      "[[1]]", "-0.5", "'<&>\\\"'"};
    size_t n = json_is_array(j) ? json_array_size(j) : json_object_size(j), k;
    json_t *v = NULL;
    const char *key = NULL;
    void *it;

    if (!n)
        return;
    k = (size_t)rand_r(seed) % n;
    if (json_is_array(j)) {
        v = json_array_get(j, k);
    } else {
        it = json_object_iter(j);
        while (k--)
            it = json_object_iter_next(j, it);
        key = json_object_iter_key(it);
        v = json_object_iter_value(it);
    }
    if ((json_is_array(v) || json_is_object(v)) && rand_r(seed) % 8) {
        spoil(v, seed);
        return;
    }
    v = NULL;
    {
        char text[64] = "[";

        strcat(text, bad[(size_t)rand_r(seed) % (sizeof(bad) / sizeof(bad[0]))]);
        strcat(text, "]");
        v = parse(text);
    }
    if (key)
        json_object_set(j, key, json_array_get(v, 0));
    else
        json_array_set(j, (size_t)rand_r(seed) % n, json_array_get(v, 0));
    json_decref(v);
}

/* Good answers with some values spoilt: shown or refused, never worse. */
static void test_rubbish(void **state)
{
    unsigned seed = 1, drawn = 0;

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        json_t *said = parse(map_text), *st = parse(pages_text), *g = parse(guest_text);
        char *s;

        for (int k = 0; k <= i % 3; k++) {
            spoil(said, &seed);
            spoil(st, &seed);
        }
        spoil(g, &seed);
        s = picture(said);
        drawn += s != NULL;
        free(s);
        free(told(g, st));
        json_decref(stat_pages_json(g, st));
        json_decref(said);
        json_decref(st);
        json_decref(g);
    }
    assert_in_range(drawn, 10, ROUNDS - 10);
}

/* A table of a million nodes is cut. */
static void test_long_table(void **state)
{
    json_t *g = parse(guest_text), *st = parse(pages_text);
    json_t *nodes = json_object_get(json_object_get(st, "pages"), "nodes");
    unsigned lines = 0;
    char *s;

    (void)state;
    for (int i = 0; i < 10000; i++)
        json_array_append_new(nodes, json_object());
    s = told(g, st);
    for (const char *p = s; *p; p++)
        lines += *p == '\n';
    assert_in_range(lines, 64, 90);
    free(s);
    json_decref(g);
    json_decref(st);
}

/* ---- counts and the host ---- */

/* All pages that are counted are told, each once. */
static void test_walk(void **state)
{
    struct counters c;
    struct page_use *use = xcalloc(1, sizeof(*use));
    uint32_t at = 0;
    uint64_t seen = 0, n = 0;

    (void)state;
    assert_int_equal(counters_init(&c, 4096), 0);
    assert_false(counters_walk(&c, &at, use));
    for (uint64_t page = 1; page <= 60; page++)
        counters_add(&c, page, page % 3, (struct node_use){.reads = (uint32_t)page});
    for (at = 0; counters_walk(&c, &at, use); n++) {
        assert_in_range(use->page, 1, 60);
        assert_int_equal(use->n, 1);
        assert_int_equal(use->use[0].reads, use->page);
        seen |= 1ull << use->page;
    }
    assert_int_equal(n, 60);
    assert_int_equal(seen, 0x1ffffffffffffffeull);
    assert_false(counters_walk(&c, &at, use));
    counters_age(&c, COUNTERS_FORGET);
    at = 0;
    assert_false(counters_walk(&c, &at, use));
    counters_exit(&c);
    free(use);
}

/* Asking leaves nothing behind and always has an answer. */
static void test_features(void **state)
{
    struct guard_features f = {.protects = true};
    int fds = open_fds(), r = guard_ask(&f);

    (void)state;
    if (r) {
        assert_true(r < 0);
        assert_false(f.protects || f.minor || f.signals || f.by_device);
    }
    assert_int_equal(guard_moves_all(), guard_moves_all());
    assert_int_equal(open_fds(), fds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),      cmocka_unit_test(test_why),
        cmocka_unit_test(test_checker),    cmocka_unit_test(test_map),
        cmocka_unit_test(test_picture),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_too_much),   cmocka_unit_test(test_largest),
        cmocka_unit_test(test_many),       cmocka_unit_test(test_rubbish),
        cmocka_unit_test(test_long_table), cmocka_unit_test(test_walk),
        cmocka_unit_test(test_features),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
