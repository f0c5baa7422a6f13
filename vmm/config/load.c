/* SPDX-License-Identifier: MIT */
/*
 * Loads a site: layers templates under guests, multiplies guests by count, and leads each through
 * reading, completion and checks.  Interface in config.h.
 *
 * Invariant: site->nguests counts the guests whose fields may own memory, so that config_free()
 * is right at any moment.  On failure the site is left zeroed.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/config/check.h"
#include "vmm/config/config.h"
#include "vmm/config/read.h"
#include "vmm/config/valid.h"

/* Templates that may build on one another, with the guest itself. */
enum { LAYERS = 16 };

/* A load under way. */
struct load {
    struct reader r;       /* the text */
    struct site_cfg *site; /* what is being filled */
    struct place *places;  /* where the values of each guest came from */
    bool single;           /* the file is one guest */
    char *base_name;       /* default name, from the file's */
};

/* A guest's group and its templates, nearest first. */
struct layers {
    const config_setting_t *group[LAYERS]; /* the guest's own comes first */
    unsigned n;                            /* entries of group */
};

/* A valid name made of the file's: no directory, no ending, no odd characters; malloc'd. */
static char *name_of_file(const char *path)
{
    const char *slash = strrchr(path, '/');
    char name[CFG_NAME_MAX + 1];
    const char *p = slash ? slash + 1 : path;
    size_t n, end;

    while (*p && !isalnum((unsigned char)*p))
        p++;
    end = strcspn(p, ".");
    for (n = 0; n < end && n < CFG_NAME_MAX; n++) {
        unsigned char c = (unsigned char)p[n];

        name[n] = c < 0x80 && (isalnum(c) || c == '_') ? p[n] : '-';
    }
    name[n] = 0;
    return xstrdup(n ? name : "site");
}

/* The templates group, or NULL. */
static const config_setting_t *templates(const struct load *l)
{
    return config_setting_get_member(config_root_setting(&l->r.cfg), "templates");
}

/* Fails for a template nobody has defined; suggests the nearest. */
static int no_template(struct load *l, const config_setting_t *s, const char *name)
{
    const config_setting_t *all = templates(l);
    const char *known = NULL;
    unsigned n = all ? (unsigned)config_setting_length(all) : 0;

    if (!n)
        return reader_bad(&l->r, s, "there is no template \"%.64s\", want one in `templates`",
                          name);
    for (unsigned i = 0; i < n; i++) {
        const char *other = config_setting_name(config_setting_get_elem(all, i));

        if (!known || valid_distance(name, other) < valid_distance(name, known))
            known = other;
    }
    return reader_bad(&l->r, s, "there is no template \"%.64s\", did you mean \"%.64s\"?", name,
                      known);
}

/* Adds one group to the layers, and finds the next in *group: NULL when there is none. */
static int add_layer(struct load *l, struct layers *to, const config_setting_t **group)
{
    const struct cfg_key *key = schema_find(CFG_GUEST, "template");
    const config_setting_t *s = config_setting_get_member(*group, key->name);
    const char *name = NULL;
    int ret;

    to->group[to->n++] = *group;
    *group = NULL;
    if (!s)
        return 0;
    ret = read_text(&l->r, s, key, &name);
    if (ret)
        return ret;
    *group = templates(l) ? config_setting_get_member(templates(l), name) : NULL;
    if (!*group)
        return no_template(l, s, name);
    for (unsigned i = 0; i < to->n; i++) {
        if (to->group[i] == *group)
            return reader_bad(&l->r, s, "template \"%.64s\" builds on itself, want no loops",
                              name);
    }
    if (to->n == LAYERS)
        return reader_bad(&l->r, s, "want at most %d templates that build on one another",
                          LAYERS - 1);
    return 0;
}

/* Collects a group and the templates it builds on. */
static int find_layers(struct load *l, const config_setting_t *group, struct layers *to)
{
    int ret = 0;

    to->n = 0;
    while (group && !ret)
        ret = add_layer(l, to, &group);
    return ret;
}

/* Fills a guest: defaults, then each layer over those it builds on. */
static int read_layers(struct load *l, const struct layers *from, bool is_template,
                       struct guest_cfg *g, struct place *place)
{
    int ret = 0;

    *place = (struct place){.group = from->group[0]};
    schema_defaults(CFG_GUEST, g);
    for (unsigned i = from->n; i-- && !ret;) {
        const config_setting_t *group = from->group[i];
        struct read_rule rule = {CFG_GUEST, CFG_NSCOPES, CFG_F_HIDDEN};

        if (i || is_template)
            rule.refuse |= CFG_F_OWN;
        if (config_setting_is_root(group))
            rule.also = CFG_SITE;
        ret = read_group(&l->r, group, &rule, g, place);
    }
    return ret;
}

/* Reads every template once, so that mistakes in unused ones show too. */
static int check_templates(struct load *l)
{
    const config_setting_t *all = templates(l);
    struct layers layers;
    int ret = 0;

    if (!all)
        return 0;
    if (!config_setting_is_group(all))
        return reader_mismatch(&l->r, all, schema_find(CFG_SITE, "templates"));
    for (int i = 0; i < config_setting_length(all) && !ret; i++) {
        const config_setting_t *t = config_setting_get_elem(all, (unsigned)i);
        struct guest_cfg *g = xcalloc(1, sizeof(*g));
        struct place place;

        if (!config_setting_is_group(t))
            ret = reader_bad(&l->r, t, "want a group of the keys of a guest, { ... }");
        if (!ret)
            ret = find_layers(l, t, &layers);
        if (!ret)
            ret = read_layers(l, &layers, true, g, &place);
        config_free_guest(g);
        free(g);
    }
    return ret;
}

/* Gives a guest its final name and its origin. */
static void name_guest(struct load *l, struct guest_cfg *g, const struct place *place,
                       unsigned index, unsigned count)
{
    char *name;

    if (!g->name && l->single)
        g->name = xstrdup(l->base_name);
    if (g->name && count > 1) {
        name = xasprintf("%s%u", g->name, index);
        free(g->name);
        g->name = name;
    }
    g->site = xstrdup(l->site->name);
    g->file = xstrdup(reader_file(&l->r, place->group));
    g->line = reader_line(&l->r, place->group);
}

/* Makes the guests of one entry; places and guests have room. */
static int load_entry(struct load *l, const config_setting_t *group, unsigned count)
{
    struct layers layers;
    int ret;

    ret = find_layers(l, group, &layers);
    for (unsigned i = 0; i < count && !ret; i++) {
        struct guest_cfg *g = &l->site->guests[l->site->nguests];
        struct place *place = &l->places[l->site->nguests++];
        struct subst subst = {.index = i};

        ret = read_layers(l, &layers, false, g, place);
        if (ret)
            break;
        name_guest(l, g, place, i, count);
        subst.name = g->name;
        ret = read_finish(&l->r, CFG_GUEST, g, place, &subst);
        if (!ret)
            ret = check_guest(&l->r, g, place);
    }
    return ret;
}

/* How many guests an entry makes. */
static int read_count(struct load *l, const config_setting_t *group, uint64_t *count)
{
    const struct cfg_key *key = schema_find(CFG_GUEST, "count");
    const config_setting_t *s = config_setting_get_member(group, key->name);

    *count = 1;
    return s ? read_integer(&l->r, s, key, count) : 0;
}

/* Adds up the guests of all entries and makes room for them. */
static int make_room(struct load *l, const config_setting_t *list)
{
    const struct cfg_key *key = schema_find(CFG_SITE, "guests");
    uint64_t total = 0, count;
    int n = config_setting_length(list), ret;

    if (!config_setting_is_list(list) || n < 1 || (uint64_t)n > key->max)
        return reader_mismatch(&l->r, list, key);
    for (int i = 0; i < n; i++) {
        const config_setting_t *e = config_setting_get_elem(list, (unsigned)i);

        if (!config_setting_is_group(e))
            return reader_bad(&l->r, e, "want a group of the keys of a guest, { ... }");
        ret = read_count(l, e, &count);
        if (ret)
            return ret;
        total += count;
        if (total > key->max)
            return reader_bad(&l->r, e,
                              "got more than %d guests in all, want at most that many",
                              CFG_MAX_GUESTS);
    }
    l->site->guests = xcalloc(total, sizeof(l->site->guests[0]));
    l->places = xcalloc(total, sizeof(l->places[0]));
    return 0;
}

/* Loads the entries of `guests`. */
static int load_guests(struct load *l, const config_setting_t *list)
{
    uint64_t count;
    int ret = make_room(l, list);

    for (int i = 0; !ret && i < config_setting_length(list); i++) {
        const config_setting_t *e = config_setting_get_elem(list, (unsigned)i);

        ret = read_count(l, e, &count);
        if (!ret)
            ret = load_entry(l, e, (unsigned)count);
    }
    return ret;
}

/* Loads the guest whose keys are at the top level. */
static int load_single(struct load *l, const config_setting_t *root)
{
    uint64_t count;
    int ret = read_count(l, root, &count);

    if (ret)
        return ret;
    l->site->guests = xcalloc(count, sizeof(l->site->guests[0]));
    l->places = xcalloc(count, sizeof(l->places[0]));
    return load_entry(l, root, (unsigned)count);
}

/* Reads the keys of the site itself. */
static int load_top(struct load *l, const config_setting_t *root)
{
    const struct read_rule rule = {CFG_SITE, l->single ? CFG_GUEST : CFG_NSCOPES, 0};
    const struct subst none = {.name = NULL};
    struct place place = {.group = root};
    int ret;

    schema_defaults(CFG_SITE, l->site);
    ret = read_group(&l->r, root, &rule, l->site, &place);
    if (!ret && !l->site->name)
        l->site->name = xstrdup(l->base_name);
    if (!ret)
        ret = read_finish(&l->r, CFG_SITE, l->site, &place, &none);
    return ret ? ret : check_templates(l);
}

/* Loads everything from the parsed tree. */
static int load_tree(struct load *l)
{
    const config_setting_t *root = config_root_setting(&l->r.cfg);
    const config_setting_t *list = config_setting_get_member(root, "guests");
    int ret;

    l->single = !list;
    if (!config_setting_length(root))
        return reader_bad(&l->r, root,
                          "nothing is configured, want guests = ( { ... } ) or the keys of one "
                          "guest");
    ret = load_top(l, root);
    if (!ret)
        ret = list ? load_guests(l, list) : load_single(l, root);
    return ret ? ret : check_site(&l->r, l->site, l->places);
}

int config_load(struct site_cfg *site, const char *path, struct err *err)
{
    struct load l = {.site = site};
    int ret;

    *site = (struct site_cfg){0};
    ret = reader_open_file(&l.r, path, err);
    if (ret)
        return ret;
    l.base_name = name_of_file(path);
    ret = load_tree(&l);
    reader_close(&l.r);
    free(l.base_name);
    free(l.places);
    if (ret)
        config_free(site);
    return ret;
}

void config_free(struct site_cfg *site)
{
    for (unsigned i = 0; i < site->nguests; i++)
        config_free_guest(&site->guests[i]);
    free(site->guests);
    schema_clear(CFG_SITE, site);
    *site = (struct site_cfg){0};
}

int config_parse_guest(struct guest_cfg *g, const char *text, struct err *err)
{
    const struct read_rule rule = {CFG_GUEST, CFG_NSCOPES, CFG_F_SHAPE};
    struct subst subst = {.index = 0};
    struct place place = {0};
    struct reader r;
    int ret;

    *g = (struct guest_cfg){0};
    ret = reader_open_text(&r, "guest", text, err);
    if (ret)
        return ret;
    place.group = config_root_setting(&r.cfg);
    schema_defaults(CFG_GUEST, g);
    ret = read_group(&r, place.group, &rule, g, &place);
    subst.name = g->name;
    if (!ret)
        ret = read_finish(&r, CFG_GUEST, g, &place, &subst);
    if (!ret)
        ret = check_guest(&r, g, &place);
    reader_close(&r);
    if (ret)
        config_free_guest(g);
    return ret;
}

void config_free_guest(struct guest_cfg *g)
{
    schema_clear(CFG_GUEST, g);
    *g = (struct guest_cfg){0};
}
