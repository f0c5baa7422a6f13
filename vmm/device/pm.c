/* SPDX-License-Identifier: MIT */
/*
 * Power and reset as ACPI's hardware-reduced model has it, the reset of the keyboard controller,
 * the event port behind the power button, debug exit, and ports that answer so that an
 * unmodified kernel does not wait for hardware we do not have.  Interface: pm_new(),
 * pm_power_button(), debug_exit_add().  Source: ACPI 6.4, sections 4.8.3.7 and 5.6.9.
 *
 * Locks: `lock` guards the pending events and is held while the pin is set, so that pin and
 * events agree; the rest has no state.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "vmm/device/host.h"
#include "vmm/device/legacy.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/irq.h"

enum {
    SLP_EN = 1 << 5,   /* sleep control register: go */
    SLP_TYP_SHIFT = 2, /* sleep type, 3 bits */
    SLP_TYP_S5 = 5,    /* the type our DSDT gives for soft off */
    RESET_VALUE = 1,   /* what the FADT says to write */
    KBC_PORT = 0x64,   /* keyboard controller command */
    KBC_RESET = 0xfe,  /* pulse the reset line */
};

static const struct bus_ops power_ops;
static const struct bus_ops ged_ops;
static const struct bus_ops kbc_ops;
static const struct bus_ops quiet_ops;
static const struct bus_ops debug_ops;

/* Ports that only answer: reads give `value` in every byte, writes vanish. */
struct quiet {
    uint16_t port;    /* first port */
    uint8_t len;      /* ports */
    uint8_t value;    /* what each reads */
    const char *name; /* for messages */
};

/*
 * Linux looks at these even when ACPI says they are not there.  The timer must not read 0xff, or
 * a calibration loop spins; port 0x61 bit 5 says that timer channel 2 has run out.
 */
static const struct quiet quiet_ports[] = {
    {0x20, 2, 0xff, "pic1"},   {0x40, 4, 0x00, "pit"},      {0x60, 1, 0xff, "kbd-data"},
    {0x61, 1, 0x20, "nmi-sc"}, {0x70, 2, 0x00, "cmos"},     {0x80, 1, 0xff, "post"},
    {0xa0, 2, 0xff, "pic2"},   {0xed, 1, 0xff, "io-delay"},
};

enum { NQUIET = sizeof(quiet_ports) / sizeof(quiet_ports[0]) };

struct pm {
    const struct dev_host *host; /* the machine */
    struct quiet quiet[NQUIET];  /* the ports above, as the bus wants them: writable */
    pthread_mutex_t lock;        /* guards events and the level of its pin */
    uint32_t events;             /* pending GED_* bits */
};

/* The low bytes of a little-endian value. */
static void put_le(void *data, unsigned len, uint64_t value)
{
    memcpy(data, &value, len < sizeof(value) ? len : sizeof(value));
}

/* Sleep control and reset registers read as zero: no wake status. */
static void power_read(void *dev, uint64_t off, void *data, unsigned len)
{
    (void)dev;
    (void)off;
    memset(data, 0, len);
}

/* Sleep control (byte 0) and reset (byte 1). */
static void power_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    const struct pm *p = dev;
    const uint8_t *b = data;

    for (unsigned i = 0; i < len; i++) {
        unsigned type = b[i] >> SLP_TYP_SHIFT & 7;

        if (off + i == PM_RESET_PORT - PM_PORT) {
            if (b[i] == RESET_VALUE)
                p->host->reset(p->host->ctx);
        } else if (b[i] & SLP_EN) {
            if (type == SLP_TYP_S5)
                p->host->power_off(p->host->ctx);
            else
                log_debug("pm: sleep type %u is not offered, ignored", type);
        }
    }
}

/* Pending events; reading takes them and lowers the pin. */
static void ged_read(void *dev, uint64_t off, void *data, unsigned len)
{
    struct pm *p = dev;
    uint32_t got = 0;

    pthread_mutex_lock(&p->lock);
    if (off == 0) {
        got = p->events;
        p->events = 0;
        irq_gsi(p->host->irq, LEGACY_GED_PIN, false);
    }
    pthread_mutex_unlock(&p->lock);
    put_le(data, len, got);
}

/* Writes that mean nothing. */
static void ignore_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    (void)dev;
    (void)off;
    (void)data;
    (void)len;
}

/* Keyboard controller: there is none, all bits read set. */
static void kbc_read(void *dev, uint64_t off, void *data, unsigned len)
{
    (void)dev;
    (void)off;
    memset(data, 0xff, len);
}

/* Its reset line is there nevertheless. */
static void kbc_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    const struct pm *p = dev;
    const uint8_t *b = data;

    (void)off;
    (void)len;
    if (b[0] == KBC_RESET)
        p->host->reset(p->host->ctx);
}

/* Reads of a quiet port. */
static void quiet_read(void *dev, uint64_t off, void *data, unsigned len)
{
    const struct quiet *q = dev;

    (void)off;
    memset(data, q->value, len);
}

void pm_power_button(struct pm *p)
{
    pthread_mutex_lock(&p->lock);
    p->events |= GED_POWER_BUTTON;
    irq_gsi(p->host->irq, LEGACY_GED_PIN, true);
    pthread_mutex_unlock(&p->lock);
}

/* The value written to the debug-exit port ends the guest. */
static void debug_write(void *dev, uint64_t off, const void *data, unsigned len)
{
    const struct dev_host *host = dev;
    uint32_t value = 0;

    (void)off;
    memcpy(&value, data, len < sizeof(value) ? len : sizeof(value));
    host->debug_exit(host->ctx, value);
}

struct pm *pm_new(const struct dev_host *host)
{
    struct pm *p = xcalloc(1, sizeof(*p));

    p->host = host;
    pthread_mutex_init(&p->lock, NULL);
    memcpy(p->quiet, quiet_ports, sizeof(quiet_ports));
    bus_add(host->pio, PM_PORT, 2, &power_ops, p, "pm");
    bus_add(host->pio, PM_GED_PORT, 4, &ged_ops, p, "ged");
    bus_add(host->pio, KBC_PORT, 1, &kbc_ops, p, "kbc");
    for (unsigned i = 0; i < NQUIET; i++) {
        struct quiet *q = &p->quiet[i];

        bus_add(host->pio, q->port, q->len, &quiet_ops, q, q->name);
    }
    return p;
}

void pm_free(struct pm *p)
{
    if (!p)
        return;
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void debug_exit_add(const struct dev_host *host)
{
    /* The bus hands out writable devices; the host is only read. */
    void *dev = (void *)(uintptr_t)host;

    bus_add(host->pio, DEBUG_EXIT_PORT, 4, &debug_ops, dev, "debug-exit");
}

static const struct bus_ops power_ops = {.read = power_read, .write = power_write};
static const struct bus_ops ged_ops = {.read = ged_read, .write = ignore_write};
static const struct bus_ops kbc_ops = {.read = kbc_read, .write = kbc_write};
static const struct bus_ops quiet_ops = {.read = quiet_read, .write = ignore_write};
static const struct bus_ops debug_ops = {.read = kbc_read, .write = debug_write};
