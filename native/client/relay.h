/* Streams: how each of stdin, stdout and stderr travels, and DATA, EOF, WINDOW and STOP of those that are relayed. */

#ifndef RELAY_H
#define RELAY_H

#include <sys/types.h>

#include "channel.h"
#include "request.h"

struct stream {
    enum mode mode;
    int fd;       /* a relayed stream's own descriptor, or -1 */
    int original; /* what it was made from, closed with it; or -1 */
    mode_t type;
    bool nonblocking; /* no read and no write can block */
    bool unread;      /* a read is to be tried before poll(2) is asked */
    bool ended;       /* EOF was received */
    bool ending;      /* to be closed once what is pending is written */
    bool lost;        /* bytes for it were dropped */
    int error;        /* why it broke off; EPIPE if its reader has closed it */
    uint32_t credit;  /* bytes that the sender can still send */
    uint32_t consumed;
    struct buffer pending;
};

struct relay {
    struct channel *channel;
    struct stream streams[3];
};

/* What an attempt does with streams: passes what can be passed, relays all, or relays where nothing can be passed. */
enum plan { PLAN_PASS, PLAN_RELAY, PLAN_BYTES_ONLY };

/* Record of what type stdin, stdout and stderr are, 0 for one that is closed; put /dev/null in its place, so that no
 * socket gets there. */
bool look_at_streams(mode_t *types);

/* Choose how each stream of a request travels. */
void choose_modes(struct request *request, const mode_t *types, bool no_stdin, enum plan plan);

/* Prepare the streams that are relayed; false, and a failure, if that cannot be. */
bool open_relay(struct relay *relay, struct channel *channel, const enum mode *modes, const mode_t *types);

void close_relay(struct relay *relay);

/* Return what to wait for on a stream; .fd is -1 for nothing. An output is watched even if nothing is to be written:
 * poll(2) reports that its reader has closed it. */
struct pollfd waiting_for(const struct relay *relay, int number);

/* Whether stdin is to be read without waiting. */
bool can_read_at_once(const struct relay *relay);

/* Read or write, or notice that the reader has closed it: poll(2) reported `events`. */
void move_stream(struct relay *relay, int number, short events);

/* Act on a DATA, EOF, WINDOW or STOP; one that breaks the protocol is a failure. */
void on_stream_message(struct relay *relay, const struct message *message);

/* Read no more, and close each output once all that came is written. */
void end_streams(struct relay *relay);

/* Give up on what is not written. */
void drop_pending(struct relay *relay);

bool is_writing(const struct relay *relay);

/* Leave stdin and stdout to the command: when it closes one, the other end has to see it. Those that are relayed are
 * closed when their stream ends. */
void let_go_of_streams(const struct relay *relay);

#endif
