/* SPDX-License-Identifier: MIT */
/*
 * The source `flash`: the machine itself counts, for each page of its memory and each node, how
 * often the node's CPUs missed on it and wrote to it (numa/flash.h); this reads what has changed
 * and says it of the guest's pages, which vmm/pager/framemap.h knows.
 *
 * Only frames of the guest are looked at.  A frame has a mark, the sum of its counters when last
 * seen; where that differs the counters are compared one by one with the copy kept of them.  Where it
 * is 0 they were 0, whatever the copy says: zeroing the machine's counters touches no copies.  A
 * frame that is new to us begins with a copy of the counters as they are: what was counted before
 * was somebody else's use of it, or the copying of the page.  So do the frames of pages that the
 * pager has just acted upon.
 *
 * The frame's number says on which node it is, so the page map learns where masters are.
 *
 * Cost: at most spec.share of the guest's CPU time; what is not reached in an interval comes in
 * the next, with all its counts.  While little is remote, or looking takes longer than what is done
 * because of it, intervals pass between two looks.  The policy is told of how many intervals counts
 * are, on average.
 * Numbers are the machine's: whole, but not of one moment.  Threads: source.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/err.h"
#include "numa/flash.h"
#include "numa/policy.h"
#include "vmm/machine/mem.h"
#include "vmm/pager/framemap.h"
#include "vmm/pager/pager.h"
#include "vmm/pager/source.h"

#define FOUR_GIB (UINT64_C(1) << 32)

enum {
    LOOK = 128,     /* changed frames between two looks at the clock */
    SCAN_WORK = 16, /* of these, what a group costs where nothing has changed */
    QUIET = 4,      /* less than one use in so many is remote: little */
    PAUSE_SOME = 7, /* intervals */
    STILL = 8,      /* less than one in so many: very little */
    PAUSE_MOST = 31,
    RATE = 1024,   /* uses are counted in parts of so many */
    NEW = 2,       /* times as much remote as at the last look: something has begun */
    NODE_NONE = -1 /* a node of the host that is none of the guest's */
};

/* State. */
struct flash {
    struct memsys_header *h; /* shared with the machine */
    const uint64_t *count;  /* its counters: nnodes words a page, misses and writes in halves */
    uint64_t *old;          /* as they were when last looked at; sparse */
    struct framemap frames; /* whose they are */
    uint64_t low;           /* bytes of the machine's memory below 4 GiB */
    uint64_t budget_ns;     /* CPU time that an interval's work may take */
    uint64_t groups;        /* of frames */
    uint64_t cursor, left;  /* group that comes next, and how many are to be looked at */
    uint32_t ticks;         /* intervals in which the machine counted */
    uint32_t *looked;       /* of these, the last in which each group was looked at, */
    uint32_t scanned;       /* and in which any was */
    uint64_t changed;       /* frames, in this interval */
    uint64_t spans;         /* of these, intervals since each was last looked at, summed up */
    uint64_t resets, toggles;   /* of the header when last looked at */
    unsigned pause, paused;     /* intervals that pass between two looks, and have passed */
    uint64_t spent_ns;          /* CPU time of this look */
    uint64_t acted_ns;          /* of actions, until the last look ended */
    uint32_t ended;             /* and ticks then, */
    uint64_t rate;              /* and remote uses a tick, times RATE */
    uint64_t near, far;         /* uses seen before the last look, local and remote */
    unsigned nnodes;            /* of the machine */
    int8_t index[MEMSYS_NODES]; /* our node of each of the machine's */
};

/* ---- frames ---- */

/* False: the machine has no counters for a frame. */
static bool counted(const struct flash *f, uint64_t frame)
{
    return flash_page(frame * MEMSYS_PAGE, f->low) < f->h->pages;
}

/* The first word of a frame's counters. */
static uint64_t word_of(const struct flash *f, uint64_t frame)
{
    return flash_page(frame * MEMSYS_PAGE, f->low) * f->nnodes;
}

/* Our node that a frame is on. */
static int node_of(const struct flash *f, uint64_t frame)
{
    return f->index[flash_page(frame * MEMSYS_PAGE, f->low) / (f->h->node_bytes / MEMSYS_PAGE)];
}

/* A word of counters now. */
static uint64_t look(const struct flash *f, uint64_t word)
{
    return __atomic_load_n(&f->count[word], __ATOMIC_RELAXED);
}

/* The sum of a frame's counters, as its mark keeps it: 0 only if all are. */
static uint16_t sum_of(const struct flash *f, uint64_t word)
{
    uint64_t sum = 0;
    uint16_t mark;

    for (unsigned n = 0; n < f->nnodes; n++)
        sum += look(f, word + n);
    mark = (uint16_t)(sum + (sum >> 16) + (sum >> 32) + (sum >> 48));
    return mark || !sum ? mark : 1;
}

/* The master is on the frame's node: if the page map believes something else, tells it. */
static void tell_node(const struct flash *f, uint64_t gfn, uint64_t frame)
{
    struct page_info u = pagemap_get(pager_map(f->frames.pager), gfn);
    int node = node_of(f, frame);

    if (node != NODE_NONE && u.state == PAGE_PRIVATE && u.node != node)
        pager_place(f->frames.pager, gfn, (unsigned)node);
}

/* Counting begins anew for a frame. */
static void frame_found(void *arg, uint64_t gfn, uint64_t frame)
{
    struct flash *f = arg;
    struct frame *fr = &f->frames.frame[frame];
    uint64_t word = word_of(f, frame);

    if (!counted(f, frame))
        return;
    fr->mark = sum_of(f, word);
    for (unsigned n = 0; n < f->nnodes; n++)
        f->old[word + n] = look(f, word + n);
    if (!(fr->owner & FRAME_COPY))
        tell_node(f, gfn, frame);
}

/* Whether the frame is on the node where the page's master is to be, or is a replica. */
static bool agrees(const struct flash *f, uint64_t gfn, uint64_t frame)
{
    int node = node_of(f, frame);

    return f->frames.frame[frame].owner & FRAME_COPY || node == NODE_NONE ||
           pagemap_get(pager_map(f->frames.pager), gfn).node == node;
}

/* The page that a frame holds, beyond doubt; false: none. */
static bool page_in(struct flash *f, uint64_t frame, uint64_t *gfn)
{
    if (!framemap_find(&f->frames, frame, gfn))
        return false;
    if (agrees(f, *gfn, frame))
        return true;
    if (!framemap_confirm(&f->frames, frame) || !framemap_find(&f->frames, frame, gfn))
        return false;
    if (!(f->frames.frame[frame].owner & FRAME_COPY))
        tell_node(f, *gfn, frame);
    return true;
}

/* ---- counters ---- */

/* How much a counter has grown; after a reset it begins at 0. */
static uint32_t grown(uint32_t now, uint32_t before)
{
    return now >= before ? now - before : now;
}

/* So many samples' worth, as far as it goes into 32 bits. */
static uint32_t times(uint32_t n, uint32_t sample)
{
    uint64_t all = (uint64_t)n * sample;

    return all < UINT32_MAX ? (uint32_t)all : UINT32_MAX;
}

/* What a node did between two states of its counters. */
static struct node_use use_between(uint64_t now, uint64_t before, uint32_t sample)
{
    uint32_t misses = grown((uint32_t)now, (uint32_t)before);
    uint32_t writes = grown((uint32_t)(now >> 32), (uint32_t)(before >> 32));

    /* Lines that were there already, and only had to be had for writing, did not miss. */
    return (struct node_use){.reads = misses > writes ? times(misses - writes, sample) : 0,
                             .writes = times(writes, sample)};
}

/* A frame's counters have changed. */
static void count(struct source *s, uint64_t frame, uint16_t sum)
{
    struct flash *f = s->own;
    uint64_t word = word_of(f, frame), gfn;
    bool ours = page_in(f, frame, &gfn), copied = f->frames.frame[frame].mark;

    if (!ours)
        return;
    f->frames.frame[frame].mark = sum;
    for (unsigned n = 0; n < f->nnodes; n++) {
        uint64_t now = look(f, word + n);
        struct node_use use = use_between(now, copied ? f->old[word + n] : 0, f->h->sample);

        f->old[word + n] = now;
        if (f->index[n] == NODE_NONE || !(use.reads | use.writes))
            continue;
        use.node = (uint8_t)f->index[n];
        (void)source_saw(s, gfn, use);
    }
}

/* Looks at the frames of a group; how many have changed. */
static unsigned scan_group(struct source *s, uint64_t group)
{
    struct flash *f = s->own;
    uint64_t frame = group * FRAMEMAP_GROUP, end = frame + FRAMEMAP_GROUP;
    unsigned changed = 0, span = f->ticks - f->looked[group];

    if (end > f->frames.nframes)
        end = f->frames.nframes;
    f->looked[group] = f->ticks;
    for (; frame < end; frame++) {
        uint16_t sum;

        if (!f->frames.frame[frame].owner || !counted(f, frame))
            continue;
        sum = sum_of(f, word_of(f, frame));
        if (sum == f->frames.frame[frame].mark)
            continue;
        count(s, frame, sum);
        changed++;
    }
    f->changed += changed;
    f->spans += (uint64_t)changed * span;
    return changed;
}

/* Goes on with the groups, once round at most and until so much CPU time was used. */
static void scan(struct source *s, uint64_t until_ns)
{
    struct flash *f = s->own;
    unsigned work = 0;

    f->spans = f->changed = 0;
    s->traffic.passed = f->ticks - f->scanned;
    f->scanned = f->ticks;
    while (f->left) {
        uint64_t group = f->cursor;

        f->cursor = (group + 1) % f->groups;
        f->left--;
        if (!f->frames.group[group]) {
            f->looked[group] = f->ticks;
            continue;
        }
        work += SCAN_WORK + scan_group(s, group);
        if (work < LOOK)
            continue;
        work = 0;
        if (framemap_clock() >= until_ns)
            break;
    }
    s->traffic.span = f->changed ? (uint32_t)((f->spans + f->changed / 2) / f->changed) : 0;
}

/* The machine's counters have been zeroed. */
static void begin_anew(struct flash *f)
{
    for (uint64_t g = 0; g < f->groups; g++) {
        for (uint64_t i = 0; f->frames.group[g] && i < FRAMEMAP_GROUP; i++)
            f->frames.frame[g * FRAMEMAP_GROUP + i].mark = 0;
        f->looked[g] = f->ticks;
    }
    f->scanned = f->ticks;
    f->ticks++; /* whatever is there was counted since */
}

/* All frames are to be looked at, in this interval and the next ones. */
static void begin_look(struct flash *f)
{
    f->left = f->groups;
    f->paused = 0;
}

/* Whether looking took longer than what was done because of it; not where something has just begun. */
static bool is_dear(const struct source *s, uint64_t rate)
{
    const struct flash *f = s->own;

    return rate <= f->rate * NEW && f->spent_ns > s->acted_ns - f->acted_ns;
}

/* Intervals that may pass until the next look, after one that found so many uses. */
static unsigned may_pass(const struct source *s, uint64_t remote, uint64_t all, bool dear)
{
    if (s->spec.steady)
        return 0;
    if (all && (dear || remote * STILL <= all))
        return PAUSE_MOST;
    return remote * QUIET > all ? 0 : PAUSE_SOME;
}

/* From now on another look's cost, and what is done because of it, are added up. */
static void account_anew(struct source *s)
{
    struct flash *f = s->own;

    f->spent_ns = 0;
    f->acted_ns = s->acted_ns;
    f->ended = f->ticks;
}

/* They have been. */
static void end_look(struct source *s)
{
    struct flash *f = s->own;
    uint64_t near = 0, far = 0, remote, all, rate;
    unsigned most;

    for (unsigned n = 0; n < s->spec.nnodes; n++) {
        near += s->local[n];
        far += s->remote[n];
    }
    remote = far - f->far;
    all = remote + near - f->near;
    rate = remote * RATE / (f->ticks - f->ended ? f->ticks - f->ended : 1);
    most = may_pass(s, remote, all, is_dear(s, rate));
    f->pause = f->pause * 2 + 1 < most ? f->pause * 2 + 1 : most;
    f->near = near;
    f->far = far;
    f->rate = rate;
    account_anew(s);
}

static void collect(struct source *s)
{
    struct flash *f = s->own;
    uint32_t passed = s->traffic.passed;
    uint64_t began = framemap_clock();
    uint64_t resets = __atomic_load_n(&f->h->resets, __ATOMIC_ACQUIRE);
    uint64_t toggles = __atomic_load_n(&f->h->toggles, __ATOMIC_ACQUIRE);
    bool on = __atomic_load_n(&f->h->on, __ATOMIC_ACQUIRE);

    s->traffic.span = 0;
    if (on || toggles != f->toggles)
        f->ticks += passed;
    if (resets != f->resets)
        begin_anew(f);
    if (resets != f->resets || toggles != f->toggles) {
        f->pause = 0; /* what was found before says nothing of what comes */
        f->rate = 0;
        account_anew(s);
        begin_look(f);
    } else if (on && !f->left && f->paused++ >= f->pause)
        begin_look(f);
    f->resets = resets;
    f->toggles = toggles;
    framemap_refresh(&f->frames, began + f->budget_ns / 2);
    if (f->left) {
        scan(s, began + f->budget_ns);
        f->spent_ns += framemap_clock() - began;
        if (!f->left)
            end_look(s);
    }
    s->traffic.part = f->left > 0;
}

/* ---- actions ---- */

static void acted(struct source *s, const struct action *acts, unsigned n, unsigned good)
{
    struct flash *f = s->own;

    framemap_acted(&f->frames, acts, n, good);
}

/* ---- the source ---- */

static bool found(char *why, unsigned len)
{
    struct memsys_header *h = flash_open(NULL, why, len);

    if (!h)
        return false;
    flash_close(h);
    if (flash_low_memory())
        return framemap_allowed(why, len);
    snprintf(why, len, "/proc/iomem does not tell where the machine's memory is (be root)");
    return false;
}

static void stop(struct source *s)
{
    struct flash *f = s->own;

    if (!f)
        return;
    if (f->frames.pager)
        framemap_exit(&f->frames);
    if (f->h && f->old)
        munmap(f->old, f->h->pages * f->nnodes * sizeof(*f->old));
    flash_close(f->h);
    free(f->looked);
    free(f);
    s->own = NULL;
}

/* Our node of each of the machine's; false: the guest is on none of them. */
static bool match_nodes(struct flash *f, const struct source_spec *spec)
{
    bool some = false;

    for (unsigned n = 0; n < MEMSYS_NODES; n++) {
        f->index[n] = NODE_NONE;
        for (unsigned k = 0; k < spec->nnodes && n < f->nnodes; k++)
            if (spec->node_host[k] == (int)n)
                f->index[n] = (int8_t)k;
        some |= f->index[n] != NODE_NONE;
    }
    return some;
}

/* The copy of the counters, and the map. */
static int make(struct flash *f, const struct source_spec *spec, struct err *err)
{
    uint64_t bytes = f->h->pages * MEMSYS_PAGE;
    uint64_t top = bytes <= f->low ? bytes : FOUR_GIB + bytes - f->low;

    f->old = mmap(NULL, f->h->pages * f->nnodes * sizeof(*f->old), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (f->old == MAP_FAILED) {
        f->old = NULL;
        return fail_errno(err, EXIT_MEMORY, errno, "the copy of the machine's counters: mmap");
    }
    f->groups = (top / MEMSYS_PAGE + FRAMEMAP_GROUP - 1) / FRAMEMAP_GROUP;
    f->looked = xcalloc(f->groups, sizeof(*f->looked));
    return framemap_init(&f->frames, spec->pager, top / MEMSYS_PAGE, err);
}

static int start(struct source *s, struct err *err)
{
    const struct source_spec *spec = &s->spec;
    struct flash *f = xcalloc(1, sizeof(*f));
    char why[300];
    int r;

    s->own = f;
    f->h = flash_open(spec->region, why, sizeof(why));
    f->low = flash_low_memory();
    f->frames.pagemap = -1;
    if (!f->h || !f->low) {
        r = fail(err, EXIT_RESOURCE, ENODEV, "sampling by flash: %s",
                 f->h ? "/proc/iomem does not tell where the machine's memory is" : why);
        stop(s);
        return r;
    }
    f->nnodes = f->h->nnodes;
    f->count = (const uint64_t *)((const char *)f->h + f->h->pages_at);
    f->budget_ns = spec->interval_ns / 1000 * spec->share * spec->cpus;
    f->resets = f->h->resets;
    f->toggles = f->h->toggles;
    r = match_nodes(f, spec) ? make(f, spec, err)
                             : fail(err, EXIT_RESOURCE, ENODEV,
                                    "sampling by flash: the guest is on none of the machine's "
                                    "%u nodes",
                                    f->nnodes);
    if (r) {
        stop(s);
        return r;
    }
    f->frames.found = frame_found;
    f->frames.arg = f;
    return 0;
}

const struct source_ops source_flash = {
    .name = "flash",
    .about = "counters per page and node that the machine keeps (the lab's does)",
    .found = found,
    .start = start,
    .collect = collect,
    .acted = acted,
    .stop = stop,
};
