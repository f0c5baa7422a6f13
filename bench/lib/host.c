/* SPDX-License-Identifier: MIT */
/*
 * What machine a result was measured on: /proc/cpuinfo, uname(), the emulator that is installed, and
 * the modules of KVM.
 */
#include "bench/lib/host.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* The first line of a stream that begins so, without what comes before its colon; "unknown". */
static void first_line(char *buf, size_t size, FILE *f, const char *begin)
{
    char line[512];

    snprintf(buf, size, "unknown");
    while (f && fgets(line, sizeof(line), f)) {
        const char *colon = strchr(line, ':');

        if (strncmp(line, begin, strlen(begin)))
            continue;
        line[strcspn(line, "\n")] = 0;
        colon = *begin && colon ? colon + 1 + strspn(colon + 1, " \t") : line;
        snprintf(buf, size, "%.200s", colon);
        break;
    }
}

/* The version of the emulator that is installed. */
static json_t *emulator(void)
{
    char version[256];
    FILE *f = popen("qemu-system-x86_64 --version 2>/dev/null", "re");

    first_line(version, sizeof(version), f, "");
    if (f)
        pclose(f);
    return json_string(version);
}

/* Which KVM this is: the module that has loaded, by the name of its directory. */
static json_t *kvm(void)
{
    static const char *const kinds[] = {"kvm_intel", "kvm_amd", "kvm_pvm"};
    char path[64];

    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        snprintf(path, sizeof(path), "/sys/module/%s", kinds[i]);
        if (!access(path, F_OK))
            return json_string(kinds[i]);
    }
    return json_string("unknown");
}

struct json_t *host_json(unsigned parts)
{
    char cpu[256], cpus[32], mem[32];
    struct utsname u = {.release = "unknown"};
    FILE *f = fopen("/proc/cpuinfo", "re");
    json_t *o;

    first_line(cpu, sizeof(cpu), f, "model name");
    if (f)
        fclose(f);
    (void)uname(&u);
    snprintf(cpus, sizeof(cpus), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    snprintf(mem, sizeof(mem), "%ld",
             sysconf(_SC_PHYS_PAGES) / 1024 * (sysconf(_SC_PAGESIZE) / 1024));
    o = json_pack("{s:s, s:s, s:s, s:s}", "cpu", cpu, "cpus", cpus, "memory_mib", mem, "kernel",
                  u.release);
    if (parts & HOST_EMULATOR)
        json_object_set_new(o, "emulator", emulator());
    if (parts & HOST_KVM)
        json_object_set_new(o, "kvm", kvm());
    return o;
}
