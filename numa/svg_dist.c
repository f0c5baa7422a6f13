/* SPDX-License-Identifier: MIT */
/*
 * Draws the matrix of distances of a machine, the farther the darker; see svg.h.
 * Reads its input only; no state, no locks.
 */
#include "numa/svg.h"
#include "numa/topo.h"

/* Measures, in units of the drawing. */
enum {
    MATRIX = 384,      /* widest matrix */
    CELL = 40,         /* largest cell */
    NUMBERS_FROM = 20, /* cells at least this wide bear a number */
    LEFT = 34,         /* room for the numbers of rows */
    ABOVE = 48,        /* room for the heading and the numbers of columns */
    NARROW = 184,      /* least width: that of the heading */
};

/* Shade of a distance: the farther, the darker. */
static unsigned shade(const struct topo *t, uint8_t d)
{
    unsigned max = 40; /* so that a flat machine of 10 and 20 is pale */

    for (unsigned i = 0; i < t->nnodes; i++)
        for (unsigned j = 0; j < t->nnodes; j++)
            max = t->dist[i][j] > max ? t->dist[i][j] : max;
    return d <= 10 ? 0 : (unsigned)(d - 10) * 100 / (max - 10);
}

/* One cell of the matrix. */
static void draw_cell(FILE *f, const struct topo *t, unsigned i, unsigned j, double x, double y,
                      double side)
{
    unsigned s = shade(t, t->dist[i][j]);
    char num[8], style[64];

    /* From a pale to a deep blue. */
    snprintf(style, sizeof(style), "fill=\"rgb(%u,%u,%u)\"", 238 - s * 186 / 100,
             243 - s * 149 / 100, 250 - s * 82 / 100);
    svg_box(f, x, y, side - 2, side - 2, side > 16 ? 4 : 1, style);
    if (side < NUMBERS_FROM)
        return;
    snprintf(num, sizeof(num), "%u", t->dist[i][j]);
    svg_label(f, x + side / 2 - 1, y + side / 2 + 3, s > 45 ? "dist on" : "dist", 4, num);
}

/* Side of a cell: small enough for the whole matrix. */
static double cell_side(const struct topo *t)
{
    return t->nnodes * CELL > MATRIX ? (double)MATRIX / t->nnodes : CELL;
}

double svg_distances_width(const struct topo *t)
{
    double w = LEFT + t->nnodes * cell_side(t);

    return w < NARROW ? NARROW : w;
}

double svg_distances(FILE *f, const struct topo *t, double x, double y)
{
    double side = cell_side(t);
    unsigned step = 1;
    char num[16];

    while (step * side < 16)
        step *= 2;
    svg_label(f, x, y + 14, "head", 40, "distances");
    svg_label(f, x + 90, y + 14, "small", 40, "10 = local");
    y += ABOVE;
    for (unsigned i = 0; i < t->nnodes; i++) {
        snprintf(num, sizeof(num), "%d", t->node[i].os);
        if (i % step == 0) {
            svg_label(f, x + LEFT + i * side + side / 2 - 1, y - 7, "dist", 4, num);
            svg_label(f, x + 24, y + i * side + side / 2 + 3, "small end", 4, num);
        }
        for (unsigned j = 0; j < t->nnodes; j++)
            draw_cell(f, t, i, j, x + LEFT + j * side, y + i * side, side);
    }
    return ABOVE + t->nnodes * side;
}
