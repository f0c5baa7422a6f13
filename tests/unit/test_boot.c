/* SPDX-License-Identifier: MIT */
/*
 * boot_load(): hand-made kernels of every kind land where they should, with the right start
 * state, memory map and information.
 * Threads: one.  Needs no /dev/kvm and no file outside the build.
 */
#include "tests/unit/boot_make.h"

/* Checks what is common to 64-bit starts: tables, GDT. */
static void check_long(const struct boot_entry *e)
{
    const uint64_t *pml4, *pdpt, *pd, *gdt;

    assert_int_equal(e->mode, BOOT_MODE_LONG);
    pml4 = at(e->cr3, 4096);
    pdpt = at(pml4[0] & ~0xfffull, 4096);
    for (uint64_t gpa = 0; gpa < 4ull << 30; gpa += 0x200000) {
        pd = at(pdpt[gpa >> 30] & ~0xfffull, 4096);
        assert_int_equal(pd[gpa >> 21 & 511], gpa | 0x83);
    }
    assert_int_equal(pdpt[4], 0);
    gdt = at(e->gdt, 32);
    assert_int_equal(e->gdt_limit, 31);
    assert_int_equal(gdt[2], 0x00af9b000000ffff);
    assert_int_equal(gdt[3], 0x00cf93000000ffff);
}

/* Checks e820 of boot_params for 64 MiB. */
static void check_e820(const struct boot_params *p)
{
    static const struct {
        uint64_t gpa, len;
        uint32_t type;
    } want[] = {{0, 0x9fc00, 1},
                {0x9fc00, 0x400, 2},
                {0xe0000, 0x20000, 2},
                {0x100000, RAM - 0x100000, 1},
                {0xe0000000, 0x100000, 2}};

    assert_int_equal(p->e820_entries, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(p->e820_table[i].addr, want[i].gpa);
        assert_int_equal(p->e820_table[i].size, want[i].len);
        assert_int_equal(p->e820_table[i].type, want[i].type);
    }
}

static void test_bzimage(void **state)
{
    const struct boot_params *p;
    struct boot_entry e;

    (void)state;
    make_bz();
    initrd_len = 10000;
    spec.rsdp = 0xe0000;
    spec.cmdline = "root=/dev/vda quiet";
    e = load_ok();
    check_long(&e);
    assert_true(e.is_linux);
    assert_int_equal(e.rip, KERN + 0x200);
    assert_string_equal(at(KERN, 8), "PAYLOAD");
    p = at(e.rsi, sizeof(*p));
    check_e820(p);
    assert_int_equal(p->hdr.boot_flag, 0xaa55);
    assert_int_equal(p->hdr.type_of_loader, 0xff);
    assert_int_equal(p->hdr.code32_start, KERN);
    assert_int_equal(p->acpi_rsdp_addr, 0xe0000);
    assert_string_equal(at(p->hdr.cmd_line_ptr, 64), "root=/dev/vda quiet");
    assert_int_equal(p->hdr.ramdisk_size, 10000);
    assert_int_equal(p->hdr.ramdisk_image, (RAM - 10000) & ~0xfffull);
    assert_memory_equal(at(p->hdr.ramdisk_image, 6), "INITRD", 6);
}

static void test_bzimage_places(void **state)
{
    struct boot_entry e;
    const struct boot_params *p;

    (void)state;
    make_bz(); /* preferred address is rounded up to the alignment */
    bz_hdr()->pref_address = KERN + 0x1000;
    e = load_ok();
    assert_int_equal(e.rip, KERN + 0x200000 + 0x200);
    make_bz(); /* 4 setup sectors when the file says 0 */
    bz_hdr()->setup_sects = 0;
    file.len = 5 * 512 + 0x2000;
    strcpy((char *)file.b + 5 * 512, "FIVE");
    e = load_ok();
    assert_string_equal(at(e.rip - 0x200, 5), "FIVE");
    make_bz(); /* the initrd obeys initrd_addr_max and goes below a kernel in its way */
    bz_hdr()->initrd_addr_max = KERN + 0x80000;
    initrd_len = 0x5000;
    e = load_ok();
    p = at(e.rsi, sizeof(*p));
    assert_int_equal(p->hdr.ramdisk_image, KERN - 0x5000);
}

static void test_vmlinux(void **state)
{
    const struct boot_params *p;
    struct boot_entry e;

    (void)state;
    make_elf((struct elf_make){.is64 = true, .is_linux = true, .pvh = true});
    memset(at(KERN, 0x2000), 0xee, 0x2000); /* what an earlier boot left */
    e = load_ok();
    check_long(&e);
    assert_true(e.is_linux);
    assert_int_equal(e.rip, KERN + 0x10);
    assert_string_equal(at(KERN, 8), "SEGMENT");
    assert_int_equal(*(uint8_t *)at(KERN + 0x1000, 1), 0);
    assert_int_equal(*(uint8_t *)at(KERN + 0x1fff, 1), 0);
    p = at(e.rsi, sizeof(*p));
    check_e820(p);
    assert_int_equal(p->hdr.header, 0x53726448);
    assert_int_equal(p->hdr.ramdisk_size, 0);
}

static void test_vmlinux_by_banner(void **state)
{
    struct boot_entry e;

    (void)state;
    make_elf((struct elf_make){.is64 = true, .pvh = true});
    strcpy((char *)file.b + 0x1800, "Linux version 4.9");
    e = load_ok();
    assert_true(e.is_linux);
    assert_int_equal(e.mode, BOOT_MODE_LONG);
}

static void test_elf64_on_request(void **state)
{
    struct boot_entry e;

    (void)state;
    make_elf((struct elf_make){.is64 = true});
    spec.kind = BOOT_LINUX64;
    e = load_ok();
    assert_false(e.is_linux);
    assert_int_equal(e.rip, KERN + 0x10);
}

/* Checks hvm_start_info and what it leads to. */
static void check_pvh(const struct boot_entry *e, uint64_t initrd)
{
    const uint32_t *s = at(e->ebx, 56);
    const uint64_t *q = at(e->ebx, 56), *mod, *map;

    assert_int_equal(e->mode, BOOT_MODE_PROTECTED);
    assert_int_equal(e->rip, KERN + 0x20);
    assert_int_equal(s[0], 0x336ec578);
    assert_int_equal(s[1], 1);
    assert_int_equal(s[3], initrd ? 1 : 0);
    assert_string_equal(at(q[3], 16), "console=ttyS0");
    assert_int_equal(q[4], 0xe0000);
    if (initrd) {
        mod = at(q[2], 32);
        assert_int_equal(mod[1], initrd);
        assert_memory_equal(at(mod[0], 6), "INITRD", 6);
    }
    map = at(q[5], 24 * 5);
    assert_int_equal(s[12], 5);
    assert_int_equal(map[3 * 3], 0x100000);
    assert_int_equal(map[3 * 3 + 1], RAM - 0x100000);
}

static void test_pvh(void **state)
{
    struct boot_entry e;
    const uint64_t *gdt;

    (void)state;
    for (int is64 = 0; is64 < 2; is64++)
        for (uint64_t initrd = 0; initrd < 9000; initrd += 5000) {
            make_elf((struct elf_make){.is64 = is64, .pvh = true, .multiboot = true});
            spec.rsdp = 0xe0000;
            initrd_len = initrd;
            e = load_ok();
            assert_false(e.is_linux);
            check_pvh(&e, initrd);
            gdt = at(e.gdt, 32);
            assert_int_equal(gdt[2], 0x00cf9b000000ffff);
        }
    make_elf((struct elf_make){.is64 = true, .pvh = true, .is_linux = true});
    spec.kind = BOOT_PVH; /* asked for, Linux or not */
    e = load_ok();
    assert_int_equal(e.mode, BOOT_MODE_PROTECTED);
    assert_true(e.is_linux);
}

/* Checks the multiboot information. */
static void check_multiboot(const struct boot_entry *e, uint64_t initrd)
{
    const uint32_t *mbi = at(e->ebx, 116), *mod, *map;

    assert_int_equal(e->mode, BOOT_MODE_PROTECTED);
    assert_int_equal(e->eax, 0x2badb002);
    assert_int_equal(mbi[0], 0x24d);
    assert_int_equal(mbi[1], 639);
    assert_int_equal(mbi[2], (RAM >> 10) - 1024);
    assert_string_equal(at(mbi[4], 32), "testkernel console=ttyS0");
    assert_int_equal(mbi[5], initrd ? 1 : 0);
    if (initrd) {
        mod = at(mbi[6], 16);
        assert_int_equal(mod[1] - mod[0], initrd);
        assert_memory_equal(at(mod[0], 6), "INITRD", 6);
        assert_string_equal(at(mod[2], 16), "testinitrd");
    }
    assert_int_equal(mbi[11], 5 * 24);
    map = at(mbi[12], 5 * 24);
    assert_int_equal(map[3 * 6], 20);
    assert_int_equal(map[3 * 6 + 1], 0x100000);
    assert_string_equal(at(mbi[16], 6), "disco");
}

static void test_multiboot(void **state)
{
    struct boot_entry e;

    (void)state;
    for (int is64 = 0; is64 < 2; is64++) {
        make_elf((struct elf_make){.is64 = is64, .multiboot = true, .mbflags = 3});
        initrd_len = is64 ? 5000 : 0;
        e = load_ok();
        assert_false(e.is_linux);
        assert_int_equal(e.rip, KERN + 0x10);
        check_multiboot(&e, is64 ? 5000 : 0);
    }
    make_elf((struct elf_make){.multiboot = true});
    spec.cmdline = "";
    e = load_ok();
    assert_string_equal(at(*(uint32_t *)at(e.ebx + 16, 4), 32), "testkernel");
}

static void test_multiboot_virtual_entry(void **state)
{
    struct boot_entry e;
    Elf32_Ehdr *h = (Elf32_Ehdr *)file.b;

    (void)state;
    make_elf((struct elf_make){.multiboot = true});
    ((Elf32_Phdr *)(file.b + 64))->p_vaddr = 0xc0000000;
    h->e_entry = 0xc0000100;
    e = load_ok();
    assert_int_equal(e.rip, KERN + 0x100);
}

static void test_multiboot_addresses(void **state)
{
    struct boot_entry e;

    (void)state;
    make_flat();
    memset(at(KERN, 0x3000), 0xee, 0x3000);
    e = load_ok();
    assert_int_equal(e.rip, KERN + 0x60);
    assert_string_equal(at(KERN, 5), "FLAT");
    assert_int_equal(*(uint8_t *)at(KERN + 0x1000, 1), 0);
    assert_int_equal(*(uint8_t *)at(KERN + 0x2fff, 1), 0);
    check_multiboot(&e, 0);
}

/* ACPI tables too large for the firmware area keep kernel, initrd and map off their RAM. */
static void test_acpi_in_ram(void **state)
{
    const struct acpi_spec a = {.nvcpus = 12000};
    const struct boot_params *p;
    struct boot_entry e;
    uint64_t rsdp, start;

    (void)state;
    assert_int_equal(acpi_build(&mem, &a, &rsdp, NULL), 0);
    start = acpi_ram_start(&mem, rsdp);
    assert_true(start < RAM && start > RAM - 0x100000);
    make_bz();
    initrd_len = 4096;
    spec.rsdp = rsdp;
    e = load_ok();
    p = at(e.rsi, sizeof(*p));
    assert_int_equal(p->hdr.ramdisk_image, start - 4096);
    assert_int_equal(p->e820_entries, 6);
    assert_int_equal(p->e820_table[3].size, start - 0x100000);
    assert_int_equal(p->e820_table[4].addr, start);
    assert_int_equal(p->e820_table[4].type, 2);
    make_elf((struct elf_make){.is64 = true, .is_linux = true});
    ph()->p_paddr = start - 0x1000;
    ((Elf64_Ehdr *)file.b)->e_entry = start - 0x1000;
    spec.rsdp = rsdp;
    load_bad("give the guest at least 66 MiB");
    memset(at(0xe0000, 36), 0, 36);
}

/* Memory above 4 GiB is in the map. */
static void test_high_memory(void **state)
{
    struct guest_mem big = mem;
    const struct boot_params *p;
    struct guest_mem saved = mem;
    struct boot_entry e;

    (void)state;
    big.high = 1ull << 30; /* only the map looks at it */
    mem = big;
    make_bz();
    e = load_ok();
    p = at(e.rsi, sizeof(*p));
    mem = saved;
    assert_int_equal(p->e820_entries, 6);
    assert_int_equal(p->e820_table[5].addr, MEM_HIGH);
    assert_int_equal(p->e820_table[5].size, 1ull << 30);
    assert_int_equal(p->e820_table[5].type, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bzimage),
        cmocka_unit_test(test_bzimage_places),
        cmocka_unit_test(test_vmlinux),
        cmocka_unit_test(test_vmlinux_by_banner),
        cmocka_unit_test(test_elf64_on_request),
        cmocka_unit_test(test_pvh),
        cmocka_unit_test(test_multiboot),
        cmocka_unit_test(test_multiboot_virtual_entry),
        cmocka_unit_test(test_multiboot_addresses),
        cmocka_unit_test(test_acpi_in_ram),
        cmocka_unit_test(test_high_memory),
    };

    return cmocka_run_group_tests_name("boot", tests, setup, teardown);
}
