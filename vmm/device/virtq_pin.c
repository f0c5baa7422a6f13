/* SPDX-License-Identifier: MIT */
/*
 * Requests that a device has taken and not given back: which guest memory it may still write. 
 * As long as there is a pager (guest_mem.hook), mem_at(..., MEM_WRITE) keeps it from replicating
 * those pages; here is remembered what to tell mem_done() when the request is given back. 
 * Without a pager nothing is remembered and nothing costs.
 *
 * Invariant: each in-segment of a popped request is told to mem_done() once: by its vq_fill(),
 * its vq_unpop(), or the reset of the queue.  Locks: the device's is held.
 */
#include <stdlib.h>

#include "base/err.h"
#include "vmm/device/host.h"
#include "vmm/device/virtio.h"
#include "vmm/machine/mem.h"

/* One request. */
struct vq_pin {
    struct vq_pin *next; /* another one of the queue, in no order */
    uint16_t head;       /* its descriptor; hostile drivers may have several of one head */
    unsigned n;          /* entries of seg */
    struct {
        uint64_t gpa, len; /* as told to mem_at() */
    } seg[];
};

void vq_pin_drop(struct virtq *q, const struct vq_chain *c)
{
    for (unsigned i = 0; i < c->nin; i++)
        mem_done(q->dev->host->mem, c->in_gpa[i], c->in[i].iov_len);
}

void vq_pin_keep(struct virtq *q, const struct vq_chain *c)
{
    struct vq_pin *pin;

    if (!q->dev->host->mem->hook || !c->nin)
        return;
    pin = xcalloc(1, sizeof(*pin) + c->nin * sizeof(pin->seg[0]));
    pin->head = c->head;
    pin->n = c->nin;
    for (unsigned i = 0; i < c->nin; i++) {
        pin->seg[i].gpa = c->in_gpa[i];
        pin->seg[i].len = c->in[i].iov_len;
    }
    pin->next = q->pins;
    q->pins = pin;
}

/* Tells of all segments, and forgets them. */
static void end(struct virtq *q, struct vq_pin **at)
{
    struct vq_pin *pin = *at;

    for (unsigned i = 0; i < pin->n; i++)
        mem_done(q->dev->host->mem, pin->seg[i].gpa, pin->seg[i].len);
    *at = pin->next;
    free(pin);
}

void vq_pin_end(struct virtq *q, uint16_t head)
{
    struct vq_pin **at = &q->pins;

    while (*at && (*at)->head != head)
        at = &(*at)->next;
    if (*at)
        end(q, at);
}

void vq_pin_end_all(struct virtq *q)
{
    while (q->pins)
        end(q, &q->pins);
}
