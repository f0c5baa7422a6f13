/* SPDX-License-Identifier: MIT */
/*
 * Programs that stay in user mode while the harness changes the pages they work on: litmus tests
 * by two vCPUs in two views, string I/O, code that changes itself.  Entered with rdi = number of
 * the vCPU.  No libraries, no kernel below.
 *
 * Litmus in batches: each test has an array of cells, one a cache line, over several pages; both
 * sides walk through it, meeting every few cells; the values stored are the batch's number, so a
 * value below it is an old one and nothing has to be cleared.
 */
#include "pages_lib.h"

/* Cell i of location x (0) or y (1) of a test. */
static uint64_t *cell(unsigned test, unsigned y, unsigned i)
{
    return (uint64_t *)(arena + (ARENA_X + 8 * test + 4 * y) * 4096 + i * 64);
}

/* What a side read in a test: two values a cell. */
static uint64_t *result(unsigned side, unsigned test, unsigned i)
{
    return (uint64_t *)(PAGES_RESULT + side * 0x10000ul + (test * LITMUS_CELLS + i) * 16);
}

/* One cell of each test; e: the batch. */
static void play(unsigned side, unsigned i, uint64_t e)
{
    uint64_t *r;

    /* MP: side 0 writes x, y; side 1 reads y, x */
    r = result(side, 0, i);
    if (!side) {
        store(cell(0, 0, i), e);
        order();
        store(cell(0, 1, i), e);
    } else {
        r[0] = load(cell(0, 1, i));
        order();
        r[1] = load(cell(0, 0, i));
    }
    /* SB: each writes its own, reads the other's; a fence in every second */
    r = result(side, 1, i);
    store(cell(1, side, i), e);
    if (i & 1)
        fence();
    order();
    r[0] = load(cell(1, !side, i));
    /* LB: each reads one, writes the other */
    r = result(side, 2, i);
    r[0] = load(cell(2, side, i));
    order();
    store(cell(2, !side, i), e);
    /* CoRR: side 0 writes twice, side 1 reads twice */
    r = result(side, 3, i);
    if (!side) {
        store(cell(3, 0, i), 2 * e);
        order();
        store(cell(3, 0, i), 2 * e + 1);
    } else {
        r[0] = load(cell(3, 0, i));
        order();
        r[1] = load(cell(3, 0, i));
    }
}

/* Words of the arena that hold for all batches. */
static uint64_t *word(unsigned n)
{
    return (uint64_t *)(arena + ARENA_WORDS * 4096 + n * 64);
}

/* A word for locked accesses, of which a byte lies on the second page; and one for plain ones,
 * half and half on the second and the third. */
static uint64_t *split_word(void)
{
    return (uint64_t *)(arena + (ARENA_SPLIT + 1) * 4096 - 7);
}

static uint64_t *split_plain(void)
{
    return (uint64_t *)(arena + (ARENA_SPLIT + 2) * 4096 - 4);
}

/* Adds to both halves of a pair at once: hi is always lo * 3. */
static int wide_add(uint64_t *p)
{
    uint64_t lo = p[0], hi = p[1], nlo, nhi;
    uint8_t ok;

    do {
        nlo = lo + 1;
        nhi = nlo * 3;
        __asm__ volatile("lock cmpxchg16b %1; sete %0"
                         : "=q"(ok), "+m"(*(__int128 *)p), "+a"(lo), "+d"(hi)
                         : "b"(nlo), "c"(nhi)
                         : "cc", "memory");
    } while (!ok);
    return hi != lo * 3;
}

/* Atomics, wide ones, own words: a few of each a batch. */
static void singles(struct pages_side *s, uint64_t e)
{
    uint64_t *own = word(8 + (unsigned)s->side), *across = split_word(),
             *own_across = split_plain();

    for (unsigned i = 0; i < 16; i++) {
        __atomic_fetch_add(word(0), 1, __ATOMIC_SEQ_CST);
        __asm__ volatile("lock addl $1, %0" : "+m"(*(uint32_t *)word(1))::"memory", "cc");
        s->wrong[WRONG_WIDE] += wide_add(word(2)) != 0;
        s->wrong[WRONG_OWN] += load(own) != e * 16 + i - 16;
        store(own, e * 16 + i + 1 - 16);
    }
    __asm__ volatile("lock addq $1, %0" : "+m"(*across)::"memory", "cc");
    if (!s->side) { /* plain accesses across two pages: one writer, nothing lost */
        uint64_t was;

        __asm__ volatile("movq %1, %0" : "=r"(was) : "m"(*own_across) : "memory");
        s->wrong[WRONG_SPLIT] += was != (e - 1) * 0x0101010101010101ull;
        was = e * 0x0101010101010101ull;
        __asm__ volatile("movq %1, %0" : "=m"(*own_across) : "r"(was) : "memory");
    }
}

/* Side 0 looks at what both read in a batch. */
static void judge(struct pages_side *s, uint64_t e)
{
    for (unsigned i = 0; i < LITMUS_CELLS; i++) {
        const uint64_t *r0 = result(0, 1, i), *r1 = result(1, 0, i);
        int both;

        s->wrong[WRONG_MP] += r1[0] == e && r1[1] != e;
        both = r0[0] != e && result(1, 1, i)[0] != e;
        s->wrong[WRONG_SB] += both && (i & 1);
        s->relaxed += both && !(i & 1);
        s->wrong[WRONG_LB] += result(0, 2, i)[0] == e && result(1, 2, i)[0] == e;
        r1 = result(1, 3, i);
        s->wrong[WRONG_CORR] += r1[1] < r1[0];
    }
    s->rounds += LITMUS_CELLS * LITMUS_TESTS;
    /* all is quiet: what both added is there */
    s->wrong[WRONG_ATOMIC] +=
        load(word(0)) != 32 * e || *(uint32_t *)word(1) != (uint32_t)(32 * e);
    s->wrong[WRONG_WIDE] += load(word(2)) != 32 * e || word(2)[1] != 96 * e;
    s->wrong[WRONG_SPLIT] += *(volatile uint64_t *)split_word() != 2 * e;
}

static void litmus(struct pages_side *s)
{
    uint64_t n = 0;

    for (uint64_t e = 1; !load(&ctl->leave); e++) {
        for (unsigned i = 0; i < LITMUS_CELLS; i += LITMUS_STEP) {
            meet(&n);
            for (unsigned k = 0; k < LITMUS_STEP; k++)
                play((unsigned)s->side, i + k, e);
        }
        singles(s, e);
        meet(&n);
        if (!s->side) {
            judge(s, e);
            store(&ctl->leave, load(&ctl->stop));
        }
        meet(&n);
        store(&s->loops, e);
    }
}

/* ---- string I/O ---- */

/* Input from a port and from device memory into the arena, output from there; checks each byte.
 * */
static void string(struct pages_side *s)
{
    uint8_t *buf = arena + ARENA_STRING * 4096, next = 0;

    while (!load(&ctl->stop) && !s->error) {
        uint8_t *to = buf + 4096 - 100;
        uint64_t n = 200;

        __asm__ volatile("cld; rep insb" : "+D"(to), "+c"(n) : "d"(PORT_PAGES_IO) : "memory");
        for (unsigned i = 0; i < 200; i++, next = (uint8_t)(next + 13))
            if (buf[4096 - 100 + i] != next)
                s->error = 1;
        const uint8_t *from = (const uint8_t *)PAGES_MMIO;
        to = buf + 2 * 4096 - 24;
        n = 48;
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
        for (unsigned i = 0; i < 48; i++)
            if (buf[2 * 4096 - 24 + i] != (uint8_t)(i * 17))
                s->error = 2;
        from = buf + 4096 - 100;
        n = 200;
        __asm__ volatile("rep outsb" : "+S"(from), "+c"(n) : "d"(PORT_PAGES_IO) : "memory");
        store(&s->loops, s->loops + 1);
    }
}

/* ---- code that changes ---- */

/* Side 0 writes "mov eax, e; ret" and runs it; then side 1 runs it. */
static void code_patch(struct pages_side *s)
{
    uint8_t *code = arena + ARENA_PATCH * 4096 + 0x7b;
    uint64_t n = 0;

    for (uint32_t e = 1; !load(&ctl->leave); e++) {
        if (!s->side) {
            code[0] = 0xb8;
            *(volatile uint32_t *)(code + 1) = e;
            code[5] = 0xc3;
            __asm__ volatile("" ::: "memory");
            serialize();
            if (((uint32_t(*)(void))code)() != e)
                s->error = 1;
        }
        meet(&n);
        if (s->side) {
            serialize();
            if (((uint32_t(*)(void))code)() != e)
                s->error = 2;
        } else {
            store(&ctl->leave, load(&ctl->stop));
        }
        meet(&n);
        store(&s->loops, e);
    }
}

/* ---- for benchmarks ---- */

/* Reads a word of each page of the arena. */
static void reader(struct pages_side *s)
{
    while (!load(&ctl->stop)) {
        for (unsigned i = 0; i < PAGES_NARENA; i++)
            s->error += *(volatile uint64_t *)(arena + i * 4096) == ~0ull;
        store(&s->loops, s->loops + 1);
    }
}

/* Writes where it is told: poke is an address, with a count in its low bits. */
static void writer(struct pages_side *s)
{
    uint64_t last = 0;

    while (!load(&ctl->stop)) {
        uint64_t poke = __atomic_load_n(&ctl->poke, __ATOMIC_ACQUIRE);

        if (poke == last)
            continue;
        *(volatile uint64_t *)(poke & ~0xfffull) = poke;
        __atomic_store_n(&ctl->poked, poke, __ATOMIC_RELEASE);
        last = poke;
        store(&s->loops, s->loops + 1);
    }
}

__attribute__((section(".text.start"))) void pages_main(uint64_t vcpu)
{
    struct pages_side *s = &ctl->side[vcpu];

    switch (s->prog) {
    case PAGES_LITMUS:
        litmus(s);
        break;
    case PAGES_STRING:
        string(s);
        break;
    case PAGES_CODE_PATCH:
        code_patch(s);
        break;
    case PAGES_READER:
        reader(s);
        break;
    case PAGES_WRITER:
        writer(s);
        break;
    default:
        if (pages_ring0(s->prog))
            pages_kernel(s);
        else
            pages_access(s);
        break;
    }
    pages_end();
}
