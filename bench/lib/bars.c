/* SPDX-License-Identifier: MIT */
/*
 * Bar charts as SVG: see bars.h.  Everything is placed from the top; text is sans-serif and sized
 * so that labels of up to 26 characters fit left of the bars.
 */
#include "bench/lib/bars.h"

#include <math.h>

enum {
    WIDTH = 860,  /* of the picture */
    LEFT = 210,   /* where bars begin */
    RIGHT = 690,  /* where the longest ends */
    TOP = 74,     /* of the first panel */
    HEAD = 42,    /* of a panel: its title */
    STEP = 26,    /* from bar to bar */
    THICK = 16,   /* of a bar */
    BETWEEN = 18, /* panels */
};

/* Text with &, < and > written as XML wants them. */
static void put_text(FILE *f, const char *s)
{
    for (; *s; s++) {
        if (*s == '&')
            fputs("&amp;", f);
        else if (*s == '<')
            fputs("&lt;", f);
        else if (*s == '>')
            fputs("&gt;", f);
        else
            fputc(*s, f);
    }
}

/* One line of text. */
static void text(FILE *f, double x, double y, const char *style, const char *s)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, style);
    put_text(f, s);
    fputs("</text>\n", f);
}

/* The largest value a panel has to show. */
static double largest(const struct panel *p)
{
    double top = p->goal;

    for (unsigned i = 0; i < p->nbars; i++)
        top = fmax(top, p->bars[i].s.max);
    return top > 0 ? top : 1;
}

/* The smallest, for a logarithmic axis: a power of ten below everything. */
static double smallest(const struct panel *p)
{
    double low = largest(p);

    for (unsigned i = 0; i < p->nbars; i++)
        if (p->bars[i].s.n)
            low = fmin(low, p->bars[i].s.min);
    if (p->goal > 0)
        low = fmin(low, p->goal);
    return pow(10, floor(log10(low > 0 ? low : 1)) - 0.3);
}

/* Where a value lies. */
static double at(const struct panel *p, double v)
{
    double top = largest(p), low = smallest(p), share;

    if (p->logarithmic)
        share = v > low ? log(v / low) / log(top / low) : 0;
    else
        share = v / top;
    return LEFT + share * (RIGHT - LEFT);
}

/* A value with as many digits as are of use. */
static int number(char *buf, size_t len, double v)
{
    return snprintf(buf, len, v < 10 ? "%.2f" : v < 100 ? "%.1f" : "%.0f", v);
}

/* One bar with its spread and its number. */
static void draw_bar(FILE *f, const struct panel *p, const struct bar *b, double y)
{
    double mid = y + THICK / 2.0;
    char buf[64];
    int n;

    text(f, LEFT - 10, mid + 4, "label", b->label);
    if (!b->s.n) {
        text(f, LEFT + 4, mid + 4, "none", "not measured");
        return;
    }
    fprintf(f, "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" class=\"%s\"/>\n", LEFT,
            y, fmax(at(p, b->s.median) - LEFT, 1), THICK, b->ours ? "ours" : "theirs");
    fprintf(f, "<path d=\"M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8\" class=\"spread\"/>\n",
            at(p, b->s.min), mid, at(p, b->s.max), at(p, b->s.min), mid - 4, at(p, b->s.max),
            mid - 4);
    n = number(buf, sizeof(buf), b->s.median);
    snprintf(buf + n, sizeof(buf) - (size_t)n, " %s", p->unit);
    text(f, fmax(at(p, b->s.max), at(p, b->s.median)) + 8, mid + 4, "value", buf);
}

/* The goal's line and what it is. */
static void draw_goal(FILE *f, const struct panel *p, double y, double bottom)
{
    double x = at(p, p->goal);
    char buf[64];
    int n = snprintf(buf, sizeof(buf), "goal ");

    n += number(buf + n, sizeof(buf) - (size_t)n, p->goal);
    snprintf(buf + n, sizeof(buf) - (size_t)n, " %s", p->unit);
    fprintf(f, "<path d=\"M%.1f %.1fV%.1f\" class=\"goal\"/>\n", x, y - 6, bottom);
    text(f, x + 4, y - 10, "goaltext", buf);
}

/* One panel; gives where the next begins. */
static double draw_panel(FILE *f, const struct panel *p, double y)
{
    double bottom = y + HEAD + p->nbars * STEP;

    text(f, 20, y + 14, "head", p->title);
    if (p->logarithmic)
        text(f, WIDTH - 20, y + 14, "axis", "logarithmic axis");
    for (unsigned i = 0; i < p->nbars; i++)
        draw_bar(f, p, &p->bars[i], y + HEAD + i * STEP);
    if (p->goal > 0)
        draw_goal(f, p, y + HEAD, bottom - (STEP - THICK));
    return bottom + BETWEEN;
}

int bars_svg(FILE *f, const char *title, const char *note, const struct panel *panels,
             size_t npanels)
{
    double height = TOP, y = TOP;

    for (size_t i = 0; i < npanels; i++)
        height += HEAD + panels[i].nbars * STEP + BETWEEN;
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" "
            "viewBox=\"0 0 %d %.0f\">\n<style>text{font-family:sans-serif;font-size:12px;"
            "fill:#222}.title{font-size:18px;font-weight:bold}.head{font-size:14px;"
            "font-weight:bold}.label{text-anchor:end}.axis,.note{fill:#666}"
            ".axis{text-anchor:end}.none{fill:#999}.ours{fill:#2b6cb0}.theirs{fill:#b8c4d0}"
            ".spread{stroke:#222;fill:none}.goal{stroke:#c53030;stroke-dasharray:4 3}"
            ".goaltext{fill:#c53030;font-size:11px}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            WIDTH, height, WIDTH, height);
    text(f, 20, 30, "title", title);
    text(f, 20, 52, "note", note);
    for (size_t i = 0; i < npanels; i++)
        y = draw_panel(f, &panels[i], y);
    fputs("</svg>\n", f);
    return ferror(f) ? -1 : 0;
}
