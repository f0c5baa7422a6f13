/* SPDX-License-Identifier: MIT */
/*
 * Test of vmm/machine/kvmprobe.c on this host's KVM: it answers, within its time, twice alike,
 * leaves nothing behind, and refuses what is not a KVM.  Skips where there is no /dev/kvm.
 */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/machine/kvmprobe.h"

#include <cmocka.h> /* last: its fail() is a macro */

enum { PROBE_MS = 1000 }; /* far above the usual 10, so that a loaded host does not fail */

/* Open descriptors of this process. */
static unsigned open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* The probe's answer holds together. */
static void test_probe(void **state)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    struct kvm_probe p, again;
    struct timespec from, to;
    struct err err = {0};
    unsigned fds;
    double ms;

    (void)state;
    if (kvm < 0) {
        print_message("skipped: /dev/kvm cannot be opened\n");
        skip();
    }
    fds = open_fds();
    clock_gettime(CLOCK_MONOTONIC, &from);
    if (kvm_probe(kvm, &p, &err))
        fail_msg("%s", err.text);
    clock_gettime(CLOCK_MONOTONIC, &to);
    ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
    print_message("%s: %.2f M kernel and %.0f M user instructions/s, %.1f ms\n",
                  p.emulated ? "emulated" : "native", p.kernel_ips / 1e6, p.user_ips / 1e6, ms);
    assert_true(ms < PROBE_MS);
    assert_int_equal(p.api, KVM_PROBE_API);
    assert_true(p.kernel_ips > 1e4 && p.user_ips > 1e5);
    assert_int_equal(p.emulated, p.user_ips > p.kernel_ips * KVM_PROBE_RATIO);
    assert_true(p.max_vcpus >= p.nr_vcpus && p.nr_vcpus >= 1);
    assert_true(p.nmissing <= KVM_PROBE_MISSING);
    for (unsigned i = 0; i < p.nmissing; i++)
        assert_non_null(p.missing[i]);
    assert_int_equal(kvm_probe(kvm, &again, &err), 0);
    assert_int_equal(again.emulated, p.emulated);
    assert_int_equal(open_fds(), fds);
    close(kvm);
}

/* On a host that is known to emulate guest kernels, the probe says so. */
static void test_pvm(void **state)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    struct kvm_probe p;

    (void)state;
    if (kvm < 0 || access("/sys/module/kvm_pvm", F_OK)) {
        print_message("skipped: no KVM that is known to emulate guest kernels\n");
        if (kvm >= 0)
            close(kvm);
        skip();
    }
    assert_int_equal(kvm_probe(kvm, &p, NULL), 0);
    assert_true(p.emulated);
    close(kvm);
}

/* Something that is not a KVM. */
static void test_not_kvm(void **state)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct err err = {0};
    struct kvm_probe p;

    (void)state;
    assert_true(kvm_probe(fd, &p, &err) < 0);
    assert_int_equal(err.status, EXIT_NOKVM);
    assert_non_null(strstr(err.text, "API version -1"));
    close(fd);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_pvm),
        cmocka_unit_test(test_not_kvm),
    };

    return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
