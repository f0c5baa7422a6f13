/* SPDX-License-Identifier: MIT */
/*
 * Tests numbers with units: what reads, what does not, and that what is printed reads back.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/units.h"

/* One text and what it means. */
struct sample {
    const char *text; /* input */
    int ret;          /* wanted return */
    uint64_t value;   /* wanted value when ret is 0 */
};

typedef int parse_fn(const char *text, uint64_t *out);

/* Runs samples up to the one without text; a failure leaves the output alone. */
static void run(parse_fn *parse, const struct sample *s)
{
    for (; s->text; s++) {
        uint64_t v = 0x5a5a;

        assert_int_equal(parse(s->text, &v), s->ret);
        assert_true(v == (s->ret ? 0x5a5a : s->value));
    }
}

static void test_sizes(void **state)
{
    static const struct sample samples[] = {
        {"0", 0, 0},
        {"1", 0, 1},
        {"4096", 0, 4096},
        {"4096B", 0, 4096},
        {"256M", 0, 256ull << 20},
        {"256m", 0, 256ull << 20},
        {"256MB", 0, 256ull << 20},
        {"256MiB", 0, 256ull << 20},
        {" 256 M", 0, 256ull << 20},
        {"4G", 0, 4ull << 30},
        {"1.5G", 0, 3ull << 29},
        {"1.50000000000000000000000000G", 0, 3ull << 29},
        {"0.5K", 0, 512},
        {"2T", 0, 2ull << 40},
        {"3P", 0, 3ull << 50},
        {"18446744073709551615", 0, UINT64_MAX},
        {"16383P", 0, 16383ull << 50},
        {"18446744073709551616", -ERANGE, 0},
        {"16384P", -ERANGE, 0},
        {"99999999999999999999999", -ERANGE, 0},
        {"1.00000000000000000001K", -ERANGE, 0},
        {"0.3K", -EINVAL, 0},
        {"1.5", -EINVAL, 0},
        {"", -EINVAL, 0},
        {" ", -EINVAL, 0},
        {"M", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {"1.G", -EINVAL, 0},
        {".5G", -EINVAL, 0},
        {"1,5G", -EINVAL, 0},
        {"1Q", -EINVAL, 0},
        {"1MM", -EINVAL, 0},
        {"1M ", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
        {"1e3", -EINVAL, 0},
        {NULL, 0, 0},
    };

    (void)state;
    run(units_parse_size, samples);
}

static void test_durations(void **state)
{
    static const struct sample samples[] = {
        {"0", 0, 0},
        {"0ns", 0, 0},
        {"7ns", 0, 7},
        {"10us", 0, 10000},
        {"10ms", 0, 10000000},
        {"1.5s", 0, 1500000000},
        {"2min", 0, 120000000000},
        {"1h", 0, 3600000000000},
        {"0.25 h", 0, 900000000000},
        {"1", -EINVAL, 0},
        {"10", -EINVAL, 0},
        {"10m", -EINVAL, 0},
        {"10MS", -EINVAL, 0},
        {"0.5ns", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"ms", -EINVAL, 0},
        {"6000000h", -ERANGE, 0},
        {NULL, 0, 0},
    };

    (void)state;
    run(units_parse_duration, samples);
}

static void test_counts(void **state)
{
    static const struct sample samples[] = {
        {"0", 0, 0},          {"250", 0, 250},       {"10k", 0, 10000},
        {"1.5M", 0, 1500000}, {"2G", 0, 2000000000}, {"1Ki", -EINVAL, 0},
        {"m", -EINVAL, 0},    {"-3", -EINVAL, 0},    {NULL, 0, 0},
    };

    (void)state;
    run(units_parse_count, samples);
}

static void test_print(void **state)
{
    char buf[UNITS_TEXT];

    (void)state;
    assert_string_equal(units_print_size(buf, 0), "0");
    assert_string_equal(units_print_size(buf, 1), "1");
    assert_string_equal(units_print_size(buf, 1023), "1023");
    assert_string_equal(units_print_size(buf, 1024), "1K");
    assert_string_equal(units_print_size(buf, 1536ull << 20), "1536M");
    assert_string_equal(units_print_size(buf, 4ull << 30), "4G");
    assert_string_equal(units_print_size(buf, UINT64_MAX), "18446744073709551615");
    assert_string_equal(units_print_duration(buf, 0), "0ns");
    assert_string_equal(units_print_duration(buf, 1500), "1500ns");
    assert_string_equal(units_print_duration(buf, 10000000), "10ms");
    assert_string_equal(units_print_duration(buf, 7200000000000), "2h");
}

/* Whatever is printed reads back as the same number. */
static void test_round_trip(void **state)
{
    uint64_t v = 1, back;
    char buf[UNITS_TEXT];

    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        v = v * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t x = (v >> (i % 64)) << (i % 7 * 10);

        assert_int_equal(units_parse_size(units_print_size(buf, x), &back), 0);
        assert_true(back == x);
        assert_int_equal(units_parse_duration(units_print_duration(buf, x), &back), 0);
        assert_true(back == x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),      cmocka_unit_test(test_durations),
        cmocka_unit_test(test_counts),     cmocka_unit_test(test_print),
        cmocka_unit_test(test_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
