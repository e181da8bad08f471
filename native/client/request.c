#include "request.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "failure.h"
#include "paths.h"

#define SOFTWARE "sidecall 0.1.0 native"

enum {
    MOST_WORDS = 64, /* of a call, that may name folders */
    MOST_FOLDERS = 128,
};

/* A frame under construction. It counts what does not fit, so that the error can tell how long it would be. */
struct frame {
    uint8_t *bytes;
    size_t length, limit;
};

struct folder {
    struct folder *next;
    const char *path;
    size_t length;
    bool exists;
    uint64_t device, inode;
};

struct folders {
    struct folder *first, **end;
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

static void put_hello(struct channel *channel, const enum mode *modes)
{
    struct frame frame = begin_frame(channel, HELLO, CONTROL_LIMIT);
    bool passes = false, relays = false;
    for (int i = 0; i < 3; i++) {
        passes |= modes[i] == MODE_PASSED;
        relays |= modes[i] == MODE_RELAYED;
    }
    put_integer(&frame, VERSION, 2);
    put_integer(&frame, (uint64_t)passes + relays, 4);
    if (passes)
        put_string(&frame, "pass");
    if (relays)
        put_string(&frame, "relay");
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

static bool is_known(const struct folders *folders, const char *path, size_t length)
{
    for (const struct folder *known = folders->first; known != NULL; known = known->next)
        if (known->length == length && memcmp(known->path, path, length) == 0)
            return true;
    return false;
}

/* Note a path, and whether it is a folder; return false if it is known, or there are enough. */
static bool note_folder(struct folders *folders, char *path, size_t length)
{
    struct stat status;
    struct folder *folder;
    if (folders->count == MOST_FOLDERS || is_known(folders, path, length) ||
        (folder = take_room(sizeof *folder)) == NULL)
        return false;
    char after = path[length];
    path[length] = '\0';
    bool exists = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
    path[length] = after;
    *folder = (struct folder){NULL, path, length, exists, exists ? status.st_dev : 0, exists ? status.st_ino : 0};
    *folders->end = folder;
    folders->end = &folder->next;
    folders->count++;
    folders->existing += exists;
    return true;
}

/* Note each folder that a word leads through, if it is a path; of `--name=value` only the value may be one. */
static void note_folders_of(struct folders *folders, const char *base, const char *word)
{
    static char root[] = "/";
    const char *equals = strchr(word, '='), *value = *word != '-' ? word : equals != NULL ? equals + 1 : "";
    char *path = joined(base, value, "");
    if (path == NULL)
        return; /* more words than a CALL may have */
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/')
        length--;
    if (length == 0) {
        path = root;
        length = 1;
    }
    while (note_folder(folders, path, length))
        length = folder_length(path, length);
}

/* Write a number in decimal before `end`; return where it begins. */
static char *decimal(char *end, uint64_t number)
{
    do
        *--end = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return end;
}

static void put_folder(struct frame *frame, const struct folder *folder)
{
    char numbers[48], *end = numbers + sizeof numbers, *begin = end;
    *--begin = ':';
    begin = decimal(begin, folder->inode);
    *--begin = ':';
    begin = decimal(begin, folder->device);
    put_integer(frame, (size_t)(end - begin) + folder->length, 4);
    put(frame, begin, (size_t)(end - begin));
    put(frame, folder->path, folder->length);
}

static void put_folders(struct frame *frame, const char *base, const struct request *request)
{
    struct folders found = {.end = &found.first};
    void *before = take_room(0);
    note_folders_of(&found, base, "");
    note_folders_of(&found, base, request->directory);
    for (int i = 0; i < MOST_WORDS - 1 && request->arguments[i] != NULL; i++)
        note_folders_of(&found, base, request->arguments[i]);
    put_integer(frame, found.existing, 4);
    for (const struct folder *folder = found.first; folder != NULL; folder = folder->next)
        if (folder->exists)
            put_folder(frame, folder);
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

static bool put_call(struct channel *channel, const struct request *request)
{
    const char *folder = working_folder(), *base = folder != NULL ? folder : ""; /* gone: no reason not to call */
    struct frame frame = begin_frame(channel, CALL, CALL_LIMIT);
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
    put_folders(&frame, base, request);
    put_integer(&frame, in_milliseconds(request->timeout), 8);
    put_integer(&frame, request->no_wait ? FLAG_NO_WAIT : 0, 1);
    for (int i = 0; i < 3; i++)
        put_integer(&frame, request->modes[i], 1);
    if (frame.length - HEADER > CALL_LIMIT) {
        fail(EXIT_USAGE, "the call is too long: Call of %zu bytes is over its %d", frame.length - HEADER, CALL_LIMIT);
        return hint("send large things on stdin, or as a file");
    }
    end_frame(channel, &frame);
    return true;
}

bool send_request(struct channel *channel, const struct request *request)
{
    put_hello(channel, request->modes);
    if (!put_call(channel, request))
        return false;
    send_pending(channel);
    return true;
}
