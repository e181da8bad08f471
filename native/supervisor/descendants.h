/* The descendants of this process, a subreaper: finding, counting, signalling and killing them. */

#ifndef DESCENDANTS_H
#define DESCENDANTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Whether a child of this process is left alone, with all that descends from it. */
typedef bool is_spared(pid_t child);

/* Send SIGTERM and SIGCONT once to every descendant that is not in a process group; 0 for no group. */
void terminate_descendants(pid_t except_group);

/* Stop every descendant that is not stopped yet; return whether there was one that could be. Repeat this, reaping in
 * between, until it returns false: then none is left that could fork, and `kill_descendants` reaches all. */
bool freeze_descendants(is_spared *spared);

void kill_descendants(is_spared *spared);

/* What descendants there are. */
struct population {
    uint32_t count; /* without zombies */
    uint64_t delay; /* nanoseconds that they have been ready to run, and waited for a processor */
};

struct population survey_descendants(is_spared *spared);

#endif
