/* Streams: how each of stdin, stdout and stderr travels, and DATA, EOF, WINDOW and STOP of those that are relayed. */

#ifndef RELAY_H
#define RELAY_H

#include <sys/types.h>

#include "channel.h"

struct stream {
    enum mode mode;
    int fd;           /* a relayed stream's own descriptor, or -1 */
    bool is_terminal;
    bool nonblocking; /* no write can block */
    bool ended;       /* EOF was received */
    bool ending;      /* to be closed once what is pending is written */
    int error;        /* why some of it is lost */
    uint32_t credit;  /* bytes that the sender may still send */
    uint32_t consumed;
    struct buffer pending;
};

struct relay {
    struct channel *channel;
    struct stream streams[3];
};

/* Note of what type stdin, stdout and stderr are, 0 for one that is closed; put /dev/null into its place, so that no
 * socket of ours gets there. */
bool look_at_streams(mode_t *types);

/* Return how a stream travels. */
enum mode mode_of(int fd, mode_t type, bool relay);

/* Prepare the streams that are relayed; false, and a failure, if that cannot be. */
bool open_relay(struct relay *relay, struct channel *channel, const enum mode *modes, const mode_t *types);

void close_relay(struct relay *relay);

/* Return where to wait until stdin can be read, or what is pending for stdout or stderr can be written; -1 for no need
 * to. */
int waiting_for(const struct relay *relay, int number);

/* Read or write once: it can be done without blocking. */
void move_stream(struct relay *relay, int number);

/* Act on a DATA, EOF, WINDOW or STOP; one that breaks the protocol is a failure. */
void on_stream_message(struct relay *relay, const struct message *message);

/* Read no more, and close what is written to once all that came is written. */
void end_streams(struct relay *relay);

bool is_writing(const struct relay *relay);

/* Leave stdin and stdout to the command: when it closes one, the other end has to see it. */
void let_go_of_streams(void);

#endif
