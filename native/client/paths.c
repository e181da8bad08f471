#define _GNU_SOURCE

#include "paths.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"

enum { ROOM = 8 << 20 }; /* more than the words of an execve(2), each below a working directory */

static _Alignas(4096) char room[ROOM]; /* a page: most calls need no second one */
static char *unused = room;

void *take_room(size_t size)
{
    if (size > (size_t)(room + ROOM - unused))
        return NULL;
    void *place = unused;
    unused += (size + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
    return place;
}

void give_back(void *place)
{
    unused = place;
}

char *working_directory(void)
{
    char *directory = take_room(PATH_MAX);
    if (directory == NULL)
        return NULL;
    bool exists = getcwd(directory, PATH_MAX) != NULL;
    give_back(directory);
    return exists ? take_room(strlen(directory) + 1) : NULL;
}

char *joined(const char *base, const char *path, const char *end)
{
    size_t length = *path == '/' ? 0 : strlen(base), rest = strlen(path);
    char *whole = take_room(length + rest + strlen(end) + 2);
    if (whole == NULL)
        return NULL;
    memcpy(whole, base, length);
    if (length > 0 && whole[length - 1] != '/')
        whole[length++] = '/';
    memcpy(whole + length, path, rest);
    strcpy(whole + length + rest, end);
    return whole;
}

/* Take `.`, `..` and double slashes out of an absolute path, in place. Two slashes at its start stay: POSIX. */
static void normalize(char *path)
{
    size_t root = path[1] == '/' && path[2] != '/' ? 2 : 1, length = root;
    const char *part = path + root;
    while (*part != '\0') {
        size_t size = strcspn(part, "/");
        const char *next = part + size + (part[size] == '/');
        if (size == 2 && part[0] == '.' && part[1] == '.') {
            while (length > root && path[length - 1] != '/')
                length--;
            length -= length > root;
        } else if (size > 0 && !(size == 1 && *part == '.')) {
            if (length > root)
                path[length++] = '/';
            memmove(path + length, part, size);
            length += size;
        }
        part = next;
    }
    path[length] = '\0';
}

char *absolute(const char *path)
{
    const char *base = *path == '/' ? "" : working_directory();
    if (base == NULL) {
        fail(EXIT_USAGE, PATH_NOT_ABSOLUTE_TEXT, quoted(path));
        hint(PATH_NOT_ABSOLUTE_HINT);
        return NULL;
    }
    char *whole = joined(base, path, "");
    if (whole == NULL)
        fail(EXIT_USAGE, PATH_TOO_LONG_TEXT, path);
    else
        normalize(whole);
    return whole;
}

size_t directory_length(const char *path, size_t length)
{
    while (length > 0 && path[length - 1] != '/')
        length--;
    size_t kept = length;
    while (kept > 0 && path[kept - 1] == '/')
        kept--;
    return kept > 0 ? kept : length;
}

char *directory_of(const char *path)
{
    size_t length = directory_length(path, strlen(path));
    char *directory = take_room(length + 1);
    if (directory == NULL)
        return NULL;
    memcpy(directory, path, length);
    directory[length] = '\0';
    return directory;
}

bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), size = strlen(end);
    return length >= size && strcmp(text + length - size, end) == 0;
}
