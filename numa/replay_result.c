/* SPDX-License-Identifier: MIT */
/*
 * What is said about a replay: its defaults before, sums and names after; see replay.h.  No state.
 */
#include "numa/replay.h"

#include "numa/replay_machine.h"

struct replay_setup replay_setup_default(void)
{
    return (struct replay_setup){.policy = &policies[0],
                                 .tune = policy_tune_default(),
                                 .cost = policy_cost_default,
                                 .sample_share = 10};
}

uint64_t replay_time(const struct replay_result *r)
{
    return r->compute_ns + r->stall_ns + r->work_ns + r->sample_ns;
}

uint64_t replay_node_bytes(const struct replay_machine *m, const struct workload *w)
{
    uint64_t guest = w->units * workload_bytes(w);

    if (m->node_bytes)
        return m->node_bytes;
    return (guest / 2 * 3 / m->lat.nnodes + (2 << 20)) & ~UINT64_C(0x1fffff);
}

const char *const replay_loss_names[LOSS_KINDS] = {
    [LOSS_NEW] = "a node began to use a page",
    [LOSS_UNSEEN] = "not looked at yet",
    [LOSS_CHOICE] = "nothing that repays",
    [LOSS_LIMIT] = "left alone (L1, L2)",
    [LOSS_BUDGET] = "no CPU time left (L3)",
    [LOSS_MEMORY] = "no memory left (L4)",
    [LOSS_ACTIONS] = "actions",
    [LOSS_BROKEN] = "collapses by writes",
    [LOSS_SAMPLES] = "sampling",
};
