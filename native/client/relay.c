#define _GNU_SOURCE

#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failure.h"

enum {
    GRANT_AT = INITIAL_WINDOW / 4, /* bytes consumed before they are granted again: few WINDOW frames */
    CONTROL_ROOM = 64 << 10,       /* kept free for what is not stream data */
    PIPE_PIECE = 4096,             /* what a writable pipe takes without blocking: PIPE_BUF in pipe(7) */
};

static uint8_t pending_bytes[2][INITIAL_WINDOW]; /* of stdout and stderr */

bool look_at_streams(mode_t *types)
{
    struct stat status;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        types[fd] = fstat(fd, &status) == 0 ? status.st_mode : 0;
        if (types[fd] == 0 && open("/dev/null", O_RDWR) != fd)
            return fail(EXIT_BUG, "cannot open /dev/null: %s", error_text(errno));
    }
    return true;
}

static bool is_terminal(int fd, mode_t type)
{
    return S_ISCHR(type) && isatty(fd);
}

/* Passed unless it must not be: a terminal is relayed, since O_NONBLOCK set on it by one side would hit the other; a
 * directory is, since passed it would lead out of a mount namespace. */
enum mode mode_of(int fd, mode_t type, bool relay)
{
    if (type == 0)
        return MODE_NONE;
    return relay || S_ISDIR(type) || is_terminal(fd, type) ? MODE_RELAYED : MODE_PASSED;
}

/* Take a duplicate of `fd` to read or write on, and note whether it is certain not to block.
 *
 * O_NONBLOCK belongs to the open file description, which is shared with other processes: it must not be set on one
 * that was inherited. A pipe or terminal can be opened anew through /proc, which makes a description of our own. A
 * regular file never blocks; the rest (sockets) stay as they are. */
static bool open_stream(struct stream *stream, int fd, mode_t type)
{
    char again[] = "/proc/self/fd/0";
    stream->is_terminal = is_terminal(fd, type);
    if (S_ISFIFO(type) || stream->is_terminal) {
        again[sizeof again - 2] = (char)('0' + fd);
        stream->fd = open(again, (fd == STDIN_FILENO ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    stream->nonblocking = stream->fd >= 0 || S_ISREG(type);
    if (stream->fd < 0)
        stream->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return stream->fd >= 0 || fail_short(errno);
}

bool open_relay(struct relay *relay, struct channel *channel, const enum mode *modes, const mode_t *types)
{
    relay->channel = channel;
    for (int i = 0; i < 3; i++) {
        struct stream *stream = &relay->streams[i];
        *stream = (struct stream){.mode = modes[i], .fd = -1, .credit = INITIAL_WINDOW};
        if (i != STDIN_FILENO)
            stream->pending = (struct buffer){pending_bytes[i - 1], INITIAL_WINDOW, 0, 0};
        if (modes[i] == MODE_RELAYED && !open_stream(stream, i, types[i]))
            return false;
    }
    return true;
}

void close_relay(struct relay *relay)
{
    for (int i = 0; i < 3; i++)
        close_once(&relay->streams[i].fd);
}

static bool may_read_stdin(const struct relay *relay)
{
    const struct stream *stream = &relay->streams[STDIN_FILENO];
    const struct buffer *outgoing = &relay->channel->outgoing;
    return relay->channel->state == STATE_RUNNING && stream->fd >= 0 && stream->credit > 0 &&
           outgoing->size - filled(outgoing) > HEADER + 1 + MAX_DATA + CONTROL_ROOM;
}

int waiting_for(const struct relay *relay, int number)
{
    const struct stream *stream = &relay->streams[number];
    bool waits = number == STDIN_FILENO ? may_read_stdin(relay) : filled(&stream->pending) > 0;
    return waits ? stream->fd : -1;
}

/* Tell a stdin that breaks off from one that is none: a terminal that hung up, a directory, a descriptor that is not for
 * reading (nohup(1) leaves such a one). */
static bool breaks_off(const struct stream *stream, int error)
{
    return error != EBADF && error != EISDIR && error != EINVAL && !(error == EIO && stream->is_terminal);
}

static void read_stdin(struct relay *relay)
{
    struct stream *stream = &relay->streams[STDIN_FILENO];
    size_t most = stream->credit < MAX_DATA ? stream->credit : MAX_DATA;
    uint8_t *frame = make_room(&relay->channel->outgoing, HEADER + 1 + most);
    ssize_t size = read(stream->fd, frame + HEADER + 1, most);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        stream->error = size < 0 && breaks_off(stream, errno) ? errno : 0;
        close_once(&stream->fd);
        send_small(relay->channel, END_OF_STREAM, STDIN_FILENO, NULL);
        return;
    }
    put_number(frame, (uint64_t)size + 1, 4);
    frame[4] = DATA;
    frame[5] = STDIN_FILENO;
    stream->credit -= (uint32_t)size;
    send_bytes(relay->channel, HEADER + 1 + (size_t)size);
}

/* Give back the credit for what was written. */
static void count_written(struct relay *relay, int number, size_t size)
{
    struct stream *stream = &relay->streams[number];
    stream->consumed += (uint32_t)size;
    if (stream->consumed < GRANT_AT)
        return;
    send_small(relay->channel, WINDOW, (uint8_t)number, &stream->consumed);
    stream->credit += stream->consumed;
    stream->consumed = 0;
}

/* Write bytes of a stream; return how many were taken. If its reader is gone, or the disk is full, it is closed. */
static size_t write_some(struct relay *relay, int number, const uint8_t *bytes, size_t size)
{
    struct stream *stream = &relay->streams[number];
    if (!stream->nonblocking && size > PIPE_PIECE)
        size = PIPE_PIECE;
    ssize_t written = write(stream->fd, bytes, size);
    if (written >= 0) {
        count_written(relay, number, (size_t)written);
        return (size_t)written;
    }
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    stream->error = errno != EPIPE ? errno : 0;
    close_once(&stream->fd);
    drop(&stream->pending, filled(&stream->pending));
    send_small(relay->channel, STOP, (uint8_t)number, NULL);
    return 0;
}

static void close_if_written(struct stream *stream)
{
    if (stream->ending && filled(&stream->pending) == 0)
        close_once(&stream->fd);
}

static void write_pending(struct relay *relay, int number)
{
    struct buffer *pending = &relay->streams[number].pending;
    drop(pending, write_some(relay, number, pending->bytes + pending->start, filled(pending)));
    close_if_written(&relay->streams[number]);
}

void move_stream(struct relay *relay, int number)
{
    if (number == STDIN_FILENO)
        read_stdin(relay);
    else
        write_pending(relay, number);
}

/* Write what arrived after all that came before; it is dropped if the reader is gone. The window keeps the rest within
 * the buffer. */
static void write_or_keep(struct relay *relay, int number, const uint8_t *bytes, size_t size)
{
    struct stream *stream = &relay->streams[number];
    if (stream->fd < 0 || size == 0)
        return;
    if (stream->nonblocking && filled(&stream->pending) == 0) {
        size_t written = write_some(relay, number, bytes, size);
        bytes += written;
        size -= written;
    }
    uint8_t *into = stream->fd >= 0 ? make_room(&stream->pending, size) : NULL;
    if (into != NULL) {
        memcpy(into, bytes, size);
        stream->pending.end += size;
    }
}

static void on_stdin_message(struct stream *stream, const struct message *message)
{
    if (message->type == STOP) {
        close_once(&stream->fd);
        return;
    }
    uint64_t credit = get_number(message->payload + 1, 4);
    if (stream->credit + credit > INITIAL_WINDOW)
        fail(EXIT_PROTOCOL, "Window for stream 0 grants more than was consumed");
    else
        stream->credit += (uint32_t)credit;
}

static void on_output_message(struct relay *relay, int number, const struct message *message)
{
    struct stream *stream = &relay->streams[number];
    size_t size = message->length - 1;
    if (stream->ended) {
        fail(EXIT_PROTOCOL, "%s for stream %d, which has ended", message_name(message->type), number);
    } else if (message->type == END_OF_STREAM) {
        stream->ended = stream->ending = true;
        close_if_written(stream);
    } else if (size > stream->credit) {
        fail(EXIT_PROTOCOL, "Data for stream %d is over its window", number);
    } else {
        stream->credit -= (uint32_t)size;
        write_or_keep(relay, number, message->payload + 1, size);
    }
}

void on_stream_message(struct relay *relay, const struct message *message)
{
    int number = message->payload[0];
    const char *name = message_name(message->type);
    bool is_output = message->type == DATA || message->type == END_OF_STREAM;
    if (number > STDERR_FILENO || relay->streams[number].mode != MODE_RELAYED)
        fail(EXIT_PROTOCOL, "%s for stream %d, which is not relayed", name, number);
    else if ((number != STDIN_FILENO) != is_output)
        fail(EXIT_PROTOCOL, "%s for stream %d comes from the wrong side", name, number);
    else if (number == STDIN_FILENO)
        on_stdin_message(&relay->streams[number], message);
    else
        on_output_message(relay, number, message);
}

void end_streams(struct relay *relay)
{
    close_once(&relay->streams[STDIN_FILENO].fd);
    for (int i = STDOUT_FILENO; i <= STDERR_FILENO; i++) {
        relay->streams[i].ending = true;
        close_if_written(&relay->streams[i]);
    }
}

bool is_writing(const struct relay *relay)
{
    return relay->streams[STDOUT_FILENO].fd >= 0 || relay->streams[STDERR_FILENO].fd >= 0;
}

void let_go_of_streams(void)
{
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
}
