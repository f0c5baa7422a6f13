/* SPDX-License-Identifier: MIT */
/*
 * Checks the syntax of single values, and measures how much two names differ.
 * Interface in valid.h.  Input is hostile text of bounded length; nothing is allocated.
 */
#include "vmm/config/valid.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa/keys.h"
#include "numa/policy.h"

/* Longest name valid_distance() compares. */
enum { WORD = 40 };

const char *valid_name(const char *s)
{
    static const char want[] = "letters, digits, - and _, with a letter or digit first";

    if (!isalnum((unsigned char)s[0]))
        return want;
    for (; *s; s++) {
        if ((unsigned char)*s >= 0x80 ||
            (!isalnum((unsigned char)*s) && *s != '-' && *s != '_'))
            return want;
    }
    return NULL;
}

const char *valid_text(const char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return "text on one line, without control characters";
    }
    return NULL;
}

/* Reads a decimal number of at most max at *p and moves behind it. */
static bool read_number(const char **p, unsigned long max, unsigned long *out)
{
    size_t digits = strspn(*p, "0123456789");

    if (!digits || digits > 9)
        return false;
    *out = strtoul(*p, NULL, 10);
    *p += digits;
    return *out <= max;
}

/* Reads an IPv4 address that ends before `end`; an empty one is right when `empty`. */
static bool read_address(const char **p, char end, bool empty, struct in_addr *out)
{
    const char *stop = strchr(*p, end);
    char text[INET_ADDRSTRLEN];
    size_t n;

    if (!stop)
        return false;
    n = (size_t)(stop - *p);
    if (n >= sizeof(text) || (!n && !empty))
        return false;
    memcpy(text, *p, n);
    text[n] = 0;
    *p = stop + 1;
    return !n || inet_pton(AF_INET, text, out) == 1;
}

const char *valid_subnet(const char *s)
{
    static const char want[] = "an IPv4 network such as \"10.0.0.0/24\" (8 to 30 bits, the "
                               "others zero)";
    struct in_addr a = {0};
    unsigned long bits;

    if (!read_address(&s, '/', false, &a) || !read_number(&s, 30, &bits) || *s || bits < 8)
        return want;
    return ntohl(a.s_addr) & (0xffffffffu >> bits) ? want : NULL;
}

const char *valid_tap(const char *s)
{
    static const char want[] =
        "a name of up to 15 letters, digits, ., - and _, a letter or digit "
        "first";

    if (!isalnum((unsigned char)s[0]))
        return want;
    for (; *s; s++) {
        if ((unsigned char)*s >= 0x80 || (!isalnum((unsigned char)*s) && !strchr("._-", *s)))
            return want;
    }
    return NULL;
}

/* The value of a hex digit, or -1. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int valid_parse_mac(const char *s, uint8_t out[6])
{
    for (int i = 0; i < 6; i++) {
        int high = hex_digit(s[0]), low = high < 0 ? -1 : hex_digit(s[1]);

        if (low < 0 || s[2] != (i == 5 ? '\0' : ':'))
            return -EINVAL;
        out[i] = (uint8_t)(high << 4 | low);
        s += 3;
    }
    return 0;
}

const char *valid_mac(const char *s)
{
    static const uint8_t zero[6];
    uint8_t mac[6];

    if (valid_parse_mac(s, mac))
        return "six hex bytes such as \"52:54:00:12:34:56\"";
    if (mac[0] & 1)
        return "the address of one station: an even first byte (this one is multicast)";
    if (!memcmp(mac, zero, sizeof(mac)))
        return "an address other than all zeros";
    return NULL;
}

/* Reads one forward, PROTO:[ADDR]:PORT-[ADDR]:PORT, and moves behind it. */
static bool read_forward(const char **p)
{
    struct in_addr addr;
    unsigned long port;

    if (strncmp(*p, "tcp:", 4) != 0 && strncmp(*p, "udp:", 4) != 0)
        return false;
    *p += 4;
    if (!read_address(p, ':', true, &addr) || !read_number(p, 65535, &port) || !port)
        return false;
    if (*(*p)++ != '-')
        return false;
    return read_address(p, ':', true, &addr) && read_number(p, 65535, &port) && port;
}

const char *valid_hostfwd(const char *s)
{
    static const char want[] =
        "\"tcp:[ADDR]:PORT-[ADDR]:PORT\" or udp likewise, several by comma, "
        "such as \"tcp:127.0.0.1:2222-:22\" (ports 1 to 65535)";

    do {
        if (!read_forward(&s))
            return want;
    } while (*s == ',' && *++s);
    return *s || s[-1] == ',' ? want : NULL;
}

int valid_parse_policy(const char *s, struct policy_tune *out)
{
    struct key_pair pair;
    int r = *s ? 0 : -EINVAL;

    while (*s && !r) {
        if (!key_next(&s, &pair))
            return -EINVAL;
        r = policy_tune_set(out, pair.key, pair.value);
    }
    return r;
}

const char *valid_policy(const char *s)
{
    struct policy_tune tune = policy_tune_default();

    switch (valid_parse_policy(s, &tune)) {
    case 0:
        return NULL;
    case -ENOENT:
        return "names of thresholds as in docs/policies.md, such as \"trigger=4,cpu=50\"";
    case -ERANGE:
        return "values in the ranges of docs/policies.md";
    default:
        return "\"NAME=NUMBER,NAME=NUMBER\"";
    }
}

/* The least of three. */
static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

unsigned valid_distance(const char *a, const char *b)
{
    unsigned d[WORD + 1][WORD + 1];
    size_t n = strlen(a), m = strlen(b);

    if (n > WORD || m > WORD)
        return UINT_MAX;
    for (unsigned i = 0; i <= n; i++) {
        for (unsigned j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            d[i][j] = least(d[i - 1][j] + 1, d[i][j - 1] + 1,
                            d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1, UINT_MAX);
        }
    }
    return d[n][m];
}
