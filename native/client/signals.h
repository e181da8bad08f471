/* Signals of this process: those that are the command's arrive on a descriptor; and dying of one. */

#ifndef SIGNALS_H
#define SIGNALS_H

#include <stdbool.h>

/* Have writing to what nobody reads, or beyond a limit, be an error instead of a signal. */
void hold_back_write_signals(void);

/* Have the signals that a call forwards arrive on a descriptor, and SIGWINCH if it has a terminal; false: see errno. */
bool watch_signals(bool has_terminal);

/* Return that descriptor, or -1. */
int signal_descriptor(void);

/* Take a signal that has arrived; return its number, or 0 for none. */
int next_signal(void);

/* Let signals do again what they did before. */
void unwatch_signals(void);

/* End this process by a signal, as the command was ended, without a second core dump. Returns the code to exit with, as
 * shells report the signal, if this process survives: pid 1 of a container does. */
int kill_self(int number);

/* Whether a signal's default is to end a process, of those that a call forwards. */
bool is_ending(int number);

#endif
