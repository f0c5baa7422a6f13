/* SPDX-License-Identifier: MIT */
/*
 * Prints the schema: as a table for people, as JSON for programs, as roff for disco.cfg(5).
 * Interface: schema_print() in schema.h.  Const input.
 */
#include <jansson.h>
#include <string.h>

#include "base/err.h"
#include "vmm/config/schema.h"

/* Headings of the scopes. */
static const char *const headings[CFG_NSCOPES] = {
    [CFG_SITE] = "Keys at the top level of a site", [CFG_GUEST] = "Keys of a guest or template",
    [CFG_DISK] = "Keys of an entry of disks",       [CFG_NET] = "Keys of an entry of nets",
    [CFG_CONSOLE] = "Keys of console and vconsole",
};

/* Row after prev that people may write. */
static const struct cfg_key *next_shown(enum cfg_scope scope, const struct cfg_key *prev)
{
    do {
        prev = schema_next(scope, prev);
    } while (prev && prev->flags & CFG_F_HIDDEN);
    return prev;
}

/* The default for people: "required", "none", or the value. */
static const char *default_text(const struct cfg_key *key)
{
    if (key->flags & CFG_F_REQUIRED)
        return "required";
    if (!key->def)
        return key->type == CFG_T_GROUPS || key->type == CFG_T_NODES ? "empty" : "none";
    return key->def[0] ? key->def : "\"\"";
}

/* Writes text broken into lines of at most width columns, each after the indent. */
static void print_wrapped(FILE *out, const char *text, unsigned indent, unsigned width)
{
    unsigned col = 0;

    while (*text) {
        unsigned n = (unsigned)strcspn(text, " ");

        if (col && col + 1 + n > width) {
            putc('\n', out);
            col = 0;
        }
        if (!col)
            col = (unsigned)fprintf(out, "%*s%.*s", (int)indent, "", (int)n, text);
        else
            col += (unsigned)fprintf(out, " %.*s", (int)n, text);
        text += n;
        text += strspn(text, " ");
    }
    putc('\n', out);
}

/* Prints one row for people. */
static void print_row(FILE *out, const struct cfg_key *key)
{
    char want[256], line[384];

    fprintf(out, "  %-12s %-17s %-10s %s\n", key->name, schema_type_name(key->type),
            key->unit ? key->unit : "-", default_text(key));
    snprintf(line, sizeof(line), "Takes %s.%s", schema_want(key, want, sizeof(want)),
             key->flags & CFG_F_SUBST ? " %n and %g are replaced." : "");
    print_wrapped(out, key->doc, 15, 92);
    print_wrapped(out, line, 15, 92);
}

/* Prints the table for people. */
static void print_text(FILE *out)
{
    for (unsigned scope = 0; scope < CFG_NSCOPES; scope++) {
        const struct cfg_key *key = NULL;

        fprintf(out, "%s%s\n  %-12s %-17s %-10s %s\n", scope ? "\n" : "", headings[scope],
                "KEY", "TYPE", "UNIT", "DEFAULT");
        while ((key = next_shown((enum cfg_scope)scope, key)))
            print_row(out, key);
    }
}

/* One row as a JSON object. */
static json_t *row_json(const struct cfg_key *key)
{
    char want[256];
    json_t *o = json_pack(
        "{s:s, s:s, s:s, s:s?, s:s?, s:b, s:b, s:b, s:s, s:s}", "scope",
        schema_scope_name(key->scope), "key", key->name, "type", schema_type_name(key->type),
        "unit", key->unit, "default", key->def, "required", (key->flags & CFG_F_REQUIRED) != 0,
        "template", !(key->flags & CFG_F_OWN), "substituted", (key->flags & CFG_F_SUBST) != 0,
        "takes", schema_want(key, want, sizeof(want)), "doc", key->doc);

    INVARIANT(o, "a row of the schema is valid JSON");
    if (key->max) {
        json_object_set_new(o, "min", json_integer((json_int_t)key->min));
        json_object_set_new(o, "max", json_integer((json_int_t)key->max));
    }
    if (key->step)
        json_object_set_new(o, "multiple_of", json_integer((json_int_t)key->step));
    if (key->names) {
        json_t *names = json_array();

        for (unsigned i = 0; key->names[i]; i++)
            json_array_append_new(names, json_string(key->names[i]));
        json_object_set_new(o, "names", names);
    }
    return o;
}

/* Prints {"keys": [...]}. */
static void print_json(FILE *out)
{
    json_t *rows = json_array(), *all;

    for (unsigned scope = 0; scope < CFG_NSCOPES; scope++) {
        const struct cfg_key *key = NULL;

        while ((key = next_shown((enum cfg_scope)scope, key)))
            json_array_append_new(rows, row_json(key));
    }
    all = json_pack("{s:o}", "keys", rows);
    INVARIANT(all, "the schema is valid JSON");
    json_dumpf(all, out, JSON_INDENT(2));
    putc('\n', out);
    json_decref(all);
}

/* Writes text as roff: what it would take for a command is escaped. */
static void put_roff(FILE *out, const char *s)
{
    if (*s == '.' || *s == '\'')
        fputs("\\&", out);
    for (; *s; s++) {
        if (*s == '\\')
            fputs("\\e", out);
        else if (*s == '-')
            fputs("\\-", out);
        else
            putc(*s, out);
    }
}

/* Prints one row as a tagged paragraph. */
static void print_man_row(FILE *out, const struct cfg_key *key)
{
    char want[256];

    fputs(".TP\n.B ", out);
    put_roff(out, key->name);
    putc('\n', out);
    put_roff(out, key->doc);
    fputs("\nTakes ", out);
    put_roff(out, schema_want(key, want, sizeof(want)));
    if (key->unit)
        fprintf(out, " (%s)", key->unit);
    fputs(".\n", out);
    if (key->flags & CFG_F_REQUIRED) {
        fputs("Required.\n", out);
    } else if (key->def) {
        fputs("Default: ", out);
        put_roff(out, default_text(key));
        fputs(".\n", out);
    }
    if (key->flags & CFG_F_SUBST)
        fputs("%n and %g are replaced.\n", out);
}

/* Prints the last section of disco.cfg(5): all keys. */
static void print_man(FILE *out)
{
    fputs(".SH CONFIGURATION\n", out);
    for (unsigned scope = 0; scope < CFG_NSCOPES; scope++) {
        const struct cfg_key *key = NULL;

        fprintf(out, ".SS %s\n", headings[scope]);
        while ((key = next_shown((enum cfg_scope)scope, key)))
            print_man_row(out, key);
    }
}

void schema_print(FILE *out, enum schema_format format)
{
    if (format == SCHEMA_JSON)
        print_json(out);
    else if (format == SCHEMA_MAN)
        print_man(out);
    else
        print_text(out);
}
