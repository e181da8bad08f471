/* One call, made and followed to its outcome. */

#ifndef CALL_H
#define CALL_H

#include "outcome.h"
#include "relay.h"
#include "request.h"

struct call {
    struct request request;
    const char *name; /* of the service, as it was given */
    bool relays_all;  /* every stream, passes none */
    bool no_stdin;
    bool quiet, verbose;
    mode_t types[3]; /* of stdin, stdout and stderr */
    int interrupts;  /* signals in a row that were to end the call */
    int64_t interrupted; /* when the last of them came, in milliseconds; 0 for never */
    int64_t deadline;    /* when the present wait ends, in milliseconds; 0 for never */
    int cancelled_by; /* the signal that cancelled the call while it was queued, or 0 */
    struct channel channel;
    struct relay relay;
    struct outcome outcome;
    const uint8_t *description; /* in place of an outcome, if that was asked for */
    size_t description_length;
    char *id;
    size_t id_length;
};

/* Whether the command is asked for its `--help`, which a DESCRIPTION answers. */
bool asks_for_description(const struct request *request);

/* Make the call. It has an outcome or a description then, or there is a failure. */
void make_call(struct call *call);

/* The parts of it, for a caller that has its own connection. */
void begin_attempt(struct call *call, int sock, enum plan plan);
void take_messages(struct call *call);
bool has_ended(const struct call *call);

#endif
