/* SPDX-License-Identifier: MIT */
/*
 * Turns the raw lines of bench/boot into boot.json, boot.svg and boot.md.
 *
 * Use: report RAW RESULTS COMMIT: RAW holds start.jsonl (native), runs.jsonl and lab.txt (lab).
 * What is compared to what, and which figures count, are the tables at the end.
 * Threads: one.
 */
#include "bench/boot/report.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/bars.h"
#include "bench/lib/host.h"

enum { PATH_LEN = 4096, NPANELS = 6 };

/* Says what failed and ends. */
static void die(const char *what)
{
    fprintf(stderr, "report: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* DIRECTORY/NAME, in buf. */
static const char *in_dir(char buf[PATH_LEN], const char *dir, const char *name)
{
    snprintf(buf, PATH_LEN, "%s/%s", dir, name);
    return buf;
}

/* ---- the machines ---- */

/* The lab, from lab.txt. */
static json_t *lab_json(const char *path)
{
    FILE *f = fopen(path, "re");
    json_t *o = json_object();
    char line[512], *blank;

    while (f && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = 0;
        blank = strchr(line, ' ');
        if (!blank)
            continue;
        *blank = 0;
        json_object_set_new(o, line, json_string(blank + 1));
    }
    if (f)
        fclose(f);
    return o;
}

/* ---- the figures ---- */

/* The subject of these labels; there is one. */
static const struct subject *subject(const char *part, const char *vmm, unsigned vcpus)
{
    const struct subject *s = subjects;

    while (s->part && (strcmp(s->part, part) || strcmp(s->vmm, vmm) || s->vcpus != vcpus))
        s++;
    return s;
}

/* Median boot of the quickest QEMU with one vCPU, of those as the manual has them or of all;
 * 0: none. */
static double best_qemu(const struct report *r, bool tuned)
{
    double best = 0;

    for (const struct subject *s = subjects; s->part; s++) {
        struct summary sum;

        if (strcmp(s->part, "boot") || !strcmp(s->vmm, "disco") || s->vcpus != 1 ||
            (!tuned && !strcmp(s->vmm, "microvm-rtc")))
            continue;
        sum = runs_of(r->runs, s, &boot_measures[0]);
        if (sum.n && (best == 0 || sum.median < best))
            best = sum.median;
    }
    return best;
}

/* Holds what was measured against what was wanted. */
static void fill_goals(struct report *r)
{
    static const struct measure private = {"private_kib", "private memory", "KiB"};
    const struct subject *boot = subject("boot", "disco", 1);
    struct summary s = runs_of(r->runs, boot, &boot_measures[0]);
    double plain = best_qemu(r, false), tuned = best_qemu(r, true);

    r->goals[0] =
        (struct goal){"boot of Linux, relative to the quicker QEMU machine, microvm or "
                      "q35, set up as its manual says",
                      "x", 0.7, plain > 0 ? s.median / plain : 0, s.n && plain > 0};
    r->goals[1] = (struct goal){"boot of Linux, relative to the best QEMU we could find "
                                "(microvm with rtc=on)",
                                "x", 0.7, tuned > 0 ? s.median / tuned : 0, s.n && tuned > 0};
    s = runs_of(r->runs, subject("start", "disco", 1), &start_measures[0]);
    r->goals[2] = (struct goal){"exec to the first guest instruction", "ms", 2, s.median, s.n};
    s = runs_of(r->runs, boot, &private);
    r->goals[3] = (struct goal){"private memory beyond guest RAM, 1 vCPU", "MiB", 2,
                                s.median / 1024, s.n};
}

/* Adds a row for every figure of a table that the subject has. */
static void add_rows(struct result *out, const struct report *r, const struct subject *s,
                     const struct measure *m)
{
    for (; m->path; m++) {
        struct summary sum = runs_of(r->runs, s, m);

        if (sum.n)
            result_row(out,
                       json_pack("{s:s, s:s, s:i, s:s, s:s, s:I}", "part", s->part, "vmm",
                                 s->name, "vcpus", (int)s->vcpus, "measure", m->name, "unit",
                                 m->unit, "tried", (json_int_t)runs_tried(r->runs, s)),
                       &sum);
    }
}

/* boot.json */
static void write_json(const struct report *r, const char *path, const char *commit)
{
    struct result out;

    result_init(&out, "boot", commit, json_incref(r->machine), false);
    for (const struct subject *s = subjects; s->part; s++) {
        if (!strcmp(s->part, "start")) {
            add_rows(&out, r, s, start_measures);
        } else {
            add_rows(&out, r, s, boot_measures);
            add_rows(&out, r, s, exit_measures);
        }
    }
    for (unsigned i = 0; i < NGOALS; i++)
        result_goal_at_most(&out, r->goals[i].name, r->goals[i].unit, r->goals[i].limit,
                            r->goals[i].value, r->goals[i].measured);
    if (result_write(&out, path))
        die(path);
}

/* ---- the picture ---- */

/* Fills a panel with one figure of all subjects of a part with so many vCPUs. */
static void fill_panel(struct panel *p, const struct report *r, const char *part,
                       unsigned vcpus, const struct measure *m)
{
    p->unit = m->unit;
    p->nbars = 0;
    for (const struct subject *s = subjects; s->part && p->nbars < BARS_MAX; s++) {
        if (strcmp(s->part, part) || s->vcpus != vcpus)
            continue;
        p->bars[p->nbars++] = (struct bar){
            .label = s->name, .s = runs_of(r->runs, s, m), .ours = !strcmp(s->vmm, "disco")};
    }
}

/* boot.svg */
static void write_svg(const struct report *r, const char *path)
{
    static const struct measure private = {"private_kib", "private memory", "KiB"};
    struct panel p[NPANELS] = {
        {.title = "Exec to the first line of init, 1 vCPU (lab)"},
        {.title = "Exec to the first line of init, 2 vCPUs (lab)"},
        {.title = "The same with the kernel as ELF file (vmlinux), 1 vCPU (lab)"},
        {.title = "Exits of KVM until then, 1 vCPU (lab)", .logarithmic = true},
        {.title = "Private memory of the VMM then, beyond guest RAM, 1 vCPU (lab)",
         .logarithmic = true,
         .goal = 2048},
        {.title = "Exec to the first guest instruction (native)",
         .logarithmic = true,
         .goal = 2},
    };
    FILE *f = fopen(path, "we");

    p[0].goal = best_qemu(r, true) * r->goals[1].limit;
    fill_panel(&p[0], r, "boot", 1, &boot_measures[0]);
    fill_panel(&p[1], r, "boot", 2, &boot_measures[0]);
    fill_panel(&p[2], r, "boot-elf", 1, &boot_measures[0]);
    fill_panel(&p[3], r, "boot", 1, &exit_measures[0]);
    fill_panel(&p[4], r, "boot", 1, &private);
    fill_panel(&p[5], r, "start", 1, &start_measures[0]);
    if (!f || bars_svg(f, "Booting a guest: disco beside QEMU",
                       "Bars: medians; lines: smallest to largest. Lab times (emulated CPU) "
                       "compare with one another only.",
                       p, NPANELS))
        die(path);
    if (fclose(f))
        die(path);
}

int main(int argc, char **argv)
{
    struct report r = {.runs = json_array()};
    char path[PATH_LEN];
    FILE *f;

    if (argc != 4) {
        fputs("usage: report RAW RESULTS COMMIT\n", stderr);
        return 2;
    }
    if (runs_read(r.runs, in_dir(path, argv[1], "runs.jsonl")))
        die(path);
    (void)runs_read(r.runs, in_dir(path, argv[1], "start.jsonl")); /* not without a KVM */
    r.machine = json_pack("{s:o, s:o}", "host", host_json(HOST_KVM), "lab",
                          lab_json(in_dir(path, argv[1], "lab.txt")));
    fill_goals(&r);
    write_json(&r, in_dir(path, argv[2], "boot.json"), argv[3]);
    write_svg(&r, in_dir(path, argv[2], "boot.svg"));
    f = fopen(in_dir(path, argv[2], "boot.md"), "we");
    if (!f)
        die(path);
    markdown_write(f, &r);
    if (fclose(f))
        die(path);
    json_decref(r.runs);
    json_decref(r.machine);
    return 0;
}

const struct subject subjects[] = {
    {"boot", "disco", 1, "disco"},
    {"boot", "microvm", 1, "QEMU microvm"},
    {"boot", "microvm-rtc", 1, "QEMU microvm, rtc=on"},
    {"boot", "q35", 1, "QEMU q35"},
    {"boot", "disco", 2, "disco"},
    {"boot", "microvm-rtc", 2, "QEMU microvm, rtc=on"},
    {"boot", "q35", 2, "QEMU q35"},
    {"boot-elf", "disco", 1, "disco"},
    {"boot-elf", "microvm-rtc", 1, "QEMU microvm, rtc=on"},
    {"start", "disco", 1, "disco"},
    {"start", "microvm-reset", 1, "QEMU microvm, no firmware"},
    {"start", "q35-reset", 1, "QEMU q35, no firmware"},
    {"start", "microvm", 1, "QEMU microvm (qboot)"},
    {"start", "q35", 1, "QEMU q35 (SeaBIOS)"},
    {0},
};

const struct measure boot_measures[] = {
    {"text_ms", "exec to the first line of init", "ms"},
    {"cpu_ms", "CPU time until then", "ms"},
    {"user_ms", "user time in all", "ms"},
    {"sys_ms", "system time in all", "ms"},
    {"guest_ms", "guest code until then, by ticks", "ms"},
    {"private_kib", "private memory", "KiB"},
    {"private_dirty_kib", "private memory that was written", "KiB"},
    {"ram_rss_kib", "guest RAM in use", "KiB"},
    {"own/first_run_ms", "of the time, from the cell's making to KVM_RUN", "ms"},
    {0},
};

const struct measure exit_measures[] = {
    {"kvm/exits", "exits", ""},
    {"kvm/io_exits", "io_exits", ""},
    {"kvm/mmio_exits", "mmio_exits", ""},
    {"kvm/halt_exits", "halt_exits", ""},
    {"kvm/irq_exits", "irq_exits", ""},
    {"kvm/irq_window_exits", "irq_window_exits", ""},
    {"kvm/signal_exits", "signal_exits", ""},
    {"kvm/insn_emulation", "insn_emulation", ""},
    {"kvm/pf_taken", "pf_taken", ""},
    {"kvm/irq_injections", "irq_injections", ""},
    {0},
};

const struct measure start_measures[] = {
    {"text_ms", "exec to the first guest instruction", "ms"},
    {"exit_ms", "exec to the end of the VMM", "ms"},
    {"own/first_run_ms", "of it, from the cell's making to KVM_RUN", "ms"},
    {"user_ms", "user time", "ms"},
    {"sys_ms", "system time", "ms"},
    {0},
};
