/* SPDX-License-Identifier: MIT */
/*
 * Which pages to revoke next, so that their next touch tells who uses them.  Pure: no clock, no
 * system call; the pager revokes in all views and reports what came of it.
 *
 * Half of each interval's sample goes round the guest in runs, in an order that skips about
 * and visits every run once a round.  The other half follows up pages that were found to be
 * used from afar: a policy wants to see a page twice before it acts.  What follow-ups don't
 * use, the round gets. The rate adapts: it doubles while much of what is found is remote, and
 * falls by a quarter while all is quiet, between `least` and what the share of CPU time for
 * sampling buys; after a while of quiet it begins again where it was.  Where that buys less than a run,
 * intervals pass between two samples.  Rate 0 (off) costs nothing.
 *
 * Invariants.  S1: in an interval at most sampler.rate pages are named.  S2: every page is
 * named at least once a round.  S3: nothing is allocated after sampler_init(). Threads: one
 * at a time.
 */
#ifndef DISCO_NUMA_SAMPLER_H
#define DISCO_NUMA_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

enum { SAMPLER_RUN = 8, SAMPLER_FOLLOW = 8192, SAMPLER_WAIT = 63 };

/* What to sample, and how much of it. */
struct sampler_limits {
    uint64_t pages;       /* of the guest, or blocks: units; at least 1 */
    uint32_t least;       /* units per interval when all is quiet; 0: may stop altogether */
    uint32_t most;        /* units per interval at most */
    uint32_t share;       /* permille of the guest's CPU time that sampling may take */
    uint32_t fault_ns;    /* cost of one fault of a sampled page */
    uint32_t revoke_ns;   /* cost of revoking one unit in all views */
    uint64_t interval_ns; /* length of an interval */
    uint32_t cpus;        /* of the guest */
};

/* Neighbouring pages to revoke. */
struct sampler_run {
    uint64_t first; /* unit */
    uint32_t count; /* units, at least 1 */
};

/* What came of an interval's sample. */
struct sampler_found {
    uint64_t local, remote; /* touches of sampled pages, by where the page was */
};

/* A guest's sampler. */
struct sampler {
    struct sampler_limits limits;
    uint32_t rate;              /* units an interval in which there is a sample */
    uint32_t wait;              /* intervals that pass before the next one */
    struct sampler_found found; /* since the last one */
    uint32_t busy;              /* what it was when much was remote last; forgotten slowly */
    uint64_t each_ns;           /* cost of a unit as found lately, faults included */
    uint64_t runs;              /* in the guest */
    uint64_t step;              /* from one run to the next; shares no factor with runs */
    uint64_t at;                /* run that is next */
    uint32_t within;            /* units of that run that were named already */
    uint64_t since;             /* runs named in this round */
    uint64_t rounds;            /* rounds finished */
    uint32_t given;             /* units named in this interval */
    uint32_t follow_left;       /* of these, follow-ups still allowed */
    uint32_t head, n;           /* of follow: first, and how many */
    uint64_t *follow;           /* ring of units to see again */
    uint64_t revoked;           /* units named in all */
};

/* Starts at the highest rate, taking each unit to be touched by two nodes. 0 or -ENOMEM. */
int sampler_init(struct sampler *s, const struct sampler_limits *limits);

/* Frees it. */
void sampler_exit(struct sampler *s);

/* The next pages to revoke in this interval; false: enough of them. */
bool sampler_next(struct sampler *s, struct sampler_run *run);

/* A sampled page was touched from afar: it is to be seen again next interval. */
void sampler_again(struct sampler *s, uint64_t unit);

/* The interval is over: the rate of the next one follows from what was found. */
void sampler_adapt(struct sampler *s, const struct sampler_found *found);

/* Turns sampling off (0) or on again; from 0 it begins at the lowest rate that is not 0. */
void sampler_set(struct sampler *s, uint32_t rate);

/* Units per interval, those without a sample included: at least 1 unless the rate is 0. */
uint64_t sampler_mean(const struct sampler *s);

/* Intervals that a round takes at this rate; 0: it never ends. */
uint64_t sampler_round(const struct sampler *s);

enum { SAMPLER_AGE_MOST = 64 };

/* Counts that come from samples are to be aged once in so many intervals: a round, so that a
 * page's next sample finds the last one, but at most SAMPLER_AGE_MOST. */
uint32_t sampler_age_every(const struct sampler *s);

/*
 * What one touch stands for: a page touched `after_ns` after it was revoked is touched about
 * interval / after times per interval.  0.69 of that is right in the median; at least 1, at
 * most `most`.
 */
uint32_t sampler_weight(uint64_t interval_ns, uint64_t after_ns, uint32_t most);

#endif
