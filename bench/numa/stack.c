/* SPDX-License-Identifier: MIT */
/*
 * The stacked bars of bench/numa as SVG: a group for each workload, a bar for each placement, in it
 * the parts of the time one upon the other.  Interface in report.h.  Threads: one.
 */
#include <math.h>
#include <string.h>

#include "bench/numa/report.h"

enum {
    LEFT = 56,    /* of the axis */
    TOP = 96,     /* of the plot */
    HEIGHT = 320, /* of the plot */
    THICK = 22,   /* of a bar */
    STEP = 28,    /* from bar to bar */
    GAP = 30,     /* between workloads */
    FOOT = 116,   /* below the plot: names */
};

static const char *const fills[RUN_PARTS];

/* Text at a place. */
static void text(FILE *f, double x, double y, const char *style, const char *s)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">%s</text>\n", x, y, style, s);
}

/* The largest bar. */
static double largest(const struct report *r)
{
    double top = 100;

    for (unsigned i = 0; i < r->nrows; i++)
        top = fmax(top, report_relative(r, &r->row[i]));
    return ceil(top / 50) * 50;
}

/* Lines across, every 50. */
static void axis(FILE *f, double top, double right)
{
    for (double v = 0; v <= top; v += 50) {
        double y = TOP + HEIGHT * (1 - v / top);
        char s[16];

        snprintf(s, sizeof(s), "%.0f", v);
        fprintf(f, "<path d=\"M%d %.1fH%.1f\" class=\"grid\"/>\n", LEFT, y, right);
        text(f, LEFT - 8, y + 4, "number", s);
    }
}

/* What the colours mean. */
static void legend(FILE *f)
{
    for (unsigned i = 0; i < RUN_PARTS; i++) {
        double x = LEFT + i * 118.0;

        fprintf(f, "<rect x=\"%.1f\" y=\"66\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x,
                fills[i]);
        text(f, x + 18, 76, "name", report_parts[i]);
    }
}

/* One bar with its number and its name. */
static void bar(FILE *f, const struct report *r, const struct row *row, double x, double top)
{
    double y = TOP + HEIGHT;
    char s[16];

    for (unsigned i = 0; i < RUN_PARTS; i++) {
        double h = report_part(r, row, i) / top * HEIGHT;

        y -= h;
        fprintf(f, "<rect x=\"%.1f\" y=\"%.2f\" width=\"%d\" height=\"%.2f\" fill=\"%s\"/>\n",
                x, y, THICK, h, fills[i]);
    }
    snprintf(s, sizeof(s), "%.0f", report_relative(r, row));
    text(f, x + THICK / 2.0, y - 5, "value", s);
    fprintf(f,
            "<text transform=\"translate(%.1f %d) rotate(-60)\" class=\"number\">%s</text>\n",
            x + THICK / 2.0 + 4, TOP + HEIGHT + 14, row->placement);
}

/* Whether there is anything to draw of a row. */
static bool drawn(const struct row *row)
{
    return row->n || row->bound > 0;
}

/* Width of all groups. */
static double width_of(const struct report *r)
{
    double x = LEFT + GAP / 2.0;

    for (unsigned i = 0; i < r->nrows; i++)
        x += drawn(&r->row[i]) * STEP +
             (i && report_base(r, &r->row[i]) == &r->row[i] ? GAP : 0);
    return x + GAP / 2.0;
}

int stack_svg(FILE *f, const struct report *r)
{
    double x = LEFT + GAP / 2.0, top = largest(r), right = width_of(r), from = x;

    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%d\" "
            "viewBox=\"0 0 %.0f %d\">\n<style>text{font-family:sans-serif;font-size:12px;"
            "fill:#222}.title{font-size:18px;font-weight:bold}.note{fill:#666}.number{"
            "text-anchor:end}.value{text-anchor:middle;font-size:11px}.head{text-anchor:middle;"
            "font-weight:bold}.grid{stroke:#ddd}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            right + 20, TOP + HEIGHT + FOOT, right + 20, TOP + HEIGHT + FOOT);
    text(f, 20, 30, "title", "Where a guest's time goes, by where its memory is");
    fprintf(f,
            "<text x=\"20\" y=\"50\" class=\"note\">Modelled on %s, four nodes, eight CPUs; "
            "non-idle time of all CPUs, first bar of each workload = 100.</text>\n",
            r->machine);
    legend(f);
    axis(f, top, right);
    for (unsigned i = 0; i < r->nrows; i++) {
        const struct row *row = &r->row[i];
        bool last = i + 1 == r->nrows || report_base(r, row + 1) == row + 1;

        if (drawn(row))
            bar(f, r, row, x, top);
        x += drawn(row) * STEP;
        if (!last)
            continue;
        text(f, (from + x - STEP + THICK) / 2, TOP + HEIGHT + FOOT - 12, "head", row->workload);
        x += GAP;
        from = x;
    }
    fputs("</svg>\n", f);
    return ferror(f) ? -1 : 0;
}

static const char *const fills[RUN_PARTS] = {"#2b6cb0", "#63b3ed", "#a0aec0", "#f6ad55",
                                             "#c53030"};
