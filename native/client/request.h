/* What is asked for, and how it is said: HELLO and CALL. */

#ifndef REQUEST_H
#define REQUEST_H

#include "channel.h"
#include "options.h"

struct request {
    const char *path; /* the service's socket */
    const char *command;
    char **arguments;
    struct list variables; /* NAME or NAME=VALUE */
    const char *directory; /* the working folder wanted, absolute; or empty */
    double timeout, wait;  /* seconds, or 0 */
    bool no_wait;
    enum mode modes[3];
};

/* Send HELLO and CALL in one write, with the first byte the descriptors that the channel is to pass. A CALL that is too
 * long is not sent, and a failure. */
bool send_request(struct channel *channel, const struct request *request);

#endif
