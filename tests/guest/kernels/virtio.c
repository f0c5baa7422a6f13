/* SPDX-License-Identifier: MIT */
/*
 * Drives virtio entropy and block through PCI by hand: a request that works, then one malformed
 * thing after another.  Each must stop that device (NEEDS_RESET) and nothing else; after a reset
 * it must work again, with its data right.
 * Options: sectors=N (size of the disk; its sector i is filled with the byte i + 1).
 */
#include "guest.h"

enum {
    ECAM = (int)0xe0000000,
    ID_BLK = 0x1042,
    ID_RNG = 0x1044,
    SIZE = 8, /* queue size we choose */
    DESC_NEXT = 1,
    DESC_WRITE = 2,
    DESC_INDIRECT = 4,
    S_NEEDS_RESET = 0x40,
};

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

/* One queue in memory; what the attacks spoil. */
static struct {
    struct desc desc[SIZE] __attribute__((aligned(16)));
    struct {
        uint16_t flags, idx, ring[SIZE], event;
    } avail;
    struct {
        uint16_t flags, idx;
        struct {
            uint32_t id, len;
        } ring[SIZE];
        uint16_t event;
    } used __attribute__((aligned(4)));
} q __attribute__((aligned(4096)));

static uint8_t data[4096] __attribute__((aligned(4096)));
static struct desc table[SIZE] __attribute__((aligned(16)));
static struct {
    uint32_t type, reserved;
    uint64_t sector;
} request;
static uint8_t status;

/* A device found on the bus. */
struct dev {
    uint32_t cfg;    /* its configuration space */
    uint32_t common; /* common configuration */
    uint32_t notify; /* doorbell of queue 0 */
    bool blk;        /* block, else entropy */
};

static uint8_t read8(uint32_t at)
{
    return *(volatile uint8_t *)at;
}
static uint16_t read16(uint32_t at)
{
    return *(volatile uint16_t *)at;
}
static void write8(uint32_t at, uint8_t v)
{
    *(volatile uint8_t *)at = v;
}
static void write16(uint32_t at, uint16_t v)
{
    *(volatile uint16_t *)at = v;
}

/* Finds a device and its structures by their capabilities. */
static bool find(struct dev *d, uint16_t id)
{
    for (uint32_t slot = 0; slot < 32; slot++) {
        uint32_t cfg = (uint32_t)ECAM + (slot << 15);

        if (mem32(cfg) != ((uint32_t)id << 16 | 0x1af4))
            continue;
        *d = (struct dev){.cfg = cfg, .blk = id == ID_BLK};
        write16(cfg + 4, 6);
        for (uint32_t cap = read8(cfg + 0x34); cap; cap = read8(cfg + cap + 1)) {
            uint32_t at =
                (mem32(cfg + 0x10 + 4 * read8(cfg + cap + 4)) & ~15u) + mem32(cfg + cap + 8);

            if (read8(cfg + cap) != 9)
                continue;
            if (read8(cfg + cap + 3) == 1)
                d->common = at;
            if (read8(cfg + cap + 3) == 2)
                d->notify = at;
        }
        return d->common && d->notify;
    }
    return false;
}

/* Reset, features (version 1 and indirect descriptors), an empty queue 0, ready. */
static void set_up(const struct dev *d)
{
    uint32_t c = d->common;

    write8(c + 0x14, 0);
    CHECK_EQ(read8(c + 0x14), 0);
    write8(c + 0x14, 1);
    write8(c + 0x14, 3);
    set_mem32(c + 8, 0);
    set_mem32(c + 12, 1u << 28);
    set_mem32(c + 8, 1);
    set_mem32(c + 12, 1);
    write8(c + 0x14, 11);
    CHECK_EQ(read8(c + 0x14), 11);
    memset(&q, 0, sizeof(q));
    write16(c + 0x16, 0);
    write16(c + 0x18, SIZE);
    set_mem32(c + 0x20, (uint32_t)q.desc);
    set_mem32(c + 0x24, 0);
    set_mem32(c + 0x28, (uint32_t)&q.avail);
    set_mem32(c + 0x2c, 0);
    set_mem32(c + 0x30, (uint32_t)&q.used);
    set_mem32(c + 0x34, 0);
    write16(c + 0x1c, 1);
    CHECK_EQ(read16(c + 0x1c), 1);
    write8(c + 0x14, 15);
    CHECK_EQ(read8(c + 0x14), 15);
}

/* Puts a descriptor. */
static void put(unsigned i, const void *p, uint32_t len, uint16_t flags, uint16_t next)
{
    q.desc[i] = (struct desc){(uint32_t)p, len, flags, next};
}

/* A well-formed request at descriptor 0: 64 random bytes, or a sector. */
static void build(const struct dev *d, uint32_t sector)
{
    if (!d->blk) {
        put(0, data, 64, DESC_WRITE, 0);
        return;
    }
    request.type = 0;
    request.sector = sector;
    status = 0xee;
    put(0, &request, 16, DESC_NEXT, 1);
    put(1, data, 512, DESC_NEXT | DESC_WRITE, 2);
    put(2, &status, 1, DESC_WRITE, 0);
}

/* Makes head available and rings. */
static void submit(const struct dev *d, uint16_t head)
{
    q.avail.ring[q.avail.idx % SIZE] = head;
    __asm__ volatile("" ::: "memory");
    q.avail.idx++;
    write16(d->notify, 0);
}

/* Waits for the used index. */
static bool completed(uint16_t idx)
{
    uint64_t start = rdtsc();

    while (*(volatile uint16_t *)&q.used.idx != idx)
        if (elapsed_us(start) > 3000000)
            return false;
    return true;
}

/* Requests that must work, with the right data. */
static void work(const struct dev *d)
{
    for (uint16_t i = 1; i <= 10; i++) {
        uint32_t sum = 0, sector = i % option_number("sectors", 16);

        memset(data, 0, sizeof(data));
        build(d, sector);
        submit(d, 0);
        CHECK(completed(i));
        for (unsigned b = 0; b < sizeof(data); b++)
            sum += data[b];
        if (d->blk) {
            CHECK_EQ(status, 0);
            CHECK_EQ(sum, 512 * (sector + 1));
        } else {
            CHECK(sum > 0);
        }
    }
}

/* The ways to be wrong. Each leaves a request that was submitted. */
static void wild_address(const struct dev *d)
{
    q.desc[d->blk ? 1 : 0].addr = 0xdead00000000ull;
    submit(d, 0);
}
static void mmio_address(const struct dev *d)
{
    q.desc[d->blk ? 1 : 0].addr = 0xfee00000;
    submit(d, 0);
}
static void wrapping_length(const struct dev *d)
{
    q.desc[d->blk ? 1 : 0].addr = ~0ull - 15;
    q.desc[d->blk ? 1 : 0].len = 0xffffffff;
    submit(d, 0);
}
static void loop(const struct dev *d)
{
    for (unsigned i = 0; i < SIZE; i++)
        put(i, data, 16, DESC_NEXT | DESC_WRITE, (uint16_t)((i + 1) % SIZE));
    submit(d, 0);
}
static void self_loop(const struct dev *d)
{
    put(0, data, 16, DESC_NEXT | DESC_WRITE, 0);
    submit(d, 0);
}
static void next_outside(const struct dev *d)
{
    put(0, data, 16, DESC_NEXT | DESC_WRITE, 0xffff);
    submit(d, 0);
}
static void head_outside(const struct dev *d)
{
    submit(d, SIZE);
}
static void huge_index(const struct dev *d)
{
    q.avail.idx += 0x8000;
    submit(d, 0);
}
static void index_backwards(const struct dev *d)
{
    q.avail.idx -= 2;
    submit(d, 0);
}
static void indirect_nested(const struct dev *d)
{
    table[0] = (struct desc){(uint32_t)table, sizeof(table), DESC_INDIRECT, 0};
    put(0, table, sizeof(table), DESC_INDIRECT, 0);
    submit(d, 0);
}
static void indirect_loop(const struct dev *d)
{
    for (unsigned i = 0; i < SIZE; i++)
        table[i] = (struct desc){(uint32_t)data, 16, DESC_NEXT | DESC_WRITE,
                                 (uint16_t)((i + 1) % SIZE)};
    put(0, table, sizeof(table), DESC_INDIRECT, 0);
    submit(d, 0);
}
static void indirect_wild(const struct dev *d)
{
    put(0, (const void *)0xf0000000, sizeof(table), DESC_INDIRECT, 0);
    submit(d, 0);
}
static void indirect_length(const struct dev *d)
{
    put(0, table, 17, DESC_INDIRECT, 0);
    submit(d, 0);
}
static void read_after_write(const struct dev *d)
{
    put(0, data, 16, DESC_NEXT | DESC_WRITE, 1);
    put(1, data, 16, 0, 0);
    submit(d, 0);
}

static const struct {
    const char *name;
    void (*act)(const struct dev *d);
} attacks[] = {
    {"wild address", wild_address},         {"address of the local APIC", mmio_address},
    {"length that wraps", wrapping_length}, {"descriptor loop", loop},
    {"descriptor to itself", self_loop},    {"next outside", next_outside},
    {"head outside", head_outside},         {"index far ahead", huge_index},
    {"index backwards", index_backwards},   {"indirect in indirect", indirect_nested},
    {"indirect loop", indirect_loop},       {"indirect outside", indirect_wild},
    {"indirect length", indirect_length},   {"read after write", read_after_write},
};

/* Waits until the device asks for a reset. */
static bool broke(const struct dev *d)
{
    uint64_t start = rdtsc();

    while (!(read8(d->common + 0x14) & S_NEEDS_RESET))
        if (elapsed_us(start) > 3000000)
            return false;
    return true;
}

/* Rings at addresses that are not RAM: refused when the queue is enabled. */
static void bad_rings(const struct dev *d)
{
    for (unsigned which = 0; which < 3; which++) {
        set_up(d);
        write8(d->common + 0x14, 0);
        write8(d->common + 0x14, 3);
        set_mem32(d->common + 8, 1);
        set_mem32(d->common + 12, 1);
        write8(d->common + 0x14, 11);
        write16(d->common + 0x18, SIZE);
        set_mem32(d->common + 0x20, which == 0 ? 0xfee00000 : (uint32_t)q.desc);
        set_mem32(d->common + 0x28, (uint32_t)&q.avail);
        set_mem32(d->common + 0x2c, which == 1 ? 0x80000000 : 0);
        set_mem32(d->common + 0x30, which == 2 ? 0xfffffff0 : (uint32_t)&q.used);
        set_mem32(d->common + 0x34, which == 2 ? 0xffffffff : 0);
        write16(d->common + 0x1c, 1);
        write8(d->common + 0x14, 15);
        write16(d->notify, 0);
        CHECK(broke(d));
    }
}

static void attack(const struct dev *d, const struct dev *other)
{
    for (unsigned i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
        set_up(d);
        build(d, 0);
        say("%s: %s\n", d->blk ? "blk" : "rng", attacks[i].name);
        attacks[i].act(d);
        CHECK(broke(d));
        CHECK(!(read8(other->common + 0x14) & S_NEEDS_RESET));
        submit(d, 0); /* a broken device stays silent */
        set_up(d);
        work(d);
    }
    bad_rings(d);
    set_up(d);
    work(d);
}

void guest_test(const struct start *s)
{
    struct dev rng, blk;

    (void)s;
    CHECK(find(&rng, ID_RNG));
    CHECK(find(&blk, ID_BLK));
    set_up(&rng);
    work(&rng);
    set_up(&blk);
    work(&blk);
    attack(&rng, &blk);
    attack(&blk, &rng);
}
