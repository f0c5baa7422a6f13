/* SPDX-License-Identifier: MIT */
/*
 * Opens a configuration and words its errors: file, line, key, what was got, what is wanted.
 * Interface in read.h.  Threads: one.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/config/read.h"

enum {
    SHOWN = 120,   /* most bytes of a value that messages repeat */
    PATHLEN = 256, /* bytes of a key with its path in the tree */
};

/* Makes text from a file fit for one line of a terminal. */
static void make_plain(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
    }
}

/* Fails with the syntax error libconfig found. */
static int bad_syntax(struct reader *r)
{
    int line = config_error_line(&r->cfg);
    const char *text = r->src.text, *end;
    char shown[SHOWN];

    for (int i = 1; i < line && *text; i++) {
        end = strchr(text, '\n');
        text = end ? end + 1 : text + strlen(text);
    }
    text += strspn(text, " \t");
    snprintf(shown, sizeof(shown), "%.*s", (int)strcspn(text, "\r\n"), text);
    make_plain(shown);
    return fail(r->err, EXIT_CONFIG, EINVAL, "%s:%d: %s at or before \"%s\", want KEY = VALUE;",
                source_file(&r->src, line), source_line(&r->src, line),
                config_error_text(&r->cfg), shown);
}

/* Parses the text that has been read. */
static int parse(struct reader *r)
{
    int ret = 0;

    config_init(&r->cfg);
    if (config_read_string(&r->cfg, r->src.text) == CONFIG_TRUE)
        return 0;
    ret = bad_syntax(r);
    reader_close(r);
    return ret;
}

int reader_open_file(struct reader *r, const char *path, struct err *err)
{
    int ret;

    *r = (struct reader){.err = err};
    ret = source_read(&r->src, path, err);
    return ret ? ret : parse(r);
}

int reader_open_text(struct reader *r, const char *name, const char *text, struct err *err)
{
    int ret;

    *r = (struct reader){.err = err, .own_text = true};
    ret = source_text(&r->src, name, text, err);
    return ret ? ret : parse(r);
}

void reader_close(struct reader *r)
{
    config_destroy(&r->cfg);
    source_free(&r->src);
}

const char *reader_file(const struct reader *r, const config_setting_t *s)
{
    return source_file(&r->src, (int)config_setting_source_line(s));
}

int reader_line(const struct reader *r, const config_setting_t *s)
{
    return source_line(&r->src, (int)config_setting_source_line(s));
}

/* Writes the path of a setting, guests[1].disks[0].path, and returns its length. */
static size_t key_path(const config_setting_t *s, char *buf, size_t n)
{
    const config_setting_t *up = config_setting_parent(s);
    size_t used;
    int add;

    buf[0] = 0;
    if (!up)
        return 0;
    used = key_path(up, buf, n);
    if (config_setting_name(s))
        add = snprintf(buf + used, n - used, "%s%s", used ? "." : "", config_setting_name(s));
    else
        add = snprintf(buf + used, n - used, "[%d]", config_setting_index(s));
    return add < 0 || used + (size_t)add >= n ? n - 1 : used + (size_t)add;
}

int reader_bad(struct reader *r, const config_setting_t *s, const char *fmt, ...)
{
    char key[PATHLEN], what[768];
    va_list ap;

    key_path(s, key, sizeof(key));
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    make_plain(what);
    return fail(r->err, EXIT_CONFIG, EINVAL, "%s:%d: %s%s%s", reader_file(r, s),
                reader_line(r, s), key, key[0] ? ": " : "", what);
}

/* Says what a setting holds, for "got ...". */
static void describe(const config_setting_t *s, char *buf, size_t n)
{
    const char *text;

    switch (config_setting_type(s)) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        snprintf(buf, n, "%lld", config_setting_get_int64(s));
        break;
    case CONFIG_TYPE_FLOAT:
        snprintf(buf, n, "the fraction %g", config_setting_get_float(s));
        break;
    case CONFIG_TYPE_BOOL:
        snprintf(buf, n, "the truth value %s", config_setting_get_bool(s) ? "true" : "false");
        break;
    case CONFIG_TYPE_STRING:
        text = config_setting_get_string(s);
        if (strlen(text) > SHOWN)
            snprintf(buf, n, "the string \"%.*s...\" of %zu bytes", SHOWN, text, strlen(text));
        else
            snprintf(buf, n, "the string \"%s\"", text);
        break;
    case CONFIG_TYPE_GROUP:
        snprintf(buf, n, "a group");
        break;
    case CONFIG_TYPE_ARRAY:
        snprintf(buf, n, "an array of %d", config_setting_length(s));
        break;
    default:
        snprintf(buf, n, "a list of %d", config_setting_length(s));
        break;
    }
}

int reader_mismatch(struct reader *r, const config_setting_t *s, const struct cfg_key *key)
{
    char got[SHOWN + 64], want[256];

    describe(s, got, sizeof(got));
    return reader_bad(r, s, "got %s, want %s", got, schema_want(key, want, sizeof(want)));
}

const config_setting_t *place_of(const struct place *p, const struct cfg_key *key)
{
    const config_setting_t *s = p->from[schema_index(key)];

    return s ? s : p->group;
}
