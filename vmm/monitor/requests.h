/* SPDX-License-Identifier: MIT */
/*
 * What clients ask of a monitor (docs/control.md): the table of commands, and those requests that
 * wait for a cell's answer or a guest's end.
 * Threads: all on the monitor's loop.
 */
#ifndef DISCO_VMM_MONITOR_REQUESTS_H
#define DISCO_VMM_MONITOR_REQUESTS_H

#include <stdint.h>

struct control_ops;
struct mguest;
struct monitor;
struct proto_msg;

/* What the control socket of a monitor does; the argument is the struct monitor. */
const struct control_ops *requests_control(void);

/* A cell answered. */
void requests_reply(struct monitor *m, struct mguest *g, const struct proto_msg *msg);

/* A guest ended: answers who waited for that. */
void requests_ended(struct monitor *m);

/* When requests_expire() has something to do next; 0: nothing. */
uint64_t requests_deadline(const struct monitor *m);

/* Answers those whose time is over. */
void requests_expire(struct monitor *m, uint64_t now);

/* Answers all that still wait: the site ended before it ran. */
void requests_fail(struct monitor *m);

/* Forgets all that wait. */
void requests_exit(struct monitor *m);

/* One guest as JSON, as `ps` shows it; a new reference. */
struct json_t *requests_guest_json(const struct mguest *g);

#endif
