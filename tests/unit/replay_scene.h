/* SPDX-License-Identifier: MIT */
/*
 * A machine, a load and what the oracle makes of it, for the tests of replay.  Threads: one.
 */
#ifndef DISCO_TESTS_UNIT_REPLAY_SCENE_H
#define DISCO_TESTS_UNIT_REPLAY_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "numa/oracle.h"
#include "numa/replay.h"
#include "numa/replay_machine.h"

#include <cmocka.h> /* last: its fail() is a macro */

/* A machine and a workload that must be right. */
struct scene {
    struct replay_machine m;
    struct workload w;
    struct oracle_result best;
};

static inline void scene(struct scene *s, const char *machine, const char *load)
{
    struct err err = {0};

    if (replay_machine_read(&s->m, machine, &err) ||
        workload_read(&s->w, load, s->m.lat.nnodes, &err))
        fail_msg("%s", err.text);
    workload_fit(&s->w, s->m.cpus, s->m.lat.ns[0][0]);
    oracle_run(&s->best, &s->w, &s->m.lat, &policy_cost_default, NULL);
}

/* Replays a policy, by either source. */
static inline struct replay_result play(const struct scene *s, const char *policy,
                                        enum replay_source source)
{
    struct replay_setup set = replay_setup_default();
    struct replay_result r;
    struct err err = {0};

    set.machine = &s->m;
    set.workload = &s->w;
    set.policy = policy_by_name(policy);
    set.source = source;
    if (replay_run(&set, &r, &err))
        fail_msg("%s", err.text);
    return r;
}

/* The oracle's cost over the policy's. */
static inline double share(const struct scene *s, const struct replay_result *r)
{
    return (double)s->best.ns / (double)(r->stall_ns + r->work_ns + r->sample_ns);
}

#endif
