/* SPDX-License-Identifier: MIT */
/*
 * A process that makes and frees many cells keeps nothing of them: descriptors, threads, memfds
 * and mappings are as many afterwards as before; whether they ran or not, and when making fails.
 * Threads: this one, and the cells'.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/place.h"
#include "vmm/cell/cell.h"
#include "vmm/cell/opener.h"
#include "vmm/config/config.h"

#include <cmocka.h> /* last: its fail() is a macro */

enum { CELLS = 50 };

/* What a process holds. */
struct held {
    unsigned fds, memfds, threads, maps;
};

/* Entries of a directory; with match only links that lead to such a name. */
static unsigned entries(const char *dir, const char *match)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    unsigned n = 0;

    assert_non_null(d);
    while ((e = readdir(d))) {
        char path[PATH_MAX], to[PATH_MAX] = "";

        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        if (match && (readlink(path, to, sizeof(to) - 1) < 0 || !strstr(to, match)))
            continue;
        n++;
    }
    closedir(d);
    return n;
}

/* Mappings of this process, but for the C library's arenas, which come and stay. */
static unsigned mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned n = 0;

    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        n += strchr(line, '/') != NULL; /* of a file: memfds, vCPUs, libraries */
    fclose(f);
    return n;
}

static struct held held(void)
{
    return (struct held){.fds = entries("/proc/self/fd", NULL),
                         .memfds = entries("/proc/self/fd", "memfd:"),
                         .threads = entries("/proc/self/task", NULL),
                         .maps = mappings()};
}

/* A guest of two vCPUs in two views with every device there is; kernel: one of ours. */
static char *guest_text(const char *kernel, const char *cmdline)
{
    char self[PATH_MAX] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    assert_true(n > 0);
    *strrchr(self, '/') = 0;
    return xasprintf("name = \"leak\"; vcpus = 2; views = 2; memory = \"32M\";\n"
                     "kernel = \"%s/%s\"; cmdline = \"%s\"; boot = \"pvh\";\n"
                     "disks = ({ path = \"%s/%s\"; readonly = true; });\n"
                     "nets = ({ type = \"user\"; });\n"
                     "console = { type = \"none\"; }; debug_exit = true; fwcfg = true;\n",
                     self, kernel, cmdline, self, "exit.elf");
}

/* Makes one cell; runs it to its end if asked. */
static void one_cell(const struct guest_cfg *cfg, bool run)
{
    struct place_got place = {.views = 2, .view_node = {-1, -1}};
    struct cell_result res;
    struct err err = {0};
    struct cell_fds fds;
    struct cell *c;

    cell_fds_init(&fds);
    if (cell_open(cfg, false, &fds, &err) || cell_new(&c, cfg, &place, &fds, &err))
        fail_msg("%s", err.text);
    if (run) {
        assert_int_equal(cell_start(c, &err), 0);
        cell_wait(c, &res);
        assert_int_equal(res.end, CELL_DEBUG_EXIT);
        assert_int_equal(res.status, 33);
    }
    cell_free(c);
}

static void nothing_more_than(const struct held *before)
{
    struct held after = held();

    for (unsigned ms = 0; after.threads > before->threads && ms < 1000; ms++) {
        usleep(1000); /* a thread that was joined may be seen for a moment */
        after = held();
    }
    assert_int_equal(after.fds, before->fds);
    assert_int_equal(after.memfds, before->memfds);
    assert_int_equal(after.threads, before->threads);
    assert_int_equal(after.maps, before->maps);
}

/* Reads the guest's configuration. */
static void read_cfg(struct guest_cfg *cfg, const char *kernel)
{
    char *text = guest_text(kernel, "code=16");
    struct err err = {0};

    if (config_parse_guest(cfg, text, &err))
        fail_msg("%s", err.text);
    free(text);
}

static void many_cells(bool run)
{
    struct guest_cfg cfg;
    struct held before;

    read_cfg(&cfg, "exit.elf");
    one_cell(&cfg, run); /* what libraries keep for good */
    before = held();
    for (unsigned i = 0; i < CELLS; i++)
        one_cell(&cfg, run);
    nothing_more_than(&before);
    config_free_guest(&cfg);
}

static void cells_made_and_freed(void **state)
{
    (void)state;
    many_cells(false);
}

static void cells_run_to_their_end(void **state)
{
    (void)state;
    many_cells(true);
}

/* A kernel that cannot be booted: the cell is taken apart half made. */
static void cells_that_fail(void **state)
{
    struct place_got place = {.views = 2, .view_node = {-1, -1}};
    struct guest_cfg cfg;
    struct held before;

    (void)state;
    read_cfg(&cfg, "user.bin");
    for (unsigned i = 0; i < CELLS; i++) {
        struct err err = {0};
        struct cell_fds fds;
        struct cell *c = NULL;

        if (i == 1)
            before = held();
        cell_fds_init(&fds);
        assert_int_equal(cell_open(&cfg, false, &fds, &err), 0);
        assert_true(cell_new(&c, &cfg, &place, &fds, &err) < 0);
        assert_int_equal(err.status, EXIT_KERNEL);
    }
    nothing_more_than(&before);
    config_free_guest(&cfg);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_made_and_freed),
        cmocka_unit_test(cells_run_to_their_end),
        cmocka_unit_test(cells_that_fail),
    };

    if (access("/dev/kvm", R_OK | W_OK)) {
        fprintf(stderr, "no usable /dev/kvm here\n");
        return 77;
    }
    log_init(LOG_ERROR, NULL); /* a kernel is no whole number of sectors */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
