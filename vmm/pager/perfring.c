/* SPDX-License-Identifier: MIT */
/*
 * Reading the kernel's ring of samples: see the header.
 */
#include "vmm/pager/perfring.h"

#include <stdbool.h>
#include <string.h>

enum { ALIGN = 8 };

/* The records that are understood; all begin with a struct perf_event_header. */
struct sample_record {
    struct perf_event_header h;
    uint32_t cpu, reserved;
    uint64_t source;
    uint64_t phys;
};
struct lost_record {
    struct perf_event_header h;
    uint64_t id, lost;
};
struct lost_samples_record {
    struct perf_event_header h;
    uint64_t lost;
};

/* Copies bytes out of the ring, round its end. */
static void copy(const struct perfring *r, uint64_t at, void *to, uint64_t len)
{
    uint64_t from = at & (r->size - 1), part = r->size - from;

    if (part > len)
        part = len;
    memcpy(to, r->data + from, part);
    memcpy((uint8_t *)to + part, r->data, len - part);
}

/* Whether a record of so many bytes can be, where so many are left. */
static bool possible(uint64_t size, uint64_t left)
{
    return size >= sizeof(struct perf_event_header) && size <= left && size % ALIGN == 0;
}

/* Notes records that got lost. */
static void note_lost(struct perfring *r, const struct perf_event_header *h)
{
    struct lost_record l;
    struct lost_samples_record s;

    if (h->type == PERF_RECORD_LOST && h->size >= sizeof(l)) {
        copy(r, r->tail, &l, sizeof(l));
        r->lost += l.lost;
    } else if (h->type == PERF_RECORD_LOST_SAMPLES && h->size >= sizeof(s)) {
        copy(r, r->tail, &s, sizeof(s));
        r->lost += s.lost;
    }
}

/* Reads the record at the tail; true: it is a sample. */
static bool read_one(struct perfring *r, const struct perf_event_header *h,
                     struct perfring_sample *out)
{
    struct sample_record s;

    if (h->type != PERF_RECORD_SAMPLE) {
        note_lost(r, h);
        return false;
    }
    if (h->size != sizeof(s)) {
        r->bad++;
        return false;
    }
    copy(r, r->tail, &s, sizeof(s));
    *out = (struct perfring_sample){.phys = s.phys, .source = s.source, .cpu = s.cpu};
    return true;
}

unsigned perfring_take(struct perfring *r, uint64_t head, struct perfring_sample *out,
                       unsigned most)
{
    unsigned n = 0;

    if (head - r->tail > r->size) {
        r->bad++;
        r->tail = head;
    }
    while (n < most && r->tail != head) {
        struct perf_event_header h = {0};

        if (head - r->tail >= sizeof(h))
            copy(r, r->tail, &h, sizeof(h));
        if (!possible(h.size, head - r->tail)) {
            r->bad++;
            r->tail = head;
            break;
        }
        n += read_one(r, &h, &out[n]);
        r->tail += h.size;
    }
    return n;
}
