/* SPDX-License-Identifier: MIT */
/*
 * Finding a monitor and talking to it.
 *
 * The monitor is trusted as far as its user is (only the owner can make the socket), but it may
 * die at any moment: every read and write is checked, and an answer has a largest size.
 * Threads: one; no state.
 */
#include "vmm/monitor/client.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/units.h"
#include "vmm/config/config.h"
#include "vmm/monitor/commands.h"

enum {
    ANSWER_MAX = 64 << 20, /* bytes of an answer, at most */
    DAY_MS = 86400000,     /* longest time a command takes, ms */
};

bool client_time(const char *text, uint64_t *ms)
{
    uint64_t ns;

    if (!units_parse_count(text, ms)) { /* no unit: seconds */
        if (*ms > DAY_MS / 1000)
            return false;
        *ms *= 1000;
        return true;
    }
    if (units_parse_duration(text, &ns))
        return false;
    *ms = (ns + 999999) / 1000000;
    return *ms <= DAY_MS;
}

/* The option of getopt's letter, or 0. */
static unsigned opt_of(int letter)
{
    switch (letter) {
    case 'j':
        return CLIENT_JSON;
    case 't':
        return CLIENT_TIMEOUT;
    case 'n':
        return CLIENT_NOW;
    case 'V':
        return CLIENT_VIRTIO;
    case 'p':
        return CLIENT_PAGES;
    case 'o':
        return CLIENT_OUTPUT;
    default:
        return 0;
    }
}

int client_parse(struct client_line *l, int argc, char **argv, unsigned takes,
                 const int range[2])
{
    static const struct option longopts[] = {
        {"socket", required_argument, NULL, 's'},
        {"site", required_argument, NULL, 'N'},
        {"json", no_argument, NULL, 'j'},
        {"timeout", required_argument, NULL, 't'},
        {"now", no_argument, NULL, 'n'},
        {"virtio", no_argument, NULL, 'V'},
        {"pages", no_argument, NULL, 'p'},
        {"output", required_argument, NULL, 'o'},
        {0},
    };
    int o;

    *l = (struct client_line){0};
    while ((o = getopt_long(argc, argv, takes & CLIENT_OUTPUT ? ":s:o:" : ":s:", longopts,
                            NULL)) != -1) {
        if (o == 's')
            l->socket = optarg;
        else if (o == 'N')
            l->site = optarg;
        else if (o == 'o' && (takes & CLIENT_OUTPUT))
            l->output = optarg;
        else if (!(opt_of(o) & takes))
            return cmd_option(argv[0], o, argv);
        if (o == 't' && !client_time(optarg, &l->timeout_ms))
            return cmd_usage(
                argv[0], "'%s' is no time: want 30, 30s, 500ms, 5min or 1h, up to 24h", optarg);
        l->given |= opt_of(o);
    }
    l->args = argv + optind;
    l->nargs = argc - optind;
    if (l->nargs < range[0] || l->nargs > range[1])
        return cmd_usage(argv[0], l->nargs < range[0] ? "an argument is missing"
                                                      : "there are too many arguments");
    return 0;
}

/* Connects to a socket: the descriptor or -errno. */
static int try_connect(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd, e;

    if (strlen(path) >= sizeof(sa.sun_path))
        return -ENAMETOOLONG;
    memcpy(sa.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || !connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
        return fd < 0 ? -errno : fd;
    e = errno;
    close(fd);
    return -e;
}

/* Connects to the socket somebody named. */
static int connect_to(const char *path, struct err *err)
{
    int fd = try_connect(path);

    /* three ways not to be there, each with its own remedy */
    if (fd == -ENOENT)
        return fail(err, EXIT_NOMONITOR, ENOENT,
                    "no monitor runs at %s: `disco up FILE` starts one", path);
    if (fd == -ECONNREFUSED)
        return fail(
            err, EXIT_NOMONITOR, ECONNREFUSED,
            "the monitor of %s is gone without a farewell: `disco up FILE` starts another",
            path);
    if (fd == -EACCES || fd == -EPERM)
        return fail(err, EXIT_PERMISSION, EACCES,
                    "the control socket %s belongs to another user: become that user", path);
    return fd < 0 ? fail_errno(err, EXIT_NOMONITOR, -fd, "the monitor at %s cannot be reached",
                               path)
                  : fd;
}

/* True for a name that ends in ".sock". */
static bool is_socket_name(const char *name)
{
    size_t n = strlen(name);

    return n > 5 && !strcmp(name + n - 5, ".sock");
}

/* What the search of the usual directory found. */
struct found {
    int fd;          /* a connection to the first that answered; -1 */
    unsigned n;      /* monitors that answered */
    char names[512]; /* their names, for a message */
};

/* Looks for monitors that answer in one directory. */
static void search(const char *dir, struct found *f)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        char *path;
        size_t len = strlen(f->names);
        int fd;

        if (!is_socket_name(e->d_name))
            continue;
        path = xasprintf("%s/%s", dir, e->d_name);
        fd = try_connect(path);
        free(path);
        if (fd < 0)
            continue; /* stale, or another user's */
        snprintf(f->names + len, sizeof(f->names) - len, "%s%.*s", f->n ? ", " : "",
                 (int)(strlen(e->d_name) - 5), e->d_name);
        if (f->n++)
            close(fd);
        else
            f->fd = fd;
    }
    if (d)
        closedir(d);
}

/* Connects to the only monitor in the usual directory. */
static int connect_only(struct err *err)
{
    char *dir = config_default_socket("x"), *slash = strrchr(dir, '/');
    struct found f = {.fd = -1};
    int r;

    if (slash)
        *slash = 0;
    search(dir, &f);
    r = f.fd;
    if (f.n == 0)
        r = fail(err, EXIT_NOMONITOR, ENOENT,
                 "no monitor runs (none answers in %s): `disco up FILE` starts one", dir);
    if (f.n > 1) {
        close(f.fd);
        r = fail(err, EXIT_USAGE, EINVAL, "several monitors run: say --site with one of %s",
                 f.names);
    }
    free(dir);
    return r;
}

int client_connect(const struct client_line *l, struct err *err)
{
    char *path;
    int fd;

    if (l->socket)
        return connect_to(l->socket, err);
    if (!l->site)
        return connect_only(err);
    path = config_default_socket(l->site);
    fd = connect_to(path, err);
    free(path);
    return fd;
}

/* Sends all of a text. */
static int send_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        p += done;
        n -= (size_t)done;
    }
    return 0;
}

/* Reads up to and with a newline, and not a byte more; malloc'd, NULL at the end of the stream. */
static char *read_line(int fd)
{
    size_t len = 0, cap = 4096;
    char *p = xcalloc(1, cap), *nl;
    ssize_t n, take;

    for (;;) {
        if (len == cap) {
            cap *= 2;
            p = cap <= ANSWER_MAX ? realloc(p, cap) : NULL;
            INVARIANT(p, "an answer fits in memory");
        }
        /* look first, then take no more than the line: a console's bytes may follow it */
        n = recv(fd, p + len, cap - len, MSG_PEEK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        nl = memchr(p + len, '\n', (size_t)n);
        take = recv(fd, p + len, nl ? (size_t)(nl - p) - len + 1 : (size_t)n, 0);
        if (take <= 0)
            break;
        len += (size_t)take;
        if (nl) {
            p[len - 1] = 0;
            return p;
        }
    }
    free(p);
    return NULL;
}

struct json_t *client_ask(int fd, struct json_t *req, struct err *err)
{
    char *text = json_dumps(req, JSON_COMPACT), *line = NULL;
    json_t *rep = NULL;

    json_decref(req);
    if (!text) {
        fail(err, EXIT_USAGE, EINVAL, "an argument is no UTF-8 text");
        return NULL;
    }
    if (!send_all(fd, text, strlen(text)) && !send_all(fd, "\n", 1))
        line = read_line(fd);
    free(text);
    if (line)
        rep = json_loads(line, 0, NULL);
    free(line);
    if (json_is_true(json_object_get(rep, "ok")))
        return rep;
    if (json_is_string(json_object_get(rep, "error")))
        fail(err, (enum exit_status)json_integer_value(json_object_get(rep, "status")), EINVAL,
             "%s", json_string_value(json_object_get(rep, "error")));
    else
        fail(err, EXIT_NOMONITOR, EPIPE, "the monitor ended without an answer");
    json_decref(rep);
    return NULL;
}

struct json_t *client_call(const struct client_line *l, struct json_t *req, struct err *err)
{
    int fd = client_connect(l, err);
    json_t *rep;

    if (fd < 0) {
        json_decref(req);
        return NULL;
    }
    rep = client_ask(fd, req, err);
    close(fd);
    return rep;
}
