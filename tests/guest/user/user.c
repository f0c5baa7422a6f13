/* SPDX-License-Identifier: MIT */
/*
 * Programs that run in a guest's user mode only (ring 3 from the first instruction), so natively
 * on every KVM.  Entered at user_main with rdi = the vCPU's slot; ends by a write to PORT_DONE.
 * No libraries, no kernel below: no system calls, no faults.
 */
#include "user.h"

void user_main(struct user_slot *s);
void state_loop(struct user_slot *s);

static struct user_game *const game = (struct user_game *)USER_GAME;

/* The TSC, read after all that came before. */
static uint64_t now(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi)::"memory");
    return (uint64_t)hi << 32 | lo;
}

static void relax(void)
{
    __asm__ volatile("pause" ::: "memory");
}

/* One side of the game: each must see a later time than the other left. */
static void ping(struct user_slot *s)
{
    for (uint64_t i = s->side; i < s->rounds && !*(volatile uint64_t *)&s->stop; i += 2) {
        uint64_t t, before;

        while (__atomic_load_n(&game->turn, __ATOMIC_ACQUIRE) != i) {
            if (*(volatile uint64_t *)&s->stop)
                return;
            relax();
        }
        before = game->stamp;
        t = now();
        if (t < before) {
            s->backward++;
            if (before - t > s->worst)
                s->worst = before - t;
        }
        game->stamp = t;
        __atomic_store_n(&game->turn, i + 1, __ATOMIC_RELEASE);
        s->done++;
    }
}

static void count(struct user_slot *s)
{
    for (uint64_t i = 0; i < s->rounds; i++)
        __atomic_fetch_add(&game->counter, 1, __ATOMIC_SEQ_CST);
}

static void clock_loop(struct user_slot *s)
{
    uint64_t last = now();

    while (!*(volatile uint64_t *)&s->stop) {
        uint64_t t = now();

        if (t < last) {
            s->backward++;
            s->worst = last - t > s->worst ? last - t : s->worst;
        } else if (t - last > s->gap) {
            s->gap = t - last;
        }
        last = t;
        *(volatile uint64_t *)&s->last = t;
        *(volatile uint64_t *)&s->loops = s->loops + 1;
    }
}

static void string_loop(struct user_slot *s)
{
    while (!*(volatile uint64_t *)&s->stop) {
        const void *from = (const void *)USER_BYTES;
        uint64_t n = 4096;

        __asm__ volatile("cld; rep outsb" : "+S"(from), "+c"(n) : "d"(PORT_STRING) : "memory");
        *(volatile uint64_t *)&s->loops = s->loops + 1;
    }
}

/* Input that takes KVM several exits an instruction: each byte must be the one that is next. */
static void device_loop(struct user_slot *s)
{
    uint8_t buf[64], next = 0, wide[16];

    while (!*(volatile uint64_t *)&s->stop && !s->error) {
        void *to = buf;
        uint64_t n = sizeof(buf);

        __asm__ volatile("cld; rep insb" : "+D"(to), "+c"(n) : "d"(PORT_STRING) : "memory");
        for (unsigned i = 0; i < sizeof(buf); i++, next = (uint8_t)(next + 13))
            if (buf[i] != next)
                s->error = 1;
        __asm__ volatile("movdqu %1, %%xmm0; movdqu %%xmm0, %0"
                         : "=m"(wide)
                         : "m"(*(const uint8_t(*)[16])USER_MMIO));
        for (unsigned i = 0; i < sizeof(wide); i++)
            if (wide[i] != (uint8_t)(i * 17))
                s->error = 2;
        *(volatile uint64_t *)&s->loops = s->loops + 1;
    }
}

/* Both sides meet; the sense of the meeting is its number. */
static void meet(uint64_t n)
{
    __atomic_fetch_add(&game->barrier, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&game->barrier, __ATOMIC_ACQUIRE) < 2 * n)
        relax();
}

/*
 * Store buffering: x = 1; read y || y = 1; read x.  Both may read 0 on x86 (relaxed); with a full
 * fence between, never (strange): a view that lagged behind another's memory would show.
 */
static void litmus(struct user_slot *s)
{
    uint64_t *mine = s->side ? &game->y : &game->x, *theirs = s->side ? &game->x : &game->y;

    for (uint64_t i = 0; i < s->rounds; i++) {
        int fence = (int)(i & 1);

        meet(3 * i + 1);
        __atomic_store_n(mine, 1, __ATOMIC_RELAXED);
        if (fence)
            __asm__ volatile("mfence" ::: "memory");
        game->result[s->side] = __atomic_load_n(theirs, __ATOMIC_RELAXED);
        meet(3 * i + 2);
        if (!s->side) {
            int both = !game->result[0] && !game->result[1];

            s->strange += both && fence;
            s->relaxed += both && !fence;
        }
        __atomic_store_n(mine, 0, __ATOMIC_RELAXED);
        if (!s->side && *(volatile uint64_t *)&s->stop)
            __atomic_store_n(&game->turn, 1, __ATOMIC_RELAXED); /* both leave in this round */
        meet(3 * i + 3);
        s->done++;
        if (__atomic_load_n(&game->turn, __ATOMIC_RELAXED))
            return;
    }
}

void user_main(struct user_slot *s)
{
    switch (s->prog) {
    case PROG_STATE:
        state_loop(s);
        break;
    case PROG_PING:
        ping(s);
        break;
    case PROG_COUNT:
        count(s);
        break;
    case PROG_CLOCK:
        clock_loop(s);
        break;
    case PROG_STRING:
        string_loop(s);
        break;
    case PROG_DEVICE:
        device_loop(s);
        break;
    case PROG_LITMUS:
        litmus(s);
        break;
    default:
        break;
    }
    __asm__ volatile("outb %%al, %0" ::"N"(PORT_DONE), "a"(0));
    for (;;)
        relax();
}
