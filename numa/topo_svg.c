/* SPDX-License-Identifier: MIT */
/*
 * Draws the machine and its guests as one self-contained SVG, 1200 units wide: a box a node with
 * its CPUs, its memory and a segment for every guest on it; below, the distances and the guests.
 * Interface: topo_svg() of topo_draw.h.
 *
 * Nodes stand in a grid.  Within a row of it a guest keeps one lane (a height) on all its nodes,
 * so that a link between two of its segments crosses nobody else's.  A CPU is coloured by the
 * vCPUs that belong to its node, dealt out in turn; that is a picture of load, not of pinning.
 * Everything that comes from outside is escaped.  State lives in struct pic for one call.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "numa/place.h"
#include "numa/svg.h"
#include "numa/topo.h"
#include "numa/topo_draw.h"

/* Measures, in units of the drawing. */
enum {
    WIDTH = 1200,    /* of the whole */
    MARGIN = 32,     /* around it */
    TOP = 104,       /* first row of nodes */
    GAP = 26,        /* between nodes */
    PAD = 16,        /* inside a node */
    WIDE = 160,      /* nodes with less room show less */
    CPU_BIG = 25,    /* a CPU with its number */
    CPU_SMALL = 12,  /* a CPU of many */
    CPU_TINY = 6,    /* a CPU of very many */
    CPU_GAP = 4,     /* between CPUs */
    BIG_LINES = 3,   /* lines of large CPUs in a node, at most */
    SMALL_LINES = 6, /* lines of small CPUs in a node, at most */
    LANE = 50,       /* height of a guest's segment with the space below it */
    LANE_BOX = 42,   /* the segment itself */
    MAX_LANES = 12,  /* segments drawn in a node */
    MAX_ROWS = 48    /* guests listed below */
};

/* Colours of guests, in turn. */
static const char *const colour[] = {"#3b6fb6", "#e0803a", "#3f9b62", "#c44d5e", "#7e62b4",
                                     "#a3793f", "#cf6a9f", "#3e9dac", "#8a982f", "#5f6b7a"};

enum { COLOURS = sizeof(colour) / sizeof(colour[0]) };

/* A drawing under way. */
struct pic {
    FILE *f;                    /* where it goes */
    const struct topo *t;       /* the machine */
    const struct topo_guest *g; /* the guests */
    unsigned n;                 /* entries of g */
    unsigned cols;              /* nodes in a row */
    double node_w;              /* width of a node */
    unsigned *lane; /* lane of each guest in the current row; MAX_LANES: not drawn */
    unsigned row;   /* current row */
    unsigned lanes; /* lanes in use in the current row */
    double y;       /* top of what is drawn next */
};

/* A rectangle filled with a guest's colour. */
static void tint(const struct pic *p, unsigned guest, double x, double y, double w, double h,
                 double opacity)
{
    char style[64];

    snprintf(style, sizeof(style), "fill=\"%s\" fill-opacity=\"%.2f\"", colour[guest % COLOURS],
             opacity);
    svg_box(p->f, x, y, w, h, w < 8 || h < 8 ? 1 : 4, style);
}

/* Entry of a guest's nodes that is this node, or -1. */
static int part_on(const struct topo_guest *g, int node)
{
    for (unsigned k = 0; k < g->place->nnodes; k++)
        if (g->place->nodes[k] == node)
            return (int)k;
    return -1;
}

/* Left edge of a column. */
static double col_x(const struct pic *p, unsigned col)
{
    return MARGIN + col * (p->node_w + GAP);
}

/* CPUs of a side that stand in a line of a node. */
static unsigned a_line_of(const struct pic *p, unsigned side)
{
    unsigned n = (unsigned)((p->node_w - 2 * PAD + CPU_GAP) / (side + CPU_GAP));

    return n ? n : 1;
}

/* Side of a CPU's square in a node: the largest that needs few lines. */
static unsigned cpu_side(const struct pic *p, const struct topo_node *d)
{
    if (d->ncpus <= BIG_LINES * a_line_of(p, CPU_BIG))
        return CPU_BIG;
    return d->ncpus <= SMALL_LINES * a_line_of(p, CPU_SMALL) ? CPU_SMALL : CPU_TINY;
}

/* Units of height that the CPUs of a node take. */
static double cpus_height(const struct pic *p, const struct topo_node *d)
{
    unsigned a_line = a_line_of(p, cpu_side(p, d));
    unsigned lines = d->ncpus ? (d->ncpus + a_line - 1) / a_line : 1;

    return lines * (d->ncpus ? cpu_side(p, d) + CPU_GAP : CPU_BIG + CPU_GAP);
}

/* Guest of the j-th vCPU of a node, or -1 when there are fewer. */
static int owner_of(const struct pic *p, int node, unsigned j)
{
    unsigned here;

    for (unsigned i = 0; i < p->n; i++) {
        here = place_vcpus_on(p->g[i].place, p->g[i].vcpus, node);
        if (j < here)
            return (int)i;
        j -= here;
    }
    return -1;
}

/* A vCPU's strip of a CPU; round when it is the only one. */
static void strip(const struct pic *p, unsigned guest, double x, double y, double w, double h,
                  bool only)
{
    char style[64];

    snprintf(style, sizeof(style), "fill=\"%s\"", colour[guest % COLOURS]);
    svg_box(p->f, x, y, w, h, only ? (h > 10 ? 4 : 1) : 0, style);
}

/* One CPU: a strip for every vCPU dealt to it. */
static void draw_cpu(const struct pic *p, const struct topo_node *d, unsigned c, unsigned vcpus,
                     double x, double y)
{
    unsigned side = cpu_side(p, d), strips = vcpus / d->ncpus + (c < vcpus % d->ncpus), s,
             drawn;
    double edge = side > CPU_TINY ? 2 : 0.5, w;
    char num[16];
    int who;

    drawn = strips < 6 ? strips : 6;
    fprintf(p->f, "<g><title>CPU %d: %u vCPU%s</title>\n", d->cpus[c], strips,
            strips == 1 ? "" : "s");
    svg_box(p->f, x, y, side, side, side == CPU_BIG ? 5 : 2, "class=\"cpu\"");
    w = drawn ? (side - 2.0 * edge) / drawn : 0;
    for (s = 0; s < drawn; s++) {
        who = owner_of(p, d->os, c + s * d->ncpus);
        if (who >= 0)
            strip(p, (unsigned)who, x + edge + s * w, y + edge, w, side - 2 * edge, drawn == 1);
    }
    if (side == CPU_BIG) {
        snprintf(num, sizeof(num), "%d", d->cpus[c]);
        svg_label(p->f, x + side / 2.0, y + side / 2.0 + 4,
                  strips > 1 ? "cpun on many"
                  : strips   ? "cpun on"
                             : "cpun",
                  4, num);
    }
    fputs("</g>\n", p->f);
}

/* The CPUs of a node. */
static void draw_cpus(const struct pic *p, const struct topo_node *d, double x, double y)
{
    unsigned side = cpu_side(p, d), a_line = a_line_of(p, side), vcpus = 0;

    if (!d->ncpus) {
        svg_label(p->f, x, y + 17, "dim", 40, "memory only, no CPUs");
        return;
    }
    for (unsigned i = 0; i < p->n; i++)
        vcpus += place_vcpus_on(p->g[i].place, p->g[i].vcpus, d->os);
    for (unsigned c = 0; c < d->ncpus; c++)
        draw_cpu(p, d, c, vcpus, x + c % a_line * (side + (double)CPU_GAP),
                 y + (double)(c / a_line) * (side + (double)CPU_GAP));
}

/* The memory bar of a node: the host's use, every guest's part, the rest free. */
static void draw_memory(const struct pic *p, const struct topo_node *d, double x, double y)
{
    uint64_t total = d->mem_total ? d->mem_total : 1, used = d->mem_total - d->mem_free,
             ours = 0;
    char size[TOPO_SIZE_LEN], room[TOPO_SIZE_LEN], line[80];
    double w = p->node_w - 2 * PAD, scale = w / (double)total, at, len;
    int k;

    svg_box(p->f, x, y, w, 14, 4, "class=\"track\"");
    at = (double)used * scale;
    if (at >= 1)
        svg_box(p->f, x, y, at, 14, at < 8 ? 1 : 4, "class=\"host\"");
    for (unsigned i = 0; i < p->n; i++) {
        k = part_on(&p->g[i], d->os);
        if (k < 0)
            continue;
        ours += p->g[i].place->node_bytes[k];
        len = (double)p->g[i].place->node_bytes[k] * scale;
        len = at + len > w ? w - at : len;
        if (len >= 0.5)
            tint(p, i, x + at, y, len > 2 ? len - 1 : len, 14, 0.9);
        at += len;
    }
    topo_size(room, ours < d->mem_free ? d->mem_free - ours : 0);
    if (w >= WIDE)
        svg_label(p->f, x, y + 30, "small", 24, topo_size(size, d->mem_total));
    snprintf(line, sizeof(line), "%s free", room);
    svg_label(p->f, x + w, y + 30, "small end", 24, line);
}

/* The views of a guest that sit at a node, as a pill; returns nothing when there is none. */
static void draw_views(const struct pic *p, unsigned i, int node, double right, double y)
{
    const struct place_got *g = p->g[i].place;
    char list[20], text[32];
    int at[TOPO_MAX_NODES];
    unsigned n = 0;
    double w;

    for (unsigned v = 0; v < g->views; v++)
        if (g->view_node[v] == node)
            at[n++] = (int)v;
    if (!n)
        return;
    snprintf(text, sizeof(text), "view%s %s", n > 1 ? "s" : "",
             topo_ranges(list, sizeof(list), at, n));
    w = (double)strlen(text) * 6.2 + 12;
    fprintf(p->f,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"17\" rx=\"8.5\" fill=\"#fff\" "
            "stroke=\"%s\"/>\n",
            right - w, y, w, colour[i % COLOURS]);
    svg_label(p->f, right - w / 2, y + 12.5, "pill", 20, text);
}

/* One guest's segment in a node. */
static void draw_segment(const struct pic *p, unsigned i, const struct topo_node *d, double x,
                         double y)
{
    const struct topo_guest *g = &p->g[i];
    unsigned here = place_vcpus_on(g->place, g->vcpus, d->os);
    double w = p->node_w - 2 * PAD;
    int k = part_on(g, d->os);
    char line[64], size[TOPO_SIZE_LEN];

    topo_size(size, g->place->node_bytes[k]);
    if (here)
        snprintf(line, sizeof(line), "%u vCPU%s%s%s", here, here == 1 ? "" : "s",
                 w < WIDE ? "" : " · ", w < WIDE ? "" : size);
    else
        snprintf(line, sizeof(line), "%s", size);
    fputs("<g>", p->f);
    svg_box(p->f, x, y, w, LANE_BOX, 6, "fill=\"#fff\"");
    tint(p, i, x, y, w, LANE_BOX, 0.15);
    tint(p, i, x, y, 5, LANE_BOX, 1);
    svg_label(p->f, x + 14, y + 17, "name", svg_fit(w < WIDE ? w - 14 : w - 100, 13), g->name);
    svg_label(p->f, x + 14, y + 33, "small", svg_fit(w - 14, 11), line);
    if (w >= WIDE)
        draw_views(p, i, d->os, x + w - 7, y + 5);
    fputs("</g>\n", p->f);
}

/* First and last column of a guest in a row of the grid; false when it is not there. */
static bool columns_of(const struct pic *p, unsigned i, unsigned first, unsigned count,
                       unsigned *lo, unsigned *hi)
{
    bool found = false;

    for (unsigned c = 0; c < count; c++) {
        if (part_on(&p->g[i], p->t->node[first + c].os) < 0)
            continue;
        *lo = found ? *lo : c;
        *hi = c;
        found = true;
    }
    return found;
}

/* Gives every guest of the current row a lane that is free from its first to its last column;
 * those that span columns choose first, so that they leave no holes. */
static void assign_lanes(struct pic *p, unsigned first, unsigned count)
{
    bool used[MAX_LANES][TOPO_MAX_NODES] = {{false}};
    unsigned lo = 0, hi = 0, l;

    p->lanes = 0;
    for (unsigned i = 0; i < p->n; i++)
        p->lane[i] = MAX_LANES;
    for (unsigned wide = 2; wide-- > 0;) {
        for (unsigned i = 0; i < p->n; i++) {
            if (!columns_of(p, i, first, count, &lo, &hi) || (hi > lo) != (wide > 0))
                continue;
            for (l = 0; l < MAX_LANES && memchr(&used[l][lo], 1, hi - lo + 1); l++)
                ;
            if (l == MAX_LANES)
                continue;
            p->lane[i] = l;
            p->lanes = l + 1 > p->lanes ? l + 1 : p->lanes;
            memset(&used[l][lo], true, hi - lo + 1);
        }
    }
}

/* The links of a row: a line through the lane of a guest, from each of its nodes to the next. */
static void draw_links(const struct pic *p, unsigned first, unsigned count, double lanes_y)
{
    int last;
    double y;

    for (unsigned i = 0; i < p->n; i++) {
        last = -1;
        for (unsigned c = 0; c < count && p->lane[i] < MAX_LANES; c++) {
            if (part_on(&p->g[i], p->t->node[first + c].os) < 0)
                continue;
            y = lanes_y + p->lane[i] * LANE + LANE_BOX / 2.0;
            if (last >= 0)
                fprintf(p->f,
                        "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                        "stroke-width=\"5\"%s/>\n",
                        col_x(p, (unsigned)last) + p->node_w - PAD, y, col_x(p, c) + PAD, y,
                        colour[i % COLOURS],
                        (int)c - last > 1 ? " stroke-dasharray=\"9 6\"" : "");
            last = (int)c;
        }
    }
}

/* The guests of one node, and how many had no lane. */
static void draw_guests(const struct pic *p, const struct topo_node *d, double x, double y)
{
    unsigned more = 0;
    char text[48];

    for (unsigned i = 0; i < p->n; i++) {
        if (part_on(&p->g[i], d->os) < 0)
            continue;
        if (p->lane[i] < MAX_LANES)
            draw_segment(p, i, d, x, y + p->lane[i] * LANE);
        else
            more++;
    }
    if (!more)
        return;
    snprintf(text, sizeof(text), "and %u more guest%s", more, more == 1 ? "" : "s");
    svg_label(p->f, x, y + p->lanes * LANE + 8, "small", 40, text);
}

/* Frame and heading of a node. */
static void draw_frame(const struct pic *p, const struct topo_node *d, double x, double h)
{
    char text[64];

    svg_box(p->f, x, p->y, p->node_w, h, 10,
            d->ncpus ? "class=\"node\"" : "class=\"node far\"");
    snprintf(text, sizeof(text), "node %d", d->os);
    svg_label(p->f, x + PAD, p->y + 26, "head", 16, text);
    if (p->node_w - 2 * PAD < WIDE)
        return;
    snprintf(text, sizeof(text), d->package < 0 ? "%u CPU%s" : "%u CPU%s · socket %d", d->ncpus,
             d->ncpus == 1 ? "" : "s", d->package);
    svg_label(p->f, x + p->node_w - PAD, p->y + 26, "small end", 40,
              d->ncpus || d->package >= 0 ? text : "");
}

/* One row of the grid. */
static void draw_row(struct pic *p, unsigned first, unsigned count)
{
    double cpus = 0, h, x;
    const struct topo_node *d;

    assign_lanes(p, first, count);
    for (unsigned c = 0; c < count; c++) {
        h = cpus_height(p, &p->t->node[first + c]);
        cpus = h > cpus ? h : cpus;
    }
    h = 40 + cpus + 54 + p->lanes * LANE + (p->lanes == MAX_LANES ? 14 : 0) +
        (p->lanes ? 2 : -6);
    for (unsigned c = 0; c < count; c++)
        draw_frame(p, &p->t->node[first + c], col_x(p, c), h);
    draw_links(p, first, count, p->y + 40 + cpus + 52);
    for (unsigned c = 0; c < count; c++) {
        d = &p->t->node[first + c];
        x = col_x(p, c) + PAD;
        draw_cpus(p, d, x, p->y + 40);
        draw_memory(p, d, x, p->y + 40 + cpus + 8);
        draw_guests(p, d, x, p->y + 40 + cpus + 52);
    }
    p->y += h + GAP;
}

/* What the colours of CPUs and memory bars mean. */
static void draw_key(struct pic *p)
{
    static const struct {
        const char *style, *text;
        unsigned width;
    } key[] = {
        {"class=\"track\"", "free memory", 118},
        {"class=\"host\"", "memory in use by the host", 196},
        {"class=\"cpu\"", "CPU without a vCPU", 158},
        {"fill=\"#3b6fb6\" fill-opacity=\"0.9\"",
         "in a guest's colour: its memory, CPUs for its vCPUs", 340},
    };
    unsigned n = p->n ? 4 : 3;
    double x = MARGIN;

    for (unsigned i = 0; i < n; i++) {
        svg_box(p->f, x, p->y - 8, 13, 13, 3, key[i].style);
        svg_label(p->f, x + 20, p->y + 3, "small", 80, key[i].text);
        x += key[i].width;
    }
    p->y += 26;
}

/* One line of the list of guests. */
static void draw_line(const struct pic *p, unsigned i, double x, double y, double w)
{
    const struct topo_guest *g = &p->g[i];
    char nodes[20], text[64];

    if (i % 2 == 0)
        svg_box(p->f, x, y, w, 26, 5, "fill=\"#eef0f4\"");
    tint(p, i, x + 8, y + 6, 14, 14, 1);
    svg_label(p->f, x + 32, y + 18, "name", svg_fit(w * 0.28 - 32, 13), g->name);
    snprintf(text, sizeof(text), "%u", g->vcpus);
    svg_label(p->f, x + w * 0.38, y + 18, "cell end", 8, text);
    svg_label(p->f, x + w * 0.54, y + 18, "cell end", 12, topo_size(text, g->memory));
    svg_label(p->f, x + w * 0.57, y + 18, "cell", 20,
              topo_ranges(nodes, sizeof(nodes), g->place->nodes, g->place->nnodes));
    snprintf(text, sizeof(text), "%u", g->place->views);
    svg_label(p->f, x + w * 0.79, y + 18, "cell end", 8, text);
    if (g->state)
        svg_label(p->f, x + w * 0.82, y + 18, "cell", svg_fit(w * 0.18, 12), g->state);
}

/* The list of guests; returns the units of height it took. */
static double draw_list(const struct pic *p, double x, double y)
{
    unsigned shown = p->n < MAX_ROWS ? p->n : MAX_ROWS;
    double w = WIDTH - MARGIN - x;
    char text[48];

    svg_label(p->f, x, y + 14, "head", 40, "guests");
    svg_label(p->f, x + w * 0.38, y + 14, "small end", 8, "vCPUs");
    svg_label(p->f, x + w * 0.54, y + 14, "small end", 8, "memory");
    svg_label(p->f, x + w * 0.57, y + 14, "small", 8, "nodes");
    svg_label(p->f, x + w * 0.79, y + 14, "small end", 8, "views");
    if (p->g[0].state)
        svg_label(p->f, x + w * 0.82, y + 14, "small", 8, "state");
    for (unsigned i = 0; i < shown; i++)
        draw_line(p, i, x, y + 26 + i * 26, w);
    if (shown < p->n) {
        snprintf(text, sizeof(text), "and %u more", p->n - shown);
        svg_label(p->f, x + 32, y + 26 + shown * 26 + 17, "small", 40, text);
    }
    return 26 + shown * 26 + (shown < p->n ? 26 : 0);
}

/* Style sheet and background; the height is known only at the end, so it comes from layout. */
static void draw_head(const struct pic *p, double height)
{
    static const char style[] =
        "text{font-family:system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',"
        "sans-serif;fill:#1f2733}"
        ".title{font-size:24px;font-weight:700}.sub{font-size:14px;fill:#5b6675}"
        ".head{font-size:15px;font-weight:700}.small{font-size:11.5px;fill:#5b6675}"
        ".dim{font-size:12px;fill:#7a8494;font-style:italic}.name{font-size:13px;font-weight:"
        "600}"
        ".cell{font-size:12.5px}.end{text-anchor:end}"
        ".pill{font-size:10.5px;text-anchor:middle}"
        ".cpun{font-size:10px;fill:#7a8494;text-anchor:middle}"
        ".dist{font-size:11.5px;text-anchor:middle}.on{fill:#fff}.many{stroke:#1f2733;stroke-"
        "opacity:.45;stroke-width:2.5;paint-order:stroke}"
        ".node{fill:#fff;stroke:#ccd2db}.far{stroke-dasharray:6 4}"
        ".cpu{fill:#f1f3f6;stroke:#ccd2db}.track{fill:#e6e9ee}.host{fill:#aab2bf}";

    fprintf(p->f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" "
            "height=\"%.0f\" role=\"img\">\n<title>NUMA topology</title>\n<style>%s</style>\n",
            WIDTH, height, WIDTH, height, style);
    svg_box(p->f, 0, 0, WIDTH, height, 0, "fill=\"#f7f8fa\"");
}

/* Title and the sums. */
static void draw_title(const struct pic *p)
{
    char total[TOPO_SIZE_LEN], room[TOPO_SIZE_LEN], line[192];
    unsigned vcpus = 0;
    int used;

    for (unsigned i = 0; i < p->n; i++)
        vcpus += p->g[i].vcpus;
    svg_label(p->f, MARGIN, 48, "title", 70, p->t->name);
    used = snprintf(line, sizeof(line), "%u node%s · %u CPU%s · %s of memory, %s free",
                    p->t->nnodes, p->t->nnodes == 1 ? "" : "s", p->t->ncpus,
                    p->t->ncpus == 1 ? "" : "s", topo_size(total, topo_mem_total(p->t)),
                    topo_size(room, topo_mem_free(p->t)));
    if (p->n)
        snprintf(line + used, sizeof(line) - (size_t)used, " for %u guest%s with %u vCPU%s",
                 p->n, p->n == 1 ? "" : "s", vcpus, vcpus == 1 ? "" : "s");
    svg_label(p->f, MARGIN, 74, "sub", 160, line);
}

/* Everything below the head.  Returns the height of the whole drawing. */
static double draw_body(struct pic *p)
{
    double left, right = 0, x;
    unsigned count;

    p->y = TOP;
    draw_title(p);
    for (unsigned first = 0; first < p->t->nnodes; first += p->cols) {
        count = p->t->nnodes - first < p->cols ? p->t->nnodes - first : p->cols;
        draw_row(p, first, count);
    }
    draw_key(p);
    left = svg_distances(p->f, p->t, MARGIN, p->y);
    x = MARGIN + svg_distances_width(p->t) + 48;
    if (p->n)
        right = draw_list(p, x, p->y);
    return p->y + (left > right ? left : right) + MARGIN;
}

/* Columns of the grid for n nodes. */
static unsigned columns(unsigned n)
{
    return n <= 4 ? n : n == 6 ? 3 : n <= 16 ? 4 : 8;
}

/* Draws into memory first: the height stands in the first line and is known last. */
int topo_svg(FILE *f, const struct topo *t, const struct topo_guest *g, unsigned n)
{
    struct pic p = {.t = t, .g = g, .n = n, .cols = columns(t->nnodes)};
    size_t len = 0;
    char *body = NULL;
    double height;

    p.node_w = (WIDTH - 2.0 * MARGIN - (p.cols - 1.0) * GAP) / p.cols;
    p.lane = xcalloc(n, sizeof(*p.lane));
    p.f = open_memstream(&body, &len);
    INVARIANT(p.f, "the host has no memory left for a drawing");
    height = draw_body(&p);
    INVARIANT(!fclose(p.f), "the host has no memory left for a drawing");
    p.f = f;
    draw_head(&p, height);
    fwrite(body, 1, len, f);
    fputs("</svg>\n", f);
    free(body);
    free(p.lane);
    return fflush(f) || ferror(f) ? -EIO : 0;
}
