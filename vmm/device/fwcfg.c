/* SPDX-License-Identifier: MIT */
/*
 * fw_cfg for test kernels: a selector port and a data port that gives the selected item byte by
 * byte, zeros past its end and for unknown items.  Interface: fwcfg_new().  The traditional
 * interface only: no files, no DMA, nothing writable.  Source: QEMU docs/specs/fw_cfg.
 *
 * Locks: `lock` guards the selection; the items never change.
 */
#include <endian.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/device/host.h"
#include "vmm/device/legacy.h"
#include "vmm/machine/bus.h"

static const struct bus_ops fwcfg_ops;

/* Items by key. */
enum {
    KEY_SIGNATURE = 0x00, /* "QEMU" */
    KEY_ID = 0x01,        /* which interfaces there are */
    KEY_RAM_SIZE = 0x03,  /* bytes of memory */
    KEY_NB_CPUS = 0x05,   /* CPUs that are there */
    KEY_MAX_CPUS = 0x0f,  /* CPUs there may be */
    ID_TRADITIONAL = 1,   /* bit 0 of KEY_ID: this interface; bit 1, DMA, is off */
};

struct fwcfg {
    uint8_t signature[4]; /* "QEMU", as guests expect */
    uint32_t id;          /* little-endian, as all below */
    uint64_t ram_size;    /* bytes */
    uint16_t ncpus;       /* present and possible */

    pthread_mutex_t lock; /* guards all below */
    uint16_t key;         /* selected item */
    uint32_t pos;         /* bytes of it read so far, up to the largest item's length */
};

/* The bytes of the selected item; NULL: no such item. */
static const void *item(const struct fwcfg *f, size_t *len)
{
    switch (f->key) {
    case KEY_SIGNATURE:
        *len = sizeof(f->signature);
        return f->signature;
    case KEY_ID:
        *len = sizeof(f->id);
        return &f->id;
    case KEY_RAM_SIZE:
        *len = sizeof(f->ram_size);
        return &f->ram_size;
    case KEY_NB_CPUS:
    case KEY_MAX_CPUS:
        *len = sizeof(f->ncpus);
        return &f->ncpus;
    default:
        *len = 0;
        return NULL;
    }
}

/* The next byte of the selected item. Lock held. */
static uint8_t next_byte(struct fwcfg *f)
{
    size_t len;
    const uint8_t *p = item(f, &len);

    return p && f->pos < len ? p[f->pos++] : 0;
}

/* Reads: the data port at offset 1; the selector reads as zero. */
static void fwcfg_read(void *dev, uint64_t off, void *data, unsigned len)
{
    struct fwcfg *f = dev;
    uint8_t *p = data;

    pthread_mutex_lock(&f->lock);
    for (unsigned i = 0; i < len; i++)
        p[i] = off + i == 1 ? next_byte(f) : 0;
    pthread_mutex_unlock(&f->lock);
}

/* Writes: two bytes to the selector choose an item; anything else vanishes. */
static void fwcfg_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    struct fwcfg *f = dev;
    uint16_t key;

    if (off != 0 || len != sizeof(key))
        return;
    memcpy(&key, data, sizeof(key));
    pthread_mutex_lock(&f->lock);
    f->key = le16toh(key);
    f->pos = 0;
    pthread_mutex_unlock(&f->lock);
}

struct fwcfg *fwcfg_new(const struct dev_host *host, uint64_t ram_size, unsigned nvcpus)
{
    struct fwcfg *f = xcalloc(1, sizeof(*f));

    memcpy(f->signature, "QEMU", sizeof(f->signature));
    f->id = htole32(ID_TRADITIONAL);
    f->ram_size = htole64(ram_size);
    f->ncpus = htole16((uint16_t)nvcpus);
    f->key = UINT16_MAX;
    pthread_mutex_init(&f->lock, NULL);
    bus_add(host->pio, FWCFG_PORT, 2, &fwcfg_ops, f, "fw_cfg");
    return f;
}

void fwcfg_free(struct fwcfg *f)
{
    if (!f)
        return;
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static const struct bus_ops fwcfg_ops = {.read = fwcfg_read, .write = fwcfg_write};
