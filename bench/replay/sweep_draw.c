/* SPDX-License-Identifier: MIT */
/*
 * Curves of a sweep as one SVG of small panels, and as Markdown: see sweep.h.
 */
#include "bench/replay/sweep.h"

#include <string.h>

enum {
    COLUMNS = 4,
    WIDE = 230,
    HIGH = 150,
    LEFT = 34,
    TOP = 26,
    PLOT_W = 180,
    PLOT_H = 90,
    HEAD = 64
};

static const char *const colours[LOADS] = {"#1f5fa8", "#c2571a", "#5b8a2e"};

uint32_t sweep_default(const char *knob)
{
    for (const struct policy_knob *k = policy_knobs; k->name; k++)
        if (!strcmp(k->name, knob))
            return k->def;
    return 0;
}

/* Height of a share of the oracle: the axis goes from 0.4 to 1. */
static double height(double y)
{
    double part = (y - 0.4) / 0.6;

    part = part < 0 ? 0 : part > 1 ? 1 : part;
    return TOP + PLOT_H * (1 - part);
}

/* Place of value number i. */
static double place(const struct curve *c, unsigned i)
{
    return LEFT + (c->n > 1 ? PLOT_W * i / (c->n - 1.0) : 0);
}

/* One panel, its corner at (0, 0). */
static void panel(FILE *f, const struct curve *c)
{
    uint32_t def = sweep_default(c->knob);

    fprintf(f, "<text x=\"%d\" y=\"14\" font-weight=\"bold\">%s</text>\n", LEFT, c->knob);
    for (int i = 0; i <= 3; i++)
        fprintf(f,
                "<line x1=\"%d\" x2=\"%d\" y1=\"%.0f\" y2=\"%.0f\" stroke=\"#ddd\"/>"
                "<text x=\"%d\" y=\"%.0f\" text-anchor=\"end\">%.1f</text>\n",
                LEFT, LEFT + PLOT_W, height(0.4 + 0.2 * i), height(0.4 + 0.2 * i), LEFT - 4,
                height(0.4 + 0.2 * i) + 3, 0.4 + 0.2 * i);
    for (unsigned i = 0; i < c->n; i++) {
        if (c->value[i] == def)
            fprintf(f,
                    "<line x1=\"%.0f\" x2=\"%.0f\" y1=\"%d\" y2=\"%d\" stroke=\"#999\" "
                    "stroke-dasharray=\"3 3\"/>\n",
                    place(c, i), place(c, i), TOP, TOP + PLOT_H);
        fprintf(f, "<text x=\"%.0f\" y=\"%d\" text-anchor=\"middle\"%s>%u</text>\n",
                place(c, i), TOP + PLOT_H + 14,
                c->value[i] == def ? " font-weight=\"bold\"" : "", c->value[i]);
    }
    for (unsigned l = 0; l < LOADS; l++) {
        fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.6\" points=\"",
                colours[l]);
        for (unsigned i = 0; i < c->n; i++)
            fprintf(f, "%.1f,%.1f ", place(c, i), height(c->y[l][i]));
        fputs("\"/>\n", f);
    }
}

int sweep_svg(FILE *f, const struct load *loads, const struct curve *c, unsigned n)
{
    unsigned rows = (n + COLUMNS - 1) / COLUMNS;

    fprintf(
        f,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" "
        "font-family=\"sans-serif\" font-size=\"9\">\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
        "<text x=\"12\" y=\"22\" font-size=\"15\">Thresholds of the policy `replicate`, one "
        "varied at a time (modelled)</text>\n"
        "<text x=\"12\" y=\"38\" font-size=\"10\" fill=\"#555\">Share of the oracle: its stall "
        "and work over the policy's; 1 is as good as can be. Dashed: the default.</text>\n",
        COLUMNS * WIDE + 12, HEAD + rows * HIGH);
    for (unsigned l = 0; l < LOADS; l++)
        fprintf(f, "<text x=\"%u\" y=\"54\" font-size=\"10\" fill=\"%s\">%s on %s</text>\n",
                12 + l * 150, colours[l], loads[l].name, loads[l].machine);
    for (unsigned i = 0; i < n; i++) {
        fprintf(f, "<g transform=\"translate(%u %u)\">\n", i % COLUMNS * WIDE,
                HEAD + i / COLUMNS * HIGH);
        panel(f, &c[i]);
        fputs("</g>\n", f);
    }
    fputs("</svg>\n", f);
    return ferror(f) ? -1 : 0;
}

void sweep_md(FILE *f, const struct load *loads, const struct curve *c, unsigned n)
{
    for (unsigned k = 0; k < n; k++) {
        uint32_t def = sweep_default(c[k].knob);

        fprintf(f, "\n| %s |", c[k].knob);
        for (unsigned i = 0; i < c[k].n; i++)
            fprintf(f, c[k].value[i] == def ? " **%u** |" : " %u |", c[k].value[i]);
        fputs("\n|---|", f);
        for (unsigned i = 0; i < c[k].n; i++)
            fputs("--:|", f);
        for (unsigned l = 0; l < LOADS; l++) {
            fprintf(f, "\n| %s |", loads[l].name);
            for (unsigned i = 0; i < c[k].n; i++)
                fprintf(f, " %.3f |", c[k].y[l][i]);
        }
        fprintf(f, "\n| page work, %s, %% |", loads[0].name);
        for (unsigned i = 0; i < c[k].n; i++)
            fprintf(f, " %.2f |", c[k].work[i]);
        fputc('\n', f);
    }
}
