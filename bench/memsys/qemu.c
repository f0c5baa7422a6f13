/* SPDX-License-Identifier: MIT */
/*
 * Is the program that loaded us the QEMU we know?  Finds what we call in it and compares layouts.
 * Whatever is not as expected is said in one line; then nothing is modelled and the emulator ends.
 * Threads: called once, before the CPUs run.
 */
#include "bench/memsys/qemu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The version the program prints; 0, or -1 when it prints none. */
static int program_version(char *buf, unsigned size)
{
    char command[64], line[256];
    const char *at;
    FILE *f;

    snprintf(command, sizeof(command), "/proc/%d/exe --version 2>/dev/null", (int)getpid());
    f = popen(command, "re");
    if (!f)
        return -1;
    if (!fgets(line, sizeof(line), f))
        *line = 0;
    pclose(f);
    at = strstr(line, "version ");
    if (!at)
        return -1;
    snprintf(buf, size, "%.*s", (int)strcspn(at + 8, " \n"), at + 8);
    return 0;
}

/* A function or variable of the program; NULL, with a line said, when there is none. */
static void *symbol(const char *name)
{
    void *f = dlsym(RTLD_DEFAULT, name);

    if (!f)
        fprintf(stderr, "memsys: this QEMU does not export %s; Debian's 7.2 does\n", name);
    return f;
}

/* Does the word of an access look as qemu_is_store() and qemu_size() believe? */
static bool layout_known(void)
{
    for (uint32_t i = 0; i < 1U << 10; i++) {
        qemu_plugin_meminfo_t info = (i & 0xff) | (i >> 8) << 16;

        if (qemu_plugin_mem_is_store(info) != qemu_is_store(info))
            return false;
        if ((info >> 4 & 7) <= 4 && 1U << qemu_plugin_mem_size_shift(info) != qemu_size(info))
            return false;
    }
    return true;
}

int qemu_check(struct qemu *q, const char *version, const struct qemu_info *info)
{
    char is[64];

    if (!info->system_emulation || strcmp(info->target_name, "x86_64")) {
        fprintf(stderr, "memsys: %s is emulated; only whole x86_64 machines can be modelled\n",
                info->target_name);
        return -1;
    }
    if (program_version(is, sizeof(is))) {
        fprintf(stderr, "memsys: the program that loaded this does not tell its version\n");
        return -1;
    }
    if (strncmp(is, version, strlen(version))) {
        fprintf(stderr,
                "memsys: this is QEMU %s; what is modelled rests on the insides of %s\n", is,
                version);
        return -1;
    }
    /* ISO C forbids casting a data pointer to a function's; POSIX wants it. */
    *(void **)&q->get_cpu = symbol("qemu_get_cpu");
    *(void **)&q->cpu_exit = symbol("cpu_exit");
    *(void **)&q->disable_mem_helpers = symbol("qemu_plugin_disable_mem_helpers");
    q->several_threads = symbol("mttcg_enabled");
    if (!q->get_cpu || !q->cpu_exit || !q->disable_mem_helpers || !q->several_threads)
        return -1;
    if (!layout_known()) {
        fprintf(stderr, "memsys: this QEMU describes accesses in another way than 7.2 does\n");
        return -1;
    }
    return 0;
}
