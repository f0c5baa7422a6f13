/* SPDX-License-Identifier: MIT */
/*
 * A hostile guest: every port in every width, in and out; reads and writes of every kind of hole
 * in the physical address space; MSRs of every range.  The machine and this kernel must survive.
 * Left out are only the accesses that end a guest on purpose.
 * Options: ram=MIB, step=N (of the ports from 0x800 on, only each Nth).
 */
#include "guest.h"

/* Ports whose writes end or reset the guest. */
static bool ends_guest(uint32_t port, uint32_t width)
{
    static const uint16_t ends[] = {0xf4, 0xf5, 0xf6, 0xf7, 0x600, 0x601, 0x64, 0xcf9};

    for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (port <= ends[i] && ends[i] < port + width)
            return true;
    return false;
}

static void ports(void)
{
    uint32_t step = option_number("step", 1);

    for (uint32_t p = 0; p < 0x10000;
         p += p < 0x800 || p > 0xfff0 || p / 16 == 0xcf ? 1 : step) {
        uint16_t port = (uint16_t)p;

        inb(port);
        inw(port);
        inl(port);
        if (!ends_guest(p, 1))
            outb(port, (uint8_t)p);
        if (!ends_guest(p, 2))
            outw(port, 0xa5a5);
        if (!ends_guest(p, 4))
            outl(port, 0xffffffff);
    }
    outb(COM1 + 3,
         3); /* what the sweep did to the UART: 8 bits, no divisor latch, no interrupts */
    outb(COM1 + 1, 0);
    outb(COM1 + 4, 0);
    say("ports done\n");
}

/* Reads and writes around an address, in all widths, aligned and not. */
static void poke(uint32_t at, bool write)
{
    volatile uint8_t *p = (volatile uint8_t *)at;

    for (unsigned off = 0; off < 8; off++) {
        (void)*(volatile uint8_t *)(p + off);
        (void)*(volatile uint16_t *)(p + off);
        (void)*(volatile uint32_t *)(p + off);
        if (!write)
            continue;
        *(volatile uint8_t *)(p + off) = 0xff;
        *(volatile uint16_t *)(p + off) = 0x5a5a;
        *(volatile uint32_t *)(p + off) = 0xffffffff;
    }
}

/* Every kind of place: just beyond RAM, PCI window, ECAM, holes, controllers, the top. */
static void memory(void)
{
    uint32_t ram = option_number("ram", 64) << 20;
    const struct {
        uint32_t from, to, step;
        bool write;
    } sweep[] = {
        {ram, ram + 0x10000, 0x1000, true},
        {0x80000000, 0x80010000, 0x1000, true},
        {0xbffff000, 0xc0000000, 0x200, true},
        {0xc0000000, 0xc0020000, 0x40, true}, /* BARs, not decoded yet */
        {0xdffff000, 0xe0000000, 0x100, true},
        {0xe0000000, 0xe0100000, 0x800, true},  /* ECAM: BARs and commands get garbage */
        {0xc0000000, 0xc0020000, 0x40, true},   /* what is decoded now */
        {0xe0100000, 0xe0110000, 0x1000, true}, /* no such bus */
        {0xfebff000, 0xfec00000, 0x100, true},
        {0xfec00000, 0xfec01000, 0x10, true},   /* IOAPIC */
        {0xfed00000, 0xfed10000, 0x1000, true}, /* no HPET */
        {0xfee00000, 0xfee01000, 0x10, false},  /* local APIC */
        {0xfee01000, 0xfee02000, 0x100, true},
        {0xfffbc000, 0xffff0000, 0x1000, false},
        {0xffffff00, 0xfffffff0, 0x8, false},
    };

    for (unsigned i = 0; i < sizeof(sweep) / sizeof(sweep[0]); i++)
        for (uint32_t a = sweep[i].from; a < sweep[i].to; a += sweep[i].step)
            poke(a, sweep[i].write);
    say("memory done\n");
}

/* Writes to the local APIC's page that send nothing that would end us. */
static void apic_page(void)
{
    for (uint32_t off = 0; off < 0x1000; off += 4)
        if (off != 0x300)
            set_mem32(0xfee00000 + off, 0x10000 | (off & 0xff));
    for (uint32_t mode = 0; mode < 8; mode++)
        for (uint32_t sh = 0; sh < 4; sh++)
            if (mode < 4) /* not NMI, INIT, SIPI to ourselves */
                set_mem32(0xfee00300, sh << 18 | mode << 8 | 0xf0);
    set_mem32(0xfee000f0, 0xff);
}

static void msrs(void)
{
    static const struct {
        uint32_t from, to, step;
    } sweep[] = {
        {0, 0x1000, 3},
        {0x6e0, 0x6e1, 1},
        {0x800, 0x900, 1},
        {0x1000, 0x40000, 4001},
        {0x40000000, 0x40000100, 7},
        {0x4b564d00, 0x4b564d10, 1},
        {0xc0000080, 0xc0000110, 1},
        {0xc0010000, 0xc0011030, 7},
        {0xfffffff0, 0xffffffff, 1},
    };
    uint32_t reads = 0, writes = 0;
    uint64_t v;

    for (unsigned i = 0; i < sizeof(sweep) / sizeof(sweep[0]); i++)
        for (uint32_t m = sweep[i].from; m < sweep[i].to; m += sweep[i].step) {
            bool ok = rdmsr(m, &v);

            reads += ok;
            if (m == MSR_APIC_BASE || m == 0xc0000080 || m == 0x10)
                continue; /* would take the ground from under us */
            writes += wrmsr(m, ok ? v : 0);
        }
    say("MSRs done: %u read, %u written\n", reads, writes);
    CHECK(reads > 10);
    CHECK(!wrmsr(0xfffffff0, 0x123456789abcdefull));
    CHECK(!rdmsr(0xfffffff0, &v));
}

void guest_test(const struct start *s)
{
    (void)s;
    interrupts_init();
    cli();
    msrs();
    memory();
    apic_page();
    ports();
    /* still alive: the clock and the configuration space answer */
    delay_us(1000);
    CHECK_EQ(mem32(0xe0000000), 0x00081b36);
}
