/* SPDX-License-Identifier: MIT */
/*
 * What this host's KVM can do, found by trying: its API version, the capabilities we need, and
 * whether it runs guest kernel code natively or emulates it (about a million instructions a
 * second: no stock kernel boots there in useful time).
 * Threads: any; each call makes and destroys its own tiny virtual machine.
 */
#ifndef DISCO_VMM_MACHINE_KVMPROBE_H
#define DISCO_VMM_MACHINE_KVMPROBE_H

#include <stdbool.h>
#include <stdint.h>

struct err;

enum {
    KVM_PROBE_API = 12,      /* the one API version there is */
    KVM_PROBE_RATIO = 20,    /* kernel code slower than user code by more than this: emulated */
    KVM_PROBE_MISSING = 16,  /* room for names of missing capabilities */
    KVM_PROBE_MIN_SLOTS = 8, /* memory slots a view needs at least */
};

/* The result.  Names point to constant strings. */
struct kvm_probe {
    int api;                                /* KVM_GET_API_VERSION */
    bool emulated;                          /* guest kernel code is emulated */
    double kernel_ips;                      /* instructions per second at CPL 0 */
    double user_ips;                        /* instructions per second at CPL 3 */
    double ratio;                           /* user_ips / kernel_ips */
    unsigned nr_vcpus;                      /* recommended vCPUs of one struct kvm */
    unsigned max_vcpus;                     /* most vCPUs of one struct kvm */
    unsigned nr_memslots;                   /* memory slots of one struct kvm */
    unsigned nmissing;                      /* entries of missing */
    const char *missing[KVM_PROBE_MISSING]; /* required capabilities that are not there */
    bool memory_fault_info; /* optional: KVM_EXIT_MEMORY_FAULT says where (6.8) */
    bool stats_fd;          /* optional: binary statistics descriptors (5.14) */
};

/*
 * Fills out for an open /dev/kvm.  Takes about a millisecond on a native KVM, some tens of
 * milliseconds on one that emulates.  Returns 0 when everything could be measured, whatever was
 * found; -errno with EXIT_NOKVM when the API version is wrong or the tiny machine does not run
 * (out then holds what was found before).
 */
int kvm_probe(int kvm_fd, struct kvm_probe *out, struct err *err);

/* Whether KVM is surely one that runs guest kernels on hardware, so that nothing need be measured:
 * the kernel has AMD's or Intel's part of KVM and none that does without.  False when unknown. */
bool kvm_on_hardware(void);

#endif
