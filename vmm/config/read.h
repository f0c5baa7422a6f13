/* SPDX-License-Identifier: MIT */
/*
 * Reads libconfig settings into structs by the schema.  Inside of vmm/config only.
 *
 * reader_open_*() parses the text; read_group() stores what a group says; read_finish() replaces
 * %n and %g, makes paths absolute and asks for what is missing.  Every error names file, line, key,
 * what was got and what is wanted, with EXIT_CONFIG and -EINVAL.
 * Threads: one.
 */
#ifndef DISCO_VMM_CONFIG_READ_H
#define DISCO_VMM_CONFIG_READ_H

#include <libconfig.h>
#include <stdint.h>

#include "vmm/config/schema.h"
#include "vmm/config/source.h"

struct err;

/* One configuration being read. */
struct reader {
    struct source src; /* the text and where its lines came from */
    config_t cfg;      /* the parsed tree; settings point into it */
    struct err *err;   /* where the message goes */
    bool own_text;     /* reading what the serialiser wrote: hidden keys, longer names */
};

/* Where the values of one struct came from, for messages. */
struct place {
    const config_setting_t *group; /* the group (or shorthand) itself */
    const config_setting_t
        *from[CFG_MAX_KEYS]; /* by schema_index(): who said it; NULL: nobody */
};

/* What %g and %n stand for. */
struct subst {
    const char *name; /* of the guest */
    unsigned index;   /* within count */
};

/* Reads a file and what it includes.  0 or -errno; on failure nothing is left to close. */
int reader_open_file(struct reader *r, const char *path, struct err *err);

/* Reads text from memory, which messages call `name`.  0 or -errno, as reader_open_file(). */
int reader_open_text(struct reader *r, const char *name, const char *text, struct err *err);

/* Frees the text and its tree: settings of it are gone. */
void reader_close(struct reader *r);

/* Fails: "file:line: key: ...".  Any setting of the tree. */
int reader_bad(struct reader *r, const config_setting_t *s, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Fails: "... got X, want Y" with Y from the schema. */
int reader_mismatch(struct reader *r, const config_setting_t *s, const struct cfg_key *key);

/* File of a setting, as messages show it; lives as long as the reader. */
const char *reader_file(const struct reader *r, const config_setting_t *s);

/* Line of a setting in that file, from 1. */
int reader_line(const struct reader *r, const config_setting_t *s);

/* The setting to blame for a key: the one that set it, else the group. */
const config_setting_t *place_of(const struct place *p, const struct cfg_key *key);

/* Reads an integer for a key that has no field, within the key's range.  0, or -errno after a
 * message. */
int read_integer(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
                 uint64_t *out);

/* Reads a string for such a key; *out is the reader's.  0, or -errno after a message. */
int read_text(struct reader *r, const config_setting_t *s, const struct cfg_key *key,
              const char **out);

/* What read_group() takes: the struct's scope, a scope whose keys are passed over (or
 * CFG_NSCOPES), and flags (enum cfg_flag) of keys that are refused here. */
struct read_rule {
    enum cfg_scope scope; /* the struct's */
    enum cfg_scope also;  /* its keys are passed over; CFG_NSCOPES: none */
    unsigned refuse;      /* enum cfg_flag bits: such keys are an error here */
};

/* Stores all keys of a group in base; keys that are not there keep their value.  place may be
 * NULL; else place->from is updated. */
int read_group(struct reader *r, const config_setting_t *group, const struct read_rule *rule,
               void *base, struct place *place);

/* Completes and checks the text fields of a struct and of those inside it. */
int read_finish(struct reader *r, enum cfg_scope scope, void *base, const struct place *place,
                const struct subst *subst);

#endif
