/* SPDX-License-Identifier: MIT */
/*
 * Draws a guest's memory as one self-contained SVG, 1200 units wide.  On the left memory itself,
 * cell by cell in order of address: coloured by the node that has it, in hatched bands where
 * several have copies, the brighter the more it was used lately.  On the right who uses what: a
 * line for each row of cells, a column for each node, shaded by the node's share of the row's uses.
 * Below a line for each node.
 *
 * Everything drawn is a number but for the guest's names, which svg_label() escapes.  State lives
 * in struct pic for one call.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "numa/svg.h"
#include "vmm/monitor/heatmap.h"
#include "vmm/monitor/table.h"

/* Measures, in units of the drawing. */
enum {
    WIDTH = 1200,  /* of the whole */
    MARGIN = 32,   /* around it */
    TOP = 96,      /* heads of both panels */
    LABEL = 62,    /* addresses left of memory */
    GRID = 640,    /* memory */
    ASIDE = 34,    /* between the panels */
    SUM = 74,      /* bar of all uses, at the right end */
    ROW_LOW = 11,  /* height of a row of many */
    ROW_HIGH = 18, /* and of few */
    FEW = 24,      /* rows */
    HOLE = 7,      /* between rows with a gap of addresses */
    COLUMN = 60,   /* width of a node's column, at most */
    PAGE = 4096
};

/* Colours of nodes. */
static const char *const colour[] = {"#3b6fb6", "#e0803a", "#3f9b62", "#c44d5e", "#7e62b4",
                                     "#a3793f", "#cf6a9f", "#3e9dac", "#8a982f", "#5f6b7a"};

enum { COLOURS = sizeof(colour) / sizeof(colour[0]), LEVELS = 5 };

/* Brightness by use, from none to the most. */
static const char *const shade[LEVELS] = {".25", ".43", ".62", ".81", "1"};

/* A drawing under way. */
struct pic {
    FILE *f;                 /* where it goes */
    const struct heatmap *h; /* what is drawn */
    unsigned cols;           /* cells in a row */
    double cell_w, row_h;    /* of a cell */
    double who_x, col_w;     /* of the right panel: left edge, width of a column */
    double most;             /* uses of a page in the cell with the most */
    double most_row;         /* uses of the row with the most */
    double y;                /* top of what is drawn next */
};

/* Some cells that stand side by side. */
struct span {
    unsigned first, end; /* cells first..end-1 */
};

/* ---- sums ---- */

/* A sum as a whole number; hostile ones stop at a large one. */
static uint64_t whole(double v)
{
    return v < 9e18 ? (uint64_t)v : UINT64_MAX / 2;
}

/* About the binary logarithm of 1 + v: exact at powers of two, straight in between. */
static double ratio(double v)
{
    int e;
    double m = frexp(1 + v, &e);

    return e - 1 + (2 * m - 1);
}

static uint64_t sum(const struct heatmap *h, unsigned cell, enum heat_kind kind)
{
    const uint64_t *n = heatmap_counts(h, cell, kind);
    uint64_t all = 0;

    for (unsigned i = 0; i < h->nnodes; i++)
        all += n[i];
    return all;
}

/* Uses of a cell, all nodes. */
static double uses(const struct heatmap *h, unsigned cell)
{
    return (double)sum(h, cell, HEAT_READS) + (double)sum(h, cell, HEAT_WRITES);
}

/* A node's count in a span. */
static double node_sum(const struct heatmap *h, struct span s, enum heat_kind kind, unsigned n)
{
    double all = 0;

    for (unsigned i = s.first; i < s.end; i++)
        all += (double)heatmap_counts(h, i, kind)[n];
    return all;
}

/* Uses of a span. */
static double span_uses(const struct heatmap *h, struct span s)
{
    double all = 0;

    for (unsigned i = s.first; i < s.end; i++)
        all += uses(h, i);
    return all;
}

/* The row that begins with a cell: up to a number of cells, none behind a gap of addresses. */
static struct span row_from(const struct pic *p, unsigned first)
{
    const struct heat_cell *c = p->h->cell;
    struct span s = {first, first + 1};

    while (s.end < p->h->n && s.end - first < p->cols &&
           c[s.end].gpa == c[s.end - 1].gpa + c[s.end - 1].bytes)
        s.end++;
    return s;
}

/* Uses of a page of a cell on average. */
static double per_page(const struct heatmap *h, unsigned cell)
{
    return uses(h, cell) * PAGE / (double)h->cell[cell].bytes;
}

/* How bright a cell is: 0..LEVELS-1, on a scale of ratios. */
static unsigned level_of(const struct pic *p, unsigned cell)
{
    double u = per_page(p->h, cell);
    unsigned level;

    if (u <= 0)
        return 0;
    level = 1 + (unsigned)((LEVELS - 1) * ratio(u) / ratio(p->most));
    return level < LEVELS ? level : LEVELS - 1;
}

/* ---- memory ---- */

/* A box in a node's colour. */
static void tint(const struct pic *p, unsigned node, unsigned level, double x, double y,
                 double w, double h)
{
    char style[32];

    snprintf(style, sizeof(style), "class=\"n%u u%u\"", node, level);
    svg_box(p->f, x, y, w, h, 0, style);
}

/* The node that has all of a cell to itself, or -1. */
static int only_owner(const struct heatmap *h, unsigned cell)
{
    const uint64_t *n = heatmap_counts(h, cell, HEAT_PRIVATE);
    int owner = -1;

    if (h->cell[cell].absent || sum(h, cell, HEAT_MASTERS) || sum(h, cell, HEAT_SHARED))
        return -1;
    for (unsigned i = 0; i < h->nnodes; i++) {
        if (n[i] && owner >= 0)
            return -1;
        if (n[i])
            owner = (int)i;
    }
    return owner;
}

/* Adds "word 12 of node 0, 3 of node 1" to a title. */
static void name_nodes(const struct pic *p, struct span s, enum heat_kind kind,
                       const char *word)
{
    const char *between = "";
    char n[16];

    for (unsigned i = 0; i < p->h->nnodes; i++) {
        double v = node_sum(p->h, s, kind, i);

        if (v <= 0)
            continue;
        fprintf(p->f, "%s%s node %d: %s", *between ? between : "\n", *between ? "" : word,
                p->h->node[i], human_count(n, whole(v)));
        between = ",";
    }
}

/* What a browser shows of cells where the mouse is. */
static void title(const struct pic *p, struct span s)
{
    const struct heat_cell *c = p->h->cell;
    uint64_t absent = 0;
    char at[UNITS_TEXT], len[UNITS_TEXT], n[16];

    for (unsigned i = s.first; i < s.end; i++)
        absent += c[i].absent;
    fprintf(p->f, "<title>%s at %s (0x%" PRIx64 ")",
            units_print_size(len, c[s.end - 1].gpa + c[s.end - 1].bytes - c[s.first].gpa),
            units_print_size(at, c[s.first].gpa), c[s.first].gpa);
    name_nodes(p, s, HEAT_PRIVATE, "pages");
    name_nodes(p, s, HEAT_MASTERS, "replicated pages");
    name_nodes(p, s, HEAT_REPLICAS, "replicas");
    name_nodes(p, s, HEAT_SHARED, "shared pages");
    if (absent)
        fprintf(p->f, "\nnot in memory: %s", human_count(n, absent));
    name_nodes(p, s, HEAT_READS, "reads");
    name_nodes(p, s, HEAT_WRITES, "writes");
    fputs("</title>\n", p->f);
}

/* The replicated part of a cell: a band for each node with copies, and hatching. */
static void draw_copies(const struct pic *p, unsigned cell, unsigned level, double x, double w)
{
    const uint64_t *master = heatmap_counts(p->h, cell, HEAT_MASTERS);
    const uint64_t *replica = heatmap_counts(p->h, cell, HEAT_REPLICAS);
    double all = (double)(sum(p->h, cell, HEAT_MASTERS) + sum(p->h, cell, HEAT_REPLICAS));
    double y = p->y, high = p->row_h - 1;

    for (unsigned n = 0; n < p->h->nnodes; n++) {
        double part = high * (double)(master[n] + replica[n]) / all;

        if (part > 0)
            tint(p, n, level, x, y, w, part);
        y += part;
    }
    svg_box(p->f, x, p->y, w, high, 0, "fill=\"url(#copies)\"");
}

/* One kind of pages of a cell, a stripe for each node from x on; where it ends. */
static double draw_stripes(const struct pic *p, unsigned cell, enum heat_kind kind, double x,
                           double page_w)
{
    const uint64_t *n = heatmap_counts(p->h, cell, kind);
    unsigned level = level_of(p, cell);

    for (unsigned i = 0; i < p->h->nnodes; i++) {
        double w = page_w * (double)n[i];

        if (w <= 0)
            continue;
        tint(p, i, level, x, p->y, w, p->row_h - 1);
        if (kind == HEAT_SHARED)
            svg_box(p->f, x, p->y, w, p->row_h - 1, 0, "fill=\"url(#shared)\"");
        x += w;
    }
    return x;
}

/* One cell: stripes of its private pages, its replicated and its shared ones; the rest is bare. */
static void draw_cell(const struct pic *p, unsigned cell, double x)
{
    const struct heatmap *h = p->h;
    double masters = (double)sum(h, cell, HEAT_MASTERS);
    double all = masters + (double)sum(h, cell, HEAT_PRIVATE) +
                 (double)sum(h, cell, HEAT_SHARED) + (double)h->cell[cell].absent;
    double page_w = all > 0 ? (p->cell_w - 0.6) / all : 0;

    if (all <= (double)h->cell[cell].absent)
        return;
    fputs("<g>", p->f);
    title(p, (struct span){cell, cell + 1});
    x = draw_stripes(p, cell, HEAT_PRIVATE, x, page_w);
    if (masters > 0)
        draw_copies(p, cell, level_of(p, cell), x, page_w * masters);
    draw_stripes(p, cell, HEAT_SHARED, x + page_w * masters, page_w);
    fputs("</g>\n", p->f);
}

/* Cells that look alike side by side, from first on: one node's, as bright. */
static unsigned alike(const struct pic *p, struct span s, int owner)
{
    unsigned end = s.first + 1, level = level_of(p, s.first);

    while (end < s.end && only_owner(p->h, end) == owner && level_of(p, end) == level)
        end++;
    return end;
}

/* A row of memory with its address. */
static void draw_row(const struct pic *p, struct span s)
{
    double left = MARGIN + LABEL;
    char at[UNITS_TEXT];

    svg_label(p->f, left - 8, p->y + p->row_h / 2 + 2.5, "at end", 16,
              units_print_size(at, p->h->cell[s.first].gpa));
    svg_box(p->f, left, p->y, (s.end - s.first) * p->cell_w - 0.6, p->row_h - 1, 0,
            "class=\"track\"");
    for (unsigned i = s.first, end; i < s.end; i = end) {
        int owner = only_owner(p->h, i);
        double x = left + (i - s.first) * p->cell_w;

        end = i + 1;
        if (owner < 0) {
            draw_cell(p, i, x);
            continue;
        }
        end = alike(p, (struct span){i, s.end}, owner);
        fputs("<g>", p->f);
        title(p, (struct span){i, end});
        tint(p, (unsigned)owner, level_of(p, i), x, p->y, (end - i) * p->cell_w - 0.6,
             p->row_h - 1);
        fputs("</g>\n", p->f);
    }
}

/* ---- who uses what ---- */

/* A node's share of a row's uses; the line at the foot is its writes. */
static void draw_share(const struct pic *p, struct span s, unsigned n, double all)
{
    double reads = node_sum(p->h, s, HEAT_READS, n), writes = node_sum(p->h, s, HEAT_WRITES, n);
    double share = all > 0 ? (reads + writes) / all : 0, w = p->col_w - 1;
    double x = p->who_x + n * p->col_w;
    char text[24];

    svg_box(p->f, x, p->y, w, p->row_h - 1, 0, "class=\"track\"");
    if (share <= 0)
        return;
    snprintf(text, sizeof(text), "fill-opacity=\"%.2f\"", 0.1 + 0.9 * share);
    fprintf(p->f, "<g class=\"n%u\" %s>", n, text);
    svg_box(p->f, x, p->y, w, p->row_h - 1, 0, "");
    fputs("</g>\n", p->f);
    if (writes > 0)
        svg_box(p->f, x, p->y + p->row_h - 3, w * writes / (reads + writes), 2, 0,
                "class=\"write\"");
    snprintf(text, sizeof(text), "%.0f%%", 100 * share);
    if (w >= 26 && share >= 0.005)
        svg_label(p->f, x + w / 2, p->y + p->row_h / 2 + 2.5, share > 0.6 ? "pc on" : "pc", 8,
                  text);
}

/* A row of the right panel, with a bar of all its uses. */
static void draw_who(const struct pic *p, struct span s)
{
    double all = span_uses(p->h, s), x = p->who_x + p->h->nnodes * p->col_w + 8;
    char text[16];

    for (unsigned n = 0; n < p->h->nnodes; n++)
        draw_share(p, s, n, all);
    if (all <= 0)
        return;
    svg_box(p->f, x, p->y + 1, (SUM - 38) * ratio(all) / ratio(p->most_row), p->row_h - 3, 0,
            "class=\"bar\"");
    svg_label(p->f, x + SUM - 8, p->y + p->row_h / 2 + 2.5, "at end", 8,
              human_count(text, whole(all)));
}

/* Names of the columns; of many nodes only some have room. */
static void draw_columns(const struct pic *p)
{
    unsigned every = p->col_w >= 14 ? 1 : 8;
    char text[16];

    for (unsigned n = 0; n < p->h->nnodes; n += every) {
        snprintf(text, sizeof(text), p->col_w >= 40 ? "node %d" : "%d", p->h->node[n]);
        svg_label(p->f, p->who_x + (n + 0.5) * p->col_w, TOP + 22, "col", 10, text);
    }
    svg_label(p->f, p->who_x + p->h->nnodes * p->col_w + SUM, TOP + 22, "at end", 8, "uses");
}

/* ---- below ---- */

/* What brightness, bands and lines mean. */
static void draw_key(struct pic *p)
{
    double x = MARGIN + LABEL;

    p->y += 14;
    svg_label(p->f, x, p->y + 10, "small", 20, "not used lately");
    for (unsigned l = 0; l < LEVELS; l++)
        tint(p, 0, l, x + 96 + l * 22.0, p->y, 21, 12);
    svg_label(p->f, x + 214, p->y + 10, "small", 20, "used most");
    svg_box(p->f, x + 294, p->y, 21, 6, 0, "class=\"n0\"");
    svg_box(p->f, x + 294, p->y + 6, 21, 6, 0, "class=\"n1\"");
    svg_box(p->f, x + 294, p->y, 21, 12, 0, "fill=\"url(#copies)\"");
    svg_label(p->f, x + 321, p->y + 10, "small", 50, "a copy on each of these nodes");
    svg_box(p->f, x + 512, p->y, 21, 12, 0, "class=\"track\"");
    svg_label(p->f, x + 539, p->y + 10, "small", 50, "not in memory");
    svg_box(p->f, p->who_x, p->y + 6, 21, 2, 0, "class=\"write\"");
    svg_label(p->f, p->who_x + 27, p->y + 10, "small", 80,
              "the part of these uses that are writes; the bar is all uses");
    p->y += 40;
}

/* A node's line: colour, name, what it has, what it did. */
static void draw_node(const struct pic *p, unsigned n, double row)
{
    static const unsigned right[HEAT_KINDS] = {190, 280, 370, 450, 540, 630};
    struct span all = {0, p->h->n};
    char text[24];

    svg_box(p->f, MARGIN + LABEL, p->y, 12, row - 4, 2, "class=\"track\"");
    tint(p, n, LEVELS - 1, MARGIN + LABEL, p->y, 12, row - 4);
    snprintf(text, sizeof(text), "node %d", p->h->node[n]);
    svg_label(p->f, MARGIN + LABEL + 20, p->y + row - 6, "cell", 12, text);
    for (unsigned k = 0; k < HEAT_KINDS; k++) {
        double v = node_sum(p->h, all, (enum heat_kind)k, n);

        if (k < HEAT_READS)
            human_size(text, whole(v * PAGE));
        else
            human_count(text, whole(v));
        svg_label(p->f, MARGIN + LABEL + right[k], p->y + row - 6, "cell end", 12, text);
    }
}

/* The nodes, a line each, and what is in no node's memory. */
static void draw_nodes(struct pic *p)
{
    static const char *const heads[HEAT_KINDS] = {"private", "replicated", "replicas",
                                                  "shared",  "reads",      "writes"};
    static const unsigned right[HEAT_KINDS] = {190, 280, 370, 450, 540, 630};
    double row = p->h->nnodes <= 16 ? 20 : 16;

    for (unsigned k = 0; k < HEAT_KINDS; k++)
        svg_label(p->f, MARGIN + LABEL + right[k], p->y, "small end", 12, heads[k]);
    p->y += 8;
    for (unsigned n = 0; n < p->h->nnodes; n++, p->y += row)
        draw_node(p, n, row);
}

/* ---- the whole ---- */

/* Style sheet, patterns and background; the height is known only at the end. */
static void draw_head(const struct pic *p, double height)
{
    static const char style[] =
        "text{font-family:system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',"
        "sans-serif;fill:#1f2733}"
        ".title{font-size:24px;font-weight:700}.sub{font-size:14px;fill:#5b6675}"
        ".head{font-size:15px;font-weight:700}.small{font-size:11.5px;fill:#5b6675}"
        ".cell{font-size:12.5px}.at{font-size:9px;fill:#5b6675}.end{text-anchor:end}"
        ".col{font-size:11px;fill:#5b6675;text-anchor:middle}"
        ".pc{font-size:8.5px;text-anchor:middle}.on{fill:#fff}"
        ".track{fill:#e6e9ee}.bar{fill:#aab2bf}.write{fill:#1f2733}";

    fprintf(p->f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" "
            "height=\"%.0f\" role=\"img\">\n<title>Memory of a guest</title>\n<style>%s",
            WIDTH, height, WIDTH, height, style);
    for (unsigned l = 0; l < LEVELS; l++)
        fprintf(p->f, ".u%u{fill-opacity:%s}", l, shade[l]);
    for (unsigned n = 0; n < p->h->nnodes; n++)
        if (n < COLOURS)
            fprintf(p->f, ".n%u{fill:%s}", n, colour[n]);
        else /* hues far apart, however many there are */
            fprintf(p->f, ".n%u{fill:hsl(%u,%u%%,%u%%)}", n, n * 222 % 360, 40 + n % 3 * 12,
                    38 + n % 4 * 8);
    fputs("</style>\n<defs>"
          "<pattern id=\"copies\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\">"
          "<path d=\"M-1 6L6 -1\" stroke=\"#fff\" stroke-opacity=\".75\"/></pattern>"
          "<pattern id=\"shared\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\">"
          "<circle cx=\"2\" cy=\"2\" r=\"1\" fill=\"#fff\" fill-opacity=\".8\"/></pattern>"
          "</defs>\n",
          p->f);
    svg_box(p->f, 0, 0, WIDTH, height, 0, "fill=\"#f7f8fa\"");
}

/* Title, sums and the heads of the panels. */
static void draw_title(const struct pic *p)
{
    const struct heatmap *h = p->h;
    double reads = 0, writes = 0;
    char line[256], size[16], cell[UNITS_TEXT], a[16], b[16];
    int n;

    for (unsigned i = 0; i < h->n; i++) {
        reads += (double)sum(h, i, HEAT_READS);
        writes += (double)sum(h, i, HEAT_WRITES);
    }
    svg_label(p->f, MARGIN, 44, "title", 70, h->name);
    n = snprintf(line, sizeof(line), "%s of memory on %u node%s · a cell is %s",
                 human_size(size, h->size), h->nnodes, h->nnodes == 1 ? "" : "s",
                 units_print_size(cell, h->cell[0].bytes));
    if (h->step > 1)
        n += snprintf(line + n, sizeof(line) - (size_t)n, ", one page in %" PRIu64 " looked at",
                      h->step);
    snprintf(line + n, sizeof(line) - (size_t)n,
             " · policy %s · uses seen by %s: %s reads, %s writes", h->policy, h->source,
             human_count(a, whole(reads)), human_count(b, whole(writes)));
    svg_label(p->f, MARGIN, 68, "sub", 200, line);
    svg_label(p->f, MARGIN + LABEL, TOP + 2, "head", 40, "Where memory is");
    svg_label(p->f, p->who_x, TOP + 2, "head", 40, "Who uses what");
}

/* Everything below the head; the height of the whole drawing. */
static double draw_body(struct pic *p)
{
    const struct heat_cell *c = p->h->cell;
    struct span s;

    draw_title(p);
    draw_columns(p);
    p->y = TOP + 30;
    for (unsigned i = 0; i < p->h->n; i = s.end) {
        s = row_from(p, i);
        if (i && c[i].gpa > c[i - 1].gpa + c[i - 1].bytes)
            p->y += HOLE;
        draw_row(p, s);
        draw_who(p, s);
        p->y += p->row_h;
    }
    draw_key(p);
    draw_nodes(p);
    return p->y + MARGIN;
}

/* Measures that depend on how much there is. */
static void measure(struct pic *p)
{
    const struct heatmap *h = p->h;
    unsigned rows = 0;
    struct span s;
    double room;

    p->cols = h->n > 1024 ? 64 : h->n > 256 ? 32 : 16;
    p->cell_w = (double)GRID / p->cols;
    for (unsigned i = 0; i < h->n; i = s.end, rows++) {
        double all;

        s = row_from(p, i);
        all = span_uses(h, s);
        p->most_row = all > p->most_row ? all : p->most_row;
    }
    for (unsigned i = 0; i < h->n; i++)
        p->most = per_page(h, i) > p->most ? per_page(h, i) : p->most;
    p->row_h = rows <= FEW ? ROW_HIGH : ROW_LOW;
    p->who_x = MARGIN + LABEL + GRID + ASIDE;
    room = (WIDTH - MARGIN - SUM - p->who_x) / h->nnodes;
    p->col_w = room < COLUMN ? room : COLUMN;
}

/* Draws into memory first: the height stands in the first line and is known last. */
int heatmap_svg(FILE *f, const struct heatmap *h)
{
    struct pic p = {.h = h};
    size_t len = 0;
    char *body = NULL;
    double height;

    measure(&p);
    p.f = open_memstream(&body, &len);
    INVARIANT(p.f, "the host has no memory left for a drawing");
    height = draw_body(&p);
    INVARIANT(!fclose(p.f), "the host has no memory left for a drawing");
    p.f = f;
    draw_head(&p, height);
    fwrite(body, 1, len, f);
    fputs("</svg>\n", f);
    free(body);
    return fflush(f) || ferror(f) ? -EIO : 0;
}
