/* SPDX-License-Identifier: MIT */
/*
 * The client's side of the control socket, and what client commands have in common: options,
 * finding the monitor, one question and one answer.
 * Threads: one; calls wait for the monitor.
 */
#ifndef DISCO_VMM_MONITOR_CLIENT_H
#define DISCO_VMM_MONITOR_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct json_t;

/* Options a command may take beside --socket and --site. */
enum client_opt {
    CLIENT_JSON = 1,    /* --json */
    CLIENT_TIMEOUT = 2, /* --timeout TIME */
    CLIENT_NOW = 4,     /* --now */
    CLIENT_VIRTIO = 8,  /* --virtio */
    CLIENT_PAGES = 16,  /* --pages */
    CLIENT_OUTPUT = 32, /* -o, --output FILE */
};

/* A client command's line, read. */
struct client_line {
    const char *socket;  /* --socket, NULL */
    const char *site;    /* --site, NULL */
    const char *output;  /* --output, NULL */
    unsigned given;      /* enum client_opt, those that were there */
    uint64_t timeout_ms; /* --timeout, 0 if not given */
    char **args;         /* what is no option */
    int nargs;           /* entries of args */
};

/* Reads a command line with the options `takes` and from min to max arguments.  0, or the exit
 * status after a message was printed. */
int client_parse(struct client_line *l, int argc, char **argv, unsigned takes,
                 const int range[2]);

/* Connects to the monitor the line means: --socket, --site, or the only one there is.  Returns
 * the descriptor or -errno; EXIT_NOMONITOR when none answers, EXIT_USAGE when several run. */
int client_connect(const struct client_line *l, struct err *err);

/* Asks (takes the reference to req) and waits for the answer: a new reference, or NULL with err
 * set, be it that the monitor is gone or that its answer is "no".  Bytes after the answer's line
 * stay unread. */
struct json_t *client_ask(int fd, struct json_t *req, struct err *err);

/* Connects, asks, closes. */
struct json_t *client_call(const struct client_line *l, struct json_t *req, struct err *err);

/* Reads "30", "30s", "500ms", "5min" or "1h" as milliseconds, plain numbers being seconds; false
 * when it is none of these or longer than a day. */
bool client_time(const char *text, uint64_t *ms);

#endif
