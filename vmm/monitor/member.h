/* SPDX-License-Identifier: MIT */
/*
 * Members of JSON objects whose writer may be of another version, or lie: what is not there, or of
 * another kind, has a value all the same.  Threads: any; no state.
 */
#ifndef DISCO_VMM_MONITOR_MEMBER_H
#define DISCO_VMM_MONITOR_MEMBER_H

#include <stdint.h>

struct json_t;

enum { MEMBER_SHOWN = 64 };

/* A member's number, a real one cut; 0 if it has none. */
int64_t member_num(const struct json_t *o, const char *key);

/* The same of what is counted: from 0 to 2^53. */
uint64_t member_count(const struct json_t *o, const char *key);

/* A member's number; -1 if it has none. */
double member_real(const struct json_t *o, const char *key);

/* A member's text, "-" if it has none.  As it came: not for terminals. */
const char *member_text(const struct json_t *o, const char *key);

/* The same without what would harm a terminal, cut; returns buf. */
const char *member_shown(char buf[MEMBER_SHOWN], const struct json_t *o, const char *key);

#endif
