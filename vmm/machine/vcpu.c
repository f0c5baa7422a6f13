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
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/bind.h"
#include "vmm/machine/machine.h"

#define KICK_SIGNAL SIGUSR1

/* How often -EFAULT is tried again at once, how long is slept between later tries, and how long
 * after the first the guest is given up. */
enum { FAULTS_AT_ONCE = 100, FAULT_SLEEP_NS = 50000 };
static const uint64_t FAULT_MAX_NS = 10000000000u;

/* The vCPU of this thread, for the signal handler. Owner only. */
static __thread struct vcpu *self;

/* The kick: makes the next or current KVM_RUN return. */
static void on_kick(int sig)
{
    (void)sig;
    if (self)
        self->run->immediate_exit = 1;
}

struct vcpu *vcpu_self(void)
{
    return self;
}

void vcpu_signals_init(void)
{
    /* KVM_RUN and a timed futex end with EINTR all the same; a device's write(2) goes on */
    struct sigaction sa = {.sa_handler = on_kick, .sa_flags = SA_RESTART};

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

/* Programs the thread's timer to kick at the local APIC's next deadline, if that changed.  Without
 * a deadline the timer stays as it is: a kick too many costs less than a system call a tick. */
static void program_timer(struct vcpu *v)
{
    uint64_t at = lapic_deadline(v->apic);
    struct itimerspec its = {.it_value = {.tv_sec = (time_t)(at / 1000000000u),
                                          .tv_nsec = (long)(at % 1000000000u)}};

    if (!at || at == v->timer_ns)
        return;
    v->timer_ns = at;
    timer_settime(v->timer, TIMER_ABSTIME, &its, NULL);
}

/* Goes to the view asked for and tells who waits for it. */
static void move(struct vcpu *v)
{
    unsigned to = atomic_load(&v->move_to);
    bool there = to == v->view;
    int r = incarnation_move(v, to);

    if (r) {
        log_warn("vcpu%u stays in view %u: %s", v->id, v->view, strerror(-r));
    } else if (!there) {
        atomic_fetch_add_explicit(&v->moves, 1, memory_order_relaxed);
        v->node = v->m->views[v->view].node;
        if (v->m->spec.pin)
            numa_bind_thread(v->node);
    }
    pthread_mutex_lock(&v->m->park_lock);
    v->move_seq++;
    v->move_err = r;
    pthread_cond_broadcast(&v->m->parked_cond);
    pthread_mutex_unlock(&v->m->park_lock);
}

/* Takes the time that pauses took off the guest's TSC and timer.  Everything not taken yet counts,
 * whichever pause it came from: a pause may end before this vCPU came to the gate. */
static void catch_up(struct vcpu *v)
{
    struct machine *m = v->m;
    uint64_t shift;

    pthread_mutex_lock(&m->park_lock);
    shift = m->shift_ns - v->shifted;
    v->shifted = m->shift_ns;
    pthread_mutex_unlock(&m->park_lock);
    if (shift) {
        clock_apply(v);
        lapic_time_shift(v->apic, shift);
    }
}

/* Waits at the gate until it opens or the guest has ended; moves if asked to meanwhile. */
static void park(struct vcpu *v)
{
    struct machine *m = v->m;

    incarnation_settle(v); /* who is parked has no device access half done */
    pthread_mutex_lock(&m->park_lock);
    m->nparked++;
    pthread_cond_broadcast(&m->parked_cond);
    while (m->gate_shut && atomic_load(&m->end) == MACHINE_RUNS) {
        if (atomic_fetch_and(&v->requests, ~(uint32_t)VCPU_REQ_MOVE) & VCPU_REQ_MOVE) {
            pthread_mutex_unlock(&m->park_lock);
            move(v);
            pthread_mutex_lock(&m->park_lock);
        } else {
            pthread_cond_wait(&m->go_cond, &m->park_lock);
        }
    }
    m->nparked--;
    pthread_mutex_unlock(&m->park_lock);
    catch_up(v);
}

/* INIT: back to the state before a startup IPI. */
static void init(struct vcpu *v)
{
    incarnation_init_state(v);
    lapic_reset(v->apic, true);
    lapic_set_base(v->apic, v->run->apic_base); /* INIT does not leave x2APIC mode */
    v->halted = false;
    v->wait_sipi = true;
    atomic_fetch_and(&v->requests, ~(uint32_t)VCPU_REQ_NMI);
}

/* NMI: wakes from HLT, unless the handler of the one before is what halted. */
static void nmi(struct vcpu *v)
{
    struct kvm_vcpu_events events;

    ioctl(v->fd, KVM_NMI, 0);
    if (v->halted && (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events) || !events.nmi.masked))
        v->halted = false;
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
    if ((req & VCPU_REQ_NMI) && !v->wait_sipi)
        nmi(v);
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

/* KVM_EXIT_MEMORY_FAULT (Linux 6.8), which older headers lack: where KVM_RUN found no page. */
enum { EXIT_MEMORY_FAULT = 39 };
struct memory_fault {
    uint64_t flags, gpa, size; /* as KVM fills them in */
};

/* Asks who changes pages; true when that explains the fault and it is over. */
static bool fault_seen_to(struct vcpu *v)
{
    const struct memory_fault *f = (const void *)&v->run->hw; /* the union of all exits */
    bool told = v->run->exit_reason == EXIT_MEMORY_FAULT;

    return v->m->on_fault && v->m->on_fault(v->m->on_fault_arg, v->view,
                                            told ? f->gpa : UINT64_MAX, &v->fault_seen);
}

/* A page was just being replaced: true to run again, after a while if that took long. */
static bool fault_again(struct vcpu *v)
{
    static const struct timespec nap = {.tv_nsec = FAULT_SLEEP_NS};

    vcpu_count(v, EXIT_KIND_FAULT);
    if (fault_seen_to(v)) {
        v->faults = 0;
        return true;
    }
    if (!v->faults)
        v->fault_ns = machine_now_ns();
    if (v->faults++ < FAULTS_AT_ONCE) {
        sched_yield();
        return true;
    }
    nanosleep(&nap, NULL);
    return machine_now_ns() - v->fault_ns < FAULT_MAX_NS;
}

/* Notes when the guest's first instruction is about to run. */
static void note_first_run(struct vcpu *v)
{
    if (v->id == 0 && !atomic_load_explicit(&v->m->first_run_ns, memory_order_relaxed))
        atomic_store(&v->m->first_run_ns, machine_now_ns());
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
    note_first_run(v);
    r = ioctl(v->fd, KVM_RUN, 0) ? errno : 0;
    atomic_store(&v->state, VCPU_USER);
    /* both may have changed without an exit of their own; no cost when they did not */
    lapic_set_cr8(v->apic, (uint8_t)v->run->cr8);
    lapic_set_base(v->apic, v->run->apic_base);
    if (!r) {
        v->faults = 0;
        return true;
    }
    if (r == EINTR || r == EAGAIN) {
        vcpu_count(v, EXIT_KIND_SIGNAL);
    } else if (r != EFAULT || !fault_again(v)) {
        machine_end(v->m, MACHINE_BROKEN, 0, "KVM_RUN of vcpu%u: %s", v->id, strerror(r));
    }
    return false;
}

/* Thread name, kick timer, CPU affinity.  False: no timer. */
static bool thread_init(struct vcpu *v)
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
    if (v->m->spec.pin)
        numa_bind_thread(v->node);
    prctl(PR_SET_TIMERSLACK, 1ul); /* an idle guest's timers are not to be 50 us late */
    if (!timer_create(CLOCK_MONOTONIC, &ev, &v->timer))
        return true;
    machine_end(v->m, MACHINE_BROKEN, 0,
                "timer_create for vcpu%u: %s (see `ulimit -i`, pending signals)", v->id,
                strerror(errno));
    return false;
}

void *vcpu_thread(void *arg)
{
    struct vcpu *v = arg;
    struct machine *m = v->m;
    bool timer = thread_init(v);

    catch_up(v);
    while (atomic_load(&m->end) == MACHINE_RUNS) {
        if (atomic_load(&v->requests))
            serve(v);
        else if (v->wait_sipi || v->halted)
            idle(v);
        else if (enter(v))
            vcpu_dispatch(v);
    }
    if (timer)
        timer_delete(v->timer);
    self = NULL;
    pthread_mutex_lock(&m->park_lock);
    m->nparked++;
    pthread_cond_broadcast(&m->parked_cond);
    pthread_mutex_unlock(&m->park_lock);
    return NULL;
}
