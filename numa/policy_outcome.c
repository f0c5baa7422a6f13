/* SPDX-License-Identifier: MIT */
/*
 * Does what is gained come?  What an action saves within tune.horizon is known only if the page is used
 * on as before.  Some actions are bets: the uses by the node that they were taken for are summed up, and
 * after that time, or LONGEST if that is sooner, compared to what was expected.  Gains are believed in by
 * the share that came, of moves and of replicas each by themselves: where programs end long before
 * tune.horizon is over, or use comes in bursts, less is done, and only what repays sooner.  While no bet
 * of a kind is open belief returns, so that it is tried again.
 *
 * All bets last equally long, or short ones would be made more often.  Time is intervals in which
 * something was counted.  Where the source ages counts by itself (in->keep_age) they do not tell, and all
 * is believed; so does a policy that asks for no gain (ops->blind).
 * State: struct policy_outcome.  Invariant: 1 <= believed <= OUTCOME_WHOLE.
 */
#include "numa/policy_judge.h"

enum {
    LONGEST = 100,                /* intervals that a bet lasts, at most */
    EACH_KIND = OUTCOME_BETS / 2, /* bets, at most */
    WEIGHT = 16,                  /* a bet moves belief by one part in so many */
    RETURN = 2048,                /* and an interval without bets */
    MORE = 2,                     /* a bet comes so many times over, at most */
    WATCHED = 4, /* intervals before a replica has to be there: it is watched first */
};

/* Uses by a node that are counted for a page. */
static uint64_t uses_by(const struct policy *p, uint64_t page, unsigned node)
{
    struct page_use use;

    counters_get(p->counters, page, &use);
    return policy_use_by(&use, node);
}

/* Moves belief by one part in `weight` of the way, one at least, within its bounds. */
static void believe(uint32_t *b, uint32_t to, unsigned weight)
{
    if (*b < to)
        *b += (to - *b + weight - 1) / weight;
    else
        *b -= (*b - to + weight - 1) / weight;
    *b = *b > OUTCOME_WHOLE ? OUTCOME_WHOLE : *b ? *b : 1;
}

void outcome_init(struct policy_outcome *o)
{
    *o = (struct policy_outcome){.counted = true};
    for (unsigned act = 0; act < ACT_KINDS; act++)
        o->believed[act] = OUTCOME_WHOLE;
}

/* Intervals that a bet lasts. */
static uint32_t lasts(const struct policy *p)
{
    return p->tune.horizon < LONGEST ? p->tune.horizon : LONGEST;
}

/* Can an action be a bet now?  What is counted after intervals without counts is of all of them. */
static bool bets(const struct policy *p, const struct action *a)
{
    const struct policy_outcome *o = &p->outcome;

    return (a->act == ACT_MIGRATE || a->act == ACT_REPLICATE) && o->of[a->act] < EACH_KIND &&
           !o->gap && p->fade && !p->ops->blind;
}

void outcome_note(struct policy *p, const struct action *a)
{
    struct policy_outcome *o = &p->outcome;
    uint64_t count, rate;

    if (!bets(p, a))
        return;
    count = uses_by(p, a->page, a->node);
    rate = judge_rate(p, count);
    if (!rate)
        return; /* it goes there for other reasons */
    for (unsigned i = 0; i < OUTCOME_BETS; i++) {
        if (o->bet[i].act != ACT_NONE)
            continue;
        o->bet[i] = (struct policy_bet){.page = a->page,
                                        .expected = rate * lasts(p),
                                        .before = count - rate,
                                        .node = a->node,
                                        .act = a->act};
        o->of[a->act]++;
        return;
    }
}

/* A bet's end. */
static void close_bet(struct policy_outcome *o, struct policy_bet *b)
{
    o->of[b->act]--;
    b->act = ACT_NONE;
}

void outcome_drop(struct policy_outcome *o, uint64_t page)
{
    for (unsigned i = 0; i < OUTCOME_BETS; i++)
        if (o->bet[i].act != ACT_NONE && o->bet[i].page == page)
            close_bet(o, &o->bet[i]);
}

/* Permille of what was expected that came. */
static uint32_t came(const struct policy_bet *b)
{
    uint64_t got = b->got > b->before ? b->got - b->before : 0;

    return got < b->expected * MORE ? (uint32_t)(got * OUTCOME_WHOLE / b->expected)
                                    : MORE * OUTCOME_WHOLE;
}

/* Counts for a bet; at its end, or when the page is not there any more, sees what came of it. */
static void look_at(struct policy *p, const struct policy_input *in, struct policy_bet *b)
{
    struct policy_outcome *o = &p->outcome;
    struct policy_page page;
    bool there = in->pages->look(in->arg, b->page, &page) &&
                 (page.home == b->node || page.replicas >> b->node & 1);
    bool stays = there || (b->act == ACT_REPLICATE && b->age < WATCHED);

    b->age++;
    if (there)
        b->got += judge_rate(p, uses_by(p, b->page, b->node));
    if (stays && b->age < lasts(p))
        return;
    if (there || b->act == ACT_MIGRATE) /* of lost replicas: policy_collapsed() */
        believe(&o->believed[b->act], came(b), WEIGHT);
    close_bet(o, b);
}

void outcome_look(struct policy *p, const struct policy_input *in)
{
    struct policy_outcome *o = &p->outcome;

    o->gap = !o->counted;
    o->counted = policy_misses(p, in) && !in->keep_age;
    if (!o->counted)
        return;
    for (unsigned act = 0; act < ACT_KINDS; act++)
        if (!o->of[act])
            believe(&o->believed[act], OUTCOME_WHOLE, RETURN);
    for (unsigned i = 0; i < OUTCOME_BETS; i++)
        if (o->bet[i].act != ACT_NONE)
            look_at(p, in, &o->bet[i]);
}

uint64_t outcome_gain(const struct policy *p, enum act act, uint64_t gain)
{
    return gain * p->outcome.believed[act] / OUTCOME_WHOLE;
}
