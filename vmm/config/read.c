/* SPDX-License-Identifier: MIT */
/*
 * Stores the settings of a group in a struct: one small function per type of key, chosen by the
 * schema.  Interface in read.h.
 *
 * Invariant: a field owns what it points to as soon as it is written, so that schema_clear()
 * releases a struct at any moment, also after a failure half-way.
 */
#include "vmm/config/read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "vmm/config/config.h"
#include "vmm/config/valid.h"

/* Reads an integer of either width; false for anything else. */
static bool get_integer(const config_setting_t *s, long long *out)
{
    int type = config_setting_type(s);

    if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
        return false;
    *out = type == CONFIG_TYPE_INT ? config_setting_get_int(s) : config_setting_get_int64(s);
    return true;
}

/* True when a number is one the key allows. */
static bool in_range(const struct cfg_key *key, uint64_t v)
{
    return v >= key->min && v <= key->max && (!key->step || v % key->step == 0);
}

int read_integer(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                 uint64_t *out)
{
    long long v;

    if (!get_integer(s, &v) || v < 0 || !in_range(key, (uint64_t)v))
        return reader_mismatch(r, s, key);
    *out = (uint64_t)v;
    return 0;
}

/* Longest text a key takes before %n and %g are replaced. */
static size_t raw_max(const struct reader *r, const struct cfg_key *key)
{
    if (key->flags & CFG_F_SUBST)
        return 2 * key->max; /* "%%" halves */
    if (key->flags & CFG_F_OWN && r->own_text)
        return key->max + 4; /* count's digits */
    return key->max;
}

int read_text(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
              const char **out)
{
    const char *text = config_setting_get_string(s), *want = NULL;

    if (config_setting_type(s) != CONFIG_TYPE_STRING || strlen(text) < key->min ||
        strlen(text) > raw_max(r, key))
        return reader_mismatch(r, s, key);
    if (key->valid && !(key->flags & CFG_F_SUBST))
        want = key->valid(text);
    if (want)
        return reader_bad(r, s, "got \"%s\", want %s", text, want);
    *out = text;
    return 0;
}

/* Replaces the text of a string field. */
static void set_text(const struct cfg_key *key, void *base, char *text)
{
    schema_clear_key(key, base);
    memcpy(schema_field(key, base), &text, sizeof(text));
}

/* CFG_T_INT */
static int read_int(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                    void *base)
{
    uint64_t v = 0;
    int ret = read_integer(r, s, key, &v);

    if (!ret)
        schema_set(key, base, v);
    return ret;
}

/* CFG_T_AUTOINT */
static int read_autoint(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                        void *base)
{
    if (config_setting_type(s) != CONFIG_TYPE_STRING)
        return read_int(r, s, key, base);
    if (strcmp(config_setting_get_string(s), "auto") != 0)
        return reader_mismatch(r, s, key);
    schema_set(key, base, 0);
    return 0;
}

/* CFG_T_BOOL */
static int read_bool(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                     void *base)
{
    if (config_setting_type(s) != CONFIG_TYPE_BOOL)
        return reader_mismatch(r, s, key);
    schema_set(key, base, config_setting_get_bool(s) != 0);
    return 0;
}

/* CFG_T_SIZE */
static int read_size(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                     void *base)
{
    uint64_t v;

    if (config_setting_type(s) != CONFIG_TYPE_STRING)
        return read_int(r, s, key, base);
    if (units_parse_size(config_setting_get_string(s), &v) || !in_range(key, v))
        return reader_mismatch(r, s, key);
    schema_set(key, base, v);
    return 0;
}

/* CFG_T_TIME */
static int read_time(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                     void *base)
{
    uint64_t v;

    if (config_setting_type(s) != CONFIG_TYPE_STRING ||
        units_parse_duration(config_setting_get_string(s), &v) || !in_range(key, v))
        return reader_mismatch(r, s, key);
    schema_set(key, base, v);
    return 0;
}

/* CFG_T_STRING, CFG_T_PATH */
static int read_string(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                       void *base)
{
    const char *text = NULL;
    int ret = read_text(r, s, key, &text);

    if (!ret)
        set_text(key, base, xstrdup(text));
    return ret;
}

/* Index of a name of n bytes among those of an enum, -1 when it is none of them. */
static int name_index(const char *const *names, const char *text, size_t n)
{
    for (int i = 0; names[i]; i++) {
        if (strlen(names[i]) == n && !memcmp(names[i], text, n))
            return i;
    }
    return -1;
}

/* CFG_T_ENUM */
static int read_enum(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                     void *base)
{
    const char *text = config_setting_get_string(s);
    int i = -1;

    if (config_setting_type(s) == CONFIG_TYPE_STRING)
        i = name_index(key->names, text, strlen(text));
    if (i < 0)
        return reader_mismatch(r, s, key);
    schema_set(key, base, (uint64_t)i);
    return 0;
}

/* Adds one node number to a list; false when it is out of range, there already, or too many. */
static bool add_node(const struct cfg_key *key, void *base, long long node)
{
    unsigned *count = schema_count(key, base);
    int *nodes = schema_field(key, base);

    if (node < 0 || node > CFG_NODE_LAST || *count >= key->max)
        return false;
    for (unsigned i = 0; i < *count; i++) {
        if (nodes[i] == node)
            return false;
    }
    nodes[(*count)++] = (int)node;
    return true;
}

/* Reads a decimal number of up to 5 digits at *p and moves behind it. */
static bool get_digits(const char **p, long long *out)
{
    size_t n = strspn(*p, "0123456789");

    if (!n || n > 5)
        return false;
    *out = strtoll(*p, NULL, 10);
    *p += n;
    return true;
}

/* Adds "0-3,8". */
static bool add_ranges(const struct cfg_key *key, void *base, const char *p)
{
    long long first, last;

    for (;;) {
        if (!get_digits(&p, &first))
            return false;
        last = first;
        if (*p == '-' && (p++, !get_digits(&p, &last)))
            return false;
        if (last < first)
            return false;
        for (long long i = first; i <= last; i++) {
            if (!add_node(key, base, i))
                return false;
        }
        if (*p != ',')
            return !*p;
        p++;
    }
}

/* Adds what one setting says: a number, or ranges as text. */
static bool add_nodes(const struct cfg_key *key, void *base, const config_setting_t *s)
{
    long long node;

    if (config_setting_type(s) == CONFIG_TYPE_STRING)
        return add_ranges(key, base, config_setting_get_string(s));
    return get_integer(s, &node) && add_node(key, base, node);
}

/* CFG_T_NODES */
static int read_nodes(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                      void *base)
{
    schema_clear_key(key, base);
    if (!config_setting_is_list(s) && !config_setting_is_array(s))
        return add_nodes(key, base, s) ? 0 : reader_mismatch(r, s, key);
    for (int i = 0; i < config_setting_length(s); i++) {
        const config_setting_t *e = config_setting_get_elem(s, (unsigned)i);

        if (!add_nodes(key, base, e))
            return reader_mismatch(r, e, key);
    }
    return 0;
}

/* Stores "stdio", "file:/path" and the like. */
static int read_shorthand(struct reader *r, const config_setting_t *s,
                          const struct cfg_key *key, void *base)
{
    const struct cfg_key *type = schema_find(key->sub, "type");
    const struct cfg_key *path = schema_find(key->sub, "path");
    const char *text = config_setting_get_string(s);
    const char *colon = strchr(text, ':');
    int i = name_index(type->names, text, colon ? (size_t)(colon - text) : strlen(text));
    bool needs = i == CFG_CON_FILE || i == CFG_CON_SOCKET;

    if (i < 0 || needs != (colon != NULL))
        return reader_mismatch(r, s, key);
    if (colon && (!colon[1] || strlen(colon + 1) > raw_max(r, path)))
        return reader_mismatch(r, s, key);
    schema_set(type, schema_field(key, base), (uint64_t)i);
    if (colon)
        set_text(path, schema_field(key, base), xstrdup(colon + 1));
    return 0;
}

/* CFG_T_CONSOLE */
static int read_console(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                        void *base)
{
    const struct read_rule rule = {key->sub, CFG_NSCOPES, 0};

    schema_clear_key(key, base);
    if (config_setting_type(s) == CONFIG_TYPE_STRING)
        return read_shorthand(r, s, key, base);
    if (!config_setting_is_group(s))
        return reader_mismatch(r, s, key);
    schema_defaults(key->sub, schema_field(key, base));
    return read_group(r, s, &rule, schema_field(key, base), NULL);
}

/* CFG_T_GROUPS with a field: disks, nets */
static int read_groups(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                       void *base)
{
    const struct read_rule rule = {key->sub, CFG_NSCOPES, 0};
    int n = config_setting_length(s), ret = 0;

    schema_clear_key(key, base);
    if (!config_setting_is_list(s) || (unsigned)n > key->max)
        return reader_mismatch(r, s, key);
    for (int i = 0; i < n && !ret; i++) {
        const config_setting_t *e = config_setting_get_elem(s, (unsigned)i);
        char *at = (char *)schema_field(key, base) + (size_t)i * key->size;

        if (!config_setting_is_group(e))
            return reader_bad(r, e, "want a group of the keys of a %s, { ... }",
                              schema_scope_name(key->sub));
        ++*schema_count(key, base);
        schema_defaults(key->sub, at);
        ret = read_group(r, e, &rule, at, NULL);
    }
    return ret;
}

/* The reader of each type; NULL: has no field. */
static int (*const readers[CFG_NTYPES])(struct reader *r, const config_setting_t *s,
                                        const struct cfg_key *key, void *base) = {
    [CFG_T_INT] = read_int,         [CFG_T_AUTOINT] = read_autoint,
    [CFG_T_BOOL] = read_bool,       [CFG_T_SIZE] = read_size,
    [CFG_T_STRING] = read_string,   [CFG_T_PATH] = read_string,
    [CFG_T_ENUM] = read_enum,       [CFG_T_NODES] = read_nodes,
    [CFG_T_CONSOLE] = read_console, [CFG_T_GROUPS] = read_groups,
    [CFG_T_TEMPLATES] = NULL,       [CFG_T_TIME] = read_time,
};

/* The nearest key of the scopes a rule covers. */
static const struct cfg_key *nearest(const struct read_rule *rule, const char *name)
{
    const struct cfg_key *a = schema_nearest(rule->scope, name), *b = NULL;

    if (rule->also != CFG_NSCOPES)
        b = schema_nearest(rule->also, name);
    if (!a || !b)
        return a ? a : b;
    return valid_distance(name, b->name) < valid_distance(name, a->name) ? b : a;
}

/* Fails for a key that may not stand here: says where it belongs, or what it looks like. */
static int unknown_key(struct reader *r, const config_setting_t *s,
                       const struct read_rule *rule)
{
    const char *name = config_setting_name(s);
    const struct cfg_key *key;

    for (unsigned i = 0; i < CFG_NSCOPES; i++) {
        key = schema_find((enum cfg_scope)i, name);
        if (key && !(key->flags & CFG_F_HIDDEN) && i != rule->scope)
            return reader_bad(r, s, "unknown key here, it belongs into a %s",
                              schema_scope_name((enum cfg_scope)i));
    }
    key = nearest(rule, name);
    if (key)
        return reader_bad(r, s, "unknown key, did you mean %s?", key->name);
    return reader_bad(r, s,
                      "unknown key, want one of those `disco check --schema` lists for a %s",
                      schema_scope_name(rule->scope));
}

/* Fails for a key that is known but not allowed in this group. */
static int refused_key(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                       const struct read_rule *rule)
{
    if (key->flags & rule->refuse & CFG_F_HIDDEN)
        return unknown_key(r, s, rule);
    return reader_bad(r, s,
                      "is for a guest in a file, want it in a guest of `guests`, not here");
}

int read_group(struct reader *r, const config_setting_t *group, const struct read_rule *rule,
               void *base, struct place *place)
{
    int ret = 0;

    for (int i = 0; i < config_setting_length(group) && !ret; i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        const struct cfg_key *key = schema_find(rule->scope, config_setting_name(s));

        if (!key && rule->also != CFG_NSCOPES &&
            schema_find(rule->also, config_setting_name(s)))
            continue;
        if (!key)
            return unknown_key(r, s, rule);
        if (key->flags & rule->refuse)
            return refused_key(r, s, key, rule);
        if (place)
            place->from[schema_index(key)] = s;
        if (!(key->flags & CFG_F_SHAPE))
            ret = readers[key->type](r, s, key, base);
    }
    return ret;
}
