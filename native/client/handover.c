/* What the native client does not do itself the Python command does: this process becomes that one. */

#define _GNU_SOURCE

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "paths.h"

#ifndef SIDECALL_STANDALONE /* in the standalone executable it is native/standalone/python.c */

/* Become the program at `path`, unless that is this one, which would go on forever. Returns only if it cannot. */
static void become(const char *path, char **argv)
{
    struct stat other, own;
    if (stat(path, &other) != 0 || stat("/proc/self/exe", &own) != 0)
        return;
    if (other.st_dev == own.st_dev && other.st_ino == own.st_ino)
        return;
    char *first = argv[0];
    argv[0] = (char *)(uintptr_t)path;
    execv(path, argv);
    argv[0] = first;
}

static void become_from_path(const char *name, char **argv)
{
    const char *directorys = getenv("PATH");
    while (directorys != NULL && *directorys != '\0') {
        size_t length = strcspn(directorys, ":");
        char path[PATH_MAX];
        int size = snprintf(path, sizeof path, "%.*s/%s", (int)length, directorys, name);
        if (length > 0 && (size_t)size < sizeof path)
            become(path, argv);
        directorys += length + (directorys[length] == ':');
    }
}

static void become_from_own_directory(const char *name, char **argv)
{
    char own[PATH_MAX], path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own);
    if (length <= 0)
        return;
    int size = snprintf(path, sizeof path, "%.*s/%s", (int)directory_length(own, (size_t)length), own, name);
    if ((size_t)size < sizeof path)
        become(path, argv);
}

void hand_over(char **argv)
{
    const char *named = getenv("SIDECALL_PYTHON_COMMAND");
    if (named != NULL && strchr(named, '/') != NULL) {
        become(named, argv);
    } else if (named != NULL && *named != '\0') {
        become_from_path(named, argv);
    } else {
        become_from_own_directory("sidecall-python", argv);
        become_from_path("sidecall-python", argv);
    }
}

#endif
