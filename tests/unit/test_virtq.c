/* SPDX-License-Identifier: MIT */
/*
 * Unit tests of split virtqueues: chains of every legal shape arrive, every malformed one stops
 * the device, indices wrap, kicks and interrupts are suppressed as asked.
 */
#include "tests/unit/vdriver.h"

#include "tests/unit/toy.h"
#include "vmm/device/devices.h"
#include "vmm/machine/irq.h"

#define VERSION_1 (1ull << 32)
#define EVENT_IDX (1ull << 29)
#define INDIRECT  (1ull << 28)
#define RAM_END   0x1000000ull /* 16 MiB */

enum { SIZE = 8 };

static unsigned irqs; /* messages sent */

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic, (void)addr, (void)data;
    irqs++;
}

/* One machine with one toy in slot 1. */
struct fixture {
    struct vd_machine m;   /* the machine */
    struct virtio_dev dev; /* the device */
    struct vd v;           /* its driver */
    struct vq_chain c;     /* what was popped */
    struct virtq *q;       /* queue 0 */
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    irqs = 0;
    vd_machine_init(&f->m);
    assert_int_equal(
        virtio_init(&f->dev, &toy_type, "toy0", 2, VQ_MAX_SIZE, 0, &f->m.host, f->m.pci), 0);
    vd_find(&f->v, &f->m, 1);
    f->q = &f->dev.vq[0];
    vd_start(&f->v, VERSION_1 | INDIRECT | EVENT_IDX, 1, SIZE);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    virtio_dev_free(&f->dev);
    vd_machine_exit(&f->m);
    test_free(f);
    return 0;
}

/* Entry i of queue 0's table. */
static void desc(struct fixture *f, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
                 uint16_t next)
{
    vd_desc(&f->m, vd_rings(0), i, addr, len, flags, next);
}

/* Entry i of the indirect table. */
static void idesc(struct fixture *f, unsigned i, uint64_t addr, uint32_t len, uint16_t flags,
                  uint16_t next)
{
    vd_desc(&f->m, vd_rings(0) + VD_INDIRECT, i, addr, len, flags, next);
}

/* Offers head 0; what vq_pop says. */
static int pop0(struct fixture *f)
{
    vd_avail(&f->v, 0, 0);
    return vq_pop(f->q, &f->c);
}

/* Head 0 must break the device, and a reset must mend it. */
static void must_break(struct fixture *f)
{
    assert_int_equal(pop0(f), -1);
    assert_true(f->dev.broken);
    assert_int_equal(vd_reg(&f->v, 0x14, 1) & 0x40, 0x40);
    assert_int_equal(vq_pop(f->q, &f->c), -1);
    assert_false(vq_more(f->q));
    assert_false(vq_arm(f->q));
    vq_push(f->q, 0, 1);
    vq_signal(f->q);
    assert_int_equal(vd_used(&f->v, 0, NULL), -1);
    vd_start(&f->v, VERSION_1 | INDIRECT | EVENT_IDX, 1, SIZE);
    desc(f, 0, VD_BUF, 1, 0, 0);
    assert_int_equal(pop0(f), 1);
    vd_start(&f->v, VERSION_1 | INDIRECT | EVENT_IDX, 1, SIZE);
}

static void chains(void **state)
{
    struct fixture *f = *state;
    uint32_t len;

    assert_int_equal(vq_pop(f->q, &f->c), 0);
    assert_false(vq_more(f->q));
    desc(f, 0, VD_BUF, 10, VD_NEXT, 5);
    desc(f, 5, VD_BUF + 0x1001, 20, VD_NEXT | VD_WRITE, 3);
    desc(f, 3, VD_BUF + 0x2000, 30, VD_WRITE, 7);
    assert_int_equal(pop0(f), 1);
    assert_int_equal(f->c.head, 0);
    assert_int_equal(f->c.nout, 1);
    assert_int_equal(f->c.nin, 2);
    assert_int_equal(f->c.out_len, 10);
    assert_int_equal(f->c.in_len, 50);
    assert_int_equal(f->c.out_gpa0, VD_BUF);
    assert_int_equal(f->c.in_gpa0, VD_BUF + 0x1001);
    assert_int_equal(f->c.in_gpa[1], VD_BUF + 0x2000);
    assert_ptr_equal(f->c.in[0].iov_base, vd_mem(&f->m, VD_BUF + 0x1001));
    assert_int_equal(vq_pop(f->q, &f->c), 0);
    vq_unpop(f->q);
    assert_true(vq_more(f->q));
    assert_int_equal(vq_pop(f->q, &f->c), 1);
    vq_push(f->q, 0, 17);
    assert_int_equal(vd_used(&f->v, 0, &len), 0);
    assert_int_equal(len, 17);
}

static void indirect_chains(void **state)
{
    struct fixture *f = *state;
    uint64_t table = vd_rings(0) + VD_INDIRECT;

    idesc(f, 0, VD_BUF, 1, VD_NEXT, 2);
    idesc(f, 2, VD_BUF, 2, VD_NEXT | VD_WRITE, 1);
    idesc(f, 1, VD_BUF, 3, VD_WRITE, 0);
    desc(f, 0, table, 48, VD_IND | VD_WRITE, 9999); /* WRITE and next are ignored */
    assert_int_equal(pop0(f), 1);
    assert_int_equal(f->c.nout, 1);
    assert_int_equal(f->c.in_len, 5);
    /* Direct ones before it; a table that is not aligned. */
    memmove(vd_mem(&f->m, table + 1), vd_mem(&f->m, table), 48);
    desc(f, 0, VD_BUF, 10, VD_NEXT, 1);
    desc(f, 1, table + 1, 48, VD_IND, 0);
    assert_int_equal(pop0(f), 1);
    assert_int_equal(f->c.out_len, 11);
    /* The longest there may be: more entries than the queue has. */
    for (unsigned i = 0; i < VQ_MAX_SEGS; i++)
        idesc(f, i, VD_BUF + i, 1, (i + 1 < VQ_MAX_SEGS ? VD_NEXT : 0) | VD_WRITE,
              (uint16_t)(i + 1));
    desc(f, 0, table, 16 * VQ_MAX_SEGS, VD_IND, 0);
    assert_int_equal(pop0(f), 1);
    assert_int_equal(f->c.nin, VQ_MAX_SEGS);
    /* With one direct before, one too many. */
    desc(f, 0, VD_BUF, 10, VD_NEXT, 1);
    desc(f, 1, table, 16 * VQ_MAX_SEGS, VD_IND, 0);
    must_break(f);
}

static void hostile_indices(void **state)
{
    struct fixture *f = *state;
    uint16_t *avail = vd_mem(&f->m, vd_rings(0) + VD_AVAIL);

    avail[1] = SIZE + 1;
    assert_true(vq_more(f->q));
    assert_int_equal(vq_pop(f->q, &f->c), -1);
    vd_start(&f->v, VERSION_1, 1, SIZE);
    avail[1] = 0xffff; /* backwards */
    assert_int_equal(vq_pop(f->q, &f->c), -1);
    vd_start(&f->v, VERSION_1, 1, SIZE);
    vd_avail(&f->v, 0, SIZE); /* one past the table */
    assert_int_equal(vq_pop(f->q, &f->c), -1);
    vd_start(&f->v, VERSION_1, 1, SIZE);
    vd_avail(&f->v, 0, 0xffff);
    assert_int_equal(vq_pop(f->q, &f->c), -1);
    vd_start(&f->v, VERSION_1, 1, SIZE);
    desc(f, 0, VD_BUF, 1, 0, 0);
    for (int i = 0; i < SIZE; i++)
        vd_avail(&f->v, 0, 0); /* a full ring is fine */
    for (int i = 0; i < SIZE; i++)
        assert_int_equal(vq_pop(f->q, &f->c), 1);
    assert_int_equal(vq_pop(f->q, &f->c), 0);
}

static void hostile_chains(void **state)
{
    struct fixture *f = *state;

    desc(f, 0, VD_BUF, 1, VD_NEXT, SIZE); /* next past the table */
    must_break(f);
    desc(f, 0, VD_BUF, 1, VD_NEXT, 0); /* loops: to itself, and round */
    must_break(f);
    for (unsigned i = 0; i < SIZE; i++)
        desc(f, i, VD_BUF, 1, VD_NEXT, (uint16_t)((i + 1) % SIZE));
    must_break(f);
    for (unsigned i = 0; i < SIZE; i++) /* as long as the table: legal */
        desc(f, i, VD_BUF, 1, i + 1 < SIZE ? VD_NEXT : 0, (uint16_t)(i + 1));
    assert_int_equal(pop0(f), 1);
    assert_int_equal(f->c.nout, SIZE);
    desc(f, 0, VD_BUF, 1, VD_NEXT | VD_WRITE, 1); /* writable before readable */
    desc(f, 1, VD_BUF, 1, 0, 0);
    must_break(f);
    desc(f, 0, VD_BUF, 0, 0, 0); /* empty */
    must_break(f);
}

static void hostile_addresses(void **state)
{
    static const struct {
        uint64_t addr; /* of the buffer */
        uint32_t len;  /* bytes */
    } bad[] = {{RAM_END, 1},     {RAM_END - 1, 2}, {MMIO_LAPIC, 4},
               {MMIO_PCI, 4096}, {UINT64_MAX, 1},  {UINT64_MAX, UINT32_MAX},
               {0, UINT32_MAX},  {MEM_HIGH, 1},    {1ull << 63, 1}};
    struct fixture *f = *state;

    desc(f, 0, RAM_END - 1, 1, 0, 0);
    assert_int_equal(pop0(f), 1);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        desc(f, 0, bad[i].addr, bad[i].len, i & 1 ? VD_WRITE : 0, 0);
        must_break(f);
        desc(f, 0, bad[i].addr, 16, VD_IND, 0);
        if (bad[i].addr) /* 16 bytes at 0 are RAM: what is there decides */
            must_break(f);
    }
}

static void hostile_indirect(void **state)
{
    struct fixture *f = *state;
    uint64_t table = vd_rings(0) + VD_INDIRECT;
    static const uint32_t bad_len[] = {0,          1,         15, 17, 16 * (VQ_MAX_SEGS + 1),
                                       0xfffffff0, UINT32_MAX};

    for (unsigned i = 0; i < sizeof(bad_len) / sizeof(bad_len[0]); i++) {
        desc(f, 0, table, bad_len[i], VD_IND, 0);
        must_break(f);
    }
    desc(f, 0, table, 16, VD_IND, 0); /* a table in a table: itself */
    idesc(f, 0, table, 16, VD_IND, 0);
    must_break(f);
    desc(f, 0, table, 16, VD_IND | VD_NEXT, 1); /* not the last */
    must_break(f);
    desc(f, 0, table, 32, VD_IND, 0); /* next past the small table */
    idesc(f, 0, VD_BUF, 1, VD_NEXT, 2);
    must_break(f);
    desc(f, 0, table, 32, VD_IND, 0); /* a loop in it */
    idesc(f, 0, VD_BUF, 1, VD_NEXT, 1);
    idesc(f, 1, VD_BUF, 1, VD_NEXT, 0);
    must_break(f);
    vd_start(&f->v, VERSION_1, 1, SIZE); /* not agreed on */
    desc(f, 0, table, 16, VD_IND, 0);
    idesc(f, 0, VD_BUF, 1, 0, 0);
    assert_int_equal(pop0(f), -1);
}

/* The sum of the lengths must fit the used entry's 32 bits: RAM is too small to get there but by
 * many segments over the same bytes. */
static void too_much(void **state)
{
    struct fixture *f = *state;
    uint64_t table = vd_rings(0) + VD_INDIRECT;

    for (unsigned i = 0; i < 300; i++)
        idesc(f, i, 0, RAM_END, i < 299 ? VD_NEXT : 0, (uint16_t)(i + 1));
    desc(f, 0, table, 16 * 300, VD_IND, 0);
    must_break(f);
}

static void wraps(void **state)
{
    struct fixture *f = *state;
    uint32_t len;

    desc(f, 0, VD_BUF, 1, 0, 0);
    for (uint32_t i = 0; i < 200000; i++) {
        assert_int_equal(pop0(f), 1);
        vq_push(f->q, 0, i);
        assert_int_equal(vd_used(&f->v, 0, &len), 0);
        assert_int_equal(len, i);
        assert_int_equal(vd_used(&f->v, 0, &len), -1);
    }
}

static void batches(void **state)
{
    struct fixture *f = *state;
    uint32_t len;

    desc(f, 0, VD_BUF, 1, VD_WRITE, 0);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++)
            assert_int_equal(pop0(f), 1);
        for (unsigned i = 0; i < 3; i++)
            vq_fill(f->q, i, (uint16_t)i, 100 + i);
        assert_int_equal(vd_used(&f->v, 0, NULL), -1);
        vq_publish(f->q, 3);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(vd_used(&f->v, 0, &len), i);
            assert_int_equal(len, 100 + i);
        }
    }
    vq_publish(f->q, 0);
    assert_int_equal(vd_used(&f->v, 0, &len), -1);
}

/* used_event says from which index on the driver wants to hear. */
static void event_index(void **state)
{
    struct fixture *f = *state;
    uint16_t *avail = vd_mem(&f->m, vd_rings(0) + VD_AVAIL);
    unsigned want = 0;

    desc(f, 0, VD_BUF, 1, 0, 0);
    for (unsigned i = 0; i < 70000; i++) {
        avail[2 + SIZE] = (uint16_t)(i / 100 * 100); /* wants every hundredth */
        pop0(f);
        vq_push(f->q, 0, 0);
        vq_signal(f->q);
        vq_signal(f->q); /* nothing new: never a second one */
        want += i % 100 == 0;
        assert_int_equal(irqs, want);
    }
    /* Wanting none: used_event behind. */
    avail[2 + SIZE] = (uint16_t)(f->q->next_used - 1);
    irqs = 0;
    for (int i = 0; i < 10; i++) {
        pop0(f);
        vq_push(f->q, 0, 0);
        vq_signal(f->q);
    }
    assert_int_equal(irqs, 0);
    /* 2^16 entries without a word: the index means nothing any more, better one too many. */
    for (unsigned i = 0; i < 65536; i++) {
        pop0(f);
        vq_push(f->q, 0, 0);
    }
    vq_signal(f->q);
    assert_int_equal(irqs, 1);
}

static void arming(void **state)
{
    struct fixture *f = *state;
    uint16_t *used = vd_mem(&f->m, vd_rings(0) + VD_USED);

    vq_signal(f->q); /* nothing was pushed yet */
    assert_int_equal(irqs, 0);
    assert_false(vq_arm(f->q));
    assert_int_equal(used[2 + 4 * SIZE], 0);
    desc(f, 0, VD_BUF, 1, 0, 0);
    assert_int_equal(pop0(f), 1);
    assert_false(vq_arm(f->q));
    assert_int_equal(used[2 + 4 * SIZE], 1);
    vd_avail(&f->v, 0, 0);
    assert_true(vq_arm(f->q));
    vq_disarm(f->q);
    assert_int_equal(used[0], 0);
    vd_start(&f->v, VERSION_1, 1, SIZE); /* without event indices: the flag */
    vq_disarm(f->q);
    assert_int_equal(used[0], 1);
    vq_arm(f->q);
    assert_int_equal(used[0], 0);
}

/* Nothing is touched when the queue is not in service. */
static void not_live(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(vq_pop(&f->dev.vq[1], &f->c), 0); /* never enabled */
    vq_push(&f->dev.vq[1], 0, 0);
    assert_false(vq_arm(&f->dev.vq[1]));
    desc(f, 0, VD_BUF, 1, 0, 0);
    assert_int_equal(pop0(f), 1);
    vd_set(&f->v, 0x14, 1, 0); /* reset with a request in flight */
    vq_push(f->q, 0, 1);
    vq_signal(f->q);
    assert_int_equal(vd_used(&f->v, 0, NULL), -1);
    assert_int_equal(vq_pop(f->q, &f->c), 0);
}

static void segments(void **state)
{
    char a[3], b[5], c[2], buf[16];
    struct iovec iov[] = {{a, 3}, {b, 5}, {c, 2}};

    (void)state;
    assert_int_equal(iov_in(iov, 3, 0, "0123456789", 10), 10);
    assert_memory_equal(a, "012", 3);
    assert_memory_equal(b, "34567", 5);
    assert_memory_equal(c, "89", 2);
    assert_int_equal(iov_out(iov, 3, 2, buf, 7), 7);
    assert_memory_equal(buf, "2345678", 7);
    assert_int_equal(iov_out(iov, 3, 8, buf, 16), 2);
    assert_int_equal(iov_out(iov, 3, 10, buf, 1), 0);
    assert_int_equal(iov_out(iov, 3, SIZE_MAX, buf, 1), 0);
    assert_int_equal(iov_out(iov, 0, 0, buf, 1), 0);
    assert_int_equal(iov_in(iov, 3, 3, "x", 1), 1);
    assert_int_equal(b[0], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(chains, setup, teardown),
        cmocka_unit_test_setup_teardown(indirect_chains, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_indices, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_chains, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_indirect, setup, teardown),
        cmocka_unit_test_setup_teardown(too_much, setup, teardown),
        cmocka_unit_test_setup_teardown(wraps, setup, teardown),
        cmocka_unit_test_setup_teardown(batches, setup, teardown),
        cmocka_unit_test_setup_teardown(event_index, setup, teardown),
        cmocka_unit_test_setup_teardown(arming, setup, teardown),
        cmocka_unit_test_setup_teardown(not_live, setup, teardown),
        cmocka_unit_test(segments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
