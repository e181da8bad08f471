/* Feeds answers of a server to the native client: mutations of whole conversations, whole and cut into pieces.
 * Checked: the same end however the bytes are cut, an end that is one of the table's, and printable sentences. The
 * sanitizers check the rest. LLVMFuzzerTestOneInput is libFuzzer's entry; without libFuzzer there is a driver below.
 *
 * usage: fuzz_reply ROUNDS [SEED]
 */

#define _GNU_SOURCE

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/call.h"
#include "client/failure.h"
#include "client/paths.h"

enum { MOST_INPUT = 256 << 10 };

/* How a call ended: the code to exit with, or -1 if it goes on; and what there is to say. */
struct end {
    int code;
    struct line reason;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds, const char *promise)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", promise);
    abort();
}

static void check_line(const struct line *line)
{
    const uint8_t *at = (const uint8_t *)line->text, *end = at + line->length;
    check(line->length < LINE_SIZE, "a line fits its buffer");
    while (at < end)
        check(is_printable(decode(&at, end)), "a sentence is printable");
}

static struct request request_of(bool wants_help)
{
    static char *help[] = {"--help", NULL}, *none[] = {NULL};
    return (struct request){.command = "true", .arguments = wants_help ? help : none};
}

/* Begin a call that relays all its streams to /dev/null, as if CALL had been sent. */
static void begin(struct call *call, struct request request)
{
    static const mode_t types[3] = {0};
    static const enum mode none[3] = {MODE_NONE};
    *call = (struct call){.request = request, .name = "tool", .quiet = true};
    begin_attempt(call, -1, PLAN_BYTES_ONLY);
    open_relay(&call->relay, &call->channel, none, types);
    for (int i = 0; i < 3; i++) {
        struct stream *stream = &call->relay.streams[i];
        stream->mode = MODE_RELAYED;
        stream->fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        stream->credit = i == 0 ? INITIAL_WINDOW / 2 : INITIAL_WINDOW;
        stream->nonblocking = i == 1; /* stderr's bytes stay pending */
    }
}

/* Feed bytes in pieces of at most `piece`; stop once the call has ended. */
static void feed(struct call *call, const uint8_t *data, size_t size, size_t piece)
{
    while (size > 0 && !has_ended(call)) {
        struct buffer *buffer = &call->channel.incoming;
        size_t length = size < piece ? size : piece;
        uint8_t *place = make_room(buffer, length);
        check(place != NULL, "there is room for what is received");
        memcpy(place, data, length);
        buffer->end += length;
        data += length;
        size -= length;
        take_messages(call);
    }
}

/* What is the same whoever ends: the code of the table, or 128 and the signal. */
static int code_of(const struct outcome *outcome)
{
    return failure.code != 0 ? failure.code : outcome->kind == KIND_SIGNALED ? 128 + outcome->value : outcome->value;
}

static void check_outcome(struct call *call)
{
    take_failure(&call->outcome);
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    check(write_outcome(fd, &call->outcome, call->id, call->id_length), "an outcome can be written");
    close(fd);
}

/* Return how a call ends that is answered with some bytes. */
static struct end answer_to(struct request request, const uint8_t *data, size_t size, size_t piece)
{
    static struct call call;
    struct end end = {.code = -1};
    void *taken = take_room(1);
    begin(&call, request);
    feed(&call, data, size, piece);
    close_relay(&call.relay);
    if (has_ended(&call) && call.description == NULL && !call.channel.descriptors_lost) {
        end.code = code_of(&call.outcome);
        check(end.code != 0 || call.outcome.kind == KIND_EXITED, "0 is the end of a command");
        check_outcome(&call);
    }
    check_line(&failure.reason);
    check_line(&failure.hint);
    end.reason = failure.reason;
    forget_failure();
    give_back(taken);
    return end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct end whole, cut;
    if (size == 0 || size > MOST_INPUT)
        return 0;
    struct request request = request_of(data[0] % 2);
    whole = answer_to(request, data + 1, size - 1, size);
    cut = answer_to(request, data + 1, size - 1, 1 + data[0] / 2);
    check(cut.code == whole.code, "the end does not depend on how the bytes are cut");
    check(whole.reason.length == cut.reason.length &&
              memcmp(whole.reason.text, cut.reason.text, whole.reason.length) == 0,
          "nor does its sentence");
    return 0;
}

#ifndef SIDECALL_LIBFUZZER
static uint64_t random_state;

static uint32_t random_below(uint32_t most)
{
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(random_state >> 33) % most;
}

static size_t add_frame(uint8_t *into, uint8_t type, const void *payload, size_t length)
{
    put_number(into, length, 4);
    into[4] = type;
    memcpy(into + HEADER, payload, length);
    return HEADER + length;
}

/* Add a frame that is well formed, and likely to fit. */
static size_t add_random_frame(uint8_t *into)
{
    static const uint8_t exits[][80] = {
        "\0\50\0\0\0\0",
        "\1\17\0\0\0\2\0\0\0\16stopped=client\0\0\0\15core-dumped=1",
        "\0\0\0\0\0\3\0\0\0\14terminated=2\0\0\0\23run-us=999999999999\0\0\0\4later",
        "\11\0\0\0\0\0",
    };
    static const size_t sizes[] = {6, 6 + 4 + 14 + 4 + 13, 6 + 4 + 12 + 4 + 19 + 4 + 4, 6};
    uint32_t which = random_below(4);
    static const uint8_t refused[] = "\100\0\0\0\5no\033!\n\0\0\0\3\342\200\213";
    static uint8_t data[1025] = {1};
    uint8_t stream = (uint8_t)random_below(4), number[5] = {stream, 0, 0, (uint8_t)random_below(256), 1};
    switch (random_below(15)) {
    case 0: return add_frame(into, MESSAGE_HELLO, "\0\1\0\0\0\0\0\0\0\0\0\0\0\4test", 18);
    case 1: return add_frame(into, MESSAGE_STARTED, "\0\0\0\3c\n1", 7);
    case 2: return add_frame(into, MESSAGE_QUEUED, "\0\0\0\2", 4);
    case 3: return add_frame(into, MESSAGE_REFUSED, refused, sizeof refused - 1);
    case 4: return add_frame(into, MESSAGE_EXIT, exits[which], sizes[which]);
    case 5: return add_frame(into, MESSAGE_WINDOW, number, 5);
    case 6: return add_frame(into, MESSAGE_STOP, number, 1);
    case 7: return add_frame(into, MESSAGE_EOF, number, 1);
    case 8: return add_frame(into, MESSAGE_PONG, "\0\0\0\1\0\0\0\7slots=1", 15);
    case 9: return add_frame(into, MESSAGE_CALLS, "\0\0\0\2[]", 6);
    case 10: return add_frame(into, MESSAGE_DESCRIPTION, "\0\0\0\2{}", 6);
    case 11: return add_frame(into, MESSAGE_NOTICE, "\0\0\0\3no\n\0\0\0\1h", 12);
    case 12: return add_frame(into, (uint8_t)(FIRST_IGNORABLE + random_below(100)), data, random_below(1024));
    default:
        data[0] = stream;
        return add_frame(into, MESSAGE_DATA, data, 1 + random_below(1024));
    }
}

static size_t make_input(uint8_t *input)
{
    size_t size = 1, frames = random_below(40);
    input[0] = (uint8_t)random_below(256);
    if (random_below(8) > 0) {
        size += add_frame(input + size, MESSAGE_HELLO, "\0\1\0\0\0\0\0\0\0\0\0\0\0\4test", 18);
        if (random_below(4) > 0)
            size += add_frame(input + size, MESSAGE_STARTED, "\0\0\0\1a", 5);
    }
    while (frames-- > 0)
        size += add_random_frame(input + size);
    for (uint32_t i = random_below(2) ? random_below(6) : 0; i > 0; i--) {
        size_t at = 1 + random_below((uint32_t)size);
        if (at < size)
            input[at] = (uint8_t)(random_below(2) ? random_below(256) : input[at] ^ 1U << random_below(8));
    }
    return size;
}

int main(int argc, char **argv)
{
    static uint8_t input[MOST_INPUT];
    long rounds = argc > 1 ? atol(argv[1]) : 10000;
    unsigned long ends[256] = {0};
    random_state = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    for (long i = 0; i < rounds; i++) {
        size_t size = make_input(input);
        LLVMFuzzerTestOneInput(input, size);
        ends[answer_to(request_of(false), input + 1, size - 1, size).code & 255]++;
    }
    fprintf(stderr, "%ld answers; ends:", rounds);
    for (int i = 0; i < 256; i++)
        if (ends[i] > 0)
            fprintf(stderr, " %d: %lu", i == 255 ? -1 : i, ends[i]);
    fprintf(stderr, "\n");
    return 0;
}
#endif
