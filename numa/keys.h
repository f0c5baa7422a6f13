/* SPDX-License-Identifier: MIT */
/*
 * "key=value,key=value" as the descriptions of machines and workloads have it: one pair at a
 * time. No state; threads: any.
 */
#ifndef DISCO_NUMA_KEYS_H
#define DISCO_NUMA_KEYS_H

#include <stdbool.h>
#include <stdint.h>

enum { KEY_LEN = 24 };

/* One pair. */
struct key_pair {
    char key[KEY_LEN]; /* never empty */
    uint64_t value;    /* a number, or a size with K, M, G or T (powers of 1024) */
};

/* Reads the pair at *s and steps over it and a comma behind it; *s then stands at the next
 * pair, at the end or at a '+'.  False: there is no pair; *s stands where it is wrong. */
bool key_next(const char **s, struct key_pair *pair);

/* Is this the pair's key? */
bool key_is(const struct key_pair *pair, const char *key);

#endif
