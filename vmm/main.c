/* SPDX-License-Identifier: MIT */
/*
 * disco: the one table of subcommands, help, and the way into them.
 * Nothing is decided here; each command is one function in vmm/monitor/cmd_*.c.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/err.h"
#include "vmm/config/valid.h"
#include "vmm/monitor/commands.h"
#include "vmm/monitor/version.h"

static const struct command commands[];

/* The command of this name, or NULL. */
static const struct command *find(const char *name)
{
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

/* Says that there is no such command, and which one may have been meant. */
static int unknown(const char *name)
{
    const struct command *best = NULL;
    unsigned least = 4;

    for (const struct command *c = commands; c->name; c++) {
        unsigned d = valid_distance(name, c->name);

        if (c->summary && d < least) {
            least = d;
            best = c;
        }
    }
    fprintf(stderr, "disco: there is no command '%s'", name);
    if (best)
        fprintf(stderr, "; did you mean '%s'?", best->name);
    fputs(" (`disco --help` lists all)\n", stderr);
    return EXIT_USAGE;
}

/* `disco --help` */
static void help(FILE *f)
{
    fputs("disco runs unmodified Linux guests on NUMA machines.\n\n"
          "Usage: disco COMMAND [ARGUMENTS]\n\nCommands:\n",
          f);
    for (const struct command *c = commands; c->name; c++)
        if (c->summary)
            fprintf(f, "  %-8s  %s\n", c->name, c->summary);
    fputs(
        "\n`disco COMMAND --help` tells more of one, `man disco` of all.\n"
        "Exit status: 0 every guest ended as asked, 1 a guest failed, 2 wrong usage, 3 wrong\n"
        "configuration, 4 kernel, 5 disk, tap or other file, 6 memory, 7 no KVM, 8 no "
        "permission,\n"
        "9 this KVM emulates kernels, 10 name or socket taken, 11 no monitor, 12 internal.\n",
        f);
}

/* `disco COMMAND --help` */
static void help_command(const struct command *c)
{
    printf("Usage: disco %s%s%s\n\n%s.\n", c->name, c->args[0] ? " " : "", c->args,
           c->summary ? c->summary : "Used by the monitor only");
    if (c->help[0])
        printf("\n%s", c->help);
}

/* True when one of the arguments, up to a "--", asks for help. */
static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

/* Takes all the descriptors this user may have: a vCPU needs one in each view, a monitor a few for
 * each guest, and shells start with 1024. */
static void take_files(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur == files.rlim_max)
        return;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

int main(int argc, char **argv)
{
    const struct command *c;

    mallopt(M_ARENA_MAX, 1); /* threads allocate next to nothing: no pool of memory for each */
    take_files();

    if (argc < 2) {
        help(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        puts("disco " DISCO_VERSION);
        return EXIT_OK;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        c = argc > 2 ? find(argv[2]) : NULL;
        if (argc > 2 && !c)
            return unknown(argv[2]);
        if (c)
            help_command(c);
        else
            help(stdout);
        return EXIT_OK;
    }
    c = find(argv[1]);
    if (!c)
        return unknown(argv[1]);
    if (wants_help(argc - 1, argv + 1)) {
        help_command(c);
        return EXIT_OK;
    }
    return c->run(argc - 1, argv + 1);
}

#define SITE_HELP                                                               \
    "  -s, --socket PATH  the monitor's control socket\n"                       \
    "      --site NAME    the site's name, for the socket at its usual place\n" \
    "                     (default: the only monitor that runs)\n"

/* All commands, in the order of the help. */
static const struct command commands[] = {
    {"run", "FILE [--json]", "Run one guest in the foreground, without a monitor",
     "  --json         print all figures as one line of JSON when the guest has ended\n"
     "  -v, --verbose  log more\n\n"
     "A console of type stdio or monitor is the terminal: ctrl-a x ends the guest.\n"
     "The exit status is 0 when the guest switched itself off, 1 when it failed or was ended,\n"
     "or what the guest's debug exit says.\n",
     cmd_run},
    {"up", "FILE [--detach] [OPTIONS]", "Start all guests of a site, and the monitor over them",
     "  -d, --detach       go on in the background once all guests run\n"
     "      --result FILE  write how each guest ended, as JSON\n"
     "      --svg FILE     write a picture of the machine and who is where\n"
     "  -s, --socket PATH  control socket instead of the site's own\n"
     "      --site NAME    name of the site instead of its own\n"
     "      --start-limit TIME  give up a start without progress after it (default 60)\n"
     "  -q, --quiet        no progress\n"
     "  -v, --verbose      log more\n\n"
     "Ends when all guests have ended.  ctrl-c presses every guest's power button, ctrl-c "
     "once\n"
     "more ends them all at once.\n",
     cmd_up},
    {"down", "[--timeout TIME | --now]", "End all guests of a site, and its monitor",
     "  --timeout SECONDS  after the power button, end those that still run (default 30)\n"
     "  --now              end all at once\n" SITE_HELP,
     cmd_down},
    {"ps", "[--json]", "Show the guests of a site", "  --json  as JSON\n" SITE_HELP, cmd_ps},
    {"stat", "GUEST [--pages] [--json]", "Show all figures of one guest",
     "  --pages  where its pages are, what was done to them, and what that cost\n"
     "  --json   as JSON\n" SITE_HELP,
     cmd_stat},
    {"heatmap", "GUEST [-o FILE.svg] [--json]", "Draw a guest's memory and who uses it",
     "  -o, --output FILE  write the picture (SVG) there instead of standard output\n"
     "      --json         print the figures behind it instead; with -o both\n" SITE_HELP,
     cmd_heatmap},
    {"console", "GUEST", "Use a guest's console",
     "  --virtio  the virtio console instead of the serial one\n" SITE_HELP
     "\nShows the last output, then what comes.  ctrl-a d leaves, ctrl-a ctrl-a sends "
     "ctrl-a.\n",
     cmd_console},
    {"stop", "GUEST [--timeout SECONDS]", "Press a guest's power button and wait for its end",
     "  --timeout SECONDS  end the guest if it still runs then (default: never)\n" SITE_HELP,
     cmd_stop},
    {"kill", "GUEST", "End a guest at once", SITE_HELP, cmd_kill},
    {"pause", "GUEST", "Let a guest's clock and CPUs stand still", SITE_HELP, cmd_pause},
    {"resume", "GUEST", "Let a paused guest go on", SITE_HELP, cmd_resume},
    {"balloon", "GUEST SIZE", "Ask a guest to give back memory",
     "SIZE is what the guest is to give back in all, with a unit: 512M, 2G; 0 gives it all "
     "its\nmemory again.\n" SITE_HELP,
     cmd_balloon},
    {"rehome", "GUEST FROM TO",
     "Move a guest from one node of the host to another, memory and all",
     "  --now   do not wait until its memory is there; `disco stat` tells how far it "
     "is\n" SITE_HELP,
     cmd_rehome},
    {"move", "GUEST VCPU VIEW", "Move a virtual CPU to another of its guest's views", SITE_HELP,
     cmd_move},
    {"wait", "[GUEST] [--timeout SECONDS]", "Wait until a guest, or all, have ended",
     "  --timeout SECONDS  give up then (default: never)\n" SITE_HELP, cmd_wait},
    {"check", "FILE... | --schema", "Check configuration files without starting anything",
     "  --json           say what is wrong as JSON\n"
     "  --no-files       do not look for the kernels and disks that guests name\n"
     "  --schema[=KIND]  print all keys instead: text, json or man\n",
     cmd_check},
    {"topo", "[FILE] [OPTIONS]", "Show the machine, and where a site's guests would go",
     "  --synthetic TEXT  a machine that is not this one: \"nodes=4,cpus=2,mem=1G,dist=20\", "
     "or\n"
     "                    hwloc's own way to describe one\n"
     "  --svg FILE        draw it\n"
     "  --json            print it as JSON\n",
     cmd_topo},
    {"replay", "TRACE | --synthetic SPEC [OPTIONS]",
     "Run the placement policies on a trace or a made-up workload",
     "  --policy NAME     replicate (default), migrate, first-touch, interleave, none, "
     "carrefour,\n"
     "                    or all\n"
     "  --machine M       flash (default), epyc2s, xeon4s, xeon8s, big64, or\n"
     "                    "
     "\"nodes=4,cpus=8,local=300,remote=900[,near=130,group=2][,mem=64G]\"\n"
     "  --synthetic SPEC  private, read, write, ping, phases, mostly, tables, compile, scan, "
     "mix,\n"
     "                    mix4, huge, or "
     "\"mem=1G,intervals=100+private=4096,rate=400+read=512\"\n"
     "  --source S        what the policy sees: flash (every miss, default) or faults "
     "(samples)\n"
     "  --set NAME=VALUE  a threshold or limit of the policy; docs/policies.md lists them\n"
     "  --guest TAG       of a trace: one guest's records only\n"
     "  --loss            say where the first policy loses, by class of pages and by cause\n"
     "  --group N         of a trace: so many of its intervals become one\n"
     "  --json            print it as JSON\n",
     cmd_replay},
    {"doctor", "[--json]", "Tell what this host lacks, and what mends it",
     "  --json  as JSON\n\nThe exit status is 0 when guests can run.\n", cmd_doctor},
    {"cell", "NAME", NULL, "", cmd_cell},
    {0},
};
