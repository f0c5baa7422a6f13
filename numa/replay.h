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
#include "numa/replay_machine.h"
#include "numa/workload.h"

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
    uint32_t counted;      /* pages the counters have room for; 0: a default */
};

/* What came of it.  Times in ns, all CPUs together unless said otherwise. */
struct replay_result {
    uint64_t accesses, local;      /* misses, and those served by the same node */
    uint64_t stall_ns, compute_ns; /* waiting for memory, computing */
    uint64_t work_ns;              /* actions, forced collapses */
    uint64_t sample_ns;            /* sample faults and revocations */
    uint64_t act[ACT_KINDS];       /* actions done */
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
