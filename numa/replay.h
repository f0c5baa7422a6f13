/* SPDX-License-Identifier: MIT */
/*
 * Replay: a policy at work on a workload and a machine, without a guest.  The same
 * policy_decide(), counters and sampler that a live guest's pager uses; what is made up is
 * the page map, the cost of an access (its latency) and of an action (struct policy_cost).
 *
 * In each interval every active page is used as the workload says; a page with replicas is
 * read from the nearest copy until its first write, which collapses it.  What the policy sees
 * comes from one of two sources: `flash`, every miss, as FLASH's counters saw it; or
 * `faults`, the first touch by each node of the pages the sampler revoked, after a time that
 * is random by the page's rate. Modelled time is that of all CPUs: computing, stalls, actions
 * and sample faults.  Queues are not modelled: a memory serves all at its latency. Threads:
 * one for each call; nothing outside the arguments is written.
 */
#ifndef DISCO_NUMA_REPLAY_H
#define DISCO_NUMA_REPLAY_H

#include "numa/policy.h"
#include "numa/workload.h"

struct replay_machine;

struct err;

enum replay_source { REPLAY_FLASH, REPLAY_FAULTS };

/* What is to be replayed. */
struct replay_setup {
    const struct replay_machine *machine;
    const struct workload *workload; /* for the same number of nodes */
    const struct policy_ops *policy;
    struct policy_tune tune;
    struct policy_cost cost;
    enum replay_source source;
    uint32_t sample_share; /* permille of CPU time for sampling, faults only */
    bool causes;           /* ask the policy why it leaves pages alone; costs it some time */
    uint32_t counted;      /* pages the counters have room for; 0: a default */
};

/* Why a policy does worse than if all were local. */
enum replay_loss {
    LOSS_NEW,     /* stall: a node began to use a page, an interval ago at most */
    LOSS_UNSEEN,  /* stall: the page was not looked at yet */
    LOSS_CHOICE,  /* stall: nothing that could be done repays */
    LOSS_LIMIT,   /* stall: the page is left alone (L1, L2) */
    LOSS_BUDGET,  /* stall: no CPU time left (L3) */
    LOSS_MEMORY,  /* stall: no memory left (L4) */
    LOSS_ACTIONS, /* work: actions */
    LOSS_BROKEN,  /* work: collapses by writes */
    LOSS_SAMPLES, /* work: sampling */
    LOSS_KINDS
};

/* Their names, for people. */
extern const char *const replay_loss_names[LOSS_KINDS];

/* One class of pages. */
struct replay_part {
    uint64_t accesses, local;   /* misses, and those served by the same node */
    uint64_t stall_ns, work_ns; /* waiting for memory; actions and forced collapses */
};

/* What came of it.  Times in ns, all CPUs together unless said otherwise. */
struct replay_result {
    uint64_t accesses, local;      /* misses, and those served by the same node */
    uint64_t stall_ns, compute_ns; /* waiting for memory, computing */
    uint64_t work_ns;              /* actions, forced collapses */
    uint64_t sample_ns;            /* sample faults and revocations */
    uint64_t act[ACT_KINDS];       /* actions done */
    uint64_t runs;                 /* runs and batches that actions were done in */
    uint64_t failed;               /* actions that could not be done */
    uint64_t forced;               /* collapses by writes */
    uint64_t replicas_most;        /* replicas at one time, at most */
    uint64_t samples;              /* sampled touches */
    uint64_t decide_ns,
        decide_most;         /* this computer's CPU time in policy_decide(): in all, longest */
    uint64_t count_ns;       /* the same, in counters and sampler */
    uint64_t counters_bytes; /* memory of the counters */
    uint64_t guest_ns;       /* the workload's own length, of each CPU */
    struct policy_numbers numbers; /* the policy's own */
    uint64_t loss_ns[LOSS_KINDS];  /* stall above that of local memory, and work, by cause;
                                    * without setup.causes some is under LOSS_UNSEEN */
    struct replay_part part[WORKLOAD_CLASSES]; /* by class of pages */
};

/* Replays.  0 or -errno: EXIT_MEMORY when the guest does not fit the machine, or we lack
 * memory. */
int replay_run(const struct replay_setup *s, struct replay_result *r, struct err *err);

/* Default set-up: all but machine, workload and policy. */
struct replay_setup replay_setup_default(void);

/* Modelled time, of all CPUs together. */
uint64_t replay_time(const struct replay_result *r);

/* Bytes of a machine's node: as it says, or half as much again as the guest needs, divided. */
uint64_t replay_node_bytes(const struct replay_machine *m, const struct workload *w);

#endif
