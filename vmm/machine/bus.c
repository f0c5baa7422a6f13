/* SPDX-License-Identifier: MIT */
/*
 * The table of device ranges behind ports and MMIO.
 *
 * Interface: bus_add() while the machine is being built, bus_read() and bus_write() afterwards.
 * Invariants: B1 ranges are sorted by base; B2 no two overlap; B3 a device only ever sees an
 * access of 1, 2, 4 or 8 bytes that lies wholly inside its range.
 * Threads: see bus.h; the table does not change once vCPUs run, so no lock.
 */
#include "vmm/machine/bus.h"

#include <stddef.h>
#include <string.h>

#include "base/err.h"

/* Index of the first range whose base is above addr. */
static unsigned first_above(const struct bus *b, uint64_t addr)
{
    unsigned lo = 0, hi = b->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (b->range[mid].base <= addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The range that answers an access of len bytes at addr, or NULL. */
static const struct bus_range *find(const struct bus *b, uint64_t addr, unsigned len)
{
    unsigned i = first_above(b, addr);
    const struct bus_range *r;

    if (i == 0 || (len != 1 && len != 2 && len != 4 && len != 8))
        return NULL;
    r = &b->range[i - 1];
    if (addr - r->base >= r->len || len > r->len - (addr - r->base))
        return NULL;
    return r;
}

void bus_add(struct bus *b, uint64_t base, uint64_t len, const struct bus_ops *ops, void *dev,
             const char *name)
{
    unsigned at = first_above(b, base);
    struct bus_range *r = &b->range[at];

    INVARIANT(b->n < BUS_MAX, "bus: table of ranges is full");
    INVARIANT(ops && ops->read && ops->write, "bus: a range needs read and write");
    INVARIANT(len > 0 && base + (len - 1) >= base, "bus: empty or wrapping range");
    INVARIANT(at == 0 || r[-1].base + (r[-1].len - 1) < base,
              "B2: range overlaps the one below");
    INVARIANT(at == b->n || base + (len - 1) < r->base, "B2: range overlaps the one above");
    memmove(r + 1, r, (b->n - at) * sizeof(*r));
    *r = (struct bus_range){.base = base, .len = len, .ops = ops, .dev = dev, .name = name};
    b->n++;
}

bool bus_read(const struct bus *b, uint64_t addr, void *data, unsigned len)
{
    const struct bus_range *r = find(b, addr, len);

    memset(data, 0xff, len);
    if (!r)
        return false;
    r->ops->read(r->dev, addr - r->base, data, len);
    return true;
}

bool bus_write(const struct bus *b, uint64_t addr, const void *data, unsigned len)
{
    const struct bus_range *r = find(b, addr, len);

    if (!r)
        return false;
    r->ops->write(r->dev, addr - r->base, data, len);
    return true;
}
