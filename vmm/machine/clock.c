/* SPDX-License-Identifier: MIT */
/*
 * The guest's clock: its TSC runs at the host's rate with one offset, the same in every
 * incarnation of every vCPU (V2), so that time neither jumps nor runs backwards across vCPUs and
 * views.  The offset changes only while all vCPUs are parked (a pause), each owner applying it to
 * its own incarnations before it runs again.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/machine/machine.h"

enum { MSR_IA32_TSC = 0x10 };

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
    offset = atomic_load(&m->tsc_offset);
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

void clock_apply(struct vcpu *v)
{
    int64_t offset = atomic_load(&v->m->tsc_offset);

    for (unsigned i = 0; i < v->m->spec.nviews; i++)
        if (v->inc[i].fd >= 0)
            (void)offset_ioctl(v->inc[i].fd, KVM_SET_DEVICE_ATTR, &offset);
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

uint64_t clock_tsc_to_ns(const struct machine *m, uint64_t tsc)
{
    uint64_t guest = clock_host_tsc() + (uint64_t)atomic_load(&m->tsc_offset);
    int64_t cycles = (int64_t)(tsc - guest);

    if (cycles <= 0)
        return machine_now_ns();
    return machine_now_ns() + (uint64_t)((unsigned __int128)cycles * 1000000u / m->tsc_khz) + 1;
}
