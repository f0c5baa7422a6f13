/* SPDX-License-Identifier: MIT */
/*
 * What a kernel finds when it starts, by multiboot and by PVH: magic, memory map, command line,
 * module; the ACPI tables' checksums; fw_cfg's signature, RAM size and CPUs; CPU state.
 * Options: cpus=N (expected), ram=MIB (expected), module=1 (an initrd with known bytes is given).
 */
#include "guest.h"

/* The module's contents as run.sh writes them: byte i is i * 7 + 3, this many. */
enum { MODULE_BYTES = 5000 };

/* One range of either memory map, made equal. */
struct range {
    uint64_t gpa, len;
    uint32_t type;
};

static void check_module(uint32_t start, uint32_t end)
{
    const uint8_t *p = (const uint8_t *)start;

    CHECK_EQ(end - start, MODULE_BYTES);
    CHECK(start >= 0x100000);
    for (uint32_t i = 0; i < MODULE_BYTES; i++)
        if (p[i] != (uint8_t)(i * 7 + 3))
            CHECK_EQ(p[i], (uint8_t)(i * 7 + 3));
}

/* Ranges in order, without overlap; RAM in all is what was configured, but for the PC's hole. */
static void check_map(const struct range *r, uint32_t n)
{
    uint64_t ram = 0, want = (uint64_t)option_number("ram", 64) << 20;

    CHECK(n >= 2);
    for (uint32_t i = 0; i < n; i++) {
        say("  %X + %X type %u\n", r[i].gpa, r[i].len, r[i].type);
        CHECK(r[i].len > 0);
        if (i)
            CHECK(r[i - 1].gpa + r[i - 1].len <= r[i].gpa);
        if (r[i].type == 1)
            ram += r[i].len;
    }
    CHECK_EQ((uint32_t)r[0].gpa, 0);
    CHECK(ram <= want);
    CHECK(ram + (1 << 20) >= want);
}

static void check_multiboot(const struct start *s)
{
    const uint32_t *mbi = (const uint32_t *)s->info;
    struct range map[8];
    uint32_t n = 0;

    CHECK((mbi[0] & 0x4d) == 0x4d || !option_is("module", "1"));
    CHECK((mbi[0] & 0x45) == 0x45);
    CHECK_EQ(mbi[1], 639);
    for (uint32_t at = 0; at < mbi[11] && n < 8; n++) {
        const uint8_t *e = (const uint8_t *)mbi[12] + at;

        memcpy(&map[n].gpa, e + 4, 8);
        memcpy(&map[n].len, e + 12, 8);
        memcpy(&map[n].type, e + 20, 4);
        at += *(const uint32_t *)e + 4;
    }
    check_map(map, n);
    CHECK_EQ(mbi[5], option_is("module", "1") ? 1 : 0);
    if (mbi[5])
        check_module(((const uint32_t *)mbi[6])[0], ((const uint32_t *)mbi[6])[1]);
    CHECK(!memcmp((const char *)mbi[16], "disco", 6));
}

static void check_pvh(const struct start *s)
{
    const uint32_t *si = (const uint32_t *)s->info;
    struct range map[8];
    uint32_t n = si[12];

    CHECK_EQ(si[0], 0x336ec578);
    CHECK_EQ(si[1], 1);
    CHECK_EQ(si[3], option_is("module", "1") ? 1 : 0);
    if (si[3]) {
        const uint32_t *m = (const uint32_t *)si[4];

        check_module(m[0], m[0] + m[2]);
    }
    CHECK(n <= 8);
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *e = (const uint8_t *)si[10] + 24 * i;

        memcpy(&map[i].gpa, e, 8);
        memcpy(&map[i].len, e + 8, 8);
        memcpy(&map[i].type, e + 16, 4);
    }
    check_map(map, n);
    CHECK(si[8] != 0);
    CHECK(!memcmp((const char *)si[8], "RSD PTR ", 8));
}

/* Bytes of a table sum to 0. */
static bool sums(const uint8_t *p, uint32_t n)
{
    uint8_t s = 0;

    while (n--)
        s = (uint8_t)(s + *p++);
    return s == 0;
}

/* Root pointer in the BIOS area, its XSDT, and in it what a kernel needs. */
static void check_acpi(void)
{
    const uint8_t *p = (const uint8_t *)0xe0000;
    const uint8_t *xsdt;
    uint32_t seen = 0;

    while (p < (const uint8_t *)0x100000 && memcmp(p, "RSD PTR ", 8))
        p += 16;
    CHECK(p < (const uint8_t *)0x100000);
    CHECK(sums(p, 20) && sums(p, 36));
    xsdt = (const uint8_t *)*(const uint32_t *)(p + 24);
    CHECK(!memcmp(xsdt, "XSDT", 4));
    CHECK(sums(xsdt, *(const uint32_t *)(xsdt + 4)));
    for (uint32_t at = 36; at < *(const uint32_t *)(xsdt + 4); at += 8) {
        const uint8_t *t = (const uint8_t *)*(const uint32_t *)(xsdt + at);

        CHECK(sums(t, *(const uint32_t *)(t + 4)));
        seen |= !memcmp(t, "FACP", 4) ? 1 : 0;
        seen |= !memcmp(t, "APIC", 4) ? 2 : 0;
        seen |= !memcmp(t, "MCFG", 4) ? 4 : 0;
    }
    CHECK_EQ(seen, 7);
}

static void check_fwcfg(void)
{
    char sig[4];
    uint64_t ram = 0;
    uint32_t zero = 1;

    fwcfg_read(0, sig, 4);
    CHECK(!memcmp(sig, "QEMU", 4));
    fwcfg_read(3, &ram, 8);
    CHECK_EQ((uint32_t)(ram >> 20), option_number("ram", 64));
    CHECK_EQ(cpu_count(), option_number("cpus", 1));
    fwcfg_read(0x4711, &zero, 4);
    CHECK_EQ(zero, 0);
}

void guest_test(const struct start *s)
{
    uint32_t r[4];

    say("command line: %s\n", s->cmdline);
    CHECK(option_is("last", "word"));
    if (option_is("proto", "pvh"))
        CHECK_EQ(s->magic, 0);
    else
        CHECK_EQ(s->magic, MB_MAGIC);
    if (s->magic == MB_MAGIC)
        check_multiboot(s);
    else
        check_pvh(s);
    check_acpi();
    check_fwcfg();
    cpuid(1, 0, r);
    CHECK_EQ(r[1] >> 24, 0);
    CHECK_EQ(r[1] >> 16 & 0xff, option_number("cpus", 1));
    CHECK(r[2] & 1u << 31);
    cpuid(0x40000000, 0, r);
    CHECK_EQ(r[1], 0x4b4d564b);
}
