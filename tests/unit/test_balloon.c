/* SPDX-License-Identifier: MIT */
/*
 * Unit tests of the balloon: pages given up and reported leave the store, wild page numbers stop
 * the device, statistics are asked for at most once a second, the target reaches the driver.
 */
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/vdriver.h"

#include "vmm/device/devices.h"
#include "vmm/machine/irq.h"

#define VERSION_1 (1ull << 32)
#define F_STATS   (1ull << 1)
#define F_OOM     (1ull << 2)
#define F_REPORT  (1ull << 5)

static struct {
    unsigned n;         /* messages sent */
    uint32_t last_data; /* of the last */
} irqs;

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic, (void)addr;
    irqs.n++;
    irqs.last_data = data;
}

/* One machine with a balloon in slot 1. */
struct fixture {
    struct vd_machine m;  /* the machine */
    struct virtio_dev *d; /* the balloon */
    struct vd v;          /* its driver */
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    memset(&irqs, 0, sizeof(irqs));
    vd_machine_init(&f->m);
    assert_int_equal(balloon_new(&f->d, &f->m.host, f->m.pci, NULL), 0);
    vd_find(&f->v, &f->m, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    virtio_dev_free(f->d);
    vd_machine_exit(&f->m);
    test_free(f);
    return 0;
}

/* Bytes of machine memory the store holds. */
static uint64_t held(struct fixture *f)
{
    struct stat st;

    assert_int_equal(fstat(f->m.mem.fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* Dirties n pages from gpa on. */
static void dirty(struct fixture *f, uint64_t gpa, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        memset(vd_mem(&f->m, gpa + i * MEM_PAGE), 0xaa, MEM_PAGE);
}

/* Puts n page numbers at VD_BUF and sends them to a queue. */
static long send_pfns(struct fixture *f, unsigned q, const uint32_t *pfn, unsigned n)
{
    memcpy(vd_mem(&f->m, VD_BUF), pfn, 4 * n);
    return vd_one(&f->v, q, VD_BUF, 4 * n, false);
}

/* Pages of the hugetlb pool would be lost to the guest when it reports them: it cannot. */
static void hugetlb_keeps_its_pages(void **state)
{
    struct fixture *f = *state;
    int store = f->m.mem.fd;

    f->m.mem.fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
    if (f->m.mem.fd < 0) {
        f->m.mem.fd = store;
        skip();
    }
    virtio_dev_free(f->d);
    assert_int_equal(balloon_new(&f->d, &f->m.host, f->m.pci, NULL), 0);
    vd_find(&f->v, &f->m, 2);
    assert_int_equal(vd_features(&f->v) & 0x3f, F_STATS | F_OOM);
    close(f->m.mem.fd);
    f->m.mem.fd = store;
}

static void identifies(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(vd_cfg(&f->m, 1, 0, 4), 0x10451af4);
    assert_int_equal(vd_features(&f->v) & 0x3f, F_STATS | F_OOM | F_REPORT);
    assert_true(f->v.config);
    assert_int_equal(vd_read(&f->m, f->v.config, 4), 0);
}

static void inflates(void **state)
{
    static const uint32_t pfn[] = {0xa05, 0xa03, 0xa04, 0xa04, 0xb00, 0xa00};
    struct fixture *f = *state;
    uint64_t before;

    vd_start(&f->v, VERSION_1, 2, 16);
    dirty(f, 0xa00000, 8);
    dirty(f, 0xb00000, 2);
    dirty(f, VD_BUF, 1);
    before = held(f);
    assert_int_equal(send_pfns(f, 0, pfn, 6), 0);
    assert_int_equal(before - held(f), 5 * MEM_PAGE);
    assert_int_equal(*(uint8_t *)vd_mem(&f->m, 0xa03000), 0);
    assert_int_equal(*(uint8_t *)vd_mem(&f->m, 0xa01000), 0xaa);
    assert_int_equal(*(uint8_t *)vd_mem(&f->m, 0xb01000), 0xaa);
    vd_write(&f->m, f->v.config + 4, 4, 5);
    assert_int_equal(send_pfns(f, 1, pfn, 6), 0); /* deflate: nothing to do */
    assert_int_equal(vd_read(&f->m, f->v.config + 4, 4), 5);
}

static void many_pages(void **state)
{
    struct fixture *f = *state;
    uint32_t pfn[3000];
    uint64_t before;

    vd_start(&f->v, VERSION_1, 2, 16);
    dirty(f, 0x200000, 1500);
    dirty(f, VD_BUF, 3);
    before = held(f);
    for (unsigned i = 0; i < 3000; i++) /* scattered, each twice */
        pfn[i] = 0x200 + (i * 7) % 1500;
    assert_int_equal(send_pfns(f, 0, pfn, 3000), 0);
    assert_int_equal(before - held(f), 1500 * MEM_PAGE);
}

static void wild_pages(void **state)
{
    static const uint32_t bad[][2] = {
        {0x1000, 0xa00}, {0xfffff, 0xa00}, {UINT32_MAX, 0xa00}, {0xfee00, 0xfee00}};
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        vd_start(&f->v, VERSION_1, 2, 16);
        assert_int_equal(send_pfns(f, 0, bad[i], 2), -1);
        assert_int_equal(vd_reg(&f->v, 0x14, 1) & 0x40, 0x40);
    }
    vd_start(&f->v, VERSION_1, 2, 16); /* too many at once */
    assert_int_equal(vd_one(&f->v, 0, 0, 0x800000, false), -1);
    assert_int_equal(vd_reg(&f->v, 0x14, 1) & 0x40, 0x40);
    vd_start(&f->v, VERSION_1, 2, 16); /* a broken number of bytes, no bytes for a number */
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 3, false), 0);
    assert_int_equal(vd_one(&f->v, 0, VD_BUF, 4, true), 0);
}

static void reports(void **state)
{
    struct fixture *f = *state;
    struct balloon_stats st;
    uint64_t before;

    /* Without statistics the reporting queue is number 2, with them 3. */
    vd_start(&f->v, VERSION_1 | F_REPORT, 3, 16);
    dirty(f, 0xa00000, 16);
    before = held(f);
    assert_int_equal(vd_one(&f->v, 2, 0xa00000, 4 * MEM_PAGE, true), 0);
    assert_int_equal(before - held(f), 4 * MEM_PAGE);
    assert_int_equal(vd_one(&f->v, 2, 0xa08001, 3 * MEM_PAGE, true), 0); /* whole pages only */
    assert_int_equal(before - held(f), 6 * MEM_PAGE);
    assert_int_equal(vd_one(&f->v, 2, 0xa0c001, 100, true), 0);
    assert_int_equal(before - held(f), 6 * MEM_PAGE);
    vd_start(&f->v, VERSION_1 | F_REPORT | F_STATS, 4, 16);
    before = held(f);
    assert_int_equal(vd_one(&f->v, 3, 0xa0e000, MEM_PAGE, true), 0);
    assert_int_equal(before - held(f), MEM_PAGE);
    balloon_get(f->d, &st);
    assert_int_equal(st.reported, 7 * MEM_PAGE);
}

/* Writes statistics into the driver's buffer; their length. */
static uint32_t put_stats(struct fixture *f, uint64_t free_bytes)
{
    struct {
        uint16_t tag;
        uint64_t val;
    } __attribute__((packed)) s[] = {{4, free_bytes}, {5, 1000}, {6, 900}, {77, 1}, {0, 2}};

    memcpy(vd_mem(&f->m, VD_BUF), s, sizeof(s));
    return sizeof(s);
}

static void statistics(void **state)
{
    struct fixture *f = *state;
    struct balloon_stats st;

    balloon_get(f->d, &st);
    assert_int_equal(st.total, 0);
    vd_start(&f->v, VERSION_1 | F_STATS, 3, 16);
    balloon_get(f->d, &st); /* no buffer yet */
    assert_int_equal(vd_one(&f->v, 2, VD_BUF, put_stats(f, 500), false), -1); /* it is kept */
    balloon_get(f->d, &st); /* gives it back: new ones, please */
    assert_int_equal(st.free, 500);
    assert_int_equal(st.total, 1000);
    assert_int_equal(st.available, 900);
    assert_int_equal(vd_used(&f->v, 2, NULL), 0);
    assert_int_equal(irqs.last_data, 3);
    assert_int_equal(vd_one(&f->v, 2, VD_BUF, put_stats(f, 400), false), -1);
    balloon_get(f->d, &st);
    assert_int_equal(st.free, 400);
    assert_int_equal(vd_used(&f->v, 2, NULL), -1); /* not twice within a second */
    /* Reset with the buffer held. */
    vd_start(&f->v, VERSION_1 | F_STATS, 3, 16);
    balloon_get(f->d, &st);
    assert_int_equal(st.total, 0);
    assert_int_equal(vd_one(&f->v, 2, VD_BUF, 7, false), -1); /* half a statistic */
    assert_int_equal(vd_used(&f->v, 2, NULL), -1);
}

static void target(void **state)
{
    struct fixture *f = *state;
    struct balloon_stats st;
    uint32_t generation;

    vd_start(&f->v, VERSION_1, 2, 16);
    generation = vd_reg(&f->v, 0x15, 1);
    balloon_set_target(f->d, 5 * MEM_PAGE + 17);
    assert_int_equal(vd_read(&f->m, f->v.config, 4), 5);
    assert_int_not_equal(vd_reg(&f->v, 0x15, 1), generation);
    assert_int_equal(irqs.n, 1);
    assert_int_equal(irqs.last_data, 0);
    balloon_set_target(f->d, UINT64_MAX); /* no more than there is */
    assert_int_equal(vd_read(&f->m, f->v.config, 4), 4096);
    vd_write(&f->m, f->v.config, 4, 1); /* the target is not the guest's */
    assert_int_equal(vd_read(&f->m, f->v.config, 4), 4096);
    vd_write(&f->m, f->v.config + 4, 4, 3);
    balloon_get(f->d, &st);
    assert_int_equal(st.target, 16 << 20);
    assert_int_equal(st.actual, 3 * MEM_PAGE);
    for (unsigned len = 1; len <= 8; len *= 2) /* odd accesses of the configuration */
        for (unsigned off = 0; off < 16; off++) {
            vd_read(&f->m, f->v.config + off, len);
            if (off != 4 || len != 4)
                vd_write(&f->m, f->v.config + off, len, UINT64_MAX);
        }
    assert_int_equal(vd_read(&f->m, f->v.config + 4, 4), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(identifies, setup, teardown),
        cmocka_unit_test_setup_teardown(hugetlb_keeps_its_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(inflates, setup, teardown),
        cmocka_unit_test_setup_teardown(many_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(wild_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(reports, setup, teardown),
        cmocka_unit_test_setup_teardown(statistics, setup, teardown),
        cmocka_unit_test_setup_teardown(target, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
