/* SPDX-License-Identifier: MIT */
/*
 * boot_load(): every kind of bad kernel, initrd and command line is refused with its own message.
 * Threads: one.  Needs no /dev/kvm and no file outside the build.
 */
#include "tests/unit/boot_make.h"

/* One way to spoil a kernel and the message it must give. */
struct bad {
    void (*make)(void); /* fills file, spec, initrd_len */
    const char *part;   /* of the message */
};

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bad_distinct),
        cmocka_unit_test(test_not_regular),
        cmocka_unit_test(test_cmdline_place),
    };

    return cmocka_run_group_tests_name("boot_bad", tests, setup, teardown);
}
