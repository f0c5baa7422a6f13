/* SPDX-License-Identifier: MIT */
/*
 * `disco topo`: shows a machine, this one or a described one, and where the guests of a site file
 * would go on it.  Interface: cmd_topo().  Starts nothing and changes nothing; one thread.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "numa/place.h"
#include "numa/topo.h"
#include "numa/topo_draw.h"
#include "vmm/config/config.h"
#include "vmm/monitor/commands.h"
#include "vmm/monitor/plan.h"

/* What the command line asked for; strings belong to it. */
struct ask {
    const char *synthetic; /* description of a machine, NULL: this one */
    const char *svg;       /* where to draw, "-": standard output, NULL: no drawing */
    const char *site;      /* configuration file, NULL: the machine alone */
    bool json;             /* JSON instead of the table */
};

/* The guests of a site and their places. */
struct plan {
    unsigned n;               /* entries of both */
    struct place_got *got;    /* what they get */
    struct topo_guest *guest; /* for the drawing */
};

/* Places the guests of a site. */
static int plan_init(struct plan *p, const struct site_cfg *site, const struct topo *t,
                     struct err *err)
{
    int rc = site_plan(site, t, &p->got, err);

    if (rc)
        return rc;
    p->n = site->nguests;
    p->guest = xcalloc(p->n, sizeof(*p->guest));
    for (unsigned i = 0; i < p->n; i++)
        p->guest[i] = (struct topo_guest){.name = site->guests[i].name,
                                          .vcpus = site->guests[i].vcpus,
                                          .memory = site->guests[i].memory,
                                          .place = &p->got[i],
                                          .state = "planned"};
    return 0;
}

/* Frees a plan. */
static void plan_exit(struct plan *p)
{
    free(p->got);
    free(p->guest);
}

/* Writes the drawing to its file. */
static int write_svg(const char *path, const struct topo *t, const struct plan *p,
                     struct err *err)
{
    bool out = !strcmp(path, "-");
    FILE *f = out ? stdout : fopen(path, "we");
    int rc;

    if (!f)
        return fail_errno(err, EXIT_RESOURCE, errno, "--svg %s: cannot be written", path);
    rc = topo_svg(f, t, p->guest, p->n);
    if (!out && fclose(f))
        rc = -EIO;
    if (rc)
        return fail_errno(err, EXIT_RESOURCE, -rc, "--svg %s: writing", path);
    return 0;
}

/* Shows the machine and the plan as asked. */
static int show(const struct ask *ask, const struct topo *t, const struct plan *p,
                struct err *err)
{
    json_t *j;
    int rc = 0;

    if (ask->svg)
        rc = write_svg(ask->svg, t, p, err);
    if (rc || (ask->svg && !strcmp(ask->svg, "-")))
        return rc;
    if (ask->json) {
        j = topo_json(t, p->guest, p->n);
        rc = json_dumpf(j, stdout, JSON_INDENT(2)) ? -EIO : 0;
        json_decref(j);
        putchar('\n');
    } else {
        rc = topo_text(stdout, t, p->guest, p->n);
    }
    if (!rc && (fflush(stdout) || ferror(stdout)))
        rc = -EIO;
    return rc ? fail(err, EXIT_RESOURCE, -rc, "standard output: writing failed") : 0;
}

/* Reads the machine and the site, places, shows. */
static int run(const struct ask *ask, struct err *err)
{
    struct site_cfg site = {0};
    struct plan plan = {0};
    struct topo t;
    int rc = topo_read(&t, ask->synthetic, err);

    if (rc)
        return rc;
    if (ask->site) {
        rc = config_load(&site, ask->site, err);
        if (!rc)
            rc = plan_init(&plan, &site, &t, err);
    }
    if (!rc)
        rc = show(ask, &t, &plan, err);
    plan_exit(&plan);
    config_free(&site);
    topo_free(&t);
    return rc;
}

/* Reads the command line; EXIT_OK or EXIT_USAGE. */
static int parse(struct ask *ask, int argc, char **argv)
{
    static const struct option options[] = {{"synthetic", required_argument, NULL, 's'},
                                            {"svg", required_argument, NULL, 'g'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    int c;

    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (c == 's')
            ask->synthetic = optarg;
        else if (c == 'g')
            ask->svg = optarg;
        else if (c == 'j')
            ask->json = true;
        else
            return cmd_option("topo", c, argv);
    }
    if (argc - optind > 1)
        return cmd_usage("topo", "one site file at most, %d given", argc - optind);
    ask->site = optind < argc ? argv[optind] : NULL;
    return EXIT_OK;
}

int cmd_topo(int argc, char **argv)
{
    struct ask ask = {0};
    struct err err = {0};
    int rc = parse(&ask, argc, argv);

    if (rc)
        return rc;
    return run(&ask, &err) ? cmd_fail(&err) : EXIT_OK;
}
