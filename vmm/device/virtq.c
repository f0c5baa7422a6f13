/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueues (VIRTIO 1.2, 2.7): taking requests off a queue, giving them back, and the
 * suppression of kicks and interrupts.  Interface: virtio.h.
 *
 * Invariants.  Q1: every byte of the rings and buffers is reached through mem_at(), anew for each
 * use.  Q2: a field of guest memory is read once and checked as read; it may change at any time.
 * Q3: every walk ends: at most `size` descriptors of the table, at most VQ_MAX_SEGS of an indirect
 * one.
 *
 * Locks: all but vq_rekick() with the device's lock held.  Ordering against the driver, which
 * runs on other CPUs:
 *   avail->idx    load-acquire, before the ring entries and descriptors it covers are read
 *   used->idx     store, after the used entries and the data; seq_cst, since used_event (or
 *                 avail->flags) is read next and must not be read before the store is seen
 *   avail_event   store (or used->flags), seq_cst, before avail->idx is read again (vq_arm)
 */
#include <string.h>
#include <unistd.h>

#include "vmm/device/host.h"
#include "vmm/device/virtio.h"
#include "vmm/machine/mem.h"

/* Descriptor flags, ring flags and the layout of rings. */
enum {
    DESC_NEXT = 1,          /* descriptor: another one follows */
    DESC_WRITE = 2,         /* descriptor: the device writes, else it reads */
    DESC_INDIRECT = 4,      /* descriptor: a table of descriptors */
    AVAIL_NO_INTERRUPT = 1, /* available ring's flag: no interrupt wanted */
    USED_NO_NOTIFY = 1,     /* used ring's flag: no kick wanted */
    RING_ENTRIES = 4,       /* offset of the entries in both rings: flags, idx, then they */
    DESC_SIZE = 16,         /* one descriptor */
    USED_SIZE = 8,          /* one used entry */
};

/* A descriptor in guest memory; indirect tables need not be aligned. */
struct vq_desc {
    uint64_t addr;  /* gpa of the buffer */
    uint32_t len;   /* its bytes */
    uint16_t flags; /* DESC_* */
    uint16_t next;  /* the next one, if DESC_NEXT */
} __attribute__((packed));

/* One walk through a descriptor table. */
struct walk {
    const volatile struct vq_desc *table; /* where descriptors are read */
    unsigned n;                           /* entries of table */
    bool indirect;                        /* it is an indirect one */
};

/* True when the driver accepted a feature. */
static bool has(const struct virtq *q, unsigned bit)
{
    return q->dev->features >> bit & 1;
}

/* True when the rings may be touched. */
static bool usable(const struct virtq *q)
{
    return q->enabled && virtio_live(q->dev);
}

/* The available ring (flags, idx, ring[size], used_event) for reading; breaks and NULL: gone. */
static const uint16_t *avail_ring(struct virtq *q)
{
    const uint16_t *p =
        mem_at(q->dev->host->mem, q->avail, RING_ENTRIES + 2ull * q->size + 2, MEM_READ);

    if (!p)
        virtio_break(q->dev, "queue %u: available ring outside RAM", q->index);
    return p;
}

/* Bytes of the used ring. */
static uint64_t used_len(const struct virtq *q)
{
    return RING_ENTRIES + (uint64_t)USED_SIZE * q->size + 2;
}

/* The used ring (flags, idx, entries, avail_event) for writing, until used_done(); breaks and NULL:
 * gone. */
static uint8_t *used_ring(struct virtq *q)
{
    uint8_t *p = mem_at(q->dev->host->mem, q->used, used_len(q), MEM_WRITE);

    if (!p)
        virtio_break(q->dev, "queue %u: used ring outside RAM", q->index);
    return p;
}

/* The used ring is written. */
static void used_done(struct virtq *q)
{
    mem_done(q->dev->host->mem, q->used, used_len(q));
}

/* How many requests wait (may exceed size: the driver's fault); 0 when unusable. */
static uint16_t waiting(struct virtq *q)
{
    const uint16_t *avail;

    if (!usable(q))
        return 0;
    avail = avail_ring(q);
    if (!avail)
        return 0;
    return (uint16_t)(__atomic_load_n(&avail[1], __ATOMIC_SEQ_CST) - q->next_avail);
}

/* ---- taking requests ---- */

/* One copy of a descriptor, each field read once (Q2). */
static struct vq_desc desc_read(const struct walk *w, unsigned i)
{
    return (struct vq_desc){.addr = w->table[i].addr,
                            .len = w->table[i].len,
                            .flags = w->table[i].flags,
                            .next = w->table[i].next};
}

/* Adds one buffer to the chain; false: the device is broken. */
static bool add_segment(struct virtq *q, struct vq_chain *c, const struct vq_desc *d)
{
    bool in = d->flags & DESC_WRITE;
    void *p = mem_at(q->dev->host->mem, d->addr, d->len, in ? MEM_WRITE : MEM_READ);
    struct iovec seg = {.iov_base = p, .iov_len = d->len};

    if (!p) {
        virtio_break(q->dev, "queue %u: buffer of %u bytes at %#llx is not RAM", q->index,
                     d->len, (unsigned long long)d->addr);
        return false;
    }
    if (c->nout + c->nin == VQ_MAX_SEGS || c->out_len + c->in_len + d->len > UINT32_MAX) {
        if (in)
            mem_done(q->dev->host->mem, d->addr, d->len);
        virtio_break(q->dev, "queue %u: request too long", q->index);
        return false;
    }
    if (in) {
        if (!c->nin)
            c->in_gpa0 = d->addr;
        c->in_gpa[c->nin] = d->addr;
        c->in[c->nin++] = seg;
        c->in_len += d->len;
        return true;
    }
    if (c->nin) {
        virtio_break(q->dev, "queue %u: readable buffer after a writable one", q->index);
        return false;
    }
    if (!c->nout)
        c->out_gpa0 = d->addr;
    c->out[c->nout++] = seg;
    c->out_len += d->len;
    return true;
}

/* Goes over to the indirect table d points to; false: the device is broken. */
static bool enter_indirect(struct virtq *q, struct walk *w, const struct vq_desc *d)
{
    const char *fault = NULL;

    if (!has(q, VIRTIO_F_INDIRECT))
        fault = "was not agreed on";
    else if (w->indirect)
        fault = "inside an indirect one";
    else if (d->flags & DESC_NEXT)
        fault = "is not the last";
    else if (!d->len || d->len % DESC_SIZE || d->len / DESC_SIZE > VQ_MAX_SEGS)
        fault = "has a wrong length";
    else
        w->table = mem_at(q->dev->host->mem, d->addr, d->len, MEM_READ);
    if (!fault && !w->table)
        fault = "is not in RAM";
    if (fault) {
        virtio_break(q->dev, "queue %u: indirect descriptor %s", q->index, fault);
        return false;
    }
    w->n = d->len / DESC_SIZE;
    w->indirect = true;
    return true;
}

/* Collects the buffers of the chain from c->head; false: the device is broken. */
static bool walk_chain(struct virtq *q, struct vq_chain *c)
{
    struct walk w = {.n = q->size};
    unsigned i = c->head;

    w.table = mem_at(q->dev->host->mem, q->desc, (uint64_t)DESC_SIZE * q->size, MEM_READ);
    if (!w.table) {
        virtio_break(q->dev, "queue %u: descriptor table outside RAM", q->index);
        return false;
    }
    for (unsigned left = w.n; left; left--) {
        struct vq_desc d = desc_read(&w, i);

        if (d.flags & DESC_INDIRECT) {
            if (!enter_indirect(q, &w, &d))
                return false;
            i = 0;
            left = w.n + 1; /* a new table: its own bound, this step not counted */
            continue;
        }
        if (!add_segment(q, c, &d))
            return false;
        if (!(d.flags & DESC_NEXT))
            return true;
        i = d.next;
        if (i >= w.n) {
            virtio_break(q->dev, "queue %u: next descriptor %u of %u", q->index, i, w.n);
            return false;
        }
    }
    virtio_break(q->dev, "queue %u: descriptors form a loop", q->index);
    return false;
}

int vq_pop(struct virtq *q, struct vq_chain *c)
{
    const uint16_t *avail;
    uint16_t n = waiting(q);

    if (q->dev->broken)
        return -1;
    if (!n)
        return 0;
    if (n > q->size) {
        virtio_break(q->dev, "queue %u: available index jumped by %u, size %u", q->index, n,
                     q->size);
        return -1;
    }
    avail = avail_ring(q);
    if (!avail)
        return -1;
    c->nout = c->nin = 0; /* not the arrays: they are large */
    c->out_len = c->in_len = 0;
    c->out_gpa0 = c->in_gpa0 = 0;
    c->head = __atomic_load_n(&avail[2 + q->next_avail % q->size], __ATOMIC_RELAXED);
    if (c->head >= q->size) {
        virtio_break(q->dev, "queue %u: descriptor %u of %u", q->index, c->head, q->size);
        return -1;
    }
    if (!walk_chain(q, c)) {
        vq_pin_drop(q, c);
        return -1;
    }
    vq_pin_keep(q, c);
    q->last_head = c->head;
    q->next_avail++;
    return 1;
}

void vq_unpop(struct virtq *q)
{
    q->next_avail--;
    vq_pin_end(q, q->last_head);
}

/* ---- giving requests back ---- */

void vq_fill(struct virtq *q, unsigned i, uint16_t head, uint32_t len)
{
    uint32_t entry[2] = {head, len};
    uint8_t *used;

    if (!usable(q))
        return;
    used = used_ring(q);
    if (!used)
        return;
    memcpy(used + RING_ENTRIES + (uint16_t)(q->next_used + i) % q->size * USED_SIZE, entry,
           sizeof(entry));
    used_done(q);
    vq_pin_end(q, head);
}

void vq_publish(struct virtq *q, unsigned n)
{
    uint16_t idx = (uint16_t)(q->next_used + n);
    uint8_t *used;

    if (!n || !usable(q))
        return;
    used = used_ring(q);
    if (!used)
        return;
    /* After 2^16 entries without an interrupt `signalled` means nothing any more. */
    if ((uint16_t)(q->next_used - q->signalled) + n > UINT16_MAX)
        q->signalled_valid = false;
    q->next_used = idx;
    __atomic_store_n((uint16_t *)(void *)(used + 2), idx, __ATOMIC_SEQ_CST);
    used_done(q);
}

void vq_push(struct virtq *q, uint16_t head, uint32_t len)
{
    vq_fill(q, 0, head, len);
    vq_publish(q, 1);
}

/* True when the driver wants to hear of what was pushed since the last interrupt. */
static bool wants_interrupt(struct virtq *q)
{
    const uint16_t *avail = avail_ring(q);
    uint16_t event, old = q->signalled;

    if (!avail)
        return false;
    if (!has(q, VIRTIO_F_EVENT_IDX))
        return !(__atomic_load_n(&avail[0], __ATOMIC_SEQ_CST) & AVAIL_NO_INTERRUPT);
    event = __atomic_load_n(&avail[2 + q->size], __ATOMIC_SEQ_CST);
    return !q->signalled_valid ||
           (uint16_t)(q->next_used - event - 1) < (uint16_t)(q->next_used - old);
}

void vq_signal(struct virtq *q)
{
    bool wanted;

    if (!usable(q) || (q->signalled_valid && q->signalled == q->next_used))
        return;
    wanted = wants_interrupt(q);
    q->signalled = q->next_used;
    q->signalled_valid = true;
    if (!wanted)
        return;
    q->signals++;
    atomic_fetch_or(&q->dev->isr, 1);
    if (q->vector != VIRTIO_NO_VECTOR)
        pci_msix_raise(&q->dev->pci, q->vector);
}

/* ---- kicks ---- */

bool vq_more(struct virtq *q)
{
    return waiting(q) != 0;
}

bool vq_arm(struct virtq *q)
{
    uint8_t *used;
    uint16_t *event;

    if (!usable(q))
        return false;
    used = used_ring(q);
    if (!used)
        return false;
    if (has(q, VIRTIO_F_EVENT_IDX)) {
        event = (uint16_t *)(void *)(used + RING_ENTRIES + (size_t)USED_SIZE * q->size);
        __atomic_store_n(event, q->next_avail, __ATOMIC_SEQ_CST);
    } else {
        __atomic_store_n((uint16_t *)(void *)used, 0, __ATOMIC_SEQ_CST);
    }
    used_done(q);
    return vq_more(q);
}

void vq_disarm(struct virtq *q)
{
    uint8_t *used;

    /* With event indices the index stays where it was passed: no kick until it is set again. */
    if (!usable(q) || has(q, VIRTIO_F_EVENT_IDX))
        return;
    used = used_ring(q);
    if (!used)
        return;
    __atomic_store_n((uint16_t *)(void *)used, USED_NO_NOTIFY, __ATOMIC_RELAXED);
    used_done(q);
}

void vq_rekick(struct virtq *q)
{
    uint64_t one = 1;

    if (write(q->kickfd, &one, sizeof(one)) < 0)
        return; /* the counter is full: a kick is under way */
}

/* ---- segments ---- */

/* Copies between segments and a buffer; from or to is NULL. Returns bytes moved. */
static size_t iov_copy(const struct iovec *iov, unsigned n, size_t off, void *to,
                       const void *from, size_t len)
{
    size_t done = 0;

    for (unsigned i = 0; i < n && done < len; i++) {
        size_t part = iov[i].iov_len;
        uint8_t *p = iov[i].iov_base;

        if (off >= part) {
            off -= part;
            continue;
        }
        part -= off;
        if (part > len - done)
            part = len - done;
        if (to)
            memcpy((uint8_t *)to + done, p + off, part);
        else
            memcpy(p + off, (const uint8_t *)from + done, part);
        done += part;
        off = 0;
    }
    return done;
}

size_t iov_out(const struct iovec *iov, unsigned n, size_t off, void *to, size_t len)
{
    return iov_copy(iov, n, off, to, NULL, len);
}

size_t iov_in(const struct iovec *iov, unsigned n, size_t off, const void *from, size_t len)
{
    return iov_copy(iov, n, off, NULL, from, len);
}
