/* `--env` and `--env-file`: variables for a command, as `docker exec` takes them; cli/variables.py does the same.
 *
 * A NAME alone passes on the current value; one that is not set is left out. */

#ifndef VARIABLES_H
#define VARIABLES_H

#include "options.h"

/* Add the variables of some files to a list, then what is given one by one, which so counts: each NAME=VALUE, or the NAME
 * of a variable that is set. Return false, and a failure, if one is malformed or a file cannot be read. */
bool add_variables(const struct list *files, const struct list *given, struct list *variables);

#endif
