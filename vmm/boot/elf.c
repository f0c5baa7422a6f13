/* SPDX-License-Identifier: MIT */
/*
 * Checks ELF kernels and loads them.  Interface: vmm/boot/elf.h.
 *
 * Both classes are turned into one form as they are read, so every later check exists once.
 * Everything read is hostile; loops are bounded by ELF_MAX_HEADERS and NOTES_MAX.
 * Threads: one, before any vCPU runs.
 */
#include "vmm/boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/boot/loader.h"

enum {
    ELF_MAX_HEADERS = 128,  /* program headers of one file */
    NOTES_MAX = 65536,      /* bytes of a PT_NOTE that are looked at */
    SCAN_CHUNK = 65536,     /* bytes read at once when looking for the banner */
    NOTE_PHYS32_ENTRY = 18, /* type of Xen's note with the PVH entry point */
};

static const char BANNER[] = "Linux version ";

/* Names of machines people try by mistake. */
static const struct {
    uint16_t em;      /* e_machine */
    const char *name; /* what people call it */
} machines[] = {
    {EM_AARCH64, "aarch64"}, {EM_ARM, "arm"},
    {EM_RISCV, "riscv"},     {EM_PPC64, "ppc64"},
    {EM_S390, "s390"},       {EM_MIPS, "mips"},
    {EM_SPARCV9, "sparc64"}, {EM_LOONGARCH, "loongarch"},
    {EM_IA_64, "ia64"},
};

/* A note while its segment is walked. */
struct note {
    uint32_t type;       /* n_type */
    uint32_t name_len;   /* bytes of name, with its 0 byte */
    uint32_t desc_len;   /* bytes of desc */
    const uint8_t *name; /* owner */
    const uint8_t *desc; /* contents */
};

bool elf_magic(const struct image *img)
{
    return img->head_len >= SELFMAG && memcmp(img->head, ELFMAG, SELFMAG) == 0;
}

/* What people call a machine number. */
static const char *machine_name(uint16_t em)
{
    for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++)
        if (machines[i].em == em)
            return machines[i].name;
    return "another machine";
}

/* Reads the file header of either class into the 64-bit form. */
static int header_read(const struct image *img, Elf64_Ehdr *out, struct err *err)
{
    Elf32_Ehdr h;
    size_t want = img->head[EI_CLASS] == ELFCLASS64 ? sizeof(*out) : sizeof(h);

    if (img->head_len < want)
        return fail(err, EXIT_KERNEL, ENODATA,
                    "%s: truncated inside the ELF header: %zu bytes of %zu", img->name,
                    img->head_len, want);
    if (img->head[EI_CLASS] == ELFCLASS64) {
        memcpy(out, img->head, sizeof(*out));
        return 0;
    }
    memcpy(&h, img->head, sizeof(h));
    *out = (Elf64_Ehdr){
        .e_type = h.e_type,
        .e_machine = h.e_machine,
        .e_entry = h.e_entry,
        .e_phoff = h.e_phoff,
        .e_phentsize = h.e_phentsize,
        .e_phnum = h.e_phnum,
    };
    return 0;
}

/* Refuses machines, byte orders and kinds of file that are no x86 kernel. */
static int header_check(const struct image *img, const Elf64_Ehdr *h, struct err *err)
{
    bool is64 = img->head[EI_CLASS] == ELFCLASS64;

    if (img->head[EI_DATA] != ELFDATA2LSB || h->e_machine != (is64 ? EM_X86_64 : EM_386)) {
        if (!is64 && h->e_machine == EM_X86_64 && img->head[EI_DATA] == ELFDATA2LSB)
            return 0; /* an x32-style header: 32-bit layout, still x86 */
        return fail(err, EXIT_KERNEL, ENOEXEC,
                    "%s: ELF for %s (machine %u), not x86; an x86-64 kernel is wanted",
                    img->name, machine_name(h->e_machine), h->e_machine);
    }
    if (h->e_type == ET_DYN)
        return fail(err, EXIT_KERNEL, ENOEXEC,
                    "%s: is a shared object or position-independent user program (ET_DYN), not "
                    "a kernel (ET_EXEC)",
                    img->name);
    if (h->e_type != ET_EXEC)
        return fail(
            err, EXIT_KERNEL, ENOEXEC,
            "%s: is an ELF object or core file (type %u), not a linked kernel (ET_EXEC)",
            img->name, h->e_type);
    if (h->e_phentsize != (is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || h->e_phnum == 0 ||
        h->e_phnum > ELF_MAX_HEADERS)
        return fail(err, EXIT_KERNEL, ENOEXEC,
                    "%s: %u ELF program headers of %u bytes; 1..%d of the class's own size are "
                    "possible",
                    img->name, h->e_phnum, h->e_phentsize, ELF_MAX_HEADERS);
    return 0;
}

/* Reads program header i of either class into the 64-bit form. */
static int phdr_read(const struct image *img, const Elf64_Ehdr *h, unsigned i, Elf64_Phdr *out,
                     struct err *err)
{
    uint64_t off = h->e_phoff + (uint64_t)i * h->e_phentsize;
    Elf32_Phdr p;
    int ret;

    if (off < h->e_phoff)
        off = UINT64_MAX;
    if (img->head[EI_CLASS] == ELFCLASS64)
        return image_read(img, off, out, sizeof(*out), "an ELF program header", err);
    ret = image_read(img, off, &p, sizeof(p), "an ELF program header", err);
    if (ret == 0)
        *out = (Elf64_Phdr){
            .p_type = p.p_type,
            .p_offset = p.p_offset,
            .p_vaddr = p.p_vaddr,
            .p_paddr = p.p_paddr,
            .p_filesz = p.p_filesz,
            .p_memsz = p.p_memsz,
            .p_align = p.p_align,
        };
    return ret;
}

/* Checks one PT_LOAD and keeps it. */
static int segment_add(const struct image *img, struct elf *elf, const Elf64_Phdr *p,
                       struct err *err)
{
    if (p->p_memsz == 0)
        return 0;
    if (p->p_filesz > p->p_memsz || p->p_paddr + p->p_memsz < p->p_paddr)
        return fail(err, EXIT_KERNEL, ENOEXEC,
                    "%s: broken ELF segment: 0x%" PRIx64 " bytes of the file into 0x%" PRIx64
                    " at 0x%" PRIx64,
                    img->name, (uint64_t)p->p_filesz, (uint64_t)p->p_memsz,
                    (uint64_t)p->p_paddr);
    if (p->p_filesz > img->size || p->p_offset > img->size - p->p_filesz)
        return fail(err, EXIT_KERNEL, ENODATA,
                    "%s: truncated: an ELF segment of %" PRIu64 " bytes at offset %" PRIu64
                    " reaches beyond the end of the file (%" PRIu64 " bytes)",
                    img->name, (uint64_t)p->p_filesz, (uint64_t)p->p_offset, img->size);
    if (elf->nsegments == ELF_MAX_SEGMENTS)
        return fail(err, EXIT_KERNEL, ENOEXEC, "%s: more than %d ELF segments to load",
                    img->name, ELF_MAX_SEGMENTS);
    for (unsigned i = 0; i < elf->nsegments; i++)
        if (p->p_paddr < elf->segment[i].paddr + elf->segment[i].memsz &&
            elf->segment[i].paddr < p->p_paddr + p->p_memsz)
            return fail(err, EXIT_KERNEL, ENOEXEC,
                        "%s: two ELF segments overlap at 0x%" PRIx64 " in guest memory",
                        img->name, (uint64_t)p->p_paddr);
    elf->segment[elf->nsegments++] = (struct elf_segment){
        .off = p->p_offset,
        .filesz = p->p_filesz,
        .vaddr = p->p_vaddr,
        .paddr = p->p_paddr,
        .memsz = p->p_memsz,
    };
    return 0;
}

/* Takes what one note says. */
static void note_take(struct elf *elf, const struct note *n)
{
    if (n->name_len == sizeof("Linux") && memcmp(n->name, "Linux", sizeof("Linux")) == 0)
        elf->linux_note = true;
    if (n->name_len != sizeof("Xen") || memcmp(n->name, "Xen", sizeof("Xen")) != 0 ||
        n->type != NOTE_PHYS32_ENTRY || elf->has_pvh)
        return;
    if (n->desc_len == 4 || n->desc_len == 8) {
        memcpy(&elf->pvh_entry, n->desc, n->desc_len);
        elf->has_pvh = true;
    }
}

/* Walks len bytes of notes, each part padded to align (4 or 8).  Ends at the first broken one. */
static void notes_walk(struct elf *elf, const uint8_t *at, uint32_t len, uint32_t align)
{
    uint32_t pos = 0;

    while (len - pos >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr h;
        struct note n;
        uint64_t name, desc, end;

        memcpy(&h, at + pos, sizeof(h));
        name = pos + sizeof(h);
        desc = (name + h.n_namesz + align - 1) & ~(uint64_t)(align - 1);
        end = desc + h.n_descsz;
        if (end > len)
            return;
        n = (struct note){h.n_type, h.n_namesz, h.n_descsz, at + name, at + desc};
        note_take(elf, &n);
        end = (end + align - 1) & ~(uint64_t)(align - 1);
        if (end > len)
            return;
        pos = (uint32_t)end;
    }
}

/* Reads one PT_NOTE, at most NOTES_MAX bytes of it. */
static int notes_read(const struct image *img, struct elf *elf, const Elf64_Phdr *p,
                      struct err *err)
{
    uint32_t len = p->p_filesz < NOTES_MAX ? (uint32_t)p->p_filesz : NOTES_MAX;
    uint8_t *buf = xcalloc(1, len + 1);
    int ret = image_read(img, p->p_offset, buf, len, "the ELF notes", err);

    if (ret == 0)
        notes_walk(elf, buf, len, p->p_align == 8 ? 8 : 4);
    free(buf);
    return ret;
}

/* Takes one program header. */
static int phdr_take(const struct image *img, struct elf *elf, const Elf64_Phdr *p,
                     struct err *err)
{
    switch (p->p_type) {
    case PT_LOAD:
        return segment_add(img, elf, p, err);
    case PT_NOTE:
        return notes_read(img, elf, p, err);
    case PT_INTERP:
        return fail(err, EXIT_KERNEL, ENOEXEC,
                    "%s: is a user program (it asks for a dynamic linker), not a kernel",
                    img->name);
    default:
        return 0;
    }
}

int elf_parse(const struct image *img, struct elf *elf, struct err *err)
{
    Elf64_Ehdr h = {0};
    int ret;

    memset(elf, 0, sizeof(*elf));
    if (img->head_len > EI_CLASS && img->head[EI_CLASS] != ELFCLASS64 &&
        img->head[EI_CLASS] != ELFCLASS32)
        return fail(err, EXIT_KERNEL, ENOEXEC,
                    "%s: ELF of unknown class %u; 1 or 2 are possible", img->name,
                    img->head[EI_CLASS]);
    ret = header_read(img, &h, err);
    if (ret < 0)
        return ret;
    ret = header_check(img, &h, err);
    elf->is64 = img->head[EI_CLASS] == ELFCLASS64;
    elf->entry = h.e_entry;
    for (unsigned i = 0; ret == 0 && i < h.e_phnum; i++) {
        Elf64_Phdr p;

        ret = phdr_read(img, &h, i, &p, err);
        if (ret == 0)
            ret = phdr_take(img, elf, &p, err);
    }
    if (ret == 0 && elf->nsegments == 0)
        ret = fail(err, EXIT_KERNEL, ENOEXEC, "%s: ELF file without a segment to load",
                   img->name);
    return ret;
}

/* Claims the segment that reaches highest, so that the message about too little memory names
 * what all of the kernel needs. */
static int place_highest(struct loader *l, const struct elf *elf)
{
    const struct elf_segment *top = &elf->segment[0];

    for (unsigned i = 1; i < elf->nsegments; i++)
        if (elf->segment[i].paddr + elf->segment[i].memsz > top->paddr + top->memsz)
            top = &elf->segment[i];
    return loader_place(l, top->paddr, top->memsz, "its highest ELF segment");
}

int elf_load(struct loader *l, const struct elf *elf)
{
    int ret = place_highest(l, elf);

    for (unsigned i = 0; ret == 0 && i < elf->nsegments; i++) {
        const struct elf_segment *s = &elf->segment[i];
        char what[32];

        snprintf(what, sizeof(what), "ELF segment %u", i);
        ret = loader_copy(l, s->off, s->filesz, s->paddr, s->memsz, what);
    }
    return ret;
}

bool elf_entry(const struct elf *elf, uint64_t entry, uint64_t *out)
{
    for (unsigned i = 0; i < elf->nsegments; i++)
        if (entry - elf->segment[i].paddr < elf->segment[i].memsz) {
            *out = entry;
            return true;
        }
    for (unsigned i = 0; i < elf->nsegments; i++)
        if (entry - elf->segment[i].vaddr < elf->segment[i].memsz) {
            *out = entry - elf->segment[i].vaddr + elf->segment[i].paddr;
            return true;
        }
    return false;
}

/* Looks for the banner in one segment; buf holds SCAN_CHUNK bytes. */
static bool segment_has_banner(const struct image *img, const struct elf_segment *s,
                               uint8_t *buf)
{
    const uint64_t keep = sizeof(BANNER) - 2; /* so that no match is cut in two */

    for (uint64_t pos = 0; pos < s->filesz; pos += SCAN_CHUNK - keep) {
        uint64_t n = s->filesz - pos < SCAN_CHUNK ? s->filesz - pos : SCAN_CHUNK;

        if (image_read(img, s->off + pos, buf, n, "the banner", NULL) < 0)
            return false;
        if (memmem(buf, n, BANNER, sizeof(BANNER) - 1))
            return true;
        if (n < SCAN_CHUNK)
            return false;
    }
    return false;
}

bool elf_is_linux(const struct image *img, const struct elf *elf)
{
    bool found = elf->linux_note;
    uint8_t *buf;

    if (found)
        return true;
    buf = xcalloc(1, SCAN_CHUNK);
    for (unsigned i = 0; !found && i < elf->nsegments; i++)
        found = segment_has_banner(img, &elf->segment[i], buf);
    free(buf);
    return found;
}
