/* SPDX-License-Identifier: MIT */
/*
 * The schema: the one table of everything a configuration file may say, and how to walk it.
 *
 * A row names a key, its type, unit, range, default and field.  The reader (read.c), the checker,
 * the serialiser (print.c), `disco check --schema` and the man page all walk this table; nobody
 * else knows a key by name, except for rules that tie two keys together (check.c).
 * Threads: const data only.
 */
#ifndef DISCO_VMM_CONFIG_SCHEMA_H
#define DISCO_VMM_CONFIG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Where a key may stand. */
enum cfg_scope {
    CFG_SITE,    /* top level of a site file; struct site_cfg */
    CFG_GUEST,   /* a guest or a template; struct guest_cfg */
    CFG_DISK,    /* an entry of disks; struct disk_cfg */
    CFG_NET,     /* an entry of nets; struct net_cfg */
    CFG_CONSOLE, /* a console group; struct console_cfg */
    CFG_NSCOPES
};

/* What a key holds, and so which reader, printer and wording it gets. */
enum cfg_type {
    CFG_T_INT,       /* integer; field of 4 or 8 bytes */
    CFG_T_AUTOINT,   /* integer, or "auto", which is stored as 0 */
    CFG_T_BOOL,      /* true, false; bool field */
    CFG_T_SIZE,      /* text with a unit, or an integer of bytes; uint64_t field */
    CFG_T_TIME,      /* text with a unit, "10ms"; uint64_t field of ns */
    CFG_T_STRING,    /* char * field; min and max bound its bytes */
    CFG_T_PATH,      /* char * field, made absolute */
    CFG_T_ENUM,      /* one of names; field of 1 or 4 bytes holds the index */
    CFG_T_NODES,     /* list of integers and "a-b" ranges; int array field */
    CFG_T_CONSOLE,   /* group, or "stdio", "file:/path"...; struct console_cfg field */
    CFG_T_GROUPS,    /* list of groups of scope sub; array field with a count field */
    CFG_T_TEMPLATES, /* group of named guest groups; no field */
    CFG_NTYPES
};

/* Facts about a key. */
enum cfg_flag {
    CFG_F_REQUIRED = 1, /* must be there */
    CFG_F_SUBST = 2,    /* %n, %g and %% are replaced */
    CFG_F_OWN = 4,      /* belongs to one guest: not allowed in a template */
    CFG_F_SHAPE = 8,    /* steers loading; has no field of its own */
    CFG_F_HIDDEN = 16,  /* written by the serialiser only; refused in files people write */
};

/* One row. */
struct cfg_key {
    const char *name;         /* as written in a file */
    const char *unit;         /* for people; NULL: none */
    const char *def;          /* default as text; NULL: nothing (empty, absent) */
    const char *doc;          /* one sentence */
    const char *const *names; /* CFG_T_ENUM: NULL-terminated, index = value */
    /* Says what would be right when the text of a string is wrong, else NULL. */
    const char *(*valid)(const char *text);
    uint64_t min, max;    /* smallest and largest value, bytes of text, or entries */
    uint64_t step;        /* the value is a multiple of this; 0: any */
    size_t offset, size;  /* of the field in its struct; size of one entry for CFG_T_GROUPS */
    size_t count_offset;  /* of the unsigned that counts entries; CFG_T_NODES, CFG_T_GROUPS */
    enum cfg_scope scope; /* where it may stand */
    enum cfg_scope sub;   /* scope of its groups; CFG_T_GROUPS, CFG_T_CONSOLE */
    enum cfg_type type;   /* what it holds */
    unsigned flags;       /* enum cfg_flag */
};

/* The most rows the table may have, for arrays indexed by schema_index(). */
enum { CFG_MAX_KEYS = 64 };

/* Row after prev in a scope; prev NULL: the first.  NULL at the end. */
const struct cfg_key *schema_next(enum cfg_scope scope, const struct cfg_key *prev);

/* Row by name, or NULL. */
const struct cfg_key *schema_find(enum cfg_scope scope, const char *name);

/* Row whose name looks most like this one (at most 3 slips away), or NULL. */
const struct cfg_key *schema_nearest(enum cfg_scope scope, const char *name);

/* Position in the table, below CFG_MAX_KEYS. */
unsigned schema_index(const struct cfg_key *key);

/* Names of scopes and types for people: "guest", "size". */
const char *schema_scope_name(enum cfg_scope scope);
const char *schema_type_name(enum cfg_type type);

/* What a key wants, as the end of "want ...": "an integer from 1 to 1024".  Returns buf. */
char *schema_want(const struct cfg_key *key, char *buf, size_t n);

/* The field of a key in its struct, and the count beside it. */
void *schema_field(const struct cfg_key *key, void *base);
unsigned *schema_count(const struct cfg_key *key, void *base);

/* Stores a number or enum index in a field of 1, 4 or 8 bytes; and reads it back. */
void schema_set(const struct cfg_key *key, void *base, uint64_t value);
uint64_t schema_get(const struct cfg_key *key, const void *base);

/* Fills a zeroed struct with the defaults of its scope. */
void schema_defaults(enum cfg_scope scope, void *base);

/* Frees what the fields of one struct own and zeroes them; the struct itself stays. */
void schema_clear(enum cfg_scope scope, void *base);

/* Likewise for the field of one key. */
void schema_clear_key(const struct cfg_key *key, void *base);

/* How schema_print() writes. */
enum schema_format { SCHEMA_TEXT, SCHEMA_JSON, SCHEMA_MAN };

/* Writes the whole table. */
void schema_print(FILE *out, enum schema_format format);

#endif
