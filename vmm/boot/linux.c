/* SPDX-License-Identifier: MIT */
/*
 * The Linux 64-bit boot protocol: bzImage (entry at +0x200 of the payload) and vmlinux.
 * Interface: linux_load_bzimage(), linux_load_elf(), linux_is_bzimage() of vmm/boot/loader.h.
 *
 * The kernel is put at its preferred address, so that it need not move itself; the whole of
 * init_size is claimed there, because decompressing and early boot write all of it.
 * Threads: one, before any vCPU runs.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "base/err.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/loader.h"

enum {
    HDR_AT = 0x1f1,          /* offset of struct setup_header in file and boot_params */
    HDR_MAGIC_AT = 0x202,    /* offset of "HdrS" */
    HDR_LEN_AT = 0x201,      /* byte that says where the header ends, from HDR_MAGIC_AT */
    HDR_NEEDED = 0x264,      /* end of init_size, the last field used */
    HDR_VERSION = 0x20c,     /* first protocol with xloadflags */
    BOOT_FLAG = 0xaa55,      /* at 0x1fe */
    SECTOR = 512,            /* unit of setup_sects */
    ENTRY64 = 0x200,         /* of the 64-bit entry point in the payload */
    LOADER_UNKNOWN = 0xff,   /* type_of_loader of who has no number */
    CMDLINE_MAX = 2047,      /* what x86 Linux takes when it cannot be asked */
    INITRD_MAX = 0x7fffffff, /* likewise: highest byte of an initrd */
};

#define HDR_MAGIC 0x53726448u /* "HdrS" */

bool linux_is_bzimage(const struct image *img)
{
    uint32_t magic;
    uint16_t flag;

    if (img->head_len < HDR_MAGIC_AT + sizeof(magic))
        return false;
    memcpy(&magic, img->head + HDR_MAGIC_AT, sizeof(magic));
    memcpy(&flag, img->head + 0x1fe, sizeof(flag));
    return magic == HDR_MAGIC && flag == BOOT_FLAG;
}

/* Copies the setup header, as far as the kernel says it reaches. */
static int header_read(const struct image *img, struct setup_header *h, struct err *err)
{
    size_t len = HDR_MAGIC_AT + img->head[HDR_LEN_AT] - HDR_AT;

    memset(h, 0, sizeof(*h));
    if (img->head_len < HDR_NEEDED)
        return fail(err, EXIT_KERNEL, ENODATA,
                    "%s: truncated bzImage: %zu bytes, the setup header alone takes %d",
                    img->name, img->head_len, HDR_NEEDED);
    if (len > sizeof(*h))
        len = sizeof(*h);
    if (len > img->head_len - HDR_AT)
        len = img->head_len - HDR_AT;
    memcpy(h, img->head + HDR_AT, len);
    if (h->setup_sects == 0)
        h->setup_sects = 4;
    return 0;
}

/* Refuses kernels without the 64-bit entry point, and headers that make no sense. */
static int header_check(const struct image *img, const struct setup_header *h, struct err *err)
{
    if (h->version < HDR_VERSION)
        return fail(err, EXIT_KERNEL, ENOEXEC,
                    "%s: bzImage of boot protocol %u.%02u; 2.12 (Linux 3.8) or newer is needed",
                    img->name, h->version >> 8, h->version & 0xff);
    if (!(h->xloadflags & XLF_KERNEL_64))
        return fail(
            err, EXIT_KERNEL, ENOEXEC,
            "%s: 32-bit Linux kernel (no 64-bit entry point); an x86-64 kernel is needed",
            img->name);
    if (!(h->loadflags & LOADED_HIGH))
        return fail(err, EXIT_KERNEL, ENOEXEC,
                    "%s: zImage that loads low; a bzImage is needed (make bzImage)", img->name);
    if (h->kernel_alignment & (h->kernel_alignment - 1) || h->syssize == 0)
        return fail(err, EXIT_KERNEL, ENOEXEC,
                    "%s: broken bzImage header: alignment 0x%x (a power of two is right), "
                    "payload of 0x%x paragraphs",
                    img->name, h->kernel_alignment, h->syssize);
    return 0;
}

/* Finds the payload: offset of and bytes in the file. */
static int payload_find(const struct image *img, const struct setup_header *h, uint64_t *off,
                        uint64_t *len, struct err *err)
{
    *off = (uint64_t)(h->setup_sects + 1) * SECTOR;
    *len = (uint64_t)h->syssize * 16;
    if (*off >= img->size)
        return fail(err, EXIT_KERNEL, ENODATA,
                    "%s: truncated bzImage: %" PRIu64
                    " bytes, its %u setup sectors reach up to "
                    "%" PRIu64,
                    img->name, img->size, h->setup_sects, *off);
    if (*len > img->size - *off)
        return fail(err, EXIT_KERNEL, ENODATA,
                    "%s: truncated bzImage: %" PRIu64 " bytes of kernel after the setup part, "
                    "its header says %" PRIu64,
                    img->name, img->size - *off, *len);
    return 0;
}

/* Where the payload goes: the preferred address, aligned where the kernel may be moved. */
static uint64_t payload_gpa(const struct setup_header *h)
{
    uint64_t gpa = h->pref_address, align = h->kernel_alignment;

    if (!h->relocatable_kernel)
        return gpa;
    if (gpa < LAY_HIGH)
        gpa = LAY_HIGH;
    if (align > 1 && gpa <= UINT64_MAX - align)
        gpa = (gpa + align - 1) & ~(align - 1);
    return gpa;
}

/* Fills boot_params around the header: command line, initrd, memory map, ACPI. */
static void params_write(const struct loader *l, const struct setup_header *h)
{
    struct boot_params *p = loader_fixed(l, LAY_PARAMS, sizeof(*p));
    struct memmap map;

    p->hdr = *h;
    p->hdr.type_of_loader = LOADER_UNKNOWN;
    p->hdr.cmd_line_ptr = LAY_CMDLINE;
    p->hdr.ramdisk_image = (uint32_t)l->initrd;
    p->hdr.ramdisk_size = (uint32_t)l->initrd_len;
    p->acpi_rsdp_addr = l->spec->rsdp;
    loader_memmap(l, &map);
    for (unsigned i = 0; i < map.n; i++) {
        p->e820_table[i].addr = map.e[i].gpa;
        p->e820_table[i].size = map.e[i].len;
        p->e820_table[i].type = map.e[i].type;
    }
    p->e820_entries = (uint8_t)map.n;
}

/* The rest of both ways: command line, initrd, boot_params, entry. */
static int finish(struct loader *l, struct setup_header *h, uint64_t rip,
                  struct boot_entry *out)
{
    int ret = loader_cmdline(l, "", h->cmdline_size);

    if (ret == 0)
        ret = loader_initrd(l, h->initrd_addr_max);
    if (ret < 0)
        return ret;
    params_write(l, h);
    out->mode = BOOT_MODE_LONG;
    out->rip = rip;
    out->rsi = LAY_PARAMS;
    return 0;
}

int linux_load_bzimage(struct loader *l, struct boot_entry *out)
{
    struct setup_header h;
    uint64_t off = 0, len = 0, gpa, claim;
    int ret = header_read(&l->kernel, &h, l->err);

    if (ret == 0)
        ret = header_check(&l->kernel, &h, l->err);
    if (ret == 0)
        ret = payload_find(&l->kernel, &h, &off, &len, l->err);
    if (ret < 0)
        return ret;
    gpa = payload_gpa(&h);
    claim = h.init_size > len ? h.init_size : len;
    ret = loader_place(l, gpa, claim, "the kernel with its init_size");
    if (ret == 0)
        ret = loader_copy(l, off, len, gpa, len, "the kernel");
    if (ret < 0)
        return ret;
    h.code32_start = (uint32_t)gpa;
    out->is_linux = true;
    return finish(l, &h, gpa + ENTRY64, out);
}

int linux_load_elf(struct loader *l, const struct elf *elf, struct boot_entry *out)
{
    struct setup_header h = {
        .boot_flag = BOOT_FLAG,
        .header = HDR_MAGIC,
        .version = HDR_VERSION,
        .loadflags = LOADED_HIGH,
        .cmdline_size = CMDLINE_MAX,
        .initrd_addr_max = INITRD_MAX,
        .kernel_alignment = 0x1000000,
    };
    uint64_t rip;
    int ret;

    if (!elf->is64)
        return fail(l->err, EXIT_KERNEL, ENOEXEC,
                    "%s: 32-bit ELF cannot be started by Linux's 64-bit protocol; an x86-64 "
                    "vmlinux is needed",
                    l->kernel.name);
    if (!elf_entry(elf, elf->entry, &rip))
        return fail(l->err, EXIT_KERNEL, ENOEXEC,
                    "%s: the entry point 0x%" PRIx64 " is in none of the ELF segments",
                    l->kernel.name, elf->entry);
    ret = elf_load(l, elf);
    return ret < 0 ? ret : finish(l, &h, rip, out);
}
