/* SPDX-License-Identifier: MIT */
/*
 * What every test kernel has: a verdict, text on the serial port, interrupts, the local APIC by
 * either interface, other CPUs, the command line.  32-bit, flat, no paging, no C library.
 *
 * A kernel defines guest_test() and may define on_ap().  Its verdict is the byte written to the
 * debug-exit port: PASS_CODE, SKIP_CODE, or FAIL_CODE + the number of the check that failed (the
 * last code stands for all later ones), so `disco run` ends with 33, 35, or twice that plus one.
 */
#ifndef DISCO_TESTS_GUEST_LIB_GUEST_H
#define DISCO_TESTS_GUEST_LIB_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PASS_CODE = 0x10,
    SKIP_CODE = 0x11,
    FAIL_CODE = 0x20,
    FAIL_CODE_MAX = 0x7f,
    MAX_CPUS = 15,
    AP_PAGE = 0x30000, /* where application processors start */
    MB_MAGIC = 0x2badb002,
    COM1 = 0x3f8,
};

/* What an interrupt entry leaves on the stack. */
struct frame {
    uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax; /* pusha */
    uint32_t vector, error;                          /* pushed by the entry or the CPU */
    uint32_t eip, cs, eflags;                        /* pushed by the CPU */
};

/* How the kernel was started. */
struct start {
    uint32_t magic;      /* MB_MAGIC, or 0 for PVH */
    uint32_t info;       /* what ebx pointed at */
    const char *cmdline; /* command line */
};

/* ---- a kernel's own ---- */
void guest_test(const struct start *s);
void on_ap(uint32_t id); /* body of another CPU; the default halts */

/* ---- verdict and text ---- */
void say(const char *fmt, ...); /* %s %c %d %u %x, %X for uint64_t in hex */
_Noreturn void pass(void);
_Noreturn void skip(const char *why);
_Noreturn void stop(void); /* cli; hlt for ever */
void check_at(bool ok, const char *what, int line);
void check_eq_at(uint32_t got, uint32_t want, const char *what, int line);
#define CHECK(cond)         check_at(cond, #cond, __LINE__)
#define CHECK_EQ(got, want) check_eq_at(got, want, #got " == " #want, __LINE__)

/* The value of WORD= on the command line: true if it begins with val ("" matches if WORD= is
 * there); and as a number. */
bool option_is(const char *word, const char *val);
uint32_t option_number(const char *word, uint32_t otherwise);

/* ---- instructions ---- */
static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}
static inline void outw(uint16_t port, uint16_t v)
{
    __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port));
}
static inline void outl(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint16_t inw(uint16_t port)
{
    uint16_t v;
    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint32_t inl(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint64_t rdtsc(void)
{
    uint64_t v;
    __asm__ volatile("rdtsc" : "=A"(v)::"memory");
    return v;
}
static inline void cli(void)
{
    __asm__ volatile("cli" ::: "memory");
}
static inline void sti(void)
{
    __asm__ volatile("sti" ::: "memory");
}
static inline void relax(void)
{
    __asm__ volatile("pause" ::: "memory");
}
/* Takes what is pending, with interrupts on for a moment.  The port writes make even a KVM that
 * emulates kernels, and looks for interrupts now and then only, come to us. */
static inline void window(void)
{
    sti();
    for (unsigned i = 0; i < 8; i++)
        outb(0x80, 0);
    cli();
}
/* Sleeps until an interrupt; off again afterwards. */
static inline void sti_hlt_cli(void)
{
    __asm__ volatile("sti; hlt; cli" ::: "memory");
}
static inline uint32_t mem32(uint32_t gpa)
{
    uint32_t v;
    __asm__ volatile("movl %1, %0" : "=r"(v) : "m"(*(volatile uint32_t *)gpa));
    return v;
}
static inline void set_mem32(uint32_t gpa, uint32_t v)
{
    __asm__ volatile("movl %1, %0" : "=m"(*(volatile uint32_t *)gpa) : "r"(v));
}
void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]);
/* n / d for 64-bit n; saturates. */
uint32_t div64(uint64_t n, uint32_t d);

/* MSRs; false: the access raised #GP (interrupts_init() must have run). */
bool rdmsr(uint32_t msr, uint64_t *v);
bool wrmsr(uint32_t msr, uint64_t v);

/* ---- interrupts ---- */
extern volatile uint32_t irq_count[256];           /* times each vector came, all CPUs */
extern volatile uint8_t irq_log[64];               /* the first vectors >= 32, in order */
extern volatile uint32_t irq_logged;               /* entries of irq_log */
extern volatile bool irq_no_eoi[256];              /* the handler leaves the EOI to the test */
extern void (*volatile irq_hook)(struct frame *f); /* called before the EOI; NULL: nothing */

extern bool no_iret; /* iret=no: handlers return without IRET */

/* Loads the IDT on this CPU. */
void interrupts_init(void);
/* Forgets counts and log. */
void irq_clear(void);

/* ---- local APIC; register number = MMIO offset / 16 ---- */
enum {
    A_ID = 0x2,
    A_VERSION = 0x3,
    A_TPR = 0x8,
    A_PPR = 0xa,
    A_EOI = 0xb,
    A_LDR = 0xd,
    A_DFR = 0xe,
    A_SVR = 0xf,
    A_ISR = 0x10,
    A_IRR = 0x20,
    A_ESR = 0x28,
    A_ICR = 0x30,
    A_ICR_HIGH = 0x31,
    A_TIMER = 0x32,
    A_LINT0 = 0x35,
    A_INITIAL = 0x38,
    A_CURRENT = 0x39,
    A_DIVIDE = 0x3e,
    ICR_NMI = 4 << 8,
    ICR_INIT = 5 << 8,
    ICR_SIPI = 6 << 8,
    ICR_LOGICAL = 1 << 11,
    ICR_ASSERT = 1 << 14,
    ICR_SELF = 1 << 18,
    ICR_ALL = 2 << 18,
    ICR_OTHERS = 3 << 18,
    TIMER_PERIODIC = 1 << 17,
    TIMER_TSC = 2 << 17,
    MASKED = 1 << 16,
    MSR_APIC_BASE = 0x1b,
    MSR_TSC_DEADLINE = 0x6e0,
};
uint32_t apic_read(unsigned reg);
void apic_write(unsigned reg, uint32_t v);
uint32_t apic_id(void);                        /* of this CPU, in either mode */
void apic_enable(void);                        /* SVR, vector 0xff */
bool apic_x2(void);                            /* switches to x2APIC; false: not offered */
void apic_send(uint32_t dest, uint32_t v);     /* ICR; dest: physical APIC id or logical set */
bool apic_bit(unsigned first, uint8_t vector); /* of ISR or IRR */

/* ---- other CPUs ---- */
extern volatile uint32_t cpus_up; /* CPUs that reached on_ap() */
/* Number of CPUs by fw_cfg. */
uint32_t cpu_count(void);
/* INIT and two startup IPIs to one CPU. */
void cpu_start(uint32_t id);
/* Waits for a word to reach a value; false after about ms milliseconds. */
bool wait_for(const volatile uint32_t *word, uint32_t at_least, uint32_t ms);

/* ---- time ---- */
extern uint32_t tsc_khz; /* told by PVH (tsc_early_khz=), else by the APIC timer */
void delay_us(uint32_t us);
uint32_t elapsed_us(uint64_t since);

/* ---- fw_cfg ---- */
void fwcfg_read(uint16_t key, void *buf, unsigned n);

/* ---- strings ---- */
void *memcpy(void *d, const void *s, size_t n);
void *memset(void *d, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);

#endif
