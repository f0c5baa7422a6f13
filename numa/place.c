/* SPDX-License-Identifier: MIT */
/*
 * Chooses nodes for guests and splits memory, vCPUs and views over them; place.h has the rules and
 * the invariants P1 to P3.  Interface: place_guests(), place_view_of_vcpu(), place_node_of_vcpu().
 * Pure: reads a topology and wants, writes gots; no state outlives a call, no locks.
 */
#include "numa/place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* Memory is handed out in blocks of 2 MiB, so that a block never straddles nodes. */
#define BLOCK (2ull << 20)

/* What is left while guests are placed; indices are those of topo.node. */
struct books {
    const struct topo *t;              /* the machine */
    uint64_t pool[2][TOPO_MAX_NODES];  /* free blocks: ordinary memory, hugetlb pages */
    uint64_t *room;                    /* the pool of the guest being placed */
    unsigned promised[TOPO_MAX_NODES]; /* vCPUs that belong to the node */
};

/* A set of nodes being considered. */
struct pick {
    unsigned n;                    /* entries of node */
    unsigned node[TOPO_MAX_NODES]; /* indices of topo.node */
    unsigned
        near[TOPO_MAX_NODES]; /* of every node: sum of its distances to the set, both ways */
    bool in[TOPO_MAX_NODES];  /* of every node: it is in the set */
};

/* How good a set is: less is better, first field first. */
struct score {
    unsigned excess;  /* vCPUs beyond the CPUs of their nodes */
    unsigned dist;    /* sum of distances between the nodes */
    uint64_t load;    /* sum over nodes of promised vCPUs per 1024 CPUs */
    uint64_t lacking; /* UINT64_MAX - free blocks */
    unsigned first;   /* seed's index: breaks ties */
};

/* What a choice must satisfy. */
struct need {
    uint64_t blocks;  /* memory */
    unsigned vcpus;   /* vCPUs */
    unsigned cpus;    /* CPUs the set must have */
    bool memory_only; /* memory-only nodes may be taken */
    bool uneven;      /* nodes with less than an even share may be taken */
    bool whole;       /* each node must have room for all of the memory */
};

unsigned place_view_of_vcpu(const struct place_got *g, unsigned vcpus, unsigned v)
{
    return (unsigned)((uint64_t)v * g->views / vcpus);
}

int place_node_of_vcpu(const struct place_got *g, unsigned vcpus, unsigned v)
{
    if (g->views >= g->ncpu_nodes)
        return g->view_node[place_view_of_vcpu(g, vcpus, v)];
    return g->cpu_nodes[(uint64_t)v * g->ncpu_nodes / vcpus];
}

unsigned place_vcpus_on(const struct place_got *g, unsigned vcpus, int node)
{
    unsigned n = 0;

    for (unsigned v = 0; v < vcpus; v++)
        n += place_node_of_vcpu(g, vcpus, v) == node;
    return n;
}

/* Lists the kernel numbers of the nodes there are. */
static const char *node_list(const struct topo *t, char *buf, unsigned len)
{
    int os[TOPO_MAX_NODES];

    for (unsigned i = 0; i < t->nnodes; i++)
        os[i] = t->node[i].os;
    return topo_ranges(buf, len, os, t->nnodes);
}

/* vCPUs promised on a node per 1024 of its CPUs; a memory-only node counts as full. */
static uint64_t load_of(const struct books *b, unsigned i)
{
    unsigned cpus = b->t->node[i].ncpus;

    return cpus ? (uint64_t)b->promised[i] * 1024 / cpus : UINT32_MAX;
}

/* Free blocks of a set. */
static uint64_t room_of(const struct books *b, const struct pick *p)
{
    uint64_t sum = 0;

    for (unsigned k = 0; k < p->n; k++)
        sum += b->room[p->node[k]];
    return sum;
}

/* CPUs of a set. */
static unsigned cpus_of(const struct books *b, const struct pick *p)
{
    unsigned sum = 0;

    for (unsigned k = 0; k < p->n; k++)
        sum += b->t->node[p->node[k]].ncpus;
    return sum;
}

/* vCPUs that find no CPU of their own when vcpus more come to a set, split evenly. */
static unsigned excess_of(const struct books *b, const struct pick *p, unsigned vcpus)
{
    unsigned k, i, n = 0, at = 0, mine, sum = 0;

    for (k = 0; k < p->n; k++)
        n += b->t->node[p->node[k]].ncpus > 0;
    for (k = 0; k < p->n; k++) {
        i = p->node[k];
        if (!b->t->node[i].ncpus)
            continue;
        /* vCPU v goes to place v*n/vcpus: the at-th place gets those from ceil(at*vcpus/n) on. */
        mine = ((at + 1) * vcpus + n - 1) / n - (at * vcpus + n - 1) / n;
        at++;
        if (b->promised[i] + mine > b->t->node[i].ncpus)
            sum += b->promised[i] + mine - b->t->node[i].ncpus;
    }
    return sum;
}

/* Adds node i to a set. */
static void join(const struct books *b, struct pick *p, unsigned i)
{
    p->node[p->n++] = i;
    p->in[i] = true;
    for (unsigned j = 0; j < b->t->nnodes; j++)
        p->near[j] += (unsigned)b->t->dist[i][j] + b->t->dist[j][i];
}

/* True if node i may be part of a set of k nodes. */
static bool may_join(const struct books *b, const struct need *want, unsigned k, unsigned i)
{
    if (!b->t->node[i].ncpus && !want->memory_only)
        return false;
    if (want->whole)
        return b->room[i] >= want->blocks;
    return want->uneven || b->room[i] >= (want->blocks + k - 1) / k;
}

/* Less is better. */
static int compare(const struct score *a, const struct score *b)
{
    if (a->excess != b->excess)
        return a->excess < b->excess ? -1 : 1;
    if (a->dist != b->dist)
        return a->dist < b->dist ? -1 : 1;
    if (a->load != b->load)
        return a->load < b->load ? -1 : 1;
    if (a->lacking != b->lacking)
        return a->lacking < b->lacking ? -1 : 1;
    return (a->first > b->first) - (a->first < b->first);
}

/* The score of a whole set grown from node first. */
static struct score score_of(const struct books *b, const struct need *want,
                             const struct pick *p, unsigned first)
{
    struct score s = {.first = first};

    s.excess = excess_of(b, p, want->vcpus);
    s.lacking = UINT64_MAX - room_of(b, p);
    for (unsigned k = 0; k < p->n; k++) {
        s.load += load_of(b, p->node[k]);
        s.dist += p->near[p->node[k]];
    }
    return s;
}

/* Adds the nearest, least promised, emptiest node that may join; false when there is none. */
static bool grow(const struct books *b, const struct need *want, unsigned k, struct pick *p)
{
    struct score best = {0}, s = {0};
    int found = -1;

    for (unsigned i = 0; i < b->t->nnodes; i++) {
        if (p->in[i] || !may_join(b, want, k, i))
            continue;
        s = (struct score){.dist = p->near[i],
                           .load = load_of(b, i),
                           .lacking = UINT64_MAX - b->room[i],
                           .first = i};
        if (found < 0 || compare(&s, &best) < 0) {
            best = s;
            found = (int)i;
        }
    }
    if (found >= 0)
        join(b, p, (unsigned)found);
    return found >= 0;
}

/* Orders numbers downwards. */
static int downwards(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x < *y) - (*x > *y);
}

/* False when even the k emptiest nodes and the k with most CPUs would not do: saves a search. */
static bool could_do(const struct books *b, const struct need *want, unsigned k)
{
    uint64_t room[TOPO_MAX_NODES], cpus[TOPO_MAX_NODES], blocks = 0, count = 0;
    unsigned n = 0;

    for (unsigned i = 0; i < b->t->nnodes; i++) {
        if (!may_join(b, want, k, i))
            continue;
        room[n] = b->room[i];
        cpus[n++] = b->t->node[i].ncpus;
    }
    if (n < k)
        return false;
    qsort(room, n, sizeof(room[0]), downwards);
    qsort(cpus, n, sizeof(cpus[0]), downwards);
    for (unsigned i = 0; i < k; i++) {
        blocks += room[i];
        count += cpus[i];
    }
    return blocks >= want->blocks && count >= want->cpus;
}

/* Finds the best set of k nodes; false when none satisfies want. */
static bool best_of(const struct books *b, const struct need *want, unsigned k,
                    struct pick *out)
{
    struct score best = {0}, s;
    bool found = false;
    struct pick p;

    if (!could_do(b, want, k))
        return false;
    for (unsigned seed = 0; seed < b->t->nnodes; seed++) {
        if (!may_join(b, want, k, seed))
            continue;
        memset(&p, 0, sizeof(p));
        join(b, &p, seed);
        while (p.n < k && grow(b, want, k, &p))
            ;
        if (p.n < k || cpus_of(b, &p) < want->cpus || room_of(b, &p) < want->blocks)
            continue;
        s = score_of(b, want, &p, seed);
        if (!found || compare(&s, &best) < 0) {
            best = s;
            *out = p;
            found = true;
        }
    }
    return found;
}

/* Orders indices upwards. */
static int by_index(const void *a, const void *b)
{
    const unsigned *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Chooses the fewest nodes for a guest that names none: nodes with CPUs first, even shares first.
 * False when the machine has not the memory. */
static bool choose(const struct books *b, const struct place_want *w, struct pick *out)
{
    struct need want = {.blocks = w->memory / BLOCK, .vcpus = w->vcpus, .whole = w->one_node};
    unsigned all = b->t->nnodes;

    want.cpus = w->vcpus < b->t->ncpus ? w->vcpus : b->t->ncpus;
    for (unsigned pass = 0; pass < 2; pass++) {
        want.memory_only = pass == 1;
        for (unsigned k = 1; k <= all; k++) {
            for (unsigned uneven = 0; uneven < 2; uneven++) {
                want.uneven = uneven == 1;
                if (!best_of(b, &want, k, out))
                    continue;
                qsort(out->node, out->n, sizeof(out->node[0]), by_index);
                return true;
            }
        }
    }
    return false;
}

/* Turns the nodes a guest names into indices; each must exist and be named once. */
static int take_named(const struct books *b, const struct place_want *w, struct pick *out,
                      struct err *err)
{
    char there[128];
    int i;

    for (unsigned k = 0; k < w->nnodes; k++) {
        i = topo_index(b->t, w->nodes[k]);
        if (i < 0)
            return fail(err, EXIT_CONFIG, EINVAL,
                        "guest \"%s\": nodes: there is no node %d; %s has %u: %s", w->name,
                        w->nodes[k], b->t->name, b->t->nnodes,
                        node_list(b->t, there, sizeof(there)));
        if (out->in[i])
            return fail(err, EXIT_CONFIG, EINVAL,
                        "guest \"%s\": nodes: node %d is named twice; name each node once",
                        w->name, w->nodes[k]);
        join(b, out, (unsigned)i);
    }
    if (!cpus_of(b, out))
        return fail(
            err, EXIT_CONFIG, EINVAL,
            "guest \"%s\": nodes: node %d%s only memory and no CPU; add a node with CPUs",
            w->name, w->nodes[0], w->nnodes > 1 ? " and the others named have" : " has");
    return 0;
}

/* The message for a guest that does not fit the nodes of p. */
static int no_room(const struct books *b, const struct place_want *w, const struct pick *p,
                   struct err *err)
{
    char ask[TOPO_SIZE_LEN], have[TOPO_SIZE_LEN], one[TOPO_SIZE_LEN], list[512] = "";
    const char *pages = w->hugetlb ? " in 2 MiB hugetlb pages" : "";
    int used = 0;

    for (unsigned k = 0; k < p->n && used < (int)sizeof(list) - 64; k++)
        used +=
            snprintf(list + used, sizeof(list) - (size_t)used, "%snode %d: %s", k ? ", " : "",
                     b->t->node[p->node[k]].os, topo_size(one, b->room[p->node[k]] * BLOCK));
    if (p->n == 1)
        return fail(
            err, EXIT_MEMORY, ENOMEM,
            "guest \"%s\": memory: %s asked on node %d, where %s of %s are free for it%s",
            w->name, topo_size(ask, w->memory), b->t->node[p->node[0]].os,
            topo_size(have, b->room[p->node[0]] * BLOCK),
            topo_size(one, b->t->node[p->node[0]].mem_total), pages);
    return fail(err, EXIT_MEMORY, ENOMEM,
                "guest \"%s\": memory: %s asked%s, %s are free for it%s on %s nodes (%s)",
                w->name, topo_size(ask, w->memory), w->one_node ? " on one node" : "",
                topo_size(have, room_of(b, p) * BLOCK), pages, w->nnodes ? "its" : "all", list);
}

/* Refuses wants no machine could satisfy. */
static int check_want(const struct place_want *w, struct err *err)
{
    if (w->vcpus < 1)
        return fail(err, EXIT_CONFIG, EINVAL, "guest \"%s\": vcpus: at least 1 is needed",
                    w->name);
    if (w->vcpus > TOPO_MAX_CPUS)
        return fail(err, EXIT_CONFIG, EINVAL, "guest \"%s\": vcpus: %u asked; at most %d",
                    w->name, w->vcpus, TOPO_MAX_CPUS);
    if (!w->memory || w->memory % BLOCK)
        return fail(err, EXIT_CONFIG, EINVAL,
                    "guest \"%s\": memory: %llu bytes asked; a multiple of 2 MiB is needed",
                    w->name, (unsigned long long)w->memory);
    if (w->nnodes > TOPO_MAX_NODES)
        return fail(err, EXIT_CONFIG, EINVAL, "guest \"%s\": nodes: %u named; at most %d",
                    w->name, w->nnodes, TOPO_MAX_NODES);
    if (w->views > TOPO_MAX_NODES)
        return fail(err, EXIT_CONFIG, EINVAL, "guest \"%s\": views: %u asked; at most %d",
                    w->name, w->views, TOPO_MAX_NODES);
    return 0;
}

/*
 * Splits blocks over the nodes of p as evenly as their room allows, in order.  A node with less
 * than an even share of what is left, rounded up, gives all it has, and the rest is shared anew;
 * when no such node is left, the first nodes take one block more where the share is not whole.
 * The set is known to hold them all, so a node that is not full always remains until rest is 0.
 */
static void split(const struct books *b, const struct pick *p, uint64_t blocks,
                  struct place_got *g)
{
    bool full[TOPO_MAX_NODES] = {false};
    uint64_t rest = blocks, more;
    unsigned left = p->n;
    bool again = true;

    while (again && left) {
        again = false;
        for (unsigned k = 0; k < p->n && left; k++) {
            if (full[k] || b->room[p->node[k]] >= (rest + left - 1) / left)
                continue;
            full[k] = again = true;
            g->node_bytes[k] = b->room[p->node[k]] * BLOCK;
            rest -= b->room[p->node[k]];
            left--;
        }
    }
    INVARIANT(left || !rest, "P2: a placed guest's memory is all handed out");
    more = left ? rest % left : 0;
    for (unsigned k = 0; k < p->n; k++) {
        if (full[k])
            continue;
        g->node_bytes[k] = (rest / left + (more > 0)) * BLOCK;
        more -= more > 0;
    }
}

/* Writes down what a guest gets on the nodes of p, and books it. */
static void settle(struct books *b, const struct place_want *w, const struct pick *p,
                   struct place_got *g)
{
    memset(g, 0, sizeof(*g));
    g->nnodes = p->n;
    if (w->one_node)
        g->node_bytes[0] = w->memory;
    else
        split(b, p, w->memory / BLOCK, g);
    for (unsigned k = 0; k < p->n; k++) {
        g->nodes[k] = b->t->node[p->node[k]].os;
        if (b->t->node[p->node[k]].ncpus)
            g->cpu_nodes[g->ncpu_nodes++] = g->nodes[k];
        INVARIANT(g->node_bytes[k] / BLOCK <= b->room[p->node[k]],
                  "P1: no node is promised more than it has");
        b->room[p->node[k]] -= g->node_bytes[k] / BLOCK;
    }
    g->views = w->views ? w->views : g->ncpu_nodes;
    for (unsigned v = 0; v < g->views; v++)
        g->view_node[v] = g->cpu_nodes[v * g->ncpu_nodes / g->views];
    for (unsigned v = 0; v < w->vcpus; v++)
        b->promised[topo_index(b->t, place_node_of_vcpu(g, w->vcpus, v))]++;
}

/* A guest that wants one node needs room there: on the first it names. */
static bool has_room(const struct books *b, const struct place_want *w, const struct pick *p,
                     struct pick *lacking)
{
    struct pick first = {.n = 1, .node = {p->node[0]}};

    *lacking = w->one_node ? first : *p;
    return room_of(b, lacking) >= w->memory / BLOCK;
}

/* Places one guest. */
static int place_one(struct books *b, const struct place_want *w, struct place_got *g,
                     struct err *err)
{
    struct pick p = {0}, lacking;
    int rc = check_want(w, err);

    if (rc)
        return rc;
    b->room = b->pool[w->hugetlb];
    if (w->nnodes) {
        rc = take_named(b, w, &p, err);
        if (rc)
            return rc;
        if (!has_room(b, w, &p, &lacking))
            return no_room(b, w, &lacking, err);
    } else if (!choose(b, w, &p)) {
        memset(&p, 0, sizeof(p));
        for (unsigned i = 0; i < b->t->nnodes; i++)
            join(b, &p, i);
        return no_room(b, w, &p, err);
    }
    settle(b, w, &p, g);
    return 0;
}

int place_guests(const struct topo *t, const struct place_want *want, unsigned n,
                 struct place_got *got, struct err *err)
{
    struct books b = {.t = t};
    int rc = 0;

    if (!t->ncpus)
        return fail(err, EXIT_CONFIG, EINVAL, "%s has no CPU a guest could run on", t->name);
    for (unsigned i = 0; i < t->nnodes; i++) {
        b.pool[0][i] = t->node[i].mem_free / BLOCK;
        b.pool[1][i] = t->node[i].huge_free / BLOCK;
    }
    for (unsigned named = 2; named-- > 0;)
        for (unsigned i = 0; i < n && !rc; i++)
            if ((want[i].nnodes > 0) == (named > 0))
                rc = place_one(&b, &want[i], &got[i], err);
    return rc;
}

/* Every entry of a list that is one node becomes the other. */
static void rename_node(int *list, unsigned n, int from, int to)
{
    for (unsigned i = 0; i < n; i++)
        if (list[i] == from)
            list[i] = to;
}

void place_rehome(struct place_got *g, int from, int to)
{
    rename_node(g->nodes, g->nnodes, from, to);
    rename_node(g->view_node, g->views, from, to);
    rename_node(g->cpu_nodes, g->ncpu_nodes, from, to);
}
