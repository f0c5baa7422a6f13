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

int cmd_run(int argc, char **argv);     /* cmd_run.c: one guest in the foreground */
int cmd_cell(int argc, char **argv);    /* cmd_run.c: the process of one guest of a monitor */
int cmd_up(int argc, char **argv);      /* cmd_up.c: the monitor */
int cmd_down(int argc, char **argv);    /* cmd_ask.c: ends all guests */
int cmd_ps(int argc, char **argv);      /* cmd_ps.c: the table of guests */
int cmd_stat(int argc, char **argv);    /* cmd_stat.c: all figures of one guest */
int cmd_console(int argc, char **argv); /* cmd_console.c: a guest's console */
int cmd_stop(int argc, char **argv);    /* cmd_ask.c: presses a power button */
int cmd_kill(int argc, char **argv);    /* cmd_ask.c: ends a guest at once */
int cmd_pause(int argc, char **argv);   /* cmd_ask.c: stops a guest's vCPUs */
int cmd_resume(int argc, char **argv);  /* cmd_ask.c: lets them run again */
int cmd_balloon(int argc, char **argv); /* cmd_ask.c: asks for memory back */
int cmd_move(int argc, char **argv);    /* cmd_ask.c: moves a vCPU to a view */
int cmd_wait(int argc, char **argv);    /* cmd_ask.c: waits until guests have ended */
int cmd_check(int argc, char **argv);   /* cmd_check.c: checks configuration files */
int cmd_topo(int argc, char **argv);    /* cmd_topo.c: draws the machine */
int cmd_doctor(int argc, char **argv);  /* cmd_doctor.c: what this host lacks */

/* Prints "disco: <message>" on standard error and returns err->status. */
int cmd_fail(const struct err *err);

/* Prints "disco: NAME: <message>" and how to get help; returns EXIT_USAGE. */
int cmd_usage(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
