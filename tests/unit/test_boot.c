/* SPDX-License-Identifier: MIT */
/*
 * boot_load(): hand-made kernels of every kind land where they should with the right start
 * state, and every kind of bad file gets its own message.
 * Threads: one.  Needs no /dev/kvm and no file outside the build.
 */
#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/loader.h"
#include "vmm/machine/mem.h"

#include <cmocka.h>

#define RAM      (64ull << 20)
#define KERN     0x1000000ull /* where test kernels go */
#define FILE_MAX 0x10000

/* A kernel file while a test makes it. */
struct file {
    uint8_t b[FILE_MAX]; /* contents */
    size_t len;          /* bytes that will be written */
};

/* What a test ELF is to look like. */
struct elf_make {
    bool is64;        /* class */
    bool pvh;         /* PHYS32_ENTRY note */
    bool is_linux;    /* Linux's own note */
    bool multiboot;   /* multiboot header */
    bool interp;      /* PT_INTERP */
    uint32_t mbflags; /* of the multiboot header */
    uint16_t machine; /* 0: what suits the class */
    uint16_t type;    /* 0: ET_EXEC */
};

/* What a load gave. */
struct result {
    struct boot_entry e; /* start state */
    struct err err;      /* message */
    int ret;             /* of boot_load() */
};

static struct guest_mem mem;  /* of all tests; contents are overwritten by each */
static struct boot_spec spec; /* of the next load() */
static struct file file;      /* of the next load() */
static uint64_t initrd_len;   /* of the next load(), 0: none */

/* A memfd of len bytes that begins with n bytes. */
static int make_fd(const void *bytes, size_t n, uint64_t len)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    assert_int_equal(pwrite(fd, bytes, n, 0), n);
    return fd;
}

/* Loads what file, spec and initrd_len say, then forgets all three. */
static struct result load(void)
{
    struct result r = {.ret = 0};

    spec.kernel_fd = make_fd(file.b, file.len, file.len);
    spec.initrd_fd = initrd_len ? make_fd("INITRD", 6, initrd_len) : -1;
    spec.kernel_name = "/some/where/testkernel";
    spec.initrd_name = "/some/where/testinitrd";
    if (!spec.cmdline)
        spec.cmdline = "console=ttyS0";
    r.ret = boot_load(&mem, &spec, &r.e, &r.err);
    close(spec.kernel_fd);
    if (spec.initrd_fd >= 0)
        close(spec.initrd_fd);
    memset(&spec, 0, sizeof(spec));
    initrd_len = 0;
    return r;
}

/* loads and expects success. */
static struct boot_entry load_ok(void)
{
    struct result r = load();

    if (r.ret)
        print_error("%s\n", r.err.text);
    assert_int_equal(r.ret, 0);
    return r.e;
}

/* Loads and expects a message with part in it and with the file's name. */
static void load_bad(const char *part)
{
    struct result r = load();

    if (r.ret >= 0 || !strstr(r.err.text, part))
        print_error("wanted \"%s\", got \"%s\"\n", part, r.err.text);
    assert_true(r.ret < 0);
    assert_int_equal(r.err.status, EXIT_KERNEL);
    assert_non_null(strstr(r.err.text, part));
    assert_true(strstr(r.err.text, "testkernel") || strstr(r.err.text, "testinitrd"));
}

/* Bytes of guest memory. */
static void *at(uint64_t gpa, uint64_t len)
{
    void *p = mem_at(&mem, gpa, len, MEM_READ);

    assert_non_null(p);
    return p;
}

/* ---- makers ---- */

/* The header of the bzImage under construction. */
static struct setup_header *bz_hdr(void)
{
    return (struct setup_header *)(file.b + 0x1f1);
}

/* A bzImage: 2 setup sectors, 8 KiB of payload that begins with "PAYLOAD". */
static void make_bz(void)
{
    struct setup_header *h = bz_hdr();

    memset(&file, 0, sizeof(file));
    h->setup_sects = 2;
    h->syssize = 0x2000 / 16;
    h->boot_flag = 0xaa55;
    h->jump = 0x6aeb; /* the header ends at 0x26c */
    h->header = 0x53726448;
    h->version = 0x20f;
    h->loadflags = LOADED_HIGH;
    h->initrd_addr_max = 0x7fffffff;
    h->kernel_alignment = 0x200000;
    h->relocatable_kernel = 1;
    h->xloadflags = XLF_KERNEL_64;
    h->cmdline_size = 2047;
    h->pref_address = KERN;
    h->init_size = 0x100000;
    strcpy((char *)file.b + 3 * 512, "PAYLOAD");
    file.len = 3 * 512 + 0x2000;
}

/* Writes one note at p; returns the place behind it. */
static uint8_t *put_note(uint8_t *p, const char *name, uint32_t type, uint64_t desc,
                         uint32_t len)
{
    uint32_t h[3] = {(uint32_t)strlen(name) + 1, len, type};

    memcpy(p, h, sizeof(h));
    strcpy((char *)p + 12, name);
    memcpy(p + 12 + ((h[0] + 3) & ~3u), &desc, len);
    return p + 12 + ((h[0] + 3) & ~3u) + len;
}

/* Writes program header i. */
static void put_phdr(bool is64, unsigned i, const Elf64_Phdr *p)
{
    Elf32_Phdr n = {
        .p_type = p->p_type,
        .p_offset = (uint32_t)p->p_offset,
        .p_vaddr = (uint32_t)p->p_vaddr,
        .p_paddr = (uint32_t)p->p_paddr,
        .p_filesz = (uint32_t)p->p_filesz,
        .p_memsz = (uint32_t)p->p_memsz,
    };

    if (is64)
        memcpy(file.b + 64 + i * sizeof(*p), p, sizeof(*p));
    else
        memcpy(file.b + 64 + i * sizeof(n), &n, sizeof(n));
}

/* Writes the file header for nph program headers at 64. */
static void put_ehdr(const struct elf_make *m, uint64_t entry, unsigned nph)
{
    Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
                    .e_type = m->type ? m->type : ET_EXEC,
                    .e_machine = m->machine ? m->machine : EM_X86_64,
                    .e_version = 1,
                    .e_entry = entry,
                    .e_phoff = 64,
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = (uint16_t)nph};
    Elf32_Ehdr n = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, 1},
                    .e_type = h.e_type,
                    .e_machine = m->machine ? m->machine : EM_386,
                    .e_version = 1,
                    .e_entry = (uint32_t)entry,
                    .e_phoff = 64,
                    .e_phentsize = sizeof(Elf32_Phdr),
                    .e_phnum = h.e_phnum};

    if (m->is64)
        memcpy(file.b, &h, sizeof(h));
    else
        memcpy(file.b, &n, sizeof(n));
}

/* An ELF: one segment of 4 KiB in the file and 8 KiB in memory at KERN, entry KERN + 0x10. */
static void make_elf(struct elf_make m)
{
    uint8_t *note = file.b + 0x200, *end = note;
    uint32_t mb[3] = {0x1badb002, m.mbflags, -(0x1badb002 + m.mbflags)};
    unsigned n = 0;

    memset(&file, 0, sizeof(file));
    put_phdr(m.is64, n++,
             &(Elf64_Phdr){.p_type = PT_LOAD,
                           .p_offset = 0x1000,
                           .p_vaddr = KERN,
                           .p_paddr = KERN,
                           .p_filesz = 0x1000,
                           .p_memsz = 0x2000});
    if (m.pvh)
        end = put_note(end, "Xen", 18, KERN + 0x20, m.is64 ? 8 : 4);
    if (m.is_linux)
        end = put_note(end, "Linux", 0x100, 0, 4);
    if (end > note)
        put_phdr(m.is64, n++,
                 &(Elf64_Phdr){
                     .p_type = PT_NOTE, .p_offset = 0x200, .p_filesz = (uint64_t)(end - note)});
    if (m.interp)
        put_phdr(m.is64, n++, &(Elf64_Phdr){.p_type = PT_INTERP});
    if (m.multiboot)
        memcpy(file.b + 0x300, mb, sizeof(mb));
    put_ehdr(&m, KERN + 0x10, n);
    strcpy((char *)file.b + 0x1000, "SEGMENT");
    file.len = 0x2000;
}

/* A flat file with a multiboot header at 0x40 that loads it all to KERN, with bss. */
static void make_flat(void)
{
    uint32_t h[8] = {0x1badb002, 0x10003, -(0x1badb002 + 0x10003), KERN + 0x40,
                     KERN,       0,       KERN + 0x3000,           KERN + 0x60};

    memset(&file, 0, sizeof(file));
    strcpy((char *)file.b, "FLAT");
    memcpy(file.b + 0x40, h, sizeof(h));
    file.len = 0x1000;
}

/* ---- good kernels ---- */

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

/* ---- bad ones ---- */

/* One way to spoil a kernel and the message it must give. */
struct bad {
    void (*make)(void); /* fills file, spec, initrd_len */
    const char *part;   /* of the message */
};

/* The first program header of a 64-bit test ELF. */
static Elf64_Phdr *ph(void)
{
    return (Elf64_Phdr *)(file.b + 64);
}

static void good_elf(void)
{
    make_elf((struct elf_make){.is64 = true, .is_linux = true});
}

static void bad_empty(void)
{
    memset(&file, 0, sizeof(file));
}

static void bad_text(void)
{
    file.len = (size_t)sprintf((char *)file.b, "#!/bin/sh\necho hello\n");
}

static void bad_noise(void)
{
    memset(&file, 0xa5, sizeof(file));
    file.len = 5000;
}

static void bad_gzip(void)
{
    bad_noise();
    memcpy(file.b, "\x1f\x8b", 2);
}

static void bad_xz(void)
{
    bad_noise();
    memcpy(file.b,
           "\xfd"
           "7zXZ",
           6);
}

static void bad_zstd(void)
{
    bad_noise();
    memcpy(file.b, "\x28\xb5\x2f\xfd", 4);
}

static void bad_arm_image(void)
{
    bad_noise();
    memcpy(file.b, "MZ", 2);
    memcpy(file.b + 0x38, "ARM\x64", 4);
}

static void bad_efi(void)
{
    bad_noise();
    memcpy(file.b, "MZ", 2);
}

static void bad_cpio(void)
{
    bad_noise();
    memcpy(file.b, "070701", 6);
}

static void bz_header_cut(void)
{
    make_bz();
    file.len = 0x230;
}

static void bz_setup_cut(void)
{
    make_bz();
    file.len = 1000;
}

static void bz_payload_cut(void)
{
    make_bz();
    file.len--;
}

static void bz_32bit(void)
{
    make_bz();
    bz_hdr()->xloadflags = 0;
}

static void bz_old(void)
{
    make_bz();
    bz_hdr()->version = 0x206;
}

static void bz_low(void)
{
    make_bz();
    bz_hdr()->loadflags = 0;
}

static void bz_align(void)
{
    make_bz();
    bz_hdr()->kernel_alignment = 0x300000;
}

static void bz_big(void)
{
    make_bz();
    bz_hdr()->init_size = 0x4000000;
}

static void bz_wild(void)
{
    make_bz();
    bz_hdr()->pref_address = UINT64_MAX - 5;
}

static void bz_over_params(void)
{
    make_bz();
    bz_hdr()->relocatable_kernel = 0;
    bz_hdr()->pref_address = 0x1000;
}

static void bz_over_firmware(void)
{
    make_bz();
    bz_hdr()->relocatable_kernel = 0;
    bz_hdr()->pref_address = 0x90000;
}

static void bz_cmdline(void)
{
    make_bz();
    bz_hdr()->cmdline_size = 12;
}

static void bz_as_pvh(void)
{
    make_bz();
    spec.kind = BOOT_PVH;
}

static void elf_cut_header(void)
{
    good_elf();
    file.len = 40;
}

static void elf_cut_phdrs(void)
{
    good_elf();
    file.len = 100;
}

static void elf_cut_segment(void)
{
    good_elf();
    file.len = 0x1fff;
}

static void elf_class(void)
{
    good_elf();
    file.b[EI_CLASS] = 7;
}

static void elf_arm(void)
{
    make_elf((struct elf_make){.is64 = true, .machine = EM_AARCH64});
}

static void elf_dyn(void)
{
    make_elf((struct elf_make){.is64 = true, .type = ET_DYN});
}

static void elf_rel(void)
{
    make_elf((struct elf_make){.is64 = true, .type = ET_REL});
}

static void elf_interp(void)
{
    make_elf((struct elf_make){.is64 = true, .interp = true});
}

static void elf_static_program(void)
{
    make_elf((struct elf_make){.is64 = true});
}

static void elf32_plain(void)
{
    make_elf((struct elf_make){.is64 = false});
}

static void elf32_as_linux(void)
{
    elf32_plain();
    spec.kind = BOOT_LINUX64;
}

static void elf_phnum(void)
{
    good_elf();
    ((Elf64_Ehdr *)file.b)->e_phnum = 4000;
}

static void elf_no_load(void)
{
    good_elf();
    ph()->p_type = PT_NULL;
}

static void elf_filesz(void)
{
    good_elf();
    ph()->p_memsz = 0x10;
}

static void elf_overlap(void)
{
    good_elf();
    ph()[1] = ph()[0];
    ph()[1].p_paddr += 0x1fff;
}

static void elf_entry_out(void)
{
    good_elf();
    ((Elf64_Ehdr *)file.b)->e_entry = KERN + 0x2000;
}

static void elf_beyond_ram(void)
{
    good_elf();
    ph()->p_paddr = RAM - 0x1fff;
    ((Elf64_Ehdr *)file.b)->e_entry = RAM - 0x1000;
}

static void elf_in_hole(void)
{
    good_elf();
    ph()->p_paddr = 5ull << 30;
    ((Elf64_Ehdr *)file.b)->e_entry = 5ull << 30;
}

static void elf_over_tables(void)
{
    good_elf();
    ph()->p_paddr = 0xa000;
    ((Elf64_Ehdr *)file.b)->e_entry = 0xa000;
}

static void pvh_none(void)
{
    good_elf();
    spec.kind = BOOT_PVH;
}

static void pvh_entry_out(void)
{
    make_elf((struct elf_make){.is64 = true, .pvh = true});
    ph()->p_paddr += 0x100000;
    ph()->p_vaddr += 0x100000;
}

static void mb_none(void)
{
    elf32_plain();
    spec.kind = BOOT_MULTIBOOT;
}

static void mb_video(void)
{
    make_elf((struct elf_make){.multiboot = true, .mbflags = 4});
}

static void mb_unknown(void)
{
    make_elf((struct elf_make){.multiboot = true, .mbflags = 0x80});
}

static void mb_flat_no_addresses(void)
{
    make_flat();
    ((uint32_t *)(file.b + 0x40))[1] = 3;
    ((uint32_t *)(file.b + 0x40))[2] = -(0x1badb002u + 3);
}

static void mb_addresses(void)
{
    make_flat();
    ((uint32_t *)(file.b + 0x40))[4] = KERN + 0x80; /* behind the header */
}

static void mb_entry_out(void)
{
    make_flat();
    ((uint32_t *)(file.b + 0x40))[7] = KERN + 0x3000;
}

static void mb_cut(void)
{
    make_flat();
    ((uint32_t *)(file.b + 0x40))[5] = KERN + 0x1001;
}

static void mb_header_cut(void)
{
    make_flat();
    file.len = 0x50;
}

static void initrd_big(void)
{
    make_bz();
    initrd_len = RAM;
}

static void initrd_huge(void)
{
    make_bz();
    initrd_len = 5ull << 30;
}

static const struct bad bad_kernels[] = {
    {bad_empty, "is empty"},
    {bad_text, "text file"},
    {bad_noise, "is no kernel"},
    {bad_gzip, "by gzip"},
    {bad_xz, "by xz"},
    {bad_zstd, "by zstd"},
    {bad_arm_image, "Image for aarch64"},
    {bad_efi, "EFI program"},
    {bad_cpio, "cpio archive"},
    {bz_header_cut, "setup header alone"},
    {bz_setup_cut, "setup sectors reach"},
    {bz_payload_cut, "of kernel after the setup part"},
    {bz_32bit, "32-bit Linux kernel"},
    {bz_old, "boot protocol 2.06"},
    {bz_low, "zImage"},
    {bz_align, "power of two"},
    {bz_big, "at least 80 MiB"},
    {bz_wild, "below 3 GiB"},
    {bz_over_params, "overlaps the boot structures"},
    {bz_over_firmware, "overlaps the firmware area"},
    {bz_cmdline, "command line too long: 13 bytes, this kernel takes at most 12"},
    {bz_as_pvh, "is a bzImage"},
    {elf_cut_header, "truncated inside the ELF header"},
    {elf_cut_phdrs, "truncated: an ELF program header"},
    {elf_cut_segment, "reaches beyond the end of the file"},
    {elf_class, "unknown class 7"},
    {elf_arm, "ELF for aarch64"},
    {elf_dyn, "ET_DYN"},
    {elf_rel, "object or core file"},
    {elf_interp, "dynamic linker"},
    {elf_static_program, "is it a user program?"},
    {elf32_plain, "32-bit ELF with neither"},
    {elf32_as_linux, "32-bit ELF cannot be started"},
    {elf_phnum, "4000 ELF program headers"},
    {elf_no_load, "without a segment to load"},
    {elf_filesz, "broken ELF segment"},
    {elf_overlap, "segments overlap"},
    {elf_entry_out, "entry point 0x1002000 is in none"},
    {elf_beyond_ram, "at least 66 MiB (it has 64 MiB)"},
    {elf_in_hole, "at 0x140000000; a kernel must lie below 3 GiB"},
    {elf_over_tables, "at 0xa000 overlaps the boot structures"},
    {pvh_none, "has no PVH entry point"},
    {pvh_entry_out, "PVH entry point 0x1000020 is in none"},
    {mb_none, "has no multiboot header"},
    {mb_video, "insists on a video mode"},
    {mb_unknown, "asks for unknown things"},
    {mb_flat_no_addresses, "without load addresses"},
    {mb_addresses, "broken multiboot addresses"},
    {mb_entry_out, "outside of what is loaded"},
    {mb_cut, "truncated: the multiboot kernel"},
    {mb_header_cut, "multiboot header's addresses"},
    {initrd_big, "give the guest at least 82 MiB"},
    {initrd_huge, "too large for the kernel"},
};

enum { NBAD = sizeof(bad_kernels) / sizeof(bad_kernels[0]) };

static void test_bad(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NBAD; i++) {
        bad_kernels[i].make();
        load_bad(bad_kernels[i].part);
    }
}

/* No two ways of being bad share a message; a loader_cmdline overflow and the like included. */
static void test_bad_distinct(void **state)
{
    static struct result r[NBAD];

    (void)state;
    for (unsigned i = 0; i < NBAD; i++) {
        bad_kernels[i].make();
        r[i] = load();
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(r[i].err.text, r[j].err.text);
    }
}

/* What is no regular file is told so, for kernel and initrd. */
static void test_not_regular(void **state)
{
    struct boot_spec s = {
        .kernel_name = "K", .initrd_name = "I", .cmdline = "", .initrd_fd = -1};
    struct boot_entry e;
    struct err err = {0};
    int p[2];

    (void)state;
    s.kernel_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(boot_load(&mem, &s, &e, &err), -EISDIR);
    assert_string_equal(err.text, "K: is a directory; name the kernel file in it");
    close(s.kernel_fd);
    assert_int_equal(pipe(p), 0);
    memset(&err, 0, sizeof(err));
    s.kernel_fd = p[0];
    assert_true(boot_load(&mem, &s, &e, &err) < 0);
    assert_string_equal(err.text, "K: is no regular file; a kernel must be one");
    close(p[0]);
    close(p[1]);
    make_bz();
    s.kernel_fd = make_fd(file.b, file.len, file.len);
    s.initrd_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    memset(&err, 0, sizeof(err));
    assert_int_equal(boot_load(&mem, &s, &e, &err), -EISDIR);
    assert_string_equal(err.text, "I: is a directory; name the initrd file in it");
    close(s.initrd_fd);
    close(s.kernel_fd);
}

/* A command line longer than its place is refused by every protocol. */
static void test_cmdline_place(void **state)
{
    static char line[LAY_CMDLINE_LEN + 1];

    (void)state;
    memset(line, 'x', sizeof(line) - 1);
    make_bz();
    bz_hdr()->cmdline_size = UINT32_MAX;
    spec.cmdline = line;
    load_bad("command line too long");
    make_flat();
    spec.cmdline = line;
    load_bad("command line too long");
    make_elf((struct elf_make){.pvh = true});
    spec.cmdline = line;
    load_bad("command line too long");
    line[LAY_CMDLINE_LEN - 1] = '\0'; /* the longest that fits */
    make_elf((struct elf_make){.pvh = true});
    spec.cmdline = line;
    load_ok();
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
    elf_beyond_ram();
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
        cmocka_unit_test(test_bzimage),
        cmocka_unit_test(test_bzimage_places),
        cmocka_unit_test(test_vmlinux),
        cmocka_unit_test(test_vmlinux_by_banner),
        cmocka_unit_test(test_elf64_on_request),
        cmocka_unit_test(test_pvh),
        cmocka_unit_test(test_multiboot),
        cmocka_unit_test(test_multiboot_virtual_entry),
        cmocka_unit_test(test_multiboot_addresses),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bad_distinct),
        cmocka_unit_test(test_not_regular),
        cmocka_unit_test(test_cmdline_place),
        cmocka_unit_test(test_acpi_in_ram),
        cmocka_unit_test(test_high_memory),
    };

    return cmocka_run_group_tests_name("boot", tests, setup, teardown);
}
