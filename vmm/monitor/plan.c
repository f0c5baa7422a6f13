/* SPDX-License-Identifier: MIT */
/*
 * From a site's configuration to the placer's question and back.
 * Threads: any one; no state.
 */
#include "vmm/monitor/plan.h"

#include <stdlib.h>

#include "base/err.h"
#include "numa/place.h"
#include "vmm/config/config.h"

/* What one guest asks of the placer. */
static struct place_want want_of(const struct guest_cfg *g)
{
    struct place_want w = {.name = g->name,
                           .vcpus = g->vcpus,
                           .memory = g->memory,
                           .nnodes = g->nnodes,
                           .hugetlb = g->hugetlb,
                           .views = g->views,
                           .one_node = g->placement == CFG_PLACE_ONE_NODE};

    INVARIANT(g->nnodes <= TOPO_MAX_NODES, "the configuration bounds the number of nodes");
    for (unsigned i = 0; i < g->nnodes; i++)
        w.nodes[i] = g->nodes[i];
    return w;
}

int site_plan(const struct site_cfg *site, const struct topo *t, struct place_got **got,
              struct err *err)
{
    struct place_want *want = xcalloc(site->nguests, sizeof(*want));
    int r;

    *got = xcalloc(site->nguests, sizeof(**got));
    for (unsigned i = 0; i < site->nguests; i++)
        want[i] = want_of(&site->guests[i]);
    r = place_guests(t, want, site->nguests, *got, err);
    free(want);
    if (r) {
        free(*got);
        *got = NULL;
    }
    return r;
}
