/* SPDX-License-Identifier: MIT */
/*
 * The timer of a local APIC: one-shot and periodic count-down, and TSC deadline.
 *
 * Interface: registers by timer_*() of lapic.h, time by lapic_deadline(), lapic_timer_check()
 * and lapic_time_shift() of irq.h.  The bus clock is 1 GHz: one tick is one ns.
 * Invariants: T1 an expiry is noticed once, however late, and raises at most one interrupt; T2 the
 * n-th expiry of a periodic timer is start + n * period, whatever was missed in between.
 * An expiry is handled lazily: every function here first settles what has expired by now, so a
 * masked timer needs no wake-up.
 * Threads: the owner of the local APIC only; no locks.
 */
#include <stddef.h>

#include "vmm/machine/lapic.h"

enum timer_mode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC, TIMER_RESERVED };

/* A guest cannot make its vCPU thread live on periodic expiries: shorter periods are raised. */
static const uint64_t PERIOD_MIN_NS = 20000;

/* Mode of an LVT timer entry. */
static enum timer_mode mode_of(uint32_t lvt)
{
    return (enum timer_mode)(lvt >> 17 & 3);
}

/* The LVT timer entry. */
static uint32_t timer_lvt(const struct lapic *l)
{
    return atomic_load_explicit(&l->lvt[LVT_TIMER], memory_order_relaxed);
}

/* Time of the guest's timers. */
static uint64_t now_ns(const struct lapic *l)
{
    return l->ic->host.now_ns(l->ic->host.ctx);
}

/* Bus ticks per count: 1, 2, 4 ... 128; the register's codes start at 2 and end with 1. */
static uint64_t divisor(const struct lapic_timer *t)
{
    uint32_t code = (t->divide & 3) | (t->divide >> 1 & 4);

    return 1u << ((code + 1) & 7);
}

/* Length of a whole count-down. */
static uint64_t full_period(const struct lapic *l)
{
    uint64_t ns = l->timer.initial * divisor(&l->timer);

    if (mode_of(timer_lvt(l)) == TIMER_PERIODIC && ns < PERIOD_MIN_NS)
        return PERIOD_MIN_NS;
    return ns;
}

/* Stops whatever runs. */
static void disarm(struct lapic_timer *t)
{
    t->deadline = 0;
    t->tsc = 0;
}

/* Counts left at time now; 0 if no count-down runs. */
static uint32_t counts_left(const struct lapic *l, uint64_t now)
{
    const struct lapic_timer *t = &l->timer;
    uint64_t left;

    if (!t->deadline || t->tsc || t->deadline <= now)
        return 0;
    left = (t->deadline - now + divisor(t) - 1) / divisor(t);
    return left < t->initial ? (uint32_t)left : t->initial;
}

/* Handles an expiry at or before now. */
static void settle(struct lapic *l, uint64_t now)
{
    struct lapic_timer *t = &l->timer;

    if (!t->deadline || now < t->deadline)
        return;
    if (mode_of(timer_lvt(l)) == TIMER_PERIODIC)
        t->deadline += ((now - t->deadline) / t->period + 1) * t->period;
    else
        disarm(t);
    lapic_fire(l, LVT_TIMER);
}

/* Computes the deadline of an armed TSC value; 0 means "not armed", so never gives 0. */
static void arm_tsc(struct lapic *l)
{
    uint64_t at = l->ic->host.tsc_to_ns(l->ic->host.ctx, l->timer.tsc);

    l->timer.deadline = at ? at : 1;
}

void timer_reset(struct lapic *l)
{
    l->timer = (struct lapic_timer){.deadline = 0};
}

void timer_set_lvt(struct lapic *l, uint32_t lvt)
{
    enum timer_mode old = mode_of(timer_lvt(l)), new = mode_of(lvt);
    struct lapic_timer *t = &l->timer;

    settle(l, now_ns(l));
    atomic_store_explicit(&l->lvt[LVT_TIMER], lvt, memory_order_relaxed);
    if (old == new)
        return;
    if (old >= TIMER_TSC || new >= TIMER_TSC) {
        disarm(t);
        t->initial = 0;
    }
    t->period = full_period(l);
}

void timer_set_initial(struct lapic *l, uint32_t count)
{
    struct lapic_timer *t = &l->timer;
    uint64_t now = now_ns(l);

    if (mode_of(timer_lvt(l)) >= TIMER_TSC)
        return;
    settle(l, now);
    t->initial = count;
    t->period = full_period(l);
    t->deadline = count ? now + t->period : 0;
}

void timer_set_divide(struct lapic *l, uint32_t divide)
{
    struct lapic_timer *t = &l->timer;
    uint64_t now = now_ns(l);
    uint32_t left;

    settle(l, now);
    left = counts_left(l, now);
    t->divide = divide;
    t->period = full_period(l);
    if (left)
        t->deadline = now + left * divisor(t);
}

uint32_t timer_current(struct lapic *l)
{
    uint64_t now = now_ns(l);

    settle(l, now);
    return counts_left(l, now);
}

uint64_t timer_get_tsc(struct lapic *l)
{
    settle(l, now_ns(l));
    return l->timer.tsc;
}

void timer_set_tsc(struct lapic *l, uint64_t tsc)
{
    if (mode_of(timer_lvt(l)) != TIMER_TSC)
        return;
    lapic_timer_check(l);
    disarm(&l->timer);
    if (!tsc)
        return;
    l->timer.tsc = tsc;
    arm_tsc(l);
    settle(l, now_ns(l));
}

uint64_t lapic_deadline(const struct lapic *l)
{
    return timer_lvt(l) & LVT_MASKED ? 0 : l->timer.deadline;
}

void lapic_timer_check(struct lapic *l)
{
    if (l->timer.deadline)
        settle(l, now_ns(l));
}

void lapic_time_shift(struct lapic *l, uint64_t delta_ns)
{
    struct lapic_timer *t = &l->timer;

    if (!t->deadline)
        return;
    if (t->tsc)
        arm_tsc(l);
    else
        t->deadline += delta_ns;
}
