#define _GNU_SOURCE

#include "channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "failure.h"

enum {
    RECEIVED_AT_ONCE = 256 << 10,
    SENT_AT_ONCE = 2 << 20,
    KEPT_FREE = 4 << 10, /* of signals, which can come without end: for the ends and windows of streams */
};

static uint8_t incoming_bytes[HEADER + DESCRIPTION_LIMIT + RECEIVED_AT_ONCE];
static uint8_t outgoing_bytes[CALL_LIMIT + CONTROL_LIMIT + SENT_AT_ONCE];

size_t filled(const struct buffer *buffer)
{
    return buffer->end - buffer->start;
}

uint8_t *make_room(struct buffer *buffer, size_t size)
{
    if (buffer->size - buffer->end < size && buffer->start > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->start, filled(buffer));
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    return buffer->size - buffer->end < size ? NULL : buffer->bytes + buffer->end;
}

void drop(struct buffer *buffer, size_t size)
{
    buffer->start += size;
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
}

void close_once(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void open_channel(struct channel *channel, int sock)
{
    *channel = (struct channel){.sock = sock,
                                .incoming = {incoming_bytes, sizeof incoming_bytes, 0, 0},
                                .outgoing = {outgoing_bytes, sizeof outgoing_bytes, 0, 0}};
}

/* Send what is pending: what comes before PASS without descriptors, what comes with it with them. */
static ssize_t try_send(const struct channel *channel)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof channel->passed)];
    } control = {0};
    size_t size = channel->passed_count * sizeof *channel->passed;
    bool is_before = size > 0 && channel->before_pass > 0;
    struct iovec data = {channel->outgoing.bytes + channel->outgoing.start,
                         is_before ? channel->before_pass : filled(&channel->outgoing)};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (size > 0 && !is_before) {
        message.msg_control = control.bytes;
        message.msg_controllen = (socklen_t)CMSG_SPACE(size);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = (socklen_t)CMSG_LEN(size);
        memcpy(CMSG_DATA(&control.header), channel->passed, size);
    }
    return sendmsg(channel->sock, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void note_sent(struct channel *channel, size_t sent)
{
    drop(&channel->outgoing, sent);
    if (channel->before_pass == 0)
        channel->passed_count = 0;
    channel->before_pass -= sent < channel->before_pass ? sent : channel->before_pass;
}

/* A peer that is gone is not an error here: reading tells, after all that it sent has been read. Any other error ends the
 * call: the server is to see the end of the stream. */
static void note_error(struct channel *channel)
{
    bool is_peer_gone = errno == EPIPE || errno == ECONNRESET;
    channel->descriptors_lost = channel->passed_count > 0 && channel->before_pass == 0 && !is_peer_gone;
    channel->broken = true;
    shutdown(channel->sock, SHUT_WR);
}

void send_pending(struct channel *channel)
{
    while (!channel->broken && filled(&channel->outgoing) > 0) {
        ssize_t sent = try_send(channel);
        if (sent >= 0)
            note_sent(channel, (size_t)sent);
        else if (errno == EAGAIN || errno == EINTR)
            return;
        else
            note_error(channel);
    }
    if (channel->broken)
        drop(&channel->outgoing, filled(&channel->outgoing));
    else if (channel->closes)
        shutdown(channel->sock, SHUT_WR);
}

void close_sending(struct channel *channel)
{
    channel->closes = true;
    send_pending(channel);
}

void send_bytes(struct channel *channel, size_t size)
{
    bool was_empty = filled(&channel->outgoing) == 0;
    channel->outgoing.end += size;
    if (was_empty)
        send_pending(channel);
}

/* Begin a frame, if there is room for it and for what more there has to be; return where its payload goes, or NULL. */
static uint8_t *begin_small(struct channel *channel, int type, size_t length, size_t more)
{
    uint8_t *frame = make_room(&channel->outgoing, HEADER + length + more);
    if (frame == NULL)
        return NULL;
    put_number(frame, length, 4);
    frame[4] = (uint8_t)type;
    return frame + HEADER;
}

void send_small(struct channel *channel, int type, uint8_t first, const uint32_t *credit)
{
    size_t length = credit != NULL ? 5 : 1;
    uint8_t *payload = begin_small(channel, type, length, type == MESSAGE_SIGNAL ? KEPT_FREE : 0);
    if (payload == NULL)
        return;
    payload[0] = first;
    if (credit != NULL)
        put_number(payload + 1, *credit, 4);
    send_bytes(channel, HEADER + length);
}

void send_size(struct channel *channel, uint16_t rows, uint16_t columns)
{
    uint8_t *payload = begin_small(channel, MESSAGE_RESIZE, 4, KEPT_FREE);
    if (payload == NULL)
        return;
    put_number(payload, rows, 2);
    put_number(payload + 2, columns, 2);
    send_bytes(channel, HEADER + 4);
}

void receive(struct channel *channel)
{
    struct buffer *buffer = &channel->incoming;
    size_t left = filled(buffer);
    memmove(buffer->bytes, buffer->bytes + buffer->start, left); /* less than one frame, so there is room */
    buffer->start = 0;
    buffer->end = left;
    /* Without room for control data the kernel discards descriptors: a client wants none. */
    ssize_t size = recv(channel->sock, buffer->bytes + left, buffer->size - left, MSG_DONTWAIT);
    if (size > 0)
        buffer->end += (size_t)size;
    else if (size == 0 || (errno != EAGAIN && errno != EINTR))
        channel->has_ended = true;
}

static void skip(struct channel *channel)
{
    size_t there = filled(&channel->incoming), size = there < channel->to_skip ? there : channel->to_skip;
    channel->to_skip -= size;
    drop(&channel->incoming, size);
}

/* Check the head of a frame that is too long to keep: of the messages of a server only CALLS can be, which is one string that was not
 * asked for. */
static bool check_long(int type, const uint8_t *payload, size_t length)
{
    size_t size = (size_t)get_number(payload, 4);
    if (size > length - 4)
        return fail(EXIT_PROTOCOL, "%s ends in the middle of a field", message_name(type));
    return size == length - 4 ||
           fail(EXIT_PROTOCOL, "%s has %zu excess bytes", message_name(type), length - 4 - size);
}

bool next_message(struct channel *channel, struct message *message)
{
    skip(channel);
    size_t there = filled(&channel->incoming);
    const uint8_t *frame = channel->incoming.bytes + channel->incoming.start, *payload = frame + HEADER;
    if (there < HEADER)
        return false;
    size_t length = (size_t)get_number(frame, 4);
    bool is_long = length > DESCRIPTION_LIMIT; /* an ignorable message never is */
    int type = frame[4];
    if (!check_header(type, length) || there < HEADER + (is_long ? 4 : length))
        return false;
    if (is_long) {
        if (!move_state(&channel->state, type) || !check_long(type, payload, length))
            return false;
        channel->to_skip = HEADER + length;
    } else {
        if ((message_name(type) != NULL && !check_fields(type, payload, length)) || !move_state(&channel->state, type))
            return false;
        drop(&channel->incoming, HEADER + length);
    }
    *message = (struct message){type, payload, length};
    return true;
}
