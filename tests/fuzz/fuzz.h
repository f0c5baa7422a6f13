/* SPDX-License-Identifier: MIT */
/*
 * What every fuzz program shares: its arguments, inputs from files, and numbers for its mutator.
 *
 * A program gives LLVMFuzzerTestOneInput(), which libFuzzer calls (build with -Dmain=unused), and a
 * main() for any compiler, which begins with fuzz_args() and then runs as many rounds of its own
 * mutator.  Threads: one.
 */
#ifndef DISCO_TESTS_FUZZ_FUZZ_H
#define DISCO_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define FUZZ_SEED 0x9e3779b97f4a7c15ull /* any number but 0, where rnd() begins */

/* Tries one input; 0, as libFuzzer wants. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The next number of a fixed sequence (xorshift), so that a run can be repeated. */
static inline uint32_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return (uint32_t)(*s >> 16);
}

/* Tries the first `most` bytes of a file; false after a message when it cannot be read. */
static inline bool fuzz_file(const char *name, size_t most)
{
    FILE *f = fopen(name, "rb");
    uint8_t *in = malloc(most);
    bool ok = f && in;

    if (ok)
        LLVMFuzzerTestOneInput(in, fread(in, 1, most, f));
    else
        perror(name);
    if (f)
        fclose(f);
    free(in);
    return ok;
}

/*
 * Tries the files that are named (of each `most` bytes at most), and leaves in *rounds how many
 * rounds are wanted: N of the last argument -N, else as it was when there are no arguments, else 0.
 * False after a message: a file could not be read.
 */
static inline bool fuzz_args(int argc, char **argv, size_t most, long *rounds)
{
    if (argc > 1)
        *rounds = 0;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-')
            *rounds = strtol(argv[i] + 1, NULL, 10);
        else if (!fuzz_file(argv[i], most))
            return false;
    }
    return true;
}

#endif
