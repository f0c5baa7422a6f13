/* SPDX-License-Identifier: MIT */
/*
 * Which pages to revoke next: see sampler.h.
 */
#include "numa/sampler.h"

#include <errno.h>
#include <stdlib.h>

enum { FORGET = 64 }; /* of what the rate was, quiet intervals take one part in so many */

/* Greatest common divisor. */
static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t t = a % b;

        a = b;
        b = t;
    }
    return a;
}

/* CPU time that an interval's sample may take, ns. */
static uint64_t budget(const struct sampler *s)
{
    return s->limits.interval_ns / 1000 * s->limits.cpus * s->limits.share;
}

/* Units per interval that the share of CPU time buys; a run at least, unless there is no share: on a
 * host where a fault takes long the sampler must not fall asleep for good. */
static uint32_t affordable(const struct sampler *s)
{
    const struct sampler_limits *l = &s->limits;
    uint64_t n = s->each_ns ? budget(s) / s->each_ns : l->most;

    if (n < SAMPLER_RUN && l->share)
        n = SAMPLER_RUN;
    return n < l->most ? (uint32_t)n : l->most;
}

/* The lowest rate that is not 0. */
static uint32_t lowest(const struct sampler *s)
{
    uint32_t n = s->limits.least ? s->limits.least : SAMPLER_RUN, most = affordable(s);

    return n < most ? n : most;
}

/* Intervals after which a sample of so many units is paid for; 1 unless that is the least there is. */
static uint64_t paid_in(const struct sampler *s, uint32_t rate)
{
    uint64_t each = budget(s), n = each ? (rate * s->each_ns + each - 1) / each : 1;

    return n < 1 ? 1 : n > SAMPLER_WAIT + 1 ? SAMPLER_WAIT + 1 : n;
}

/* A new interval begins: half of it may be follow-ups. */
static void begin(struct sampler *s, uint32_t rate)
{
    s->rate = rate;
    s->given = 0;
    s->follow_left = rate / 2;
    s->found = (struct sampler_found){0};
    s->wait = 0;
}

int sampler_init(struct sampler *s, const struct sampler_limits *limits)
{
    *s = (struct sampler){.limits = *limits,
                          .each_ns = 2ull * limits->fault_ns + limits->revoke_ns};
    s->follow = malloc(SAMPLER_FOLLOW * sizeof(*s->follow));
    if (!s->follow)
        return -ENOMEM;
    s->runs = (limits->pages + SAMPLER_RUN - 1) / SAMPLER_RUN;
    s->step = (uint64_t)((double)s->runs * 0.6180339887) | 1;
    while (gcd(s->step, s->runs) != 1)
        s->step++;
    begin(s, affordable(s));
    return 0;
}

void sampler_exit(struct sampler *s)
{
    free(s->follow);
    *s = (struct sampler){0};
}

/* Names the run that is next in the round, or as much of it as may be named. */
static void next_of_round(struct sampler *s, struct sampler_run *run, uint32_t left)
{
    uint64_t end = (s->at + 1) * SAMPLER_RUN;

    if (end > s->limits.pages)
        end = s->limits.pages;
    run->first = s->at * SAMPLER_RUN + s->within;
    run->count = (uint32_t)(end - run->first);
    if (run->count > left) { /* the rest is next (S2) */
        run->count = left;
        s->within += left;
        return;
    }
    s->within = 0;
    s->at = (s->at + s->step) % s->runs;
    if (++s->since >= s->runs) {
        s->since = 0;
        s->rounds++;
    }
}

bool sampler_next(struct sampler *s, struct sampler_run *run)
{
    uint32_t left = s->rate - s->given;

    if (!left || s->wait)
        return false;
    if (s->n && s->follow_left) {
        *run = (struct sampler_run){s->follow[s->head], 1};
        s->head = (s->head + 1) % SAMPLER_FOLLOW;
        s->n--;
        s->follow_left--;
    } else if (s->given < s->limits.pages) {
        next_of_round(s, run, left);
    } else {
        return false;
    }
    s->given += run->count;
    s->revoked += run->count;
    return true;
}

void sampler_again(struct sampler *s, uint64_t unit)
{
    if (s->n == SAMPLER_FOLLOW)
        return;
    s->follow[(s->head + s->n++) % SAMPLER_FOLLOW] = unit;
}

void sampler_adapt(struct sampler *s, const struct sampler_found *found)
{
    uint64_t all, rate = s->rate;
    uint32_t most, least = s->limits.least;
    bool named = s->given > 0;

    s->found.local += found->local;
    s->found.remote += found->remote;
    found = &s->found;
    all = found->local + found->remote;
    if (!s->rate)
        return;
    if (s->wait) {
        s->wait--;
        return;
    }
    if (named)
        s->each_ns =
            (3 * s->each_ns + s->limits.revoke_ns + all * s->limits.fault_ns / s->given + 3) /
            4;
    most = affordable(s);
    if (found->remote * 5 >= all && found->remote) {
        rate = rate * 2 > s->busy ? rate * 2 : s->busy;
        s->busy = rate < most ? (uint32_t)rate : most;
    } else if (found->remote * 50 <= all) {
        rate -= rate / 4 + 1;
        s->busy -= s->busy / FORGET;
    }
    if (rate > most)
        rate = most;
    if (rate < least)
        rate = least < most ? least : most;
    begin(s, (uint32_t)rate);
    if (named)
        s->wait = (uint32_t)paid_in(s, s->rate) - 1;
}

void sampler_set(struct sampler *s, uint32_t rate)
{
    uint32_t most = affordable(s);

    if (rate && rate < lowest(s))
        rate = lowest(s);
    begin(s, rate < most ? rate : most);
}

uint64_t sampler_mean(const struct sampler *s)
{
    uint64_t n = paid_in(s, s->rate);

    return (s->rate + n - 1) / n;
}

uint64_t sampler_round(const struct sampler *s)
{
    return s->rate ? (s->limits.pages + s->rate - 1) / s->rate * paid_in(s, s->rate) : 0;
}

uint32_t sampler_age_every(const struct sampler *s)
{
    uint64_t n = sampler_round(s);

    return n && n < SAMPLER_AGE_MOST ? (uint32_t)n : SAMPLER_AGE_MOST;
}

uint32_t sampler_weight(uint64_t interval_ns, uint64_t after_ns, uint32_t most)
{
    uint64_t w = interval_ns / 100 * 69 / (after_ns ? after_ns : 1);

    if (w < 1)
        return 1;
    return w < most ? (uint32_t)w : most;
}
