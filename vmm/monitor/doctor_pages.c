/* SPDX-License-Identifier: MIT */
/*
 * The checks of what it takes to move and copy the pages of guests (vmm/pager).  Interface:
 * doctor_pages().  Nothing here keeps a guest from running: where something lacks, its pages are
 * worked on in a lesser mode, or stay where they are put first, as its log will say too
 * (vmm/cell/paging.c has the same list).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "numa/policy.h"
#include "numa/topo.h"
#include "vmm/cell/paging.h"
#include "vmm/monitor/doctor.h"
#include "vmm/pager/features.h"
#include "vmm/pager/pager.h"
#include "vmm/pager/source.h"

enum {
    MAP_COUNT = 1048576, /* mappings a cell with many replicas may need */
    LIST = 256,          /* bytes of a list of nodes */
};

#define STAY "guests' pages stay where they are put first"

/* What keeps pages where they are; the first counts.  NULL: nothing. */
struct verdict {
    const char *lack;   /* what no page is moved or copied without */
    const char *lesser; /* what it is done less well without */
    bool source;        /* some source of samples is here */
};

/* Notes that something lacks. */
static void note(const char **first, const char *what)
{
    if (!*first)
        *first = what;
}

/* ---- userfaultfd ---- */

/* Whether it is allowed; f is filled. */
static bool check_allowed(struct doctor *d, struct verdict *v, struct guard_features *f)
{
    int r = guard_ask(f);

    if (!r) {
        doctor_say(d, "page faults", DOCTOR_OK, NULL, "userfaultfd is allowed, %s",
                   f->by_device ? "by /dev/userfaultfd" : "by privilege or setting");
        return true;
    }
    note(&v->lack, "no userfaultfd");
    doctor_say(d, "page faults", DOCTOR_WARN,
               r == -ENOSYS ? "boot a kernel with CONFIG_USERFAULTFD"
                            : "sysctl -w vm.unprivileged_userfaultfd=1   # or chgrp kvm "
                              "/dev/userfaultfd && chmod 660 /dev/userfaultfd, or be root",
               "no userfaultfd (%s): " STAY, strerror(-r));
    return false;
}

/* Write protection: replicas. */
static void check_protect(struct doctor *d, struct verdict *v, const struct guard_features *f)
{
    if (f->protects) {
        doctor_say(d, "page protection", DOCTOR_OK, NULL,
                   "shared memory can be write-protected");
        return;
    }
    note(&v->lack, "userfaultfd does not write-protect shared memory");
    doctor_say(d, "page protection", DOCTOR_WARN, "boot Linux 5.19 or newer",
               "shared memory cannot be write-protected: " STAY);
}

/* Minor faults: sampling. */
static void check_minor(struct doctor *d, struct verdict *v, const struct guard_features *f)
{
    if (!f->minor) {
        note(&v->lesser, "pages cannot be sampled by faults");
        doctor_say(d, "page touches", DOCTOR_WARN, "boot Linux 5.14 or newer",
                   "not told of shared memory (minor faults): no sampling by faults; " STAY
                   " unless another source is set");
    } else if (!f->admits_protected) {
        doctor_say(d, "page touches", DOCTOR_OK, NULL,
                   "told of shared memory; before Linux 6.4 a touch of a replicated page takes "
                   "two more steps");
    } else {
        doctor_say(d, "page touches", DOCTOR_OK, NULL, "told of shared memory");
    }
    v->source = v->source || f->minor;
}

/* All of userfaultfd. */
static void check_uffd(struct doctor *d, struct verdict *v, struct guard_features *f)
{
    if (!check_allowed(d, v, f))
        return;
    check_protect(d, v, f);
    check_minor(d, v, f);
}

/* ---- KVM ---- */

/* Nested paging, and whether KVM tells addresses of faults. */
static void check_kvm(struct doctor *d, struct verdict *v)
{
    char *path = xasprintf("%s/dev/kvm", d->root);
    int fd = open(path, O_RDWR | O_CLOEXEC);

    free(path);
    if (fd < 0)
        return; /* doctor_kvm() said so */
    if (paging_nested()) {
        doctor_say(d, "nested paging", DOCTOR_OK, NULL, "KVM uses the CPU's");
    } else {
        note(&v->lack, "KVM without nested paging");
        doctor_say(d, "nested paging", DOCTOR_WARN,
                   "modprobe -r kvm_amd; modprobe kvm_amd npt=1   # Intel: kvm_intel ept=1",
                   "not used by KVM here, which writes guests' page tables itself: " STAY);
    }
    doctor_say(d, "KVM fault address", DOCTOR_OK, NULL,
               pager_kvm_tells(fd)
                   ? "told: without sampling by faults a vCPU resolves its own"
                   : "not told: a thread for each view resolves them, a little slower");
    close(fd);
}

/* ---- what limits it ---- */

/* How masters move. */
static void check_moves(struct doctor *d, struct verdict *v)
{
    if (guard_moves_all()) {
        doctor_say(d, "page moves", DOCTOR_OK, NULL, "by the kernel");
        return;
    }
    note(&v->lesser, "pages move by copy");
    doctor_say(d, "page moves", DOCTOR_WARN,
               "setcap cap_sys_nice+ep \"$(command -v disco)\"   # or be root",
               "by copy, which is slower: the kernel moves mapped pages for CAP_SYS_NICE only");
}

/* Mappings a process may have. */
static void check_maps(struct doctor *d, struct verdict *v)
{
    char n[32] = "0";

    doctor_read(d, "/proc/sys/vm/max_map_count", n, sizeof(n));
    if (strtoul(n, NULL, 10) >= MAP_COUNT) {
        doctor_say(d, "mappings", DOCTOR_OK, NULL, "vm.max_map_count = %s", n);
        return;
    }
    note(&v->lesser, "few mappings");
    doctor_say(
        d, "mappings", DOCTOR_WARN, "sysctl -w vm.max_map_count=1048576",
        "vm.max_map_count = %s: a guest that needs more than three quarters of these for "
        "replicas gets no more of them",
        n);
}

/* Adds a node's number to a list. */
static void list_node(char list[LIST], int node)
{
    size_t len = strlen(list);

    snprintf(list + len, LIST - len, "%s%d", len ? ", " : "", node);
}

/* Nodes that pages are not brought to: those with little free memory and those without CPUs. */
static void check_nodes(struct doctor *d, struct verdict *v)
{
    unsigned keep = policy_tune_default().keep_free;
    char full[LIST] = "", idle[LIST] = "";
    struct err err = {0};
    struct topo t;

    if (topo_read(&t, NULL, &err))
        return; /* doctor_host() said so */
    for (unsigned i = 0; i < t.nnodes; i++) {
        if (t.node[i].mem_free < t.node[i].mem_total / 100 * keep)
            list_node(full, t.node[i].os);
        if (!t.node[i].ncpus)
            list_node(idle, t.node[i].os);
    }
    topo_free(&t);
    if (*full)
        note(&v->lesser, "no room for replicas on some nodes");
    doctor_say(d, "room for replicas", *full ? DOCTOR_WARN : DOCTOR_OK,
               "ps -eo pid,rss,comm --sort -rss | head   # and end what is not needed",
               *full ? "less than %u%% is free on node %s: no replica goes there"
                     : "more than %u%% is free on every node%s",
               keep, full);
    if (*idle)
        note(&v->lesser, "nodes without CPUs");
    doctor_say(d, "CPUs of nodes", *idle ? DOCTOR_WARN : DOCTOR_OK,
               "for c in /sys/devices/system/cpu/cpu*/online; do echo 1 > $c; done",
               *idle
                   ? "none on node %s: vCPUs of a view there run elsewhere, no page goes there"
                   : "every node has some%s",
               idle);
}

/* ---- sources of samples ---- */

/* Each source: here or not. */
static void check_sources(struct doctor *d, struct verdict *v, const struct guard_features *f)
{
    char why[160];

    for (const struct source_ops *const *o = sources; *o; o++) {
        bool here = (*o)->found(why, sizeof(why)) && (!(*o)->revokes || f->minor);

        if (here)
            doctor_say(d, "page samples", DOCTOR_OK, NULL, "%s: here; %s", (*o)->name,
                       (*o)->about);
        else
            doctor_say(d, "page samples", DOCTOR_OK, NULL, "%s: not here (%s)", (*o)->name,
                       (*o)->revokes ? "page touches are not told" : why);
        v->source = v->source || here;
    }
    if (!v->source)
        note(&v->lack, "no source of samples");
}

/* What becomes of it all. */
static void conclude(struct doctor *d, const struct verdict *v)
{
    if (v->lack)
        doctor_say(d, "pages of guests", DOCTOR_WARN, NULL,
                   "policy none: they stay where they are put first (%s)", v->lack);
    else
        doctor_say(d, "pages of guests", DOCTOR_OK, NULL, "move and replicate%s%s%s",
                   v->lesser ? ", but less well (" : "", v->lesser ? v->lesser : "",
                   v->lesser ? ")" : "");
}

void doctor_pages(struct doctor *d)
{
    struct guard_features f = {0};
    struct verdict v = {0};

    check_uffd(d, &v, &f);
    check_kvm(d, &v);
    check_moves(d, &v);
    check_maps(d, &v);
    check_nodes(d, &v);
    check_sources(d, &v, &f);
    conclude(d, &v);
}
