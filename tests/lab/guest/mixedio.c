/* SPDX-License-Identifier: MIT */
/*
 * mixedio: the processes and files of the mixed load, every result of which is known.
 *
 * Use: mixedio sums FILE...                       "PATH BYTES SUM" of each; the sums are FNV-1a over 8-byte words
 *      mixedio reads LIST ROOT PROCS SECONDS      processes that read the files of such a list below ROOT, by read()
 *                                                 and by mmap(), some thrown out of the cache before, and sum them up:
 *                                                 "READS files N bytes N bad N"
 *      mixedio files DIR PROCS SECONDS            processes that write files of known contents, change parts of them,
 *                                                 sync, throw them out of the cache and read them again; all are read
 *                                                 once more at the end and stay: "FILES written N checked N bad N"
 *      mixedio forks WIDTH SECONDS                storms of WIDTH children that share their parent's memory copy on
 *                                                 write, some of which fork or execute again: "FORKS total N lost N bad N"
 * The status is 0 when nothing is bad or lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    PIECE = 16 * PAGE,     /* of files, in one read or write */
    PROCS = 64,            /* most processes */
    LISTED = 256,          /* most files of a list */
    FILES = 6,             /* of each writing process */
    FILE_PIECES = 6,       /* most pieces of each */
    FORK_WORDS = 24 * 512, /* memory of a storm's parent, 24 pages */
};

/* What the processes of one kind count together; shared memory, all fields atomic. */
struct tally {
    uint64_t done;  /* files read, files written, children */
    uint64_t more;  /* bytes read, files checked, children of children */
    uint64_t bad;   /* wrong contents or results */
    uint64_t plain; /* forks: increments by all children */
};

/* A file of a list. */
struct listed {
    char path[256]; /* below ROOT */
    uint64_t bytes;
    uint64_t sum;
};

static struct tally *tally;

static void add(uint64_t *to, uint64_t n)
{
    __atomic_fetch_add(to, n, __ATOMIC_SEQ_CST);
}

static uint64_t draw(uint64_t *rng)
{
    *rng ^= *rng >> 12;
    *rng ^= *rng << 25;
    *rng ^= *rng >> 27;
    return (*rng * 0x2545f4914f6cdd1dULL) >> 16;
}

static void hop(uint64_t *rng)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(draw(rng) % (uint64_t)sysconf(_SC_NPROCESSORS_ONLN), &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static void *shared(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED) {
        perror("mixedio: mmap");
        exit(3);
    }
    return at;
}

/* FNV-1a, by words; what is left of the last one is padded with zeroes. */
static uint64_t sum_of(uint64_t sum, const uint8_t *at, size_t bytes)
{
    for (; bytes >= 8; at += 8, bytes -= 8) {
        uint64_t word;

        memcpy(&word, at, 8);
        sum = (sum ^ word) * 0x100000001b3ULL;
    }
    if (bytes) {
        uint64_t word = 0;

        memcpy(&word, at, bytes);
        sum = (sum ^ word) * 0x100000001b3ULL;
    }
    return sum;
}

static const uint64_t SUM_BASE = 0xcbf29ce484222325ULL;

/* By read(), in pieces; gives its bytes, or -1. */
static int64_t sum_read(const char *path, uint64_t *sum)
{
    static uint8_t buf[PIECE];
    int fd = open(path, O_RDONLY);
    int64_t bytes = 0;
    ssize_t n;

    if (fd < 0)
        return -1;
    *sum = SUM_BASE;
    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        *sum = sum_of(*sum, buf, (size_t)n);
        bytes += n;
    }
    close(fd);
    return n < 0 ? -1 : bytes;
}

/* By mmap(). */
static int64_t sum_mapped(const char *path, uint64_t *sum)
{
    int fd = open(path, O_RDONLY);
    struct stat st;
    void *at;

    if (fd < 0 || fstat(fd, &st))
        return -1;
    at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (at == MAP_FAILED)
        return -1;
    *sum = sum_of(SUM_BASE, at, (size_t)st.st_size);
    munmap(at, (size_t)st.st_size);
    return st.st_size;
}

/* Throws a file out of the page cache. */
static void forget(const char *path)
{
    int fd = open(path, O_RDONLY);

    if (fd < 0)
        return;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static int sums(char **files)
{
    for (; *files; files++) {
        uint64_t sum;
        int64_t bytes = sum_read(*files, &sum);

        if (bytes > 0)
            printf("%s %ld %016lx\n", *files, bytes, sum);
    }
    return 0;
}

/* Starts the processes and waits for their end; how many ended badly. */
static uint64_t spread(unsigned procs, void (*work)(unsigned, time_t, void *), time_t end,
                       void *arg)
{
    uint64_t bad = 0;
    int status;

    for (unsigned i = 0; i < procs; i++)
        if (fork() == 0) {
            work(i, end, arg);
            _exit(0);
        }
    while (wait(&status) > 0)
        bad += status != 0;
    return bad;
}

/* The list and the root, for the readers. */
struct library {
    struct listed files[LISTED];
    unsigned n;
    const char *root;
};

static void reader(unsigned id, time_t end, void *arg)
{
    const struct library *lib = arg;
    uint64_t rng = id + 77;
    char path[600];

    while (time(NULL) < end) {
        const struct listed *f = &lib->files[draw(&rng) % lib->n];
        uint64_t sum = 0;
        int64_t bytes;

        hop(&rng);
        snprintf(path, sizeof(path), "%s/%s", lib->root, f->path);
        if (draw(&rng) % 8 == 0)
            forget(path);
        bytes = draw(&rng) % 2 ? sum_read(path, &sum) : sum_mapped(path, &sum);
        if (bytes != (int64_t)f->bytes || sum != f->sum) {
            printf("mixedio: %s: %ld bytes, sum %016lx, not %lu, %016lx\n", path, bytes, sum,
                   f->bytes, f->sum);
            add(&tally->bad, 1);
        }
        add(&tally->done, 1);
        add(&tally->more, f->bytes);
    }
}

static int reads(const char *list, const char *root, unsigned procs, time_t end)
{
    struct library *lib = calloc(1, sizeof(*lib));
    FILE *in = fopen(list, "r");

    if (!lib || !in) {
        perror(list);
        return 3;
    }
    lib->root = root;
    while (lib->n < LISTED && fscanf(in, "%255s %lu %lx", lib->files[lib->n].path,
                                     &lib->files[lib->n].bytes, &lib->files[lib->n].sum) == 3)
        lib->n++;
    fclose(in);
    if (!lib->n)
        return 3;
    add(&tally->bad, spread(procs, reader, end, lib));
    printf("READS files %lu bytes %lu bad %lu\n", tally->done, tally->more, tally->bad);
    return tally->bad != 0;
}

/* What one writing process knows of its files: the seed of each piece. */
struct shelf {
    char path[FILES][300];
    uint64_t seeds[FILES][FILE_PIECES];
    unsigned pieces[FILES]; /* 0: not there yet */
    uint64_t buf[PIECE / 8];
};

static void fill(uint64_t *buf, uint64_t seed)
{
    for (size_t i = 0; i < PIECE / 8; i++)
        buf[i] = seed + i * 0x9e3779b97f4a7c15ULL;
}

/* A full disk or a short write is an error of the test. */
static void write_piece(struct shelf *s, unsigned f, unsigned piece, uint64_t seed, int fd)
{
    fill(s->buf, seed);
    s->seeds[f][piece] = seed;
    if (pwrite(fd, s->buf, PIECE, (off_t)piece * PIECE) != PIECE) {
        printf("mixedio: %s: %s\n", s->path[f], strerror(errno));
        add(&tally->bad, 1);
    }
}

/* The same through a mapping, part of the piece only: the tail stays, so it must be there already. */
static void write_mapped(struct shelf *s, unsigned f, unsigned piece, uint64_t seed, int fd)
{
    uint64_t *at =
        mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)piece * PIECE);

    if (at == MAP_FAILED) {
        add(&tally->bad, 1);
        return;
    }
    fill(s->buf, seed);
    s->seeds[f][piece] = seed;
    memcpy(at, s->buf, PIECE);
    munmap(at, PIECE);
}

static void write_file(struct shelf *s, unsigned f, uint64_t *rng)
{
    int fd = open(s->path[f], O_RDWR | O_CREAT, 0600);

    if (fd < 0) {
        printf("mixedio: %s: %s\n", s->path[f], strerror(errno));
        add(&tally->bad, 1);
        return;
    }
    if (!s->pieces[f]) {
        s->pieces[f] = 1 + (unsigned)(draw(rng) % FILE_PIECES);
        for (unsigned piece = 0; piece < s->pieces[f]; piece++)
            write_piece(s, f, piece, draw(rng), fd);
    } else if (draw(rng) % 2) {
        write_piece(s, f, (unsigned)(draw(rng) % s->pieces[f]), draw(rng), fd);
    } else {
        write_mapped(s, f, (unsigned)(draw(rng) % s->pieces[f]), draw(rng), fd);
    }
    if (draw(rng) % 2)
        fdatasync(fd);
    close(fd);
    add(&tally->done, 1);
}

static void check_file(struct shelf *s, unsigned f)
{
    int fd = open(s->path[f], O_RDONLY);
    uint64_t wrong = fd < 0;

    for (unsigned piece = 0; piece < s->pieces[f] && fd >= 0; piece++) {
        if (pread(fd, s->buf, PIECE, (off_t)piece * PIECE) != PIECE)
            wrong++;
        for (size_t i = 0; i < PIECE / 8; i++)
            wrong += s->buf[i] != s->seeds[f][piece] + i * 0x9e3779b97f4a7c15ULL;
    }
    if (fd >= 0)
        close(fd);
    if (wrong) {
        printf("mixedio: %s: %lu words are not what was written\n", s->path[f], wrong);
        add(&tally->bad, 1);
    }
    add(&tally->more, 1);
}

static void writer(unsigned id, time_t end, void *arg)
{
    struct shelf *s = calloc(1, sizeof(*s));
    uint64_t rng = id + 33;

    for (unsigned f = 0; f < FILES; f++)
        snprintf(s->path[f], sizeof(s->path[f]), "%s/%u.%u", (const char *)arg, id, f);
    while (time(NULL) < end) {
        unsigned f = (unsigned)(draw(&rng) % FILES);

        hop(&rng);
        if (!s->pieces[f] || draw(&rng) % 2) {
            write_file(s, f, &rng);
        } else if (draw(&rng) % 8 == 0) {
            unlink(s->path[f]);
            s->pieces[f] = 0;
            continue;
        }
        if (draw(&rng) % 2)
            forget(s->path[f]);
        check_file(s, f);
    }
    for (unsigned f = 0; f < FILES; f++)
        if (s->pieces[f])
            check_file(s, f);
    free(s);
}

static int files(char *dir, unsigned procs, time_t end)
{
    mkdir(dir, 0700);
    add(&tally->bad, spread(procs, writer, end, dir));
    printf("FILES written %lu checked %lu bad %lu\n", tally->done, tally->more, tally->bad);
    return tally->bad != 0;
}

/* What a child that was executed anew answers. */
static int answer(uint64_t seed)
{
    return (int)(draw(&seed) % 251);
}

static uint64_t *storm; /* the parent's memory, FORK_WORDS */

static uint64_t storm_wrong(uint64_t seed)
{
    uint64_t wrong = 0;

    for (unsigned i = 0; i < FORK_WORDS; i++)
        wrong += storm[i] != seed + i;
    return wrong;
}

/* Sees the parent's memory, writes into it, and sees what it wrote. */
static int child(uint64_t seed, uint64_t own, char *self)
{
    char arg[32];

    if (storm_wrong(seed))
        return 252;
    add(&tally->plain, 1);
    for (unsigned i = 0; i < FORK_WORDS; i += 256)
        storm[i] = own + i;
    for (unsigned i = 0; i < FORK_WORDS; i++)
        if (storm[i] != (i % 256 ? seed : own) + i)
            return 253;
    if (own % 4 == 0) {
        snprintf(arg, sizeof(arg), "%lu", own);
        execl(self, self, "answer", arg, NULL);
        return 254;
    }
    if (own % 4 == 1) {
        int status = 0;
        pid_t pid = fork();

        if (pid == 0) {
            add(&tally->plain, 1);
            add(&tally->more, 1);
            _exit(storm[0] == own ? answer(own + 1) : 252);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
            WEXITSTATUS(status) != answer(own + 1))
            return 255;
    }
    return answer(own);
}

/* Waits for a child; says what was wrong with it. */
static int good_end(pid_t pid, uint64_t own)
{
    int status = 0;

    if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
        WEXITSTATUS(status) == answer(own))
        return 1;
    printf("mixedio: child %d: status 0x%x, not %d\n", pid, status, answer(own));
    return 0;
}

static int forks(unsigned width, time_t end, char *self)
{
    uint64_t rng = 55, lost;
    pid_t pids[PROCS];
    uint64_t own[PROCS];

    storm =
        mmap(NULL, FORK_WORDS * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (storm == MAP_FAILED)
        return 3;
    while (time(NULL) < end) {
        uint64_t seed = draw(&rng);

        for (unsigned i = 0; i < FORK_WORDS; i++)
            storm[i] = seed + i;
        for (unsigned i = 0; i < width; i++) {
            own[i] = draw(&rng);
            pids[i] = fork();
            if (pids[i] == 0)
                _exit(child(seed, own[i], self));
        }
        for (unsigned i = 0; i < width; i++)
            tally->bad += !good_end(pids[i], own[i]);
        tally->done += width;
        tally->bad += storm_wrong(seed) != 0;
    }
    /* Each child and each child's child added one. */
    lost = tally->done + tally->more - tally->plain;
    printf("FORKS total %lu lost %ld bad %lu\n", tally->done + tally->more, (int64_t)lost,
           tally->bad);
    return lost || tally->bad;
}

static unsigned number(const char *text, unsigned most)
{
    unsigned long n = strtoul(text, NULL, 0);

    return n > most ? most : (unsigned)n;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    time_t end = argc > 2 ? time(NULL) + atoi(argv[argc - 1]) : 0;

    if (!strcmp(what, "answer"))
        return answer(strtoull(argv[2], NULL, 0));
    if (!strcmp(what, "sums"))
        return sums(argv + 2);
    /* Compilers and modules have the CPUs first. */
    if (nice(12) == -1 || !(tally = shared(sizeof(*tally))))
        return 3;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(what, "reads") && argc == 6)
        return reads(argv[2], argv[3], number(argv[4], PROCS), end);
    if (!strcmp(what, "files") && argc == 5)
        return files(argv[2], number(argv[3], PROCS), end);
    if (!strcmp(what, "forks") && argc == 4)
        return forks(number(argv[2], PROCS), end, argv[0]);
    fprintf(stderr,
            "mixedio: sums FILE... | reads LIST ROOT PROCS SECONDS | files DIR PROCS SECONDS |"
            " forks WIDTH SECONDS\n");
    return 2;
}
