/* SPDX-License-Identifier: MIT */
/*
 * Instructions of ring 0 that C has no words for; for programs of pages_kernel.c.
 */
#ifndef DISCO_TESTS_GUEST_USER_PAGES_CPU_H
#define DISCO_TESTS_GUEST_USER_PAGES_CPU_H

#include <stdint.h>

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return lo | (uint64_t)hi << 32;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

static inline void load_cr3(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr3" ::"r"(v) : "memory");
}

static inline void flush_page(uint64_t va)
{
    __asm__ volatile("invlpg (%0)" ::"r"(va) : "memory");
}

/* A table register's operand. */
struct __attribute__((packed)) table {
    uint16_t limit;
    uint64_t base;
};

static inline void load_gdt(uint64_t base, uint16_t limit)
{
    struct table t = {limit, base};

    __asm__ volatile("lgdt %0" ::"m"(t));
}

static inline void load_idt(uint64_t base)
{
    struct table t = {4095, base};

    __asm__ volatile("lidt %0" ::"m"(t));
}

static inline void load_tr(uint16_t sel)
{
    __asm__ volatile("ltr %0" ::"r"(sel));
}

static inline uint64_t cr2(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr2, %0" : "=r"(v));
    return v;
}

#endif
