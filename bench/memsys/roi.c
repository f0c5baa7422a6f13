/* SPDX-License-Identifier: MIT */
/*
 * roi: commands the memory-system model from a shell, in the emulated machine or in a guest of it.
 * Static, so that it runs in any guest; without the model it does nothing.
 *
 * Use:  roi on|off|zero|empty|check|flush      roi mark N      roi tag N [CPU]
 *       roi run COMMAND...    counters to zero and model on, COMMAND, model off; COMMAND's status
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/memsys/roi.h"

/* The commands that take a number need an instruction for each. */
static void numbered(int command, unsigned long n)
{
#define CASE(i)                 \
    case i:                     \
        if (command == ROI_TAG) \
            ROI(ROI_TAG, i);    \
        else                    \
            ROI(ROI_MARK, i);   \
        break
    switch (n) {
        CASE(0);
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
        CASE(7);
    }
#undef CASE
}

/* Everything without a number. 0, or -1: no such command. */
static int plain(const char *name)
{
    if (!strcmp(name, "on"))
        ROI(ROI_ON, 0);
    else if (!strcmp(name, "off"))
        ROI(ROI_OFF, 0);
    else if (!strcmp(name, "zero"))
        ROI(ROI_ZERO, 0);
    else if (!strcmp(name, "empty"))
        ROI(ROI_EMPTY, 0);
    else if (!strcmp(name, "check"))
        ROI(ROI_CHECK, 0);
    else if (!strcmp(name, "flush"))
        ROI(ROI_FLUSH, 0);
    else
        return -1;
    return 0;
}

/* Runs a command as the region of interest. */
static int run(char **argv)
{
    int status;
    pid_t pid;

    ROI(ROI_ZERO, 0);
    ROI(ROI_ON, 0);
    pid = fork();
    if (!pid) {
        execvp(argv[0], argv);
        fprintf(stderr, "roi: %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        perror("roi: fork");
        status = 1 << 8;
    }
    ROI(ROI_OFF, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Goes to a CPU. 0 or -1. */
static int go_to(unsigned long cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set);
}

int main(int argc, char **argv)
{
    unsigned long n;
    char *end;

    if (argc == 2 && !plain(argv[1]))
        return 0;
    if (argc > 2 && !strcmp(argv[1], "run"))
        return run(argv + 2);
    if ((argc == 3 || argc == 4) && (!strcmp(argv[1], "tag") || !strcmp(argv[1], "mark"))) {
        n = strtoul(argv[2], &end, 10);
        if (!*end && end != argv[2] && n < 8) {
            if (argc == 4 && go_to(strtoul(argv[3], NULL, 10))) {
                perror("roi: sched_setaffinity");
                return 1;
            }
            numbered(argv[1][0] == 't' ? ROI_TAG : ROI_MARK, n);
            return 0;
        }
    }
    fprintf(stderr, "usage: roi on|off|zero|empty|check|flush | mark 0-7 | tag 0-7 [CPU] | "
                    "run COMMAND...\n");
    return 2;
}
