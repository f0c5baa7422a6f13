/* SPDX-License-Identifier: MIT */
/*
 * What the guest's CPUs say of themselves: what KVM supports, made fit for interrupt controllers
 * in userspace.  Every view gives the same answers, so a vCPU may move between views unseen.
 * The template is made once; cpuid_apply() patches what differs from vCPU to vCPU.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/err.h"
#include "vmm/machine/machine.h"

enum {
    MAX_ENTRIES = 256,     /* KVM's own limit */
    OWN_ENTRIES = 8,       /* leaves we add */
    LEAF_KVM = 0x40000000, /* first of the leaves that tell of KVM */
};

/* Leaves that are left out: topology (ours is added), the performance monitors, matrix tiles,
 * nested virtualization, and everything a hypervisor said (ours is added). */
static bool left_out(uint32_t leaf)
{
    static const uint32_t list[] = {0xb,        0x1f,       0xa,        0x1d,       0x1e,
                                    0x8000000a, 0x8000001d, 0x8000001e, 0x80000022, 0x80000026};

    for (unsigned i = 0; i < sizeof(list) / sizeof(list[0]); i++)
        if (leaf == list[i])
            return true;
    return leaf >= 0x40000000 && leaf < 0x40010000;
}

/* Bits needed to number n vCPUs. */
static unsigned id_bits(unsigned n)
{
    unsigned bits = 0;

    while ((1u << bits) < n)
        bits++;
    return bits;
}

/* vCPUs of one package.  APIC ids are vCPU numbers, so a package needs a power of two of them;
 * where the split gives none, every vCPU is a package of its own. */
static unsigned per_package(const struct machine *m)
{
    unsigned n = m->spec.nvcpus, packages = m->spec.packages ? m->spec.packages : 1;
    unsigned each = n / packages;

    if (packages == 1)
        return n;
    return n % packages == 0 && (each & (each - 1)) == 0 ? each : 1;
}

/* Sets bits where on, clears them else. */
static void put_bits(uint32_t *reg, uint32_t bits, bool on)
{
    *reg = on ? *reg | bits : *reg & ~bits;
}

/* Leaf 7: no matrix tiles, whose state would need a permission this process does not ask for. */
static void adapt_leaf7(struct kvm_cpuid_entry2 *e)
{
    if (e->index == 0)
        e->edx &= ~(1u << 22 | 1u << 24 | 1u << 25); /* AMX-BF16, AMX-TILE, AMX-INT8 */
    if (e->index == 1) {
        e->eax &= ~(1u << 21); /* AMX-FP16 */
        e->edx &= ~(1u << 8);  /* AMX-COMPLEX */
    }
}

/* Changes one entry that KVM supports into what this guest shall see. */
static void adapt(const struct machine *m, bool amd, struct kvm_cpuid_entry2 *e)
{
    unsigned n = per_package(m);
    unsigned siblings = n < 255 ? n : 255;

    switch (e->function) {
    case 0: /* leaf 0xb is always there */
        e->eax = e->eax < 0xb ? 0xb : e->eax;
        break;
    case 1:
        e->ebx = (e->ebx & 0xffff) | siblings << 16;
        e->ecx |= 1u << 31 | 1u << 24; /* hypervisor, TSC deadline */
        /* debug store, VMX (a move does not carry nested state), counters */
        e->ecx &= ~(1u << 2 | 1u << 5 | 1u << 15);
        e->edx &= ~(1u << 21);
        put_bits(&e->ecx, 1u << 21, m->spec.x2apic); /* x2APIC */
        put_bits(&e->edx, 1u << 28, n > 1);          /* several threads in the package */
        break;
    case 4: /* caches are private, the package holds all */
        e->eax = (e->eax & 0x3fff) | ((n < 64 ? n : 64) - 1) << 26;
        break;
    case 6:
        e->eax |= 4; /* the APIC timer always runs */
        break;
    case 7:
        adapt_leaf7(e);
        break;
    case 0x80000001:
        e->ecx &=
            ~(1u << 2 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 28); /* SVM, TOPOEXT, PMU */
        if (amd)
            put_bits(&e->ecx, 1u << 1, n > 1); /* the threads are cores */
        break;
    case 0x80000007:
        e->edx |= 1u << 8; /* invariant TSC */
        break;
    case 0x80000008:
        e->ecx = amd ? id_bits(n) << 12 | (siblings - 1) : 0;
        break;
    default:
        break;
    }
}

/* Adds a leaf at the end of the template. */
static void add(struct kvm_cpuid2 *c, struct kvm_cpuid_entry2 e)
{
    c->entries[c->nent++] = e;
}

/* Extended topology (threads of a package) and KVM's signature with the few features that do
 * not need KVM's own interrupt controllers. */
static void add_own(const struct machine *m, struct kvm_cpuid2 *c)
{
    uint32_t features = 1u << KVM_FEATURE_NOP_IO_DELAY | 1u << KVM_FEATURE_MSI_EXT_DEST_ID;
    unsigned n = per_package(m);
    uint32_t sig[3];

    add(c,
        (struct kvm_cpuid_entry2){
            .function = 0xb, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = 1, .ecx = 0x100});
    add(c, (struct kvm_cpuid_entry2){.function = 0xb,
                                     .index = 1,
                                     .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                     .eax = id_bits(n),
                                     .ebx = n,
                                     .ecx = 0x201});
    if (m->spec.kvmclock)
        features |= 1u << KVM_FEATURE_CLOCKSOURCE | 1u << KVM_FEATURE_CLOCKSOURCE2 |
                    1u << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT;
    memcpy(sig, "KVMKVMKVM\0\0\0", sizeof(sig));
    add(c, (struct kvm_cpuid_entry2){.function = LEAF_KVM,
                                     .eax = LEAF_KVM + 1,
                                     .ebx = sig[0],
                                     .ecx = sig[1],
                                     .edx = sig[2]});
    add(c, (struct kvm_cpuid_entry2){.function = LEAF_KVM + 1, .eax = features});
}

/* Whether the CPU is AMD's, or Hygon's, which is one of those. */
static bool is_amd(const struct kvm_cpuid2 *c)
{
    char vendor[12];

    for (unsigned i = 0; i < c->nent; i++) {
        if (c->entries[i].function != 0)
            continue;
        memcpy(vendor, &c->entries[i].ebx, 4);
        memcpy(vendor + 4, &c->entries[i].edx, 4);
        memcpy(vendor + 8, &c->entries[i].ecx, 4);
        return !memcmp(vendor, "AuthenticAMD", 12) || !memcmp(vendor, "HygonGenuine", 12);
    }
    return false;
}

int cpuid_template(struct machine *m, struct err *err)
{
    size_t size = sizeof(*m->cpuid) + MAX_ENTRIES * sizeof(m->cpuid->entries[0]);
    struct kvm_cpuid2 *all = xcalloc(1, size);
    int r = 0;

    all->nent = MAX_ENTRIES;
    m->cpuid = xcalloc(1, size);
    if (ioctl(m->kvm_fd, KVM_GET_SUPPORTED_CPUID, all))
        r = fail_errno(err, EXIT_NOKVM, errno, "KVM_GET_SUPPORTED_CPUID");
    for (unsigned i = 0; !r && i < all->nent; i++) {
        if (left_out(all->entries[i].function) || m->cpuid->nent >= MAX_ENTRIES - OWN_ENTRIES)
            continue;
        adapt(m, is_amd(all), &all->entries[i]);
        add(m->cpuid, all->entries[i]);
    }
    free(all);
    if (!r)
        add_own(m, m->cpuid);
    return r;
}

int cpuid_apply(const struct vcpu *v, int vcpu_fd)
{
    const struct kvm_cpuid2 *t = v->m->cpuid;
    size_t size = sizeof(*t) + t->nent * sizeof(t->entries[0]);
    struct kvm_cpuid2 *c = xcalloc(1, size);
    int r;

    memcpy(c, t, size);
    for (unsigned i = 0; i < c->nent; i++) {
        struct kvm_cpuid_entry2 *e = &c->entries[i];

        if (e->function == 1)
            e->ebx = (e->ebx & 0x00ffffff) | (v->id & 0xff) << 24;
        if (e->function == 0xb)
            e->edx = v->id;
    }
    r = ioctl(vcpu_fd, KVM_SET_CPUID2, c) ? -errno : 0;
    free(c);
    return r;
}
