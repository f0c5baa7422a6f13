/* SPDX-License-Identifier: MIT */
/* Tests of the Internet checksum against RFC 1071's example and a slow one, at all alignments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <cmocka.h>

#include "tests/unit/tcpframe.h"
#include "vmm/device/csum.h"

/* RFC 1071, section 3. */
static void rfc_example(void **state)
{
    static const uint8_t bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

    (void)state;
    assert_int_equal(ntohs(csum_fold(csum_add(0, bytes, 8))), 0xddf2);
    assert_int_equal(ntohs(csum_field(csum_add(0, bytes, 8))), 0x220d);
    assert_int_equal(csum_fold(0), 0);
    assert_int_equal(csum_field(0), 0xffff);
    assert_int_equal(csum_field(csum_add(0, "\xff\xff", 2)), 0xffff); /* never 0 */
}

/* Every length and alignment, in memory that ends where the bytes end. */
static void lengths(void **state)
{
    (void)state;
    for (size_t len = 0; len < 70; len++) {
        for (size_t off = 0; off < 9; off++) {
            uint8_t *p = malloc(off + len + 1);

            for (size_t i = 0; i < len; i++)
                p[off + i] = (uint8_t)(0xff - tf_byte(i + off));
            p = realloc(p, off + len + !(off + len));
            assert_int_equal(ntohs(csum_fold(csum_add(0, p + off, len))),
                             tf_sum(0, p + off, len));
            free(p);
        }
    }
}

/* The largest of frames, all ones: no carry is lost. */
static void carries(void **state)
{
    uint8_t *p = malloc(65600);

    (void)state;
    memset(p, 0xff, 65600);
    assert_int_equal(csum_fold(csum_add(UINT32_MAX, p, 65600)), 0xffff);
    p[65599] = 0xfe;
    assert_int_equal(ntohs(csum_fold(csum_add(0, p, 65600))), tf_sum(0, p, 65600));
    free(p);
}

/* Odd starts, odd ends, a field at the very end; nothing else of the frame changes. */
static void finishes(void **state)
{
    uint8_t f[64], was[64];

    (void)state;
    for (size_t len = 8; len < sizeof(f); len++) {
        for (size_t start = 0; start + 2 <= len; start++) {
            size_t at = start + 2 * ((len - start - 2) / 2);

            for (size_t i = 0; i < sizeof(f); i++)
                f[i] = tf_byte(i);
            memcpy(was, f, sizeof(f));
            f[at] = was[at] = 0x12;
            f[at + 1] = was[at + 1] = 0x34;
            csum_finish(f, len, start, at);
            /* The field held 0x1234, which a receiver's sum has to find missing. */
            assert_int_equal(tf_sum(0x1234, f + start, len - start), 0xffff);
            memcpy(f + at, was + at, 2);
            assert_memory_equal(f, was, sizeof(f));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc_example),
        cmocka_unit_test(lengths),
        cmocka_unit_test(carries),
        cmocka_unit_test(finishes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
