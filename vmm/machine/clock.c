/* SPDX-License-Identifier: MIT */
/*
 * The guest's clock: its TSC runs at the host's rate with one offset, the same in every
 * incarnation of every vCPU (V2), so that time neither jumps nor runs backwards across vCPUs and
 * views.  The offset changes only while all vCPUs are parked (a pause), each owner applying it to
 * its own incarnations before it runs again.  A guest that writes a vCPU's TSC gets what it asked
 * for, in all incarnations of that vCPU (vcpu->tsc_adjust).
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/machine/machine.h"

enum { MSR_IA32_TSC = 0x10, MSR_IA32_TSC_ADJUST = 0x3b };

static const uint64_t YEAR_NS = 365ull * 24 * 3600 * 1000000000;

uint64_t clock_host_tsc(void)
{
    return __builtin_ia32_rdtsc();
}

uint64_t machine_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Gets or sets KVM's offset of one incarnation. */
static int offset_ioctl(int vcpu_fd, unsigned long request, int64_t *offset)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)offset,
    };

    return ioctl(vcpu_fd, request, &attr) ? -errno : 0;
}

/* Some KVMs (kvm_pvm) take an offset and keep their own: the guest lives by that one then. */
static void adopt_offset(struct machine *m, int vcpu_fd)
{
    int64_t got;

    if (offset_ioctl(vcpu_fd, KVM_GET_DEVICE_ATTR, &got) || got == atomic_load(&m->tsc_offset))
        return;
    m->tsc_fixed = true;
    atomic_store(&m->tsc_offset, got);
    log_debug("this KVM keeps the guest's TSC at an offset of its own (%lld)", (long long)got);
}

int clock_set(struct vcpu *v, int vcpu_fd, struct err *err)
{
    struct machine *m = v->m;
    int64_t offset;
    bool first = !m->tsc_khz;
    int khz, r;

    if (first) { /* the first incarnation of all: it sets the guest's clock */
        khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);
        if (khz <= 0)
            return fail(err, EXIT_NOKVM, EIO,
                        "KVM_GET_TSC_KHZ gives no frequency: the host needs a stable TSC");
        m->tsc_khz = (uint32_t)khz;
        atomic_store(&m->tsc_offset, -(int64_t)clock_host_tsc());
    }
    offset = atomic_load(&m->tsc_offset) + v->tsc_adjust;
    r = offset_ioctl(vcpu_fd, KVM_SET_DEVICE_ATTR, &offset);
    if (r && m->spec.nvcpus * m->spec.nviews == 1) { /* nobody to disagree with */
        if (offset_ioctl(vcpu_fd, KVM_GET_DEVICE_ATTR, &offset))
            offset = 0;
        atomic_store(&m->tsc_offset, offset);
        return 0;
    }
    if (r)
        return fail_errno(err, EXIT_NOKVM, -r,
                          "KVM_VCPU_TSC_OFFSET (needs Linux 5.16 or newer): several vCPUs "
                          "cannot share one clock");
    if (first)
        adopt_offset(m, vcpu_fd);
    return 0;
}

/* Sets the offset of all incarnations of a vCPU to what it must be. */
static int apply(const struct vcpu *v)
{
    int64_t offset = atomic_load(&v->m->tsc_offset) + v->tsc_adjust;
    int r = 0;

    for (unsigned i = 0; i < v->m->spec.nviews && !r; i++)
        if (v->inc[i].fd >= 0)
            r = offset_ioctl(v->inc[i].fd, KVM_SET_DEVICE_ATTR, &offset);
    return r;
}

void clock_apply(struct vcpu *v)
{
    (void)apply(v); /* it worked when the incarnations were made, or there is only one */
}

bool clock_guest_write(struct vcpu *v, uint32_t msr, uint64_t data)
{
    uint64_t now = clock_host_tsc() + (uint64_t)atomic_load(&v->m->tsc_offset);
    int64_t old = v->tsc_adjust;
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } shown = {.head = {.nmsrs = 1}, .entry = {.index = MSR_IA32_TSC_ADJUST}};

    v->tsc_adjust = (int64_t)(msr == MSR_IA32_TSC ? data - now : data);
    if (v->tsc_adjust == old)
        return true;
    if (v->m->tsc_fixed || apply(v)) {
        v->tsc_adjust = old;
        return false;
    }
    shown.entry.data = (uint64_t)v->tsc_adjust; /* for the guest to read; a move carries it */
    (void)ioctl(v->fd, KVM_SET_MSRS, &shown);
    lapic_time_shift(v->apic, 0); /* an armed TSC deadline comes at another time now */
    return true;
}

/* How far the TSC of one incarnation lies outside [before, after] of the host's; -1: unreadable. */
static int64_t incarnation_error(const struct machine *m, int vcpu_fd)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msr = {.head = {.nmsrs = 1}, .entry = {.index = MSR_IA32_TSC}};
    int64_t offset = atomic_load(&m->tsc_offset), before, after, got;

    before = (int64_t)clock_host_tsc();
    if (ioctl(vcpu_fd, KVM_GET_MSRS, &msr) != 1)
        return -1;
    after = (int64_t)clock_host_tsc();
    got = (int64_t)msr.entry.data - offset;
    if (got < before)
        return before - got;
    return got > after ? got - after : 0;
}

int64_t clock_verify(const struct machine *m)
{
    int64_t worst = 0;

    for (unsigned i = 0; i < m->spec.nvcpus; i++)
        for (unsigned w = 0; w < m->spec.nviews; w++) {
            int64_t e;

            if (m->vcpus[i].inc[w].fd < 0)
                continue;
            e = incarnation_error(m, m->vcpus[i].inc[w].fd);
            if (e < 0)
                return -1;
            worst = e > worst ? e : worst;
        }
    return worst;
}

uint64_t clock_tsc_to_ns(const struct machine *m, int64_t adjust, uint64_t tsc)
{
    uint64_t guest = clock_host_tsc() + (uint64_t)(atomic_load(&m->tsc_offset) + adjust);
    unsigned __int128 ns;

    if (tsc <= guest)
        return machine_now_ns();
    ns = (unsigned __int128)(tsc - guest) * 1000000u / m->tsc_khz + 1;
    return machine_now_ns() + (ns < YEAR_NS ? (uint64_t)ns : YEAR_NS);
}
