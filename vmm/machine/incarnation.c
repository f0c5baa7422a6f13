/* SPDX-License-Identifier: MIT */
/*
 * Incarnations: a vCPU as it exists in one view.  Created when a vCPU first enters a view; a move
 * carries the whole architectural state from one view's incarnation to another's.
 * All functions run on the owner's thread, or before threads start; no locks.
 *
 * What a move carries, in this order: XCR0 before XSAVE (it says what XSAVE holds), special
 * registers before MSRs (EFER decides which are legal), events last (they hold what was being
 * injected).  The TSC is not carried: all offsets are equal (V2).  What the CPU caches of the
 * guest's page tables is not carried either, and must not survive: see set_sregs().
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/machine/machine.h"

enum {
    MSR_IA32_TSC = 0x10,          /* time-stamp counter: clock.c's */
    MSR_IA32_APICBASE = 0x1b,     /* base and mode of the local APIC */
    MSR_IA32_MISC_ENABLE = 0x1a0, /* fast strings and the like */
    MSR_MTRR_DEF_TYPE = 0x2ff,    /* memory type where no MTRR says any */
    MSR_TSC_DEADLINE = 0x6e0,     /* the APIC timer: ours */
    MSR_KVM_FIRST = 0x4b564d00,   /* KVM's own: one view only, see carried() */
    MSR_KVM_LAST = 0x4b564dff,    /* their last */
    MSR_HV_FIRST = 0x40000000,    /* another hypervisor's interface, not offered */
    MSR_HV_LAST = 0x400001ff,     /* their last */
    XSAVE_MAX = 64 * 1024,        /* more than any CPU's XSAVE area today */
};

/* MSRs a guest can write that KVM_GET_MSR_INDEX_LIST does not name: first and last of each run. */
static const uint32_t unlisted[][2] = {
    {0x1d9, 0x1d9}, /* DEBUGCTL */
    {0x200, 0x20f}, /* variable MTRRs */
    {0x250, 0x250}, /* fixed MTRRs */
    {0x258, 0x259}, {0x268, 0x26f}, {MSR_MTRR_DEF_TYPE, MSR_MTRR_DEF_TYPE},
};
enum { UNLISTED_MAX = 32 }; /* MSRs in all runs, at most */

/* The MSRs a move carries. */
struct msr_set {
    unsigned n;       /* entries of index */
    uint32_t index[]; /* MSR numbers */
};

/* Whether a move carries an MSR. */
static bool carried(uint32_t msr)
{
    if (msr == MSR_IA32_TSC || msr == MSR_TSC_DEADLINE || msr == MSR_IA32_APICBASE)
        return false;
    if (msr >= MSR_KVM_FIRST && msr <= MSR_KVM_LAST)
        return false; /* kvmclock is for guests of one view, which never move */
    return msr < MSR_HV_FIRST || msr > MSR_HV_LAST;
}

/* Puts an MSR into the set, once. */
static void add_msr(struct msr_set *set, uint32_t msr)
{
    for (unsigned i = 0; i < set->n; i++)
        if (set->index[i] == msr)
            return;
    set->index[set->n++] = msr;
}

int msr_set_new(struct machine *m, struct err *err)
{
    struct kvm_msr_list probe = {.nmsrs = 0}, *list;

    if (ioctl(m->kvm_fd, KVM_GET_MSR_INDEX_LIST, &probe) && errno != E2BIG)
        return fail_errno(err, EXIT_NOKVM, errno, "KVM_GET_MSR_INDEX_LIST");
    list = xcalloc(1, sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
    m->msrs =
        xcalloc(1, sizeof(*m->msrs) + (probe.nmsrs + UNLISTED_MAX) * sizeof(m->msrs->index[0]));
    list->nmsrs = probe.nmsrs;
    if (probe.nmsrs && ioctl(m->kvm_fd, KVM_GET_MSR_INDEX_LIST, list))
        list->nmsrs = 0;
    for (unsigned i = 0; i < list->nmsrs; i++)
        if (carried(list->indices[i]))
            add_msr(m->msrs, list->indices[i]);
    for (unsigned i = 0; i < sizeof(unlisted) / sizeof(unlisted[0]); i++)
        for (uint32_t msr = unlisted[i][0]; msr <= unlisted[i][1]; msr++)
            add_msr(m->msrs, msr);
    free(list);
    return 0;
}

void msr_set_free(struct machine *m)
{
    free(m->msrs);
    m->msrs = NULL;
}

/* Memory type default (write-back), as firmware would leave it; fast string operations, and
 * neither branch trace store nor PEBS. */
static void set_boot_msrs(int fd)
{
    static const struct {
        uint32_t index;
        uint64_t data;
    } boot[] = {{MSR_MTRR_DEF_TYPE, 0x806}, {MSR_IA32_MISC_ENABLE, 0x1801}};

    for (unsigned i = 0; i < sizeof(boot) / sizeof(boot[0]); i++) {
        struct {
            struct kvm_msrs head;
            struct kvm_msr_entry entry;
        } msr = {.head = {.nmsrs = 1}, .entry = {.index = boot[i].index, .data = boot[i].data}};

        (void)ioctl(fd, KVM_SET_MSRS, &msr);
    }
}

/* IA32_APIC_BASE at power-up.  As firmware does on machines with more CPUs than xAPIC ids can
 * number, such a guest starts in x2APIC mode: Linux drops MADT entries above 254 otherwise. */
uint64_t incarnation_apic_base(const struct vcpu *v)
{
    return MMIO_LAPIC | 0x800 | (v->id == 0 ? 0x100 : 0) |
           (v->m->spec.nvcpus > 254 ? 0x400 : 0);
}

/* The local APIC's base, which KVM keeps without an in-kernel APIC. */
static int set_apic_base(const struct vcpu *v, int fd)
{
    struct kvm_sregs s;

    if (ioctl(fd, KVM_GET_SREGS, &s))
        return -errno;
    s.apic_base = incarnation_apic_base(v);
    return ioctl(fd, KVM_SET_SREGS, &s) ? -errno : 0;
}

int incarnation_new(struct vcpu *v, unsigned view, struct err *err)
{
    struct incarnation *inc = &v->inc[view];
    struct machine *m = v->m;
    int r;

    inc->fd = ioctl(m->views[view].fd, KVM_CREATE_VCPU, (unsigned long)v->id);
    if (inc->fd < 0)
        return fail_errno(err, EXIT_NOKVM, errno, "KVM_CREATE_VCPU %u in view %u", v->id, view);
    inc->run = mmap(NULL, (size_t)m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, inc->fd, 0);
    if (inc->run == MAP_FAILED) {
        inc->run = NULL;
        r = fail_errno(err, EXIT_INTERNAL, errno, "mmap of a vCPU's kvm_run");
        goto undo;
    }
    r = cpuid_apply(v, inc->fd);
    if (r) {
        fail_errno(err, EXIT_NOKVM, -r, "KVM_SET_CPUID2");
        goto undo;
    }
    set_boot_msrs(inc->fd);
    r = set_apic_base(v, inc->fd);
    if (r) {
        fail_errno(err, EXIT_NOKVM, -r, "KVM_SET_SREGS");
        goto undo;
    }
    r = clock_set(v, inc->fd, err);
    if (!r)
        return 0;
undo:
    incarnation_free(v, view);
    return r;
}

void incarnation_free(struct vcpu *v, unsigned view)
{
    struct incarnation *inc = &v->inc[view];

    if (inc->run)
        munmap(inc->run, (size_t)v->m->run_size);
    if (inc->fd >= 0)
        close(inc->fd);
    *inc = (struct incarnation){.fd = -1};
}

/* The state of one vCPU between two incarnations. */
struct vcpu_image {
    struct kvm_regs regs;          /* general registers */
    struct kvm_sregs sregs;        /* segments, control registers */
    struct kvm_xcrs xcrs;          /* what XSAVE saves */
    struct kvm_debugregs debug;    /* breakpoints */
    struct kvm_vcpu_events events; /* exceptions, NMIs and interrupt shadow */
    union {
        struct kvm_xsave legacy;  /* its first 4 KiB, which every KVM tells */
        uint8_t bytes[XSAVE_MAX]; /* all of it */
    } xsave;
    struct kvm_msrs *msrs; /* malloc'd */
};

/* KVM_RUN completes the exit before it looks at immediate_exit; 0 then means that the instruction
 * needs another access (a second MMIO fragment, the next part of a string).  KVM goes back to the
 * guest after 1024 elements of a string, so this ends. */
void incarnation_settle(struct vcpu *v)
{
    int r;

    do {
        v->run->immediate_exit = 1;
        r = ioctl(v->fd, KVM_RUN, 0);
        v->run->immediate_exit = 0;
        if (!r)
            vcpu_dispatch(v);
    } while (!r && atomic_load(&v->m->end) == MACHINE_RUNS);
}

/* Reads every MSR of the set that this vCPU has; those KVM refuses are left out. */
static int read_msrs(const struct msr_set *set, int fd, struct vcpu_image *im)
{
    struct kvm_msrs *all = xcalloc(1, sizeof(*all) + set->n * sizeof(all->entries[0]));
    unsigned next = 0;

    while (next < set->n) {
        struct {
            struct kvm_msrs head;
            struct kvm_msr_entry entry[32];
        } part = {.head = {0}};
        unsigned want = set->n - next < 32 ? set->n - next : 32;
        int got;

        part.head.nmsrs = want;
        for (unsigned i = 0; i < want; i++)
            part.entry[i].index = set->index[next + i];
        got = ioctl(fd, KVM_GET_MSRS, &part);
        if (got < 0) {
            free(all);
            return -errno;
        }
        memcpy(&all->entries[all->nmsrs], part.entry, (size_t)got * sizeof(part.entry[0]));
        all->nmsrs += (unsigned)got;
        next += (unsigned)got < want ? (unsigned)got + 1 : want; /* skip the refused one */
    }
    im->msrs = all;
    return 0;
}

/* Writes MSRs one run after the other, stepping over those KVM refuses to set. */
static int write_msrs(int fd, struct kvm_msrs *all)
{
    unsigned next = 0;

    while (next < all->nmsrs) {
        struct {
            struct kvm_msrs head;
            struct kvm_msr_entry entry[32];
        } part = {.head = {0}};
        unsigned want = all->nmsrs - next < 32 ? all->nmsrs - next : 32;
        int done;

        part.head.nmsrs = want;
        memcpy(part.entry, &all->entries[next], want * sizeof(part.entry[0]));
        done = ioctl(fd, KVM_SET_MSRS, &part);
        if (done < 0)
            return -errno;
        next += (unsigned)done < want ? (unsigned)done + 1 : want;
    }
    return 0;
}

/* Takes the state out of an incarnation. */
static int image_read(const struct machine *m, int fd, struct vcpu_image *im)
{
    bool xsave2 = ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) > 0;

    if (ioctl(fd, KVM_GET_REGS, &im->regs) || ioctl(fd, KVM_GET_SREGS, &im->sregs) ||
        ioctl(fd, KVM_GET_DEBUGREGS, &im->debug) ||
        ioctl(fd, KVM_GET_VCPU_EVENTS, &im->events) ||
        ioctl(fd, xsave2 ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, &im->xsave))
        return -errno;
    if (ioctl(fd, KVM_GET_XCRS, &im->xcrs))
        im->xcrs.nr_xcrs = 0;
    return read_msrs(m->msrs, fd, im);
}

/* Special registers.  KVM throws away what the CPU caches of the guest's page tables only when
 * CR3 or a mode changes.  The guest may have changed its tables, and flushed, in another view
 * since this incarnation last ran with the very same CR3: so CR3 is made to change. */
static int set_sregs(int fd, const struct kvm_sregs *s)
{
    struct kvm_sregs other = *s;

    other.cr3 ^= 0x1000;
    if (ioctl(fd, KVM_SET_SREGS, &other) || ioctl(fd, KVM_SET_SREGS, s))
        return -errno;
    return 0;
}

/* Puts the state into an incarnation. */
static int image_write(int fd, struct vcpu_image *im)
{
    int r = set_sregs(fd, &im->sregs);

    if (r)
        return r;
    if (ioctl(fd, KVM_SET_REGS, &im->regs))
        return -errno;
    if (im->xcrs.nr_xcrs && ioctl(fd, KVM_SET_XCRS, &im->xcrs))
        return -errno;
    if (ioctl(fd, KVM_SET_XSAVE, &im->xsave))
        return -errno;
    r = write_msrs(fd, im->msrs);
    if (r)
        return r;
    if (ioctl(fd, KVM_SET_DEBUGREGS, &im->debug) || ioctl(fd, KVM_SET_VCPU_EVENTS, &im->events))
        return -errno;
    return 0;
}

int incarnation_move(struct vcpu *v, unsigned view)
{
    struct vcpu_image *im;
    int r = 0;

    if (view == v->view)
        return 0;
    if (v->inc[view].fd < 0)
        r = incarnation_new(v, view, NULL);
    if (r)
        return r;
    im = xcalloc(1, sizeof(*im));
    incarnation_settle(v);
    r = image_read(v->m, v->fd, im);
    if (!r)
        r = image_write(v->inc[view].fd, im);
    if (!r) {
        /* what KVM_RUN leaves in kvm_run for the interrupt logic must follow the vCPU */
        v->inc[view].run->if_flag = (im->regs.rflags & 0x200) != 0;
        v->inc[view].run->ready_for_interrupt_injection = 0;
        v->inc[view].run->apic_base = im->sregs.apic_base;
        v->inc[view].run->cr8 = im->sregs.cr8;
        v->view = view;
        v->fd = v->inc[view].fd;
        v->run = v->inc[view].run;
    }
    free(im->msrs);
    free(im);
    return r;
}

/* A 16-bit segment as INIT leaves it. */
static struct kvm_segment real_segment(uint8_t type, uint16_t selector, uint64_t base)
{
    return (struct kvm_segment){.base = base,
                                .limit = 0xffff,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .s = 1};
}

/* Registers after INIT (SDM vol. 3, table "processor state following INIT"), started at cs. */
static void set_real_mode(struct vcpu *v, uint16_t cs, uint64_t rip)
{
    struct kvm_regs regs = {.rip = rip, .rflags = 2, .rdx = 0x600};
    struct kvm_segment data = real_segment(3, 0, 0);
    struct kvm_sregs s;

    if (ioctl(v->fd, KVM_GET_SREGS, &s))
        goto refused;
    s.cs = real_segment(11, cs, (uint64_t)cs << 4);
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.tr = (struct kvm_segment){.limit = 0xffff, .type = 11, .present = 1};
    s.ldt = (struct kvm_segment){.limit = 0xffff, .type = 2, .present = 1};
    s.gdt = s.idt = (struct kvm_dtable){.limit = 0xffff};
    s.cr0 = 0x60000010;
    s.cr2 = s.cr3 = s.cr4 = s.cr8 = s.efer = 0;
    memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
    if (!ioctl(v->fd, KVM_SET_SREGS, &s) && !ioctl(v->fd, KVM_SET_REGS, &regs))
        return;
refused:
    machine_end(v->m, MACHINE_BROKEN, 0, "KVM refuses the INIT state of vcpu%u: %s", v->id,
                strerror(errno));
}

void incarnation_init_state(struct vcpu *v)
{
    /* the flags: a pending NMI and the interrupt shadow are cleared as well */
    struct kvm_vcpu_events events = {.flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
                                              KVM_VCPUEVENT_VALID_SHADOW};
    struct kvm_debugregs debug = {.dr6 = 0xffff0ff0, .dr7 = 0x400};

    incarnation_settle(v);
    set_real_mode(v, 0xf000, 0xfff0);
    (void)ioctl(v->fd, KVM_SET_DEBUGREGS, &debug);
    (void)ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events);
}

void incarnation_sipi(struct vcpu *v, uint8_t vector)
{
    set_real_mode(v, (uint16_t)(vector << 8), 0);
}
