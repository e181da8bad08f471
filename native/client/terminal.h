/* The terminal of this process while a command uses it: raw, and afterwards as it was. */

#ifndef TERMINAL_H
#define TERMINAL_H

#include <stdbool.h>
#include <stdint.h>

/* Keep a descriptor of stdin, which is a terminal; false: see errno. */
bool open_terminal(void);

/* Set *rows and *columns to its size; 0 for what is unknown. */
void get_terminal_size(uint16_t *rows, uint16_t *columns);

/* Return TERM; NULL if it is not set, or cannot be the name of a terminal's type. */
const char *terminal_type(void);

/* Pass every key on, change no output. In the background this process is stopped by that: SIGTTOU. */
void make_terminal_raw(void);

bool is_terminal_raw(void);

/* Set it as it was, unless this process is in the background: then the shell has done that. */
void restore_terminal(void);

/* Undo what a command might have set that did not exit by itself. Nothing is written if that would block. */
void reset_terminal(void);

#endif
