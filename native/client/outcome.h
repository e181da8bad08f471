/* How a call ended, and what the client does about it: outcome.py. */

#ifndef OUTCOME_H
#define OUTCOME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Nothing that was forgotten can be taken for a success: that is not 0. */
enum kind {
    KIND_UNKNOWN,
    KIND_EXITED,
    KIND_SIGNALED,
    KIND_TIMED_OUT,
    KIND_OUTPUT_FAILED,
    KIND_REFUSED,
    KIND_LOST,
    KIND_DETACHED, /* the command has been started, and its end is not waited for */
};

struct usage {
    uint64_t queued_us, run_us, user_us, system_us, max_rss;
};

/* The reason of an end that is not the command's own is the failure. */
struct outcome {
    enum kind kind;
    int value; /* the exit code of a command, the signal that killed it, or the code of a refusal */
    bool core_dumped;
    bool has_started; /* there is a call id, and perhaps usage */
    const char *stopped; /* who stopped the call, or NULL */
    uint64_t terminated; /* background processes */
    struct usage usage;
};

/* Make the failure the outcome of a call that has none. */
void take_failure(struct outcome *outcome);

/* Write an outcome to a descriptor as one line of JSON: only the fields that mean something. False: see errno. */
bool write_outcome(int fd, const struct outcome *outcome, const char *call_id, size_t id_length);

/* Print an outcome on stderr. */
void print_outcome(const struct outcome *outcome);

/* End as the outcome is: return the code to exit with, or die of a signal. */
int end_as(const struct outcome *outcome);

/* Write all bytes, however long that takes; false: see errno. */
bool write_all(int fd, const void *bytes, size_t length);

#endif
