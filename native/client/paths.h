/* Paths, and the storage for what is made of words: nothing here is ever freed but as a whole. */

#ifndef PATHS_H
#define PATHS_H

#include <stdbool.h>
#include <stddef.h>

/* Return room for `size` bytes, aligned for pointers; NULL if there is none: it is more than execve(2) can pass. */
void *take_room(size_t size);

/* Give back a place, and all that was taken after it. */
void give_back(void *place);

/* Return the working directory, or NULL if it has been removed. */
char *working_directory(void);

/* Return `path` below `base`, or itself if it is absolute, with `end` after it; NULL if there is no room. */
char *joined(const char *base, const char *path, const char *end);

/* Return the absolute path of `path` without `.`, `..` and double slashes; NULL, and a failure, if it has none. */
char *absolute(const char *path);

/* Return the length of a path's directory, as os.path.dirname() cuts it. */
size_t directory_length(const char *path, size_t length);

/* Return the path's directory; NULL if there is no room. */
char *directory_of(const char *path);

bool ends_with(const char *text, const char *end);

#endif
