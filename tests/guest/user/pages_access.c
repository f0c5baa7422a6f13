/* SPDX-License-Identifier: MIT */
/*
 * Programs that access the arena in one way each while its pages come and go: across two pages,
 * 16 bytes at once, by string input and output, by instructions that KVM emulates, by changing
 * code.  Before each access the harness is asked to replicate or collapse the very pages.
 *
 * Who writes what: a place belongs to one side, or both add to it; results and bytes must be
 * the model's at every step, and the harness compares the whole arena at the end.
 */
#include "pages_lib.h"

enum { BORDERS = 60 }; /* between page p and p + 1, for p below */

/* A border that a side may write at: every third is the other side's, or, `shared`, both's. */
static unsigned pick(const struct pages_side *s, uint64_t *x, int shared)
{
    unsigned p = dice(x) % (BORDERS / 3) * 3;

    return p + (shared ? 2 : (unsigned)s->side);
}

/* ---- across two pages ---- */

/* One of the accesses to the bytes at p; returns what the instruction gave. */
static uint64_t plain_op(unsigned op, uint8_t *p, uint64_t v)
{
    uint64_t was = 0;

    switch (op) {
    case 0:
        __asm__ volatile("movw %w1, %0" : "=m"(*(uint16_t *)p) : "r"(v) : "memory");
        break;
    case 1:
        __asm__ volatile("movl %k1, %0" : "=m"(*(uint32_t *)p) : "r"(v) : "memory");
        break;
    case 2:
        __asm__ volatile("movq %1, %0" : "=m"(*(uint64_t *)p) : "r"(v) : "memory");
        break;
    case 3:
        __asm__ volatile("movq %1, %%xmm0; punpcklqdq %%xmm0, %%xmm0; movdqu %%xmm0, %0"
                         : "=m"(*(uint8_t(*)[16])p)
                         : "r"(v)
                         : "memory");
        break;
    case 4:
        __asm__ volatile("addq %1, %0; pushfq; popq %2"
                         : "+m"(*(uint64_t *)p), "+r"(v), "=r"(was)::"cc", "memory");
        break;
    case 5:
        __asm__ volatile("movq %1, %0" : "=r"(was) : "m"(*(uint64_t *)p) : "memory");
        break;
    default: {
        uint8_t *to = p;
        uint64_t n = 24;

        __asm__ volatile("cld; rep stosb" : "+D"(to), "+c"(n) : "a"(v) : "memory");
        break;
    }
    }
    return was;
}

static uint64_t locked_op(unsigned op, uint8_t *p, uint64_t v)
{
    uint64_t was = v;
    uint8_t ok = 0;

    switch (op) {
    case 0:
        __asm__ volatile("lock xaddq %0, %1" : "+r"(was), "+m"(*(uint64_t *)p)::"cc", "memory");
        break;
    case 1:
        __asm__ volatile("xchgl %k0, %1" : "+r"(was), "+m"(*(uint32_t *)p)::"memory");
        break;
    case 2: /* succeeds */
        was = *(volatile uint64_t *)p;
        __asm__ volatile("lock cmpxchgq %3, %1; sete %2"
                         : "+a"(was), "+m"(*(uint64_t *)p), "=q"(ok)
                         : "r"(v)
                         : "cc", "memory");
        break;
    case 3: /* fails, and must not write anything else */
        was = ~*(volatile uint64_t *)p;
        __asm__ volatile("lock cmpxchgq %3, %1; sete %2"
                         : "+a"(was), "+m"(*(uint64_t *)p), "=q"(ok)
                         : "r"(v)
                         : "cc", "memory");
        break;
    case 4:
        __asm__ volatile("lock btcq %2, %1; setc %0"
                         : "=q"(ok), "+m"(*(uint64_t *)p)
                         : "r"(v & 63)
                         : "cc", "memory");
        break;
    case 5:
        __asm__ volatile("lock notw %0" : "+m"(*(uint16_t *)p)::"memory");
        break;
    default: {
        uint32_t lo = *(volatile uint32_t *)p, hi = *(volatile uint32_t *)(p + 4);

        __asm__ volatile("lock cmpxchg8b %1; sete %0"
                         : "=q"(ok), "+m"(*(uint64_t *)p), "+a"(lo), "+d"(hi)
                         : "b"((uint32_t)v), "c"((uint32_t)(v >> 32))
                         : "cc", "memory");
        was = lo | (uint64_t)hi << 32;
        break;
    }
    }
    return was * 2 + ok;
}

/* A side's own border: an access that begins 1 to 15 bytes before it. */
static void split_own(struct pages_side *s, unsigned page, uint64_t v)
{
    static const uint8_t width[] = {2, 4, 8, 16, 8, 8, 24};
    unsigned op = v % 14, plain = op < 7;
    unsigned most = plain ? width[op] : op == 12 ? 2 : op == 8 ? 4 : 8;
    uint64_t at = (page + 1) * 4096ull - (1 + (v >> 8) % (most - 1 > 15 ? 15 : most - 1));
    uint64_t is, should;

    compare(s, 1, (page + 1) * 4096ull - 16, 48);
    if (plain) {
        is = plain_op(op, arena + at, v >> 3);
        should = plain_op(op, model_of(s) + at, v >> 3);
    } else {
        is = locked_op(op - 7, arena + at, v >> 3);
        should = locked_op(op - 7, model_of(s) + at, v >> 3);
    }
    if (is != should)
        wrong(s, 16 + op, at, is, should);
    compare(s, 2, (page + 1) * 4096ull - 16, 48);
}

/* A word across a border that both sides add to; the model has what this side added. */
static void split_shared(struct pages_side *s, unsigned page, uint64_t v)
{
    uint64_t at = (page + 1) * 4096ull - (1 + page % 7), add = v >> 40, was;
    uint64_t *word = (uint64_t *)(arena + at);

    switch (v % 3) {
    case 0:
        __asm__ volatile("lock addq %1, %0" : "+m"(*word) : "r"(add) : "cc", "memory");
        break;
    case 1:
        was = add;
        __asm__ volatile("lock xaddq %0, %1" : "+r"(was), "+m"(*word)::"cc", "memory");
        break;
    default: {
        uint8_t ok;

        was = *(volatile uint64_t *)word;
        do
            __asm__ volatile("lock cmpxchgq %3, %1; sete %2"
                             : "+a"(was), "+m"(*word), "=q"(ok)
                             : "r"(was + add)
                             : "cc", "memory");
        while (!ok);
    }
    }
    *(volatile uint64_t *)(model_of(s) + at) += add;
}

static void split(struct pages_side *s)
{
    uint64_t x = 88172645463325252ull + s->side * 0x9e3779b97f4a7c15ull;

    for (uint64_t e = 1; goes_on(s); e++) {
        int shared = e % 3 == 0;
        unsigned page = pick(s, &x, shared);

        for (unsigned want = 0; want < 4; want++) { /* private or replicated, both pages */
            pages_act(page, want, 0);
            if (shared)
                split_shared(s, page, dice(&x));
            else
                split_own(s, page, dice(&x));
        }
        store(&s->loops, e);
    }
}

/* ---- 16 bytes at once ---- */

/* Adds to the low half of a pair, of which the high one is always three times the low one; or,
 * `fail`, compares with what is not there. */
static void pair_op(struct pages_side *s, uint64_t *pair, uint64_t add, int fail)
{
    uint64_t lo = pair[0], hi = fail ? ~pair[0] * 5 + 1 : pair[1], nlo, nhi;
    uint8_t ok;

    do {
        nlo = fail ? add : lo + add;
        nhi = nlo * 3;
        __asm__ volatile("lock cmpxchg16b %1; sete %0"
                         : "=q"(ok), "+m"(*(__int128 *)pair), "+a"(lo), "+d"(hi)
                         : "b"(nlo), "c"(nhi)
                         : "cc", "memory");
    } while (!ok && !fail);
    if (hi != lo * 3 || (ok && fail))
        wrong(s, 3, (uint64_t)pair, hi, lo * 3);
}

static void pairs(struct pages_side *s)
{
    uint64_t x = 2463534242ull + s->side;

    for (uint64_t e = 1; goes_on(s); e++) {
        uint64_t v = dice(&x), add = v >> 40;
        unsigned page = v % BORDERS, at = page * 4096 + (v >> 8) % 8 * 512;

        pages_act(page, (v >> 16) % 4 ? 3 : 0, 0);
        pair_op(s, (uint64_t *)(arena + at), add, 1);
        pair_op(s, (uint64_t *)(arena + at), add, 0);
        *(volatile uint64_t *)(model_of(s) + at) += add;
        store(&s->loops, e);
    }
}

/* ---- string input and output ---- */

/* A string instruction on n elements of 1 << z bytes, upwards or downwards. */
static void string_op(uint16_t port, uint8_t *p, uint64_t n, unsigned z, int in, int down)
{
    if (down)
        p += (n - 1) << z;
    if (down)
        __asm__ volatile("std" ::: "cc");
    if (in && z == 0)
        __asm__ volatile("rep insb" : "+D"(p), "+c"(n) : "d"(port) : "memory");
    else if (in && z == 1)
        __asm__ volatile("rep insw" : "+D"(p), "+c"(n) : "d"(port) : "memory");
    else if (in)
        __asm__ volatile("rep insl" : "+D"(p), "+c"(n) : "d"(port) : "memory");
    else if (z == 0)
        __asm__ volatile("rep outsb" : "+S"(p), "+c"(n) : "d"(port) : "memory");
    else if (z == 1)
        __asm__ volatile("rep outsw" : "+S"(p), "+c"(n) : "d"(port) : "memory");
    else
        __asm__ volatile("rep outsl" : "+S"(p), "+c"(n) : "d"(port) : "memory");
    __asm__ volatile("cld" ::: "cc");
}

/* What comes next of a stream of bytes that go up by 13, element by element. */
static void stream(uint8_t *p, uint64_t n, unsigned z, int down, uint64_t *next)
{
    for (uint64_t e = 0; e < n; e++) {
        uint8_t *to = p + ((down ? n - 1 - e : e) << z);

        for (unsigned i = 0; i < 1u << z; i++)
            *(volatile uint8_t *)(to + i) = (uint8_t)((*next)++ * 13);
    }
}

static void strings(struct pages_side *s)
{
    uint16_t port = (uint16_t)(PORT_PAGES_SIDE + 4 * s->side);
    uint64_t x = 362436069ull + s->side, in = 0, out = 0;

    for (uint64_t e = 1; goes_on(s); e++) {
        uint64_t v = dice(&x), n = 2 + (v >> 8) % 40;
        unsigned page = pick(s, &x, 0), z = v % 3, give = v >> 5 & 1, down = v >> 4 & 1;
        uint64_t at = (page + 1) * 4096ull - (1 + (v >> 16) % ((n << z) - 1));

        if (give) {
            stream(model_of(s) + at, n, z, down, &out);
            for (uint64_t i = 0; i < n << z; i++)
                *(volatile uint8_t *)(arena + at + i) = model_of(s)[at + i];
        }
        pages_act(page, (unsigned)(e & 3), 0);
        string_op(port, arena + at, n, z, !give, down);
        if (!give)
            stream(model_of(s) + at, n, z, down, &in);
        compare(s, 4, (page + 1) * 4096ull - 168, 336);
        store(&s->loops, e);
    }
}

/* ---- instructions that KVM emulates ---- */

/* Device memory to the arena, n elements of 1 << z bytes. */
static void copy_op(uint8_t *to, const uint8_t *from, uint64_t n, unsigned z, int down)
{
    if (down) {
        to += (n - 1) << z;
        from += (n - 1) << z;
        __asm__ volatile("std" ::: "cc");
    }
    if (z == 0)
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
    else if (z == 1)
        __asm__ volatile("rep movsw" : "+D"(to), "+S"(from), "+c"(n)::"memory");
    else if (z == 2)
        __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n)::"memory");
    else
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n)::"memory");
    __asm__ volatile("cld" ::: "cc");
}

/* Bytes of device memory, as it would give them. */
static void wide_bytes(uint8_t *p, uint64_t off, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        *(volatile uint8_t *)(p + i) = (uint8_t)((off + i) * 17);
}

/* push, pop and call with an operand in device memory and the stack across a border. */
static void stack_op(struct pages_side *s, uint64_t at, uint64_t v)
{
    uint64_t latch = PAGES_LATCH + 64 * s->side, sp = (uint64_t)arena + at + 8, old;
    uint8_t *m = model_of(s) + at;

    switch (v % 3) {
    case 0: /* push: the word goes to the arena */
        __asm__ volatile("movq %%rsp, %0; movq %1, %%rsp; pushq (%2); movq %0, %%rsp"
                         : "=&r"(old)
                         : "r"(sp), "r"(PAGES_MMIO + (v >> 8) % 4000)
                         : "memory");
        wide_bytes(m, (v >> 8) % 4000, 8);
        break;
    case 1: /* pop: the word goes to the device */
        __asm__ volatile("movq %%rsp, %0; movq %1, %%rsp; popq (%2); movq %0, %%rsp"
                         : "=&r"(old)
                         : "r"(sp - 8), "r"(latch)
                         : "memory");
        old = *(volatile uint64_t *)latch;
        if (old != *(volatile uint64_t *)m)
            wrong(s, 5, at, old, *(volatile uint64_t *)m);
        break;
    default: /* call: the way back goes to the arena */
        __asm__ volatile("leaq 1f(%%rip), %0; movq %0, (%2); leaq 2f(%%rip), %0; movq %0, %3;"
                         "movq %%rsp, %0; movq %1, %%rsp; callq *(%2); 2: jmp 3f;"
                         "1: movq %0, %%rsp; jmp 2b; 3:"
                         : "=&r"(old)
                         : "r"(sp), "r"(latch), "m"(*(uint64_t *)m)
                         : "memory");
    }
}

static void emulate(struct pages_side *s)
{
    uint64_t x = 521288629ull + s->side;

    for (uint64_t e = 1; goes_on(s); e++) {
        uint64_t v = dice(&x), n = 2 + (v >> 8) % 12, off = (v >> 16) % 3000;
        unsigned page = pick(s, &x, 0), z = v % 4, down = v >> 4 & 1;
        uint64_t at = (page + 1) * 4096ull - (1 + (v >> 32) % ((n << z) - 1));
        uint8_t *m = model_of(s) + at;

        s->detail[3] = v;
        pages_act(page, (unsigned)(e & 3), 0);
        switch (v >> 5 & 3) {
        case 0: /* device to arena */
            copy_op(arena + at, (const uint8_t *)PAGES_MMIO + off, n, z, (int)down);
            wide_bytes(m, off, n << z);
            break;
        case 1: /* arena to device, which looks at each byte */
            for (uint64_t i = 0; i < n << z; i++) {
                m[i] = (uint8_t)((off + i) * 29 + 3);
                *(volatile uint8_t *)(arena + at + i) = m[i];
            }
            pages_act(page, (unsigned)(e & 3), 0);
            copy_op((uint8_t *)PAGES_SINK + off, arena + at, n, z, (int)down);
            break;
        case 2: /* both are read and compared */
            wide_bytes(m, off, n);
            for (uint64_t i = 0; i < n; i++)
                *(volatile uint8_t *)(arena + at + i) = m[i];
            pages_act(page, (unsigned)(e & 3), 0);
            {
                const uint8_t *a = arena + at, *b = (const uint8_t *)PAGES_MMIO + off;
                uint8_t same;

                __asm__ volatile("repe cmpsb; sete %0"
                                 : "=q"(same), "+S"(a), "+D"(b), "+c"(n)::"cc", "memory");
                if (!same)
                    wrong(s, 6, at, n, 0);
            }
            break;
        default:
            stack_op(s, (page + 1) * 4096ull - (1 + (v >> 32) % 7), v >> 40);
        }
        compare(s, 7, (page + 1) * 4096ull - 112, 224);
        store(&s->loops, e);
    }
}

/* ---- code that changes ---- */

/* Where "mov eax, number; ret" lies: in a page, and across the end of one. */
static uint8_t *code_at(unsigned which)
{
    return arena + (which ? 7 * 4096 - 3 : 4 * 4096 + 0x7b);
}

/* Writes it in one of several ways. */
static void code_write(uint8_t *code, uint32_t number, unsigned how)
{
    uint8_t text[6] = {0xb8,
                       (uint8_t)number,
                       (uint8_t)(number >> 8),
                       (uint8_t)(number >> 16),
                       (uint8_t)(number >> 24),
                       0xc3};
    const uint8_t *from = text;
    uint64_t n = sizeof(text);

    if (how == 0)
        for (unsigned i = 0; i < sizeof(text); i++)
            ((volatile uint8_t *)code)[i] = text[i];
    else if (how == 1)
        __asm__ volatile("cld; rep movsb" : "+D"(code), "+S"(from), "+c"(n)::"memory");
    else /* the number alone, at once */
        __asm__ volatile("xchgl %0, %1"
                         : "+r"(number), "+m"(*(uint32_t *)(code + 1))::"memory");
    order();
}

/* Runs it: what it returns must be the number. */
static void code_run(struct pages_side *s, unsigned which, uint32_t number, unsigned what)
{
    uint8_t *code = code_at(which);
    uint32_t is;

    serialize();
    is = ((uint32_t(*)(void))code)();
    if (is != number)
        wrong(s, what, (uint64_t)code, is, number);
}

/* Sides take turns in writing.  Each number runs in both views, first as written, then from
 * replicas; then it is changed where replicas are. */
static void modify(struct pages_side *s)
{
    uint64_t n = 0;

    for (uint32_t e = 1; !load(&ctl->leave); e++) {
        unsigned turn = (e & 1) == s->side;

        if (turn)
            for (unsigned w = 0; w < 2; w++) {
                code_write(code_at(w), e, e < 3 ? 0 : e / 2 % 3);
                code_run(s, w, e, 8);
            }
        meet(&n);
        for (unsigned w = 0; w < 2; w++)
            code_run(s, w, e, 9);
        meet(&n);
        if (turn) {
            pages_act(4, 1, 0);
            pages_act(6, 3, 0);
        }
        meet(&n);
        for (unsigned w = 0; w < 2; w++)
            code_run(s, w, e, 10);
        if (!s->side)
            store(&ctl->leave, load(&ctl->stop));
        meet(&n);
        store(&s->loops, e);
    }
}

void pages_access(struct pages_side *s)
{
    switch (s->prog) {
    case PAGES_SPLIT:
        split(s);
        break;
    case PAGES_PAIRS:
        pairs(s);
        break;
    case PAGES_STRINGS:
        strings(s);
        break;
    case PAGES_EMULATE:
        emulate(s);
        break;
    case PAGES_MODIFY:
        modify(s);
        break;
    default:
        break;
    }
}
