/* SPDX-License-Identifier: MIT */
/*
 * Reads the ring in which the kernel puts samples of one CPU (perf_event_open): pure, so that it
 * can be tried on hand-made records.  Only what this project asks for is understood: samples with
 * CPU, source of the data and physical address, in this order.
 *
 * What is in the ring is believed as far as lengths go, and no further: a record that cannot be
 * drops all that is behind it, since nobody could tell where the next one begins.
 */
#ifndef DISCO_VMM_PAGER_PERFRING_H
#define DISCO_VMM_PAGER_PERFRING_H

#include <stdint.h>

#include <linux/perf_event.h>

/* What samples must be made of, for perf_event_attr.sample_type. */
#define PERFRING_SAMPLE (PERF_SAMPLE_CPU | PERF_SAMPLE_DATA_SRC | PERF_SAMPLE_PHYS_ADDR)

/* A ring. */
struct perfring {
    const uint8_t *data; /* first byte */
    uint64_t size;       /* bytes, a power of two */
    uint64_t tail;       /* bytes read so far, of all that were ever written */
    uint64_t lost;       /* records that the kernel had no room for */
    uint64_t bad;        /* records that could not be read */
};

/* A sample. */
struct perfring_sample {
    uint64_t phys;   /* physical address; 0: not known */
    uint64_t source; /* union perf_mem_data_src */
    uint32_t cpu;    /* that it was taken on */
};

/* Takes up to `most` samples from what was written up to `head` (bytes, ever); the ring's tail
 * moves on behind what was taken.  Returns how many; fewer than `most`: nothing is left. */
unsigned perfring_take(struct perfring *r, uint64_t head, struct perfring_sample *out,
                       unsigned most);

#endif
