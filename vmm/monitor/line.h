/* SPDX-License-Identifier: MIT */
/*
 * Lines of a byte stream, and the JSON objects in them: what a client of the monitor sends.
 * A line ends with a newline and has at most LINE_MAX_BYTES before it; everything is hostile.
 * Threads: a buffer belongs to one thread.
 */
#ifndef DISCO_VMM_MONITOR_LINE_H
#define DISCO_VMM_MONITOR_LINE_H

#include <stddef.h>
#include <stdint.h>

struct json_t;

enum { LINE_MAX_BYTES = 65536 };

/* Bytes that came and were not yet taken as lines. */
struct linebuf {
    char *p;         /* cap bytes, NULL before the first come */
    size_t cap, len; /* allocated and filled */
    size_t seen;     /* of these, known to hold no newline */
};

/* Frees the buffer. */
void line_free(struct linebuf *b);

/* Room for at least one more byte: returns where to put it and in *n how many fit; NULL when the
 * line that is coming is too long already. */
char *line_room(struct linebuf *b, size_t *n);

/* Says that n bytes were put there. */
void line_added(struct linebuf *b, size_t n);

/* Takes the next whole line: malloc'd, terminated, without its newline; *len is its length.
 * NULL: none is complete. */
char *line_take(struct linebuf *b, size_t *len);

/* Takes all bytes that are left, whatever they are; returns how many, at most cap. */
size_t line_rest(struct linebuf *b, void *to, size_t cap);

/* The object a request line holds, or NULL: no JSON, no object, nested too deep, a key twice, or
 * no text under "cmd".  *why (a constant) then says which. */
struct json_t *line_request(const char *line, size_t len, const char **why);

#endif
