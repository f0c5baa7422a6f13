/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the bus and its devices as a guest's CPUs do: configuration space by ECAM and ports,
 * BARs that move and overlap, MSI-X tables, the registers of every virtio device, status games,
 * resets in the middle of requests, and the small devices at ports.  Nothing may crash or hang,
 * and ioeventfds must come and go in pairs (P2 of pci.c).
 * LLVMFuzzerTestOneInput() for libFuzzer (build with -Dmain=unused); main() for any compiler:
 * files named as arguments, or a number of rounds of a built-in mutator (default 3000, or
 * argument -N).  In every second hundred of rounds io0 runs on a thread of its own, and a second
 * vCPU plays the same input backwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/device/chario.h"
#include "vmm/device/devices.h"
#include "vmm/device/host.h"
#include "vmm/device/legacy.h"
#include "vmm/device/pci.h"
#include "vmm/device/virtio.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/irq.h"
#include "vmm/machine/mem.h"

enum {
    NDEVS = 4,        /* block, entropy, balloon, console: slots 1 to 4 */
    RAM = 2 << 20,    /* bytes */
    RINGS = 0x100000, /* gpa of the first queue's rings; 16 KiB a queue, 8 queues a device */
    AVAIL = 0x1000,   /* offsets in them */
    USED = 0x2000,
    SIZE = 16,  /* entries of a queue */
    STEP = 8,   /* input bytes of a step */
    STEPS = 96, /* steps of a round */
    INPUT = STEP * STEPS,
    MAPS = 4096, /* ioeventfds at a time */
};

/* An ioeventfd in force. */
struct map {
    uint64_t gpa; /* where */
    int fd;       /* which; -1: free entry */
};

/* The machine under test, made once. */
static struct {
    struct guest_mem mem;          /* 2 MiB */
    struct bus pio, mmio;          /* address spaces */
    struct evloop io;              /* loop of io0 */
    struct dev_host host;          /* machine */
    struct pci_bus *pci;           /* bus */
    struct virtio_dev *dev[NDEVS]; /* devices */
    struct uart *uart;             /* 16550 */
    struct pm *pm;                 /* power */
    struct fwcfg *fwcfg;           /* items */
    pthread_mutex_t lock;          /* guards map */
    struct map map[MAPS];          /* ioeventfds in force */
    atomic_ulong messages;         /* interrupts over all rounds */
    bool ready;                    /* the above is set up */
} fuzz;

/* One vCPU's way through an input. */
struct walk {
    const uint8_t *in; /* INPUT bytes */
    bool backwards;    /* from the last step to the first */
    bool alone;        /* it runs the loop, too */
};

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic, (void)addr, (void)data;
    atomic_fetch_add(&fuzz.messages, 1);
}

void irq_gsi(struct irqchip *ic, unsigned pin, bool level)
{
    (void)ic, (void)pin, (void)level;
}

/* Keeps account of ioeventfds as KVM does: one address, one descriptor. */
static int account(void *ctx, uint64_t gpa, unsigned len, int fd, bool add)
{
    struct map *mine = NULL, *none = NULL;
    bool taken = false;

    (void)ctx, (void)len;
    pthread_mutex_lock(&fuzz.lock);
    for (unsigned i = 0; i < MAPS; i++) {
        struct map *m = &fuzz.map[i];

        if (m->fd < 0)
            none = m;
        else if (m->gpa == gpa && m->fd == fd)
            mine = m;
        else if (m->gpa == gpa)
            taken = true;
    }
    INVARIANT(add ? !mine : !!mine, "fuzz: P2, ioeventfds come and go in pairs");
    INVARIANT(none, "fuzz: ioeventfds pile up");
    if (mine)
        mine->fd = -1;
    else if (!taken)
        *none = (struct map){.gpa = gpa, .fd = fd};
    pthread_mutex_unlock(&fuzz.lock);
    return taken ? -EEXIST : 0;
}

static void ended(void *ctx)
{
    (void)ctx;
}

static void debug_ended(void *ctx, uint32_t value)
{
    (void)ctx, (void)value;
}

/* Makes the devices. */
static void make_devices(void)
{
    int disk = memfd_create("disk", MFD_CLOEXEC), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int r = ftruncate(disk, 1 << 20);

    r |= blk_new(&fuzz.dev[0], &fuzz.host, fuzz.pci, 0, disk, false, 4, "fuzz", NULL);
    r |= rng_new(&fuzz.dev[1], &fuzz.host, fuzz.pci, NULL);
    r |= balloon_new(&fuzz.dev[2], &fuzz.host, fuzz.pci, NULL);
    r |= vconsole_new(&fuzz.dev[3], &fuzz.host, fuzz.pci,
                      chario_new(CHARIO_NULL, -1, -1, false), NULL);
    INVARIANT(!r, "fuzz: devices");
    fuzz.uart = uart_new(&fuzz.host, chario_new(CHARIO_STREAM, -1, null, false), NULL, NULL);
    fuzz.pm = pm_new(&fuzz.host);
    fuzz.fwcfg = fwcfg_new(&fuzz.host, RAM, 1);
    debug_exit_add(&fuzz.host);
}

/* Makes the machine. */
static void prepare(void)
{
    struct mem_spec spec = {.size = RAM, .nviews = 1};

    log_init(LOG_ERROR, "fuzz");
    for (unsigned i = 0; i < MAPS; i++)
        fuzz.map[i].fd = -1;
    pthread_mutex_init(&fuzz.lock, NULL);
    INVARIANT(!mem_init(&fuzz.mem, &spec, NULL), "fuzz: guest memory");
    INVARIANT(!evloop_init(&fuzz.io, NULL), "fuzz: loop");
    fuzz.host = (struct dev_host){.mem = &fuzz.mem,
                                  .io = &fuzz.io,
                                  .pio = &fuzz.pio,
                                  .mmio = &fuzz.mmio,
                                  .ioeventfd = account,
                                  .power_off = ended,
                                  .reset = ended,
                                  .debug_exit = debug_ended};
    INVARIANT(!pci_bus_new(&fuzz.pci, &fuzz.host), "fuzz: bus");
    make_devices();
    fuzz.ready = true;
}

/* Undoes prepare(); no ioeventfd is left. */
static void cleanup(void)
{
    for (unsigned i = 0; i < NDEVS; i++)
        virtio_dev_free(fuzz.dev[i]);
    for (unsigned i = 0; i < MAPS; i++)
        INVARIANT(fuzz.map[i].fd < 0, "fuzz: P2, an ioeventfd is left");
    uart_free(fuzz.uart);
    pm_free(fuzz.pm);
    fwcfg_free(fuzz.fwcfg);
    pci_bus_free(fuzz.pci);
    evloop_exit(&fuzz.io);
    mem_exit(&fuzz.mem);
}

/* ---- what a vCPU does ---- */

static uint32_t ecam_read(unsigned slot, unsigned reg)
{
    uint32_t v = 0;

    bus_read(&fuzz.mmio, MMIO_ECAM + (slot << 15) + reg, &v, 4);
    return v;
}

static void mmio_write(uint64_t gpa, uint64_t v, unsigned len)
{
    bus_write(&fuzz.mmio, gpa, &v, len);
}

static void ecam_write(unsigned slot, unsigned reg, uint32_t v, unsigned len)
{
    mmio_write(MMIO_ECAM + (slot << 15) + reg, v, len);
}

/* Where a BAR of a device is by its register. */
static uint64_t bar(unsigned slot, unsigned i)
{
    return ecam_read(slot, 0x10 + 4 * i) & ~15u;
}

/* The gpa of a queue's rings. */
static uint64_t rings(unsigned slot, unsigned q)
{
    return RINGS + (slot * 8 + q % 8) * 0x4000ull;
}

/* Writes a register of the common configuration. */
static void common(unsigned slot, unsigned off, uint32_t v, unsigned len)
{
    mmio_write(bar(slot, 0) + off, v, len);
}

/* Brings a device up as a driver does, with some of the features. */
static void drive(unsigned slot, uint64_t leave_out)
{
    uint64_t f = ~leave_out | 1ull << 32;
    uint32_t home = (uint32_t)MMIO_PCI + slot * 0x10000;

    ecam_write(slot, 0x10, home, 4);
    ecam_write(slot, 0x14, home + 0x8000, 4);
    ecam_write(slot, 4, 6, 2);
    for (unsigned i = 0; i < 5; i++)
        mmio_write(bar(slot, 1) + 16 * i + 12, 0, 4);
    ecam_write(slot, 0x40, 0x80000011, 4);
    common(slot, 0x14, 0, 1);
    common(slot, 0x14, 3, 1);
    for (unsigned i = 0; i < 2; i++) {
        uint32_t offered = 0;

        common(slot, 0, i, 4);
        bus_read(&fuzz.mmio, bar(slot, 0) + 4, &offered, 4);
        common(slot, 8, i, 4);
        common(slot, 12, offered & (uint32_t)(f >> 32 * i), 4);
    }
    common(slot, 0x14, 11, 1);
    for (unsigned q = 0; q < 4; q++) {
        memset(mem_at(&fuzz.mem, rings(slot, q), 0x4000, MEM_WRITE), 0, 0x4000);
        common(slot, 0x16, q, 2);
        common(slot, 0x18, SIZE, 2);
        common(slot, 0x1a, q, 2);
        common(slot, 0x20, (uint32_t)rings(slot, q), 4);
        common(slot, 0x28, (uint32_t)rings(slot, q) + AVAIL, 4);
        common(slot, 0x30, (uint32_t)rings(slot, q) + USED, 4);
        common(slot, 0x1c, 1, 2);
    }
    common(slot, 0x14, 15, 1);
}

/* Puts a request of two descriptors into a queue and kicks; for a disk, a header before. */
static void request(unsigned slot, const uint8_t *s)
{
    unsigned q = s[2] % 4, head = s[3] % SIZE;
    uint64_t at = rings(slot, q), buf = 0x1000ull * (1 + s[4] % 64);
    uint8_t *m = mem_at(&fuzz.mem, at, 0x4000, MEM_WRITE);
    uint32_t len[3] = {16, s[5] * 64u, 1u + s[6] % 3 * 512};
    uint16_t flags[3] = {1, s[7] & 3, 2}, *avail = (uint16_t *)(void *)(m + AVAIL);
    uint64_t hdr[2] = {s[6] % 16, s[7]};

    mem_write(&fuzz.mem, buf, hdr, sizeof(hdr));
    for (unsigned i = slot == 1 ? 0 : 1; i < 3; i++) {
        unsigned d = (head + i) % SIZE, next = (d + 1) % SIZE;
        uint64_t addr = buf + 0x100ull * i;
        uint8_t *p = m + 16ull * d;

        memcpy(p, &addr, 8);
        memcpy(p + 8, &len[i], 4);
        memcpy(p + 12, &flags[i], 2);
        memcpy(p + 14, &next, 2);
    }
    avail[2 + avail[1] % SIZE] = (uint16_t)(slot == 1 ? head : (head + 1) % SIZE);
    __atomic_fetch_add(&avail[1], 1, __ATOMIC_SEQ_CST);
    mmio_write(bar(slot, 0) + 0x3000 + 4 * q, q, 2);
}

/* An access to configuration space, with values that matter there. */
static void config_step(unsigned slot, const uint8_t *s)
{
    static const uint32_t values[] = {0,          ~0u,        6,         0xc0000000,
                                      0xc0004000, 0xdffff000, 0x80000000};
    static const uint8_t regs[] = {0x04, 0x10, 0x14, 0x18, 0x40, 0x42};
    unsigned reg = s[2] & 1 ? regs[s[3] % sizeof(regs)] : s[3] * 4u;
    unsigned len = 1u << s[4] % 3;
    uint32_t v =
        s[5] & 1 ? values[s[6] % 7] : (uint32_t)s[6] << 24 | (uint32_t)s[7] << 8 | s[5];
    uint32_t addr = 0x80000000 | slot << 11 | (reg & 0xfc);

    if (s[2] & 2) {
        bus_write(&fuzz.pio, 0xcf8, &addr, 4);
        bus_write(&fuzz.pio, 0xcfc + (s[2] >> 2 & 3), &v, len);
        bus_read(&fuzz.pio, 0xcfc, &v, 4);
    } else {
        ecam_write(slot, reg + (s[2] >> 2 & 3), v, len);
        ecam_read(slot, reg);
    }
}

/* An access to the window of all BARs. */
static void window_step(unsigned slot, const uint8_t *s)
{
    uint64_t v = (uint64_t)s[5] << 32 | (uint64_t)s[6] << 8 | s[7];
    unsigned off = (s[2] & 3) * 0x1000u + (s[3] & 0x3f), len = 1u << s[4] % 4;
    uint64_t at = bar(slot, s[2] >> 2 & 1) + off;

    if (s[2] & 8)
        bus_read(&fuzz.mmio, at, &v, len);
    else
        mmio_write(at, v, len);
}

/* An access through the configuration capability's window. */
static void capability_step(unsigned slot, const uint8_t *s)
{
    unsigned at = 0x40, v;

    for (int i = 0;
         i < 48 && ((ecam_read(slot, at) >> 24) != 5 || (uint8_t)ecam_read(slot, at) != 9); i++)
        at = ecam_read(slot, at) >> 8 & 0xfc ? ecam_read(slot, at) >> 8 & 0xfc : 0x40;
    v = (s[2] & 3) * 0x1000u + (s[3] & 0x3f);
    ecam_write(slot, at + 4, s[4] & 16, 1);
    ecam_write(slot, at + 8, v, 4);
    ecam_write(slot, at + 12, 1u << s[4] % 4, 4);
    if (s[5] & 1)
        ecam_write(slot, at + 16, s[6], 1u << s[7] % 3);
    else
        ecam_read(slot, at + 16);
}

/* An access to a small device. */
static void port_step(const uint8_t *s)
{
    static const uint16_t ports[] = {COM1_PORT,  PM_PORT, PM_GED_PORT, DEBUG_EXIT_PORT,
                                     FWCFG_PORT, 0x40,    0x61,        0x64,
                                     0xcf8,      0xcfc};
    uint32_t v = (uint32_t)s[5] << 24 | (uint32_t)s[6] << 8 | s[7];
    uint16_t port = (uint16_t)(ports[s[2] % 10] + (s[3] & 7));

    if (s[3] & 8)
        bus_read(&fuzz.pio, port, &v, 1u << s[4] % 3);
    else
        bus_write(&fuzz.pio, port, &v, 1u << s[4] % 3);
}

/* One step. */
static void step(const uint8_t *s, bool alone)
{
    unsigned slot = s[1] % 16 ? 1 + s[1] % NDEVS : s[1] / 16;

    switch (s[0] % 16) {
    case 0:
    case 1:
        config_step(slot, s);
        break;
    case 2:
        window_step(slot, s);
        break;
    case 3:
        capability_step(slot, s);
        break;
    case 4:
        port_step(s);
        break;
    case 5:
        common(slot, 0x14, s[2] & 1 ? 0 : s[3], 1);
        break;
    case 6:
        balloon_set_target(fuzz.dev[2], (uint64_t)s[2] << 12);
        pm_power_button(fuzz.pm);
        break;
    case 7:
    case 8:
        drive(1 + s[1] % NDEVS, s[2] & 1 ? 0 : (uint64_t)s[3] << s[4] % 40);
        break;
    case 9:
        if (alone)
            evloop_once(&fuzz.io, 0);
        break;
    default:
        request(1 + s[1] % NDEVS, s);
    }
}

/* A vCPU's way through the input. */
static void *walk(void *arg)
{
    const struct walk *w = arg;

    for (unsigned i = 0; i < STEPS; i++)
        step(w->in + STEP * (w->backwards ? STEPS - 1 - i : i), w->alone);
    return NULL;
}

/* Requests served so far by all devices. */
static unsigned long served(void)
{
    unsigned long n = 0;

    for (unsigned i = 0; i < NDEVS; i++) {
        struct dev_stats st;

        virtio_dev_stats(fuzz.dev[i], &st);
        n += st.requests;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t in[INPUT] = {0};
    struct walk w = {.in = in, .alone = true};

    if (!fuzz.ready)
        prepare();
    memcpy(in, data, len < INPUT ? len : INPUT);
    walk(&w);
    return 0;
}

/* ---- the built-in mutator ---- */

static void fill(uint64_t *s, uint8_t in[INPUT])
{
    for (unsigned i = 0; i < INPUT; i++)
        in[i] = (uint8_t)rnd(s);
}

/* Body of io0. */
static void *io0(void *arg)
{
    evloop_run(arg);
    return NULL;
}

/* n rounds of two vCPUs and io0 at once. */
static void rounds_together(long n, uint64_t *seed)
{
    pthread_t io, second;
    uint8_t in[INPUT];

    evloop_rearm(&fuzz.io);
    INVARIANT(!pthread_create(&io, NULL, io0, &fuzz.io), "fuzz: thread");
    for (long i = 0; i < n; i++) {
        struct walk a = {.in = in}, b = {.in = in, .backwards = true};

        fill(seed, in);
        INVARIANT(!pthread_create(&second, NULL, walk, &b), "fuzz: thread");
        walk(&a);
        pthread_join(second, NULL);
    }
    evloop_stop(&fuzz.io);
    pthread_join(io, NULL);
}

/* n rounds, half of them by several threads. */
static void rounds_of(long n, uint64_t *seed)
{
    for (long i = 0; i < n; i += 100) {
        long turn = n - i < 100 ? n - i : 100;
        uint8_t in[INPUT];

        if (i / 100 % 2) {
            rounds_together(turn, seed);
            continue;
        }
        for (long k = 0; k < turn; k++) {
            fill(seed, in);
            LLVMFuzzerTestOneInput(in, INPUT);
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = FUZZ_SEED;
    long rounds = 3000;

    if (!fuzz_args(argc, argv, INPUT, &rounds))
        return 2;
    rounds_of(rounds, &seed);
    if (!fuzz.ready)
        return 0;
    printf("fuzz_pci: %ld rounds, %lu requests served, %lu interrupts\n", rounds, served(),
           atomic_load(&fuzz.messages));
    cleanup();
    return 0;
}
