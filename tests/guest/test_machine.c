/* SPDX-License-Identifier: MIT */
/*
 * The machine at its edges: ends before all threads are there, pauses before the start and moves
 * during a pause, device accesses half done when a move comes, what a move carries, TSC writes of
 * the guest, CPUID, and wrong specifications.  Guests are a few instructions of flat 32-bit code.
 *
 * Threads: the machine's vCPUs, and this one, which is what a monitor would be.  A test that hangs
 * is ended by alarm(2).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/machine/machine.h"

#include <cmocka.h> /* last: its fail() is a macro */

enum {
    CODE = 0x10000,       /* where programs are loaded and entered */
    PORT_END = 0xf4,      /* a write ends the machine */
    PORT_MARK = 0xe0,     /* a write is counted */
    DEVICE = 0xd0000000u, /* two pages of MMIO */
    LIMIT_S = 60,         /* a test that takes longer hangs */
    EVERYONE_MAX = 8,     /* vCPUs */
    MSR_PAT = 0x277,
    MSR_MTRR_BASE0 = 0x200,
    MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_DEF = 0x2ff,
};

/* A machine with what its guest did. */
struct rig {
    struct machine m;          /* the machine */
    atomic_uint marks;         /* writes to PORT_MARK */
    atomic_uint reads, writes; /* accesses of DEVICE */
    uint8_t bytes[0x2000];     /* what was written to DEVICE */
    bool move_on_access;       /* DEVICE asks for a move of the vCPU that touches it */
};

/* ---- devices ---- */

static void no_read(void *dev, uint64_t off, void *data, unsigned len)
{
    (void)dev, (void)off;
    memset(data, 0, len);
}

static void end_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct rig *r = dev;

    (void)off, (void)data, (void)len;
    machine_end(&r->m, MACHINE_DEBUG_EXIT, 1, "the end");
}

static void mark_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct rig *r = dev;

    (void)off, (void)data, (void)len;
    atomic_fetch_add(&r->marks, 1);
}

/* Asks for a move of the vCPU that is in the middle of an access. */
static void ask_move(struct rig *r)
{
    struct vcpu *v = &r->m.vcpus[0];

    if (!r->move_on_access)
        return;
    atomic_store(&v->move_to, !v->view);
    vcpu_request(v, VCPU_REQ_MOVE);
}

/* Reads as the offset's low byte and on. */
static void device_read(void *dev, uint64_t off, void *data, unsigned len)
{
    struct rig *r = dev;

    for (unsigned i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)(off + i);
    atomic_fetch_add(&r->reads, 1);
    ask_move(r);
}

static void device_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct rig *r = dev;

    memcpy(&r->bytes[off], data, len);
    atomic_fetch_add(&r->writes, 1);
    ask_move(r);
}

static const struct bus_ops end_ops = {.read = no_read, .write = end_write};
static const struct bus_ops mark_ops = {.read = no_read, .write = mark_write};
static const struct bus_ops device_ops = {.read = device_read, .write = device_write};

/* ---- set-up ---- */

/* A flat 32-bit segment of ring 0. */
static struct kvm_segment segment(bool code)
{
    return (struct kvm_segment){.limit = UINT32_MAX,
                                .selector = code ? 0x10 : 0x18,
                                .type = code ? 11 : 3,
                                .present = 1,
                                .db = 1,
                                .s = 1,
                                .g = 1};
}

/* What the program of a rig starts with. */
static void set_registers(const struct vcpu *v)
{
    struct kvm_regs regs = {.rip = CODE, .rflags = 2, .rsp = CODE};
    struct kvm_sregs s;

    assert_int_equal(ioctl(v->fd, KVM_GET_SREGS, &s), 0);
    s.cr0 = 0x11;
    s.cs = segment(true);
    s.ds = s.es = s.fs = s.gs = s.ss = segment(false);
    s.tr = (struct kvm_segment){.limit = 0xffff, .type = 11, .present = 1};
    s.ldt = (struct kvm_segment){.unusable = 1, .type = 2};
    assert_int_equal(ioctl(v->fd, KVM_SET_SREGS, &s), 0);
    assert_int_equal(ioctl(v->fd, KVM_SET_REGS, &regs), 0);
}

/* A machine whose first vCPU is before a program; the others wait for a startup IPI. */
static struct rig *rig_new(unsigned n, unsigned nviews, const void *code, size_t len)
{
    struct machine_spec spec = {.nvcpus = n, .nviews = nviews, .x2apic = true};
    struct rig *r = xcalloc(1, sizeof(*r));
    struct err err = {0};

    alarm(LIMIT_S);
    spec.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    assert_true(spec.kvm_fd >= 0);
    spec.mem.size = 2 << 20;
    for (unsigned i = 0; i < nviews; i++)
        spec.view_node[i] = -1;
    if (machine_init(&r->m, &spec, &err))
        fail_msg("machine_init: %s", err.text);
    bus_add(&r->m.pio, PORT_END, 4, &end_ops, r, "end");
    bus_add(&r->m.pio, PORT_MARK, 1, &mark_ops, r, "mark");
    bus_add(&r->m.mmio, DEVICE, 0x2000, &device_ops, r, "device");
    assert_true(mem_write(&r->m.mem, CODE, code, len));
    set_registers(&r->m.vcpus[0]);
    return r;
}

static void rig_start(struct rig *r)
{
    struct err err = {0};

    if (machine_start(&r->m, &err))
        fail_msg("machine_start: %s", err.text);
}

/* Undoes rig_new(); a running machine is ended. */
static void rig_free(struct rig *r)
{
    int kvm_fd = r->m.kvm_fd;

    machine_end(&r->m, MACHINE_KILLED, 0, "the test is over");
    machine_join(&r->m);
    machine_exit(&r->m);
    close(kvm_fd);
    free(r);
    alarm(0);
}

/* Waits for the guest's own end. */
static void must_end(struct rig *r)
{
    machine_join(&r->m);
    if (atomic_load(&r->m.end) != MACHINE_DEBUG_EXIT)
        fail_msg("%s", r->m.end_reason);
}

/* The offset KVM has for a vCPU in a view. */
static int64_t offset_of(const struct vcpu *v, unsigned view)
{
    int64_t offset = 0;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset};

    assert_int_equal(ioctl(v->inc[view].fd, KVM_GET_DEVICE_ATTR, &attr), 0);
    return offset;
}

/* Invariant V2, by KVM's own word. */
static void offsets_agree(const struct rig *r)
{
    for (unsigned i = 0; i < r->m.spec.nvcpus; i++)
        for (unsigned w = 0; w < r->m.spec.nviews; w++)
            if (r->m.vcpus[i].inc[w].fd >= 0)
                assert_true(offset_of(&r->m.vcpus[i], w) ==
                            atomic_load(&r->m.tsc_offset) + r->m.vcpus[i].tsc_adjust);
}

/* An MSR of a vCPU in a view: sets it, or reads it; false: KVM refuses. */
static bool msr(const struct vcpu *v, unsigned view, unsigned long request, uint32_t index,
                uint64_t *data)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } x = {.head = {.nmsrs = 1}, .entry = {.index = index, .data = *data}};
    bool ok = ioctl(v->inc[view].fd, request, &x) == 1;

    *data = x.entry.data;
    return ok;
}

/* ---- programs ---- */

static const uint8_t prog_end[] = {0xe6, PORT_END, 0xeb, 0xfe};    /* out; jmp . */
static const uint8_t prog_marks[] = {0xe6, PORT_MARK, 0xeb, 0xfc}; /* out again and again */

/* ---- tests ---- */

/* A guest that ends while later vCPUs are being started leaves none of them behind. */
static void ends_before_all_run(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        struct rig *r = rig_new(EVERYONE_MAX, 1, prog_end, sizeof(prog_end));

        rig_start(r);
        must_end(r);
        rig_free(r);
    }
}

/* A machine that is paused before its start does not run; one that was ended ends. */
static void paused_before_start(void **state)
{
    struct rig *r = rig_new(4, 2, prog_end, sizeof(prog_end));

    (void)state;
    machine_pause(&r->m);
    rig_start(r);
    usleep(100000);
    assert_int_equal(atomic_load(&r->m.end), MACHINE_RUNS);
    machine_resume(&r->m);
    must_end(r);
    offsets_agree(r);
    rig_free(r);

    r = rig_new(4, 2, prog_marks, sizeof(prog_marks));
    machine_end(&r->m, MACHINE_KILLED, 0, "before it began");
    rig_start(r);
    machine_join(&r->m);
    assert_int_equal(atomic_load(&r->marks), 0);
    assert_int_equal(atomic_load(&r->m.end), MACHINE_KILLED);
    rig_free(r);
}

/* Pauses that come while threads start: every vCPU takes the time they took, early or late. */
static void pauses_race_the_start(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 50; i++) {
        struct rig *r = rig_new(EVERYONE_MAX, 2, prog_marks, sizeof(prog_marks));

        machine_pause(&r->m);
        rig_start(r);
        machine_resume(&r->m);
        for (unsigned j = 0; j < 3; j++) {
            machine_pause(&r->m);
            machine_resume(&r->m);
        }
        for (unsigned j = 0; j < EVERYONE_MAX; j++) /* who moves has left the gate */
            assert_int_equal(machine_move_vcpu(&r->m, j, !r->m.vcpus[j].view), 0);
        machine_pause(&r->m);
        offsets_agree(r);
        for (unsigned j = 0; j < EVERYONE_MAX; j++)
            assert_true(r->m.vcpus[j].shifted == r->m.shift_ns);
        rig_free(r);
    }
}

/* A paused vCPU can be moved, at once, and does not run for it. */
static void moves_while_paused(void **state)
{
    struct rig *r = rig_new(2, 2, prog_marks, sizeof(prog_marks));
    uint64_t from;
    unsigned n;

    (void)state;
    assert_int_equal(machine_move_vcpu(&r->m, 0, 1), -EAGAIN); /* not started */
    rig_start(r);
    while (atomic_load(&r->marks) < 10)
        usleep(1000);
    machine_pause(&r->m);
    n = atomic_load(&r->marks);
    from = machine_now_ns();
    assert_int_equal(machine_move_vcpu(&r->m, 0, 1), 0);
    assert_int_equal(machine_move_vcpu(&r->m, 1, 0), 0); /* the one that waits for its start */
    assert_true(machine_now_ns() - from < 5000000000u);
    usleep(20000);
    assert_int_equal(atomic_load(&r->marks), n);
    machine_resume(&r->m);
    while (atomic_load(&r->marks) < n + 10)
        usleep(1000);
    machine_pause(&r->m);
    offsets_agree(r);
    assert_int_equal(r->m.vcpus[0].view, 1);
    assert_int_equal(r->m.vcpus[1].view, 0);
    rig_free(r);
}

/* An access that KVM splits at a page is made once, though the vCPU is moved between the parts. */
static void moves_between_fragments(void **state)
{
    static const uint8_t prog[] = {
        0xa1, 0xfe,     0x0f, 0x00, 0xd0, /* mov DEVICE + 0xffe, %eax */
        0xa3, 0xfd,     0x0f, 0x00, 0xd0, /* mov %eax, DEVICE + 0xffd */
        0xe6, PORT_END,                   /* out */
        0xeb, 0xfe,
    };
    static const uint8_t want[] = {0xfe, 0xff, 0x00, 0x01};
    struct rig *r = rig_new(1, 2, prog, sizeof(prog));

    (void)state;
    r->move_on_access = true;
    rig_start(r);
    must_end(r);
    assert_int_equal(atomic_load(&r->reads), 2);
    assert_memory_equal(&r->bytes[0xffd], want, 4);
    assert_int_equal(atomic_load(&r->writes), 3); /* 2 in the first page, as 2 + 1, and 1 */
    rig_free(r);
}

/* A move carries MSRs that KVM does not list, pending NMIs and debug registers; and back. */
static void moves_carry_all(void **state)
{
    static const uint64_t values[][2] = {
        {MSR_PAT, 0x0007010600070106ull},
        {MSR_MTRR_BASE0, 0x80000000ull},
        {MSR_MTRR_FIX64K, 0x0606060606060600ull},
        {MSR_MTRR_DEF, 0xc06},
    };
    struct rig *r = rig_new(1, 2, prog_end, sizeof(prog_end));
    struct kvm_debugregs debug = {.db = {0x1234}, .dr6 = 0xffff0ff0, .dr7 = 0x400};
    struct vcpu *v = &r->m.vcpus[0];
    struct kvm_vcpu_events events;
    bool known[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t data = values[i][1];

        known[i] = msr(v, 0, KVM_SET_MSRS, (uint32_t)values[i][0], &data);
    }
    assert_int_equal(ioctl(v->fd, KVM_SET_DEBUGREGS, &debug), 0);
    assert_int_equal(ioctl(v->fd, KVM_NMI, 0), 0);
    for (unsigned view = 1; view < 2; view--) { /* 1, then 0 */
        assert_int_equal(incarnation_move(v, view), 0);
        for (unsigned i = 0; i < 4; i++) {
            uint64_t data = 0;

            if (known[i] && msr(v, view, KVM_GET_MSRS, (uint32_t)values[i][0], &data))
                assert_true(data == values[i][1]);
        }
        assert_int_equal(ioctl(v->fd, KVM_GET_DEBUGREGS, &debug), 0);
        assert_int_equal(debug.db[0], 0x1234);
        assert_int_equal(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events), 0);
        assert_int_equal(events.nmi.pending, 1);
    }
    incarnation_init_state(v); /* and INIT forgets */
    assert_int_equal(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events), 0);
    assert_int_equal(events.nmi.pending, 0);
    assert_int_equal(ioctl(v->fd, KVM_GET_DEBUGREGS, &debug), 0);
    assert_int_equal(debug.db[0], 0);
    rig_free(r);
}

/* A guest that writes its TSC has the new one in every view. */
static void tsc_writes(void **state)
{
    static const uint8_t prog[] = {
        0xb9, 0x3b,      0x00, 0x00, 0x00,       /* mov $0x3b, %ecx */
        0x31, 0xc0,                              /* xor %eax, %eax */
        0xba, 0x01,      0x00, 0x00, 0x00,       /* mov $1, %edx */
        0x0f, 0x30,                              /* wrmsr */
        0x0f, 0x32,                              /* rdmsr */
        0xa3, 0x00,      0x00, 0x00, 0xd0,       /* mov %eax, DEVICE */
        0x89, 0x15,      0x04, 0x00, 0x00, 0xd0, /* mov %edx, DEVICE + 4 */
        0xe6, PORT_MARK,                         /* out */
        0xeb, 0xfc,
    };
    struct rig *r = rig_new(1, 2, prog, sizeof(prog));
    uint64_t data = 0;

    (void)state;
    if (r->m.tsc_fixed) {
        print_message("SKIP: TSC writes: this KVM ignores TSC offsets\n");
        rig_free(r);
        return;
    }
    rig_start(r);
    while (atomic_load(&r->marks) < 1 && atomic_load(&r->m.end) == MACHINE_RUNS)
        usleep(1000);
    assert_int_equal(machine_move_vcpu(&r->m, 0, 1), 0);
    machine_pause(&r->m);
    assert_true(r->m.vcpus[0].tsc_adjust == 1ll << 32);
    offsets_agree(r);
    assert_true(msr(&r->m.vcpus[0], 1, KVM_GET_MSRS, 0x3b, &data));
    assert_true(data == 1ull << 32);
    memcpy(&data, r->bytes, sizeof(data));
    assert_true(data == 1ull << 32);
    rig_free(r);
}

/* The entry of a leaf, or NULL. */
static const struct kvm_cpuid_entry2 *leaf(const struct rig *r, uint32_t function)
{
    for (unsigned i = 0; i < r->m.cpuid->nent; i++)
        if (r->m.cpuid->entries[i].function == function)
            return &r->m.cpuid->entries[i];
    return NULL;
}

/* CPUID offers nothing that a guest of several views cannot have. */
static void cpuid_is_honest(void **state)
{
    static const uint32_t hidden[] = {0xa,        0x1d,       0x1e,      0x1f,
                                      0x8000000a, 0x80000022, 0x80000026};
    struct rig *r = rig_new(2, 1, prog_end, sizeof(prog_end));

    (void)state;
    for (unsigned i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
        assert_null(leaf(r, hidden[i]));
    assert_true(leaf(r, 0)->eax >= 0xb);
    assert_non_null(leaf(r, 0xb));
    assert_true(leaf(r, 1)->ecx & 1u << 31);
    assert_true(leaf(r, 1)->ecx & 1u << 24);
    assert_false(leaf(r, 1)->ecx & (1u << 2 | 1u << 5 | 1u << 15));
    assert_false(leaf(r, 7)->edx & 1u << 24);
    assert_false(leaf(r, 0x80000001)->ecx & 1u << 2);
    rig_free(r);
}

/* Open descriptors of this process. */
static unsigned open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* What cannot be is refused with a message, and nothing stays open. */
static void wrong_specs(void **state)
{
    static const unsigned wrong[][2] = {
        {0, 1}, {1, 0}, {1, MEM_MAX_VIEWS + 1}, {1, UINT32_MAX}};
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    unsigned fds = open_fds();

    (void)state;
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct machine_spec spec = {
            .kvm_fd = kvm, .nvcpus = wrong[i][0], .nviews = wrong[i][1], .mem.size = 2 << 20};
        struct machine *m = xcalloc(1, sizeof(*m));
        struct err err = {0};

        assert_true(machine_init(m, &spec, &err) < 0);
        assert_true(err.status);
        assert_true(err.text[0]);
        free(m);
        assert_int_equal(open_fds(), fds);
    }
    close(kvm);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_before_all_run),
        cmocka_unit_test(paused_before_start),
        cmocka_unit_test(pauses_race_the_start),
        cmocka_unit_test(moves_while_paused),
        cmocka_unit_test(moves_between_fragments),
        cmocka_unit_test(moves_carry_all),
        cmocka_unit_test(tsc_writes),
        cmocka_unit_test(cpuid_is_honest),
        cmocka_unit_test(wrong_specs),
    };

    if (access("/dev/kvm", R_OK | W_OK)) {
        fprintf(stderr, "no usable /dev/kvm here\n");
        return 77;
    }
    return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
