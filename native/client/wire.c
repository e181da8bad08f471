#include "wire.h"

#include "failure.h"

enum { IN_IDLE = 1 << STATE_IDLE, IN_READY = 1 << STATE_READY, IN_WAITING = 1 << STATE_WAITING,
       IN_RUNNING = 1 << STATE_RUNNING, BEFORE_START = IN_READY | IN_WAITING };

struct message {
    const char *name;
    uint32_t limit;
    const char *fields; /* 1, 2, 4, 8: a number of that many bytes; s string, t text, l strings, r the rest */
    int may_be_said;    /* by a service in one of these states; by none if only a caller says it */
    enum state next;
};

static const struct message MESSAGES[] = {
    [HELLO] = {"Hello", CONTROL_LIMIT, "2lt", IN_IDLE, STATE_READY},
    [CALL] = {"Call", CALL_LIMIT, "sllssl81111", 0, 0},
    [QUEUED] = {"Queued", CONTROL_LIMIT, "4", BEFORE_START, STATE_WAITING},
    [STARTED] = {"Started", CONTROL_LIMIT, "t", BEFORE_START, STATE_RUNNING},
    [REFUSED] = {"Refused", CONTROL_LIMIT, "1tt", BEFORE_START, STATE_DONE},
    [EXIT] = {"Exit", CONTROL_LIMIT, "11188888", BEFORE_START | IN_RUNNING, STATE_DONE},
    [DATA] = {"Data", MAX_DATA + 1, "1r", IN_RUNNING, STATE_RUNNING},
    [END_OF_STREAM] = {"Eof", CONTROL_LIMIT, "1", IN_RUNNING, STATE_RUNNING},
    [WINDOW] = {"Window", CONTROL_LIMIT, "14", IN_RUNNING, STATE_RUNNING},
    [STOP] = {"Stop", CONTROL_LIMIT, "1", IN_RUNNING, STATE_RUNNING},
    [SIGNAL] = {"Signal", CONTROL_LIMIT, "1", 0, 0},
    [PING] = {"Ping", CONTROL_LIMIT, "", 0, 0},
    [PONG] = {"Pong", CONTROL_LIMIT, "444488", IN_READY, STATE_READY},
    [DESCRIBE] = {"Describe", CONTROL_LIMIT, "s", 0, 0},
    [DESCRIPTION] = {"Description", DESCRIPTION_LIMIT, "s", IN_READY, STATE_READY},
    [STATUS] = {"Status", CONTROL_LIMIT, "", 0, 0},
    [CALLS] = {"Calls", CALLS_LIMIT, "s", IN_READY, STATE_READY},
    [CANCEL] = {"Cancel", CONTROL_LIMIT, "t", 0, 0},
};

/* What is left of a payload while its fields are taken off. */
struct reader {
    const char *name;
    const uint8_t *at;
    size_t left;
};

void put_number(uint8_t *into, uint64_t number, size_t size)
{
    for (size_t i = 0; i < size; i++)
        into[i] = (uint8_t)(number >> 8 * (size - 1 - i));
}

uint64_t get_number(const uint8_t *from, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | from[i];
    return number;
}

const char *message_name(int type)
{
    return (size_t)type < sizeof MESSAGES / sizeof *MESSAGES ? MESSAGES[type].name : NULL;
}

bool check_header(int type, uint64_t length)
{
    if (message_name(type) == NULL) {
        fail(EXIT_PROTOCOL, "a frame of unknown type %d", type);
        return hint("is the peer a sidecall service or caller?");
    }
    const struct message *message = &MESSAGES[type];
    return length <= message->limit || fail(EXIT_PROTOCOL, "%s of %llu bytes is over its %u", message->name,
                                            (unsigned long long)length, (unsigned)message->limit);
}

static bool take(struct reader *reader, size_t size)
{
    if (size > reader->left)
        return fail(EXIT_PROTOCOL, "%s ends in the middle of a field", reader->name);
    reader->at += size;
    reader->left -= size;
    return true;
}

static bool take_number(struct reader *reader, size_t size, uint64_t *number)
{
    const uint8_t *at = reader->at;
    if (!take(reader, size))
        return false;
    *number = get_number(at, size);
    return true;
}

static bool take_string(struct reader *reader, bool is_text)
{
    uint64_t size;
    if (!take_number(reader, 4, &size))
        return false;
    const uint8_t *text = reader->at;
    if (!take(reader, (size_t)size))
        return false;
    return !is_text || is_utf8(text, (size_t)size) ||
           fail(EXIT_PROTOCOL, "%s has a text that is not UTF-8", reader->name);
}

static bool take_strings(struct reader *reader)
{
    uint64_t count;
    if (!take_number(reader, 4, &count))
        return false;
    if (count * 4 > reader->left)
        return fail(EXIT_PROTOCOL, "%s announces %llu strings, more than it can hold", reader->name,
                    (unsigned long long)count);
    while (count-- > 0)
        if (!take_string(reader, false))
            return false;
    return true;
}

static bool take_field(struct reader *reader, char field)
{
    uint64_t ignored;
    switch (field) {
    case 'l': return take_strings(reader);
    case 's': return take_string(reader, false);
    case 't': return take_string(reader, true);
    case 'r': return take(reader, reader->left);
    default: return take_number(reader, (size_t)(field - '0'), &ignored);
    }
}

bool check_fields(int type, const uint8_t *payload, size_t length)
{
    struct reader reader = {MESSAGES[type].name, payload, length};
    for (const char *field = MESSAGES[type].fields; *field != '\0'; field++)
        if (!take_field(&reader, *field))
            return false;
    return reader.left == 0 || fail(EXIT_PROTOCOL, "%s has %zu bytes too many", reader.name, reader.left);
}

bool move_state(enum state *state, int type)
{
    static const char *const names[] = {"idle", "ready", "waiting", "running", "done"};
    const struct message *message = &MESSAGES[type];
    if ((message->may_be_said & 1 << *state) == 0)
        return fail(EXIT_PROTOCOL, "%s does not fit a service that is %s", message->name, names[*state]);
    *state = message->next;
    return true;
}
