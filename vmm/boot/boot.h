/* SPDX-License-Identifier: MIT */
/*
 * Puts a kernel, an initrd, a command line and the firmware's tables into guest memory and says
 * how the first vCPU starts.  Protocols: Linux 64-bit (bzImage and vmlinux), PVH, multiboot 1.
 * Interface: boot_load(), acpi_build().  Files are read through descriptors already open.
 * Everything read from a file is hostile: sizes and offsets are checked before use.
 */
#ifndef DISCO_VMM_BOOT_BOOT_H
#define DISCO_VMM_BOOT_BOOT_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct guest_mem;

enum boot_kind { BOOT_AUTO, BOOT_LINUX64, BOOT_PVH, BOOT_MULTIBOOT };

/* What to load. */
struct boot_spec {
    enum boot_kind kind;     /* BOOT_AUTO: by content (bzImage; ELF64 vmlinux: Linux; ELF with a
                                PVH note and no Linux banner: PVH; multiboot header: multiboot) */
    int kernel_fd;           /* open for reading */
    int initrd_fd;           /* -1: none */
    const char *kernel_name; /* for messages */
    const char *initrd_name; /* for messages */
    const char *cmdline;     /* never NULL */
    uint64_t rsdp;           /* gpa of the ACPI root pointer, 0: none */
};

/* How the first vCPU starts. */
enum boot_mode { BOOT_MODE_LONG, BOOT_MODE_PROTECTED };
struct boot_entry {
    enum boot_mode mode; /* 64-bit with paging on, or 32-bit flat without paging */
    uint64_t rip;        /* entry point */
    uint64_t rsi;        /* LONG: boot_params */
    uint32_t eax;        /* PROTECTED: multiboot magic */
    uint32_t ebx;        /* PROTECTED: multiboot info or hvm_start_info */
    uint64_t cr3;        /* LONG: identity map of the first 4 GiB (or more if needed) */
    uint64_t gdt;        /* gpa of a GDT; selectors 0x10 code, 0x18 data; also for PROTECTED */
    uint16_t gdt_limit;  /* bytes - 1 */
    bool is_linux;       /* a Linux kernel (wants a KVM that runs kernels natively) */
};

/* Loads all; EXIT_KERNEL errors name the file and what is wrong with it. */
int boot_load(const struct guest_mem *mem, const struct boot_spec *spec, struct boot_entry *out,
              struct err *err);

/* ---- ACPI ---- */

enum {
    ACPI_PM_PORT = 0x600,    /* sleep control/status (HW-reduced): write SLP_EN|5<<2 = off */
    ACPI_RESET_PORT = 0x601, /* reset register */
    ACPI_RESET_VALUE = 1,    /* what resets when written there */
    ACPI_GED_PORT = 0x604,   /* read: pending events of the generic event device, bit 0 = power
                                button; reading clears */
    ACPI_GED_PIN = 9,        /* IOAPIC pin of the generic event device, level, active high */
    ACPI_COM1_PIN = 4,       /* IOAPIC pin of the 16550, edge */
};

/* One node the guest is to see. */
struct acpi_node {
    uint64_t low_len;  /* bytes of RAM below the hole, following those of the node before */
    uint64_t high_len; /* bytes of RAM above 4 GiB, likewise */
};

/* What the tables describe. */
struct acpi_spec {
    unsigned nvcpus;               /* APIC ids 0..nvcpus-1; all enabled */
    bool pci;                      /* MCFG and a host bridge in the DSDT */
    unsigned nnodes;               /* 0: no SRAT, no SLIT */
    const struct acpi_node *nodes; /* nnodes entries */
    const unsigned *vcpu_node;     /* nvcpus entries: virtual node of each vCPU */
    const uint8_t *distance;       /* nnodes x nnodes, row major */
};

/* Writes RSDP, XSDT, FADT (rev 6, HW-reduced), MADT, MCFG, DSDT and, if asked, SRAT and SLIT below 1 MiB
 * (0xe0000-0xfffff) or, where they do not fit, in reserved RAM at the end of low memory.
 * *rsdp: gpa for boot_spec. The firmware's reset vector at
 * 0xffff0 gets code that resets, which Linux counts on. */
int acpi_build(const struct guest_mem *mem, const struct acpi_spec *spec, uint64_t *rsdp,
               struct err *err);

#endif
