#include "failure.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "signals.h"
#include "terminal.h"

struct failure failure;

bool fail(int code, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    format_line(&failure.reason, format, values);
    va_end(values);
    failure.hint.length = 0;
    failure.code = code;
    return false;
}

void fail_as_told(int code, const void *reason, size_t reason_length, const void *hint_text, size_t hint_length)
{
    set_line(&failure.reason, reason, reason_length);
    set_line(&failure.hint, hint_text, hint_length);
    failure.code = code;
}

bool hint(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    format_line(&failure.hint, format, values);
    va_end(values);
    return false;
}

bool fail_short(int error)
{
    return fail(EXIT_UNAVAILABLE, NOTHING_STARTED_TEXT, error_text(error));
}

static const char *service;

void name_service(const char *name)
{
    service = name;
}

void complete_failure(void)
{
    if (service == NULL || (failure.code != EXIT_UNAVAILABLE && failure.code != EXIT_DENIED))
        return;
    struct line before = failure.hint;
    hint("%s%s" DOCTOR_TEXT, before.length > 0 ? before.text : "", before.length > 0 ? "; " : "", service);
    service = NULL;
}

void forget_failure(void)
{
    failure.code = 0;
}

/* In one write, so that lines of several callers do not mix. */
static void write_stderr(const char *before, const struct line *line)
{
    char text[LINE_SIZE + 32];
    int length = snprintf(text, sizeof text, "%s%s%s\n", before, line->text, is_terminal_raw() ? "\r" : "");
    if (write(STDERR_FILENO, text, (size_t)length) < 0)
        return; /* there is nobody to tell */
}

static bool is_writable(int fd)
{
    struct pollfd polled = {fd, POLLOUT, 0};
    return poll(&polled, 1, 0) == 1;
}

void say(const char *format, ...)
{
    struct line line;
    va_list values;
    va_start(values, format);
    format_line(&line, format, values);
    va_end(values);
    if (is_writable(STDERR_FILENO))
        write_stderr("sidecall: ", &line);
}

void print_notice(const void *text, size_t length, const void *hint_text, size_t hint_length)
{
    struct line line;
    set_line(&line, text, length);
    if (!is_writable(STDERR_FILENO))
        return;
    write_stderr("sidecall: ", &line);
    set_line(&line, hint_text, hint_length);
    if (line.length > 0)
        write_stderr("hint: ", &line);
}

int print_failure(void)
{
    complete_failure();
    hold_back_write_signals(); /* a closed stderr changes no exit code */
    write_stderr("sidecall: ", &failure.reason);
    if (failure.hint.length > 0)
        write_stderr("hint: ", &failure.hint);
    return failure.code;
}
