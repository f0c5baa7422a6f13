/* SPDX-License-Identifier: MIT */
/*
 * Asks the kernel for the nodes of a guest's pages: move_pages(2) without a place to move to.
 *
 * The kernel answers for pages that are in this process's page tables.  A page the guest touched is
 * in those of a view's mapping, one that only a device touched in those of the alias: a sample
 * counts when any of the mappings has it.  Invariant U1: at most QUERIES pages are asked for.
 * Threads: any one; no state.
 */
#include "vmm/cell/usage.h"

#include <numa.h>
#include <numaif.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "vmm/machine/mem.h"

enum { QUERIES = 32768 };

/* The samples of one count. */
struct samples {
    unsigned n;    /* entries of all three */
    uint64_t *gpa; /* guest-physical addresses that no mapping had yet */
    void **page;   /* the same in the mapping that is asked now */
    int *status;   /* the kernel's answers: a node, or -errno */
};

/* Spreads the samples over RAM; as many as there are pages, or as U1 allows. */
static void spread(struct samples *s, const struct guest_mem *m)
{
    uint64_t pages = m->size / MEM_PAGE, most = QUERIES / (m->nviews + 1);

    s->n = (unsigned)(pages < most ? pages : most);
    s->gpa = xcalloc(s->n, sizeof(*s->gpa));
    s->page = xcalloc(s->n, sizeof(*s->page));
    s->status = xcalloc(s->n, sizeof(*s->status));
    for (unsigned i = 0; i < s->n; i++) {
        uint64_t at = (pages * i + pages / 2) / s->n * MEM_PAGE; /* the middle of its part */

        s->gpa[i] = at < m->low ? at : at - m->low + MEM_HIGH;
    }
}

/* Asks for the samples in one mapping and keeps those it does not have; false when the kernel does
 * not answer at all. */
static bool ask(struct samples *s, uint8_t *base, unsigned *hits)
{
    unsigned left = 0;

    for (unsigned i = 0; i < s->n; i++)
        s->page[i] = base + s->gpa[i];
    if (s->n && move_pages(0, s->n, s->page, NULL, s->status, 0) < 0)
        return false;
    for (unsigned i = 0; i < s->n; i++) {
        if (s->status[i] >= 0 && s->status[i] < USAGE_NODES)
            hits[s->status[i]]++;
        else
            s->gpa[left++] = s->gpa[i];
    }
    s->n = left;
    return true;
}

void mem_usage_share(struct mem_usage *u, const unsigned *hits)
{
    uint64_t sum = 0, given = 0;
    unsigned most = 0;

    memset(u->node, 0, sizeof(u->node));
    for (unsigned i = 0; i < USAGE_NODES; i++) {
        sum += hits[i];
        if (hits[i] > hits[most])
            most = i;
    }
    u->known = sum > 0 || !u->used;
    for (unsigned i = 0; i < USAGE_NODES && sum; i++) {
        u->node[i] =
            (uint64_t)((unsigned __int128)(u->used / MEM_PAGE) * hits[i] / sum) * MEM_PAGE;
        given += u->node[i];
    }
    if (sum)
        u->node[most] += u->used - given;
}

void mem_usage(const struct guest_mem *m, struct mem_usage *u)
{
    unsigned *hits = xcalloc(USAGE_NODES, sizeof(*hits));
    struct samples s = {0};
    struct stat st;
    bool ok = true;

    *u = (struct mem_usage){0};
    if (!fstat(m->fd, &st))
        u->used = (uint64_t)st.st_blocks * 512;
    if (numa_available() < 0 || numa_max_node() == 0) {
        hits[0] = 1; /* there is but one node */
    } else {
        spread(&s, m);
        for (unsigned i = 0; i < m->nviews && ok; i++)
            ok = ask(&s, m->view[i], hits);
        ok = ok && ask(&s, m->alias, hits);
    }
    mem_usage_share(u, hits);
    u->known = u->known && ok;
    free(hits);
    free(s.gpa);
    free(s.page);
    free(s.status);
}
