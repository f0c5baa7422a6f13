/* SPDX-License-Identifier: MIT */
/*
 * The checks of /dev/kvm: is it there, may we use it, has it what we need, and does it run guest
 * kernels natively.  Interface: doctor_kvm().  Any failure here means that no guest runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/monitor/doctor.h"

/* The command that loads the right KVM module, from the CPU's flags. */
static const char *module_command(const struct doctor *d)
{
    static const char other[] =
        "modprobe kvm_amd || modprobe kvm_intel   # and enable SVM or VT-x "
        "in the firmware or the outer hypervisor";
    char *path = xasprintf("%s/proc/cpuinfo", d->root), *line = NULL;
    FILE *f = fopen(path, "re");
    const char *command = other;
    size_t cap = 0;

    free(path);
    while (f && command == other && getline(&line, &cap, f) > 0) {
        if (strncmp(line, "flags", 5) != 0)
            continue;
        if (strstr(line, " svm"))
            command = "modprobe kvm_amd";
        else if (strstr(line, " vmx"))
            command = "modprobe kvm_intel";
    }
    free(line);
    if (f)
        fclose(f);
    return command;
}

/* Opens /dev/kvm; -1 after saying why not. */
static int open_kvm(struct doctor *d)
{
    char *path = xasprintf("%s/dev/kvm", d->root);
    int fd = open(path, O_RDWR | O_CLOEXEC), e = errno;

    free(path);
    if (fd >= 0) {
        doctor_say(d, "/dev/kvm", DOCTOR_OK, NULL, "there, and this user may use it");
    } else if (e == EACCES || e == EPERM) {
        doctor_fail(d, "/dev/kvm", EXIT_PERMISSION,
                    "usermod -aG kvm \"$USER\"   # then log in again",
                    "there, but this user may not open it: no guest runs");
    } else if (e == ENOENT || e == ENODEV || e == ENXIO) {
        doctor_fail(d, "/dev/kvm", EXIT_NOKVM, module_command(d),
                    "not there (%s): no guest runs", strerror(e));
    } else {
        doctor_fail(d, "/dev/kvm", EXIT_NOKVM, module_command(d),
                    "cannot be opened (%s): no guest runs", strerror(e));
    }
    return fd;
}

/* Says which required capabilities are missing. */
static void say_caps(struct doctor *d)
{
    const struct kvm_probe *p = &d->probe;
    char list[512] = "";
    size_t used = 0;

    for (unsigned i = 0; i < p->nmissing && used < sizeof(list); i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "",
                                 p->missing[i]);
    if (p->nmissing)
        doctor_fail(d, "KVM capabilities", EXIT_NOKVM, "boot Linux 5.19 or newer",
                    "missing: %s: no guest runs", list);
    else
        doctor_say(d, "KVM capabilities", DOCTOR_OK, NULL,
                   "all required ones; up to %u vCPUs and %u memory slots in a view",
                   p->max_vcpus, p->nr_memslots);
}

/* Says how fast guest code runs in both rings. */
static void say_speed(struct doctor *d)
{
    const struct kvm_probe *p = &d->probe;

    if (p->emulated)
        doctor_fail(d, "guest kernels", EXIT_EMULATED,
                    "make lab   # or a host with hardware virtualization",
                    "emulated by this KVM: %.1f M instructions/s in the kernel, %.0f M in user "
                    "code; no stock kernel boots in useful time",
                    p->kernel_ips / 1e6, p->user_ips / 1e6);
    else
        doctor_say(d, "guest kernels", DOCTOR_OK, NULL,
                   "run natively: %.0f M instructions/s in the kernel, %.0f M in user code",
                   p->kernel_ips / 1e6, p->user_ips / 1e6);
}

void doctor_kvm(struct doctor *d)
{
    struct err err = {0};
    int fd = open_kvm(d), rc;

    if (fd < 0)
        return;
    rc = kvm_probe(fd, &d->probe, &err);
    close(fd);
    if (d->probe.api != KVM_PROBE_API) {
        doctor_fail(d, "KVM API", EXIT_NOKVM, module_command(d), "%s", err.text);
        return;
    }
    doctor_say(d, "KVM API", DOCTOR_OK, NULL, "version %d", d->probe.api);
    say_caps(d);
    if (rc) {
        doctor_fail(d, "guest kernels", EXIT_NOKVM,
                    "dmesg | grep -i kvm   # the kernel may say why", "%s", err.text);
        return;
    }
    d->probed = true;
    say_speed(d);
}
