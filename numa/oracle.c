/* SPDX-License-Identifier: MIT */
/*
 * The offline oracle: see oracle.h.
 */
#include "numa/oracle.h"

#include <string.h>

/* A way to have come here. */
struct path {
    uint64_t ns;    /* cost so far */
    uint64_t local; /* local misses so far */
};

/* One page's search. */
struct search {
    const struct policy_machine *m;
    uint64_t migrate, replicate, collapse; /* ns */
    unsigned n;                            /* entries of node, at and begin */
    unsigned node[ORACLE_NODES + 1];  /* where the master may be; [0]: where it is at first */
    struct path at[ORACLE_NODES + 1]; /* best way to have the only copy there now */
    struct path begin[ORACLE_NODES + 1]; /* the same when the stretch began */
    uint64_t stretch[TOPO_MAX_NODES];    /* reads by node in the stretch */
    uint64_t total[TOPO_MAX_NODES];      /* use by node in all of the time */
};

/* Sums of all of a page's use. */
static uint64_t sum_up(struct search *s, const struct workload *w, uint32_t k)
{
    struct page_use use;
    uint64_t all = 0;

    for (uint32_t t = 0; t < w->intervals; t++) {
        w->ops->use(w, k, t, &use);
        for (unsigned i = 0; i < use.n; i++) {
            uint64_t n = (uint64_t)use.use[i].reads + use.use[i].writes;

            s->total[use.use[i].node] += n;
            all += n;
        }
    }
    return all;
}

/* Picks the nodes the master may be on. */
static void pick_nodes(struct search *s, unsigned first)
{
    uint64_t left[TOPO_MAX_NODES];

    memcpy(left, s->total, sizeof(left));
    s->node[0] = first;
    left[first] = 0;
    for (s->n = 1; s->n <= ORACLE_NODES; s->n++) {
        unsigned best = 0;

        for (unsigned i = 1; i < s->m->nnodes; i++)
            if (left[i] > left[best])
                best = i;
        if (!left[best])
            break;
        s->node[s->n] = best;
        left[best] = 0;
    }
}

/* Stall if all of the page's use went to one node. */
static uint64_t stall_at(const struct search *s, unsigned node)
{
    uint64_t ns = 0;

    for (unsigned i = 0; i < s->m->nnodes; i++)
        ns += s->total[i] * s->m->ns[i][node];
    return ns;
}

/* The best way to be at entry c if one may move there now from any. */
static struct path best_to(const struct search *s, const struct path *from, unsigned c)
{
    struct path best = from[c];

    for (unsigned i = 0; i < s->n; i++)
        if (from[i].ns + s->migrate < best.ns) {
            best = from[i];
            best.ns += s->migrate;
        }
    return best;
}

/* One interval with a single copy. */
static void step_single(struct search *s, const struct page_use *use)
{
    struct path next[ORACLE_NODES + 1] = {{0, 0}};

    for (unsigned c = 0; c < s->n; c++) {
        next[c] = best_to(s, s->at, c);
        for (unsigned i = 0; i < use->n; i++) {
            const struct node_use *u = &use->use[i];
            uint64_t n = (uint64_t)u->reads + u->writes;

            next[c].ns += n * s->m->ns[u->node][s->node[c]];
            if (u->node == s->node[c])
                next[c].local += n;
        }
    }
    memcpy(s->at, next, sizeof(next));
}

/* A stretch without writes ends: perhaps it was better replicated. */
static void end_stretch(struct search *s, bool collapse)
{
    for (unsigned c = 0; c < s->n; c++) {
        struct path way = best_to(s, s->begin, c);
        unsigned master = s->node[c], copies = 0;

        for (unsigned i = 0; i < s->m->nnodes; i++) {
            uint64_t afar = s->stretch[i] * s->m->ns[i][master];
            uint64_t near = s->stretch[i] * s->m->ns[i][i] + s->replicate;

            if (i != master && near < afar)
                copies++;
            way.ns += i != master && near < afar ? near : afar;
            way.local += i == master || near < afar ? s->stretch[i] : 0;
        }
        way.ns += collapse && copies ? s->collapse : 0;
        if (way.ns < s->at[c].ns)
            s->at[c] = way;
    }
}

/* A stretch begins. */
static void begin_stretch(struct search *s)
{
    memcpy(s->begin, s->at, sizeof(s->at));
    memset(s->stretch, 0, sizeof(s->stretch));
}

/* Does anybody write? */
static bool written(const struct page_use *use)
{
    for (unsigned i = 0; i < use->n; i++)
        if (use->use[i].writes)
            return true;
    return false;
}

/* Goes through all intervals. */
static void walk(struct search *s, const struct workload *w, uint32_t k)
{
    bool hidden = w->ops->hidden(w, k);
    struct page_use use;

    for (unsigned c = 0; c < s->n; c++)
        s->at[c] = (struct path){c ? s->migrate : 0, 0};
    begin_stretch(s);
    for (uint32_t t = 0; t < w->intervals; t++) {
        bool ends;

        w->ops->use(w, k, t, &use);
        if (!use.n)
            continue;
        ends = hidden || written(&use);
        if (ends)
            end_stretch(s, true);
        step_single(s, &use);
        if (ends)
            begin_stretch(s);
        for (unsigned i = 0; i < use.n && !ends; i++)
            s->stretch[use.use[i].node] += use.use[i].reads;
    }
    end_stretch(s, false);
}

void oracle_page(struct oracle_result *r, const struct workload *w, uint32_t k,
                 const struct policy_machine *m, const struct policy_cost *cost)
{
    struct search s = {.m = m};
    uint64_t page = workload_page(w, k), still = UINT64_MAX, all;
    struct path best;

    s.migrate = policy_cost_of(cost, ACT_MIGRATE, page);
    s.replicate = policy_cost_of(cost, ACT_REPLICATE, page);
    s.collapse = policy_cost_broken(cost, page);
    all = sum_up(&s, w, k);
    if (!all)
        return;
    pick_nodes(&s, w->ops->toucher(w, k));
    walk(&s, w, k);
    best = s.at[0];
    for (unsigned c = 1; c < s.n; c++)
        if (s.at[c].ns < best.ns)
            best = s.at[c];
    for (unsigned i = 0; i < m->nnodes; i++) {
        uint64_t ns = stall_at(&s, i);

        still = ns < still ? ns : still;
        r->bound_ns += s.total[i] * m->ns[i][i];
    }
    r->accesses += all;
    r->ns += best.ns;
    r->local += best.local;
    r->static_ns += still;
    r->first_ns += stall_at(&s, s.node[0]);
}

void oracle_run(struct oracle_result *r, const struct workload *w,
                const struct policy_machine *m, const struct policy_cost *cost)
{
    *r = (struct oracle_result){0};
    for (uint32_t k = 0; k < w->active; k++)
        oracle_page(r, w, k, m, cost);
}
