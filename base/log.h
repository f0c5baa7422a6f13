/* SPDX-License-Identifier: MIT */
/*
 * The log: four levels, format-checked, one function that writes, one line a call to stderr.
 * Threads may log at any time; a line is one write(2), so lines never mix.
 */
#ifndef DISCO_BASE_LOG_H
#define DISCO_BASE_LOG_H

/* Levels, most urgent first. */
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Sets the least urgent level that is still written (default LOG_INFO) and the name before each
 * line (a guest's name; copied, at most 63 bytes).  Call before other threads start. */
void log_init(enum log_level level, const char *name);

/* True when a line of this level would be written. */
int log_wants(enum log_level level);

/* Writes one line. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
/* Costs one comparison when off. */
#define log_debug(...)                        \
    do {                                      \
        if (log_wants(LOG_DEBUG))             \
            log_line(LOG_DEBUG, __VA_ARGS__); \
    } while (0)

#endif
