/* How a job becomes a process. */

#ifndef EXECUTE_H
#define EXECUTE_H

#include "line.h"

struct start_error {
    int number;     /* errno(3) */
    bool at_folder; /* its working folder could not be entered */
};

/* Start a job's command as the leader of a session of its own, with these streams and nothing else open; return its
 * pid, or -1 and why. The streams stay open here. All signals have to be blocked. */
pid_t execute(const struct job *job, const int *streams, struct start_error *error);

#endif
