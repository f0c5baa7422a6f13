/* SPDX-License-Identifier: MIT */
/*
 * Fields by the schema: default, set, get, clear, and say in words what a key wants.
 * Interface in schema.h.  Every function works on one row and one struct; nothing is kept.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "vmm/config/config.h"
#include "vmm/config/schema.h"
#include "vmm/config/valid.h"

/* Bytes of a struct of each scope, to step through arrays of groups. */
static const size_t struct_size[CFG_NSCOPES] = {
    [CFG_SITE] = sizeof(struct site_cfg),       [CFG_GUEST] = sizeof(struct guest_cfg),
    [CFG_DISK] = sizeof(struct disk_cfg),       [CFG_NET] = sizeof(struct net_cfg),
    [CFG_CONSOLE] = sizeof(struct console_cfg),
};

const char *schema_scope_name(enum cfg_scope scope)
{
    static const char *const names[CFG_NSCOPES] = {"site", "guest", "disk", "net", "console"};

    return names[scope];
}

const char *schema_type_name(enum cfg_type type)
{
    static const char *const names[CFG_NTYPES] = {
        [CFG_T_INT] = "int",
        [CFG_T_AUTOINT] = "int or \"auto\"",
        [CFG_T_BOOL] = "bool",
        [CFG_T_SIZE] = "size",
        [CFG_T_TIME] = "time",
        [CFG_T_STRING] = "string",
        [CFG_T_PATH] = "path",
        [CFG_T_ENUM] = "enum",
        [CFG_T_NODES] = "list of int",
        [CFG_T_CONSOLE] = "console",
        [CFG_T_GROUPS] = "list of groups",
        [CFG_T_TEMPLATES] = "group of groups",
    };

    return names[type];
}

void *schema_field(const struct cfg_key *key, void *base)
{
    return (char *)base + key->offset;
}

unsigned *schema_count(const struct cfg_key *key, void *base)
{
    return (unsigned *)(void *)((char *)base + key->count_offset);
}

void schema_set(const struct cfg_key *key, void *base, uint64_t value)
{
    void *at = schema_field(key, base);
    uint32_t word = (uint32_t)value;
    bool flag = value != 0;

    INVARIANT(key->size == 1 || key->size == 4 || key->size == 8,
              "a number has 1, 4 or 8 bytes");
    if (key->size == 1)
        memcpy(at, &flag, sizeof(flag));
    else if (key->size == 4)
        memcpy(at, &word, sizeof(word));
    else
        memcpy(at, &value, sizeof(value));
}

uint64_t schema_get(const struct cfg_key *key, const void *base)
{
    const void *at = (const char *)base + key->offset;
    uint64_t value = 0;

    INVARIANT(key->size == 1 || key->size == 4 || key->size == 8,
              "a number has 1, 4 or 8 bytes");
    memcpy(&value, at, key->size); /* little endian: x86-64 only */
    return value;
}

/* Stores the index of a name of an enum. */
static void set_name(const struct cfg_key *key, void *base, const char *name)
{
    unsigned i = 0;

    while (key->names[i] && strcmp(key->names[i], name) != 0)
        i++;
    INVARIANT(key->names[i], "the default of an enum is one of its names");
    schema_set(key, base, i);
}

/* Stores the default of one key. */
static void set_default(const struct cfg_key *key, void *base)
{
    struct console_cfg *con;
    uint64_t value = 0;
    char *text;

    if (!key->def || key->flags & CFG_F_SHAPE)
        return;
    switch (key->type) {
    case CFG_T_STRING:
    case CFG_T_PATH:
        text = xstrdup(key->def);
        memcpy(schema_field(key, base), &text, sizeof(text));
        break;
    case CFG_T_ENUM:
        set_name(key, base, key->def);
        break;
    case CFG_T_BOOL:
        schema_set(key, base, !strcmp(key->def, "true"));
        break;
    case CFG_T_CONSOLE:
        con = schema_field(key, base);
        set_name(schema_find(key->sub, "type"), con, key->def);
        break;
    case CFG_T_INT:
    case CFG_T_SIZE:
        INVARIANT(!units_parse_size(key->def, &value), "the default of a number reads as one");
        schema_set(key, base, value);
        break;
    case CFG_T_TIME:
        INVARIANT(!units_parse_duration(key->def, &value),
                  "the default of a time reads as one");
        schema_set(key, base, value);
        break;
    default: /* "auto" is 0, lists are empty */
        break;
    }
}

void schema_defaults(enum cfg_scope scope, void *base)
{
    const struct cfg_key *key = NULL;

    while ((key = schema_next(scope, key)))
        set_default(key, base);
}

/* Frees all groups of a list. */
static void clear_groups(const struct cfg_key *key, void *base)
{
    unsigned *count = schema_count(key, base);
    char *at = schema_field(key, base);

    for (unsigned i = 0; i < *count; i++)
        schema_clear(key->sub, at + i * struct_size[key->sub]);
    *count = 0;
}

void schema_clear_key(const struct cfg_key *key, void *base)
{
    char *text;

    if (key->flags & CFG_F_SHAPE)
        return;
    switch (key->type) {
    case CFG_T_STRING:
    case CFG_T_PATH:
        memcpy(&text, schema_field(key, base), sizeof(text));
        free(text);
        memset(schema_field(key, base), 0, sizeof(text));
        break;
    case CFG_T_GROUPS:
        clear_groups(key, base);
        break;
    case CFG_T_NODES:
        memset(schema_field(key, base), 0, key->size * key->max);
        *schema_count(key, base) = 0;
        break;
    case CFG_T_CONSOLE:
        schema_clear(key->sub, schema_field(key, base));
        break;
    default:
        schema_set(key, base, 0);
        break;
    }
}

void schema_clear(enum cfg_scope scope, void *base)
{
    const struct cfg_key *key = NULL;

    while ((key = schema_next(scope, key)))
        schema_clear_key(key, base);
}

/* "an integer from 1 to 16" and the like. */
static void want_number(const struct cfg_key *key, FILE *out)
{
    char low[UNITS_TEXT], high[UNITS_TEXT], step[UNITS_TEXT];

    if (key->type != CFG_T_SIZE) {
        fprintf(out, "an integer from %llu to %llu", (unsigned long long)key->min,
                (unsigned long long)key->max);
        if (key->type == CFG_T_AUTOINT)
            fputs(", or \"auto\"", out);
        return;
    }
    fprintf(out, "a size from %s to %s", units_print_size(low, key->min),
            units_print_size(high, key->max));
    if (key->step)
        fprintf(out, ", a multiple of %s", units_print_size(step, key->step));
    fputs(", such as \"256M\" or \"4G\"", out);
}

/* "a time from 1ms to 10s, such as ...". */
static void want_time(const struct cfg_key *key, FILE *out)
{
    char low[UNITS_TEXT], high[UNITS_TEXT];

    fprintf(out, "a time from %s to %s, such as \"10ms\" or \"1s\"",
            units_print_duration(low, key->min), units_print_duration(high, key->max));
}

/* "one of "a", "b"". */
static void want_enum(const char *const *names, FILE *out)
{
    fputs("one of ", out);
    for (unsigned i = 0; names[i]; i++)
        fprintf(out, "%s\"%s\"", i ? ", " : "", names[i]);
}

/* "a string of at most 15 bytes". */
static void want_text(const struct cfg_key *key, FILE *out)
{
    const char *what = key->type == CFG_T_PATH ? "a path" : "a string";

    if (key->min)
        fprintf(out, "%s of %llu to %llu bytes", what, (unsigned long long)key->min,
                (unsigned long long)key->max);
    else
        fprintf(out, "%s of at most %llu bytes", what, (unsigned long long)key->max);
}

/* "a list of at most 16 groups". */
static void want_groups(const struct cfg_key *key, FILE *out)
{
    if (key->min)
        fprintf(out, "a list of %llu to", (unsigned long long)key->min);
    else
        fputs("a list of at most", out);
    fprintf(out, " %llu groups, ( { ... }, { ... } )", (unsigned long long)key->max);
}

char *schema_want(const struct cfg_key *key, char *buf, size_t n)
{
    FILE *out = fmemopen(buf, n, "w");

    INVARIANT(out, "the host has no memory left for a stream");
    switch (key->type) {
    case CFG_T_INT:
    case CFG_T_AUTOINT:
    case CFG_T_SIZE:
        want_number(key, out);
        break;
    case CFG_T_TIME:
        want_time(key, out);
        break;
    case CFG_T_BOOL:
        fputs("true or false", out);
        break;
    case CFG_T_STRING:
    case CFG_T_PATH:
        want_text(key, out);
        break;
    case CFG_T_ENUM:
        want_enum(key->names, out);
        break;
    case CFG_T_NODES:
        fprintf(out, "at most %llu different node numbers from 0 to %d, [0, 1] or \"0-3,8\"",
                (unsigned long long)key->max, CFG_NODE_LAST);
        break;
    case CFG_T_CONSOLE:
        fputs("\"none\", \"stdio\", \"pty\", \"monitor\", \"file:PATH\", \"socket:PATH\" or a "
              "group "
              "{ type, path }",
              out);
        break;
    case CFG_T_GROUPS:
        want_groups(key, out);
        break;
    default:
        fputs("a group of named groups, { base = { ... }; }", out);
        break;
    }
    fclose(out);
    buf[n - 1] = 0;
    return buf;
}
