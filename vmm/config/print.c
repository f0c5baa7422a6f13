/* SPDX-License-Identifier: MIT */
/*
 * Writes a guest in the configuration language, so that config_parse_guest() reads back the same.
 * Interface in config.h.  Walks the schema; const input, malloc'd output.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "vmm/config/config.h"
#include "vmm/config/schema.h"

static void print_scope(FILE *out, enum cfg_scope scope, const void *base, const char *indent);

/* A pointer into a const struct; schema_field() is for those who write. */
static const void *field(const struct cfg_key *key, const void *base)
{
    return (const char *)base + key->offset;
}

/* The count beside a list. */
static unsigned count(const struct cfg_key *key, const void *base)
{
    unsigned n;

    memcpy(&n, (const char *)base + key->count_offset, sizeof(n));
    return n;
}

/* The text of a string field, or NULL. */
static const char *text(const struct cfg_key *key, const void *base)
{
    const char *s;

    memcpy(&s, field(key, base), sizeof(s));
    return s;
}

/* Writes a string in quotes; percent signs are doubled where the reader halves them. */
static void print_string(FILE *out, const char *s, bool subst)
{
    putc('"', out);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(out, "\\%c", *s);
        else if (*s == '%' && subst)
            fputs("%%", out);
        else if ((unsigned char)*s < 0x20 || *s == 0x7f)
            fprintf(out, "\\x%02x", (unsigned char)*s);
        else
            putc(*s, out);
    }
    putc('"', out);
}

/* Writes "[ 0, 1 ]". */
static void print_nodes(FILE *out, const struct cfg_key *key, const void *base)
{
    const int *nodes = field(key, base);

    fputs("[ ", out);
    for (unsigned i = 0; i < count(key, base); i++)
        fprintf(out, "%s%d", i ? ", " : "", nodes[i]);
    fputs(" ]", out);
}

/* Writes "( { ... }, { ... } )". */
static void print_groups(FILE *out, const struct cfg_key *key, const void *base)
{
    const char *at = field(key, base);

    fputs("(", out);
    for (unsigned i = 0; i < count(key, base); i++) {
        fprintf(out, "%s {", i ? "," : "");
        print_scope(out, key->sub, at + i * key->size, " ");
        fputs(" }", out);
    }
    fputs(" )", out);
}

/* Writes the value of one key. */
static void print_value(FILE *out, const struct cfg_key *key, const void *base)
{
    char buf[UNITS_TEXT];

    switch (key->type) {
    case CFG_T_STRING:
    case CFG_T_PATH:
        print_string(out, text(key, base), key->flags & CFG_F_SUBST);
        break;
    case CFG_T_ENUM:
        print_string(out, key->names[schema_get(key, base)], false);
        break;
    case CFG_T_BOOL:
        fputs(schema_get(key, base) ? "true" : "false", out);
        break;
    case CFG_T_SIZE:
        fprintf(out, "\"%s\"", units_print_size(buf, schema_get(key, base)));
        break;
    case CFG_T_TIME:
        fprintf(out, "\"%s\"", units_print_duration(buf, schema_get(key, base)));
        break;
    case CFG_T_NODES:
        print_nodes(out, key, base);
        break;
    case CFG_T_GROUPS:
        print_groups(out, key, base);
        break;
    case CFG_T_CONSOLE:
        fputs("{", out);
        print_scope(out, key->sub, field(key, base), " ");
        fputs(" }", out);
        break;
    default:
        if (key->type == CFG_T_AUTOINT && !schema_get(key, base))
            fputs("\"auto\"", out);
        else
            fprintf(out, "%llu", (unsigned long long)schema_get(key, base));
        break;
    }
}

/* True when a key has nothing to write: absent text, or no field. */
static bool is_absent(const struct cfg_key *key, const void *base)
{
    if (key->flags & CFG_F_SHAPE)
        return true;
    return (key->type == CFG_T_STRING || key->type == CFG_T_PATH) && !text(key, base);
}

/* Writes all keys of a struct, each after the indent. */
static void print_scope(FILE *out, enum cfg_scope scope, const void *base, const char *indent)
{
    const struct cfg_key *key = NULL;

    while ((key = schema_next(scope, key))) {
        if (is_absent(key, base))
            continue;
        fprintf(out, "%s%s = ", indent, key->name);
        print_value(out, key, base);
        putc(';', out);
        if (scope == CFG_GUEST)
            putc('\n', out);
    }
}

char *config_print_guest(const struct guest_cfg *g)
{
    char *out = NULL;
    size_t size;
    FILE *f = open_memstream(&out, &size);

    INVARIANT(f, "the host has no memory left for a stream");
    print_scope(f, CFG_GUEST, g, "");
    fclose(f);
    return out;
}
