/* Theory of operation. The command has a terminal of its own, on the server. So the one here passes every key on as it
 * is typed, and shows what comes without changing it, from STARTED until the call has ended. Nothing of this runs in a
 * call without `-t`. */

#define _GNU_SOURCE

#include "terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* Save the cursor, leave the alternate screen; reset cursor keys, mouse, focus and paste modes; wrap lines, show the
 * cursor; reset the keypad and colours. Where the alternate screen is not used, leaving it restores the saved cursor.
 * Source: XTerm Control Sequences. */
static const char RESET[] = "\0337\033[?1049l\033[?1;1000;1002;1003;1004;1006;2004l\033[?7;25h\033>\033[0m";

enum { MAX_TERM = 64 };

static struct {
    int fd;
    bool is_raw, was_raw;
    struct termios before;
} terminal = {.fd = -1};

bool open_terminal(void)
{
    terminal.fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    return terminal.fd >= 0;
}

void get_terminal_size(uint16_t *rows, uint16_t *columns)
{
    struct winsize size = {0};
    ioctl(terminal.fd, TIOCGWINSZ, &size);
    *rows = size.ws_row;
    *columns = size.ws_col;
}

const char *terminal_type(void)
{
    static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-";
    const char *name = getenv("TERM");
    size_t length = name != NULL ? strspn(name, characters) : 0;
    return length > 0 && length <= MAX_TERM && name[length] == '\0' ? name : NULL;
}

static bool is_of_another_job(void)
{
    pid_t group = tcgetpgrp(terminal.fd);
    return group >= 0 && group != getpgrp(); /* -1: it is not the controlling terminal, so it has no jobs of ours */
}

void make_terminal_raw(void)
{
    if (!terminal.is_raw && tcgetattr(terminal.fd, &terminal.before) != 0)
        return;
    struct termios raw = terminal.before;
    cfmakeraw(&raw);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    terminal.is_raw = terminal.was_raw = true;
    tcsetattr(terminal.fd, TCSANOW, &raw);
}

bool is_terminal_raw(void)
{
    return terminal.is_raw;
}

void restore_terminal(void)
{
    sigset_t set, before;
    if (!terminal.is_raw)
        return;
    terminal.is_raw = false;
    sigemptyset(&set);
    sigaddset(&set, SIGTTOU);
    sigprocmask(SIG_BLOCK, &set, &before);
    if (!is_of_another_job())
        tcsetattr(terminal.fd, TCSANOW, &terminal.before);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

void reset_terminal(void)
{
    struct pollfd polled = {terminal.fd, POLLOUT, 0};
    const char *type = terminal_type();
    if (!terminal.was_raw || type == NULL || strcmp(type, "dumb") == 0 || is_of_another_job())
        return;
    if (poll(&polled, 1, 0) == 1 && write(terminal.fd, RESET, sizeof RESET - 1) < 0)
        return; /* it is open for reading alone, or has hung up */
}
