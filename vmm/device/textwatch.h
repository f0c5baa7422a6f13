/* SPDX-License-Identifier: MIT */
/*
 * Looks for a text in a stream of bytes that arrives in pieces: how a console tells that its
 * guest is up.  No threads or locks of its own: the caller's.
 */
#ifndef DISCO_VMM_DEVICE_TEXTWATCH_H
#define DISCO_VMM_DEVICE_TEXTWATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One search.  Zeroed, it looks for nothing. */
struct textwatch {
    char *text; /* what is looked for, owned; NULL: nothing, or it was found */
    size_t at;  /* bytes of text that the stream ends with, below its length */
};

/* Looks for text, which is copied, from now on; what was looked for before is forgotten. */
void textwatch_set(struct textwatch *w, const char *text);

/* The stream goes on with n bytes.  True once, when the text is complete; then the search is
 * over. */
bool textwatch_feed(struct textwatch *w, const uint8_t *p, size_t n);

/* Ends the search, found or not. */
void textwatch_exit(struct textwatch *w);

#endif
