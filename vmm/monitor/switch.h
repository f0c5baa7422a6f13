/* SPDX-License-Identifier: MIT */
/*
 * The virtual subnet: an Ethernet switch between the guests of one monitor.  A port is one end of
 * a SOCK_SEQPACKET pair; a frame is one message, a virtio_net_hdr_v1 before it.
 *
 * Runs on its own thread ("switch").  Nothing a guest sends can end it or hold it up: a frame for
 * a port whose socket is full is dropped and counted, tables and the work done for one port in a
 * turn are bounded, and an address stays with the port it was given to (vswitch_own), or else
 * that showed it first, until that port closes.
 */
#ifndef DISCO_VMM_MONITOR_SWITCH_H
#define DISCO_VMM_MONITOR_SWITCH_H

#include <stdint.h>

struct err;
struct vswitch;

/* Figures of one port, counted from the guest's side. */
struct vswitch_stats {
    uint64_t frames_in, bytes_in;   /* to the guest */
    uint64_t frames_out, bytes_out; /* from the guest */
    uint64_t dropped;               /* frames for the guest that found its socket full */
    uint64_t refused;               /* frames from the guest: malformed, or another's address */
};

/* Makes the switch and starts its thread; NULL with a message on failure. */
struct vswitch *vswitch_new(struct err *err);

/* Ends the thread and closes all ports. */
void vswitch_free(struct vswitch *s);

/* Adds a port.  *peer_fd is the guest's end, close-on-exec, the caller's.  The port goes away when
 * all copies of that end are closed.  Returns its number or -errno. Any thread. */
int vswitch_port(struct vswitch *s, const char *guest, int *peer_fd, struct err *err);

/* Gives an address to a port before its guest shows it: no other port can then use it, and one
 * that does already loses it.  0; -EEXIST: it was given to another port; -ENOSPC, -ENOENT (no
 * such port), -EINVAL (a group address).  Any thread. */
int vswitch_own(struct vswitch *s, int port, const uint8_t mac[6]);

/* Figures of a port; zeros when it is gone. Any thread. */
void vswitch_get(struct vswitch *s, int port, struct vswitch_stats *out);

#endif
