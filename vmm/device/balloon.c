/* SPDX-License-Identifier: MIT */
/*
 * virtio balloon (VIRTIO 1.2, 5.5): the guest gives pages up on request, takes them back when it
 * must, tells its memory statistics, and reports free pages by itself.
 *
 * A page given up becomes a hole of the store: all views lose it at once, and its next touch finds
 * a fresh zero page.  So deflating needs nothing of us.  Neighbours are freed in one call.
 *
 * Memory of 2 MiB hugetlb pages was taken from their pool when the guest was made, so that it
 * cannot run short of them.  Reporting would give them back behind the user's back, and when
 * others have taken them the guest dies of its next touch: there it is not offered.
 *
 * Bounds: a request holds at most REQUEST_PAGES page numbers, a kick serves KICK_REQUESTS.
 * Locks: everything under the device's lock; balloon_set_target and balloon_get take it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/device/devices.h"
#include "vmm/device/host.h"
#include "vmm/device/virtio.h"
#include "vmm/machine/mem.h"

enum {
    BALLOON_ID = 5,             /* virtio's number of the device */
    BALLOON_CLASS = 0x00ff0000, /* unclassified */
    F_STATS_VQ = 1,             /* feature: the guest tells statistics */
    F_DEFLATE_ON_OOM = 2,       /* feature: the guest may take pages back in need */
    F_REPORTING = 5,            /* feature: the guest tells of free pages by itself */
    QUEUES = 4,           /* inflate, deflate, then statistics and reporting if agreed on */
    QUEUE_SIZE = 128,     /* entries of each */
    CONFIG_LEN = 8,       /* num_pages, actual */
    BATCH = 1024,         /* page numbers sorted at a time */
    REQUEST_PAGES = 4096, /* most page numbers in a request */
    KICK_REQUESTS = 8,    /* requests served before others have their turn */
    STAT_FREE = 4,        /* tags of the guest's statistics */
    STAT_TOTAL = 5,       /* bytes the guest has */
    STAT_AVAILABLE = 6,   /* bytes it could get without swapping */
    STAT_SIZE = 10,       /* bytes of one: tag 16, value 64 bits, packed */
    STATS_MOST = 64,      /* statistics looked at in one message */
};

#define STATS_AGE_NS 1000000000ull /* statistics are asked for at most so often */

/* The device. */
struct balloon {
    struct virtio_dev dev;      /* first */
    uint32_t target;            /* pages asked for: num_pages of the configuration */
    uint32_t actual;            /* pages given up, as the driver says */
    struct balloon_stats guest; /* the guest's statistics and bytes reported */
    struct virtq *stats_q;      /* the queue of each job while the driver is ready, else NULL */
    struct virtq *reporting_q;  /* likewise */
    bool stats_held;            /* the driver's statistics buffer is ours: stats_head */
    uint16_t stats_head;        /* its head */
    uint64_t stats_asked;       /* when it was last given back, monotonic ns */
    uint32_t pfn[BATCH];        /* page numbers in work */
    struct vq_chain chain;      /* the request in work */
    struct dev_stats stats;     /* counters */
};

/* Monotonic time, ns. */
static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Frees the machine memory of [gpa, gpa+len), all RAM; false: it is not, the device is broken. */
static bool punch(struct balloon *b, uint64_t gpa, uint64_t len)
{
    const struct guest_mem *m = b->dev.host->mem;

    if (!mem_at(m, gpa, len, MEM_WRITE)) {
        virtio_break(&b->dev, "gives up %#llx bytes at %#llx that are not RAM",
                     (unsigned long long)len, (unsigned long long)gpa);
        return false;
    }
    if (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)gpa, (off_t)len)) {
        if (!b->stats.errors++)
            log_warn("%s: fallocate: %s: memory given up stays in use", b->dev.label,
                     strerror(errno));
    }
    mem_done(m, gpa, len);
    return true;
}

/* ---- inflating and deflating ---- */

/* Order of page numbers, for qsort(). */
static int compare_pfn(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* Frees n pages of b->pfn, neighbours together; false: the device is broken. */
static bool give_up(struct balloon *b, unsigned n)
{
    uint32_t *p = b->pfn;

    qsort(p, n, sizeof(*p), compare_pfn);
    for (unsigned i = 0, run; i < n; i += run) {
        uint64_t pages;

        for (run = 1; i + run < n && p[i + run] - p[i + run - 1] <= 1; run++)
            ;
        pages = p[i + run - 1] - p[i] + 1;
        if (!punch(b, p[i] * MEM_PAGE, pages * MEM_PAGE))
            return false;
    }
    return true;
}

/* Inflates by the page numbers of the request; false: the device is broken. */
static bool inflate(struct balloon *b)
{
    const struct vq_chain *c = &b->chain;
    size_t off = 0, len = c->out_len & ~(size_t)3;

    if (len / 4 > REQUEST_PAGES) {
        virtio_break(&b->dev, "request of %zu pages, at most %d", len / 4, REQUEST_PAGES);
        return false;
    }
    while (off < len) {
        size_t got = iov_out(c->out, c->nout, off, b->pfn, sizeof(b->pfn));

        if (!give_up(b, (unsigned)(got / 4)))
            return false;
        off += got;
    }
    b->stats.bytes_out += len / 4 * MEM_PAGE;
    return true;
}

/* Free-page reporting: each segment the device may write is free, whole pages of it go. */
static bool report(struct balloon *b)
{
    const struct vq_chain *c = &b->chain;

    for (unsigned i = 0; i < c->nin; i++) {
        uint64_t from = (c->in_gpa[i] + MEM_PAGE - 1) & ~(MEM_PAGE - 1);
        uint64_t to = (c->in_gpa[i] + c->in[i].iov_len) & ~(MEM_PAGE - 1);

        if (from >= to)
            continue;
        if (!punch(b, from, to - from))
            return false;
        b->guest.reported += to - from;
    }
    return true;
}

/* Serves a queue: work(b) on each request. */
static void serve(struct balloon *b, struct virtq *q, bool (*work)(struct balloon *b))
{
    unsigned left = KICK_REQUESTS;

    do {
        while (left && vq_pop(q, &b->chain) == 1) {
            left--;
            b->stats.requests++;
            if (work && !work(b))
                return;
            vq_push(q, b->chain.head, 0);
        }
        vq_signal(q);
    } while (left && vq_arm(q));
    if (!left)
        vq_rekick(q);
}

/* ---- statistics ---- */

/* Takes the numbers the driver put into its buffer. */
static void parse_stats(struct balloon *b)
{
    uint8_t one[STAT_SIZE];

    for (unsigned i = 0; i < STATS_MOST; i++) {
        uint16_t tag;
        uint64_t val;

        if (iov_out(b->chain.out, b->chain.nout, (size_t)i * STAT_SIZE, one, STAT_SIZE) !=
            STAT_SIZE)
            return;
        memcpy(&tag, one, 2);
        memcpy(&val, one + 2, 8);
        if (tag == STAT_FREE)
            b->guest.free = val;
        else if (tag == STAT_TOTAL)
            b->guest.total = val;
        else if (tag == STAT_AVAILABLE)
            b->guest.available = val;
    }
}

/* The driver filled the statistics buffer: keeps it until new ones are wanted. */
static void stats_kick(struct balloon *b)
{
    struct virtq *q = b->stats_q;

    do {
        while (!b->stats_held && vq_pop(q, &b->chain) == 1) {
            parse_stats(b);
            b->stats_held = true;
            b->stats_head = b->chain.head;
        }
    } while (vq_arm(q) && !b->stats_held);
}

/* Gives the statistics buffer back, which asks for new numbers. */
static void stats_ask(struct balloon *b)
{
    uint64_t now = now_ns();

    if (!b->stats_held || now - b->stats_asked < STATS_AGE_NS)
        return;
    b->stats_held = false;
    b->stats_asked = now;
    vq_push(b->stats_q, b->stats_head, 0);
    vq_signal(b->stats_q);
    if (vq_more(b->stats_q))
        vq_rekick(b->stats_q);
}

/* ---- the device ---- */

/* Buffers on a queue; which queue does what was agreed on at the start. */
static void balloon_kick(struct virtio_dev *d, unsigned qi)
{
    struct balloon *b = (struct balloon *)d;
    struct virtq *q = &d->vq[qi];

    if (qi == 0)
        serve(b, q, inflate);
    else if (qi == 1)
        serve(b, q, NULL);
    else if (q == b->stats_q)
        stats_kick(b);
    else if (q == b->reporting_q)
        serve(b, q, report);
}

/* Queues are numbered without gaps, in the order of the features that were accepted. */
static void balloon_start(struct virtio_dev *d)
{
    struct balloon *b = (struct balloon *)d;
    unsigned next = 2;

    b->stats_q = d->features >> F_STATS_VQ & 1 ? &d->vq[next++] : NULL;
    b->reporting_q = d->features >> F_REPORTING & 1 ? &d->vq[next] : NULL;
    b->stats_asked = now_ns() - STATS_AGE_NS;
}

/* The driver is gone, and with it its buffer and its numbers; what it gave up it may use again. */
static void balloon_stop(struct virtio_dev *d)
{
    struct balloon *b = (struct balloon *)d;

    b->stats_q = b->reporting_q = NULL;
    b->stats_held = false;
    b->actual = 0;
    b->guest.free = b->guest.available = b->guest.total = 0;
}

/* num_pages and actual, both little-endian. */
static void config_read(struct virtio_dev *d, unsigned off, void *data, unsigned len)
{
    const struct balloon *b = (const struct balloon *)d;
    uint32_t config[2] = {b->target, b->actual};

    memcpy(data, (const uint8_t *)config + off, len);
}

/* The driver may write `actual` only. */
static void config_write(struct virtio_dev *d, unsigned off, const void *data, unsigned len)
{
    struct balloon *b = (struct balloon *)d;

    if (off == 4 && len == 4)
        memcpy(&b->actual, data, 4);
}

void balloon_set_target(struct virtio_dev *d, uint64_t bytes)
{
    struct balloon *b = (struct balloon *)d;
    uint64_t most = d->host->mem->size / MEM_PAGE, pages = bytes / MEM_PAGE;

    virtio_lock(d);
    b->target = (uint32_t)(pages < most ? pages : most);
    virtio_config_changed(d);
    virtio_unlock(d);
}

void balloon_get(struct virtio_dev *d, struct balloon_stats *out)
{
    struct balloon *b = (struct balloon *)d;

    virtio_lock(d);
    *out = b->guest;
    out->target = b->target * MEM_PAGE;
    out->actual = b->actual * MEM_PAGE;
    stats_ask(b);
    virtio_unlock(d);
}

/* Counters; bytes given up count as bytes from the guest. */
static void balloon_dev_stats(struct virtio_dev *d, struct dev_stats *out)
{
    *out = ((struct balloon *)d)->stats;
}

/* See virtio_type.free. */
static void balloon_free(struct virtio_dev *d)
{
    virtio_exit(d);
    free(d);
}

static const struct virtio_type balloon_type = {
    .name = "balloon",
    .id = BALLOON_ID,
    .pci_class = BALLOON_CLASS,
    .config_len = CONFIG_LEN,
    .config_read = config_read,
    .config_write = config_write,
    .kick = balloon_kick,
    .start = balloon_start,
    .stop = balloon_stop,
    .free = balloon_free,
    .stats = balloon_dev_stats,
};

/* True when guest memory comes from the hugetlb pool. */
static bool on_hugetlb(const struct dev_host *host)
{
    struct statfs fs;

    return !fstatfs(host->mem->fd, &fs) && fs.f_type == HUGETLBFS_MAGIC;
}

int balloon_new(struct virtio_dev **out, const struct dev_host *host, struct pci_bus *bus,
                struct err *err)
{
    struct balloon *b = xcalloc(1, sizeof(*b));
    uint64_t features = 1ull << F_STATS_VQ | 1ull << F_DEFLATE_ON_OOM;
    int r;

    if (!on_hugetlb(host))
        features |= 1ull << F_REPORTING;
    r = virtio_init(&b->dev, &balloon_type, "balloon0", QUEUES, QUEUE_SIZE, features, host,
                    bus);
    if (r) {
        free(b);
        return fail_errno(err, EXIT_INTERNAL, -r, "balloon: cannot set up the device");
    }
    *out = &b->dev;
    return 0;
}
