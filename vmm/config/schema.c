/* SPDX-License-Identifier: MIT */
/*
 * The table of all keys.  To add a key: a field in config.h, a row here.
 * Interface in schema.h.  Const data; rows of one scope stand together, in the order in which
 * people read about them.
 */
#include "vmm/config/schema.h"

#include <limits.h>
#include <string.h>

#include "base/err.h"
#include "vmm/config/config.h"
#include "vmm/config/valid.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Most slips for which another key is still suggested. */
enum { NEAR = 3 };

/* Names of the enums of config.h. */
static const char *const boot_names[] = {
    [CFG_BOOT_AUTO] = "auto",           [CFG_BOOT_LINUX] = "linux",      [CFG_BOOT_PVH] = "pvh",
    [CFG_BOOT_MULTIBOOT] = "multiboot", [CFG_BOOT_MULTIBOOT + 1] = NULL,
};
static const char *const huge_names[] = {[false] = "auto", [true] = "hugetlb", NULL};
static const char *const placement_names[] = {
    [CFG_PLACE_AUTO] = "auto",
    [CFG_PLACE_SPLIT] = "split",
    [CFG_PLACE_FIRST_TOUCH] = "first-touch",
    [CFG_PLACE_INTERLEAVE] = "interleave",
    [CFG_PLACE_ONE_NODE] = "one-node",
    [CFG_PLACE_ONE_NODE + 1] = NULL,
};
static const char *const policy_names[] = {
    [CFG_POLICY_REPLICATE] = "replicate",   [CFG_POLICY_MIGRATE] = "migrate",
    [CFG_POLICY_CARREFOUR] = "carrefour",   [CFG_POLICY_FIRST_TOUCH] = "first-touch",
    [CFG_POLICY_INTERLEAVE] = "interleave", [CFG_POLICY_NONE] = "none",
    [CFG_POLICY_NONE + 1] = NULL,
};
static const char *const sampling_names[] = {
    [CFG_SAMPLING_FAULTS] = "faults", [CFG_SAMPLING_FLASH] = "flash",
    [CFG_SAMPLING_IBS] = "ibs",       [CFG_SAMPLING_PEBS] = "pebs",
    [CFG_SAMPLING_PEBS + 1] = NULL,
};
static const char *const check_names[] = {
    [CFG_CHECK_NONE] = "none", [CFG_CHECK_FLASH] = "flash", [CFG_CHECK_IBS] = "ibs",
    [CFG_CHECK_PEBS] = "pebs", [CFG_CHECK_PEBS + 1] = NULL,
};
static const char *const clock_names[] = {
    [CFG_CLOCK_TSC] = "tsc", [CFG_CLOCK_KVM] = "kvmclock", NULL};
static const char *const net_names[] = {
    [CFG_NET_SUBNET] = "subnet", [CFG_NET_TAP] = "tap", [CFG_NET_USER] = "user", NULL};
static const char *const reset_names[] = {
    [CFG_EXIT_POWEROFF] = "poweroff", [CFG_EXIT_RESTART] = "restart", NULL};
static const char *const console_names[] = {
    [CFG_CON_NONE] = "none",      [CFG_CON_STDIO] = "stdio", [CFG_CON_FILE] = "file",
    [CFG_CON_SOCKET] = "socket",  [CFG_CON_PTY] = "pty",     [CFG_CON_MONITOR] = "monitor",
    [CFG_CON_MONITOR + 1] = NULL,
};

/* Where a field is. */
#define AT(type, field) \
    .offset = offsetof(struct type, field), .size = sizeof(((struct type *)0)->field)
#define AT_LIST(type, field, count)                                                       \
    .offset = offsetof(struct type, field), .count_offset = offsetof(struct type, count), \
    .size = sizeof(((struct type *)0)->field[0])

static const struct cfg_key table[] = {
    /* ---- top level of a site file ---- */
    {.scope = CFG_SITE,
     .name = "name",
     .type = CFG_T_STRING,
     .min = 1,
     .max = CFG_NAME_MAX,
     .valid = valid_name,
     AT(site_cfg, name),
     .doc = "Name of the site; the base name of the file when absent."},
    {.scope = CFG_SITE,
     .name = "socket",
     .type = CFG_T_PATH,
     .min = 1,
     .max = 107,
     AT(site_cfg, socket),
     .doc = "Control socket of the monitor; when absent NAME.sock in /run/disco for root, in "
            "$XDG_RUNTIME_DIR/disco for others."},
    {.scope = CFG_SITE,
     .name = "rundir",
     .type = CFG_T_PATH,
     .min = 1,
     .max = PATH_MAX - 1,
     AT(site_cfg, rundir),
     .doc = "Directory for logs and console sockets; when absent NAME next to the control "
            "socket."},
    {.scope = CFG_SITE,
     .name = "subnet",
     .type = CFG_T_STRING,
     .min = 1,
     .max = 18,
     .valid = valid_subnet,
     .def = "10.0.0.0/24",
     AT(site_cfg, subnet),
     .doc = "IPv4 network of the virtual subnet, told to user-mode networks."},
    {.scope = CFG_SITE,
     .name = "templates",
     .type = CFG_T_TEMPLATES,
     .flags = CFG_F_SHAPE,
     .doc = "Named groups of guest keys, for guests (and other templates) to build on."},
    {.scope = CFG_SITE,
     .name = "guests",
     .type = CFG_T_GROUPS,
     .sub = CFG_GUEST,
     .min = 1,
     .max = CFG_MAX_GUESTS,
     .flags = CFG_F_REQUIRED | CFG_F_SHAPE,
     .doc = "The guests; a file without it is one guest, its keys at the top level."},

    /* ---- a guest, or a template ---- */
    {.scope = CFG_GUEST,
     .name = "name",
     .type = CFG_T_STRING,
     .min = 1,
     .max = CFG_NAME_MAX,
     .valid = valid_name,
     .flags = CFG_F_REQUIRED | CFG_F_OWN,
     AT(guest_cfg, name),
     .doc =
         "Name of the guest, unique in its site (count appends an index); a guest alone in its "
         "file may go by the base name of the file."},
    {.scope = CFG_GUEST,
     .name = "template",
     .type = CFG_T_STRING,
     .min = 1,
     .max = 255,
     .flags = CFG_F_SHAPE,
     .doc = "Name of the template whose keys apply unless given here."},
    {.scope = CFG_GUEST,
     .name = "count",
     .type = CFG_T_INT,
     .min = 1,
     .max = CFG_MAX_GUESTS,
     .def = "1",
     .flags = CFG_F_SHAPE | CFG_F_OWN,
     .doc = "Number of guests to make of this entry; above 1 they are called NAME0, NAME1..."},
    {.scope = CFG_GUEST,
     .name = "vcpus",
     .type = CFG_T_INT,
     .min = 1,
     .max = CFG_MAX_VCPUS,
     .def = "1",
     AT(guest_cfg, vcpus),
     .doc = "Number of virtual CPUs."},
    {.scope = CFG_GUEST,
     .name = "memory",
     .type = CFG_T_SIZE,
     .unit = "bytes",
     .min = 2ull << 20,
     .max = 64ull << 40,
     .step = 2ull << 20,
     .def = "256M",
     AT(guest_cfg, memory),
     .doc = "Memory of the guest."},
    {.scope = CFG_GUEST,
     .name = "hugepages",
     .type = CFG_T_ENUM,
     .names = huge_names,
     .def = "auto",
     AT(guest_cfg, hugetlb),
     .doc =
         "\"hugetlb\" takes the memory from the reserved 2M pages, \"auto\" uses transparent "
         "huge pages where the host allows."},
    {.scope = CFG_GUEST,
     .name = "kernel",
     .type = CFG_T_PATH,
     .min = 1,
     .max = PATH_MAX - 1,
     .flags = CFG_F_REQUIRED,
     AT(guest_cfg, kernel),
     .doc = "Kernel: bzImage, vmlinux, PVH or multiboot ELF."},
    {.scope = CFG_GUEST,
     .name = "initrd",
     .type = CFG_T_PATH,
     .min = 1,
     .max = PATH_MAX - 1,
     AT(guest_cfg, initrd),
     .doc = "Initial RAM disk."},
    {.scope = CFG_GUEST,
     .name = "cmdline",
     .type = CFG_T_STRING,
     .max = 2047,
     .valid = valid_text,
     .def = "",
     .flags = CFG_F_SUBST,
     AT(guest_cfg, cmdline),
     .doc = "Command line of the kernel."},
    {.scope = CFG_GUEST,
     .name = "boot",
     .type = CFG_T_ENUM,
     .names = boot_names,
     .def = "auto",
     AT(guest_cfg, boot),
     .doc = "Boot protocol; \"auto\" looks at the kernel file."},
    {.scope = CFG_GUEST,
     .name = "nodes",
     .type = CFG_T_NODES,
     .unit = "host nodes",
     .min = 0,
     .max = CFG_MAX_NODES,
     AT_LIST(guest_cfg, nodes, nnodes),
     .doc = "NUMA nodes of the host the guest spans, such as [0, 1] or \"0-3\"; empty: the "
            "placement chooses."},
    {.scope = CFG_GUEST,
     .name = "placement",
     .type = CFG_T_ENUM,
     .names = placement_names,
     .def = "auto",
     AT(guest_cfg, placement),
     .doc =
         "Where the memory lies among the guest's nodes at first. \"split\": divided evenly by "
         "address; \"first-touch\": a page goes to the node of the virtual CPU (or device) "
         "that touches it first; \"interleave\": page by page; \"one-node\": all on the "
         "first of them, where it must fit; \"auto\": as the policy wants. "
         "\"first-touch\", \"interleave\" and \"one-node\" need vnuma = false, "
         "\"first-touch\" needs hugepages = \"auto\"."},
    {.scope = CFG_GUEST,
     .name = "policy",
     .type = CFG_T_ENUM,
     .names = policy_names,
     .def = "replicate",
     AT(guest_cfg, policy),
     .doc = "Which node a page is on while the guest runs, when it spans several views. "
            "\"migrate\": pages move to the node that uses them; \"replicate\": and are copied "
            "to nodes that only read them; \"carrefour\": as published in 2013; "
            "\"first-touch\", \"interleave\", \"none\": they stay where they are put first. "
            "A guest with vnuma or reserved huge pages keeps its pages where they are."},
    {.scope = CFG_GUEST,
     .name = "sampling",
     .type = CFG_T_ENUM,
     .names = sampling_names,
     .def = "faults",
     AT(guest_cfg, sampling),
     .doc =
         "Where the policy learns who uses a page. \"faults\": some pages are taken out of "
         "the views in turn, and the next touch tells; \"ibs\", \"pebs\": the CPU's samples; "
         "\"flash\": counters of the emulated machine."},
    {.scope = CFG_GUEST,
     .name = "sampling_share",
     .type = CFG_T_INT,
     .min = 1,
     .max = 1000,
     .def = "10",
     AT(guest_cfg, sampling_share),
     .doc = "Permille of the guest's CPU time that sampling may take."},
    {.scope = CFG_GUEST,
     .name = "sampling_check",
     .type = CFG_T_ENUM,
     .names = check_names,
     .def = "none",
     AT(guest_cfg, sampling_check),
     .doc = "A second source of samples that only tells how well the first one agrees with "
            "it (disco stat --pages), for tests: what it costs is not limited."},
    {.scope = CFG_GUEST,
     .name = "policy_interval",
     .type = CFG_T_TIME,
     .min = 1000000,
     .max = 10000000000,
     .def = "100ms",
     AT(guest_cfg, policy_interval),
     .doc = "Time between two decisions of the policy."},
    {.scope = CFG_GUEST,
     .name = "policy_set",
     .type = CFG_T_STRING,
     .min = 1,
     .max = 500,
     .valid = valid_policy,
     AT(guest_cfg, policy_set),
     .doc = "Thresholds of the policy that are to differ from their defaults, such as "
            "\"trigger=4,cpu=50\"; docs/policies.md lists them."},
    {.scope = CFG_GUEST,
     .name = "page_check",
     .type = CFG_T_TIME,
     .min = 0,
     .max = 3600000000000,
     .def = "0",
     AT(guest_cfg, page_check),
     .doc = "Time between two proofs that all views show the same memory, for tests: it reads "
            "all replicas. 0: no proofs."},
    {.scope = CFG_GUEST,
     .name = "views",
     .type = CFG_T_AUTOINT,
     .min = 1,
     .max = 64,
     .def = "auto",
     AT(guest_cfg, views),
     .doc = "Number of views (one struct kvm each) of the guest's memory; \"auto\": one per "
            "node."},
    {.scope = CFG_GUEST,
     .name = "vnuma",
     .type = CFG_T_BOOL,
     .def = "false",
     AT(guest_cfg, vnuma),
     .doc = "Shows the guest its nodes by SRAT and SLIT; else it sees one flat memory."},
    {.scope = CFG_GUEST,
     .name = "clock",
     .type = CFG_T_ENUM,
     .names = clock_names,
     .def = "tsc",
     AT(guest_cfg, clock),
     .doc = "Clock the guest is offered; \"kvmclock\" needs one view."},
    {.scope = CFG_GUEST,
     .name = "x2apic",
     .type = CFG_T_BOOL,
     .def = "true",
     AT(guest_cfg, x2apic),
     .doc = "Offers x2APIC; required above 254 virtual CPUs."},
    {.scope = CFG_GUEST,
     .name = "pin",
     .type = CFG_T_BOOL,
     .def = "true",
     AT(guest_cfg, pin),
     .doc = "Binds the threads of virtual CPUs to the CPUs of their node."},
    {.scope = CFG_GUEST,
     .name = "disks",
     .type = CFG_T_GROUPS,
     .sub = CFG_DISK,
     .min = 0,
     .max = CFG_MAX_DISKS,
     AT_LIST(guest_cfg, disks, ndisks),
     .doc = "Block devices, seen as /dev/vda, /dev/vdb... in this order."},
    {.scope = CFG_GUEST,
     .name = "nets",
     .type = CFG_T_GROUPS,
     .sub = CFG_NET,
     .min = 0,
     .max = CFG_MAX_NETS,
     AT_LIST(guest_cfg, nets, nnets),
     .doc = "Network cards, in this order."},
    {.scope = CFG_GUEST,
     .name = "console",
     .type = CFG_T_CONSOLE,
     .sub = CFG_CONSOLE,
     .def = "monitor",
     AT(guest_cfg, console),
     .doc = "Where the serial console (ttyS0) goes."},
    {.scope = CFG_GUEST,
     .name = "vconsole",
     .type = CFG_T_CONSOLE,
     .sub = CFG_CONSOLE,
     .def = "none",
     AT(guest_cfg, vconsole),
     .doc = "Where the virtio console (hvc0) goes; \"none\": there is no such device."},
    {.scope = CFG_GUEST,
     .name = "rng",
     .type = CFG_T_BOOL,
     .def = "true",
     AT(guest_cfg, rng),
     .doc = "Has a virtio entropy device."},
    {.scope = CFG_GUEST,
     .name = "balloon",
     .type = CFG_T_BOOL,
     .def = "true",
     AT(guest_cfg, balloon),
     .doc = "Has a virtio balloon, by which memory comes back to the host."},
    {.scope = CFG_GUEST,
     .name = "debug_exit",
     .type = CFG_T_BOOL,
     .def = "false",
     AT(guest_cfg, debug_exit),
     .doc = "Has isa-debug-exit at port 0xf4, for test kernels."},
    {.scope = CFG_GUEST,
     .name = "fwcfg",
     .type = CFG_T_BOOL,
     .def = "false",
     AT(guest_cfg, fwcfg),
     .doc = "Has fw_cfg at ports 0x510 and 0x511, for test kernels."},
    {.scope = CFG_GUEST,
     .name = "on_reset",
     .type = CFG_T_ENUM,
     .names = reset_names,
     .def = "poweroff",
     AT(guest_cfg, on_reset),
     .doc = "What a reset by the guest means: its end, or another boot."},
    {.scope = CFG_GUEST,
     .name = "ready",
     .type = CFG_T_STRING,
     .min = 1,
     .max = 255,
     .valid = valid_text,
     .flags = CFG_F_SUBST,
     AT(guest_cfg, ready),
     .doc = "The guest counts as up when its console shows this text."},
    {.scope = CFG_GUEST,
     .name = "weight",
     .type = CFG_T_INT,
     .min = 1,
     .max = 10000,
     .def = "100",
     AT(guest_cfg, weight),
     .doc = "Share of CPU time relative to other guests."},
    {.scope = CFG_GUEST,
     .name = "site",
     .type = CFG_T_STRING,
     .min = 1,
     .max = CFG_NAME_MAX,
     .flags = CFG_F_HIDDEN,
     AT(guest_cfg, site),
     .doc = "Site the guest belongs to."},
    {.scope = CFG_GUEST,
     .name = "file",
     .type = CFG_T_STRING,
     .min = 1,
     .max = PATH_MAX - 1,
     .flags = CFG_F_HIDDEN,
     AT(guest_cfg, file),
     .doc = "File the guest was read from."},
    {.scope = CFG_GUEST,
     .name = "line",
     .type = CFG_T_INT,
     .max = INT_MAX,
     .flags = CFG_F_HIDDEN,
     AT(guest_cfg, line),
     .doc = "Line the guest was read from."},

    /* ---- an entry of disks ---- */
    {.scope = CFG_DISK,
     .name = "path",
     .type = CFG_T_PATH,
     .min = 1,
     .max = PATH_MAX - 1,
     .flags = CFG_F_REQUIRED | CFG_F_SUBST,
     AT(disk_cfg, path),
     .doc = "Raw image or block device."},
    {.scope = CFG_DISK,
     .name = "readonly",
     .type = CFG_T_BOOL,
     .def = "false",
     AT(disk_cfg, readonly),
     .doc = "Refuses writes; only read-only disks may be in several guests."},
    {.scope = CFG_DISK,
     .name = "queues",
     .type = CFG_T_INT,
     .min = 1,
     .max = 16,
     .def = "1",
     AT(disk_cfg, queues),
     .doc = "Number of request queues."},
    {.scope = CFG_DISK,
     .name = "serial",
     .type = CFG_T_STRING,
     .min = 1,
     .max = 20,
     .valid = valid_text,
     .flags = CFG_F_SUBST,
     AT(disk_cfg, serial),
     .doc = "Identity shown to the guest (/dev/disk/by-id/virtio-...)."},

    /* ---- an entry of nets ---- */
    {.scope = CFG_NET,
     .name = "type",
     .type = CFG_T_ENUM,
     .names = net_names,
     .def = "subnet",
     AT(net_cfg, type),
     .doc =
         "\"subnet\": the virtual subnet of the monitor's guests; \"tap\": a tap device of the "
         "host; \"user\": user-mode network with NAT."},
    {.scope = CFG_NET,
     .name = "tap",
     .type = CFG_T_STRING,
     .min = 1,
     .max = 15,
     .valid = valid_tap,
     .flags = CFG_F_SUBST,
     AT(net_cfg, tap),
     .doc = "Name of the tap device to make; required by type \"tap\", wrong with others."},
    {.scope = CFG_NET,
     .name = "mac",
     .type = CFG_T_STRING,
     .min = 1,
     .max = 17,
     .valid = valid_mac,
     .flags = CFG_F_SUBST,
     AT(net_cfg, mac),
     .doc = "Hardware address; when absent derived from the names of site and guest."},
    {.scope = CFG_NET,
     .name = "hostfwd",
     .type = CFG_T_STRING,
     .min = 1,
     .max = 1023,
     .valid = valid_hostfwd,
     .flags = CFG_F_SUBST,
     AT(net_cfg, hostfwd),
     .doc = "Ports of the host passed to the guest, PROTO:[HOSTADDR]:PORT-[GUESTADDR]:PORT, "
            "several by comma; type \"user\" only."},

    /* ---- a console group ---- */
    {.scope = CFG_CONSOLE,
     .name = "type",
     .type = CFG_T_ENUM,
     .names = console_names,
     .def = "monitor",
     AT(console_cfg, type),
     .doc =
         "\"monitor\": kept for `disco console` (in `disco run`: the terminal); \"file\" and "
         "\"socket\" need a path."},
    {.scope = CFG_CONSOLE,
     .name = "path",
     .type = CFG_T_PATH,
     .min = 1,
     .max = PATH_MAX - 1,
     .flags = CFG_F_SUBST,
     AT(console_cfg, path),
     .doc = "File to append to, or Unix socket to listen on."},
};

_Static_assert(ARRAY_SIZE(table) <= CFG_MAX_KEYS, "CFG_MAX_KEYS is too small");

const struct cfg_key *schema_next(enum cfg_scope scope, const struct cfg_key *prev)
{
    for (const struct cfg_key *k = prev ? prev + 1 : table; k < table + ARRAY_SIZE(table);
         k++) {
        if (k->scope == scope)
            return k;
    }
    return NULL;
}

const struct cfg_key *schema_find(enum cfg_scope scope, const char *name)
{
    const struct cfg_key *k = NULL;

    while ((k = schema_next(scope, k))) {
        if (!strcmp(k->name, name))
            return k;
    }
    return NULL;
}

const struct cfg_key *schema_nearest(enum cfg_scope scope, const char *name)
{
    const struct cfg_key *k = NULL, *best = NULL;
    unsigned least = NEAR + 1, d;

    while ((k = schema_next(scope, k))) {
        if (k->flags & CFG_F_HIDDEN)
            continue;
        d = valid_distance(name, k->name);
        /* A suggestion that shares no letter with what was written helps nobody. */
        if (d > NEAR || d >= strlen(k->name) || d >= strlen(name))
            continue;
        /* Of two equally near, the one of the same length: letters change places often. */
        if (d < least || (d == least && strlen(k->name) == strlen(name))) {
            least = d;
            best = k;
        }
    }
    return best;
}

unsigned schema_index(const struct cfg_key *key)
{
    return (unsigned)(key - table);
}

const char *config_policy_name(const struct guest_cfg *g)
{
    return policy_names[g->policy];
}

const char *config_sampling_name(const struct guest_cfg *g)
{
    return sampling_names[g->sampling];
}

const char *config_check_name(const struct guest_cfg *g)
{
    return check_names[g->sampling_check];
}
