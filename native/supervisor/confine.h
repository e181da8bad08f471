/* Landlock: a command can be confined to the files that it needs. Source: landlock(7). */

#ifndef CONFINE_H
#define CONFINE_H

#include <stdbool.h>
#include <stddef.h>

/* Let this process, and all that it starts, use no files but those in `paths` and beneath them. Each path has a letter
 * before it: `x` to read and execute, `r` to read, `w` to read and write. Paths that do not exist are left out. Setuid
 * programs do not change the user from then on. Return false, and errno, if that cannot be done: ENOSYS or EOPNOTSUPP if
 * the kernel has no Landlock, or one that is too old. */
bool confine(char *const *paths, size_t count);

#endif
