/* SPDX-License-Identifier: MIT */
/*
 * Unit tests of the virtio console over a socket pair: bytes arrive both ways, input waits for
 * buffers, output never blocks, odd buffers do no harm.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/vdriver.h"

#include "vmm/device/chario.h"
#include "vmm/device/devices.h"
#include "vmm/machine/irq.h"

#define VERSION_1 (1ull << 32)

static unsigned irqs; /* messages sent */

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic, (void)addr, (void)data;
    irqs++;
}

/* One machine with a console in slot 1. */
struct fixture {
    struct vd_machine m;  /* the machine */
    struct virtio_dev *d; /* the console */
    struct vd v;          /* its driver */
    int peer;             /* the other side */
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct chario *io;
    int fd[2];

    irqs = 0;
    vd_machine_init(&f->m);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    io = chario_new(CHARIO_STREAM, fd[0], fd[0], false);
    assert_int_equal(vconsole_new(&f->d, &f->m.host, f->m.pci, io, NULL), 0);
    f->peer = fd[1];
    vd_find(&f->v, &f->m, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    close(f->peer);
    virtio_dev_free(f->d);
    vd_machine_exit(&f->m);
    test_free(f);
    return 0;
}

static void output(void **state)
{
    struct fixture *f = *state;
    struct dev_stats st;
    char buf[64];

    vd_start(&f->v, VERSION_1, 2, 16);
    memcpy(vd_mem(&f->m, VD_BUF), "hello", 5);
    assert_int_equal(vd_one(&f->v, 1, VD_BUF, 5, false), 0);
    assert_int_equal(read(f->peer, buf, sizeof(buf)), 5);
    assert_memory_equal(buf, "hello", 5);
    virtio_dev_stats(f->d, &st);
    assert_int_equal(st.bytes_out, 5);
    /* Nobody reads: requests are served all the same. */
    for (int i = 0; i < 100; i++)
        assert_int_equal(vd_one(&f->v, 1, 0x200000, 65536, false), 0);
    assert_int_equal(vd_one(&f->v, 1, 0x200000, 8 << 20, false), 0);
    assert_int_equal(vd_one(&f->v, 1, 0x200000, 16, true), 0); /* nothing readable */
    virtio_dev_stats(f->d, &st);
    assert_true(st.errors > 0);
}

static void input(void **state)
{
    struct fixture *f = *state;
    uint32_t len;

    assert_int_equal(write(f->peer, "early", 5), 5); /* before there is a driver */
    vd_io(&f->m);
    vd_start(&f->v, VERSION_1, 2, 16);
    vd_io(&f->m);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 3, true),
                     3); /* a buffer smaller than the input */
    assert_memory_equal(vd_mem(&f->m, VD_BUF), "ear", 3);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), 2);
    assert_memory_equal(vd_mem(&f->m, VD_BUF), "ly", 2);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), -1); /* waits */
    irqs = 0;
    assert_int_equal(write(f->peer, "later", 5), 5);
    vd_io(&f->m);
    assert_int_equal(vd_used(&f->v, 0, &len), 0);
    assert_int_equal(len, 5);
    assert_int_equal(irqs, 1);
}

static void odd_buffers(void **state)
{
    struct fixture *f = *state;

    vd_start(&f->v, VERSION_1, 2, 16);
    assert_int_equal(write(f->peer, "x", 1), 1);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, false), -1); /* not writable */
    vd_io(&f->m);
    assert_int_equal(vd_reg(&f->v, 0x14, 1) & 0x40, 0x40);
    vd_start(&f->v, VERSION_1, 2, 16);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 64, true), 1); /* the byte was not lost */
    for (unsigned off = 0; off < 16; off++)
        vd_write(&f->m, f->v.config + off, 4, UINT32_MAX);
    assert_int_equal(vd_read(&f->m, f->v.config, 8), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(output, setup, teardown),
        cmocka_unit_test_setup_teardown(input, setup, teardown),
        cmocka_unit_test_setup_teardown(odd_buffers, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
