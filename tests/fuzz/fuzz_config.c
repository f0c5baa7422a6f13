/* SPDX-License-Identifier: MIT */
/*
 * Feeds hostile text to config_load() and config_parse_guest(): nothing may crash, fail without a
 * message, or leave anything behind; and what is taken must print and read back the same.
 * Interface: LLVMFuzzerTestOneInput() for libFuzzer (build with -Dmain=unused); main() for any
 * compiler: files named as arguments, or a number of damaged seeds (default 20000, or argument
 * -N).
 * Threads: one.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/config/config.h"

enum {
    INPUT = 16384, /* longest input, bytes */
    LOOK = 4,      /* guests of a site that are printed and read back */
};

/* libconfig itself loses the string it is reading at a syntax error. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so\n";
}

/* What main() counts. */
static struct {
    unsigned long tried, taken; /* inputs; sites that were right after all */
} counts;

/* Whole files, which main() damages. */
static const char *const seeds[] = {
    "name = \"s\"; subnet = \"10.0.0.0/24\"; socket = \"s\"; rundir = \"/r\";\n"
    "templates = { a = { kernel = \"k\"; vcpus = 2; nodes = (0, \"1-3\"); };\n"
    "  b = { template = \"a\"; disks = ( { path = \"d%n\"; queues = 2 } ); }; };\n"
    "guests = ( { name = \"w\"; template = \"b\"; count = 3; memory = \"64M\";\n"
    "  nets = ( { type = \"tap\"; tap = \"t%n\"; mac = \"52:54:00:00:00:0%n\"; } );\n"
    "  console = \"file:/c%g\"; cmdline = \"a=%% \\\"q\\\"\"; },\n"
    "  { name = \"v\"; template = \"a\"; views = \"auto\"; vconsole = { type = \"pty\" } } "
    ");\n",
    "kernel = \"/k\"; initrd = \"/i\"; cmdline = \"console=ttyS0\"; memory = 268435456;\n"
    "nets = ( { type = \"user\"; hostfwd = \"tcp::2222-:22,udp:127.0.0.1:5-10.0.2.15:5\" } );\n"
    "hugepages = \"hugetlb\"; boot = \"pvh\"; clock = \"kvmclock\"; views = 1; weight = 5;\n"
    "x2apic = false; on_reset = \"restart\"; ready = \"login:\"; nodes = [3]; # end\n",
    ("name = \"g\"; kernel = \"/k\"; site = \"s\"; file = \"f\"; line = 7; cmdline = \"%%\";\n"
     "/* block */ // line\n@include \"x\"\n"),
};

/* What damage puts in. */
static const char *const pieces[] = {
    "{",         "}",  "(",      ")",       "[",
    "]",         ";",  "\"",     "=",       ",",
    "@include ", "/*", "*",      "%",       "-1",
    "1.5",       "\n", "\\",     "true",    "auto",
    ":",         "{}", "#",      "L",       "0x1f",
    "/",         "%n", "\\x00",  "\\xff",   "99999999999999999999",
    "vcpus",     "0-", "K",      ".",       "\xff",
    "\0",        "()", "name =", "count =", "template = \"a\"",
};

/* Aborts with what went wrong, so that the fuzzer keeps the input. */
static void demand(int right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "fuzz_config: %s\n", what);
    abort();
}

/* Prints a guest, reads it back, and wants the same text from that. */
static void round_trip(const struct guest_cfg *g)
{
    char *first = config_print_guest(g), *second;
    struct guest_cfg back;
    struct err err = {0};

    if (config_parse_guest(&back, first, &err)) {
        fprintf(stderr, "%s\nof\n%s", err.text, first);
        demand(0, "a printed guest does not read back");
    }
    second = config_print_guest(&back);
    demand(!strcmp(first, second), "a printed guest reads back as another");
    config_free_guest(&back);
    free(second);
    free(first);
}

/* Tries the input as a file. */
static void try_file(const uint8_t *data, size_t len)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    struct site_cfg site;
    struct err err = {0};
    char path[32];

    demand(fd >= 0 && write(fd, data, len) == (ssize_t)len, "no memory for the input");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    counts.tried++;
    if (config_load(&site, path, &err)) {
        demand(err.status && err.text[0], "a failure without a message");
        demand(!site.guests && !site.nguests, "a failure that leaves guests");
    } else {
        counts.taken++;
        demand(!err.status && site.nguests, "a success with a message, or without guests");
        for (unsigned i = 0; i < site.nguests && i < LOOK; i++)
            round_trip(&site.guests[i]);
    }
    config_free(&site);
    close(fd);
}

/* Tries the input as the text of one guest. */
static void try_text(const uint8_t *data, size_t len)
{
    char *text = xcalloc(1, len + 1);
    struct guest_cfg g;
    struct err err = {0};

    memcpy(text, data, len);
    if (!config_parse_guest(&g, text, &err))
        round_trip(&g);
    else
        demand(err.status && err.text[0], "a failure without a message");
    config_free_guest(&g);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len > INPUT)
        return 0;
    try_file(data, len);
    try_text(data, len);
    return 0;
}

/* Damages one place of an input; returns its new length. */
static size_t damage(char *in, size_t len, unsigned *seed)
{
    const char *piece = pieces[(size_t)rand_r(seed) % (sizeof(pieces) / sizeof(pieces[0]))];
    size_t add = rand_r(seed) % 4 ? strlen(piece) : 0;
    size_t at = (size_t)rand_r(seed) % (len + 1);
    size_t cut = rand_r(seed) % 2 ? (size_t)rand_r(seed) % 6 : 0;

    if (cut > len - at)
        cut = len - at;
    if (len - cut + add > INPUT)
        return len;
    memmove(in + at + add, in + at + cut, len - at - cut);
    memcpy(in + at, piece, add);
    return len - cut + add;
}

/* Tries n damaged seeds. */
static void try_seeds(long n)
{
    char *in = xcalloc(1, INPUT);
    unsigned seed = 1;

    for (long i = 0; i < n; i++) {
        const char *text = seeds[(size_t)i % (sizeof(seeds) / sizeof(seeds[0]))];
        size_t len = strlen(text);

        memcpy(in, text, len);
        for (int k = rand_r(&seed) % 5; k; k--)
            len = damage(in, len, &seed);
        LLVMFuzzerTestOneInput((const uint8_t *)in, len);
    }
    free(in);
}

int main(int argc, char **argv)
{
    long rounds = 20000;

    if (!fuzz_args(argc, argv, INPUT, &rounds))
        return 2;
    try_seeds(rounds);
    printf("fuzz_config: %lu inputs, %lu taken\n", counts.tried, counts.taken);
    return 0;
}
