/* SPDX-License-Identifier: MIT */
/*
 * What the boot protocols share: a kernel file read in bounds, the fixed places of low memory,
 * the guest's memory map, and the placing of kernel, initrd and command line.
 * Interface: image_open() and image_read() read a file; loader_*() put things in guest memory;
 * one *_load() per protocol is called by boot_load().  Private to vmm/boot.
 *
 * Invariants.  B1: every range a kernel or initrd is put in went through loader_place() or
 * loader_initrd(): it is RAM, touches neither the boot structures nor the firmware area nor the
 * ACPI tables, and the initrd overlaps no byte of the kernel.
 * Threads: one, before any vCPU runs.
 */
#ifndef DISCO_VMM_BOOT_LOADER_H
#define DISCO_VMM_BOOT_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct boot_entry;
struct boot_spec;
struct elf;
struct err;
struct guest_mem;

/* Fixed places.  All lie below LAY_LOW_END, where no kernel may be loaded. */
enum {
    LAY_GDT = 0x1000,         /* four descriptors */
    LAY_INFO = 0x2000,        /* hvm_start_info or multiboot info, with what they point at */
    LAY_INFO_LEN = 0x1000,    /* bytes there */
    LAY_PARAMS = 0x7000,      /* Linux's boot_params, one page */
    LAY_TABLES = 0x9000,      /* PML4, PDPT, four page directories */
    LAY_CMDLINE = 0x10000,    /* the command line, with its 0 byte */
    LAY_CMDLINE_LEN = 0x8000, /* bytes there */
    LAY_LOW_END = 0x20000,    /* end of all of the above */
    LAY_EBDA = 0x9fc00,       /* end of conventional RAM */
    LAY_VGA = 0xa0000,        /* start of what a PC has no RAM at */
    LAY_FIRMWARE = 0xe0000,   /* ACPI tables, up to LAY_RESET */
    LAY_RESET = 0xffff0,      /* code of the firmware's reset vector, 16 bytes */
    LAY_HIGH = 0x100000,      /* RAM again; kernels belong here */
};

/* Types of the memory map; the numbers are those of e820, PVH and multiboot alike. */
enum { MAP_RAM = 1, MAP_RESERVED = 2 };

/* The guest's memory map. */
struct memmap {
    unsigned n; /* entries used */
    struct {
        uint64_t gpa;  /* first byte */
        uint64_t len;  /* bytes, not 0 */
        uint32_t type; /* MAP_RAM or MAP_RESERVED */
    } e[8];            /* ascending, disjoint */
};

/* A file being read.  Its contents are hostile. */
struct image {
    int fd;             /* open for reading; the caller's */
    const char *name;   /* for messages */
    uint64_t size;      /* bytes at the time of opening */
    size_t head_len;    /* bytes of head that are there */
    uint8_t head[8192]; /* the first bytes, zeros behind the end */
};

/* One boot_load() in progress. */
struct loader {
    const struct guest_mem *mem;  /* where everything goes */
    const struct boot_spec *spec; /* what was asked for */
    struct err *err;              /* where failures are told */
    struct image kernel;          /* the kernel file */
    uint64_t top;                 /* end of usable RAM below 4 GiB (ACPI tables may follow) */
    uint64_t kernel_lo;  /* lowest gpa the kernel takes, UINT64_MAX before it is placed */
    uint64_t kernel_hi;  /* one past the highest */
    uint64_t initrd;     /* gpa of the initrd */
    uint64_t initrd_len; /* its bytes, 0: none */
};

/* ---- loader.c: files ---- */

/* Looks at an open file: refuses what is no regular file or is empty; reads its head.
 * what: "kernel" or "initrd". */
int image_open(struct image *img, int fd, const char *name, const char *what, struct err *err);

/* Reads len bytes at off; a file that ends before is an error naming what was to be read. */
int image_read(const struct image *img, uint64_t off, void *to, uint64_t len, const char *what,
               struct err *err);

/* ---- loader.c: guest memory ---- */

/* Claims [gpa, gpa+len) for the kernel (B1).  len > 0.  what names the part in messages. */
int loader_place(struct loader *l, uint64_t gpa, uint64_t len, const char *what);

/* Claims [gpa, gpa+memsz), reads filesz bytes at off into it and zeroes the rest. */
int loader_copy(struct loader *l, uint64_t off, uint64_t filesz, uint64_t gpa, uint64_t memsz,
                const char *what);

/* Reads the initrd, if any, as high as it fits below addr_max + 1 and beside the kernel.  Call
 * after the kernel is placed. */
int loader_initrd(struct loader *l, uint64_t addr_max);

/* Writes prefix (may be "") and the command line to LAY_CMDLINE; max: bytes the kernel takes
 * without the 0 byte. */
int loader_cmdline(struct loader *l, const char *prefix, uint64_t max);

/* The VMM's address of len bytes at a fixed place below LAY_LOW_END, zeroed. */
void *loader_fixed(const struct loader *l, uint64_t gpa, uint64_t len);

/* Fills the guest's memory map. */
void loader_memmap(const struct loader *l, struct memmap *map);

/* The last part of a path. */
const char *loader_basename(const char *path);

/* ---- the protocols: each loads everything and fills out, apart from GDT and page tables ---- */

/* linux.c: a bzImage, whose magic was seen. */
int linux_load_bzimage(struct loader *l, struct boot_entry *out);

/* linux.c: a vmlinux, or any ELF64 that follows its protocol. */
int linux_load_elf(struct loader *l, const struct elf *elf, struct boot_entry *out);

/* linux.c: true when the image begins as a bzImage does. */
bool linux_is_bzimage(const struct image *img);

/* pvh.c: an ELF with a PHYS32_ENTRY note. */
int pvh_load(struct loader *l, const struct elf *elf, struct boot_entry *out);

/* multiboot.c: offset of a valid multiboot 1 header, or -1. */
long multiboot_find(const struct image *img);

/* multiboot.c: a file with such a header; elf is NULL when the file is no ELF. */
int multiboot_load(struct loader *l, const struct elf *elf, struct boot_entry *out);

/* ---- acpi.c ---- */

/* Where the ACPI tables that boot_spec.rsdp leads to begin, when they lie in RAM at the end of
 * low memory (they reach up to mem->low then); mem->low when they do not. */
uint64_t acpi_ram_start(const struct guest_mem *mem, uint64_t rsdp);

#endif
