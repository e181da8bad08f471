/* `sidecall exec`: run a command of a service, and end as it ended. */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "call.h"
#include "commands.h"
#include "failure.h"
#include "options.h"
#include "paths.h"
#include "signals.h"
#include "terminal.h"
#include "variables.h"

static struct call call = {.channel = {.sock = -1}};
static struct given given;

static const struct option OPTIONS[] = {EXEC_OPTIONS {NULL, "sidecall exec", 0, NULL}};

static bool is_given(int key)
{
    return given.values[key] != NULL;
}

/* Be killed when the parent ends; if it has ended by now, end at once.
 *
 * A parent that ended before this process could ask has left it to another one: to one of another session, unless a
 * process of this session collects orphans. A session's leader has a parent in another one from the start. */
static bool die_with_parent(void)
{
    pid_t parent = getppid(), session = getsid(0);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    bool is_orphan = parent != 0 && session != getpid() && session != getsid(parent);
    if (!is_orphan && getppid() == parent)
        return true;
    fail(EXIT_UNAVAILABLE, PARENT_ENDED_TEXT);
    return hint(PARENT_ENDED_HINT);
}

/* Set *fd to the descriptor for the outcome if one was asked for, else to -1. */
static bool parse_outcome_fd(int *fd)
{
    const char *text = given.values[EXEC_OPTION_OUTCOME_FD];
    struct stat status;
    *fd = -1;
    if (text == NULL)
        return true;
    if (*text == '\0' || strspn(text, "0123456789") != strlen(text))
        return fail(EXIT_USAGE, NUMBER_INVALID_TEXT, "outcome-fd", quoted(text), 0ULL);
    while (text[0] == '0' && text[1] != '\0')
        text++;
    *fd = strlen(text) < 10 ? atoi(text) : -1;
    if (fstat(*fd, &status) == 0)
        return true;
    fail(EXIT_USAGE, OUTCOME_FD_CLOSED_TEXT, text);
    return hint(OUTCOME_FD_CLOSED_HINT, text);
}

/* Keep the descriptor for the outcome: stdin and stdout are closed once the command runs. */
static bool keep_outcome_fd(int *fd)
{
    if (*fd != STDIN_FILENO && *fd != STDOUT_FILENO)
        return true;
    *fd = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    return *fd >= 0 || fail_short(errno);
}

static bool prepare_request(struct request *request, char **arguments)
{
    const char *const *values = given.values, *id = values[EXEC_OPTION_ID], *directory = values[EXEC_OPTION_CWD];
    if (arguments[0] == NULL || arguments[1] == NULL) {
        fail(EXIT_USAGE, "%s", arguments[0] == NULL ? SERVICE_MISSING_TEXT : COMMAND_MISSING_TEXT);
        return hint(COMMAND_MISSING_HINT, EXEC_USAGE);
    }
    request->path = socket_path(arguments[0]);
    if (request->path == NULL)
        return false;
    if (id != NULL && !is_given(EXEC_OPTION_DETACH)) {
        fail(EXIT_USAGE, ID_WITHOUT_DETACH_TEXT);
        return hint(ID_WITHOUT_DETACH_HINT, arguments[0]);
    }
    if (is_given(EXEC_OPTION_DETACH) && is_given(EXEC_OPTION_TTY)) {
        fail(EXIT_USAGE, TERMINAL_DETACHED_TEXT);
        return hint(TERMINAL_DETACHED_HINT);
    }
    request->detach = !is_given(EXEC_OPTION_DETACH) ? NULL : id != NULL ? id : "";
    if (!add_variables(&given.all[EXEC_OPTION_ENV_FILE], &given.all[EXEC_OPTION_ENV], &request->variables))
        return false;
    request->directory = directory != NULL ? absolute(directory) : "";
    return request->directory != NULL && parse_seconds("timeout", values[EXEC_OPTION_TIMEOUT], &request->timeout) &&
           parse_seconds("connect-timeout", values[EXEC_OPTION_CONNECT_TIMEOUT], &request->connect_timeout);
}

static bool prepare_terminal(struct request *request)
{
    if (call.no_stdin || call.types[STDIN_FILENO] == 0 || !isatty(STDIN_FILENO)) {
        fail(EXIT_USAGE, TERMINAL_MISSING_TEXT);
        return hint(TERMINAL_MISSING_HINT);
    }
    request->has_terminal = true;
    return open_terminal() || fail_short(errno);
}

static bool print_id(void)
{
    return write_all(STDOUT_FILENO, call.id, call.id_length) && write_all(STDOUT_FILENO, "\n", 1);
}

/* End as the command ended; print what is to be printed before. */
static int end(int outcome_fd)
{
    struct outcome *outcome = &call.outcome;
    complete_failure();
    take_failure(outcome);
    if (call.request.has_terminal && (outcome->kind != KIND_EXITED || outcome->stopped != NULL))
        reset_terminal();
    if (outcome_fd >= 0 || call.verbose || failure.code != 0 || outcome->kind == KIND_DETACHED)
        unwatch_signals(); /* a reader that does not read can be left by Ctrl-C */
    if (outcome_fd >= 0 && !write_outcome(outcome_fd, outcome, call.id, call.id_length))
        say(OUTCOME_NOT_WRITTEN_TEXT, given.values[EXEC_OPTION_OUTCOME_FD], error_text(errno));
    if (outcome->kind == KIND_DETACHED && !print_id()) {
        if (errno != EPIPE)
            say(CANNOT_CONTINUE_TEXT, error_text(errno));
        return 1;
    }
    if (call.verbose)
        print_outcome(outcome);
    if (failure.code != 0)
        print_failure();
    return end_as(outcome);
}

/* Nothing ran. */
static int print_description(void)
{
    unwatch_signals();
    return write_all(STDOUT_FILENO, call.description, call.description_length) && write_all(STDOUT_FILENO, "\n", 1)
               ? 0
               : 1;
}

/* Take `--help` behind the service; leave out a `--` there, as in `kubectl exec NAME -- COMMAND`. Return false, and a
 * failure, if another option follows. */
static bool look_behind_service(char **arguments)
{
    const char *following = arguments[0] != NULL && arguments[1] != NULL ? arguments[1] : "";
    if (strcmp(following, "--") == 0)
        for (char **to = arguments + 1; *to != NULL; to++)
            *to = to[1];
    else if (strcmp(following, "--help") == 0 || strcmp(following, "-h") == 0)
        given.values[EXEC_OPTION_HELP] = "";
    else if (*following == '-' && !is_given(EXEC_OPTION_HELP)) {
        fail(EXIT_USAGE, OPTION_AFTER_SERVICE_TEXT, following);
        return hint(OPTION_AFTER_SERVICE_HINT, EXEC_USAGE);
    }
    return true;
}

int exec_main(char **argv)
{
    int outcome_fd;
    if (!parse_options(OPTIONS, argv + 2, &given) || !look_behind_service(given.arguments))
        return print_failure();
    if (is_given(EXEC_OPTION_HELP))
        return print_text(EXEC_HELP);
    char **arguments = given.arguments;
    call.request.no_queue = is_given(EXEC_OPTION_NO_QUEUE);
    call.no_stdin = is_given(EXEC_OPTION_NO_STDIN);
    call.relays_all = is_given(EXEC_OPTION_RELAY);
    call.quiet = is_given(EXEC_OPTION_QUIET);
    call.verbose = is_given(EXEC_OPTION_VERBOSE);
    if (arguments[0] != NULL && arguments[1] != NULL) {
        call.name = arguments[0];
        call.request.command = arguments[1];
        call.request.arguments = arguments + 2;
        if (asks_for_description(&call.request))
            hand_over(argv); /* which renders it */
    }
    hold_back_write_signals();
    if ((is_given(EXEC_OPTION_DIE_WITH_PARENT) && !die_with_parent()) || !parse_outcome_fd(&outcome_fd) ||
        !look_at_streams(call.types) || !keep_outcome_fd(&outcome_fd))
        return print_failure();
    if (prepare_request(&call.request, arguments) && (!is_given(EXEC_OPTION_TTY) || prepare_terminal(&call.request)))
        make_call(&call);
    return call.description != NULL ? print_description() : end(outcome_fd);
}
