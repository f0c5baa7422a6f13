/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the network card from both sides: the input becomes the rings of both queues, the
 * features the driver took, and the frames (header first) that a hostile neighbour sends.  The
 * card must neither crash, nor touch what is not the guest's, nor keep io0 busy for ever.
 * LLVMFuzzerTestOneInput() for libFuzzer (build with -Dmain=unused); main() for any compiler:
 * files named as arguments, or rounds of a built-in mutator (default 5000, or argument -N).
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/err.h"
#include "base/evloop.h"
#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/tcpframe.h"
#include "vmm/device/devices.h"
#include "vmm/device/host.h"
#include "vmm/device/net.h"
#include "vmm/device/virtio.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/irq.h"
#include "vmm/machine/mem.h"

enum {
    SIZE = 32,       /* entries of each queue */
    RINGS = 0x10000, /* gpa of the rings of queue 0, 64 KiB a queue */
    AVAIL = 0x1000,  /* offsets in them */
    USED = 0x2000,
    RING_LEN = 16 * SIZE + 6 + 2 * SIZE, /* input bytes of one queue */
    HEAD = 320,                          /* input bytes of a frame; the rest is a pattern */
    NFRAMES = 3,
    CTRL = 16,
    INPUT = CTRL + 2 * RING_LEN + NFRAMES * HEAD,
    RAM = 2 << 20,
    FRAME_MAX = 65612,
    TURNS = 2000, /* of the loop, until it must be quiet */
};

/* The card under test, made once. */
static struct {
    struct guest_mem mem;    /* 2 MiB */
    struct bus pio, mmio;    /* address spaces */
    struct evloop io;        /* loop */
    struct dev_host host;    /* machine */
    struct pci_bus *pci;     /* bus */
    struct virtio_dev *card; /* device */
    struct net_backend be;   /* the neighbour */
    void (*ready)(void *);   /* the card's function for it */
    void *arg;               /* of ready */
    const uint8_t *in;       /* input */
    unsigned given;          /* frames received this round */
    unsigned full;           /* sends to refuse this round */
    uint64_t sent;           /* frames over all rounds */
    bool prepared;           /* the above is set up */
} fuzz;

void irq_msi(struct irqchip *ic, uint64_t addr, uint32_t data)
{
    (void)ic, (void)addr, (void)data;
}

/* ---- the neighbour ---- */

/* Every byte can be read and is the guest's. */
static int nb_send(struct net_backend *be, const struct iovec *iov, unsigned n)
{
    (void)be;
    for (unsigned i = 0; i < n; i++) {
        volatile uint8_t *p = iov[i].iov_base;

        INVARIANT(iov[i].iov_len && p >= fuzz.mem.alias &&
                      p + iov[i].iov_len <= fuzz.mem.alias + RAM,
                  "fuzz: sent bytes inside RAM");
        (void)*p;
        (void)p[iov[i].iov_len - 1];
    }
    if (fuzz.full && fuzz.full--)
        return -EAGAIN;
    fuzz.sent++;
    return 0;
}

/* The next frame of the input. */
static ssize_t nb_recv(struct net_backend *be, const struct iovec *iov, unsigned n)
{
    const uint8_t *len2 = fuzz.in + 4 + 2 * fuzz.given;
    const uint8_t *head = fuzz.in + CTRL + 2 * RING_LEN + HEAD * fuzz.given;
    size_t len = (size_t)len2[0] << 8 | len2[1];

    (void)be;
    INVARIANT(n == 1 && iov->iov_len == FRAME_MAX, "fuzz: room for a frame");
    if (fuzz.given == NFRAMES)
        return 0;
    fuzz.given++;
    if (!len)
        return -EMSGSIZE;
    memset(iov->iov_base, 0x5a, len);
    memcpy(iov->iov_base, head, len < HEAD ? len : HEAD);
    return (ssize_t)len;
}

static int nb_start(struct net_backend *be, struct evloop *io, void (*ready)(void *arg),
                    void *arg)
{
    (void)be, (void)io;
    fuzz.ready = ready;
    fuzz.arg = arg;
    return 0;
}

static void nb_want(struct net_backend *be, bool rd, bool wr)
{
    (void)be, (void)rd, (void)wr;
}

static void nb_free(struct net_backend *be)
{
    (void)be;
}

static const struct net_backend_ops nb_ops = {.name = "fuzz",
                                              .offload = true,
                                              .send = nb_send,
                                              .recv = nb_recv,
                                              .start = nb_start,
                                              .want = nb_want,
                                              .free = nb_free};

/* ---- rounds ---- */

/* Makes the machine and the card. */
static void prepare(void)
{
    static const uint8_t mac[6] = {0x52, 0x54, 0, 0, 0, 2};
    struct mem_spec spec = {.size = RAM, .nviews = 1};

    log_init(LOG_ERROR, "fuzz");
    INVARIANT(!mem_init(&fuzz.mem, &spec, NULL), "fuzz: memory");
    INVARIANT(!evloop_init(&fuzz.io, NULL), "fuzz: loop");
    fuzz.host = (struct dev_host){
        .mem = &fuzz.mem, .io = &fuzz.io, .pio = &fuzz.pio, .mmio = &fuzz.mmio};
    INVARIANT(!pci_bus_new(&fuzz.pci, &fuzz.host), "fuzz: bus");
    fuzz.be.ops = &nb_ops;
    INVARIANT(!net_new(&fuzz.card, &fuzz.host, fuzz.pci, 0, mac, &fuzz.be, NULL), "fuzz: card");
    fuzz.prepared = true;
}

/* Undoes prepare(). */
static void cleanup(void)
{
    virtio_dev_free(fuzz.card);
    pci_bus_free(fuzz.pci);
    evloop_exit(&fuzz.io);
    mem_exit(&fuzz.mem);
}

/* Puts one queue's rings into guest memory and enables it. */
static void set_queue(unsigned i, unsigned size)
{
    const uint8_t *in = fuzz.in + CTRL + i * RING_LEN;
    uint64_t at = RINGS + i * 0x10000ull;
    struct virtq *q = &fuzz.card->vq[i];

    mem_write(&fuzz.mem, at, in, 16 * SIZE);
    mem_write(&fuzz.mem, at + AVAIL, in + 16 * SIZE, 6 + 2 * SIZE);
    q->size = (uint16_t)size;
    q->desc = at;
    q->avail = at + AVAIL;
    q->used = at + USED;
    q->enabled = true;
}

/* Runs the loop until nothing is left to do. */
static void settle(void)
{
    struct epoll_event ev;
    unsigned turns = 0;

    fuzz.ready(fuzz.arg);
    while (epoll_wait(fuzz.io.epfd, &ev, 1, 0) > 0) {
        INVARIANT(turns++ < TURNS, "fuzz: io0 comes to rest");
        evloop_once(&fuzz.io, 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint8_t in[INPUT] = {0};
    uint16_t more = SIZE;

    if (!fuzz.prepared)
        prepare();
    memcpy(in, data, len < INPUT ? len : INPUT);
    fuzz.in = in;
    fuzz.given = 0;
    fuzz.full = in[3] % 4;
    virtio_lock(fuzz.card);
    virtio_reset(fuzz.card);
    fuzz.card->features =
        fuzz.card->offered & ((uint64_t)(in[0] & 3) << VIRTIO_F_INDIRECT |
                              1ull << VIRTIO_F_VERSION_1 | in[1] << 8 | in[2]);
    fuzz.card->features |= in[0] & 4 ? 1ull << VIRTIO_NET_F_MRG_RXBUF : 0;
    fuzz.card->started = true;
    fuzz.card->status = VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK;
    for (unsigned i = 0; i < 2; i++) {
        set_queue(i, in[0] & 8 ? SIZE : 1u << (in[0] >> 4) % 6);
        vq_rekick(&fuzz.card->vq[i]);
    }
    virtio_unlock(fuzz.card);
    settle();
    /* The driver gives all its buffers again. */
    mem_write(&fuzz.mem, RINGS + AVAIL + 2, &more, 2);
    vq_rekick(&fuzz.card->vq[0]);
    settle();
    settle();
    return 0;
}

/* ---- the built-in mutator ---- */

/* A frame that is mostly what it claims to be. */
static void make_frame(uint64_t *s, uint8_t *in, uint8_t *len2)
{
    static uint8_t frame[FRAME_MAX];
    struct tf t = {.v6 = rnd(s) & 1, .vlans = rnd(s) % 8 == 0, .opts = rnd(s) & 1 ? 12 : 0};
    size_t payload = rnd(s) % 4 ? rnd(s) % 3000 : rnd(s) % 60000;
    struct virtio_net_hdr_v1 h;
    size_t len = 12 + tf_make(&t, frame, payload);

    h = (struct virtio_net_hdr_v1){.flags = rnd(s) % 8 ? 1 : (uint8_t)rnd(s),
                                   .gso_type = rnd(s) % 4 == 0 ? 0
                                               : t.v6          ? 4
                                                               : 1,
                                   .gso_size = rnd(s) % 4 ? 1448 : (uint16_t)(rnd(s) % 64),
                                   .csum_start = (uint16_t)t.l4,
                                   .csum_offset = 16};
    memcpy(in, &h, 12);
    memcpy(in + 12, frame, HEAD - 12);
    for (unsigned k = rnd(s) % 4; k > 2; k--)
        in[rnd(s) % (12 + t.hlen)] = (uint8_t)rnd(s);
    if (rnd(s) % 16 == 0)
        len = rnd(s) % FRAME_MAX;
    tf_put(len2, 2, len > 65535 ? 65535 : len);
}

/* One queue: mostly sensible descriptors, so that frames get through. */
static void make_queue(uint64_t *s, uint8_t *in, bool write, unsigned bad)
{
    uint16_t idx = rnd(s) % 16 ? rnd(s) % (SIZE + 1) : (uint16_t)rnd(s);

    for (unsigned i = 0; i < SIZE; i++) {
        uint64_t addr = rnd(s) % bad ? 0x40000 + rnd(s) % (RAM - 0x90000) : rnd(s);
        uint32_t len = rnd(s) % 4 ? 2048 : rnd(s) % 70000;
        uint16_t flags = (uint16_t)((write ? 2 : 0) | (rnd(s) % 4 == 0));
        uint16_t next = (uint16_t)(rnd(s) % bad ? (i + 1) % SIZE : rnd(s));

        if (rnd(s) % bad == 0)
            flags = (uint16_t)rnd(s);
        memcpy(in + 16 * i, &addr, 8);
        memcpy(in + 16 * i + 8, &len, 4);
        memcpy(in + 16 * i + 12, &flags, 2);
        memcpy(in + 16 * i + 14, &next, 2);
    }
    in += 16 * SIZE;
    memset(in, 0, 6 + 2 * SIZE);
    memcpy(in + 2, &idx, 2);
    for (unsigned i = 0; i < SIZE; i++)
        in[4 + 2 * i] = (uint8_t)(rnd(s) % bad ? i : rnd(s));
}

/* One round of the mutator. */
static void round_of(uint64_t *s)
{
    uint8_t in[INPUT];
    unsigned bad = rnd(s) & 1 ? 10000 : 64; /* one field in so many is wrong */

    for (unsigned i = 0; i < CTRL; i++)
        in[i] = (uint8_t)rnd(s);
    in[0] |= rnd(s) % 4 ? 8 : 0;
    make_queue(s, in + CTRL, true, bad);
    make_queue(s, in + CTRL + RING_LEN, false, bad);
    for (unsigned i = 0; i < NFRAMES; i++)
        make_frame(s, in + CTRL + 2 * RING_LEN + i * HEAD, in + 4 + 2 * i);
    LLVMFuzzerTestOneInput(in, INPUT);
}

int main(int argc, char **argv)
{
    uint64_t seed = FUZZ_SEED;
    long rounds = 5000;

    if (!fuzz_args(argc, argv, INPUT, &rounds))
        return 2;
    for (long i = 0; i < rounds; i++)
        round_of(&seed);
    if (fuzz.prepared) {
        struct dev_stats st;

        virtio_dev_stats(fuzz.card, &st);
        printf("fuzz_net: %ld rounds, %llu frames sent, %llu received\n", rounds,
               (unsigned long long)fuzz.sent, (unsigned long long)(st.requests - fuzz.sent));
        cleanup();
    }
    return 0;
}
