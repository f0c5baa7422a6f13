/* SPDX-License-Identifier: MIT */
/*
 * One pair of a description: see keys.h.
 */
#include "numa/keys.h"

#include <string.h>

#include "numa/topo.h"

bool key_next(const char **s, struct key_pair *pair)
{
    size_t n = strcspn(*s, "=,+");
    const char *end;

    if (!n || n >= KEY_LEN || (*s)[n] != '=')
        return false;
    memcpy(pair->key, *s, n);
    pair->key[n] = 0;
    *s += n + 1;
    if (!topo_parse_size(*s, &end, &pair->value))
        return false;
    *s = end;
    if (**s && **s != ',' && **s != '+')
        return false;
    if (**s != ',')
        return true;
    *s += 1;
    return **s && **s != '+'; /* a comma wants another pair */
}

bool key_is(const struct key_pair *pair, const char *key)
{
    return !strcmp(pair->key, key);
}
