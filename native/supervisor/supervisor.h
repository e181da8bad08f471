/* The supervisor: a process of its own that runs one command at a time and terminates all that descends from it. */

#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Run the jobs that come over a control socket, one after the other, until the server closes it or this process is not
 * to be used again. Return whether all that it started is gone, or was kept on purpose. The process has to be a
 * subreaper with all signals blocked and SIGCHLD handled.
 *
 * longest_grace   is raised to the longest grace period that it gave, in nanoseconds */
bool supervise(int control, _Atomic int64_t *longest_grace);

#endif
