/* SPDX-License-Identifier: MIT */
/*
 * Finding a text in a stream: in one piece and byte by byte, with false starts, once only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/device/textwatch.h"

/* Feeds a text in pieces of n bytes; the bytes fed when it was found, 0: it was not. */
static size_t feed(struct textwatch *w, const char *text, size_t n)
{
    size_t len = strlen(text);

    for (size_t at = 0; at < len; at += n) {
        size_t part = len - at < n ? len - at : n;

        if (textwatch_feed(w, (const uint8_t *)text + at, part))
            return at + part;
    }
    return 0;
}

/* Found wherever pieces end, also after beginnings that came to nothing. */
static void test_finds(void **state)
{
    static const char *const streams[] = {"login:", "lologin:", "logilogin:", "x\nlogin: "};
    struct textwatch w = {0};

    (void)state;
    for (unsigned i = 0; i < sizeof(streams) / sizeof(streams[0]); i++)
        for (size_t n = 1; n < 12; n++) {
            textwatch_set(&w, "login:");
            assert_true(feed(&w, streams[i], n) > 0);
            assert_null(w.text);
        }
    textwatch_set(&w, "aabaaa");
    assert_int_equal(feed(&w, "aabaabaaab", 1), 9);
}

/* Not found, found once, and nothing looked for. */
static void test_once(void **state)
{
    struct textwatch w = {0};

    (void)state;
    assert_int_equal(feed(&w, "login:", 1), 0);
    textwatch_set(&w, "login:");
    assert_int_equal(feed(&w, "logon: log in: ogin:", 3), 0);
    assert_int_equal(feed(&w, "login:", 6), 6);
    assert_int_equal(feed(&w, "login:", 6), 0);
    textwatch_set(&w, "a");
    textwatch_set(&w, "b"); /* forgets the first */
    assert_int_equal(feed(&w, "ab", 1), 2);
    textwatch_set(&w, "never");
    textwatch_exit(&w);
    textwatch_exit(&w);
}

/* Against strstr(), on texts of two letters, where beginnings overlap. */
static void test_random(void **state)
{
    struct textwatch w = {0};
    char text[8], stream[40];

    (void)state;
    srand(1);
    for (int round = 0; round < 20000; round++) {
        size_t len = 1 + (size_t)rand() % 6;
        const char *found;

        for (size_t i = 0; i < sizeof(stream) - 1; i++)
            stream[i] = (char)('a' + rand() % 2);
        stream[sizeof(stream) - 1] = 0;
        for (size_t i = 0; i < len; i++)
            text[i] = (char)('a' + rand() % 2);
        text[len] = 0;
        found = strstr(stream, text);
        textwatch_set(&w, text);
        assert_int_equal(feed(&w, stream, 1), found ? (size_t)(found - stream) + len : 0);
    }
    textwatch_exit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds),
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests_name("textwatch", tests, NULL, NULL);
}
