/* SPDX-License-Identifier: MIT */
/*
 * Second half of reading: what can only be done when a guest's templates, name and index are
 * known.  Replaces %n, %g and %%, makes paths absolute, checks the resulting text, and asks for
 * keys that are missing.  Interface in read.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/config/config.h"
#include "vmm/config/read.h"

/* Replaces %n, %g and %%; malloc'd, NULL when % is followed by anything else. */
static char *substitute(const char *text, const struct subst *subst)
{
    bool right = true;
    char *out = NULL;
    size_t size;
    FILE *f = open_memstream(&out, &size);

    INVARIANT(f, "the host has no memory left for a stream");
    for (const char *p = text; *p && right; p++) {
        if (*p != '%')
            putc(*p, f);
        else if (*++p == '%')
            putc('%', f);
        else if (*p == 'n')
            fprintf(f, "%u", subst->index);
        else if (*p == 'g')
            fputs(subst->name ? subst->name : "", f);
        else
            right = false;
        if (!right)
            break;
    }
    fclose(f);
    if (right)
        return out;
    free(out);
    return NULL;
}

/* Replaces the text in a field by one it now owns. */
static void replace(char **field, char *text)
{
    free(*field);
    *field = text;
}

/* Checks length and syntax of completed text. */
static int check_text(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                      const char *text)
{
    size_t n = strlen(text), max = key->max;
    const char *want;
    char buf[256];

    if (key->flags & CFG_F_OWN) /* checked before count added its digits */
        return 0;
    if (n < key->min || n > max)
        return reader_bad(r, s, "got \"%.120s\" of %zu bytes, want %s", text, n,
                          schema_want(key, buf, sizeof(buf)));
    want = key->valid ? key->valid(text) : NULL;
    if (want)
        return reader_bad(r, s, "got \"%.120s\", want %s", text, want);
    return 0;
}

/* Completes one string or path. */
static int finish_text(struct reader *r, const struct cfg_key *key, char **field,
                       const config_setting_t *s, const struct subst *subst)
{
    if (!*field)
        return 0;
    if (key->flags & CFG_F_SUBST) {
        char *text = substitute(*field, subst);

        if (!text)
            return reader_bad(
                r, s,
                "got \"%.120s\", want %%n (index), %%g (guest's name) or %%%% after "
                "each %%",
                *field);
        replace(field, text);
    }
    if (key->type == CFG_T_PATH && **field)
        replace(field, source_resolve(reader_file(r, s), *field));
    return check_text(r, s, key, *field);
}

/* The place of a group inside another: an entry of a list, or a console. */
static void inner_place(struct place *in, enum cfg_scope scope, const config_setting_t *s)
{
    const struct cfg_key *key = NULL;

    *in = (struct place){.group = s};
    if (!config_setting_is_group(s))
        return;
    while ((key = schema_next(scope, key)))
        in->from[schema_index(key)] = config_setting_get_member(s, key->name);
}

/* Completes all entries of a list of groups. */
static int finish_groups(struct reader *r, const struct cfg_key *key, void *base,
                         const config_setting_t *s, const struct subst *subst)
{
    unsigned n = *schema_count(key, base);
    struct place in;
    int ret = 0;

    for (unsigned i = 0; i < n && !ret; i++) {
        inner_place(&in, key->sub, config_setting_get_elem(s, i));
        ret = read_finish(r, key->sub, (char *)schema_field(key, base) + i * key->size, &in,
                          subst);
    }
    return ret;
}

/* Completes one key. */
static int finish_key(struct reader *r, const struct cfg_key *key, void *base,
                      const struct place *place, const struct subst *subst)
{
    const config_setting_t *s = place_of(place, key);
    struct place in;

    switch (key->type) {
    case CFG_T_STRING:
    case CFG_T_PATH:
        return finish_text(r, key, schema_field(key, base), s, subst);
    case CFG_T_GROUPS:
        return finish_groups(r, key, base, s, subst);
    case CFG_T_CONSOLE:
        if (!place->from[schema_index(key)]) /* the default has no text */
            return 0;
        inner_place(&in, key->sub, s);
        return read_finish(r, key->sub, schema_field(key, base), &in, subst);
    default:
        return 0;
    }
}

/* True when a required key has no value. */
static bool is_missing(const struct cfg_key *key, void *base)
{
    char *text;

    if (!(key->flags & CFG_F_REQUIRED) || key->flags & CFG_F_SHAPE)
        return false;
    memcpy(&text, schema_field(key, base), sizeof(text));
    return !text;
}

int read_finish(struct reader *r, enum cfg_scope scope, void *base, const struct place *place,
                const struct subst *subst)
{
    const struct cfg_key *key = NULL;
    char want[256];
    int ret = 0;

    while (!ret && (key = schema_next(scope, key))) {
        if (key->flags & CFG_F_SHAPE)
            continue;
        if (is_missing(key, base))
            return reader_bad(r, place->group, "key %s is missing, want %s = \"...\", %s",
                              key->name, key->name, schema_want(key, want, sizeof(want)));
        ret = finish_key(r, key, base, place, subst);
    }
    return ret;
}
