/* SPDX-License-Identifier: MIT */
/*
 * Tests that the model's plugin refuses a program that is not the QEMU it knows.  This program plays
 * the emulator: asked for --version, as the plugin asks, it says what the variable FAKE_VERSION
 * says.  It exports none of the functions that are looked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench/memsys/qemu.h"

/* The two functions of the plugin interface that are compared are here. */

QEMU_EXPORT bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info)
{
    return info >> 17 & 1;
}

QEMU_EXPORT unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info)
{
    return info >> 4 & 7;
}

/* What qemu_check() says on standard error, in buf, and its return. */
static int check(const char *fake, const char *target, bool system, char buf[512])
{
    struct qemu_info info = {.target_name = target, .system_emulation = system};
    char path[] = "/tmp/test_memsys_qemu.XXXXXX";
    int fd = mkstemp(path), keep = dup(2), ret;
    struct qemu q;
    ssize_t n;

    assert_true(fd >= 0 && keep >= 0);
    unlink(path);
    if (fake)
        setenv("FAKE_VERSION", fake, 1);
    else
        unsetenv("FAKE_VERSION");
    fflush(stderr);
    dup2(fd, 2);
    ret = qemu_check(&q, "7.2", &info);
    fflush(stderr);
    dup2(keep, 2);
    close(keep);
    n = pread(fd, buf, 511, 0);
    close(fd);
    buf[n > 0 ? n : 0] = 0;
    return ret;
}

/* Refused with one line that says this. */
static void refused(const char *fake, const char *target, bool system, const char *say)
{
    char buf[512];

    assert_int_equal(check(fake, target, system, buf), -1);
    if (!strstr(buf, say) || strncmp(buf, "memsys: ", 8) || strchr(buf, '\n')[1] == 'm')
        fail_msg("%s", buf);
}

static void test_target(void **state)
{
    (void)state;
    refused("QEMU emulator version 7.2.22", "aarch64", true,
            "aarch64 is emulated; only whole x86_64");
    refused("QEMU emulator version 7.2.22", "x86_64", false, "only whole x86_64 machines");
}

static void test_version(void **state)
{
    (void)state;
    refused("QEMU emulator version 8.0.2 (Debian)", "x86_64", true,
            "this is QEMU 8.0.2; what is modelled rests on the insides of 7.2");
    refused("QEMU emulator version 6.7.2", "x86_64", true, "this is QEMU 6.7.2");
    refused("something else", "x86_64", true, "does not tell its version");
    refused(NULL, "x86_64", true, "does not tell its version");
}

static void test_symbols(void **state)
{
    char buf[512];

    (void)state;
    /* All of them are missing: each is named. */
    assert_int_equal(check("QEMU emulator version 7.2.22 (Debian)", "x86_64", true, buf), -1);
    assert_non_null(strstr(buf, "this QEMU does not export qemu_get_cpu; Debian's 7.2 does"));
    assert_non_null(strstr(buf, "cpu_exit"));
    assert_non_null(strstr(buf, "qemu_plugin_disable_mem_helpers"));
    assert_non_null(strstr(buf, "mttcg_enabled"));
}

/* The word of an access is read as 7.2 writes it. */
static void test_word(void **state)
{
    (void)state;
    assert_true(qemu_is_store(1 << 17 | 3 << 4));
    assert_false(qemu_is_store(1 << 16 | 3 << 4));
    assert_int_equal(qemu_size(3 << 4), 8);
    assert_int_equal(qemu_size(0), 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_target),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_symbols),
        cmocka_unit_test(test_word),
    };

    if (argc == 2 && !strcmp(argv[1], "--version")) {
        puts(getenv("FAKE_VERSION") ? getenv("FAKE_VERSION") : "");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
