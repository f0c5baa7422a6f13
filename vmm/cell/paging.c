/* SPDX-License-Identifier: MIT */
/*
 * Gives a guest of several views its pager: what it needs of the host, the policy and its
 * thresholds, and the thread.  Where the host lacks something the guest runs all the same, in a
 * lesser mode that one line in the log names; `disco doctor` says beforehand which (doctor_pages.c).
 *
 *   userfaultfd not allowed, or cannot write-protect shared memory   pages stay where they are
 *   KVM without nested paging                                        the same
 *   sampling not found here                                          the same
 *   no CAP_SYS_NICE                                                  masters move by copy
 *   few mappings, no free memory on a node, a node without CPUs      fewer replicas (vmm/pager)
 *
 * Threads: who makes, starts and frees the cell; paging_pause() any, but not after paging_stop().
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/bind.h"
#include "vmm/cell/paging.h"
#include "vmm/cell/private.h"
#include "vmm/cell/usage.h"
#include "vmm/config/valid.h"
#include "vmm/pager/loop.h"
#include "vmm/pager/pager.h"
#include "vmm/pager/source.h"

enum {
    LOCAL_NS = 90,      /* of a read of memory at distance 10 */
    KEEP_FREE = 1 << 24 /* bytes of a node that replicas leave free whatever the policy says */
};

/* A guest's. */
struct paging {
    struct pager *pager;
    _Atomic(struct page_loop *) loop; /* while it runs; io0 looks */
    struct loop_spec spec;            /* for the next start */
    struct loop_figures last;         /* of the loop that has ended */
};

/* ---- what the host has ---- */

bool paging_nested(void)
{
    static const char *const files[] = {"/sys/module/kvm_amd/parameters/npt",
                                        "/sys/module/kvm_intel/parameters/ept"};
    char text[8] = "";

    for (unsigned i = 0; i < 2; i++) {
        FILE *f = fopen(files[i], "re");

        if (f && !fgets(text, sizeof(text), f))
            *text = 0;
        if (f)
            fclose(f);
    }
    return *text == 'Y' || *text == '1';
}

/* ---- what is asked for ---- */

/* Index of a host node among those of the guest; 0 if it is none of them. */
static unsigned index_of(const struct place_got *p, int node)
{
    for (unsigned i = 0; i < p->nnodes; i++)
        if (p->nodes[i] == node)
            return i;
    return 0;
}

/* Latencies by the distances that firmware tells. */
static void fill_machine(const struct place_got *p, struct policy_machine *m)
{
    m->nnodes = p->nnodes;
    for (unsigned i = 0; i < p->nnodes; i++)
        for (unsigned j = 0; j < p->nnodes; j++)
            m->ns[i][j] =
                (uint16_t)(numa_node_distance(p->nodes[i], p->nodes[j]) * LOCAL_NS / 10);
}

/* Thread, policy and thresholds. */
static void fill_loop(const struct cell *c, struct loop_spec *s)
{
    const struct place_got *p = &c->place;

    *s = (struct loop_spec){.policy = policy_by_name(config_policy_name(&c->cfg)),
                            .source = source_by_name(config_sampling_name(&c->cfg)),
                            .check = source_by_name(config_check_name(&c->cfg)),
                            .tune = policy_tune_default(),
                            .low = c->m.mem.low,
                            .high = c->m.mem.high,
                            .interval_ns = c->cfg.policy_interval,
                            .check_ns = c->cfg.page_check,
                            .cpus = c->cfg.vcpus,
                            .sample_share = c->cfg.sampling_share};
    if (c->cfg.policy_set)
        (void)valid_parse_policy(c->cfg.policy_set, &s->tune); /* was checked */
    fill_machine(p, &s->machine);
    for (unsigned n = 0; n < p->nnodes; n++)
        s->node_host[n] = p->nodes[n];
}

/* The pager's own. */
static void fill_pager(struct cell *c, const struct loop_spec *l, struct pager_spec *s)
{
    const struct place_got *p = &c->place;

    *s = (struct pager_spec){.mem = &c->m.mem,
                             .nnodes = p->nnodes,
                             .keep_free = KEEP_FREE,
                             .mover = PAGER_MOVE_AUTO,
                             .samples = l->source->revokes,
                             .probation = true,
                             .pin = c->cfg.pin,
                             .forget_view = -1};
    s->on_vcpu = !s->samples && pager_kvm_tells(c->kvm_fd);
    for (unsigned n = 0; n < p->nnodes; n++)
        s->node_host[n] = p->nodes[n];
    for (unsigned v = 0; v < c->m.spec.nviews; v++)
        s->view_node[v] = (uint8_t)index_of(p, p->view_node[v]);
}

/* Why this guest is to have none; NULL: it is. */
static const char *unwanted(const struct cell *c)
{
    const struct policy_ops *policy = policy_by_name(config_policy_name(&c->cfg));

    if (!policy || !policy->judge)
        return "its policy says so";
    if (c->m.spec.nviews < 2)
        return "it has one view, so its pages have nowhere to go";
    if (c->place.nnodes < 2)
        return "it is on one node, so its pages have nowhere to go";
    if (c->cfg.vnuma)
        return "it sees its nodes and places its pages itself";
    return c->cfg.hugetlb ? "memory in reserved huge pages stays where it is" : NULL;
}

/* What on this host stands against a pager; NULL: nothing. */
static const char *hindrance(const struct source_ops *source, const struct source_ops *check,
                             char *why, unsigned len)
{
    if (!paging_nested())
        return "KVM here has no nested paging";
    if (!source)
        return "this source of samples is not built in";
    if (!source->found(why, len) || (check && !check->found(why, len)))
        return why;
    return NULL;
}

/* Makes the pager of g; NULL, or why there is none. */
static const char *make(struct cell *c, struct paging *g, char *why, unsigned len)
{
    const char *against = hindrance(g->spec.source, g->spec.check, why, len);
    struct pager_spec spec;
    struct err err = {0};

    if (against)
        return against;
    fill_pager(c, &g->spec, &spec);
    if (!pager_new(&g->pager, &spec, &err))
        return NULL;
    snprintf(why, len, "%.255s", err.text);
    return why;
}

void paging_make(struct cell *c)
{
    const char *against = unwanted(c);
    struct paging *g;
    char why[256] = "";

    if (against) {
        snprintf(c->unpaged, sizeof(c->unpaged), "%s", against);
        return;
    }
    g = xcalloc(1, sizeof(*g));
    fill_loop(c, &g->spec);
    against = make(c, g, why, sizeof(why));
    if (against) {
        log_warn("pages stay where they are put first (policy %s is off): %s",
                 g->spec.policy->name, against);
        snprintf(c->unpaged, sizeof(c->unpaged), "%s", against);
        free(g);
        return;
    }
    g->spec.pager = g->pager;
    c->m.on_fault = pager_fault;
    c->m.on_fault_arg = g->pager;
    c->paging = g;
    (void)pager_locate(g->pager, 0, c->m.mem.low / MEM_PAGE);
}

void paging_free(struct cell *c)
{
    if (!c->paging)
        return;
    paging_stop(c);
    c->m.on_fault = NULL;
    pager_free(c->paging->pager);
    free(c->paging);
    c->paging = NULL;
}

void paging_start(struct cell *c)
{
    struct page_loop *loop;
    struct err err = {0};

    if (!c->paging)
        return;
    if (loop_start(&loop, &c->paging->spec, &err))
        log_warn("pages stay where they are put first: %s", err.text);
    else
        atomic_store(&c->paging->loop, loop);
}

void paging_stop(struct cell *c)
{
    if (!c->paging || !c->paging->loop)
        return;
    loop_stop(c->paging->loop, &c->paging->last);
    c->paging->loop = NULL;
}

void paging_pause(struct cell *c, bool paused)
{
    if (c->paging && c->paging->loop)
        loop_pause(c->paging->loop, paused);
}

struct pager *paging_pager(const struct cell *c)
{
    return c->paging ? c->paging->pager : NULL;
}

struct page_loop *paging_loop(const struct cell *c)
{
    return c->paging ? c->paging->loop : NULL;
}

/* ---- figures ---- */

/* Pages of each node that are not private: masters of replicas, replicas, shared. */
struct census {
    uint64_t master[PAGEMAP_NODES];  /* by the master's node */
    uint64_t replica[PAGEMAP_NODES]; /* by the copy's */
    uint64_t shared[PAGEMAP_NODES];  /* likewise */
};

/* Counts pages [gfn, end). */
static void count(const struct pagemap *m, uint64_t gfn, uint64_t end, struct census *s)
{
    while (gfn < end) {
        struct page_info u;

        if (gfn % PAGEMAP_BLOCK == 0 && !pagemap_watched(m, gfn, PAGEMAP_BLOCK)) {
            gfn += PAGEMAP_BLOCK;
            continue;
        }
        u = pagemap_get(m, gfn);
        if (u.state == PAGE_SHARED)
            s->shared[u.node] += u.pages;
        else if (u.state == PAGE_REPLICATED)
            s->master[u.node] += u.pages;
        for (uint64_t left = u.replicas; left; left &= left - 1)
            s->replica[__builtin_ctzll(left)] += u.pages;
        gfn = u.first + u.pages;
    }
}

/* Pages that only one node has: what the kernel says is there of the guest's own store, less
 * masters that have replicas. Null: it does not say. */
static json_t *private_json(const struct mem_usage *used, int host, uint64_t masters)
{
    uint64_t n;

    if (!used->known || host < 0 || host >= USAGE_NODES)
        return json_null();
    n = used->node[host] / MEM_PAGE;
    return json_integer((json_int_t)(n > masters ? n - masters : 0));
}

static json_t *node_json(const struct cell *c, const struct loop_figures *f,
                         const struct census *s, const struct mem_usage *used, unsigned n)
{
    uint64_t all = f->local[n] + f->remote[n];

    return json_pack("{s:i, s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:b}", "node", c->place.nodes[n],
                     "private", private_json(used, c->place.nodes[n], s->master[n]), "masters",
                     (json_int_t)s->master[n], "replicas", (json_int_t)s->replica[n], "shared",
                     (json_int_t)s->shared[n], "uses_local", (json_int_t)f->local[n],
                     "uses_remote", (json_int_t)f->remote[n], "local_fraction",
                     all ? json_real((double)f->local[n] / (double)all) : json_null(),
                     "cpuless", f->cpuless[n]);
}

/* A part of a whole, null where there is none. */
static json_t *share(uint64_t part, uint64_t whole)
{
    return whole ? json_real((double)part / (double)whole) : json_null();
}

/* What was done, in pages, and what did not come about. */
static json_t *done_json(const struct loop_figures *f)
{
    const struct pager_stats *d = &f->done;

    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "migrated",
                     (json_int_t)d->migrated, "replicated", (json_int_t)d->replicated,
                     "collapsed", (json_int_t)d->collapsed, "evicted", (json_int_t)d->evicted,
                     "write_faults", (json_int_t)d->faults, "stray_faults",
                     (json_int_t)d->stray, "device_writes", (json_int_t)d->device_writes,
                     "refused", (json_int_t)d->refused, "replicas", (json_int_t)d->replicas,
                     "mappings", (json_int_t)d->maps, "mappings_limit",
                     (json_int_t)d->maps_limit, "kernel_moves", d->kernel_moves);
}

/* A part, null where there was nothing to compare. */
static json_t *part(double x)
{
    return x < 0 ? json_null() : json_real(x);
}

/* How well what was sampled agrees with what is believed; null: nobody asked. */
static json_t *agreement_json(const struct loop_figures *f)
{
    const struct agreement *a = &f->agreement;

    if (!f->check)
        return json_null();
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "with",
        f->check, "believed", (json_int_t)a->believed, "sampled", (json_int_t)a->tried, "both",
        (json_int_t)a->both, "top", (json_int_t)a->top, "covered", part(a->covered),
        "remote_believed", part(a->remote_believed), "remote_sampled", part(a->remote_tried),
        "recall", part(a->recall), "precision", part(a->precision), "overlap", part(a->overlap),
        "who", part(a->who), "sharers", part(a->sharers), "written", part(a->written));
}

/* What was sampled. */
static json_t *sampling_json(const struct loop_figures *f)
{
    const struct pager_stats *d = &f->done;

    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "source", f->source, "rate",
                     (json_int_t)f->rate, "span", (json_int_t)f->span, "revoked",
                     (json_int_t)d->revoked, "touches", (json_int_t)d->touches, "lost",
                     (json_int_t)d->lost, "writes", (json_int_t)f->writes, "agreement",
                     agreement_json(f));
}

/* What it cost: CPU time, and its share of all the guest's CPUs'. */
static json_t *cost_json(const struct loop_figures *f)
{
    uint64_t work = f->thread_ns - (f->check_ns < f->thread_ns ? f->check_ns : f->thread_ns);

    return json_pack("{s:f, s:f, s:f, s:f, s:I, s:{s:f, s:f, s:f}, s:o}", "pager_ms",
                     (double)work / 1e6, "faults_ms", (double)f->fault_ns / 1e6, "checks_ms",
                     (double)f->check_ns / 1e6, "elapsed_ms", (double)f->elapsed_ns / 1e6,
                     "percent", (json_int_t)f->cost_percent, "believed", "migrate",
                     f->believed[GAIN_NEARER] / (double)OUTCOME_WHOLE, "replicate",
                     f->believed[GAIN_COPY] / (double)OUTCOME_WHOLE, "balance",
                     f->believed[GAIN_EVEN] / (double)OUTCOME_WHOLE, "share",
                     share(work + f->fault_ns, f->elapsed_ns * f->cpus));
}

struct json_t *paging_json(struct cell *c, const struct mem_usage *used)
{
    struct paging *g = c->paging;
    struct loop_figures *f;
    struct census *s;
    uint64_t local = 0, all = 0;
    json_t *nodes, *o;

    if (!g)
        return json_pack("{s:s, s:s}", "policy", "none", "why", c->unpaged);
    f = xcalloc(1, sizeof(*f));
    s = xcalloc(1, sizeof(*s));
    nodes = json_array();
    if (g->loop)
        loop_figures(g->loop, f);
    else
        *f = g->last;
    count(pager_map(g->pager), 0, c->m.mem.low / MEM_PAGE, s);
    count(pager_map(g->pager), MEM_HIGH / MEM_PAGE, (MEM_HIGH + c->m.mem.high) / MEM_PAGE, s);
    for (unsigned n = 0; n < c->place.nnodes; n++) {
        json_array_append_new(nodes, node_json(c, f, s, used, n));
        local += f->local[n];
        all += f->local[n] + f->remote[n];
    }
    o = json_pack("{s:s, s:f, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "policy",
                  g->spec.policy->name, "interval_ms", (double)g->spec.interval_ns / 1e6,
                  "intervals", (json_int_t)f->intervals, "waited", (json_int_t)f->waited,
                  "checks", (json_int_t)f->checks, "local_fraction", share(local, all), "nodes",
                  nodes, "done", done_json(f), "sampling", sampling_json(f), "cost",
                  cost_json(f));
    free(f);
    free(s);
    return o;
}
