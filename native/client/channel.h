/* The connection: frames on their way out, descriptors with PASS; and received messages, one at a time. */

#ifndef CHANNEL_H
#define CHANNEL_H

#include "wire.h"

struct buffer {
    uint8_t *bytes;
    size_t size, start, end;
};

struct channel {
    int sock;
    enum state state; /* the server's */
    bool broken;      /* nothing can be sent any more; what was sent to us still counts */
    bool has_ended;   /* nothing more will come */
    bool closes;      /* the sending side is shut down once all is sent */
    int passed[3];    /* descriptors that go with PASS */
    size_t passed_count;
    size_t before_pass; /* bytes that are to be sent before it, without them */
    bool descriptors_lost; /* they do not get through: the kernel refuses them, or the service misses them */
    size_t to_skip;        /* bytes of a long CALLS that nobody asked for: the one frame that is not kept as a whole */
    struct buffer incoming, outgoing;
};

/* A message of the server. It lies in the buffer, until more is received. */
struct message {
    int type;
    const uint8_t *payload;
    size_t length;
};

size_t filled(const struct buffer *buffer);

/* Return where `size` more bytes can be put, or NULL if there is no room. */
uint8_t *make_room(struct buffer *buffer, size_t size);

void drop(struct buffer *buffer, size_t size);

void close_once(int *fd);

/* Begin to talk over a connected socket, which the channel owns. */
void open_channel(struct channel *channel, int sock);

/* Send what the socket takes of what is pending. */
void send_pending(struct channel *channel);

/* Send `size` bytes that have been put where `make_room` said, after all that came before. */
void send_bytes(struct channel *channel, size_t size);

/* Send a frame about a stream, or a signal; and perhaps a credit. */
void send_small(struct channel *channel, int type, uint8_t first, const uint32_t *credit);

/* Send the size of the terminal. */
void send_size(struct channel *channel, uint16_t rows, uint16_t columns);

/* Send no more than what is pending. */
void close_sending(struct channel *channel);

/* Receive what there is. */
void receive(struct channel *channel);

/* Take the next message: false if it has not come as a whole, or is none, which is a failure. */
bool next_message(struct channel *channel, struct message *message);

#endif
