/* SPDX-License-Identifier: MIT */
/*
 * Does what is gained come?  An action repays its cost if the use that it was taken for goes on long
 * enough.  Some of the pages acted on are looked at again when they should have repaid: does the
 * node still use its page about as much?  Of such bets some come, some do not, and gains are
 * believed accordingly, moves and replicas each by themselves: where programs end before what is done
 * for them has repaid, less is done, and only what repays sooner.  While no bet of a kind is open belief
 * returns, so that it is tried again.
 *
 * A bet is looked at in intervals in which something was counted, PATIENCE times: counts may come late.
 * Where the source ages counts by itself (in->keep_age) they do not tell, and all is believed; so does a
 * policy that asks for no gain.
 * State: struct policy_outcome.  Invariant: 1 <= believed <= OUTCOME_WHOLE.
 */
#include "numa/policy_judge.h"

enum {
    SAME = 4,     /* use goes on that is at least one in so many of what it was */
    PATIENCE = 8, /* times that a bet is looked at before it is lost */
    WEIGHT = 16,  /* a bet moves belief by one part in so many */
    RETURN = 512, /* and an interval without bets */
    SOONEST = 2   /* intervals before a bet is looked at */
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

void outcome_note(struct policy *p, const struct action *a, uint8_t payback, uint32_t now)
{
    struct policy_outcome *o = &p->outcome;
    uint64_t had;

    if (o->open == OUTCOME_BETS || p->ops->blind ||
        (a->act != ACT_MIGRATE && a->act != ACT_REPLICATE))
        return;
    had = uses_by(p, a->page, a->node);
    if (!had)
        return; /* it goes there for other reasons */
    for (unsigned i = 0; i < OUTCOME_BETS; i++) {
        if (o->bet[i].act != ACT_NONE)
            continue;
        o->bet[i] = (struct policy_bet){.page = a->page,
                                        .due = now + (payback > SOONEST ? payback : SOONEST),
                                        .had = had,
                                        .node = a->node,
                                        .act = a->act};
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

/* Looks at a bet that is due. */
static void look_at(struct policy *p, const struct policy_input *in, struct policy_bet *b)
{
    struct policy_outcome *o = &p->outcome;
    struct policy_page page;
    bool there = in->pages->look(in->arg, b->page, &page) &&
                 (page.home == b->node || page.replicas >> b->node & 1);

    if (!there && b->act == ACT_REPLICATE) { /* policy_collapsed() sees to that */
        close_bet(o, b);
        return;
    }
    if (there && uses_by(p, b->page, b->node) * SAME >= b->had)
        believe(&o->believed[b->act], OUTCOME_WHOLE, WEIGHT);
    else if (there && ++b->looks < PATIENCE)
        return;
    else
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
        if (o->bet[i].act != ACT_NONE && (int32_t)(in->now - o->bet[i].due) >= 0)
            look_at(p, in, &o->bet[i]);
}

uint64_t outcome_gain(const struct policy *p, enum act act, uint64_t gain)
{
    return gain * p->outcome.believed[act] / OUTCOME_WHOLE;
}
