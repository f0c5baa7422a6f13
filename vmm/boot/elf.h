/* SPDX-License-Identifier: MIT */
/*
 * ELF kernels, 32 and 64 bit: checks the headers once and keeps what loading needs in one form.
 * Interface: elf_parse(), then elf_load(), elf_entry(), elf_is_linux().  Private to vmm/boot.
 * Invariant: after elf_parse() every segment lies inside the file, filesz <= memsz, and
 * paddr + memsz does not wrap.
 * Threads: one, before any vCPU runs.
 */
#ifndef DISCO_VMM_BOOT_ELF_H
#define DISCO_VMM_BOOT_ELF_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct image;
struct loader;

enum { ELF_MAX_SEGMENTS = 32 };

/* One PT_LOAD with something in it. */
struct elf_segment {
    uint64_t off;    /* in the file */
    uint64_t filesz; /* bytes in the file */
    uint64_t vaddr;  /* where its code thinks it is */
    uint64_t paddr;  /* where it is loaded */
    uint64_t memsz;  /* bytes in memory, > 0 */
};

/* A checked ELF kernel. */
struct elf {
    bool is64;                                    /* ELF64, else ELF32 */
    bool has_pvh;                                 /* there is a PHYS32_ENTRY note */
    bool linux_note;                              /* there is a note only Linux writes */
    uint64_t pvh_entry;                           /* what that note says */
    uint64_t entry;                               /* e_entry */
    unsigned nsegments;                           /* entries of segment, at least 1 */
    struct elf_segment segment[ELF_MAX_SEGMENTS]; /* in file order */
};

/* True when the image begins with the ELF magic. */
bool elf_magic(const struct image *img);

/* Checks everything; errors name what is wrong: machine, type, truncation, ... */
int elf_parse(const struct image *img, struct elf *elf, struct err *err);

/* Loads all segments at their physical addresses. */
int elf_load(struct loader *l, const struct elf *elf);

/* The physical address of an entry point given as physical or virtual address; false when no
 * segment holds it. */
bool elf_entry(const struct elf *elf, uint64_t entry, uint64_t *out);

/* True for a Linux kernel: by its notes, else by its banner somewhere in a segment. */
bool elf_is_linux(const struct image *img, const struct elf *elf);

#endif
