/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes split virtqueues: the input becomes the rings, an indirect table and the calls made; a
 * device must neither crash, nor hang, nor hand out memory that is not the guest's.
 * LLVMFuzzerTestOneInput() for libFuzzer (build with -Dmain=unused); main() for any compiler:
 * files named as arguments, or a number of rounds of a built-in mutator (default 20000, or
 * argument -N).  In every second thousand of rounds a thread scribbles over the rings meanwhile, as
 * a hostile vCPU would.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/toy.h"
#include "vmm/device/devices.h"
#include "vmm/device/host.h"
#include "vmm/device/virtio.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/irq.h"
#include "vmm/machine/mem.h"

enum {
    SIZE = 16,       /* entries of the queue */
    DESC = 0x10000,  /* gpas of the rings */
    AVAIL = 0x11000, /* right after the table's page */
    USED = 0x12000,  /* likewise */
    INDIRECT = 0x13000,
    INDIRECT_LEN = 1024,
    CALLS = 64, /* bytes of the input that choose calls */
    INPUT = CALLS + 16 * SIZE + 6 + 2 * SIZE + INDIRECT_LEN,
    RAM = 2 << 20,
};

/* The device under test, made once. */
static struct {
    struct guest_mem mem;  /* 2 MiB */
    struct bus pio, mmio;  /* address spaces */
    struct evloop io;      /* loop */
    struct dev_host host;  /* machine */
    struct pci_bus *pci;   /* bus */
    struct virtio_dev dev; /* device */
    struct vq_chain chain; /* what was popped */
    uint64_t popped;       /* requests that were well formed, over all rounds */
    bool ready;            /* the above is set up */
} fuzz;

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic, (void)addr, (void)data;
}

/* Makes the machine and the device. */
static void prepare(void)
{
    struct mem_spec spec = {.size = RAM, .nviews = 1};

    log_init(LOG_ERROR, "fuzz");
    INVARIANT(!mem_init(&fuzz.mem, &spec, NULL), "fuzz: guest memory");
    INVARIANT(!evloop_init(&fuzz.io, NULL), "fuzz: loop");
    fuzz.host = (struct dev_host){
        .mem = &fuzz.mem, .io = &fuzz.io, .pio = &fuzz.pio, .mmio = &fuzz.mmio};
    INVARIANT(!pci_bus_new(&fuzz.pci, &fuzz.host), "fuzz: bus");
    INVARIANT(!virtio_init(&fuzz.dev, &toy_type, "toy0", 1, SIZE, 0, &fuzz.host, fuzz.pci),
              "fuzz: device");
    fuzz.ready = true;
}

/* Undoes prepare(). */
static void cleanup(void)
{
    virtio_exit(&fuzz.dev);
    pci_bus_free(fuzz.pci);
    evloop_exit(&fuzz.io);
    mem_exit(&fuzz.mem);
}

/* Every segment lies in RAM, and can be touched. */
static void check_segments(const struct iovec *iov, unsigned n, size_t len, bool write)
{
    size_t sum = 0;

    INVARIANT(n <= VQ_MAX_SEGS, "fuzz: number of segments");
    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = iov[i].iov_base;
        volatile uint8_t *first = p, *last = p + iov[i].iov_len - 1;

        INVARIANT(p >= fuzz.mem.alias && iov[i].iov_len <= RAM &&
                      p + iov[i].iov_len <= fuzz.mem.alias + RAM,
                  "fuzz: segment inside RAM");
        sum += iov[i].iov_len;
        if (*first != *last && write)
            *first = *last;
    }
    INVARIANT(sum == len && len <= UINT32_MAX, "fuzz: sum of lengths");
}

/* One call, chosen by a byte of the input. */
static void call(struct virtq *q, uint8_t op)
{
    switch (op & 7) {
    case 0:
    case 1:
    case 2:
        if (vq_pop(q, &fuzz.chain) != 1)
            break;
        fuzz.popped++;
        check_segments(fuzz.chain.out, fuzz.chain.nout, fuzz.chain.out_len, false);
        check_segments(fuzz.chain.in, fuzz.chain.nin, fuzz.chain.in_len, true);
        if (op & 8)
            vq_unpop(q);
        else
            vq_push(q, fuzz.chain.head, op);
        break;
    case 3:
        vq_arm(q);
        break;
    case 4:
        vq_disarm(q);
        break;
    case 5:
        vq_signal(q);
        break;
    case 6:
        for (unsigned i = 0; i <= op >> 3; i++)
            vq_fill(q, i, i, i);
        vq_publish(q, op >> 3);
        break;
    default:
        vq_more(q);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct virtq *q = &fuzz.dev.vq[0];
    uint8_t in[INPUT] = {0};

    if (!fuzz.ready)
        prepare();
    memcpy(in, data, len < INPUT ? len : INPUT);
    mem_write(&fuzz.mem, DESC, in + CALLS, 16 * SIZE);
    mem_write(&fuzz.mem, AVAIL, in + CALLS + 16 * SIZE, 6 + 2 * SIZE);
    mem_write(&fuzz.mem, INDIRECT, in + INPUT - INDIRECT_LEN, INDIRECT_LEN);
    virtio_lock(&fuzz.dev);
    virtio_reset(&fuzz.dev);
    fuzz.dev.features = (uint64_t)(in[0] & 3) << VIRTIO_F_INDIRECT | 1ull << VIRTIO_F_VERSION_1;
    fuzz.dev.status = VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK;
    q->size = (uint16_t)(in[1] & 7 ? SIZE : 1u << (in[1] >> 3) % 5);
    q->desc = DESC;
    q->avail = AVAIL;
    q->used = USED;
    q->enabled = true;
    for (unsigned i = 2; i < CALLS; i++)
        call(q, in[i]);
    virtio_unlock(&fuzz.dev);
    return 0;
}

/* A descriptor that is mostly sensible, so that walks get far. */
static void make_desc(uint64_t *s, uint8_t *p, bool indirect, unsigned n)
{
    static const uint64_t odd[] = {0, RAM - 1, RAM, UINT64_MAX, 0xc0000000, 0x100000000};
    uint64_t addr = rnd(s) % 8 ? rnd(s) % RAM : odd[rnd(s) % 6];
    uint32_t len = rnd(s) % 16 ? rnd(s) % 4096 : rnd(s);
    uint16_t flags = rnd(s) % 16 ? rnd(s) % 4 : (uint16_t)rnd(s);
    uint16_t next = rnd(s) % 32 ? rnd(s) % n : (uint16_t)rnd(s);

    if (indirect && rnd(s) % 4 == 0) {
        addr = INDIRECT + rnd(s) % 2;
        len = rnd(s) % 8 ? 16 * (rnd(s) % 65) : rnd(s) % 2048;
        flags = 4;
    }
    memcpy(p, &addr, 8);
    memcpy(p + 8, &len, 4);
    memcpy(p + 12, &flags, 2);
    memcpy(p + 14, &next, 2);
}

/* One round of the built-in mutator. */
static void round_of(uint64_t *s)
{
    uint8_t in[INPUT];
    uint16_t idx;

    for (unsigned i = 0; i < INPUT; i++)
        in[i] = (uint8_t)rnd(s);
    for (unsigned i = 0; i < SIZE; i++)
        make_desc(s, in + CALLS + 16 * i, true, SIZE);
    for (unsigned i = 0; i < INDIRECT_LEN / 16; i++)
        make_desc(s, in + INPUT - INDIRECT_LEN + 16 * i, rnd(s) % 64 == 0, INDIRECT_LEN / 16);
    idx = rnd(s) % 16 ? rnd(s) % (SIZE + 1) : (uint16_t)rnd(s);
    memcpy(in + CALLS + 16 * SIZE + 2, &idx, 2);
    for (unsigned i = 0; i < SIZE; i++) {
        idx = rnd(s) % 32 ? rnd(s) % SIZE : (uint16_t)rnd(s);
        memcpy(in + CALLS + 16 * SIZE + 4 + 2 * i, &idx, 2);
    }
    LLVMFuzzerTestOneInput(in, INPUT);
}

/* Overwrites words of the tables, the available index among them, until *arg is set. */
static void *scribble(void *arg)
{
    const atomic_bool *stop = arg;
    uint64_t s = 0x1234567;

    while (!atomic_load(stop)) {
        uint64_t gpa = rnd(&s) % 2 ? DESC + 8 * (rnd(&s) % (2 * SIZE))
                                   : INDIRECT + 8 * (rnd(&s) % (INDIRECT_LEN / 8));
        volatile uint64_t *p;

        if (rnd(&s) % 64 == 0)
            gpa = AVAIL;
        p = mem_at(&fuzz.mem, gpa, 8, MEM_WRITE);
        *p = rnd(&s) % 2 ? rnd(&s) % RAM : (uint64_t)rnd(&s) << 32 | rnd(&s);
    }
    return NULL;
}

/* n rounds, half of them with the scribbler. */
static void rounds_of(long n, uint64_t *seed)
{
    for (long i = 0; i < n; i += 1000) {
        atomic_bool stop = false;
        bool both = i / 1000 % 2 && fuzz.ready;
        pthread_t t;

        if (both)
            INVARIANT(!pthread_create(&t, NULL, scribble, &stop), "fuzz: thread");
        for (long k = i; k < n && k < i + 1000; k++)
            round_of(seed);
        atomic_store(&stop, true);
        if (both)
            pthread_join(t, NULL);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = FUZZ_SEED;
    long rounds = 20000;

    if (!fuzz_args(argc, argv, INPUT, &rounds))
        return 2;
    rounds_of(rounds, &seed);
    printf("fuzz_virtq: %ld rounds, %llu requests were well formed\n", rounds,
           (unsigned long long)fuzz.popped);
    if (fuzz.ready)
        cleanup();
    return 0;
}
