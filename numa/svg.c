/* SPDX-License-Identifier: MIT */
/*
 * Writes text and rectangles as SVG elements; see svg.h.  The one invariant: whatever a string
 * holds, what is written is well-formed XML.  No state, no locks.
 */
#include "numa/svg.h"

/* Bytes of the UTF-8 character at s, 0 when it is not one. */
static unsigned char_len(const char *s)
{
    unsigned char c = (unsigned char)*s;
    unsigned len = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : 0;

    if (c >= 0xf0 && c < 0xf5)
        len = 4;
    for (unsigned i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

/* Writes one character of len bytes; those special to XML are escaped. */
static void put_char(FILE *f, const char *s, unsigned len)
{
    if (*s == '<')
        fputs("&lt;", f);
    else if (*s == '>')
        fputs("&gt;", f);
    else if (*s == '&')
        fputs("&amp;", f);
    else if (*s == '"')
        fputs("&quot;", f);
    else if ((unsigned char)*s >= 0x20)
        fwrite(s, 1, len, f);
}

/* Writes at most max characters; a byte that is not UTF-8 becomes a question mark. */
static void put_text(FILE *f, const char *s, unsigned max)
{
    unsigned len;

    for (; *s && max; max--, s += len ? len : 1) {
        len = char_len(s);
        put_char(f, len ? s : "?", len ? len : 1);
    }
    if (*s)
        fputs("…", f);
}

void svg_label(FILE *f, double x, double y, const char *cls, unsigned max, const char *s)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, cls);
    put_text(f, s, max);
    fputs("</text>\n", f);
}

void svg_box(FILE *f, double x, double y, double w, double h, double r, const char *style)
{
    fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"%.1f\" %s/>\n",
            x, y, w, h, r, style);
}

unsigned svg_fit(double width, double size)
{
    return width < size ? 1 : (unsigned)(width / (size * 0.59));
}
