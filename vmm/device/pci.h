/* SPDX-License-Identifier: MIT */
/*
 * One PCI bus with a host bridge: configuration space by ECAM and by ports 0xcf8/0xcfc, memory
 * BARs in the 32-bit window, MSI-X.  BARs are assigned when a device is added, as firmware would;
 * the guest may move or disable them.
 *
 * Locks: the bus has one mutex for configuration space and MSI-X tables; a device's functions
 * are called without it.  bar_mapped calls are made in the order of the guest's writes, under a
 * lock of their own (the order lock).  Order: order lock, a device's lock, bus mutex, locks of the
 * interrupt controllers.  pci_msix_raise() may be called by any thread.
 */
#ifndef DISCO_VMM_DEVICE_PCI_H
#define DISCO_VMM_DEVICE_PCI_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct dev_host;
struct pci_bus;
struct pci_dev;

enum { PCI_MAX_DEVS = 32, PCI_MAX_BARS = 6, PCI_MSIX_MAX = 64, PCI_CFG_SIZE = 256 };

/* What a device does. */
struct pci_ops {
    /* Required: access to one of its BARs; len 1, 2, 4 or 8, inside the BAR. vCPU thread. */
    void (*bar_read)(struct pci_dev *d, unsigned bar, uint64_t off, void *data, unsigned len);
    void (*bar_write)(struct pci_dev *d, unsigned bar, uint64_t off, const void *data,
                      unsigned len);
    /* Optional: the BAR now answers at gpa (on) or no longer does.  For ioeventfds. */
    void (*bar_mapped)(struct pci_dev *d, unsigned bar, uint64_t gpa, bool on);
    /* Optional: accesses to configuration space at or above 0x40; false: pci.c serves them. */
    bool (*cfg_read)(struct pci_dev *d, unsigned off, void *data, unsigned len);
    bool (*cfg_write)(struct pci_dev *d, unsigned off, const void *data, unsigned len);
};

/* One entry of an MSI-X table. */
struct msix_entry {
    uint64_t addr; /* message address */
    uint32_t data; /* message data */
    uint32_t ctrl; /* bit 0: masked */
};

/* One function of the bus. Embedded first in a device. */
struct pci_dev {
    /* set before pci_add() */
    const struct pci_ops *ops;       /* what it does */
    uint16_t vendor, device;         /* ids */
    uint16_t subvendor, subdevice;   /* subsystem ids */
    uint32_t class_rev;              /* class << 8 | revision */
    uint32_t bar_size[PCI_MAX_BARS]; /* bytes, a power of two >= 16; 0: no BAR. 32-bit memory */
    unsigned nmsix;                  /* vectors, 0: no MSI-X */
    unsigned msix_bar;               /* BAR that holds only the MSI-X table and PBA */
    /* owned by pci.c under the bus mutex */
    struct pci_bus *bus;                   /* where it sits */
    unsigned slot;                         /* device number */
    uint8_t cfg[PCI_CFG_SIZE];             /* configuration space */
    uint8_t cfg_wmask[PCI_CFG_SIZE];       /* writable bits */
    unsigned cap_end;                      /* next free byte for a capability */
    unsigned msix_cap;                     /* offset of the MSI-X capability */
    struct msix_entry msix[PCI_MSIX_MAX];  /* table */
    uint64_t msix_pba;                     /* pending bits */
    _Atomic uint64_t bar_at[PCI_MAX_BARS]; /* gpa it answers at, 0: off. Lock-free readers */
};

/* Makes the bus with its host bridge and puts ECAM, the PCI window and the ports on the buses:
 * 0xcf8-0xcff, and in it 0xcf9, the PC's reset register, which calls host->reset. */
int pci_bus_new(struct pci_bus **out, const struct dev_host *host);

/* vCPUs must not run; devices that are still on the bus are taken off it, not freed. NULL is
 * allowed. */
void pci_bus_free(struct pci_bus *b);

/* Puts a device into the next free slot and assigns its BARs. -ENOSPC when the bus is full. */
int pci_add(struct pci_bus *b, struct pci_dev *d);

/* Takes a device off the bus: its BARs go (bar_mapped is told).  vCPUs must not run.  Nothing
 * happens when it is on none.  pci_bus_free() does the same to the devices that are left. */
void pci_del(struct pci_dev *d);

/* Reads len bytes of a device's own configuration space as they stand; off + len <= 256. */
void pci_cfg_peek(struct pci_dev *d, unsigned off, void *data, unsigned len);

/* Adds a capability (after pci_add, before vCPUs run): len bytes at data, the first being the
 * id, the second filled in here; wmask (may be NULL) the bits the guest may write.  Returns its
 * offset. */
unsigned pci_add_cap(struct pci_dev *d, const void *data, unsigned len, const uint8_t *wmask);

/* Raises a vector: sends its message, or sets its pending bit when masked.  Nothing happens when
 * the guest has not enabled MSI-X or vec >= nmsix. */
void pci_msix_raise(struct pci_dev *d, unsigned vec);

#endif
