/* How a job becomes a process. */

#ifndef EXECUTE_H
#define EXECUTE_H

#include "control.h"

struct start_error {
    int number; /* errno(3) */
    enum stage stage;
};

/* Start a job's command as the leader of a session of its own, with its streams and nothing else open; return its pid,
 * or -1 and the reason. `*child` is then a process that has still to exit, or -1. All signals have to be blocked. */
pid_t execute(const struct job *job, struct start_error *error, pid_t *child);

#endif
