/* SPDX-License-Identifier: MIT */
/*
 * Writes the firmware's tables: RSDP, XSDT, FADT (hardware-reduced), MADT, the AML of
 * dsdt.asl and pci.asl, MCFG, and SRAT and SLIT for guests that see nodes.
 * Interface: acpi_build() of vmm/boot/boot.h, acpi_ram_start() of vmm/boot/loader.h.
 *
 * The tables are built twice in a heap buffer: once to learn how long they are, which decides
 * where they go, once with the addresses.  The XSDT is the first of them, so that its address in
 * the RSDP tells where they begin.
 * Threads: one, before any vCPU runs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "dsdt.h"
#include "pci.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/loader.h"
#include "vmm/machine/mem.h"

#define RSDP_GPA  LAY_FIRMWARE          /* always here: kernels without a pointer scan for it */
#define LOW_START (LAY_FIRMWARE + 0x40) /* other tables, where they fit */
#define LOW_LEN   (LAY_RESET - LOW_START) /* bytes there */

enum {
    SDT_LEN = 36,         /* header of every table */
    SDT_LENGTH_AT = 4,    /* offset of its length */
    SDT_CHECKSUM_AT = 9,  /* offset of its checksum */
    XSDT_MAX = 8,         /* tables an XSDT of ours names */
    MADT_PER_CPU = 16,    /* bytes, the larger kind */
    SRAT_PER_CPU = 24,    /* bytes, the larger kind */
    SRAT_PER_RANGE = 40,  /* bytes */
    SRAT_NODE_RANGES = 3, /* ranges a node can have: below 640 KiB, below 4 GiB, above */
    APIC_MAX = 255,       /* first APIC id that needs the x2APIC kinds of entries */
    OTHER_TABLES = 4096,  /* bytes of all that does not grow with the guest, and gaps */
};

/* FADT flags and values. */
enum {
    FADT_LEN = 276,            /* bytes of revision 6 */
    FADT_WBINVD = 1 << 0,      /* the instruction works */
    FADT_PROC_C1 = 1 << 2,     /* C1 works on all CPUs */
    FADT_PWR_BUTTON = 1 << 4,  /* the power button is a device */
    FADT_SLP_BUTTON = 1 << 5,  /* no fixed sleep button */
    FADT_RESET = 1 << 10,      /* the reset register works */
    FADT_HW_REDUCED = 1 << 20, /* no PIC, PIT, PM timer, fixed events */
    BOOT_ARCH_NO_VGA = 1 << 2, /* 8042 (bit 1) is absent, MSI (bit 3) works */
    BOOT_ARCH_NO_RTC = 1 << 5, /* no CMOS clock */
    PROFILE_SERVER = 4,        /* preferred PM profile */
    GAS_IO = 1,                /* address space of a register: ports */
};

/* The tables while they are built. */
struct blob {
    uint8_t *at;             /* heap, cap bytes, zeroed */
    size_t len;              /* bytes used */
    size_t cap;              /* bytes there */
    uint64_t base;           /* gpa at will be copied to */
    unsigned nxsdt;          /* tables named so far */
    uint64_t xsdt[XSDT_MAX]; /* their gpas */
};

/* Appends bytes. */
static void put(struct blob *b, const void *from, size_t len)
{
    INVARIANT(len <= b->cap - b->len, "acpi: tables fit the size computed for them");
    memcpy(b->at + b->len, from, len);
    b->len += len;
}

/* Appends little-endian numbers. */
static void put8(struct blob *b, uint8_t v)
{
    put(b, &v, sizeof(v));
}

static void put16(struct blob *b, uint16_t v)
{
    put(b, &v, sizeof(v));
}

static void put32(struct blob *b, uint32_t v)
{
    put(b, &v, sizeof(v));
}

static void put64(struct blob *b, uint64_t v)
{
    put(b, &v, sizeof(v));
}

/* Appends n zero bytes. */
static void pad(struct blob *b, size_t n)
{
    INVARIANT(n <= b->cap - b->len, "acpi: tables fit the size computed for them");
    b->len += n;
}

/* The byte that makes the sum of len bytes 0, given that it counts as 0 now. */
static uint8_t checksum(const uint8_t *at, size_t len)
{
    uint8_t sum = 0;

    while (len--)
        sum += *at++;
    return (uint8_t)-sum;
}

/* Starts a table at a multiple of 64 and returns its offset. */
static size_t sdt_begin(struct blob *b, const char *sig, uint8_t rev)
{
    size_t start;

    pad(b, -b->len & 63);
    start = b->len;
    put(b, sig, 4);
    put32(b, 0); /* length: sdt_end() */
    put8(b, rev);
    put8(b, 0); /* checksum: sdt_end() */
    put(b, "DISCO DISCOVMM", 14);
    put32(b, 1);
    put(b, "DSCO", 4);
    put32(b, 1);
    return start;
}

/* Ends the table that starts at offset start: length and checksum. */
static void sdt_end(struct blob *b, size_t start)
{
    uint32_t len = (uint32_t)(b->len - start);

    memcpy(b->at + start + SDT_LENGTH_AT, &len, sizeof(len));
    b->at[start + SDT_CHECKSUM_AT] = checksum(b->at + start, len);
}

/* Names the table that starts at offset start in the XSDT. */
static void xsdt_add(struct blob *b, size_t start)
{
    INVARIANT(b->nxsdt < XSDT_MAX, "acpi: the XSDT has room");
    b->xsdt[b->nxsdt++] = b->base + start;
}

/* Appends a compiled table as it is; returns its offset. */
static size_t put_aml(struct blob *b, const unsigned char *aml, size_t len)
{
    size_t start;

    pad(b, -b->len & 63);
    start = b->len;
    put(b, aml, len);
    return start;
}

/* Appends a generic address structure: one byte wide port. */
static void put_port(struct blob *b, uint16_t port)
{
    put8(b, GAS_IO);
    put8(b, 8); /* bits */
    put8(b, 0); /* bit offset */
    put8(b, 1); /* byte access */
    put64(b, port);
}

/* Fixed description of the machine: hardware-reduced, reset and sleep registers. */
static void put_fadt(struct blob *b, uint64_t dsdt)
{
    size_t start = sdt_begin(b, "FACP", 6);

    put32(b, 0); /* FACS: none */
    put32(b, (uint32_t)dsdt);
    put8(b, 0);
    put8(b, PROFILE_SERVER);
    pad(b, start + 109 - b->len); /* SCI, SMI, PM1, GPE, RTC: none of them exists */
    put16(b, BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_RTC);
    put8(b, 0);
    put32(b, FADT_WBINVD | FADT_PROC_C1 | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_RESET |
                 FADT_HW_REDUCED);
    put_port(b, ACPI_RESET_PORT);
    put8(b, ACPI_RESET_VALUE);
    put16(b, 0); /* Arm flags */
    put8(b, 0);  /* minor revision */
    put64(b, 0); /* FACS: none */
    put64(b, dsdt);
    pad(b, start + 244 - b->len); /* wide forms of what does not exist */
    put_port(b, ACPI_PM_PORT);    /* sleep control */
    put_port(b, ACPI_PM_PORT);    /* sleep status */
    put64(b, 0);                  /* hypervisor identity: not told */
    INVARIANT(b->len - start == FADT_LEN, "acpi: the FADT has its length");
    sdt_end(b, start);
    xsdt_add(b, start);
}

/* Interrupt controllers: a local APIC for each vCPU, one IOAPIC. */
static void put_madt(struct blob *b, const struct acpi_spec *spec)
{
    size_t start = sdt_begin(b, "APIC", 5);

    put32(b, MMIO_LAPIC);
    put32(b, 0); /* flags: no 8259 */
    for (uint32_t id = 0; id < spec->nvcpus; id++) {
        bool x2 = id >= APIC_MAX;

        put8(b, x2 ? 9 : 0); /* kind: local x2APIC, local APIC */
        put8(b, x2 ? 16 : 8);
        if (x2) {
            put16(b, 0);
            put32(b, id);
            put32(b, 1); /* enabled */
            put32(b, id);
        } else {
            put8(b, (uint8_t)id); /* processor */
            put8(b, (uint8_t)id); /* APIC id */
            put32(b, 1);          /* enabled */
        }
    }
    put8(b, 1); /* kind: IOAPIC */
    put8(b, 12);
    put8(b, 0); /* its id */
    put8(b, 0);
    put32(b, MMIO_IOAPIC);
    put32(b, 0); /* first interrupt */
    sdt_end(b, start);
    xsdt_add(b, start);
}

/* Memory-mapped PCI configuration space: segment 0, bus 0. */
static void put_mcfg(struct blob *b)
{
    size_t start = sdt_begin(b, "MCFG", 1);

    put64(b, 0);
    put64(b, MMIO_ECAM);
    put16(b, 0); /* segment */
    put8(b, 0);  /* first bus */
    put8(b, 0);  /* last bus */
    put32(b, 0);
    sdt_end(b, start);
    xsdt_add(b, start);
}

/* Appends the node of one vCPU. */
static void put_cpu_affinity(struct blob *b, uint32_t id, uint32_t node)
{
    bool x2 = id >= APIC_MAX;

    put8(b, x2 ? 2 : 0); /* kind: x2APIC, APIC */
    put8(b, x2 ? 24 : 16);
    if (x2) {
        put16(b, 0);
        put32(b, node);
        put32(b, id);
        put32(b, 1); /* enabled */
        put32(b, 0); /* clock domain */
        put32(b, 0);
        return;
    }
    put8(b, (uint8_t)node);
    put8(b, (uint8_t)id);
    put32(b, 1); /* enabled */
    put8(b, 0);
    put8(b, (uint8_t)(node >> 8));
    put16(b, (uint16_t)(node >> 16));
    put32(b, 0); /* clock domain */
}

/* Appends the node of the range [gpa, end), unless it is empty. */
static void put_mem_affinity(struct blob *b, uint32_t node, uint64_t gpa, uint64_t end)
{
    if (gpa >= end)
        return;
    put8(b, 1); /* kind: memory */
    put8(b, SRAT_PER_RANGE);
    put32(b, node);
    put16(b, 0);
    put64(b, gpa);
    put64(b, end - gpa);
    put32(b, 0);
    put32(b, 1); /* enabled */
    put64(b, 0);
}

/* Appends all ranges of RAM in order, leaving out 640 KiB to 1 MiB. */
static void put_mem_affinities(struct blob *b, const struct acpi_spec *spec)
{
    uint64_t low = 0, high = MEM_HIGH;

    for (unsigned i = 0; i < spec->nnodes; i++) {
        uint64_t end = low + spec->nodes[i].low_len;

        put_mem_affinity(b, i, low, end < LAY_VGA ? end : LAY_VGA);
        put_mem_affinity(b, i, low > LAY_HIGH ? low : LAY_HIGH, end);
        low = end;
        put_mem_affinity(b, i, high, high + spec->nodes[i].high_len);
        high += spec->nodes[i].high_len;
    }
}

/* Nodes of vCPUs and memory, and the distances between them. */
static void put_srat_slit(struct blob *b, const struct acpi_spec *spec)
{
    size_t start = sdt_begin(b, "SRAT", 3);

    put32(b, 1);
    put64(b, 0);
    for (uint32_t id = 0; id < spec->nvcpus; id++)
        put_cpu_affinity(b, id, spec->vcpu_node[id]);
    put_mem_affinities(b, spec);
    sdt_end(b, start);
    xsdt_add(b, start);

    start = sdt_begin(b, "SLIT", 1);
    put64(b, spec->nnodes);
    put(b, spec->distance, (size_t)spec->nnodes * spec->nnodes);
    sdt_end(b, start);
    xsdt_add(b, start);
}

/* Number of tables the XSDT names. */
static unsigned xsdt_count(const struct acpi_spec *spec)
{
    return 2 + (spec->pci ? 2 : 0) + (spec->nnodes ? 2 : 0);
}

/* Appends the XSDT with its entries still 0, to be filled by xsdt_finish(). */
static size_t put_xsdt(struct blob *b, const struct acpi_spec *spec)
{
    size_t start = sdt_begin(b, "XSDT", 1);

    pad(b, xsdt_count(spec) * sizeof(uint64_t));
    sdt_end(b, start);
    return start;
}

/* Fills the XSDT's entries in. */
static void xsdt_finish(struct blob *b, size_t start)
{
    size_t len = b->nxsdt * sizeof(uint64_t);

    memcpy(b->at + start + SDT_LEN, b->xsdt, len);
    b->at[start + SDT_CHECKSUM_AT] = 0;
    b->at[start + SDT_CHECKSUM_AT] = checksum(b->at + start, SDT_LEN + len);
}

/* Builds all tables for address base into b, whose buffer is zeroed. */
static void put_tables(struct blob *b, const struct acpi_spec *spec, uint64_t base)
{
    size_t xsdt, dsdt;

    b->base = base;
    b->len = 0;
    b->nxsdt = 0;
    memset(b->at, 0, b->cap);
    xsdt = put_xsdt(b, spec);
    INVARIANT(xsdt == 0, "acpi: the XSDT is the first table");
    dsdt = put_aml(b, dsdt_aml_code, sizeof(dsdt_aml_code));
    put_fadt(b, base + dsdt);
    put_madt(b, spec);
    if (spec->pci) {
        xsdt_add(b, put_aml(b, pci_aml_code, sizeof(pci_aml_code)));
        put_mcfg(b);
    }
    if (spec->nnodes)
        put_srat_slit(b, spec);
    INVARIANT(b->nxsdt == xsdt_count(spec), "acpi: the XSDT names every table");
    xsdt_finish(b, xsdt);
}

/* Bytes that are enough for all tables. */
static size_t tables_max(const struct acpi_spec *spec)
{
    size_t nodes = spec->nnodes;

    return OTHER_TABLES + sizeof(dsdt_aml_code) + sizeof(pci_aml_code) +
           (size_t)spec->nvcpus * (MADT_PER_CPU + SRAT_PER_CPU) +
           nodes * (SRAT_NODE_RANGES * SRAT_PER_RANGE + nodes);
}

/* Writes the root pointer. */
static bool rsdp_write(const struct guest_mem *mem, uint64_t xsdt)
{
    uint8_t r[SDT_LEN] = "RSD PTR ";
    uint32_t len = sizeof(r);

    memcpy(r + 9, "DISCO ", 6);
    r[15] = 2; /* revision */
    memcpy(r + 20, &len, sizeof(len));
    memcpy(r + 24, &xsdt, sizeof(xsdt));
    r[8] = checksum(r, 20);
    r[32] = checksum(r, sizeof(r));
    return mem_write(mem, RSDP_GPA, r, sizeof(r));
}

/* Writes what a PC's firmware begins with.  Linux, on a machine with reduced hardware and without
 * EFI, does not use the reset register: it jumps here in real mode. */
static bool reset_code_write(const struct guest_mem *mem)
{
    static const uint8_t code[] = {
        0xba,
        ACPI_RESET_PORT & 0xff,
        ACPI_RESET_PORT >> 8, /* mov dx, the reset register */
        0xb0,
        ACPI_RESET_VALUE, /* mov al, its value */
        0xee,             /* out dx, al */
        0xfa,
        0xf4, /* cli; hlt: not reached */
    };

    return mem_write(mem, LAY_RESET, code, sizeof(code));
}

/* Checks that the nodes asked for are those of this memory. */
static void spec_check(const struct guest_mem *mem, const struct acpi_spec *spec)
{
    uint64_t low = 0, high = 0;

    for (unsigned i = 0; i < spec->nnodes; i++) {
        low += spec->nodes[i].low_len;
        high += spec->nodes[i].high_len;
    }
    INVARIANT(spec->nvcpus > 0, "acpi: at least one vCPU");
    INVARIANT(spec->nnodes == 0 || (low == mem->low && high == mem->high),
              "acpi: the nodes' memory is all of the guest's");
}

int acpi_build(const struct guest_mem *mem, const struct acpi_spec *spec, uint64_t *rsdp,
               struct err *err)
{
    struct blob b = {.cap = tables_max(spec)};
    uint64_t base = LOW_START;
    bool ok;

    spec_check(mem, spec);
    b.at = xcalloc(1, b.cap);
    put_tables(&b, spec, base);
    if (b.len > LOW_LEN) {
        base = b.len < mem->low ? (mem->low - b.len) & ~(uint64_t)(MEM_PAGE - 1) : 0;
        put_tables(&b, spec, base);
    }
    ok = base >= LOW_START && mem_write(mem, base, b.at, b.len) && rsdp_write(mem, base) &&
         reset_code_write(mem);
    free(b.at);
    if (!ok)
        return fail(err, EXIT_MEMORY, ENOMEM,
                    "guest memory of %llu MiB is too small for the ACPI tables of %u vCPUs",
                    (unsigned long long)(mem->size >> 20), spec->nvcpus);
    *rsdp = RSDP_GPA;
    return 0;
}

uint64_t acpi_ram_start(const struct guest_mem *mem, uint64_t rsdp)
{
    uint64_t xsdt;

    if (!mem_read(mem, rsdp + 24, &xsdt, sizeof(xsdt)) || xsdt < LAY_HIGH || xsdt > mem->low)
        return mem->low;
    return xsdt & ~(uint64_t)(MEM_PAGE - 1);
}
