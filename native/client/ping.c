/* `sidecall ping`: whether a server answers, and how busy it is. */

#define _GNU_SOURCE

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "channel.h"
#include "commands.h"
#include "failure.h"
#include "options.h"
#include "outcome.h"
#include "request.h"

#define DEFAULT_TIMEOUT 5.0 /* seconds */

static const struct option OPTIONS[] = {PING_OPTIONS {NULL, "sidecall ping", 0, NULL}};

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Act on a message; return whether it is the answer. */
static bool on_message(const struct message *message, struct line *software)
{
    struct reader payload = {message_name(message->type), message->payload, message->length};
    switch (message->type) {
    case MESSAGE_HELLO: {
        next_number(&payload, 2);
        for (int i = 0; i < 2; i++)
            for (uint64_t count = next_number(&payload, 4); count > 0; count--)
                next_string(&payload);
        struct slice name = next_string(&payload);
        set_line(software, name.bytes, name.length);
        return false;
    }
    case MESSAGE_REFUSED: {
        int code = (int)next_number(&payload, 1);
        struct slice reason = next_string(&payload), hint_text = next_string(&payload);
        bool is_known = memchr(REFUSALS, code, sizeof REFUSALS) != NULL;
        fail_as_told(is_known ? code : EXIT_PROTOCOL, reason.bytes, reason.length, hint_text.bytes, hint_text.length);
        return false;
    }
    case MESSAGE_PONG: return true;
    case MESSAGE_CALLS:
    case MESSAGE_DESCRIPTION: return fail(EXIT_PROTOCOL, ANSWER_UNEXPECTED_TEXT, "PING", payload.name);
    default: return false;
    }
}

/* Wait for the answer; false, and a failure, if there is none. */
static bool await_answer(struct channel *channel, const char *path, double deadline, struct message *answer,
                         struct line *software)
{
    for (;;) {
        while (failure.code == 0 && next_message(channel, answer))
            if (on_message(answer, software))
                return true;
        double left = deadline - seconds_now();
        struct pollfd polled = {channel->sock, POLLIN, 0};
        if (failure.code != 0)
            return false;
        if (channel->has_ended) {
            fail(EXIT_UNAVAILABLE, CONNECTION_CLOSED_TEXT, path);
            return hint(CONNECTION_CLOSED_HINT);
        }
        if (left <= 0) {
            fail(EXIT_UNAVAILABLE, NO_ANSWER_TEXT);
            return hint(NO_ANSWER_HINT);
        }
        if (poll(&polled, 1, (int)(left * 1000) + 1) > 0)
            receive(channel);
    }
}

static void send_ping(struct channel *channel)
{
    put_hello(channel, false);
    uint8_t *frame = make_room(&channel->outgoing, HEADER);
    put_number(frame, 0, 4);
    frame[4] = MESSAGE_PING;
    channel->outgoing.end += HEADER;
    send_pending(channel);
}

static int print_reply(const char *name, const struct message *pong, const struct line *software, double seconds)
{
    static char text[3 * LINE_SIZE];
    static const char *const names[] = {DETAIL_RUNNING, DETAIL_SLOTS, DETAIL_QUEUED, DETAIL_QUEUE, DETAIL_ENDED};
    struct reader details = {message_name(pong->type), pong->payload, pong->length};
    unsigned long long numbers[5];
    for (int i = 0; i < 5; i++)
        numbers[i] = find_number(details, names[i]);
    snprintf(text, sizeof text, PING_REPLY_TEXT "\n", name, software->text, seconds * 1000, numbers[0], numbers[1],
             numbers[2], numbers[3], numbers[4], (double)find_number(details, DETAIL_UPTIME_MS) / 1000);
    return print_text(text);
}

static int ping(const char *name, double connect_timeout, double timeout, bool is_quiet)
{
    static struct channel channel;
    static struct line software, printable_name;
    struct message answer;
    const char *path = socket_path(name);
    if (timeout <= 0)
        timeout = DEFAULT_TIMEOUT;
    int sock = path != NULL ? connect_to_service(path, connect_timeout, timeout, SPEAKS_PROTOCOL) : -1;
    if (sock < 0)
        return print_failure();
    double began = seconds_now();
    open_channel(&channel, sock);
    send_ping(&channel);
    if (!await_answer(&channel, path, began + timeout, &answer, &software))
        return print_failure();
    set_line(&printable_name, name, strlen(name));
    return is_quiet ? 0 : print_reply(printable_name.text, &answer, &software, seconds_now() - began);
}

/* Options can stand behind the name too. */
int ping_main(char **argv)
{
    struct given given = {.values = {NULL}};
    double connect_timeout = 0, timeout = 0;
    char *name = NULL, **rest = argv + 2;
    while (parse_options(OPTIONS, rest, &given) && given.values[PING_OPTION_HELP] == NULL &&
           *given.arguments != NULL && name == NULL) {
        name = *given.arguments;
        rest = given.arguments + 1;
    }
    if (failure.code == 0 && given.values[PING_OPTION_HELP] != NULL)
        return print_text(PING_HELP);
    if (failure.code == 0 && (name == NULL || *given.arguments != NULL)) {
        fail(EXIT_USAGE, SERVICE_MISSING_TEXT);
        hint(SERVICE_MISSING_HINT, PING_USAGE);
    }
    if (failure.code != 0 || !parse_seconds("connect-timeout", given.values[PING_OPTION_CONNECT_TIMEOUT], &connect_timeout) ||
        !parse_seconds("timeout", given.values[PING_OPTION_TIMEOUT], &timeout))
        return print_failure();
    return ping(name, connect_timeout, timeout, given.values[PING_OPTION_QUIET] != NULL);
}
