/* SPDX-License-Identifier: MIT */
/*
 * The syntax of single values: names, addresses, forwards.
 *
 * Interface: each valid_*() looks at the text of one key and returns NULL when it is right, else
 * a phrase that ends "want ..." and says what would be right.
 * No state: any thread may call anything.
 */
#ifndef DISCO_VMM_CONFIG_VALID_H
#define DISCO_VMM_CONFIG_VALID_H

#include <stdint.h>

struct policy_tune;

/* Letters, digits, - and _, a letter or digit first: guests and sites. */
const char *valid_name(const char *s);

/* Printable text without line breaks or other control bytes. */
const char *valid_text(const char *s);

/* "10.0.0.0/24": the network's own address, 8 to 30 bits. */
const char *valid_subnet(const char *s);

/* A name the kernel takes for a network interface. */
const char *valid_tap(const char *s);

/* Six bytes in hex, for one station, not all zero. */
const char *valid_mac(const char *s);

/* "tcp:127.0.0.1:2222-:22", several by comma. */
const char *valid_hostfwd(const char *s);

/* Reads "52:54:00:12:34:56"; 0 or -EINVAL. */
int valid_parse_mac(const char *s, uint8_t out[6]);

/* "trigger=4,cpu=50": thresholds of numa/policy.h. */
const char *valid_policy(const char *s);

/* Reads that, over what *out holds; 0, -EINVAL (not so written), -ENOENT or -ERANGE. */
int valid_parse_policy(const char *s, struct policy_tune *out);

/* Slips (insert, drop, change, swap neighbours) between two names; long names: UINT_MAX. */
unsigned valid_distance(const char *a, const char *b);

#endif
