/* SPDX-License-Identifier: MIT */
/*
 * What a vCPU does with each exit of KVM: one table, one counter a kind.  An exit that is not in
 * the table ends the guest with its registers in the message.  Owner's thread only; the counters
 * are read by others (relaxed).
 */
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/log.h"
#include "vmm/machine/machine.h"

enum {
    MSR_X2APIC_FIRST = 0x800, /* registers of the local APIC */
    MSR_X2APIC_LAST = 0x8ff,  /* their last */
    MSR_TSC_DEADLINE = 0x6e0, /* the APIC timer by TSC */
    MSR_TSC = 0x10,           /* the time-stamp counter */
    MSR_TSC_ADJUST = 0x3b,    /* what the guest moved it by */
    MSR_X2APIC_SVR = 0x80f,   /* spurious vector register, with the APIC's switch */
    APIC_SVR = 0xf0,          /* offset in the xAPIC page */
    SVR_ENABLED = 1 << 8,     /* the APIC is on */
    INIT_RIP = 0xfff0,        /* where a CPU begins after INIT */
    INIT_CS = 0xf000,         /* and in which segment */
    RFLAGS_DF = 1 << 10,      /* strings go downwards */
};

static const char *const kind_names[EXIT_KINDS] = {
    [EXIT_KIND_PIO] = "pio",
    [EXIT_KIND_MMIO] = "mmio",
    [EXIT_KIND_MMIO_APIC] = "mmio_apic",
    [EXIT_KIND_MMIO_IOAPIC] = "mmio_ioapic",
    [EXIT_KIND_MSR_X2APIC] = "msr_x2apic",
    [EXIT_KIND_MSR_TSCDL] = "msr_tscdl",
    [EXIT_KIND_MSR] = "msr",
    [EXIT_KIND_HLT] = "hlt",
    [EXIT_KIND_IRQ_WINDOW] = "irq_window",
    [EXIT_KIND_SIGNAL] = "signal",
    [EXIT_KIND_TPR] = "tpr",
    [EXIT_KIND_FAULT] = "fault",
    [EXIT_KIND_SHUTDOWN] = "shutdown",
    [EXIT_KIND_OTHER] = "other",
};

const char *exit_kind_name(enum exit_kind k)
{
    return k < EXIT_KINDS ? kind_names[k] : "?";
}

void vcpu_count(struct vcpu *v, enum exit_kind k)
{
    uint64_t n = atomic_load_explicit(&v->exits[k], memory_order_relaxed);

    /* nobody else writes it: no locked instruction needed */
    atomic_store_explicit(&v->exits[k], n + 1, memory_order_relaxed);
}

/* The lowest address that string input downwards is going to write, len bytes in all.  False: it
 * goes upwards. */
static bool goes_down(const struct vcpu *v, uint64_t len, uint64_t *first)
{
    struct kvm_regs regs;
    struct kvm_sregs s;

    if (ioctl(v->fd, KVM_GET_REGS, &regs) || !(regs.rflags & RFLAGS_DF) ||
        ioctl(v->fd, KVM_GET_SREGS, &s))
        return false;
    *first = s.cs.l ? regs.rdi : (uint32_t)(s.es.base + (uint32_t)regs.rdi);
    *first += v->run->io.size - len;
    return true;
}

/*
 * KVM reads string input ahead.  Upwards it stores all at once; downwards element by element, and
 * when it finds a page that it cannot write just then it comes to us with that element and forgets
 * those it has read behind it.  So the pages are held, as in a write of our own, while it stores.
 */
static void store_down(struct vcpu *v, uint64_t at, uint64_t len)
{
    struct kvm_translation to[2];
    uint64_t n[2] = {0};

    for (unsigned i = 0; i < 2 && len; i++) {
        uint64_t part = MEM_PAGE - at % MEM_PAGE;

        if (part > len)
            part = len;
        to[i] = (struct kvm_translation){.linear_address = at};
        if (!ioctl(v->fd, KVM_TRANSLATE, &to[i]) && to[i].valid &&
            mem_at(&v->m->mem, to[i].physical_address, part, MEM_WRITE))
            n[i] = part;
        at += part;
        len -= part;
    }
    incarnation_settle(v);
    for (unsigned i = 0; i < 2; i++)
        if (n[i])
            mem_done(&v->m->mem, to[i].physical_address, n[i]);
}

/* Port access: KVM hands over count accesses of size bytes, one after the other. */
static void on_io(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    uint8_t *p = (uint8_t *)run + run->io.data_offset;
    uint64_t len = (uint64_t)run->io.count * run->io.size, at;

    vcpu_count(v, EXIT_KIND_PIO);
    for (uint32_t i = 0; i < run->io.count; i++, p += run->io.size) {
        if (run->io.direction == KVM_EXIT_IO_OUT)
            bus_write(&v->m->pio, run->io.port, p, run->io.size);
        else
            bus_read(&v->m->pio, run->io.port, p, run->io.size);
    }
    if (run->io.count > 1 && run->io.direction == KVM_EXIT_IO_IN && v->m->mem.hook &&
        goes_down(v, len, &at))
        store_down(v, at, len);
}

/* Access to the xAPIC page, served by the vCPU's own local APIC. */
static void on_apic_page(struct vcpu *v)
{
    uint32_t off = (uint32_t)(v->run->mmio.phys_addr - MMIO_LAPIC), val = 0;

    vcpu_count(v, EXIT_KIND_MMIO_APIC);
    if (v->run->mmio.len != 4 || (off & 3)) {
        if (!v->run->mmio.is_write)
            memset(v->run->mmio.data, 0, sizeof(v->run->mmio.data));
        return;
    }
    if (v->run->mmio.is_write) {
        memcpy(&val, v->run->mmio.data, sizeof(val));
        lapic_mmio_write(v->apic, off, val);
    } else {
        val = lapic_mmio_read(v->apic, off);
        memcpy(v->run->mmio.data, &val, sizeof(val));
    }
}

/* The next access a bus takes of len bytes, 1 to 8: KVM hands over 3, 5, 6 and 7, too, where an
 * access crosses a page. */
static unsigned piece(unsigned len)
{
    if (len >= 8)
        return 8;
    return len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

/* Access to RAM that KVM emulated and could not complete, because the page was protected just then:
 * it is for us to do.  False: it is not RAM. */
static bool on_ram(const struct vcpu *v)
{
    struct kvm_run *run = v->run;
    uint64_t gpa = run->mmio.phys_addr;

    if (run->mmio.is_write)
        return mem_write(&v->m->mem, gpa, run->mmio.data, run->mmio.len);
    return mem_read(&v->m->mem, gpa, run->mmio.data, run->mmio.len);
}

/* Access to a guest-physical address that is not RAM, or not at the moment. */
static void on_mmio(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    uint64_t gpa = run->mmio.phys_addr;

    if (v->m->mem.hook && on_ram(v)) {
        vcpu_count(v, EXIT_KIND_FAULT);
        return;
    }
    if ((gpa & ~0xfffull) == MMIO_LAPIC) {
        on_apic_page(v);
        return;
    }
    vcpu_count(v, (gpa & ~0xfffull) == MMIO_IOAPIC ? EXIT_KIND_MMIO_IOAPIC : EXIT_KIND_MMIO);
    for (unsigned at = 0, n; at < run->mmio.len && at < sizeof(run->mmio.data); at += n) {
        n = piece(run->mmio.len - at);
        if (run->mmio.is_write)
            bus_write(&v->m->mmio, gpa + at, run->mmio.data + at, n);
        else
            bus_read(&v->m->mmio, gpa + at, run->mmio.data + at, n);
    }
}

/* Counts an MSR exit and says whether the local APIC serves it. */
static bool apic_msr(struct vcpu *v, uint32_t msr)
{
    if (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST) {
        vcpu_count(v, EXIT_KIND_MSR_X2APIC);
        return true;
    }
    vcpu_count(v, msr == MSR_TSC_DEADLINE ? EXIT_KIND_MSR_TSCDL : EXIT_KIND_MSR);
    return msr == MSR_TSC_DEADLINE;
}

static void on_rdmsr(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    uint64_t val = 0;
    bool ok = apic_msr(v, run->msr.index);

    ok = ok && lapic_msr_read(v->apic, run->msr.index, &val);
    run->msr.data = val;
    run->msr.error = !ok;
    if (!ok)
        log_debug("vcpu%u: rdmsr %#x gives #GP", v->id, run->msr.index);
}

static void on_wrmsr(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    bool ok = apic_msr(v, run->msr.index);

    if (run->msr.index == MSR_TSC || run->msr.index == MSR_TSC_ADJUST)
        ok = clock_guest_write(v, run->msr.index, run->msr.data);
    else
        ok = ok && lapic_msr_write(v->apic, run->msr.index, run->msr.data);
    run->msr.error = !ok;
    if (!ok)
        log_debug("vcpu%u: wrmsr %#x gives #GP", v->id, run->msr.index);
}

static void on_hlt(struct vcpu *v)
{
    vcpu_count(v, EXIT_KIND_HLT);
    v->halted = true;
}

static void on_irq_window(struct vcpu *v)
{
    vcpu_count(v, EXIT_KIND_IRQ_WINDOW);
}

static void on_intr(struct vcpu *v)
{
    vcpu_count(v, EXIT_KIND_SIGNAL);
}

static void on_tpr(struct vcpu *v)
{
    vcpu_count(v, EXIT_KIND_TPR); /* vcpu.c takes CR8 over after every KVM_RUN */
}

/* True if the local APIC accepts interrupts. */
static bool apic_enabled(struct vcpu *v)
{
    uint64_t svr;

    if (!lapic_msr_read(v->apic, MSR_X2APIC_SVR, &svr)) {
        svr = lapic_mmio_read(v->apic, APIC_SVR);
        if (svr == UINT32_MAX) /* neither mode: switched off */
            return false;
    }
    return svr & SVR_ENABLED;
}

/*
 * Whether a triple fault is a kernel's way to ask for a reset: with an empty IDT it is.  On AMD,
 * KVM has already put the vCPU into its INIT state and nobody knows the IDT any more; there, a
 * kernel that had interrupts and has switched its local APIC off was shutting down.
 */
static bool reset_wanted(struct vcpu *v, const struct kvm_regs *regs, const struct kvm_sregs *s)
{
    bool lost = regs->rip == INIT_RIP && s->cs.selector == INIT_CS && !(s->cr0 & 1);

    if (!lost)
        return s->idt.limit == 0;
    return atomic_load_explicit(&v->injected, memory_order_relaxed) && !apic_enabled(v);
}

/* Triple fault: the end, one way or the other. */
static void on_shutdown(struct vcpu *v)
{
    struct kvm_regs regs = {0};
    struct kvm_sregs s = {0};

    vcpu_count(v, EXIT_KIND_SHUTDOWN);
    ioctl(v->fd, KVM_GET_REGS, &regs);
    ioctl(v->fd, KVM_GET_SREGS, &s);
    machine_end(
        v->m, reset_wanted(v, &regs, &s) ? MACHINE_RESET : MACHINE_BROKEN, 0,
        "triple fault of vcpu%u in view %u at rip %#llx (cr0 %#llx cr2 %#llx cr3 %#llx)", v->id,
        v->view, regs.rip, s.cr0, s.cr2, s.cr3);
}

/* What KVM tells of an exit we can't serve: reason, code, and the instruction if it knows it. */
static void describe(const struct vcpu *v, char *buf, size_t n)
{
    const struct kvm_run *run = v->run;
    size_t at;

    switch (run->exit_reason) {
    case KVM_EXIT_INTERNAL_ERROR:
        snprintf(buf, n, "KVM internal error %u%s", run->internal.suberror,
                 run->internal.suberror == 1 ? " (an instruction it cannot emulate)" : "");
        for (uint32_t i = 0; i < run->internal.ndata && i < 4; i++) {
            at = strlen(buf);
            snprintf(buf + at, n - at, " %#llx", run->internal.data[i]);
        }
        break;
    case KVM_EXIT_FAIL_ENTRY:
        snprintf(buf, n, "the CPU refused the guest's state, hardware code %#llx",
                 run->fail_entry.hardware_entry_failure_reason);
        break;
    case KVM_EXIT_UNKNOWN:
        snprintf(buf, n, "unknown hardware exit %#llx", run->hw.hardware_exit_reason);
        break;
    default:
        snprintf(buf, n, "exit reason %u, which this program does not know", run->exit_reason);
        break;
    }
}

/* Everything else ends the guest. */
static void on_other(struct vcpu *v)
{
    struct kvm_regs regs = {0};
    char what[160];

    vcpu_count(v, EXIT_KIND_OTHER);
    ioctl(v->fd, KVM_GET_REGS, &regs);
    describe(v, what, sizeof(what));
    machine_end(v->m, MACHINE_BROKEN, 0, "%s: vcpu%u at rip %#llx rflags %#llx", what, v->id,
                regs.rip, regs.rflags);
}

/* KVM's exit reasons and what is done with each. */
static void (*const handlers[])(struct vcpu *) = {
    [KVM_EXIT_IO] = on_io,
    [KVM_EXIT_MMIO] = on_mmio,
    [KVM_EXIT_X86_RDMSR] = on_rdmsr,
    [KVM_EXIT_X86_WRMSR] = on_wrmsr,
    [KVM_EXIT_HLT] = on_hlt,
    [KVM_EXIT_IRQ_WINDOW_OPEN] = on_irq_window,
    [KVM_EXIT_INTR] = on_intr,
    [KVM_EXIT_SET_TPR] = on_tpr,
    [KVM_EXIT_SHUTDOWN] = on_shutdown,
};

void vcpu_dispatch(struct vcpu *v)
{
    uint32_t reason = v->run->exit_reason;

    if (reason < sizeof(handlers) / sizeof(handlers[0]) && handlers[reason])
        handlers[reason](v);
    else
        on_other(v);
}
