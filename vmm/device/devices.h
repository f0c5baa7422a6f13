/* SPDX-License-Identifier: MIT */
/*
 * The devices a cell can have: one make and one free function each.  A make function takes
 * descriptors that are already open (the cell opens nothing) and owns them afterwards.
 */
#ifndef DISCO_VMM_DEVICE_DEVICES_H
#define DISCO_VMM_DEVICE_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

struct chario;
struct dev_host;
struct err;
struct pci_bus;
struct virtio_dev;

/* What became of a device, for `disco stat`. */
struct dev_stats {
    uint64_t requests;  /* requests, frames or messages served */
    uint64_t bytes_in;  /* bytes to the guest */
    uint64_t bytes_out; /* bytes from the guest */
    uint64_t errors;    /* requests that failed, frames dropped */
};

/* virtio block over a raw image. fd is open; size and block size come from it.  queues 1..16. */
int blk_new(struct virtio_dev **out, const struct dev_host *host, struct pci_bus *bus,
            unsigned index, int fd, bool readonly, unsigned queues, const char *serial,
            struct err *err);

/* How a network card reaches the world; see net.h for the three backends. */
struct net_backend;

/* virtio net.  The card owns the backend. */
int net_new(struct virtio_dev **out, const struct dev_host *host, struct pci_bus *bus,
            unsigned index, const uint8_t mac[6], struct net_backend *be, struct err *err);

/* virtio entropy, from getrandom(2), rate-bounded per kick. */
int rng_new(struct virtio_dev **out, const struct dev_host *host, struct pci_bus *bus,
            struct err *err);

/* virtio balloon: inflate, deflate (on out-of-memory too), statistics, free-page reporting. */
int balloon_new(struct virtio_dev **out, const struct dev_host *host, struct pci_bus *bus,
                struct err *err);

/* Asks the guest to give up bytes of memory (rounded down to pages). Any thread. */
void balloon_set_target(struct virtio_dev *d, uint64_t bytes);

/* Balloon figures for `disco stat`; any thread. */
struct balloon_stats {
    uint64_t target, actual;         /* bytes asked for and given up */
    uint64_t reported;               /* bytes given back by free-page reporting so far */
    uint64_t free, available, total; /* the guest's own statistics, bytes; 0 unknown */
};

/* Fills out, and asks the guest for new statistics: they are there with the next call. */
void balloon_get(struct virtio_dev *d, struct balloon_stats *out);

/* virtio console, one port. Owns io whatever it returns. */
int vconsole_new(struct virtio_dev **out, const struct dev_host *host, struct pci_bus *bus,
                 struct chario *io, struct err *err);

/* Frees any virtio device made above.  vCPUs and io0 must not run. */
void virtio_dev_free(struct virtio_dev *d);

/* Counters of any virtio device made above; any thread. */
void virtio_dev_stats(struct virtio_dev *d, struct dev_stats *out);

#endif
