/* SPDX-License-Identifier: MIT */
/*
 * Members of JSON objects; see the header.  No state.
 */
#include "vmm/monitor/member.h"

#include <jansson.h>
#include <string.h>

#include "vmm/cell/proto.h"

static const int64_t count_max = (int64_t)1 << 53;

int64_t member_num(const struct json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    double d = json_number_value(v);

    if (json_is_integer(v))
        return json_integer_value(v);
    return d > -9e18 && d < 9e18 ? (int64_t)d : 0;
}

uint64_t member_count(const struct json_t *o, const char *key)
{
    int64_t n = member_num(o, key);

    return n < 0 ? 0 : (uint64_t)(n < count_max ? n : count_max);
}

double member_real(const struct json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    return json_is_number(v) ? json_number_value(v) : -1;
}

const char *member_text(const struct json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "-";
}

const char *member_shown(char buf[MEMBER_SHOWN], const struct json_t *o, const char *key)
{
    const char *s = member_text(o, key);

    proto_text(buf, MEMBER_SHOWN, s, strlen(s));
    return buf;
}
