/* SPDX-License-Identifier: MIT */
/*
 * Cuts a stream into lines and reads requests out of them.
 * Invariant N1: a buffer never holds more than LINE_MAX_BYTES, and each byte is looked at for a
 * newline once.
 * Threads: a buffer belongs to one thread.
 */
#include "vmm/monitor/line.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void line_free(struct linebuf *b)
{
    free(b->p);
    *b = (struct linebuf){0};
}

char *line_room(struct linebuf *b, size_t *n)
{
    if (b->len == LINE_MAX_BYTES)
        return NULL;
    if (b->len == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 1024; /* ends at LINE_MAX_BYTES, a power of two */
        b->p = realloc(b->p, b->cap);
        INVARIANT(b->p, "the host has no memory left for a line");
    }
    *n = b->cap - b->len;
    return b->p + b->len;
}

void line_added(struct linebuf *b, size_t n)
{
    b->len += n;
    INVARIANT(b->len <= b->cap, "N1: no more was added than fits");
}

/* Drops the first n bytes. */
static void consume(struct linebuf *b, size_t n)
{
    b->len -= n;
    memmove(b->p, b->p + n, b->len);
    b->seen = 0;
}

char *line_take(struct linebuf *b, size_t *len)
{
    char *nl, *line;

    if (b->len == b->seen)
        return NULL;
    nl = memchr(b->p + b->seen, '\n', b->len - b->seen);
    if (!nl) { /* all of it was looked at: the next search begins behind (N1) */
        b->seen = b->len;
        return NULL;
    }
    *len = (size_t)(nl - b->p);
    line = xcalloc(1, *len + 1);
    memcpy(line, b->p, *len);
    consume(b, *len + 1);
    return line;
}

size_t line_rest(struct linebuf *b, void *to, size_t cap)
{
    size_t n = b->len < cap ? b->len : cap;

    if (n) {
        memcpy(to, b->p, n);
        consume(b, n);
    }
    return n;
}

/* True when brackets nest deeper than requests ever do; looked at before a parser recurses. */
static int too_deep(const char *line, size_t len)
{
    int depth = 0;

    for (size_t i = 0; i < len; i++) {
        if (line[i] == '{' || line[i] == '[')
            depth++;
        else if (line[i] == '}' || line[i] == ']')
            depth--;
        if (depth > 16)
            return 1;
    }
    return 0;
}

struct json_t *line_request(const char *line, size_t len, const char **why)
{
    json_t *j;

    *why = "the request nests too deep";
    if (too_deep(line, len))
        return NULL;
    j = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
    *why = "the request is no JSON object on one line";
    if (json_is_object(j) && json_is_string(json_object_get(j, "cmd")))
        return j;
    if (json_is_object(j))
        *why = "the request has no \"cmd\" with a text";
    json_decref(j);
    return NULL;
}
