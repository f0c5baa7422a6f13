/* SPDX-License-Identifier: MIT */
/*
 * Policies that place guest pages on nodes.  Pure: counters, page states, the machine's
 * latencies, free memory and a budget in, a list of actions out; no clock, no system call, no
 * allocation after policy_init().  The pager of a live guest and the replay of a trace call
 * the same functions.
 *
 * Each interval: counters_add() for what was seen; policy_decide() looks at pages that went
 * wrong (as many as tune.examine allows), lets the policy judge each, keeps the most
 * useful actions that budget and free memory allow, and ages the counters.  The caller does
 * them, as far as it can. What happens besides is told: policy_collapsed() when a write took
 * a page's replicas away.
 *
 * Invariants.  L1: a page moves at most once in tune.rest intervals, and tune.moves times, each
 * within tune.quick of the last and before that has repaid going there and back, before it is
 * left alone for a while, twice as long each time.
 * L2: a page whose replicas were taken away at once tune.collapses times is left alone likewise:
 * guest page tables behave so.  L3: actions cost at most tune.cpu of CPU time, over any
 * tune.burst intervals twice that.  L4: no replica goes to a node with less than tune.keep_free
 * of its memory free; below tune.low_free replicas are evicted before anything else is done.
 * L5: the same calls give the same actions.
 * Threads: one at a time for each struct policy.
 */
#ifndef DISCO_NUMA_POLICY_H
#define DISCO_NUMA_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "numa/counters.h"
#include "numa/pagemap.h"
#include "numa/topo.h"

/* ---- what policies know ---- */

/* Latencies between nodes.  Nodes are indices of struct topo. */
struct policy_machine {
    unsigned nnodes;                             /* 1..TOPO_MAX_NODES */
    uint16_t ns[TOPO_MAX_NODES][TOPO_MAX_NODES]; /* of a read by [node] of memory on [node] */
};

/* What actions cost, in ns of CPU time of the guest and its pager together.  Actions of one kind
 * on neighbours are one run (policy_run()): it is begun once, then each page or block costs.
 * Single pages that move are one batch, wherever they are (policy_batched()), begun once too. */
struct policy_cost {
    uint32_t migrate_run, replicate_run, collapse_run, evict_run; /* to begin a run or batch */
    uint32_t migrate, replicate, collapse, evict;                 /* a page of 4 KiB in it */
    uint32_t migrate_2m, replicate_2m, collapse_2m, evict_2m;     /* a whole block in it */
    uint32_t further_run, further, further_2m; /* the same, a replica beside others */
    uint32_t batch;             /* single pages that move at once, at most; 0: only runs do */
    uint32_t broken, broken_2m; /* a guest's write that collapses: it waits for that */
    uint32_t sample;            /* one fault of a sampled page */
};

/* Costs as measured on hosts of today (docs/policies.md): where the kernel moves pages; and where
 * it does not let us, so that they move by copy (vmm/pager/move.c). */
extern const struct policy_cost policy_cost_default, policy_cost_by_copy;

/* A page's state in the page map. */
struct policy_page {
    uint64_t replicas; /* bit n: node n holds a replica besides the master */
    uint8_t home;      /* node of the master */
    bool fixed;        /* may not move: device memory, a pool page, pinned */
};

/* What came of looking at a page. */
enum policy_why {
    WHY_NONE,   /* nobody looked yet */
    WHY_DONE,   /* something is done */
    WHY_WORTH,  /* nothing that could be done repays */
    WHY_LIMIT,  /* it is left alone (L1, L2) */
    WHY_BUDGET, /* no CPU time left (L3) */
    WHY_MEMORY, /* no memory left (L4) */
    WHY_KINDS
};

/* How policies ask the page map. */
struct policy_pages {
    /* State of a page; false: there is no such page (any more). */
    bool (*look)(void *arg, uint64_t page, struct policy_page *out);
    /* The next page with a replica on a node, in a rotation that visits all; false: none. */
    bool (*next_replica)(void *arg, unsigned node, uint64_t *page);
    /* Hears what came of a page that was looked at; may be NULL. */
    void (*told)(void *arg, uint64_t page, enum policy_why why);
};

/* Thresholds and limits.  Times in intervals.  numa/policy_tune.c lists them by name. */
struct policy_tune {
    uint32_t trigger;       /* misses by one node that make a page hot */
    uint32_t sharing;       /* misses by another node that make it a sharer */
    uint32_t write;         /* writes that keep a page from being replicated */
    uint32_t decay;         /* bits all counts lose per interval; 32: reset */
    uint32_t horizon;       /* how long use is believed to go on */
    uint32_t margin;        /* percent of its cost an action must gain */
    uint32_t dominate;      /* percent of a shared page's use that draw it to one node */
    uint32_t rest;          /* a page moves once in so many */
    uint32_t moves;         /* quick moves before a page is left alone */
    uint32_t freeze;        /* for so long, doubled each time */
    uint32_t collapses;     /* replicas lost at once before a page is left alone */
    uint32_t quick;         /* a move is quick within so many of the last */
    uint32_t gate;          /* permille of remote use below which nothing is done */
    uint32_t keep_free;     /* percent of a node's memory that replicas leave free */
    uint32_t low_free;      /* percent free below which replicas are evicted */
    uint32_t cpu;           /* permille of the guest's CPU time for actions, on average */
    uint32_t burst;         /* what was not used may be later, for so many intervals' worth */
    uint32_t examine;       /* cache lines of counts looked at per interval, as cpu; 0: all */
    uint32_t calm;          /* longest pause between two looks at a page that stays remote */
    uint32_t queue;         /* percent of a local miss that one waits where all are served */
    uint32_t carrefour_ibs; /* misses that one of Carrefour's samples stands for */
};

/* One of them by name. */
struct policy_knob {
    const char *name;       /* as in `disco replay --set NAME=VALUE` */
    size_t at;              /* offset in struct policy_tune */
    uint32_t min, max, def; /* range and default */
    const char *about;      /* one line */
};

/* All of them, ended by name == NULL. */
extern const struct policy_knob policy_knobs[];

/* All defaults. */
struct policy_tune policy_tune_default(void);

/* Sets one by name: 0, -ENOENT: no such name, -ERANGE: out of its range. */
int policy_tune_set(struct policy_tune *t, const char *name, uint64_t value);

/* ---- what policies say ---- */

enum act {
    ACT_NONE,      /* leave it */
    ACT_MIGRATE,   /* the master moves to node; the page has no replicas */
    ACT_REPLICATE, /* a replica on node, the master stays */
    ACT_COLLAPSE,  /* all replicas go; then the master moves to node, if it is elsewhere */
    ACT_EVICT,     /* the replica on node goes, others stay */
    ACT_KINDS
};

/* One thing to do. */
struct action {
    uint64_t page; /* gfn, perhaps with PAGE_BLOCK */
    uint32_t gain; /* us it is expected to save; what more useful actions have more of */
    uint8_t act;   /* enum act */
    uint8_t node;  /* index */
    uint8_t from;  /* the master's node, index */
    /* for choosing and for bills; of no meaning to who does it */
    uint8_t bucket : 5; /* log2 of gain over cost */
    bool had : 1;       /* a replica: the page had others when it was judged */
    bool further : 1;   /* a replica: the page has others when this one is made */
    bool evens : 1;     /* a move to a memory that is less busy, not to whom uses the page */
};

/* The guest's traffic in the last interval, all pages; all 0: not known, the policy guesses. */
struct policy_traffic {
    uint64_t at[TOPO_MAX_NODES]; /* misses served by each node's memory */
    uint64_t local;              /* of these, asked for by the same node */
    uint64_t writes;             /* of these, writes */
    bool part;                   /* of some pages; the others' comes in the next intervals */
    uint32_t span;   /* intervals that what was counted for a page is of, about; 0: 1 */
    uint32_t passed; /* intervals since the last one in which pages were looked at; 0: 1 */
};

/* An interval. */
struct policy_input {
    uint32_t now;                     /* its number; grows by 1 */
    uint64_t interval_ns;             /* its length */
    uint32_t cpus;                    /* of the guest: the budget is a share of their time */
    struct counters *counters;        /* what was seen; its list is taken, its counts aged */
    bool keep_age;                    /* the source ages the counters, by 1 bit at a time */
    const struct policy_pages *pages; /* page map */
    void *arg;                        /* for pages */
    uint64_t free[TOPO_MAX_NODES];    /* bytes the guest could get on each node */
    uint64_t total[TOPO_MAX_NODES];   /* bytes of each node */
    struct policy_traffic traffic;
};

/* What a policy has done so far. */
struct policy_numbers {
    uint64_t examined;       /* pages judged */
    uint64_t act[ACT_KINDS]; /* actions told */
    uint64_t cost_ns;        /* what they were to cost */
    uint64_t over_budget;    /* actions dropped: budget or room in the list */
    uint64_t no_memory;      /* dropped: no free memory */
    uint64_t not_worth;      /* candidates dropped: their run does not repay its cost */
    uint64_t resting;        /* pages passed over by L1 or L2 */
    uint64_t gated;          /* intervals in which all was quiet */
};

struct policy;
struct policy_judge;

/* A policy. */
struct policy_ops {
    const char *name, *about; /* for command lines; one line for people */
    uint64_t every_ns;        /* decides once in this time; 0: each interval */
    bool resets;              /* counts are forgotten after each decision, not aged */
    bool blind;               /* does not ask whether an action repays its cost */
    /* Node for a page that `toucher` touches first; `pages` in the guest. */
    unsigned (*home)(const struct policy *p, uint64_t page, uint64_t pages, unsigned toucher);
    /* Looks at the machine before pages are judged; false: nothing to do.  May be NULL. */
    bool (*begin)(struct policy *p, const struct policy_input *in);
    /* Judges one page: any number of judge_act().  NULL: pages stay. */
    void (*judge)(struct policy *p, struct policy_judge *j);
};

/* All policies; the first is the default. Ended by name == NULL. */
extern const struct policy_ops policies[];

/* By name; NULL: there is none. */
const struct policy_ops *policy_by_name(const char *name);

/* ---- using one ---- */

struct policy_hist; /* what was done to pages lately */

/* What actions cost here, against what the table says; forgotten by and by. */
struct policy_learnt {
    struct policy_cost table;  /* what is scaled; as it was when learning began */
    uint32_t percent;          /* costs now, of the table's; 0: nothing learnt yet */
    uint64_t told_ns, took_ns; /* sums by the table, and by the clock */
};

/* What an action gains by: the page is nearer to whom uses it, a reader has a copy of its own, or the
 * page's memory is less busy. */
enum gain { GAIN_NEARER, GAIN_COPY, GAIN_EVEN, GAIN_KINDS };

enum { OUTCOME_BETS = 96, OUTCOME_WHOLE = 1000 };

/* An action whose gain is to be looked for. */
struct policy_bet {
    uint64_t page;    /* what was acted on */
    int64_t expected; /* uses that tell, in the time that it lasts; more than 0 */
    int64_t got;      /* that were counted since, and */
    int64_t late;     /* of these, in the second half of the time that it lasts */
    int64_t before;   /* earlier ones that are counted again in got, as counts fade */
    uint32_t age;     /* intervals, up to the last one in which anything was counted */
    uint8_t node;     /* where it is, or has a replica */
    uint8_t from;     /* where its master was */
    uint8_t kind;     /* enum gain */
    bool open;
};

/* Which gains came. */
struct policy_outcome {
    struct policy_bet bet[OUTCOME_BETS];
    /* permille of gains that came while bets lasted, on average, and of those in their second half;
     * negative: more was lost */
    int32_t believed[GAIN_KINDS], lasting[GAIN_KINDS];
    uint32_t of[GAIN_KINDS];      /* bets open, by kind */
    uint32_t settled[GAIN_KINDS]; /* and closed, up to some */
    bool counted;                 /* something was, in this interval */
};

/* A policy at work for one guest. */
struct policy {
    const struct policy_ops *ops;
    const struct policy_machine *machine;
    struct policy_tune tune;
    struct policy_cost cost;       /* may be set before the first decision */
    struct policy_learnt learnt;   /* what actions cost here */
    struct policy_outcome outcome; /* which gains came */
    struct policy_hist *hist;      /* owned */
    struct policy_numbers numbers; /* since policy_init() */
    uint64_t since_ns;             /* time since the last decision, for ops->every_ns */
    uint64_t tokens;               /* ns of actions that may be done (L3) */
    uint64_t savings;              /* ns, most that tokens can be */
    uint64_t move_ns;              /* of a move in this interval, its share of a batch in it */
    uint64_t looks;                /* cache lines of counts that may be looked at */
    struct counters *counters;     /* of the last interval; the caller's */
    uint32_t fade;                 /* bits that counts lose per interval */
    uint32_t span;                 /* intervals between two looks at a page; not 0 */
    uint64_t wanted;               /* Carrefour: replications asked for so far */
    bool replicate, interleave, migrate; /* Carrefour: what the machine's state allows */
    uint64_t load[TOPO_MAX_NODES]; /* misses served by each node, with what was asked for, */
    uint64_t load_all;             /* and by all; 0: not known */
    uint64_t part[TOPO_MAX_NODES]; /* the same of pages looked at since, if not all have been */
    bool shifted;                  /* pages were to move in the midst of a look */
    unsigned idlest;               /* serves least and has room; TOPO_MAX_NODES: none does */
    uint64_t left[TOPO_MAX_NODES]; /* bytes still free, during policy_decide() */
    uint64_t random;               /* state of a generator; never 0 */
    uint8_t order[TOPO_MAX_NODES][TOPO_MAX_NODES]; /* of [node]: nodes, nearest first */
};

/* Starts one; machine stays the caller's.  tune may be NULL: defaults; costs are the default.
 * `pages` is how many pages' history is kept (rounded up to a power of two).  0 or -ENOMEM. */
int policy_init(struct policy *p, const struct policy_ops *ops,
                const struct policy_machine *machine, const struct policy_tune *tune,
                uint32_t pages);

/* Ends it. */
void policy_exit(struct policy *p);

/* Node for a page touched first by a vCPU of node `toucher`, of a guest of `pages` pages. */
unsigned policy_home(const struct policy *p, uint64_t page, uint64_t pages, unsigned toucher);

/* Decides on an interval; writes at most `most` actions, in the order of policy_order(), and returns
 * how many. */
unsigned policy_decide(struct policy *p, const struct policy_input *in, struct action *out,
                       unsigned most);

/* A write took away all replicas of a page in interval `now`. */
void policy_collapsed(struct policy *p, uint64_t page, uint32_t now);

/* A page that was to be replicated was written before it was: as if its replica had been lost at
 * once. */
void policy_written(struct policy *p, uint64_t page, uint32_t now);

/* An action that was told could not be done: the page is not tried again for tune.rest. */
void policy_failed(struct policy *p, uint64_t page, uint32_t now);

/* ---- what actions cost: policy_run.c ---- */

/* First gfn that an action means, and how many pages. */
static inline uint64_t action_gfn(const struct action *a)
{
    return a->page & ~PAGE_BLOCK;
}

static inline uint64_t action_pages(const struct action *a)
{
    return a->page & PAGE_BLOCK ? PAGEMAP_BLOCK : 1;
}

/* Orders actions so that those of a run are neighbours, and those of a batch: by kind, evictions
 * first, which free memory; blocks that move behind all else, node, address. */
void policy_order(struct action *a, unsigned n);

/* The run that begins with the first of n > 0 actions: how many they are; *pages: and their pages
 * from action_gfn(a) on. */
unsigned policy_run(const struct action *a, unsigned n, uint64_t *pages);

/* Does an action move a page in a batch with others?  (A collapse that moves is not counted on:
 * no policy asks for one.) */
bool policy_batched(const struct policy_cost *c, const struct action *a);

/* Permille of what actions of a kind gain within tune.horizon that is expected to come. */
unsigned policy_believed(const struct policy *p, enum gain kind);

/* What an action on a page costs within a run, however long, ns: of replicas the first. */
uint64_t policy_cost_of(const struct policy_cost *c, enum act act, uint64_t page);

/* The same of a replica of a page that has others. */
uint64_t policy_cost_further(const struct policy_cost *c, uint64_t page);

/* What actions cost that are done one after the other. */
struct policy_bill {
    const struct policy_cost *cost;
    struct action last; /* the last one; ACT_NONE: there was none */
    uint32_t moved;     /* pages in the batch that it was in */
    uint64_t begun;     /* runs and batches so far */
};

/* Adds an action; what it costs, with what it begins, ns. */
uint64_t policy_bill(struct policy_bill *b, const struct action *a);

/* The same costs times percent / 100, but for those of sampling. */
struct policy_cost policy_cost_scaled(const struct policy_cost *c, unsigned percent);

/* In an interval actions that were to cost so much took so much of CPU time: costs follow, so that a
 * host on which actions are dear does fewer.  Between a quarter of what the table says and 256 times that;
 * while nothing is done (0) they go back to the table's by and by. */
void policy_learn(struct policy *p, uint64_t told_ns, uint64_t took_ns);

/* What a write to a page with replicas costs, ns. */
uint64_t policy_cost_broken(const struct policy_cost *c, uint64_t page);

#endif
