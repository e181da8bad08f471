/* Feeds what a service may answer to the native client's parser: mutations of whole conversations, whole and cut into
 * pieces. Checked: the same end however the bytes are cut, an end that is one of the table's, and printable words. The
 * sanitizers check the rest. LLVMFuzzerTestOneInput is libFuzzer's entry; without libFuzzer there is a driver below.
 *
 * usage: fuzz_reply ROUNDS [SEED]
 */

#define main client_main
#include "sidecall-exec.c"
#undef main

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *words[] = {"tool", "true", "--help", NULL};

/* Begin a call that relays all its streams to /dev/null, as if CALL had been sent. */
static void begin(struct call *call, int word_count)
{
    *call = (struct call){.words = words, .word_count = word_count, .quiet = true};
    begin_attempt(call);
    for (int i = 0; i < 3; i++) {
        call->streams[i] = (struct stream){.mode = MODE_RELAYED, .fd = open("/dev/null", O_RDWR | O_CLOEXEC)};
        call->streams[i].credit = i == 0 ? INITIAL_WINDOW / 2 : INITIAL_WINDOW;
        call->streams[i].pending = (struct buffer){pending_bytes[i], INITIAL_WINDOW, 0, 0};
        call->streams[i].nonblocking = i == 1; /* stderr's bytes stay pending */
    }
}

/* Feed bytes in pieces of at most `piece`; return how the call ended, or -1 if it goes on. */
static int feed(struct call *call, const uint8_t *data, size_t size, size_t piece)
{
    while (size > 0 && !call->has_ended) {
        struct buffer *buffer = &call->incoming;
        size_t length = size < piece ? size : piece, left = filled(buffer);
        memmove(buffer->bytes, buffer->bytes + buffer->start, left);
        buffer->start = 0;
        buffer->end = left;
        memcpy(buffer->bytes + left, data, length);
        buffer->end += length;
        data += length;
        size -= length;
        take_frames(call);
    }
    for (int i = 0; i < 3; i++)
        close_once(&call->streams[i].fd);
    return call->has_ended ? exit_code(&call->outcome) : -1;
}

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct call whole, cut;
    if (size == 0 || size > RECEIVE_SIZE)
        return 0;
    int count = data[0] % 2 ? 3 : 2;
    size_t piece = 1 + data[0] / 2;
    begin(&whole, count);
    int code = feed(&whole, data + 1, size - 1, size);
    begin(&cut, count);
    check(feed(&cut, data + 1, size - 1, piece) == code, "the end does not depend on how the bytes are cut");
    check(whole.outcome.reason.length == cut.outcome.reason.length &&
              memcmp(whole.outcome.reason.text, cut.outcome.reason.text, whole.outcome.reason.length) == 0,
          "nor does its sentence");
    check_line(&whole.outcome.reason);
    check_line(&whole.outcome.hint);
    json.length = 0;
    whole.outcome_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    check(write_outcome(&whole), "an outcome can be written");
    close(whole.outcome_fd);
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
    static const uint8_t exit_payload[43] = {0, 40};
    static const uint8_t refused[] = "\100\0\0\0\5no\033!\n\0\0\0\2\342\200";
    static uint8_t data[1025] = {1};
    uint8_t stream = (uint8_t)random_below(4), number[5] = {stream, 0, 0, (uint8_t)random_below(256), 1};
    switch (random_below(13)) {
    case 0: return add_frame(into, HELLO, "\0\1\0\0\0\0\0\0\0\4test", 14);
    case 1: return add_frame(into, STARTED, "\0\0\0\3c\n1", 7);
    case 2: return add_frame(into, QUEUED, "\0\0\0\2", 4);
    case 3: return add_frame(into, REFUSED, refused, sizeof refused - 1);
    case 4: return add_frame(into, EXIT, exit_payload, sizeof exit_payload);
    case 5: return add_frame(into, WINDOW, number, 5);
    case 6: return add_frame(into, STOP, number, 1);
    case 7: return add_frame(into, END_OF_STREAM, number, 1);
    case 8: return add_frame(into, PONG, (uint8_t[32]){0}, 32);
    case 9: return add_frame(into, CALLS, "\0\0\0\2[]", 6);
    case 10: return add_frame(into, DESCRIPTION, "\0\0\0\2{}", 6);
    default:
        data[0] = stream;
        return add_frame(into, DATA, data, 1 + random_below(1024));
    }
}

static size_t make_input(uint8_t *input)
{
    size_t size = 1, frames = random_below(40);
    input[0] = (uint8_t)random_below(256);
    if (random_below(8) > 0) {
        size += add_frame(input + size, HELLO, "\0\1\0\0\0\0\0\0\0\4test", 14);
        if (random_below(4) > 0)
            size += add_frame(input + size, STARTED, "\0\0\0\1a", 5);
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
    static uint8_t input[RECEIVE_SIZE];
    long rounds = argc > 1 ? atol(argv[1]) : 10000;
    unsigned long ends[256] = {0};
    random_state = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    for (long i = 0; i < rounds; i++) {
        static struct call call;
        size_t size = make_input(input);
        LLVMFuzzerTestOneInput(input, size);
        begin(&call, 2);
        ends[feed(&call, input + 1, size - 1, size) & 255]++;
    }
    fprintf(stderr, "%ld answers; ends:", rounds);
    for (int i = 0; i < 256; i++)
        if (ends[i] > 0)
            fprintf(stderr, " %d: %lu", i == 255 ? -1 : i, ends[i]);
    fprintf(stderr, "\n");
    return 0;
}
#endif
