/* SPDX-License-Identifier: MIT */
/*
 * Tests of base/signals.c: signals that end a program are read from the descriptor and do nothing
 * else, and a thread that has no part in them has all blocked while its maker's mask stays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/signals.h"

#include <cmocka.h> /* last: its macro fail() would spoil base/err.h */

static void descriptor(void **state)
{
    static const int all[] = {SIGHUP, SIGINT, SIGTERM};
    struct signalfd_siginfo si;
    int fd = signals_fd(NULL), pipe_fd[2];

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(read(fd, &si, sizeof(si)), -1); /* it does not wait */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(kill(getpid(), all[i]), 0);
        assert_int_equal(read(fd, &si, sizeof(si)), sizeof(si));
        assert_int_equal(si.ssi_signo, all[i]);
    }
    assert_int_equal(pipe(pipe_fd), 0);
    close(pipe_fd[0]);
    assert_int_equal(write(pipe_fd[1], "x", 1), -1); /* SIGPIPE does nothing */
    close(pipe_fd[1]);
    close(fd);
}

/* Gives its own mask back. */
static void *masked(void *arg)
{
    pthread_sigmask(SIG_SETMASK, NULL, arg);
    return NULL;
}

static void thread(void **state)
{
    sigset_t before, after, inside;
    pthread_t t;

    (void)state;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(signals_thread(&t, masked, &inside), 0);
    assert_int_equal(pthread_join(t, NULL), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int s = 1; s <= SIGSYS; s++) {
        assert_int_equal(sigismember(&before, s), sigismember(&after, s));
        if (s != SIGKILL && s != SIGSTOP)
            assert_true(sigismember(&inside, s));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(descriptor), cmocka_unit_test(thread)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
