/* SPDX-License-Identifier: MIT */
/*
 * Makes the machine, starts and ends its vCPUs, and stops time for them.
 * Locks and invariants: machine.h.
 *
 * The gate.  A pause shuts it, asks every vCPU to park and waits for all; host time that passes
 * until it opens again is taken off the guest's TSC (and kvmclock) and added to its timers, so a
 * paused guest sees no gap.
 */
#include "vmm/machine/machine.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/bind.h"

enum { MOVE_WAIT_S = 10 }; /* a vCPU that is not out of the guest by then does not come */

/* ---- what the interrupt controllers need of us (struct irq_host) ---- */

static void host_kick(void *ctx, unsigned vcpu)
{
    struct machine *m = ctx;

    vcpu_kick(&m->vcpus[vcpu]);
}

static void host_nmi(void *ctx, unsigned vcpu)
{
    struct machine *m = ctx;

    vcpu_request(&m->vcpus[vcpu], VCPU_REQ_NMI);
}

static void host_init(void *ctx, unsigned vcpu)
{
    struct machine *m = ctx;

    vcpu_request(&m->vcpus[vcpu], VCPU_REQ_INIT);
}

static void host_sipi(void *ctx, unsigned vcpu, uint8_t vector)
{
    struct machine *m = ctx;

    atomic_store(&m->vcpus[vcpu].sipi_vector, vector);
    vcpu_request(&m->vcpus[vcpu], VCPU_REQ_SIPI);
}

static uint64_t host_now(void *ctx)
{
    (void)ctx;
    return machine_now_ns();
}

/* Called by owners only: a vCPU's timer is its own. */
static uint64_t host_tsc_to_ns(void *ctx, uint64_t tsc)
{
    const struct vcpu *v = vcpu_self();

    return clock_tsc_to_ns(ctx, v ? v->tsc_adjust : 0, tsc);
}

static void host_count_ipi(void *ctx, uint32_t src, unsigned dst)
{
    struct machine *m = ctx;
    struct vcpu *d = &m->vcpus[dst];

    if (src >= m->spec.nvcpus)
        return;
    atomic_fetch_add_explicit(&d->ipi_in, 1, memory_order_relaxed);
    if (m->vcpus[src].view != d->view)
        atomic_fetch_add_explicit(&d->ipi_cross, 1, memory_order_relaxed);
}

/* ---- making and undoing ---- */

/* Every vCPU in its home view; only vCPU 0 runs without a startup IPI. */
static int make_vcpus(struct machine *m, struct err *err)
{
    unsigned n = m->spec.nvcpus;
    int r = 0;

    m->incs = xcalloc((size_t)n * m->spec.nviews, sizeof(*m->incs));
    for (size_t i = 0; i < (size_t)n * m->spec.nviews; i++)
        m->incs[i].fd = -1;
    m->vcpus = aligned_alloc(alignof(struct vcpu), n * sizeof(*m->vcpus));
    INVARIANT(m->vcpus, "the host has no memory left for vCPUs");
    memset(m->vcpus, 0, n * sizeof(*m->vcpus));
    for (unsigned i = 0; i < n; i++) {
        struct vcpu *v = &m->vcpus[i];

        v->m = m;
        v->id = i;
        v->wait_sipi = i != 0;
        v->fd = -1;
        v->inc = &m->incs[(size_t)i * m->spec.nviews];
        v->view = (unsigned)((uint64_t)i * m->spec.nviews / n);
        v->node = m->spec.vcpu_node ? m->spec.vcpu_node[i] : m->spec.view_node[v->view];
    }
    for (unsigned i = 0; i < n && !r; i++) {
        struct vcpu *v = &m->vcpus[i];

        v->apic = irq_lapic(m->irq, i);
        lapic_set_base(v->apic, incarnation_apic_base(v));
        r = incarnation_new(v, v->view, err);
        v->fd = v->inc[v->view].fd;
        v->run = v->inc[v->view].run;
    }
    return r;
}

/* Measures V2 and says so when it does not hold. */
static void verify_clock(struct machine *m)
{
    int64_t worst = m->spec.nvcpus > 1 ? clock_verify(m) : 0;

    if (worst < 0)
        log_warn("the guest's TSC cannot be read back: equal offsets are not verified");
    else if (worst > 0)
        log_warn("TSC offsets of vCPUs differ by up to %lld cycles: the guest's clock may jump "
                 "(the host's TSC must be stable)",
                 (long long)worst);
}

/* Views on top of memory. */
static int make_views(struct machine *m, struct err *err)
{
    int r = 0;

    m->views = xcalloc(m->spec.nviews, sizeof(*m->views));
    for (unsigned i = 0; i < m->spec.nviews; i++)
        m->views[i].fd = -1;
    for (unsigned i = 0; i < m->spec.nviews && !r; i++)
        r = view_init(&m->views[i], m, i, err);
    return r;
}

/* Facts about this KVM that all parts need; and whether what was asked for can be at all. */
static int ask_kvm(struct machine *m, struct err *err)
{
    if (!m->spec.nvcpus || !m->spec.nviews || m->spec.nviews > MEM_MAX_VIEWS)
        return fail(err, EXIT_CONFIG, EINVAL,
                    "a machine of %u vCPUs in %u views: there must be "
                    "a vCPU and 1 to %d views",
                    m->spec.nvcpus, m->spec.nviews, MEM_MAX_VIEWS);
    m->run_size = ioctl(m->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (m->run_size <= 0)
        return fail_errno(err, EXIT_NOKVM, errno, "KVM_GET_VCPU_MMAP_SIZE");
    if (ioctl(m->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT) <= 0)
        return fail(err, EXIT_NOKVM, ENOTSUP,
                    "this KVM lacks KVM_CAP_IMMEDIATE_EXIT: Linux 4.12 or newer is needed");
    return 0;
}

/* What cpuid_template() is asked and answers, on a thread of its own. */
struct cpuid_ask {
    struct machine *m; /* its cpuid is written */
    struct err err;    /* what went wrong */
    int result;        /* 0 or -errno */
};

static void *ask_cpuid(void *arg)
{
    struct cpuid_ask *ask = arg;

    ask->result = cpuid_template(ask->m, &ask->err);
    return NULL;
}

/* Memory, interrupt controllers and views.  Meanwhile another thread asks what CPUs may be like:
 * where KVM itself runs in a virtual machine each CPUID of the host is slow, and it takes as long
 * as all the rest. */
static int make_board(struct machine *m, const struct irq_host *host, struct err *err)
{
    struct cpuid_ask ask = {.m = m};
    pthread_t thread;
    bool apart = pthread_create(&thread, NULL, ask_cpuid, &ask) == 0;
    int r = mem_init(&m->mem, &m->spec.mem, err);

    if (!r)
        r = irqchip_new(&m->irq, m->spec.nvcpus, host, err);
    if (!r)
        r = make_views(m, err);
    if (apart)
        pthread_join(thread, NULL);
    else
        ask_cpuid(&ask);
    if (!r && ask.result) {
        r = ask.result;
        *err = ask.err;
    }
    return r;
}

/* Locks and conditions; waits are timed by the monotonic clock, which nobody sets. */
static void locks_init(struct machine *m)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->control_lock, NULL);
    pthread_mutex_init(&m->park_lock, NULL);
    pthread_cond_init(&m->parked_cond, &attr);
    pthread_cond_init(&m->go_cond, &attr);
    pthread_condattr_destroy(&attr);
}

int machine_init(struct machine *m, const struct machine_spec *spec, struct err *err)
{
    const struct irq_host host = {.kick = host_kick,
                                  .nmi = host_nmi,
                                  .init = host_init,
                                  .sipi = host_sipi,
                                  .now_ns = host_now,
                                  .tsc_to_ns = host_tsc_to_ns,
                                  .count_ipi = host_count_ipi,
                                  .ctx = m};
    int r;

    memset(m, 0, sizeof(*m));
    m->spec = *spec;
    m->spec.mem.nviews = spec->nviews;
    m->kvm_fd = spec->kvm_fd;
    locks_init(m);
    vcpu_signals_init();
    m->mem.fd = -1;
    r = ask_kvm(m, err);
    if (!r)
        r = msr_set_new(m, err);
    if (!r)
        r = make_board(m, &host, err);
    if (!r)
        r = make_vcpus(m, err);
    m->spec.vcpu_node = NULL;
    if (r) {
        machine_exit(m);
        return r;
    }
    irqchip_map(m->irq, &m->mmio);
    verify_clock(m);
    return 0;
}

void machine_exit(struct machine *m)
{
    for (unsigned i = 0; m->vcpus && i < m->spec.nvcpus; i++)
        for (unsigned w = 0; w < m->spec.nviews; w++)
            incarnation_free(&m->vcpus[i], w);
    for (unsigned i = 0; m->views && i < m->spec.nviews; i++)
        view_exit(&m->views[i]);
    free(m->vcpus);
    free(m->incs);
    free(m->views);
    m->vcpus = NULL;
    m->incs = NULL;
    m->views = NULL;
    if (m->irq)
        irqchip_free(m->irq);
    m->irq = NULL;
    if (m->mem.fd >= 0)
        mem_exit(&m->mem);
    m->mem.fd = -1;
    msr_set_free(m);
    free(m->cpuid);
    m->cpuid = NULL;
    pthread_mutex_destroy(&m->control_lock);
    pthread_mutex_destroy(&m->park_lock);
    pthread_cond_destroy(&m->parked_cond);
    pthread_cond_destroy(&m->go_cond);
}

/* ---- running ---- */

/* Says how many threads there are, or will be in a moment. */
static void set_started(struct machine *m, unsigned n)
{
    pthread_mutex_lock(&m->park_lock);
    m->started = n;
    pthread_cond_broadcast(&m->parked_cond);
    pthread_mutex_unlock(&m->park_lock);
}

int machine_start(struct machine *m, struct err *err)
{
    unsigned n = 0;
    pthread_attr_t attr;
    int r = 0;

    set_started(m, m->spec.nvcpus); /* a pause from now on waits for all of them */
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    for (; n < m->spec.nvcpus && !r; n += r == 0)
        r = pthread_create(&m->vcpus[n].thread, &attr, vcpu_thread, &m->vcpus[n]);
    pthread_attr_destroy(&attr);
    if (!r)
        return 0;
    fail_errno(err, EXIT_INTERNAL, r, "pthread_create for vCPU %u", n);
    set_started(m, n);
    machine_end(m, MACHINE_KILLED, 0, "not all vCPU threads could be made");
    machine_join(m);
    return -r;
}

void machine_join(struct machine *m)
{
    for (unsigned i = 0; i < m->started; i++)
        pthread_join(m->vcpus[i].thread, NULL);
    set_started(m, 0);
}

/* Asks every vCPU to park; one whose thread does not run yet will find the request. */
static void call_all(struct machine *m)
{
    for (unsigned i = 0; i < m->spec.nvcpus; i++)
        vcpu_request(&m->vcpus[i], VCPU_REQ_PARK);
}

void machine_end(struct machine *m, enum machine_end how, uint32_t value, const char *fmt, ...)
{
    va_list ap;
    bool first;

    pthread_mutex_lock(&m->park_lock);
    first = atomic_load(&m->end) == MACHINE_RUNS;
    if (first) {
        va_start(ap, fmt);
        vsnprintf(m->end_reason, sizeof(m->end_reason), fmt, ap);
        va_end(ap);
        m->end_value = value;
        atomic_store(&m->end, how);
        pthread_cond_broadcast(&m->go_cond);
    }
    pthread_mutex_unlock(&m->park_lock);
    if (!first)
        return;
    call_all(m);
    if (m->on_end)
        m->on_end(m->on_end_arg);
}

/* Remembers kvmclock where the guest has it, or sets it to what was remembered. */
static void kvmclock_keep(struct machine *m, bool back)
{
    struct kvm_clock_data now = {.clock = m->shut_kvmclock};

    if (!m->spec.kvmclock)
        return;
    if (back)
        (void)ioctl(m->views[0].fd, KVM_SET_CLOCK, &now);
    else if (!ioctl(m->views[0].fd, KVM_GET_CLOCK, &now))
        m->shut_kvmclock = now.clock;
}

/* Shuts the gate; false if it is shut already or the guest has ended. */
static bool shut_gate(struct machine *m)
{
    bool shut;

    pthread_mutex_lock(&m->park_lock);
    shut = !m->gate_shut && atomic_load(&m->end) == MACHINE_RUNS;
    m->gate_shut |= shut;
    pthread_mutex_unlock(&m->park_lock);
    return shut;
}

void machine_pause(struct machine *m)
{
    pthread_mutex_lock(&m->control_lock);
    if (shut_gate(m)) {
        call_all(m);
        pthread_mutex_lock(&m->park_lock);
        while (m->nparked < m->started)
            pthread_cond_wait(&m->parked_cond, &m->park_lock);
        m->shut_ns = machine_now_ns();
        m->shut_tsc = clock_host_tsc();
        pthread_mutex_unlock(&m->park_lock);
        kvmclock_keep(m, false);
    }
    pthread_mutex_unlock(&m->control_lock);
}

void machine_resume(struct machine *m)
{
    pthread_mutex_lock(&m->control_lock);
    pthread_mutex_lock(&m->park_lock);
    if (m->gate_shut) {
        kvmclock_keep(m, true);
        m->gate_shut = false;
        if (!m->tsc_fixed)
            atomic_fetch_sub(&m->tsc_offset, (int64_t)(clock_host_tsc() - m->shut_tsc));
        else if (!m->shift_ns)
            log_warn(
                "this KVM cannot stop a guest's TSC: the guest sees the time it was paused");
        m->shift_ns += machine_now_ns() - m->shut_ns;
        pthread_cond_broadcast(&m->go_cond);
    }
    pthread_mutex_unlock(&m->park_lock);
    pthread_mutex_unlock(&m->control_lock);
}

/* Takes an eventfd off the first n views; 0 or the first error. */
static int ioeventfd_off(struct machine *m, struct kvm_ioeventfd req, unsigned n)
{
    int r = 0;

    req.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
    for (unsigned i = 0; i < n; i++)
        if (ioctl(m->views[i].fd, KVM_IOEVENTFD, &req) && !r)
            r = -errno;
    return r;
}

int machine_ioeventfd(struct machine *m, uint64_t gpa, unsigned len, int fd, bool add)
{
    struct kvm_ioeventfd req = {.addr = gpa, .len = len, .fd = fd};

    if (!add)
        return ioeventfd_off(m, req, m->spec.nviews);
    for (unsigned i = 0; i < m->spec.nviews; i++)
        if (ioctl(m->views[i].fd, KVM_IOEVENTFD, &req)) {
            int e = errno;

            (void)ioeventfd_off(m, req, i);
            return -e;
        }
    return 0;
}

/* Asks for the move and waits for it or its failure. */
static int move_and_wait(struct machine *m, struct vcpu *v, unsigned view)
{
    struct timespec until;
    unsigned seq;
    int r = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += MOVE_WAIT_S;
    pthread_mutex_lock(&m->park_lock);
    if (v->view == view) { /* no need to ask */
        pthread_mutex_unlock(&m->park_lock);
        return 0;
    }
    seq = v->move_seq;
    atomic_store(&v->move_to, view);
    vcpu_request(v, VCPU_REQ_MOVE);
    pthread_cond_broadcast(&m->go_cond); /* it may be parked */
    while (v->view != view && !r) {
        if (atomic_load(&m->end) != MACHINE_RUNS)
            r = -ESHUTDOWN;
        else if (v->move_seq != seq && v->move_err)
            r = v->move_err;
        else
            r = -pthread_cond_timedwait(&m->parked_cond, &m->park_lock, &until);
    }
    pthread_mutex_unlock(&m->park_lock);
    return v->view == view ? 0 : r;
}

int machine_move_vcpu(struct machine *m, unsigned vcpu, unsigned view)
{
    bool started;
    int r;

    if (vcpu >= m->spec.nvcpus || view >= m->spec.nviews)
        return -EINVAL;
    pthread_mutex_lock(&m->control_lock);
    pthread_mutex_lock(&m->park_lock);
    started = m->started > 0;
    pthread_mutex_unlock(&m->park_lock);
    r = started ? move_and_wait(m, &m->vcpus[vcpu], view) : -EAGAIN;
    pthread_mutex_unlock(&m->control_lock);
    return r;
}

/* Views and vCPUs of a node belong to another one. */
static void rehome_threads(struct machine *m, int from, int to)
{
    for (unsigned i = 0; i < m->spec.nviews; i++) {
        int node = from;

        if (atomic_compare_exchange_strong(&m->views[i].node, &node, to))
            m->spec.view_node[i] = to;
    }
    for (unsigned i = 0; i < m->spec.nvcpus; i++) {
        struct vcpu *v = &m->vcpus[i];
        int node = from;

        if (atomic_compare_exchange_strong(&v->node, &node, to) && m->spec.pin &&
            atomic_load(&v->tid))
            numa_bind_task(atomic_load(&v->tid), to);
    }
}

int machine_rehome(struct machine *m, int from, int to, struct err *err)
{
    struct mem_spec spec = m->spec.mem;
    int r;

    for (unsigned i = 0; i < spec.nnodes; i++)
        if (spec.nodes[i] == from)
            spec.nodes[i] = to;
    r = mem_rebind(&m->mem, &spec, err);
    if (r)
        return r;
    m->spec.mem = spec;
    pthread_mutex_lock(&m->control_lock); /* no vCPU is on its way between views */
    rehome_threads(m, from, to);
    pthread_mutex_unlock(&m->control_lock);
    return 0;
}
