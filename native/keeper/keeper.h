/* The keeper: a process of its own that runs one command at a time and knows all that descends from it. It does what
 * src/sidecall/supervise/keeper.py does, with a tenth of the memory and of the time. */

#ifndef KEEPER_H
#define KEEPER_H

/* Run the jobs that come over a line, one after the other, until the server hangs up, or helpers are left on purpose that
 * need this process no longer. It has to be a subreaper with all signals blocked, and SIGCHLD handled. */
void keep(int line);

#endif
