/* SPDX-License-Identifier: MIT */
/*
 * Errors of host set-up: one message, one exit status, carried up to whoever prints it.
 *
 * A function that can fail for a reason outside the program takes a `struct err *` last,
 * returns 0 or -errno and composes its one message with fail().  The message names the file,
 * line, key or system call at fault and says what would be right.  Nobody prints on the way.
 * A broken invariant is not an error: INVARIANT() aborts, in every build.
 */
#ifndef DISCO_BASE_ERR_H
#define DISCO_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

/* Exit statuses of the program, also documented in the man page.  Stable: scripts test them. */
enum exit_status {
    EXIT_OK = 0,     /* every guest ended as asked */
    EXIT_GUEST = 1,  /* a guest failed: crashed, was killed, or asked for failure */
    EXIT_USAGE = 2,  /* the command line is wrong */
    EXIT_CONFIG = 3, /* a configuration file is wrong: syntax, key, type, range, reference */
    EXIT_KERNEL = 4, /* a kernel or initrd cannot be booted */
    EXIT_RESOURCE =
        5,           /* a disk, tap, socket or file named by the configuration cannot be used */
    EXIT_MEMORY = 6, /* guest memory does not fit the nodes */
    EXIT_NOKVM = 7,  /* no /dev/kvm, or it lacks something needed */
    EXIT_PERMISSION = 8, /* /dev/kvm or another file may not be opened by this user */
    EXIT_EMULATED = 9,   /* this KVM emulates guest kernels: none would boot in useful time */
    EXIT_BUSY = 10,      /* another monitor has this socket, or a name is taken */
    EXIT_NOMONITOR = 11, /* no monitor answers on this socket */
    EXIT_INTERNAL = 12,  /* a system call failed that should not have */
};

/* The one message of a failed set-up.  Owned by the caller, zeroed before use. */
struct err {
    int status;      /* enum exit_status; 0 while nothing failed */
    char text[1024]; /* the message, no newline at its end */
};

/*
 * Composes err->text and returns -errnum (errnum > 0).  The first failure wins: a message that
 * stands already is kept, so that a caller may add its own without hiding the cause.
 * err may be NULL when nobody wants the message.
 */
int fail(struct err *err, enum exit_status status, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* As fail(), and ends the message with ": " and the text of errnum. */
int fail_errno(struct err *err, enum exit_status status, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "prefix: " before a message that stands; used to add a guest's or file's name. */
void err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prints what broke and where, then aborts.  Called by INVARIANT() only. */
_Noreturn void invariant_broken(const char *file, int line, const char *what);

/* Aborts the process when cond is false.  Stays in release builds. */
#define INVARIANT(cond, what)                           \
    do {                                                \
        if (__builtin_expect(!(cond), 0))               \
            invariant_broken(__FILE__, __LINE__, what); \
    } while (0)

/* calloc that aborts when the host has no memory left: used for small set-up objects. */
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));

/* strdup that aborts when the host has no memory left; NULL gives NULL. */
char *xstrdup(const char *s);

/* asprintf that aborts when the host has no memory left. */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

/* The same with the arguments in a list, which is used up. */
char *xvasprintf(const char *fmt, va_list ap)
    __attribute__((format(printf, 1, 0), returns_nonnull));

#endif
