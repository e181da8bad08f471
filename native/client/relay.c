#define _GNU_SOURCE

#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
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

/* Whether the access mode of a descriptor is `wanted` or O_RDWR; false for O_PATH, which has none. */
static bool is_open_for(int fd, int wanted)
{
    int flags = fcntl(fd, F_GETFL);
    return (flags & O_PATH) == 0 && ((flags & O_ACCMODE) == wanted || (flags & O_ACCMODE) == O_RDWR);
}

/* Whether reading fails at once: a directory, a descriptor that is not for reading, a socket that listens. */
static bool is_unreadable(int fd, mode_t type)
{
    char byte;
    if (S_ISDIR(type) || !is_open_for(fd, O_RDONLY))
        return true;
    return S_ISSOCK(type) && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno != EAGAIN;
}

/* Whether stdout and stderr are one file, opened alike: output to both has to keep its order. */
static bool are_one_file(void)
{
    struct stat out, err;
    return fstat(STDOUT_FILENO, &out) == 0 && fstat(STDERR_FILENO, &err) == 0 && out.st_dev == err.st_dev &&
           out.st_ino == err.st_ino && fcntl(STDOUT_FILENO, F_GETFL) == fcntl(STDERR_FILENO, F_GETFL);
}

/* Passed unless it must not be: a terminal is relayed, since O_NONBLOCK set on it by one side would hit the other; a
 * directory is, since passed it would lead out of a mount namespace. */
static enum mode mode_of(int fd, mode_t type, enum plan plan)
{
    if (type == 0)
        return MODE_NONE;
    return plan != PLAN_PASS || S_ISDIR(type) || is_terminal(fd, type) ? MODE_RELAYED : MODE_PASSED;
}

/* A stdin that cannot be read must be one for the command too, or it would take the error for the end of its input. No
 * frame carries that: in its place goes a descriptor of /dev/null that is not for reading. */
static void pass_unreadable(struct request *request)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    request->modes[STDIN_FILENO] = MODE_PASSED;
    request->passed[STDIN_FILENO] = fd;
}

void choose_modes(struct request *request, const mode_t *types, bool no_stdin, enum plan plan)
{
    enum mode *modes = request->modes;
    if (request->has_terminal) {
        modes[STDIN_FILENO] = modes[STDOUT_FILENO] = MODE_RELAYED;
        modes[STDERR_FILENO] = MODE_SAME_AS_STDOUT;
        return;
    }
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        modes[fd] = mode_of(fd, types[fd], plan);
        request->passed[fd] = fd;
    }
    if (no_stdin)
        modes[STDIN_FILENO] = MODE_NONE;
    if (request->detach != NULL)
        modes[STDIN_FILENO] = modes[STDOUT_FILENO] = modes[STDERR_FILENO] = MODE_NONE;
    if (modes[STDIN_FILENO] == MODE_RELAYED && plan != PLAN_BYTES_ONLY && is_unreadable(STDIN_FILENO, types[0]))
        pass_unreadable(request);
    if (modes[STDOUT_FILENO] == MODE_RELAYED && modes[STDERR_FILENO] == MODE_RELAYED && are_one_file())
        modes[STDERR_FILENO] = MODE_SAME_AS_STDOUT;
}

/* Make a descriptor to read or write on, and record whether it is certain not to block.
 *
 * O_NONBLOCK belongs to the open file description, which is shared with other processes: it must not be set on one
 * that was inherited. A pipe or terminal can be opened anew through /proc, which makes a description of our own; only
 * for what the inherited one is open for. A regular file never blocks, a socket takes MSG_DONTWAIT.
 *
 * On a FIFO that is opened anew after its last writer has closed it, poll(2) reports no hang-up: fs/pipe.c compares
 * with the count of writers at open. So it is read first, and poll(2) is asked only after EAGAIN. */
static bool open_stream(struct stream *stream, int fd, mode_t type)
{
    char again[] = "/proc/self/fd/0";
    int flags = fd == STDIN_FILENO ? O_RDONLY : O_WRONLY;
    stream->type = type;
    stream->original = fd != STDERR_FILENO ? fd : -1;
    if ((S_ISFIFO(type) || is_terminal(fd, type)) && is_open_for(fd, flags)) {
        again[sizeof again - 2] = (char)('0' + fd);
        stream->fd = open(again, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    stream->nonblocking = stream->unread = stream->fd >= 0 || S_ISREG(type) || S_ISSOCK(type) || S_ISDIR(type);
    if (stream->fd < 0)
        stream->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return stream->fd >= 0 || fail_short(errno);
}

bool open_relay(struct relay *relay, struct channel *channel, const enum mode *modes, const mode_t *types)
{
    relay->channel = channel;
    for (int i = 0; i < 3; i++) {
        struct stream *stream = &relay->streams[i];
        *stream = (struct stream){.mode = modes[i], .fd = -1, .original = -1, .credit = INITIAL_WINDOW};
        if (i != STDIN_FILENO)
            stream->pending = (struct buffer){pending_bytes[i - 1], INITIAL_WINDOW, 0, 0};
        if (modes[i] == MODE_RELAYED && !open_stream(stream, i, types[i]))
            return false;
    }
    return true;
}

/* Close what an attempt has made; what it was made from stays for the next one. */
void close_relay(struct relay *relay)
{
    for (int i = 0; i < 3; i++)
        close_once(&relay->streams[i].fd);
}

static void close_stream(struct stream *stream)
{
    close_once(&stream->fd);
    close_once(&stream->original);
}

static bool can_read_stdin(const struct relay *relay)
{
    const struct stream *stream = &relay->streams[STDIN_FILENO];
    const struct buffer *outgoing = &relay->channel->outgoing;
    return relay->channel->state == STATE_RUNNING && stream->fd >= 0 && stream->credit > 0 &&
           outgoing->size - filled(outgoing) > HEADER + 1 + MAX_DATA + CONTROL_ROOM;
}

bool can_read_at_once(const struct relay *relay)
{
    return relay->streams[STDIN_FILENO].unread && can_read_stdin(relay);
}

struct pollfd waiting_for(const struct relay *relay, int number)
{
    const struct stream *stream = &relay->streams[number];
    if (number == STDIN_FILENO)
        return (struct pollfd){can_read_stdin(relay) ? stream->fd : -1, POLLIN, 0};
    bool is_open = relay->channel->state >= STATE_RUNNING;
    return (struct pollfd){is_open ? stream->fd : -1, filled(&stream->pending) > 0 ? POLLOUT : 0, 0};
}

/* Tell a stdin that breaks off from one that has ended: a terminal that hung up, or nohup(1)'s /dev/null, which is open
 * for writing. */
static bool breaks_off(const struct stream *stream, int error)
{
    return !(S_ISCHR(stream->type) && (error == EIO || error == EBADF));
}

/* Read once; false if there is nothing to read at present, or ever again. */
static bool read_once(struct relay *relay)
{
    struct stream *stream = &relay->streams[STDIN_FILENO];
    size_t most = stream->credit < MAX_DATA ? stream->credit : MAX_DATA;
    uint8_t *frame = make_room(&relay->channel->outgoing, HEADER + 1 + most);
    ssize_t size = S_ISSOCK(stream->type) ? recv(stream->fd, frame + HEADER + 1, most, MSG_DONTWAIT)
                                          : read(stream->fd, frame + HEADER + 1, most);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return stream->unread = false;
    if (size <= 0) {
        stream->error = size < 0 && breaks_off(stream, errno) ? errno : 0;
        close_stream(stream);
        send_small(relay->channel, MESSAGE_EOF, STDIN_FILENO, NULL);
        return false;
    }
    put_number(frame, (uint64_t)size + 1, 4);
    frame[4] = MESSAGE_DATA;
    frame[5] = STDIN_FILENO;
    stream->credit -= (uint32_t)size;
    send_bytes(relay->channel, HEADER + 1 + (size_t)size);
    return true;
}

static void read_stdin(struct relay *relay)
{
    struct stream *stream = &relay->streams[STDIN_FILENO];
    stream->unread = stream->nonblocking;
    while (read_once(relay) && stream->nonblocking && can_read_stdin(relay))
        continue;
}

/* Give back the credit for what was written. */
static void count_written(struct relay *relay, int number, size_t size)
{
    struct stream *stream = &relay->streams[number];
    stream->consumed += (uint32_t)size;
    if (stream->consumed < GRANT_AT)
        return;
    send_small(relay->channel, MESSAGE_WINDOW, (uint8_t)number, &stream->consumed);
    stream->credit += stream->consumed;
    stream->consumed = 0;
}

/* Close an output that takes nothing more, and have the server close its end: the command gets SIGPIPE if it writes. */
static void break_output(struct relay *relay, int number, int error)
{
    struct stream *stream = &relay->streams[number];
    stream->error = error;
    stream->lost |= filled(&stream->pending) > 0;
    drop(&stream->pending, filled(&stream->pending));
    close_stream(stream);
    if (relay->channel->state == STATE_RUNNING)
        send_small(relay->channel, MESSAGE_STOP, (uint8_t)number, NULL);
}

static ssize_t write_bytes(const struct stream *stream, const uint8_t *bytes, size_t size)
{
    if (!stream->nonblocking && size > PIPE_PIECE)
        size = PIPE_PIECE;
    return S_ISSOCK(stream->type) ? send(stream->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                                  : write(stream->fd, bytes, size);
}

/* Write bytes of a stream; return how many were taken. */
static size_t write_some(struct relay *relay, int number, const uint8_t *bytes, size_t size)
{
    struct stream *stream = &relay->streams[number];
    ssize_t written = write_bytes(stream, bytes, size);
    if (written >= 0) {
        count_written(relay, number, (size_t)written);
        return (size_t)written;
    }
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    stream->lost = true;
    break_output(relay, number, errno);
    return 0;
}

static void close_if_written(struct stream *stream)
{
    if (stream->ending && filled(&stream->pending) == 0)
        close_stream(stream);
}

static void write_pending(struct relay *relay, int number)
{
    struct buffer *pending = &relay->streams[number].pending;
    drop(pending, write_some(relay, number, pending->bytes + pending->start, filled(pending)));
    close_if_written(&relay->streams[number]);
}

void move_stream(struct relay *relay, int number, short events)
{
    if (number == STDIN_FILENO)
        read_stdin(relay);
    else if (filled(&relay->streams[number].pending) > 0)
        write_pending(relay, number);
    else if (events != 0)
        break_output(relay, number, EPIPE);
}

/* Write what arrived after all that came before; it is dropped if the stream has broken off. The window keeps the rest
 * within the buffer. */
static void write_or_keep(struct relay *relay, int number, const uint8_t *bytes, size_t size)
{
    struct stream *stream = &relay->streams[number];
    if (stream->fd < 0 || size == 0) {
        stream->lost |= size > 0;
        return;
    }
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
    if (message->type == MESSAGE_STOP) {
        close_stream(stream);
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
    } else if (message->type == MESSAGE_EOF) {
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
    bool is_output = message->type == MESSAGE_DATA || message->type == MESSAGE_EOF;
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

void drop_pending(struct relay *relay)
{
    for (int i = STDOUT_FILENO; i <= STDERR_FILENO; i++)
        if (relay->streams[i].fd >= 0)
            break_output(relay, i, ETIMEDOUT);
}

bool is_writing(const struct relay *relay)
{
    return relay->streams[STDOUT_FILENO].fd >= 0 || relay->streams[STDERR_FILENO].fd >= 0;
}

/* Tell whether closing a descriptor can block, in contrast to exiting with it: socket(7), SO_LINGER. */
static bool lingers(int fd)
{
    struct linger linger = {0, 0};
    socklen_t size = sizeof linger;
    return getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && linger.l_onoff != 0;
}

void let_go_of_streams(const struct relay *relay)
{
    for (int i = STDIN_FILENO; i <= STDOUT_FILENO; i++)
        if (relay->streams[i].fd < 0 && !lingers(i))
            close(i);
}
