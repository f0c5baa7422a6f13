/* SPDX-License-Identifier: MIT */
/*
 * The machine a guest runs on: memory, views, vCPUs, interrupt controllers, buses and clock,
 * without devices.  One guest has several views, each a `struct kvm` with its own mapping of the
 * same memory; a vCPU has an incarnation in each view it has been in.
 *
 * Threads: made by one thread; machine_start() starts one thread a vCPU, called vcpuN.  What each
 * field may be touched by is written beside it.  "owner" is the vCPU's thread.
 *
 * Invariants.
 *   V1  at most one incarnation of a vCPU is ever inside KVM_RUN, and only by the owner
 *   V2  every incarnation of every vCPU has the same TSC offset while any vCPU runs, plus what the
 *       guest itself wrote to that vCPU's TSC (vcpu->tsc_adjust)
 *   V3  a wake-up is never lost: who posts work ORs its bit, then looks at vcpu->state; the owner
 *       publishes its state, then looks for work (both sequentially consistent)
 * Locks: machine.control_lock (outermost: one pause, resume or move at a time; held while vCPUs are
 * waited for, so never taken by a vCPU thread), machine.park_lock (innermost; nothing is taken
 * under it).
 */
#ifndef DISCO_VMM_MACHINE_MACHINE_H
#define DISCO_VMM_MACHINE_MACHINE_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "vmm/machine/bus.h"
#include "vmm/machine/irq.h"
#include "vmm/machine/mem.h"

struct err;
struct kvm_run;
struct kvm_sregs;
struct kvm_regs;
struct machine;

/* What brought a vCPU back from the guest, as counted. Names in exit_kind_name(). */
enum exit_kind {
    EXIT_KIND_PIO,         /* port access */
    EXIT_KIND_MMIO,        /* device memory */
    EXIT_KIND_MMIO_APIC,   /* xAPIC page */
    EXIT_KIND_MMIO_IOAPIC, /* IOAPIC page */
    EXIT_KIND_MSR_X2APIC,  /* x2APIC register */
    EXIT_KIND_MSR_TSCDL,   /* TSC deadline */
    EXIT_KIND_MSR,         /* another MSR KVM does not know */
    EXIT_KIND_HLT,         /* idle */
    EXIT_KIND_IRQ_WINDOW,  /* interrupts are open again */
    EXIT_KIND_SIGNAL,      /* kicked: timer, interrupt, request */
    EXIT_KIND_TPR,         /* CR8 written */
    EXIT_KIND_FAULT,       /* -EFAULT: a page was being replaced; run again */
    EXIT_KIND_SHUTDOWN,    /* triple fault */
    EXIT_KIND_OTHER,       /* anything else: ends the guest */
    EXIT_KINDS
};

/* Where a vCPU is. Written by the owner, read by kickers. */
enum vcpu_state { VCPU_USER, VCPU_GUEST, VCPU_HALTED };

/* Requests to a vCPU, bits of vcpu->requests. Set by any, cleared by the owner. */
enum vcpu_request {
    VCPU_REQ_NMI = 1 << 0,  /* deliver an NMI */
    VCPU_REQ_INIT = 1 << 1, /* go to INIT state */
    VCPU_REQ_SIPI = 1 << 2, /* start at sipi_vector */
    VCPU_REQ_MOVE = 1 << 3, /* go to view move_to */
    VCPU_REQ_PARK = 1 << 4, /* stop at the gate: pause or end */
};

/* One vCPU in one view. Owner. */
struct incarnation {
    int fd;              /* vCPU descriptor, -1: not created yet */
    struct kvm_run *run; /* shared with KVM */
};

/* One virtual CPU. */
struct vcpu {
    /* set before start, then constant */
    struct machine *m;  /* where it belongs */
    unsigned id;        /* number = APIC id */
    struct lapic *apic; /* its local APIC */
    pthread_t thread;   /* vcpuN */
    /* owner */
    _Atomic unsigned view;   /* the view it is in; written by the owner, read by any */
    struct incarnation *inc; /* one a view; a part of machine.incs */
    struct kvm_run *run;     /* of the current incarnation */
    int fd;                  /* of the current incarnation */
    _Atomic int node;        /* host node it is bound to, -1: any; written by the owner */
    bool wait_sipi;          /* an AP that was not started */
    bool halted;             /* in HLT, waiting for an interrupt */
    timer_t timer;           /* sends the kick signal at timer_ns */
    uint64_t timer_ns; /* what the timer was last set to; if not yet past, it will kick then */
    unsigned faults;   /* -EFAULTs in a row */
    uint64_t fault_ns; /* when the first of them came */
    uint64_t fault_seen; /* machine.on_fault's */
    int64_t tsc_adjust;  /* IA32_TSC_ADJUST: cycles the guest moved this vCPU's TSC by */
    uint64_t shifted;    /* how much of machine.shift_ns its clock and timer have taken */
    /* written by the owner, read by any (relaxed) */
    _Atomic uint64_t exits[EXIT_KINDS]; /* exits by kind */
    _Atomic uint64_t injected;          /* interrupts delivered */
    _Atomic uint64_t moves;             /* changes of view */
    _Atomic uint64_t halt_ns;           /* time spent idle */
    /* park_lock */
    unsigned move_seq; /* moves tried */
    int move_err;      /* result of the last one, 0 or -errno */
    /* any; see V3 */
    alignas(64) _Atomic uint64_t ipi_in, /* a cache line for what others write */
        ipi_cross;                       /* IPIs received: all; from a vCPU of another view */
    _Atomic pid_t tid;                   /* thread id, 0 before it runs */
    _Atomic int state;                   /* enum vcpu_state */
    atomic_bool kicked;                  /* a kick signal is on its way */
    _Atomic uint32_t wake;               /* futex: bumped to end a wait */
    _Atomic uint32_t requests;           /* enum vcpu_request bits */
    _Atomic uint8_t sipi_vector;         /* of the pending startup IPI */
    _Atomic unsigned move_to;            /* view asked for */
};

/* One `struct kvm` over one mapping of guest memory. */
struct view {
    int fd;           /* VM descriptor */
    _Atomic int node; /* host node it is for, -1: any; machine_rehome() changes it */
    unsigned index;   /* number */
};

/* Why the vCPUs stopped for good. */
enum machine_end {
    MACHINE_RUNS,       /* they have not */
    MACHINE_OFF,        /* the guest switched itself off */
    MACHINE_RESET,      /* the guest asked for a reset */
    MACHINE_DEBUG_EXIT, /* debug exit port; value in end_value */
    MACHINE_KILLED,     /* the host ended it */
    MACHINE_BROKEN,     /* triple fault, KVM error, emulation failure: see end_reason */
};

/* What the machine is made of. */
struct machine_spec {
    int kvm_fd;                   /* /dev/kvm; stays the caller's */
    unsigned nvcpus;              /* vCPUs */
    unsigned nviews;              /* views, <= nvcpus or not: unused ones stay empty */
    int view_node[MEM_MAX_VIEWS]; /* host node of each view, -1: any */
    bool pin;                     /* bind vCPU threads to the CPUs of their view's node */
    bool x2apic;                  /* offer x2APIC */
    unsigned packages;            /* packages the vCPUs are in, dividing them evenly; 0: one */
    bool kvmclock;                /* offer kvmclock (one view only) */
    const int *vcpu_node; /* host node of each vCPU, -1: any; NULL: its view's. Init only */
    struct mem_spec mem;  /* memory */
};

/* The machine. */
struct machine {
    /* constant after machine_init() */
    struct machine_spec spec;
    struct guest_mem mem;     /* memory, mapped by all views */
    struct view *views;       /* spec.nviews */
    struct vcpu *vcpus;       /* spec.nvcpus */
    struct incarnation *incs; /* spec.nviews of each vCPU, in order */
    struct irqchip *irq;      /* interrupt controllers */
    struct bus pio, mmio;     /* ports and device memory */
    int kvm_fd;               /* as in spec */
    int run_size;             /* bytes of struct kvm_run's mapping */
    uint32_t tsc_khz;         /* guest TSC frequency */
    bool tsc_fixed;           /* KVM ignores TSC offsets: a pause cannot stop the guest's TSC */
    struct kvm_cpuid2 *cpuid; /* template; vCPU-specific leaves are patched per vCPU */
    struct msr_set *msrs;     /* MSRs a move carries */
    bool mem_fault_info;      /* KVM tells the address of faults */
    void (*on_end)(void *arg); /* called once, when the end is decided; any thread */
    void *on_end_arg;          /* of on_end */
    /* KVM_RUN gave EFAULT at gpa, UINT64_MAX: it did not say where.  True: pages were changed since
     * *seen, which is the caller's to keep, so it is to be tried again.  Owners; may be NULL */
    bool (*on_fault)(void *arg, unsigned view, uint64_t gpa, uint64_t *seen);
    void *on_fault_arg; /* of on_fault */
    /* any */
    _Atomic int64_t tsc_offset;    /* guest TSC = host TSC + this; changed only while parked */
    _Atomic int end;               /* enum machine_end, first one wins */
    uint32_t end_value;            /* of MACHINE_DEBUG_EXIT; written before end is published */
    char end_reason[256];          /* likewise */
    _Atomic uint64_t first_run_ns; /* CLOCK_MONOTONIC when vCPU 0 first entered the guest */
    /* control_lock */
    pthread_mutex_t control_lock;
    uint64_t shut_kvmclock; /* kvmclock, ns, when all were parked */
    /* park_lock */
    pthread_mutex_t park_lock;
    pthread_cond_t parked_cond; /* a vCPU parked, or moved */
    pthread_cond_t go_cond;     /* the gate opened */
    bool gate_shut;             /* vCPUs wait */
    unsigned nparked;           /* vCPUs at the gate or gone */
    uint64_t shut_ns;           /* CLOCK_MONOTONIC when all were parked */
    uint64_t shut_tsc;          /* host TSC then */
    uint64_t shift_ns;          /* total time the guest did not see */
    unsigned started;           /* threads made or being made, 0 after machine_join() */
};

/* ---- machine.c ---- */

/* Makes memory, views, controllers and the first incarnation of every vCPU. */
int machine_init(struct machine *m, const struct machine_spec *spec, struct err *err);

/* Undoes machine_init(); threads must be gone (machine_join). */
void machine_exit(struct machine *m);

/* Starts the vCPU threads with the gate shut (machine_pause() came before) or open. */
int machine_start(struct machine *m, struct err *err);

/* Waits until all vCPU threads are gone: after the end. */
void machine_join(struct machine *m);

/* Decides how the guest ends (the first decision stands) and stops all vCPUs soon. Any thread. */
void machine_end(struct machine *m, enum machine_end how, uint32_t value, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Shuts the gate and waits until every vCPU is parked; the guest's time stops.  Not from a vCPU
 * thread. */
void machine_pause(struct machine *m);

/* Opens the gate again: TSC offsets and timers are moved so that the guest saw nothing.  Not from a
 * vCPU thread. */
void machine_resume(struct machine *m);

/* Registers an eventfd for guest writes at gpa in every view. 0 or -errno. */
int machine_ioeventfd(struct machine *m, uint64_t gpa, unsigned len, int fd, bool add);

/* Moves a vCPU, paused or not, to another view and waits until it is there.  -EINVAL: no such vCPU
 * or view, -EAGAIN: not started, -ETIMEDOUT: it did not come out of the guest in 10 s, -ESHUTDOWN:
 * the guest ended, or -errno of KVM.  Not from a vCPU thread. */
int machine_move_vcpu(struct machine *m, unsigned vcpu, unsigned view);

/* What was on a node of the host belongs to another one from now on: views, vCPUs, which are bound
 * there if they are bound at all, and pages that are yet to come.  0 or -errno with a message.
 * Not from a vCPU thread; one at a time. */
int machine_rehome(struct machine *m, int from, int to, struct err *err);

/* Host monotonic time, ns. */
uint64_t machine_now_ns(void);

/* ---- view.c ---- */

/* Makes view `index`: its virtual machine, with the memory and without vCPUs.  0 or -errno; on
 * failure nothing is open. */
int view_init(struct view *v, struct machine *m, unsigned index, struct err *err);

/* Closes what view_init() opened; nothing when it failed.  Its incarnations are gone. */
void view_exit(struct view *v);

/* ---- vcpu.c ---- */

/* Body of a vCPU thread. arg: struct vcpu *. */
void *vcpu_thread(void *arg);

/* Makes the vCPU look at its requests and interrupts. Any thread. */
void vcpu_kick(struct vcpu *v);

/* Sets request bits and kicks. Any thread. */
void vcpu_request(struct vcpu *v, uint32_t bits);

/* The vCPU of the calling thread, NULL for other threads. */
struct vcpu *vcpu_self(void);

/* Registers the kick signal's handler; once per process. */
void vcpu_signals_init(void);

/* ---- exits.c ---- */

/* Acts on what KVM_RUN returned. Owner. */
void vcpu_dispatch(struct vcpu *v);

/* Name of a kind of exit, as statistics show it: a constant string. */
const char *exit_kind_name(enum exit_kind k);

/* Counts an exit of the vCPU.  Owner; others read the number at any time. */
void vcpu_count(struct vcpu *v, enum exit_kind k);

/* ---- incarnation.c ---- */

/* Creates the vCPU's incarnation in a view, with CPUID, MSR defaults and TSC offset set. */
int incarnation_new(struct vcpu *v, unsigned view, struct err *err);

/* Closes the incarnation in a view; nothing when there is none. */
void incarnation_free(struct vcpu *v, unsigned view);

/* What the vCPU's IA32_APIC_BASE holds at power-up. */
uint64_t incarnation_apic_base(const struct vcpu *v);

/* Carries the state to another view's incarnation and makes that the current one. Owner, outside
 * KVM_RUN. 0 or -errno; on failure the vCPU stays where it is. */
int incarnation_move(struct vcpu *v, unsigned view);

/* Finishes an exit that KVM still has to complete: port, MMIO and MSR accesses half done.  What
 * remains of the instruction may need devices again.  Afterwards the registers are whole.  Owner,
 * outside KVM_RUN. */
void incarnation_settle(struct vcpu *v);

/* Puts registers to their INIT state.  Owner.  A KVM that refuses ends the guest. */
void incarnation_init_state(struct vcpu *v);

/* Starts the vCPU, which is in INIT state, at a SIPI vector: real mode at vector << 12.  Owner.  A
 * KVM that refuses ends the guest. */
void incarnation_sipi(struct vcpu *v, uint8_t vector);

/* Makes the list of MSRs that a move carries: what KVM lists and a few that it does not, less those
 * that are carried in a way of their own.  0 or -errno. */
int msr_set_new(struct machine *m, struct err *err);

/* Frees the list; nothing when there is none. */
void msr_set_free(struct machine *m);

/* ---- cpuid.c ---- */

/* Makes the template for all vCPUs.  0 or -errno. */
int cpuid_template(struct machine *m, struct err *err);

/* Gives an incarnation the template with the vCPU's own numbers in it.  0 or -errno of KVM. */
int cpuid_apply(const struct vcpu *v, int vcpu_fd);

/* ---- clock.c ---- */

/* Sets the offset of a new incarnation: the first one's offset becomes everyone's. */
int clock_set(struct vcpu *v, int vcpu_fd, struct err *err);

/* Sets another offset (all incarnations of the vCPU). Owner, parked. */
void clock_apply(struct vcpu *v);

/* V2, measured: reads the guest TSC of every incarnation between two host readings.  Returns the
 * largest error found in cycles beyond the window, 0 when all agree; -1 when it can't be read. */
int64_t clock_verify(const struct machine *m);

/* The guest writes IA32_TSC or IA32_TSC_ADJUST: this vCPU's TSC moves in all its incarnations.
 * Owner.  False: this KVM can't, the guest gets #GP. */
bool clock_guest_write(struct vcpu *v, uint32_t msr, uint64_t data);

/* When the TSC of a vCPU with that tsc_adjust reaches tsc, in machine_now_ns() time; at most a
 * year ahead. */
uint64_t clock_tsc_to_ns(const struct machine *m, int64_t adjust, uint64_t tsc);

/* The host's TSC now. */
uint64_t clock_host_tsc(void);

#endif
