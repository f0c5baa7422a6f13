/* SPDX-License-Identifier: MIT */
/*
 * Reads and prints numbers with units.  One reader walks a table of units; the three kinds of
 * number differ only in their table.  Arithmetic is exact (integers only) and checked.
 */
#include "base/units.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* One unit: its name and how many base units it is worth. */
struct unit {
    const char *name; /* as written after the number; "" stands for none */
    uint64_t worth;   /* base units (bytes, nanoseconds, ones) */
    bool any_case;    /* letters may be of either case */
};

/* A number read so far: mantissa / scale, so 1.5 is 15 / 10. */
struct decimal {
    uint64_t mantissa; /* all digits, the point left out */
    uint64_t scale;    /* a power of ten */
};

/* Sizes.  The first name of a worth is the one printed. */
static const struct unit size_units[] = {
    {"", 1, true},
    {"B", 1, true},
    {"K", 1ull << 10, true},
    {"KB", 1ull << 10, true},
    {"KiB", 1ull << 10, true},
    {"M", 1ull << 20, true},
    {"MB", 1ull << 20, true},
    {"MiB", 1ull << 20, true},
    {"G", 1ull << 30, true},
    {"GB", 1ull << 30, true},
    {"GiB", 1ull << 30, true},
    {"T", 1ull << 40, true},
    {"TB", 1ull << 40, true},
    {"TiB", 1ull << 40, true},
    {"P", 1ull << 50, true},
    {"PB", 1ull << 50, true},
    {"PiB", 1ull << 50, true},
    {NULL, 0, false},
};

/* Durations; case matters, "M" would be ambiguous. */
static const struct unit duration_units[] = {
    {"ns", 1, false},         {"us", 1000, false},         {"ms", 1000000, false},
    {"s", 1000000000, false}, {"min", 60000000000, false}, {"h", 3600000000000, false},
    {NULL, 0, false},
};

/* Counts. */
static const struct unit count_units[] = {
    {"", 1, false},        {"k", 1000, false},       {"K", 1000, false},
    {"M", 1000000, false}, {"G", 1000000000, false}, {NULL, 0, false},
};

/* Appends one digit to the mantissa; false when it no longer fits. */
static bool add_digit(struct decimal *d, char c)
{
    return !__builtin_mul_overflow(d->mantissa, 10u, &d->mantissa) &&
           !__builtin_add_overflow(d->mantissa, (uint64_t)(c - '0'), &d->mantissa);
}

/* Reads the digits after a point; trailing zeros count for nothing. */
static int read_fraction(const char **p, struct decimal *d)
{
    size_t digits = strspn(*p, "0123456789"), used = digits;

    if (!digits)
        return -EINVAL;
    while (used && (*p)[used - 1] == '0')
        used--;
    for (size_t i = 0; i < used; i++) {
        if (!add_digit(d, (*p)[i]) || __builtin_mul_overflow(d->scale, 10u, &d->scale))
            return -ERANGE;
    }
    *p += digits;
    return 0;
}

/* Reads digits, and a point with digits; *p ends behind them. */
static int read_decimal(const char **p, struct decimal *d)
{
    *d = (struct decimal){.mantissa = 0, .scale = 1};
    if (**p < '0' || **p > '9')
        return -EINVAL;
    for (; **p >= '0' && **p <= '9'; (*p)++) {
        if (!add_digit(d, **p))
            return -ERANGE;
    }
    if (**p != '.')
        return 0;
    (*p)++;
    return read_fraction(p, d);
}

/* Finds a unit by its whole name. */
static const struct unit *find_unit(const struct unit *table, const char *name)
{
    for (; table->name; table++) {
        if (!(table->any_case ? strcasecmp(name, table->name) : strcmp(name, table->name)))
            return table;
    }
    return NULL;
}

/* mantissa / scale * worth, exact or refused. */
static int multiply(const struct decimal *d, uint64_t worth, uint64_t *out)
{
    unsigned __int128 v = (unsigned __int128)d->mantissa * worth;

    if (v % d->scale)
        return -EINVAL;
    v /= d->scale;
    if (v > UINT64_MAX)
        return -ERANGE;
    *out = (uint64_t)v;
    return 0;
}

/* Reads a number and one unit of the table; blanks are allowed between them and around. */
static int parse(const char *text, const struct unit *table, uint64_t *out)
{
    const struct unit *unit;
    struct decimal d;
    int ret;

    text += strspn(text, " \t");
    ret = read_decimal(&text, &d);
    if (ret)
        return ret;
    text += strspn(text, " \t");
    unit = find_unit(table, text);
    if (!unit)
        return -EINVAL;
    return multiply(&d, unit->worth, out);
}

int units_parse_size(const char *text, uint64_t *out)
{
    return parse(text, size_units, out);
}

int units_parse_duration(const char *text, uint64_t *out)
{
    if (!strcmp(text, "0")) {
        *out = 0;
        return 0;
    }
    return parse(text, duration_units, out);
}

int units_parse_count(const char *text, uint64_t *out)
{
    return parse(text, count_units, out);
}

/* Prints v by the largest unit that divides it; of equal ones, the first. */
static char *print(char *buf, uint64_t v, const struct unit *table)
{
    const struct unit *best = table;

    for (const struct unit *u = table; u->name; u++) {
        if (v && v % u->worth == 0 && u->worth > best->worth)
            best = u;
    }
    snprintf(buf, UNITS_TEXT, "%llu%s", (unsigned long long)(v / best->worth), best->name);
    return buf;
}

char *units_print_size(char *buf, uint64_t bytes)
{
    return print(buf, bytes, size_units);
}

char *units_print_duration(char *buf, uint64_t ns)
{
    return print(buf, ns, duration_units);
}
