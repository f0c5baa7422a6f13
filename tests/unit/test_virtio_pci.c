/* SPDX-License-Identifier: MIT */
/*
 * Unit tests of the virtio transport, driven as a guest's driver does: discovery by ECAM, the
 * status handshake, queues, kicks and interrupts; the entropy device is the device type.
 */
#include <pthread.h>

#include "tests/unit/vdriver.h"

#include "vmm/device/devices.h"
#include "vmm/machine/irq.h"

#define VERSION_1 (1ull << 32)
#define EVENT_IDX (1ull << 29)
#define INDIRECT  (1ull << 28)

/* What the stub below saw. */
static struct {
    atomic_uint n;         /* messages so far */
    atomic_uint last_data; /* data of the last */
} irqs;

/* ioeventfds registered by the fake host. */
static struct {
    int balance;   /* added minus removed */
    unsigned adds; /* added so far */
    uint64_t gpa0; /* the first of the last mapping */
    int result;    /* what the fake answers to an add */
} ioe;

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic;
    assert_int_equal(addr, 0xfee00000);
    irqs.n++;
    irqs.last_data = data;
}

static int fake_ioeventfd(void *ctx, uint64_t gpa, unsigned len, int fd, bool add)
{
    (void)ctx;
    assert_int_equal(len, 2);
    assert_true(fd >= 0);
    if (add && ioe.result)
        return ioe.result;
    ioe.balance += add ? 1 : -1;
    ioe.adds += add;
    ioe.gpa0 = gpa;
    return 0;
}

/* One machine with one rng in slot 1. */
struct fixture {
    struct vd_machine m;    /* the machine */
    struct virtio_dev *rng; /* the device */
    struct vd v;            /* its driver */
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    memset(&irqs, 0, sizeof(irqs));
    memset(&ioe, 0, sizeof(ioe));
    vd_machine_init(&f->m);
    assert_int_equal(rng_new(&f->rng, &f->m.host, f->m.pci, NULL), 0);
    vd_find(&f->v, &f->m, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    virtio_dev_free(f->rng);
    vd_machine_exit(&f->m);
    test_free(f);
    return 0;
}

static void discovers(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(vd_cfg(&f->m, 1, 0, 4), 0x10441af4);
    assert_int_equal(vd_cfg(&f->m, 1, 8, 1), 1);
    assert_int_equal(vd_cfg(&f->m, 1, 0x3d, 1), 0);
    assert_true(f->v.common && f->v.isr && f->v.notify);
    assert_int_equal(f->v.notify_mul, 4);
    assert_int_equal(f->v.config, 0); /* rng has no configuration */
    assert_true(vd_cap(&f->m, 1, 0x11, 0));
    assert_int_equal(vd_reg(&f->v, 0x12, 2), 1);
    assert_int_equal(vd_features(&f->v), VERSION_1 | EVENT_IDX | INDIRECT);
}

static void refuses_features(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(vd_negotiate(&f->v, 0), 3);
    assert_int_equal(vd_negotiate(&f->v, VERSION_1 | 1), 3);
    assert_int_equal(vd_negotiate(&f->v, VERSION_1 | 1ull << 63), 3);
    assert_int_equal(vd_negotiate(&f->v, VERSION_1), 11);
    /* Too late to change them. */
    vd_set(&f->v, 8, 4, 1);
    vd_set(&f->v, 12, 4, 0);
    assert_int_equal(vd_reg(&f->v, 12, 4), 1);
}

static void register_widths(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(vd_reg(&f->v, 0x14, 4), 0);
    assert_int_equal(vd_reg(&f->v, 0x12, 1), 0);
    assert_int_equal(vd_reg(&f->v, 0x13, 1), 0);
    assert_int_equal(vd_read(&f->m, f->v.common + 0x20, 8), 0);
    vd_set(&f->v, 0x14, 2, 1);
    assert_int_equal(vd_reg(&f->v, 0x14, 1), 0);
    vd_set(&f->v, 0x12, 2, 77); /* read-only */
    assert_int_equal(vd_reg(&f->v, 0x12, 2), 1);
    vd_set(&f->v, 0x16, 2, 5); /* no such queue */
    assert_int_equal(vd_reg(&f->v, 0x18, 2), 0);
    vd_set(&f->v, 0x1c, 2, 1);
    assert_int_equal(vd_reg(&f->v, 0x1c, 2), 0);
    vd_set(&f->v, 0x16, 2, 0);
    vd_set(&f->v, 0x1a, 2, 2); /* only vectors 0 and 1 exist */
    assert_int_equal(vd_reg(&f->v, 0x1a, 2), 0xffff);
    /* Every offset and width, read and written: nothing but a reset may come of it. */
    for (unsigned len = 1; len <= 8; len *= 2) {
        for (unsigned off = 0; off + len <= 0x4000; off += off < 0x60 ? 1 : 61) {
            vd_read(&f->m, f->v.common + off, len);
            vd_write(&f->m, f->v.common + off, len, UINT64_MAX);
        }
    }
    vd_set(&f->v, 0x14, 1, 0);
    assert_int_equal(vd_reg(&f->v, 0x14, 1), 0);
}

static void serves(void **state)
{
    struct fixture *f = *state;
    struct dev_stats st;
    uint8_t zero[64] = {0};

    vd_start(&f->v, VERSION_1, 1, 16);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), 64);
    assert_memory_not_equal(vd_mem(&f->m, VD_BUF), zero, 64);
    assert_int_equal(irqs.n, 1);
    assert_int_equal(irqs.last_data, 1);
    assert_int_equal(vd_read(&f->m, f->v.isr, 1), 1);
    assert_int_equal(vd_read(&f->m, f->v.isr, 1), 0);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 1 << 20, true), 4096);
    virtio_dev_stats(f->rng, &st);
    assert_int_equal(st.requests, 2);
    assert_int_equal(st.bytes_in, 4160);
    for (int i = 0; i < 100000 / 50; i++)
        assert_int_equal(vd_one(&f->v, 0, VD_BUF, 8, true), 8);
}

static void interrupt_suppression(void **state)
{
    struct fixture *f = *state;
    uint16_t *avail = vd_mem(&f->m, vd_rings(0) + VD_AVAIL);
    uint16_t *used = vd_mem(&f->m, vd_rings(0) + VD_USED);

    vd_start(&f->v, VERSION_1, 1, 16);
    avail[0] = 1;
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), 64);
    assert_int_equal(irqs.n, 0);

    vd_start(&f->v, VERSION_1 | EVENT_IDX, 1, 16);
    avail[2 + 16] = 2; /* used_event: tell me when index 2 was used */
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), 64);
    vd_io(&f->m);
    assert_int_equal(irqs.n, 0);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), 64);
    assert_int_equal(irqs.n, 0);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), 64);
    assert_int_equal(irqs.n, 1);
    assert_int_equal(used[2 + 4 * 16], 3); /* avail_event: kick me at index 3 */
}

static void bad_queue(void **state)
{
    /* desc, avail, used, size */
    static const uint64_t bad[][4] = {
        {0x100001, 0x110000, 0x120000, 16},    {0x100000, 0x110001, 0x120000, 16},
        {0x100000, 0x110000, 0x120002, 16},    {0x100000, 0x110000, 0x120000, 0},
        {0x100000, 0x110000, 0x120000, 3},     {0x100000, 0x110000, 0x120000, 128},
        {0xfffff0, 0x110000, 0x120000, 16},    {0x100000, 0xfffffe, 0x120000, 16},
        {0x100000, 0x110000, 0xfffffc, 16},    {0xfffffffffffffff0, 0x110000, 0x120000, 16},
        {0x100000, 0xffffffffffff0000, 0, 16},
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(vd_negotiate(&f->v, VERSION_1), 11);
        vd_set(&f->v, 0x16, 2, 0);
        vd_set(&f->v, 0x18, 2, (uint32_t)bad[i][3]);
        for (unsigned r = 0; r < 3; r++) {
            vd_set(&f->v, 0x20 + 8 * r, 4, (uint32_t)bad[i][r]);
            vd_set(&f->v, 0x24 + 8 * r, 4, (uint32_t)(bad[i][r] >> 32));
        }
        vd_set(&f->v, 0x1c, 2, 1);
        assert_int_equal(vd_reg(&f->v, 0x1c, 2), 0);
        assert_int_equal(vd_reg(&f->v, 0x14, 1) & 0x40, 0x40);
    }
    /* A reset mends it. */
    vd_start(&f->v, VERSION_1, 1, 16);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), 64);
}

static void order_of_start(void **state)
{
    struct fixture *f = *state;

    vd_queue(&f->v, 0, 16); /* before FEATURES_OK */
    assert_int_equal(vd_reg(&f->v, 0x14, 1), 0x40);
    vd_set(&f->v, 0x14, 1, 0);
    vd_set(&f->v, 0x14, 1, 7); /* DRIVER_OK without features */
    assert_int_equal(vd_reg(&f->v, 0x14, 1) & 0x40, 0x40);
    /* A kick before DRIVER_OK does nothing; after it, what waits is served. */
    assert_int_equal(vd_negotiate(&f->v, VERSION_1), 11);
    vd_queue(&f->v, 0, 16);
    vd_desc(&f->m, vd_rings(0), 0, VD_BUF, 64, VD_WRITE, 0);
    vd_avail(&f->v, 0, 0);
    vd_kick(&f->v, 0);
    assert_int_equal(vd_used(&f->v, 0, NULL), -1);
    assert_int_equal(irqs.n, 0);
    vd_set(&f->v, 0x14, 1, 15);
    vd_io(&f->m);
    assert_int_equal(vd_used(&f->v, 0, NULL), 0);
}

static void breaks_and_tells(void **state)
{
    struct fixture *f = *state;

    vd_start(&f->v, VERSION_1, 1, 16);
    vd_avail(&f->v, 0, 99);
    vd_kick(&f->v, 0);
    assert_int_equal(vd_reg(&f->v, 0x14, 1), 0x4f);
    assert_int_equal(irqs.n, 1); /* the configuration vector */
    assert_int_equal(irqs.last_data, 0);
    assert_int_equal(vd_read(&f->m, f->v.isr, 1), 2);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), -1);
    vd_start(&f->v, VERSION_1, 1, 16);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), 64);
}

static void ioeventfds(void **state)
{
    struct fixture *f = *state;
    struct virtio_dev *d;
    struct vd v;

    f->m.host.ioeventfd = fake_ioeventfd;
    assert_int_equal(rng_new(&d, &f->m.host, f->m.pci, NULL), 0);
    assert_int_equal(ioe.balance, 0);
    vd_find(&v, &f->m, 2);
    assert_int_equal(ioe.balance, 1);
    assert_int_equal(ioe.gpa0, v.notify);
    vd_start(&v, VERSION_1, 1, 16);
    assert_int_equal(ioe.adds, 1);             /* a reset leaves them */
    vd_cfg_set(&f->m, 2, 0x10, 4, 0xd0000000); /* move the BAR */
    assert_int_equal(ioe.balance, 1);
    assert_int_equal(ioe.gpa0, 0xd0003000);
    vd_cfg_set(&f->m, 2, 0x10, 4, 0xffffffff); /* sizing: out of the window */
    assert_int_equal(ioe.balance, 0);
    ioe.result = -28; /* the host has no more: kicks trap */
    vd_cfg_set(&f->m, 2, 0x10, 4, 0xd0000000);
    assert_int_equal(ioe.balance, 0);
    v.notify = 0xd0003000;
    assert_int_equal(vd_one(&v, 0, VD_BUF, 64, true), 64);
    ioe.result = 0;
    vd_cfg_set(&f->m, 2, 4, 2, 0);
    vd_cfg_set(&f->m, 2, 4, 2, 2);
    assert_int_equal(ioe.balance, 1);
    virtio_dev_free(d);
    assert_int_equal(ioe.balance, 0);
    f->m.host.ioeventfd = NULL;
}

static void pci_cfg_window(void **state)
{
    struct fixture *f = *state;
    unsigned c = vd_cap(&f->m, 1, 9, 0);

    while (c && vd_cfg(&f->m, 1, c + 3, 1) != 5)
        c = vd_cap(&f->m, 1, 9, c);
    assert_true(c);
    vd_cfg_set(&f->m, 1, c + 4, 1, 0);
    vd_cfg_set(&f->m, 1, c + 8, 4, 0x12);
    vd_cfg_set(&f->m, 1, c + 12, 4, 2);
    assert_int_equal(vd_cfg(&f->m, 1, c + 16, 4), 1);
    assert_int_equal(vd_cfg(&f->m, 1, c + 16, 2), 1);
    vd_cfg_set(&f->m, 1, c + 8, 4, 0x14);
    vd_cfg_set(&f->m, 1, c + 12, 4, 1);
    vd_cfg_set(&f->m, 1, c + 16, 4, 1);
    assert_int_equal(vd_reg(&f->v, 0x14, 1), 1);
    /* Nonsense: a wrong BAR, length, offset. */
    vd_cfg_set(&f->m, 1, c + 4, 1, 1);
    assert_int_equal(vd_cfg(&f->m, 1, c + 16, 4), 0);
    vd_cfg_set(&f->m, 1, c + 4, 1, 0);
    vd_cfg_set(&f->m, 1, c + 12, 4, 3);
    assert_int_equal(vd_cfg(&f->m, 1, c + 16, 4), 0);
    vd_cfg_set(&f->m, 1, c + 12, 4, 0);
    assert_int_equal(vd_cfg(&f->m, 1, c + 16, 4), 0);
    vd_cfg_set(&f->m, 1, c + 12, 4, 4);
    vd_cfg_set(&f->m, 1, c + 8, 4, 0xfffffffc);
    assert_int_equal(vd_cfg(&f->m, 1, c + 16, 4), 0);
    vd_cfg_set(&f->m, 1, c + 16, 4, 0xffffffff);
    vd_cfg_set(&f->m, 1, c + 8, 4, 0x4000);
    assert_int_equal(vd_cfg(&f->m, 1, c + 16, 4), 0);
}

static void masked_vector(void **state)
{
    struct fixture *f = *state;
    uint64_t table;

    vd_start(&f->v, VERSION_1, 1, 16);
    table = vd_cfg(&f->m, 1, 0x14, 4) & ~15u;
    vd_write(&f->m, table + 16 + 12, 4, 1);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), 64);
    assert_int_equal(irqs.n, 0);
    assert_int_equal(vd_read(&f->m, table + 0x800, 8), 2);
    vd_write(&f->m, table + 16 + 12, 4, 0);
    assert_int_equal(irqs.n, 1);
    assert_int_equal(vd_read(&f->m, table + 0x800, 8), 0);
}

/* A vCPU that starts and resets the device over and over; four requests wait in the ring. */
static void *restarts(void *arg)
{
    struct fixture *f = arg;
    static const uint32_t ring[] = {VD_RINGS, VD_RINGS + VD_AVAIL, VD_RINGS + VD_USED};

    for (int i = 0; i < 300; i++) {
        vd_set(&f->v, 0x14, 1, 0);
        vd_set(&f->v, 8, 4, 1);
        vd_set(&f->v, 12, 4, 1);
        vd_set(&f->v, 0x14, 1, 11);
        vd_set(&f->v, 0x18, 2, 16);
        vd_set(&f->v, 0x1a, 2, 1);
        for (unsigned r = 0; r < 3; r++)
            vd_set(&f->v, 0x20 + 8 * r, 4, ring[r]);
        vd_set(&f->v, 0x1c, 2, 1);
        vd_set(&f->v, 0x14, 1, 15);
        vd_write(&f->m, f->v.notify, 2, 0);
    }
    return NULL;
}

/* A vCPU that moves the other device's BARs, masks vectors and reads the ISR meanwhile. */
static void *moves(void *arg)
{
    struct fixture *f = arg;
    uint64_t table = vd_cfg(&f->m, 1, 0x14, 4) & ~15u;

    for (unsigned i = 0; i < 1000; i++) {
        vd_cfg_set(&f->m, 2, 0x10, 4, i & 1 ? 0xd0000000 : 0xd1000000);
        vd_cfg_set(&f->m, 2, 4, 2, i & 2);
        vd_write(&f->m, 0xd0003000, 2, 0);
        vd_write(&f->m, table + 16 + 12, 4, i >> 3 & 1);
        vd_read(&f->m, f->v.isr, 1);
    }
    return NULL;
}

/* Register accesses of three vCPUs beside io0: for the thread sanitizer above all. */
static void races(void **state)
{
    struct fixture *f = *state;
    pthread_t t[3];
    struct virtio_dev *d;
    uint16_t *avail;

    f->m.host.ioeventfd = fake_ioeventfd;
    assert_int_equal(rng_new(&d, &f->m.host, f->m.pci, NULL), 0);
    vd_start(&f->v, VERSION_1, 1, 16);
    vd_desc(&f->m, vd_rings(0), 0, VD_BUF, 64, VD_WRITE, 0);
    avail = vd_mem(&f->m, vd_rings(0) + VD_AVAIL);
    avail[1] = 4;
    pthread_create(&t[0], NULL, restarts, f);
    pthread_create(&t[1], NULL, moves, f);
    pthread_create(&t[2], NULL, moves, f);
    for (int i = 0; i < 300; i++)
        evloop_once(&f->m.io, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    vd_io(&f->m);
    assert_int_equal(vd_reg(&f->v, 0x14, 1), 15);
    vd_cfg_set(&f->m, 2, 4, 2, 0);
    assert_int_equal(ioe.balance, 0);
    virtio_dev_free(d);
    f->m.host.ioeventfd = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(discovers, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_features, setup, teardown),
        cmocka_unit_test_setup_teardown(register_widths, setup, teardown),
        cmocka_unit_test_setup_teardown(serves, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupt_suppression, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(order_of_start, setup, teardown),
        cmocka_unit_test_setup_teardown(breaks_and_tells, setup, teardown),
        cmocka_unit_test_setup_teardown(ioeventfds, setup, teardown),
        cmocka_unit_test_setup_teardown(pci_cfg_window, setup, teardown),
        cmocka_unit_test_setup_teardown(masked_vector, setup, teardown),
        cmocka_unit_test_setup_teardown(races, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
