/* SPDX-License-Identifier: MIT */
/*
 * Feeds hostile kernel files to boot_load(): nothing may crash, reach outside guest memory, or
 * fail without a message.
 * Interface: LLVMFuzzerTestOneInput() for libFuzzer (build with -Dmain=unused); main() for any
 * compiler: files named as arguments, or a number of mutated seeds (default 20000, or argument
 * -N).
 * Threads: one.
 */
#include <asm/bootparam.h>
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/loader.h"
#include "vmm/machine/mem.h"

#define RAM      (16ull << 20)
#define KERN     0x200000u
#define SEED_MAX 0x3000

static struct guest_mem mem;   /* made by the first input, used by all */
static unsigned long loads;    /* kernels tried */
static unsigned long loads_ok; /* kernels that were good after all */

/* A memfd that holds the input. */
static int input_fd(const uint8_t *data, size_t len)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || (len && write(fd, data, len) != (ssize_t)len))
        abort();
    return fd;
}

/* Loads the input in one way; the outcome must be a start inside RAM, or a message. */
static void load(const struct boot_spec *spec)
{
    struct boot_entry e;
    struct err err = {0};
    int ret = boot_load(&mem, spec, &e, &err);

    loads++;
    loads_ok += ret == 0;
    if (ret < 0) {
        if (err.status != EXIT_KERNEL || !strstr(err.text, "FILE"))
            abort();
        return;
    }
    if (err.status || !mem_at(&mem, e.rip, 1, MEM_READ) || e.rip < LAY_LOW_END)
        abort();
    if (!mem_at(&mem, e.gdt, e.gdt_limit + 1u, MEM_READ))
        abort();
}

/* The first bytes choose the protocol and the initrd, the rest is the file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct boot_spec spec = {
        .kernel_name = "FILE", .initrd_name = "INITRD FILE", .cmdline = "x"};
    const struct mem_spec m = {.size = RAM, .nviews = 1};

    if (len < 2)
        return 0;
    if (!mem.alias && mem_init(&mem, &m, NULL) < 0)
        abort();
    spec.kind = (enum boot_kind)(data[0] % 4);
    spec.kernel_fd = input_fd(data + 2, len - 2);
    spec.initrd_fd = data[1] & 1 ? input_fd(data, len) : -1;
    load(&spec);
    close(spec.kernel_fd);
    if (spec.initrd_fd >= 0)
        close(spec.initrd_fd);
    return 0;
}

/* One input under construction. */
struct input {
    uint8_t b[2 + SEED_MAX]; /* two choosing bytes, then the file */
    size_t len;              /* bytes in use */
};

/* Seed: a bzImage of 8 KiB. */
static void seed_bz(struct input *in)
{
    struct setup_header h = {.setup_sects = 1,
                             .syssize = 0x200,
                             .boot_flag = 0xaa55,
                             .jump = 0x6aeb,
                             .header = 0x53726448,
                             .version = 0x20f,
                             .loadflags = LOADED_HIGH,
                             .xloadflags = XLF_KERNEL_64,
                             .initrd_addr_max = 0x7fffffff,
                             .cmdline_size = 100,
                             .relocatable_kernel = 1,
                             .kernel_alignment = 0x100000,
                             .pref_address = KERN,
                             .init_size = 0x10000};

    memcpy(in->b + 2 + 0x1f1, &h, sizeof(h));
    in->len = 2 + 1024 + 0x2000;
}

/* Writes the note of a PVH kernel. */
static void put_note(uint8_t *at)
{
    static const uint32_t note[] = {4, 4, 18, 0x006e6558, KERN + 16};

    memcpy(at, note, sizeof(note));
}

/* Seed: an ELF64 with a PVH note, a banner and a multiboot header. */
static void seed_elf64(struct input *in)
{
    uint8_t *f = in->b + 2;
    const uint32_t mb[] = {0x1badb002, 0, -0x1badb002u};
    Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', 2, 1, 1},
                    .e_type = ET_EXEC,
                    .e_machine = EM_X86_64,
                    .e_entry = KERN,
                    .e_phoff = 64,
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = 2};
    Elf64_Phdr p[] = {{.p_type = PT_LOAD,
                       .p_offset = 0x1000,
                       .p_paddr = KERN,
                       .p_vaddr = KERN,
                       .p_filesz = 0x1000,
                       .p_memsz = 0x3000},
                      {.p_type = PT_NOTE, .p_offset = 0x200, .p_filesz = 20}};

    memcpy(f, &h, sizeof(h));
    memcpy(f + 64, p, sizeof(p));
    put_note(f + 0x200);
    memcpy(f + 0x300, mb, sizeof(mb));
    strcpy((char *)f + 0x1800, "Linux version 6");
    in->len = 2 + 0x2000;
}

/* Seed: an ELF32 with a PVH note and a multiboot header with addresses. */
static void seed_elf32(struct input *in)
{
    uint8_t *f = in->b + 2;
    const uint32_t mb[] = {0x1badb002, 0x10003,       -0x1badb002u - 0x10003, KERN + 0x300,
                           KERN,       KERN + 0x1000, KERN + 0x4000,          KERN + 0x40};
    Elf32_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', 1, 1, 1},
                    .e_type = ET_EXEC,
                    .e_machine = EM_386,
                    .e_entry = KERN,
                    .e_phoff = 64,
                    .e_phentsize = sizeof(Elf32_Phdr),
                    .e_phnum = 2};
    Elf32_Phdr p[] = {{.p_type = PT_LOAD,
                       .p_offset = 0x1000,
                       .p_paddr = KERN,
                       .p_vaddr = KERN,
                       .p_filesz = 0x1000,
                       .p_memsz = 0x3000},
                      {.p_type = PT_NOTE, .p_offset = 0x200, .p_filesz = 20}};

    memcpy(f, &h, sizeof(h));
    memcpy(f + 64, p, sizeof(p));
    put_note(f + 0x200);
    memcpy(f + 0x300, mb, sizeof(mb));
    in->len = 2 + 0x2000;
}

/* Spoils a few bytes: mostly in the headers, mostly towards edges; sometimes cuts the file. */
static void mutate(struct input *in, uint64_t *state)
{
    static const uint32_t edge[] = {0,       1,          4,          0x7f, 0xff,
                                    0xffff,  0x7fffffff, 0xffffffff, KERN, 0x1000,
                                    0x9f000, 0xe0000,    0xbfffffff, RAM};
    unsigned n = rnd(state) % 6;

    in->b[0] = (uint8_t)rnd(state);
    in->b[1] = (uint8_t)rnd(state);
    while (n--) {
        size_t at = 2 + rnd(state) % (rnd(state) % 4 ? 0x340 : SEED_MAX - 4);
        uint32_t v = rnd(state) % 2 ? edge[rnd(state) % (sizeof(edge) / 4)] : rnd(state);

        memcpy(in->b + at, &v, 1u << rnd(state) % 3);
    }
    if (rnd(state) % 8 == 0)
        in->len = rnd(state) % in->len;
}

/* Runs n mutated seeds. */
static void rounds_of(long n)
{
    static void (*const seeds[])(struct input *) = {seed_bz, seed_elf64, seed_elf32};
    uint64_t state = FUZZ_SEED;

    for (long i = 0; i < n; i++) {
        static struct input in;

        memset(&in, 0, sizeof(in));
        seeds[i % 3](&in);
        mutate(&in, &state);
        LLVMFuzzerTestOneInput(in.b, in.len);
    }
}

int main(int argc, char **argv)
{
    long rounds = 20000;

    if (!fuzz_args(argc, argv, 1 << 20, &rounds))
        return 2;
    rounds_of(rounds);
    printf("fuzz_boot: %ld rounds, %lu of %lu loads gave a bootable kernel\n", rounds, loads_ok,
           loads);
    mem_exit(&mem);
    return 0;
}
