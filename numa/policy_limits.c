/* SPDX-License-Identifier: MIT */
/*
 * The limits on what is done to one page (L1, L2): what was done to it is noted, what came of it is
 * told, and a page that goes to and fro is left alone, longer each time.  State: struct policy's
 * history.
 */
#include "numa/policy_judge.h"

/* Leaves a page alone from now on, longer each time. */
static void leave_alone(const struct policy *p, struct policy_record *r, uint32_t now)
{
    r->until = now + (p->tune.freeze << r->level);
    r->level = (uint8_t)(r->level + (r->level < LEVEL_MAX));
    r->moves = r->strikes = 0;
}

/* Intervals, at most 255, in which a gain (us in tune.horizon) repays a cost (us). */
static uint8_t repays_in(const struct policy *p, uint64_t cost, uint64_t gain)
{
    uint64_t n = gain ? cost * p->tune.horizon / gain + 1 : 255;

    return (uint8_t)(n < 255 ? n : 255);
}

/* Notes a replica, of so many ns: all that the page has are to repay together what they cost and
 * the write that takes them. */
static void note_copy(const struct policy *p, struct policy_record *r, const struct action *a,
                      uint64_t cost, uint32_t now)
{
    if (!r->copied) { /* its life is that of the first replica */
        r->moved = now + 1;
        r->gain = 0;
        r->cost = (uint32_t)(policy_cost_broken(&p->cost, a->page) / 1000);
    }
    r->copied = true;
    r->cost = (uint32_t)(r->cost + cost / 1000);
    r->gain = r->gain + a->gain > r->gain ? r->gain + a->gain : UINT32_MAX;
    r->payback = repays_in(p, r->cost, r->gain);
}

/* Has the last move, that now ends after so many intervals, repaid?  There and back costs
 * twice, and each is seen an interval late. */
static bool repaid(const struct policy *p, const struct policy_record *r, uint32_t life)
{
    return life > 2 && (uint64_t)(life - 2) * r->gain >= (uint64_t)r->cost * p->tune.horizon;
}

void limits_note(struct policy *p, const struct action *a, uint64_t cost, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, a->page);
    uint32_t life = now + 1 - r->moved;

    outcome_note(p, a);
    if (a->act == ACT_REPLICATE) {
        note_copy(p, r, a, cost, now);
        return;
    }
    if (!r->moved || life > p->tune.quick || (!r->copied && repaid(p, r, life))) {
        r->moves = 0;
        r->level = (uint8_t)(r->level - (r->level > 0 && now >= r->until + p->tune.freeze));
    }
    r->cost = (uint32_t)(2 * cost / 1000);
    r->gain = a->gain;
    r->copied = false;
    r->moved = now + 1;
    if (++r->moves >= p->tune.moves)
        leave_alone(p, r, now);
}

void policy_collapsed(struct policy *p, uint64_t page, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, page);
    uint32_t life = now + 1 - r->moved;
    bool lost = r->copied && (life <= 1 || life < r->payback);

    if (p->counters) {
        counters_changed(p->counters, page);
        counters_list(p->counters, page);
    }
    r->repaid = r->copied && !lost;
    if (lost) {
        if (++r->strikes >= p->tune.collapses)
            leave_alone(p, r, now);
    } else if (r->copied) {
        r->strikes = 0;
        r->level = (uint8_t)(r->level - (r->level > 0));
    }
    r->copied = false;
    r->moved = now + 1;
}

void policy_written(struct policy *p, uint64_t page, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, page);

    if (++r->strikes >= p->tune.collapses)
        leave_alone(p, r, now);
    r->moved = now + 1;
}

void policy_failed(struct policy *p, uint64_t page, uint32_t now)
{
    struct policy_record *r = hist_get(p->hist, page);

    outcome_drop(&p->outcome, page);
    r->copied = false;
    r->moved = now + 1;
}
