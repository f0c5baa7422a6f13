/* SPDX-License-Identifier: MIT */
/*
 * Descriptions of synthetic workloads, and those that have a name.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "numa/keys.h"
#include "numa/workload.h"
#include "numa/workload_synth.h"

enum { ACTIVE_MAX = 1 << 28, INTERVALS_MAX = 1000000, MS_MAX = 100000 };

/* A number of the description: where it goes, and what is right. */
struct number {
    const char *key;
    uint64_t min, max;
};

static const char *const kinds[WL_KINDS] = {"private", "read",   "write", "alternate",
                                            "phases",  "mostly", "table"};

/* Numbers of a class, and of the whole; the order is that of the pointers below. */
static const struct number class_numbers[] = {
    {"rate", 0, UINT32_MAX / 4}, {"nodes", 0, TOPO_MAX_NODES},
    {"writes", 0, 100},          {"period", 1, 100000},
    {"moved", 0, 100},           {"skew", 0, 16},
};
enum { CLASS_NUMBERS = sizeof(class_numbers) / sizeof(class_numbers[0]) };

/* Finds a pair's number in its table; -1: there is none, -2: it is out of range. */
static int number_of(const struct number *t, unsigned n, const struct key_pair *pair)
{
    for (unsigned i = 0; i < n; i++)
        if (key_is(pair, t[i].key))
            return pair->value < t[i].min || pair->value > t[i].max ? -2 : (int)i;
    return -1;
}

/* A pair within a class. */
static bool class_pair(struct workload_class *c, const struct key_pair *pair)
{
    uint32_t *to[CLASS_NUMBERS] = {&c->rate,   &c->nodes, &c->writes,
                                   &c->period, &c->moved, &c->skew};
    int i = number_of(class_numbers, CLASS_NUMBERS, pair);

    if (i < 0)
        return false;
    *to[i] = (uint32_t)pair->value;
    return true;
}

/* Begins a class: KIND=PAGES. */
static bool class_begin(struct workload *w, const struct key_pair *pair)
{
    struct workload_class *c = &w->classes[w->nclasses];

    if (w->nclasses == WORKLOAD_CLASSES || !pair->value ||
        pair->value > ACTIVE_MAX - (uint64_t)w->active)
        return false;
    for (unsigned i = 0; i < WL_KINDS; i++) {
        if (!key_is(pair, kinds[i]))
            continue;
        *c = (struct workload_class){.kind = (enum workload_kind)i,
                                     .first = w->active,
                                     .pages = (uint32_t)pair->value,
                                     .rate = 400,
                                     .writes = 30,
                                     .period = 20,
                                     .moved = 50};
        w->active += c->pages;
        w->nclasses++;
        return true;
    }
    return false;
}

/* A pair of the whole. */
static bool whole_pair(struct workload *w, uint64_t *mem, const struct key_pair *pair)
{
    static const struct number numbers[] = {
        {"mem", 1 << 21, UINT64_C(1) << 46},
        {"page", 4096, 1 << 21},
        {"interval", 1, MS_MAX},
        {"intervals", 1, INTERVALS_MAX},
        {"seed", 0, UINT64_MAX},
        {"compute", 0, 1000000},
        {"busy", 0, 100},
        {"run", 1, 1 << 20},
    };
    int i = number_of(numbers, sizeof(numbers) / sizeof(numbers[0]), pair);

    switch (i) {
    case 0:
        *mem = pair->value;
        return true;
    case 1:
        w->block = pair->value != 4096;
        return pair->value == 4096 || pair->value == 1 << 21;
    case 2:
        w->interval_ns = pair->value * 1000000;
        return true;
    case 3:
        w->intervals = (uint32_t)pair->value;
        return true;
    case 4:
        w->seed = pair->value;
        return true;
    case 5:
        w->compute_ns = (uint32_t)pair->value;
        return true;
    case 6:
        w->busy = (uint32_t)pair->value;
        return true;
    case 7:
        w->run = (uint32_t)pair->value;
        return true;
    default:
        return false;
    }
}

/* Reads all pairs; false: *s stands at the wrong one. */
static bool read_pairs(struct workload *w, uint64_t *mem, const char **s)
{
    bool begins = false;

    while (**s) {
        const char *at = *s;
        struct key_pair pair;
        bool right = key_next(s, &pair);

        if (right && begins)
            right = class_begin(w, &pair);
        else if (right && w->nclasses)
            right = class_pair(&w->classes[w->nclasses - 1], &pair);
        else if (right)
            right = whole_pair(w, mem, &pair) || class_begin(w, &pair);
        if (!right) {
            *s = at;
            return false;
        }
        begins = **s == '+';
        *s += begins;
    }
    return !begins;
}

int workload_read(struct workload *w, const char *text, unsigned nnodes, struct err *err)
{
    const char *s = text, *name = "synthetic";
    uint64_t mem = UINT64_C(1) << 30;

    for (const struct workload_name *n = workloads; n->name; n++)
        if (!strcmp(n->name, text)) {
            s = n->text;
            name = n->name;
        }
    *w = (struct workload){.nnodes = nnodes,
                           .intervals = 100,
                           .interval_ns = 100000000,
                           .compute_ns = 100,
                           .scale = 1 << 16,
                           .seed = 1,
                           .run = 1};
    snprintf(w->name, sizeof(w->name), "%s", name);
    if (!read_pairs(w, &mem, &s))
        return fail(err, EXIT_USAGE, EINVAL,
                    "workload \"%s\": wrong at \"%s\"; a name (see `disco replay --help`) or "
                    "\"mem=1G,page=4K,intervals=100+private=4096,rate=400+read=512\" is right",
                    text, s);
    if (!w->active)
        return fail(err, EXIT_USAGE, EINVAL, "workload \"%s\": it has no pages", text);
    w->units = mem / workload_bytes(w);
    if (!workload_spread(w))
        return fail(err, EXIT_USAGE, EINVAL, "workload \"%s\": mem= is too small for %u pages",
                    text, w->active);
    return 0;
}

const char *workload_class_name(const struct workload *w, unsigned i)
{
    return i < w->nclasses ? kinds[w->classes[i].kind] : "trace";
}

const struct workload_name workloads[] = {
    {"private", "one node uses a page, half of them were touched first by another",
     "mem=1G,busy=100+private=16384"},
    {"read", "all nodes read all pages", "mem=1G,busy=100+read=4096,rate=1600"},
    {"write", "all nodes read and write all pages", "mem=1G,busy=100+write=8192"},
    {"ping", "two nodes in turn, each for 300 ms", "mem=1G,busy=100+alternate=8192,period=3"},
    {"phases", "one node, another after 2 s", "mem=1G,busy=100+phases=8192,period=20"},
    {"mostly", "all read, somebody writes once in 500 ms",
     "mem=1G,busy=100+mostly=4096,period=5,rate=1600"},
    {"tables", "all read, hidden writes, as to page tables",
     "mem=1G,busy=100+table=1024,rate=1600"},
    {"compile", "as Disco's compile load: private data, shared text",
     "mem=4G,busy=100+private=32768,skew=4,moved=75+read=2048,rate=4000,skew=4,moved=0+write="
     "2048,skew=2+"
     "table=512+mostly=512,period=10"},
    {"scan", "as Disco's ray tracer: one large scene that all read",
     "mem=4G,busy=100+read=16384,rate=1600,skew=3,moved=0+private=8192,skew=3,moved=25+write="
     "1024"},
    {"mix", "all kinds together",
     "mem=4G,busy=100+private=16384,skew=4+read=4096,rate=1600,skew=3+write=4096,skew=2+"
     "alternate=1024,period=3+phases=4096,period=25+mostly=1024,period=5,rate=800+table=512"},
    {"mix4", "all kinds, pages shared by four nodes",
     "mem=4G,busy=100+private=16384,skew=4+read=4096,rate=1600,skew=3,nodes=4+write=4096,nodes="
     "4,skew=2+"
     "alternate=1024,period=3+phases=4096,period=25+mostly=1024,period=5,rate=800,nodes=4+"
     "table=512,nodes=4"},
    {"huge", "1 TiB in blocks of 2 MiB, all kinds; rates are those of blocks",
     "mem=1T,page=2M,intervals=200,busy=100+private=100000,rate=60000,skew=6+read=2048,rate="
     "1600000,skew=3+"
     "write=8192,rate=100000,skew=2+alternate=2048,rate=60000,period=3+"
     "phases=8192,rate=60000,period=25+mostly=1024,rate=800000,period=5+table=256,rate=800000"},
    {0},
};
