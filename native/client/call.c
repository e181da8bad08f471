/* Theory of operation. An attempt is one connection: HELLO, CALL and PASS go out at once; then one loop waits for the
 * server, for signals and for the relayed streams, until the call has an outcome, a description or a failure. Then the
 * connection is closed, and what arrived is written to stdout and stderr: a reader may take its time, as it may take it
 * with a local command. If descriptors do not get through, a second attempt relays all streams.
 *
 * Every wait ends. A server that answers nothing is given up after `--connect-timeout`, or ANSWER_TIMEOUT; one that does
 * not report the end of a call with `--timeout`, REPORT_MARGIN after that, counted from STARTED. The third
 * signal in a row ends the client; while output is flushed, the first does. After a signal, a timeout or a kill
 * output is flushed for FLUSH_TIME at the most. */

#define _GNU_SOURCE

#include "call.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "failure.h"
#include "paths.h"
#include "signals.h"
#include "terminal.h"

enum {
    PATIENCE = 2, /* signals that the server is trusted to act on: it kills the command at the second INT */
    IN_A_ROW = 5000, /* milliseconds between signals that are counted together: a command may use INT for itself */
    REPORT_MARGIN = 30000, /* milliseconds after `--timeout` for the server's grace period, 10 s by default */
    FLUSH_TIME = 5000, /* milliseconds for output that a reader does not take, after the call was stopped */
    LAST_SIGNAL = 64,
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

static struct reader reader_of(const struct message *message)
{
    return (struct reader){message_name(message->type), message->payload, message->length};
}

/* Set *name to the first feature that the server needs and this client does not have, if there is one. */
static bool next_unknown_need(struct reader *payload, struct slice *name)
{
    for (uint64_t count = next_number(payload, 4); count > 0; count--) {
        *name = next_string(payload);
        if (name->length != strlen(FEATURE_TERMINAL) || memcmp(name->bytes, FEATURE_TERMINAL, name->length) != 0)
            return true;
    }
    return false;
}

static void on_hello(struct call *call, struct reader payload)
{
    char need[100];
    struct slice name;
    uint64_t version = next_number(&payload, 2);
    call->deadline = 0;
    if (version != VERSION) {
        fail(EXIT_PROTOCOL, VERSION_UNKNOWN_TEXT, (unsigned long long)version, (unsigned long long)VERSION);
        hint(VERSION_UNKNOWN_HINT);
    } else if (next_unknown_need(&payload, &name)) {
        snprintf(need, sizeof need, "%.*s", (int)(name.length < sizeof need ? name.length : sizeof need), name.bytes);
        fail(EXIT_PROTOCOL, NEED_UNKNOWN_TEXT, quoted(need));
        hint(NEED_UNKNOWN_HINT);
    }
}

static int64_t after(double seconds, int margin)
{
    return milliseconds_now() + (int64_t)(seconds * 1000) + margin;
}

static void on_started(struct call *call, struct reader payload)
{
    struct slice id = next_string(&payload);
    call->id_length = id.length;
    call->id = take_room(id.length);
    if (call->id == NULL) {
        fail(EXIT_BUG, "no room for the id of the call");
        return;
    }
    memcpy(call->id, id.bytes, id.length);
    if (call->request.detach != NULL) {
        call->outcome.kind = KIND_DETACHED;
        return;
    }
    if (call->verbose)
        say("started as call %.*s", (int)call->id_length, call->id);
    if (call->request.timeout > 0)
        call->deadline = after(call->request.timeout, REPORT_MARGIN);
    let_go_of_streams(&call->relay);
    if (call->request.has_terminal)
        make_terminal_raw();
}

static void on_refused(struct call *call, struct reader payload)
{
    static char text[CONTROL_LIMIT + 100];
    int code = (int)next_number(&payload, 1), size = 0;
    struct slice reason = next_string(&payload), hint_text = next_string(&payload);
    bool is_known = memchr(REFUSALS, code, sizeof REFUSALS) != NULL;
    if (call->cancelled_by != 0) {
        call->outcome.kind = KIND_SIGNALED;
        call->outcome.value = call->cancelled_by;
        return;
    }
    if (code == DESCRIPTORS_LOST)
        call->channel.descriptors_lost = true;
    else if (!is_known)
        size = snprintf(text, 100, "the service refused with an unknown code %d: ", code);
    memcpy(text + size, reason.bytes, reason.length);
    fail_as_told(is_known ? code : EXIT_PROTOCOL, text, (size_t)size + reason.length, hint_text.bytes, hint_text.length);
}

/* Record an end that is not the command's own, though it ran. */
static void explain_end(struct outcome *outcome, struct slice reason)
{
    static char text[sizeof OUTPUT_FAILED_TEXT + 2 + CONTROL_LIMIT];
    size_t size = sizeof OUTPUT_FAILED_TEXT - 1;
    switch (outcome->kind) {
    case KIND_TIMED_OUT:
        fail(EXIT_TIMED_OUT, TIMED_OUT_TEXT);
        hint(TIMED_OUT_HINT);
        break;
    case KIND_OUTPUT_FAILED:
        memcpy(text, OUTPUT_FAILED_TEXT ": ", size + 2);
        if (reason.length > 0)
            memcpy(text + size + 2, reason.bytes, reason.length);
        size += reason.length > 0 ? 2 + reason.length : 0;
        fail_as_told(EXIT_OUTPUT_FAILED, text, size, OUTPUT_FAILED_HINT, sizeof OUTPUT_FAILED_HINT - 1);
        break;
    case KIND_LOST:
        fail(EXIT_LOST, END_UNKNOWN_TEXT);
        hint(END_UNKNOWN_HINT);
        break;
    default: return;
    }
    outcome->value = outcome->kind == KIND_LOST ? EXIT_LOST : 0;
}

/* Return whether a process can die of a signal: one that stopped this one instead would hold its caller for ever. */
static bool is_lethal(int number)
{
    for (size_t i = 0; i < sizeof NEVER_LETHAL_SIGNALS / sizeof *NEVER_LETHAL_SIGNALS; i++)
        if (NEVER_LETHAL_SIGNALS[i] == number)
            return false;
    return number > 0 && number <= LAST_SIGNAL;
}

/* Return the kind of an end; KIND_UNKNOWN if it cannot be: only a signal ends a call that has not started. */
static enum kind kind_of(int ended, int value, bool has_started)
{
    switch (ended) {
    case ENDED_SIGNALED: return is_lethal(value) ? KIND_SIGNALED : KIND_UNKNOWN;
    case ENDED_EXITED: return has_started ? KIND_EXITED : KIND_UNKNOWN;
    case ENDED_TIMED_OUT: return has_started ? KIND_TIMED_OUT : KIND_UNKNOWN;
    case ENDED_OUTPUT_FAILED: return has_started ? KIND_OUTPUT_FAILED : KIND_UNKNOWN;
    default: return KIND_LOST;
    }
}

static const char *who_stopped(struct reader details)
{
    struct slice who = find_detail(details, DETAIL_STOPPED);
    for (size_t i = 0; who.bytes != NULL && i < sizeof STOPPED_BY / sizeof *STOPPED_BY; i++)
        if (strlen(STOPPED_BY[i]) == who.length && memcmp(STOPPED_BY[i], who.bytes, who.length) == 0)
            return STOPPED_BY[i];
    return NULL;
}

static void on_exit_message(struct call *call, struct reader payload)
{
    struct outcome *outcome = &call->outcome;
    int ended = (int)next_number(&payload, 1), value = (int)next_number(&payload, 1);
    bool has_started = call->id_length > 0;
    enum kind kind = kind_of(ended, value, has_started);
    if (kind == KIND_UNKNOWN) {
        fail(EXIT_PROTOCOL, END_IMPOSSIBLE_TEXT, (unsigned long long)ended, (unsigned long long)value);
        return;
    }
    *outcome = (struct outcome){kind, .value = value, .has_started = has_started};
    outcome->stopped = who_stopped(payload);
    outcome->terminated = find_number(payload, DETAIL_TERMINATED);
    outcome->core_dumped = find_number(payload, DETAIL_CORE_DUMPED) == 1;
    outcome->usage = (struct usage){find_number(payload, DETAIL_QUEUED_US), find_number(payload, DETAIL_RUN_US),
                                    find_number(payload, DETAIL_USER_US), find_number(payload, DETAIL_SYSTEM_US),
                                    find_number(payload, DETAIL_MAX_RSS)};
    explain_end(outcome, find_detail(payload, DETAIL_REASON));
}

static void on_description(struct call *call, const struct message *message)
{
    if (!asks_for_description(&call->request)) {
        fail(EXIT_PROTOCOL, NOT_ASKED_TO_DESCRIBE_TEXT);
        return;
    }
    call->description = message->payload + 4;
    call->description_length = message->length - 4;
}

static void on_queued(const struct call *call, struct reader payload)
{
    if (!call->quiet)
        say(WAITING_FOR_SLOT_TEXT, call->name, (unsigned long long)next_number(&payload, 4));
}

static void on_notice(const struct call *call, struct reader payload)
{
    struct slice notice = next_string(&payload), hint_text = next_string(&payload);
    if (!call->quiet)
        print_notice(notice.bytes, notice.length, hint_text.bytes, hint_text.length);
}

static void on_message(struct call *call, const struct message *message)
{
    struct reader payload = reader_of(message);
    switch (message->type) {
    case MESSAGE_HELLO: on_hello(call, payload); break;
    case MESSAGE_QUEUED: on_queued(call, payload); break;
    case MESSAGE_STARTED: on_started(call, payload); break;
    case MESSAGE_REFUSED: on_refused(call, payload); break;
    case MESSAGE_EXIT: on_exit_message(call, payload); break;
    case MESSAGE_NOTICE: on_notice(call, payload); break;
    case MESSAGE_DESCRIPTION: on_description(call, message); break;
    case MESSAGE_DATA:
    case MESSAGE_EOF:
    case MESSAGE_WINDOW:
    case MESSAGE_STOP: on_stream_message(&call->relay, message); break;
    default: break; /* PONG and CALLS, which answer nothing that was asked; what is unknown and ignorable */
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
    fail(EXIT_LOST, CONNECTION_LOST_TEXT);
    hint(CONNECTION_LOST_HINT);
}

/* Count a signal that asks to end; return whether it is the one that the client obeys itself. */
static bool is_last_straw(struct call *call, int number)
{
    if (!is_ending(number) || number == SIGUSR1 || number == SIGUSR2)
        return false;
    int64_t now = milliseconds_now();
    if (now - call->interrupted > IN_A_ROW)
        call->interrupts = 0;
    call->interrupted = now;
    return ++call->interrupts > PATIENCE;
}

static void report_size(struct call *call)
{
    uint16_t rows, columns;
    get_terminal_size(&rows, &columns);
    send_size(&call->channel, rows, columns);
}

/* Use the terminal again: while this process was stopped, a shell has, and its size can have changed. */
static void retake_terminal(struct call *call)
{
    if (call->id_length > 0)
        make_terminal_raw();
    report_size(call);
}

static void forward_signal(struct call *call)
{
    int number = next_signal();
    if (number == 0)
        return;
    if (number == SIGWINCH) {
        report_size(call);
        return;
    }
    if (is_last_straw(call, number)) {
        fail(EXIT_LOST, NOT_STOPPED_TEXT);
        hint(NOT_STOPPED_HINT);
        close_relay(&call->relay); /* nothing is flushed: the client ends at once */
        return;
    }
    send_small(&call->channel, MESSAGE_SIGNAL, (uint8_t)number, NULL);
    if (is_ending(number) && call->channel.state == STATE_WAITING && call->cancelled_by == 0) {
        call->cancelled_by = number; /* a server that waits for PASS does not read SIGNAL, but sees the end */
        close_sending(&call->channel);
    }
    if (number == SIGTSTP) {
        restore_terminal();
        kill(getpid(), SIGSTOP);
        send_small(&call->channel, MESSAGE_SIGNAL, SIGCONT, NULL);
    }
    if (call->request.has_terminal && (number == SIGTSTP || number == SIGCONT))
        retake_terminal(call);
}

static void on_deadline(struct call *call)
{
    call->deadline = 0;
    if (has_ended(call)) {
        drop_pending(&call->relay);
    } else if (call->channel.state == STATE_IDLE) {
        fail(EXIT_UNAVAILABLE, NO_ANSWER_TEXT);
        hint(NO_ANSWER_HINT);
    } else {
        fail(EXIT_LOST, TIMEOUT_IGNORED_TEXT);
        hint(TIMEOUT_IGNORED_HINT);
    }
}

static int milliseconds_left(const struct call *call)
{
    int64_t left = call->deadline - milliseconds_now();
    if (can_read_at_once(&call->relay))
        return 0;
    return call->deadline == 0 ? -1 : left < 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

/* Wait until something is ready, and act on all that is. */
static void run_once(struct call *call)
{
    struct channel *channel = &call->channel;
    struct pollfd polled[POLL_COUNT];
    for (int i = 0; i < 3; i++)
        polled[i] = waiting_for(&call->relay, i);
    polled[POLL_CHANNEL] = (struct pollfd){channel->sock, POLLIN, 0};
    if (filled(&channel->outgoing) > 0)
        polled[POLL_CHANNEL].events |= POLLOUT;
    polled[POLL_SIGNALS] = (struct pollfd){signal_descriptor(), POLLIN, 0};
    if (poll(polled, POLL_COUNT, milliseconds_left(call)) < 0)
        return;
    if (polled[POLL_CHANNEL].revents & POLLOUT)
        send_pending(channel);
    if (polled[POLL_CHANNEL].revents & ~POLLOUT)
        receive_messages(call);
    if (polled[POLL_SIGNALS].revents && !has_ended(call))
        forward_signal(call);
    for (int i = 0; i < 3; i++)
        if ((polled[i].revents || (i == STDIN_FILENO && can_read_at_once(&call->relay))) &&
            waiting_for(&call->relay, i).fd >= 0)
            move_stream(&call->relay, i, polled[i].revents);
    if (call->deadline != 0 && milliseconds_now() >= call->deadline)
        on_deadline(call);
}

static void report_stream_error(struct call *call, int number, int error)
{
    static const char *const names[] = {"stdin", "stdout", "stderr"};
    struct outcome *outcome = &call->outcome;
    bool is_doubtful = (outcome->kind == KIND_EXITED && outcome->value == 0) ||
                       (outcome->kind == KIND_SIGNALED && outcome->value == SIGPIPE && number != STDIN_FILENO);
    bool is_input = number == STDIN_FILENO;
    if (error == ETIMEDOUT && !is_doubtful) {
        say(OUTPUT_DROPPED_TEXT, names[number]);
        return;
    }
    if (!is_doubtful) {
        say(is_input ? CANNOT_READ_TEXT : CANNOT_WRITE_TEXT, names[number], error_text(error));
        return;
    }
    fail(EXIT_LOST, is_input ? CANNOT_READ_TEXT : CANNOT_WRITE_TEXT, names[number], error_text(error));
    hint("%s", is_input ? CANNOT_READ_HINT : CANNOT_WRITE_HINT);
    outcome->kind = KIND_LOST;
    outcome->value = EXIT_LOST;
}

/* A command that exited with 0 has not succeeded if bytes from or to it are lost. If its reader had closed the stream,
 * it ends as by a write of its own: of SIGPIPE. Any other error is reported whatever the command's status; its SIGPIPE
 * is then the effect of that error. */
static void check_streams(struct call *call)
{
    struct outcome *outcome = &call->outcome;
    for (int i = 0; i < 3; i++) {
        const struct stream *stream = &call->relay.streams[i];
        if (stream->error != 0 && stream->error != EPIPE) {
            report_stream_error(call, i, stream->error);
        } else if (stream->error == EPIPE && stream->lost && outcome->kind == KIND_EXITED && outcome->value == 0) {
            outcome->kind = KIND_SIGNALED;
            outcome->value = SIGPIPE;
        }
    }
}

/* Whether the call was stopped, so that its reader has no claim on output that it does not take. */
static bool was_stopped(const struct call *call)
{
    return call->outcome.stopped != NULL || call->outcome.kind == KIND_TIMED_OUT ||
           (call->interrupted != 0 && milliseconds_now() - call->interrupted < REPORT_MARGIN);
}

/* Write what arrived to where it belongs. From here on Ctrl-C ends the client, not the ended command. */
static void flush_streams(struct call *call)
{
    end_streams(&call->relay);
    restore_terminal();
    call->deadline = was_stopped(call) ? after(0, FLUSH_TIME) : 0;
    if (is_writing(&call->relay))
        unwatch_signals();
    while (is_writing(&call->relay))
        run_once(call);
    check_streams(call);
}

void begin_attempt(struct call *call, int sock, enum plan plan)
{
    open_channel(&call->channel, sock);
    choose_modes(&call->request, call->types, call->no_stdin, plan);
    double connect_timeout = call->request.connect_timeout;
    call->deadline = after(connect_timeout > 0 ? connect_timeout : ANSWER_TIMEOUT, 0);
}

/* One connection's worth of a call. */
static void attempt(struct call *call, enum plan plan)
{
    int sock = connect_to_service(call->request.path, call->request.connect_timeout, ANSWER_TIMEOUT, SPEAKS_PROTOCOL);
    if (sock < 0)
        return;
    begin_attempt(call, sock, plan);
    if (!open_relay(&call->relay, &call->channel, call->request.modes, call->types)) {
        ;
    } else if (!watch_signals(call->request.has_terminal)) {
        fail_short(errno);
    } else if (send_request(&call->channel, &call->request)) {
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
    attempt(call, call->relays_all ? PLAN_RELAY : PLAN_PASS);
    if (call->channel.descriptors_lost && has_passed(call)) {
        unwatch_signals();
        forget_failure();
        attempt(call, PLAN_BYTES_ONLY);
    }
}
