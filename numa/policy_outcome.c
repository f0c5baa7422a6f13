/* SPDX-License-Identifier: MIT */
/*
 * Does what is gained come?  What an action saves within tune.horizon is known only if the page is used
 * on as before.  Some actions are bets: the uses that tell are summed up, and after that time, or LONGEST
 * if that is sooner, compared to what was expected.  Gains are believed in by the share that came, each
 * kind by itself: where programs end long before tune.horizon is over, or use comes in bursts, less is
 * done, and only what repays sooner.  What lies beyond the time that bets last is believed in by the share
 * that came in their second half: use that ends is not believed to go on; before any was seen, little is.
 * While no bet of a kind is open belief returns, so that it is tried again.
 *
 * The uses that tell: of a page that went nearer to a node, those by that node, less those by the one that
 * it left, for which it is far now; of a replica, those by its node; of a page whose memory was too busy,
 * all.  More can be lost than gained: averages count that, so that moves which gain as often as they lose
 * are worth nothing.
 *
 * All bets last equally long, or short ones would be made more often.  While nothing is counted time
 * stands still for them: a guest that rests does not end what it does.  Where the source ages counts by
 * itself (in->keep_age) they do not tell, and there are no bets; so for a policy that asks for no gain
 * (ops->blind).
 * State: struct policy_outcome.  Invariant: -OUTCOME_WHOLE <= believed, lasting <= OUTCOME_WHOLE.
 */
#include "numa/policy_judge.h"

enum {
    LONGEST = 100,                         /* intervals that a bet lasts, at most */
    EACH_KIND = OUTCOME_BETS / GAIN_KINDS, /* bets, at most */
    WEIGHT = 16,   /* a bet moves belief by one part in so many; the first */
                   /* ones, of which that is the mean, by more */
    RETURN = 2048, /* and an interval without bets */
    MORE = 2,      /* a bet comes, or is lost, so many times over, at most */
    UNSEEN = 100,  /* permille: unseen() */
    LITTLE = 30,   /* permille */
    WATCHED = 4,   /* intervals before a replica has to be there: it is watched first */
};

/* A page's uses that tell of a bet. */
struct told {
    int64_t count; /* all there are */
    int64_t seen;  /* by one look, if all find as much */
    int64_t share; /* this interval's: summed up over intervals, all that was ever counted */
};

static void tell(const struct policy *p, struct told *t, uint64_t count, int64_t sign)
{
    t->count += sign * (int64_t)count;
    t->seen += sign * (int64_t)judge_seen(p, count);
    t->share += sign * (int64_t)judge_fades(count, p->fade);
}

/* What was counted for a bet's page. */
static struct told told_of(const struct policy *p, const struct policy_bet *b)
{
    struct told t = {0};
    struct page_use use;

    counters_get(p->counters, b->page, &use);
    for (unsigned i = 0; i < use.n; i++) {
        uint64_t count = (uint64_t)use.use[i].reads + use.use[i].writes;

        if (use.use[i].node == b->node || b->kind == GAIN_EVEN)
            tell(p, &t, count, 1);
        else if (use.use[i].node == b->from && b->kind == GAIN_NEARER)
            tell(p, &t, count, -1);
    }
    return t;
}

/* Moves an average by one part in `weight` of the way, one at least, within its bounds. */
static void believe(int32_t *b, int32_t to, int32_t weight)
{
    int32_t round = *b < to ? weight - 1 : 1 - weight;

    *b += (to - *b + round) / weight;
    *b = *b > OUTCOME_WHOLE ? OUTCOME_WHOLE : *b < -OUTCOME_WHOLE ? -OUTCOME_WHOLE : *b;
}

/* The part of a gain that an average stands for, permille: 1 at least, or nothing would be tried.  Of a few
 * dozen bets no average is so exact that little is not nothing. */
static uint32_t part(int32_t average)
{
    return average < LITTLE ? 1 : (uint32_t)average;
}

/* Permille of gains beyond a bet's time that are believed before any was seen: a page that all use need
 * only be used by somebody. */
static int32_t unseen(unsigned kind)
{
    return kind == GAIN_EVEN ? OUTCOME_WHOLE : UNSEEN;
}

void outcome_init(struct policy_outcome *o)
{
    *o = (struct policy_outcome){.counted = true};
    for (unsigned kind = 0; kind < GAIN_KINDS; kind++) {
        o->believed[kind] = OUTCOME_WHOLE;
        o->lasting[kind] = unseen(kind);
    }
}

enum gain outcome_kind(const struct action *a)
{
    return a->act == ACT_REPLICATE ? GAIN_COPY : a->evens ? GAIN_EVEN : GAIN_NEARER;
}

/* Intervals that a bet lasts. */
static uint32_t lasts(const struct policy *p)
{
    return p->tune.horizon < LONGEST ? p->tune.horizon : LONGEST;
}

/* Can an action be a bet now? */
static bool bets(const struct policy *p, const struct action *a)
{
    return (a->act == ACT_MIGRATE || a->act == ACT_REPLICATE) &&
           p->outcome.of[outcome_kind(a)] < EACH_KIND && p->outcome.counted && p->fade &&
           !p->ops->blind;
}

void outcome_note(struct policy *p, const struct action *a)
{
    struct policy_outcome *o = &p->outcome;
    struct policy_bet b = {.page = a->page,
                           .node = a->node,
                           .from = a->from,
                           .kind = (uint8_t)outcome_kind(a),
                           .open = true};
    struct told t;

    if (!bets(p, a))
        return;
    t = told_of(p, &b);
    b.expected = t.seen * lasts(p) / p->span;
    b.before = t.count - t.share;
    if (b.expected <= 0)
        return; /* it goes there for other reasons, or for too little to tell */
    for (unsigned i = 0; i < OUTCOME_BETS; i++) {
        if (o->bet[i].open)
            continue;
        o->bet[i] = b;
        o->of[b.kind]++;
        return;
    }
}

/* A bet's end. */
static void close_bet(struct policy_outcome *o, struct policy_bet *b)
{
    o->of[b->kind]--;
    b->open = false;
}

void outcome_drop(struct policy_outcome *o, uint64_t page)
{
    for (unsigned i = 0; i < OUTCOME_BETS; i++)
        if (o->bet[i].open && o->bet[i].page == page)
            close_bet(o, &o->bet[i]);
}

/* Permille of what was expected that came. */
static int32_t came(int64_t got, int64_t expected)
{
    if (got > expected * MORE)
        got = expected * MORE;
    if (got < -expected * MORE)
        got = -expected * MORE;
    return (int32_t)(got * OUTCOME_WHOLE / expected);
}

/* What is expected of a bet in so many intervals. */
static int64_t expected(const struct policy *p, const struct policy_bet *b, uint32_t intervals)
{
    int64_t n = b->expected * intervals / lasts(p);

    return n > 0 ? n : 1;
}

/* A bet ends, as it should or since its page is elsewhere: what came of it. */
static void settle(struct policy *p, const struct policy_bet *b)
{
    struct policy_outcome *o = &p->outcome;
    uint32_t age = b->age > lasts(p) ? b->age : lasts(p);
    int32_t weight = WEIGHT;

    if (o->settled[b->kind] + 2 < WEIGHT)
        weight = (int32_t)++o->settled[b->kind] + 1;
    believe(&o->believed[b->kind], came(b->got - b->before, expected(p, b, age)), weight);
    believe(&o->lasting[b->kind], came(b->late, expected(p, b, age - lasts(p) / 2)), weight);
}

/* Counts for a bet; at its end, or when the page is not there any more, sees what came of it. */
static void look_at(struct policy *p, const struct policy_input *in, struct policy_bet *b)
{
    struct policy_page page;
    bool there = in->pages->look(in->arg, b->page, &page) &&
                 (page.home == b->node || page.replicas >> b->node & 1);
    bool stays = there || (b->kind == GAIN_COPY && b->age < WATCHED);

    if (p->outcome.counted)
        b->age += in->traffic.passed ? in->traffic.passed : 1;
    if (there) {
        int64_t share = told_of(p, b).share;

        b->got += share;
        b->late += b->age > lasts(p) / 2 ? share : 0;
    }
    if (stays && (!p->outcome.counted || b->age < lasts(p) || b->age < 2 * (uint64_t)p->span))
        return;
    if (there || b->kind != GAIN_COPY) /* of lost replicas: policy_collapsed() */
        settle(p, b);
    close_bet(&p->outcome, b);
}

/* No bet of a kind was open for so many intervals: it becomes worth a try again. */
static void recover(struct policy_outcome *o, unsigned kind, uint32_t intervals)
{
    int32_t weight = intervals < RETURN ? (int32_t)(RETURN / (intervals ? intervals : 1)) : 1;

    o->believed[kind] = o->believed[kind] < 0 ? 0 : o->believed[kind];
    believe(&o->believed[kind], OUTCOME_WHOLE, weight);
    if (o->lasting[kind] < unseen(kind))
        believe(&o->lasting[kind], unseen(kind), weight);
}

void outcome_look(struct policy *p, const struct policy_input *in)
{
    struct policy_outcome *o = &p->outcome;

    o->counted = policy_misses(p, in) && !in->keep_age;
    if (in->keep_age)
        return;
    for (unsigned kind = 0; kind < GAIN_KINDS; kind++)
        if (o->counted && !o->of[kind])
            recover(o, kind, in->traffic.passed);
    for (unsigned i = 0; i < OUTCOME_BETS; i++)
        if (o->bet[i].open)
            look_at(p, in, &o->bet[i]);
}

unsigned policy_believed(const struct policy *p, enum gain kind)
{
    const struct policy_outcome *o = &p->outcome;
    uint64_t whole = p->tune.horizon, first = lasts(p), sum;

    sum = part(o->believed[kind]) * first + part(o->lasting[kind]) * (whole - first);
    return (unsigned)(sum / whole);
}

uint64_t outcome_gain(const struct policy *p, enum gain kind, uint64_t gain)
{
    return gain * policy_believed(p, kind) / OUTCOME_WHOLE;
}
