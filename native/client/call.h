/* One call, made and seen through to its outcome. */

#ifndef CALL_H
#define CALL_H

#include "outcome.h"
#include "relay.h"
#include "request.h"

struct call {
    struct request request;
    const char *name; /* that the service was called by */
    bool relays_all;  /* every stream, passes none */
    bool no_stdin;
    bool quiet, verbose;
    mode_t types[3]; /* of stdin, stdout and stderr */
    int interrupts;
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

/* The parts of it, for whoever brings a connection along. */
void begin_attempt(struct call *call, int sock, bool relays_all);
void take_messages(struct call *call);
bool has_ended(const struct call *call);

#endif
