/* SPDX-License-Identifier: MIT */
/*
 * Tests what the configuration refuses beyond single keys: syntax, structure, references, rules
 * between keys, odd files, random damage; and `disco check`.
 */
#include "tests/unit/cfg_refuse.h"
#include "vmm/config/valid.h"
#include "vmm/monitor/commands.h"

/* What every file of test_by_hand() may refer to. */
#define G "name = \"g\"; kernel = \"k\"; "

/* A file that is wrong, where, and what the message says. */
struct mistake {
    const char *text; /* the file */
    int line;         /* 0: the file as a whole */
    const char *says; /* part of the message */
};

/* Syntax and structure. */
static const struct mistake structure[] = {
    {"", 1, "nothing is configured, want guests"},
    {"# only a comment\n", 1, "nothing is configured"},
    {"name = \"x\";", 1, "key kernel is missing, want kernel ="},
    {"\nguests = ( { kernel = \"k\" } );", 2, "guests[0]: key name is missing, want name ="},
    {"guests = (\n{ name = \"g\" } );", 2, "guests[0]: key kernel is missing"},
    {"guests = ( { " G "\ndisks = (\n{ } ); } );", 3, "disks[0]: key path is missing"},
    {"kernel = \"k\"\nvcpus = = 4", 2, "syntax error"},
    {"kernel = \"k\"\nvcpus = 4; }", 2, "syntax error"},
    {"kernel = \"k\"\nvcpus = 4; vcpus = 5;", 2, "duplicate setting name"},
    {"guests = ( { " G, 1, "syntax error"},
    {"\nkernel = \"k", 2, "a string begins here and never ends"},
    {"\n\n/* kernel = \"k\";", 3, "a comment begins here and never ends"},
    {"kernel = \"k\"\nguest = ( );", 2, "unknown key, did you mean guests?"},
    {"vcpus = 2;\nguests = ( { " G "} );", 1, "it belongs into a guest"},
    {"guests = ( { " G "\nreadonly = true } );", 2, "it belongs into a disk"},
    {"kernel = \"k\";\nzzzzzzzz = 2;", 2, "zzzzzzzz: unknown key, want one of those"},
    {"guests = ( {\n" G "memroy = \"1G\"; } );", 2,
     "guests[0].memroy: unknown key, did you mean "
     "memory?"},
    {"\n@include \"none.cfg\"", 2, "none.cfg: No such file"},
    {"\n@include none.cfg", 2, "@include: want a path in quotes"},
    {"\n@include \"\"", 2, "@include: want a path in quotes"},
    {"\n@include \"none.cfg\n\"", 2, "@include: want a path in quotes"},
    {"\n\n@include \"t.cfg\"", 3, "includes itself"},
    {"\n@include \".\"", 2, "Is a directory"},
    {"\n@include \"/dev/zero\"", 2, "/dev/zero: want a regular file"},
    {NULL, 0, NULL},
};

/* References to templates and names. */
static const struct mistake references[] = {
    {"guests = ( {\n" G "\ntemplate = \"t\" } );", 3,
     "there is no template \"t\", want one in"},
    {"templates = { web = { } };\nguests = ( { " G "\ntemplate = \"wbe\" } );", 3,
     "did you mean \"web\"?"},
    {"templates = { a = { \ntemplate = \"a\" } };" G, 2, "template \"a\" builds on itself"},
    {"templates = { a = { template = \"b\" };\nb = { template = \"a\" } };" G, 2,
     "builds on itself"},
    {"templates = { a = { template = \"z\" } };\n" G, 1, "there is no template \"z\""},
    {"templates = {\na = { name = \"n\" } };" G, 2, "templates.a.name: is for a guest"},
    {"templates = {\na = { count = 2 } };" G, 2, "templates.a.count: is for a guest"},
    {"templates = {\na = { vcpu = 2 } };" G, 2, "did you mean vcpus?"},
    {"templates = {\na = { vcpus = 0 } };" G, 2, "templates.a.vcpus: got 0, want"},
    {"guests = ( { " G "},\n{ " G "} );", 2, "is already the name of the guest at"},
    {"guests = ( { name = \"g1\"; kernel = \"k\" },\n{ " G "count = 2; } );", 2,
     "\"g1\" is already the name of the guest at"},
    {"guests = ( { " G " count = 1000 },\n{ name = \"h\"; kernel = \"k\"; count = 25 } );", 2,
     "more than 1024 guests"},
    {"guests = ( { " G "count = 2;\nnets = ( { type = \"tap\"; tap = \"t\" } ); } );", 2,
     "tap \"t\" of guest \"g1\" is already that of guest \"g0\""},
    {"guests = ( { " G "count = 2;\nnets = ( { mac = \"52:54:00:00:00:01\" } ); } );", 2,
     "mac \"52:54:00:00:00:01\" of guest \"g1\""},
    {G "\nnets = ( { mac = \"52:54:00:00:00:0a\" },\n{ mac = \"52:54:00:00:00:0A\" } );", 3,
     "mac \"52:54:00:00:00:0a\""},
    {"guests = ( { " G "count = 2;\ndisks = ( { path = \"d\" } ); } );", 2,
     "want a disk for each"},
    {G "disks = ( { path = \"d\" },\n{ path = \"./d\"; readonly = true } );", 2, "disk \"/"},
    {G "disks = ( { path = \"d\"; readonly = true },\n{ path = \"d\" } );", 2, "disk \"/"},
    {"guests = ( { " G "count = 2;\nconsole = \"file:c\" } );", 2, "console \"/"},
    {G "console = \"file:c\";\nvconsole = \"file:c\";", 2, "console \"/"},
    {"guests = ( { " G
     "count = 2;\nnets = ( { type = \"user\"; hostfwd = \"tcp::1-:2\" } ); } );",
     2, "port \"tcp::1\""},
    {NULL, 0, NULL},
};

/* Rules between keys, and the forms of single values. */
static const struct mistake rules[] = {
    {G "vcpus = 2;\nviews = 3;", 2, "got 3 views for 2 vcpus"},
    {G "vcpus = 2; views = 2;\nclock = \"kvmclock\";", 2, "kvmclock works with one view only"},
    {G "vnuma = true;\nplacement = \"one-node\";", 2, "told which addresses are on which node"},
    {G "hugepages = \"hugetlb\";\nplacement = \"first-touch\";", 2,
     "before anyone touches them"},
    {G "vcpus = 2; nodes = [0, 1];\nclock = \"kvmclock\";", 2, "kvmclock works with one view"},
    {G "vcpus = 255;\nx2apic = false;", 2, "want true above 254 vcpus"},
    {G "\nmemory = \"3M\";", 2,
     "got the string \"3M\", want a size from 2M to 64T, a multiple"},
    {G "\nmemory = \"1.3G\";", 2, "want a size"},
    {G "nets = ( {\ntype = \"tap\" } );", 2, "key tap is missing"},
    {G "nets = ( {\ntap = \"t\" } );", 2, "goes with type \"tap\" only"},
    {G "nets = ( {\nhostfwd = \"tcp::1-:1\" } );", 2, "goes with type \"user\" only"},
    {G "nets = ( { type = \"tap\";\ntap = \"a b\" } );", 2, "want a name of up to 15"},
    {G "nets = ( { type = \"tap\";\ntap = \"a%%d\" } );", 2, "want a name of up to 15"},
    {G "nets = ( { type = \"tap\";\ntap = \"../x\" } );", 2, "want a name of up to 15"},
    {G "nets = ( {\nmac = \"52:54:00:12:34\" } );", 2, "want six hex bytes"},
    {G "nets = ( {\nmac = \"52-54-00-12-34-56\" } );", 2, "want six hex bytes"},
    {G "nets = ( {\nmac = \"52:54:00:12:34:5g\" } );", 2, "want six hex bytes"},
    {G "nets = ( {\nmac = \"52:54:00:12:34:5\" } );", 2, "want six hex bytes"},
    {G "nets = ( {\nmac = \"01:54:00:12:34:56\" } );", 2, "this one is multicast"},
    {G "nets = ( {\nmac = \"ff:ff:ff:ff:ff:ff\" } );", 2, "this one is multicast"},
    {G "nets = ( {\nmac = \"00:00:00:00:00:00\" } );", 2, "other than all zeros"},
    {G "console = \"file:c\";\nvconsole = { type = \"file\" };", 2,
     "vconsole: key path is missing"},
    {G "\nconsole = { path = \"p\" };", 2, "path goes with types"},
    {G "console = \"stdio\";\nvconsole = \"stdio\";", 2, "console has the terminal already"},
    {G "console = { type = \"file\"; \npath = \"%q\" };", 2, "want %n (index), %g"},
    {G "\ncmdline = \"50% off\";", 2, "want %n (index), %g"},
    {G "\ncmdline = \"%\";", 2, "want %n (index), %g"},
    {G "\ncmdline = \"a\\nb\";", 2, "text on one line"},
    {G "\nready = \"\\x07\";", 2, "text on one line"},
    {"kernel = \"k\";\nname = \"-x\";", 2, "want letters, digits, - and _"},
    {"kernel = \"k\";\nname = \"a b\";", 2, "want letters, digits, - and _"},
    {"kernel = \"k\";\nname = \"a/../b\";", 2, "want letters, digits, - and _"},
    {"kernel = \"k\";\nname = \"caf\xc3\xa9\";", 2, "want letters, digits, - and _"},
    {"\nsubnet = \"10.0.0.0\"; " G, 2, "want an IPv4 network"},
    {"\nsubnet = \"10.0.0.1/24\"; " G, 2, "want an IPv4 network"},
    {"\nsubnet = \"10.0.0.0/31\"; " G, 2, "want an IPv4 network"},
    {"\nsubnet = \"10.0.0.0/7\"; " G, 2, "want an IPv4 network"},
    {"\nsubnet = \"10.0.0/24\"; " G, 2, "want an IPv4 network"},
    {"\nsubnet = \"fe80::/64\"; " G, 2, "want an IPv4 network"},
    {NULL, 0, NULL},
};

static void run(struct scratch *s, const struct mistake *m)
{
    for (; m->text; m++)
        refuse(s, m->text, m->line, m->says);
}

static void test_by_hand(void **state)
{
    run(*state, structure);
    run(*state, references);
    run(*state, rules);
}

/* Paths for sockets have a limit of the kernel's. */
static void test_long_socket(void **state)
{
    char path[200], *text;

    memset(path, 'p', sizeof(path));
    path[0] = '/';
    path[108] = 0;
    text = xasprintf(G "\nconsole = \"socket:%s\";", path);
    refuse(*state, text, 2, "want at most 107");
    free(text);
    text = xasprintf(G "\nsocket = \"%s\";", path);
    refuse(*state, text, 2, "want a path of 1 to 107");
    free(text);
}

/* Files that are missing, no files, no text, or too large; and includes in a ring. */
static void test_odd_files(void **state)
{
    struct scratch *s = *state;
    struct site_cfg site;
    struct err err = {0};
    char *big = xcalloc(1, (5 << 20) + 1);

    assert_true(config_load(&site, "/nonexistent/x.cfg", &err) < 0);
    assert_int_equal(err.status, EXIT_CONFIG);
    assert_string_equal(err.text, "/nonexistent/x.cfg: No such file or directory");
    err = (struct err){0};
    assert_true(config_load(&site, s->dir, &err) < 0);
    assert_non_null(strstr(err.text, "Is a directory"));
    err = (struct err){0};
    assert_true(config_load(&site, write_bytes(s, "z.cfg", "a = 1;\0b", 8), &err) < 0);
    assert_non_null(strstr(err.text, "zero byte"));
    memset(big, '\n', 5 << 20);
    err = (struct err){0};
    assert_true(config_load(&site, write_file(s, "b.cfg", big), &err) < 0);
    assert_non_null(strstr(err.text, "at most 4M"));
    free(big);
    write_file(s, "ring1.cfg", "\n@include \"ring2.cfg\"\n");
    write_file(s, "ring2.cfg", "@include \"ring1.cfg\"\n");
    snprintf(s->path, sizeof(s->path), "%s/ring1.cfg", s->dir);
    err = (struct err){0};
    assert_true(config_load(&site, s->path, &err) < 0);
    assert_non_null(strstr(err.text, "ring2.cfg:1: @include: this file includes itself"));
}

/* The line of a mistake is that of the included file, and behind it that of the including one. */
static void test_included_lines(void **state)
{
    struct scratch *s = *state;
    struct site_cfg site;
    struct err err = {0};

    write_file(s, "bad.cfg", "# one\nkernel = \"k\";\nmemory = 1;");
    assert_true(config_load(&site, write_file(s, "i.cfg", "@include \"bad.cfg\"\n"), &err) < 0);
    assert_non_null(strstr(err.text, "/bad.cfg:3: memory: got 1, want"));
    write_file(s, "bad.cfg", "# one\nkernel = = 1");
    err = (struct err){0};
    assert_true(config_load(&site, write_file(s, "i.cfg", "@include \"bad.cfg\"\n"), &err) < 0);
    assert_non_null(strstr(err.text, "/bad.cfg:2: syntax error"));
    write_file(s, "inc.cfg", "# one\n\nkernel = \"k\";");
    refuse(s, "\n  @include \"inc.cfg\" vcpus = 0;", 2, "vcpus: got 0");
    refuse(s, "\n  @include \"inc.cfg\"\nvcpus = 0;", 3, "vcpus: got 0");
}

/* What the serialiser would not write. */
static void test_parse_guest(void **state)
{
    static const char *const texts[] = {
        "",
        "name = \"g\";",
        G "count = 2;",
        G "template = \"t\";",
        G "@",
        G "vcpus = 0;",
        G "\n@include \"x\"\n",
        G "views = 2;",
        "guests = ( );",
    };
    struct guest_cfg g, zero = {0};

    (void)state;
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct err err = {0};

        assert_true(config_parse_guest(&g, texts[i], &err) < 0);
        assert_int_equal(err.status, EXIT_CONFIG);
        assert_memory_equal(&g, &zero, sizeof(g));
    }
    assert_true(config_parse_guest(&g, "", NULL) < 0);
}

static void test_distance(void **state)
{
    (void)state;
    assert_int_equal(valid_distance("", ""), 0);
    assert_int_equal(valid_distance("memory", "memory"), 0);
    assert_int_equal(valid_distance("memory", "memroy"), 1);
    assert_int_equal(valid_distance("memory", "emory"), 1);
    assert_int_equal(valid_distance("memory", "mememory"), 2);
    assert_int_equal(valid_distance("", "abc"), 3);
    assert_int_equal(valid_distance("kitten", "sitting"), 3);
    assert_true(valid_distance("x", "01234567890123456789012345678901234567890") > 1000);
}

static void test_hostfwd(void **state)
{
    static const char *const right[] = {
        "tcp::2222-:22",
        "udp:127.0.0.1:53-10.0.2.15:53",
        "tcp::1-:65535,udp::65535-:1",
    };
    static const char *const bad[] = {
        "",
        "tcp",
        "tcp:",
        "tcp::",
        "tcp::22",
        "tcp::22-",
        "tcp::22-:",
        "tcp::22:22",
        "sctp::22-:22",
        "tcp::0-:22",
        "tcp::22-:0",
        "tcp::65536-:22",
        "tcp::22-:22,",
        ",tcp::22-:22",
        "tcp:host:22-:22",
        "tcp:1.2.3:22-:22",
        "tcp::22-:22 ",
        "tcp::-1-:22",
        "tcp::99999999999-:22",
        "tcp:22-:22",
        "tcp::22-:22,,tcp::23-:23",
        "tcp::22-22",
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(right) / sizeof(right[0]); i++)
        assert_null(valid_hostfwd(right[i]));
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_non_null(valid_hostfwd(bad[i]));
}

/* A file that uses most of the language, to be damaged. */
static const char whole[] =
    "name = \"s\"; subnet = \"10.0.0.0/24\";\n"
    "templates = { a = { kernel = \"k\"; vcpus = 2; nodes = (0, \"1-3\"); };\n"
    "  b = { template = \"a\"; disks = ( { path = \"d%n\"; queues = 2 } ); }; };\n"
    "/* c */ guests = ( { name = \"w\"; template = \"b\"; count = 3; memory = \"64M\";\n"
    "  nets = ( { type = \"tap\"; tap = \"t%n\"; mac = \"52:54:00:00:00:0%n\"; } );\n"
    "  console = \"file:/c%g\"; cmdline = \"a=%% \\\"q\\\"\"; # d\n"
    "  }, { name = \"v\"; template = \"a\"; views = \"auto\"; vconsole = { type = \"pty\" } } "
    ");\n";

/* Damages a copy of text in one to four places; malloc'd. */
static char *damage(const char *text, unsigned *seed)
{
    static const char *const pieces[] = {"{",
                                         "}",
                                         "(",
                                         ")",
                                         "[",
                                         "]",
                                         ";",
                                         "\"",
                                         "=",
                                         ",",
                                         "@include \"",
                                         "/*",
                                         "*/",
                                         "%",
                                         "-1",
                                         "99999999999",
                                         "1.5",
                                         "\n",
                                         "\\",
                                         "true",
                                         "auto",
                                         ":",
                                         "name = \"w\";",
                                         "{}",
                                         "template"};
    char *now = xstrdup(text), *next;

    for (int n = rand_r(seed) % 4; n >= 0; n--) {
        size_t len = strlen(now), at = (size_t)rand_r(seed) % (len + 1);
        size_t cut = (size_t)rand_r(seed) % 3 ? (size_t)rand_r(seed) % 6 : 0;
        const char *piece = pieces[(size_t)rand_r(seed) % (sizeof(pieces) / sizeof(pieces[0]))];

        if (cut > len - at)
            cut = len - at;
        next =
            xasprintf("%.*s%s%s", (int)at, now, rand_r(seed) % 3 ? piece : "", now + at + cut);
        free(now);
        now = next;
    }
    return now;
}

/* Damaged files are taken or refused with a message, and leave nothing behind. */
static void test_damage(void **state)
{
    unsigned seed = 1, taken = 0;

    for (int i = 0; i < 4000; i++) {
        char *text = damage(whole, &seed);
        struct site_cfg site;
        struct err err = {0};
        int ret = config_load(&site, write_file(*state, "m.cfg", text), &err);

        assert_int_equal(ret < 0, err.status != 0);
        if (ret) {
            assert_null(site.guests);
            assert_true(err.text[0] != 0);
        } else {
            taken++;
            assert_true(site.nguests > 0);
        }
        config_free(&site);
        free(text);
    }
    assert_true(taken > 40 && taken < 3900);
}

/* The program's main file has it; here nobody reads what it would print. */
int cmd_usage(const char *name, const char *fmt, ...)
{
    (void)name;
    (void)fmt;
    return EXIT_USAGE;
}

/* Runs `disco check` with one or two arguments, its output thrown away. */
static int check(const char *first, const char *second)
{
    char *argv[] = {xstrdup("check"), xstrdup(first), xstrdup(second), NULL};
    int out, err, ret;

    fflush(stdout);
    out = dup(1);
    err = dup(2);
    assert_non_null(freopen("/dev/null", "w", stdout));
    assert_true(dup2(1, 2) == 2);
    ret = cmd_check(!first ? 1 : second ? 3 : 2, argv);
    fflush(stdout);
    assert_true(dup2(out, 1) == 1 && dup2(err, 2) == 2);
    close(out);
    close(err);
    for (int i = 0; i < 3; i++)
        free(argv[i]);
    return ret;
}

static void test_command(void **state)
{
    struct scratch *s = *state;
    char *good, *bad;

    write_file(s, "k", "kernel");
    good = xstrdup(write_file(s, "good.cfg", "kernel = \"k\""));
    bad = xstrdup(write_file(s, "bad.cfg", "kernel = \"nosuch\""));
    assert_int_equal(check(NULL, NULL), EXIT_USAGE);
    assert_int_equal(check("--what", NULL), EXIT_USAGE);
    assert_int_equal(check("--schema=xml", NULL), EXIT_USAGE);
    assert_int_equal(check("--schema", good), EXIT_USAGE);
    assert_int_equal(check("--schema", NULL), EXIT_OK);
    assert_int_equal(check("--schema=json", NULL), EXIT_OK);
    assert_int_equal(check("--schema=man", NULL), EXIT_OK);
    assert_int_equal(check(good, NULL), EXIT_OK);
    assert_int_equal(check("--json", good), EXIT_OK);
    assert_int_equal(check(bad, good), EXIT_CONFIG);
    assert_int_equal(check("--json", bad), EXIT_CONFIG);
    assert_int_equal(check("--no-files", bad), EXIT_OK);
    free(good);
    free(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_by_hand, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_socket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_odd_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_included_lines, set_up, tear_down),
        cmocka_unit_test(test_parse_guest),
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_hostfwd),
        cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_command, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
