/* PROTOCOL.md as code: whether bytes from a server are a message that it may send now. No I/O; the tables are tables.h. */

#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../tables.h"

enum { HEADER = 5 };

/* What is left of a payload while its fields are taken off. */
struct reader {
    const char *name;
    const uint8_t *at;
    size_t left;
};

/* A string of a payload, where it lies. */
struct slice {
    const char *bytes;
    size_t length;
};

void put_number(uint8_t *into, uint64_t number, size_t size);

uint64_t get_number(const uint8_t *from, size_t size);

/* Return the name of a message; NULL for an unknown type. */
const char *message_name(int type);

/* Take fields off a payload that has been checked. */
uint64_t next_number(struct reader *reader, size_t size);
struct slice next_string(struct reader *reader);

/* Find NAME in the entries NAME=VALUE that come next, without taking them; .bytes is NULL if it is not there. */
struct slice find_detail(struct reader entries, const char *name);

/* Return that value as a decimal number; 0 if it is absent or malformed. */
uint64_t find_number(struct reader entries, const char *name);

/* Each of these returns whether all is well, and records a failure if not. */

/* Check a frame by its header: its type is known or can be ignored, it is not too long. */
bool check_header(int type, uint64_t length);

/* Check that a payload has exactly the fields of its message. */
bool check_fields(int type, const uint8_t *payload, size_t length);

/* Move the server's state for a message, if it may be sent in that state. */
bool move_state(enum state *state, int type);

#endif
