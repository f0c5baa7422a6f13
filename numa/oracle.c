/* SPDX-License-Identifier: MIT */
/*
 * The offline oracle: see oracle.h.
 */
#include "numa/oracle.h"

#include <string.h>

#include "base/err.h"

#define NEVER (UINT64_MAX / 4)

/* A way to have come here. */
struct path {
    uint64_t ns;    /* cost so far */
    uint64_t local; /* local misses so far */
};

/* One page's search. */
struct search {
    const struct policy_machine *m;
    bool delayed;                                  /* nodes are known an interval late */
    uint64_t migrate, replicate, collapse, broken; /* ns */
    uint64_t further;                              /* ns, a replica beside the first */
    unsigned n;                                    /* entries of node, at and begin */
    unsigned node[ORACLE_NODES + 1];  /* where the master may be; [0]: where it is at first */
    struct path at[ORACLE_NODES + 1]; /* best way to have the only copy there now */
    struct path begin[ORACLE_NODES + 1]; /* the same when the stretch began */
    uint64_t known;                   /* nodes that used the page in its last interval of use */
    uint64_t known_then;              /* the same when the stretch began */
    uint64_t open;                    /* nodes that may have a copy by now, in the stretch */
    uint64_t early[TOPO_MAX_NODES];   /* reads by node in the stretch, before it may */
    uint64_t stretch[TOPO_MAX_NODES]; /* reads by node in the stretch, later ones */
    uint64_t total[TOPO_MAX_NODES];   /* use by node in all of the time */
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

/* The best way to be at entry c if one may move there now from any, by what is known. */
static struct path best_to(const struct search *s, const struct path *from, unsigned c,
                           uint64_t known)
{
    struct path best = from[c];

    for (unsigned i = 0; i < s->n && known >> s->node[c] & 1; i++)
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
        next[c] = best_to(s, s->at, c, s->known);
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

/* Use of the interval of a write that comes before it. */
static void part_before(const struct page_use *use, bool hidden, uint64_t *before)
{
    uint64_t writes = 0;

    for (unsigned i = 0; i < use->n; i++)
        writes += use->use[i].writes;
    for (unsigned i = 0; i < use->n && !hidden; i++)
        before[use->use[i].node] =
            ((uint64_t)use->use[i].reads + use->use[i].writes) / (writes + 1);
}

/* The stretch as replicated, with the master at entry c all the time, and the part of the write's
 * interval before it; what ends it costs `ending`, if there are copies. */
static struct path replicated(const struct search *s, unsigned c, const uint64_t *before,
                              uint64_t ending)
{
    struct path way = best_to(s, s->begin, c, s->known_then);
    unsigned master = s->node[c], copies = 0;

    for (unsigned i = 0; i < s->m->nnodes; i++) {
        uint64_t n = s->stretch[i] + (s->open >> i & 1 ? before[i] : 0);
        uint64_t rest = s->early[i] + (s->open >> i & 1 ? 0 : before[i]);
        uint64_t afar = n * s->m->ns[i][master], near = n * s->m->ns[i][i] + s->further;
        bool copied = i != master && near < afar;

        copies += copied;
        way.ns += (copied ? near : afar) + rest * s->m->ns[i][master];
        way.local += (i == master || copied ? n : 0) + (i == master ? rest : 0);
    }
    way.ns += copies ? s->replicate - s->further + ending : 0;
    return way;
}

/* Adds the rest of the write's interval, the master where it is. */
static void add_rest(const struct search *s, struct path *way, unsigned c,
                     const struct page_use *use, const uint64_t *before)
{
    unsigned master = s->node[c];

    for (unsigned i = 0; i < use->n; i++) {
        unsigned node = use->use[i].node;
        uint64_t n = (uint64_t)use->use[i].reads + use->use[i].writes - before[node];

        way->ns += n * s->m->ns[node][master];
        way->local += node == master ? n : 0;
    }
}

/* The better of two ways. */
static struct path better(struct path a, struct path b)
{
    return b.ns < a.ns ? b : a;
}

/* A stretch without writes ends, by an interval in which somebody writes or at the end of all
 * (use->n = 0): perhaps it was better replicated, until the write breaks it or, that being
 * foreseen, until a collapse when its interval begins.  Goes on behind that interval. */
static void end_stretch(struct search *s, const struct page_use *use, bool hidden)
{
    uint64_t before[TOPO_MAX_NODES] = {0};
    struct path way[ORACLE_NODES + 1] = {{0, 0}};

    for (unsigned c = 0; c < s->n; c++)
        s->at[c] = better(s->at[c], replicated(s, c, before, use->n ? s->collapse : 0));
    if (!use->n)
        return;
    part_before(use, hidden, before);
    for (unsigned c = 0; c < s->n; c++) {
        way[c] = replicated(s, c, before, s->broken);
        add_rest(s, &way[c], c, use, before);
    }
    step_single(s, use);
    for (unsigned c = 0; c < s->n; c++)
        s->at[c] = better(s->at[c], way[c]);
}

/* A stretch begins. */
static void begin_stretch(struct search *s)
{
    memcpy(s->begin, s->at, sizeof(s->at));
    memset(s->stretch, 0, sizeof(s->stretch));
    memset(s->early, 0, sizeof(s->early));
    s->known_then = s->known;
    s->open = s->known;
}

/* Adds an interval to a stretch: a node may have a copy once it is known to read. */
static void add_stretch(struct search *s, const struct page_use *use)
{
    for (unsigned i = 0; i < use->n; i++) {
        unsigned node = use->use[i].node;

        if (s->open >> node & 1)
            s->stretch[node] += use->use[i].reads;
        else
            s->early[node] += use->use[i].reads;
    }
}

/* What is known after an interval. */
static void learn(struct search *s, const struct page_use *use)
{
    if (!s->delayed)
        return;
    s->known = 0;
    for (unsigned i = 0; i < use->n; i++)
        s->known |= UINT64_C(1) << use->use[i].node;
    s->open |= s->known;
}

/* Does anybody write? */
static bool written(const struct page_use *use)
{
    for (unsigned i = 0; i < use->n; i++)
        if (use->use[i].writes)
            return true;
    return false;
}

/* Goes through all intervals; the least cost. */
static struct path walk(struct search *s, const struct workload *w, uint32_t k)
{
    bool hidden = w->ops->hidden(w, k);
    struct page_use use = {.n = 0};
    struct path best;

    s->known = s->delayed ? 0 : UINT64_MAX;
    for (unsigned c = 0; c < s->n; c++)
        s->at[c] = (struct path){!c ? 0 : s->delayed ? NEVER : s->migrate, 0};
    begin_stretch(s);
    for (uint32_t t = 0; t < w->intervals; t++) {
        w->ops->use(w, k, t, &use);
        if (!use.n)
            continue;
        if (hidden || written(&use)) {
            end_stretch(s, &use, hidden);
            learn(s, &use);
            begin_stretch(s);
            continue;
        }
        step_single(s, &use);
        add_stretch(s, &use);
        learn(s, &use);
    }
    use.n = 0;
    end_stretch(s, &use, false);
    best = s->at[0];
    for (unsigned c = 1; c < s->n; c++)
        best = better(best, s->at[c]);
    return best;
}

void oracle_page(struct oracle_result *r, const struct workload *w, uint32_t k,
                 const struct policy_machine *m, const struct policy_cost *cost)
{
    struct search s = {.m = m};
    uint64_t page = workload_page(w, k), still = UINT64_MAX, all;
    struct path best;

    s.migrate = policy_cost_of(cost, ACT_MIGRATE, page);
    s.replicate = policy_cost_of(cost, ACT_REPLICATE, page);
    s.further = policy_cost_further(cost, page);
    s.collapse = policy_cost_of(cost, ACT_COLLAPSE, page);
    s.broken = policy_cost_broken(cost, page);
    INVARIANT(s.further <= s.replicate,
              "oracle: a further replica costs no more than the first");
    all = sum_up(&s, w, k);
    if (!all)
        return;
    pick_nodes(&s, w->ops->toucher(w, k));
    best = walk(&s, w, k);
    s.delayed = true;
    r->delayed_ns += walk(&s, w, k).ns;
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

/* Adds one result to another. */
static void add(struct oracle_result *to, const struct oracle_result *r)
{
    to->accesses += r->accesses;
    to->ns += r->ns;
    to->local += r->local;
    to->delayed_ns += r->delayed_ns;
    to->first_ns += r->first_ns;
    to->static_ns += r->static_ns;
    to->bound_ns += r->bound_ns;
}

void oracle_run(struct oracle_result *r, const struct workload *w,
                const struct policy_machine *m, const struct policy_cost *cost,
                struct oracle_result *by_class)
{
    *r = (struct oracle_result){0};
    for (unsigned i = 0; by_class && i < WORKLOAD_CLASSES; i++)
        by_class[i] = *r;
    for (uint32_t k = 0; k < w->active; k++) {
        struct oracle_result one = {0};

        oracle_page(&one, w, k, m, cost);
        add(r, &one);
        if (by_class)
            add(&by_class[workload_class_of(w, k)], &one);
    }
}
