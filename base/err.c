/* SPDX-License-Identifier: MIT */
/*
 * Composes the one message of a failed set-up, and ends the process on a broken invariant.
 * No state, no locks: every function works on what it is handed.
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Formats into err unless a message stands there already. */
static void compose(struct err *err, enum exit_status status, const char *fmt, va_list ap)
{
    if (!err || err->status)
        return;
    err->status = status;
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
}

int fail(struct err *err, enum exit_status status, int errnum, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    compose(err, status, fmt, ap);
    va_end(ap);
    return errnum > 0 ? -errnum : -1;
}

int fail_errno(struct err *err, enum exit_status status, int errnum, const char *fmt, ...)
{
    int fresh = err && !err->status;
    va_list ap;
    size_t n;

    va_start(ap, fmt);
    compose(err, status, fmt, ap);
    va_end(ap);
    if (fresh) {
        n = strlen(err->text);
        snprintf(err->text + n, sizeof(err->text) - n, ": %s", strerror(errnum));
    }
    return errnum > 0 ? -errnum : -1;
}

void err_prefix(struct err *err, const char *fmt, ...)
{
    char old[sizeof(err->text)];
    va_list ap;
    int n;

    if (!err || !err->status)
        return;
    memcpy(old, err->text, sizeof(old));
    va_start(ap, fmt);
    n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(err->text))
        snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %.900s", old);
}

void invariant_broken(const char *file, int line, const char *what)
{
    fprintf(stderr, "disco: broken invariant at %s:%d: %s\n", file, line, what);
    abort();
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);

    INVARIANT(p, "the host has no memory left for a small object");
    return p;
}

char *xstrdup(const char *s)
{
    char *p;

    if (!s)
        return NULL;
    p = strdup(s);
    INVARIANT(p, "the host has no memory left for a string");
    return p;
}

char *xvasprintf(const char *fmt, va_list ap)
{
    char *p = NULL;
    int n = vasprintf(&p, fmt, ap);

    INVARIANT(n >= 0 && p, "the host has no memory left for a string");
    return p;
}

char *xasprintf(const char *fmt, ...)
{
    va_list ap;
    char *p;

    va_start(ap, fmt);
    p = xvasprintf(fmt, ap);
    va_end(ap);
    return p;
}
