/* SPDX-License-Identifier: MIT */
/*
 * Which frames of the machine's memory hold pages of the guest: sources of samples that tell
 * physical addresses need it (flash, ibs, pebs).  Found by reading /proc/self/pagemap of the
 * views and the alias, in runs; a replica's frame belongs to the same gfn as its master's.
 *
 * Nobody tells when a page gets a frame or loses it, and reading all page tables in each interval
 * would cost more than sampling may.  So chunks of pages are read
 *   - when the pager has changed something there (framemap_acted): the alias, through which it did
 *     that, and views that have a new replica; all of a chunk, a few times over, where one of these
 *     has no entry for a page before it is used again,
 *   - in rotation: slowly; faster the more pages of the store are in no mapping that was read; and as
 *     fast as the budget allows when somebody else has moved pages or many have left the store,
 *   - when what is known of a frame that was used is old, or contradicts the page map.
 * So what framemap_find() says was true within the last FRAMEMAP_ROUND intervals, or is checked,
 * and a frame that the guest has just got is unknown for a while: its uses are not counted.
 *
 * Invariants.  F1: a frame belongs to one page at most.  F2: a replica's frame is never taken for
 * the master's.  F3: a call reads until its budget is used, and one chunk at least.
 * Threads: one at a time, the pager's.
 */
#ifndef DISCO_VMM_PAGER_FRAMEMAP_H
#define DISCO_VMM_PAGER_FRAMEMAP_H

#include <stdbool.h>
#include <stdint.h>

struct action;
struct err;
struct guest_mem;
struct pager;

enum {
    FRAMEMAP_GROUP = 512,  /* frames that are counted together; a power of two */
    FRAMEMAP_CHUNK = 64,   /* pages that are read together; divides 512 */
    FRAMEMAP_ROUND = 1024, /* intervals for which what was read is believed */
    FRAMEMAP_AGAIN = 4096  /* chunks that are to be read again, at most */
};

#define FRAME_COPY (UINT32_C(1) << 31)

/* A frame. */
struct frame {
    uint32_t owner; /* gfn + 1, and FRAME_COPY in a replica; 0: not the guest's */
    uint16_t mark;  /* anything; 0 when the owner changes */
    uint16_t stamp; /* interval in which it was last seen, as far as it fits */
};

/* A chunk to be read again. */
struct frame_again {
    uint32_t chunk; /* number, in RAM without the hole */
    uint32_t due;   /* interval */
    uint32_t pause; /* intervals until the next time after that */
};

/* What is known. */
struct framemap {
    struct pager *pager; /* whose pages */
    /* A page was found in a frame in which it was not known to be, or framemap_read() found it;
     * NULL: nobody wants to know. */
    void (*found)(void *arg, uint64_t gfn, uint64_t frame);
    void *arg;               /* first argument of found */
    int pagemap;             /* /proc/self/pagemap */
    struct frame *frame;     /* nframes, sparse */
    uint16_t *group;         /* frames of the guest in each FRAMEMAP_GROUP */
    uint64_t nframes;        /* of the machine */
    uint64_t chunks;         /* in RAM */
    struct frame_again *due; /* FRAMEMAP_AGAIN */
    unsigned ndue;           /* of these, in use */
    uint64_t *queued;        /* bit per chunk: it is among due[] */
    uint16_t *read;          /* interval in which each chunk was last read, as stamps are */
    uint64_t *full;          /* bit per chunk: all its pages were found, none has replicas */
    uint8_t *seen;           /* pages of each chunk that were in a mapping when it was read */
    uint64_t cursor;         /* chunk that the rotation reads next */
    uint64_t strayed;   /* chunks to be read since pages have moved without our hearing of it */
    uint64_t gone;      /* pages that left the store since the last time all were */
    uint64_t located;   /* pages: the sum of seen */
    uint64_t allocated; /* pages in the store when last asked, and when the rotation was at */
    uint64_t at_round;  /* its beginning */
    uint64_t unfound;   /* pages of the store that a whole round did not find */
    uint64_t moved, told; /* pages moved and copied: by the pager in all, and told to us */
    uint32_t now;         /* number of the interval */
};

/* Whether this process may see frames; if not, why (up to len bytes).  Any thread. */
bool framemap_allowed(char *why, unsigned len);

/* One past the last frame of the machine's memory; 0: it does not tell (root is needed). */
uint64_t framemap_top(void);

/* Knows nothing yet of frames 0..nframes-1.  0 or -errno with a message. */
int framemap_init(struct framemap *m, struct pager *p, uint64_t nframes, struct err *err);
void framemap_exit(struct framemap *m);

/* An interval begins: reads what is due, until the thread has used so much CPU time in all
 * (CLOCK_THREAD_CPUTIME_ID, ns). */
void framemap_refresh(struct framemap *m, uint64_t until_ns);

/* The page that a frame holds; false: none of the guest's. */
bool framemap_find(struct framemap *m, uint64_t frame, uint64_t *gfn);

/* Reads what now holds the page of a frame that framemap_find() has just found, once an interval:
 * is it still true? */
bool framemap_confirm(struct framemap *m, uint64_t frame);

/* The pager did the first `good` of n actions, and tried the others: reads where pages of the former
 * are now, neighbours at once, and found() hears of all. */
void framemap_acted(struct framemap *m, const struct action *acts, unsigned n, unsigned good);

/* CPU time of the calling thread, ns. */
uint64_t framemap_clock(void);

#endif
