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
#include "paths.h"
#include "signals.h"

#define USAGE "sidecall exec [OPTIONS] NAME COMMAND [ARG...]"

static struct call call = {.channel = {.sock = -1}};

static struct {
    const char *cwd, *timeout, *wait, *outcome_fd;
    bool die_with_parent;
} given;

static const struct option OPTIONS[] = {
    {"--cwd", "FOLDER", .text = &given.cwd},
    {"--env", "NAME[=VALUE]", .list = &call.request.variables},
    {"--timeout", "SECONDS", .text = &given.timeout},
    {"--wait", "SECONDS", .text = &given.wait},
    {"--no-wait", .flag = &call.request.no_wait},
    {"--no-stdin", .flag = &call.no_stdin},
    {"--relay", .flag = &call.relays_all},
    {"--die-with-parent", .flag = &given.die_with_parent},
    {"--outcome-fd", "N", .text = &given.outcome_fd},
    {"--quiet", .flag = &call.quiet},
    {"-q", .flag = &call.quiet},
    {"--verbose", .flag = &call.verbose},
    {"-v", .flag = &call.verbose},
    {.name = NULL},
};

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
    fail(EXIT_UNAVAILABLE, "the parent has ended before the call was made");
    return hint("nothing was started");
}

/* Set *fd to the descriptor for the outcome if one was asked for, else to -1. */
static bool parse_outcome_fd(int *fd)
{
    const char *text = given.outcome_fd;
    struct stat status;
    *fd = -1;
    if (text == NULL)
        return true;
    if (*text == '\0' || strspn(text, "0123456789") != strlen(text))
        return fail(EXIT_USAGE, "--outcome-fd takes a whole number of at least 0, not %s", repr(text));
    while (text[0] == '0' && text[1] != '\0')
        text++;
    *fd = strlen(text) < 10 ? atoi(text) : -1;
    if (fstat(*fd, &status) == 0)
        return true;
    fail(EXIT_USAGE, "--outcome-fd %s: this descriptor is not open", text);
    return hint("open it with `%s>FILE`", text);
}

/* Keep what the outcome goes to: stdin and stdout are let go of. */
static bool keep_outcome_fd(int *fd)
{
    if (*fd != STDIN_FILENO && *fd != STDOUT_FILENO)
        return true;
    *fd = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    return *fd >= 0 || fail_short(errno);
}

static bool check_variables(const struct list *variables)
{
    for (size_t i = 0; i < variables->count; i++) {
        const char *item = variables->items[i];
        if (*item == '\0' || *item == '=')
            return fail(EXIT_USAGE, "--env takes NAME or NAME=VALUE, not %s", repr(item));
        if (strchr(item, '=') == NULL && getenv(item) == NULL) {
            fail(EXIT_USAGE, "--env %s: there is no such variable here", item);
            return hint("set it, or say --env %s=VALUE", item);
        }
    }
    return true;
}

static bool prepare_request(struct request *request, char **words)
{
    if (words[0] == NULL || words[1] == NULL) {
        fail(EXIT_USAGE, "%s missing", words[0] == NULL ? "a service and a command are" : "a command is");
        return hint("usage: " USAGE);
    }
    request->path = socket_path(words[0]);
    if (request->path == NULL || !check_variables(&request->variables))
        return false;
    request->directory = given.cwd != NULL ? absolute(given.cwd) : "";
    return request->directory != NULL && parse_seconds("--timeout", given.timeout, &request->timeout) &&
           parse_seconds("--wait", given.wait, &request->wait);
}

/* End as the command ended; whatever there is to say is said before. */
static int end(int outcome_fd)
{
    struct outcome *outcome = &call.outcome;
    take_failure(outcome);
    if (outcome_fd >= 0 || call.verbose || failure.code != 0)
        unwatch_signals(); /* a reader that does not read can be left by Ctrl-C */
    if (outcome_fd >= 0 && !write_outcome(outcome_fd, outcome, call.id, call.id_length))
        say("the outcome could not be written to descriptor %s: %s", given.outcome_fd, error_text(errno));
    if (call.verbose)
        say_outcome(outcome);
    if (failure.code != 0)
        complain();
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

int exec_main(char **argv)
{
    int outcome_fd;
    bool wants_help = false;
    char **words = parse_options(OPTIONS, argv + 2, "exec", &wants_help);
    if (words == NULL)
        return complain();
    if (wants_help) {
        hand_over(argv);
        return no_python_command();
    }
    if (words[0] != NULL && words[1] != NULL) {
        call.name = words[0];
        call.request.command = words[1];
        call.request.arguments = words + 2;
        if (asks_for_description(&call.request))
            hand_over(argv);
    }
    hold_back_write_signals();
    if ((given.die_with_parent && !die_with_parent()) || !parse_outcome_fd(&outcome_fd) ||
        !look_at_streams(call.types) || !keep_outcome_fd(&outcome_fd))
        return complain();
    if (prepare_request(&call.request, words))
        make_call(&call);
    return call.description != NULL ? print_description() : end(outcome_fd);
}
