/* SPDX-License-Identifier: MIT */
/*
 * Machines of several views under real races: guests that stay in user mode (user/), so they run
 * natively on every KVM, on as many CPUs as there are.  vCPUs are moved between views and paused
 * while they run; their registers, their memory and their clock must not notice.
 *
 * Threads: the machine's vCPUs, and this one, which is what a monitor would be.
 * GUEST_SLOW tells that the machine is emulated: less is enough then.
 * GUEST_MOVES sets the moves of the longest test (10000), GUEST_TEST runs one (a pattern).
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#include "base/log.h"
#include "tests/guest/user/user.h"
#include "vmm/machine/machine.h"

#include <cmocka.h> /* last: its fail() is a macro */

_Static_assert(offsetof(struct user_slot, stop) == SLOT_STOP, "as state.S has it");
_Static_assert(offsetof(struct user_slot, error) == SLOT_ERROR, "as state.S has it");
_Static_assert(offsetof(struct user_slot, mxcsr) == SLOT_MXCSR, "as state.S has it");
_Static_assert(offsetof(struct user_slot, temp) == SLOT_TEMP, "as state.S has it");
_Static_assert(offsetof(struct user_slot, fs) == SLOT_FS, "as state.S has it");
_Static_assert(offsetof(struct user_slot, vector) == SLOT_VECTOR, "as state.S has it");

enum {
    GPA_GDT = 0x1000,
    GPA_TSS = 0x2000,
    GPA_PML4 = 0x3000,
    GPA_PDPT = 0x4000,
    GPA_PD = 0x5000,
    MEMORY = 16 << 20,
    MAX_VCPUS = 4,
    WAIT_S = 60, /* for anything that must happen */
    MSR_LSTAR = 0xc0000082,
    MSR_KERNEL_GS = 0xc0000102,
};

/* A machine with user-mode guests. */
struct rig {
    struct machine m; /* the machine */
    struct user_slot *slot[MAX_VCPUS];
    struct user_game *game;   /* shared by its vCPUs */
    unsigned n;               /* vCPUs */
    atomic_uint done;         /* programs that ended */
    atomic_ulong bytes;       /* that came to PORT_STRING */
    atomic_ulong wrong_bytes; /* not the one that was next */
};

/* ---- ports ---- */

static void port_read(void *dev, uint64_t off, void *data, unsigned len)
{
    (void)dev, (void)off;
    memset(data, 0, len);
}

static void done_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct rig *r = dev;

    (void)off, (void)data, (void)len;
    atomic_fetch_add(&r->done, 1);
}

static void string_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct rig *r = dev;
    unsigned long n = atomic_fetch_add(&r->bytes, 1);

    (void)off;
    if (len != 1 || *(const uint8_t *)data != (uint8_t)(n * 13))
        atomic_fetch_add(&r->wrong_bytes, 1);
}

/* The bytes that string input gets, one after the other. */
static void string_read(void *dev, uint64_t off, void *data, unsigned len)
{
    struct rig *r = dev;

    (void)off;
    memset(data, 0xee, len);
    if (len == 1)
        *(uint8_t *)data = (uint8_t)(atomic_fetch_add(&r->bytes, 1) * 13);
}

/* Device memory whose bytes tell where they are. */
static void wide_read(void *dev, uint64_t off, void *data, unsigned len)
{
    (void)dev;
    for (unsigned i = 0; i < len; i++)
        ((uint8_t *)data)[i] = (uint8_t)((off + i) * 17);
}

static const struct bus_ops wide_ops = {.read = wide_read, .write = done_write};
static const struct bus_ops done_ops = {.read = port_read, .write = done_write};
static const struct bus_ops string_ops = {.read = string_read, .write = string_write};

/* ---- set-up ---- */

/* A flat segment of ring 3. */
static struct kvm_segment segment(bool code)
{
    return (struct kvm_segment){.limit = UINT32_MAX,
                                .selector = code ? 0x1b : 0x23,
                                .type = code ? 11 : 3,
                                .present = 1,
                                .dpl = 3,
                                .db = !code,
                                .s = 1,
                                .l = code,
                                .g = 1};
}

/* One register of a CPUID leaf's first subleaf, as KVM offers it. */
static struct kvm_cpuid_entry2 leaf(const struct machine *m, uint32_t function)
{
    for (unsigned i = 0; i < m->cpuid->nent; i++)
        if (m->cpuid->entries[i].function == function && !m->cpuid->entries[i].index)
            return m->cpuid->entries[i];
    return (struct kvm_cpuid_entry2){0};
}

/*
 * How wide vectors are that a guest has: as user_slot.level.  A KVM that runs user mode natively
 * but emulates kernels hides XSAVE, whose instructions it cannot emulate; user mode has the real
 * CPU's vectors all the same if KVM carries their state.
 */
static unsigned vector_level(const struct machine *m)
{
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30; /* F, DQ, BW */
    uint32_t state = leaf(m, 0xd).eax, a, b, c, d;
    bool hidden = !(leaf(m, 1).ecx & 1u << 26);

    if (hidden && !m->tsc_fixed)
        return 0;
    if ((state & 6) != 6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 5))
        return 0;
    if (!hidden && !(leaf(m, 7).ebx & 1u << 5))
        return 0;
    return (state & 0xe0) == 0xe0 && (b & avx512) == avx512 &&
                   (hidden || (leaf(m, 7).ebx & avx512) == avx512)
               ? 2
               : 1;
}

/* Tables and program into guest memory: 16 MiB mapped one to one for ring 3. */
static void fill_memory(struct rig *r)
{
    uint8_t *mem = mem_at(&r->m.mem, 0, MEMORY, MEM_WRITE);
    uint64_t gdt[9] = {0,
                       0x00af9b000000ffffull,
                       0x00cf93000000ffffull,
                       0x00affb000000ffffull,
                       0x00cff3000000ffffull,
                       0,
                       (uint64_t)GPA_TSS << 16 | 0x67 | 0x8bull << 40};
    uint64_t table = GPA_PDPT | 0x27;
    char path[PATH_MAX] = "";
    ssize_t n;
    int fd;

    assert_non_null(mem);
    memcpy(mem + GPA_GDT, gdt, sizeof(gdt));
    memcpy(mem + GPA_PML4, &table, 8);
    table = GPA_PD | 0x27;
    memcpy(mem + GPA_PDPT, &table, 8);
    for (uint64_t i = 0; i < MEMORY >> 21; i++) {
        table = i << 21 | 0xe7;
        memcpy(mem + GPA_PD + 8 * i, &table, 8);
    }
    table = USER_MMIO | 0xe7;
    memcpy(mem + GPA_PD + 4096, &table, 8);
    table = (GPA_PD + 4096) | 0x27;
    memcpy(mem + GPA_PDPT + 8 * 3, &table, 8);
    for (unsigned i = 0; i < 4096; i++)
        mem[USER_BYTES + i] = (uint8_t)(i * 13);
    n = readlink("/proc/self/exe", path, sizeof(path) - 16);
    assert_true(n > 0);
    path[n] = 0;
    strcpy(strrchr(path, '/'), "/user.bin");
    fd = open(path, O_RDONLY);
    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    assert_true(read(fd, mem + USER_CODE, 1 << 20) > 0);
    close(fd);
    r->game = (struct user_game *)(void *)(mem + USER_GAME);
}

/* What PROG_STATE keeps in vCPU i's registers: nothing that another vCPU has, too. */
static void fill_slot(struct user_slot *s, unsigned i, unsigned level)
{
    s->self = USER_SLOTS + (uint64_t)i * USER_SLOT;
    s->level = level;
    s->flags = i & 1 ? 0x0d5 | 0x400 : 0x801; /* CF PF AF ZF SF and DF, or CF and OF */
    s->mxcsr = i & 1 ? 0x7f80 : 0x1f80;
    s->fcw = i & 1 ? 0x0f7f : 0x037f;
    s->fs = 0xf5f5f5f5f5f50000ull + i;
    s->gs = 0x6565656565650000ull + i;
    for (unsigned v = 0; v < 32; v++)
        for (unsigned b = 0; b < 64; b++)
            s->vector[v][b] = (uint8_t)(v * 7 + b * 3 + i * 101 + 1);
}

/* An MSR of a vCPU: sets it, or reads it. */
static uint64_t msr(int fd, unsigned long request, uint32_t index, uint64_t data)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } x = {.head = {.nmsrs = 1}, .entry = {.index = index, .data = data}};

    assert_int_equal(ioctl(fd, request, &x), 1);
    return x.entry.data;
}

/* Registers at the start: 64-bit, ring 3, ports allowed, FS and GS at the words in the slot. */
static void set_registers(struct vcpu *v, const struct user_slot *s)
{
    struct kvm_regs regs = {
        .rip = USER_CODE, .rsp = s->self + USER_SLOT - 64, .rdi = s->self, .rflags = 0x3002};
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = s->level == 2 ? 0xe7 : 7};
    struct kvm_sregs x;

    assert_int_equal(ioctl(v->fd, KVM_GET_SREGS, &x), 0);
    x.cr0 = 0x80000033;
    x.cr3 = GPA_PML4;
    x.cr4 = 0x620; /* PAE, SSE */
    if (leaf(v->m, 1).ecx & 1u << 26)
        x.cr4 |= 1 << 18; /* OSXSAVE */
    x.efer = 0x500;
    x.cs = segment(true);
    x.ds = x.es = x.fs = x.gs = x.ss = segment(false);
    x.fs.base = s->self + SLOT_FS;
    x.gs.base = s->self + SLOT_GS;
    x.tr = (struct kvm_segment){
        .base = GPA_TSS, .limit = 0x67, .selector = 0x30, .type = 11, .present = 1};
    x.ldt = (struct kvm_segment){.unusable = 1, .type = 2};
    x.gdt = (struct kvm_dtable){.base = GPA_GDT, .limit = 71};
    x.idt = (struct kvm_dtable){.limit = 0x1ff};
    assert_int_equal(ioctl(v->fd, KVM_SET_SREGS, &x), 0);
    assert_int_equal(ioctl(v->fd, KVM_SET_REGS, &regs), 0);
    if (s->level)
        assert_int_equal(ioctl(v->fd, KVM_SET_XCRS, &xcrs), 0);
    msr(v->fd, KVM_SET_MSRS, MSR_LSTAR, 0xffff800000000000ull + v->id);
    msr(v->fd, KVM_SET_MSRS, MSR_KERNEL_GS, 0xffff900000000000ull + v->id);
    v->wait_sipi = false;
}

/* A machine whose vCPUs are about to run a program each; nothing runs yet. */
static struct rig *rig_new(unsigned n, unsigned nviews, uint64_t prog, uint64_t rounds)
{
    struct machine_spec spec = {.nvcpus = n, .nviews = nviews, .x2apic = true};
    struct rig *r = xcalloc(1, sizeof(*r));
    struct err err = {0};

    spec.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    assert_true(spec.kvm_fd >= 0);
    spec.mem.size = MEMORY;
    for (unsigned i = 0; i < nviews; i++)
        spec.view_node[i] = -1;
    if (machine_init(&r->m, &spec, &err))
        fail_msg("machine_init: %s", err.text);
    r->n = n;
    fill_memory(r);
    bus_add(&r->m.pio, PORT_DONE, 1, &done_ops, r, "done");
    bus_add(&r->m.pio, PORT_STRING, 1, &string_ops, r, "string");
    bus_add(&r->m.mmio, USER_MMIO, 4096, &wide_ops, r, "wide");
    for (unsigned i = 0; i < n; i++) {
        r->slot[i] =
            mem_at(&r->m.mem, USER_SLOTS + (uint64_t)i * USER_SLOT, USER_SLOT, MEM_WRITE);
        assert_non_null(r->slot[i]);
        fill_slot(r->slot[i], i, vector_level(&r->m));
        r->slot[i]->prog = prog;
        r->slot[i]->side = i & 1;
        r->slot[i]->rounds = rounds;
        set_registers(&r->m.vcpus[i], r->slot[i]);
    }
    return r;
}

static void rig_start(struct rig *r)
{
    struct err err = {0};

    if (machine_start(&r->m, &err))
        fail_msg("machine_start: %s", err.text);
}

/* A word the guest writes. */
static uint64_t look(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* The guest must not have ended by itself. */
static void must_run(struct rig *r)
{
    if (atomic_load(&r->m.end) != MACHINE_RUNS)
        fail_msg("the machine ended: %s", r->m.end_reason);
}

/* Waits until a word of the guest's reaches a value. */
static void wait_word(struct rig *r, const uint64_t *word, uint64_t value)
{
    for (unsigned ms = 0; look(word) < value; ms++) {
        must_run(r);
        if (ms > WAIT_S * 1000)
            fail_msg("the guest does not go on: %lu of %lu", look(word), value);
        usleep(1000);
    }
}

/* Tells programs to stop and waits until all have; the vCPU threads are gone afterwards. */
static void rig_stop(struct rig *r)
{
    for (unsigned i = 0; i < r->n; i++)
        __atomic_store_n(&r->slot[i]->stop, 1, __ATOMIC_RELEASE);
    for (unsigned ms = 0; atomic_load(&r->done) < r->n; ms++) {
        must_run(r);
        if (ms > WAIT_S * 1000)
            fail_msg("%u of %u programs ended", atomic_load(&r->done), r->n);
        usleep(1000);
    }
    machine_end(&r->m, MACHINE_KILLED, 0, "the test is over");
    machine_join(&r->m);
}

static void rig_free(struct rig *r)
{
    machine_exit(&r->m);
    close(r->m.spec.kvm_fd);
    free(r);
}

/* How much slower than usual this machine is (GUEST_SLOW): 1 but for emulated ones. */
static unsigned slowness(void)
{
    const char *s = getenv("GUEST_SLOW");

    return s && atoi(s) > 1 ? (unsigned)atoi(s) : 1;
}

/* True when a test has done enough: what it wants, or at least `least` when its seconds are over,
 * because a busy host need not hold everything up. */
static bool enough(uint64_t began, unsigned seconds, uint64_t now, uint64_t least,
                   uint64_t want)
{
    bool late = machine_now_ns() - began > seconds * 1000000000ull;

    if (slowness() > 1)
        least = least / 500 + 4;
    return now >= want || (late && now >= least);
}

/* Number of moves of the long test. */
static unsigned long many_moves(void)
{
    const char *s = getenv("GUEST_MOVES");

    return s && atol(s) > 0 ? (unsigned long)atol(s) : 10000;
}

/* Moves each vCPU to the other of two views, so many times in all. */
static void move_all(struct rig *r, unsigned long moves)
{
    for (unsigned long i = 0; i < moves; i++) {
        unsigned v = (unsigned)(i % r->n);

        must_run(r);
        assert_int_equal(machine_move_vcpu(&r->m, v, !r->m.vcpus[v].view), 0);
    }
}

/* All offsets equal, as the cell itself measures. */
static void clocks_agree(const struct rig *r)
{
    assert_int_equal(clock_verify(&r->m), 0);
}

/* ---- tests ---- */

/*
 * Registers of all kinds live through 10,000 moves; each vCPU goes on in between.  On a host that
 * is too busy for so many in 20 s, through those it managed.
 */
static void state_survives_moves(void **state)
{
    struct rig *r = rig_new(2, 2, PROG_STATE, 0);
    uint64_t began = machine_now_ns();
    unsigned long want = many_moves(), moves = 0;

    (void)state;
    rig_start(r);
    while (!enough(began, 20, moves, 200, want)) {
        if (moves % 500 == 0)
            for (unsigned i = 0; i < 2; i++)
                wait_word(r, &r->slot[i]->loops, look(&r->slot[i]->loops) + 1);
        move_all(r, 10);
        moves += 10;
        for (unsigned i = 0; i < 2; i++)
            if (look(&r->slot[i]->error))
                fail_msg("vCPU %u: check %lu of state.S", i, look(&r->slot[i]->error));
    }
    rig_stop(r);
    for (unsigned i = 0; i < 2; i++) {
        struct vcpu *v = &r->m.vcpus[i];

        assert_int_equal(r->slot[i]->error, 0);
        assert_int_equal(atomic_load(&v->moves), moves / 2);
        assert_true(msr(v->fd, KVM_GET_MSRS, MSR_LSTAR, 0) == 0xffff800000000000ull + i);
        assert_true(msr(v->fd, KVM_GET_MSRS, MSR_KERNEL_GS, 0) == 0xffff900000000000ull + i);
    }
    print_message("     %lu moves, vector level %lu, %lu and %lu checks of all registers\n",
                  moves, r->slot[0]->level, r->slot[0]->loops, r->slot[1]->loops);
    clocks_agree(r);
    rig_free(r);
}

/* A timestamp goes a million times (a busy host: 100,000) to and fro between two views, never
 * backwards; with moves. */
static void time_never_backwards(void **state)
{
    struct rig *r = rig_new(2, 2, PROG_PING, 1000000);
    uint64_t began = machine_now_ns();

    (void)state;
    rig_start(r);
    while (!enough(began, 10, look(&r->slot[0]->done), 50000, 500000)) {
        move_all(r, 2);
        usleep(2000);
    }
    rig_stop(r);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(r->slot[i]->backward, 0);
    print_message("     handed over %lu times\n", r->slot[0]->done + r->slot[1]->done);
    assert_true(atomic_load(&r->m.vcpus[0].moves) > 0);
    clocks_agree(r);
    rig_free(r);
}

/* Four vCPUs in two and in four views add to one word while they are moved: the sum is exact. */
static void counters_add_up(void **state)
{
    (void)state;
    for (unsigned views = 2; views <= 4; views += 2) {
        struct rig *r = rig_new(4, views, PROG_COUNT, 500000);

        rig_start(r);
        while (atomic_load(&r->done) < 4)
            move_all(r, 4);
        rig_stop(r);
        assert_true(r->game->counter == 2000000);
        rig_free(r);
    }
}

/* String output in the midst of which the vCPU moves: no byte is lost, doubled or out of order. */
static void string_output_survives_moves(void **state)
{
    struct rig *r = rig_new(1, 2, PROG_STRING, 0);
    uint64_t began = machine_now_ns();

    (void)state;
    rig_start(r);
    for (unsigned i = 0; !enough(began, 5, i, 100, 2000); i++) {
        move_all(r, 1);
        usleep(200);
    }
    rig_stop(r);
    assert_true(r->slot[0]->loops > 0);
    assert_int_equal(atomic_load(&r->wrong_bytes), 0);
    assert_int_equal(atomic_load(&r->bytes), r->slot[0]->loops * 4096);
    rig_free(r);
}

/* Instructions of several exits, in the midst of which the vCPU moves: each part is right. */
static void device_input_survives_moves(void **state)
{
    struct rig *r = rig_new(1, 2, PROG_DEVICE, 0);
    uint64_t began = machine_now_ns();

    (void)state;
    rig_start(r);
    for (unsigned i = 0; !enough(began, 5, i, 100, 2000) && !look(&r->slot[0]->error); i++) {
        move_all(r, 1);
        usleep(200);
    }
    rig_stop(r);
    assert_true(r->slot[0]->loops > 0);
    assert_int_equal(r->slot[0]->error, 0);
    assert_int_equal(atomic_load(&r->bytes), r->slot[0]->loops * 64);
    rig_free(r);
}

/* Store buffering between two views: what a fence forbids never shows. */
static void fences_hold_between_views(void **state)
{
    struct rig *r = rig_new(2, 2, PROG_LITMUS, UINT64_MAX);
    uint64_t began = machine_now_ns();

    (void)state;
    rig_start(r);
    while (!enough(began, 5, look(&r->slot[0]->done), 100, 100000)) {
        must_run(r);
        usleep(10000);
    }
    rig_stop(r);
    print_message("     %lu rounds, %lu needed a store buffer\n", r->slot[0]->done,
                  r->slot[0]->relaxed);
    assert_int_equal(r->slot[0]->strange, 0);
    rig_free(r);
}

/* A paused guest stands still, and its clock with it; then it goes on, nothing ran backwards. */
static void pause_stops_time(void **state)
{
    struct rig *r = rig_new(2, 2, PROG_CLOCK, 0);
    uint64_t khz, last;

    (void)state;
    rig_start(r);
    khz = r->m.tsc_khz;
    for (unsigned i = 0; i < 2; i++)
        wait_word(r, &r->slot[i]->loops, 1000);
    for (unsigned round = 0; round < 3; round++) {
        machine_pause(&r->m);
        last = look(&r->slot[0]->last);
        usleep(500000 * slowness());
        assert_true(look(&r->slot[0]->last) == last);
        machine_resume(&r->m);
        for (unsigned i = 0; i < 2; i++)
            wait_word(r, &r->slot[i]->loops, look(&r->slot[i]->loops) + 1000);
    }
    rig_stop(r);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(r->slot[i]->backward, 0);
        if (!r->m.tsc_fixed) /* a busy host may hold a vCPU up, but not for as long */
            assert_true(r->slot[i]->gap < 400 * khz * slowness());
    }
    if (r->m.tsc_fixed)
        print_message("SKIP: that the TSC stops: this KVM ignores TSC offsets\n");
    clocks_agree(r);
    rig_free(r);
}

/* Pauses and moves, back to back, in a game of timestamps. */
static void pause_and_move_together(void **state)
{
    struct rig *r = rig_new(2, 2, PROG_PING, UINT64_MAX);
    uint64_t played, began = machine_now_ns();

    (void)state;
    rig_start(r);
    for (unsigned i = 0; !enough(began, 8, i, 30, 300); i++) {
        machine_pause(&r->m);
        played = look(&r->slot[0]->done);
        machine_resume(&r->m);
        move_all(r, 2);
        if (i % 10 == 0)
            wait_word(r, &r->slot[0]->done, played + 1);
    }
    rig_stop(r);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(r->slot[i]->backward, 0);
    clocks_agree(r);
    rig_free(r);
}

/* Wrong requests are refused and harm nothing. */
static void wrong_moves(void **state)
{
    struct rig *r = rig_new(2, 2, PROG_STATE, 0);

    (void)state;
    rig_start(r);
    assert_int_equal(machine_move_vcpu(&r->m, 2, 0), -EINVAL);
    assert_int_equal(machine_move_vcpu(&r->m, 0, 2), -EINVAL);
    assert_int_equal(machine_move_vcpu(&r->m, 0, r->m.vcpus[0].view), 0);
    machine_resume(&r->m); /* not paused: nothing */
    machine_pause(&r->m);
    machine_pause(&r->m); /* paused already: nothing */
    machine_resume(&r->m);
    rig_stop(r);
    assert_int_equal(r->slot[0]->error + r->slot[1]->error, 0);
    assert_int_equal(atomic_load(&r->m.vcpus[0].moves), 0);
    rig_free(r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(state_survives_moves),
        cmocka_unit_test(time_never_backwards),
        cmocka_unit_test(counters_add_up),
        cmocka_unit_test(string_output_survives_moves),
        cmocka_unit_test(device_input_survives_moves),
        cmocka_unit_test(fences_hold_between_views),
        cmocka_unit_test(pause_stops_time),
        cmocka_unit_test(pause_and_move_together),
        cmocka_unit_test(wrong_moves),
    };

    if (access("/dev/kvm", R_OK | W_OK)) {
        fprintf(stderr, "no usable /dev/kvm here\n");
        return 77;
    }
    cmocka_set_test_filter(getenv("GUEST_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
