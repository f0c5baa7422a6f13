/* SPDX-License-Identifier: MIT */
/*
 * svmfix.c: a TCG plugin that keeps QEMU's emulated SVM from delivering a guest's interrupt twice.
 *
 * The fault, seen in QEMU 7.2: when VMRUN injects an external interrupt, the emulator notes its
 * vector as the CPU's pending exception, delivers it, and leaves the note.  If the emulation loop
 * is left before the next exit to the hypervisor (another CPU of the emulated machine takes its
 * turn), it finds the note and delivers the vector a second time, whatever the guest's interrupt
 * flag says.  Guests deadlock on spinlocks or die of double faults.
 *
 * The cure: the loop's call for a pending exception goes through us.  A hardware exception has a
 * vector below 32; an `int` instruction with another one is 0x80 in Linux.  Any other vector can
 * only be such a note: it is dropped.
 *
 * It also shortens the turns of emulated CPUs.  One thread runs them all, by default a tenth of a
 * second each, so a CPU that waits for the answer of the others (each flush of TLBs, each change
 * of a guest's page) spins for most of a second of its own time.  A thread of ours asks all CPUs
 * to let the next one run once in `turn` microseconds.
 *
 * Interface: load with -plugin svmfix.so[,log=FILE][,turn=US]; the number of dropped notes is
 * written to FILE at the end; turn=0 (the default) leaves turns alone.
 * Invariants: where something is not found as expected, nothing is changed and one line says so.
 * Threads: patched once, before the first CPU runs; CPUs are only added; the rest is atomic.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef PLUGIN_API
#define PLUGIN_API 1
#endif

/* What is used of QEMU's plugin interface (its header is in no package). */
typedef uint64_t qemu_plugin_id_t;
void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t id,
                                       void (*cb)(qemu_plugin_id_t, unsigned));
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *),
                                    void *data);
int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);
extern __attribute__((visibility("default"))) int qemu_plugin_version;
int qemu_plugin_version = PLUGIN_API;

#define VECTOR_FIRST_EXTERNAL 32
#define VECTOR_SYSCALL        0x80
#define VECTOR_LAST           0xff
#define CLASS_WORDS           128 /* how far into the CPU's class its table is looked for */
#define OPS_WORDS             40  /* more than any version's table has */
#define CODE_BYTES            64  /* of the function that tells where exception_index is */

/* All that this plugin knows; written before the CPUs run, but for the counter. */
static struct svmfix {
    bool tried;                   /* patching was attempted */
    uintptr_t low, high;          /* where QEMU's own program is in memory */
    size_t index_offset;          /* of exception_index in QEMU's CPU object, bytes */
    void (*do_interrupt)(void *); /* QEMU's own operation */
    void (*cpu_exit)(void *);     /* asks a CPU to leave the emulation loop */
    uintptr_t ops[OPS_WORDS];     /* our copy of the table of operations */
    const char *log;              /* file for the count, or NULL */
    unsigned turn_us;             /* length of a turn, 0: as the emulator has it */
    void *(*get_cpu)(int);        /* a CPU's object by its number */
    atomic_uint cpus;             /* that have started */
    atomic_ulong dropped;         /* notes dropped */
} fix;

/* In the place of QEMU's do_interrupt: called for the pending exception of a CPU. */
static void do_interrupt(void *cpu)
{
    int vector;

    memcpy(&vector, (const char *)cpu + fix.index_offset, sizeof(vector));
    if (vector < VECTOR_FIRST_EXTERNAL || vector > VECTOR_LAST || vector == VECTOR_SYSCALL) {
        fix.do_interrupt(cpu);
        return;
    }
    atomic_fetch_add(&fix.dropped, 1);
    /* The caller clears the note.  The loop was about to be left: let it try again. */
    fix.cpu_exit(cpu);
}

/* dl_iterate_phdr: the first object is the program itself. */
static int find_program(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    (void)data;
    fix.low = UINTPTR_MAX;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + ph->p_vaddr;

        if (ph->p_type != PT_LOAD)
            continue;
        if (start < fix.low)
            fix.low = start;
        if (start + ph->p_memsz > fix.high)
            fix.high = start + ph->p_memsz;
    }
    return 1;
}

/* The offset of exception_index: cpu_loop_exit_noexc() sets it to -1, `movl $-1, offset(%rdi)`. */
static bool find_index(void)
{
    const unsigned char *code = dlsym(RTLD_DEFAULT, "cpu_loop_exit_noexc");

    for (int i = 0; code && i < CODE_BYTES; i++) {
        uint32_t offset, value;

        memcpy(&offset, code + i + 2, sizeof(offset));
        memcpy(&value, code + i + 6, sizeof(value));
        if (code[i] == 0xc7 && code[i + 1] == 0x87 && value == UINT32_MAX && offset < 0x2000) {
            fix.index_offset = offset;
            return true;
        }
    }
    return false;
}

/* At which word from `ops` QEMU's do_interrupt is; OPS_WORDS if not there. Any address will do. */
static int slot_of(uintptr_t ops)
{
    int i = 0;

    if (ops < fix.low || ops + sizeof(fix.ops) > fix.high || ops % sizeof(void *))
        return OPS_WORDS;
    while (i < OPS_WORDS && ((const uintptr_t *)ops)[i] != (uintptr_t)fix.do_interrupt)
        i++;
    return i;
}

/* Puts our table in the place of QEMU's in the CPUs' class. Returns NULL or what is missing. */
static const char *patch(void)
{
    void *(*get_cpu)(int) = (void *(*)(int))dlsym(RTLD_DEFAULT, "qemu_get_cpu");
    void *(*get_class)(void *) = (void *(*)(void *))dlsym(RTLD_DEFAULT, "object_get_class");
    uintptr_t *class, *ops = NULL;
    int slot = OPS_WORDS;

    fix.do_interrupt = (void (*)(void *))dlsym(RTLD_DEFAULT, "x86_cpu_do_interrupt");
    fix.cpu_exit = (void (*)(void *))dlsym(RTLD_DEFAULT, "cpu_exit");
    fix.get_cpu = get_cpu;
    if (!get_cpu || !get_class || !fix.do_interrupt || !fix.cpu_exit)
        return "a function";
    if (!get_cpu(0))
        return "the first CPU";
    if (!find_index())
        return "exception_index";
    dl_iterate_phdr(find_program, NULL);
    class = get_class(get_cpu(0));
    /* Tables follow each other in memory: the one that is meant begins nearest before the entry. */
    for (int i = 0; i < CLASS_WORDS; i++) {
        if (slot_of(class[i]) < slot) {
            slot = slot_of(class[i]);
            ops = &class[i];
        }
    }
    if (!ops)
        return "the table of operations";
    memcpy(fix.ops, (const void *)*ops, sizeof(fix.ops));
    fix.ops[slot] = (uintptr_t)do_interrupt;
    *ops = (uintptr_t)fix.ops;
    return NULL;
}

/* Ends turns. */
static void *turns(void *arg)
{
    const struct timespec nap = {.tv_sec = fix.turn_us / 1000000,
                                 .tv_nsec = (long)(fix.turn_us % 1000000) * 1000};

    (void)arg;
    for (;;) {
        nanosleep(&nap, NULL);
        for (unsigned i = 0; i < atomic_load(&fix.cpus); i++) {
            void *cpu = fix.get_cpu((int)i);

            if (cpu)
                fix.cpu_exit(cpu);
        }
    }
    return NULL;
}

/* Starts the thread that ends turns; with one CPU there are none. */
static void start_turns(void)
{
    pthread_t thread;
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the emulator's */
    if (fix.turn_us && fix.get_cpu && fix.cpu_exit &&
        !pthread_create(&thread, NULL, turns, NULL))
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Each CPU's start; the first one's is used. */
static void vcpu_init(qemu_plugin_id_t id, unsigned cpu)
{
    const char *missing;

    (void)id;
    if (cpu >= atomic_load(&fix.cpus))
        atomic_store(&fix.cpus, cpu + 1);
    if (cpu == 1)
        start_turns();
    if (fix.tried)
        return;
    fix.tried = true;
    missing = patch();
    if (missing)
        fprintf(stderr,
                "lab: svmfix: this QEMU is another than expected (%s): guests may hang\n",
                missing);
}

/* The end of the emulation: the count, for who wants it. */
static void at_exit(qemu_plugin_id_t id, void *data)
{
    FILE *file = fix.log ? fopen(fix.log, "we") : NULL;

    (void)id;
    (void)data;
    if (file) {
        fprintf(file, "%lu\n", atomic_load(&fix.dropped));
        fclose(file);
    }
}

/* Called by QEMU when the plugin is loaded. */
__attribute__((visibility("default"))) int
qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "log=", 4))
            fix.log = strdup(argv[i] + 4);
        else if (!strncmp(argv[i], "turn=", 5))
            fix.turn_us = (unsigned)strtoul(argv[i] + 5, NULL, 10);
    qemu_plugin_register_vcpu_init_cb(id, vcpu_init);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
