/* SPDX-License-Identifier: MIT */
/*
 * Tests of the IOAPIC through the bus: registers, edge and level pins, remote IRR, EOI by local
 * APIC and by register, delivery modes, hostile accesses, and pins moved by several threads.
 */
#include <pthread.h>
#include <sched.h>

#include "irq_fake.h"
#include "vmm/machine/bus.h"

enum { BASE = 0xfec00000, WINDOW = BASE + 0x10, EOI_REG = BASE + 0x40 };
enum { VEC = 0x51, LEVEL = 0x8000, MASKED = 0x10000, REMOTE_IRR = 0x4000, STATUS = 0x1000 };
enum { LOGICAL = 0x800, MOVERS = 3, MOVES = 2000 };

/* The bus of the machine under test. */
static struct bus *bus_of(struct fake *f)
{
    static struct bus b;

    memset(&b, 0, sizeof(b));
    irqchip_map(f->ic, &b);
    return &b;
}

/* Reads a register behind the window. */
static uint32_t io_read(struct bus *b, uint32_t index)
{
    uint32_t val;

    assert_true(bus_write(b, BASE, &index, 4));
    assert_true(bus_read(b, WINDOW, &val, 4));
    return val;
}

static void io_write(struct bus *b, uint32_t index, uint32_t val)
{
    assert_true(bus_write(b, BASE, &index, 4));
    assert_true(bus_write(b, WINDOW, &val, 4));
}

/* Writes an entry as Linux does: high half first. */
static void set_rte(struct bus *b, unsigned pin, uint32_t low, uint32_t high)
{
    io_write(b, 0x11 + 2 * pin, high);
    io_write(b, 0x10 + 2 * pin, low);
}

/* Identification and what can be written. */
static void test_registers(void **state)
{
    struct fake *f = fake_new(1);
    struct bus *b = bus_of(f);

    (void)state;
    assert_int_equal(io_read(b, 1), 0x00170020);
    io_write(b, 0, 0xffffffff);
    assert_int_equal(io_read(b, 0), 0x0f000000);
    assert_int_equal(io_read(b, 2), 0x0f000000);
    io_write(b, 1, 0);
    assert_int_equal(io_read(b, 1), 0x00170020);
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        assert_int_equal(io_read(b, 0x10 + 2 * pin), MASKED);
        assert_int_equal(io_read(b, 0x11 + 2 * pin), 0);
        set_rte(b, pin, 0xffffffff, 0xffffffff);
        assert_int_equal(io_read(b, 0x10 + 2 * pin), 0x1afff);
        assert_int_equal(io_read(b, 0x11 + 2 * pin), 0xfffe0000);
    }
    assert_int_equal(io_read(b, 0x40), 0);
    assert_int_equal(io_read(b, 0xff), 0);
    irqchip_free(f->ic);
}

/* A rising edge fires once; holding and falling do not; an edge while masked is lost. */
static void test_edge(void **state)
{
    struct fake *f = fake_new(2);
    struct bus *b = bus_of(f);
    struct lapic *l = fake_enable(f, 1, BASE_XAPIC);

    (void)state;
    irq_gsi(f->ic, 4, true);
    set_rte(b, 4, VEC, 1u << 24);
    assert_int_equal(lapic_pending(l), -1);
    irq_gsi(f->ic, 4, true);
    assert_int_equal(lapic_pending(l), -1);
    irq_gsi(f->ic, 4, false);
    irq_gsi(f->ic, 4, true);
    assert_int_equal(lapic_mmio_read(l, TMR + 0x20), 0);
    fake_serve(l, VEC);
    irq_gsi(f->ic, 4, true);
    irq_gsi(f->ic, 4, false);
    assert_int_equal(lapic_pending(l), -1);
    assert_int_equal(io_read(b, 0x18), VEC);
    irqchip_free(f->ic);
}

/* A level pin: remote IRR until the EOI, then again while asserted. */
static void test_level(void **state)
{
    struct fake *f = fake_new(2);
    struct bus *b = bus_of(f);
    struct lapic *l = fake_enable(f, 1, BASE_X2APIC);

    (void)state;
    irq_gsi(f->ic, 10, true);
    set_rte(b, 10, LEVEL | MASKED | VEC, 1u << 24);
    assert_int_equal(lapic_pending(l), -1);
    set_rte(b, 10, LEVEL | VEC, 1u << 24);
    assert_int_equal(io_read(b, 0x24), LEVEL | REMOTE_IRR | VEC);
    irq_gsi(f->ic, 10, false);
    irq_gsi(f->ic, 10, true);
    assert_int_equal(atomic_load(&f->kicks[1]), 1);
    fake_serve(l, VEC); /* its EOI sends again */
    fake_serve(l, VEC);
    assert_int_equal(lapic_pending(l), VEC);
    irq_gsi(f->ic, 10, false);
    fake_serve(l, VEC); /* already sent: comes, as on hardware */
    assert_int_equal(lapic_pending(l), -1);
    assert_int_equal(io_read(b, 0x24), LEVEL | VEC);
    irqchip_free(f->ic);
}

/* EOI of another vector, of an edge vector, and of a masked pin send nothing again. */
static void test_eoi_order(void **state)
{
    struct fake *f = fake_new(1);
    struct bus *b = bus_of(f);
    struct lapic *l = fake_enable(f, 0, BASE_XAPIC);

    (void)state;
    set_rte(b, 1, LEVEL | 0x51, 0);
    set_rte(b, 2, LEVEL | 0x62, 0);
    irq_gsi(f->ic, 1, true);
    lapic_accept(l, 0x51);
    irq_gsi(f->ic, 2, true);
    lapic_accept(l, 0x62);
    lapic_mmio_write(l, EOI, 0);
    assert_int_equal(lapic_pending(l), 0x62);
    assert_true(io_read(b, 0x12) & REMOTE_IRR);
    irq_gsi(f->ic, 2, false);
    lapic_accept(l, 0x62);
    lapic_mmio_write(l, EOI, 0);
    lapic_post(l, 0x73, false);
    fake_serve(l, 0x73);
    assert_true(io_read(b, 0x12) & REMOTE_IRR);
    set_rte(b, 1, LEVEL | MASKED | 0x51, 0);
    lapic_mmio_write(l, EOI, 0);
    assert_int_equal(io_read(b, 0x12), LEVEL | MASKED | 0x51);
    assert_int_equal(lapic_pending(l), -1);
    set_rte(b, 1, LEVEL | 0x51, 0);
    assert_int_equal(lapic_pending(l), 0x51);
    irqchip_free(f->ic);
}

/* The EOI register, and the older way: an entry made edge triggered forgets remote IRR. */
static void test_directed_eoi(void **state)
{
    struct fake *f = fake_new(1);
    struct bus *b = bus_of(f);
    struct lapic *l = fake_enable(f, 0, BASE_XAPIC);
    uint32_t vec = VEC, wrong = VEC + 1;

    (void)state;
    set_rte(b, 3, LEVEL | VEC, 0);
    irq_gsi(f->ic, 3, true);
    irq_gsi(f->ic, 3, false);
    assert_true(bus_write(b, EOI_REG, &wrong, 4));
    assert_true(io_read(b, 0x16) & REMOTE_IRR);
    assert_true(bus_write(b, EOI_REG, &vec, 4));
    assert_int_equal(io_read(b, 0x16), LEVEL | VEC);
    fake_serve(l, VEC);
    irq_gsi(f->ic, 3, true);
    assert_true(io_read(b, 0x16) & REMOTE_IRR);
    set_rte(b, 3, MASKED | VEC, 0);
    set_rte(b, 3, MASKED | LEVEL | VEC, 0);
    assert_int_equal(io_read(b, 0x16), MASKED | LEVEL | VEC);
    irqchip_free(f->ic);
}

/* A level interrupt nobody can take waits visibly and is sent when the entry allows. */
static void test_not_taken(void **state)
{
    struct fake *f = fake_new(2);
    struct bus *b = bus_of(f);

    (void)state;
    set_rte(b, 5, LEVEL | VEC, 1u << 24);
    irq_gsi(f->ic, 5, true);
    assert_int_equal(io_read(b, 0x1a), LEVEL | STATUS | VEC);
    fake_enable(f, 0, BASE_XAPIC);
    set_rte(b, 5, LEVEL | VEC, 0);
    assert_int_equal(io_read(b, 0x1a), LEVEL | REMOTE_IRR | VEC);
    assert_int_equal(fake_who(f, 2, VEC), 0);
    irqchip_free(f->ic);
}

/* Logical and extended destinations, lowest priority, NMI (edge whatever the entry says). */
static void test_modes(void **state)
{
    struct fake *f = fake_new(300);
    struct bus *b = bus_of(f);

    (void)state;
    fake_enable(f, 299, BASE_X2APIC);
    set_rte(b, 0, VEC, 43u << 24 | 1u << 17); /* id 299 */
    irq_gsi(f->ic, 0, true);
    assert_int_equal(fake_who(f, 300, VEC), 299);
    lapic_mmio_write(fake_enable(f, 2, BASE_XAPIC), LDR, 4u << 24);
    lapic_mmio_write(fake_enable(f, 7, BASE_XAPIC), LDR, 8u << 24);
    set_rte(b, 1, LOGICAL | (VEC + 1), 8u << 24);
    irq_gsi(f->ic, 1, true);
    assert_int_equal(fake_who(f, 300, VEC + 1), 7);
    lapic_mmio_write(irq_lapic(f->ic, 7), TPR, 0x10);
    set_rte(b, 2, LOGICAL | 0x100 | (VEC + 2), 0xcu << 24);
    irq_gsi(f->ic, 2, true);
    assert_int_equal(fake_who(f, 300, VEC + 2), 2);
    set_rte(b, 3, LEVEL | 0x400, 9u << 24);
    irq_gsi(f->ic, 3, true);
    set_rte(b, 3, LEVEL | 0x400, 9u << 24);
    assert_int_equal(f->nmis[9], 1);
    assert_int_equal(io_read(b, 0x16), LEVEL | 0x400);
    set_rte(b, 4, 0x600 | VEC, 9u << 24);
    irq_gsi(f->ic, 4, true);
    set_rte(b, 5, 0x700 | VEC, 9u << 24);
    irq_gsi(f->ic, 5, true);
    assert_int_equal(f->total, 1);
    irqchip_free(f->ic);
}

/* Every offset and size: no crash, no change but through the three registers. */
static void test_hostile(void **state)
{
    static const unsigned sizes[] = {1, 2, 4, 8};
    struct fake *f = fake_new(1);
    struct bus *b = bus_of(f);
    uint64_t val = 0xaaaaaaaaaaaaaa18; /* selects an RTE */
    uint8_t sel = 0x18;

    (void)state;
    set_rte(b, 4, MASKED | VEC, 0);
    for (unsigned off = 0; off < 0x1000; off++) {
        for (unsigned i = 0; i < 4; i++) {
            uint64_t got = 1;

            if (off != 0x10 && off + sizes[i] <= 0x1000)
                assert_true(bus_write(b, BASE + off, &val, sizes[i]));
            assert_int_equal(bus_read(b, BASE + off, &got, sizes[i]), off + sizes[i] <= 0x1000);
            if (off != 0 && off != 0x10 && off + sizes[i] <= 0x1000)
                assert_int_equal((uint8_t)got, 0);
        }
    }
    assert_true(bus_write(b, WINDOW, &val, 1));
    assert_true(bus_write(b, WINDOW, &val, 2));
    assert_true(bus_write(b, BASE, &sel, 1));
    assert_true(bus_read(b, WINDOW, &val, 8));
    assert_int_equal(val, MASKED | VEC);
    irqchip_free(f->ic);
}

/* One thread that moves its own level pin; tells the truth about it in asserted. */
struct mover {
    pthread_t thread;   /* itself */
    struct fake *f;     /* the machine */
    atomic_bool raised; /* its device wants service */
    unsigned pin;       /* its pin */
};

static void *move_all(void *arg)
{
    struct mover *m = arg;

    for (unsigned n = 0; n < MOVES; n++) {
        atomic_store(&m->raised, true);
        irq_gsi(m->f->ic, m->pin, true);
        while (atomic_load(&m->raised))
            sched_yield();
    }
    return NULL;
}

/* Level interrupts from several threads, served and ended by the owner: none is lost. */
static void test_threads(void **state)
{
    struct fake *f = fake_new(1);
    struct bus *b = bus_of(f);
    struct lapic *l = fake_enable(f, 0, BASE_X2APIC);
    struct mover m[MOVERS];
    unsigned left = MOVERS * MOVES;
    int v;

    (void)state;
    for (unsigned i = 0; i < MOVERS; i++) {
        set_rte(b, i, LEVEL | (VEC + 16 * i), 0);
        m[i].f = f;
        m[i].pin = i;
        atomic_init(&m[i].raised, false);
        assert_int_equal(pthread_create(&m[i].thread, NULL, move_all, &m[i]), 0);
    }
    while (left > 0) {
        v = lapic_pending(l);
        if (v < 0) {
            sched_yield();
            continue;
        }
        lapic_accept(l, (uint8_t)v);
        v = (v - VEC) / 16;
        if (atomic_load(&m[v].raised)) {
            irq_gsi(f->ic, (unsigned)v, false);
            atomic_store(&m[v].raised, false);
            left--;
        }
        assert_true(lapic_msr_write(l, 0x80b, 0));
    }
    for (unsigned i = 0; i < MOVERS; i++)
        pthread_join(m[i].thread, NULL);
    irqchip_free(f->ic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registers),    cmocka_unit_test(test_edge),
        cmocka_unit_test(test_level),        cmocka_unit_test(test_eoi_order),
        cmocka_unit_test(test_directed_eoi), cmocka_unit_test(test_not_taken),
        cmocka_unit_test(test_modes),        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
