/* SPDX-License-Identifier: MIT */
/*
 * A machine of user-mode vCPUs in several views with a pager over it, for the tests of the
 * pager and its benchmark.  Programs: user/pages.c.  Functions die() with a message when the
 * host fails. Threads: the machine's vCPUs, the pager's guards, and the one that calls these.
 */
#ifndef DISCO_TESTS_GUEST_PAGES_RIG_H
#define DISCO_TESTS_GUEST_PAGES_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/guest/user/pages.h"
#include "vmm/machine/machine.h"
#include "vmm/pager/pager.h"

enum {
    RIG_GDT = 0x1000,
    RIG_TSS = 0x2000,
    RIG_PML4 = 0x3000,
    RIG_PDPT = 0x4000,
    RIG_PD = 0x5000,
    RIG_MEMORY = 64 << 20,
    RIG_ARENA_GFN = PAGES_ARENA >> 12,
    RIG_SPARE_GFN = 16 << 8, /* 16 MiB: pages no program touches, up to the end */
    RIG_WAIT_S = 120,
};

/* The machine, its pager, and what programs tell. */
struct pages_rig {
    struct machine m;
    struct pager *p;
    struct pages_ctl *ctl;
    unsigned n;               /* vCPUs */
    unsigned nnodes;          /* of the pager */
    atomic_uint done;         /* programs that ended */
    atomic_ulong in, out;     /* bytes of string input given, of output taken */
    atomic_ulong wrong_bytes; /* of output: not what was given */
    struct rig_strings {
        uint64_t in, out, wrong; /* the same of one side */
    } strings[2];                /* side's vCPU */
    uint64_t latch[16];          /* PAGES_LATCH: word 8 * side; side's vCPU */
    atomic_ulong want[4];        /* what programs asked for, by pages_act()'s want, */
    atomic_ulong had[4];         /* and how often both pages were so then */
};

/* Says why and ends the process. */
static inline __attribute__((noreturn, format(printf, 1, 2))) void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    _exit(1);
}

/* ---- devices ---- */

static inline void rig_done(void *dev, uint64_t off, const void *data, unsigned len)
{
    (void)off, (void)data, (void)len;
    atomic_fetch_add(&((struct pages_rig *)dev)->done, 1);
}

static inline void rig_zero(void *dev, uint64_t off, void *data, unsigned len)
{
    (void)dev, (void)off;
    memset(data, 0, len);
}

/* String input: bytes that go up by 13. */
static inline void rig_in(void *dev, uint64_t off, void *data, unsigned len)
{
    struct pages_rig *r = dev;

    (void)off;
    for (unsigned i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)(atomic_fetch_add(&r->in, 1) * 13);
}

/* String output: must be the same bytes in the same order. */
static inline void rig_out(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct pages_rig *r = dev;

    (void)off;
    for (unsigned i = 0; i < len; i++)
        if (((const uint8_t *)data)[i] != (uint8_t)(atomic_fetch_add(&r->out, 1) * 13))
            atomic_fetch_add(&r->wrong_bytes, 1);
}

static inline void rig_wide(void *dev, uint64_t off, void *data, unsigned len)
{
    (void)dev;
    for (unsigned i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)((off + i) * 17);
}

/* Strings of a side's own: 4 ports each. */
static inline void rig_side_in(void *dev, uint64_t off, void *data, unsigned len)
{
    struct rig_strings *t = &((struct pages_rig *)dev)->strings[off / 4];

    for (unsigned i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)(t->in++ * 13);
}

static inline void rig_side_out(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct rig_strings *t = &((struct pages_rig *)dev)->strings[off / 4];

    for (unsigned i = 0; i < len; i++)
        t->wrong += ((const uint8_t *)data)[i] != (uint8_t)(t->out++ * 13);
}

/* The sink: each byte must be the one that belongs there. */
static inline void rig_sink(void *dev, uint64_t off, const void *data, unsigned len)
{
    for (unsigned i = 0; i < len; i++)
        if (((const uint8_t *)data)[i] != (uint8_t)((off + i) * 29 + 3))
            atomic_fetch_add(&((struct pages_rig *)dev)->wrong_bytes, 1);
}

static inline void rig_latch(void *dev, uint64_t off, const void *data, unsigned len)
{
    memcpy((uint8_t *)((struct pages_rig *)dev)->latch + off, data, len);
}

static inline void rig_unlatch(void *dev, uint64_t off, void *data, unsigned len)
{
    memcpy(data, (const uint8_t *)((struct pages_rig *)dev)->latch + off, len);
}

/* Replicates a page of the arena for all nodes, or takes it back; true if it is so then. */
static inline bool rig_make(struct pages_rig *r, uint64_t page, bool replicated)
{
    uint64_t gfn = RIG_ARENA_GFN + page;

    if (!replicated)
        pager_collapse(r->p, gfn, 1);
    for (unsigned n = 0; replicated && n < r->nnodes; n++)
        pager_replicate(r->p, gfn, 1, n);
    return (pagemap_get(pager_map(r->p), gfn).state == PAGE_REPLICATED) == replicated;
}

/* pages_act() of a program. */
static inline void rig_act(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct pages_rig *r = dev;
    uint32_t v = 0;
    unsigned want;
    bool first, second;

    memcpy(&v, data, len);
    if (off || !r->p)
        return;
    if (v >> 16) {
        for (unsigned n = 0; n < r->nnodes; n++)
            pager_replicate(r->p, RIG_ARENA_GFN + (v & 0xff), v >> 16 & 0x3f, n);
        return;
    }
    want = v >> 8 & 3;
    first = rig_make(r, v & 0x3f, want & 1);
    second = rig_make(r, (v & 0x3f) + 1, want & 2);
    atomic_fetch_add(&r->want[want], 1);
    atomic_fetch_add(&r->had[want], first && second);
}

static const struct bus_ops rig_side_ops = {.read = rig_side_in, .write = rig_side_out};
static const struct bus_ops rig_sink_ops = {.read = rig_zero, .write = rig_sink};
static const struct bus_ops rig_latch_ops = {.read = rig_unlatch, .write = rig_latch};
static const struct bus_ops rig_act_ops = {.read = rig_zero, .write = rig_act};
static const struct bus_ops rig_done_ops = {.read = rig_zero, .write = rig_done};
static const struct bus_ops rig_io_ops = {.read = rig_in, .write = rig_out};
static const struct bus_ops rig_wide_ops = {.read = rig_wide, .write = rig_done};

/* ---- making ---- */

/* Puts 8 bytes into guest memory. */
static inline void rig_put(struct pages_rig *r, uint64_t gpa, uint64_t value)
{
    if (!mem_write(&r->m.mem, gpa, &value, 8))
        die("no RAM at %#lx", gpa);
}

/* Descriptors, page tables (one to one for ring 3, accessed and dirty), program. */
static inline void rig_fill(struct pages_rig *r)
{
    static const uint64_t gdt[] = {0x00af9b000000ffffull,
                                   0x00cf93000000ffffull,
                                   0x00affb000000ffffull,
                                   0x00cff3000000ffffull,
                                   0,
                                   (uint64_t)RIG_TSS << 16 | 0x67 | 0x8bull << 40};
    char path[PATH_MAX] = "", *code;
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
    const char *bin = getenv("PAGES_BIN");
    int fd;

    for (unsigned i = 0; i < sizeof(gdt) / 8; i++)
        rig_put(r, RIG_GDT + 8 + 8 * i, gdt[i]);
    rig_put(r, RIG_PML4, RIG_PDPT | 0x27);
    rig_put(r, RIG_PDPT, RIG_PD | 0x27);
    rig_put(r, RIG_PDPT + 8 * 3, (RIG_PD + 4096) | 0x27);
    for (uint64_t i = 0; i < RIG_MEMORY >> 21; i++)
        rig_put(r, RIG_PD + 8 * i, i << 21 | 0xe7);
    rig_put(r, RIG_PD + 4096, PAGES_MMIO | 0xe7);
    if (n <= 0)
        die("/proc/self/exe: %s", strerror(errno));
    strcpy(strrchr(path, '/'), "/pages.bin");
    fd = open(bin ? bin : path, O_RDONLY | O_CLOEXEC);
    code = mem_at(&r->m.mem, PAGES_CODE, 1 << 16, MEM_WRITE);
    if (fd < 0 || !code || read(fd, code, 1 << 16) <= 0)
        die("%s: %s", bin ? bin : path, strerror(errno));
    close(fd);
}

static inline struct kvm_segment rig_segment(bool code, uint8_t ring)
{
    return (struct kvm_segment){.limit = UINT32_MAX,
                                .selector = (ring ? 0x18 : 8) + (code ? 0 : 8) + ring,
                                .type = code ? 11 : 3,
                                .present = 1,
                                .dpl = ring,
                                .db = !code,
                                .s = 1,
                                .l = code,
                                .g = 1};
}

/* Registers at the start: 64-bit, that ring, ports allowed. */
static inline void rig_registers(struct vcpu *v, uint8_t ring)
{
    struct kvm_regs regs = {.rip = PAGES_CODE,
                            .rsp = PAGES_STACK + 0x1000 * v->id - 8,
                            .rdi = v->id,
                            .rflags = 0x3002};
    struct kvm_sregs x;

    if (ioctl(v->fd, KVM_GET_SREGS, &x))
        die("KVM_GET_SREGS: %s", strerror(errno));
    x.cr0 = 0x80000033;
    x.cr3 = RIG_PML4;
    x.cr4 = 0x620;
    x.efer = 0x500;
    x.cs = rig_segment(true, ring);
    x.ss = rig_segment(false, ring);
    x.ds = x.es = x.fs = x.gs = rig_segment(false, 3);
    x.tr = (struct kvm_segment){
        .base = RIG_TSS, .limit = 0x67, .selector = 0x30, .type = 11, .present = 1};
    x.ldt = (struct kvm_segment){.unusable = 1, .type = 2};
    x.gdt = (struct kvm_dtable){.base = RIG_GDT, .limit = 71};
    x.idt = (struct kvm_dtable){.limit = 0x1ff};
    if (ioctl(v->fd, KVM_SET_SREGS, &x) || ioctl(v->fd, KVM_SET_REGS, &regs))
        die("KVM_SET_SREGS: %s", strerror(errno));
    v->wait_sipi = false;
}

/* Who sees to faults. */
enum rig_faults {
    RIG_BEST,   /* vCPUs where KVM tells where they are */
    RIG_THREAD, /* a thread a view, even then */
    RIG_VCPU,   /* vCPUs, even if KVM does not tell */
};

/* What a rig is made of. */
struct rig_spec {
    unsigned nvcpus, nviews, nnodes; /* view v is on node v % nnodes */
    enum pager_mover mover;          /* how masters move */
    int forget_view;                 /* the broken build; -1: none */
    unsigned max_maps;               /* as if the host had no more; 0: its own */
    uint64_t keep_free;              /* bytes replicas leave free */
    bool real_nodes;                 /* node n is the host's node n */
    bool probation;                  /* pages are watched before they are replicated */
    bool samples;                    /* pages will be revoked */
    enum rig_faults faults;          /* who sees to faults; a thread where samples */
};

/* Faults on vCPUs where KVM does not say where: all that programs work on is taken back. */
static inline bool rig_fault(void *arg, unsigned view, uint64_t gpa, uint64_t *seen)
{
    struct pages_rig *r = arg;
    uint64_t n = 0;

    if (gpa == UINT64_MAX)
        n = pager_collapse(r->p, RIG_ARENA_GFN, PAGES_NARENA);
    return pager_fault(r->p, view, gpa, seen) || n;
}

/* Makes the machine; nothing runs yet.  Side i of a game is vCPU i, in view i. */
static inline struct pages_rig *rig_new(const struct rig_spec *s, enum pages_prog prog)
{
    struct machine_spec spec = {.nvcpus = s->nvcpus, .nviews = s->nviews, .x2apic = true};
    struct pages_rig *r = xcalloc(1, sizeof(*r));
    struct pager_spec pager = {.mem = &r->m.mem,
                               .nnodes = s->nnodes,
                               .mover = s->mover,
                               .max_maps = s->max_maps,
                               .keep_free = s->keep_free,
                               .forget_view = s->forget_view};
    struct err err = {0};

    spec.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (s->faults == RIG_VCPU || (s->faults == RIG_BEST && pager_kvm_tells(spec.kvm_fd)))
        pager.on_vcpu = !s->samples;
    pager.samples = s->samples;
    pager.probation = s->probation;
    spec.mem.size = RIG_MEMORY;
    for (unsigned i = 0; i < MEM_MAX_VIEWS; i++) {
        spec.view_node[i] = -1;
        pager.view_node[i] = (uint8_t)(i % s->nnodes);
    }
    for (unsigned i = 0; i < PAGEMAP_NODES; i++)
        pager.node_host[i] = s->real_nodes ? (int)i : -1;
    if (spec.kvm_fd < 0 || machine_init(&r->m, &spec, &err))
        die("machine: %s", err.text);
    r->n = s->nvcpus;
    r->nnodes = s->nnodes;
    rig_fill(r);
    r->ctl = mem_at(&r->m.mem, PAGES_CTL, sizeof(*r->ctl), MEM_WRITE);
    bus_add(&r->m.pio, PORT_PAGES_DONE, 1, &rig_done_ops, r, "done");
    bus_add(&r->m.pio, PORT_PAGES_IO, 1, &rig_io_ops, r, "io");
    bus_add(&r->m.pio, PORT_PAGES_ACT, 4, &rig_act_ops, r, "act");
    bus_add(&r->m.pio, PORT_PAGES_SIDE, 8, &rig_side_ops, r, "strings");
    bus_add(&r->m.mmio, PAGES_MMIO, 4096, &rig_wide_ops, r, "wide");
    bus_add(&r->m.mmio, PAGES_SINK, 4096, &rig_sink_ops, r, "sink");
    bus_add(&r->m.mmio, PAGES_LATCH, 128, &rig_latch_ops, r, "latch");
    for (unsigned i = 0; i < r->n; i++) {
        r->ctl->side[i].prog = prog;
        r->ctl->side[i].side = i;
        rig_registers(&r->m.vcpus[i], pages_ring0(prog) ? 0 : 3);
    }
    if (pager_new(&r->p, &pager, &err)) {
        fprintf(stderr, "SKIP: %s\n", err.text);
        exit(77);
    }
    r->m.on_fault = rig_fault;
    r->m.on_fault_arg = r;
    return r;
}

static inline void rig_start(struct pages_rig *r)
{
    struct err err = {0};

    if (machine_start(&r->m, &err))
        die("machine: %s", err.text);
    for (unsigned i = 0; i < r->n && r->m.spec.nviews > 1; i++)
        if (machine_move_vcpu(&r->m, i, i % r->m.spec.nviews))
            die("vCPU %u cannot be moved to view %u", i, i % r->m.spec.nviews);
}

/* A word the guest writes. */
static inline uint64_t rig_look(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Dies if the guest has ended by itself. */
static inline void rig_must_run(const struct pages_rig *r)
{
    if (atomic_load(&r->m.end) != MACHINE_RUNS)
        die("the machine ended: %s", r->m.end_reason);
}

/* Tells programs to stop and waits until all did. */
static inline void rig_stop(struct pages_rig *r)
{
    __atomic_store_n(&r->ctl->stop, 1, __ATOMIC_RELEASE);
    for (unsigned ms = 0; atomic_load(&r->done) < r->n; ms++) {
        rig_must_run(r);
        if (ms > RIG_WAIT_S * 1000)
            die("%u of %u programs ended", atomic_load(&r->done), r->n);
        usleep(1000);
    }
    machine_end(&r->m, MACHINE_KILLED, 0, "the test is over");
    machine_join(&r->m);
}

static inline void rig_free(struct pages_rig *r)
{
    if (r->p)
        pager_free(r->p);
    machine_exit(&r->m);
    close(r->m.spec.kvm_fd);
    free(r);
}

/* Proves all invariants, or dies. */
static inline void rig_check(struct pages_rig *r)
{
    char wrong[256];

    if (!pager_check(r->p, wrong, sizeof(wrong)))
        die("check: %s", wrong);
}

#endif
