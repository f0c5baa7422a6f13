/* SPDX-License-Identifier: MIT */
/*
 * Makes the devices a configuration asks for and puts them on the machine's buses.
 * Descriptors that were handed over are set to -1 in struct cell_fds as a device takes them, so
 * that whoever closes the rest never closes one twice.  Runs before threads start; no locks.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/boot/boot.h"
#include "vmm/cell/private.h"
#include "vmm/device/chario.h"
#include "vmm/device/devices.h"
#include "vmm/device/legacy.h"
#include "vmm/device/net.h"
#include "vmm/device/pci.h"

_Static_assert((int)ACPI_COM1_PIN == (int)LEGACY_COM1_PIN, "the DSDT and the 16550 must agree");
_Static_assert((int)ACPI_GED_PIN == (int)LEGACY_GED_PIN,
               "the DSDT and the event device must agree");
_Static_assert((int)ACPI_GED_PORT == (int)PM_GED_PORT,
               "the DSDT and the event device must agree");
_Static_assert((int)ACPI_PM_PORT == (int)PM_PORT,
               "the FADT and the power registers must agree");
_Static_assert((int)ACPI_RESET_PORT == (int)PM_RESET_PORT,
               "the FADT and the reset register must agree");

/* Takes a descriptor out of struct cell_fds. */
static int take(int *fd)
{
    int got = *fd;

    *fd = -1;
    return got;
}

/* Remembers a device under the name statistics give it. */
static void keep(struct cell *c, struct virtio_dev *d, const char *kind, int index)
{
    struct cell_dev *slot = &c->dev[c->ndevs++];

    if (index < 0)
        snprintf(slot->name, sizeof(slot->name), "%s", kind);
    else
        snprintf(slot->name, sizeof(slot->name), "%s%d", kind, index);
    slot->dev = d;
}

/* ctrl-a x on the console. */
static void on_quit(void *arg)
{
    cell_kill(arg);
}

/* The console showed the text that means "up". */
static void on_ready(void *arg)
{
    struct cell *c = arg;
    uint64_t none = 0;

    if (atomic_compare_exchange_strong(&c->ready_ns, &none, machine_now_ns()))
        log_debug("ready after %llu ms",
                  (unsigned long long)(atomic_load(&c->ready_ns) - c->made_ns) / 1000000);
}

/* A console's stream out of what the cell was handed. */
static struct chario *console_stream(struct cell *c, struct cell_console *con)
{
    struct chario *io =
        chario_new((enum chario_kind)con->kind, take(&con->infd), take(&con->outfd), con->tty);

    if (c->cfg.ready)
        chario_watch(io, c->cfg.ready, on_ready, c);
    return io;
}

static int make_disks(struct cell *c, struct cell_fds *fds, struct err *err)
{
    for (unsigned i = 0; i < c->cfg.ndisks; i++) {
        const struct disk_cfg *d = &c->cfg.disks[i];
        struct virtio_dev *dev;
        int r = blk_new(&dev, &c->host, c->pci, i, take(&fds->disk[i]), d->readonly, d->queues,
                        d->serial, err);

        if (r) {
            err_prefix(err, "disk %s", d->path);
            return r;
        }
        keep(c, dev, "disk", (int)i);
    }
    return 0;
}

static int make_nets(struct cell *c, struct cell_fds *fds, struct err *err)
{
    for (unsigned i = 0; i < c->cfg.nnets; i++) {
        const struct net_cfg *n = &c->cfg.nets[i];
        struct net_backend *be = NULL;
        struct virtio_dev *dev;
        uint8_t mac[6];
        int r;

        if (n->type == CFG_NET_TAP)
            be = net_tap_new(take(&fds->net[i]));
        else if (n->type == CFG_NET_SUBNET)
            be = net_subnet_new(take(&fds->net[i]));
        else
            be = net_user_new(n->hostfwd, err);
        if (!be)
            return fail(err, EXIT_RESOURCE, ENOMEM, "network card %u: no backend", i);
        config_mac(&c->cfg, i, mac);
        r = net_new(&dev, &c->host, c->pci, i, mac, be, err);
        if (r)
            return r;
        keep(c, dev, "net", (int)i);
    }
    return 0;
}

/* Entropy, balloon and console. */
static int make_small(struct cell *c, struct cell_fds *fds, struct err *err)
{
    struct virtio_dev *dev;
    int r = 0;

    if (c->cfg.rng) {
        r = rng_new(&dev, &c->host, c->pci, err);
        if (r)
            return r;
        keep(c, dev, "rng", -1);
    }
    if (c->cfg.balloon) {
        r = balloon_new(&dev, &c->host, c->pci, err);
        if (r)
            return r;
        keep(c, dev, "balloon", -1);
        c->balloon = dev;
    }
    if (c->cfg.vconsole.type != CFG_CON_NONE) {
        r = vconsole_new(&dev, &c->host, c->pci, console_stream(c, &fds->vconsole), err);
        if (r)
            return r;
        keep(c, dev, "vconsole", -1);
    }
    return r;
}

int devices_make(struct cell *c, struct cell_fds *fds, struct err *err)
{
    int r = pci_bus_new(&c->pci, &c->host);

    if (r)
        return fail_errno(err, EXIT_INTERNAL, -r, "PCI bus");
    c->uart = uart_new(&c->host, console_stream(c, &fds->console), on_quit, c);
    c->pm = pm_new(&c->host);
    if (c->cfg.debug_exit)
        debug_exit_add(&c->host);
    if (c->cfg.fwcfg)
        c->fwcfg = fwcfg_new(&c->host, c->cfg.memory, c->cfg.vcpus);
    r = make_disks(c, fds, err);
    if (!r)
        r = make_nets(c, fds, err);
    return r ? r : make_small(c, fds, err);
}

void devices_free(struct cell *c)
{
    while (c->ndevs > 0)
        virtio_dev_free(c->dev[--c->ndevs].dev);
    if (c->fwcfg)
        fwcfg_free(c->fwcfg);
    if (c->pm)
        pm_free(c->pm);
    if (c->uart)
        uart_free(c->uart);
    if (c->pci)
        pci_bus_free(c->pci);
    c->fwcfg = NULL;
    c->pm = NULL;
    c->uart = NULL;
    c->pci = NULL;
    c->balloon = NULL;
}
