#include "request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "failure.h"
#include "paths.h"
#include "terminal.h"

#define SOFTWARE "sidecall " SOFTWARE_VERSION " native"

enum {
    MOST_ARGUMENTS = 64, /* of a call, that can name directories */
    MOST_DIRECTORYS = 128,
};

/* A frame under construction. It counts what does not fit, so that the error can tell how long it would be. */
struct frame {
    uint8_t *bytes;
    size_t length, limit;
};

struct directory {
    struct directory *next;
    const char *path;
    size_t length;
    bool exists;
    uint64_t device, inode;
};

struct directories {
    struct directory *first, **end;
    size_t count, existing;
};

static void put(struct frame *frame, const void *bytes, size_t size)
{
    if (size > 0 && frame->length + size <= HEADER + frame->limit)
        memcpy(frame->bytes + frame->length, bytes, size);
    frame->length += size;
}

static void put_integer(struct frame *frame, uint64_t number, size_t size)
{
    uint8_t bytes[8];
    put_number(bytes, number, size);
    put(frame, bytes, size);
}

static void put_string(struct frame *frame, const char *text)
{
    size_t length = strlen(text);
    put_integer(frame, length, 4);
    put(frame, text, length);
}

static struct frame begin_frame(struct channel *channel, int type, size_t limit)
{
    struct frame frame = {make_room(&channel->outgoing, HEADER + limit), 0, limit};
    put_integer(&frame, 0, 4);
    put_integer(&frame, (uint64_t)type, 1);
    return frame;
}

static void end_frame(struct channel *channel, struct frame *frame)
{
    put_number(frame->bytes, frame->length - HEADER, 4);
    channel->outgoing.end += frame->length;
}

void put_hello(struct channel *channel, bool has_terminal)
{
    struct frame frame = begin_frame(channel, MESSAGE_HELLO, CONTROL_LIMIT);
    put_integer(&frame, VERSION, 2);
    put_integer(&frame, has_terminal, 4); /* needs */
    if (has_terminal)
        put_string(&frame, FEATURE_TERMINAL);
    put_integer(&frame, 1, 4); /* knows */
    put_string(&frame, FEATURE_TERMINAL);
    put_string(&frame, SOFTWARE);
    end_frame(channel, &frame);
}

static void put_variables(struct frame *frame, const struct list *variables)
{
    put_integer(frame, variables->count, 4);
    for (size_t i = 0; i < variables->count; i++) {
        const char *given = variables->items[i], *value = strchr(given, '=') == NULL ? getenv(given) : NULL;
        if (value == NULL) {
            put_string(frame, given);
            continue;
        }
        put_integer(frame, strlen(given) + 1 + strlen(value), 4);
        put(frame, given, strlen(given));
        put(frame, "=", 1);
        put(frame, value, strlen(value));
    }
}

static bool is_known(const struct directories *directories, const char *path, size_t length)
{
    for (const struct directory *known = directories->first; known != NULL; known = known->next)
        if (known->length == length && memcmp(known->path, path, length) == 0)
            return true;
    return false;
}

/* Note a path, and whether it is a directory; return false if it is known, or there are enough. */
static bool note_directory(struct directories *directories, char *path, size_t length)
{
    struct stat status;
    struct directory *directory;
    if (directories->count == MOST_DIRECTORYS || is_known(directories, path, length) ||
        (directory = take_room(sizeof *directory)) == NULL)
        return false;
    char after = path[length];
    path[length] = '\0';
    bool exists = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
    path[length] = after;
    *directory = (struct directory){NULL, path, length, exists, exists ? status.st_dev : 0, exists ? status.st_ino : 0};
    *directories->end = directory;
    directories->end = &directory->next;
    directories->count++;
    directories->existing += exists;
    return true;
}

/* Note each directory that a word leads through, if it is a path; of `--name=value` only the value may be one. */
static void note_directories_of(struct directories *directories, const char *base, const char *word)
{
    static char root[] = "/";
    const char *equals = strchr(word, '='), *value = *word != '-' ? word : equals != NULL ? equals + 1 : "";
    char *path = joined(base, value, "");
    if (path == NULL || *path != '/')
        return; /* more than a CALL can hold; or relative, in a working directory that has been removed */
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/')
        length--;
    if (length == 0) {
        path = root;
        length = 1;
    }
    while (note_directory(directories, path, length))
        length = directory_length(path, length);
}

/* Write a number in decimal before `end`; return where it begins. */
static char *decimal(char *end, uint64_t number)
{
    do
        *--end = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return end;
}

static void put_directory(struct frame *frame, const struct directory *directory)
{
    char numbers[48], *end = numbers + sizeof numbers, *begin = end;
    *--begin = ':';
    begin = decimal(begin, directory->inode);
    *--begin = ':';
    begin = decimal(begin, directory->device);
    put_integer(frame, (size_t)(end - begin) + directory->length, 4);
    put(frame, begin, (size_t)(end - begin));
    put(frame, directory->path, directory->length);
}

static void put_directories(struct frame *frame, const char *base, const struct request *request)
{
    struct directories found = {.end = &found.first};
    void *before = take_room(0);
    note_directories_of(&found, base, "");
    note_directories_of(&found, base, request->directory);
    for (int i = 0; i < MOST_ARGUMENTS - 1 && request->arguments[i] != NULL; i++)
        note_directories_of(&found, base, request->arguments[i]);
    put_integer(frame, found.existing, 4);
    for (const struct directory *directory = found.first; directory != NULL; directory = directory->next)
        if (directory->exists)
            put_directory(frame, directory);
    give_back(before);
}

/* Round to the nearest millisecond, a half to the even one, but never to 0, which would be no limit. */
static uint64_t in_milliseconds(double seconds)
{
    double wanted = seconds * 1000;
    uint64_t whole = (uint64_t)wanted;
    double rest = wanted - (double)whole;
    if (rest > 0.5 || (rest == 0.5 && whole % 2 == 1))
        whole++;
    return seconds > 0 && whole == 0 ? 1 : whole;
}

static void put_option(struct frame *frame, const char *name, const char *value)
{
    put_integer(frame, strlen(name) + 1 + strlen(value), 4);
    put(frame, name, strlen(name));
    put(frame, "=", 1);
    put(frame, value, strlen(value));
}

/* Write which pipe or FIFO a stream is, if it is one: both ends of it have the same numbers. */
static bool name_pipe(char *value, size_t size, int fd, enum mode mode)
{
    struct stat status;
    if (mode == MODE_NONE || fstat(fd, &status) != 0 || !S_ISFIFO(status.st_mode))
        return false;
    snprintf(value, size, "%llu:%llu", (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
    return true;
}

static void put_terminal(struct frame *frame)
{
    char size[16];
    uint16_t rows, columns;
    get_terminal_size(&rows, &columns);
    snprintf(size, sizeof size, "%ux%u", (unsigned)rows, (unsigned)columns);
    put_option(frame, OPTION_TERMINAL, size);
    if (terminal_type() != NULL)
        put_option(frame, OPTION_TERM, terminal_type());
}

static void put_options(struct frame *frame, const struct request *request)
{
    static const char *const names[3] = {OPTION_STDIN_PIPE, OPTION_STDOUT_PIPE, OPTION_STDERR_PIPE};
    char timeout[24], pipes[3][48];
    bool is_pipe[3];
    size_t count = (size_t)(request->timeout > 0) + request->no_queue + (request->detach != NULL);
    for (int i = 0; i < 3; i++)
        count += is_pipe[i] = name_pipe(pipes[i], sizeof pipes[i], i, request->modes[i]);
    count += (size_t)request->has_terminal + (request->has_terminal && terminal_type() != NULL);
    put_integer(frame, count, 4);
    snprintf(timeout, sizeof timeout, "%llu", (unsigned long long)in_milliseconds(request->timeout));
    if (request->timeout > 0)
        put_option(frame, OPTION_TIMEOUT_MS, timeout);
    if (request->no_queue)
        put_option(frame, OPTION_QUEUE, "no");
    for (int i = 0; i < 3; i++)
        if (is_pipe[i])
            put_option(frame, names[i], pipes[i]);
    if (request->has_terminal)
        put_terminal(frame);
    if (request->detach != NULL)
        put_option(frame, OPTION_DETACH, request->detach);
}

static bool put_call(struct channel *channel, const struct request *request)
{
    const char *directory = working_directory(), *base = directory != NULL ? directory : ""; /* gone: no reason not to call */
    struct frame frame = begin_frame(channel, MESSAGE_CALL, CALL_LIMIT);
    size_t count = 0;
    while (request->arguments[count] != NULL)
        count++;
    put_string(&frame, request->command);
    put_integer(&frame, count, 4);
    for (size_t i = 0; i < count; i++)
        put_string(&frame, request->arguments[i]);
    put_variables(&frame, &request->variables);
    put_string(&frame, request->directory);
    put_string(&frame, base);
    put_directories(&frame, base, request);
    put_options(&frame, request);
    for (int i = 0; i < 3; i++)
        put_integer(&frame, request->modes[i], 1);
    if (frame.length - HEADER > CALL_LIMIT) {
        fail(EXIT_USAGE, CALL_TOO_LONG_TEXT, (unsigned long long)(frame.length - HEADER), (unsigned long long)CALL_LIMIT);
        return hint(CALL_TOO_LONG_HINT);
    }
    end_frame(channel, &frame);
    return true;
}

/* The descriptors go with a write of their own: the server hands the connection on before it reads PASS. */
bool send_request(struct channel *channel, const struct request *request)
{
    put_hello(channel, request->has_terminal);
    if (!put_call(channel, request))
        return false;
    send_pending(channel);
    for (int i = 0; i < 3; i++)
        if (request->modes[i] == MODE_PASSED)
            channel->passed[channel->passed_count++] = request->passed[i];
    if (channel->passed_count == 0)
        return true;
    struct frame frame = begin_frame(channel, MESSAGE_PASS, 0);
    channel->before_pass = filled(&channel->outgoing);
    end_frame(channel, &frame);
    send_pending(channel);
    return true;
}
