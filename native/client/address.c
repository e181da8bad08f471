#define _GNU_SOURCE

#include "address.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "failure.h"
#include "paths.h"

enum {
    MAX_SOCKET_PATH = 107, /* bytes of a path that fit sockaddr_un with its final NUL: unix(7) */
    RETRY_AFTER_MS = 50,
    UNMAPPED = 65534, /* the overflow uid, reported for every unmapped user: user_namespaces(7) */
    EXPLAINED = -1, /* no errno: the failure is there already */
};

const char *socket_path(const char *name)
{
    name_service(name);
    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        fail(EXIT_USAGE, NAME_INVALID_TEXT, quoted(name));
        hint(NAME_INVALID_HINT);
        return NULL;
    }
    if (strchr(name, '/') != NULL)
        return absolute(name);
    const char *directory = getenv("SIDECALL_DIR");
    const char *path = joined(directory != NULL && *directory != '\0' ? directory : "/run/sidecall", name,
                              ends_with(name, ".sock") ? "" : ".sock");
    if (path == NULL)
        fail(EXIT_USAGE, PATH_TOO_LONG_TEXT, name);
    return path;
}

/* Record which permission is missing where: on the socket, or on a directory on the way to it. Return false. */
static bool explain_denial(const char *path)
{
    char at[PATH_MAX], mode[16];
    unsigned long long uid = geteuid();
    struct stat status = {0};
    size_t length = strlen(path);
    if (length >= sizeof at)
        return fail(EXIT_DENIED, CANNOT_CONNECT_TEXT, path, error_text(EACCES));
    memcpy(at, path, length + 1);
    while (stat(at, &status) != 0 && length > 1) {
        length = directory_length(at, length);
        at[length] = '\0';
    }
    unsigned long long owner = status.st_uid;
    snprintf(mode, sizeof mode, "%04o", (unsigned)status.st_mode & 07777U);
    if (strcmp(at, path) != 0) {
        fail(EXIT_DENIED, DIRECTORY_DENIED_TEXT, uid, "search", at, owner, mode);
        return hint(DIRECTORY_DENIED_HINT, at, owner);
    }
    if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0) {
        fail(EXIT_DENIED, SOCKET_DENIED_BY_POLICY_TEXT, uid, path);
        return hint(SOCKET_DENIED_BY_POLICY_HINT);
    }
    fail(EXIT_DENIED, SOCKET_DENIED_TEXT, uid, path, owner, mode);
    return hint(SOCKET_DENIED_HINT, uid, owner);
}

/* Record what a failed connect means; return whether waiting can help. */
static bool explain(int error, const char *path, const char *directory)
{
    struct stat status;
    if (error == EACCES || error == EPERM)
        return explain_denial(path);
    if (error == ENOENT && (stat(directory, &status) != 0 || !S_ISDIR(status.st_mode))) {
        fail(EXIT_UNAVAILABLE, DIRECTORY_MISSING_TEXT, directory);
        hint(DIRECTORY_MISSING_HINT);
    } else if (error == ENOENT) {
        fail(EXIT_UNAVAILABLE, SOCKET_MISSING_TEXT, path);
        hint(SOCKET_MISSING_HINT);
    } else if (error == EAGAIN) {
        fail(EXIT_UNAVAILABLE, NO_ANSWER_TEXT);
        hint(NO_ANSWER_HINT);
    } else if (error != ECONNREFUSED && error != ENOTSOCK && error != ENOTDIR) {
        fail(EXIT_UNAVAILABLE, CANNOT_CONNECT_TEXT, path, error_text(error));
    } else if (stat(path, &status) != 0 || !S_ISSOCK(status.st_mode)) {
        fail(EXIT_UNAVAILABLE, NOT_A_SOCKET_TEXT, path);
        hint(NOT_A_SOCKET_HINT);
    } else {
        fail(EXIT_UNAVAILABLE, SOCKET_STALE_TEXT, path);
        hint(SOCKET_STALE_HINT);
    }
    return true;
}

/* Return 0 or the error. */
static int connect_short(int sock, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    int error;
    if (length > MAX_SOCKET_PATH)
        return ENAMETOOLONG;
    memcpy(address.sun_path, path, length);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    while ((error = connect(sock, (struct sockaddr *)&address, size) == 0 ? 0 : errno) == EINTR)
        continue;
    return error;
}

/* Connect to a path, one that is too long through a descriptor of its directory: proc(5). Return 0 or the error. */
static int connect_to(int sock, const char *path, const char *directory)
{
    char through[MAX_SOCKET_PATH + 20]; /* what does not fit is too long in any case */
    if (strlen(path) <= MAX_SOCKET_PATH)
        return connect_short(sock, path);
    int opened = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0)
        return errno;
    snprintf(through, sizeof through, "/proc/self/fd/%d/%s", opened, strrchr(path, '/') + 1);
    int error = connect_short(sock, through);
    close(opened);
    return error;
}

struct ucred peer_of(int sock)
{
    struct ucred peer = {0, (uid_t)-1, (gid_t)-1};
    socklen_t size = sizeof peer;
    getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    return peer;
}

/* Refuse a directory on the way to the socket in which every user can replace what is on that way. Return 0 or the error. */
static int refuse_replaceable(const char *directory)
{
    char at[PATH_MAX];
    size_t length = strlen(directory);
    struct stat status;
    if (length >= sizeof at)
        return ENAMETOOLONG;
    memcpy(at, directory, length + 1);
    for (;;) {
        if (stat(at, &status) != 0)
            return errno;
        if ((status.st_mode & S_IWOTH) && !(status.st_mode & S_ISVTX)) {
            fail(EXIT_DENIED, DIRECTORY_OPEN_TO_ALL_TEXT, at);
            hint(DIRECTORY_OPEN_TO_ALL_HINT, at);
            return EXPLAINED;
        }
        if (length <= 1)
            return 0;
        length = directory_length(at, length);
        at[length] = '\0';
    }
}

/* Refuse a server that can be another user's in place of the one that is meant: the owner of the directory, and root,
 * decide what is in it; so does this user. Return 0 or the error. */
static int refuse_impostor(int sock, const char *path, const char *directory)
{
    struct stat status;
    int error = refuse_replaceable(directory);
    if (error != 0)
        return error;
    if (stat(directory, &status) != 0)
        return errno;
    uid_t server = peer_of(sock).uid;
    if (server == UNMAPPED) {
        fail(EXIT_DENIED, SERVER_UNIDENTIFIED_TEXT, (unsigned long long)server, path);
        hint(SERVER_UNIDENTIFIED_HINT);
        return EXPLAINED;
    }
    if (server == 0 || server == status.st_uid || server == geteuid())
        return 0;
    fail(EXIT_DENIED, SERVED_BY_ANOTHER_TEXT, (unsigned long long)server, path);
    hint(SERVED_BY_ANOTHER_HINT, (unsigned long long)server, directory);
    return EXPLAINED;
}

/* Limit how long connect(2) and send(2) block; 0 for no limit: socket(7). */
static void limit_sends(int sock, int64_t milliseconds)
{
    const struct timeval limit = {milliseconds / 1000, milliseconds % 1000 * 1000};
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* Name a socket, before it connects, as one on which PROTOCOL.md is spoken: a bridge starts no program for it. */
static void introduce(int sock)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint64_t unique;
    if (getrandom(&unique, sizeof unique, 0) != sizeof unique)
        return;
    int size = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "sidecall-client-%016llx",
                        (unsigned long long)unique);
    bind(sock, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size));
}

/* Set *sock, within some time; return 0 or the error. */
static int connect_once(const char *path, const char *directory, int64_t milliseconds, enum speaks speaks, int *sock)
{
    *sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*sock < 0)
        return errno;
    if (speaks == SPEAKS_PROTOCOL)
        introduce(*sock);
    limit_sends(*sock, milliseconds > 0 ? milliseconds : 1);
    int error = connect_to(*sock, path, directory);
    limit_sends(*sock, 0);
    if (error == 0)
        error = refuse_impostor(*sock, path, directory);
    if (error != 0)
        close(*sock);
    return error;
}

int64_t milliseconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int connect_to_service(const char *path, double connect_timeout, double answer_timeout, enum speaks speaks)
{
    const char *directory = directory_of(path);
    int64_t began = milliseconds_now(), deadline = began + (int64_t)(connect_timeout * 1000);
    int64_t accepts_by = connect_timeout > 0 ? deadline : began + (int64_t)(answer_timeout * 1000);
    if (directory == NULL) {
        fail(EXIT_USAGE, PATH_TOO_LONG_TEXT, path);
        return -1;
    }
    for (;;) {
        int sock, error = connect_once(path, directory, accepts_by - milliseconds_now(), speaks, &sock);
        if (error == 0)
            return sock;
        int64_t remaining = deadline - milliseconds_now();
        if (error == EXPLAINED || !explain(error, path, directory) || remaining <= 0)
            return -1;
        forget_failure();
        poll(NULL, 0, remaining < RETRY_AFTER_MS ? (int)remaining : RETRY_AFTER_MS);
    }
}
