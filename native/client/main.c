/* The native client of sidecall, written from PROTOCOL.md, without an interpreter to start: `sidecall exec` and `sidecall
 * connect` do what the Python command does, in the same words; whatever else there is the Python command does itself.
 *
 * One process makes one call, so all storage is static: pages that a call does not need are never touched. */

#define _GNU_SOURCE

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "failure.h"
#include "paths.h"

#ifdef SIDECALL_STANDALONE /* its server starts the same executable as its nursery */
#include "../keeper/main.h"
#else /* the Python command is another program: elsewhere it is native/standalone/python.c */

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
    const char *folders = getenv("PATH");
    while (folders != NULL && *folders != '\0') {
        size_t length = strcspn(folders, ":");
        char path[PATH_MAX];
        int size = snprintf(path, sizeof path, "%.*s/%s", (int)length, folders, name);
        if (length > 0 && (size_t)size < sizeof path)
            become(path, argv);
        folders += length + (folders[length] == ':');
    }
}

static void become_from_beside(const char *name, char **argv)
{
    char own[PATH_MAX], path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own);
    if (length <= 0)
        return;
    int size = snprintf(path, sizeof path, "%.*s/%s", (int)folder_length(own, (size_t)length), own, name);
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
        become_from_beside("sidecall-python", argv);
        become_from_path("sidecall-python", argv);
    }
}

#endif

int no_python_command(void)
{
    fail(EXIT_USAGE, "this client only runs `sidecall exec` and `sidecall connect`, and there is no Python command to do "
                     "the rest");
    hint("install sidecall for Python, or name its command in SIDECALL_PYTHON_COMMAND");
    return complain();
}

int main(int argc, char **argv)
{
#ifdef SIDECALL_STANDALONE
    if (argc > 0 && strcmp(argv[0], "sidecall-keeper") == 0)
        return keeper_main(argc, argv);
#endif
    if (argc > 1 && strcmp(argv[1], "exec") == 0)
        return exec_main(argv);
    if (argc > 1 && strcmp(argv[1], "connect") == 0)
        return connect_main(argv);
    if (argc > 0)
        hand_over(argv);
    return no_python_command();
}
