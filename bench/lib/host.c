/* SPDX-License-Identifier: MIT */
/*
 * What machine a result was measured on: /proc/cpuinfo, uname(), and the emulator that is installed.
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

struct json_t *host_json(void)
{
    char cpu[256], emulator[256], cpus[32], mem[32];
    struct utsname u = {.release = "unknown"};
    FILE *f = fopen("/proc/cpuinfo", "re");

    first_line(cpu, sizeof(cpu), f, "model name");
    if (f)
        fclose(f);
    f = popen("qemu-system-x86_64 --version 2>/dev/null", "re");
    first_line(emulator, sizeof(emulator), f, "");
    if (f)
        pclose(f);
    (void)uname(&u);
    snprintf(cpus, sizeof(cpus), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    snprintf(mem, sizeof(mem), "%ld",
             sysconf(_SC_PHYS_PAGES) / 1024 * (sysconf(_SC_PAGESIZE) / 1024));
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "cpu", cpu, "cpus", cpus, "memory_mib", mem,
                     "kernel", u.release, "emulator", emulator);
}
