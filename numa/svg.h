/* SPDX-License-Identifier: MIT */
/*
 * What our drawings are made of, as SVG elements: text, rectangles, a matrix of distances.
 * Text from outside is escaped here and nowhere else.  Threads: one per FILE.
 */
#ifndef DISCO_NUMA_SVG_H
#define DISCO_NUMA_SVG_H

#include <stdio.h>

struct topo;

/* A line of text at a baseline.  cls: classes of the style sheet; max: characters drawn at most,
 * a cut is shown by an ellipsis.  Control bytes are dropped. */
void svg_label(FILE *f, double x, double y, const char *cls, unsigned max, const char *s);

/* A rectangle, its corners rounded by r; style: attributes such as class or fill, trusted. */
void svg_box(FILE *f, double x, double y, double w, double h, double r, const char *style);

/* Characters of a font size (units of height) that fit a width, at least 1. */
unsigned svg_fit(double width, double size);

/* The matrix of distances with its heading, its corner at x, y; returns the height it took. */
double svg_distances(FILE *f, const struct topo *t, double x, double y);

/* The width it takes. */
double svg_distances_width(const struct topo *t);

#endif
