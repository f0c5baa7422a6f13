/* SPDX-License-Identifier: MIT */
/*
 * What is used of QEMU 7.2's plugin interface (its header is in no package), and of what it does
 * not offer: how a translated address looks inside, and what else is taken from the program itself.
 * qemu_check() compares all of it with the program that loaded us.
 */
#ifndef DISCO_BENCH_MEMSYS_QEMU_H
#define DISCO_BENCH_MEMSYS_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QEMU_EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

/* What QEMU says of itself. */
struct qemu_info {
    const char *target_name;
    struct {
        int min, cur;
    } version; /* of the plugin interface */
    bool system_emulation;
    union {
        struct {
            int smp_vcpus, max_vcpus;
        } system;
    };
};

/* Inside of a translated data address, QEMU 7.2. */
struct qemu_plugin_hwaddr {
    bool is_io, is_store;
    union {
        struct {
            void *section;
            uint64_t offset;
        } io;
        struct {
            void *host;
        } ram;
    } v;
};

enum { QEMU_NO_REGS = 0, QEMU_MEM_RW = 3 };

typedef void (*qemu_simple_cb)(qemu_plugin_id_t id);
typedef void (*qemu_udata_cb)(qemu_plugin_id_t id, void *data);
typedef void (*qemu_vcpu_simple_cb)(qemu_plugin_id_t id, unsigned vcpu);
typedef void (*qemu_vcpu_udata_cb)(unsigned vcpu, void *data);
typedef void (*qemu_vcpu_mem_cb)(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr,
                                 void *data);
typedef void (*qemu_tb_trans_cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
                        char **argv);
void qemu_plugin_reset(qemu_plugin_id_t id, qemu_simple_cb cb);
void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t id, qemu_vcpu_simple_cb cb);
void qemu_plugin_register_flush_cb(qemu_plugin_id_t id, qemu_simple_cb cb);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, qemu_udata_cb cb, void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, qemu_tb_trans_cb cb);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, qemu_vcpu_udata_cb cb,
                                          int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            qemu_vcpu_udata_cb cb, int flags, void *data);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, qemu_vcpu_mem_cb cb,
                                      int flags, int rw, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info);
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t info, uint64_t vaddr);

/* Direction and size of an access, read from the word itself: its layout in 7.2. */
static inline bool qemu_is_store(qemu_plugin_meminfo_t info)
{
    return info >> 17 & 1;
}

static inline unsigned qemu_size(qemu_plugin_meminfo_t info)
{
    return 1U << (info >> 4 & 7);
}

/* What of the program is in no interface. */
struct qemu {
    void *(*get_cpu)(int);               /* its object for a CPU, NULL: there is none yet */
    void (*cpu_exit)(void *);            /* asks a CPU to let the next one run */
    void (*disable_mem_helpers)(void *); /* forgets which memory callbacks an instruction had */
    const bool *several_threads;         /* each CPU has its own; known once there are CPUs */
};

/*
 * Finds all of that; compares the program's version, which must begin with `version`, and the
 * layout of what is above. 0, or -1 with one line said on standard error.
 */
int qemu_check(struct qemu *q, const char *version, const struct qemu_info *info);

#endif
