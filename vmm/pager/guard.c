/* SPDX-License-Identifier: MIT */
/*
 * The guard of one view; see the header.
 *
 * How another store's pages come into a view: mapped for reading (one step: readers find the old
 * page or the new one), registered, write-protected, and only then mapped for writing.  In
 * between a writer is sent away by KVM with EFAULT and comes again at once.
 */
#include "vmm/pager/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "numa/bind.h"
#include "vmm/pager/features.h"

/* Names that headers before Linux 6.1 and 5.19 lack. */
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFDIO_CONTINUE_MODE_WP /* Linux 6.4; it came with the feature before */
#define UFFDIO_CONTINUE_MODE_WP (1 << 1)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON /* Linux 6.6 */
#define UFFD_FEATURE_POISON (1 << 14)
#endif

#define PM_UFFD_WP (1ull << 57) /* of /proc/self/pagemap: write-protected by userfaultfd */

enum { MESSAGES = 16, AGAIN_MAX = 100000, GUARD_PAGE = 4096, BLOCK = 2 << 20 };

/* ---- the descriptor ---- */

/* An ioctl on a range, again while the kernel says so; 0 or -errno. */
static int on_range(const struct guard *g, unsigned long request, void *arg)
{
    for (unsigned i = 0; ioctl(g->uffd, request, arg) < 0; i++)
        if (errno != EAGAIN || i > AGAIN_MAX)
            return -errno;
    return 0;
}

static uint64_t address(const struct guard *g, uint64_t gpa)
{
    return (uintptr_t)g->spec.base + gpa;
}

/* Has writes to protected pages of a range reported. */
static int enrol_copy(const struct guard *g, uint64_t gpa, uint64_t len)
{
    struct uffdio_register r = {.range = {.start = address(g, gpa), .len = len},
                                .mode = UFFDIO_REGISTER_MODE_WP};

    return on_range(g, UFFDIO_REGISTER, &r);
}

/* For a range of the own store: also touches of pages that are in memory and not in the view. */
static int enrol(const struct guard *g, uint64_t gpa, uint64_t len)
{
    struct uffdio_register r = {.range = {.start = address(g, gpa), .len = len},
                                .mode = UFFDIO_REGISTER_MODE_WP};

    if (g->spec.samples)
        r.mode |= UFFDIO_REGISTER_MODE_MINOR;
    return on_range(g, UFFDIO_REGISTER, &r);
}

/* Whether every page of a range is write-protected, as /proc/self/pagemap says.  Before Linux 6.6 reading
 * one of its words costs as much as reading those of all pages up to the end of the 2 MiB. */
static bool is_protected(const struct guard *g, uint64_t gpa, uint64_t len)
{
    uint64_t word[64], at = address(g, gpa) / GUARD_PAGE, end = at + len / GUARD_PAGE;

    for (unsigned n; at < end; at += n) {
        n = end - at < 64 ? (unsigned)(end - at) : 64;
        if (pread(g->pagemap, word, n * 8ull, (off_t)(at * 8)) != 8 * (ssize_t)n)
            return false;
        for (unsigned i = 0; i < n; i++)
            if (!(word[i] & PM_UFFD_WP))
                return false;
    }
    return true;
}

/*
 * Blocks of 2 MiB that the view's page table maps page by page.  They stay so: the kernel gives a page
 * table back when all of a block is mapped anew, and never where writes are reported.
 */

static bool all_split(const struct guard *g, uint64_t gpa, uint64_t len)
{
    for (uint64_t b = gpa / BLOCK; b <= (gpa + len - 1) / BLOCK; b++)
        if (!(g->split[b / 64] >> b % 64 & 1))
            return false;
    return true;
}

static void set_split(const struct guard *g, uint64_t gpa, uint64_t len)
{
    for (uint64_t b = gpa / BLOCK; b <= (gpa + len - 1) / BLOCK; b++)
        g->split[b / 64] |= UINT64_C(1) << b % 64;
}

/* A range is about to be mapped anew. */
static void forget_split(const struct guard *g, uint64_t gpa, uint64_t len)
{
    for (uint64_t b = (gpa + BLOCK - 1) / BLOCK; (b + 1) * BLOCK <= gpa + len; b++)
        g->split[b / 64] &= ~(UINT64_C(1) << b % 64);
}

/*
 * Write-protects a range or not; the latter wakes who waited.  Before Linux 6.5 the kernel may say
 * that it has protected pages and has not: it splits a 2 MiB page by unmapping it, a fault maps it
 * again meanwhile, and what is mapped by 2 MiB is then passed over.  So we look, and do it again;
 * where pages are protected the block was split, and need not be looked at another time.
 */
static int protect(const struct guard *g, uint64_t gpa, uint64_t len, bool on)
{
    int r;

    for (unsigned i = 0; i < AGAIN_MAX; i++) {
        struct uffdio_writeprotect w = {.range = {.start = address(g, gpa), .len = len},
                                        .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};

        r = on_range(g, UFFDIO_WRITEPROTECT, &w);
        if (r || !on || g->true_word || all_split(g, gpa, len))
            return r;
        if (is_protected(g, gpa, len)) {
            set_split(g, gpa, len);
            return 0;
        }
    }
    return -EBUSY;
}

/* ---- ranges ---- */

int guard_plain(const struct guard_spec *spec, uint64_t gpa, uint64_t len, int prot, int store)
{
    if (mmap(spec->base + gpa, len, prot, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, store,
             (off_t)gpa) == MAP_FAILED)
        return -errno;
    if (spec->huge)
        madvise(spec->base + gpa, len, MADV_HUGEPAGE); /* refused: nothing lost */
    return 0;
}

void guard_fill(const struct guard *g, uint64_t gpa, uint64_t len)
{
    (void)madvise(g->spec.base + gpa, len, MADV_POPULATE_READ); /* if not, who comes fills it */
}

/* Sets the protection of a range's mapping. */
static int set_prot(const struct guard *g, uint64_t gpa, uint64_t len, int prot)
{
    return mprotect(g->spec.base + gpa, len, prot) ? -errno : 0;
}

int guard_protect(const struct guard *g, uint64_t gpa, uint64_t len)
{
    return protect(g, gpa, len, true);
}

int guard_protect_again(const struct guard *g, uint64_t gpa, uint64_t len)
{
    return g->true_word && is_protected(g, gpa, len) ? 0 : protect(g, gpa, len, true);
}

int guard_open(const struct guard *g, uint64_t gpa, uint64_t len)
{
    return protect(g, gpa, len, false);
}

int guard_show(const struct guard *g, uint64_t gpa, uint64_t len, int store)
{
    forget_split(g, gpa, len);
    return guard_plain(&g->spec, gpa, len, PROT_READ, store);
}

int guard_map(const struct guard *g, uint64_t gpa, uint64_t len, int store)
{
    int r = guard_show(g, gpa, len, store);

    if (!r)
        r = store == g->spec.store ? enrol(g, gpa, len) : enrol_copy(g, gpa, len);
    if (!r)
        r = protect(g, gpa, len, true);
    return r ? r : set_prot(g, gpa, len, PROT_READ | PROT_WRITE);
}

int guard_back(const struct guard *g, uint64_t gpa, uint64_t len, bool writable)
{
    forget_split(g, gpa, len);
    return guard_plain(&g->spec, gpa, len, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                       g->spec.store);
}

int guard_settle(const struct guard *g, uint64_t gpa, uint64_t len, bool was_writable)
{
    int r = enrol(g, gpa, len);

    if (!r && !was_writable)
        r = set_prot(g, gpa, len, PROT_READ | PROT_WRITE);
    guard_wake(g, gpa, len);
    return r;
}

int guard_bar(const struct guard *g, uint64_t gpa, uint64_t len)
{
    return set_prot(g, gpa, len, PROT_READ);
}

void guard_wake(const struct guard *g, uint64_t gpa, uint64_t len)
{
    struct uffdio_range r = {.start = address(g, gpa), .len = len};

    (void)on_range(g, UFFDIO_WAKE, &r);
}

/* ---- sampling ---- */

int guard_revoke(const struct guard *g, uint64_t gpa, uint64_t len)
{
    return madvise(g->spec.base + gpa, len, MADV_DONTNEED) ? -errno : 0;
}

/* Bits for the pages of [gpa, end), of those from first on. */
static uint64_t bits(uint64_t first, uint64_t gpa, uint64_t end)
{
    uint64_t at = (gpa - first) / GUARD_PAGE, n = (end - gpa) / GUARD_PAGE;

    return at >= 64 || !n ? 0 : (n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << at;
}

/* UFFDIO_CONTINUE for as much of [gpa, end) as it can; passes over what is there already or not in
 * memory.  Returns a bit for each of the first 64 pages that came in. */
static uint64_t go_on(const struct guard *g, uint64_t gpa, uint64_t end, uint64_t mode)
{
    uint64_t first = gpa, in = 0;

    for (unsigned again = 0; gpa < end && again < AGAIN_MAX;) {
        struct uffdio_continue c = {.range = {.start = address(g, gpa), .len = end - gpa},
                                    .mode = mode | UFFDIO_CONTINUE_MODE_DONTWAKE};

        if (!ioctl(g->uffd, UFFDIO_CONTINUE, &c))
            return in | bits(first, gpa, end);
        if (c.mapped > 0) { /* EAGAIN: so many, and then one that it could not */
            in |= bits(first, gpa, gpa + (uint64_t)c.mapped);
            gpa += (uint64_t)c.mapped;
        } else if (errno == EAGAIN)
            again++;
        else if (errno == EEXIST || errno == EFAULT)
            gpa += GUARD_PAGE;
        else
            break; /* not of the own store any more */
    }
    return in;
}

void guard_admit_behind(const struct guard *g, uint64_t gpa, uint64_t len)
{
    struct uffdio_continue c = {.range = {.start = address(g, gpa), .len = len},
                                .mode = UFFDIO_CONTINUE_MODE_DONTWAKE};

    (void)ioctl(g->uffd, UFFDIO_CONTINUE, &c); /* goes as far as it can */
}

uint64_t guard_admit_beside(const struct guard *g, uint64_t gpa, uint64_t len)
{
    return go_on(g, gpa, gpa + len, 0);
}

/* Lets readers see a page where the kernel cannot protect it in the same step: in between the
 * mapping is for reading only, so the page is never open to writers.  -errno: nothing is done, no
 * mapping is left to part it for. */
static int go_on_barred(const struct guard *g, uint64_t gpa, uint64_t len)
{
    int r = set_prot(g, gpa, len, PROT_READ);

    if (r)
        return r;
    (void)go_on(g, gpa, gpa + len, 0);
    r = protect(g, gpa, len, true);
    INVARIANT(!r, "I1: a page that was let in cannot be protected");
    r = set_prot(g, gpa, len, PROT_READ | PROT_WRITE);
    INVARIANT(!r, "I3: a page that was let in cannot be opened");
    return 0;
}

int guard_admit(const struct guard *g, uint64_t gpa, uint64_t len, enum guard_admit how)
{
    int r = 0;

    if (how != ADMIT_OPEN && g->admits_protected)
        (void)go_on(g, gpa, gpa + len, UFFDIO_CONTINUE_MODE_WP);
    else if (how == ADMIT_PROTECTED)
        r = go_on_barred(g, gpa, len);
    else
        (void)go_on(g, gpa, gpa + len, 0);
    if (how == ADMIT_WATCHED && !g->admits_protected)
        (void)protect(g, gpa, len, true);
    if (!r)
        guard_wake(g, gpa, len);
    return r;
}

/* ---- the thread ---- */

/* What a fault says of its maker. */
static enum guard_want want_of(uint64_t flags)
{
    if (!(flags & UFFD_PAGEFAULT_FLAG_MINOR))
        return GUARD_WRITE;
    return flags & UFFD_PAGEFAULT_FLAG_WRITE ? GUARD_TOUCH_WRITE : GUARD_TOUCH;
}

/* Passes on what was read. */
static void tell(const struct guard *g, const struct uffd_msg *msg, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (msg[i].event == UFFD_EVENT_PAGEFAULT)
            g->spec.fault(g->spec.arg, g->spec.index,
                          msg[i].arg.pagefault.address - address(g, 0),
                          want_of(msg[i].arg.pagefault.flags));
}

/* Has the calling thread run where it is to, also if that changes just now. */
static void settle_thread(struct guard *g)
{
    int host;

    atomic_store(&g->tid, gettid());
    do {
        host = atomic_load(&g->host);
        numa_bind_thread(host);
    } while (host != atomic_load(&g->host));
}

static void *fault_thread(void *arg)
{
    struct guard *g = arg;
    struct pollfd fds[2] = {{.fd = g->uffd, .events = POLLIN},
                            {.fd = g->stop, .events = POLLIN}};
    struct uffd_msg msg[MESSAGES];
    char name[16];
    sigset_t all;

    sigfillset(&all); /* signals are for others */
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    snprintf(name, sizeof(name), "fault%u", g->spec.index);
    pthread_setname_np(pthread_self(), name);
    settle_thread(g);
    for (;;) {
        ssize_t n;

        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            break;
        n = read(g->uffd, msg, sizeof(msg));
        if (n > 0)
            tell(g, msg, (size_t)n / sizeof(msg[0]));
    }
    return NULL;
}

void guard_rehome(struct guard *g, int host)
{
    int tid;

    atomic_store(&g->host, host);
    tid = atomic_load(&g->tid);
    if (tid)
        numa_bind_task(tid, host);
}

/* ---- making and undoing ---- */

/* Agrees with the kernel on what the descriptor can do. */
static int handshake(struct guard *g, struct err *err)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP |
                                         UFFD_FEATURE_WP_HUGETLBFS_SHMEM};

    if (g->spec.on_vcpu)
        api.features |= UFFD_FEATURE_SIGBUS;
    if (g->spec.samples)
        api.features |= UFFD_FEATURE_MINOR_SHMEM;
    if (ioctl(g->uffd, UFFDIO_API, &api))
        return fail_errno(
            err, EXIT_INTERNAL, errno,
            "userfaultfd: write-protection of shared memory (Linux 5.19 or newer)");
    g->admits_protected = api.features & UFFD_FEATURE_WP_UNPOPULATED;
    g->true_word = api.features & UFFD_FEATURE_POISON;
    return 0;
}

/* Maps the view anew, without the flags it was made with, and enrols it. */
static int take_view(struct guard *g, struct err *err)
{
    int r = guard_plain(&g->spec, 0, g->spec.span, PROT_READ | PROT_WRITE, g->spec.store);

    if (!r)
        r = enrol(g, 0, g->spec.span);
    if (r)
        return fail_errno(err, EXIT_INTERNAL, -r, "userfaultfd: taking view %u", g->spec.index);
    return 0;
}

int guard_init(struct guard *g, const struct guard_spec *spec, struct err *err)
{
    bool by_device;
    int r;

    *g = (struct guard){.spec = *spec, .stop = -1, .pagemap = -1, .host = spec->host};
    g->uffd = guard_uffd(&by_device);
    if (g->uffd < 0)
        return fail_errno(err, EXIT_INTERNAL, -g->uffd,
                          "userfaultfd (needs CAP_SYS_PTRACE or access to /dev/userfaultfd)");
    g->split = xcalloc((spec->span / BLOCK + 64) / 64, sizeof(*g->split));
    g->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (g->pagemap < 0)
        r = fail_errno(err, EXIT_INTERNAL, errno, "/proc/self/pagemap");
    else
        r = handshake(g, err);
    if (!r)
        r = take_view(g, err);
    if (!r && !spec->on_vcpu) {
        g->stop = eventfd(0, EFD_CLOEXEC);
        r = g->stop < 0 ? errno : pthread_create(&g->thread, NULL, fault_thread, g);
        g->threaded = !r;
        if (r)
            r = fail_errno(err, EXIT_INTERNAL, r, "thread for faults of view %u", spec->index);
    }
    if (r)
        guard_exit(g);
    return r;
}

void guard_exit(struct guard *g)
{
    uint64_t one = 1;

    if (g->threaded) {
        ssize_t n = write(g->stop, &one, sizeof(one));

        INVARIANT(n == sizeof(one), "guard: the thread cannot be told to stop");
        pthread_join(g->thread, NULL);
    }
    if (g->stop >= 0)
        close(g->stop);
    if (g->pagemap >= 0)
        close(g->pagemap);
    if (g->uffd >= 0)
        close(g->uffd);
    free(g->split);
    *g = (struct guard){.uffd = -1, .stop = -1, .pagemap = -1};
}
