/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's thread: serve requests, deliver interrupts, enter the guest, act on what brought it
 * back; idle in between without burning the CPU.
 *
 * How a wake-up is never lost (V3).  A poster ORs its bit (IRR or requests), then looks at state:
 *   GUEST   sends the kick signal, whose handler sets kvm_run->immediate_exit
 *   HALTED  bumps the futex word
 *   USER    does nothing: the owner will look
 * The owner clears immediate_exit, publishes GUEST (or, for HLT, reads the futex word and
 * publishes HALTED), then looks for work once more, then enters or sleeps.  Both sides use
 * sequentially consistent operations, so one of them sees the other.  A signal that arrives after
 * the last look finds immediate_exit cleared and sets it again: KVM_RUN returns at once.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/bind.h"
#include "vmm/machine/machine.h"

#define KICK_SIGNAL SIGUSR1

enum { FAULTS_MAX = 10000 }; /* -EFAULTs in a row before the guest is given up */

/* The vCPU of this thread, for the signal handler. Owner only. */
static __thread struct vcpu *self;

/* The kick: makes the next or current KVM_RUN return. */
static void on_kick(int sig)
{
    (void)sig;
    if (self)
        self->run->immediate_exit = 1;
}

void vcpu_signals_init(void)
{
    struct sigaction sa = {.sa_handler = on_kick};

    sigaction(KICK_SIGNAL, &sa, NULL);
}

/* Wakes the owner out of its futex. */
static void futex_wake(struct vcpu *v)
{
    atomic_fetch_add(&v->wake, 1);
    syscall(SYS_futex, &v->wake, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void vcpu_kick(struct vcpu *v)
{
    if (v == self)
        return;
    switch (atomic_load(&v->state)) {
    case VCPU_GUEST:
        if (!atomic_exchange(&v->kicked, true))
            syscall(SYS_tgkill, getpid(), atomic_load(&v->tid), KICK_SIGNAL);
        break;
    case VCPU_HALTED:
        futex_wake(v);
        break;
    default:
        break;
    }
}

void vcpu_request(struct vcpu *v, uint32_t bits)
{
    atomic_fetch_or(&v->requests, bits);
    vcpu_kick(v);
}

/* Programs the thread's timer to kick at the local APIC's next deadline, if that changed. */
static void program_timer(struct vcpu *v)
{
    uint64_t at = lapic_deadline(v->apic);
    struct itimerspec its = {.it_value = {.tv_sec = (time_t)(at / 1000000000u),
                                          .tv_nsec = (long)(at % 1000000000u)}};

    if (at == v->timer_ns)
        return;
    v->timer_ns = at;
    timer_settime(v->timer, TIMER_ABSTIME, &its, NULL);
}

/* Waits at the gate until it opens or the guest has ended. */
static void park(struct vcpu *v)
{
    struct machine *m = v->m;
    uint64_t seen;

    pthread_mutex_lock(&m->park_lock);
    seen = m->shift_ns;
    m->nparked++;
    pthread_cond_broadcast(&m->parked_cond);
    while (m->gate_shut && atomic_load(&m->end) == MACHINE_RUNS)
        pthread_cond_wait(&m->go_cond, &m->park_lock);
    m->nparked--;
    seen = m->shift_ns - seen;
    pthread_mutex_unlock(&m->park_lock);
    if (seen) {
        clock_apply(v);
        lapic_time_shift(v->apic, seen);
    }
}

/* Goes to the view asked for and tells who waits for it. */
static void move(struct vcpu *v)
{
    int r = incarnation_move(v, atomic_load(&v->move_to));

    if (r) {
        log_warn("vcpu%u stays in view %u: %s", v->id, v->view, strerror(-r));
    } else {
        atomic_fetch_add_explicit(&v->moves, 1, memory_order_relaxed);
        v->node = v->m->views[v->view].node;
        if (v->m->spec.pin)
            numa_bind_thread(v->node);
    }
    pthread_mutex_lock(&v->m->park_lock);
    pthread_cond_broadcast(&v->m->parked_cond);
    pthread_mutex_unlock(&v->m->park_lock);
}

/* INIT: back to the state before a startup IPI. */
static void init(struct vcpu *v)
{
    incarnation_init_state(v);
    lapic_reset(v->apic, true);
    v->halted = false;
    v->wait_sipi = true;
    atomic_fetch_and(&v->requests, ~(uint32_t)VCPU_REQ_NMI);
}

/* Serves requests in the order in which they can depend on each other. */
static void serve(struct vcpu *v)
{
    uint32_t req = atomic_exchange(&v->requests, 0);

    if (req & VCPU_REQ_MOVE)
        move(v);
    if (req & VCPU_REQ_INIT)
        init(v);
    if ((req & VCPU_REQ_SIPI) && v->wait_sipi) {
        v->wait_sipi = false;
        incarnation_sipi(v, atomic_load(&v->sipi_vector));
    }
    if ((req & VCPU_REQ_NMI) && !v->wait_sipi) {
        v->halted = false;
        ioctl(v->fd, KVM_NMI, 0);
    }
    if (req & VCPU_REQ_PARK)
        park(v);
}

/* True when a halted or waiting vCPU has something to do. */
static bool has_work(const struct vcpu *v)
{
    if (atomic_load(&v->requests))
        return true;
    return v->halted && v->run->if_flag && lapic_pending(v->apic) >= 0;
}

/* Sleeps until there is work or the timer is due. */
static void idle(struct vcpu *v)
{
    uint64_t start = machine_now_ns(), at, now;
    uint32_t word = atomic_load(&v->wake);
    struct timespec ts, *tsp = NULL;

    atomic_store(&v->state, VCPU_HALTED);
    if (!v->wait_sipi)
        lapic_timer_check(v->apic);
    if (!has_work(v)) {
        at = v->wait_sipi ? 0 : lapic_deadline(v->apic);
        now = machine_now_ns();
        if (at) {
            uint64_t left = at > now ? at - now : 0;

            ts = (struct timespec){.tv_sec = (time_t)(left / 1000000000u),
                                   .tv_nsec = (long)(left % 1000000000u)};
            tsp = &ts;
        }
        syscall(SYS_futex, &v->wake, FUTEX_WAIT_PRIVATE, word, tsp, NULL, 0);
    }
    atomic_store(&v->state, VCPU_USER);
    if (v->halted && v->run->if_flag && lapic_pending(v->apic) >= 0)
        v->halted = false;
    atomic_fetch_add_explicit(&v->halt_ns, machine_now_ns() - start, memory_order_relaxed);
}

/* Hands the highest pending interrupt to KVM, or asks for a window when it can't be taken now. */
static void inject(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    int vector = lapic_pending(v->apic);
    struct kvm_interrupt irq;

    run->request_interrupt_window = 0;
    run->cr8 = lapic_get_cr8(v->apic);
    if (vector < 0)
        return;
    if (!run->ready_for_interrupt_injection || !run->if_flag) {
        run->request_interrupt_window = 1;
        return;
    }
    irq.irq = (uint32_t)vector;
    if (ioctl(v->fd, KVM_INTERRUPT, &irq)) {
        machine_end(v->m, MACHINE_BROKEN, 0, "KVM_INTERRUPT %d: %s", vector, strerror(errno));
        return;
    }
    lapic_accept(v->apic, (uint8_t)vector);
    atomic_fetch_add_explicit(&v->injected, 1, memory_order_relaxed);
    run->ready_for_interrupt_injection = 0;
    run->request_interrupt_window = lapic_pending(v->apic) >= 0;
}

/* Runs the guest once.  Returns false when KVM_RUN gave an error (handled here). */
static bool enter(struct vcpu *v)
{
    int r;

    v->run->immediate_exit = 0;
    atomic_store(&v->kicked, false);
    atomic_store(&v->state, VCPU_GUEST);
    lapic_timer_check(v->apic);
    if (atomic_load(&v->requests)) {
        atomic_store(&v->state, VCPU_USER);
        return false;
    }
    inject(v);
    program_timer(v);
    r = ioctl(v->fd, KVM_RUN, 0);
    atomic_store(&v->state, VCPU_USER);
    /* both may have changed without an exit of their own; no cost when they did not */
    lapic_set_cr8(v->apic, (uint8_t)v->run->cr8);
    lapic_set_base(v->apic, v->run->apic_base);
    if (!r) {
        v->faults = 0;
        return true;
    }
    if (errno == EINTR || errno == EAGAIN) {
        vcpu_count(v, EXIT_KIND_SIGNAL);
    } else if (errno == EFAULT && v->faults++ < FAULTS_MAX) {
        vcpu_count(v, EXIT_KIND_FAULT);
        sched_yield();
    } else {
        machine_end(v->m, MACHINE_BROKEN, 0, "KVM_RUN of vcpu%u: %s", v->id, strerror(errno));
    }
    return false;
}

/* Thread name, kick timer, CPU affinity. */
static void thread_init(struct vcpu *v)
{
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = KICK_SIGNAL};
    char name[16];
    sigset_t all;

    sigfillset(&all);
    sigdelset(&all, KICK_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    self = v;
    snprintf(name, sizeof(name), "vcpu%u", v->id);
    pthread_setname_np(pthread_self(), name);
    atomic_store(&v->tid, (pid_t)syscall(SYS_gettid));
    ev._sigev_un._tid = atomic_load(&v->tid);
    INVARIANT(!timer_create(CLOCK_MONOTONIC, &ev, &v->timer), "timer_create for a vCPU");
    if (v->m->spec.pin)
        numa_bind_thread(v->node);
}

void *vcpu_thread(void *arg)
{
    struct vcpu *v = arg;
    struct machine *m = v->m;

    thread_init(v);
    if (v->id == 0)
        atomic_store(&m->first_run_ns, machine_now_ns());
    while (atomic_load(&m->end) == MACHINE_RUNS) {
        if (atomic_load(&v->requests))
            serve(v);
        else if (v->wait_sipi || v->halted)
            idle(v);
        else if (enter(v))
            vcpu_dispatch(v);
    }
    timer_delete(v->timer);
    self = NULL;
    pthread_mutex_lock(&m->park_lock);
    m->nparked++;
    pthread_cond_broadcast(&m->parked_cond);
    pthread_mutex_unlock(&m->park_lock);
    return NULL;
}
