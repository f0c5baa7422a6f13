/* SPDX-License-Identifier: MIT */
/*
 * The PVH protocol: a 32-bit entry point named by an ELF note, and hvm_start_info in ebx.
 * Interface: pvh_load() of vmm/boot/loader.h.
 *
 * LAY_INFO holds, one after another: hvm_start_info version 1, one module entry, the memory map.
 * Threads: one, before any vCPU runs.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/err.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/loader.h"

#define PVH_MAGIC   0x336ec578u
#define PVH_CMDLINE 0x7fffu /* no limit in the protocol; Linux cuts what it cannot take */

/* What ebx points at; the layout is the protocol's. */
struct pvh_start {
    uint32_t magic;    /* PVH_MAGIC */
    uint32_t version;  /* 1 */
    uint32_t flags;    /* 0 */
    uint32_t nmodules; /* entries of modules */
    uint64_t modules;  /* gpa of struct pvh_module */
    uint64_t cmdline;  /* gpa of a string */
    uint64_t rsdp;     /* gpa, 0: none */
    uint64_t map;      /* gpa of struct pvh_range */
    uint32_t nmap;     /* entries of map */
    uint32_t reserved; /* 0 */
};

/* One module: the initrd. */
struct pvh_module {
    uint64_t gpa;      /* first byte */
    uint64_t len;      /* bytes */
    uint64_t cmdline;  /* gpa of a string, 0: none */
    uint64_t reserved; /* 0 */
};

/* One range of the memory map. */
struct pvh_range {
    uint64_t gpa;      /* first byte */
    uint64_t len;      /* bytes */
    uint32_t type;     /* as enum of loader.h */
    uint32_t reserved; /* 0 */
};

/* All that lies at LAY_INFO. */
struct pvh_info {
    struct pvh_start start;   /* first: ebx points here */
    struct pvh_module module; /* used when there is an initrd */
    struct pvh_range map[8];  /* as many as struct memmap has */
};

_Static_assert(sizeof(struct pvh_start) == 56, "layout of hvm_start_info");
_Static_assert(sizeof(struct pvh_info) <= LAY_INFO_LEN, "PVH information fits its place");

/* Writes everything ebx leads to. */
static void info_write(const struct loader *l)
{
    struct pvh_info *p = loader_fixed(l, LAY_INFO, sizeof(*p));
    struct memmap map;

    loader_memmap(l, &map);
    p->start = (struct pvh_start){
        .magic = PVH_MAGIC,
        .version = 1,
        .nmodules = l->initrd_len ? 1 : 0,
        .modules = l->initrd_len ? LAY_INFO + offsetof(struct pvh_info, module) : 0,
        .cmdline = LAY_CMDLINE,
        .rsdp = l->spec->rsdp,
        .map = LAY_INFO + offsetof(struct pvh_info, map),
        .nmap = map.n,
    };
    p->module = (struct pvh_module){.gpa = l->initrd, .len = l->initrd_len};
    for (unsigned i = 0; i < map.n; i++)
        p->map[i] = (struct pvh_range){map.e[i].gpa, map.e[i].len, map.e[i].type, 0};
}

int pvh_load(struct loader *l, const struct elf *elf, struct boot_entry *out)
{
    uint64_t rip;
    int ret;

    if (!elf->has_pvh)
        return fail(
            l->err, EXIT_KERNEL, ENOEXEC,
            "%s: has no PVH entry point (ELF note Xen PHYS32_ENTRY); Linux has one when "
            "built with CONFIG_PVH",
            l->kernel.name);
    if (!elf_entry(elf, elf->pvh_entry, &rip))
        return fail(l->err, EXIT_KERNEL, ENOEXEC,
                    "%s: the PVH entry point 0x%" PRIx64 " is in none of the ELF segments",
                    l->kernel.name, elf->pvh_entry);
    ret = elf_load(l, elf);
    if (ret == 0)
        ret = loader_cmdline(l, "", PVH_CMDLINE);
    if (ret == 0)
        ret = loader_initrd(l, UINT32_MAX);
    if (ret < 0)
        return ret;
    info_write(l);
    out->mode = BOOT_MODE_PROTECTED;
    out->rip = rip;
    out->ebx = LAY_INFO;
    return 0;
}
