/* SPDX-License-Identifier: MIT */
/*
 * Multiboot 1: ELF kernels, and any file whose header carries its own load addresses.
 * Interface: multiboot_find(), multiboot_load() of vmm/boot/loader.h.
 *
 * LAY_INFO holds, one after another: the information structure, one module entry, the memory
 * map and two strings.  The command line begins with the kernel's name, as kernels expect.
 * Threads: one, before any vCPU runs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/loader.h"

#define MB_HEADER_MAGIC 0x1badb002u
#define MB_BOOT_MAGIC   0x2badb002u
#define MB_CMDLINE      0x7fffu /* the protocol has no limit */

/* Flags of the header: bits 0 and 1 ask for what we always do, bit 16 for the addresses; no
 * other bit below 16 can be fulfilled. */
#define MB_DONE      0x3u
#define MB_VIDEO     0x4u
#define MB_MUST      0xffffu
#define MB_ADDRESSES 0x10000u

/* Flags of the information: which fields are valid. */
enum {
    MBI_MEM = 1 << 0,     /* memory below and above 1 MiB */
    MBI_CMDLINE = 1 << 2, /* command line */
    MBI_MODS = 1 << 3,    /* modules: the initrd */
    MBI_MAP = 1 << 6,     /* map of memory */
    MBI_LOADER = 1 << 9
};

/* The header in the file. */
struct mb_header {
    uint32_t magic;       /* MB_HEADER_MAGIC */
    uint32_t flags;       /* what the kernel asks for */
    uint32_t checksum;    /* the three sum to 0 */
    uint32_t header_addr; /* gpa of this header */
    uint32_t load_addr;   /* gpa of the first byte loaded */
    uint32_t load_end;    /* one past the last, 0: the whole file */
    uint32_t bss_end;     /* zeroed up to here, 0: nothing */
    uint32_t entry;       /* gpa */
};

/* What ebx points at, as far as we fill it. */
struct mb_info {
    uint32_t flags;       /* MBI_* */
    uint32_t mem_lower;   /* KiB from 0 */
    uint32_t mem_upper;   /* KiB from 1 MiB */
    uint32_t boot_device; /* not given */
    uint32_t cmdline;     /* gpa of a string */
    uint32_t nmods;       /* entries of mods */
    uint32_t mods;        /* gpa of struct mb_module */
    uint32_t syms[4];     /* not given */
    uint32_t map_len;     /* bytes of map */
    uint32_t map;         /* gpa of struct mb_range */
    uint32_t drives[2];   /* not given */
    uint32_t config;      /* not given */
    uint32_t loader;      /* gpa of a string */
    uint32_t apm;         /* not given */
    uint32_t vbe[6];      /* not given */
};

/* One module: the initrd. */
struct mb_module {
    uint32_t start;    /* gpa of the first byte */
    uint32_t end;      /* one past the last */
    uint32_t string;   /* gpa of its name */
    uint32_t reserved; /* 0 */
};

/* One range of the memory map. */
struct mb_range {
    uint32_t size; /* of the rest: 20 */
    uint64_t gpa;  /* first byte */
    uint64_t len;  /* bytes */
    uint32_t type; /* as enum of loader.h */
} __attribute__((packed));

/* All that lies at LAY_INFO. */
struct mb_place {
    struct mb_info info;     /* first: ebx points here */
    struct mb_module module; /* used when there is an initrd */
    struct mb_range map[8];  /* as many as struct memmap has */
    char loader[16];         /* who loaded the kernel */
    char module_name[256];   /* base name of the initrd */
};

_Static_assert(sizeof(struct mb_range) == 24, "layout of the memory map");
_Static_assert(sizeof(struct mb_place) <= LAY_INFO_LEN, "multiboot information fits its place");

/* gpa of a member of struct mb_place. */
#define AT(member) (LAY_INFO + (uint32_t)offsetof(struct mb_place, member))

long multiboot_find(const struct image *img)
{
    for (size_t at = 0; at + 3 * sizeof(uint32_t) <= img->head_len; at += 4) {
        uint32_t h[3];

        memcpy(h, img->head + at, sizeof(h));
        if (h[0] == MB_HEADER_MAGIC && h[0] + h[1] + h[2] == 0)
            return (long)at;
    }
    return -1;
}

/* Copies the header at offset at; checks what it asks for. */
static int header_read(struct loader *l, long at, struct mb_header *h)
{
    const struct image *img = &l->kernel;
    size_t len = img->head_len - (size_t)at;

    memset(h, 0, sizeof(*h));
    memcpy(h, img->head + at, len < sizeof(*h) ? len : sizeof(*h));
    if (h->flags & MB_VIDEO)
        return fail(
            l->err, EXIT_KERNEL, ENOTSUP,
            "%s: multiboot kernel that insists on a video mode (header flag 2); there is "
            "no screen",
            img->name);
    if (h->flags & MB_MUST & ~MB_DONE)
        return fail(l->err, EXIT_KERNEL, ENOTSUP,
                    "%s: multiboot header asks for unknown things (flags 0x%x); only bits 0, 1 "
                    "and 16 are possible",
                    img->name, h->flags);
    if (h->flags & MB_ADDRESSES && len < sizeof(*h))
        return fail(
            l->err, EXIT_KERNEL, ENODATA,
            "%s: truncated: the multiboot header's addresses lie beyond the first 8 KiB "
            "or the end of the file",
            img->name);
    return 0;
}

/* Loads by the addresses of the header, found at offset at. */
static int load_by_header(struct loader *l, const struct mb_header *h, long at, uint64_t *rip)
{
    uint64_t before = (uint64_t)h->header_addr - h->load_addr; /* bytes before the header */
    uint64_t off, filesz, memsz;

    if (h->load_addr > h->header_addr || before > (uint64_t)at ||
        (h->load_end && h->load_end <= h->load_addr))
        return fail(
            l->err, EXIT_KERNEL, ENOEXEC,
            "%s: broken multiboot addresses: header 0x%x (file offset %ld), load 0x%x to "
            "0x%x",
            l->kernel.name, h->header_addr, at, h->load_addr, h->load_end);
    off = (uint64_t)at - before;
    filesz = h->load_end ? h->load_end - h->load_addr : l->kernel.size - off;
    memsz = filesz;
    if (h->bss_end && h->bss_end > h->load_addr + filesz)
        memsz = h->bss_end - h->load_addr;
    if (h->entry - (uint64_t)h->load_addr >= memsz)
        return fail(l->err, EXIT_KERNEL, ENOEXEC,
                    "%s: the multiboot entry point 0x%x is outside of what is loaded "
                    "(0x%x-0x%" PRIx64 ")",
                    l->kernel.name, h->entry, h->load_addr, h->load_addr + memsz - 1);
    *rip = h->entry;
    return loader_copy(l, off, filesz, h->load_addr, memsz, "the multiboot kernel");
}

/* Loads the segments of an ELF. */
static int load_by_elf(struct loader *l, const struct elf *elf, uint64_t *rip)
{
    if (!elf)
        return fail(
            l->err, EXIT_KERNEL, ENOEXEC,
            "%s: multiboot header without load addresses (flag 16) in a file that is no "
            "ELF",
            l->kernel.name);
    if (!elf_entry(elf, elf->entry, rip))
        return fail(l->err, EXIT_KERNEL, ENOEXEC,
                    "%s: the entry point 0x%" PRIx64 " of this multiboot kernel is in none of "
                    "its ELF segments",
                    l->kernel.name, elf->entry);
    return elf_load(l, elf);
}

/* Writes everything ebx leads to. */
static void info_write(const struct loader *l)
{
    struct mb_place *p = loader_fixed(l, LAY_INFO, sizeof(*p));
    struct memmap map;

    p->info = (struct mb_info){
        .flags = MBI_MEM | MBI_CMDLINE | MBI_MODS | MBI_MAP | MBI_LOADER,
        .mem_lower = LAY_EBDA >> 10,
        .mem_upper = (uint32_t)((l->top - LAY_HIGH) >> 10),
        .cmdline = LAY_CMDLINE,
        .nmods = l->initrd_len ? 1 : 0,
        .mods = AT(module),
        .map = AT(map),
        .loader = AT(loader),
    };
    snprintf(p->loader, sizeof(p->loader), "disco");
    if (l->initrd_len) {
        p->module.start = (uint32_t)l->initrd;
        p->module.end = (uint32_t)(l->initrd + l->initrd_len);
        p->module.string = AT(module_name);
        snprintf(p->module_name, sizeof(p->module_name), "%s",
                 loader_basename(l->spec->initrd_name));
    }
    loader_memmap(l, &map);
    for (unsigned i = 0; i < map.n; i++)
        p->map[i] = (struct mb_range){20, map.e[i].gpa, map.e[i].len, map.e[i].type};
    p->info.map_len = map.n * sizeof(p->map[0]);
}

/* Writes "NAME command line". */
static int cmdline_write(struct loader *l)
{
    char name[257];

    snprintf(name, sizeof(name), "%.255s ", loader_basename(l->kernel.name));
    if (l->spec->cmdline[0] == '\0')
        name[strlen(name) - 1] = '\0';
    return loader_cmdline(l, name, MB_CMDLINE);
}

int multiboot_load(struct loader *l, const struct elf *elf, struct boot_entry *out)
{
    long at = multiboot_find(&l->kernel);
    struct mb_header h;
    int ret;

    if (at < 0)
        return fail(l->err, EXIT_KERNEL, ENOEXEC,
                    "%s: has no multiboot header in its first 8 KiB (magic 0x%x with a right "
                    "checksum)",
                    l->kernel.name, MB_HEADER_MAGIC);
    ret = header_read(l, at, &h);
    if (ret == 0)
        ret = h.flags & MB_ADDRESSES ? load_by_header(l, &h, at, &out->rip)
                                     : load_by_elf(l, elf, &out->rip);
    if (ret == 0)
        ret = cmdline_write(l);
    if (ret == 0)
        ret = loader_initrd(l, UINT32_MAX);
    if (ret < 0)
        return ret;
    info_write(l);
    out->mode = BOOT_MODE_PROTECTED;
    out->eax = MB_BOOT_MAGIC;
    out->ebx = LAY_INFO;
    return 0;
}
