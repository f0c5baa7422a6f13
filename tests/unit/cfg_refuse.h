/* SPDX-License-Identifier: MIT */
/*
 * For tests of what the configuration refuses: a directory for their files, and refuse(), which
 * loads a text and wants it refused with file, line and certain words.
 * Threads: one.
 */
#ifndef DISCO_TESTS_UNIT_CFG_REFUSE_H
#define DISCO_TESTS_UNIT_CFG_REFUSE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/config/config.h"

#include <cmocka.h> /* last: it has a macro called fail() */

/* libconfig itself loses the string it is reading at a syntax error; test_config.c, where there are
 * none, runs without this. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so\n";
}

/* A directory for the files of one test. */
struct scratch {
    char dir[64];   /* its path */
    char path[128]; /* the file written last */
    unsigned tried; /* mistakes tried, printed at the end */
};

static inline int set_up(void **state)
{
    struct scratch *s = xcalloc(1, sizeof(*s));

    strcpy(s->dir, "/tmp/disco-bad-XXXXXX");
    *state = s;
    return mkdtemp(s->dir) ? 0 : -1;
}

static inline int tear_down(void **state)
{
    struct scratch *s = *state;
    char *command = xasprintf("rm -r '%s'", s->dir);
    int ret = system(command);

    if (s->tried)
        print_message("%u mistakes tried\n", s->tried);
    free(command);
    free(s);
    return ret;
}

/* Writes n bytes to a file in the scratch directory. */
static inline const char *write_bytes(struct scratch *s, const char *name, const char *text,
                                      size_t n)
{
    FILE *f;

    snprintf(s->path, sizeof(s->path), "%s/%s", s->dir, name);
    f = fopen(s->path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return s->path;
}

/* Writes a text file. */
static inline const char *write_file(struct scratch *s, const char *name, const char *text)
{
    return write_bytes(s, name, text, strlen(text));
}

/* Loads a text that is wrong on a line (0: whole file), and wants words in the message. */
static inline void refuse(struct scratch *s, const char *text, int line, const char *words)
{
    struct site_cfg site;
    struct err err = {0};
    char place[192];
    int ret = config_load(&site, write_file(s, "t.cfg", text), &err);

    s->tried++;
    if (!ret || err.status != EXIT_CONFIG) {
        config_free(&site);
        fail_msg("taken, or status %d (%s), but wrong:\n%.400s", err.status, err.text, text);
    }
    assert_null(site.guests);
    assert_null(site.name);
    if (line)
        snprintf(place, sizeof(place), "%s:%d: ", s->path, line);
    else
        snprintf(place, sizeof(place), "%s: ", s->path);
    if (strncmp(err.text, place, strlen(place)))
        fail_msg("\"%s\" does not begin \"%s\"; of\n%.400s", err.text, place, text);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" does not say \"%s\"; of\n%.400s", err.text, words, text);
    if (strchr(err.text, '\n'))
        fail_msg("\"%s\" has several lines", err.text);
}

#endif
