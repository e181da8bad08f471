/* An end that is not the command's own: its code, one sentence, a hint. One process makes one call: there is one. */

#ifndef FAILURE_H
#define FAILURE_H

#include "../tables.h"
#include "text.h"

/* What has failed; nothing while `code` is 0. */
struct failure {
    int code;
    struct line reason, hint;
};

extern struct failure failure;

/* Note what has failed; return false, so that whoever sees that only has to return. */
__attribute__((format(printf, 2, 3))) bool fail(int code, const char *format, ...);

/* Note a failure with the wording of the server. */
void fail_as_told(int code, const void *reason, size_t reason_length, const void *hint, size_t hint_length);

/* Note what can be done about it; return false. */
__attribute__((format(printf, 1, 2))) bool hint(const char *format, ...);

/* Note that this process cannot go on, for want of a descriptor, say; nothing has been asked for yet. Return false. */
bool fail_short(int error);

void forget_failure(void);

/* Note which service is called: see `complete_failure`. */
void name_service(const char *name);

/* End the hint of a failure to reach the service, or of its refusal, with how to find the cause; once. */
void complete_failure(void);

/* Write one line to stderr, `sidecall: ...`; it is dropped while stderr takes nothing: no call waits for its reader. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* Print what has failed, with its hint; return its code. */
int print_failure(void);

/* Print a line, and a hint that can be empty, with the wording of the server. */
void print_notice(const void *text, size_t length, const void *hint, size_t hint_length);

#endif
