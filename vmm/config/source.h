/* SPDX-License-Identifier: MIT */
/*
 * The text of a configuration with its includes put in, and where each line of it came from.
 *
 * Includes are resolved here, not by libconfig, so that their paths are relative to the file that
 * holds them, a missing one is reported with file and line, and loops are found.
 * Threads: one.  Bounded: depth, number of files and total size.
 */
#ifndef DISCO_VMM_CONFIG_SOURCE_H
#define DISCO_VMM_CONFIG_SOURCE_H

#include <stddef.h>

struct err;

/* One line of the expanded text. */
struct source_line {
    unsigned file; /* index into files */
    int line;      /* line there, from 1 */
};

/* A configuration read whole. */
struct source {
    char *text;                /* expanded, zero-terminated; owned */
    struct source_line *lines; /* nlines entries; owned */
    unsigned nlines;           /* lines of text */
    unsigned caplines;         /* allocated entries of lines */
    char **files;              /* names as messages show them; owned */
    unsigned nfiles;           /* entries of files */
};

/* Reads a file and all it includes.  EXIT_CONFIG (EXIT_PERMISSION where access is denied).  On
 * failure nothing is left to free. */
int source_read(struct source *s, const char *path, struct err *err);

/* Takes text from memory, under a name for messages; includes are refused. */
int source_text(struct source *s, const char *name, const char *text, struct err *err);

/* Frees what source_read() or source_text() made; s is empty afterwards. */
void source_free(struct source *s);

/* File from which a line (from 1) of the expanded text came; that of the last for any beyond. */
const char *source_file(const struct source *s, int line);

/* Line in that file, from 1; likewise. */
int source_line(const struct source *s, int line);

/* Makes a path absolute (malloc'd): a relative one counts from the directory of `file`.  "." and
 * empty parts go; ".." stays, for it may cross a symbolic link. */
char *source_resolve(const char *file, const char *path);

#endif
