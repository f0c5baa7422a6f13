/* SPDX-License-Identifier: MIT */
/*
 * Programs in ring 0: what the CPU itself writes to the arena while its pages come and go.
 * Accessed and dirty bits of page tables, frames of interrupts and exceptions, accessed and busy
 * bits of descriptors.  They need a CPU that runs ring 0 directly: the lab's.
 *
 * Each side has tables of its own where nothing is in work (PAGES_OWN), but for those that are
 * the program's matter.  GS points to the side's part of the control page, so that a handler
 * knows whose it is.
 */
#include <stddef.h>

#include "pages_cpu.h"
#include "pages_lib.h"

enum {
    OWN_GDT = 0, /* offsets in PAGES_OWN: tables, */
    OWN_TSS = 0x1000,
    OWN_IDT = 0x2000,
    OWN_STACK0 = 0x6000, /* where interrupts of ring 3 and IST entries arrive */
    OWN_STACK3 = 0x8000, /* ring 3's */
    OWN_DESC = 0xa000,   /* model of a GDT: 24 KiB */
    SEL_CODE0 = 0x08,    /* selectors */
    SEL_DATA0 = 0x10,
    SEL_CODE3 = 0x1b,
    SEL_DATA3 = 0x23,
    SEL_TSS = 0x30,  /* two entries a side */
    VEC_SOFT = 0x80, /* vectors of `int` that the lab's emulator takes: below 32, and this */
    VEC_IST = 0x1e,
    VEC_USER = 0x1c,
    VEC_IPI = 0x50,       /* what a CPU sends itself */
    MSR_APIC_BASE = 0x1b, /* registers of the local APIC */
    MSR_X2APIC_ID = 0x802,
    MSR_EOI = 0x80b,
    MSR_SVR = 0x80f,
    MSR_ICR = 0x830,
};
#define MSR_FS_BASE 0xc0000100u

/* A stack as pages_trap.S leaves it. */
struct trap {
    uint64_t r[15];                    /* r15 first, rax last */
    uint64_t vector, error;            /* which, and its error code or 0 */
    uint64_t rip, cs, rflags, rsp, ss; /* the CPU's frame */
};

/* What a side expects of the next trap, and what came. */
struct expected {
    uint64_t vector, error, cs, ss, rsp; /* of the frame */
    uint64_t rip;                        /* of the frame, 0: any */
    uint64_t at;                         /* where the frame's last word ends */
    uint64_t skip;                       /* bytes of the instruction to pass over */
    uint64_t to, to_rsp;                 /* go on there in ring 0, 0: where it came from */
    uint64_t came;                       /* traps so far */
};

/* One a side: not in the arena. */
static struct expected expect[2];

extern uint8_t pages_vectors[];
void pages_trap(struct trap *t);

/* ---- tables ---- */

/* The side that this CPU is. */
static struct pages_side *self(void)
{
    uint64_t side;

    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(side) : "i"(offsetof(struct pages_side, side)));
    return &ctl->side[side];
}

static uint8_t *own(const struct pages_side *s)
{
    return (uint8_t *)PAGES_OWN + s->side * 0x10000;
}

/* Descriptors that all programs use, and the side's TSS. */
static void fill_gdt(volatile uint64_t *gdt, uint64_t side, uint64_t tss)
{
    unsigned at = SEL_TSS / 8 + 2 * (unsigned)side;

    gdt[1] = 0x00af9b000000ffffull;
    gdt[2] = 0x00cf93000000ffffull;
    gdt[3] = 0x00affb000000ffffull;
    gdt[4] = 0x00cff3000000ffffull;
    gdt[at] = 0x67 | (tss & 0xffffff) << 16 | 0x89ull << 40 | (tss >> 24 & 0xff) << 56;
    gdt[at + 1] = tss >> 32;
}

static void fill_idt(volatile uint64_t *idt)
{
    for (unsigned v = 0; v < 256; v++) {
        uint64_t to = (uint64_t)pages_vectors + 16 * v;

        idt[2 * v] = (to & 0xffff) | SEL_CODE0 << 16 | (v == VEC_IST ? 1ull << 32 : 0) |
                     0xee00ull << 32 | (to >> 16 & 0xffff) << 48;
        idt[2 * v + 1] = to >> 32;
    }
}

/* 64-bit words of a TSS are at odd multiples of four. */
static void fill_tss(uint8_t *tss, uint64_t rsp0, uint64_t ist1)
{
    *(volatile uint64_t *)(tss + 4) = rsp0;
    *(volatile uint64_t *)(tss + 0x24) = ist1;
    *(volatile uint16_t *)(tss + 0x66) = 0x68;
}

/* Tables of the side's own, and GS. */
static void set_up(struct pages_side *s)
{
    uint8_t *o = own(s);

    wrmsr(0xc0000101u, (uint64_t)s);
    fill_tss(o + OWN_TSS, (uint64_t)o + OWN_STACK0, (uint64_t)o + OWN_STACK0);
    fill_gdt((uint64_t *)(o + OWN_GDT), s->side, (uint64_t)o + OWN_TSS);
    fill_idt((uint64_t *)(o + OWN_IDT));
    load_gdt((uint64_t)o + OWN_GDT, 0xfff);
    load_idt((uint64_t)o + OWN_IDT);
    load_tr((uint16_t)(SEL_TSS + 16 * s->side));
}

/* ---- page tables in the arena ---- */

enum {
    PT_PAGES = 8, /* of the arena, from 4 on; before them: PML4, PDPT, PD */
    PT_ENTRIES = PT_PAGES * 512,
    PTE_P = 1,
    PTE_RW = 2,
    PTE_US = 4,
    PTE_A = 32,
    PTE_D = 64,
};
#define TABLES_VA (1ull << 39) /* the second entry of the PML4 */

static uint64_t *table(unsigned page)
{
    return (uint64_t *)(arena + page * 4096);
}

/* The leaf entry of a page behind TABLES_VA. */
static uint64_t *pte_at(uint64_t i)
{
    return table(4) + i % PT_ENTRIES;
}

/* ---- traps ---- */

/* Compares a trap with what is expected. */
static void judge(struct pages_side *s, const struct trap *t, const struct expected *e)
{
    if (t->vector != e->vector)
        wrong(s, 100 + t->vector, t->rip, t->error, cr2());
    if (t->error != e->error)
        wrong(s, 20, t->rip, t->error, e->error);
    if (t->cs != e->cs || t->ss != e->ss)
        wrong(s, 21, t->rip, t->cs << 16 | t->ss, e->cs << 16 | e->ss);
    if (t->rsp != e->rsp)
        wrong(s, 22, t->rip, t->rsp, e->rsp);
    if (e->rip && t->rip != e->rip)
        wrong(s, 23, t->vector, t->rip, e->rip);
    if ((uint64_t)(&t->ss + 1) != e->at)
        wrong(s, 24, t->vector, (uint64_t)(&t->ss + 1), e->at);
}

/* A page fault of an access that is allowed: what KVM gives when it cannot write to a page table
 * while it emulates an instruction.  Does what a kernel does, which finds the page there: marks
 * it as used, and tries again. */
static int odd_fault(struct pages_side *s, const struct trap *t)
{
    uint64_t va = cr2();

    if (t->vector != 14 || s->prog != PAGES_TABLES || va >> 39 != 1)
        return 0;
    store(&s->odd, s->odd + 1);
    if (s->odd > 1000000)
        wrong(s, 25, t->rip, t->error, va);
    __atomic_fetch_or(pte_at((va & (TABLES_VA - 1)) >> 12),
                      PTE_A | (t->error & 2 ? (uint64_t)PTE_D : 0), __ATOMIC_SEQ_CST);
    return !s->error;
}

void pages_trap(struct trap *t)
{
    struct pages_side *s = self();
    struct expected *e = &expect[s->side];

    if (odd_fault(s, t))
        return;
    judge(s, t, e);
    if (s->error) /* nowhere to go */
        pages_end();
    if (t->vector == VEC_IPI)
        wrmsr(MSR_EOI, 0);
    t->rip += e->skip;
    if (e->to) {
        t->rip = e->to;
        t->cs = SEL_CODE0;
        t->ss = SEL_DATA0;
        t->rsp = e->to_rsp;
    }
    store(&e->came, e->came + 1);
}

/* ---- page tables ---- */

static uint64_t pte_of(unsigned i)
{
    return (PAGES_FRESH + i * 4096ull) | PTE_P | PTE_RW | PTE_US;
}

/* Side 0 makes the tables; all pages of the first 512 GiB are as before. */
static void make_tables(void)
{
    uint64_t rig;

    __asm__ volatile("movq %%cr3, %0" : "=r"(rig));
    *(volatile uint64_t *)&table(0)[0] = *(uint64_t *)(rig & ~0xfffull);
    *(volatile uint64_t *)&table(0)[1] = (uint64_t)table(1) | 7;
    *(volatile uint64_t *)&table(1)[0] = (uint64_t)table(2) | 7;
    for (unsigned i = 0; i < PT_PAGES; i++)
        *(volatile uint64_t *)&table(2)[i] = (uint64_t)table(4 + i) | 7;
    for (unsigned i = 0; i < PT_ENTRIES; i++)
        *(volatile uint64_t *)&table(4)[i] = pte_of(i);
}

/* An entry must be what it was, with these bits set, and others only of those allowed. */
static void look_pte(struct pages_side *s, unsigned i, uint64_t must, uint64_t may,
                     uint64_t what)
{
    uint64_t is = load(&table(4)[i]), base = pte_of(i);

    if ((is & must) != must || (is & ~(uint64_t)(PTE_A | PTE_D)) != base ||
        (is & (PTE_A | PTE_D) & ~may))
        wrong(s, what, i, is, base | must);
}

/* One entry of a side: touched while the tables are replicated, by the CPU or by KVM. */
static void one_pte(struct pages_side *s, unsigned i, uint64_t v)
{
    uint64_t va = TABLES_VA + i * 4096ull, *pte = &table(4)[i];
    volatile uint64_t *data = (volatile uint64_t *)(va + (v >> 8) % 512 * 8);
    volatile uint64_t *plain =
        (volatile uint64_t *)(PAGES_FRESH + i * 4096ull + (v >> 8) % 512 * 8);

    __atomic_fetch_and(pte, ~(uint64_t)(PTE_A | PTE_D), __ATOMIC_SEQ_CST); /* as kernels do */
    flush_page(va);
    if (v >> 20 & 1)
        pages_act(4 + i / 512, 3, 0);
    else
        pages_act(0, 0, 4 + PT_PAGES);
    switch (v % 5) {
    case 0: /* read */
        if (*data != *plain)
            wrong(s, 30, i, *data, *plain);
        look_pte(s, i, PTE_A, PTE_A, 31);
        break;
    case 1: /* written */
    case 2: /* read, replicated again, written: the dirty bit alone */
        if (v % 5 == 2) {
            (void)*data;
            pages_act(4 + i / 512, 3, 0);
        }
        *data = v;
        if (*plain != v)
            wrong(s, 32, i, *plain, v);
        look_pte(s, i, PTE_A | PTE_D, PTE_A | PTE_D, 33);
        break;
    case 3: { /* written by KVM, which walks the tables by itself */
        const uint8_t *from = (const uint8_t *)PAGES_MMIO + 8;
        volatile uint64_t *to = data;

        __asm__ volatile("movsq" : "+D"(to), "+S"(from)::"memory");
        if (*plain != 0xffeeddccbbaa9988ull)
            wrong(s, 34, i, *plain, 0);
        look_pte(s, i, PTE_A | PTE_D, PTE_A | PTE_D, 35);
        break;
    }
    default: /* locked */
        __atomic_fetch_add((uint64_t *)data, 1, __ATOMIC_SEQ_CST);
        look_pte(s, i, PTE_A | PTE_D, PTE_A | PTE_D, 36);
    }
}

/* Entries above: what the CPU set is there again when it was cleared. */
static void upper(struct pages_side *s, uint64_t i)
{
    uint64_t *entry[3] = {&table(0)[1], &table(1)[0], &table(2)[i / 512]};

    for (unsigned k = 0; k < 3; k++)
        __atomic_fetch_and(entry[k], ~(uint64_t)PTE_A, __ATOMIC_SEQ_CST);
    load_cr3(PAGES_ARENA);
    pages_act(0, 0, 4 + PT_PAGES);
    (void)*(volatile uint8_t *)(TABLES_VA + i * 4096);
    for (unsigned k = 0; k < 3; k++)
        if (!(load(entry[k]) & PTE_A) && !ctl->side[1].prog) /* the other may have cleared it */
            wrong(s, 37, k, *entry[k], PTE_A);
}

static void tables(struct pages_side *s)
{
    uint64_t x = 88675123ull + s->side;

    if (!s->side) {
        make_tables();
        store(&ctl->poked, 1);
    }
    while (!load(&ctl->poked))
        relax();
    load_cr3(PAGES_ARENA);
    for (uint64_t e = 1; goes_on(s); e++) {
        uint64_t v = dice(&x);
        unsigned i = (unsigned)(v >> 40) % (PT_ENTRIES / 2) * 2 + (unsigned)s->side;

        one_pte(s, i, v);
        if (e % 16 == 0)
            upper(s, i);
        store(&s->loops, e);
    }
}

/* ---- frames ---- */

/* Pages of a side's part of the arena, 16 each. */
enum { FR_STACK = 0, FR_IST = 4, FR_IDT = 6, FR_TSS = 7, FR_STACK0 = 8, FR_PAGES = 12 };

static uint8_t *part(const struct pages_side *s, unsigned page)
{
    return arena + (s->side * 16 + page) * 4096;
}

/* Has the page that a stack ends in and the one below replicated or not. */
static void act_stack(const struct pages_side *s, unsigned page, uint64_t v)
{
    pages_act((unsigned)s->side * 16 + page, (unsigned)v & 3, 0);
    if (v & 4)
        pages_act((unsigned)s->side * 16 + FR_IDT, 3, 0);
}

/* On another stack: an instruction; of what it needs A is rax, C rcx, D rdx. */
#define ON_STACK(sp, label, text, A, C, D)                                    \
    do {                                                                      \
        uint64_t a_ = (A), c_ = (C), d_ = (D);                                \
                                                                              \
        __asm__ volatile("movq %%rsp, %%r12; movq %3, %%rsp;" label ": " text \
                         "; movq %%r12, %%rsp"                                \
                         : "+a"(a_), "+c"(c_), "+d"(d_)                       \
                         : "r"((uint64_t)(sp)), "b"(&e->came)                 \
                         : "r12", "r13", "memory", "cc");                     \
    } while (0)

extern uint8_t at_soft[], at_int3[], at_ud2[], at_pf[], at_gp[], at_de[], at_user[], at_back[];

/* Waits for a trap, interrupts let in: e->came is in (rbx), what it was in r13. */
#define WAIT_FOR " movq (%%rbx), %%r13; wrmsr; sti; 1: pause; cmpq %%r13, (%%rbx); je 1b; cli"
#define WAIT_NMI " movq (%%rbx), %%r13; wrmsr; 1: pause; cmpq %%r13, (%%rbx); je 1b"

/* From ring 3: comes in on rsp0, goes on in ring 0 behind this. */
static void from_user(struct pages_side *s, struct expected *e)
{
    uint64_t rsp3 = (uint64_t)own(s) + OWN_STACK3;

    e->vector = VEC_USER;
    e->cs = SEL_CODE3;
    e->ss = SEL_DATA3;
    e->rsp = rsp3;
    e->rip = (uint64_t)at_user + 2;
    e->at = (uint64_t)part(s, FR_STACK0 + 1) + 32;
    __asm__ volatile("leaq at_back(%%rip), %%rax; movq %%rax, %0; movq %%rsp, %1;"
                     "pushq %2; pushq %3; pushq $0x3002; pushq %4;"
                     "leaq at_user(%%rip), %%rax; pushq %%rax; iretq;"
                     ".globl at_user; at_user: int $0x1c; ud2;"
                     ".globl at_back; at_back:"
                     : "=m"(e->to), "=m"(e->to_rsp)
                     : "i"(SEL_DATA3), "r"(rsp3), "i"(SEL_CODE3)
                     : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory",
                       "cc");
}

/* What the stack's words above rsp hold for all time. */
static void look_above(struct pages_side *s, const volatile uint8_t *sp)
{
    for (unsigned i = 0; i < 64; i++)
        if (sp[i] != (uint8_t)((uint64_t)(sp + i) * 7))
            wrong(s, 26, (uint64_t)(sp + i), sp[i], (uint8_t)((uint64_t)(sp + i) * 7));
}

/* One event with its frame across the border of the stack's two pages, or near it. */
static __attribute__((noinline)) void one_frame(struct pages_side *s, uint64_t v)
{
    struct expected *e = &expect[s->side];
    uint8_t *top = part(s, FR_STACK + 1) + (v >> 8) % 5 * 16;
    uint64_t came = e->came, id = rdmsr(MSR_X2APIC_ID) << 32;

    for (unsigned i = 0; i < 64; i++)
        *(volatile uint8_t *)(top + i) = (uint8_t)((uint64_t)(top + i) * 7);
    *e = (struct expected){.cs = SEL_CODE0,
                           .ss = SEL_DATA0,
                           .rsp = (uint64_t)top,
                           .at = (uint64_t)top,
                           .came = came};
    act_stack(s, FR_STACK, v >> 16);
    s->detail[3] = v % 10;
    switch (v % 10) {
    case 0:
        e->vector = VEC_SOFT;
        e->rip = (uint64_t)at_soft + 2;
        ON_STACK(top, ".globl at_soft; at_soft", "int $0x80", 0, 0, 0);
        break;
    case 1:
        e->vector = 3;
        e->rip = (uint64_t)at_int3 + 1;
        ON_STACK(top, ".globl at_int3; at_int3", "int3", 0, 0, 0);
        break;
    case 2:
        e->vector = 6;
        e->skip = 2;
        e->rip = (uint64_t)at_ud2;
        ON_STACK(top, ".globl at_ud2; at_ud2", "ud2", 0, 0, 0);
        break;
    case 3: /* no such page: an error code, so a word more */
        e->vector = 14;
        e->skip = 3;
        e->rip = (uint64_t)at_pf;
        ON_STACK(top, ".globl at_pf; at_pf", "movq (%%rcx), %%rcx", 0, 1ull << 40, 0);
        break;
    case 4:
        e->vector = 13;
        e->error = 0x7ff8;
        e->skip = 2;
        e->rip = (uint64_t)at_gp;
        ON_STACK(top, ".globl at_gp; at_gp", "movl %%eax, %%ds", 0x7ff8, 0, 0);
        break;
    case 5:
        e->vector = 0;
        e->skip = 2;
        e->rip = (uint64_t)at_de;
        ON_STACK(top, ".globl at_de; at_de", "divl %%ecx", 1, 0, 0);
        break;
    case 6: /* a stack of its own, empty at the border */
        e->vector = VEC_IST;
        e->at = (uint64_t)part(s, FR_IST + 1) + 16;
        act_stack(s, FR_IST, v >> 20);
        ON_STACK(top, "77", "int $0x1e", 0, 0, 0);
        break;
    case 7:
        act_stack(s, FR_STACK0, v >> 20);
        from_user(s, e);
        break;
    case 8:
        e->vector = VEC_IPI;
        ON_STACK(top, "77", WAIT_FOR, VEC_IPI, MSR_ICR, id >> 32);
        break;
    default:
        e->vector = 2;
        ON_STACK(top, "77", WAIT_NMI, 0x400, MSR_ICR, id >> 32);
    }
    if (e->came != came + 1)
        wrong(s, 27, v % 10, e->came, came + 1);
    look_above(s, top);
}

static void frames(struct pages_side *s)
{
    uint64_t x = 5783321ull + s->side, tss = (uint64_t)part(s, FR_TSS);
    uint8_t *o = own(s);

    for (uint8_t *p = part(s, 0); p < part(s, FR_PAGES); p++)
        *(volatile uint8_t *)p = (uint8_t)((uint64_t)p * 7);
    fill_tss((uint8_t *)tss, (uint64_t)part(s, FR_STACK0 + 1) + 32,
             (uint64_t)part(s, FR_IST + 1) + 16);
    fill_idt((uint64_t *)part(s, FR_IDT));
    fill_gdt((uint64_t *)(o + OWN_GDT), s->side, tss);
    load_tr((uint16_t)(SEL_TSS + 16 * s->side));
    load_idt((uint64_t)part(s, FR_IDT));
    wrmsr(MSR_APIC_BASE, 0xfee00c00ull | (s->side ? 0 : 0x100));
    wrmsr(MSR_SVR, 0x1ff);
    for (uint64_t e = 1; goes_on(s); e++) {
        one_frame(s, dice(&x));
        store(&s->loops, e);
    }
}

/* ---- descriptors ---- */

enum {
    DESC_PAGES = 6,
    DESC_SHIFT = 4, /* bytes that the table begins behind a page: some cross pages */
    DESC_FIRST = 64,
    DESC_LAST = DESC_PAGES * 512 - 4,
};
#define DESC_ACCESSED (1ull << 40)

static uint64_t *gdt_entry(unsigned i)
{
    return (uint64_t *)(arena + DESC_SHIFT + i * 8);
}

/* Loads a selector in one of several ways; the CPU must mark the descriptor. */
static void load_selector(struct pages_side *s, unsigned i, uint64_t v)
{
    uint32_t base = (uint32_t)(v >> 20);
    uint64_t data =
        0x00cf92000000ffffull | (base & 0xffffffull) << 16 | (uint64_t)(base >> 24) << 56;
    uint64_t tss = (uint64_t)own(s) + OWN_TSS;
    uint64_t kinds[] = {data, data, data, 0x00af9a000000ffffull, 0}, desc = kinds[v % 5];
    uint64_t mark = DESC_ACCESSED, sel = i * 8, is;
    unsigned page = (DESC_SHIFT + i * 8 + 4) / 4096;

    if (!desc) {
        desc = 0x67 | (tss & 0xffffff) << 16 | 0x89ull << 40;
        mark = 2ull << 40; /* busy */
        *(volatile uint64_t *)gdt_entry(i + 1) = 0;
    }
    *(volatile uint64_t *)gdt_entry(i) = desc;
    if (v >> 60 & 1)
        pages_act(page ? page - 1 : 0, 3, 0);
    else
        pages_act(page ? page - 1 : 0, (unsigned)(v >> 61) & 3, 0);
    switch (v % 5) {
    case 0:
        __asm__ volatile("movl %k0, %%fs" ::"r"(sel));
        if (rdmsr(MSR_FS_BASE) != base)
            wrong(s, 41, i, rdmsr(MSR_FS_BASE), base);
        break;
    case 1:
        __asm__ volatile("movl %k0, %%es; movl %k1, %%es" ::"r"(sel), "r"(SEL_DATA3));
        break;
    case 2:
        __asm__ volatile("movl %k0, %%ss; movl %k1, %%ss" ::"r"(sel), "r"(SEL_DATA0));
        break;
    case 3: /* a far return into a code segment, and back */
        __asm__ volatile(
            "pushq %0; leaq 1f(%%rip), %%rax; pushq %%rax; lretq;"
            "1: pushq %1; leaq 2f(%%rip), %%rax; pushq %%rax; lretq; 2:" ::"r"(sel),
            "i"(SEL_CODE0)
            : "rax", "memory");
        break;
    default:
        load_tr((uint16_t)sel);
    }
    is = *(volatile uint64_t *)gdt_entry(i);
    if (is != (desc | mark) && (v % 5 != 3 || is != desc)) /* QEMU marks no code segments */
        wrong(s, 42 + v % 5, i, is, desc | mark);
    ((uint64_t *)(own(s) + OWN_DESC))[i] = is;
}

/* A side's entries, at even or odd pairs; all it ever loaded stay as they were. */
static void descriptors(struct pages_side *s)
{
    volatile uint64_t *own_model = (volatile uint64_t *)(own(s) + OWN_DESC);
    uint64_t x = 77123ull + s->side;

    fill_gdt(gdt_entry(0), s->side, (uint64_t)own(s) + OWN_TSS);
    load_gdt((uint64_t)gdt_entry(0), DESC_PAGES * 4096 - 8 - DESC_SHIFT);
    load_tr((uint16_t)(SEL_TSS + 16 * s->side));
    for (uint64_t e = 1; goes_on(s); e++) {
        uint64_t v = dice(&x);
        unsigned i = DESC_FIRST + (unsigned)(v >> 32) % ((DESC_LAST - DESC_FIRST) / 4) * 4 +
                     2 * (unsigned)s->side;
        unsigned k = DESC_FIRST + (unsigned)(v >> 40) % ((DESC_LAST - DESC_FIRST) / 4) * 4 +
                     2 * (unsigned)s->side;

        if (v >> 5 & 1) /* one that lies across two pages, if that is ours */
            i = 511 + 512 * ((unsigned)(v >> 50) % (DESC_PAGES - 1));
        if ((i & 1) && (i / 512 & 1) != s->side)
            continue;
        if ((i & 1) && v % 5 == 4) /* a TSS takes the next entry, too */
            v--;
        load_selector(s, i, v);
        if (own_model[k] && own_model[k] != load(gdt_entry(k)))
            wrong(s, 48, k, load(gdt_entry(k)), own_model[k]);
        store(&s->loops, e);
    }
}

void pages_kernel(struct pages_side *s)
{
    set_up(s);
    switch (s->prog) {
    case PAGES_TABLES:
        tables(s);
        break;
    case PAGES_FRAMES:
        frames(s);
        break;
    case PAGES_DESCRIPTORS:
        descriptors(s);
        break;
    default:
        break;
    }
}
