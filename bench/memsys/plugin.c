/* SPDX-License-Identifier: MIT */
/*
 * The memory-system model as a TCG plugin of QEMU 7.2: it sees every instruction and every memory
 * access of the emulated machine, of the host in it and of that host's guests.
 *
 * Interface: -plugin memsys.so,machine=flash,nodes=4,cpus=2,node_mb=1024,dist=10:20:...,mem=PREFIX,
 * region=FILE[,sample=N][,quantum=N][,slow=N][,trace=FILE][,trace_most=N][,interval=N][,checktlb=1]
 * [,qemu=7.2].  PREFIX0, PREFIX1 ... are the files of the nodes' memories.  Programs in the machine
 * command it (roi.h) and read FILE as a PCI device's memory (region.h).
 *
 * How: while the model is off, code is translated without callbacks and runs at full speed, only
 * the magic instruction and VMRUN are looked for.  Switching drops all translated code.  While it
 * is on, each block calls block_run() and each access memory_access().  VMRUN and the instruction
 * behind it tell guest from host.  Every `quantum` instructions the emulator is asked to run the
 * next CPU, so that CPUs that share data really alternate.
 *
 * What 7.2 does wrong, and what is done about it: qemu_plugin_hwaddr_phys_addr() is wrong for nodes
 * with memories of their own, so host addresses are read from the object itself; callbacks for only
 * reads or only writes are called for the others, so one callback serves both; after a reset an
 * array of callbacks that was freed is still used, so it is forgotten for every CPU (clear_stale).
 *
 * A locked instruction (lock add, xchg ...) takes its line for writing at once: one access, although
 * the emulator reads and then writes.
 *
 * Not seen: page walks, accesses of VMRUN and #VMEXIT to their control block, devices' DMA, the
 * second page of an access that spans two.
 *
 * Invariants.  T1: a translation is kept no longer than hardware might keep it: all of a CPU's are
 * dropped where it could drop them (checktlb=1 compares every one with the emulator's).
 * Threads: the emulator's single CPU thread; an emulator with several is ended with a message.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/memsys/args.h"
#include "bench/memsys/clock.h"
#include "bench/memsys/decode.h"
#include "bench/memsys/model.h"
#include "bench/memsys/qemu.h"
#include "bench/memsys/ranges.h"
#include "bench/memsys/roi.h"
#include "bench/memsys/trace.h"
#include "numa/machine_model.h"

QEMU_EXPORT extern int qemu_plugin_version;
int qemu_plugin_version = 1;

enum {
    TLB_ENTRIES = 1024,
    TB_LINES = 128,  /* lines of code a block can touch: those of two pages */
    RETURNS = 8,     /* places of VMRUN; kvm_amd has one */
    PROBES = 100000, /* accesses to memory of no node after which something is wrong */
};

/* A translation: page of a virtual address to page of a node's memory. */
struct tlb_entry {
    uint64_t key;  /* virtual page and generation */
    uint64_t base; /* address in all nodes' memory */
};

/* A CPU of the emulated machine. */
struct vcpu {
    void *object;                      /* the emulator's */
    uint64_t generation;               /* of its translations; T1 */
    struct tlb_entry tlb[TLB_ENTRIES]; /* direct-mapped by virtual page */
    int64_t left;                      /* instructions before another CPU is to run */
    unsigned tag;                      /* whose code guest code is */
    bool guest;                        /* it runs guest code */
    bool kernel;                       /* the block that runs is kernel code */
};

/* A block of translated code. */
struct block {
    struct block *next; /* of all blocks */
    uint32_t insns;     /* in it */
    bool kernel;        /* by its address */
    uint32_t nlines;    /* entries of line */
    uint64_t line[];    /* addresses of its code's lines in all nodes' memory */
};

/* The plugin; written while no CPU runs, or by the one CPU thread. */
static struct plugin {
    qemu_plugin_id_t id;           /* our name */
    struct qemu qemu;              /* functions of the emulator */
    struct args args;              /* as given */
    struct memsys *model;          /* the model */
    struct memsys_header *region;  /* shared with the machine */
    struct trace *trace;           /* or NULL */
    struct vcpu vcpu[MEMSYS_CPUS]; /* by number */
    struct block *blocks;          /* translated now */
    struct ranges ranges;          /* the nodes' memories, once they are found */
    bool ranges_found;             /* ranges is filled */
    const void *returns[RETURNS];  /* host addresses of instructions behind VMRUN */
    unsigned nreturns;             /* entries of returns */
    uint64_t insns;                /* of all CPUs while on */
    uint64_t probes, strays;       /* translations asked for; of these in no node's memory */
    bool on;                       /* as commanded */
} p;

/* Says what is wrong and ends the emulator: figures that are wrong must not be printed later. */
static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
    va_list ap;

    fputs("memsys: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    fflush(NULL);
    _exit(1);
}

/* ---- addresses ---- */

/* Where the nodes' memories are; they must all be there, and of the size that was told. */
static void find_ranges(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char *maps = NULL, what[300] = "/proc/self/maps cannot be read";
    size_t size = 0;

    if (!f || getdelim(&maps, &size, 0, f) < 0 ||
        !ranges_find(&p.ranges, maps, p.args.mem, p.args.region, p.args.shape.nnodes,
                     p.args.shape.node_bytes, what, sizeof(what)))
        die("%s", what);
    fclose(f);
    free(maps);
    p.ranges_found = true;
}

/* Asks the emulator where an access goes. */
static uint64_t translate(qemu_plugin_meminfo_t info, uint64_t vaddr)
{
    const struct qemu_plugin_hwaddr *h = qemu_plugin_get_hwaddr(info, vaddr);
    uint64_t addr;

    if (!h || h->is_io || ranges_in_region(&p.ranges, h->v.ram.host))
        return RANGES_NONE;
    addr = ranges_address(&p.ranges, h->v.ram.host);
    p.probes++;
    p.strays += addr == RANGES_NONE;
    if (p.strays == PROBES && p.strays > p.probes / 2)
        die("half of the accesses are to memory of no node: translations are not read rightly");
    if (addr != RANGES_NONE && (addr ^ vaddr) % MEMSYS_PAGE)
        die("virtual address %#" PRIx64 " at %#" PRIx64 ": translations are not read rightly",
            vaddr, addr);
    return addr;
}

/* The same by the CPU's own table. */
static inline uint64_t address_of(struct vcpu *v, qemu_plugin_meminfo_t info, uint64_t vaddr)
{
    struct tlb_entry *e = &v->tlb[vaddr / MEMSYS_PAGE % TLB_ENTRIES];
    uint64_t key = vaddr / MEMSYS_PAGE << 20 | v->generation, addr;

    if (__builtin_expect(e->key == key, 1)) {
        addr = e->base | vaddr % MEMSYS_PAGE;
        if (p.args.checktlb) {
            p.region->tlb_checked++;
            p.region->tlb_wrong += addr != translate(info, vaddr);
        }
        return addr;
    }
    addr = translate(info, vaddr);
    if (addr != RANGES_NONE)
        *e = (struct tlb_entry){.key = key, .base = addr & ~(uint64_t)(MEMSYS_PAGE - 1)};
    return addr;
}

/* Forgets a CPU's translations. */
static void drop_translations(unsigned cpu, void *data)
{
    struct vcpu *v = &p.vcpu[cpu];

    (void)data;
    if (++v->generation >> 20) {
        v->generation = 1;
        memset(v->tlb, 0, sizeof(v->tlb));
    }
}

/* ---- what is called while the model is on ---- */

/* One line, in the model and in the trace. */
static inline void line_access(unsigned cpu, uint64_t addr, enum memsys_kind kind)
{
    const struct vcpu *v = &p.vcpu[cpu];
    bool miss = memsys_access(p.model, cpu, addr, kind);

    if (p.trace)
        trace_access(p.trace, cpu, v->guest ? v->tag : 0, (uint32_t)(addr / MEMSYS_PAGE),
                     kind == MEMSYS_WRITE, miss, p.insns);
}

/* Each access of an instruction to memory; data: not NULL for a locked instruction. */
static void memory_access(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *data)
{
    const struct machine_model *m = p.args.shape.machine;
    enum memsys_kind kind = qemu_is_store(info) ? MEMSYS_WRITE : MEMSYS_READ;
    uint64_t last = vaddr + qemu_size(info) - 1, addr;
    bool first_sampled = memsys_sampled(vaddr, p.args.shape.sample, m->line);
    bool spans = (vaddr ^ last) & ~(uint64_t)(m->line - 1);

    /* Of a locked instruction the write that follows counts. */
    if (data && kind == MEMSYS_READ)
        return;
    /* Sampling by address bits within the page needs no translation. */
    if (!first_sampled && !(spans && memsys_sampled(last, p.args.shape.sample, m->line)))
        return;
    addr = address_of(&p.vcpu[cpu], info, vaddr);
    if (addr == RANGES_NONE) {
        memsys_current(p.model, cpu)->io++;
        return;
    }
    if (first_sampled)
        line_access(cpu, addr, kind);
    if (spans && !((vaddr ^ last) / MEMSYS_PAGE) &&
        memsys_sampled(last, p.args.shape.sample, m->line))
        line_access(cpu, addr + (last - vaddr), kind);
}

/* Counts go where the CPU's state says. */
static void choose_context(unsigned cpu)
{
    const struct vcpu *v = &p.vcpu[cpu];

    memsys_context(p.model, cpu, v->guest ? v->tag : 0,
                   v->kernel ? MEMSYS_KERNEL : MEMSYS_USER);
}

/* Each block of code that begins to run. */
static void block_run(unsigned cpu, void *data)
{
    const struct block *b = data;
    struct vcpu *v = &p.vcpu[cpu];

    if (b->kernel != v->kernel) {
        v->kernel = b->kernel;
        choose_context(cpu);
    }
    memsys_insns(p.model, cpu, b->insns);
    p.insns += b->insns;
    for (uint32_t i = 0; i < b->nlines; i++)
        line_access(cpu, b->line[i], MEMSYS_FETCH);
    v->left -= b->insns;
    if (v->left <= 0) {
        v->left = p.args.quantum;
        if (p.args.quantum)
            p.qemu.cpu_exit(v->object);
    }
}

/* VMRUN: guest code follows. */
static void enter_guest(unsigned cpu, void *data)
{
    drop_translations(cpu, data);
    p.vcpu[cpu].guest = true;
    choose_context(cpu);
}

/* The instruction behind VMRUN: the host is back. */
static void leave_guest(unsigned cpu, void *data)
{
    drop_translations(cpu, data);
    p.vcpu[cpu].guest = false;
    choose_context(cpu);
}

/* ---- translation ---- */

/* Remembers where the host goes on after VMRUN. */
static void note_return(const char *host)
{
    for (unsigned i = 0; i < p.nreturns; i++)
        if (p.returns[i] == host)
            return;
    if (p.nreturns == RETURNS)
        die("VMRUN in more than %d places: a hypervisor that is not known here", RETURNS);
    p.returns[p.nreturns++] = host;
}

/* Is there the instruction behind a VMRUN at this host address? */
static bool is_return(const void *host)
{
    for (unsigned i = 0; i < p.nreturns; i++)
        if (p.returns[i] == host)
            return true;
    return false;
}

/* Adds the lines of an instruction's code to its block. */
static void add_lines(struct block *b, const struct qemu_plugin_insn *insn)
{
    const struct machine_model *m = p.args.shape.machine;
    const char *host = qemu_plugin_insn_haddr(insn);
    uint64_t first = host ? ranges_address(&p.ranges, host) : RANGES_NONE;
    size_t size = qemu_plugin_insn_size(insn);

    if (first == RANGES_NONE)
        return;
    for (uint64_t at = first & ~(uint64_t)(m->line - 1); at < first + size; at += m->line) {
        /* The next page's part of an instruction is where its own block says, if anywhere. */
        if ((at ^ first) / MEMSYS_PAGE || b->nlines == TB_LINES)
            return;
        if ((b->nlines && b->line[b->nlines - 1] == at) ||
            !memsys_sampled(at, p.args.shape.sample, m->line))
            continue;
        b->line[b->nlines++] = at;
    }
}

static void run_command(unsigned cpu, void *data);

/* The callbacks an instruction always has. */
static void watch(struct qemu_plugin_insn *insn, const uint8_t *code, size_t size)
{
    uint32_t command = decode_command(code, size);

    if (command)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, run_command, QEMU_NO_REGS,
                                               (void *)(uintptr_t)command);
    if (decode_is_vmrun(code, size)) {
        note_return((const char *)qemu_plugin_insn_haddr(insn) + size);
        qemu_plugin_register_vcpu_insn_exec_cb(insn, enter_guest, QEMU_NO_REGS, NULL);
    }
}

/* Each block that is translated. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);
    struct qemu_plugin_insn *insn = n ? qemu_plugin_tb_get_insn(tb, 0) : NULL;
    struct block *b = NULL;

    (void)id;
    if (!p.ranges_found)
        find_ranges();
    if (insn && is_return(qemu_plugin_insn_haddr(insn)))
        qemu_plugin_register_vcpu_insn_exec_cb(insn, leave_guest, QEMU_NO_REGS, NULL);
    if (p.on && insn) {
        /* An instruction touches one line more than those before it; the first of a page two. */
        b = calloc(1, sizeof(*b) + (n + 2 < TB_LINES ? n + 2 : TB_LINES) * sizeof(b->line[0]));
        if (!b)
            die("no memory");
        b->next = p.blocks;
        p.blocks = b;
        b->insns = (uint32_t)n;
        b->kernel = qemu_plugin_insn_vaddr(insn) >> 63;
    }
    for (size_t i = 0; i < n; i++) {
        size_t size;
        const uint8_t *code;

        insn = qemu_plugin_tb_get_insn(tb, i);
        code = qemu_plugin_insn_data(insn);
        size = qemu_plugin_insn_size(insn);
        watch(insn, code, size);
        if (!b)
            continue;
        if (decode_drops_translations(code, size))
            qemu_plugin_register_vcpu_insn_exec_cb(insn, drop_translations, QEMU_NO_REGS, NULL);
        add_lines(b, insn);
        qemu_plugin_register_vcpu_mem_cb(insn, memory_access, QEMU_NO_REGS, QEMU_MEM_RW,
                                         decode_is_locked(code, size) ? &p : NULL);
    }
    if (b)
        qemu_plugin_register_vcpu_tb_exec_cb(tb, block_run, QEMU_NO_REGS, b);
}

/* ---- commands, beginning and end ---- */

/* 7.2 leaves a CPU with callbacks of code that was dropped; the next access of a helper would call
 * them. No CPU runs now. */
static void clear_stale(void)
{
    for (unsigned c = 0; c < p.args.shape.ncpus; c++)
        if (p.qemu.get_cpu((int)c))
            p.qemu.disable_mem_helpers(p.qemu.get_cpu((int)c));
}

/* All translated code is gone, and no CPU runs. */
static void flushed(qemu_plugin_id_t id)
{
    (void)id;
    clear_stale();
    while (p.blocks) {
        struct block *b = p.blocks;

        p.blocks = b->next;
        free(b);
    }
}

/* The emulator ends. */
static void ended(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    if (p.trace && trace_close(p.trace, p.insns))
        fprintf(stderr, "memsys: %s could not be written whole\n", p.args.trace);
    p.trace = NULL;
}

static void register_all(void)
{
    qemu_plugin_register_flush_cb(p.id, flushed);
    qemu_plugin_register_atexit_cb(p.id, ended, NULL);
    qemu_plugin_register_vcpu_tb_trans_cb(p.id, translated);
}

/* After a reset: what the emulator calls from now on. */
static void reset_done(qemu_plugin_id_t id)
{
    flushed(id);
    register_all();
}

/* Model on or off: everything is translated anew. */
static void switch_to(bool on)
{
    if (p.on == on)
        return;
    p.on = on;
    p.region->on = on;
    p.region->toggles++;
    for (unsigned c = 0; c < p.args.shape.ncpus; c++) {
        drop_translations(c, NULL);
        p.vcpu[c].left = p.args.quantum;
        choose_context(c);
    }
    clock_rate(on ? p.args.slow : 1);
    qemu_plugin_reset(p.id, reset_done);
}

/* A broken model must not go on. */
static void check_model(void)
{
    char what[200] = "";
    unsigned bad = memsys_check(p.model, what, sizeof(what));

    if (bad)
        die("%u violations of the model's invariants; %s", bad, what);
}

static void flush_trace(void)
{
    if (!p.trace)
        return;
    trace_flush(p.trace, p.insns);
    trace_numbers(p.trace, &p.region->trace_records, &p.region->trace_lost);
}

/* A program's magic instruction. */
static void run_command(unsigned cpu, void *data)
{
    uint32_t command = (uint32_t)(uintptr_t)data, argument = command & 0xff;

    switch (command >> 8) {
    case ROI_ON:
        switch_to(true);
        break;
    case ROI_OFF:
        flush_trace();
        switch_to(false);
        break;
    case ROI_ZERO:
        memsys_zero(p.model);
        break;
    case ROI_EMPTY:
        memsys_empty(p.model);
        break;
    case ROI_TAG:
        p.vcpu[cpu].tag = argument % MEMSYS_TAGS;
        p.region->tag_of_cpu[cpu] = p.vcpu[cpu].tag;
        choose_context(cpu);
        break;
    case ROI_MARK:
        p.region->mark = argument;
        break;
    case ROI_CHECK:
        check_model();
        break;
    case ROI_FLUSH:
        flush_trace();
        break;
    default:
        break; /* of a later version: nothing is to happen */
    }
}

/* Each CPU's start: all of them must share a thread. */
static void vcpu_started(qemu_plugin_id_t id, unsigned cpu)
{
    (void)id;
    if (cpu >= p.args.shape.ncpus)
        die("CPU %u started; nodes=%u and cpus=%u speak of %u CPUs", cpu, p.args.shape.nnodes,
            p.args.shape.ncpus / p.args.shape.nnodes, p.args.shape.ncpus);
    if (*p.qemu.several_threads)
        die("the emulator runs its CPUs in several threads; -accel tcg,thread=single is "
            "needed");
    if (!cpu && p.args.slow > 1 && clock_install())
        _exit(1);
    p.vcpu[cpu].object = p.qemu.get_cpu((int)cpu);
}

/* The shared region: it must exist and be large enough. */
static bool map_region(void)
{
    const struct memsys_shape *s = &p.args.shape;
    char what[300];

    p.region =
        region_map(p.args.region, s->ncpus, s->nnodes, s->node_bytes, what, sizeof(what));
    if (!p.region)
        fprintf(stderr, "memsys: %s\n", what);
    return p.region;
}

/* Begins the trace, if one was asked for. */
static bool open_trace(void)
{
    struct trace_header h = {.magic = TRACE_MAGIC,
                             .version = TRACE_VERSION,
                             .ncpus = p.args.shape.ncpus,
                             .nnodes = p.args.shape.nnodes,
                             .sample = p.args.shape.sample,
                             .node_bytes = p.args.shape.node_bytes,
                             .interval = p.args.interval};

    if (!p.args.trace)
        return true;
    memcpy(h.machine, p.region->machine, sizeof(h.machine));
    memcpy(h.node_of_cpu, p.region->node_of_cpu, sizeof(h.node_of_cpu));
    p.trace = trace_new(p.args.trace, &h, p.args.trace_most);
    if (!p.trace)
        fprintf(stderr, "memsys: trace=%s: %s\n", p.args.trace, strerror(errno));
    return p.trace;
}

/* The arguments, for good: the emulator's own go away. */
static bool parse(int argc, char **argv)
{
    char what[300];

    if (!args_parse(&p.args, argc, argv, what, sizeof(what))) {
        fprintf(stderr, "memsys: %s\n", what);
        return false;
    }
    p.args.mem = strdup(p.args.mem);
    p.args.region = strdup(p.args.region);
    p.args.version = strdup(p.args.version);
    p.args.trace = p.args.trace ? strdup(p.args.trace) : NULL;
    return true;
}

/* Called by QEMU when it loads us; what is wrong was said when this is not 0. */
QEMU_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
                                    char **argv)
{
    p.id = id;
    if (!parse(argc, argv) || qemu_check(&p.qemu, p.args.version, info))
        return 1;
    if (info->system.max_vcpus != (int)p.args.shape.ncpus) {
        fprintf(stderr, "memsys: the machine has %d CPUs, nodes=%u and cpus=%u make %u\n",
                info->system.max_vcpus, p.args.shape.nnodes,
                p.args.shape.ncpus / p.args.shape.nnodes, p.args.shape.ncpus);
        return 1;
    }
    if (!map_region())
        return 1;
    p.model = memsys_new(&p.args.shape, p.region);
    if (!p.model || !open_trace()) {
        fprintf(stderr, "memsys: cannot begin%s\n", p.model ? "" : ": no memory");
        return 1;
    }
    for (unsigned c = 0; c < p.args.shape.ncpus; c++)
        p.vcpu[c].generation = 1;
    qemu_plugin_register_vcpu_init_cb(id, vcpu_started);
    register_all();
    return 0;
}
