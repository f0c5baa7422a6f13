/* SPDX-License-Identifier: MIT */
/*
 * How commands tell their user what is wrong.  No state.
 */
#include "vmm/monitor/commands.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/err.h"

int cmd_fail(const struct err *err)
{
    fprintf(stderr, "disco: %s\n", err->text[0] ? err->text : "it failed, and nobody said why");
    return err->status ? err->status : EXIT_INTERNAL;
}

int cmd_usage(const char *name, const char *fmt, ...)
{
    va_list ap;

    if (fmt) {
        fprintf(stderr, "disco: %s: ", name);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputc('\n', stderr);
    }
    fprintf(stderr, "Try `disco %s --help`.\n", name);
    return EXIT_USAGE;
}

int cmd_option(const char *name, int letter, char **argv)
{
    return cmd_usage(name, letter == ':' ? "%s needs a value" : "unknown option %s",
                     argv[optind - 1]);
}
