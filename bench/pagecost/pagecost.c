/* SPDX-License-Identifier: MIT */
/*
 * What page work costs on this host, while user-mode guests run on its KVM: migrate, replicate,
 * collapse, evict, and a write to a replicated page; a page alone, neighbours at once, scattered
 * pages at once, a block of 2 MiB; beside what the kernel does of the same kind.
 *
 * Use: pagecost DIRECTORY COMMIT; writes pagecost.json, .md and .svg there.
 *      pagecost --moves ROUNDS; prints moves by the kernel, between nodes if the host has two.
 * A sample is one call or one write, on the monotonic clock; actions on several pages are given
 * per page of 4 KiB, blocks per block.  A guest's vCPU reads the pages all the while, so
 * mappings are in use when they change.  Threads: this one measures.
 */
#include <jansson.h>
#include <numa.h>
#include <numaif.h>
#include <sys/mman.h>

#include "bench/lib/bars.h"
#include "bench/lib/host.h"
#include "bench/lib/result.h"
#include "tests/guest/pages_rig.h"

enum {
    SAMPLES = 2000, /* of one thing, at most */
    NEIGHBOURS = 64,
    BATCH = PAGER_MOVES, /* most that move at once */
    MOVE_ROUNDS = 200,   /* samples of moves by the kernel */
    KINDS_MAX = 60,
    PANELS = 4, /* of the picture */
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

/* Lets the guest read all it reads, and returns while its vCPU is on a CPU: what changes then must
 * be told to that. */
static void let_read(const struct pages_rig *r)
{
    uint64_t from = rig_look(&r->ctl->side[1].loops);

    while (rig_look(&r->ctl->side[1].loops) < from + 2)
        rig_must_run(r);
}

/* A page that no guest has touched: no vCPU has to be told of a change. */
static const struct target unread = {"4 KiB, alone, unread", RIG_SPARE_GFN + 9, 1, 1, SAMPLES};

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

/* A replica of pages that have one already: no view has to be protected any more.  Beside the
 * first one of as many views, turn by turn; a vCPU reads where they are made. */
static void further(struct costs *c, struct pages_rig *r, const struct target *t)
{
    struct cost *first = begin(c, "replicate, three views", "disco", t->size);
    struct cost *more = begin(c, "replicate, further", "disco", t->size);

    pager_collapse(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK);
    pager_form(r->p, RIG_ARENA_GFN);
    for (unsigned i = 0; i < t->rounds; i++) {
        double at;
        uint64_t n;

        if (i & 1 && pager_replicate(r->p, t->gfn, t->n, 2) != t->n)
            die("a page cannot be replicated");
        let_read(r);
        at = now_us();
        n = pager_replicate(r->p, t->gfn, t->n, 1);
        timed(i & 1 ? more : first, t, t->n, n, now_us() - at);
        if (pager_collapse(r->p, t->gfn, t->n) != t->n)
            die("a page does not collapse");
    }
}

/* Pages that lie apart, as a policy finds them. */
struct scatter {
    const char *size;      /* for people */
    uint64_t gfn, step, n; /* first, from one to the next, how many */
};

static const struct scatter scatters[] = {
    {"4 KiB, alone", RIG_ARENA_GFN + 9, 1, 1},
    {"4 KiB, of 32 scattered", RIG_ARENA_GFN, 2, PAGES_NARENA / 2}, /* a guest reads them */
    {"4 KiB, of 512 scattered", RIG_SPARE_GFN, 23, BATCH},          /* nobody does */
};
enum { NSCATTERS = sizeof(scatters) / sizeof(scatters[0]) };

/* Moves scattered pages to a node; us for each. */
static double move_scattered(struct pages_rig *r, const struct scatter *s, unsigned node,
                             uint64_t *moved)
{
    struct page_move m[BATCH];
    double at;

    for (unsigned i = 0; i < s->n; i++)
        m[i] = (struct page_move){s->gfn + i * s->step, node};
    at = now_us();
    *moved = pager_migrate_pages(r->p, m, (unsigned)s->n);
    return (now_us() - at) / (double)s->n;
}

/* Moves by what the pager moves with; what: of pages that move, in_place: of pages that are. */
static void scattered(struct costs *c, struct pages_rig *r, const struct scatter *s,
                      const char *what, const char *in_place, unsigned rounds)
{
    struct cost *k = begin(c, what, "disco", s->size);
    struct cost *still = in_place ? begin(c, in_place, "disco", s->size) : NULL;
    uint64_t moved;

    pager_collapse(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK);
    pager_migrate(r->p, RIG_ARENA_GFN, PAGEMAP_BLOCK, 0);
    move_scattered(r, s, 0, &moved); /* they are made, and settle */
    for (unsigned i = 0; i < rounds; i++) {
        unsigned node = (i + 1) & 1;

        usleep(300); /* a guest reads them */
        add(k, move_scattered(r, s, node, &moved));
        if (moved != s->n)
            die("%s, %s: %lu of %lu pages", what, s->size, moved, s->n);
        if (still)
            add(still, move_scattered(r, s, node, &moved));
        rig_must_run(r);
    }
}

/* A rig whose vCPU reads in view 1. */
static struct pages_rig *reader_rig(const struct rig_spec *spec)
{
    struct pages_rig *r = rig_new(spec, PAGES_READER);

    r->ctl->side[0].prog = 0; /* one CPU is ours */
    rig_start(r);
    while (!rig_look(&r->ctl->side[1].loops))
        rig_must_run(r);
    return r;
}

/* Proves that the pages are right, and ends it. */
static void end_rig(struct pages_rig *r)
{
    rig_check(r);
    rig_stop(r);
    rig_free(r);
}

/* Actions with a vCPU that reads in the other view. */
static void measure_actions(struct costs *c)
{
    struct rig_spec spec = {
        .nvcpus = 2, .nviews = 2, .nnodes = 2, .mover = PAGER_MOVE_COPY, .forget_view = -1};
    struct pages_rig *r = reader_rig(&spec);

    for (unsigned i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
        actions(c, r, &targets[i]);
    for (unsigned i = 1; i < NSCATTERS; i++) /* alone: above */
        scattered(c, r, &scatters[i], "migrate", NULL, MOVE_ROUNDS);
    end_rig(r);
    spec.nviews = spec.nnodes = 3;
    r = reader_rig(&spec);
    further(c, r, &unread);
    for (unsigned i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
        further(c, r, &targets[i]);
    end_rig(r);
}

/* Moves by the kernel: between nodes if the host has two, else of pages that are in place.  No vCPU
 * runs: what it would be told is not in it. */
static void measure_moves(struct costs *c, unsigned rounds)
{
    bool two = numa_available() >= 0 && numa_max_node() > 0;
    const struct rig_spec spec = {.nvcpus = 2,
                                  .nviews = 2,
                                  .nnodes = 2,
                                  .mover = PAGER_MOVE_KERNEL,
                                  .real_nodes = two,
                                  .forget_view = -1};
    struct pages_rig *r = rig_new(&spec, PAGES_READER);

    for (unsigned i = 0; i < NSCATTERS; i++)
        scattered(c, r, &scatters[i], two ? "migrate, by the kernel" : "migrate, in place",
                  two ? "migrate, in place" : NULL, rounds);
    rig_check(r);
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

/* move_pages(2) of pages of shared memory that are in place. */
static void measure_move_pages(struct costs *c, uint8_t *shared)
{
    static const struct {
        const char *size;
        unsigned n, step, rounds; /* pages, from one to the next */
    } sets[] = {{"4 KiB, alone", 1, 1, SAMPLES},
                {"4 KiB, of 64 neighbours", NEIGHBOURS, 1, 200},
                {"4 KiB, of 64 scattered", NEIGHBOURS, 31, 200},
                {"4 KiB, of 512 scattered", BATCH, 31, 200}};
    int nodes[BATCH] = {0}, status[BATCH];
    void *pages[BATCH];

    for (unsigned s = 0; s < sizeof(sets) / sizeof(sets[0]); s++) {
        struct cost *k = begin(c, "move_pages", "kernel", sets[s].size);

        for (unsigned i = 0; i < sets[s].rounds; i++) {
            double at;

            for (unsigned n = 0; n < sets[s].n; n++)
                pages[n] = shared + ((i + n * sets[s].step) % (64 << 8)) * 4096ull;
            at = now_us();
            if (!move_pages(0, sets[s].n, pages, nodes, status, MPOL_MF_MOVE_ALL))
                add(k, (now_us() - at) / sets[s].n);
        }
    }
}

static void measure_kernel(struct costs *c)
{
    struct cost *cow = begin(c, "copy-on-write fault", "kernel", "4 KiB");
    struct cost *copy = begin(c, "memcpy", "CPU", "4 KiB"), *big;
    int fd = memfd_create("pagecost", MFD_CLOEXEC);
    uint8_t *shared, *private;

    if (fd < 0 || ftruncate(fd, 64 << 20))
        die("memfd: %s", strerror(errno));
    shared = kernel_memory(fd, MAP_SHARED);
    private = kernel_memory(fd, MAP_PRIVATE);
    memset(shared, 1, 64 << 20);
    for (unsigned i = 0; i < SAMPLES; i++) {
        volatile uint8_t *p = private + i * 8192ull;
        double at;

        (void)*p;
        at = now_us();
        *p = 2;
        add(cow, now_us() - at);
        at = now_us();
        memcpy(shared + i * 8192ull, shared + i * 8192ull + 4096, 4096);
        add(copy, now_us() - at);
    }
    measure_move_pages(c, shared);
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
    struct panel p[PANELS] = {
        {.title = "A page of 4 KiB among 64 neighbours", .unit = "us", .goal = GOAL_US},
        {.title = "A page of 4 KiB alone, and what the kernel does", .unit = "us"},
        {.title = "A block of 2 MiB", .unit = "us", .logarithmic = true},
        {.title = "A page of 4 KiB among scattered ones", .unit = "us"},
    };
    FILE *f = fopen(path, "we");

    for (unsigned i = 0; i < c->n; i++) {
        const struct cost *k = &c->all[i];
        struct panel *at = strstr(k->size, "neighbours")  ? &p[0]
                           : strstr(k->size, "2 MiB")     ? &p[2]
                           : strstr(k->size, "scattered") ? &p[3]
                                                          : &p[1];
        bool aside = strstr(k->what, "three views") || strstr(k->size, "unread") ||
                     (at == &p[1] && strstr(k->what, "in place"));
        char label[96];

        if (!k->n || at->nbars == BARS_MAX || aside)
            continue;
        snprintf(label, sizeof(label), "%s%s (%s)", k->what,
                 at == &p[3] ? k->size + strlen("4 KiB") : "", k->who);
        at->bars[at->nbars++] =
            (struct bar){.label = xstrdup(label), .s = k->s, .ours = !strcmp(k->who, "disco")};
        at->bars[at->nbars - 1].s.max = k->p99; /* the line ends there */
    }
    if (!f ||
        bars_svg(f, "What page work costs",
                 "Bars: medians; lines: smallest to 99th percentile. Guests run meanwhile.", p,
                 PANELS))
        die("%s: %s", path, strerror(errno));
    fclose(f);
    for (unsigned i = 0; i < PANELS; i++)
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
        "Scattered: 32 pages, every other one of those a vCPU reads; 512 that nobody reads. In "
        "place: what the pager\ncalls to move pages by the kernel, of pages that are there, "
        "and "
        "no vCPU runs; pages that do move take 7.5 times\nas many instructions each in an "
        "emulated machine of two nodes (docs/policies.md, \"Costs\"). Further: a replica of\n"
        "pages that have one on a third node; three views: the first one of as many views; "
        "both "
        "while a vCPU is reading.\nUnread: of a page that no guest has touched, so no vCPU has "
        "to be told.\n\n"
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

/* Sums up all samples. */
static void sum_up(struct costs *c)
{
    for (unsigned i = 0; i < c->n; i++) {
        struct cost *k = &c->all[i];

        k->s = summarize(k->us, k->n);
        if (k->n)
            k->p99 = k->us[(k->n * 99 - 1) / 100]; /* sorted now */
    }
}

/* Moves by the kernel only, as text. */
static int print_moves(struct costs *c, unsigned rounds)
{
    measure_moves(c, rounds);
    sum_up(c);
    for (unsigned i = 0; i < c->n; i++)
        printf("%-24s %-24s n %zu: median %.3f us, min %.3f, p99 %.3f\n", c->all[i].what,
               c->all[i].size, c->all[i].n, c->all[i].s.median, c->all[i].s.min, c->all[i].p99);
    free(c);
    return 0;
}

int main(int argc, char **argv)
{
    struct costs *c = xcalloc(1, sizeof(*c));
    json_t *machine;
    char path[PATH_MAX];

    if (argc == 3 && !strcmp(argv[1], "--moves"))
        return print_moves(c, (unsigned)strtoul(argv[2], NULL, 10));
    if (argc != 3)
        die("usage: pagecost DIRECTORY COMMIT | --moves ROUNDS");
    machine = machine_json();
    measure_actions(c);
    measure_moves(c, MOVE_ROUNDS);
    measure_faults(c);
    measure_kernel(c);
    sum_up(c);
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
