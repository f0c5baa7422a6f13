/* SPDX-License-Identifier: MIT */
/*
 * Finding a text in a stream of bytes: the automaton of Knuth, Morris and Pratt without its
 * table, since the texts are short.  Interface: textwatch.h.
 *
 * Invariant W1: text[0..at) is the longest beginning of the text that the stream ends with.
 */
#include "vmm/device/textwatch.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Length of the longest proper beginning of text[0..n) that it also ends with. */
static size_t border(const char *text, size_t n)
{
    size_t k = n ? n - 1 : 0;

    while (k && memcmp(text, text + n - k, k) != 0)
        k--;
    return k;
}

void textwatch_set(struct textwatch *w, const char *text)
{
    textwatch_exit(w);
    w->text = xstrdup(text);
}

bool textwatch_feed(struct textwatch *w, const uint8_t *p, size_t n)
{
    size_t len = w->text ? strlen(w->text) : 0;

    for (size_t i = 0; len && i < n; i++) {
        while (w->at && w->text[w->at] != (char)p[i])
            w->at = border(w->text, w->at);
        w->at += w->text[w->at] == (char)p[i];
        if (w->at == len) {
            textwatch_exit(w);
            return true;
        }
    }
    return false;
}

void textwatch_exit(struct textwatch *w)
{
    free(w->text);
    *w = (struct textwatch){0};
}
