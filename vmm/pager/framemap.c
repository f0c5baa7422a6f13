/* SPDX-License-Identifier: MIT */
/*
 * Which frames hold the guest's pages; see the header.
 *
 * F2 holds because what a view of a node sees of a page is judged by what the page map said
 * before its page table was read: a page that was replicated then is taken for a replica even if
 * it has collapsed meanwhile, and found out when it is used.  Pages are replicated by the thread
 * that reads, and by calls from outside (whole-guest moves), which migrate only.
 */
#include "vmm/pager/framemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "numa/policy.h"
#include "vmm/pager/private.h"

#define PRESENT (UINT64_C(1) << 63)       /* of an entry of pagemap */
#define NUMBER  ((UINT64_C(1) << 55) - 1) /* the frame's */

enum {
    PAUSE_MOST = 4,  /* pause before the last time that a changed chunk is read */
    SLOW = 1024,     /* intervals that a round takes when nothing changes */
    SEARCH = 16,     /* pages that are looked for, for each chunk read in an interval */
    GONE = 16,       /* of so many pages one has left the store: what is known is old */
    PASSED = 4096,   /* chunks passed over before one is read and the clock looked at */
    AFTER_FOUND = 1, /* pause of a chunk where something new was found, or is to be */
};

/* ---- making ---- */

/* Memory that is used where it is written only; NULL: none left. */
static void *sparse(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

static void drop(void *at, size_t bytes)
{
    if (at)
        munmap(at, bytes);
}

/* Pages of RAM below the hole, and in all. */
static uint64_t low_pages(const struct framemap *m)
{
    return m->pager->spec.mem->low >> PAGE_SHIFT;
}

static uint64_t ram_pages(const struct guest_mem *mem)
{
    return (mem->low + mem->high) >> PAGE_SHIFT;
}

/* Bytes of the sparse arrays. */
static size_t frame_bytes(const struct framemap *m)
{
    return m->nframes * sizeof(*m->frame);
}

static size_t group_bytes(const struct framemap *m)
{
    return (m->nframes / FRAMEMAP_GROUP + 1) * sizeof(*m->group);
}

static size_t chunk_bytes(const struct framemap *m)
{
    return (m->chunks + 63) / 64 * sizeof(*m->queued);
}

bool framemap_allowed(char *why, unsigned len)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    uint64_t entry = 0;
    bool got = fd >= 0 && pread(fd, &entry, sizeof(entry),
                                (off_t)(((uintptr_t)&entry >> PAGE_SHIFT) * sizeof(entry))) ==
                              sizeof(entry);

    if (fd >= 0)
        close(fd);
    if (got && entry & NUMBER)
        return true;
    snprintf(why, len,
             "physical addresses cannot be told apart: /proc/self/pagemap hides frames "
             "(CAP_SYS_ADMIN is needed)");
    return false;
}

uint64_t framemap_top(void)
{
    FILE *f = fopen("/proc/iomem", "re");
    unsigned long long start, end, top = 0;
    char line[256];

    while (f && fgets(line, sizeof(line), f))
        if (strstr(line, "System RAM") && sscanf(line, " %llx-%llx", &start, &end) == 2 &&
            end > top)
            top = end;
    if (f)
        fclose(f);
    return (top + 1) >> PAGE_SHIFT;
}

int framemap_init(struct framemap *m, struct pager *p, uint64_t nframes, struct err *err)
{
    char why[200];

    *m = (struct framemap){.pager = p, .nframes = nframes, .pagemap = -1, .now = 1};
    if (!framemap_allowed(why, sizeof(why)))
        return fail(err, EXIT_PERMISSION, EPERM, "%s", why);
    INVARIANT(p->spec.mem->span >> PAGE_SHIFT < FRAME_COPY - 1, "F1: a gfn has 31 bits");
    m->chunks = ram_pages(p->spec.mem) / FRAMEMAP_CHUNK;
    m->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    m->frame = sparse(frame_bytes(m));
    m->group = sparse(group_bytes(m));
    m->queued = sparse(chunk_bytes(m));
    m->full = sparse(chunk_bytes(m));
    m->read = sparse(m->chunks * sizeof(*m->read));
    m->seen = sparse(m->chunks * sizeof(*m->seen));
    m->due = xcalloc(FRAMEMAP_AGAIN, sizeof(*m->due));
    if (m->pagemap >= 0 && m->frame && m->group && m->queued && m->full && m->read && m->seen)
        return 0;
    framemap_exit(m);
    return fail(err, EXIT_MEMORY, ENOMEM, "no memory for a map of %llu frames",
                (unsigned long long)nframes);
}

void framemap_exit(struct framemap *m)
{
    if (m->pagemap >= 0)
        close(m->pagemap);
    drop(m->frame, frame_bytes(m));
    drop(m->group, group_bytes(m));
    drop(m->queued, chunk_bytes(m));
    drop(m->full, chunk_bytes(m));
    drop(m->read, m->chunks * sizeof(*m->read));
    drop(m->seen, m->chunks * sizeof(*m->seen));
    free(m->due);
    *m = (struct framemap){.pagemap = -1};
}

/* ---- chunks ---- */

/* A chunk's first page, and the chunk of a page; gfn is RAM. */
static uint64_t chunk_gfn(const struct framemap *m, uint64_t chunk)
{
    uint64_t at = chunk * FRAMEMAP_CHUNK, low = low_pages(m);

    return at < low ? at : at - low + (MEM_HIGH >> PAGE_SHIFT);
}

static uint64_t chunk_of(const struct framemap *m, uint64_t gfn)
{
    uint64_t low = low_pages(m);

    return (gfn < low ? gfn : gfn - (MEM_HIGH >> PAGE_SHIFT) + low) / FRAMEMAP_CHUNK;
}

/* Has a chunk read again; when there are too many the rotation will come by. */
static void again(struct framemap *m, uint64_t chunk, uint32_t pause)
{
    if (chunk >= m->chunks || m->ndue == FRAMEMAP_AGAIN ||
        m->queued[chunk / 64] >> chunk % 64 & 1)
        return;
    m->queued[chunk / 64] |= UINT64_C(1) << chunk % 64;
    m->due[m->ndue++] =
        (struct frame_again){.chunk = (uint32_t)chunk, .due = m->now + 1, .pause = pause};
}

/* ---- reading ---- */

/* Notes that a page is in a frame.  True: that was not known. */
static bool note(struct framemap *m, uint64_t number, uint32_t owner)
{
    struct frame *f = &m->frame[number];
    bool fresh = f->owner != owner;

    if (fresh) {
        m->group[number / FRAMEMAP_GROUP] += !f->owner;
        f->owner = owner;
        f->mark = 0;
    }
    f->stamp = (uint16_t)m->now;
    return fresh;
}

static void forget(struct framemap *m, uint64_t number)
{
    m->group[number / FRAMEMAP_GROUP]--;
    m->frame[number] = (struct frame){0};
}

/* Which of n pages the views of a node have replicas of, one byte each; false: of none. */
static bool replicas_of(const struct framemap *m, uint64_t gfn, unsigned n, unsigned node,
                        bool *copy)
{
    bool some = false;

    if (!pagemap_watched(m->pager->map, gfn, n))
        return false;
    for (unsigned i = 0; i < n; i++) {
        struct page_info u = pagemap_get(m->pager->map, gfn + i);

        copy[i] = sees_replica(&u, node);
        some |= copy[i];
    }
    return some;
}

/* A look at what mappings have of some pages. */
struct look {
    uint64_t gfn;     /* the first */
    unsigned n;       /* how many, at most FRAMEMAP_CHUNK */
    bool tell;        /* found() is to hear of all, not just of new ones */
    uint64_t seen;    /* bit per page: it is in one of the mappings */
    unsigned fresh;   /* frames that are new to us */
    unsigned missing; /* replicas that are not in a mapping that should have them */
};

/* Reads what one mapping has of them; `node` is its views', -1: the alias, which has masters only. */
static void read_mapping(struct framemap *m, const uint8_t *base, int node, struct look *l)
{
    uint64_t entry[FRAMEMAP_CHUNK], first = ((uintptr_t)base >> PAGE_SHIFT) + l->gfn;
    bool copy[FRAMEMAP_CHUNK],
        copies = node >= 0 && replicas_of(m, l->gfn, l->n, (unsigned)node, copy);
    ssize_t got =
        pread(m->pagemap, entry, l->n * sizeof(*entry), (off_t)(first * sizeof(*entry)));

    for (unsigned i = 0; i < l->n && (ssize_t)((i + 1) * sizeof(*entry)) <= got; i++) {
        bool is_copy = copies && copy[i], is_new;
        uint64_t number = entry[i] & NUMBER;

        if (!(entry[i] & PRESENT) || !number || number >= m->nframes) {
            l->missing += is_copy;
            continue;
        }
        l->seen |= UINT64_C(1) << i;
        is_new = note(m, number, (uint32_t)(l->gfn + i + 1) | (is_copy ? FRAME_COPY : 0));
        l->fresh += is_new;
        if ((is_new || l->tell) && m->found)
            m->found(m->arg, l->gfn + i, number);
    }
}

/* Whether each page was seen. */
static bool complete(const struct look *l)
{
    return !(~l->seen << (64 - l->n));
}

/* Reads what mappings have of a chunk: all, where a page may have replicas, else until each page
 * was seen. */
static unsigned read_chunk(struct framemap *m, uint64_t chunk)
{
    const struct pager *p = m->pager;
    struct look l = {.gfn = chunk_gfn(m, chunk), .n = FRAMEMAP_CHUNK};
    uint64_t bit = UINT64_C(1) << chunk % 64;
    bool copies = pagemap_watched(p->map, l.gfn, FRAMEMAP_CHUNK);

    for (unsigned v = 0; v < p->nviews && (copies || !complete(&l)); v++)
        read_mapping(m, p->spec.mem->view[v], p->spec.view_node[v], &l);
    if (!complete(&l))
        read_mapping(m, p->spec.mem->alias, -1, &l);
    m->read[chunk] = (uint16_t)m->now;
    m->located -= m->seen[chunk];
    m->seen[chunk] = (uint8_t)__builtin_popcountll(l.seen);
    m->located += m->seen[chunk];
    m->full[chunk / 64] &= ~bit;
    m->full[chunk / 64] |= !complete(&l) || copies ? 0 : bit;
    return l.fresh;
}

/* Reads where pages within a chunk are after an action: masters in the alias, through which they were
 * moved and copied; replicas where a new one is.  If one is to be found later has all read again.
 * Before Linux 6.6 reading a page's entry costs as much as reading all up to the end of its 2 MiB. */
static void read_changed(struct framemap *m, const struct action *a, uint64_t gfn, unsigned n)
{
    const struct pager *p = m->pager;
    struct look l = {.gfn = gfn, .n = n, .tell = true};

    for (unsigned v = 0; v < p->nviews && a->act == ACT_REPLICATE; v++)
        if (p->spec.view_node[v] == a->node)
            read_mapping(m, p->spec.mem->view[v], a->node, &l);
    l.seen = 0;
    read_mapping(m, p->spec.mem->alias, -1, &l);
    for (unsigned v = 0; v < p->nviews && !complete(&l); v++)
        read_mapping(m, p->spec.mem->view[v], p->spec.view_node[v], &l);
    if (l.missing || !complete(&l))
        again(m, chunk_of(m, gfn), AFTER_FOUND);
}

/* The same for any number of pages. */
static void changed(struct framemap *m, const struct action *a, uint64_t gfn, uint64_t n)
{
    uint64_t end = gfn + clip(m->pager, gfn, n);

    for (unsigned part; gfn < end; gfn += part) {
        part = FRAMEMAP_CHUNK - (unsigned)(gfn % FRAMEMAP_CHUNK);
        if (part > end - gfn)
            part = (unsigned)(end - gfn);
        read_changed(m, a, gfn, part);
    }
}

void framemap_acted(struct framemap *m, const struct action *acts, unsigned n, unsigned good)
{
    for (unsigned i = 0; i < n; i++)
        m->told += action_pages(&acts[i]);
    for (unsigned i = 0; i < good;) {
        const struct action *first = &acts[i];
        uint64_t pages;

        i += policy_run(first, good - i, &pages);
        changed(m, first, action_gfn(first), pages);
    }
}

/* ---- an interval ---- */

uint64_t framemap_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Pages of the store that are in no mapping as far as we know, but for those that were not found
 * when all had been read. */
static uint64_t missing(struct framemap *m)
{
    uint64_t away = m->allocated > m->located ? m->allocated - m->located : 0;

    if (m->unfound > away)
        m->unfound = away;
    return away - m->unfound;
}

/* All chunks have been read, or need not be: what is missing of the pages that were there when
 * that began cannot be found. */
static void been_round(struct framemap *m)
{
    m->unfound = m->at_round > m->located ? m->at_round - m->located : 0;
    m->at_round = m->allocated;
}

/* How large is the store, have many pages left it, and did others move pages? */
static void look_for_growth(struct framemap *m)
{
    struct pager_stats stats;
    struct stat st;
    uint64_t moved;

    if (!fstat(m->pager->spec.mem->fd, &st)) {
        uint64_t now = (uint64_t)st.st_blocks * 512 >> PAGE_SHIFT;

        m->gone += now < m->allocated ? m->allocated - now : 0;
        m->allocated = now;
    }
    pager_stats(m->pager, &stats);
    moved = stats.migrated + stats.replicated;
    if (moved - m->moved > m->told || m->gone > m->allocated / GONE) {
        m->strayed = m->chunks;
        m->gone = 0;
    }
    m->moved = moved;
    m->told = 0;
}

/* Reads chunks that are due, as far as time goes; the others stay due. */
static void read_due(struct framemap *m, uint64_t until_ns)
{
    unsigned left = 0;
    bool time = true;

    for (unsigned i = 0; i < m->ndue; i++) {
        struct frame_again a = m->due[i];
        bool due = (int32_t)(m->now - a.due) >= 0;

        time = time && (!due || framemap_clock() < until_ns);
        if (time && due) {
            a.pause = read_chunk(m, a.chunk) ? AFTER_FOUND : a.pause * 2;
            a.due = m->now + a.pause;
        }
        if (a.pause > PAUSE_MOST)
            m->queued[a.chunk / 64] &= ~(UINT64_C(1) << a.chunk % 64);
        else
            m->due[left++] = a;
    }
    m->ndue = left;
}

/* Goes on with the rotation: slowly; faster when pages are missing, the more of them the faster,
 * and then chunks that have all their pages are passed over; all of them, whatever they have, as
 * fast as time allows when pages have moved, or many have gone, without our hearing of it. */
static void rotate(struct framemap *m, uint64_t until_ns)
{
    uint64_t slow = m->chunks / SLOW + 1, search = missing(m) / SEARCH,
             n = search > slow ? search : slow;
    unsigned passed = 0;

    for (uint64_t left = m->chunks; left && (n || m->strayed); left--) {
        uint64_t chunk = m->cursor;

        m->cursor = (chunk + 1) % m->chunks;
        if (!m->cursor)
            been_round(m);
        if (m->strayed)
            m->strayed--;
        else if (search > slow && m->full[chunk / 64] >> chunk % 64 & 1 && ++passed % PASSED)
            continue;
        n -= n > 0;
        if (read_chunk(m, chunk) && search <= slow)
            again(m, chunk, AFTER_FOUND);
        if (framemap_clock() >= until_ns)
            break;
    }
}

void framemap_refresh(struct framemap *m, uint64_t until_ns)
{
    m->now++;
    look_for_growth(m);
    read_due(m, until_ns);
    if (m->chunks)
        rotate(m, until_ns);
}

/* ---- asking ---- */

bool framemap_confirm(struct framemap *m, uint64_t number)
{
    struct frame *f = &m->frame[number];
    uint64_t chunk = chunk_of(m, (f->owner & ~FRAME_COPY) - 1);

    if (m->read[chunk] != (uint16_t)m->now)
        (void)read_chunk(m, chunk);
    if (f->owner && f->stamp == (uint16_t)m->now)
        return true;
    if (f->owner)
        forget(m, number);
    return false;
}

/* Whether what is known of a frame is old, or cannot be. */
static bool doubtful(const struct framemap *m, const struct frame *f)
{
    uint64_t gfn = (f->owner & ~FRAME_COPY) - 1;

    if ((uint16_t)(m->now - f->stamp) > FRAMEMAP_ROUND)
        return true;
    return f->owner & FRAME_COPY && pagemap_get(m->pager->map, gfn).state != PAGE_REPLICATED;
}

bool framemap_find(struct framemap *m, uint64_t number, uint64_t *gfn)
{
    struct frame *f;

    if (number >= m->nframes || !m->frame[number].owner)
        return false;
    f = &m->frame[number];
    if (doubtful(m, f) && !framemap_confirm(m, number))
        return false;
    *gfn = (f->owner & ~FRAME_COPY) - 1;
    return true;
}
