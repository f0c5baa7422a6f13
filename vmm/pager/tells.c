/* SPDX-License-Identifier: MIT */
/*
 * Whether a KVM tells the address of a fault that it cannot resolve (KVM_EXIT_MEMORY_FAULT):
 * asked by doing it.  A vCPU in real mode stores a byte to a page that is mapped for reading
 * only. KVM_CAP_MEMORY_FAULT_INFO is no answer: kvm_pvm has it and does not fill the exit in.
 * Threads: any; everything made here is undone before it returns.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/pager/pager.h"

enum { EXIT_MEMORY_FAULT = 39, PAGE = 4096, TSS_GPA = 0xfffbd000 };

/* What KVM fills in, in the union of all exits; headers before Linux 6.8 lack it. */
struct memory_fault {
    uint64_t flags, gpa, size;
};

/* The virtual machine. */
struct ask {
    int vm, vcpu;        /* descriptors */
    uint8_t *mem;        /* two pages: code, and one that cannot be written */
    struct kvm_run *run; /* of the vCPU */
    size_t run_len;      /* of run's mapping */
};

/* Makes machine and vCPU, at the first byte of its memory in real mode. */
static bool make(struct ask *a, int kvm_fd)
{
    static const uint8_t code[] = {0xa2, 0x00, 0x10, 0xf4}; /* mov [0x1000], al; hlt */
    struct kvm_userspace_memory_region slot = {.memory_size = 2 * PAGE};
    struct kvm_regs regs = {.rflags = 2};
    struct kvm_sregs s;
    int len = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

    a->vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
    if (a->vm < 0 || len <= 0)
        return false;
    (void)ioctl(a->vm, KVM_SET_TSS_ADDR, (unsigned long)TSS_GPA);
    a->mem = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (a->mem == MAP_FAILED)
        return false;
    memcpy(a->mem, code, sizeof(code));
    slot.userspace_addr = (uintptr_t)a->mem;
    if (mprotect(a->mem + PAGE, PAGE, PROT_READ) ||
        ioctl(a->vm, KVM_SET_USER_MEMORY_REGION, &slot))
        return false;
    a->vcpu = ioctl(a->vm, KVM_CREATE_VCPU, 0);
    if (a->vcpu < 0)
        return false;
    a->run_len = (size_t)len;
    a->run = mmap(NULL, a->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, a->vcpu, 0);
    if (a->run == MAP_FAILED || ioctl(a->vcpu, KVM_GET_SREGS, &s))
        return false;
    s.cs.base = s.cs.selector = 0;
    s.ds.base = s.ds.selector = 0;
    return !ioctl(a->vcpu, KVM_SET_SREGS, &s) && !ioctl(a->vcpu, KVM_SET_REGS, &regs);
}

/* Runs it: the store must come back as a fault at the second page. */
static bool told(const struct ask *a)
{
    const struct memory_fault *f = (const void *)&a->run->hw;
    int r;

    do
        r = ioctl(a->vcpu, KVM_RUN, 0);
    while (r < 0 && errno == EINTR);
    return r < 0 && errno == EFAULT && a->run->exit_reason == EXIT_MEMORY_FAULT &&
           f->gpa / PAGE == 1;
}

bool pager_kvm_tells(int kvm_fd)
{
    struct ask a = {.vm = -1, .vcpu = -1, .mem = MAP_FAILED, .run = MAP_FAILED};
    bool tells = make(&a, kvm_fd) && told(&a);

    if (a.run != MAP_FAILED)
        munmap(a.run, a.run_len);
    if (a.vcpu >= 0)
        close(a.vcpu);
    if (a.vm >= 0)
        close(a.vm);
    if (a.mem != MAP_FAILED)
        munmap(a.mem, 2 * PAGE);
    return tells;
}
