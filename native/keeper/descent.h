/* The processes that descend from this one, a subreaper without other children: src/sidecall/supervise/descent.py, which
 * says why this is exact. */

#ifndef DESCENT_H
#define DESCENT_H

#include <stdbool.h>
#include <sys/types.h>

/* Do something with every child; false if it cannot be told which there are: there is no memory, for now. */
bool for_each_child(void (*act)(pid_t child));

/* Kill a child, and the process group that it is in: a member that forks meanwhile does not get away. Deeper
 * descendants become children when their parents end; repeat this until there is none. */
void kill_child(pid_t child);

/* Ask every descendant that is not in a process group to end, once each; 0 for no group. */
void ask_descendants(pid_t but_group);

#endif
