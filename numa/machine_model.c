/* SPDX-License-Identifier: MIT */
/*
 * The machines that are described, and looking things up in them.
 *
 * "seen" marks a number read in the publication named; "estimate" one that is of the right size for
 * that machine but rests on no table.  Results on estimates are comparable with one another only.
 */
#include "numa/machine_model.h"

#include <string.h>

/* FLASH: every node is as far as every other. */
static const uint8_t flat4[16] = {10, 20, 20, 20, 20, 10, 20, 20,
                                  20, 20, 10, 20, 20, 20, 20, 10};

/* Two sockets with two nodes each. */
static const uint8_t epyc4[16] = {10, 12, 32, 32, 12, 10, 32, 32,
                                  32, 32, 10, 12, 32, 32, 12, 10};

/* Four sockets, each linked to each. */
static const uint8_t xeon4[16] = {10, 21, 21, 21, 21, 10, 21, 21,
                                  21, 21, 10, 21, 21, 21, 21, 10};

/* Eight sockets: two boxes of four, joined by a slower link. */
static const uint8_t xeon8[64] = {
    10, 21, 21, 21, 50, 50, 50, 50, 21, 10, 21, 21, 50, 50, 50, 50, 21, 21, 10, 21, 50, 50,
    50, 50, 21, 21, 21, 10, 50, 50, 50, 50, 50, 50, 50, 50, 10, 21, 21, 21, 50, 50, 50, 50,
    21, 10, 21, 21, 50, 50, 50, 50, 21, 21, 10, 21, 50, 50, 50, 50, 21, 21, 21, 10,
};

const struct machine_model machine_models[] = {
    {.name = "flash",
     .about = "Stanford FLASH as simulated for Disco, 1997",
     /* CPU: twice the 200 MHz of an R10000, one instruction a cycle (paper, section 5.1; the
      * factor is seen, the 200 MHz are the R10000's).  Cache 1 MiB, 300 ns and 900 ns: seen.
      * Its ways and line, the cost of a dirty line and the bandwidth (one 64 byte line per 100 ns
      * of a node controller's time, shared by two CPUs): estimates. */
     .source = "Bugnion, Devine, Rosenblum: Disco, SOSP 1997, section 5",
     .cpus = 8,
     .mhz = 400,
     .ipc_percent = 100,
     .cache_kib = 1024,
     .ways = 8,
     .line = 64,
     .dirty_ns = 300,
     .mbps_per_cpu = 320,
     .step = {{10, 300}, {20, 900}},
     .nodes = 4,
     .slit = flat4},
    {.name = "epyc2s",
     .about = "two sockets of AMD EPYC 7742 in two nodes each",
     /* Local 113 to 122 ns and 125 to 134 ns within the socket: seen.  ~200 ns and ~220 ns to the
      * other socket, SLIT 10/12/32, 150 GB/s a node: estimates.  Cache: 512 KiB of its own and a
      * quarter of 16 MiB, rounded to 4 MiB: the data sheet. */
     .source = "AnandTech, AMD Rome second generation EPYC review, 2019",
     .cpus = 128,
     .mhz = 2250,
     .ipc_percent = 100,
     .cache_kib = 4096,
     .ways = 16,
     .line = 64,
     .dirty_ns = 60,
     .mbps_per_cpu = 4700,
     .step = {{10, 118}, {12, 130}, {32, 210}},
     .nodes = 4,
     .slit = epyc4},
    {.name = "xeon4s",
     .about = "four sockets of Intel Xeon E7-4800",
     /* 135 to 136 ns and 194 to 202 ns, the whole matrix: seen.  Cache: 2.5 MiB of the last level
      * for each core.  The rest: estimates. */
     .source = "Intel Memory Latency Checker on a four-socket Xeon E7-4800, published matrix",
     .cpus = 40,
     .mhz = 2400,
     .ipc_percent = 100,
     .cache_kib = 2560,
     .ways = 20,
     .line = 64,
     .dirty_ns = 60,
     .mbps_per_cpu = 4000,
     .step = {{10, 136}, {21, 198}},
     .nodes = 4,
     .slit = xeon4},
    {.name = "xeon8s",
     .about = "eight sockets of Intel Xeon in two boxes (as Superdome Flex)",
     /* ~100 ns, ~150 ns within the box, 350 to 450 ns across, SLIT 10/16-21/50-65: estimates by
      * people who ran such machines, no table. */
     .source = "figures told of HPE Superdome Flex; uncertain",
     .cpus = 224,
     .mhz = 2500,
     .ipc_percent = 100,
     .cache_kib = 2048,
     .ways = 16,
     .line = 64,
     .dirty_ns = 60,
     .mbps_per_cpu = 3500,
     .step = {{10, 100}, {21, 150}, {50, 400}},
     .nodes = 8,
     .slit = xeon8},
    {.name = NULL},
};

const struct machine_model *machine_model_by_name(const char *name)
{
    for (const struct machine_model *m = machine_models; m->name; m++)
        if (!strcmp(m->name, name))
            return m;
    return NULL;
}

unsigned machine_model_latency(const struct machine_model *m, unsigned distance)
{
    const struct machine_model_step *s = m->step;

    if (distance < s[0].distance)
        return 0;
    for (int i = 0; i < MACHINE_MODEL_STEPS && s[i].distance; i++) {
        unsigned span, rise;

        if (distance == s[i].distance)
            return s[i].ns;
        if (i + 1 == MACHINE_MODEL_STEPS || !s[i + 1].distance || distance > s[i + 1].distance)
            continue;
        span = s[i + 1].distance - s[i].distance;
        rise = s[i + 1].ns - s[i].ns;
        return s[i].ns + (rise * (distance - s[i].distance) + span / 2) / span;
    }
    return 0;
}

unsigned machine_model_distance(const struct machine_model *m, unsigned n, unsigned a,
                                unsigned b)
{
    if (n > m->nodes || a >= n || b >= n)
        return 0;
    return m->slit[a * m->nodes + b];
}
