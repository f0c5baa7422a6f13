/* SPDX-License-Identifier: MIT */
/*
 * Numbers with units, as people write them in configuration files and on command lines: sizes
 * ("4096", "256M", "1.5G"), durations ("10ms", "1.5s") and counts ("250", "10k").
 *
 * Interface: units_parse_*() reads the whole of a string or nothing; units_print_*() writes the
 * shortest text that reads back as exactly the same number.
 * No state: any thread may call anything.
 */
#ifndef DISCO_BASE_UNITS_H
#define DISCO_BASE_UNITS_H

#include <stdint.h>

/* Bytes that any units_print_*() may write, with the terminating zero. */
enum { UNITS_TEXT = 32 };

/*
 * Bytes.  Units K, M, G, T, P are powers of 1024 (any case; "KiB", "KB" and "B" likewise); no
 * unit means bytes.  A fraction must come out as whole bytes.  0, -EINVAL (no such text),
 * -ERANGE (above 2^64-1); *out is untouched on failure.
 */
int units_parse_size(const char *text, uint64_t *out);

/* Nanoseconds.  Units ns, us, ms, s, min, h; one is required except after 0.  As above. */
int units_parse_duration(const char *text, uint64_t *out);

/* A plain number.  Units k, M, G are powers of 1000; none is required.  As above. */
int units_parse_count(const char *text, uint64_t *out);

/* Writes bytes into buf (UNITS_TEXT bytes) so that units_parse_size() gives them back; buf. */
char *units_print_size(char *buf, uint64_t bytes);

/* Writes nanoseconds into buf (UNITS_TEXT bytes) so that units_parse_duration() gives them back. */
char *units_print_duration(char *buf, uint64_t ns);

#endif
