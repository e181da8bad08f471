#include "wire.h"

#include <string.h>

#include "failure.h"

enum { TYPES = sizeof LAYOUTS / sizeof *LAYOUTS, MAX_DIGITS = 19 };

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
    return type < TYPES ? LAYOUTS[type].name : NULL;
}

bool check_header(int type, uint64_t length)
{
    bool is_known = message_name(type) != NULL;
    uint32_t limit = is_known ? LAYOUTS[type].limit : CONTROL_LIMIT;
    if (!is_known && type < FIRST_IGNORABLE) {
        fail(EXIT_PROTOCOL, "unknown message type %d", type);
        return hint("check that the peer is sidecall");
    }
    if (length <= limit)
        return true;
    return is_known ? fail(EXIT_PROTOCOL, "%s of %llu bytes exceeds its limit of %u", LAYOUTS[type].name,
                           (unsigned long long)length, limit)
                    : fail(EXIT_PROTOCOL, "message %d of %llu bytes exceeds its limit of %u", type,
                           (unsigned long long)length, limit);
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
        return fail(EXIT_PROTOCOL, "%s announces %llu strings, more than fit", reader->name,
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
    struct reader reader = {LAYOUTS[type].name, payload, length};
    for (const char *field = LAYOUTS[type].fields; *field != '\0'; field++)
        if (!take_field(&reader, *field))
            return false;
    return reader.left == 0 || fail(EXIT_PROTOCOL, "%s has %zu excess bytes", reader.name, reader.left);
}

uint64_t next_number(struct reader *reader, size_t size)
{
    uint64_t number = 0;
    take_number(reader, size, &number);
    return number;
}

struct slice next_string(struct reader *reader)
{
    size_t length = (size_t)next_number(reader, 4);
    struct slice slice = {(const char *)reader->at, length};
    take(reader, length);
    return slice;
}

struct slice find_detail(struct reader entries, const char *name)
{
    size_t size = strlen(name);
    for (uint64_t count = next_number(&entries, 4); count > 0; count--) {
        struct slice entry = next_string(&entries);
        if (entry.length > size && memcmp(entry.bytes, name, size) == 0 && entry.bytes[size] == '=')
            return (struct slice){entry.bytes + size + 1, entry.length - size - 1};
    }
    return (struct slice){NULL, 0};
}

uint64_t find_number(struct reader entries, const char *name)
{
    struct slice value = find_detail(entries, name);
    uint64_t number = 0;
    for (size_t i = 0; i < value.length; i++) {
        if (value.length > MAX_DIGITS || value.bytes[i] < '0' || value.bytes[i] > '9')
            return 0;
        number = number * 10 + (uint64_t)(value.bytes[i] - '0');
    }
    return number;
}

bool move_state(enum state *state, int type)
{
    bool is_known = message_name(type) != NULL;
    if (!is_known && *state == STATE_IDLE)
        return fail(EXIT_PROTOCOL, "the server does not begin with Hello");
    if (!is_known)
        return true;
    int after = LAYOUTS[type].after[*state];
    if (after == 0)
        return fail(EXIT_PROTOCOL, "%s does not fit a server that is %s", LAYOUTS[type].name, STATE_NAMES[*state]);
    *state = (enum state)(after - 1);
    return true;
}
