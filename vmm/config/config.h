/* SPDX-License-Identifier: MIT */
/*
 * The configuration: what a site file says, parsed and checked, as plain structs.
 *
 * One table (schema.c) holds every key with type, unit, default, range and a sentence; parser,
 * checker, `disco check --schema`, serialiser and man page all come from it.
 * Threads: built by one thread, read-only afterwards.
 */
#ifndef DISCO_VMM_CONFIG_CONFIG_H
#define DISCO_VMM_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum {
    CFG_MAX_VCPUS = 1024,
    CFG_MAX_DISKS = 16,
    CFG_MAX_NETS = 8,
    CFG_MAX_NODES = 64,
    CFG_NODE_LAST = 1023, /* highest number of a host node */
    CFG_MAX_GUESTS = 1024,
    CFG_NAME_MAX = 32, /* of a guest, without the number that count adds */
};

enum cfg_boot { CFG_BOOT_AUTO, CFG_BOOT_LINUX, CFG_BOOT_PVH, CFG_BOOT_MULTIBOOT };
enum cfg_console {
    CFG_CON_NONE,
    CFG_CON_STDIO,
    CFG_CON_FILE,
    CFG_CON_SOCKET,
    CFG_CON_PTY,
    CFG_CON_MONITOR
};
enum cfg_net { CFG_NET_SUBNET, CFG_NET_TAP, CFG_NET_USER };
enum cfg_clock { CFG_CLOCK_TSC, CFG_CLOCK_KVM };
enum cfg_exit {
    CFG_EXIT_POWEROFF,
    CFG_EXIT_RESTART
}; /* what a guest's reset means: end, or boot again */

/* Which node a page is on while the guest runs; numa/policy.h has them by the same names. */
enum cfg_policy {
    CFG_POLICY_REPLICATE,
    CFG_POLICY_MIGRATE,
    CFG_POLICY_CARREFOUR,
    CFG_POLICY_FIRST_TOUCH,
    CFG_POLICY_INTERLEAVE,
    CFG_POLICY_NONE,
};

/* Where the policy learns who uses a page; vmm/pager/source.h has them by the same names. */
enum cfg_sampling {
    CFG_SAMPLING_FAULTS,
    CFG_SAMPLING_FLASH,
    CFG_SAMPLING_IBS,
    CFG_SAMPLING_PEBS,
};

/* What a policy's samples are held against. */
enum cfg_check {
    CFG_CHECK_NONE,
    CFG_CHECK_FLASH,
    CFG_CHECK_IBS,
    CFG_CHECK_PEBS,
};

/* Where a guest's memory lies among its nodes. */
enum cfg_place {
    CFG_PLACE_AUTO,        /* as the policy wants */
    CFG_PLACE_SPLIT,       /* divided by address: an even share bound to each node */
    CFG_PLACE_FIRST_TOUCH, /* a page goes to the node of who touches it first */
    CFG_PLACE_INTERLEAVE,  /* page by page over the nodes in turn */
    CFG_PLACE_ONE_NODE     /* all on the first node */
};

/* One block device. */
struct disk_cfg {
    char *path;      /* raw image, absolute once checked */
    bool readonly;   /* writes are refused */
    unsigned queues; /* request queues, 1..16 */
    char *serial;    /* identity string for the guest, at most 20 bytes; NULL: none */
};

/* One network card. */
struct net_cfg {
    enum cfg_net type; /* subnet, tap, user */
    char *tap;         /* name of the tap device to make; type tap */
    char *mac;         /* "52:54:00:.."; NULL: derived from the guest's name and index */
    char *hostfwd;     /* type user: "tcp:127.0.0.1:2222-:22", several by comma; NULL: none */
};

/* One console. */
struct console_cfg {
    enum cfg_console type; /* where the 16550's (or virtio console's) bytes go */
    char *path;            /* file or socket path for those types */
};

/* One guest. */
struct guest_cfg {
    char *name;                    /* unique in the site; letters, digits, - and _ */
    unsigned vcpus;                /* 1..CFG_MAX_VCPUS */
    uint64_t memory;               /* bytes, multiple of 2 MiB */
    bool hugetlb;                  /* `hugepages = "hugetlb"`; else "auto" */
    char *kernel;                  /* absolute path */
    char *initrd;                  /* absolute path or NULL */
    char *cmdline;                 /* never NULL */
    enum cfg_boot boot;            /* protocol; auto = by content */
    unsigned nnodes;               /* entries of nodes; 0: the placer chooses */
    int nodes[CFG_MAX_NODES];      /* host nodes this guest spans */
    enum cfg_place placement;      /* of memory among the nodes */
    enum cfg_policy policy;        /* which node a page is on, while the guest runs */
    enum cfg_sampling sampling;    /* where the policy learns who uses a page */
    unsigned sampling_share;       /* permille of its CPU time that this may take */
    enum cfg_check sampling_check; /* what tells how good it is */
    uint64_t policy_interval;      /* ns between two decisions */
    char *policy_set;              /* thresholds that differ, "trigger=4,cpu=50"; NULL: none */
    uint64_t page_check;           /* ns between two proofs of the page map; 0: none */
    unsigned views;                /* 0 = auto (one per node), else 1..64 */
    bool vnuma;                    /* guest sees nodes (SRAT, SLIT) */
    enum cfg_clock clock;          /* kvmclock needs one view */
    bool x2apic;                   /* offer x2APIC (default true; forced above 254 vCPUs) */
    bool pin;                      /* vCPU threads are bound to the CPUs of their node */
    unsigned ndisks;               /* entries of disks */
    struct disk_cfg disks[CFG_MAX_DISKS];
    unsigned nnets; /* entries of nets */
    struct net_cfg nets[CFG_MAX_NETS];
    struct console_cfg console;  /* COM1 */
    struct console_cfg vconsole; /* virtio console; CFG_CON_NONE: no device */
    bool rng;                    /* virtio entropy device (default true) */
    bool balloon;                /* virtio balloon (default true) */
    bool debug_exit;             /* isa-debug-exit at port 0xf4 */
    bool fwcfg;                  /* fw_cfg at 0x510 */
    enum cfg_exit
        on_reset; /* `on_reset = "restart" | "poweroff"` (default "poweroff" = the guest ends) */
    char *ready;  /* the guest is up when its console shows this text; NULL: unknown */
    unsigned weight; /* CPU share, 1..10000, for the scheduler to come */
    char *site;      /* name of the site it belongs to; part of what a derived mac comes from */
    char *file;      /* configuration file the guest came from */
    int line;        /* line of its group there */
};

/* A whole site. */
struct site_cfg {
    char *name;               /* default: base name of the file */
    char *socket;             /* control socket path; NULL: the default for this name */
    char *rundir;             /* where logs go; NULL: the default */
    char *subnet;             /* "10.0.0.0/24": told to user-mode networks only */
    unsigned nguests;         /* entries of guests */
    struct guest_cfg *guests; /* count expanded: web0, web1, ... */
};

/* Reads and checks one file (a site: `guests = (...)`, or a single guest: the keys of a guest at
 * top level).  Every error names file, line, key and what would be right. */
int config_load(struct site_cfg *site, const char *path, struct err *err);
void config_free(struct site_cfg *site);

/* Checks that the files guests name exist and are of the right kind, and that no two names lead to
 * one writable disk.  EXIT_KERNEL, EXIT_RESOURCE or EXIT_PERMISSION.  They may still vanish. */
int config_check_files(const struct site_cfg *site, struct err *err);

/* Control socket of a site that names none (malloc'd): /run/disco/NAME.sock for root, in
 * $XDG_RUNTIME_DIR/disco for others, in /tmp/disco-UID where that is unset. */
char *config_default_socket(const char *name);

/* Hardware address of a guest's card: as configured, else derived from site, guest and index
 * (always the same, locally administered, one station).  index < nnets. */
void config_mac(const struct guest_cfg *guest, unsigned index, uint8_t out[6]);

/* The names of a guest's policy and source of samples. */
const char *config_policy_name(const struct guest_cfg *g);
const char *config_sampling_name(const struct guest_cfg *g);
const char *config_check_name(const struct guest_cfg *g);

/* Where its memory is to lie: never CFG_PLACE_AUTO. */
enum cfg_place config_placement(const struct guest_cfg *g);

/* Writes one guest, resolved, in the same language (malloc'd); config_parse_guest reads it back,
 * all fields equal.  A guest is left zeroed when parsing fails. */
char *config_print_guest(const struct guest_cfg *g);
int config_parse_guest(struct guest_cfg *g, const char *text, struct err *err);
void config_free_guest(struct guest_cfg *g);

#endif
