/* SPDX-License-Identifier: MIT */
/*
 * Runs one VMM and measures it: time from exec to a text on its console and to its end, CPU time,
 * private memory beyond guest RAM, and what KVM counted for it.  One line of JSON comes out.
 *
 * Use: runvmm [OPTIONS] -- COMMAND...     (options: the table at the end of the file)
 * The command's standard output is the guest's console.  Exec is the moment before execv() in the
 * child, so making the child is not in it.  With --sample the VMM is stopped when the text appears,
 * looked at, and then ended by SIGTERM; without, it runs to its own end.
 * Threads: one.  Everything hangs off struct job.
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    TEXT_MAX = 1 << 20, /* console bytes kept */
    GRACE_S = 10,       /* seconds between SIGTERM and SIGKILL */
    KIB_PER_MIB = 1024, /* KiB in a MiB */
};

#define KVM_STATS "/sys/kernel/debug/kvm"

/* One measurement. */
struct job {
    /* what was asked */
    const char *text; /* the console's text that counts, NULL: its first byte */
    const char *out;  /* file the JSON line is appended to, NULL: standard error */
    const char *maps; /* file for the private memory of every mapping, or NULL */
    uint64_t ram_kib; /* size of guest RAM */
    unsigned limit_s; /* seconds until the VMM is killed */
    bool sample;      /* stop, look and end when the text appears */
    json_t *row;      /* the line: labels of the caller first */
    /* the child */
    pid_t pid;         /* the VMM */
    int fd;            /* read end of its console */
    uint64_t *exec_ns; /* shared with the child: CLOCK_MONOTONIC before execv() */
    char *console;     /* what it said so far, TEXT_MAX + 1 bytes */
    size_t len;        /* bytes of console */
    bool seen;         /* the text has appeared */
    bool late;         /* killed because of limit_s */
};

/* Monotonic time, ns. */
static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Says what failed and ends. */
static void die(const char *what)
{
    fprintf(stderr, "runvmm: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* Notes milliseconds since exec under a name. */
static void note_ms(struct job *j, const char *name, uint64_t ns)
{
    json_object_set_new(j->row, name, json_real((double)(ns - *j->exec_ns) / 1e6));
}

/* ---- private memory ---- */

/* Sums over all mappings but the guest's RAM, KiB. */
struct private
{
    uint64_t clean, dirty; /* Private_Clean, Private_Dirty */
    uint64_t ram_rss;      /* resident part of the largest mapping of guest RAM */
};

/* One mapping of smaps. */
struct mapping {
    char name[256];                   /* its first line */
    uint64_t size, rss, clean, dirty; /* KiB */
};

/* Whether a mapping is the guest's RAM: a memfd, or nameless memory at least as large as it. */
static bool is_ram(const struct job *j, const struct mapping *m)
{
    if (strstr(m->name, "memfd:"))
        return true;
    return !strchr(m->name, '/') && !strchr(m->name, '[') && m->size >= j->ram_kib;
}

/* Adds one mapping. */
static void add_mapping(const struct job *j, struct private *p, const struct mapping *m,
                        FILE *f)
{
    bool ram = is_ram(j, m);

    if (ram) {
        p->ram_rss = m->rss > p->ram_rss ? m->rss : p->ram_rss; /* mapped more than once */
    } else {
        p->clean += m->clean;
        p->dirty += m->dirty;
    }
    if (f && m->clean + m->dirty)
        fprintf(f, "%6ju dirty %6ju clean %s %s\n", (uintmax_t)m->dirty, (uintmax_t)m->clean,
                ram ? "RAM" : "   ", m->name);
}

/* Reads /proc/PID/smaps. */
static void read_smaps(const struct job *j, struct private *p)
{
    FILE *maps = j->maps ? fopen(j->maps, "we") : NULL;
    struct mapping m = {.name = ""};
    char path[64], line[512], key[64];
    unsigned long long kib;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/smaps", (int)j->pid);
    f = fopen(path, "re");
    if (!f)
        die(path);
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%63[A-Za-z_]: %llu kB", key, &kib) != 2) {
            if (strchr(line, '-') && !strstr(line, "VmFlags")) {
                add_mapping(j, p, &m, maps);
                m = (struct mapping){.name = ""};
                line[strcspn(line, "\n")] = 0;
                snprintf(m.name, sizeof(m.name), "%.255s", line);
            }
        } else if (!strcmp(key, "Size")) {
            m.size = kib;
        } else if (!strcmp(key, "Rss")) {
            m.rss = kib;
        } else if (!strcmp(key, "Private_Clean")) {
            m.clean = kib;
        } else if (!strcmp(key, "Private_Dirty")) {
            m.dirty = kib;
        }
    }
    add_mapping(j, p, &m, maps);
    fclose(f);
    if (maps)
        fclose(maps);
}

/* ---- what KVM counted ---- */

/* Adds the counters of one virtual machine's directory to o. */
static void add_counters(json_t *o, const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        char path[1024];
        unsigned long long v;
        FILE *f;

        if (e->d_type == DT_DIR)
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        f = fopen(path, "re");
        if (f && fscanf(f, "%llu", &v) == 1 && v) {
            json_t *old = json_object_get(o, e->d_name);

            json_object_set_new(o, e->d_name,
                                json_integer(json_integer_value(old) + (json_int_t)v));
        }
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
}

/* KVM's counters of all virtual machines of the VMM, or null where debugfs has none. */
static json_t *kvm_counters(const struct job *j)
{
    DIR *d = opendir(KVM_STATS);
    struct dirent *e;
    char mine[32];
    json_t *o = NULL;

    snprintf(mine, sizeof(mine), "%d-", (int)j->pid);
    while (d && (e = readdir(d))) {
        char dir[512];

        if (strncmp(e->d_name, mine, strlen(mine)) != 0)
            continue;
        if (!o)
            o = json_object();
        snprintf(dir, sizeof(dir), KVM_STATS "/%s", e->d_name);
        add_counters(o, dir);
    }
    if (d)
        closedir(d);
    return o ? o : json_null();
}

/* ---- the run ---- */

/* CPU time of all threads of the VMM so far, ms; guest code included. */
static double cpu_ms(const struct job *j)
{
    struct timespec ts = {0};
    clockid_t clock;

    if (clock_getcpuclockid(j->pid, &clock) == 0)
        clock_gettime(clock, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* Part of the CPU time that was guest code, ms; as coarse as the kernel's tick. */
static double guest_ms(const struct job *j)
{
    char path[64], buf[1024] = "";
    unsigned long long guest = 0;
    const char *p;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)j->pid);
    f = fopen(path, "re");
    p = f && fgets(buf, sizeof(buf), f) ? strrchr(buf, ')') : NULL;
    for (int field = 2; p && field < 43; field++)
        p = strchr(p + 1, ' ');
    if (p)
        guest = strtoull(p, NULL, 10);
    if (f)
        fclose(f);
    return (double)guest * 1e3 / (double)sysconf(_SC_CLK_TCK);
}

/* Waits until it has stopped. */
static void wait_stopped(const struct job *j)
{
    siginfo_t si;

    (void)waitid(P_PID, (id_t)j->pid, &si, WSTOPPED | WNOWAIT);
}

/* Looks at the VMM as it stands, then asks it to end. */
static void sample(struct job *j)
{
    struct private p = {0};

    json_object_set_new(j->row, "cpu_ms", json_real(cpu_ms(j)));
    kill(j->pid, SIGSTOP);
    wait_stopped(j);
    json_object_set_new(j->row, "guest_ms", json_real(guest_ms(j)));
    json_object_set_new(j->row, "kvm", kvm_counters(j));
    read_smaps(j, &p);
    json_object_set_new(j->row, "private_kib", json_integer((json_int_t)(p.clean + p.dirty)));
    json_object_set_new(j->row, "private_dirty_kib", json_integer((json_int_t)p.dirty));
    json_object_set_new(j->row, "ram_rss_kib", json_integer((json_int_t)p.ram_rss));
    kill(j->pid, SIGCONT);
    kill(j->pid, SIGTERM);
}

/* The child: its console is the pipe, its input nothing. */
static void child(const struct job *j, char **argv, int out)
{
    int nothing = open("/dev/null", O_RDWR);

    dup2(nothing, 0);
    dup2(out, 1);
    *j->exec_ns = now_ns();
    execv(argv[0], argv);
    die(argv[0]);
}

/* Starts the VMM. */
static void start(struct job *j, char **argv)
{
    int p[2];

    j->exec_ns = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    j->console = calloc(1, TEXT_MAX + 1);
    if (j->exec_ns == MAP_FAILED || !j->console || pipe2(p, O_CLOEXEC))
        die("set-up");
    j->pid = fork();
    if (j->pid < 0)
        die("fork");
    if (j->pid == 0)
        child(j, argv, p[1]);
    close(p[1]);
    j->fd = p[0];
}

/* Takes new console bytes that came at a time; the first that completes the text counts. */
static void take(struct job *j, size_t n, uint64_t at)
{
    j->len += n;
    j->console[j->len] = 0;
    if (j->seen || (j->text && !memmem(j->console, j->len, j->text, strlen(j->text))))
        return;
    j->seen = true;
    note_ms(j, "text_ms", at);
    if (j->sample)
        sample(j);
}

/* Reads the console to its end, watching the clock. */
static void watch(struct job *j)
{
    uint64_t end = now_ns() + j->limit_s * 1000000000ull;
    bool asked = false;

    for (;;) {
        struct pollfd pfd = {.fd = j->fd, .events = POLLIN};
        uint64_t now = now_ns();
        ssize_t n;

        if (j->seen && j->sample && !asked) {
            asked = true;
            end = now + GRACE_S * 1000000000ull;
        }
        if (now >= end) {
            j->late = !asked;
            kill(j->pid, SIGKILL);
            end = now + GRACE_S * 1000000000ull;
        }
        if (poll(&pfd, 1, (int)((end - now) / 1000000 + 1)) <= 0)
            continue;
        now = now_ns();
        n = read(j->fd, j->console + j->len, TEXT_MAX - j->len);
        if (n <= 0)
            return;
        take(j, (size_t)n, now);
    }
}

/* Waits for the VMM and notes its end. */
static void finish(struct job *j)
{
    struct rusage ru;
    int status = 0;

    while (wait4(j->pid, &status, 0, &ru) < 0 && errno == EINTR)
        ;
    note_ms(j, "exit_ms", now_ns());
    json_object_set_new(
        j->row, "status",
        json_integer(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status)));
    json_object_set_new(j->row, "late", json_boolean(j->late));
    json_object_set_new(
        j->row, "user_ms",
        json_real((double)ru.ru_utime.tv_sec * 1e3 + (double)ru.ru_utime.tv_usec / 1e3));
    json_object_set_new(
        j->row, "sys_ms",
        json_real((double)ru.ru_stime.tv_sec * 1e3 + (double)ru.ru_stime.tv_usec / 1e3));
}

/* The figures that disco prints itself (run --json): the object that has "exits". */
static void take_own_json(struct job *j)
{
    json_t *o = NULL;

    for (char *at = j->console; !o && (at = strstr(at, "{\"name\"")); at++) {
        o = json_loads(at, JSON_DISABLE_EOF_CHECK, NULL);
        if (o && !json_object_get(o, "exits")) {
            json_decref(o);
            o = NULL;
        }
    }
    if (o)
        json_object_set_new(j->row, "own", o);
}

/* Writes the line. */
static void report(const struct job *j)
{
    FILE *f = j->out ? fopen(j->out, "ae") : stderr;

    if (!f)
        die(j->out);
    json_dumpf(j->row, f, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', f);
    if (j->out)
        fclose(f);
}

/* A label "KEY=VALUE" of the caller; a number stays a number. */
static void label(struct job *j, char *arg)
{
    char *value = strchr(arg, '='), *rest;
    double v;

    if (!value) {
        errno = EINVAL;
        die(arg);
    }
    *value++ = 0;
    v = strtod(value, &rest);
    json_object_set_new(j->row, arg, *rest || !*value ? json_string(value) : json_real(v));
}

int main(int argc, char **argv)
{
    static const struct option opts[] = {
        {"text", required_argument, NULL, 't'},  /* the console's text that counts */
        {"ram", required_argument, NULL, 'r'},   /* MiB of guest RAM */
        {"limit", required_argument, NULL, 'l'}, /* seconds until it is killed (120) */
        {"sample", no_argument, NULL, 's'},      /* look at it at the text, then end it */
        {"label", required_argument, NULL, 'L'}, /* KEY=VALUE for the JSON line */
        {"out", required_argument, NULL, 'o'},   /* append the line to this file */
        {"maps", required_argument, NULL, 'm'},  /* write private memory by mapping there */
        {"show", no_argument, NULL, 'S'},        /* print the console at the end */
        {0}};
    struct job j = {.limit_s = 120, .ram_kib = UINT64_MAX, .row = json_object()};
    bool show = false;
    int o;

    while ((o = getopt_long(argc, argv, "+", opts, NULL)) != -1) {
        if (o == 't')
            j.text = optarg;
        else if (o == 'r')
            j.ram_kib = strtoull(optarg, NULL, 10) * KIB_PER_MIB;
        else if (o == 'l')
            j.limit_s = (unsigned)strtoul(optarg, NULL, 10);
        else if (o == 's')
            j.sample = true;
        else if (o == 'L')
            label(&j, optarg);
        else if (o == 'o')
            j.out = optarg;
        else if (o == 'm')
            j.maps = optarg;
        else if (o == 'S')
            show = true;
        else
            return 2;
    }
    if (optind >= argc) {
        fputs("runvmm: no command (absolute path)\n", stderr);
        return 2;
    }
    start(&j, argv + optind);
    watch(&j);
    finish(&j);
    take_own_json(&j);
    report(&j);
    if (show || !j.seen)
        fprintf(stderr, "%s\n", j.console);
    json_decref(j.row);
    return j.seen ? 0 : 1;
}
