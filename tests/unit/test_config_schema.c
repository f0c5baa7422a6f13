/* SPDX-License-Identifier: MIT */
/*
 * Tries every key of the configuration with wrong types, values out of range, and misspelt, from
 * the schema itself: a new row of it is tested without a line here.
 */
#include "tests/unit/cfg_refuse.h"
#include "vmm/config/schema.h"

enum { LINE = 3 }; /* line on which generated files hold their mistake */

/* A file whose line LINE sets a key of a scope; malloc'd.  All else is right. */
static char *make_file(enum cfg_scope scope, const char *key, const char *value)
{
    const char *name = scope == CFG_GUEST && !strcmp(key, "name") ? "" : "name = \"g\";";
    const char *kernel = scope == CFG_GUEST && !strcmp(key, "kernel") ? "" : "kernel = \"k\";";
    const char *path = scope == CFG_DISK && !strcmp(key, "path") ? "" : "path = \"d\";";

    switch (scope) {
    case CFG_SITE:
        if (!strcmp(key, "guests"))
            return xasprintf("#\n#\n%s = %s;\n", key, value);
        return xasprintf("#\n#\n%s = %s;\nguests = ( { %s %s } );\n", key, value, name, kernel);
    case CFG_GUEST:
        return xasprintf("guests = ( {\n%s %s\n%s = %s;\n} );\n", name, kernel, key, value);
    case CFG_DISK:
        return xasprintf("guests = ( { %s %s\ndisks = ( { %s\n%s = %s;\n} ); } );\n", name,
                         kernel, path, key, value);
    case CFG_NET:
        return xasprintf("guests = ( { %s %s\nnets = ( {\n%s = %s;\n} ); } );\n", name, kernel,
                         key, value);
    default:
        return xasprintf("guests = ( { %s %s\nconsole = {\n%s = %s;\n}; } );\n", name, kernel,
                         key, value);
    }
}

/* Refuses one value of a key; the message names the key and says "want". */
static void refuse_value(struct scratch *s, const struct cfg_key *key, const char *value)
{
    char *text = make_file(key->scope, key->name, value), *words = xasprintf("%s", key->name);

    refuse(s, text, LINE, words);
    refuse(s, text, LINE, "want ");
    free(words);
    free(text);
}

/* Values of the wrong type or form for each type of key. */
static const char *const wrong[CFG_NTYPES][12] = {
    [CFG_T_INT] = {"\"4\"", "\"\"", "1.5", "true", "{ }", "( )", "[ 1 ]", "-1",
                   "99999999999999999999"},
    [CFG_T_AUTOINT] = {"\"manual\"", "\"4\"", "1.5", "true", "{ }", "( )", "-1"},
    [CFG_T_BOOL] = {"1", "0", "\"true\"", "1.5", "{ }", "( )"},
    [CFG_T_SIZE] = {"\"12Q\"", "\"\"", "\"M\"", "\"-2M\"", "\"99999999999999999999\"", "1.5",
                    "true", "{ }", "( )", "-1", "\"4 G B\""},
    [CFG_T_TIME] = {"\"12Q\"", "\"\"", "\"5\"", "\"ms\"", "\"-2ms\"", "1.5", "5", "true", "{ }",
                    "( )", "\"99999999999999999999s\""},
    [CFG_T_STRING] = {"5", "1.5", "true", "{ }", "( \"a\" )", "[ \"a\" ]"},
    [CFG_T_PATH] = {"5", "1.5", "true", "{ }", "( \"a\" )", "[ \"a\" ]", "\"\""},
    [CFG_T_ENUM] = {"\"none of them\"", "\"\"", "0", "1.5", "true", "{ }", "( )"},
    [CFG_T_NODES] = {"\"a-b\"", "\"3-1\"", "\"1,\"", "\"1-\"", "1.5", "true", "{ }", "( 1.5 )",
                     "[ -1 ]", "[ 1, 1 ]", "\"0-64\"", "1024"},
    [CFG_T_CONSOLE] = {"\"nowhere\"", "\"file:\"", "\"stdio:x\"", "\"file\"", "\"\"", "5",
                       "true", "( )", "\":\""},
    [CFG_T_GROUPS] = {"5", "\"x\"", "true", "{ }", "[ 1 ]", "( 5 )", "( \"x\" )", "( ( ) )"},
    [CFG_T_TEMPLATES] = {"5", "\"x\"", "true", "( )", "[ 1 ]", "{ a = 5; }", "{ a = ( ); }"},
};

static void test_wrong_type(void **state)
{
    for (unsigned scope = 0; scope < CFG_NSCOPES; scope++) {
        const struct cfg_key *key = NULL;

        while ((key = schema_next((enum cfg_scope)scope, key))) {
            if (key->flags & CFG_F_HIDDEN)
                continue;
            for (unsigned i = 0; i < 12 && wrong[key->type][i]; i++)
                refuse_value(*state, key, wrong[key->type][i]);
        }
    }
}

/* Refuses a number. */
static void refuse_number(struct scratch *s, const struct cfg_key *key, uint64_t v)
{
    char *value = xasprintf("%llu%s", (unsigned long long)v, v >> 31 ? "L" : "");

    refuse_value(s, key, value);
    free(value);
}

/* Refuses text one byte too long, and empty text where that is too short. */
static void refuse_lengths(struct scratch *s, const struct cfg_key *key)
{
    char *value = xcalloc(1, key->max + 4);

    memset(value, 'a', key->max + 3);
    value[0] = value[key->max + 2] = '"';
    value[key->max + 3] = 0;
    refuse_value(s, key, value);
    if (key->min)
        refuse_value(s, key, "\"\"");
    free(value);
}

/* Refuses one group too many, and none where one is needed. */
static void refuse_entries(struct scratch *s, const struct cfg_key *key)
{
    char *value = xcalloc(key->max + 2, 4);

    strcpy(value, "( {}");
    for (uint64_t i = 0; i < key->max; i++)
        memcpy(value + 4 + i * 3, ",{}", 3);
    strcpy(value + 4 + key->max * 3, ")");
    refuse_value(s, key, value);
    if (key->min)
        refuse_value(s, key, "( )");
    free(value);
}

static void test_out_of_range(void **state)
{
    for (unsigned scope = 0; scope < CFG_NSCOPES; scope++) {
        const struct cfg_key *key = NULL;

        while ((key = schema_next((enum cfg_scope)scope, key))) {
            bool number =
                key->type == CFG_T_INT || key->type == CFG_T_AUTOINT || key->type == CFG_T_SIZE;

            if (key->flags & CFG_F_HIDDEN)
                continue;
            if (number && key->min)
                refuse_number(*state, key, key->min - 1);
            if (number)
                refuse_number(*state, key, key->max + 1);
            if (number && key->step)
                refuse_number(*state, key, key->min + 1);
            if (key->type == CFG_T_STRING || key->type == CFG_T_PATH)
                refuse_lengths(*state, key);
            if (key->type == CFG_T_GROUPS)
                refuse_entries(*state, key);
        }
    }
}

/* The edges themselves are taken: one file with all minima, one with all maxima. */
static void test_edges(void **state)
{
    for (int top = 0; top < 2; top++) {
        const struct cfg_key *key = NULL;
        struct site_cfg site;
        struct err err = {0};
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        fputs("guests = ( { name = \"g\"; kernel = \"k\";", f);
        while ((key = schema_next(CFG_GUEST, key))) {
            if (key->flags & CFG_F_HIDDEN ||
                (key->type != CFG_T_INT && key->type != CFG_T_AUTOINT &&
                 key->type != CFG_T_SIZE))
                continue;
            fprintf(f, " %s = %lluL;", key->name,
                    (unsigned long long)(top ? key->max : key->min));
        }
        fputs("} );", f);
        fclose(f);
        if (config_load(&site, write_file(*state, "e.cfg", text), &err))
            fail_msg("%s", err.text);
        assert_int_equal(site.nguests, top ? CFG_MAX_GUESTS : 1);
        config_free(&site);
        free(text);
    }
}

static void test_unknown(void **state)
{
    char name[32], words[64];

    for (unsigned scope = 0; scope < CFG_NSCOPES; scope++) {
        const struct cfg_key *key = NULL;

        while ((key = schema_next((enum cfg_scope)scope, key))) {
            char *text;

            snprintf(words, sizeof(words), "%s: unknown key", key->name);
            if (key->flags & CFG_F_HIDDEN) {
                text = make_file((enum cfg_scope)scope, key->name, "1");
                refuse(*state, text, LINE, words);
                free(text);
                continue;
            }
            snprintf(words, sizeof(words), "unknown key, did you mean %s?", key->name);
            /* no name begins with a digit: x2apic is not swapped */
            for (int swap = 0; swap < (key->name[1] > '9' ? 2 : 1); swap++) {
                snprintf(name, sizeof(name), "%s%s", key->name, swap ? "" : "q");
                if (swap) {
                    name[0] = key->name[1];
                    name[1] = key->name[0];
                }
                text = make_file((enum cfg_scope)scope, name, "1");
                /* a site without `guests` is read as one guest: that is another mistake */
                if (strcmp(key->name, "guests"))
                    refuse(*state, text, LINE, words);
                free(text);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_wrong_type, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_out_of_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_edges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
