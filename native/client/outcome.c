#include "outcome.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"
#include "signals.h"

static const char *const NAMES[] = {"unknown",     OUTCOME_EXITED,        OUTCOME_SIGNALED, OUTCOME_TIMED_OUT,
                                    OUTCOME_OUTPUT_FAILED, OUTCOME_REFUSED, OUTCOME_LOST,
                                    OUTCOME_DETACHED};

static struct {
    char bytes[8 * CONTROL_LIMIT]; /* a call's id, six bytes for each of its own, and 2000 characters */
    size_t length;
} json;

void take_failure(struct outcome *outcome)
{
    if (outcome->kind != KIND_UNKNOWN)
        return;
    outcome->kind = failure.code == EXIT_LOST ? KIND_LOST : KIND_REFUSED;
    outcome->value = failure.code;
}

static bool is_own_end(const struct outcome *outcome)
{
    return outcome->kind == KIND_EXITED || outcome->kind == KIND_SIGNALED;
}

__attribute__((format(printf, 1, 2))) static void add(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int size = vsnprintf(json.bytes + json.length, sizeof json.bytes - json.length, format, values);
    va_end(values);
    json.length += (size_t)size;
}

/* Add a string as Python's json does: ASCII alone. */
static void add_string(const char *text, size_t length)
{
    static const char plain[] = "\"\\\b\f\n\r\t", escaped[] = "\"\\bfnrt";
    const uint8_t *at = (const uint8_t *)text, *end = at + length;
    add("\"");
    while (at < end) {
        uint32_t character = decode(&at, end);
        const char *found = character > 0 && character < 0x80 ? strchr(plain, (int)character) : NULL;
        if (found != NULL)
            add("\\%c", escaped[found - plain]);
        else if (character >= ' ' && character < 0x7f)
            add("%c", (int)character);
        else if (character < 0x10000)
            add("\\u%04x", (unsigned)character);
        else
            add("\\u%04x\\u%04x", (unsigned)(0xd7c0 + (character >> 10)), (unsigned)(0xdc00 | (character & 0x3ff)));
    }
    add("\"");
}

/* Add microseconds as seconds, in the fewest digits that mean the same number, as Python does. */
static void add_seconds(const char *name, uint64_t microseconds)
{
    double seconds = (double)microseconds / 1e6;
    char shortest[40];
    int digits = 0;
    do
        snprintf(shortest, sizeof shortest, "%.*e", digits, seconds);
    while (strtod(shortest, NULL) < seconds || strtod(shortest, NULL) > seconds ? ++digits < 17 : false);
    long exponent = strtol(strchr(shortest, 'e') + 1, NULL, 10);
    if (exponent < -4)
        add("\"%s\": %s, ", name, shortest);
    else
        add("\"%s\": %.*f, ", name, digits > exponent ? digits - (int)exponent : 1, seconds);
}

bool write_all(int fd, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = write(fd, at, length);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            at += written;
            length -= (size_t)written;
        }
    }
    return true;
}

static int exit_code(const struct outcome *outcome)
{
    if (outcome->kind == KIND_DETACHED)
        return 0;
    return is_own_end(outcome) ? outcome->value : failure.code != 0 ? failure.code : EXIT_BUG;
}

static void add_end(const struct outcome *outcome)
{
    add("{\"outcome\": \"%s\"", NAMES[outcome->kind]);
    if (outcome->kind == KIND_EXITED) {
        add(", \"code\": %d", outcome->value);
    } else if (outcome->kind == KIND_SIGNALED) {
        add(", \"signal\": %d, \"core_dumped\": %s", outcome->value, outcome->core_dumped ? "true" : "false");
    } else if (outcome->kind != KIND_DETACHED) {
        add(", \"exit_code\": %d, \"reason\": ", exit_code(outcome));
        add_string(failure.reason.text, failure.reason.length);
        add(", \"hint\": ");
        add_string(failure.hint.text, failure.hint.length);
    }
}

static void add_usage(const struct usage *usage)
{
    add(", \"usage\": {");
    add_seconds("queued", usage->queued_us);
    add_seconds("run", usage->run_us);
    add_seconds("user", usage->user_us);
    add_seconds("system", usage->system_us);
    add("\"max_rss\": %llu}", (unsigned long long)usage->max_rss);
}

bool write_outcome(int fd, const struct outcome *outcome, const char *call_id, size_t id_length)
{
    json.length = 0;
    add_end(outcome);
    if (id_length > 0) {
        add(", \"call\": ");
        add_string(call_id, id_length);
    }
    if (outcome->stopped != NULL)
        add(", \"stopped\": \"%s\"", outcome->stopped);
    if (outcome->terminated > 0)
        add(", \"terminated\": %llu", (unsigned long long)outcome->terminated);
    if (outcome->has_started)
        add_usage(&outcome->usage);
    add("}\n");
    return write_all(fd, json.bytes, json.length);
}

void print_outcome(const struct outcome *outcome)
{
    const char *kind = NAMES[outcome->kind];
    if (outcome->has_started)
        say("%s %d, ran %.3f s after %.3f s in the queue", kind, outcome->value, (double)outcome->usage.run_us / 1e6,
            (double)outcome->usage.queued_us / 1e6);
    else
        say("%s %d", kind, outcome->value);
}

int end_as(const struct outcome *outcome)
{
    return outcome->kind == KIND_SIGNALED ? kill_self(outcome->value) : exit_code(outcome);
}
