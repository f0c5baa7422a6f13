/* SPDX-License-Identifier: MIT */
/*
 * Reads the plugin's arguments.  Every number has a range; nothing is clipped in silence.
 */
#include "bench/memsys/args.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa/machine_model.h"

enum { NUMBERS = 9, TEXTS = 6 };

/* Numbers as given, in the order of the table. */
enum { NODES, CPUS, NODE_MB, SAMPLE, QUANTUM, SLOW, INTERVAL, TRACE_MOST, CHECKTLB };
enum { MACHINE, DIST, MEM, REGION, TRACE, QEMU };

/* A key with a number. */
static const struct {
    const char *key;
    uint64_t least, most; /* that are taken */
    uint64_t usual;       /* when it is not given; below `least`: it must be */
} numbers[NUMBERS] = {
    [NODES] = {"nodes", 1, MEMSYS_NODES, 0},
    [CPUS] = {"cpus", 1, MEMSYS_CPUS, 0},
    [NODE_MB] = {"node_mb", 1, 1 << 20, 0},
    [SAMPLE] = {"sample", 1, 4096, 1},
    [QUANTUM] = {"quantum", 0, 1000000000, 20000},
    [SLOW] = {"slow", 1, 1000, 16},
    [INTERVAL] = {"interval", 1, UINT64_MAX / 2, 1000000},
    [TRACE_MOST] = {"trace_most", 1, UINT64_MAX / 2, 20000000},
    [CHECKTLB] = {"checktlb", 0, 1, 0},
};

/* A key with a text. */
static const struct {
    const char *key;
    const char *usual; /* when it is not given */
    bool needed;       /* it must be */
} texts[TEXTS] = {
    [MACHINE] = {"machine", NULL, true}, [DIST] = {"dist", NULL, true},
    [MEM] = {"mem", NULL, true},         [REGION] = {"region", NULL, true},
    [TRACE] = {"trace", NULL, false},    [QEMU] = {"qemu", "7.2", false},
};

/* What was given. */
struct given {
    uint64_t number[NUMBERS];
    const char *text[TEXTS];
    char *buf;     /* for the message */
    unsigned size; /* of buf */
};

/* The message; always false. */
#define WRONG(g, ...) (snprintf((g)->buf, (g)->size, __VA_ARGS__), false)

/* Does key=... begin so? */
static bool is_key(const char *arg, const char *key)
{
    size_t n = strlen(key);

    return !strncmp(arg, key, n) && arg[n] == '=';
}

/* A whole number within its range; all of the text must be one. */
static bool read_number(struct given *g, unsigned i, const char *text)
{
    char *end;

    errno = 0;
    g->number[i] = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return WRONG(g, "%s=%s: a whole number is needed", numbers[i].key, text);
    if (g->number[i] < numbers[i].least || g->number[i] > numbers[i].most)
        return WRONG(g, "%s=%s: from %" PRIu64 " to %" PRIu64 " can be", numbers[i].key, text,
                     numbers[i].least, numbers[i].most);
    return true;
}

/* One argument. */
static bool read_one(struct given *g, const char *arg)
{
    const char *value = strchr(arg, '=');

    for (unsigned i = 0; value && i < NUMBERS; i++)
        if (is_key(arg, numbers[i].key))
            return read_number(g, i, value + 1);
    for (unsigned i = 0; value && i < TEXTS; i++)
        if (is_key(arg, texts[i].key)) {
            g->text[i] = value + 1;
            return *g->text[i] || WRONG(g, "%s: a value is needed", arg);
        }
    return WRONG(g, "unknown argument %s", arg);
}

/* Keys that must be given, and are not. */
static bool all_there(struct given *g)
{
    for (unsigned i = 0; i < NUMBERS; i++)
        if (g->number[i] < numbers[i].least)
            return WRONG(g, "%s= is needed", numbers[i].key);
    for (unsigned i = 0; i < TEXTS; i++)
        if (texts[i].needed && !g->text[i])
            return WRONG(g, "%s= is needed", texts[i].key);
    return true;
}

/* dist=10:20:20:10, row by row. */
static bool read_distances(struct given *g, struct memsys_shape *s)
{
    unsigned n = s->nnodes;
    const char *text = g->text[DIST];

    for (unsigned i = 0; i < n * n; i++) {
        char *end;
        unsigned long d = strtoul(text, &end, 10);
        bool last = i + 1 == n * n;

        if (*text < '0' || *text > '9' || d < 10 || d > 254 || *end != (last ? 0 : ':'))
            return WRONG(g,
                         "dist=%s: %u distances from 10 to 254 with : between them are needed",
                         g->text[DIST], n * n);
        s->distance[i / n][i % n] = (uint8_t)d;
        text = end + 1;
    }
    return true;
}

/* The machine that is charged for. */
static bool find_machine(struct given *g, struct memsys_shape *s)
{
    char known[200] = "";

    s->machine = machine_model_by_name(g->text[MACHINE]);
    if (s->machine)
        return true;
    for (const struct machine_model *m = machine_models; m->name; m++)
        snprintf(known + strlen(known), sizeof(known) - strlen(known), " %s", m->name);
    return WRONG(g, "machine=%s is not known; known:%s", g->text[MACHINE], known);
}

bool args_parse(struct args *a, int argc, char **argv, char *buf, unsigned size)
{
    struct given g = {.buf = buf, .size = size};
    struct memsys_shape *s = &a->shape;

    *a = (struct args){.mem = NULL};
    for (unsigned i = 0; i < NUMBERS; i++)
        g.number[i] = numbers[i].usual;
    for (unsigned i = 0; i < TEXTS; i++)
        g.text[i] = texts[i].usual;
    for (int i = 0; i < argc; i++)
        if (!read_one(&g, argv[i]))
            return false;
    if (!all_there(&g) || !find_machine(&g, s))
        return false;
    s->nnodes = (unsigned)g.number[NODES];
    s->ncpus = (unsigned)(g.number[NODES] * g.number[CPUS]);
    s->node_bytes = g.number[NODE_MB] << 20;
    s->sample = (unsigned)g.number[SAMPLE];
    if (!read_distances(&g, s))
        return false;
    a->mem = g.text[MEM];
    a->region = g.text[REGION];
    a->trace = g.text[TRACE];
    a->version = g.text[QEMU];
    a->trace_most = g.number[TRACE_MOST];
    a->interval = g.number[INTERVAL];
    a->quantum = (int64_t)g.number[QUANTUM];
    s->turn = g.number[QUANTUM];
    a->slow = (unsigned)g.number[SLOW];
    a->checktlb = g.number[CHECKTLB];
    return !memsys_shape_wrong(s, buf, size);
}
