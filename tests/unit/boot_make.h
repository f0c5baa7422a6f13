/* SPDX-License-Identifier: MIT */
/*
 * For tests of boot_load(): makes kernels of every kind by hand, and loads them.
 * Use: make_bz(), make_elf() or make_flat() fills `file`; change what is to be different there,
 * in `spec` or in initrd_len; then load_ok(), load() or load_bad().  load() forgets spec and
 * initrd_len.
 * Included by one file of each test program: its state is static.  Threads: one.
 */
#ifndef DISCO_TESTS_UNIT_BOOT_MAKE_H
#define DISCO_TESTS_UNIT_BOOT_MAKE_H

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
static inline int make_fd(const void *bytes, size_t n, uint64_t len)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    assert_int_equal(pwrite(fd, bytes, n, 0), n);
    return fd;
}

/* Loads what file, spec and initrd_len say, then forgets all three. */
static inline struct result load(void)
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
static inline struct boot_entry load_ok(void)
{
    struct result r = load();

    if (r.ret)
        print_error("%s\n", r.err.text);
    assert_int_equal(r.ret, 0);
    return r.e;
}

/* Loads and expects a message with part in it and with the file's name. */
static inline void load_bad(const char *part)
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
static inline void *at(uint64_t gpa, uint64_t len)
{
    void *p = mem_at(&mem, gpa, len, MEM_READ);

    assert_non_null(p);
    return p;
}

/* ---- makers ---- */

/* The header of the bzImage under construction. */
static inline struct setup_header *bz_hdr(void)
{
    return (struct setup_header *)(file.b + 0x1f1);
}

/* A bzImage: 2 setup sectors, 8 KiB of payload that begins with "PAYLOAD". */
static inline void make_bz(void)
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
static inline void put_phdr(bool is64, unsigned i, const Elf64_Phdr *p)
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
static inline void put_ehdr(const struct elf_make *m, uint64_t entry, unsigned nph)
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
static inline void make_elf(struct elf_make m)
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
static inline void make_flat(void)
{
    uint32_t h[8] = {0x1badb002, 0x10003, -(0x1badb002 + 0x10003), KERN + 0x40,
                     KERN,       0,       KERN + 0x3000,           KERN + 0x60};

    memset(&file, 0, sizeof(file));
    strcpy((char *)file.b, "FLAT");
    memcpy(file.b + 0x40, h, sizeof(h));
    file.len = 0x1000;
}

/* The first program header of a 64-bit test ELF. */
static inline Elf64_Phdr *ph(void)
{
    return (Elf64_Phdr *)(file.b + 64);
}

/* Makes the guest memory all tests of a program share. */
static inline int setup(void **state)
{
    const struct mem_spec m = {.size = RAM, .nviews = 1};

    (void)state;
    return mem_init(&mem, &m, NULL);
}

/* Undoes setup(). */
static inline int teardown(void **state)
{
    (void)state;
    mem_exit(&mem);
    return 0;
}

#endif
