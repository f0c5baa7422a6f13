/* SPDX-License-Identifier: MIT */
/*
 * acpi_build(): walks the tables from the RSDP as a guest would and checks every length,
 * checksum and entry, for few and many vCPUs, with and without nodes, low and high placement.
 * Threads: one.  Needs no /dev/kvm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/loader.h"
#include "vmm/machine/mem.h"

#include <cmocka.h>

#define RAM (64ull << 20)
#define GIB (1ull << 30)

/* What a walk over the tables found. */
struct tables {
    const uint8_t *fadt, *madt, *mcfg, *ssdt, *srat, *slit; /* NULL: absent */
    const uint8_t *dsdt;                                    /* from the FADT */
    uint64_t lo, hi;                                        /* gpas they all lie in */
};

static struct guest_mem mem; /* of all tests */

/* Bytes of guest memory. */
static const uint8_t *at(uint64_t gpa, uint64_t len)
{
    const uint8_t *p = mem_at(&mem, gpa, len, MEM_READ);

    assert_non_null(p);
    return p;
}

/* Little-endian numbers out of a table. */
static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v;
}

/* Sum of len bytes, which a checksum makes 0. */
static uint8_t sum(const uint8_t *p, size_t len)
{
    uint8_t s = 0;

    while (len--)
        s += *p++;
    return s;
}

/* One whole table at gpa, its length and checksum checked; t's range grows over it. */
static const uint8_t *table(struct tables *t, uint64_t gpa)
{
    uint32_t len = get32(at(gpa, 36) + 4);

    assert_true(len >= 36);
    assert_int_equal(sum(at(gpa, len), len), 0);
    if (gpa < t->lo)
        t->lo = gpa;
    if (gpa + len > t->hi)
        t->hi = gpa + len;
    return at(gpa, len);
}

/* Walks from the RSDP; each table may be there once. */
static struct tables walk(uint64_t rsdp)
{
    struct tables t = {.lo = UINT64_MAX};
    const uint8_t *r = at(rsdp, 36), *x;
    struct {
        const char *sig;
        const uint8_t **to;
    } want[] = {{"FACP", &t.fadt}, {"APIC", &t.madt}, {"MCFG", &t.mcfg},
                {"SSDT", &t.ssdt}, {"SRAT", &t.srat}, {"SLIT", &t.slit}};

    assert_memory_equal(r, "RSD PTR ", 8);
    assert_int_equal(sum(r, 20), 0);
    assert_int_equal(sum(r, 36), 0);
    assert_int_equal(r[15], 2);
    x = table(&t, get64(r + 24));
    assert_memory_equal(x, "XSDT", 4);
    assert_int_equal((get32(x + 4) - 36) % 8, 0);
    for (uint32_t i = 36; i < get32(x + 4); i += 8) {
        const uint8_t *p = table(&t, get64(x + i));
        unsigned hit = 0;

        for (unsigned k = 0; k < 6; k++)
            if (memcmp(p, want[k].sig, 4) == 0 && !*want[k].to) {
                *want[k].to = p;
                hit++;
            }
        assert_int_equal(hit, 1);
    }
    assert_non_null(t.fadt);
    t.dsdt = table(&t, get64(t.fadt + 140));
    assert_memory_equal(t.dsdt, "DSDT", 4);
    return t;
}

/* Builds and walks. */
static struct tables build(const struct acpi_spec *spec, uint64_t *rsdp)
{
    struct err err = {0};

    if (acpi_build(&mem, spec, rsdp, &err))
        print_error("%s\n", err.text);
    assert_int_equal(err.status, 0);
    return walk(*rsdp);
}

/* Checks the MADT of n vCPUs. */
static void check_madt(const uint8_t *m, unsigned n)
{
    uint32_t len = get32(m + 4), id = 0, ioapics = 0;

    assert_int_equal(get32(m + 36), 0xfee00000);
    assert_int_equal(get32(m + 40), 0);
    for (uint32_t i = 44; i < len; i += m[i + 1]) {
        const uint8_t *e = m + i;

        assert_true(e[1] >= 8 && i + e[1] <= len);
        if (e[0] == 0) {
            assert_int_equal(e[1], 8);
            assert_int_equal(e[2], id);
            assert_int_equal(e[3], id++);
            assert_true(id <= 255);
            assert_int_equal(get32(e + 4), 1);
        } else if (e[0] == 9) {
            assert_int_equal(e[1], 16);
            assert_true(id >= 255);
            assert_int_equal(get32(e + 4), id);
            assert_int_equal(get32(e + 8), 1);
            assert_int_equal(get32(e + 12), id++);
        } else {
            assert_int_equal(e[0], 1);
            assert_int_equal(get32(e + 4), 0xfec00000);
            assert_int_equal(get32(e + 8), 0);
            ioapics++;
        }
    }
    assert_int_equal(id, n);
    assert_int_equal(ioapics, 1);
}

static void test_madt(void **state)
{
    static const unsigned counts[] = {1, 2, 16, 254, 255, 256, 300, 1024, 4096};

    (void)state;
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        const struct acpi_spec spec = {.nvcpus = counts[i], .pci = true};
        uint64_t rsdp;
        struct tables t = build(&spec, &rsdp);

        check_madt(t.madt, counts[i]);
        assert_true(t.lo > 0xe0000 && t.hi <= 0x100000);
        assert_int_equal(acpi_ram_start(&mem, rsdp), mem.low);
    }
}

static void test_fadt(void **state)
{
    const struct acpi_spec spec = {.nvcpus = 1};
    uint64_t rsdp;
    struct tables t = build(&spec, &rsdp);
    const uint8_t *f = t.fadt;

    (void)state;
    assert_int_equal(rsdp, 0xe0000);
    assert_int_equal(get32(f + 4), 276);
    assert_int_equal(f[8], 6);
    assert_int_equal(get32(f + 40), get64(f + 140)); /* both pointers to the DSDT */
    assert_int_equal(f[109] | f[110] << 8, 0x24);
    assert_true(get32(f + 112) & 1u << 20); /* hardware-reduced */
    assert_true(get32(f + 112) & 1u << 10); /* reset register */
    assert_int_equal(f[116], 1);            /* port */
    assert_int_equal(get64(f + 120), ACPI_RESET_PORT);
    assert_int_equal(f[128], 1);
    assert_int_equal(f[244], 1);
    assert_int_equal(get64(f + 248), ACPI_PM_PORT);
    assert_int_equal(get64(f + 260), ACPI_PM_PORT);
    for (unsigned i = 148; i < 244; i++)
        assert_int_equal(f[i], 0);
    assert_null(t.mcfg);
    assert_null(t.ssdt);
    assert_null(t.srat);
    assert_null(t.slit);
}

/* The reset vector writes the reset register. */
static void test_reset_vector(void **state)
{
    static const uint8_t want[] = {0xba, 0x01, 0x06, 0xb0, 0x01, 0xee};
    const struct acpi_spec spec = {.nvcpus = 1};
    uint64_t rsdp;

    (void)state;
    build(&spec, &rsdp);
    assert_memory_equal(mem_at(&mem, 0xffff0, sizeof(want), MEM_READ), want, sizeof(want));
}

/* The DSDT holds the ports and pins of boot.h: AML cannot include the header. */
static void test_dsdt_agrees(void **state)
{
    const struct acpi_spec spec = {.nvcpus = 1, .pci = true};
    uint64_t rsdp;
    struct tables t = build(&spec, &rsdp);
    const uint8_t com1[] = {0x89, 6, 0, 0x03, 1, ACPI_COM1_PIN, 0, 0, 0}; /* edge, high */
    const uint8_t ged[] = {0x89, 6, 0, 0x01, 1, ACPI_GED_PIN, 0, 0, 0};   /* level, high */
    const uint8_t port[] = {0x01, 0x0b, ACPI_GED_PORT & 0xff, ACPI_GED_PORT >> 8, 0x01};
    const uint8_t ecam[] = {0x86, 9, 0, 1, 0, 0, 0, 0xe0, 0, 0, 0x10, 0};
    uint32_t dlen = get32(t.dsdt + 4), slen = get32(t.ssdt + 4);

    (void)state;
    assert_non_null(memmem(t.dsdt, dlen, com1, sizeof(com1)));
    assert_non_null(memmem(t.dsdt, dlen, ged, sizeof(ged)));
    assert_non_null(memmem(t.dsdt, dlen, port, sizeof(port)));
    assert_non_null(memmem(t.ssdt, slen, ecam, sizeof(ecam)));
    assert_non_null(memmem(t.dsdt, dlen, "_S5_", 4));
    assert_null(memmem(t.dsdt, dlen, "PCI0", 4));
    assert_non_null(memmem(t.ssdt, slen, "PCI0", 4));
}

static void test_mcfg(void **state)
{
    const struct acpi_spec spec = {.nvcpus = 2, .pci = true};
    uint64_t rsdp;
    struct tables t = build(&spec, &rsdp);

    (void)state;
    assert_non_null(t.mcfg);
    assert_int_equal(get32(t.mcfg + 4), 60);
    assert_int_equal(get64(t.mcfg + 44), 0xe0000000);
    assert_int_equal(get32(t.mcfg + 52), 0); /* segment 0, buses 0 to 0 */
}

/* One range the SRAT must name. */
struct range {
    uint32_t node;
    uint64_t gpa, len;
};

/* Checks the SRAT: vCPU i on vcpu_node[i], and just these ranges in this order. */
static void check_srat(const uint8_t *s, const struct acpi_spec *spec, const struct range *want,
                       unsigned nwant)
{
    uint32_t len = get32(s + 4), id = 0, n = 0;

    assert_int_equal(s[8], 3);
    assert_int_equal(get32(s + 36), 1);
    for (uint32_t i = 48; i < len; i += s[i + 1]) {
        const uint8_t *e = s + i;

        assert_true(e[1] >= 16 && i + e[1] <= len);
        if (e[0] == 0) {
            assert_int_equal(e[3], id);
            assert_int_equal(e[2], spec->vcpu_node[id++]);
            assert_int_equal(get32(e + 4), 1);
        } else if (e[0] == 2) {
            assert_int_equal(e[1], 24);
            assert_int_equal(get32(e + 8), id);
            assert_int_equal(get32(e + 4), spec->vcpu_node[id++]);
            assert_int_equal(get32(e + 12), 1);
        } else {
            assert_int_equal(e[0], 1);
            assert_int_equal(e[1], 40);
            assert_true(n < nwant);
            assert_int_equal(get32(e + 2), want[n].node);
            assert_int_equal(get64(e + 8), want[n].gpa);
            assert_int_equal(get64(e + 16), want[n].len);
            assert_int_equal(get32(e + 28), 1);
            n++;
        }
    }
    assert_int_equal(id, spec->nvcpus);
    assert_int_equal(n, nwant);
}

static void test_srat_low(void **state)
{
    static const struct range want[] = {
        {0, 0, 0xa0000}, {0, 0x100000, RAM / 2 - 0x100000}, {1, RAM / 2, RAM / 2}};
    const struct acpi_node nodes[] = {{RAM / 2, 0}, {RAM / 2, 0}};
    const unsigned vcpu_node[] = {0, 1, 0, 1};
    const uint8_t distance[] = {10, 21, 22, 10};
    const struct acpi_spec spec = {4, true, 2, nodes, vcpu_node, distance};
    uint64_t rsdp;
    struct tables t = build(&spec, &rsdp);

    (void)state;
    check_srat(t.srat, &spec, want, 3);
    assert_non_null(t.slit);
    assert_int_equal(get32(t.slit + 4), 48);
    assert_int_equal(get64(t.slit + 36), 2);
    assert_memory_equal(t.slit + 44, distance, 4);
}

/* Node 0 spans the hole, node 1 lies above it; more vCPUs than xAPIC ids. */
static void test_srat_high(void **state)
{
    static const struct range want[] = {{0, 0, 0xa0000},
                                        {0, 0x100000, RAM - 0x100000},
                                        {0, 4 * GIB, GIB},
                                        {1, 5 * GIB, 3 * GIB}};
    const struct acpi_node nodes[] = {{RAM, GIB}, {0, 3 * GIB}};
    static unsigned vcpu_node[300];
    const uint8_t distance[] = {10, 20, 20, 10};
    const struct acpi_spec spec = {300, true, 2, nodes, vcpu_node, distance};
    uint64_t rsdp;
    struct tables t;

    (void)state;
    for (unsigned i = 0; i < 300; i++)
        vcpu_node[i] = i >= 150;
    mem.high = 4 * GIB; /* only sizes are looked at */
    t = build(&spec, &rsdp);
    mem.high = 0;
    check_srat(t.srat, &spec, want, 4);
    check_madt(t.madt, 300);
}

/* A node boundary inside the hole below 1 MiB, and a node without memory. */
static void test_srat_odd(void **state)
{
    static const struct range want[] = {
        {0, 0, 0x80000}, {1, 0x80000, 0x20000}, {3, 0x100000, RAM - 0x100000}};
    const struct acpi_node nodes[] = {{0x80000, 0}, {0x40000, 0}, {0, 0}, {RAM - 0xc0000, 0}};
    const unsigned vcpu_node[] = {3};
    const uint8_t distance[16] = {10};
    const struct acpi_spec spec = {1, false, 4, nodes, vcpu_node, distance};
    uint64_t rsdp;
    struct tables t = build(&spec, &rsdp);

    (void)state;
    check_srat(t.srat, &spec, want, 3);
    assert_int_equal(get32(t.slit + 4), 36 + 8 + 16);
}

/* Too large for the firmware area: at the end of RAM, page aligned, the RSDP where it was. */
static void test_in_ram(void **state)
{
    const struct acpi_node node = {RAM, 0};
    static unsigned vcpu_node[4096];
    const uint8_t distance = 10;
    const struct acpi_spec spec = {4096, true, 1, &node, vcpu_node, &distance};
    uint64_t rsdp, start;
    struct tables t = build(&spec, &rsdp);

    (void)state;
    start = acpi_ram_start(&mem, rsdp);
    assert_int_equal(rsdp, 0xe0000);
    assert_int_equal(start % 4096, 0);
    assert_int_equal(t.lo, start);
    assert_true(t.hi <= RAM && t.hi > RAM - 4096);
    check_madt(t.madt, 4096);
}

/* Memory too small for the tables is told. */
static void test_too_small(void **state)
{
    const struct acpi_spec spec = {.nvcpus = 300000};
    struct err err = {0};
    uint64_t rsdp, low = mem.low;
    int ret;

    (void)state;
    mem.low = 2 << 20;
    ret = acpi_build(&mem, &spec, &rsdp, &err);
    mem.low = low;
    assert_true(ret < 0);
    assert_int_equal(err.status, EXIT_MEMORY);
}

static int setup(void **state)
{
    const struct mem_spec m = {.size = RAM, .nviews = 1};

    (void)state;
    return mem_init(&mem, &m, NULL);
}

static int teardown(void **state)
{
    (void)state;
    mem_exit(&mem);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_madt),         cmocka_unit_test(test_fadt),
        cmocka_unit_test(test_reset_vector), cmocka_unit_test(test_mcfg),
        cmocka_unit_test(test_dsdt_agrees),  cmocka_unit_test(test_srat_low),
        cmocka_unit_test(test_srat_high),    cmocka_unit_test(test_srat_odd),
        cmocka_unit_test(test_in_ram),       cmocka_unit_test(test_too_small),
    };

    return cmocka_run_group_tests_name("acpi", tests, setup, teardown);
}
