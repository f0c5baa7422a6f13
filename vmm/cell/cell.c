/* SPDX-License-Identifier: MIT */
/*
 * The cell: puts machine, devices and kernel together, runs them, and takes them apart again.
 * Threads: vcpuN (machine), io0 (devices and control), and the caller in cell_wait().  The end of
 * a guest is decided once, by machine_end(); vCPUs leave first, then io0.
 * Locks: none of its own.
 */
#include "vmm/cell/cell.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "numa/bind.h"
#include "vmm/boot/boot.h"
#include "vmm/cell/opener.h"
#include "vmm/cell/private.h"
#include "vmm/cell/entry.h"
#include "vmm/device/devices.h"
#include "vmm/device/legacy.h"
#include "vmm/machine/kvmprobe.h"

/* ---- what devices ask of us (struct dev_host) ---- */

static int host_ioeventfd(void *ctx, uint64_t gpa, unsigned len, int fd, bool add)
{
    struct cell *c = ctx;

    return machine_ioeventfd(&c->m, gpa, len, fd, add);
}

static void host_power_off(void *ctx)
{
    struct cell *c = ctx;

    machine_end(&c->m, MACHINE_OFF, 0, "the guest switched itself off");
}

static void host_reset(void *ctx)
{
    struct cell *c = ctx;

    machine_end(&c->m, MACHINE_RESET, 0, "the guest asked for a reset");
}

static void host_debug_exit(void *ctx, uint32_t value)
{
    struct cell *c = ctx;

    machine_end(&c->m, MACHINE_DEBUG_EXIT, value, "debug exit with %#x", value);
}

/* ---- making ---- */

/* Which host nodes, views and sizes the machine gets. */
static void fill_spec(const struct cell *c, struct machine_spec *spec)
{
    /* "one-node" is a split that gives all to one */
    static const enum mem_placement placements[] = {
        [CFG_PLACE_SPLIT] = MEM_SPLIT,
        [CFG_PLACE_FIRST_TOUCH] = MEM_FIRST_TOUCH,
        [CFG_PLACE_INTERLEAVE] = MEM_INTERLEAVE,
        [CFG_PLACE_ONE_NODE] = MEM_SPLIT,
    };
    const struct place_got *p = &c->place;

    *spec = (struct machine_spec){
        .kvm_fd = c->kvm_fd,
        .nvcpus = c->cfg.vcpus,
        .nviews = p->views ? p->views : 1,
        .pin = c->cfg.pin,
        .x2apic = c->cfg.x2apic || c->cfg.vcpus > 254,
        .packages = c->cfg.vnuma ? p->nnodes : 1,
        .kvmclock = c->cfg.clock == CFG_CLOCK_KVM && p->views <= 1,
        .mem = {.size = c->cfg.memory,
                .hugetlb = c->cfg.hugetlb,
                .nnodes = p->nnodes,
                .placement = placements[config_placement(&c->cfg)]},
    };
    for (unsigned i = 0; i < spec->nviews; i++)
        spec->view_node[i] = p->views ? p->view_node[i] : -1;
    for (unsigned i = 0; i < p->nnodes; i++) {
        spec->mem.nodes[i] = p->nodes[i];
        spec->mem.node_bytes[i] = p->node_bytes[i];
    }
}

/* Index of a host node among those of the guest. */
static unsigned node_index(const struct place_got *p, int node)
{
    for (unsigned i = 0; i < p->nnodes; i++)
        if (p->nodes[i] == node)
            return i;
    return 0;
}

/* Virtual nodes, when the guest is to see them: one per host node it spans. */
static void fill_nodes(struct cell *c, struct acpi_spec *acpi, struct acpi_node *nodes,
                       unsigned *vcpu_node, uint8_t *distance)
{
    const struct place_got *p = &c->place;
    uint64_t low = c->m.mem.low;

    for (unsigned i = 0; i < p->nnodes; i++) {
        nodes[i].low_len = p->node_bytes[i] < low ? p->node_bytes[i] : low;
        nodes[i].high_len = p->node_bytes[i] - nodes[i].low_len;
        low -= nodes[i].low_len;
        for (unsigned j = 0; j < p->nnodes; j++)
            distance[i * p->nnodes + j] = numa_node_distance(p->nodes[i], p->nodes[j]);
    }
    for (unsigned v = 0; v < c->cfg.vcpus; v++)
        vcpu_node[v] = node_index(p, place_node_of_vcpu(p, c->cfg.vcpus, v));
    acpi->nnodes = p->nnodes;
    acpi->nodes = nodes;
    acpi->vcpu_node = vcpu_node;
    acpi->distance = distance;
}

/* Writes the ACPI tables. */
static int make_tables(struct cell *c, uint64_t *rsdp, struct err *err)
{
    struct acpi_spec acpi = {.nvcpus = c->cfg.vcpus, .pci = true};
    struct acpi_node nodes[TOPO_MAX_NODES];
    uint8_t *distance = xcalloc(TOPO_MAX_NODES, TOPO_MAX_NODES);
    unsigned *vcpu_node = xcalloc(c->cfg.vcpus, sizeof(*vcpu_node));
    int r;

    if (c->cfg.vnuma && c->place.nnodes)
        fill_nodes(c, &acpi, nodes, vcpu_node, distance);
    r = acpi_build(&c->m.mem, &acpi, rsdp, err);
    free(distance);
    free(vcpu_node);
    return r;
}

/* A kernel needs a KVM that runs kernels; test kernels of a few instructions do not. */
static int check_kvm(const struct cell *c, struct err *err)
{
    struct kvm_probe probe;
    int r;

    if (kvm_on_hardware())
        return 0;
    r = kvm_probe(c->kvm_fd, &probe, err);
    if (r || !probe.emulated)
        return r;
    return fail(
        err, EXIT_EMULATED, ENOTSUP,
        "this host's KVM emulates guest kernels (%.1f million instructions a second): "
        "Linux would not boot in useful time; run on hardware, or in the lab (make lab)",
        probe.kernel_ips / 1e6);
}

/* Loads kernel, initrd and command line and sets the entry. */
static int load(struct cell *c, const struct cell_fds *fds, struct err *err)
{
    static const enum boot_kind kinds[] = {
        [CFG_BOOT_AUTO] = BOOT_AUTO,
        [CFG_BOOT_LINUX] = BOOT_LINUX64,
        [CFG_BOOT_PVH] = BOOT_PVH,
        [CFG_BOOT_MULTIBOOT] = BOOT_MULTIBOOT,
    };
    struct boot_entry entry;
    struct boot_spec spec = {
        .kind = kinds[c->cfg.boot],
        .kernel_fd = fds->kernel,
        .initrd_fd = fds->initrd,
        .kernel_name = c->cfg.kernel,
        .initrd_name = c->cfg.initrd,
    };
    /* without a PIT or kvmclock an AMD guest has no other source for the TSC's frequency;
     * kernels that are not Linux never look at it */
    bool tell_khz = c->cfg.boot != CFG_BOOT_MULTIBOOT;
    char *cmdline = tell_khz ? xasprintf("%s%stsc_early_khz=%u", c->cfg.cmdline,
                                         c->cfg.cmdline[0] ? " " : "", c->m.tsc_khz)
                             : xstrdup(c->cfg.cmdline);
    int r = make_tables(c, &spec.rsdp, err);

    spec.cmdline = cmdline;
    if (!r)
        r = boot_load(&c->m.mem, &spec, &entry, err);
    free(cmdline);
    if (!r && entry.is_linux)
        r = check_kvm(c, err);
    return r ? r : entry_set(&c->m, &entry, err);
}

/* The end was decided: io0 may stop once all vCPUs have left (cell_wait sees to that). */
static void on_end(void *arg)
{
    struct cell *c = arg;

    atomic_store(&c->end_ns, machine_now_ns());
}

/* Machine, devices, kernel, in this order. */
int cell_assemble(struct cell *c, struct cell_fds *fds, struct err *err)
{
    struct machine_spec spec;
    int *vcpu_node;
    int r;

    fill_spec(c, &spec);
    spec.vcpu_node = vcpu_node = xcalloc(c->cfg.vcpus, sizeof(*vcpu_node));
    for (unsigned v = 0; v < c->cfg.vcpus; v++)
        vcpu_node[v] = c->place.nnodes ? place_node_of_vcpu(&c->place, c->cfg.vcpus, v) : -1;
    r = machine_init(&c->m, &spec, err);
    free(vcpu_node);
    if (r)
        return r;
    c->made = true;
    c->m.on_end = on_end;
    c->m.on_end_arg = c;
    c->host = (struct dev_host){.mem = &c->m.mem,
                                .irq = c->m.irq,
                                .io = &c->io,
                                .pio = &c->m.pio,
                                .mmio = &c->m.mmio,
                                .ioeventfd = host_ioeventfd,
                                .power_off = host_power_off,
                                .reset = host_reset,
                                .debug_exit = host_debug_exit,
                                .ctx = c};
    r = load(c, fds, err); /* first what is likelier to be wrong, and cheap to undo */
    if (!r)
        r = devices_make(c, fds, err);
    if (!r)
        paging_make(c);
    return r;
}

int cell_new(struct cell **out, const struct guest_cfg *cfg, const struct place_got *place,
             struct cell_fds *fds, struct err *err)
{
    struct cell *c = xcalloc(1, sizeof(*c));
    int r;

    c->made_ns = machine_now_ns();
    c->io.epfd = c->io.wakefd = -1;
    cell_fds_init(&c->kept);
    c->place = *place;
    c->kvm_fd = fds->kvm;
    fds->kvm = -1;
    c->cfg = *cfg;
    r = evloop_init(&c->io, err);
    if (!r) {
        restart_keep(c, fds);
        c->boots = 1;
        r = cell_assemble(c, fds, err);
    }
    cell_fds_close(fds);
    if (r) {
        cell_free(c);
        return r;
    }
    *out = c;
    return 0;
}

void cell_free(struct cell *c)
{
    devices_free(c);
    paging_free(c);
    evloop_exit(&c->io);
    if (c->made)
        machine_exit(&c->m);
    cell_fds_close(&c->kept);
    if (c->kvm_fd >= 0)
        close(c->kvm_fd);
    free(c);
}

/* ---- running ---- */

/* Body of io0. */
static void *io_thread(void *arg)
{
    struct cell *c = arg;
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    pthread_setname_np(pthread_self(), "io0");
    if (c->cfg.pin && c->m.spec.nviews)
        numa_bind_thread(c->m.views[0].node);
    evloop_run(&c->io);
    return NULL;
}

int cell_start(struct cell *c, struct err *err)
{
    pthread_attr_t attr;
    int r;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 512 * 1024);
    r = pthread_create(&c->io_thread, &attr, io_thread, c);
    pthread_attr_destroy(&attr);
    if (r)
        return fail_errno(err, EXIT_INTERNAL, r, "pthread_create for io0");
    c->io_runs = true;
    r = machine_start(&c->m, err);
    if (r) {
        evloop_stop(&c->io);
        pthread_join(c->io_thread, NULL);
        c->io_runs = false;
    } else {
        paging_start(c);
    }
    return r;
}

static const struct end_kind {
    enum cell_end end;
    int status;
} ends[] = {
    [MACHINE_RUNS] = {CELL_RUNNING, EXIT_INTERNAL},
    [MACHINE_OFF] = {CELL_POWEROFF, EXIT_OK},
    [MACHINE_RESET] = {CELL_RESET, EXIT_OK},
    [MACHINE_DEBUG_EXIT] = {CELL_DEBUG_EXIT, 0},
    [MACHINE_KILLED] = {CELL_STOPPED, EXIT_GUEST},
    [MACHINE_BROKEN] = {CELL_FAILED, EXIT_GUEST},
};

/* Waits for the threads of one boot. */
static void join_all(struct cell *c)
{
    machine_join(&c->m);
    evloop_stop(&c->io);
    if (c->io_runs)
        pthread_join(c->io_thread, NULL);
    c->io_runs = false;
    rehome_stop(c);
    paging_stop(c);
}

/* Fills in how the machine ended. */
static void fill_result(const struct cell *c, struct cell_result *res)
{
    int how = atomic_load(&c->m.end);

    *res = (struct cell_result){.end = ends[how].end, .status = ends[how].status};
    if (how == MACHINE_DEBUG_EXIT)
        res->status = (int)((c->m.end_value << 1 | 1) & 0xff);
    snprintf(res->reason, sizeof(res->reason), "%s", c->m.end_reason);
}

void cell_wait(struct cell *c, struct cell_result *res)
{
    struct err err = {0};
    int r = 0;

    join_all(c);
    while (!r && restart_wanted(c)) {
        r = restart(c, &err);
        if (!r)
            join_all(c);
    }
    if (r) {
        *res = (struct cell_result){.end = CELL_FAILED, .status = EXIT_GUEST};
        snprintf(res->reason, sizeof(res->reason), "restart: %.200s", err.text);
    } else {
        fill_result(c, res);
    }
    if (atomic_load(&c->end_ns))
        res->run_ns = atomic_load(&c->end_ns) - c->made_ns;
    res->ready_ns = cell_ready_ns(c);
}

uint64_t cell_ready_ns(const struct cell *c)
{
    uint64_t at = atomic_load(&c->ready_ns);

    return at ? at - c->made_ns : 0;
}

struct evloop *cell_loop(struct cell *c)
{
    return &c->io;
}

/* ---- control ---- */

void cell_pause(struct cell *c)
{
    paging_pause(c, true);
    machine_pause(&c->m);
    atomic_store(&c->paused, true);
}

void cell_resume(struct cell *c)
{
    atomic_store(&c->paused, false);
    machine_resume(&c->m);
    paging_pause(c, false);
}

bool cell_paused(const struct cell *c)
{
    return atomic_load(&c->paused);
}

void cell_power_button(struct cell *c)
{
    pm_power_button(c->pm);
}

void cell_kill(struct cell *c)
{
    atomic_store(&c->killed, true);
    machine_end(&c->m, MACHINE_KILLED, 0, "ended from outside");
}

int cell_balloon(struct cell *c, uint64_t bytes)
{
    if (!c->balloon)
        return -ENODEV;
    balloon_set_target(c->balloon, bytes);
    return 0;
}

int cell_move_vcpu(struct cell *c, unsigned vcpu, unsigned view)
{
    return machine_move_vcpu(&c->m, vcpu, view);
}

const char *cell_end_name(enum cell_end end)
{
    static const char *const names[] = {
        [CELL_RUNNING] = "running", [CELL_POWEROFF] = "poweroff",
        [CELL_RESET] = "reset",     [CELL_DEBUG_EXIT] = "debug-exit",
        [CELL_STOPPED] = "stopped", [CELL_FAILED] = "failed",
    };

    return (unsigned)end < sizeof(names) / sizeof(names[0]) ? names[end] : "?";
}
