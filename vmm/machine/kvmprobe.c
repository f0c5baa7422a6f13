/* SPDX-License-Identifier: MIT */
/*
 * Measures a KVM with a virtual machine of one vCPU and 64 KiB: the same countdown loop at
 * CPL 0 and at CPL 3, in 64-bit mode, each ended by an OUT the vCPU exits with.
 * Interface: kvm_probe().  Everything made here is undone before it returns.
 *
 * An emulated loop is told from a native one by milliseconds; see measure().
 * I/O privilege level 3 lets the OUT of user code reach KVM instead of raising #GP.
 * Sources: Intel SDM vol. 3 chapters 4.5 (paging) and 3.4.5 (descriptors).
 */
#include "vmm/machine/kvmprobe.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

/* KVM_CAP_MEMORY_FAULT_INFO, which headers before Linux 6.8 do not name. */
enum { CAP_MEMORY_FAULT_INFO = 232 };

/* Guest-physical layout, and the loop. */
enum {
    GPA_GDT = 0x1000,      /* descriptor table */
    GPA_TSS = 0x2000,      /* task state, of zeros */
    GPA_PML4 = 0x3000,     /* page tables, level by level */
    GPA_PDPT = 0x4000,     /* third level */
    GPA_PD = 0x5000,       /* second level */
    GPA_PT = 0x6000,       /* first level: the whole memory, 4 KiB pages */
    GPA_CODE = 0x8000,     /* the loop */
    GPA_STACK = 0xa000,    /* grows down */
    MEM_SIZE = 0x10000,    /* bytes of the guest's memory */
    PTE_FLAGS = 0x67,      /* present, writable, user, accessed, dirty */
    PTE_TABLE = 0x27,      /* present, writable, user, accessed */
    PORT = 0x10,           /* what the loop's OUT writes to */
    LOOPS = 4000,          /* iterations an emulator needs milliseconds for */
    LOOPS_LONG = 100000,   /* iterations timed for a native speed */
    NATIVE_NS = 1000000,   /* LOOPS faster than this are not emulated */
    INSNS_PER_LOOP = 2,    /* dec, jnz */
    TRIES = 3,             /* the best counts */
    TSS_ADDR = 0xfffbd000, /* three pages Intel hosts need below 4 GiB */
    GDT_ENTRIES = 9,       /* null, kernel code, data, user code, data, spare, TSS (2) */
    SEL_KCODE = 0x08,      /* selectors: kernel code */
    SEL_KDATA = 0x10,      /* kernel data */
    SEL_UCODE = 0x1b,      /* user code, privilege 3 */
    SEL_UDATA = 0x23,      /* user data, privilege 3 */
    SEL_TSS = 0x30,        /* task state */
};

/* The tiny machine. */
struct tiny {
    int vm;              /* struct kvm, -1: none */
    int vcpu;            /* its one vCPU, -1: none */
    struct kvm_run *run; /* shared page of the vCPU */
    size_t run_len;      /* bytes of run */
    uint8_t *mem;        /* MEM_SIZE bytes of guest memory */
};

/* A capability without which no guest runs, and its name for people. */
struct required {
    int cap;          /* KVM_CAP_* */
    const char *name; /* without the KVM_CAP_ */
};

static const struct required required[] = {
    {KVM_CAP_USER_MEMORY, "USER_MEMORY"},
    {KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR"},
    {KVM_CAP_NR_VCPUS, "NR_VCPUS"},
    {KVM_CAP_MAX_VCPUS, "MAX_VCPUS"},
    {KVM_CAP_NR_MEMSLOTS, "NR_MEMSLOTS"},
    {KVM_CAP_IOEVENTFD, "IOEVENTFD"},
    {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT"},
    {KVM_CAP_X86_USER_SPACE_MSR, "X86_USER_SPACE_MSR"},
    {KVM_CAP_X86_MSR_FILTER, "X86_MSR_FILTER"},
    {KVM_CAP_VCPU_ATTRIBUTES, "VCPU_ATTRIBUTES"},
    {KVM_CAP_GET_TSC_KHZ, "GET_TSC_KHZ"},
};

/* Value of a capability, 0 when it is not there. */
static unsigned cap_value(int fd, int cap)
{
    int v = ioctl(fd, KVM_CHECK_EXTENSION, cap);

    return v > 0 ? (unsigned)v : 0;
}

/* Notes a capability that is not there. */
static void miss(struct kvm_probe *out, const char *name)
{
    if (out->nmissing < KVM_PROBE_MISSING)
        out->missing[out->nmissing++] = name;
}

/* Asks for every capability. */
static void probe_caps(int kvm_fd, struct kvm_probe *out)
{
    for (unsigned i = 0; i < sizeof(required) / sizeof(required[0]); i++)
        if (!cap_value(kvm_fd, required[i].cap))
            miss(out, required[i].name);
    out->nr_vcpus = cap_value(kvm_fd, KVM_CAP_NR_VCPUS);
    out->max_vcpus = cap_value(kvm_fd, KVM_CAP_MAX_VCPUS);
    out->nr_memslots = cap_value(kvm_fd, KVM_CAP_NR_MEMSLOTS);
    if (out->nr_memslots && out->nr_memslots < KVM_PROBE_MIN_SLOTS)
        miss(out, "NR_MEMSLOTS of at least 8");
    out->memory_fault_info = cap_value(kvm_fd, CAP_MEMORY_FAULT_INFO) > 0;
    out->stats_fd = cap_value(kvm_fd, KVM_CAP_BINARY_STATS_FD) > 0;
}

/* A flat segment's descriptor as the GDT holds it. */
static uint64_t descriptor(const struct kvm_segment *s)
{
    return 0x000f00000000ffffull | (uint64_t)s->type << 40 | (uint64_t)s->s << 44 |
           (uint64_t)s->dpl << 45 | (uint64_t)s->present << 47 | (uint64_t)s->l << 53 |
           (uint64_t)s->db << 54 | (uint64_t)s->g << 55;
}

/* A flat code or data segment for ring cpl. */
static struct kvm_segment segment(bool code, unsigned cpl)
{
    unsigned sel = cpl ? (code ? SEL_UCODE : SEL_UDATA) : (code ? SEL_KCODE : SEL_KDATA);

    return (struct kvm_segment){.limit = UINT32_MAX,
                                .selector = (uint16_t)sel,
                                .type = code ? 11 : 3,
                                .present = 1,
                                .dpl = (uint8_t)cpl,
                                .db = !code,
                                .s = 1,
                                .l = code,
                                .g = 1};
}

/* Writes GDT, page tables (the 64 KiB mapped one to one) and the loop into guest memory. */
static void fill_memory(struct tiny *t)
{
    static const uint8_t loop[] = {0xff, 0xc9,  /* dec %ecx */
                                   0x75, 0xfc,  /* jnz -4 */
                                   0xe6, PORT,  /* out %al, $PORT */
                                   0xeb, 0xfc}; /* jmp to the out */
    uint64_t gdt[GDT_ENTRIES] = {0}, pte;
    struct kvm_segment s;

    for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
        for (unsigned data = 0; data < 2; data++) {
            s = segment(!data, cpl);
            gdt[s.selector / 8] = descriptor(&s);
        }
    }
    gdt[SEL_TSS / 8] = (uint64_t)GPA_TSS << 16 | 0x67 | 0x8bull << 40;
    memcpy(t->mem + GPA_GDT, gdt, sizeof(gdt));
    pte = GPA_PDPT | PTE_TABLE;
    memcpy(t->mem + GPA_PML4, &pte, sizeof(pte));
    pte = GPA_PD | PTE_TABLE;
    memcpy(t->mem + GPA_PDPT, &pte, sizeof(pte));
    pte = GPA_PT | PTE_TABLE;
    memcpy(t->mem + GPA_PD, &pte, sizeof(pte));
    for (uint64_t gpa = 0; gpa < MEM_SIZE; gpa += 4096) {
        pte = gpa | PTE_FLAGS;
        memcpy(t->mem + GPA_PT + gpa / 4096 * sizeof(pte), &pte, sizeof(pte));
    }
    memcpy(t->mem + GPA_CODE, loop, sizeof(loop));
}

/* Undoes tiny_init(), whole or in part. */
static void tiny_exit(struct tiny *t)
{
    if (t->run)
        munmap(t->run, t->run_len);
    if (t->vcpu >= 0)
        close(t->vcpu);
    if (t->vm >= 0)
        close(t->vm);
    if (t->mem)
        munmap(t->mem, MEM_SIZE);
}

/* Makes memory and gives it to the virtual machine. */
static int tiny_memory(struct tiny *t, struct err *err)
{
    struct kvm_userspace_memory_region r = {.slot = 0, .memory_size = MEM_SIZE};
    void *p = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return fail_errno(err, EXIT_INTERNAL, errno, "KVM probe: mmap of guest memory");
    t->mem = p;
    fill_memory(t);
    r.userspace_addr = (uintptr_t)p;
    if (ioctl(t->vm, KVM_SET_USER_MEMORY_REGION, &r))
        return fail_errno(err, EXIT_NOKVM, errno, "KVM probe: KVM_SET_USER_MEMORY_REGION");
    return 0;
}

/* Makes the machine: struct kvm, memory, vCPU and its shared page. */
static int tiny_init(struct tiny *t, int kvm_fd, struct err *err)
{
    int len = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0), rc;
    void *p;

    *t = (struct tiny){.vm = -1, .vcpu = -1};
    if (len <= 0)
        return fail_errno(err, EXIT_NOKVM, errno, "KVM probe: KVM_GET_VCPU_MMAP_SIZE");
    do
        t->vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
    while (t->vm < 0 && errno == EINTR);
    if (t->vm < 0)
        return fail_errno(err, EXIT_NOKVM, errno, "KVM probe: KVM_CREATE_VM");
    ioctl(t->vm, KVM_SET_TSS_ADDR, TSS_ADDR); /* Intel only; elsewhere it may fail */
    rc = tiny_memory(t, err);
    if (rc)
        return rc;
    t->vcpu = ioctl(t->vm, KVM_CREATE_VCPU, 0);
    if (t->vcpu < 0)
        return fail_errno(err, EXIT_NOKVM, errno, "KVM probe: KVM_CREATE_VCPU");
    p = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
    if (p == MAP_FAILED)
        return fail_errno(err, EXIT_NOKVM, errno, "KVM probe: mmap of the vCPU");
    t->run = p;
    t->run_len = (size_t)len;
    return 0;
}

/* Puts the vCPU before the loop, in 64-bit mode at ring cpl. */
static int set_state(const struct tiny *t, unsigned cpl, unsigned loops, struct err *err)
{
    struct kvm_regs regs = {
        .rip = GPA_CODE, .rsp = GPA_STACK, .rcx = loops, .rflags = cpl ? 0x3002 : 0x2};
    struct kvm_sregs s;

    if (ioctl(t->vcpu, KVM_GET_SREGS, &s))
        return fail_errno(err, EXIT_NOKVM, errno, "KVM probe: KVM_GET_SREGS");
    s.cr0 = 0x80000033; /* paging, numeric error, coprocessor type, monitor, protection */
    s.cr3 = GPA_PML4;
    s.cr4 = 0x20;   /* PAE */
    s.efer = 0x500; /* long mode enabled and active */
    s.cs = segment(true, cpl);
    s.ds = s.es = s.fs = s.gs = s.ss = segment(false, cpl);
    s.tr = (struct kvm_segment){
        .base = GPA_TSS, .limit = 0x67, .selector = SEL_TSS, .type = 11, .present = 1};
    s.ldt = (struct kvm_segment){.unusable = 1, .type = 2};
    s.gdt = (struct kvm_dtable){.base = GPA_GDT, .limit = GDT_ENTRIES * 8 - 1};
    s.idt = (struct kvm_dtable){0};
    if (ioctl(t->vcpu, KVM_SET_SREGS, &s))
        return fail_errno(err, EXIT_NOKVM, errno, "KVM probe: KVM_SET_SREGS");
    if (ioctl(t->vcpu, KVM_SET_REGS, &regs))
        return fail_errno(err, EXIT_NOKVM, errno, "KVM probe: KVM_SET_REGS");
    return 0;
}

/* Monotonic time, ns. */
static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

/* Runs the loop to its OUT; *ns gets the shortest of some tries. */
static int time_loop(const struct tiny *t, unsigned cpl, unsigned loops, uint64_t *ns,
                     struct err *err)
{
    uint64_t start, took;
    int rc;

    INVARIANT(t->run, "the probe's vCPU is mapped");
    *ns = UINT64_MAX;
    for (unsigned i = 0; i < TRIES; i++) {
        rc = set_state(t, cpl, loops, err);
        if (rc)
            return rc;
        start = now_ns();
        do
            rc = ioctl(t->vcpu, KVM_RUN, 0);
        while (rc && errno == EINTR);
        took = now_ns() - start;
        if (rc)
            return fail_errno(err, EXIT_NOKVM, errno, "KVM probe: KVM_RUN at CPL %u", cpl);
        if (t->run->exit_reason != KVM_EXIT_IO || t->run->io.port != PORT)
            return fail(
                err, EXIT_NOKVM, EIO,
                "KVM probe: a countdown loop at CPL %u ended with exit reason %u instead "
                "of its port write: this KVM cannot run 64-bit guests",
                cpl, t->run->exit_reason);
        *ns = took < *ns ? took : *ns;
    }
    *ns += !*ns;
    return 0;
}

/*
 * The speed of a ring in instructions per second.  What entering and leaving costs is measured
 * with one iteration and taken off; a short loop shows an emulator, a longer one then gives the
 * speed of native code.
 */
static int measure(const struct tiny *t, unsigned cpl, double *ips, struct err *err)
{
    uint64_t base = 0, took = 0;
    unsigned loops = LOOPS;
    int rc = time_loop(t, cpl, 1, &base, err);

    if (!rc)
        rc = time_loop(t, cpl, loops, &took, err);
    if (!rc && took < base + NATIVE_NS) {
        loops = LOOPS_LONG;
        rc = time_loop(t, cpl, loops, &took, err);
    }
    took = took > base ? took - base : 1;
    *ips = rc ? 0 : (double)loops * INSNS_PER_LOOP * 1e9 / (double)took;
    return rc;
}

/* Whether the vCPU's TSC offset can be set, which equal time in all views needs. */
static bool has_tsc_offset(const struct tiny *t)
{
    struct kvm_device_attr a = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET};

    return ioctl(t->vcpu, KVM_HAS_DEVICE_ATTR, &a) == 0;
}

int kvm_probe(int kvm_fd, struct kvm_probe *out, struct err *err)
{
    struct tiny t;
    int rc;

    memset(out, 0, sizeof(*out));
    out->api = ioctl(kvm_fd, KVM_GET_API_VERSION, 0);
    if (out->api != KVM_PROBE_API)
        return fail(err, EXIT_NOKVM, ENODEV,
                    "/dev/kvm: API version %d; disco needs version %d of the kernel's KVM",
                    out->api, KVM_PROBE_API);
    probe_caps(kvm_fd, out);
    rc = tiny_init(&t, kvm_fd, err);
    if (!rc) {
        if (!has_tsc_offset(&t))
            miss(out, "VCPU_TSC_CTRL (TSC offsets)");
        rc = measure(&t, 3, &out->user_ips, err);
    }
    if (!rc)
        rc = measure(&t, 0, &out->kernel_ips, err);
    if (!rc) {
        out->ratio = out->user_ips / out->kernel_ips;
        out->emulated = out->ratio > KVM_PROBE_RATIO;
    }
    tiny_exit(&t);
    return rc;
}

bool kvm_on_hardware(void)
{
    if (access("/sys/module/kvm_pvm", F_OK) == 0)
        return false;
    return access("/sys/module/kvm_amd", F_OK) == 0 ||
           access("/sys/module/kvm_intel", F_OK) == 0;
}
