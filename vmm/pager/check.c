/* SPDX-License-Identifier: MIT */
/*
 * Proves the pager's invariants over a running guest, from what the kernel says and not from
 * what we believe: /proc/self/maps, /proc/self/pagemap, the stores' sizes, the bytes
 * themselves.  Holds the pager's lock, so nothing changes but the contents of private pages.
 *
 *   K1  every page of a view comes from the store the map says, at its own offset, read-write
 *   K2  no other mapping of this process shows a replica store: nothing is mapped twice
 *   K3  a replicated page is write-protected in every view, whether it is present there or not
 *   K4  a replicated page has equal bytes in all stores
 *   K5  stores hold as many pages as the map has replicas (I4)
 *   K6  the count of mappings is right
 * and P1 to P3 of the page map.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/pager/private.h"

#define PAGE_BYTES (1ull << PAGE_SHIFT)
#define PM_UFFD_WP (1ull << 57) /* of /proc/self/pagemap: write-protected by userfaultfd */

/* A proof in work. */
struct proof {
    struct pager *p;                /* whose */
    char *buf;                      /* what is wrong */
    unsigned len;                   /* of buf */
    bool wrong;                     /* something is */
    dev_t dev;                      /* that all stores are on; inodes are its */
    ino_t own;                      /* inode of the guest's store */
    ino_t inode[PAGEMAP_NODES];     /* of the replica stores */
    uint64_t copies[PAGEMAP_NODES]; /* pages of replicas, by the map */
    uint64_t pieces;                /* mappings found in views */
    uint8_t *copy[PAGEMAP_NODES];   /* replica stores, mapped for reading; NULL: not */
    int pagemap;                    /* /proc/self/pagemap */
};

/* The first thing that is wrong is kept. */
#define WRONG(k, ...)                                  \
    do {                                               \
        if (!(k)->wrong)                               \
            snprintf((k)->buf, (k)->len, __VA_ARGS__); \
        (k)->wrong = true;                             \
    } while (0)

/* One line of /proc/self/maps. */
struct piece {
    uint64_t from, to, offset; /* addresses; offset in the file */
    unsigned long inode;       /* of the file; 0: it is none of ours */
    char prot[5];              /* "rw-s" */
};

/* ---- K1, K2, K6: mappings ---- */

/* The view that an address is in; nviews: none. */
static unsigned view_of(const struct pager *p, uint64_t address)
{
    unsigned v = 0;

    while (v < p->nviews && (address < (uintptr_t)p->spec.mem->view[v] ||
                             address >= (uintptr_t)p->spec.mem->view[v] + p->spec.mem->span))
        v++;
    return v;
}

/* A replica store's node by its inode; nnodes: none. */
static unsigned store_of(const struct proof *k, unsigned long inode)
{
    unsigned n = 0;

    while (n < k->p->spec.nnodes && k->inode[n] != inode)
        n++;
    return n;
}

/* K1 for a mapping inside of a view. */
static void check_piece(struct proof *k, const struct piece *c, unsigned view)
{
    const struct pager *p = k->p;
    uint64_t base = (uintptr_t)p->spec.mem->view[view];
    unsigned node = p->spec.view_node[view], store = store_of(k, c->inode);

    k->pieces++;
    if (c->offset != c->from - base)
        WRONG(k, "K1: view %u at %#llx shows offset %#llx", view,
              (unsigned long long)(c->from - base), (unsigned long long)c->offset);
    if (strcmp(c->prot, "rw-s") != 0)
        WRONG(k, "K1: view %u at %#llx is %s", view, (unsigned long long)(c->from - base),
              c->prot);
    for (uint64_t gpa = c->from - base; gpa < c->to - base && !k->wrong;) {
        struct page_info u = pagemap_get(p->map, gpa >> PAGE_SHIFT);

        if (sees_replica(&u, node) ? store != node : c->inode != k->own)
            WRONG(k, "K1: view %u at %#llx shows inode %lu, not its %s", view,
                  (unsigned long long)gpa, c->inode,
                  sees_replica(&u, node) ? "replica" : "master");
        gpa = (u.first + u.pages) << PAGE_SHIFT;
    }
}

static void check_maps(struct proof *k)
{
    FILE *f = fopen("/proc/self/maps", "re");
    char line[512];
    struct piece c;

    if (!f) {
        WRONG(k, "K1: /proc/self/maps: %s", strerror(errno));
        return;
    }
    while (fgets(line, sizeof(line), f) && !k->wrong) {
        unsigned long from, to, offset;
        unsigned view, major, minor;

        if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu", &from, &to, c.prot, &offset, &major,
                   &minor, &c.inode) != 7)
            continue;
        if (makedev(major, minor) != k->dev) /* numbers are used again on other devices */
            c.inode = 0;
        c.from = from;
        c.to = to;
        c.offset = offset;
        view = view_of(k->p, from);
        if (view < k->p->nviews)
            check_piece(k, &c, view);
        else if (store_of(k, c.inode) < k->p->spec.nnodes)
            WRONG(k, "K2: a replica store is mapped at %#lx, outside of all views", from);
    }
    fclose(f);
    if (!k->wrong && k->pieces != k->p->nviews + k->p->stats.maps)
        WRONG(k, "K6: %llu mappings in %u views, counted %llu more than one each",
              (unsigned long long)k->pieces, k->p->nviews,
              (unsigned long long)k->p->stats.maps);
}

/* ---- K3, K4: pages ---- */

/* K3 for a unit in one view. */
static void check_protected(struct proof *k, const struct page_info *u, unsigned view)
{
    uint64_t at = (uintptr_t)k->p->spec.mem->view[view] + (u->first << PAGE_SHIFT), word[64];

    for (uint64_t i = 0, part; i < u->pages && !k->wrong; i += part) {
        ssize_t n;

        part = u->pages - i < 64 ? u->pages - i : 64;
        n = pread(k->pagemap, word, part * 8, (off_t)(((at >> PAGE_SHIFT) + i) * 8));
        for (uint64_t w = 0; w < part; w++)
            if (n != (ssize_t)(part * 8) || !(word[w] & PM_UFFD_WP))
                WRONG(k, "K3: page %#llx can be written in view %u",
                      (unsigned long long)(u->first + i + w), view);
    }
}

/* K4 for a unit. */
static void check_bytes(struct proof *k, const struct page_info *u)
{
    uint64_t gpa = u->first << PAGE_SHIFT, len = u->pages * PAGE_BYTES;

    for (unsigned n = 0; n < k->p->spec.nnodes; n++) {
        if (!(u->replicas >> n & 1))
            continue;
        k->copies[n] += u->pages;
        if (memcmp(k->copy[n] + gpa, k->p->spec.mem->alias + gpa, len) != 0)
            WRONG(k, "K4: page %#llx differs on node %u", (unsigned long long)u->first, n);
    }
}

static void check_units(struct proof *k)
{
    uint64_t end = k->p->spec.mem->span >> PAGE_SHIFT;

    for (uint64_t gfn = 0; gfn < end && !k->wrong;) {
        struct page_info u = pagemap_get(k->p->map, gfn);

        gfn = u.first + u.pages;
        if (u.claimed)
            WRONG(k, "page %#llx is claimed and nobody works on it",
                  (unsigned long long)u.first);
        if (u.state != PAGE_REPLICATED)
            continue;
        check_bytes(k, &u);
        for (unsigned v = 0; v < k->p->nviews; v++)
            check_protected(k, &u, v);
    }
}

/* ---- K5: memory ---- */

static void check_stores(struct proof *k)
{
    uint64_t all = 0;

    for (unsigned n = 0; n < k->p->spec.nnodes && !k->wrong; n++) {
        struct stat st;

        if (fstat(k->p->store[n], &st) ||
            (uint64_t)st.st_blocks * 512 != k->copies[n] * PAGE_BYTES)
            WRONG(k, "K5: node %u holds %llu KiB for %llu replicas", n,
                  (unsigned long long)st.st_blocks / 2, (unsigned long long)k->copies[n]);
        all += k->copies[n];
    }
    if (!k->wrong && all != k->p->stats.replicas)
        WRONG(k, "K5: %llu replicas, counted %llu", (unsigned long long)all,
              (unsigned long long)k->p->stats.replicas);
}

/* ---- all ---- */

/* Maps the replica stores for reading, which is undone before mappings are looked at. */
static bool open_stores(struct proof *k)
{
    struct stat st;

    if (fstat(k->p->spec.mem->fd, &st))
        return false;
    k->dev = st.st_dev;
    k->own = st.st_ino;
    for (unsigned n = 0; n < k->p->spec.nnodes; n++) {
        void *at = mmap(NULL, k->p->spec.mem->span, PROT_READ, MAP_SHARED | MAP_NORESERVE,
                        k->p->store[n], 0);

        if (at == MAP_FAILED || fstat(k->p->store[n], &st))
            return false;
        k->copy[n] = at;
        k->inode[n] = st.st_ino;
    }
    return true;
}

static void close_stores(struct proof *k)
{
    for (unsigned n = 0; n < k->p->spec.nnodes; n++)
        if (k->copy[n])
            munmap(k->copy[n], k->p->spec.mem->span);
}

bool pager_check(struct pager *p, char *buf, unsigned len)
{
    struct proof k = {.p = p, .buf = buf, .len = len};

    k.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    pthread_mutex_lock(&p->lock);
    k.wrong = !pagemap_check(p->map, buf, len);
    if (k.pagemap < 0 || !open_stores(&k))
        WRONG(&k, "cannot look: %s", strerror(errno));
    if (!k.wrong)
        check_units(&k);
    close_stores(&k);
    if (!k.wrong)
        check_maps(&k);
    if (!k.wrong)
        check_stores(&k);
    pthread_mutex_unlock(&p->lock);
    if (k.pagemap >= 0)
        close(k.pagemap);
    return !k.wrong;
}
