/* An end that is not the command's own: its code, one sentence, a hint. One process makes one call: there is one. */

#ifndef FAILURE_H
#define FAILURE_H

#include "text.h"

/* Exit codes that are not the command's own: errors.py. */
enum {
    EXIT_USAGE = 64,
    EXIT_UNAVAILABLE = 69,
    EXIT_BUG = 70,
    EXIT_UNPLACED = 73,
    EXIT_BUSY = 75,
    EXIT_PROTOCOL = 76,
    EXIT_DENIED = 77,
    EXIT_TIMED_OUT = 124,
    EXIT_LOST = 125,
    EXIT_CANNOT_EXECUTE = 126,
    EXIT_NO_SUCH_COMMAND = 127,
};

/* What has failed; nothing while `code` is 0. */
struct failure {
    int code;
    struct line reason, hint;
};

extern struct failure failure;

/* Note what has failed; return false, so that whoever sees that only has to return. */
__attribute__((format(printf, 2, 3))) bool fail(int code, const char *format, ...);

/* Note a failure in the words of somebody else. */
void fail_as_told(int code, const void *reason, size_t reason_length, const void *hint, size_t hint_length);

/* Note what can be done about it; return false. */
__attribute__((format(printf, 1, 2))) bool hint(const char *format, ...);

/* Note that this process cannot go on, for want of a descriptor, say; nothing has been asked for yet. Return false. */
bool fail_short(int error);

void forget_failure(void);

/* Write one line of ours to stderr. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* Say what has failed, even to nobody; return its code. */
int complain(void);

#endif
