/* SPDX-License-Identifier: MIT */
/*
 * Tests what files the configuration takes and what it makes of them: templates, counts, includes,
 * defaults, files, derived addresses.  What it refuses: test_config_bad.c, test_config_schema.c.
 * Runs from the root of the tree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/config/config.h"
#include "vmm/config/schema.h"

#include <cmocka.h> /* last: it has a macro called fail() */

#define DATA "tests/unit/data/"

/* A directory for the files of one test. */
struct scratch {
    char dir[64];   /* its path */
    char path[128]; /* the file written last */
};

static int set_up(void **state)
{
    struct scratch *s = xcalloc(1, sizeof(*s));

    strcpy(s->dir, "/tmp/disco-config-XXXXXX");
    *state = s;
    return mkdtemp(s->dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct scratch *s = *state;
    char *command = xasprintf("rm -r '%s'", s->dir);
    int ret = system(command);

    free(command);
    free(s);
    return ret;
}

/* Writes a file into the scratch directory. */
static const char *write_file(struct scratch *s, const char *name, const char *text)
{
    FILE *f;

    snprintf(s->path, sizeof(s->path), "%s/%s", s->dir, name);
    f = fopen(s->path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return s->path;
}

/* Loads a file that must be right. */
static void load(struct site_cfg *site, const char *path)
{
    struct err err = {0};

    if (config_load(site, path, &err))
        fail_msg("%s", err.text);
    assert_int_equal(err.status, 0);
}

/* Asserts that a path ends so. */
static void assert_ends(const char *path, const char *end)
{
    assert_true(path[0] == '/');
    assert_true(strlen(path) >= strlen(end));
    assert_string_equal(path + strlen(path) - strlen(end), end);
}

/* Asserts that two structs of a scope hold the same, key by key. */
static void assert_same(enum cfg_scope scope, void *a, void *b)
{
    const struct cfg_key *key = NULL;
    char *x, *y;

    while ((key = schema_next(scope, key))) {
        if (key->flags & CFG_F_SHAPE)
            continue;
        switch (key->type) {
        case CFG_T_STRING:
        case CFG_T_PATH:
            memcpy(&x, schema_field(key, a), sizeof(x));
            memcpy(&y, schema_field(key, b), sizeof(y));
            assert_true(!x == !y);
            if (x)
                assert_string_equal(x, y);
            break;
        case CFG_T_CONSOLE:
            assert_same(key->sub, schema_field(key, a), schema_field(key, b));
            break;
        case CFG_T_NODES:
            assert_int_equal(*schema_count(key, a), *schema_count(key, b));
            assert_memory_equal(schema_field(key, a), schema_field(key, b),
                                *schema_count(key, a) * key->size);
            break;
        case CFG_T_GROUPS:
            assert_int_equal(*schema_count(key, a), *schema_count(key, b));
            for (unsigned i = 0; i < *schema_count(key, a); i++)
                assert_same(key->sub, (char *)schema_field(key, a) + i * key->size,
                            (char *)schema_field(key, b) + i * key->size);
            break;
        default:
            assert_true(schema_get(key, a) == schema_get(key, b));
            break;
        }
    }
}

/* Prints a guest, reads it back, compares all fields, and prints again. */
static void round_trip(struct guest_cfg *g)
{
    struct guest_cfg back;
    struct err err = {0};
    char *text = config_print_guest(g), *again;

    if (config_parse_guest(&back, text, &err))
        fail_msg("%s\nof\n%s", err.text, text);
    assert_same(CFG_GUEST, g, &back);
    again = config_print_guest(&back);
    assert_string_equal(text, again);
    config_free_guest(&back);
    free(again);
    free(text);
}

/* ---- tests ---- */

static void test_site(void **state)
{
    struct site_cfg site;
    const struct guest_cfg *g;

    (void)state;
    load(&site, DATA "site.cfg");
    assert_string_equal(site.name, "plant");
    assert_string_equal(site.subnet, "10.7.0.0/16");
    assert_ends(site.socket, "/" DATA "run/plant.sock");
    assert_string_equal(site.rundir, "/var/run/plant/logs");
    assert_int_equal(site.nguests, 5);
    for (unsigned i = 0; i < 3; i++) {
        char want[64];

        g = &site.guests[i];
        snprintf(want, sizeof(want), "web%u", i);
        assert_string_equal(g->name, want);
        snprintf(want, sizeof(want), "host=web%u index=%u", i, i);
        assert_string_equal(g->cmdline, want);
        snprintf(want, sizeof(want), "/" DATA "parts/disks/web%u.img", i);
        assert_ends(g->disks[0].path, want);
        snprintf(want, sizeof(want), "tap%u", i);
        assert_string_equal(g->nets[0].tap, want);
        snprintf(want, sizeof(want), "52:54:00:00:00:0%u", i);
        assert_string_equal(g->nets[1].mac, want);
        snprintf(want, sizeof(want), "/log/web%u", i);
        assert_string_equal(g->console.path, want);
        assert_int_equal(g->console.type, CFG_CON_FILE);
        assert_int_equal(g->nets[1].type, CFG_NET_SUBNET);
        assert_int_equal(g->vcpus, 2);
        assert_false(g->rng);
        assert_int_equal(g->line, 10);
    }
    g = &site.guests[3];
    assert_string_equal(g->name, "db");
    assert_string_equal(g->cmdline, "say \"@include\" 100% db");
    assert_true(g->memory == 3ull << 29);
    assert_int_equal(g->nnodes, 2);
    assert_int_equal(g->nodes[1], 1);
    assert_int_equal(g->views, 2);
    assert_ends(g->kernel, "/" DATA "parts/vmlinuz");
    assert_ends(g->initrd, "/" DATA "parts/../initrd");
    g = &site.guests[4];
    assert_string_equal(g->name, "last");
    assert_string_equal(g->site, "plant");
    assert_ends(g->file, DATA "parts/guest.cfg");
    assert_int_equal(g->line, 1);
    config_free(&site);
    assert_null(site.guests);
}

static void test_single(void **state)
{
    static const int nodes[] = {2, 3, 0};
    struct site_cfg site;
    const struct guest_cfg *g;

    (void)state;
    load(&site, DATA "single.cfg");
    assert_string_equal(site.name, "single");
    assert_int_equal(site.nguests, 1);
    g = &site.guests[0];
    assert_string_equal(g->name, "single");
    assert_true(g->memory == 64ull << 20);
    assert_int_equal(g->console.type, CFG_CON_STDIO);
    assert_int_equal(g->nnodes, 3);
    assert_memory_equal(g->nodes, nodes, sizeof(nodes));
    config_free(&site);
}

/* A single guest may have count, templates and site keys too; its file may be oddly named. */
static void test_single_more(void **state)
{
    struct site_cfg site;

    load(&site, write_file(*state, "-my site.v2.cfg",
                           "rundir = \"r\"; kernel = \"k\"; count = 2; template = \"t\";\n"
                           "templates = { t = { vcpus = 3; } };"));
    assert_string_equal(site.name, "my-site");
    assert_int_equal(site.nguests, 2);
    assert_string_equal(site.guests[1].name, "my-site1");
    assert_int_equal(site.guests[1].vcpus, 3);
    config_free(&site);
    load(&site, write_file(*state, "x.cfg", "name = \"one\"; count = 1; kernel = \"k\";"));
    assert_string_equal(site.name, "one");
    assert_string_equal(site.guests[0].name, "one");
    config_free(&site);
    load(&site, write_file(*state, ".cfg", "kernel = \"k\""));
    assert_string_equal(site.name, "cfg");
    config_free(&site);
}

static void test_defaults(void **state)
{
    struct site_cfg site;
    struct guest_cfg *g;

    load(&site, write_file(*state, "d.cfg", "kernel = \"/k\""));
    g = &site.guests[0];
    assert_string_equal(site.subnet, "10.0.0.0/24");
    assert_null(site.socket);
    assert_null(site.rundir);
    assert_int_equal(g->vcpus, 1);
    assert_true(g->memory == 256ull << 20);
    assert_false(g->hugetlb);
    assert_string_equal(g->kernel, "/k");
    assert_null(g->initrd);
    assert_string_equal(g->cmdline, "");
    assert_int_equal(g->boot, CFG_BOOT_AUTO);
    assert_int_equal(g->nnodes, 0);
    assert_int_equal(g->views, 0);
    assert_false(g->vnuma);
    assert_int_equal(g->clock, CFG_CLOCK_TSC);
    assert_true(g->x2apic && g->pin && g->rng && g->balloon);
    assert_false(g->debug_exit || g->fwcfg);
    assert_int_equal(g->console.type, CFG_CON_MONITOR);
    assert_int_equal(g->vconsole.type, CFG_CON_NONE);
    assert_int_equal(g->on_reset, CFG_EXIT_POWEROFF);
    assert_null(g->ready);
    assert_int_equal(g->weight, 100);
    assert_int_equal(g->ndisks + g->nnets, 0);
    round_trip(g);
    config_free(&site);
}

/* Consoles in all forms. */
static void test_consoles(void **state)
{
    static const char *const texts[] = {
        "\"none\"",
        "\"stdio\"",
        "\"file:/p\"",
        "\"socket:/p\"",
        "\"pty\"",
        "\"monitor\"",
        "{ }",
        "{ type = \"pty\" }",
        "{ type = \"file\"; path = \"/p\" }",
    };
    static const enum cfg_console types[] = {
        CFG_CON_NONE,    CFG_CON_STDIO,   CFG_CON_FILE, CFG_CON_SOCKET, CFG_CON_PTY,
        CFG_CON_MONITOR, CFG_CON_MONITOR, CFG_CON_PTY,  CFG_CON_FILE,
    };

    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char *text = xasprintf("kernel = \"k\"; vconsole = %s;", texts[i]);
        struct site_cfg site;
        struct guest_cfg *g;

        load(&site, write_file(*state, "c.cfg", text));
        g = &site.guests[0];
        assert_int_equal(g->vconsole.type, types[i]);
        if (types[i] == CFG_CON_FILE || types[i] == CFG_CON_SOCKET)
            assert_string_equal(g->vconsole.path, "/p");
        else
            assert_null(g->vconsole.path);
        round_trip(g);
        config_free(&site);
        free(text);
    }
}

/* A key of the guest, and of a nearer template, wins; a list replaces a list. */
static void test_layers(void **state)
{
    struct site_cfg site;

    load(&site,
         write_file(*state, "l.cfg",
                    "templates = { c = { template = \"b\"; vcpus = 3; };\n"
                    "  a = { kernel = \"k\"; vcpus = 1; weight = 1; ready = \"up\";\n"
                    "        disks = ({path=\"1\"},{path=\"2\"}); nodes = [1,2,3];\n"
                    "        console = \"file:f\"; };\n"
                    "  b = { template = \"a\"; vcpus = 2; weight = 2; }; };\n"
                    "guests = ( { name = \"g\"; template = \"c\"; disks = ({path=\"3\"});\n"
                    "             nodes = [7]; console = \"pty\"; weight = 4; } );"));
    assert_int_equal(site.guests[0].vcpus, 3);
    assert_int_equal(site.guests[0].weight, 4);
    assert_string_equal(site.guests[0].ready, "up");
    assert_int_equal(site.guests[0].ndisks, 1);
    assert_ends(site.guests[0].disks[0].path, "/3");
    assert_int_equal(site.guests[0].nnodes, 1);
    assert_int_equal(site.guests[0].nodes[0], 7);
    assert_int_equal(site.guests[0].nodes[1], 0);
    assert_null(site.guests[0].console.path);
    config_free(&site);
}

/* Every field away from its default, and text that needs quoting, survives printing. */
static void test_round_trip(void **state)
{
    struct site_cfg site;

    load(&site,
         write_file(
             *state, "r.cfg",
             "guests = ( { name = \"abcdefghijklmnopqrstuvwxyz-_0123\"; count = 10;\n"
             "vcpus = 300; memory = \"1.5G\"; hugepages = \"hugetlb\";\n"
             "kernel = \"/a b/%n \\\"q\\\" \\\\k\\x01\\n\"; initrd = \"/i%\";\n"
             "cmdline = \"a=%%n b=%n \\\"%g\\\" \\\\ caf\xc3\xa9\"; boot = \"pvh\";\n"
             "nodes = (\"4-6\", 1023, \"0\"); views = 5; placement = \"interleave\"; clock = "
             "\"tsc\";\n"
             "x2apic = true; pin = false; rng = false; balloon = false;\n"
             "debug_exit = true; fwcfg = true; on_reset = \"restart\";\n"
             "ready = \"%g login:\"; weight = 10000;\n"
             "disks = ( { path = \"/d%%%n\"; queues = 16; serial = \"s%n\"; },\n"
             "          { path = \"/ro\"; readonly = true; } );\n"
             "nets = ( { type = \"tap\"; tap = \"t%n\"; mac = \"02:00:00:00:01:%n0\"; },\n"
             "         { type = \"user\"; hostfwd = \"tcp::2%n-:22,udp:127.0.0.1:3%n-"
             "10.0.2.15:3\"; }, { type = \"subnet\" } );\n"
             "console = \"file:/c%n\"; vconsole = { type = \"socket\"; path = \"/s%n\"; };\n"
             "}, { name = \"v\"; kernel = \"/k\"; vcpus = 2; nodes = [1, 0]; vnuma = true; } "
             ");"));
    for (unsigned i = 0; i < site.nguests; i++)
        round_trip(&site.guests[i]);
    config_free(&site);
}

static void test_mac(void **state)
{
    enum { GUESTS = 1000 };
    struct net_cfg none = {0};
    struct guest_cfg *g = xcalloc(1, sizeof(*g));
    uint64_t seen[GUESTS * 2];
    uint8_t mac[6], again[6];
    char name[16];

    (void)state;
    g->name = name;
    g->nnets = 2;
    g->nets[0] = g->nets[1] = none;
    for (unsigned i = 0; i < GUESTS * 2; i++) {
        snprintf(name, sizeof(name), "web%u", i / 2);
        config_mac(g, i % 2, mac);
        config_mac(g, i % 2, again);
        assert_memory_equal(mac, again, 6);
        assert_int_equal(mac[0] & 3, 2); /* local, one station */
        seen[i] = 0;
        memcpy(&seen[i], mac, 6);
        for (unsigned j = 0; j < i; j++)
            assert_true(seen[i] != seen[j]);
    }
    strcpy(name, "web0");
    config_mac(g, 0, mac);
    g->site = name;
    config_mac(g, 0, again);
    assert_memory_not_equal(mac, again, 6);
    g->nets[0].mac = xstrdup("52:54:00:aB:0c:01");
    config_mac(g, 0, mac);
    assert_memory_equal(mac, "\x52\x54\x00\xab\x0c\x01", 6);
    free(g->nets[0].mac);
    free(g);
}

static void test_socket(void **state)
{
    char *path = config_default_socket("plant");

    (void)state;
    assert_ends(path, "/plant.sock");
    if (geteuid() == 0)
        assert_string_equal(path, "/run/disco/plant.sock");
    free(path);
}

/* Loads a text and looks for its files; wants this status and these words. */
static void check_files(struct scratch *s, const char *text, int status, const char *words)
{
    struct site_cfg site;
    struct err err = {0};
    int ret;

    load(&site, write_file(s, "f.cfg", text));
    ret = config_check_files(&site, &err);
    config_free(&site);
    assert_int_equal(err.status, status);
    assert_true(status ? ret < 0 : ret == 0);
    if (words && !strstr(err.text, words))
        fail_msg("\"%s\" is not in \"%s\"", words, err.text);
}

static void test_files(void **state)
{
    struct scratch *s = *state;
    char *link;

    write_file(s, "k", "kernel");
    write_file(s, "d", "disk");
    link = xasprintf("%s/l", s->dir);
    assert_int_equal(symlink("d", link), 0);
    check_files(s, "kernel=\"k\"; initrd=\"k\"; disks=({path=\"d\"});", 0, NULL);
    check_files(s, "kernel=\"no\";", EXIT_KERNEL, "f.cfg:1: guest f: kernel: ");
    check_files(s, "kernel=\".\";", EXIT_KERNEL, "regular file");
    check_files(s, "kernel=\"k\"; initrd=\"no\";", EXIT_KERNEL, "guest f: initrd: ");
    check_files(s, "kernel=\"k\"; disks=({path=\"no\"});", EXIT_RESOURCE, "guest f: disk: ");
    check_files(s, "kernel=\"k\"; disks=({path=\"/dev/null\"});", EXIT_RESOURCE,
                "block device");
    check_files(s, "kernel=\"k\"; disks=({path=\"d\"},{path=\"l\"});", EXIT_RESOURCE,
                "is the same file as");
    check_files(s, "kernel=\"k\"; disks=({path=\"d\";readonly=true},{path=\"l\"});",
                EXIT_RESOURCE, "is the same file as");
    check_files(s,
                "kernel=\"k\"; disks=({path=\"d\";readonly=true},{path=\"l\";readonly=true});",
                0, NULL);
    if (geteuid() != 0) {
        assert_int_equal(chmod(link, 0), 0);
        check_files(s, "kernel=\"k\"; disks=({path=\"d\"});", EXIT_PERMISSION,
                    "may not be read");
    }
    free(link);
}

/* All three forms of the schema print, and name every key people may write. */
static void test_schema(void **state)
{
    (void)state;
    for (int format = SCHEMA_TEXT; format <= SCHEMA_MAN; format++) {
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        schema_print(f, (enum schema_format)format);
        fclose(f);
        for (unsigned scope = 0; scope < CFG_NSCOPES; scope++) {
            const struct cfg_key *key = NULL;

            while ((key = schema_next((enum cfg_scope)scope, key))) {
                assert_non_null(key->doc);
                if (!(key->flags & CFG_F_HIDDEN))
                    assert_non_null(strstr(text, key->name));
            }
        }
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_site),
        cmocka_unit_test(test_single),
        cmocka_unit_test_setup_teardown(test_single_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_consoles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_layers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test(test_mac),
        cmocka_unit_test(test_socket),
        cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
        cmocka_unit_test(test_schema),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
