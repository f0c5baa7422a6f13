/* SPDX-License-Identifier: MIT */
/*
 * The log of the program: formats a line in a local buffer and hands it to the kernel in one
 * write(2), so that lines of several threads and processes never mix.  The level and name are
 * set once before threads start and only read afterwards; there is no lock.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Set by log_init() before threads start, read-only afterwards. */
static struct {
    enum log_level level; /* least urgent level written */
    char name[64];        /* printed before each line, may be empty */
} log_state = {.level = LOG_INFO};

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_init(enum log_level level, const char *name)
{
    log_state.level = level;
    snprintf(log_state.name, sizeof(log_state.name), "%s", name ? name : "");
}

int log_wants(enum log_level level)
{
    return level <= log_state.level;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    char buf[1200];
    size_t n;
    va_list ap;

    if (!log_wants(level))
        return;
    snprintf(buf, sizeof(buf), "disco%s%s: %s: ", log_state.name[0] ? " " : "", log_state.name,
             level_names[level]);
    n = strlen(buf);
    va_start(ap, fmt);
    vsnprintf(buf + n, sizeof(buf) - n - 1, fmt, ap);
    va_end(ap);
    n = strlen(buf);
    buf[n++] = '\n';
    if (write(STDERR_FILENO, buf, n) < 0)
        return; /* nowhere left to say it */
}
