/* SPDX-License-Identifier: MIT */
/*
 * Virtio 1.x devices over PCI (modern only): transport, split virtqueues with indirect
 * descriptors and event indices, and what a device type supplies (struct virtio_type).
 * Source: OASIS Virtual I/O Device (VIRTIO) 1.2.
 *
 * Threads and locks: each device has one mutex.  The transport takes it before it calls any
 * function of the type; a type that is entered from elsewhere (a backend's descriptor became
 * ready on io0) takes it by virtio_lock().  Queues are served on io0: the guest's kick is an
 * ioeventfd.  Register accesses come on vCPU threads.
 *
 * Everything in guest memory is hostile.  A ring index that jumps too far, a descriptor loop, an
 * address outside RAM, a chain too long: virtio_break() stops that device (DEVICE_NEEDS_RESET)
 * with one log line, and the guest goes on.
 */
#ifndef DISCO_VMM_DEVICE_VIRTIO_H
#define DISCO_VMM_DEVICE_VIRTIO_H

#include <linux/virtio_config.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/evloop.h"
#include "vmm/device/pci.h"

struct dev_host;
struct dev_stats;
struct virtio_dev;

enum {
    VIRTIO_MAX_QUEUES = 33, /* of a device */
    VQ_MAX_SIZE = 1024,     /* entries of a queue */
    VQ_MAX_SEGS = 512,      /* buffers of a request, both ways together */
    VIRTIO_NO_VECTOR = 0xffff
};

/* Feature bits of the transport and bits of the device status. */
enum {
    VIRTIO_F_INDIRECT = 28,      /* feature: chains in a table of their own */
    VIRTIO_F_EVENT_IDX = 29,     /* feature: kicks and interrupts from an index on */
    VIRTIO_S_DRIVER_OK = 0x04,   /* status: the driver is ready */
    VIRTIO_S_FEATURES_OK = 0x08, /* status: features are agreed on */
    VIRTIO_S_NEEDS_RESET = 0x40, /* status: broken, only a reset helps */
};

/* Feature bits the transport itself offers for every device: VERSION_1, RING_INDIRECT_DESC,
 * RING_EVENT_IDX. */

/* What a device type is. Const table, last in its file. */
struct virtio_type {
    const char *name;    /* "blk", for messages and statistics */
    uint16_t id;         /* virtio device id */
    uint32_t pci_class;  /* class << 8 | revision */
    unsigned config_len; /* bytes of device configuration space */
    /* Required: device configuration space; off + len <= config_len. Lock held. */
    void (*config_read)(struct virtio_dev *d, unsigned off, void *data, unsigned len);
    /* Optional. Lock held. */
    void (*config_write)(struct virtio_dev *d, unsigned off, const void *data, unsigned len);
    /* Required: buffers may be available on queue q. On io0, lock held, only while DRIVER_OK
     * and not broken. Must bound its work and arm the queue again (vq_arm). */
    void (*kick)(struct virtio_dev *d, unsigned q);
    /* Optional: the driver set DRIVER_OK; features are in d->features. Lock held. */
    void (*start)(struct virtio_dev *d);
    /* Optional: queue memory must not be touched after this returns; in-flight work is waited for
     * or dropped. Lock held. Also called before the device is freed. */
    void (*stop)(struct virtio_dev *d);
    /* Required: undoes the type's own make function: calls virtio_exit(), then frees the type's
     * state and d itself.  For virtio_dev_free(); lock not held, vCPUs and io0 do not run. */
    void (*free)(struct virtio_dev *d);
    /* Required: fills the counters (out is zeroed).  Lock held.  For virtio_dev_stats(). */
    void (*stats)(struct virtio_dev *d, struct dev_stats *out);
};

/* One split virtqueue.  Guarded by the device's mutex. */
struct virtq {
    struct virtio_dev *dev;     /* owner */
    unsigned index;             /* number in the device */
    uint16_t max;               /* largest size offered, a power of two */
    uint16_t size;              /* size in use */
    bool enabled;               /* driver set queue_enable */
    uint64_t desc, avail, used; /* gpas */
    uint16_t next_avail;        /* next entry of the available ring to look at */
    uint16_t next_used;         /* next entry of the used ring to write */
    uint16_t signalled;         /* used index at the last interrupt */
    bool signalled_valid;       /* false: 2^16 entries went by, interrupt */
    uint16_t vector;            /* MSI-X vector, 0xffff: none */
    int kickfd;                 /* eventfd of the guest's kicks */
    struct evsrc kick_src;      /* its source on io0 */
    uint64_t kicks, signals;    /* counters */
    struct vq_pin *pins;        /* requests taken, where a pager must know (virtq_pin.c) */
    uint16_t last_head;         /* of the last popped request, for vq_unpop */
    bool
        ioevent; /* kickfd is an ioeventfd now; belongs to pci.c's order lock, not the device's */
};

/* One request: the guest's buffers, already translated. */
struct vq_chain {
    uint16_t head;                 /* to give back by vq_push */
    unsigned nout, nin;            /* segments the device reads / writes */
    size_t out_len, in_len;        /* bytes in them */
    struct iovec out[VQ_MAX_SEGS]; /* device reads */
    struct iovec in[VQ_MAX_SEGS];  /* device writes */
    uint64_t in_gpa[VQ_MAX_SEGS];  /* gpa of each segment of in */
    uint64_t in_gpa0, out_gpa0;    /* gpa of the first segment of each, for page remapping */
};

/* A device.  Embedded first in the type's own struct. */
struct virtio_dev {
    struct pci_dev pci;                        /* its place on the bus; must be first */
    const struct virtio_type *type;            /* what it is */
    const struct dev_host *host;               /* the machine */
    char label[32];                            /* "blk0": for messages */
    pthread_mutex_t lock;                      /* guards all below and the type's state */
    uint64_t offered;                          /* features offered */
    uint64_t features;                         /* features the driver accepted */
    uint8_t status;                            /* device status register */
    uint8_t generation;                        /* config generation */
    _Atomic uint8_t isr;                       /* ISR status byte */
    uint16_t config_vector;                    /* MSI-X vector of configuration changes */
    uint16_t queue_select;                     /* register */
    uint32_t dfeature_select, gfeature_select; /* registers */
    bool broken;                               /* stopped by virtio_break() until reset */
    bool started;                              /* type->start was called, stop was not */
    unsigned breaks;                           /* how often virtio_break() stopped it */
    unsigned cfg_window;                       /* offset of the pci-cfg capability */
    unsigned nqueues;                          /* entries of vq */
    struct virtq vq[VIRTIO_MAX_QUEUES];        /* its queues */
};

/*
 * Initialises the transport of a zeroed device and puts it on the bus: nqueues queues of at most
 * qmax entries; offered = the type's own feature bits.  label is copied.
 */
int virtio_init(struct virtio_dev *d, const struct virtio_type *type, const char *label,
                unsigned nqueues, uint16_t qmax, uint64_t offered, const struct dev_host *host,
                struct pci_bus *bus);

/* Stops and undoes virtio_init(), which does so itself when it fails.  vCPUs and io0 must not
 * run.  The device's memory stays the caller's. */
void virtio_exit(struct virtio_dev *d);

/* Takes the device's lock.  Not nested: a thread that holds it aborts the cell. */
void virtio_lock(struct virtio_dev *d);

/* Releases it, on the thread that holds it. */
void virtio_unlock(struct virtio_dev *d);

/* True while the driver may use queues: DRIVER_OK set, not broken.  Lock held. */
bool virtio_live(const struct virtio_dev *d);

/* Stops the device for the driver's fault: one log line, DEVICE_NEEDS_RESET.  Lock held. */
void virtio_break(struct virtio_dev *d, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The device configuration changed: bumps the generation and interrupts.  Lock held. */
void virtio_config_changed(struct virtio_dev *d);

/* ---- for the transport (virtio_pci.c) only ---- */

/* Takes the type out of service and puts all registers and queues into their first state: the
 * driver wrote 0 to the status.  ioeventfds stay.  Lock held. */
void virtio_reset(struct virtio_dev *d);

/* The driver wrote val to the status register.  Lock held. */
void virtio_set_status(struct virtio_dev *d, uint8_t val);

/* Makes queue i with its eventfd, watched on io0; 0 or -errno. */
int virtio_queue_init(struct virtio_dev *d, unsigned i, uint16_t max);

/* Undoes virtio_queue_init(), also when that failed.  io0 does not run. */
void virtio_queue_exit(struct virtio_dev *d, unsigned i);

/* ---- for virtq.c and virtio.c only: what the device may write (virtq_pin.c) ---- */

struct vq_pin;

/* A request was taken: what the device may write of it is pinned.  Lock held. */
void vq_pin_keep(struct virtq *q, const struct vq_chain *c);

/* The request of that head was given back, or up; nothing for a head that keeps none.  Lock
 * held. */
void vq_pin_end(struct virtq *q, uint16_t head);

/* All requests of the queue were: it is reset or goes.  Lock held. */
void vq_pin_end_all(struct virtq *q);

/* A request was not taken after all. Lock held. */
void vq_pin_drop(struct virtq *q, const struct vq_chain *c);

/* ---- queues ---- */

/* Takes the next request.  1: *c is filled; 0: none; -1: the device is broken now.  Lock held. */
int vq_pop(struct virtq *q, struct vq_chain *c);

/* Puts the last popped, not yet pushed request back (it will be popped again). Lock held. */
void vq_unpop(struct virtq *q);

/* Gives a request back: len bytes were written into its in-segments.  Lock held. */
void vq_push(struct virtq *q, uint16_t head, uint32_t len);

/* As vq_push for a batch: fills used entry number i (0-based) past next_used without publishing.
 * Lock held. */
void vq_fill(struct virtq *q, unsigned i, uint16_t head, uint32_t len);

/* Publishes n entries of vq_fill() at once, n <= size (mergeable receive buffers). Lock held. */
void vq_publish(struct virtq *q, unsigned n);

/* Interrupts the driver if it wants to hear of what was pushed.  Lock held. */
void vq_signal(struct virtq *q);

/* Asks for a kick on the next buffer.  True when a buffer came in meanwhile, so that the caller
 * looks again.  Lock held. */
bool vq_arm(struct virtq *q);

/* No kicks are wanted.  Some may come nevertheless.  Lock held. */
void vq_disarm(struct virtq *q);

/* True when at least one buffer is available.  Lock held. */
bool vq_more(struct virtq *q);

/* Has type->kick called again soon on io0, as if the driver had kicked: for a type that reached
 * its bound of work with buffers left.  Any thread. */
void vq_rekick(struct virtq *q);

/* Gathers up to len bytes from segments, starting at byte off of them; returns bytes moved. */
size_t iov_out(const struct iovec *iov, unsigned n, size_t off, void *to, size_t len);

/* Scatters up to len bytes to segments, starting at byte off of them; returns bytes moved. */
size_t iov_in(const struct iovec *iov, unsigned n, size_t off, const void *from, size_t len);

#endif
