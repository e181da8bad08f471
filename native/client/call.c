#define _GNU_SOURCE

#include "call.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "failure.h"
#include "paths.h"
#include "signals.h"

enum {
    PATIENCE = 2, /* INT signals that the service is trusted to act on: it kills the command at the second */
    LAST_SIGNAL = 64,
    ENDED_EXITED = 0, /* of EXIT */
    ENDED_SIGNALED = 1,
    ENDED_TIMED_OUT = 2,
    ENDED_UNPLACED = 3,
    POLL_CHANNEL = 3, /* the streams come first, under their own numbers */
    POLL_SIGNALS = 4,
    POLL_COUNT = 5,
};

bool asks_for_description(const struct request *request)
{
    const char *first = request->arguments[0];
    return first != NULL && request->arguments[1] == NULL &&
           (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0);
}

bool has_ended(const struct call *call)
{
    return call->outcome.kind != KIND_UNKNOWN || call->description != NULL || call->channel.descriptors_lost ||
           failure.code != 0;
}

static void on_hello(const uint8_t *payload)
{
    unsigned version = (unsigned)get_number(payload, 2);
    if (version != VERSION)
        fail(EXIT_PROTOCOL, "the service speaks version %u of the protocol, not %d", version, VERSION);
}

static void on_started(struct call *call, const uint8_t *payload)
{
    call->id_length = (size_t)get_number(payload, 4);
    call->id = take_room(call->id_length);
    if (call->id == NULL) {
        fail(EXIT_BUG, "there is no room for the call's id");
        return;
    }
    memcpy(call->id, payload + 4, call->id_length);
    if (call->verbose)
        say("started as call %.*s", (int)call->id_length, call->id);
    let_go_of_streams();
}

static bool is_refusal(int code)
{
    static const uint8_t known[] = {EXIT_USAGE,  EXIT_UNAVAILABLE,    EXIT_BUSY,           EXIT_PROTOCOL,
                                    EXIT_DENIED, EXIT_CANNOT_EXECUTE, EXIT_NO_SUCH_COMMAND};
    return memchr(known, code, sizeof known) != NULL;
}

static void on_refused(struct call *call, const uint8_t *payload)
{
    static char told[CONTROL_LIMIT + 100];
    int code = payload[0], size = 0;
    size_t length = (size_t)get_number(payload + 1, 4);
    const uint8_t *reason = payload + 5, *hint_text = reason + length + 4;
    if (code == DESCRIPTORS_LOST)
        call->channel.descriptors_lost = true;
    else if (!is_refusal(code))
        size = snprintf(told, 100, "the service refused with an unknown code %d: ", code);
    memcpy(told + size, reason, length);
    fail_as_told(is_refusal(code) ? code : EXIT_PROTOCOL, told, (size_t)size + length, hint_text,
                 (size_t)get_number(hint_text - 4, 4));
}

/* Note an end that is not the command's own, though it ran. */
static void explain_end(struct outcome *outcome)
{
    if (outcome->kind == KIND_TIMED_OUT) {
        fail(EXIT_TIMED_OUT, "the command ran into its deadline and was stopped");
        hint("give it more time with `--timeout`, or in the service's configuration");
    } else if (outcome->kind == KIND_UNPLACED) {
        fail(EXIT_UNPLACED, "the command returned 0, but what it was to write could not be put into its place");
        hint("did it write the file that it was told to? The service's log says more");
    } else {
        return;
    }
    outcome->value = 0;
}

/* Return what an EXIT says; KIND_UNKNOWN if it cannot be: only a signal ends what has not started. */
static enum kind kind_of(int ended, int value, bool has_started)
{
    switch (ended) {
    case ENDED_SIGNALED: return value > 0 && value <= LAST_SIGNAL ? KIND_SIGNALED : KIND_UNKNOWN;
    case ENDED_EXITED: return has_started ? KIND_EXITED : KIND_UNKNOWN;
    case ENDED_TIMED_OUT: return has_started ? KIND_TIMED_OUT : KIND_UNKNOWN;
    case ENDED_UNPLACED: return has_started ? KIND_UNPLACED : KIND_UNKNOWN;
    default: return KIND_UNKNOWN;
    }
}

static void on_exit_message(struct call *call, const uint8_t *payload)
{
    struct outcome *outcome = &call->outcome;
    bool has_started = call->id_length > 0;
    outcome->kind = kind_of(payload[0], payload[1], has_started);
    outcome->value = payload[1];
    if (outcome->kind == KIND_UNKNOWN)
        fail(EXIT_PROTOCOL, "the service reports an impossible end %d, %d", payload[0], payload[1]);
    if (outcome->kind == KIND_UNKNOWN || !has_started)
        return;
    outcome->core_dumped = payload[2] != 0;
    outcome->has_usage = true;
    outcome->usage = (struct usage){get_number(payload + 3, 8), get_number(payload + 11, 8),
                                    get_number(payload + 19, 8), get_number(payload + 27, 8),
                                    get_number(payload + 35, 8)};
    explain_end(outcome);
}

static void on_description(struct call *call, const struct message *message)
{
    if (!asks_for_description(&call->request)) {
        fail(EXIT_PROTOCOL, "the service described the command instead of running it");
        return;
    }
    call->description = message->payload + 4;
    call->description_length = message->length - 4;
}

static void on_queued(const struct call *call, const uint8_t *payload)
{
    if (!call->quiet)
        say("waiting for a slot of %s, %u ahead", call->name, (unsigned)get_number(payload, 4));
}

static void on_message(struct call *call, const struct message *message)
{
    switch (message->type) {
    case HELLO: on_hello(message->payload); break;
    case QUEUED: on_queued(call, message->payload); break;
    case STARTED: on_started(call, message->payload); break;
    case REFUSED: on_refused(call, message->payload); break;
    case EXIT: on_exit_message(call, message->payload); break;
    case DESCRIPTION: on_description(call, message); break;
    case DATA:
    case END_OF_STREAM:
    case WINDOW:
    case STOP: on_stream_message(&call->relay, message); break;
    default: break; /* PONG, CALLS: nothing was asked that they would answer */
    }
}

void take_messages(struct call *call)
{
    struct message message;
    while (!has_ended(call) && next_message(&call->channel, &message))
        on_message(call, &message);
}

static void receive_messages(struct call *call)
{
    receive(&call->channel);
    take_messages(call);
    if (!call->channel.has_ended || has_ended(call))
        return;
    fail(EXIT_LOST, "the connection to the service was lost: whether and how the command ended is unknown");
    hint("look at the service's log before calling again");
}

static void forward_signal(struct call *call)
{
    int number = next_signal();
    call->interrupts += number == SIGINT;
    if (call->interrupts > PATIENCE) {
        fail(EXIT_LOST, "interrupted again and again while the service does not act: how the command ended is unknown");
        hint("look at the service: is it stopped?");
        return;
    }
    if (number != 0)
        send_small(&call->channel, SIGNAL, (uint8_t)number, NULL);
    if (number == SIGTSTP) {
        kill(getpid(), SIGSTOP);
        send_small(&call->channel, SIGNAL, SIGCONT, NULL);
    }
}

/* Wait until something is ready, and act on all that is. */
static void run_once(struct call *call)
{
    struct channel *channel = &call->channel;
    struct pollfd polled[POLL_COUNT];
    for (int i = 0; i < 3; i++)
        polled[i] = (struct pollfd){waiting_for(&call->relay, i), i == STDIN_FILENO ? POLLIN : POLLOUT, 0};
    polled[POLL_CHANNEL] = (struct pollfd){channel->sock, POLLIN, 0};
    if (filled(&channel->outgoing) > 0)
        polled[POLL_CHANNEL].events |= POLLOUT;
    polled[POLL_SIGNALS] = (struct pollfd){signal_descriptor(), POLLIN, 0};
    if (poll(polled, POLL_COUNT, -1) <= 0)
        return;
    if (polled[POLL_CHANNEL].revents & POLLOUT)
        send_pending(channel);
    if (polled[POLL_CHANNEL].revents & ~POLLOUT)
        receive_messages(call);
    if (polled[POLL_SIGNALS].revents && !has_ended(call))
        forward_signal(call);
    for (int i = 0; i < 3; i++)
        if (polled[i].revents && waiting_for(&call->relay, i) >= 0)
            move_stream(&call->relay, i);
}

/* A command that returned 0 has not succeeded if bytes on their way from or to it are lost. */
static void check_streams(struct call *call)
{
    static const char *const did[] = {"stdin could not be read", "stdout could not be written",
                                      "stderr could not be written"};
    for (int i = 0; i < 3; i++) {
        int error = call->relay.streams[i].error;
        if (error == 0 || call->outcome.kind != KIND_EXITED || call->outcome.value != 0)
            continue;
        fail(EXIT_LOST, "the command returned 0, but its %s: %s", did[i], error_text(error));
        call->outcome.kind = KIND_LOST;
        call->outcome.value = EXIT_LOST;
    }
}

/* Write what arrived to where it belongs. From here on Ctrl-C ends the caller, not the ended command. */
static void flush_streams(struct call *call)
{
    end_streams(&call->relay);
    if (is_writing(&call->relay))
        unwatch_signals();
    while (is_writing(&call->relay))
        run_once(call);
    check_streams(call);
}

void begin_attempt(struct call *call, int sock, bool relays_all)
{
    struct channel *channel = &call->channel;
    open_channel(channel, sock);
    for (int i = 0; i < 3; i++) {
        bool is_wanted = i != STDIN_FILENO || !call->no_stdin;
        call->request.modes[i] = is_wanted ? mode_of(i, call->types[i], relays_all) : MODE_NONE;
        if (call->request.modes[i] == MODE_PASSED)
            channel->passed[channel->passed_count++] = i;
    }
}

/* One connection's worth of a call. */
static void attempt(struct call *call, bool relays_all)
{
    int sock = connect_to_service(call->request.path, call->request.wait);
    if (sock < 0)
        return;
    begin_attempt(call, sock, relays_all);
    if (open_relay(&call->relay, &call->channel, call->request.modes, call->types) && watch_signals() &&
        send_request(&call->channel, &call->request)) {
        while (!has_ended(call))
            run_once(call);
        close_once(&call->channel.sock);
        flush_streams(call);
    }
    close_once(&call->channel.sock);
    close_relay(&call->relay);
}

static bool has_passed(const struct call *call)
{
    const enum mode *modes = call->request.modes;
    return modes[0] == MODE_PASSED || modes[1] == MODE_PASSED || modes[2] == MODE_PASSED;
}

/* Where descriptors get lost on the way the call is made again with relayed streams. */
void make_call(struct call *call)
{
    attempt(call, call->relays_all);
    if (call->channel.descriptors_lost && has_passed(call)) {
        unwatch_signals();
        forget_failure();
        attempt(call, true);
    }
}
