/* SPDX-License-Identifier: MIT */
/*
 * How commands tell their user what is wrong.  No state.
 */
#include "vmm/monitor/commands.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

int cmd_fail(const struct err *err)
{
    fprintf(stderr, "disco: %s\n", err->text[0] ? err->text : "it failed, and nobody said why");
    return err->status ? err->status : EXIT_INTERNAL;
}

int cmd_usage(const char *name, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "disco: %s: ", name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, " (`disco %s --help` tells more)\n", name);
    return EXIT_USAGE;
}

int cmd_option(const char *name, int letter, char **argv)
{
    const char *arg = argv[optind - 1];

    if (letter == ':')
        return cmd_usage(name, "%s needs a value", arg);
    if (letter != '?' && optarg == arg) /* another command's, with its value behind it */
        return cmd_usage(name, "unknown option %s", argv[optind - 2]);
    /* of letters written together getopt tells the wrong one, and is still at their beginning */
    if (optopt && !(arg[0] == '-' && arg[1] == '-' && strchr(arg, '=')))
        return cmd_usage(name, "unknown option -%c", optopt);
    return cmd_usage(name, "unknown option %s", arg);
}
