/* SPDX-License-Identifier: MIT */
/*
 * Unit tests of the PCI bus: configuration space by both ways, BAR sizing and moving, hostile
 * accesses, capabilities, MSI-X masks and pending bits.
 */
#include "tests/unit/vdriver.h"

#include "vmm/device/pci.h"
#include "vmm/machine/irq.h"

/* A device that records what is done to it. */
struct toy {
    struct pci_dev pci;      /* first */
    uint8_t bytes[4096];     /* BAR 0 */
    unsigned bars_on;        /* bar_mapped(on) minus off */
    uint64_t at[6];          /* where each BAR was said to be, 0: off */
    unsigned cfg_hook_reads; /* calls of cfg_read */
};

/* What arrived at the interrupt controllers. */
static struct {
    unsigned n;         /* messages */
    uint64_t last_addr; /* of the last */
    uint32_t last_data; /* of the last */
} irqs;

static unsigned resets; /* calls of host->reset */

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic;
    irqs.n++;
    irqs.last_addr = addr;
    irqs.last_data = data;
}

static void toy_read(struct pci_dev *d, unsigned bar, uint64_t off, void *data, unsigned len)
{
    struct toy *t = (struct toy *)d;

    assert_int_equal(bar, 0);
    assert_true(off + len <= sizeof(t->bytes));
    memcpy(data, t->bytes + off, len);
}

static void toy_write(struct pci_dev *d, unsigned bar, uint64_t off, const void *data,
                      unsigned len)
{
    struct toy *t = (struct toy *)d;

    assert_int_equal(bar, 0);
    assert_true(off + len <= sizeof(t->bytes));
    memcpy(t->bytes + off, data, len);
}

static void toy_mapped(struct pci_dev *d, unsigned bar, uint64_t gpa, bool on)
{
    struct toy *t = (struct toy *)d;

    assert_true(bar < 2);
    if (on)
        assert_int_equal(t->at[bar], 0);
    else
        assert_int_equal(t->at[bar], gpa);
    t->at[bar] = on ? gpa : 0;
    /* The hook may use the bus: no lock of configuration space is held. */
    pci_msix_raise(d, 0);
}

static bool toy_cfg_read(struct pci_dev *d, unsigned off, void *data, unsigned len)
{
    struct toy *t = (struct toy *)d;

    t->cfg_hook_reads++;
    assert_true(off >= 0x40);
    if (off != 0xf0)
        return false;
    memset(data, 0x5a, len);
    return true;
}

static void fake_reset(void *ctx)
{
    (void)ctx;
    resets++;
}

static const struct pci_ops toy_ops = {.bar_read = toy_read,
                                       .bar_write = toy_write,
                                       .bar_mapped = toy_mapped,
                                       .cfg_read = toy_cfg_read};

/* A machine with a toy in slot 1. */
struct fixture {
    struct vd_machine m; /* the machine */
    struct toy t;        /* the device */
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    memset(&irqs, 0, sizeof(irqs));
    resets = 0;
    vd_machine_init(&f->m);
    f->m.host.reset = fake_reset;
    f->t.pci = (struct pci_dev){.ops = &toy_ops,
                                .vendor = 0x1234,
                                .device = 0x5678,
                                .subvendor = 0x1111,
                                .subdevice = 0x2222,
                                .class_rev = 0x01020304,
                                .bar_size = {4096},
                                .nmsix = 3,
                                .msix_bar = 1};
    assert_int_equal(pci_add(f->m.pci, &f->t.pci), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    pci_del(&f->t.pci);
    pci_del(&f->t.pci); /* twice does no harm */
    assert_int_equal(f->t.at[0], 0);
    assert_int_equal(f->t.at[1], 0);
    vd_machine_exit(&f->m);
    test_free(f);
    return 0;
}

static uint32_t port_read(struct fixture *f, uint32_t addr, unsigned byte, unsigned len)
{
    uint32_t v = 0;

    bus_write(&f->m.pio, 0xcf8, &addr, 4);
    bus_read(&f->m.pio, 0xcfc + byte, &v, len);
    return v;
}

static void header(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(vd_cfg(&f->m, 0, 0, 4), 0x00081b36);
    assert_int_equal(vd_cfg(&f->m, 0, 0x0a, 2), 0x0600);
    assert_int_equal(vd_cfg(&f->m, 1, 0, 4), 0x56781234);
    assert_int_equal(vd_cfg(&f->m, 1, 8, 4), 0x01020304);
    assert_int_equal(vd_cfg(&f->m, 1, 0x2c, 4), 0x22221111);
    assert_int_equal(vd_cfg(&f->m, 1, 0x0e, 1), 0); /* one function, normal header */
    assert_int_equal(vd_cfg(&f->m, 2, 0, 4), 0xffffffff);
    assert_int_equal(vd_cfg(&f->m, 31, 0, 4), 0xffffffff);
    /* Function 1, extended space, odd accesses. */
    assert_int_equal(vd_read(&f->m, MMIO_ECAM + 0x9000, 4), 0xffffffff);
    assert_int_equal(vd_cfg(&f->m, 1, 0x100, 4), 0xffffffff);
    assert_int_equal(vd_cfg(&f->m, 1, 0xffc, 4), 0xffffffff);
    assert_int_equal(vd_cfg(&f->m, 1, 2, 4), 0xffffffff);
    assert_int_equal(vd_cfg(&f->m, 1, 1, 2), 0xffff);
    assert_int_equal(vd_read(&f->m, MMIO_ECAM + 0x8000, 8), UINT64_MAX);
    assert_int_equal(vd_cfg(&f->m, 1, 0xf0, 4), 0x5a5a5a5a);
    assert_true(f->t.cfg_hook_reads);
}

static void ports(void **state)
{
    struct fixture *f = *state;
    uint32_t v = 0x80000000;
    uint8_t byte = 1;

    assert_int_equal(port_read(f, 0x80000800, 0, 4), 0x56781234);
    assert_int_equal(port_read(f, 0x80000800, 2, 2), 0x5678);
    assert_int_equal(port_read(f, 0x80000800, 3, 1), 0x56);
    assert_int_equal(port_read(f, 0x80000800, 1, 2), 0xffff);     /* not aligned */
    assert_int_equal(port_read(f, 0x00000800, 0, 4), 0xffffffff); /* not enabled */
    assert_int_equal(port_read(f, 0x80010800, 0, 4), 0xffffffff); /* bus 1 */
    assert_int_equal(port_read(f, 0x80000900, 0, 4), 0xffffffff); /* function 1 */
    assert_int_equal(port_read(f, 0x80001000, 0, 4), 0xffffffff); /* slot 2 */
    /* What Linux does to find this mechanism. */
    bus_write(&f->m.pio, 0xcfb, &byte, 1);
    bus_write(&f->m.pio, 0xcf8, &v, 4);
    v = 0;
    bus_read(&f->m.pio, 0xcf8, &v, 4);
    assert_int_equal(v, 0x80000000);
    /* The reset register among these ports. */
    byte = 2;
    bus_write(&f->m.pio, 0xcf9, &byte, 1);
    assert_int_equal(resets, 0);
    byte = 6;
    bus_write(&f->m.pio, 0xcf9, &byte, 1);
    assert_int_equal(resets, 1);
    bus_read(&f->m.pio, 0xcf9, &byte, 1);
    assert_int_equal(byte, 0);
}

static void read_only_bits(void **state)
{
    struct fixture *f = *state;

    for (unsigned reg = 0; reg < 256; reg += 4)
        vd_cfg_set(&f->m, 1, reg, 4, 0xffffffff);
    assert_int_equal(vd_cfg(&f->m, 1, 0, 4), 0x56781234);
    assert_int_equal(vd_cfg(&f->m, 1, 4, 4), 0x00100406);
    assert_int_equal(vd_cfg(&f->m, 1, 8, 4), 0x01020304);
    assert_int_equal(vd_cfg(&f->m, 1, 0x10, 4), 0xfffff000);
    assert_int_equal(vd_cfg(&f->m, 1, 0x14, 4), 0xfffff000);
    assert_int_equal(vd_cfg(&f->m, 1, 0x18, 4), 0);
    assert_int_equal(vd_cfg(&f->m, 1, 0x30, 4), 0); /* no expansion ROM */
    assert_int_equal(vd_cfg(&f->m, 1, 0x3c, 4), 0xff);
    assert_int_equal(vd_cfg(&f->m, 1, 0x34, 4), 0x40);
    assert_int_equal(vd_cfg(&f->m, 1, 0x40, 4), 0xc0020011);
    for (unsigned reg = 0; reg < 256; reg++) /* the bridge */
        vd_cfg_set(&f->m, 0, reg, 1, 0xff);
    assert_int_equal(vd_cfg(&f->m, 0, 0, 4), 0x00081b36);
    assert_int_equal(vd_cfg(&f->m, 0, 0x10, 4), 0);
}

static void bars(void **state)
{
    struct fixture *f = *state;
    uint64_t at = vd_cfg(&f->m, 1, 0x10, 4);

    assert_int_equal(at, MMIO_PCI); /* assigned, but off */
    assert_int_equal(vd_cfg(&f->m, 1, 0x14, 4), MMIO_PCI + 4096);
    assert_int_equal(vd_read(&f->m, at, 4), 0xffffffff);
    vd_cfg_set(&f->m, 1, 4, 2, 2);
    assert_int_equal(f->t.at[0], at);
    assert_int_equal(f->t.at[1], at + 4096);
    vd_write(&f->m, at + 8, 8, 0x1122334455667788);
    assert_int_equal(vd_read(&f->m, at + 12, 4), 0x11223344);
    assert_int_equal(vd_read(&f->m, at + 4095, 1), 0);
    assert_int_equal(vd_read(&f->m, at + 4092, 8), UINT64_MAX); /* across its end */
    vd_cfg_set(&f->m, 1, 0x10, 4, 0xffffffff);                  /* sizing */
    assert_int_equal(vd_cfg(&f->m, 1, 0x10, 4), 0xfffff000);
    assert_int_equal(f->t.at[0], 0);
    vd_cfg_set(&f->m, 1, 0x10, 4, 0xd0000000);
    assert_int_equal(f->t.at[0], 0xd0000000);
    assert_int_equal(vd_read(&f->m, 0xd000000c, 4), 0x11223344);
    assert_int_equal(vd_read(&f->m, at + 12, 4), 0xffffffff);
    vd_cfg_set(&f->m, 1, 0x12, 2, 0xd100); /* half a register */
    assert_int_equal(f->t.at[0], 0xd1000000);
    vd_cfg_set(&f->m, 1, 4, 1, 0);
    assert_int_equal(f->t.at[0], 0);
    assert_int_equal(vd_read(&f->m, 0xd100000c, 4), 0xffffffff);
}

/* A BAR never answers outside the window: RAM, ECAM, interrupt controllers, the top. */
static void bars_stay_inside(void **state)
{
    static const uint32_t bad[] = {0,          0x1000,     0xbffff000, 0xe0000000,
                                   0xfec00000, 0xfee00000, 0xfffff000};
    struct fixture *f = *state;

    vd_cfg_set(&f->m, 1, 4, 2, 2);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        vd_cfg_set(&f->m, 1, 0x10, 4, bad[i]);
        assert_int_equal(f->t.at[0], 0);
    }
    vd_cfg_set(&f->m, 1, 0x10, 4, 0xdffff000);
    assert_int_equal(f->t.at[0], 0xdffff000);
    vd_read(&f->m, 0xdffffffc, 4);
}

static void msix(void **state)
{
    struct fixture *f = *state;
    uint64_t t = MMIO_PCI + 4096;
    unsigned cap = vd_cap(&f->m, 1, 0x11, 0);

    assert_int_equal(vd_cfg(&f->m, 1, cap + 2, 2), 2); /* three vectors */
    assert_int_equal(vd_cfg(&f->m, 1, cap + 4, 4), 1);
    assert_int_equal(vd_cfg(&f->m, 1, cap + 8, 4), 0x801);
    vd_cfg_set(&f->m, 1, 4, 2, 2);
    assert_int_equal(vd_read(&f->m, t + 16 + 12, 4), 1); /* masked at first */
    pci_msix_raise(&f->t.pci, 1);
    assert_int_equal(vd_read(&f->m, t + 0x800, 8), 0); /* nothing while off */
    vd_write(&f->m, t + 16, 8, 0x1fee01003ull);
    vd_write(&f->m, t + 24, 4, 0x4041);
    assert_int_equal(vd_read(&f->m, t + 16, 8), 0x1fee01000ull);
    assert_int_equal(vd_read(&f->m, t + 24, 8), 0x100004041ull);
    vd_cfg_set(&f->m, 1, cap + 2, 2, 0xc000); /* on, all masked */
    vd_write(&f->m, t + 28, 4, 0xfffffffe);
    pci_msix_raise(&f->t.pci, 1);
    pci_msix_raise(&f->t.pci, 1);
    pci_msix_raise(&f->t.pci, 2);
    pci_msix_raise(&f->t.pci, 3); /* no such vector */
    pci_msix_raise(&f->t.pci, 64);
    assert_int_equal(irqs.n, 0);
    assert_int_equal(vd_read(&f->m, t + 0x800, 8), 6);
    vd_write(&f->m, t + 0x800, 8, UINT64_MAX); /* read-only */
    assert_int_equal(vd_read(&f->m, t + 0x804, 4), 0);
    vd_cfg_set(&f->m, 1, cap + 2, 2, 0x8000);
    assert_int_equal(irqs.n, 1);
    assert_int_equal(irqs.last_addr, 0x1fee01000ull);
    assert_int_equal(irqs.last_data, 0x4041);
    assert_int_equal(vd_read(&f->m, t + 0x800, 4), 4);
    vd_write(&f->m, t + 32 + 12, 4, 0); /* vector 2 alone */
    assert_int_equal(irqs.n, 2);
    pci_msix_raise(&f->t.pci, 1);
    assert_int_equal(irqs.n, 3);
    /* Odd accesses. */
    assert_int_equal(vd_read(&f->m, t + 16, 2), 0);
    assert_int_equal(vd_read(&f->m, t + 20, 8), 0);
    vd_write(&f->m, t + 16, 1, 0xff);
    vd_write(&f->m, t + 20, 8, 0);
    vd_write(&f->m, t + 48, 4, 0xffffffff);
    assert_int_equal(vd_read(&f->m, t + 16, 8), 0x1fee01000ull);
    assert_int_equal(vd_read(&f->m, t + 48, 4), 0);
    /* Off: pending bits go. */
    vd_write(&f->m, t + 28, 4, 1);
    pci_msix_raise(&f->t.pci, 1);
    vd_cfg_set(&f->m, 1, cap + 2, 2, 0);
    vd_cfg_set(&f->m, 1, cap + 2, 2, 0x8000);
    vd_write(&f->m, t + 28, 4, 0);
    assert_int_equal(irqs.n, 3);
}

static void capabilities(void **state)
{
    struct fixture *f = *state;
    uint8_t cap[6] = {9, 0x77, 6, 1, 2, 3}, mask[6] = {0, 0, 0, 0xff, 0, 0xf0};
    unsigned a = pci_add_cap(&f->t.pci, cap, 6, mask);
    unsigned b = pci_add_cap(&f->t.pci, cap, 6, NULL);

    assert_int_equal(a % 4, 0);
    assert_int_equal(vd_cap(&f->m, 1, 9, 0), a);
    assert_int_equal(vd_cap(&f->m, 1, 9, a), b);
    assert_int_equal(vd_cap(&f->m, 1, 9, b), 0);
    vd_cfg_set(&f->m, 1, a, 4, 0xffffffff);
    vd_cfg_set(&f->m, 1, a + 4, 4, 0xffffffff);
    assert_int_equal(vd_cfg(&f->m, 1, a, 4), 0xff060009u | b << 8);
    assert_int_equal(vd_cfg(&f->m, 1, a + 4, 2), 0xf302);
}

static void full_bus(void **state)
{
    struct fixture *f = *state;
    struct toy *t = test_calloc(32, sizeof(*t));
    unsigned n = 0;

    while (n < 32) {
        t[n].pci = (struct pci_dev){.ops = &toy_ops, .bar_size = {4096}};
        if (pci_add(f->m.pci, &t[n].pci))
            break;
        n++;
    }
    assert_int_equal(n, 30); /* beside the bridge and the first toy */
    for (unsigned i = 0; i < n; i++)
        pci_del(&t[i].pci);
    test_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(header, setup, teardown),
        cmocka_unit_test_setup_teardown(ports, setup, teardown),
        cmocka_unit_test_setup_teardown(read_only_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(bars, setup, teardown),
        cmocka_unit_test_setup_teardown(bars_stay_inside, setup, teardown),
        cmocka_unit_test_setup_teardown(msix, setup, teardown),
        cmocka_unit_test_setup_teardown(capabilities, setup, teardown),
        cmocka_unit_test_setup_teardown(full_bus, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
