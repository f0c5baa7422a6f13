/* SPDX-License-Identifier: MIT */
/*
 * What programs for pages in work have in common: memory, meeting, asking the harness to act,
 * and the model: a side does everything twice, to the arena and to memory that is left alone,
 * where it keeps what it believes.
 */
#ifndef DISCO_TESTS_GUEST_USER_PAGES_LIB_H
#define DISCO_TESTS_GUEST_USER_PAGES_LIB_H

#include "pages.h"

static struct pages_ctl *const ctl = (struct pages_ctl *)PAGES_CTL;
static uint8_t *const arena = (uint8_t *)PAGES_ARENA;

/* Programs: each returns when told to stop or when something is wrong. */
void pages_main(uint64_t vcpu);
void pages_access(struct pages_side *s);
void pages_kernel(struct pages_side *s);

static inline void relax(void)
{
    __asm__ volatile("pause" ::: "memory");
}

static inline uint64_t load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline void store(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static inline void fence(void)
{
    __asm__ volatile("mfence" ::: "memory");
}

/* Keeps the compiler from changing the order. */
static inline void order(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Both sides meet for the n-th time. */
static inline void meet(uint64_t *n)
{
    *n += 1;
    __atomic_fetch_add(&ctl->barrier, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&ctl->barrier, __ATOMIC_ACQUIRE) < 2 * *n)
        relax();
}

/* A CPU that runs code written by another does this first. */
static inline void serialize(void)
{
    uint32_t a = 0, b, c = 0, d;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d)::"memory");
}

/* The end of a program. */
static inline __attribute__((noreturn)) void pages_end(void)
{
    __asm__ volatile("outb %%al, %0" ::"N"(PORT_PAGES_DONE), "a"(0));
    for (;;)
        relax();
}

/* Pseudo-random numbers (xorshift). */
static inline uint64_t dice(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* Has a page and the one after it replicated (bits 0 and 1 of want) or collapsed, or, pages not
 * 0, so many pages replicated.  When it returns that was done; the harness may undo it at once. */
static inline void pages_act(unsigned page, unsigned want, unsigned pages)
{
    __asm__ volatile("outl %%eax, %%dx" ::"a"(page | want << 8 | pages << 16),
                     "d"(PORT_PAGES_ACT)
                     : "memory");
}

/* A side's model of the arena. */
static inline uint8_t *model_of(const struct pages_side *s)
{
    return (uint8_t *)(PAGES_MODEL + s->side * 0x40000);
}

/* Notes the first thing that is wrong. */
static inline void wrong(struct pages_side *s, uint64_t what, uint64_t where, uint64_t is,
                         uint64_t not_)
{
    if (s->error)
        return;
    s->detail[0] = where;
    s->detail[1] = is;
    s->detail[2] = not_;
    store(&s->error, what);
}

/* True while a program is to go on. */
static inline int goes_on(const struct pages_side *s)
{
    return !load(&ctl->stop) && !s->error;
}

/* Compares n bytes of the arena with the model. */
static inline void compare(struct pages_side *s, uint64_t what, uint64_t at, unsigned n)
{
    const volatile uint8_t *is = arena + at, *should = model_of(s) + at;

    for (unsigned i = 0; i < n; i++)
        if (is[i] != should[i])
            wrong(s, what, at + i, is[i], should[i]);
}

#endif
