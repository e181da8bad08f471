/* `sidecall connect`: become an app whose stdin and stdout are the socket of a bridge. */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "commands.h"
#include "failure.h"
#include "options.h"
#include "paths.h"

extern char **environ;

static const struct option OPTIONS[] = {CONNECT_OPTIONS {NULL, "sidecall connect", 0, NULL}};

static bool is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static bool is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static bool no_such_command(const char *app)
{
    fail(EXIT_NO_SUCH_COMMAND, "no such command: %s", quoted(app));
    return hint("%s", strchr(app, '/') != NULL ? "check the path" : "check its spelling, and PATH on the side that runs it");
}

static bool not_executable(const char *app)
{
    fail(EXIT_CANNOT_EXECUTE, "%s is not executable", quoted(app));
    return hint("set its execute bit with `chmod +x`");
}

/* Return the path of `app` in the first directory of `directorys`, which ends at a colon. */
static const char *in_directory(const char *directorys, size_t length, const char *app)
{
    char *directory = take_room(length + 1);
    if (directory == NULL)
        return NULL;
    memcpy(directory, directorys, length);
    directory[length] = '\0';
    return joined(directory, app, "");
}

/* Return the file that executing `app` would run, as execvp(3) finds it; NULL, and a failure, if there is none. */
static const char *find_executable(const char *app)
{
    bool has_slash = strchr(app, '/') != NULL, is_there = false;
    const char *path = getenv("PATH"), *directorys = has_slash ? "" : path != NULL ? path : "/bin:/usr/bin";
    for (;;) {
        size_t length = strcspn(directorys, ":");
        const char *file = in_directory(directorys, length, app);
        bool is_here = file != NULL && is_file(file);
        if (is_here && access(file, X_OK) == 0)
            return file;
        is_there |= is_here;
        if (directorys[length] == '\0')
            break;
        directorys += length + 1;
    }
    if (is_there || (has_slash && is_directory(app)))
        not_executable(app);
    else
        no_such_command(app);
    return NULL;
}

/* Say why execve(2) did not run what had been found. */
static void explain_exec(int error, const char *app)
{
    if (error == ENOENT && find_executable(app) != NULL)
        fail(EXIT_CANNOT_EXECUTE, "the interpreter that %s names does not exist", quoted(app));
    else if (error == E2BIG)
        fail(EXIT_CANNOT_EXECUTE, "the arguments of %s are too long for the system", quoted(app));
    else if (error != ENOENT)
        fail(EXIT_CANNOT_EXECUTE, "cannot execute %s: %s", quoted(app), error_text(error));
}

/* Make the socket stdin and stdout. */
static void plug_in(int sock)
{
    for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++) {
        if (fd == sock)
            fcntl(fd, F_SETFD, 0); /* it was closed: dup2(2) would leave FD_CLOEXEC on it */
        else
            dup2(sock, fd);
    }
}

static bool is_peer_variable(const char *entry)
{
    static const char *const names[] = {"PROTO=", "IPCREMOTEPATH=", "IPCREMOTEEUID=", "IPCREMOTEEGID="};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* Return this process' variables and those by which an app knows its peer, in the manner of UCSPI. NULL: no room. */
static char **environment_for(const char *path, struct ucred peer)
{
    static char protocol[] = "PROTO=IPC", uid[40], gid[40];
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    char **variables = take_room((count + 5) * sizeof *variables), **next = variables;
    char *remote = joined("", "IPCREMOTEPATH=", path);
    if (variables == NULL || remote == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!is_peer_variable(environ[i]))
            *next++ = environ[i];
    snprintf(uid, sizeof uid, "IPCREMOTEEUID=%u", peer.uid);
    snprintf(gid, sizeof gid, "IPCREMOTEEGID=%u", peer.gid);
    *next++ = protocol;
    *next++ = remote;
    *next++ = uid;
    *next++ = gid;
    *next = NULL;
    return variables;
}

/* Become the app. Returns only if that cannot be. */
static void become_app(const char *path, const char *program, char **app, int sock)
{
    char **variables = environment_for(path, peer_of(sock));
    plug_in(sock);
    execve(program, app, variables != NULL ? variables : environ);
    explain_exec(errno, *app);
}

int connect_main(char **argv)
{
    struct given given = {.values = {NULL}};
    double connect_timeout = 0;
    if (!parse_options(OPTIONS, argv + 2, &given))
        return print_failure();
    if (given.values[CONNECT_OPTION_HELP] != NULL)
        return print_text(CONNECT_HELP);
    char **arguments = given.arguments;
    if (arguments[0] == NULL || arguments[1] == NULL) {
        fail(EXIT_USAGE, "%s", arguments[0] == NULL ? SERVICE_MISSING_TEXT : PROGRAM_MISSING_TEXT);
        hint(PROGRAM_MISSING_HINT, CONNECT_USAGE);
        return print_failure();
    }
    const char *path = socket_path(arguments[0]), *program = path != NULL ? find_executable(arguments[1]) : NULL;
    bool is_ready = program != NULL && parse_seconds("connect-timeout", given.values[CONNECT_OPTION_CONNECT_TIMEOUT],
                                                     &connect_timeout);
    int sock = is_ready ? connect_to_service(path, connect_timeout, ANSWER_TIMEOUT, SPEAKS_TO_BRIDGE) : -1;
    if (sock >= 0)
        become_app(path, program, arguments + 1, sock);
    return print_failure();
}
