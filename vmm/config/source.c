/* SPDX-License-Identifier: MIT */
/*
 * Reads configuration files, puts included ones in place of their @include lines and keeps a map
 * of lines.  Interface in source.h.
 *
 * The scanner knows only what it must to find an @include that counts: comments and strings.
 * Files are hostile: no NUL bytes, at most DEPTH deep, FILES files, BYTES in all.
 */
#include "vmm/config/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

enum {
    DEPTH = 10,      /* includes within includes */
    FILES = 256,     /* files of one configuration */
    BYTES = 4 << 20, /* of the expanded text */
};

/* What the scanner is inside of. */
enum state { PLAIN, STRING, LINE_COMMENT, BLOCK_COMMENT };

/* A file being expanded. */
struct frame {
    struct frame *up; /* file that includes this one */
    dev_t dev;        /* identity, to find loops */
    ino_t ino;        /* its other half */
    unsigned file;    /* index into files */
    unsigned depth;   /* includes above */
    int line;         /* current line */
    int opened;       /* line on which the string or comment began */
    enum state state; /* what the current byte is inside of */
};

/* Where expanded text goes. */
struct sink {
    struct source *s; /* the lines and files */
    FILE *out;        /* memory stream of the text */
    size_t bytes;     /* written so far */
    bool bol;         /* at the beginning of a line of the text */
    struct err *err;  /* where the first failure is said */
};

static int expand_file(struct sink *k, const char *path, struct frame *up);

/* Remembers where the next line of the text comes from. */
static void add_line(struct source *s, const struct frame *f)
{
    if (s->nlines == s->caplines) {
        s->caplines = s->caplines ? s->caplines * 2 : 64;
        s->lines = realloc(s->lines, s->caplines * sizeof(s->lines[0]));
        INVARIANT(s->lines, "the host has no memory left for the lines of a configuration");
    }
    s->lines[s->nlines++] = (struct source_line){.file = f->file, .line = f->line};
}

/* Appends one byte to the text. */
static void put(struct sink *k, const struct frame *f, char c)
{
    if (k->bol)
        add_line(k->s, f);
    k->bol = c == '\n';
    k->bytes++;
    putc(c, k->out);
}

/* Adds a name to files and returns its index. */
static unsigned add_name(struct source *s, const char *name)
{
    s->files = realloc(s->files, (s->nfiles + 1) * sizeof(s->files[0]));
    INVARIANT(s->files, "the host has no memory left for the names of a configuration");
    s->files[s->nfiles] = xstrdup(name);
    return s->nfiles++;
}

/* Fails with the place of the frame's current line before the message. */
static int fail_at(const struct sink *k, const struct frame *f, int line, const char *what)
{
    return fail(k->err, EXIT_CONFIG, EINVAL, "%s:%d: %s", k->s->files[f->file], line, what);
}

/* The state after the byte at p; *skip: the next byte belongs to this one. */
static enum state step(enum state now, const char *p, bool *skip)
{
    switch (now) {
    case STRING:
        *skip = p[0] == '\\' && p[1];
        return p[0] == '"' ? PLAIN : STRING;
    case LINE_COMMENT:
        return p[0] == '\n' ? PLAIN : LINE_COMMENT;
    case BLOCK_COMMENT:
        *skip = p[0] == '*' && p[1] == '/';
        return *skip ? PLAIN : BLOCK_COMMENT;
    default:
        *skip = p[0] == '/' && (p[1] == '*' || p[1] == '/');
        if (*skip)
            return p[1] == '*' ? BLOCK_COMMENT : LINE_COMMENT;
        if (p[0] == '#')
            return LINE_COMMENT;
        return p[0] == '"' ? STRING : PLAIN;
    }
}

/* The path of an @include at p, malloc'd, and *end behind it; NULL when there is none. */
static char *include_path(const char *p, const char **end)
{
    const char *close;

    p += strlen("@include");
    p += strspn(p, " \t");
    if (*p != '"')
        return NULL;
    close = strpbrk(p + 1, "\"\n");
    if (!close || *close != '"' || close == p + 1)
        return NULL;
    *end = close + 1;
    return strndup(p + 1, (size_t)(close - p - 1));
}

/* Puts in the file an @include at *p names, and moves *p behind the directive. */
static int include(struct sink *k, struct frame *f, const char **p)
{
    char *path, *full;
    int ret;

    path = include_path(*p, p);
    if (!path)
        return fail_at(k, f, f->line,
                       "@include: want a path in quotes, @include \"other.cfg\"");
    if (f->depth + 1 >= DEPTH) {
        free(path);
        return fail_at(k, f, f->line, "@include: want at most 10 files within one another");
    }
    full = path[0] == '/' ? xstrdup(path) : source_resolve(k->s->files[f->file], path);
    if (!k->bol) /* the blanks before the directive: what is put in begins on a new line */
        put(k, f, '\n');
    ret = expand_file(k, full, f);
    if (!k->bol) /* and so does what follows it */
        put(k, f, '\n');
    free(full);
    free(path);
    return ret;
}

/* True when only blanks stand between the beginning of the line and p. */
static bool first_on_line(const char *begin, const char *p)
{
    while (p > begin && (p[-1] == ' ' || p[-1] == '\t'))
        p--;
    return p == begin || p[-1] == '\n';
}

/* Expands the text of one file. */
static int expand_text(struct sink *k, const char *text, struct frame *f)
{
    const char *p = text;
    enum state old;
    int ret = 0;

    while (*p && !ret) {
        bool skip = false;

        if (f->state == PLAIN && !strncmp(p, "@include", 8) && first_on_line(text, p)) {
            ret = include(k, f, &p);
            continue;
        }
        old = f->state;
        f->state = step(old, p, &skip);
        if (old == PLAIN && f->state != PLAIN)
            f->opened = f->line;
        for (int n = skip ? 2 : 1; n; n--, p++) {
            put(k, f, *p);
            f->line += *p == '\n';
        }
        if (k->bytes > BYTES)
            ret = fail_at(k, f, f->line, "want at most 4M of text with all includes");
    }
    if (ret)
        return ret;
    if (f->state == STRING)
        return fail_at(k, f, f->opened,
                       "a string begins here and never ends; want a closing \"");
    if (f->state == BLOCK_COMMENT)
        return fail_at(k, f, f->opened,
                       "a comment begins here and never ends; want a closing */");
    if (!k->bol && k->bytes)
        put(k, f, '\n');
    return 0;
}

/* Reads a descriptor whole into malloc'd text; a NUL byte is refused. */
static int read_whole(int fd, char **out)
{
    size_t n = 0, cap = 65536;
    char *text = xcalloc(1, cap), *more;
    ssize_t got;

    while ((got = read(fd, text + n, cap - 1 - n)) > 0) {
        n += (size_t)got;
        if (n > BYTES)
            break;
        if (cap - 1 - n == 0) {
            cap *= 2;
            more = realloc(text, cap);
            INVARIANT(more, "the host has no memory left for a configuration file");
            text = more;
        }
    }
    if (got < 0 || n > BYTES || memchr(text, 0, n)) {
        got = got < 0 ? -errno : n > BYTES ? -EFBIG : -EILSEQ;
        free(text);
        return (int)got;
    }
    text[n] = 0;
    *out = text;
    return 0;
}

/* Opens and reads a file; fills the frame's identity.  The first file may be a pipe; included ones
 * are regular (ESPIPE else), so that nothing waits. */
static int slurp(const char *path, struct frame *f, char **text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (f->up ? O_NONBLOCK : 0));
    struct stat st;
    int ret;

    if (fd < 0)
        return -errno;
    ret = fstat(fd, &st) < 0 ? -errno : 0;
    if (!ret && f->up && !S_ISREG(st.st_mode))
        ret = S_ISDIR(st.st_mode) ? -EISDIR : -ESPIPE;
    if (!ret) {
        f->dev = st.st_dev;
        f->ino = st.st_ino;
        ret = read_whole(fd, text);
    }
    close(fd);
    return ret;
}

/* Says why a file cannot be read; an included one with the place of its @include. */
static int fail_read(const struct sink *k, const char *path, const struct frame *up, int error)
{
    enum exit_status status = error == EACCES ? EXIT_PERMISSION : EXIT_CONFIG;
    const char *why = strerror(error);

    if (error == EILSEQ)
        why = "want a text file, this one holds a zero byte";
    else if (error == EFBIG)
        why = "want a configuration file, of at most 4M";
    else if (error == ESPIPE)
        why = "want a regular file";
    if (up)
        return fail(k->err, status, error, "%s:%d: @include: %s: %s", k->s->files[up->file],
                    up->line, path, why);
    return fail(k->err, status, error, "%s: %s", path, why);
}

/* Puts one file in. */
static int expand_file(struct sink *k, const char *path, struct frame *up)
{
    struct frame f = {.up = up, .line = 1, .depth = up ? up->depth + 1 : 0};
    char *text = NULL;
    int ret;

    if (up && k->s->nfiles >= FILES)
        return fail_at(k, up, up->line, "@include: want at most 256 files in all");
    ret = slurp(path, &f, &text);
    if (ret)
        return fail_read(k, path, up, -ret);
    for (const struct frame *a = up; a && !ret; a = a->up) {
        if (a->dev == f.dev && a->ino == f.ino)
            ret =
                fail_at(k, up, up->line, "@include: this file includes itself, want no loops");
    }
    if (!ret) {
        f.file = add_name(k->s, path);
        ret = expand_text(k, text, &f);
    }
    free(text);
    return ret;
}

/* Opens the memory stream that collects the text. */
static void sink_open(struct sink *k, struct source *s, size_t *size, struct err *err)
{
    *s = (struct source){0};
    *k = (struct sink){.s = s, .bol = true, .err = err};
    k->out = open_memstream(&s->text, size);
    INVARIANT(k->out, "the host has no memory left for a stream");
}

/* Closes it; drops everything when reading failed. */
static int sink_close(struct sink *k, int ret)
{
    fclose(k->out);
    if (ret)
        source_free(k->s);
    return ret;
}

int source_read(struct source *s, const char *path, struct err *err)
{
    struct sink k;
    size_t size;

    sink_open(&k, s, &size, err);
    return sink_close(&k, expand_file(&k, path, NULL));
}

int source_text(struct source *s, const char *name, const char *text, struct err *err)
{
    /* A frame at full depth refuses every include. */
    struct frame f = {.line = 1, .depth = DEPTH};
    struct sink k;
    size_t size;

    sink_open(&k, s, &size, err);
    f.file = add_name(s, name);
    return sink_close(&k, expand_text(&k, text, &f));
}

void source_free(struct source *s)
{
    for (unsigned i = 0; i < s->nfiles; i++)
        free(s->files[i]);
    free(s->files);
    free(s->lines);
    free(s->text);
    *s = (struct source){0};
}

/* The map's entry of a line; NULL when the text is empty. */
static const struct source_line *look_up(const struct source *s, int line)
{
    if (!s->nlines)
        return NULL;
    if (line < 1)
        line = 1;
    return &s->lines[(unsigned)line > s->nlines ? s->nlines - 1 : (unsigned)line - 1];
}

const char *source_file(const struct source *s, int line)
{
    const struct source_line *l = look_up(s, line);

    return s->files[l ? l->file : 0];
}

int source_line(const struct source *s, int line)
{
    const struct source_line *l = look_up(s, line);

    return l ? l->line : 1;
}

/* Copies a path, leaving out "." and empty parts; out has room for it. */
static void tidy(char *out, const char *path)
{
    const char *p = path;
    char *o = out;

    while (*p) {
        size_t n;

        p += strspn(p, "/");
        n = strcspn(p, "/");
        if (n && !(n == 1 && *p == '.')) {
            *o++ = '/';
            memcpy(o, p, n);
            o += n;
        }
        p += n;
    }
    if (o == out)
        *o++ = '/';
    *o = 0;
}

char *source_resolve(const char *file, const char *path)
{
    const char *slash = strrchr(file, '/');
    char *cwd = NULL, *whole, *out;

    if (path[0] == '/') {
        whole = xstrdup(path);
    } else {
        if (file[0] != '/')
            cwd = getcwd(NULL, 0);
        whole = xasprintf("%s/%.*s/%s", cwd ? cwd : "", slash ? (int)(slash - file) : 0, file,
                          path);
    }
    out = xcalloc(1, strlen(whole) + 2);
    tidy(out, whole);
    free(whole);
    free(cwd);
    return out;
}
