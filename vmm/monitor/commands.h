/* SPDX-License-Identifier: MIT */
/*
 * The subcommands of `disco`: what one is, and the functions behind them.  The one table that
 * lists them all is in vmm/main.c.  A command gets its own name as argv[0], parses the rest,
 * prints its errors itself (cmd_fail) and returns the exit status.  `--help` never reaches it.
 */
#ifndef DISCO_VMM_MONITOR_COMMANDS_H
#define DISCO_VMM_MONITOR_COMMANDS_H

#include <stdbool.h>

struct err;

/* One subcommand. */
struct command {
    const char *name;                  /* word on the command line */
    const char *args;                  /* arguments, for the usage line; "" if none */
    const char *summary;               /* one line for `disco --help`; NULL: not shown there */
    const char *help;                  /* more lines for `disco NAME --help`, "" if none */
    int (*run)(int argc, char **argv); /* does it; enum exit_status */
};

/* One guest in the foreground.  In cmd_run.c. */
int cmd_run(int argc, char **argv);
/* The process of one guest of a monitor.  In cmd_run.c. */
int cmd_cell(int argc, char **argv);
/* The monitor.  In cmd_up.c. */
int cmd_up(int argc, char **argv);
/* Ends all guests.  In cmd_ask.c. */
int cmd_down(int argc, char **argv);
/* The table of guests.  In cmd_ps.c. */
int cmd_ps(int argc, char **argv);
/* All figures of one guest.  In cmd_stat.c. */
int cmd_stat(int argc, char **argv);
/* A picture of one guest's memory.  In cmd_heatmap.c. */
int cmd_heatmap(int argc, char **argv);
/* A guest's console.  In cmd_console.c. */
int cmd_console(int argc, char **argv);
/* Presses a power button.  In cmd_ask.c. */
int cmd_stop(int argc, char **argv);
/* Ends a guest at once.  In cmd_ask.c. */
int cmd_kill(int argc, char **argv);
/* Stops a guest's vCPUs.  In cmd_ask.c. */
int cmd_pause(int argc, char **argv);
/* Lets them run again.  In cmd_ask.c. */
int cmd_resume(int argc, char **argv);
/* Asks for memory back.  In cmd_ask.c. */
int cmd_balloon(int argc, char **argv);
/* Moves a vCPU to a view.  In cmd_ask.c. */
int cmd_move(int argc, char **argv);
/* Moves a guest from one node of the host to another.  In cmd_rehome.c. */
int cmd_rehome(int argc, char **argv);
/* Waits until guests have ended.  In cmd_ask.c. */
int cmd_wait(int argc, char **argv);
/* Checks configuration files.  In cmd_check.c. */
int cmd_check(int argc, char **argv);
/* Draws the machine.  In cmd_topo.c. */
int cmd_topo(int argc, char **argv);
/* Placement policies on a trace or a made-up workload.  In cmd_replay.c. */
int cmd_replay(int argc, char **argv);
/* What this host lacks.  In cmd_doctor.c. */
int cmd_doctor(int argc, char **argv);

/* Prints "disco: <message>" on standard error and returns err->status. */
int cmd_fail(const struct err *err);

/* Prints "disco: NAME: <message>" and how to get help, on one line; returns EXIT_USAGE. */
int cmd_usage(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Says what is wrong with the option getopt_long() just looked at: letter is what it returned, ':'
 * or '?'.  The caller's list of short options begins with ':', so getopt itself is silent. */
int cmd_option(const char *name, int letter, char **argv);

#endif
