/* SPDX-License-Identifier: MIT */
/*
 * Does what is gained come?  An action is taken since what it saves within tune.horizon repays its cost,
 * if the page is used as before.  Some actions are bets: the uses by the node that they were taken for
 * are summed up, and after that time it is seen whether they were enough.  Gains are believed in as far
 * as bets came, moves and replicas each by themselves: where programs end before what is done for them
 * has repaid, less is done, and only what repays sooner.  While no bet of a kind is open belief
 * returns, so that it is tried again.
 *
 * All bets last equally long, or those that come, being shorter, would be made more often.  Time is
 * intervals in which something was counted.  Where the source ages counts by itself (in->keep_age) they
 * do not tell, and all is believed; so does a policy that asks for no gain (ops->blind).
 * State: struct policy_outcome.  Invariant: 1 <= believed <= OUTCOME_WHOLE.
 */
#include "numa/policy_judge.h"

enum {
    LONGEST = 256, /* intervals that a bet lasts, at most */
    WEIGHT = 16,   /* a bet moves belief by one part in so many */
    RETURN = 512,  /* and an interval without bets */
};

/* Uses by a node that are counted for a page. */
static uint64_t uses_by(const struct policy *p, uint64_t page, unsigned node)
{
    struct page_use use;

    counters_get(p->counters, page, &use);
    for (unsigned i = 0; i < use.n; i++)
        if (use.use[i].node == node)
            return (uint64_t)use.use[i].reads + use.use[i].writes;
    return 0;
}

/* Moves belief by one part in `weight` of the way to a bound, one at least. */
static void believe(uint32_t *b, uint32_t to, unsigned weight)
{
    if (*b < to)
        *b += (to - *b + weight - 1) / weight;
    else
        *b -= (*b - to + weight - 1) / weight;
}

void outcome_init(struct policy_outcome *o)
{
    *o = (struct policy_outcome){0};
    for (unsigned act = 0; act < ACT_KINDS; act++)
        o->believed[act] = OUTCOME_WHOLE;
}

void outcome_note(struct policy *p, const struct action *a, uint8_t payback)
{
    struct policy_outcome *o = &p->outcome;
    uint64_t rate;

    if (o->open == OUTCOME_BETS || p->ops->blind ||
        (a->act != ACT_MIGRATE && a->act != ACT_REPLICATE))
        return;
    rate = judge_rate(p, uses_by(p, a->page, a->node));
    if (!rate)
        return; /* it goes there for other reasons */
    for (unsigned i = 0; i < OUTCOME_BETS; i++) {
        if (o->bet[i].act != ACT_NONE)
            continue;
        o->bet[i] = (struct policy_bet){
            .page = a->page, .need = rate * payback, .node = a->node, .act = a->act};
        o->open++;
        o->of[a->act]++;
        return;
    }
}

/* A bet's end. */
static void close_bet(struct policy_outcome *o, struct policy_bet *b)
{
    o->open--;
    o->of[b->act]--;
    b->act = ACT_NONE;
}

/* Counts for a bet; at its end, or when the page is not there any more, sees what came of it. */
static void look_at(struct policy *p, const struct policy_input *in, struct policy_bet *b)
{
    struct policy_outcome *o = &p->outcome;
    struct policy_page page;
    bool there = in->pages->look(in->arg, b->page, &page) &&
                 (page.home == b->node || page.replicas >> b->node & 1);

    b->age++;
    if (there)
        b->got += judge_rate(p, uses_by(p, b->page, b->node));
    if (there && b->age < p->tune.horizon && b->age < LONGEST)
        return;
    if (b->got >= b->need)
        believe(&o->believed[b->act], OUTCOME_WHOLE, WEIGHT);
    else if (there || b->act == ACT_MIGRATE) /* of lost replicas: policy_collapsed() */
        believe(&o->believed[b->act], 1, WEIGHT);
    close_bet(o, b);
}

void outcome_look(struct policy *p, const struct policy_input *in)
{
    struct policy_outcome *o = &p->outcome;
    bool counted = false;

    for (unsigned n = 0; n < p->machine->nnodes && !counted; n++)
        counted = in->traffic.at[n] != 0;
    if (in->keep_age || !counted)
        return;
    for (unsigned act = 0; act < ACT_KINDS; act++)
        if (!o->of[act])
            believe(&o->believed[act], OUTCOME_WHOLE, RETURN);
    for (unsigned i = 0; i < OUTCOME_BETS && o->open; i++)
        if (o->bet[i].act != ACT_NONE)
            look_at(p, in, &o->bet[i]);
}

uint64_t outcome_gain(const struct policy *p, enum act act, uint64_t gain)
{
    return gain * p->outcome.believed[act] / OUTCOME_WHOLE;
}
