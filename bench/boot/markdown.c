/* SPDX-License-Identifier: MIT */
/*
 * boot.md: the results of bench/boot for people, every number from the raw lines.
 * Interface: markdown_write() in report.h.
 */
#include "bench/boot/report.h"

#include <jansson.h>
#include <string.h>

/* A value with as many digits as are of use. */
static void number(FILE *f, double v)
{
    fprintf(f, v >= 100 || v == (double)(long)v ? "%.0f" : v >= 10 ? "%.1f" : "%.2f", v);
}

/* A row of "| name | figure | n | median | min | max |". */
static void row(FILE *f, const struct subject *s, const struct measure *m,
                const struct summary *sum)
{
    fprintf(f, "| %s | %s | %zu | ", s->name, m->name, sum->n);
    number(f, sum->median);
    fputs(" | ", f);
    number(f, sum->min);
    fputs(" | ", f);
    number(f, sum->max);
    fprintf(f, " | %s |\n", m->unit);
}

/* A table of all figures of a part with so many vCPUs. */
static void table(FILE *f, const struct report *r, const char *part, unsigned vcpus,
                  const struct measure *measures)
{
    fputs("| VMM | figure | n | median | min | max | unit |\n"
          "|---|---|--:|--:|--:|--:|---|\n",
          f);
    for (const struct measure *m = measures; m->path; m++) {
        for (const struct subject *s = subjects; s->part; s++) {
            struct summary sum;

            if (strcmp(s->part, part) || s->vcpus != vcpus)
                continue;
            sum = runs_of(r->runs, s, m);
            if (sum.n)
                row(f, s, m, &sum);
        }
    }
    fputc('\n', f);
}

/* KVM's counters, a column for each VMM. */
static void exits(FILE *f, const struct report *r)
{
    fputs("| counter |", f);
    for (const struct subject *s = subjects; s->part; s++)
        if (!strcmp(s->part, "boot") && s->vcpus == 1)
            fprintf(f, " %s |", s->name);
    fputs("\n|---|--:|--:|--:|--:|\n", f);
    for (const struct measure *m = exit_measures; m->path; m++) {
        fprintf(f, "| `%s` |", m->name);
        for (const struct subject *s = subjects; s->part; s++)
            if (!strcmp(s->part, "boot") && s->vcpus == 1)
                fprintf(f, " %.0f |", runs_of(r->runs, s, m).median);
        fputc('\n', f);
    }
    fputc('\n', f);
}

/* Runs that did not get as far as was waited for. */
static void failures(FILE *f, const struct report *r)
{
    static const struct measure text = {"text_ms", "", ""};

    for (const struct subject *s = subjects; s->part; s++) {
        size_t tried = runs_tried(r->runs, s), n = runs_of(r->runs, s, &text).n;

        if (n < tried)
            fprintf(f, "%s (%s, %u vCPU): %zu of %zu runs did not get there in 60 s.\n\n",
                    s->name, s->part, s->vcpus, tried - n, tried);
    }
}

/* A fact about one of the machines. */
static const char *fact(const struct report *r, const char *which, const char *key)
{
    const char *v = json_string_value(json_object_get(json_object_get(r->machine, which), key));

    return v ? v : "unknown";
}

/* The goals. */
static void goals(FILE *f, const struct report *r)
{
    fputs("| goal | at most | measured | holds |\n|---|--:|--:|---|\n", f);
    for (unsigned i = 0; i < NGOALS; i++) {
        const struct goal *g = &r->goals[i];

        fprintf(f, "| %s | %g %s | ", g->name, g->limit, g->unit);
        if (g->measured)
            fprintf(f, "%.2f %s | %s |\n", g->value, g->unit,
                    g->value <= g->limit ? "yes" : "**no**");
        else
            fputs("nothing | **no** |\n", f);
    }
    fputc('\n', f);
}

/* The machines. */
static void machines(FILE *f, const struct report *r)
{
    fprintf(
        f,
        "The machine: %s, %s CPUs, %s MiB, Linux %s, KVM by `%s`. The lab: a machine emulated "
        "by QEMU's TCG on it (one\nthread for all CPUs, nested SVM), %s CPUs of one node, %s "
        "MiB, Linux %s, with a working `/dev/kvm`. QEMU, in the lab and\nas the VMM: %s.\n",
        fact(r, "host", "cpu"), fact(r, "host", "cpus"), fact(r, "host", "memory_mib"),
        fact(r, "host", "kernel"), fact(r, "host", "kvm"), fact(r, "lab", "cpus"),
        fact(r, "lab", "memory_mib"), fact(r, "lab", "kernel"), fact(r, "lab", "qemu"));
    fprintf(f,
            "The guest: Debian's cloud kernel %s (bzImage), a busybox initramfs, 256 MiB.\n\n",
            fact(r, "lab", "guest_kernel"));
}

void markdown_write(FILE *f, const struct report *r)
{
    fputs("# Booting a guest, beside QEMU\n\nWritten by `make bench-boot`; raw figures in "
          "`boot.json`.\n\n![](boot.svg)\n\n",
          f);
    goals(f, r);
    machines(f, r);
    fputs(
        "**Times in the lab are those of an emulated CPU. They compare with one another within "
        "this one run, and with\nnothing else.** Counts of exits and bytes of memory hold "
        "anywhere.\n\n## Linux in the lab, 1 vCPU\n\n"
        "`disco run` and QEMU boot the same kernel, initrd and command line, in turn; nobody "
        "has a disk or a network card.\nExec is the moment before `execve` of the VMM, the end "
        "is the first line init writes on the serial console. Then\nthe VMM is stopped and "
        "looked at: CPU time of the process (user and system; code of the guest counts as "
        "user), private\nmemory (`Private_Dirty` and `Private_Clean` of `smaps` without the "
        "mappings of guest RAM), KVM's counters of the\nvirtual machine (debugfs). \"In all\" "
        "is `wait4`'s, the ending included.\n\n",
        f);
    table(f, r, "boot", 1, boot_measures);
    failures(f, r);
    fputs("Exits, medians, by KVM's own names. Local APIC and HLT are in userspace with disco, "
          "in "
          "the kernel with QEMU:\n\n",
          f);
    exits(f, r);
    fputs(
        "`microvm` has the options its manual gives for the fastest boot; without an RTC, "
        "Linux "
        "reads CMOS ports 20,000 times\nbefore it gives up, so `rtc=on` is measured as well, "
        "which no manual tells. `q35` has every device off that can be.\n\nWhat disco does not "
        "do: load fifty libraries, make devices nobody asked for, run firmware, copy the "
        "kernel "
        "twice. The rest\nof the time, between KVM_RUN and init's line, is the guest's own "
        "work "
        "(unpacking itself, testing its ciphers), the same\nfor all, and it sets the limit of "
        "what any VMM can gain here.\n\n## Linux in the lab, 2 vCPUs\n\n",
        f);
    table(f, r, "boot", 2, boot_measures);
    fputs("## The same kernel as ELF file (vmlinux) in the lab, 1 vCPU\n\n"
          "The kernel need not unpack itself; QEMU enters it by PVH.\n\n",
          f);
    table(f, r, "boot-elf", 1, boot_measures);
    fputs(
        "## A guest that ends at once, native\n\n"
        "A multiboot kernel whose third instruction writes a byte to COM1 and whose fifth "
        "writes "
        "to the debug exit. The byte's\narrival at the parent is what is timed, an upper bound "
        "of the first instruction. With \"no firmware\" the same\ninstructions stand at QEMU's "
        "reset vector (`-bios`), so that only QEMU itself is timed; else its own "
        "firmware\nloads "
        "the kernel first, with guest code at CPL 0 emulated where KVM is `kvm_pvm`, which is "
        "no fair measure of SeaBIOS.\n\n",
        f);
    table(f, r, "start", 1, start_measures);
}
