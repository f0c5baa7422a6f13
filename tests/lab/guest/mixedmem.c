/* SPDX-License-Identifier: MIT */
/*
 * mixedmem: the memory part of the mixed load: a thread for each CPU, all at work on the same pages, hopping from CPU
 * to CPU, with every result known, so that one lost write shows.
 *
 * Use: mixedmem SECONDS [SEED].  Four kinds of work, interleaved at random:
 *   counters   increments by LOCK XADD, CMPXCHG and CMPXCHG16B, some across two pages; each thread counts what it
 *              added, and the sums must be the counters;
 *   slots      words that one thread writes and all read, on pages that all write: the writer finds what it wrote, the
 *              readers never see one go back, nor a flag before what was stored before it;
 *   table      pages that all read, as a whole, and somebody rewrites now and then, under a lock of each page;
 *   maps       mmap, mremap, madvise, mprotect, munmap of filled memory, small, huge and shared, checked by whoever
 *              gets it handed over.
 * Every CHECK_MS all threads meet and the first two are compared as a whole.
 * Prints "MEM rounds N counted N slots N table N writes N maps N lost N order N wrong N"; lost: writes that are gone or
 * were seen to go back; order: a flag before its data; wrong: contents of the table and the maps. Status 0 when
 * these three are 0.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    THREADS = 64,       /* most there can be */
    COUNTER_PAGES = 12, /* pages of counters */
    COUNTERS = 8,       /* of each page; the last crosses to the next page */
    SLOT_PAGES = 24,
    TABLE_PAGES = 32,
    WORDS = PAGE / 8,
    CHECK_MS = 2000,
    HUGE = 2 << 20,
};

/* What a thread knows of its own doing; on pages of its own. */
struct worker {
    pthread_t thread;                        /* set by main */
    unsigned id;                             /* 0 .. threads-1 */
    uint64_t rng;                            /* state of the generator, never 0 */
    uint64_t added[COUNTER_PAGES][COUNTERS]; /* to each counter */
    uint64_t pair[COUNTER_PAGES];            /* to each 16-byte counter */
    uint64_t mine[SLOT_PAGES];               /* last value written to the own slot */
    uint64_t seen[SLOT_PAGES][THREADS];      /* last value read of others' slots */
    uint64_t versions[TABLE_PAGES];          /* times that this thread rewrote a page */
    uint64_t rounds, counted, slots, table, writes, maps; /* work done */
    uint64_t lost, order, wrong;                          /* what must stay 0 */
} __attribute__((aligned(PAGE)));

/* Words of all threads on a page; data is written before the flag of the same value on the next page. */
struct slot_page {
    uint64_t data[THREADS];
    uint64_t flag[THREADS];
    uint8_t rest[PAGE - 2 * 8 * THREADS];
};

/* Filled memory on its way to another thread. */
struct map {
    uint64_t *at;
    size_t bytes;
    uint64_t seed;
};

/* All that is shared. */
struct shared {
    uint8_t counters[(COUNTER_PAGES + 1) * PAGE];
    struct slot_page slots[SLOT_PAGES];
    uint64_t table[TABLE_PAGES][WORDS];
    pthread_rwlock_t locks[TABLE_PAGES];
    struct map *mail[THREADS]; /* atomic; a map for that thread, or none */
    pthread_barrier_t meet;    /* all threads and main */
    int halt;                  /* atomic: 1 meet, 2 end */
    unsigned threads;
};

static struct shared *sh;
static struct worker *workers;

/* xorshift64*. */
static uint64_t draw(struct worker *w)
{
    w->rng ^= w->rng >> 12;
    w->rng ^= w->rng << 25;
    w->rng ^= w->rng >> 27;
    return (w->rng * 0x2545f4914f6cdd1dULL) >> 16;
}

static void hop(struct worker *w)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(draw(w) % sh->threads, &set);
    sched_setaffinity(0, sizeof(set), &set);
}

/* Where a counter is: spread over the page, the last one half on the next page. */
static uint64_t *counter(unsigned page, unsigned i)
{
    size_t at = i == COUNTERS - 1 ? PAGE - 4 : 256 + i * 392;

    return (uint64_t *)(void *)(sh->counters + page * PAGE + at);
}

/* The 16-byte counter of a page: both halves always hold the same. */
static uint64_t *pair(unsigned page)
{
    return (uint64_t *)(void *)(sh->counters + page * PAGE + 64);
}

static void add_locked(uint64_t *at, uint64_t n)
{
    __asm__ volatile("lock xaddq %0, (%1)" : "+r"(n) : "r"(at) : "memory", "cc");
}

static void add_by_cas(uint64_t *at, uint64_t n)
{
    uint64_t old = __atomic_load_n(at, __ATOMIC_RELAXED);

    while (
        !__atomic_compare_exchange_n(at, &old, old + n, 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        ;
}

static void add_pair(uint64_t *at, uint64_t n)
{
    uint64_t low = at[0], high = at[1];
    int done = 0;

    do {
        __asm__ volatile("lock cmpxchg16b (%5)"
                         : "=@ccz"(done), "+a"(low), "+d"(high)
                         : "b"(low + n), "c"(high + n), "r"(at)
                         : "memory");
    } while (!done);
}

static void work_counters(struct worker *w)
{
    for (unsigned n = 0; n < 24; n++) {
        unsigned page = draw(w) % COUNTER_PAGES, i = draw(w) % (COUNTERS + 1);
        uint64_t by = 1 + draw(w) % 7;

        w->counted++;
        if (i == COUNTERS) {
            add_pair(pair(page), by);
            w->pair[page] += by;
            continue;
        }
        if (i % 3 == 2 && i != COUNTERS - 1)
            add_by_cas(counter(page, i), by);
        else
            add_locked(counter(page, i), by);
        w->added[page][i] += by;
    }
}

/* The own slot: what was written last must be there, in both places. */
static void write_slot(struct worker *w, unsigned page)
{
    volatile uint64_t *data = &sh->slots[page].data[w->id];
    volatile uint64_t *flag = &sh->slots[(page + 1) % SLOT_PAGES].flag[w->id];

    w->lost += (*data != w->mine[page]) + (*flag != w->mine[page]);
    w->mine[page]++;
    *data = w->mine[page];
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    *flag = w->mine[page];
}

/* Another's slot: the flag read first is never ahead of the data, and neither goes back. */
static void read_slot(struct worker *w, unsigned page, unsigned who)
{
    uint64_t flag =
        __atomic_load_n(&sh->slots[(page + 1) % SLOT_PAGES].flag[who], __ATOMIC_ACQUIRE);
    uint64_t data = __atomic_load_n(&sh->slots[page].data[who], __ATOMIC_ACQUIRE);

    w->order += data < flag;
    w->lost += data < w->seen[page][who];
    w->seen[page][who] = data;
}

static void work_slots(struct worker *w)
{
    for (unsigned n = 0; n < 24; n++) {
        unsigned page = draw(w) % SLOT_PAGES;

        if (n % 3 == 0)
            write_slot(w, page);
        else
            read_slot(w, page, draw(w) % sh->threads);
        w->slots++;
    }
}

static uint64_t table_word(uint64_t version, unsigned page, unsigned i)
{
    return version * 0x9e3779b97f4a7c15ULL + page * 8191 + i;
}

/* The words of a page that are not those of the version in its first word. */
static uint64_t table_wrong(unsigned page, uint64_t version)
{
    uint64_t wrong = 0;

    for (unsigned i = 1; i < WORDS; i++)
        wrong += sh->table[page][i] != table_word(version, page, i);
    return wrong;
}

static void write_table(unsigned page, uint64_t version)
{
    sh->table[page][0] = version;
    for (unsigned i = 1; i < WORDS; i++)
        sh->table[page][i] = table_word(version, page, i);
}

/* A copy by REP MOVSB out of two neighbouring pages, whose locks the caller holds, to an odd address. */
static void copy_table(struct worker *w, unsigned page)
{
    uint8_t buf[320];
    const uint8_t *from = (const uint8_t *)sh->table[page + 1] - 150;
    const void *s = from;
    void *d = buf + 3;
    size_t n = 300;

    __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n)::"memory");
    w->wrong += memcmp(buf + 3, from, 300) != 0;
}

static void work_table(struct worker *w)
{
    unsigned page = draw(w) % (TABLE_PAGES - 1);

    if (draw(w) % 48 == 0) {
        pthread_rwlock_wrlock(&sh->locks[page]);
        write_table(page, sh->table[page][0] + 1);
        pthread_rwlock_unlock(&sh->locks[page]);
        w->versions[page]++;
        w->writes++;
        return;
    }
    pthread_rwlock_rdlock(&sh->locks[page]);
    w->wrong += table_wrong(page, sh->table[page][0]);
    if (!pthread_rwlock_tryrdlock(&sh->locks[page + 1])) {
        copy_table(w, page);
        pthread_rwlock_unlock(&sh->locks[page + 1]);
    }
    pthread_rwlock_unlock(&sh->locks[page]);
    w->table++;
}

/* Large memory is filled in part: the first word of each 64 bytes. */
static size_t stride(size_t bytes)
{
    return bytes > 64 * PAGE ? 512 : 1;
}

static void fill(uint64_t *at, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes / 8; i += stride(bytes))
        at[i] = seed + i * 0x9e3779b97f4a7c15ULL;
}

/* Words that differ from what fill() wrote between two of its words. */
static uint64_t differ(const uint64_t *at, size_t bytes, size_t from, size_t to, uint64_t seed)
{
    uint64_t n = 0, step = stride(bytes);

    for (size_t i = from; i < to; i += step)
        n += at[i] != seed + i * 0x9e3779b97f4a7c15ULL;
    return n;
}

/* Memory of a random kind and size. */
static void make_map(struct worker *w, struct map *m)
{
    int flags = MAP_ANONYMOUS | (draw(w) % 4 == 0 ? MAP_SHARED : MAP_PRIVATE);

    m->bytes = draw(w) % 16 == 0 ? HUGE : (1 + draw(w) % 24) * PAGE;
    m->seed = draw(w);
    m->at = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (m->at == MAP_FAILED) {
        perror("mixedmem: mmap");
        exit(3);
    }
    if (m->bytes == HUGE)
        madvise(m->at, m->bytes, draw(w) % 2 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    fill(m->at, m->bytes, m->seed);
}

/* Half of it is given back: zeroes when private, still there when shared. Filled again then. */
static void punch(struct worker *w, struct map *m)
{
    size_t from = m->bytes / PAGE / 2 * WORDS;
    uint64_t *upper = m->at + from;

    if (m->bytes < 2 * PAGE)
        return;
    if (madvise(upper, m->bytes - from * 8, MADV_DONTNEED))
        return;
    if (upper[0])
        w->wrong += differ(m->at, m->bytes, from, m->bytes / 8, m->seed);
    else
        for (size_t i = from; i < m->bytes / 8; i += stride(m->bytes))
            w->wrong += m->at[i] != 0;
    w->wrong += differ(m->at, m->bytes, 0, from, m->seed);
    fill(m->at, m->bytes, m->seed);
}

/* Moves and grows it, which edits page tables only: the contents come along. */
static void move(struct worker *w, struct map *m)
{
    size_t old = m->bytes / 8, bytes = m->bytes + (1 + draw(w) % 8) * PAGE;
    uint64_t *at;

    if (m->bytes > 24 * PAGE)
        return;
    at = mremap(m->at, m->bytes, bytes, MREMAP_MAYMOVE);
    if (at == MAP_FAILED)
        return;
    w->wrong += differ(at, m->bytes, 0, old, m->seed);
    m->at = at;
    /* Shared memory does not grow: only what is its own may be touched. */
    at = mremap(m->at, bytes, m->bytes, 0);
    w->wrong += at != m->at;
}

static void drop_map(struct worker *w, struct map *m)
{
    w->wrong += differ(m->at, m->bytes, 0, m->bytes / 8, m->seed);
    munmap(m->at, m->bytes);
    free(m);
    w->maps++;
}

static void work_maps(struct worker *w)
{
    struct map *m = malloc(sizeof(*m)), *none = NULL, *got;

    make_map(w, m);
    switch (draw(w) % 4) {
    case 0:
        punch(w, m);
        break;
    case 1:
        move(w, m);
        break;
    case 2:
        mprotect(m->at, m->bytes, PROT_READ);
        w->wrong += differ(m->at, m->bytes, 0, m->bytes / 8, m->seed);
        mprotect(m->at, m->bytes, PROT_READ | PROT_WRITE);
        break;
    }
    if (!__atomic_compare_exchange_n(&sh->mail[draw(w) % sh->threads], &none, m, 0,
                                     __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        drop_map(w, m);
    got = __atomic_exchange_n(&sh->mail[w->id], NULL, __ATOMIC_SEQ_CST);
    if (got)
        drop_map(w, got);
}

static void *run(void *arg)
{
    struct worker *w = arg;

    for (;;) {
        int halt = __atomic_load_n(&sh->halt, __ATOMIC_ACQUIRE);

        if (halt) {
            pthread_barrier_wait(&sh->meet);
            if (halt == 2)
                return NULL;
            pthread_barrier_wait(&sh->meet);
        }
        if (w->rounds++ % 16 == 0)
            hop(w);
        work_counters(w);
        work_slots(w);
        work_table(w);
        if (w->rounds % 2)
            work_maps(w);
    }
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* What is missing of all counters. All threads stand still. */
static uint64_t check_counters(void)
{
    uint64_t lost = 0;

    for (unsigned page = 0; page < COUNTER_PAGES; page++) {
        uint64_t sum = 0;

        for (unsigned i = 0; i < COUNTERS; i++, sum = 0) {
            for (unsigned t = 0; t < sh->threads; t++)
                sum += workers[t].added[page][i];
            lost += distance(sum, *counter(page, i));
        }
        for (unsigned t = 0; t < sh->threads; t++)
            sum += workers[t].pair[page];
        lost += distance(sum, pair(page)[0]) + distance(sum, pair(page)[1]);
    }
    return lost;
}

/* Slots and pages of the table that are not as they were written last. All threads stand still. */
static uint64_t check_pages(void)
{
    uint64_t lost = 0;

    for (unsigned page = 0; page < SLOT_PAGES; page++)
        for (unsigned t = 0; t < sh->threads; t++)
            lost += sh->slots[page].data[t] != workers[t].mine[page];
    for (unsigned page = 0; page < TABLE_PAGES; page++) {
        uint64_t writes = 0;

        for (unsigned t = 0; t < sh->threads; t++)
            writes += workers[t].versions[page];
        lost += distance(writes, sh->table[page][0]);
    }
    return lost;
}

static void set_up(uint64_t seed)
{
    sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    workers = mmap(NULL, THREADS * sizeof(*workers), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED || workers == MAP_FAILED) {
        perror("mixedmem: mmap");
        exit(3);
    }
    sh->threads = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    if (sh->threads > THREADS)
        sh->threads = THREADS;
    pthread_barrier_init(&sh->meet, NULL, sh->threads + 1);
    for (unsigned page = 0; page < TABLE_PAGES; page++) {
        pthread_rwlock_init(&sh->locks[page], NULL);
        write_table(page, 0);
    }
    for (unsigned t = 0; t < sh->threads; t++) {
        workers[t].id = t;
        workers[t].rng = seed * 1000003 + t + 1;
        pthread_create(&workers[t].thread, NULL, run, &workers[t]);
    }
}

/* Sums of all threads; what they still had for each other is checked as well. */
static int report(uint64_t lost)
{
    struct worker all = {0};

    for (unsigned t = 0; t < sh->threads; t++) {
        struct worker *w = &workers[t];

        pthread_join(w->thread, NULL);
        if (sh->mail[t])
            drop_map(w, sh->mail[t]);
        all.rounds += w->rounds, all.counted += w->counted, all.slots += w->slots;
        all.table += w->table, all.writes += w->writes, all.maps += w->maps;
        lost += w->lost, all.order += w->order, all.wrong += w->wrong;
    }
    printf("MEM rounds %lu counted %lu slots %lu table %lu writes %lu maps %lu lost %lu order "
           "%lu wrong %lu\n",
           all.rounds, all.counted, all.slots, all.table, all.writes, all.maps, lost, all.order,
           all.wrong);
    return lost || all.order || all.wrong;
}

int main(int argc, char **argv)
{
    time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 10);
    uint64_t lost = 0;

    /* Compilers and modules have the CPUs first. */
    if (nice(12) == -1)
        return 3;
    set_up(argc > 2 ? strtoull(argv[2], NULL, 0) : 1);
    for (int halt = 1; halt == 1;) {
        usleep(CHECK_MS * 1000);
        halt = time(NULL) < end ? 1 : 2;
        __atomic_store_n(&sh->halt, halt, __ATOMIC_RELEASE);
        pthread_barrier_wait(&sh->meet);
        lost += check_counters() + check_pages();
        __atomic_store_n(&sh->halt, halt == 1 ? 0 : 2, __ATOMIC_RELEASE);
        if (halt == 1)
            pthread_barrier_wait(&sh->meet);
    }
    return report(lost);
}
