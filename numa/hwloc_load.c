/* SPDX-License-Identifier: MIT */
/*
 * hwloc's functions that we and its header's inline functions call, each of which looks for itself in
 * the library when it is first called.  They have the library's names, so the linker takes them
 * for it; the library's own calls stay inside, since a program does not export what it is not
 * linked for.  A function added to topo.c that is missing here brings the library back at every
 * start, which `ldd build/disco` shows.
 * Threads: as topo_read(), one at a time.  No state but what was found.
 */
#include "numa/hwloc_load.h"

#include <dlfcn.h>
#include <errno.h>
#include <hwloc.h>

#include "base/err.h"

/* The library; loaded once, never given back. */
static void *library(void)
{
    static void *handle;

    if (!handle)
        handle = dlopen("libhwloc.so.15", RTLD_LAZY | RTLD_LOCAL);
    return handle;
}

int hwloc_here(struct err *err)
{
    if (library())
        return 0;
    return fail(err, EXIT_INTERNAL, ENOENT,
                "reading the machine needs libhwloc (apt-get install libhwloc15): %s",
                dlerror());
}

/* One of its functions. */
static void *find(const char *name)
{
    void *fn = library() ? dlsym(library(), name) : NULL;

    INVARIANT(fn, "hwloc_here() came before any call, and this libhwloc is version 2");
    return fn;
}

/* A function of the library under its own name.
 * NOLINTBEGIN(bugprone-macro-parentheses): the arguments are types and lists. */
#define FORWARD(ret, name, params, args)     \
    ret name params                          \
    {                                        \
        static ret(*fn) params;              \
                                             \
        if (!fn)                             \
            fn = (ret(*) params)find(#name); \
        return fn args;                      \
    }

FORWARD(hwloc_bitmap_t, hwloc_bitmap_alloc, (void), ())
FORWARD(int, hwloc_bitmap_and,
        (hwloc_bitmap_t r, hwloc_const_bitmap_t a, hwloc_const_bitmap_t b), (r, a, b))
FORWARD(int, hwloc_bitmap_andnot,
        (hwloc_bitmap_t r, hwloc_const_bitmap_t a, hwloc_const_bitmap_t b), (r, a, b))
FORWARD(hwloc_bitmap_t, hwloc_bitmap_dup, (hwloc_const_bitmap_t a), (a))
FORWARD(int, hwloc_bitmap_first, (hwloc_const_bitmap_t a), (a))
FORWARD(int, hwloc_bitmap_list_sscanf, (hwloc_bitmap_t r, const char *text), (r, text))
FORWARD(int, hwloc_bitmap_next, (hwloc_const_bitmap_t a, int prev), (a, prev))
FORWARD(int, hwloc_bitmap_or,
        (hwloc_bitmap_t r, hwloc_const_bitmap_t a, hwloc_const_bitmap_t b), (r, a, b))
FORWARD(int, hwloc_bitmap_weight, (hwloc_const_bitmap_t a), (a))
FORWARD(int, hwloc_distances_get_by_type,
        (hwloc_topology_t t, hwloc_obj_type_t type, unsigned *n, struct hwloc_distances_s **d,
         unsigned long kind, unsigned long flags),
        (t, type, n, d, kind, flags))
FORWARD(unsigned, hwloc_get_nbobjs_by_depth, (hwloc_topology_t t, int depth), (t, depth))
FORWARD(hwloc_obj_t, hwloc_get_obj_by_depth, (hwloc_topology_t t, int depth, unsigned i),
        (t, depth, i))
FORWARD(int, hwloc_get_type_depth, (hwloc_topology_t t, hwloc_obj_type_t type), (t, type))
FORWARD(hwloc_const_cpuset_t, hwloc_topology_get_topology_cpuset, (hwloc_topology_t t), (t))
FORWARD(hwloc_const_nodeset_t, hwloc_topology_get_topology_nodeset, (hwloc_topology_t t), (t))
FORWARD(int, hwloc_topology_init, (hwloc_topology_t * t), (t))
FORWARD(int, hwloc_topology_is_thissystem, (hwloc_topology_t t), (t))
FORWARD(int, hwloc_topology_load, (hwloc_topology_t t), (t))
FORWARD(int, hwloc_topology_set_all_types_filter,
        (hwloc_topology_t t, enum hwloc_type_filter_e f), (t, f))
FORWARD(int, hwloc_topology_set_components,
        (hwloc_topology_t t, unsigned long flags, const char *name), (t, flags, name))
FORWARD(int, hwloc_topology_set_synthetic, (hwloc_topology_t t, const char *text), (t, text))
FORWARD(int, hwloc_topology_set_type_filter,
        (hwloc_topology_t t, hwloc_obj_type_t type, enum hwloc_type_filter_e f), (t, type, f))
FORWARD(void, hwloc_bitmap_free, (hwloc_bitmap_t a), (a))
FORWARD(void, hwloc_bitmap_zero, (hwloc_bitmap_t a), (a))
FORWARD(void, hwloc_distances_release, (hwloc_topology_t t, struct hwloc_distances_s *d),
        (t, d))
FORWARD(void, hwloc_topology_destroy, (hwloc_topology_t t), (t))
/* NOLINTEND(bugprone-macro-parentheses) */
