#define _GNU_SOURCE

#include "signals.h"

#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "../tables.h"

static struct {
    int fd;
    sigset_t signals;
} watched = {.fd = -1};

void hold_back_write_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    sigaddset(&set, SIGXFSZ);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

/* A signal that was blocked by whoever started this process stays so. */
bool watch_signals(bool has_terminal)
{
    sigset_t before;
    sigemptyset(&watched.signals);
    for (size_t i = 0; i < sizeof FORWARDED_SIGNALS / sizeof *FORWARDED_SIGNALS; i++)
        sigaddset(&watched.signals, FORWARDED_SIGNALS[i]);
    if (has_terminal)
        sigaddset(&watched.signals, SIGWINCH);
    sigprocmask(SIG_BLOCK, &watched.signals, &before);
    for (size_t i = 0; i < sizeof FORWARDED_SIGNALS / sizeof *FORWARDED_SIGNALS; i++)
        if (sigismember(&before, FORWARDED_SIGNALS[i]))
            sigdelset(&watched.signals, FORWARDED_SIGNALS[i]);
    watched.fd = signalfd(-1, &watched.signals, SFD_NONBLOCK | SFD_CLOEXEC);
    return watched.fd >= 0;
}

bool is_ending(int number)
{
    for (size_t i = 0; i < sizeof ENDING_SIGNALS / sizeof *ENDING_SIGNALS; i++)
        if (ENDING_SIGNALS[i] == number)
            return true;
    return false;
}

int signal_descriptor(void)
{
    return watched.fd;
}

/* A signal that is ignored stays ignored: nohup(1), and a shell's `&`, mean it. A blocked one arrives all the same. */
int next_signal(void)
{
    struct signalfd_siginfo info;
    struct sigaction action;
    if (read(watched.fd, &info, sizeof info) != sizeof info)
        return 0;
    int number = (int)info.ssi_signo;
    sigaction(number, NULL, &action);
    return action.sa_handler == SIG_IGN ? 0 : number;
}

void unwatch_signals(void)
{
    if (watched.fd < 0)
        return;
    sigprocmask(SIG_UNBLOCK, &watched.signals, NULL);
    close(watched.fd);
    watched.fd = -1;
}

int kill_self(int number)
{
    struct rlimit none = {0, 0};
    sigset_t set;
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* the limit alone does not bind a core_pattern that is a pipe: core(5) */
    signal(number, SIG_DFL);            /* KILL and STOP have no other action; libc keeps some for itself */
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    kill(getpid(), number);
    return 128 + number;
}
