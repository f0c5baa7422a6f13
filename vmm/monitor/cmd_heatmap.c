/* SPDX-License-Identifier: MIT */
/*
 * `disco heatmap`: a picture of a guest's memory, by node and state, and of who uses what; or the
 * figures behind it.  Threads: one; no state.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "vmm/monitor/client.h"
#include "vmm/monitor/commands.h"
#include "vmm/monitor/heatmap.h"

/* Writes the picture to its file; NULL or "-" is standard output. */
static int write_svg(const char *path, const struct heatmap *h, struct err *err)
{
    bool out = !path || !strcmp(path, "-");
    FILE *f = out ? stdout : fopen(path, "we");
    int r;

    if (!f)
        return fail_errno(err, EXIT_RESOURCE, errno, "-o %s: cannot be written", path);
    r = heatmap_svg(f, h);
    if (!out && fclose(f))
        r = -EIO;
    if (r)
        return fail_errno(err, EXIT_RESOURCE, -r, "%s: writing",
                          out ? "standard output" : path);
    return 0;
}

/* Shows a map as asked. */
static int show(const struct client_line *l, const struct heatmap *h, const json_t *said,
                struct err *err)
{
    bool json = l->given & CLIENT_JSON;
    int r = 0;

    if (l->output || !json)
        r = write_svg(l->output, h, err);
    if (r || !json)
        return r;
    r = json_dumpf(said, stdout, JSON_INDENT(1));
    putchar('\n');
    if (r || fflush(stdout) || ferror(stdout))
        return fail(err, EXIT_RESOURCE, EIO, "standard output: writing failed");
    return 0;
}

int cmd_heatmap(int argc, char **argv)
{
    static const int one[2] = {1, 1};
    struct client_line l;
    struct err err = {0};
    struct heatmap h;
    json_t *rep, *said;
    int r = client_parse(&l, argc, argv, CLIENT_JSON | CLIENT_OUTPUT, one);

    if (r)
        return r;
    rep = client_call(&l, json_pack("{s:s, s:s}", "cmd", "heatmap", "guest", l.args[0]), &err);
    if (!rep)
        return cmd_fail(&err);
    said = json_object_get(rep, "heatmap");
    r = heatmap_read(&h, said, &err);
    if (r) {
        err_prefix(&err, "guest %s", l.args[0]);
    } else {
        r = show(&l, &h, said, &err);
        heatmap_free(&h);
    }
    json_decref(rep);
    return r ? cmd_fail(&err) : EXIT_OK;
}
