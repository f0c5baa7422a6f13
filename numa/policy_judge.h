/* SPDX-License-Identifier: MIT */
/*
 * What the policies share while they judge a page: its use, its state, sums, and the way to
 * say what should be done.  For numa/policy*.c only.  Threads: as policy.h.
 */
#ifndef DISCO_NUMA_POLICY_JUDGE_H
#define DISCO_NUMA_POLICY_JUDGE_H

#include "numa/policy.h"

/* One page before its judge. */
struct policy_judge {
    struct page_use use;            /* what was counted */
    struct policy_page page;        /* where it is */
    const struct policy_input *in;  /* the interval */
    uint64_t reads, writes;         /* of all nodes */
    uint64_t total[TOPO_MAX_NODES]; /* reads and writes by entry of use */
    unsigned top;                   /* entry of use with most; 0 if there are none */
    unsigned sharers;               /* nodes with tune.sharing or more */
    bool may_move, may_copy;        /* L1, L2 allow it */
    bool quiet;            /* its last replicas outlived their cost until a write came */
    bool copied;           /* it has a replica, or one was asked for */
    struct action *out;    /* candidates; from here on owned by policy.c */
    unsigned n, most;      /* of out */
    uint64_t cost, enough; /* ns of all candidates, and how much is plenty */
};

/* Says that something should be done, and the ns it saves per interval.  The action, or NULL: there is
 * no room for more. */
struct action *judge_act(struct policy *p, struct policy_judge *j, enum act act, unsigned node,
                         uint64_t gain_ns);

/* Would a move or a replica that saves so much per interval repay its cost (tune.horizon,
 * tune.margin)? */
bool judge_pays(const struct policy *p, const struct policy_judge *j, enum gain kind,
                uint64_t gain_ns);

/* ns saved per interval if the page's only copy were on `node` and not where it is; negative:
 * lost. */
int64_t judge_gain_move(const struct policy *p, const struct policy_judge *j, unsigned node);

/* ns saved per interval if the node of entry i of use had a copy of its own; never negative. */
uint64_t judge_gain_copy(const struct policy *p, const struct policy_judge *j, unsigned i);

/* What a count loses that fades by so many bits; all of it for COUNTERS_FORGET, and for 0. */
static inline uint64_t judge_fades(uint64_t count, uint64_t bits)
{
    return bits && bits < COUNTERS_FORGET ? count - (count >> bits) : count;
}

/* What one look adds to a count that fades, if all find as much: of p->span intervals. */
uint64_t judge_seen(const struct policy *p, uint64_t count);

/* The nearest node to `node` that holds a copy of the page. */
unsigned judge_serves(const struct policy *p, const struct policy_page *page, unsigned node);

/* Tells what came of looking at a page. */
static inline void judge_tell(const struct policy_input *in, uint64_t page, enum policy_why why)
{
    if (in->pages->told)
        in->pages->told(in->arg, page, why);
}

/* Misses of an interval, on all nodes; 0: nothing was counted. */
static inline uint64_t policy_misses(const struct policy *p, const struct policy_input *in)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < p->machine->nnodes; i++)
        all += in->traffic.at[i];
    return all;
}

/* Use of a page by one node. */
static inline uint64_t policy_use_by(const struct page_use *use, unsigned node)
{
    for (unsigned i = 0; i < use->n; i++)
        if (use->use[i].node == node)
            return (uint64_t)use->use[i].reads + use->use[i].writes;
    return 0;
}

/* Bytes of a page or block. */
static inline uint64_t policy_bytes(uint64_t page)
{
    return page & PAGE_BLOCK ? UINT64_C(2) << 20 : 4096;
}

/* ---- loads of memories: policy_balance.c ---- */

/* An interval's judging begins: loads are those of in->traffic. */
void balance_begin(struct policy *p, const struct policy_input *in);

/* The page is to go to a node. */
void balance_moved(struct policy *p, const struct policy_judge *j, unsigned node);

/* ns saved per interval if the page were on a node and not where it is, since that memory is less busy;
 * negative: lost.  0: loads are not known. */
int64_t balance_gain(const struct policy *p, const struct policy_judge *j, unsigned node);

/* The node to which a page should go since its memory is less busy, and the ns that saves per
 * interval; false: none that repays. */
bool balance_node(const struct policy *p, const struct policy_judge *j, unsigned *node,
                  uint64_t *gain_ns);

/* ---- do gains come: policy_outcome.c ---- */

/* Nothing is known: all gains are believed. */
void outcome_init(struct policy_outcome *o);

/* An action is told: perhaps it is to be a bet. */
void outcome_note(struct policy *p, const struct action *a);

/* Nothing came of an action on a page. */
void outcome_drop(struct policy_outcome *o, uint64_t page);

/* An interval has been counted: uses of bets, and what came of those that end. */
void outcome_look(struct policy *p, const struct policy_input *in);

/* What an action gains by. */
enum gain outcome_kind(const struct action *a);

/* The part of a gain within tune.horizon that is believed. */
uint64_t outcome_gain(const struct policy *p, enum gain kind, uint64_t gain);

/* ---- choosing: policy_choose.c ---- */

/* Orders n candidates and keeps the best that repay, as budget and memory allow; how many. */
unsigned choose(struct policy *p, const struct policy_input *in, struct action *a, unsigned n);

/* What actions cost that are done one after the other, ns. */
uint64_t choose_cost(const struct policy *p, const struct action *a, unsigned n);

/* Notes an action that is told, of so many ns, in the page's record: policy_limits.c. */
void limits_note(struct policy *p, const struct action *a, uint64_t cost, uint32_t now);

/* ---- what was done to pages: policy_hist.c ---- */

enum { LEVEL_MAX = 12 };

/* A page's record.  32 bytes, only for pages that something was done to. */
struct policy_record {
    uint64_t page;   /* UINT64_MAX: empty */
    uint32_t moved;  /* interval of the last action, +1; 0: none */
    uint32_t until;  /* left alone before this interval */
    uint32_t cost;   /* us: of the replicas it has and of losing them, or of moving and back */
    uint32_t gain;   /* us that the last action saves in tune.horizon */
    uint8_t moves;   /* since the last time it was left alone */
    uint8_t strikes; /* replicas lost at once, likewise */
    uint8_t level;   /* how often it was left alone, at most LEVEL_MAX */
    bool copied;     /* the last action made a replica */
    bool repaid;     /* the last replicas had repaid their cost when a write took them */
    uint8_t payback; /* intervals after which that has repaid its cost, at most 255 */
};

/* A table of so many records, or NULL. */
struct policy_hist *hist_new(uint32_t pages);

/* Frees it. */
void hist_free(struct policy_hist *h);

/* The record of a page, NULL: nothing was done to it, or it was long ago. */
struct policy_record *hist_find(struct policy_hist *h, uint64_t page);

/* The record of a page, a new one if need be, in place of the one that has been quiet
 * longest. */
struct policy_record *hist_get(struct policy_hist *h, uint64_t page);

/* Marks: pages that get a replica.  All go; one is set; is it?  One that others have pushed out is
 * not: whoever asks then takes a further replica for a first one, which costs more. */
void hist_unmark(struct policy_hist *h);
void hist_mark(struct policy_hist *h, uint64_t page);
bool hist_marked(const struct policy_hist *h, uint64_t page);

/* ---- the policies: rows of policies[] in policy_table.c ---- */

unsigned home_spread(const struct policy *p, uint64_t page, uint64_t pages, unsigned toucher);
unsigned home_interleave(const struct policy *p, uint64_t page, uint64_t pages,
                         unsigned toucher);
unsigned home_toucher(const struct policy *p, uint64_t page, uint64_t pages, unsigned toucher);
bool begin_unless_quiet(struct policy *p, const struct policy_input *in);
bool begin_carrefour(struct policy *p, const struct policy_input *in);
void judge_migrate(struct policy *p, struct policy_judge *j);
void judge_replicate(struct policy *p, struct policy_judge *j);
void judge_carrefour(struct policy *p, struct policy_judge *j);

#endif
