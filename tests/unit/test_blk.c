/* SPDX-License-Identifier: MIT */
/*
 * virtio block driven as a guest drives it: random requests in arbitrary splits against a shadow
 * of the disk, every request a driver can get wrong, disks that fail, resets with I/O in flight.
 * All of it runs twice: with io_uring, then with that forbidden by a system call filter.
 */
#include "tests/leaks.h"
#include "tests/unit/vdriver.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/device/devices.h"
#include "vmm/device/pci.h"
#include "vmm/machine/irq.h"

enum {
    SLOTS = 12,              /* requests at a time; each has its own part of the disk */
    SLOT_DESCS = 20,         /* descriptors of a slot */
    SLOT_BYTES = 256 * 1024, /* guest memory of a slot, and disk too */
    SLOT_SECTORS = SLOT_BYTES / 512,
    DISK = SLOTS * SLOT_BYTES,
    SECTORS = DISK / 512,
    AT_DATA = 4096,       /* data in a slot's memory */
    AT_STATUS = 64,       /* status byte */
    DATA_MAX = 64 * 1024, /* bytes of a random request */
    PENDING = 0xee,       /* status before the device writes it */
};

#define F(x)   (1ull << (x))
#define F_BASE (F(32) | F(28) | F(29)) /* version 1, indirect, event index */
#define F_ALL                                                                                  \
    (F_BASE | F(VIRTIO_BLK_F_FLUSH) | F(VIRTIO_BLK_F_DISCARD) | F(VIRTIO_BLK_F_WRITE_ZEROES) | \
     F(VIRTIO_BLK_F_SEG_MAX) | F(VIRTIO_BLK_F_BLK_SIZE))

/* The machine of a test with one disk. */
struct rig {
    struct vd_machine m;
    struct vd v;
    struct virtio_dev *d;
    int fd;          /* our own descriptor of the image */
    uint8_t *shadow; /* what the disk should hold */
    unsigned fds;    /* open descriptors before */
    unsigned ndesc;  /* descriptors of the chain being built */
};

static unsigned irqs; /* messages seen */

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic;
    (void)addr;
    (void)data;
    irqs++;
}

/* An image on a real file system, or in memory (which has no ZERO_RANGE). */
static int image(bool memory)
{
    char name[] = "/var/tmp/blk-XXXXXX";
    int fd = memory ? memfd_create("disk", MFD_CLOEXEC) : mkstemp(name);

    assert_true(fd >= 0);
    if (!memory)
        unlink(name);
    assert_int_equal(ftruncate(fd, DISK), 0);
    return fd;
}

/* Makes machine, disk and driver; nq queues. */
static struct rig *rig_new(bool memory, bool readonly, unsigned nq, uint64_t features)
{
    struct rig *r = calloc(1, sizeof(*r));

    r->fds = open_fds();
    r->fd = image(memory);
    r->shadow = calloc(1, DISK);
    vd_machine_init(&r->m);
    assert_int_equal(blk_new(&r->d, &r->m.host, r->m.pci, 0, dup(r->fd), readonly, nq,
                             "serial-0123456789abcdefgh", NULL),
                     0);
    vd_find(&r->v, &r->m, r->d->pci.slot);
    vd_start(&r->v, features, nq, 256);
    return r;
}

static void rig_free(struct rig *r)
{
    virtio_dev_free(r->d);
    vd_machine_exit(&r->m);
    close(r->fd);
    assert_int_equal(open_fds(), r->fds);
    free(r->shadow);
    free(r);
}

/* ---- requests ---- */

/* Guest memory of a slot. */
static uint64_t slot_gpa(unsigned slot)
{
    return VD_BUF + (uint64_t)slot * SLOT_BYTES;
}

/* Adds len bytes at gpa to the chain of a slot, in up to `pieces` descriptors. */
static void add(struct rig *r, unsigned q, unsigned slot, uint64_t gpa, uint32_t len,
                bool write, unsigned pieces)
{
    while (len) {
        uint32_t part = pieces > 1 && len > 1 ? 1 + (uint32_t)rand() % (len - 1) : len;

        vd_desc(r->v.m, vd_rings(q), slot * SLOT_DESCS + r->ndesc, gpa, part,
                VD_NEXT | (write ? VD_WRITE : 0), (uint16_t)(slot * SLOT_DESCS + r->ndesc + 1));
        r->ndesc++;
        gpa += part;
        len -= part;
        pieces -= pieces > 1;
    }
}

/* Ends the chain of a slot and makes it available. */
static void finish(struct rig *r, unsigned q, unsigned slot)
{
    uint8_t *last = vd_mem(&r->m, vd_rings(q) + 16ull * (slot * SLOT_DESCS + r->ndesc - 1));

    last[12] &= (uint8_t)~VD_NEXT;
    vd_avail(&r->v, q, (uint16_t)(slot * SLOT_DESCS));
    r->ndesc = 0;
}

/* Puts header and status of a request into a slot's memory. */
static void header(struct rig *r, unsigned slot, uint32_t type, uint64_t sector)
{
    struct virtio_blk_outhdr h = {.type = type, .sector = sector};

    memcpy(vd_mem(&r->m, slot_gpa(slot)), &h, sizeof(h));
    *(uint8_t *)vd_mem(&r->m, slot_gpa(slot) + AT_STATUS) = PENDING;
}

/* Makes a whole request available: out bytes and in bytes of the slot's data, in pieces. */
static void submit(struct rig *r, unsigned q, unsigned slot, uint32_t type, uint64_t sector,
                   uint32_t out, uint32_t in, unsigned pieces)
{
    uint64_t at = slot_gpa(slot);

    header(r, slot, type, sector);
    add(r, q, slot, at, 16, false, pieces > 2 ? 2 : 1);
    add(r, q, slot, at + AT_DATA, out, false, pieces);
    add(r, q, slot, at + AT_DATA, in, true, pieces);
    add(r, q, slot, at + AT_STATUS, 1, true, 1);
    finish(r, q, slot);
}

/* Waits for the next ended request of a queue; its slot. */
static unsigned ended(struct rig *r, unsigned q, uint32_t *len)
{
    int head = -1;

    for (int i = 0; i < 5000 && head < 0; i++) {
        head = vd_used(&r->v, q, len);
        if (head < 0)
            evloop_once(&r->m.io, 2);
    }
    assert_true(head >= 0);
    return (unsigned)head / SLOT_DESCS;
}

static uint8_t status(struct rig *r, unsigned slot)
{
    return *(uint8_t *)vd_mem(&r->m, slot_gpa(slot) + AT_STATUS);
}

static uint8_t *data(struct rig *r, unsigned slot)
{
    return vd_mem(&r->m, slot_gpa(slot) + AT_DATA);
}

/* One request, from start to end; its status. */
static int one(struct rig *r, uint32_t type, uint64_t sector, uint32_t out, uint32_t in)
{
    uint32_t len;

    submit(r, 0, 0, type, sector, out, in, 1);
    vd_kick(&r->v, 0);
    assert_int_equal(ended(r, 0, &len), 0);
    assert_true(len >= 1 && len <= in + 1);
    return status(r, 0);
}

/* One request of ranges. */
static int ranges(struct rig *r, uint32_t type, const struct virtio_blk_discard_write_zeroes *s,
                  unsigned n)
{
    memcpy(data(r, 0), s, n * sizeof(*s));
    return one(r, type, 0, n * (uint32_t)sizeof(*s), 0);
}

/* ---- random ---- */

/* What a slot is doing. */
struct job {
    uint32_t type;   /* VIRTIO_BLK_T_*; UINT32_MAX: nothing */
    uint64_t sector; /* first */
    uint32_t len;    /* bytes */
};

/* Starts something random in a slot, and does it to the shadow. */
static void random_start(struct rig *r, unsigned q, unsigned slot, struct job *j)
{
    static const uint32_t types[] = {
        VIRTIO_BLK_T_IN,  VIRTIO_BLK_T_IN,    VIRTIO_BLK_T_OUT,     VIRTIO_BLK_T_OUT,
        VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
    uint32_t at = (uint32_t)rand() % SLOT_SECTORS, n = 1 + (uint32_t)rand() % (DATA_MAX / 512);
    unsigned pieces = 1 + (unsigned)rand() % 8;
    uint8_t *shadow;

    n = at + n > SLOT_SECTORS ? SLOT_SECTORS - at : n;
    *j = (struct job){types[rand() % 8], slot * SLOT_SECTORS + at, n * 512};
    shadow = r->shadow + j->sector * 512;
    if (j->type == VIRTIO_BLK_T_OUT) {
        for (uint32_t i = 0; i < j->len; i++)
            data(r, slot)[i] = shadow[i] = (uint8_t)rand();
        submit(r, q, slot, j->type, j->sector, j->len, 0, pieces);
    } else if (j->type == VIRTIO_BLK_T_IN) {
        memset(data(r, slot), 0x5a, j->len);
        submit(r, q, slot, j->type, j->sector, 0, j->len, pieces);
    } else if (j->type == VIRTIO_BLK_T_FLUSH) {
        submit(r, q, slot, j->type, 0, 0, 0, 1);
    } else {
        struct virtio_blk_discard_write_zeroes s[2] = {
            {.sector = j->sector, .num_sectors = n / 2},
            {.sector = j->sector + n / 2, .num_sectors = n - n / 2}};

        s[0].flags = s[1].flags = j->type == VIRTIO_BLK_T_WRITE_ZEROES && rand() & 1;
        memset(shadow, 0, j->len);
        memcpy(data(r, slot), s, sizeof(s));
        submit(r, q, slot, j->type, 0, sizeof(s), 0, pieces);
    }
}

/* Checks what a slot has done. */
static void random_end(struct rig *r, unsigned slot, struct job *j, uint32_t len)
{
    assert_int_equal(status(r, slot), VIRTIO_BLK_S_OK);
    if (j->type == VIRTIO_BLK_T_IN) {
        assert_int_equal(len, j->len + 1);
        assert_memory_equal(data(r, slot), r->shadow + j->sector * 512, j->len);
    } else {
        assert_int_equal(len, 1);
    }
    j->type = UINT32_MAX;
}

/* Thousands of requests, many at once, on two queues; the image equals the shadow after. */
static void random_io(bool memory, uint64_t features)
{
    struct rig *r = rig_new(memory, false, 2, features);
    struct job jobs[SLOTS];
    uint8_t *all = malloc(DISK);
    struct dev_stats st;
    unsigned began = 0;

    srand(7);
    irqs = 0;
    for (unsigned i = 0; i < SLOTS; i++)
        jobs[i].type = UINT32_MAX;
    for (unsigned turn = 0; turn < 400; turn++) {
        for (unsigned s = 0; s < SLOTS; s++)
            if (rand() % 3) {
                random_start(r, s % 2, s, &jobs[s]);
                began++;
            }
        vd_kick(&r->v, 0);
        vd_kick(&r->v, 1);
        for (unsigned s = 0; s < SLOTS; s++) {
            uint32_t len;

            if (jobs[s].type != UINT32_MAX) {
                unsigned got = ended(r, s % 2, &len);

                assert_int_equal(got % 2, s % 2);
                random_end(r, got, &jobs[got], len);
                if (got != s)
                    s -= jobs[s].type != UINT32_MAX; /* s itself is still under way */
            }
        }
    }
    assert_int_equal(pread(r->fd, all, DISK, 0), DISK);
    assert_memory_equal(all, r->shadow, DISK);
    virtio_dev_stats(r->d, &st);
    assert_int_equal(st.requests, began);
    assert_int_equal(st.errors, 0);
    assert_true(irqs > 0);
    free(all);
    rig_free(r);
}

static void test_random_file(void **state)
{
    (void)state;
    random_io(false, F_ALL);
}

static void test_random_memory(void **state)
{
    (void)state;
    random_io(true, F_ALL);
}

/* Without FLUSH every write is durable at once. */
static void test_random_write_through(void **state)
{
    (void)state;
    random_io(true, F_ALL & ~F(VIRTIO_BLK_F_FLUSH));
}

/* ---- layout and limits ---- */

/* Configuration space and features. */
static void test_config(void **state)
{
    struct rig *r = rig_new(true, false, 4, F_ALL | F(VIRTIO_BLK_F_CONFIG_WCE));
    uint64_t f = vd_features(&r->v);

    (void)state;
    assert_int_equal(vd_read(&r->m, r->v.config, 8), SECTORS);
    assert_int_equal(vd_read(&r->m, r->v.config + 12, 4), 126);
    assert_int_equal(vd_read(&r->m, r->v.config + 20, 4), 512);
    assert_int_equal(vd_read(&r->m, r->v.config + 34, 2), 4);
    assert_false(f & (F(VIRTIO_BLK_F_RO) | F(VIRTIO_BLK_F_SIZE_MAX)));
    assert_true(f & F(VIRTIO_BLK_F_MQ));
    assert_int_equal(vd_read(&r->m, r->v.config + 32, 1), 1);
    vd_write(&r->m, r->v.config + 32, 1, 0);
    assert_int_equal(vd_read(&r->m, r->v.config + 32, 1), 0);
    vd_write(&r->m, r->v.config, 8, 1); /* read-only field */
    assert_int_equal(vd_read(&r->m, r->v.config, 8), SECTORS);
    assert_int_equal(one(r, VIRTIO_BLK_T_OUT, 0, 512, 0), VIRTIO_BLK_S_OK);
    vd_set(&r->v, 0x14, 1, 0); /* reset: write-back again */
    assert_int_equal(vd_read(&r->m, r->v.config + 32, 1), 1);
    rig_free(r);
}

/* Header and status inside the data's descriptors, byte-wise descriptors, and too many. */
static void test_layouts(void **state)
{
    struct rig *r = rig_new(true, false, 1, F_ALL);
    uint64_t at = slot_gpa(0);
    uint32_t len;

    (void)state;
    memset(r->shadow, 0x77, 512);
    assert_int_equal(pwrite(r->fd, r->shadow, 512, 0), 512);
    header(r, 0, VIRTIO_BLK_T_IN, 0); /* data and status in one descriptor */
    add(r, 0, 0, at, 16, false, 1);
    add(r, 0, 0, at + AT_DATA, 513, true, 1);
    data(r, 0)[512] = PENDING;
    finish(r, 0, 0);
    vd_kick(&r->v, 0);
    ended(r, 0, &len);
    assert_int_equal(len, 513);
    assert_int_equal(data(r, 0)[512], VIRTIO_BLK_S_OK);
    assert_memory_equal(data(r, 0), r->shadow, 512);

    header(r, 0, VIRTIO_BLK_T_OUT, 1); /* header and data in one descriptor */
    memset(vd_mem(&r->m, at + 16), 0x33, 512);
    add(r, 0, 0, at, 16 + 512, false, 1);
    add(r, 0, 0, at + AT_DATA, 1, true, 1);
    finish(r, 0, 0);
    vd_kick(&r->v, 0);
    ended(r, 0, &len);
    assert_int_equal(*data(r, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(pread(r->fd, r->shadow, 512, 512), 512);
    for (int i = 0; i < 512; i++)
        assert_int_equal(r->shadow[i], 0x33);

    for (unsigned segs = 126; segs <= 128; segs++) { /* one indirect table, 512 bytes each */
        uint64_t table = vd_rings(0) + VD_INDIRECT;

        header(r, 0, VIRTIO_BLK_T_IN, 0);
        vd_desc(&r->m, table, 0, at, 16, VD_NEXT, 1);
        for (unsigned i = 1; i <= segs; i++)
            vd_desc(&r->m, table, i, at + AT_DATA + 512 * (segs - i), 512, VD_NEXT | VD_WRITE,
                    (uint16_t)(i + 1));
        vd_desc(&r->m, table, segs + 1, at + AT_STATUS, 1, VD_WRITE, 0);
        vd_desc(&r->m, vd_rings(0), 0, table, 16 * (segs + 2), VD_IND, 0);
        vd_avail(&r->v, 0, 0);
        vd_kick(&r->v, 0);
        ended(r, 0, &len);
        assert_int_equal(status(r, 0), segs > 126 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
        assert_int_equal(len, segs > 126 ? 1 : segs * 512 + 1);
    }
    rig_free(r);
}

/* What a driver can get wrong fails that request and nothing else. */
static void test_errors(void **state)
{
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t out, in;
        int want;
    } t[] = {
        {VIRTIO_BLK_T_IN, 0, 0, 0, VIRTIO_BLK_S_OK},
        {VIRTIO_BLK_T_IN, SECTORS - 1, 0, 512, VIRTIO_BLK_S_OK},
        {VIRTIO_BLK_T_IN, SECTORS, 0, 512, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, SECTORS - 1, 0, 1024, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, UINT64_MAX, 0, 512, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, UINT64_MAX / 512, 0, 1024, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, 1ull << 55, 0, 512, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, 0, 0, 511, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_IN, 0, 0, 513, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, SECTORS, 512, 0, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, SECTORS - 1, 1024, 0, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, UINT64_MAX, 512, 0, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, 0, 100, 0, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_OUT, SECTORS, 0, 0, VIRTIO_BLK_S_OK},
        {VIRTIO_BLK_T_DISCARD, 0, 0, 0, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_DISCARD, 0, 15, 0, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_DISCARD, 0, 17 * 16, 0, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_WRITE_ZEROES, 0, 24, 0, VIRTIO_BLK_S_IOERR},
        {VIRTIO_BLK_T_SECURE_ERASE, 0, 16, 0, VIRTIO_BLK_S_UNSUPP},
        {2, 0, 512, 0, VIRTIO_BLK_S_UNSUPP},
        {UINT32_MAX, 0, 0, 512, VIRTIO_BLK_S_UNSUPP},
    };
    struct rig *r = rig_new(true, false, 1, F_ALL);
    struct dev_stats st;

    (void)state;
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++)
        assert_int_equal(one(r, t[i].type, t[i].sector, t[i].out, t[i].in), t[i].want);
    header(r, 0, VIRTIO_BLK_T_IN, 0); /* a header cut short */
    add(r, 0, 0, slot_gpa(0), 15, false, 1);
    add(r, 0, 0, slot_gpa(0) + AT_STATUS, 1, true, 1);
    finish(r, 0, 0);
    vd_kick(&r->v, 0);
    ended(r, 0, NULL);
    assert_int_equal(status(r, 0), VIRTIO_BLK_S_IOERR);
    virtio_dev_stats(r->d, &st);
    assert_int_equal(st.requests, sizeof(t) / sizeof(t[0]) + 1);
    assert_int_equal(lseek(r->fd, 0, SEEK_END), DISK);
    rig_free(r);
}

/* Ranges of discard and write-zeroes: flags, sizes, ends; all or nothing. */
static void test_ranges(void **state)
{
    typedef struct virtio_blk_discard_write_zeroes range;
    struct rig *r = rig_new(true, false, 1, F_ALL);
    range ok = {.sector = 8, .num_sectors = 8}, unmap = ok, odd = ok, far = ok, huge = ok;
    range both[2], none[16] = {{0}};
    uint8_t got[8192];

    (void)state;
    unmap.flags = 1;
    odd.flags = 2;
    far.sector = SECTORS - 7;
    huge.num_sectors = UINT32_MAX;
    assert_int_equal(ranges(r, VIRTIO_BLK_T_DISCARD, &unmap, 1), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(ranges(r, VIRTIO_BLK_T_DISCARD, &odd, 1), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(ranges(r, VIRTIO_BLK_T_WRITE_ZEROES, &odd, 1), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(ranges(r, VIRTIO_BLK_T_DISCARD, &far, 1), VIRTIO_BLK_S_IOERR);
    assert_int_equal(ranges(r, VIRTIO_BLK_T_WRITE_ZEROES, &huge, 1), VIRTIO_BLK_S_IOERR);
    assert_int_equal(ranges(r, VIRTIO_BLK_T_DISCARD, none, 16), VIRTIO_BLK_S_OK);
    memset(got, 0x99, sizeof(got));
    assert_int_equal(pwrite(r->fd, got, sizeof(got), 4096), sizeof(got));
    both[0] = ok;
    both[1] = far;
    assert_int_equal(ranges(r, VIRTIO_BLK_T_WRITE_ZEROES, both, 2), VIRTIO_BLK_S_IOERR);
    assert_int_equal(pread(r->fd, got, sizeof(got), 4096), sizeof(got));
    assert_int_equal(got[0], 0x99); /* the good one was not done */
    assert_int_equal(ranges(r, VIRTIO_BLK_T_WRITE_ZEROES, &ok, 1), VIRTIO_BLK_S_OK);
    assert_int_equal(pread(r->fd, got, sizeof(got), 4096), sizeof(got));
    assert_int_equal(got[0] | got[4095], 0);
    assert_int_equal(got[4096], 0x99);
    ok = (range){.num_sectors = SECTORS}; /* longer than the buffer of zeros */
    assert_int_equal(ranges(r, VIRTIO_BLK_T_WRITE_ZEROES, &ok, 1), VIRTIO_BLK_S_OK);
    assert_int_equal(pread(r->fd, got, sizeof(got), 4096), sizeof(got));
    assert_int_equal(got[4096], 0);
    rig_free(r);
    r = rig_new(true, false, 1, F_BASE); /* not agreed on */
    assert_int_equal(ranges(r, VIRTIO_BLK_T_DISCARD, &ok, 1), VIRTIO_BLK_S_UNSUPP);
    rig_free(r);
}

/* A read-only disk refuses all that writes and still reads. */
static void test_readonly(void **state)
{
    struct rig *r = rig_new(true, true, 1, F_BASE);
    struct virtio_blk_discard_write_zeroes s = {.num_sectors = 1};

    (void)state;
    assert_true(vd_features(&r->v) & F(VIRTIO_BLK_F_RO));
    assert_false(vd_features(&r->v) & F(VIRTIO_BLK_F_DISCARD));
    assert_int_equal(one(r, VIRTIO_BLK_T_OUT, 0, 512, 0), VIRTIO_BLK_S_IOERR);
    assert_int_equal(ranges(r, VIRTIO_BLK_T_WRITE_ZEROES, &s, 1), VIRTIO_BLK_S_IOERR);
    assert_int_equal(one(r, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
    assert_int_equal(one(r, VIRTIO_BLK_T_IN, 0, 0, 512), VIRTIO_BLK_S_OK);
    rig_free(r);
}

/* The identity string, also into a short buffer. */
static void test_serial(void **state)
{
    struct rig *r = rig_new(true, false, 1, F_BASE);

    (void)state;
    assert_int_equal(one(r, VIRTIO_BLK_T_GET_ID, 0, 0, 20), VIRTIO_BLK_S_OK);
    assert_memory_equal(data(r, 0), "serial-0123456789abc", 20);
    memset(data(r, 0), 0, 32);
    assert_int_equal(one(r, VIRTIO_BLK_T_GET_ID, 0, 0, 6), VIRTIO_BLK_S_OK);
    assert_memory_equal(data(r, 0), "serial\0", 7);
    assert_int_equal(one(r, VIRTIO_BLK_T_GET_ID, 0, 0, 100), VIRTIO_BLK_S_OK);
    rig_free(r);
}

/* ---- failures ---- */

/* The image becomes shorter under the guest: errors, and good again when it is back. */
static void test_vanishes(void **state)
{
    struct rig *r = rig_new(true, false, 1, F_ALL);

    (void)state;
    assert_int_equal(ftruncate(r->fd, 4096), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(one(r, VIRTIO_BLK_T_IN, 100, 0, 512), VIRTIO_BLK_S_IOERR);
    assert_int_equal(one(r, VIRTIO_BLK_T_IN, 7, 0, 1024), VIRTIO_BLK_S_IOERR); /* across */
    assert_int_equal(one(r, VIRTIO_BLK_T_IN, 7, 0, 512), VIRTIO_BLK_S_OK);
    assert_int_equal(ftruncate(r->fd, DISK), 0);
    assert_int_equal(one(r, VIRTIO_BLK_T_IN, 100, 0, 512), VIRTIO_BLK_S_OK);
    rig_free(r);
}

/* A request without room for its status stops the device; a reset mends it. */
static void test_no_status(void **state)
{
    struct rig *r = rig_new(true, false, 1, F_ALL);

    (void)state;
    header(r, 0, VIRTIO_BLK_T_FLUSH, 0);
    add(r, 0, 0, slot_gpa(0), 16, false, 1);
    finish(r, 0, 0);
    vd_kick(&r->v, 0);
    assert_true(vd_reg(&r->v, 0x14, 1) & 0x40);
    vd_start(&r->v, F_ALL, 1, 256);
    assert_int_equal(one(r, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
    rig_free(r);
}

/* Descriptors that cannot be buffers stop the device with I/O in flight, and it comes back. */
static void test_broken_in_flight(void **state)
{
    struct rig *r = rig_new(false, false, 1, F_ALL & ~F(VIRTIO_BLK_F_FLUSH));

    (void)state;
    for (unsigned s = 0; s < 4; s++)
        submit(r, 0, s, VIRTIO_BLK_T_OUT, s * SLOT_SECTORS, DATA_MAX, 0, 3);
    vd_desc(&r->m, vd_rings(0), 4 * SLOT_DESCS, ~0xfffull, 4096, 0, 0);
    vd_avail(&r->v, 0, 4 * SLOT_DESCS);
    vd_kick(&r->v, 0);
    assert_true(vd_reg(&r->v, 0x14, 1) & 0x40);
    for (int i = 0; i < 20; i++)
        evloop_once(&r->m.io, 1);
    vd_start(&r->v, F_ALL, 1, 256);
    assert_int_equal(one(r, VIRTIO_BLK_T_FLUSH, 0, 0, 0), VIRTIO_BLK_S_OK);
    rig_free(r);
}

/* After a reset the device never touches guest memory again, whatever was in flight. */
static void test_reset_in_flight(void **state)
{
    struct rig *r = rig_new(false, false, 1, F_ALL & ~F(VIRTIO_BLK_F_FLUSH));
    uint8_t *before = malloc(SLOTS * SLOT_BYTES);

    (void)state;
    for (int round = 0; round < 20; round++) {
        for (unsigned s = 0; s < SLOTS; s++)
            submit(r, 0, s, s % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, s * SLOT_SECTORS,
                   s % 2 ? 0 : DATA_MAX, s % 2 ? DATA_MAX : 0, 4);
        vd_write(&r->m, r->v.notify, 2, 0);
        evloop_once(&r->m.io, 0);
        vd_set(&r->v, 0x14, 1, 0);
        for (unsigned s = 0; s < SLOTS; s++) {
            memset(vd_mem(&r->m, slot_gpa(s)), round, SLOT_BYTES);
            memcpy(before + s * SLOT_BYTES, vd_mem(&r->m, slot_gpa(s)), SLOT_BYTES);
        }
        for (int i = 0; i < 3; i++)
            evloop_once(&r->m.io, 1);
        for (unsigned s = 0; s < SLOTS; s++)
            assert_memory_equal(before + s * SLOT_BYTES, vd_mem(&r->m, slot_gpa(s)),
                                SLOT_BYTES);
        vd_start(&r->v, F_ALL & ~F(VIRTIO_BLK_F_FLUSH), 1, 256);
    }
    for (unsigned s = 0; s < SLOTS; s++) /* and freed with I/O in flight */
        submit(r, 0, s, VIRTIO_BLK_T_OUT, s * SLOT_SECTORS, DATA_MAX, 0, 4);
    vd_write(&r->m, r->v.notify, 2, 0);
    evloop_once(&r->m.io, 0);
    free(before);
    rig_free(r);
}

/* Rings are shared with a driver that takes no locks: not a race of ours. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:submit\nrace:vd_queue\n";
}

static void *io0(void *arg)
{
    evloop_run(arg);
    return NULL;
}

/* The driver on one thread, the loop on another; resets at any moment. */
static void test_threads(void **state)
{
    struct rig *r = rig_new(false, false, 2, F_ALL);
    pthread_t t;

    (void)state;
    srand(3);
    pthread_create(&t, NULL, io0, &r->m.io);
    for (int round = 0; round < 100; round++) {
        for (unsigned s = 0; s < SLOTS; s++)
            submit(r, s % 2, s, s % 3 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_FLUSH, s * SLOT_SECTORS,
                   s % 3 ? DATA_MAX : 0, 0, 4);
        vd_write(&r->m, r->v.notify, 2, 0);
        vd_write(&r->m, r->v.notify + r->v.notify_mul, 2, 1);
        usleep((unsigned)rand() % 500);
        vd_start(&r->v, F_ALL, 2, 256);
    }
    for (unsigned s = 0; s < SLOTS; s++) /* the thread that queued them ends before they do */
        submit(r, 0, s, VIRTIO_BLK_T_FLUSH, 0, 0, 0, 1);
    vd_write(&r->m, r->v.notify, 2, 0);
    usleep(200);
    evloop_stop(&r->m.io);
    pthread_join(t, NULL);
    rig_free(r);
}

/* The same head made available over and over: more requests at once than any driver may have. */
static void test_flood(void **state)
{
    struct rig *r = rig_new(true, false, 1, F_ALL);
    unsigned got = 0, asked = 0;

    (void)state;
    submit(r, 0, 0, VIRTIO_BLK_T_FLUSH, 0, 0, 0, 1);
    asked++;
    for (int turn = 0; turn < 20; turn++) {
        for (unsigned i = turn ? 0 : 1; i < 256; i++, asked++)
            vd_avail(&r->v, 0, 0);
        vd_write(&r->m, r->v.notify, 2, 0);
        for (int i = 0; i < 2000 && got < asked; i++) {
            evloop_once(&r->m.io, got < asked);
            while (vd_used(&r->v, 0, NULL) >= 0)
                got++;
        }
        assert_int_equal(got, asked);
    }
    rig_free(r);
}

/* Random garbage in the descriptors: the device breaks or serves, the process lives. */
static void test_garbage(void **state)
{
    struct rig *r = rig_new(true, false, 1, F_ALL);

    (void)state;
    srand(11);
    for (int round = 0; round < 600; round++) {
        for (unsigned i = 0; i < 32; i++)
            vd_desc(&r->m, vd_rings(0), i,
                    rand() % 20 ? VD_BUF + (uint64_t)(rand() % 4096) * 16 : (uint64_t)rand(),
                    (uint32_t)(rand() % 8 ? rand() % 2048 : rand()), (uint16_t)(rand() % 4),
                    (uint16_t)(rand() % 32));
        for (unsigned i = 0; i < 4096; i++)
            ((uint8_t *)vd_mem(&r->m, VD_BUF))[i * 16] = (uint8_t)(rand() % 15);
        for (unsigned i = 0; i < 8; i++)
            vd_avail(&r->v, 0, (uint16_t)(rand() % 32));
        vd_kick(&r->v, 0);
        if (vd_reg(&r->v, 0x14, 1) & 0x40 || round % 10 == 0)
            vd_start(&r->v, F_ALL, 1, 256);
    }
    rig_free(r);
}

/* Set-up that cannot work says so, and leaves nothing behind. */
static void test_bad_setup(void **state)
{
    struct vd_machine m;
    struct virtio_dev *d = NULL;
    struct err err = {0};
    unsigned fds;
    int p[2], fd;

    (void)state;
    vd_machine_init(&m);
    fds = open_fds();
    assert_int_equal(pipe(p), 0);
    assert_int_equal(blk_new(&d, &m.host, m.pci, 3, p[0], true, 1, NULL, &err), -ENOTBLK);
    assert_int_equal(err.status, EXIT_RESOURCE);
    assert_non_null(strstr(err.text, "disk 3"));
    close(p[1]);
    err = (struct err){0};
    fd = open("/proc/self/exe", O_RDONLY);
    assert_int_equal(blk_new(&d, &m.host, m.pci, 0, fd, false, 1, NULL, &err), -EACCES);
    assert_non_null(strstr(err.text, "readonly"));
    assert_int_equal(open_fds(), fds);
    vd_machine_exit(&m);
}

/* A size that is not whole sectors is rounded down. */
static void test_odd_size(void **state)
{
    struct vd_machine m;
    struct virtio_dev *d;
    struct vd v;
    int fd = memfd_create("odd", 0);

    (void)state;
    assert_int_equal(ftruncate(fd, 5 * 512 + 100), 0);
    vd_machine_init(&m);
    assert_int_equal(blk_new(&d, &m.host, m.pci, 0, fd, false, 1, NULL, NULL), 0);
    vd_find(&v, &m, d->pci.slot);
    assert_int_equal(vd_read(&m, v.config, 8), 5);
    virtio_dev_free(d);
    vd_machine_exit(&m);
}

/* A file system without holes: discard is told to be unsupported, zeroing writes. */
static void test_no_fallocate(void **state)
{
    struct rig *r = rig_new(true, false, 1, F_ALL);
    struct virtio_blk_discard_write_zeroes s = {.sector = 1, .num_sectors = 3};
    uint8_t got[2048];

    (void)state;
    memset(got, 0x99, sizeof(got));
    assert_int_equal(pwrite(r->fd, got, sizeof(got), 0), sizeof(got));
    assert_int_equal(ranges(r, VIRTIO_BLK_T_DISCARD, &s, 1), VIRTIO_BLK_S_UNSUPP);
    s.flags = 1;
    assert_int_equal(ranges(r, VIRTIO_BLK_T_WRITE_ZEROES, &s, 1), VIRTIO_BLK_S_OK);
    assert_int_equal(pread(r->fd, got, sizeof(got), 0), sizeof(got));
    assert_int_equal(got[511], 0x99);
    assert_int_equal(got[512] | got[2047], 0);
    rig_free(r);
}

/* From now on a system call fails with errnum. */
static void forbid(long nr, unsigned errnum)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errnum),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog p = {.len = sizeof(f) / sizeof(f[0]), .filter = f};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &p))
        perror("seccomp");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_file),
        cmocka_unit_test(test_random_memory),
        cmocka_unit_test(test_random_write_through),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_readonly),
        cmocka_unit_test(test_serial),
        cmocka_unit_test(test_vanishes),
        cmocka_unit_test(test_no_status),
        cmocka_unit_test(test_broken_in_flight),
        cmocka_unit_test(test_reset_in_flight),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_bad_setup),
        cmocka_unit_test(test_odd_size),
    };
    const struct CMUnitTest last[] = {cmocka_unit_test(test_no_fallocate)};
    int failed;

    log_init(LOG_ERROR, "test");
    failed = cmocka_run_group_tests_name("blk", tests, NULL, NULL);
    forbid(SYS_io_uring_setup, EPERM);
    failed += cmocka_run_group_tests_name("blk without io_uring", tests, NULL, NULL);
    forbid(SYS_fallocate, EOPNOTSUPP);
    failed += cmocka_run_group_tests_name("blk without fallocate", last, NULL, NULL);
    return failed;
}
