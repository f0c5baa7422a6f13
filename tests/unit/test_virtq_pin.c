/* SPDX-License-Identifier: MIT */
/*
 * What virtqueues tell a pager: each buffer that a device may write is pinned from vq_pop()
 * until it is given back, given up or the queue is reset; the rings while they are written; all
 * of it once.
 */
#include "tests/unit/vdriver.h"

#include "tests/unit/toy.h"
#include "vmm/device/devices.h"
#include "vmm/machine/irq.h"

#define VERSION_1 (1ull << 32)

enum { SIZE = 8, BLOCKS = 8 };

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic, (void)addr, (void)data;
}

/* One machine with one toy in slot 1, and what the hook heard. */
struct fixture {
    struct vd_machine m;   /* the machine */
    struct virtio_dev dev; /* the device */
    struct vd v;           /* its driver */
    struct vq_chain c;     /* what was popped */
    struct virtq *q;       /* queue 0 */
    struct mem_hook hook;  /* counts */
    int pins[BLOCKS];      /* of each 2 MiB */
    unsigned begun;        /* in all */
};

static void begin(void *arg, uint64_t gpa, uint64_t len)
{
    struct fixture *f = arg;

    f->pins[gpa >> 21]++;
    f->begun += len != 0;
}

static void end(void *arg, uint64_t gpa, uint64_t len)
{
    struct fixture *f = arg;

    assert_true(len != 0 && f->pins[gpa >> 21] > 0);
    f->pins[gpa >> 21]--;
}

/* Whether a pager listens: not while the driver here writes as a guest does. */
static void listen_to(struct fixture *f, bool on)
{
    f->m.mem.hook = on ? &f->hook : NULL;
}

/* Offers head 0 and takes it, the pager listening from then on. */
static int offer_and_pop(struct fixture *f)
{
    listen_to(f, false);
    vd_avail(&f->v, 0, 0);
    listen_to(f, true);
    return vq_pop(f->q, &f->c);
}

/* Nothing is pinned. */
static void none(const struct fixture *f)
{
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_int_equal(f->pins[i], 0);
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    vd_machine_init(&f->m);
    assert_int_equal(
        virtio_init(&f->dev, &toy_type, "toy0", 2, VQ_MAX_SIZE, 0, &f->m.host, f->m.pci), 0);
    vd_find(&f->v, &f->m, 1);
    f->q = &f->dev.vq[0];
    f->hook = (struct mem_hook){.begin = begin, .end = end, .arg = f};
    vd_start(&f->v, VERSION_1, 1, SIZE);
    none(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    virtio_dev_free(&f->dev);
    none(f);
    vd_machine_exit(&f->m);
    test_free(f);
    return 0;
}

/* Offers head 0: a buffer to read at VD_BUF, two to write in the two blocks behind it. */
static int pop0(struct fixture *f)
{
    listen_to(f, false);
    vd_desc(&f->m, vd_rings(0), 0, VD_BUF, 64, VD_NEXT, 1);
    vd_desc(&f->m, vd_rings(0), 1, VD_BUF + 0x200000, 512, VD_NEXT | VD_WRITE, 2);
    vd_desc(&f->m, vd_rings(0), 2, VD_BUF + 0x400000, 1, VD_WRITE, 0);
    return offer_and_pop(f);
}

static void until_given_back(void **state)
{
    struct fixture *f = *state;

    virtio_lock(&f->dev);
    assert_int_equal(pop0(f), 1);
    assert_int_equal(f->pins[4], 0); /* only read */
    assert_int_equal(f->pins[5], 1);
    assert_int_equal(f->pins[6], 1);
    f->c.in[0].iov_len = 3; /* devices may change their copy */
    vq_push(f->q, 0, 513);
    none(f);
    assert_true(f->begun > 2); /* the ring, too */
    assert_int_equal(pop0(f), 1);
    vq_unpop(f->q);
    none(f);
    (void)vq_arm(f->q);
    vq_disarm(f->q);
    vq_signal(f->q);
    none(f);
    virtio_unlock(&f->dev);
}

/* A driver that offers the same head again and again. */
static void several_of_one_head(void **state)
{
    struct fixture *f = *state;

    virtio_lock(&f->dev);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pop0(f), 1);
    assert_int_equal(f->pins[5], 3);
    vq_push(f->q, 0, 0);
    assert_int_equal(f->pins[5], 2);
    vq_push(f->q, 7, 0); /* nothing of that head */
    assert_int_equal(f->pins[5], 2);
    virtio_reset(&f->dev);
    none(f);
    virtio_unlock(&f->dev);
}

/* Chains that turn out to be wrong half-way. */
static void wrong_chains(void **state)
{
    struct fixture *f = *state;

    virtio_lock(&f->dev);
    vd_desc(&f->m, vd_rings(0), 0, VD_BUF + 0x200000, 512, VD_NEXT | VD_WRITE, 1);
    vd_desc(&f->m, vd_rings(0), 1, VD_BUF, 1, 0, 0); /* to read, behind one to write */
    assert_int_equal(offer_and_pop(f), -1);
    none(f);
    virtio_unlock(&f->dev);
    listen_to(f, false);
    vd_start(&f->v, VERSION_1, 1, SIZE);
    virtio_lock(&f->dev);
    vd_desc(&f->m, vd_rings(0), 0, VD_BUF, 512, VD_NEXT | VD_WRITE, 1);
    vd_desc(&f->m, vd_rings(0), 1, 1ull << 40, 1, VD_WRITE, 0); /* no RAM */
    assert_int_equal(offer_and_pop(f), -1);
    none(f);
    virtio_unlock(&f->dev);
}

/* A device that goes while requests are open (teardown looks). */
static void open_requests_at_the_end(void **state)
{
    struct fixture *f = *state;

    virtio_lock(&f->dev);
    assert_int_equal(pop0(f), 1);
    assert_int_equal(pop0(f), 1);
    assert_int_equal(f->pins[6], 2);
    virtio_unlock(&f->dev);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(until_given_back, setup, teardown),
        cmocka_unit_test_setup_teardown(several_of_one_head, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_chains, setup, teardown),
        cmocka_unit_test_setup_teardown(open_requests_at_the_end, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
