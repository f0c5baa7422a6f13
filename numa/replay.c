/* SPDX-License-Identifier: MIT */
/*
 * Replay: see replay.h.  The page map here is one struct page for each active page.
 */
#include "numa/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "numa/replay_machine.h"
#include "numa/sampler.h"

enum {
    NOWHERE = 255,      /* home of a page not yet touched */
    BATCH = 4096,       /* counts handed over at once */
    COUNTED = 1 << 18,  /* pages the counters have room for */
    HISTORY = 1 << 18,  /* pages whose history is kept */
    ACTIONS = 1 << 16,  /* room for candidates of one interval */
    WEIGHT_MOST = 4096, /* of one sample */
    REVOKE_NS = 500,    /* of one page in all views, batched */
    LEAST_SAMPLED = 64, /* pages per interval when all is quiet */
};

/* An active page. */
struct page {
    uint64_t replicas; /* bit n: node n has one */
    uint64_t users;    /* bit n: node n used it in its last interval of use */
    uint32_t sampled;  /* interval for which it was revoked, +1 */
    uint8_t home;      /* node, NOWHERE: not touched yet */
    uint8_t why;       /* enum policy_why: what came of the last look at it */
    uint8_t part;      /* class */
};

/* One count on its way. */
struct count {
    uint64_t page;
    struct node_use use;
};

/* A replay. */
struct replay {
    const struct replay_setup *s;
    const struct workload *w;
    const struct policy_machine *m;
    struct replay_result *r;
    struct page *page;                 /* active pages */
    uint64_t free[TOPO_MAX_NODES];     /* bytes */
    uint64_t node_bytes;               /* of each node */
    uint64_t replicas[TOPO_MAX_NODES]; /* on each node */
    uint32_t cursor[TOPO_MAX_NODES];   /* next_replica()'s place */
    uint64_t replicas_now;             /* in all */
    struct policy policy;
    struct counters counters;
    struct sampler sampler;
    struct sampler_found found;    /* in this interval */
    struct policy_traffic traffic; /* in this interval */
    struct count batch[BATCH];
    unsigned batched;      /* entries of batch */
    struct action *action; /* ACTIONS entries */
    uint64_t random;       /* of sampling */
    uint32_t now;          /* interval */
    uint32_t aged;         /* interval in which sampled counts were aged */
};

/* This thread's CPU time, ns. */
static uint64_t cpu_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- the page map ---- */

/* Active page of a policy's page number, UINT32_MAX: none. */
static uint32_t active_of(const struct replay *p, uint64_t page)
{
    uint64_t unit = page & PAGE_BLOCK ? (page & ~PAGE_BLOCK) >> 9 : page;

    return unit < p->w->units ? p->w->ops->active(p->w, unit) : UINT32_MAX;
}

/* struct policy_pages.look */
static bool look(void *arg, uint64_t page, struct policy_page *out)
{
    const struct replay *p = arg;
    uint32_t k = active_of(p, page);

    if (k == UINT32_MAX || p->page[k].home == NOWHERE)
        return false;
    *out = (struct policy_page){.replicas = p->page[k].replicas, .home = p->page[k].home};
    return true;
}

/* struct policy_pages.next_replica */
static bool next_replica(void *arg, unsigned node, uint64_t *page)
{
    struct replay *p = arg;

    for (uint32_t i = 0; i < p->w->active && p->replicas[node]; i++) {
        uint32_t k = p->cursor[node];

        p->cursor[node] = (k + 1) % p->w->active;
        if (p->page[k].replicas >> node & 1) {
            *page = workload_page(p->w, k);
            return true;
        }
    }
    return false;
}

/* struct policy_pages.told */
static void told(void *arg, uint64_t page, enum policy_why why)
{
    struct replay *p = arg;
    uint32_t k = active_of(p, page);

    if (k != UINT32_MAX)
        p->page[k].why = (uint8_t)why;
}

static const struct policy_pages page_map = {look, next_replica, NULL};
static const struct policy_pages page_map_told = {look, next_replica, told};

/* Takes memory of a node; false: it is full. */
static bool take(struct replay *p, unsigned node)
{
    uint64_t bytes = workload_bytes(p->w);

    if (p->free[node] < bytes)
        return false;
    p->free[node] -= bytes;
    return true;
}

/* Drops a replica. */
static void drop(struct replay *p, struct page *g, unsigned node)
{
    g->replicas &= ~(UINT64_C(1) << node);
    p->replicas[node]--;
    p->replicas_now--;
    p->free[node] += workload_bytes(p->w);
}

/* Drops all replicas. */
static void drop_all(struct replay *p, struct page *g)
{
    while (g->replicas)
        drop(p, g, (unsigned)__builtin_ctzll(g->replicas));
}

/* Moves a master. */
static bool move(struct replay *p, struct page *g, unsigned node)
{
    if (g->home == node)
        return true;
    if (!take(p, node))
        return false;
    p->free[g->home] += workload_bytes(p->w);
    g->home = (uint8_t)node;
    return true;
}

/* Makes a replica. */
static bool copy(struct replay *p, struct page *g, unsigned node)
{
    if (g->home == node || (g->replicas >> node & 1) || !take(p, node))
        return false;
    g->replicas |= UINT64_C(1) << node;
    p->replicas[node]++;
    if (++p->replicas_now > p->r->replicas_most)
        p->r->replicas_most = p->replicas_now;
    return true;
}

/* Does one action; false: it could not be done. */
static bool act(struct replay *p, const struct action *a)
{
    uint32_t k = active_of(p, a->page);
    struct page *g;

    if (k == UINT32_MAX)
        return false;
    g = &p->page[k];
    switch ((enum act)a->act) {
    case ACT_MIGRATE:
        return !g->replicas && move(p, g, a->node);
    case ACT_REPLICATE:
        return copy(p, g, a->node);
    case ACT_COLLAPSE:
        drop_all(p, g);
        return move(p, g, a->node);
    case ACT_EVICT:
        if (!(g->replicas >> a->node & 1))
            return false;
        drop(p, g, a->node);
        return true;
    case ACT_NONE:
    case ACT_KINDS:
        break;
    }
    return false;
}

/* Gives a page its first place: where the policy says, or the nearest node with room. */
static void settle(struct replay *p, uint32_t k)
{
    unsigned toucher = p->w->ops->toucher(p->w, k), best = p->m->nnodes;
    unsigned home = policy_home(&p->policy, workload_page(p->w, k),
                                p->w->block ? p->w->units << 9 : p->w->units, toucher);

    for (unsigned i = 0; i < p->m->nnodes; i++)
        if (p->free[i] >= workload_bytes(p->w) &&
            (best == p->m->nnodes || p->m->ns[home][i] < p->m->ns[home][best]))
            best = i;
    INVARIANT(best < p->m->nnodes && take(p, best), "replay: the guest fits the machine");
    p->page[k].home = (uint8_t)best;
}

/* ---- use ---- */

/* Hands the batch of counts over. */
static void flush(struct replay *p)
{
    uint64_t began = cpu_ns();

    for (unsigned i = 0; i < p->batched; i++)
        counters_add(&p->counters, p->batch[i].page, p->batch[i].use.node, p->batch[i].use);
    p->batched = 0;
    p->r->count_ns += cpu_ns() - began;
}

/* Counts a node's use of a page. */
static void count(struct replay *p, uint64_t page, const struct node_use *u)
{
    p->batch[p->batched++] = (struct count){page, *u};
    if (p->batched == BATCH)
        flush(p);
}

/* A number in (0, 1]. */
static double random_part(struct replay *p)
{
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return (double)((p->random >> 11) + 1) / 9007199254740993.0;
}

/* -ln(x) of a number in (0, 1]: halvings, then the series of atanh. */
static double minus_log(double x)
{
    double sum = 0, z, term;

    while (x < 0.5) {
        x *= 2;
        sum += 0.69314718055994531;
    }
    z = (1 - x) / (1 + x);
    term = z;
    for (int i = 1; i < 16; i += 2, term *= z * z)
        sum += 2 * term / i;
    return sum;
}

/* A node may touch a page that was revoked: one sample. */
static void sample(struct replay *p, uint32_t k, const struct page_use *use, unsigned i)
{
    const struct node_use *u = &use->use[i];
    double n = (double)u->reads + u->writes, after = minus_log(random_part(p)) / n;
    bool write = random_part(p) * n <= u->writes;
    struct node_use got = {.node = u->node};
    uint32_t weight;

    if (after > 1) /* not in this interval */
        return;
    weight = sampler_weight(p->w->interval_ns, (uint64_t)(after * (double)p->w->interval_ns),
                            WEIGHT_MOST);
    got.reads = write ? 0 : weight;
    got.writes = write ? weight : 0;
    count(p, use->page, &got);
    p->r->samples++;
    p->r->sample_ns += p->s->cost.sample;
    if (p->page[k].home == u->node || (p->page[k].replicas >> u->node & 1)) {
        p->found.local++;
    } else {
        p->found.remote++;
        if (i == 0)
            sampler_again(&p->sampler, p->w->ops->unit(p->w, k));
    }
}

/* What the policy sees of a page's use. */
static void observe(struct replay *p, uint32_t k, const struct page_use *use)
{
    bool faults = p->s->source == REPLAY_FAULTS;

    if (!p->s->policy->judge || (faults && p->page[k].sampled != p->now + 1))
        return;
    for (unsigned i = 0; i < use->n; i++) {
        if (faults)
            sample(p, k, use, i);
        else
            count(p, use->page, &use->use[i]);
    }
}

/* Copy that serves a node's read. */
static unsigned serves(const struct replay *p, const struct page *g, unsigned node)
{
    unsigned best = g->home;

    for (uint64_t left = g->replicas; left; left &= left - 1) {
        unsigned n = (unsigned)__builtin_ctzll(left);

        if (p->m->ns[node][n] < p->m->ns[node][best])
            best = n;
    }
    return best;
}

/* Why a node's use of a page is remote. */
static enum replay_loss cause(const struct page *g, unsigned node)
{
    static const enum replay_loss of[WHY_KINDS] = {
        [WHY_NONE] = LOSS_UNSEEN, [WHY_DONE] = LOSS_CHOICE,   [WHY_WORTH] = LOSS_CHOICE,
        [WHY_LIMIT] = LOSS_LIMIT, [WHY_BUDGET] = LOSS_BUDGET, [WHY_MEMORY] = LOSS_MEMORY};

    return g->users >> node & 1 ? of[g->why] : LOSS_NEW;
}

/* Charges some misses of a node on a page, served by another. */
static void charge(struct replay *p, const struct page *g, unsigned node, unsigned at,
                   uint64_t n)
{
    struct replay_part *part = &p->r->part[g->part];
    uint64_t ns = n * p->m->ns[node][at];

    p->r->accesses += n;
    part->accesses += n;
    p->r->stall_ns += ns;
    part->stall_ns += ns;
    p->traffic.at[at] += n;
    if (node == at) {
        p->r->local += n;
        part->local += n;
        p->traffic.local += n;
    } else {
        p->r->loss_ns[cause(g, node)] += ns - n * p->m->ns[node][node];
    }
}

/* Charges work on a page. */
static void work(struct replay *p, const struct page *g, enum replay_loss why, uint64_t ns)
{
    p->r->work_ns += ns;
    p->r->part[g->part].work_ns += ns;
    p->r->loss_ns[why] += ns;
}

/* One page in one interval.  Of the use of a replicated page, 1 / (writes + 1) comes before
 * the first write. */
static void use_page(struct replay *p, uint32_t k, const struct page_use *use)
{
    struct page *g = &p->page[k];
    bool hidden = g->replicas && p->w->ops->hidden(p->w, k);
    uint64_t writes = 0, users = 0;

    for (unsigned i = 0; i < use->n; i++)
        writes += use->use[i].writes;
    p->traffic.writes += writes;
    for (unsigned i = 0; i < use->n; i++) {
        const struct node_use *u = &use->use[i];
        uint64_t n = (uint64_t)u->reads + u->writes;
        uint64_t before = !g->replicas || hidden ? 0 : n / (writes + 1);

        charge(p, g, u->node, serves(p, g, u->node), before);
        charge(p, g, u->node, g->home, n - before);
        users |= UINT64_C(1) << u->node;
    }
    g->users = users;
    if (!g->replicas || !(writes || hidden))
        return;
    drop_all(p, g);
    p->r->forced++;
    work(p, g, LOSS_BROKEN, policy_cost_broken(&p->s->cost, use->page));
    policy_collapsed(&p->policy, use->page, p->now);
}

/* ---- an interval ---- */

/* Revokes this interval's sample. */
static void revoke(struct replay *p)
{
    uint64_t began = cpu_ns();
    struct sampler_run run;

    while (sampler_next(&p->sampler, &run)) {
        p->r->sample_ns += (uint64_t)run.count * REVOKE_NS;
        for (uint32_t i = 0; i < run.count; i++) {
            uint32_t k = p->w->ops->active(p->w, run.first + i);

            if (k != UINT32_MAX)
                p->page[k].sampled = p->now + 1;
        }
    }
    p->r->count_ns += cpu_ns() - began;
}

/* The sampler learns, and counts from samples age. */
static void after_sampling(struct replay *p)
{
    sampler_adapt(&p->sampler, &p->found);
    p->found = (struct sampler_found){0};
    if (p->now - p->aged < sampler_age_every(&p->sampler))
        return;
    p->aged = p->now;
    counters_age(&p->counters, 1);
}

/* Lets the policy decide and does what it says. */
static void decide(struct replay *p)
{
    struct policy_input in = {.now = p->now,
                              .interval_ns = p->w->interval_ns,
                              .cpus = p->s->machine->cpus,
                              .counters = &p->counters,
                              .keep_age = p->s->source == REPLAY_FAULTS,
                              .pages = p->s->causes ? &page_map_told : &page_map,
                              .arg = p,
                              .traffic = p->traffic};
    struct policy_bill bill = {.cost = &p->s->cost};
    uint64_t began = cpu_ns(), took;
    unsigned n;

    memcpy(in.free, p->free, sizeof(in.free));
    for (unsigned i = 0; i < p->m->nnodes; i++)
        in.total[i] = p->node_bytes;
    n = policy_decide(&p->policy, &in, p->action, ACTIONS);
    took = cpu_ns() - began;
    p->r->decide_ns += took;
    p->r->decide_most = took > p->r->decide_most ? took : p->r->decide_most;
    for (unsigned i = 0; i < n; i++) {
        struct action *a = &p->action[i];
        const struct page *g = &p->page[active_of(p, a->page)];

        a->further =
            a->act == ACT_REPLICATE && g->replicas; /* as it is, whatever was thought */
        work(p, g, LOSS_ACTIONS, policy_bill(&bill, a));
        if (!act(p, a)) {
            p->r->failed++;
            policy_failed(&p->policy, a->page, p->now);
            continue;
        }
        p->r->act[a->act]++;
    }
    p->r->runs += bill.begun;
}

/* One interval. */
static void interval(struct replay *p)
{
    bool faults = p->s->source == REPLAY_FAULTS && p->s->policy->judge;
    struct page_use use = {.n = 0};

    p->traffic = (struct policy_traffic){0};
    if (faults)
        revoke(p);
    for (uint32_t k = 0; k < p->w->active; k++) {
        p->w->ops->use(p->w, k, p->now, &use);
        if (!use.n)
            continue;
        if (p->page[k].home == NOWHERE)
            settle(p, k);
        observe(p, k, &use);
        use_page(p, k, &use);
    }
    flush(p);
    decide(p);
    if (faults)
        after_sampling(p);
}

/* ---- beginning and end ---- */

/* Memory of nodes: what active pages do not take lies spread evenly. */
static int set_memory(struct replay *p, struct err *err)
{
    uint64_t bytes = workload_bytes(p->w), guest = p->w->units * bytes;
    uint64_t idle = (p->w->units - p->w->active) * bytes / p->m->nnodes;

    p->node_bytes = replay_node_bytes(p->s->machine, p->w);
    if (p->node_bytes < idle ||
        p->node_bytes / bytes * p->m->nnodes < p->w->units + p->m->nnodes)
        return fail(err, EXIT_MEMORY, ENOMEM,
                    "a guest of %llu MiB does not fit %u nodes of %llu MiB",
                    (unsigned long long)(guest >> 20), p->m->nnodes,
                    (unsigned long long)(p->node_bytes >> 20));
    for (unsigned i = 0; i < p->m->nnodes; i++)
        p->free[i] = p->node_bytes - idle;
    return 0;
}

/* What of the guest is sampled, and how much. */
static struct sampler_limits limits(const struct replay *p)
{
    return (struct sampler_limits){.pages = p->w->units,
                                   .least = LEAST_SAMPLED,
                                   .most = UINT32_MAX / 2,
                                   .share = p->s->sample_share,
                                   .fault_ns = p->s->cost.sample,
                                   .revoke_ns = REVOKE_NS,
                                   .interval_ns = p->w->interval_ns,
                                   .cpus = p->s->machine->cpus};
}

/* Allocates everything. */
static int begin(struct replay *p)
{
    struct sampler_limits lim = limits(p);

    p->page = calloc(p->w->active, sizeof(*p->page));
    p->action = malloc(ACTIONS * sizeof(*p->action));
    if (!p->page || !p->action || sampler_init(&p->sampler, &lim) ||
        counters_init(&p->counters, p->s->counted ? p->s->counted : COUNTED) ||
        policy_init(&p->policy, p->s->policy, p->m, &p->s->tune, HISTORY))
        return -ENOMEM;
    p->policy.cost = p->s->cost;
    for (uint32_t k = 0; k < p->w->active; k++)
        p->page[k] =
            (struct page){.home = NOWHERE, .part = (uint8_t)workload_class_of(p->w, k)};
    return 0;
}

/* Frees everything. */
static void end(struct replay *p)
{
    policy_exit(&p->policy);
    counters_exit(&p->counters);
    sampler_exit(&p->sampler);
    free(p->action);
    free(p->page);
    free(p);
}

int replay_run(const struct replay_setup *s, struct replay_result *r, struct err *err)
{
    struct replay *p = xcalloc(1, sizeof(*p));
    int rc;

    INVARIANT(s->workload->nnodes == s->machine->lat.nnodes,
              "replay: workload and machine have the same nodes");
    *r = (struct replay_result){0};
    p->s = s;
    p->w = s->workload;
    p->m = &s->machine->lat;
    p->r = r;
    p->random = UINT64_C(0x2545f4914f6cdd1d);
    rc = set_memory(p, err);
    if (!rc && begin(p))
        rc = fail(err, EXIT_MEMORY, ENOMEM, "replay: no memory for %u active pages",
                  p->w->active);
    for (; !rc && p->now < p->w->intervals; p->now++)
        interval(p);
    r->compute_ns = r->accesses * p->w->compute_ns;
    r->counters_bytes = rc ? 0 : counters_bytes(&p->counters);
    r->guest_ns = p->w->interval_ns * p->w->intervals;
    r->numbers = p->policy.numbers;
    r->loss_ns[LOSS_SAMPLES] = r->sample_ns;
    end(p);
    return rc;
}
