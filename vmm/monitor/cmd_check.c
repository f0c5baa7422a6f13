/* SPDX-License-Identifier: MIT */
/*
 * `disco check FILE...`: reads configuration files and says what is wrong, starting nothing.
 * `disco check --schema[=text|json|man]`: prints every key a file may hold.
 * Exit status EXIT_CONFIG when any file is wrong.  One thread.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/config/config.h"
#include "vmm/config/schema.h"
#include "vmm/monitor/commands.h"

/* What the command line asks for. */
struct check_args {
    bool json;                 /* print a JSON array instead of lines */
    bool no_files;             /* don't look for kernels and disks */
    bool schema;               /* print the schema, check nothing */
    enum schema_format format; /* of the schema */
};

/* Reads the name of a schema format. */
static bool parse_format(const char *name, enum schema_format *out)
{
    static const char *const names[] = {
        [SCHEMA_TEXT] = "text", [SCHEMA_JSON] = "json", [SCHEMA_MAN] = "man"};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(name, names[i])) {
            *out = (enum schema_format)i;
            return true;
        }
    }
    return false;
}

/* Reads the options; optind is the first file then. */
static int parse_args(int argc, char **argv, struct check_args *args)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"no-files", no_argument, NULL, 'n'},
        {"schema", optional_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    int c;

    optind = 0;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'j')
            args->json = true;
        else if (c == 'n')
            args->no_files = true;
        else if (c != 's')
            return cmd_usage("check", "unknown option %s, want --json, --no-files or --schema",
                             argv[optind - 1]);
        else if (optarg && !parse_format(optarg, &args->format))
            return cmd_usage("check", "--schema=%s: want text, json or man", optarg);
        else
            args->schema = true;
    }
    if (args->schema && args->json && args->format == SCHEMA_TEXT)
        args->format = SCHEMA_JSON;
    if (!args->schema && optind == argc)
        return cmd_usage("check", "want at least one FILE");
    if (args->schema && optind < argc)
        return cmd_usage("check", "--schema takes no FILE, got %s", argv[optind]);
    return EXIT_OK;
}

/* A JSON string of bytes that may not be UTF-8: then all beyond ASCII become "?". */
static json_t *any_string(const char *bytes)
{
    json_t *s = json_string(bytes);
    char *copy;

    if (s)
        return s;
    copy = xstrdup(bytes);
    for (char *p = copy; *p; p++) {
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    }
    s = json_string(copy);
    free(copy);
    return s;
}

/* One file's verdict as a JSON object. */
static json_t *verdict_json(const char *path, unsigned guests, const struct err *err)
{
    if (err->status)
        return json_pack("{s:o, s:b, s:i, s:o}", "file", any_string(path), "ok", 0, "status",
                         err->status, "error", any_string(err->text));
    return json_pack("{s:o, s:b, s:i}", "file", any_string(path), "ok", 1, "guests",
                     (int)guests);
}

/* Checks one file and prints its verdict, or adds it to list; true when it is right. */
static bool check_file(const char *path, const struct check_args *args, json_t *list)
{
    struct site_cfg site;
    struct err err = {0};
    unsigned guests;

    if (!config_load(&site, path, &err) && !args->no_files)
        config_check_files(&site, &err);
    guests = site.nguests;
    config_free(&site);
    if (list)
        json_array_append_new(list, verdict_json(path, guests, &err));
    else if (err.status)
        fprintf(stderr, "%s\n", err.text);
    else
        printf("%s: ok (%u guest%s)\n", path, guests, guests == 1 ? "" : "s");
    return !err.status;
}

int cmd_check(int argc, char **argv)
{
    struct check_args args = {0};
    json_t *list = NULL;
    bool right = true;
    int ret = parse_args(argc, argv, &args);

    if (ret)
        return ret;
    if (args.schema) {
        schema_print(stdout, args.format);
        return EXIT_OK;
    }
    if (args.json)
        list = json_array();
    for (int i = optind; i < argc; i++)
        right = check_file(argv[i], &args, list) && right;
    if (list) {
        json_dumpf(list, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(list);
    }
    return right ? EXIT_OK : EXIT_CONFIG;
}
