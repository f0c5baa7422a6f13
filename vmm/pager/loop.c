/* SPDX-License-Identifier: MIT */
/*
 * The pager's thread; see the header.
 */
#include "vmm/pager/loop.h"

#include <errno.h>
#include <numa.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/counters.h"
#include "vmm/machine/machine.h"
#include "vmm/pager/source.h"

enum {
    ACTIONS = 8192,       /* that are decided in an interval */
    BROKEN = 1024,        /* broken replicas taken at once */
    PAGES_A_COUNT = 16,   /* of the guest, for each page that is counted at a time */
    COUNTS_MIN = 4096,    /* pages counted at a time, at least */
    COUNTS_MAX = 1 << 20, /* and at most */
    USES = 4096,          /* pages told of before the lock is let go */
    TOP = 1000,           /* pages most used from afar of which sources are to agree */
    CHECK_SHARE = 500,    /* permille: that source is to see all there is */
    FULL_STEP = 5,        /* percent of a node that must be free beyond that to be not full */
    HOST_LOOK_NS = 1000000000, /* between two looks at what the host has */
    FRESH_NS = 500000000       /* for which somebody who asks waits for new figures */
};

/* The thread's. */
struct page_loop {
    struct loop_spec spec; /* constant */
    pthread_t thread;      /* pager */
    /* the thread's own */
    struct policy policy;
    struct action *act;             /* ACTIONS */
    uint64_t checked_ns;            /* when the last proof ended */
    uint64_t looked_ns;             /* when the host was last looked at */
    uint64_t began_ns;              /* when the last interval was worked on; 0: none was */
    uint64_t total[PAGEMAP_NODES];  /* bytes of each node */
    uint64_t cursor[PAGEMAP_NODES]; /* where next_replica() goes on */
    bool full[PAGEMAP_NODES];       /* was said to have no memory for replicas */
    uint32_t aged;                  /* interval of the last ageing */
    uint32_t now;                   /* number of the interval */
    uint64_t debt_ns;               /* CPU time that page work took beyond its budget */
    uint64_t fault_ns;              /* CPU time of fault threads when last asked */
    uint64_t act_ns;                /* CPU time that this interval's actions took */
    /* lock */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* stop or paused changed */
    bool stop, paused;
    struct counters counters;
    struct source source;
    struct counters believed; /* spec.check's */
    struct source check;      /* likewise; it decides nothing */
    struct loop_figures figures;
    /* who asks */
    struct loop_figures shown; /* what was told last */
};

/* ---- what the policy asks ---- */

static bool look(void *arg, uint64_t page, struct policy_page *out)
{
    const struct page_loop *l = arg;
    uint64_t gfn = page & ~PAGE_BLOCK;
    struct page_info u;

    if (gfn >= pagemap_pages(pager_map(l->spec.pager)))
        return false;
    u = pagemap_get(pager_map(l->spec.pager), gfn);
    *out = (struct policy_page){
        .replicas = u.replicas, .home = u.node, .fixed = u.state == PAGE_SHARED};
    return true;
}

/* Looks for a replica from the cursor on, once round. */
static bool next_replica(void *arg, unsigned node, uint64_t *page)
{
    struct page_loop *l = arg;
    const struct pagemap *m = pager_map(l->spec.pager);
    uint64_t pages = pagemap_pages(m), gfn = l->cursor[node], end = gfn + pages;

    while (gfn < end) {
        uint64_t at = gfn % pages;
        struct page_info u;

        if (at % PAGEMAP_BLOCK == 0 && !pagemap_watched(m, at, PAGEMAP_BLOCK)) {
            gfn += PAGEMAP_BLOCK;
            continue;
        }
        u = pagemap_get(m, at);
        gfn += u.first + u.pages - at;
        if (u.state != PAGE_REPLICATED || !(u.replicas >> node & 1))
            continue;
        l->cursor[node] = gfn % pages;
        *page = u.first | (u.pages > 1 ? PAGE_BLOCK : 0);
        return true;
    }
    return false;
}

/* ---- the host ---- */

/* True if a node of the host has a CPU that is on. */
static bool has_cpus(int host)
{
    char path[80], text[8] = "";
    FILE *f;

    snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", host);
    f = fopen(path, "re");
    if (!f)
        return true; /* not known */
    if (!fgets(text, sizeof(text), f))
        *text = 0;
    fclose(f);
    return *text >= '0' && *text <= '9';
}

/* Notes whether a node has CPUs: pages do not go where none is any more. */
static void look_at_cpus(struct page_loop *l, unsigned n)
{
    int host = l->spec.node_host[n];
    bool gone = host >= 0 && !has_cpus(host), was = l->figures.cpuless[n];

    l->figures.cpuless[n] = gone;
    if (gone && !was)
        log_warn("node %d has no CPU any more: vCPUs of its view run elsewhere, no page moves "
                 "there",
                 host);
    else if (was && !gone)
        log_warn("node %d has CPUs again: pages may move there", host);
}

/* Notes whether a node has memory that replicas may take; said again only after it had much. */
static void look_at_memory(struct page_loop *l, unsigned n)
{
    uint64_t percent = l->total[n] / 100, spare = pager_spare(l->spec.pager, n);

    if (!l->full[n] && spare < percent * l->spec.tune.keep_free)
        log_warn("node %d has less than %u %% of its memory free: no replica goes there",
                 l->spec.node_host[n], l->spec.tune.keep_free);
    if (spare < percent * l->spec.tune.keep_free)
        l->full[n] = true;
    else if (spare > percent * (l->spec.tune.keep_free + FULL_STEP))
        l->full[n] = false;
}

/* Looks at the host, once in a while. */
static void look_at_host(struct page_loop *l)
{
    uint64_t now = machine_now_ns();

    if (l->looked_ns && now - l->looked_ns < HOST_LOOK_NS)
        return;
    for (unsigned n = 0; n < l->spec.machine.nnodes; n++) {
        look_at_cpus(l, n);
        look_at_memory(l, n);
    }
    l->looked_ns = now;
}

/* ---- an interval ---- */

/* Tells the policy of one of them. */
static void tell_of(struct page_loop *l, uint64_t gfn)
{
    if (gfn & PAGER_WATCHED)
        policy_written(&l->policy, gfn & ~PAGER_WATCHED, l->now);
    else
        policy_collapsed(&l->policy, gfn, l->now);
}

/* Tells the policy of replicas that writes took away, and of those that would have been. */
static void tell_broken(struct page_loop *l)
{
    uint64_t gfn[BROKEN];
    unsigned n;

    do {
        n = pager_broken(l->spec.pager, gfn, BROKEN);
        for (unsigned i = 0; i < n; i++)
            tell_of(l, gfn[i]);
    } while (n == BROKEN);
}

/* Counts age as the source wants, where that has a wish. */
static void age(struct page_loop *l)
{
    const struct source_ops *ops = l->source.ops;

    if (!ops->age_every || l->now - l->aged < ops->age_every(&l->source))
        return;
    l->aged = l->now;
    counters_age(&l->counters, 1);
}

/* What is believed ages with them: as the policy has its own counters age, or just now. */
static void age_believed(struct page_loop *l)
{
    bool often = !l->source.ops->age_every;

    if (!l->check.ops)
        return;
    if (often || l->aged == l->now)
        counters_age(&l->believed, often ? l->spec.tune.decay : 1);
    counters_tick(&l->believed);
}

/* Lets the policy decide; returns how many actions. */
static unsigned decide(struct page_loop *l)
{
    static const struct policy_pages pages = {.look = look, .next_replica = next_replica};
    struct policy_input in = {.now = l->now,
                              .interval_ns = l->spec.interval_ns,
                              .cpus = l->spec.cpus,
                              .counters = &l->counters,
                              .keep_age = l->source.ops->age_every != NULL,
                              .pages = &pages,
                              .arg = l,
                              .traffic = l->source.traffic};

    for (unsigned n = 0; n < l->spec.machine.nnodes; n++) {
        in.total[n] = l->total[n];
        in.free[n] = l->figures.cpuless[n] ? 0 : pager_spare(l->spec.pager, n);
    }
    return policy_decide(&l->policy, &in, l->act, ACTIONS);
}

/* CPU time of the calling thread, ns. */
static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Proves the invariants, without the loop's lock: a cell that breaks one ends. */
static void prove(struct page_loop *l)
{
    uint64_t began = cpu_ns();
    char wrong[256];

    if (!l->spec.check_ns || machine_now_ns() - l->checked_ns < l->spec.check_ns)
        return;
    pthread_mutex_unlock(&l->lock);
    if (!pager_check(l->spec.pager, wrong, sizeof(wrong))) {
        log_error("page check: %s", wrong);
        abort();
    }
    l->checked_ns = machine_now_ns();
    pthread_mutex_lock(&l->lock);
    l->figures.checks++;
    l->figures.check_ns += cpu_ns() - began;
    pthread_mutex_unlock(&l->lock);
}

/* The policy's budget goes by what actions cost on hosts as we know them; this one by what all work
 * on pages really took, sampling included.  True: the last is not paid for yet. */
static bool in_debt(struct page_loop *l)
{
    uint64_t share = l->spec.tune.cpu + l->spec.sample_share;
    uint64_t due = l->spec.interval_ns / 1000 * l->spec.cpus * share;

    l->debt_ns -= l->debt_ns < due ? l->debt_ns : due;
    l->figures.waited += l->debt_ns > 0;
    return l->debt_ns > 0;
}

/* Adds what this interval took, here and in fault threads. */
static void charge(struct page_loop *l, uint64_t began)
{
    uint64_t faults = pager_fault_ns(l->spec.pager);

    l->debt_ns += cpu_ns() - began + faults - l->fault_ns;
    l->fault_ns = faults;
}

/* Does what was decided; how much of it did not come about. */
static unsigned act(struct page_loop *l, unsigned n)
{
    uint64_t began = cpu_ns();
    unsigned good = pager_act(l->spec.pager, l->act, n);

    l->act_ns = cpu_ns() - began;
    for (unsigned i = good; i < n; i++)
        policy_failed(&l->policy, l->act[i].page, l->now);
    source_acted(&l->source, l->act, n, good, l->act_ns);
    if (l->check.ops)
        source_acted(&l->check, l->act, n, good, l->act_ns);
    return n - good;
}

/* Intervals that went by since the last one that was worked on. */
static uint32_t let_pass(struct page_loop *l)
{
    uint64_t now = machine_now_ns(), each = l->spec.interval_ns;
    uint64_t n = l->began_ns ? (now - l->began_ns + each / 2) / each : 0;

    l->began_ns = now;
    return n > UINT16_MAX ? UINT16_MAX : n ? (uint32_t)n - 1 : 0;
}

/* One interval; the lock is held, and let go while pages are worked on. */
static void interval(struct page_loop *l)
{
    uint64_t began = cpu_ns(), told = l->policy.numbers.cost_ns;
    unsigned n, failed;
    uint32_t passed = let_pass(l);

    look_at_host(l);
    source_collect(&l->source, passed);
    if (l->check.ops)
        source_collect(&l->check, passed);
    tell_broken(l);
    n = decide(l);
    told = l->policy.numbers.cost_ns - told;
    age(l);
    age_believed(l);
    pthread_mutex_unlock(&l->lock);
    failed = act(l, n);
    pager_interval(l->spec.pager);
    charge(l, began);
    pthread_mutex_lock(&l->lock);
    policy_learn(&l->policy, told, l->act_ns);
    l->figures.failed += failed;
    l->figures.intervals = ++l->now;
}

/* ---- the thread ---- */

/* Waits until a time or for a change. */
static void wait_until(struct page_loop *l, uint64_t at)
{
    struct timespec t = {.tv_sec = (time_t)(at / 1000000000u),
                         .tv_nsec = (long)(at % 1000000000u)};

    while (!l->stop && !pthread_cond_timedwait(&l->wake, &l->lock, &t))
        ;
}

static void *pager_thread(void *arg)
{
    struct page_loop *l = arg;
    uint64_t at = machine_now_ns(), last = at;
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    pthread_setname_np(pthread_self(), "pager");
    l->checked_ns = at;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        uint64_t now;

        at += l->spec.interval_ns;
        wait_until(l, at);
        now = machine_now_ns();
        if (l->stop)
            break;
        if (now > at + l->spec.interval_ns)
            at = now; /* late: intervals are not made up for */
        if (!l->paused) {
            if (!in_debt(l))
                interval(l);
            prove(l);
            l->figures.elapsed_ns += now - last;
        }
        last = now;
        l->figures.thread_ns = cpu_ns();
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- what there is to tell ---- */

/* All of it; the lock is held, or there is no thread. */
static void gather(struct page_loop *l, struct loop_figures *out)
{
    *out = l->figures;
    out->decided = l->policy.numbers;
    out->cost_percent = l->policy.learnt.percent ? l->policy.learnt.percent : 100;
    for (unsigned kind = 0; kind < GAIN_KINDS; kind++)
        out->believed[kind] = policy_believed(&l->policy, (enum gain)kind);
    out->span = l->policy.span;
    out->writes = l->source.writes;
    out->rate = l->source.ops->rate ? l->source.ops->rate(&l->source) : 0;
    memcpy(out->local, l->source.local, sizeof(out->local));
    memcpy(out->remote, l->source.remote, sizeof(out->remote));
    if (l->check.ops && source_agreement(&l->check, &l->source, TOP, &out->agreement))
        out->check = NULL; /* no memory to compare in */
}

/* What the pager knows by itself. */
static void gather_done(const struct page_loop *l, struct loop_figures *out)
{
    pager_stats(l->spec.pager, &out->done);
    out->fault_ns = pager_fault_ns(l->spec.pager);
}

/* ---- making ---- */

/* How many pages are counted at a time. */
static uint32_t counts(const struct loop_spec *spec)
{
    uint64_t n = (spec->low + spec->high) / MEM_PAGE / PAGES_A_COUNT;

    if (n < COUNTS_MIN)
        return COUNTS_MIN;
    return n < COUNTS_MAX ? (uint32_t)n : COUNTS_MAX;
}

/* Bytes of each node. */
static void read_totals(struct page_loop *l)
{
    for (unsigned n = 0; n < l->spec.machine.nnodes; n++) {
        int host = l->spec.node_host[n];
        long long left, all = host >= 0 ? numa_node_size64(host, &left) : 0;

        l->total[n] = all > 0 ? (uint64_t)all : 0;
    }
}

/* Frees what loop_start() made; no thread. */
static void loop_free(struct page_loop *l)
{
    source_stop(&l->source);
    source_stop(&l->check);
    policy_exit(&l->policy);
    counters_exit(&l->counters);
    counters_exit(&l->believed);
    free(l->act);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* The sources, at last. */
static int start_sources(struct page_loop *l, struct err *err)
{
    int r;
    struct source_spec spec = {.pager = l->spec.pager,
                               .counters = &l->counters,
                               .nnodes = l->spec.machine.nnodes,
                               .node_host = l->spec.node_host,
                               .interval_ns = l->spec.interval_ns,
                               .cpus = l->spec.cpus,
                               .share = l->spec.sample_share,
                               .steady =
                                   l->policy.ops->resets, /* it counts what an interval has */
                               .low = l->spec.low,
                               .high = l->spec.high};

    r = source_start(&l->source, l->spec.source, &spec, err);
    if (r || !l->spec.check)
        return r;
    l->figures.check = l->spec.check->name;
    spec.counters = &l->believed;
    spec.share = CHECK_SHARE;
    spec.steady = true;
    if (counters_init(&l->believed, counts(&l->spec)))
        return fail(err, EXIT_MEMORY, ENOMEM, "no memory for the counters of pages");
    return source_start(&l->check, l->spec.check, &spec, err);
}

/* Does the kernel move pages?  What moves cost depends on it. */
static bool by_kernel(struct pager *p)
{
    struct pager_stats s;

    pager_stats(p, &s);
    return s.kernel_moves;
}

int loop_start(struct page_loop **out, const struct loop_spec *spec, struct err *err)
{
    struct page_loop *l = xcalloc(1, sizeof(*l));
    pthread_condattr_t attr;
    int r;

    l->spec = *spec;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&l->lock, NULL);
    l->act = xcalloc(ACTIONS, sizeof(*l->act));
    l->figures.policy = spec->policy->name;
    l->figures.source = spec->source->name;
    l->figures.interval_ns = spec->interval_ns;
    l->figures.cpus = spec->cpus;
    read_totals(l);
    r = counters_init(&l->counters, counts(spec));
    if (!r)
        r = policy_init(&l->policy, spec->policy, &l->spec.machine, &l->spec.tune,
                        counts(spec));
    if (!r && !by_kernel(spec->pager))
        l->policy.cost = policy_cost_by_copy;
    if (r)
        fail(err, EXIT_MEMORY, ENOMEM, "no memory for the counters of pages");
    else
        r = start_sources(l, err);
    if (!r) {
        gather(l, &l->shown);
        r = pthread_create(&l->thread, NULL, pager_thread, l);
        if (r)
            r = fail_errno(err, EXIT_INTERNAL, r, "pthread_create for the pager");
    }
    if (r) {
        loop_free(l);
        return r;
    }
    *out = l;
    return 0;
}

void loop_stop(struct page_loop *l, struct loop_figures *last)
{
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->wake);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    gather(l, last);
    gather_done(l, last);
    loop_free(l);
}

void loop_pause(struct page_loop *l, bool paused)
{
    pthread_mutex_lock(&l->lock);
    l->paused = paused;
    l->began_ns = 0; /* the guest rests: that is no time in which it could have used pages */
    pthread_mutex_unlock(&l->lock);
}

/* ---- looking ---- */

/* Takes the lock if that is possible soon: while others keep the pager, a look at the guest's pages
 * can take long. */
static bool lock_soon(struct page_loop *l)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t); /* the one that pthread_mutex_timedlock() goes by */
    t.tv_nsec += FRESH_NS;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return !pthread_mutex_timedlock(&l->lock, &t);
}

void loop_figures(struct page_loop *l, struct loop_figures *out)
{
    if (lock_soon(l)) {
        gather(l, &l->shown);
        pthread_mutex_unlock(&l->lock);
    }
    *out = l->shown;
    gather_done(l, out);
}

void loop_use(struct page_loop *l, uint64_t gfn, struct page_use *use)
{
    pthread_mutex_lock(&l->lock);
    counters_get(&l->counters, gfn, use);
    pthread_mutex_unlock(&l->lock);
}

void loop_uses(struct page_loop *l, void (*see)(void *arg, const struct page_use *use),
               void *arg)
{
    struct page_use *use = xcalloc(1, sizeof(*use));
    uint32_t at = 0;
    bool more = true;

    while (more) {
        pthread_mutex_lock(&l->lock);
        for (unsigned i = 0; more && i < USES; i++) {
            more = counters_walk(&l->counters, &at, use);
            if (more)
                see(arg, use);
        }
        pthread_mutex_unlock(&l->lock);
    }
    free(use);
}

void loop_heat(struct page_loop *l, uint64_t *sum, uint64_t n)
{
    struct page_use use = {.n = 0};
    uint32_t at = 0;

    pthread_mutex_lock(&l->lock);
    while (counters_walk(&l->counters, &at, &use)) {
        uint64_t block = (use.page & ~PAGE_BLOCK) / PAGEMAP_BLOCK;

        for (unsigned i = 0; i < use.n && block < n; i++)
            sum[block] += (uint64_t)use.use[i].reads + use.use[i].writes;
    }
    pthread_mutex_unlock(&l->lock);
}

void loop_rehome(struct page_loop *l, int from, int to)
{
    pthread_mutex_lock(&l->lock);
    for (unsigned n = 0; n < l->spec.machine.nnodes; n++)
        if (l->spec.node_host[n] == from)
            l->spec.node_host[n] = to;
    read_totals(l);
    l->looked_ns = 0;
    pthread_mutex_unlock(&l->lock);
}
