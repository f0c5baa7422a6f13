/* SPDX-License-Identifier: MIT */
/*
 * The common part of the test kernels: see guest.h.
 * CPUs: state of the test is global and volatile; text is not locked, only one CPU speaks.
 */
#include "guest.h"

#include <stdarg.h>

extern const uint8_t vectors[], ap_start[], ap_end[];
void guest_main(uint32_t magic, uint32_t info);
void on_interrupt(struct frame *f);
void ap_entry(uint32_t id);

volatile uint32_t irq_count[256];
volatile uint8_t irq_log[64];
volatile uint32_t irq_logged;
volatile bool irq_no_eoi[256];
void (*volatile irq_hook)(struct frame *f);
volatile uint32_t cpus_up;
uint32_t tsc_khz;
bool no_iret;

static struct start boot;        /* how we came */
static volatile uint32_t checks; /* checks done */
static volatile bool x2apic[16]; /* CPU uses the MSR interface */
static volatile uint32_t fixup;  /* where a #GP goes on; 0: it is an error */
static uint64_t idt[256];        /* gates */
static volatile bool gp;         /* the last MSR access faulted */

/* ---- strings ---- */

void *memcpy(void *d, const void *s, size_t n)
{
    uint8_t *to = d;
    const uint8_t *from = s;

    while (n--)
        *to++ = *from++;
    return d;
}

void *memset(void *d, int c, size_t n)
{
    uint8_t *to = d;

    while (n--)
        *to++ = (uint8_t)c;
    return d;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;

    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

/* The text after "WORD=" on the command line, or NULL. */
static const char *option(const char *word)
{
    size_t n = strlen(word);

    for (const char *p = boot.cmdline; p && *p; p++)
        if ((p == boot.cmdline || p[-1] == ' ') && !memcmp(p, word, n) && p[n] == '=')
            return p + n + 1;
    return NULL;
}

bool option_is(const char *word, const char *val)
{
    const char *p = option(word);

    return p && !memcmp(p, val, strlen(val));
}

uint32_t option_number(const char *word, uint32_t otherwise)
{
    const char *p = option(word);
    uint32_t n = 0;

    if (!p)
        return otherwise;
    for (; *p >= '0' && *p <= '9'; p++)
        n = n * 10 + (uint32_t)(*p - '0');
    return n;
}

/* ---- text ---- */

static void put(char c)
{
    if (c == '\n')
        outb(COM1, '\r');
    outb(COM1, (uint8_t)c);
}

static void put_number(uint32_t n, uint32_t base)
{
    char buf[12];
    int i = 0;

    do {
        buf[i++] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n);
    while (i)
        put(buf[--i]);
}

void say(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            put(*fmt);
            continue;
        }
        switch (*++fmt) {
        case 's':
            for (const char *s = va_arg(ap, const char *); *s; s++)
                put(*s);
            break;
        case 'c':
            put((char)va_arg(ap, int));
            break;
        case 'x':
            put_number(va_arg(ap, uint32_t), 16);
            break;
        case 'X': {
            uint64_t v = va_arg(ap, uint64_t);

            put_number((uint32_t)(v >> 32), 16);
            put('_');
            put_number((uint32_t)v, 16);
            break;
        }
        case 'd': {
            int v = va_arg(ap, int);

            if (v < 0)
                put('-');
            put_number(v < 0 ? -(uint32_t)v : (uint32_t)v, 10);
            break;
        }
        default:
            put_number(va_arg(ap, uint32_t), 10);
        }
    }
    va_end(ap);
}

/* ---- verdict ---- */

_Noreturn void stop(void)
{
    for (;;)
        __asm__ volatile("cli; hlt");
}

static _Noreturn void verdict(uint32_t code)
{
    outl(0xf4, code);
    stop();
}

_Noreturn void pass(void)
{
    say("PASS, %u checks\n", checks);
    verdict(PASS_CODE);
}

_Noreturn void skip(const char *why)
{
    say("SKIP: %s\n", why);
    verdict(SKIP_CODE);
}

static _Noreturn void failed(const char *what, int line)
{
    uint32_t code = FAIL_CODE + checks;

    say("FAIL: check %u, line %d: %s\n", checks, line, what);
    verdict(code > FAIL_CODE_MAX ? FAIL_CODE_MAX : code);
}

void check_at(bool ok, const char *what, int line)
{
    checks++;
    if (!ok)
        failed(what, line);
}

void check_eq_at(uint32_t got, uint32_t want, const char *what, int line)
{
    checks++;
    if (got == want)
        return;
    say("got %x, want %x\n", got, want);
    failed(what, line);
}

/* ---- instructions ---- */

void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                     : "a"(leaf), "c"(sub));
}

uint32_t div64(uint64_t n, uint32_t d)
{
    uint32_t lo = (uint32_t)n, hi = (uint32_t)(n >> 32), q;

    if (hi >= d)
        return UINT32_MAX;
    __asm__("divl %3" : "=a"(q), "+d"(hi) : "a"(lo), "r"(d));
    return q;
}

bool rdmsr(uint32_t msr, uint64_t *v)
{
    uint32_t lo = 0, hi = 0;

    gp = false;
    __asm__ volatile("movl $1f, %3\n rdmsr\n 1: movl $0, %3"
                     : "+a"(lo), "+d"(hi)
                     : "c"(msr), "m"(fixup)
                     : "memory");
    *v = (uint64_t)hi << 32 | lo;
    return !gp;
}

bool wrmsr(uint32_t msr, uint64_t v)
{
    gp = false;
    __asm__ volatile("movl $1f, %3\n wrmsr\n 1: movl $0, %3"
                     :
                     : "a"((uint32_t)v), "d"((uint32_t)(v >> 32)), "c"(msr), "m"(fixup)
                     : "memory");
    return !gp;
}

/* ---- interrupts ---- */

void interrupts_init(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) ptr = {sizeof(idt) - 1, (uint32_t)idt};

    for (unsigned i = 0; i < 256; i++) {
        uint32_t at = (uint32_t)vectors + 16 * i;

        idt[i] = (uint64_t)(at >> 16 << 16 | 0x8e00) << 32 | 0x10u << 16 | (at & 0xffff);
    }
    __asm__ volatile("lidt %0" ::"m"(ptr));
}

void irq_clear(void)
{
    irq_logged = 0;
    for (unsigned i = 0; i < 256; i++)
        irq_count[i] = 0;
}

/* An exception: an MSR access that may fault goes on, anything else is a failed check. */
static void on_exception(struct frame *f)
{
    if (f->vector == 13 && fixup) {
        f->eip = fixup;
        gp = true;
        return;
    }
    say("exception %u, error %x, at %x\n", f->vector, f->error, f->eip);
    check_at(false, "no exception", 0);
}

void on_interrupt(struct frame *f)
{
    uint32_t v = f->vector;

    irq_count[v]++;
    if (v < 32 && v != 2) {
        on_exception(f);
        return;
    }
    if (irq_logged < sizeof(irq_log))
        irq_log[irq_logged++] = (uint8_t)v;
    if (irq_hook)
        irq_hook(f);
    if (v >= 32 && v != 0xff && !irq_no_eoi[v])
        apic_write(A_EOI, 0);
}

/* ---- local APIC ---- */

/* This CPU's number, which works before anything is set up. */
static uint32_t own_id(void)
{
    uint32_t r[4];

    cpuid(1, 0, r);
    return r[1] >> 24 & 15;
}

uint32_t apic_read(unsigned reg)
{
    uint64_t v = 0;

    if (!x2apic[own_id()])
        return mem32(0xfee00000 + 16 * reg);
    rdmsr(0x800 + reg, &v);
    return (uint32_t)v;
}

void apic_write(unsigned reg, uint32_t v)
{
    if (!x2apic[own_id()])
        set_mem32(0xfee00000 + 16 * reg, v);
    else
        wrmsr(0x800 + reg, v);
}

uint32_t apic_id(void)
{
    uint32_t id = apic_read(A_ID);

    return x2apic[own_id()] ? id : id >> 24;
}

void apic_enable(void)
{
    apic_write(A_SVR, 0x1ff);
}

bool apic_x2(void)
{
    uint64_t base;
    uint32_t r[4];

    cpuid(1, 0, r);
    if (!(r[2] & 1u << 21))
        return false;
    rdmsr(MSR_APIC_BASE, &base);
    if (!wrmsr(MSR_APIC_BASE, base | 0xc00))
        return false;
    x2apic[own_id()] = true;
    return true;
}

void apic_send(uint32_t dest, uint32_t v)
{
    if (x2apic[own_id()]) {
        wrmsr(0x830, (uint64_t)dest << 32 | v);
        return;
    }
    apic_write(A_ICR_HIGH, dest << 24);
    apic_write(A_ICR, v);
}

bool apic_bit(unsigned first, uint8_t vector)
{
    return apic_read(first + vector / 32) >> (vector % 32) & 1;
}

/* ---- other CPUs ---- */

uint32_t cpu_count(void)
{
    uint16_t n = 0;

    fwcfg_read(5, &n, 2);
    return n;
}

void cpu_start(uint32_t id)
{
    apic_send(id, ICR_INIT | ICR_ASSERT);
    delay_us(1000);
    apic_send(id, ICR_SIPI | ICR_ASSERT | AP_PAGE >> 12);
    delay_us(200);
    apic_send(id, ICR_SIPI | ICR_ASSERT | AP_PAGE >> 12);
}

void ap_entry(uint32_t id)
{
    interrupts_init();
    on_ap(id);
    stop();
}

__attribute__((weak)) void on_ap(uint32_t id)
{
    (void)id;
}

bool wait_for(const volatile uint32_t *word, uint32_t at_least, uint32_t ms)
{
    uint64_t start = rdtsc();

    while (*word < at_least) {
        if (elapsed_us(start) / 1000 >= ms)
            return false;
        relax();
    }
    return true;
}

/* ---- time ---- */

/* The APIC timer counts 1 GHz in this machine: measures the TSC against 20 ms of it. */
static uint32_t measure_khz(void)
{
    uint64_t start;
    uint32_t left = 0, khz;

    apic_write(A_DIVIDE, 0xb);
    apic_write(A_INITIAL, 1000000000);
    left = apic_read(A_CURRENT);
    start = rdtsc();
    while (left - apic_read(A_CURRENT) < 20000000)
        relax();
    khz = div64(rdtsc() - start, 20);
    apic_write(A_INITIAL, 0);
    return khz;
}

uint32_t elapsed_us(uint64_t since)
{
    return div64(rdtsc() - since, tsc_khz / 1000);
}

void delay_us(uint32_t us)
{
    uint64_t start = rdtsc();

    while (elapsed_us(start) < us)
        relax();
}

/* ---- fw_cfg ---- */

void fwcfg_read(uint16_t key, void *buf, unsigned n)
{
    uint8_t *p = buf;

    outw(0x510, key);
    while (n--)
        *p++ = inb(0x511);
}

/* ---- entry ---- */

void guest_main(uint32_t magic, uint32_t info)
{
    boot.magic = magic;
    boot.info = info;
    boot.cmdline = (const char *)mem32(info + (magic == MB_MAGIC ? 16 : 24));
    memcpy((void *)AP_PAGE, ap_start, (size_t)(ap_end - ap_start));
    no_iret = option_is("iret", "no");
    tsc_khz = option_number("tsc_early_khz", 0);
    if (!tsc_khz)
        tsc_khz = measure_khz();
    guest_test(&boot);
    pass();
}
