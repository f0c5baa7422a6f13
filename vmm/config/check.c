/* SPDX-License-Identifier: MIT */
/*
 * Rules between keys of one guest, and claims of guests on the same thing.
 * Interface in check.h.
 *
 * Claims: each guest claims its name, taps, hardware addresses, forwarded ports, console files and
 * disks.  All claims are sorted; two equal neighbours are a conflict, unless both only read.
 */
#include "vmm/config/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/config/config.h"
#include "vmm/config/read.h"

enum { XAPIC_VCPUS = 254 }; /* more need x2APIC */
enum { PORTS = 64 };        /* forwarded ports of one card that are compared */

/* One thing a guest wants for itself. */
struct claim {
    const char *kind;          /* "tap": a constant; compared by text */
    char *what;                /* name of the thing; owned */
    const char *guest;         /* who claims it */
    unsigned order;            /* position in the files, to report the later one */
    bool shared;               /* may be claimed by others that share */
    const config_setting_t *s; /* where it is said */
};

/* All claims of a site. */
struct claims {
    struct claim *v; /* n entries */
    unsigned n, cap; /* used, allocated */
};

/* The setting to blame for a guest's key. */
static const config_setting_t *at(const struct place *place, const char *key)
{
    return place_of(place, schema_find(CFG_GUEST, key));
}

/* The setting of a key inside entry i of a list, or the nearest group around it. */
static const config_setting_t *at_entry(const struct place *place, const char *list, unsigned i,
                                        const char *key)
{
    const config_setting_t *s = at(place, list), *member;

    if (s == place->group)
        return s;
    s = config_setting_get_elem(s, i);
    member = config_setting_get_member(s, key);
    return member ? member : s;
}

/* Views, clock and interrupt controller. */
static int check_cpus(struct reader *r, const struct guest_cfg *g, const struct place *place)
{
    unsigned views = g->views ? g->views : g->nnodes;

    if (g->views > g->vcpus)
        return reader_bad(r, at(place, "views"),
                          "got %u views for %u vcpus, want at most one view per vcpu", g->views,
                          g->vcpus);
    if (g->clock == CFG_CLOCK_KVM && views > 1)
        return reader_bad(r, at(place, "clock"),
                          "kvmclock works with one view only and this guest has %u, want "
                          "clock = \"tsc\" or views = 1",
                          views);
    if (!g->x2apic && g->vcpus > XAPIC_VCPUS)
        return reader_bad(r, at(place, "x2apic"),
                          "got false with %u vcpus, want true above %d vcpus, or fewer of them",
                          g->vcpus, XAPIC_VCPUS);
    return 0;
}

/* Keys that go with the type of a network card. */
static int check_net(struct reader *r, const struct guest_cfg *g, unsigned i,
                     const struct place *place)
{
    const struct net_cfg *net = &g->nets[i];

    if (net->type == CFG_NET_TAP && !net->tap)
        return reader_bad(r, at_entry(place, "nets", i, "type"),
                          "key tap is missing, want tap = \"NAME\" with type \"tap\"");
    if (net->type != CFG_NET_TAP && net->tap)
        return reader_bad(r, at_entry(place, "nets", i, "tap"),
                          "goes with type \"tap\" only, want that type or no tap");
    if (net->type != CFG_NET_USER && net->hostfwd)
        return reader_bad(r, at_entry(place, "nets", i, "hostfwd"),
                          "goes with type \"user\" only, want that type or no hostfwd");
    return 0;
}

/* A console's path. */
static int check_console(struct reader *r, const struct console_cfg *c,
                         const config_setting_t *s)
{
    bool needs = c->type == CFG_CON_FILE || c->type == CFG_CON_SOCKET;

    if (needs && !c->path)
        return reader_bad(r, s, "key path is missing, want path = \"...\" with type \"%s\"",
                          c->type == CFG_CON_FILE ? "file" : "socket");
    if (!needs && c->path)
        return reader_bad(
            r, s,
            "path goes with types \"file\" and \"socket\" only, want one of them or "
            "no path");
    if (c->type == CFG_CON_SOCKET && strlen(c->path) > 107)
        return reader_bad(
            r, s,
            "got a socket path of %zu bytes (%.120s...), want at most 107, a limit "
            "of the kernel",
            strlen(c->path), c->path);
    return 0;
}

/* What a guest with virtual nodes is told must be where its memory is. */
static int check_placement(struct reader *r, const struct guest_cfg *g,
                           const struct place *place)
{
    if (g->hugetlb && g->placement == CFG_PLACE_FIRST_TOUCH)
        return reader_bad(
            r, at(place, "placement"),
            "reserved huge pages are taken before anyone touches them, want another "
            "placement or hugepages = \"auto\"");
    if (!g->vnuma || g->placement == CFG_PLACE_SPLIT || g->placement == CFG_PLACE_AUTO)
        return 0;
    return reader_bad(r, at(place, "placement"),
                      "a guest with vnuma is told which addresses are on which node, want "
                      "placement = \"split\" or vnuma = false");
}

int check_guest(struct reader *r, const struct guest_cfg *g, const struct place *place)
{
    int ret = check_cpus(r, g, place);

    if (!ret)
        ret = check_placement(r, g, place);
    for (unsigned i = 0; i < g->nnets && !ret; i++)
        ret = check_net(r, g, i, place);
    if (!ret)
        ret = check_console(r, &g->console, at(place, "console"));
    if (!ret)
        ret = check_console(r, &g->vconsole, at(place, "vconsole"));
    if (!ret && g->console.type == CFG_CON_STDIO && g->vconsole.type == CFG_CON_STDIO)
        ret = reader_bad(r, at(place, "vconsole"),
                         "console has the terminal already, want one of the two elsewhere");
    return ret;
}

/* Adds a claim; takes over `what`. */
static void add(struct claims *c, const char *kind, char *what, const struct guest_cfg *g,
                bool shared, const config_setting_t *s)
{
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 64;
        c->v = realloc(c->v, c->cap * sizeof(c->v[0]));
        INVARIANT(c->v, "the host has no memory left for the claims of guests");
    }
    c->v[c->n] = (struct claim){
        .kind = kind, .what = what, .guest = g->name, .order = c->n, .shared = shared, .s = s};
    c->n++;
}

/* Claims the ports of the host in "tcp:ADDR:PORT-...,udp:...", each as "tcp:ADDR:PORT". */
static void add_ports(struct claims *c, const struct guest_cfg *g, const char *text,
                      const config_setting_t *s)
{
    for (unsigned i = 0; i < PORTS && *text; i++) {
        size_t n = strcspn(text, "-");
        char *port = xcalloc(1, n + 1);

        memcpy(port, text, n);
        add(c, "port", port, g, false, s);
        text += strcspn(text, ",");
        text += *text == ',';
    }
}

/* Claims what one network card wants. */
static void add_net(struct claims *c, const struct guest_cfg *g, unsigned i,
                    const struct place *place)
{
    const struct net_cfg *net = &g->nets[i];
    uint8_t m[6];

    config_mac(g, i, m);
    add(c, "mac",
        xasprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]), g,
        false, at_entry(place, "nets", i, "mac"));
    if (net->tap)
        add(c, "tap", xstrdup(net->tap), g, false, at_entry(place, "nets", i, "tap"));
    if (net->hostfwd)
        add_ports(c, g, net->hostfwd, at_entry(place, "nets", i, "hostfwd"));
}

/* Claims all one guest wants. */
static void add_guest(struct claims *c, const struct guest_cfg *g, const struct place *place)
{
    add(c, "name", xstrdup(g->name), g, false, at(place, "name"));
    for (unsigned i = 0; i < g->nnets; i++)
        add_net(c, g, i, place);
    for (unsigned i = 0; i < g->ndisks; i++)
        add(c, "disk", xstrdup(g->disks[i].path), g, g->disks[i].readonly,
            at_entry(place, "disks", i, "path"));
    if (g->console.path)
        add(c, "console", xstrdup(g->console.path), g, false, at(place, "console"));
    if (g->vconsole.path)
        add(c, "console", xstrdup(g->vconsole.path), g, false, at(place, "vconsole"));
}

/* Sorts claims: kind, thing, those that do not share first, then order. */
static int compare(const void *x, const void *y)
{
    const struct claim *a = x, *b = y;
    int d = strcmp(a->kind, b->kind);

    if (!d)
        d = strcmp(a->what, b->what);
    if (!d)
        d = a->shared - b->shared;
    return d ? d : (a->order > b->order) - (a->order < b->order);
}

/* Advice by kind of claim. */
static const char *advice(const char *kind)
{
    if (!strcmp(kind, "disk"))
        return "want a disk for each (%n in the path is the index) or readonly = true in all";
    if (!strcmp(kind, "mac"))
        return "want different ones, or none to have them derived";
    return "want different ones (%n is the index, %g the guest's name)";
}

/* Fails for two claims on one thing. */
static int conflict(struct reader *r, const struct claim *a, const struct claim *b)
{
    const struct claim *first = a->order < b->order ? a : b, *second = first == a ? b : a;

    if (!strcmp(first->kind, "name"))
        return reader_bad(
            r, second->s,
            "\"%.64s\" is already the name of the guest at %s:%d, want a name for "
            "each (count = N makes NAME0, NAME1...)",
            second->what, reader_file(r, first->s), reader_line(r, first->s));
    return reader_bad(
        r, second->s,
        "%s \"%.120s\" of guest \"%s\" is already that of guest \"%s\" (%s:%d), %s",
        second->kind, second->what, second->guest, first->guest, reader_file(r, first->s),
        reader_line(r, first->s), advice(first->kind));
}

int check_site(struct reader *r, const struct site_cfg *site, const struct place *places)
{
    struct claims c = {0};
    int ret = 0;

    for (unsigned i = 0; i < site->nguests; i++)
        add_guest(&c, &site->guests[i], &places[i]);
    if (c.n)
        qsort(c.v, c.n, sizeof(c.v[0]), compare);
    for (unsigned i = 1; i < c.n && !ret; i++) {
        const struct claim *a = &c.v[i - 1], *b = &c.v[i];

        if (!strcmp(a->kind, b->kind) && !strcmp(a->what, b->what) && !(a->shared && b->shared))
            ret = conflict(r, a, b);
    }
    for (unsigned i = 0; i < c.n; i++)
        free(c.v[i].what);
    free(c.v);
    return ret;
}

enum cfg_place config_placement(const struct guest_cfg *g)
{
    if (g->placement != CFG_PLACE_AUTO)
        return g->placement;
    if (g->vnuma || g->hugetlb || g->policy == CFG_POLICY_NONE)
        return CFG_PLACE_SPLIT;
    return g->policy == CFG_POLICY_INTERLEAVE ? CFG_PLACE_INTERLEAVE : CFG_PLACE_FIRST_TOUCH;
}
