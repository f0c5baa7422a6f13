/* SPDX-License-Identifier: MIT */
/*
 * What page work costs on this host, while user-mode guests run on its KVM: migrate, replicate,
 * collapse, evict, and a write to a replicated page; a page alone, neighbours at once, a block
 * of 2 MiB; beside what the kernel does of the same kind.
 *
 * Use: pagecost DIRECTORY COMMIT; writes pagecost.json, .md and .svg there.
 * A sample is one call or one write, on the monotonic clock; actions on several pages are given
 * per page of 4 KiB, blocks per block.  A guest's vCPU reads the pages all the while, so
 * mappings are in use when they change.  Threads: this one measures.
 */
#include <jansson.h>
#include <numaif.h>
#include <sys/mman.h>

#include "bench/lib/bars.h"
#include "bench/lib/host.h"
#include "bench/lib/result.h"
#include "tests/guest/pages_rig.h"

enum {
    SAMPLES = 2000, /* of one thing, at most */
    NEIGHBOURS = 64,
    KINDS_MAX = 40,
};

/* One thing that was measured. */
struct cost {
    const char *what, *who, *size; /* "replicate", "disco", "4 KiB" */
    size_t n;                      /* samples */
    double us[SAMPLES];            /* each */
    double p99;                    /* of them */
    struct summary s;              /* of them */
};

/* All of it. */
struct costs {
    unsigned n; /* entries of all */
    struct cost all[KINDS_MAX];
};

static double now_us(void)
{
    return (double)machine_now_ns() / 1000;
}

/* A new thing to measure. */
static struct cost *begin(struct costs *c, const char *what, const char *who, const char *size)
{
    struct cost *k = &c->all[c->n++];

    if (c->n > KINDS_MAX)
        die("too many things to measure");
    *k = (struct cost){.what = what, .who = who, .size = size};
    return k;
}

static void add(struct cost *k, double us)
{
    if (k->n < SAMPLES)
        k->us[k->n++] = us;
}

/* ---- what disco does ---- */

/* Where an action is tried. */
struct target {
    const char *size; /* for people */
    uint64_t gfn, n;  /* pages */
    double units;     /* what a call's time is divided by */
    unsigned rounds;  /* samples */
};

static const struct target targets[] = {
    {"4 KiB, alone", RIG_ARENA_GFN + 9, 1, 1, SAMPLES},
    {"4 KiB, of 64 neighbours", RIG_ARENA_GFN, NEIGHBOURS, NEIGHBOURS, 500},
    {"2 MiB", RIG_ARENA_GFN, PAGEMAP_BLOCK, 1, 150},
};

/* One action, timed. */
static void timed(struct cost *k, const struct target *t, uint64_t want, uint64_t got,
                  double us)
{
    if (got != want)
        die("%s of %s: %lu of %lu pages", k->what, t->size, got, want);
    add(k, us / t->units);
}

/* All actions on one target. */
static void actions(struct costs *c, struct pages_rig *r, const struct target *t)
{
    struct cost *rep = begin(c, "replicate", "disco", t->size);
    struct cost *col = begin(c, "collapse", "disco", t->size);
    struct cost *evi = begin(c, "evict", "disco", t->size);
    struct cost *mig = begin(c, "migrate", "disco", t->size);

    pager_collapse(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK);
    pager_migrate(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK, 0);
    pager_form(r->p, RIG_ARENA_GFN);
    for (unsigned i = 0; i < t->rounds; i++) {
        double at = now_us();
        uint64_t n = pager_replicate(r->p, t->gfn, t->n, 1);

        timed(rep, t, t->n, n, now_us() - at);
        usleep(300); /* the guest reads it */
        at = now_us();
        if (i & 1) {
            n = pager_collapse(r->p, t->gfn, t->n);
            timed(col, t, t->n, n, now_us() - at);
        } else {
            n = pager_evict(r->p, t->gfn, t->n, 1);
            timed(evi, t, t->n, n, now_us() - at);
        }
        usleep(300);
        at = now_us();
        n = pager_migrate(r->p, t->gfn, t->n, 1);
        timed(mig, t, t->n, n, now_us() - at);
        if (pager_migrate(r->p, t->gfn, t->n, 0) != t->n)
            die("a page does not move back");
        rig_must_run(r);
        usleep(300);
    }
}

/* Actions with a vCPU that reads in the other view. */
static void measure_actions(struct costs *c)
{
    const struct rig_spec spec = {
        .nvcpus = 2, .nviews = 2, .nnodes = 2, .mover = PAGER_MOVE_COPY, .forget_view = -1};
    struct pages_rig *r = rig_new(&spec, PAGES_READER);

    r->ctl->side[0].prog = 0; /* one CPU is ours */
    rig_start(r);
    while (!rig_look(&r->ctl->side[1].loops))
        rig_must_run(r);
    for (unsigned i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
        actions(c, r, &targets[i]);
    rig_check(r);
    rig_stop(r);
    rig_free(r);
}

/* The guest writes to a page and tells; us from the order to the answer. */
static double poke(struct pages_rig *r, unsigned page, uint64_t i)
{
    uint64_t order = (PAGES_ARENA + page * 4096ull) | i;
    double at = now_us();

    __atomic_store_n(&r->ctl->poke, order, __ATOMIC_RELEASE);
    while (rig_look(&r->ctl->poked) != order)
        rig_must_run(r);
    return now_us() - at;
}

/* A write to a replicated page, until the guest goes on; and to one that is not. */
static void measure_faults(struct costs *c)
{
    const struct rig_spec spec = {
        .nvcpus = 1, .nviews = 2, .nnodes = 2, .mover = PAGER_MOVE_COPY, .forget_view = -1};
    struct pages_rig *r = rig_new(&spec, PAGES_WRITER);
    struct cost *none = begin(c, "guest's write", "private page", "4 KiB");
    struct cost *page = begin(c, "guest's write", "replicated page", "4 KiB");
    struct cost *block = begin(c, "guest's write", "replicated page", "2 MiB");

    rig_start(r);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t n = i % 2000 + 1;

        poke(r, i % 64, 2 * n % 4096);
        add(none, poke(r, i % 64, (2 * n + 1) % 4096));
        if (pager_replicate(r->p, RIG_ARENA_GFN + i % 64, 1, 1) != 1)
            die("a page cannot be replicated");
        add(page, poke(r, i % 64, 2 * n % 4096));
    }
    for (unsigned i = 1; i <= 100; i++) {
        pager_collapse(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK);
        if (!pager_form(r->p, RIG_ARENA_GFN) ||
            pager_replicate(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK, 1) != PAGEMAP_BLOCK)
            die("a block cannot be replicated");
        add(block, poke(r, i % 64, i));
    }
    rig_stop(r);
    rig_free(r);
}

/* ---- what the kernel does ---- */

/* Memory of a memfd with every page there. */
static uint8_t *kernel_memory(int fd, int flags)
{
    uint8_t *at = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (at == MAP_FAILED)
        die("mmap: %s", strerror(errno));
    return at;
}

static void measure_kernel(struct costs *c)
{
    struct cost *cow = begin(c, "copy-on-write fault", "kernel", "4 KiB");
    struct cost *copy = begin(c, "memcpy", "CPU", "4 KiB"), *big;
    struct cost *one = begin(c, "move_pages", "kernel", "4 KiB, alone");
    struct cost *many = begin(c, "move_pages", "kernel", "4 KiB, of 64 neighbours");
    int fd = memfd_create("pagecost", MFD_CLOEXEC), nodes[NEIGHBOURS] = {0}, status[NEIGHBOURS];
    uint8_t *shared, *private;
    void *pages[NEIGHBOURS];

    if (fd < 0 || ftruncate(fd, 64 << 20))
        die("memfd: %s", strerror(errno));
    shared = kernel_memory(fd, MAP_SHARED);
    private = kernel_memory(fd, MAP_PRIVATE);
    memset(shared, 1, 64 << 20);
    for (unsigned i = 0; i < SAMPLES; i++) {
        volatile uint8_t *p = private + i * 8192ull;
        double at;
        int r;

        (void)*p;
        at = now_us();
        *p = 2;
        add(cow, now_us() - at);
        at = now_us();
        memcpy(shared + i * 8192ull, shared + i * 8192ull + 4096, 4096);
        add(copy, now_us() - at);
        pages[0] = shared + i * 8192ull;
        at = now_us();
        r = (int)move_pages(0, 1, pages, nodes, status, MPOL_MF_MOVE_ALL);
        if (!r)
            add(one, now_us() - at);
    }
    for (unsigned i = 0; i < 200; i++) {
        double at;

        for (unsigned k = 0; k < NEIGHBOURS; k++)
            pages[k] = shared + (i * NEIGHBOURS + k) * 4096ull;
        at = now_us();
        if (!move_pages(0, NEIGHBOURS, pages, nodes, status, MPOL_MF_MOVE_ALL))
            add(many, (now_us() - at) / NEIGHBOURS);
    }
    big = begin(c, "memcpy", "CPU", "2 MiB");
    for (unsigned i = 0; i < 200; i++) {
        double at = now_us();

        memcpy(shared, shared + ((2 + i % 28ull) << 21), 2 << 20);
        add(big, now_us() - at);
    }
    munmap(shared, 64 << 20);
    munmap(private, 64 << 20);
    close(fd);
}

/* ---- results ---- */

/* The machine, and what else it was doing. */
static json_t *machine_json(void)
{
    json_t *m = host_json(HOST_EMULATOR | HOST_KVM);
    double load[1] = {0};

    (void)getloadavg(load, 1);
    json_object_set_new(m, "load", json_real(load[0]));
    return m;
}

/* The median of something; measured is false when there is none. */
static double median_of(const struct costs *c, const char *what, const char *size,
                        bool *measured)
{
    for (unsigned i = 0; i < c->n; i++)
        if (!strcmp(c->all[i].what, what) && !strcmp(c->all[i].size, size)) {
            *measured = c->all[i].n != 0;
            return c->all[i].s.median;
        }
    *measured = false;
    return 0;
}

static const char *const goals[] = {"replicate", "collapse", "evict", "migrate"};
enum { NGOALS = 4, GOAL_US = 20 };

static void write_json(const struct costs *c, const char *path, const char *commit,
                       json_t *machine)
{
    struct result out;

    result_init(&out, "pagecost", commit, json_incref(machine), false);
    for (unsigned i = 0; i < c->n; i++) {
        const struct cost *k = &c->all[i];

        if (k->n)
            result_row(&out,
                       json_pack("{s:s, s:s, s:s, s:s, s:f}", "what", k->what, "by", k->who,
                                 "size", k->size, "unit", "us", "p99", k->p99),
                       &k->s);
    }
    for (unsigned i = 0; i < NGOALS; i++) {
        bool measured;
        double us = median_of(c, goals[i], targets[1].size, &measured);
        char name[80];

        snprintf(name, sizeof(name), "%s, 4 KiB, batched", goals[i]);
        result_goal_at_most(&out, name, "us", GOAL_US, us, measured);
    }
    if (result_write(&out, path))
        die("%s: %s", path, strerror(errno));
}

/* pagecost.svg */
static void write_svg(const struct costs *c, const char *path)
{
    struct panel p[3] = {
        {.title = "A page of 4 KiB among 64 neighbours", .unit = "us", .goal = GOAL_US},
        {.title = "A page of 4 KiB alone, and what the kernel does", .unit = "us"},
        {.title = "A block of 2 MiB", .unit = "us", .logarithmic = true},
    };
    FILE *f = fopen(path, "we");

    for (unsigned i = 0; i < c->n; i++) {
        const struct cost *k = &c->all[i];
        struct panel *at = strstr(k->size, "neighbours") ? &p[0]
                           : strstr(k->size, "2 MiB")    ? &p[2]
                                                         : &p[1];
        char label[96];

        if (!k->n || at->nbars == BARS_MAX)
            continue;
        snprintf(label, sizeof(label), "%s (%s)", k->what, k->who);
        at->bars[at->nbars++] =
            (struct bar){.label = xstrdup(label), .s = k->s, .ours = !strcmp(k->who, "disco")};
        at->bars[at->nbars - 1].s.max = k->p99; /* the line ends there */
    }
    if (!f ||
        bars_svg(f, "What page work costs",
                 "Bars: medians; lines: smallest to 99th percentile. Guests run meanwhile.", p,
                 3))
        die("%s: %s", path, strerror(errno));
    fclose(f);
    for (unsigned i = 0; i < 3; i++)
        for (unsigned b = 0; b < p[i].nbars; b++)
            free((void *)(uintptr_t)p[i].bars[b].label);
}

static void write_md(const struct costs *c, const char *path, json_t *m)
{
    FILE *f = fopen(path, "we");

    if (!f)
        die("%s: %s", path, strerror(errno));
    fputs("# What page work costs\n\nWritten by `make bench-pagecost`; raw figures in "
          "`pagecost.json`.\n\n![](pagecost.svg)\n\n"
          "| goal | at most | measured | holds |\n|---|--:|--:|---|\n",
          f);
    for (unsigned i = 0; i < NGOALS; i++) {
        bool measured;
        double us = median_of(c, goals[i], targets[1].size, &measured);

        fprintf(f, "| %s, 4 KiB, batched | %d us | %.1f us | %s |\n", goals[i], GOAL_US, us,
                measured && us <= GOAL_US ? "yes" : "**no**");
    }
    fprintf(
        f,
        "\nThe machine: %s, %s CPUs, one node, Linux %s, KVM by `%s`; load before\nthe run "
        "%.1f: what others do on it shows in the 99th percentiles.\n\n"
        "Guests stay in user mode, which this KVM runs natively; two views, a `struct kvm` "
        "each, two nodes by name\nonly: both have the same memory, so a copy costs what a "
        "copy on one node costs. A vCPU reads the pages in view 1\nwhile they are worked on. "
        "Migration is by copy (`vmm/pager/move.c`): out of the store and in again, "
        "while views\nare barred. `move_pages` has nowhere to move a page on a machine "
        "of one node: what is measured is\nthe call that finds the page in its place. "
        "Actions on neighbours are given per page, on blocks per block.\nA guest's write is "
        "timed from the order to the answer, through shared memory.\n\n"
        "| what | by | size | n | median | p99 | min | max | unit |\n"
        "|---|---|---|--:|--:|--:|--:|--:|---|\n",
        json_string_value(json_object_get(m, "cpu")),
        json_string_value(json_object_get(m, "cpus")),
        json_string_value(json_object_get(m, "kernel")),
        json_string_value(json_object_get(m, "kvm")),
        json_real_value(json_object_get(m, "load")));
    for (unsigned i = 0; i < c->n; i++) {
        const struct cost *k = &c->all[i];

        if (k->n)
            fprintf(f, "| %s | %s | %s | %zu | %.2f | %.2f | %.2f | %.2f | us |\n", k->what,
                    k->who, k->size, k->n, k->s.median, k->p99, k->s.min, k->s.max);
    }
    if (fclose(f))
        die("%s: %s", path, strerror(errno));
}

int main(int argc, char **argv)
{
    struct costs *c = xcalloc(1, sizeof(*c));
    json_t *machine = machine_json();
    char path[PATH_MAX];

    if (argc != 3)
        die("usage: pagecost DIRECTORY COMMIT");
    measure_actions(c);
    measure_faults(c);
    measure_kernel(c);
    for (unsigned i = 0; i < c->n; i++) {
        struct cost *k = &c->all[i];

        k->s = summarize(k->us, k->n);
        if (k->n)
            k->p99 = k->us[(k->n * 99 - 1) / 100]; /* sorted now */
    }
    snprintf(path, sizeof(path), "%s/pagecost.json", argv[1]);
    write_json(c, path, argv[2], machine);
    snprintf(path, sizeof(path), "%s/pagecost.svg", argv[1]);
    write_svg(c, path);
    snprintf(path, sizeof(path), "%s/pagecost.md", argv[1]);
    write_md(c, path, machine);
    json_decref(machine);
    free(c);
    return 0;
}
