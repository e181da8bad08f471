/* PROTOCOL.md as data: what messages there are, and whether what a service says is one that it may say now. No I/O. */

#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HELLO = 1,
    CALL = 2,
    QUEUED = 3,
    STARTED = 4,
    REFUSED = 5,
    EXIT = 6,
    DATA = 7,
    END_OF_STREAM = 8,
    WINDOW = 9,
    STOP = 10,
    SIGNAL = 11,
    PING = 16,
    PONG = 17,
    DESCRIBE = 18,
    DESCRIPTION = 19,
    STATUS = 20,
    CALLS = 21,
    CANCEL = 22,

    VERSION = 1,
    HEADER = 5,
    CONTROL_LIMIT = 64 << 10,
    CALL_LIMIT = 2 << 20,
    DESCRIPTION_LIMIT = 1 << 20,
    CALLS_LIMIT = 16 << 20,
    MAX_DATA = 64 << 10,
    INITIAL_WINDOW = 256 << 10,
    FLAG_NO_WAIT = 1,
    DESCRIPTORS_LOST = 1,
};

enum mode { MODE_NONE = 0, MODE_PASSED = 1, MODE_RELAYED = 2 };

/* The service's state; the caller's follows from it, since it says nothing but HELLO, CALL and what goes with it. */
enum state { STATE_IDLE, STATE_READY, STATE_WAITING, STATE_RUNNING, STATE_DONE };

void put_number(uint8_t *into, uint64_t number, size_t size);

uint64_t get_number(const uint8_t *from, size_t size);

/* Return what a message is called; NULL for no message. */
const char *message_name(int type);

/* Each of these returns whether all is well, and notes a failure if not. */

/* Check a frame by its header: its type is known, it is not too long. */
bool check_header(int type, uint64_t length);

/* Check that a payload has exactly the fields of its message. */
bool check_fields(int type, const uint8_t *payload, size_t length);

/* Move the service's state for a message of it, if it may say that now. */
bool move_state(enum state *state, int type);

#endif
