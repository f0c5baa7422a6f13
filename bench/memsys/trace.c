/* SPDX-License-Identifier: MIT */
/*
 * Writes a trace.  Each CPU gathers in a small table, direct-mapped by page; an entry goes to the
 * file when another page wants its place or when the interval is over.
 * Invariant: times in the file never decrease; the file never has more than `most` records.
 */
#include "bench/memsys/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 4096 };

/* What a CPU did to a page in this interval; accesses == 0: free. */
struct entry {
    uint32_t page;
    uint32_t accesses, misses;
    uint8_t guest, write;
};

struct trace {
    FILE *f;
    struct trace_header h;  /* as written */
    uint64_t most;          /* records */
    uint64_t written, lost; /* records */
    uint64_t next;          /* instructions at which the interval ends */
    bool failed;            /* the file could not be written */
    struct entry entry[TRACE_CPUS][ENTRIES];
};

struct trace *trace_new(const char *path, const struct trace_header *h, uint64_t most)
{
    struct trace *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->f = fopen(path, "we");
    if (!t->f || fwrite(h, sizeof(*h), 1, t->f) != 1) {
        if (t->f)
            fclose(t->f);
        free(t);
        return NULL;
    }
    t->h = *h;
    t->most = most;
    t->next = h->interval;
    return t;
}

/* One entry becomes a record, or is lost. */
static void put(struct trace *t, unsigned cpu, struct entry *e, uint64_t time)
{
    struct trace_record r = {.time = time,
                             .page = e->page,
                             .cpu = (uint8_t)cpu,
                             .guest = e->guest,
                             .write = e->write,
                             .accesses = e->accesses,
                             .misses = e->misses};

    e->accesses = 0;
    if (t->written >= t->most || t->failed) {
        t->lost++;
        return;
    }
    if (fwrite(&r, sizeof(r), 1, t->f) != 1) {
        t->failed = true;
        t->lost++;
        return;
    }
    t->written++;
}

void trace_flush(struct trace *t, uint64_t insns)
{
    for (unsigned c = 0; c < t->h.ncpus && c < TRACE_CPUS; c++)
        for (unsigned i = 0; i < ENTRIES; i++)
            if (t->entry[c][i].accesses)
                put(t, c, &t->entry[c][i], insns);
    fflush(t->f);
}

void trace_access(struct trace *t, unsigned cpu, unsigned guest, uint32_t page, bool write,
                  bool miss, uint64_t insns)
{
    struct entry *e;

    if (insns >= t->next) {
        trace_flush(t, insns);
        t->next = insns - insns % t->h.interval + t->h.interval;
    }
    e = &t->entry[cpu][(page * 2 + write) % ENTRIES];
    if (e->accesses && (e->page != page || e->guest != guest || e->accesses == UINT32_MAX))
        put(t, cpu, e, insns);
    if (!e->accesses)
        *e = (struct entry){.page = page, .guest = (uint8_t)guest, .write = write};
    e->accesses++;
    e->misses += miss;
}

void trace_numbers(const struct trace *t, uint64_t *written, uint64_t *lost)
{
    *written = t->written;
    *lost = t->lost;
}

int trace_close(struct trace *t, uint64_t insns)
{
    int err;

    trace_flush(t, insns);
    err = t->failed || ferror(t->f) ? -EIO : 0;
    if (fclose(t->f))
        err = -errno;
    free(t);
    return err;
}
