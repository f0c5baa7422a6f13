/* SPDX-License-Identifier: MIT */
/*
 * Chooses the boot protocol by the kernel's contents, has it load everything, and adds the GDT
 * and the identity map.  Interface: boot_load() of vmm/boot/boot.h.
 *
 * Order: look at the file, name what it is or is not, then load.  A file nobody can boot gets a
 * message that says what it is and what would be right.
 * Threads: one, before any vCPU runs.
 */
#include "vmm/boot/boot.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/loader.h"
#include "vmm/machine/mem.h"

/* Descriptors: flat 64-bit code, flat 32-bit code, flat data; all present, accessed, ring 0. */
#define GDT_CODE64 0x00af9b000000ffffull
#define GDT_CODE32 0x00cf9b000000ffffull
#define GDT_DATA   0x00cf93000000ffffull

/* Page-table entry bits: present, writable, 2 MiB page. */
#define PTE_TABLE 0x3ull
#define PTE_2M    0x83ull

/* Beginnings of files that people name by mistake. */
static const struct {
    uint16_t off;      /* where the magic is */
    uint8_t len;       /* its bytes */
    const char *magic; /* the bytes */
    const char *what;  /* rest of the message */
} not_kernels[] = {
    {0, 2, "\x1f\x8b", "is compressed by gzip; unpack it first (gunzip), or use the bzImage"},
    {0, 6,
     "\xfd"
     "7zXZ\0",
     "is compressed by xz; unpack it first (unxz), or use the bzImage"},
    {0, 4, "\x28\xb5\x2f\xfd",
     "is compressed by zstd; unpack it first (unzstd), or use the bzImage"},
    {0, 3, "BZh", "is compressed by bzip2; unpack it first (bunzip2), or use the bzImage"},
    {0, 4, "\x02\x21\x4c\x18",
     "is compressed by lz4; unpack it first (unlz4), or use the bzImage"},
    {0x38, 4, "ARM\x64", "is a Linux Image for aarch64; an x86-64 kernel is wanted"},
    {0x38, 4, "RSC\x05", "is a Linux Image for riscv; an x86-64 kernel is wanted"},
    {0, 6, "070701", "is a cpio archive (an initrd?); a kernel is wanted here"},
    {0, 4, "QFI\xfb", "is a qcow2 disk image; a kernel is wanted here"},
    {0, 2, "MZ", "is a Windows or EFI program without a Linux boot header; a bzImage has one"},
};

/* Tells what a file is that no protocol knows. */
static int not_a_kernel(const struct image *img, struct err *err)
{
    size_t text = 0;

    for (size_t i = 0; i < sizeof(not_kernels) / sizeof(not_kernels[0]); i++)
        if (img->head_len >= (size_t)not_kernels[i].off + not_kernels[i].len &&
            memcmp(img->head + not_kernels[i].off, not_kernels[i].magic, not_kernels[i].len) ==
                0)
            return fail(err, EXIT_KERNEL, ENOEXEC, "%s: %s", img->name, not_kernels[i].what);
    while (text < img->head_len && (isprint(img->head[text]) || isspace(img->head[text])))
        text++;
    if (text == img->head_len)
        return fail(err, EXIT_KERNEL, ENOEXEC,
                    "%s: is a text file; a kernel (bzImage, vmlinux, PVH or multiboot ELF) is "
                    "wanted",
                    img->name);
    return fail(err, EXIT_KERNEL, ENOEXEC,
                "%s: is no kernel: neither a bzImage nor an ELF file nor a multiboot image",
                img->name);
}

/* Tells why an ELF of the right machine cannot be booted. */
static int elf_unknown(const struct image *img, const struct elf *elf, struct err *err)
{
    if (!elf->is64)
        return fail(
            err, EXIT_KERNEL, ENOEXEC,
            "%s: 32-bit ELF with neither a multiboot header in its first 8 KiB nor a PVH "
            "note (Xen PHYS32_ENTRY)",
            img->name);
    return fail(err, EXIT_KERNEL, ENOEXEC,
                "%s: 64-bit ELF that is no Linux kernel and has neither a PVH note (Xen "
                "PHYS32_ENTRY) nor a multiboot header; is it a user program?",
                img->name);
}

/* The protocol of an ELF kernel, by its contents where the caller leaves it open. */
static enum boot_kind elf_kind(const struct loader *l, const struct elf *elf, bool is_linux)
{
    if (l->spec->kind != BOOT_AUTO)
        return l->spec->kind;
    if (elf->is64 && is_linux)
        return BOOT_LINUX64;
    if (elf->has_pvh)
        return BOOT_PVH;
    return multiboot_find(&l->kernel) >= 0 ? BOOT_MULTIBOOT : BOOT_AUTO;
}

/* Loads an ELF kernel. */
static int load_elf(struct loader *l, struct boot_entry *out)
{
    struct elf elf;
    int ret = elf_parse(&l->kernel, &elf, l->err);

    if (ret < 0)
        return ret;
    out->is_linux = elf_is_linux(&l->kernel, &elf);
    switch (elf_kind(l, &elf, out->is_linux)) {
    case BOOT_LINUX64:
        return linux_load_elf(l, &elf, out);
    case BOOT_PVH:
        return pvh_load(l, &elf, out);
    case BOOT_MULTIBOOT:
        return multiboot_load(l, &elf, out);
    default:
        return elf_unknown(&l->kernel, &elf, l->err);
    }
}

/* Loads a file that is no ELF. */
static int load_other(struct loader *l, struct boot_entry *out)
{
    enum boot_kind kind = l->spec->kind;
    bool bz = linux_is_bzimage(&l->kernel);

    if (bz && (kind == BOOT_AUTO || kind == BOOT_LINUX64))
        return linux_load_bzimage(l, out);
    if (multiboot_find(&l->kernel) >= 0 && (kind == BOOT_AUTO || kind == BOOT_MULTIBOOT))
        return multiboot_load(l, NULL, out);
    if (bz)
        return fail(l->err, EXIT_KERNEL, ENOEXEC,
                    "%s: is a bzImage; it boots with boot = \"linux\" or \"auto\" only",
                    l->kernel.name);
    return not_a_kernel(&l->kernel, l->err);
}

/* Writes the GDT: null, null, code at 0x10, data at 0x18. */
static void gdt_write(const struct loader *l, struct boot_entry *out)
{
    uint64_t *gdt = loader_fixed(l, LAY_GDT, 4 * sizeof(*gdt));

    gdt[2] = out->mode == BOOT_MODE_LONG ? GDT_CODE64 : GDT_CODE32;
    gdt[3] = GDT_DATA;
    out->gdt = LAY_GDT;
    out->gdt_limit = 4 * sizeof(*gdt) - 1;
}

/* Writes page tables that map the first 4 GiB one to one, by 2 MiB pages. */
static void tables_write(const struct loader *l, struct boot_entry *out)
{
    uint64_t *t = loader_fixed(l, LAY_TABLES, 6 * MEM_PAGE);
    uint64_t *pdpt = t + 512, *pd = t + 1024;

    t[0] = (LAY_TABLES + MEM_PAGE) | PTE_TABLE;
    for (uint64_t i = 0; i < 4; i++)
        pdpt[i] = (LAY_TABLES + (2 + i) * MEM_PAGE) | PTE_TABLE;
    for (uint64_t i = 0; i < 4 * 512; i++)
        pd[i] = i << 21 | PTE_2M;
    out->cr3 = LAY_TABLES;
}

int boot_load(const struct guest_mem *mem, const struct boot_spec *spec, struct boot_entry *out,
              struct err *err)
{
    struct loader l = {.mem = mem, .spec = spec, .err = err, .kernel_lo = UINT64_MAX};
    int ret;

    memset(out, 0, sizeof(*out));
    l.top = spec->rsdp ? acpi_ram_start(mem, spec->rsdp) : mem->low;
    ret = image_open(&l.kernel, spec->kernel_fd, spec->kernel_name, "kernel", err);
    if (ret == 0)
        ret = elf_magic(&l.kernel) ? load_elf(&l, out) : load_other(&l, out);
    if (ret < 0)
        return ret;
    gdt_write(&l, out);
    if (out->mode == BOOT_MODE_LONG)
        tables_write(&l, out);
    return 0;
}
