/* SPDX-License-Identifier: MIT */
/*
 * First registers of the first vCPU: 64-bit with paging for Linux, 32-bit flat for PVH and
 * multiboot.  Sources: Linux Documentation/x86/boot.rst (64-bit protocol), Xen docs/misc/pvh,
 * multiboot specification 0.6.96 section 3.2.  Runs before threads start; no locks.
 */
#include "vmm/cell/entry.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "vmm/boot/boot.h"
#include "vmm/machine/machine.h"

enum {
    CR0_PE = 1,
    CR0_ET = 1 << 4,
    CR4_PAE = 1 << 5,
    EFER_LME = 1 << 8,
    EFER_LMA = 1 << 10,
};
#define CR0_PG 0x80000000u

/* A flat segment of the GDT that the boot code wrote. */
static struct kvm_segment flat(uint16_t selector, uint8_t type, bool is64)
{
    return (struct kvm_segment){.limit = 0xffffffff,
                                .selector = selector,
                                .type = type,
                                .present = 1,
                                .s = 1,
                                .l = is64,
                                .db = !is64,
                                .g = 1};
}

/* Special registers of both modes. */
static void set_sregs(struct kvm_sregs *s, const struct boot_entry *e)
{
    bool is64 = e->mode == BOOT_MODE_LONG;

    s->cs = flat(0x10, 11, is64);
    s->ds = s->es = s->fs = s->gs = s->ss = flat(0x18, 3, false);
    s->tr = (struct kvm_segment){.limit = 0xffff, .type = 11, .present = 1};
    s->gdt.base = e->gdt;
    s->gdt.limit = e->gdt_limit;
    s->idt.base = 0;
    s->idt.limit = 0x1ff; /* all vectors absent; a limit of 0 would mean "reset wanted" */
    s->cr0 = CR0_PE | CR0_ET | (is64 ? CR0_PG : 0);
    s->cr3 = is64 ? e->cr3 : 0;
    s->cr4 = is64 ? CR4_PAE : 0;
    s->efer = is64 ? EFER_LME | EFER_LMA : 0;
}

int entry_set(struct machine *m, const struct boot_entry *e, struct err *err)
{
    struct kvm_regs regs = {
        .rip = e->rip, .rflags = 2, .rsi = e->rsi, .rax = e->eax, .rbx = e->ebx};
    struct kvm_sregs s;
    int fd = m->vcpus[0].fd;

    if (ioctl(fd, KVM_GET_SREGS, &s))
        return fail_errno(err, EXIT_INTERNAL, errno, "KVM_GET_SREGS");
    set_sregs(&s, e);
    if (ioctl(fd, KVM_SET_SREGS, &s))
        return fail_errno(err, EXIT_INTERNAL, errno, "KVM_SET_SREGS");
    if (ioctl(fd, KVM_SET_REGS, &regs))
        return fail_errno(err, EXIT_INTERNAL, errno, "KVM_SET_REGS");
    return 0;
}
