/* SPDX-License-Identifier: MIT */
/*
 * A view: one `struct kvm` whose memory slots map guest memory through this view's own mapping.
 * Interrupt controllers stay in userspace, so no irqchip is made; MSR accesses that KVM does not
 * serve without one come to us.  One thread makes and frees views; no locks.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/machine/machine.h"

enum {
    MSR_TSC = 0x10,                 /* the time-stamp counter */
    MSR_TSC_ADJUST = 0x3b,          /* what the guest moved it by */
    MSR_TSC_DEADLINE = 0x6e0,       /* the APIC timer by TSC */
    TSS_GPA = 0xfffbd000u,          /* three pages Intel KVM needs for real mode, outside RAM */
    IDENTITY_MAP_GPA = 0xfffbc000u, /* one page, likewise */
};

/* Asks for MSR accesses that KVM does not serve, for TSC-deadline writes, which KVM would
 * otherwise drop in silence, and for writes of the TSC, which KVM would make in one view only. */
static int take_msrs(struct view *v, struct err *err)
{
    static uint8_t deny[8]; /* read by the kernel only: bit 0 clear = not allowed */
    struct kvm_enable_cap cap = {
        .cap = KVM_CAP_X86_USER_SPACE_MSR,
        .args = {KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN |
                 KVM_MSR_EXIT_REASON_FILTER},
    };
    struct kvm_msr_filter filter = {
        .flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
        .ranges = {{.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
                    .nmsrs = 1,
                    .base = MSR_TSC_DEADLINE,
                    .bitmap = deny},
                   {.flags = KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = MSR_TSC, .bitmap = deny},
                   {.flags = KVM_MSR_FILTER_WRITE,
                    .nmsrs = 1,
                    .base = MSR_TSC_ADJUST,
                    .bitmap = deny}},
    };

    if (ioctl(v->fd, KVM_ENABLE_CAP, &cap))
        return fail_errno(err, EXIT_NOKVM, errno,
                          "KVM_CAP_X86_USER_SPACE_MSR (needs Linux 5.10 or newer)");
    if (ioctl(v->fd, KVM_X86_SET_MSR_FILTER, &filter))
        return fail_errno(err, EXIT_NOKVM, errno,
                          "KVM_X86_SET_MSR_FILTER (needs Linux 5.10 or newer)");
    return 0;
}

/* Maps RAM below and above the hole. */
static int map_memory(struct view *v, const struct guest_mem *mem, struct err *err)
{
    struct kvm_userspace_memory_region r[2] = {
        {.slot = 0, .memory_size = mem->low, .userspace_addr = (uintptr_t)mem->view[v->index]},
        {.slot = 1,
         .guest_phys_addr = MEM_HIGH,
         .memory_size = mem->high,
         .userspace_addr = (uintptr_t)mem->view[v->index] + MEM_HIGH},
    };

    for (unsigned i = 0; i < 2; i++)
        if (r[i].memory_size && ioctl(v->fd, KVM_SET_USER_MEMORY_REGION, &r[i]))
            return fail_errno(err, EXIT_INTERNAL, errno, "KVM_SET_USER_MEMORY_REGION");
    return 0;
}

/* The guest's performance counters would need an in-kernel local APIC: off where KVM allows. */
static void drop_pmu(struct view *v)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_PMU_CAPABILITY, .args = {KVM_PMU_CAP_DISABLE}};

    (void)ioctl(v->fd, KVM_ENABLE_CAP, &cap);
}

/* A triple fault that is due but was not taken yet goes along with a move, where KVM can say so. */
static void show_triple_faults(struct view *v)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_TRIPLE_FAULT_EVENT, .args = {1}};

    (void)ioctl(v->fd, KVM_ENABLE_CAP, &cap);
}

int view_init(struct view *v, struct machine *m, unsigned index, struct err *err)
{
    uint64_t identity = IDENTITY_MAP_GPA;
    int r;

    *v = (struct view){.fd = -1, .index = index, .node = m->spec.view_node[index]};
    do
        v->fd = ioctl(m->kvm_fd, KVM_CREATE_VM, 0);
    while (v->fd < 0 && errno == EINTR);
    if (v->fd < 0)
        return fail_errno(err, EXIT_NOKVM, errno, "KVM_CREATE_VM");
    (void)ioctl(v->fd, KVM_SET_TSS_ADDR, (unsigned long)TSS_GPA);
    (void)ioctl(v->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    drop_pmu(v);
    show_triple_faults(v);
    r = take_msrs(v, err);
    if (!r)
        r = map_memory(v, &m->mem, err);
    if (r)
        view_exit(v);
    return r;
}

void view_exit(struct view *v)
{
    if (v->fd >= 0)
        close(v->fd);
    v->fd = -1;
}
