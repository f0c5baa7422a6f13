/* SPDX-License-Identifier: MIT */
/*
 * Thresholds, limits and costs of policies, with their defaults.  docs/policies.md shows the
 * measured curve behind each.  No state.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "numa/policy.h"

/* What costs the same, whoever moves pages.  Fitted to a page alone and to one of 64 neighbours:
 * docs/policies.md, "Costs". */
#define COSTS_BUT_OF_MOVES                                                             \
    .replicate_run = 30300, .collapse_run = 7600, .evict_run = 8800, .replicate = 920, \
    .collapse = 780, .evict = 750, .migrate_2m = 1192000, .replicate_2m = 447000,      \
    .collapse_2m = 116000, .evict_2m = 114000, .further_run = 25900, .further = 900,   \
    .further_2m = 447000, .broken = 105000, .broken_2m = 204000, .sample = 3000

/* Moves by move_pages(2), as many at once as the pager moves (vmm/pager/move.c). */
const struct policy_cost policy_cost_default = {
    .migrate_run = 54000, .migrate = 9900, .batch = 512, COSTS_BUT_OF_MOVES};

/* Moves by copy, neighbours at once. */
const struct policy_cost policy_cost_by_copy = {
    .migrate_run = 107700, .migrate = 1850, COSTS_BUT_OF_MOVES};

struct policy_tune policy_tune_default(void)
{
    struct policy_tune t = {0};

    for (const struct policy_knob *k = policy_knobs; k->name; k++)
        policy_tune_set(&t, k->name, k->def);
    return t;
}

int policy_tune_set(struct policy_tune *t, const char *name, uint64_t value)
{
    for (const struct policy_knob *k = policy_knobs; k->name; k++) {
        uint32_t v = (uint32_t)value;

        if (strcmp(k->name, name) != 0)
            continue;
        if (value < k->min || value > k->max)
            return -ERANGE;
        memcpy((char *)t + k->at, &v, sizeof(v));
        return 0;
    }
    return -ENOENT;
}

#define KNOB(f, lo, hi, d, text)                             \
    {                                                        \
#f, offsetof(struct policy_tune, f), lo, hi, d, text \
    }
const struct policy_knob policy_knobs[] = {
    KNOB(trigger, 1, 1 << 24, 1, "misses by one node that make a page hot"),
    KNOB(sharing, 1, 1 << 24, 1, "misses by another node that make it a sharer"),
    KNOB(write, 1, 1 << 24, 1, "writes that keep a page from being replicated"),
    KNOB(decay, 0, 32, 3, "bits all counts lose per interval; 32: reset"),
    KNOB(horizon, 1, 10000, 8, "intervals that use is believed to go on"),
    KNOB(margin, 0, 10000, 100, "percent of its cost an action must gain"),
    KNOB(dominate, 50, 101, 60, "percent of a shared page's use that draw it to one node"),
    KNOB(rest, 1, 10000, 1, "intervals in which a page moves once"),
    KNOB(moves, 1, 255, 4, "such moves before a page is left alone"),
    KNOB(freeze, 1, 10000, 100, "intervals for which it is, doubled each time"),
    KNOB(collapses, 1, 255, 2, "replicas lost at once before a page is left alone"),
    KNOB(quick, 1, 10000, 10, "a move within so many of the last one counts"),
    KNOB(gate, 0, 1000, 10, "permille of remote use below which nothing is done"),
    KNOB(keep_free, 0, 100, 10, "percent of a node's memory that replicas leave free"),
    KNOB(low_free, 0, 100, 5, "percent free below which replicas are evicted"),
    KNOB(cpu, 0, 1000, 30, "permille of the guest's CPU time for actions"),
    KNOB(burst, 1, 1000, 10, "intervals' worth of that which may be saved up"),
    KNOB(examine, 0, 1 << 30, 8192, "cache lines of counts looked at per interval; 0: all"),
    KNOB(calm, 0, 128, 64, "longest pause between two looks at a page that stays remote"),
    KNOB(queue, 0, 1000, 30, "percent of a local miss that one waits where all are served"),
    KNOB(carrefour_ibs, 1, 1 << 24, 64, "misses that one of Carrefour's samples stands for"),
    {0},
};
