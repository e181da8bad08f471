/* What to call: HELLO, CALL and PASS. */

#ifndef REQUEST_H
#define REQUEST_H

#include "channel.h"
#include "options.h"

struct request {
    const char *path; /* of the service's socket */
    const char *command;
    char **arguments;
    struct list variables; /* NAME or NAME=VALUE */
    const char *directory; /* the working directory wanted, absolute; or empty */
    double timeout, connect_timeout; /* seconds, or 0 */
    bool no_queue;
    bool has_terminal; /* the command runs in a terminal, see terminal.h */
    const char *detach; /* the id of a call that outlives this process, perhaps empty; NULL for another call */
    enum mode modes[3];
    int passed[3]; /* the descriptor of a stream that is passed */
};

/* Send HELLO and CALL and, if any stream is passed, behind them PASS with its descriptors. A CALL that is too long is not
 * sent, and a failure. */
bool send_request(struct channel *channel, const struct request *request);

/* Send HELLO alone; it needs terminals of the server if the call that follows has one. */
void put_hello(struct channel *channel, bool has_terminal);

#endif
