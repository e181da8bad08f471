/* Made by tools/tables.py from the tables of the Python client. Do not edit: `python tools/tables.py`. */

#ifndef TABLES_H
#define TABLES_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#define SOFTWARE_VERSION "0.1.0"

enum {
    MESSAGE_HELLO = 1,
    MESSAGE_CALL = 2,
    MESSAGE_QUEUED = 3,
    MESSAGE_STARTED = 4,
    MESSAGE_REFUSED = 5,
    MESSAGE_EXIT = 6,
    MESSAGE_DATA = 7,
    MESSAGE_EOF = 8,
    MESSAGE_WINDOW = 9,
    MESSAGE_STOP = 10,
    MESSAGE_SIGNAL = 11,
    MESSAGE_PASS = 12,
    MESSAGE_RESIZE = 13,
    MESSAGE_PING = 16,
    MESSAGE_PONG = 17,
    MESSAGE_DESCRIBE = 18,
    MESSAGE_DESCRIPTION = 19,
    MESSAGE_STATUS = 20,
    MESSAGE_CALLS = 21,
    MESSAGE_CANCEL = 22,
    MESSAGE_FOLLOW = 23,
    MESSAGE_REMOVE = 24,
    MESSAGE_NOTICE = 128,
};

enum {
    VERSION = 1,
    MAX_DATA = 65536,
    INITIAL_WINDOW = 262144,
    FIRST_IGNORABLE = 128,
    CONTROL_LIMIT = 65536,
    CALL_LIMIT = 2097152,
    DESCRIPTION_LIMIT = 1048576,
    CALLS_LIMIT = 16777216,
    DESCRIPTORS_LOST = 1,
};

enum mode {
    MODE_NONE = 0,
    MODE_PASSED = 1,
    MODE_RELAYED = 2,
    MODE_SAME_AS_STDOUT = 3,
};

enum {
    ENDED_EXITED = 0,
    ENDED_SIGNALED = 1,
    ENDED_TIMED_OUT = 2,
    ENDED_OUTPUT_FAILED = 3,
    ENDED_LOST = 4,
};

enum {
    EXIT_USAGE = 64,
    EXIT_UNAVAILABLE = 69,
    EXIT_BUG = 70,
    EXIT_OUTPUT_FAILED = 73,
    EXIT_BUSY = 75,
    EXIT_PROTOCOL = 76,
    EXIT_DENIED = 77,
    EXIT_CONFIG = 78,
    EXIT_TIMED_OUT = 124,
    EXIT_LOST = 125,
    EXIT_CANNOT_EXECUTE = 126,
    EXIT_NO_SUCH_COMMAND = 127,
};

static const uint8_t REFUSALS[] = {64, 69, 75, 76, 77, 126, 127};

static const int FORWARDED_SIGNALS[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGTSTP};
static const int ENDING_SIGNALS[] = {SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2, SIGTERM};
static const int NEVER_LETHAL_SIGNALS[] = {SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH};
_Static_assert(SIGHUP == 1 && SIGINT == 2 && SIGQUIT == 3 && SIGKILL == 9 && SIGUSR1 == 10 && SIGUSR2 == 12 && SIGTERM == 15 && SIGCONT == 18 && SIGTSTP == 20,
    "the protocol numbers signals as Linux does on x86 and Arm");

enum state { STATE_IDLE, STATE_READY, STATE_WAITING, STATE_RUNNING, STATE_DONE };
static const char *const STATE_NAMES[] = {"idle", "ready", "waiting", "running", "done"};

/* `fields`: 1, 2, 4, 8 a number of so many bytes, s string, t text, l strings, r the rest; `after`: the
 * server's state after it, plus 1, by its state before; 0 if it cannot be sent then. */
static const struct layout {
    const char *name;
    uint32_t limit;
    const char *fields;
    uint8_t after[5];
} LAYOUTS[] = {
    [1] = {"Hello", 65536, "2llt", {[STATE_IDLE] = 1 + STATE_READY}},
    [2] = {"Call", 2097152, "sllssll111", {0}},
    [3] = {"Queued", 65536, "4", {[STATE_READY] = 1 + STATE_WAITING, [STATE_WAITING] = 1 + STATE_WAITING}},
    [4] = {"Started", 65536, "t", {[STATE_READY] = 1 + STATE_RUNNING, [STATE_WAITING] = 1 + STATE_RUNNING}},
    [5] = {"Refused", 65536, "1tt", {[STATE_READY] = 1 + STATE_DONE, [STATE_WAITING] = 1 + STATE_DONE}},
    [6] = {"Exit", 65536, "11l", {[STATE_READY] = 1 + STATE_DONE, [STATE_WAITING] = 1 + STATE_DONE, [STATE_RUNNING] = 1 + STATE_DONE}},
    [7] = {"Data", 65537, "1r", {[STATE_RUNNING] = 1 + STATE_RUNNING}},
    [8] = {"Eof", 65536, "1", {[STATE_RUNNING] = 1 + STATE_RUNNING}},
    [9] = {"Window", 65536, "14", {[STATE_RUNNING] = 1 + STATE_RUNNING}},
    [10] = {"Stop", 65536, "1", {[STATE_RUNNING] = 1 + STATE_RUNNING}},
    [11] = {"Signal", 65536, "1", {0}},
    [12] = {"Pass", 65536, "", {0}},
    [13] = {"Resize", 65536, "22", {0}},
    [16] = {"Ping", 65536, "", {0}},
    [17] = {"Pong", 65536, "l", {[STATE_READY] = 1 + STATE_READY}},
    [18] = {"Describe", 65536, "s", {0}},
    [19] = {"Description", 1048576, "s", {[STATE_READY] = 1 + STATE_READY}},
    [20] = {"Status", 65536, "1", {0}},
    [21] = {"Calls", 16777216, "s", {[STATE_READY] = 1 + STATE_READY}},
    [22] = {"Cancel", 65536, "t", {0}},
    [23] = {"Follow", 65536, "t1118", {0}},
    [24] = {"Remove", 65536, "t", {0}},
    [128] = {"Notice", 65536, "tt", {[STATE_READY] = 1 + STATE_READY, [STATE_WAITING] = 1 + STATE_WAITING, [STATE_RUNNING] = 1 + STATE_RUNNING}},
};

#define FEATURE_TERMINAL "terminal"
#define OPTION_TIMEOUT_MS "timeout-ms"
#define OPTION_QUEUE "queue"
#define OPTION_STDIN_PIPE "stdin-pipe"
#define OPTION_STDOUT_PIPE "stdout-pipe"
#define OPTION_STDERR_PIPE "stderr-pipe"
#define OPTION_TERMINAL "terminal"
#define OPTION_TERM "term"
#define OPTION_DETACH "detach"
#define DETAIL_CORE_DUMPED "core-dumped"
#define DETAIL_STOPPED "stopped"
#define DETAIL_TERMINATED "terminated"
#define DETAIL_REASON "reason"
#define DETAIL_QUEUED_US "queued-us"
#define DETAIL_RUN_US "run-us"
#define DETAIL_USER_US "user-us"
#define DETAIL_SYSTEM_US "system-us"
#define DETAIL_MAX_RSS "max-rss"
#define DETAIL_RUNNING "running"
#define DETAIL_SLOTS "slots"
#define DETAIL_QUEUED "queued"
#define DETAIL_QUEUE "queue"
#define DETAIL_ENDED "ended"
#define DETAIL_UPTIME_MS "uptime-ms"
#define DETAIL_BRIDGE "bridge"
#define OUTCOME_EXITED "exited"
#define OUTCOME_SIGNALED "signaled"
#define OUTCOME_TIMED_OUT "timed-out"
#define OUTCOME_OUTPUT_FAILED "output-failed"
#define OUTCOME_REFUSED "refused"
#define OUTCOME_LOST "lost"
#define OUTCOME_DETACHED "detached"

static const char *const STOPPED_BY[] = {"client", "timeout", "operator", "shutdown", "limit"};

enum { EXEC_OPTION_INTERACTIVE, EXEC_OPTION_TTY, EXEC_OPTION_CWD, EXEC_OPTION_ENV, EXEC_OPTION_ENV_FILE, EXEC_OPTION_TIMEOUT, EXEC_OPTION_CONNECT_TIMEOUT, EXEC_OPTION_NO_QUEUE, EXEC_OPTION_NO_STDIN, EXEC_OPTION_RELAY, EXEC_OPTION_DIE_WITH_PARENT, EXEC_OPTION_OUTCOME_FD, EXEC_OPTION_DETACH, EXEC_OPTION_ID, EXEC_OPTION_QUIET, EXEC_OPTION_VERBOSE, EXEC_OPTION_HELP };
#define EXEC_OPTIONS \
    {"-i", NULL, EXEC_OPTION_INTERACTIVE, NULL}, \
    {"--interactive", NULL, EXEC_OPTION_INTERACTIVE, NULL}, \
    {"-t", NULL, EXEC_OPTION_TTY, NULL}, \
    {"--tty", NULL, EXEC_OPTION_TTY, NULL}, \
    {"-w", "DIR", EXEC_OPTION_CWD, NULL}, \
    {"--workdir", "DIR", EXEC_OPTION_CWD, NULL}, \
    {"--cwd", "DIR", EXEC_OPTION_CWD, NULL}, \
    {"-e", "NAME[=VALUE]", EXEC_OPTION_ENV, NULL}, \
    {"--env", "NAME[=VALUE]", EXEC_OPTION_ENV, NULL}, \
    {"--env-file", "FILE", EXEC_OPTION_ENV_FILE, NULL}, \
    {"--timeout", "SECONDS", EXEC_OPTION_TIMEOUT, NULL}, \
    {"--connect-timeout", "SECONDS", EXEC_OPTION_CONNECT_TIMEOUT, NULL}, \
    {"--no-queue", NULL, EXEC_OPTION_NO_QUEUE, NULL}, \
    {"--no-stdin", NULL, EXEC_OPTION_NO_STDIN, NULL}, \
    {"--relay", NULL, EXEC_OPTION_RELAY, NULL}, \
    {"--die-with-parent", NULL, EXEC_OPTION_DIE_WITH_PARENT, NULL}, \
    {"--outcome-fd", "N", EXEC_OPTION_OUTCOME_FD, NULL}, \
    {"-d", NULL, EXEC_OPTION_DETACH, NULL}, \
    {"--detach", NULL, EXEC_OPTION_DETACH, NULL}, \
    {"--id", "ID", EXEC_OPTION_ID, NULL}, \
    {"-q", NULL, EXEC_OPTION_QUIET, NULL}, \
    {"--quiet", NULL, EXEC_OPTION_QUIET, NULL}, \
    {"-v", NULL, EXEC_OPTION_VERBOSE, NULL}, \
    {"--verbose", NULL, EXEC_OPTION_VERBOSE, NULL}, \
    {"-h", NULL, EXEC_OPTION_HELP, NULL}, \
    {"--help", NULL, EXEC_OPTION_HELP, NULL}, \
    {"--detach-keys", "only a call made with `-d` goes on without its client", UNSUPPORTED, "run the client in `tmux` or `screen`, or use `-d` and `sidecall attach`"}, \
    {"-u", "the service decides as which user a command runs", UNSUPPORTED, "set `user` of the command in the service configuration, or call a service of that user"}, \
    {"--user", "the service decides as which user a command runs", UNSUPPORTED, "set `user` of the command in the service configuration, or call a service of that user"}, \
    {"--privileged", "a command has the privileges of its server", UNSUPPORTED, "give them to the container of the service, and declare only commands that need them"}, \
    {"-l", "a service has a name", UNSUPPORTED, "run `sidecall list`, and give a NAME that it prints"}, \
    {"--latest", "a service has a name", UNSUPPORTED, "run `sidecall list`, and give a NAME that it prints"}, \
    {"--cidfile", "a service has a name", UNSUPPORTED, "run `sidecall list`, and give a NAME that it prints"}, \
    {"--preserve-fd", "only stdin, stdout and stderr cross", UNSUPPORTED, "give the command a file on a shared volume"}, \
    {"--preserve-fds", "only stdin, stdout and stderr cross", UNSUPPORTED, "give the command a file on a shared volume"}, \
    {"--no-session", "a call has no session to skip", UNSUPPORTED, "leave it out"}, \
    {"--wait", "the option has another name", UNSUPPORTED, "use `--connect-timeout SECONDS`"}, \
    {"--pod-running-timeout", "the option has another name", UNSUPPORTED, "use `--connect-timeout SECONDS`"}, \
    {"--stdin", "stdin is always connected", UNSUPPORTED, "leave it out"}, \
    {"-c", "a service is one container's", UNSUPPORTED, "give the service of that container as NAME"}, \
    {"--container", "a service is one container's", UNSUPPORTED, "give the service of that container as NAME"}, \
    {"-f", "a service has a name", UNSUPPORTED, "run `sidecall list`, and give a NAME that it prints"}, \
    {"--filename", "a service has a name", UNSUPPORTED, "run `sidecall list`, and give a NAME that it prints"}, \
    {"-n", "services are sockets in a directory", UNSUPPORTED, "set SIDECALL_DIR to that directory"}, \
    {"--namespace", "services are sockets in a directory", UNSUPPORTED, "set SIDECALL_DIR to that directory"},
#define EXEC_USAGE "sidecall exec [OPTIONS] NAME COMMAND [ARG...]"
#define EXEC_HELP \
    "Run COMMAND of service NAME as if it were local: it inherits stdin, stdout and stderr, receives the signals sent to this\n" \
    "process, and sets its exit status. Everything after COMMAND is passed to it.\n" \
    "\n" \
    "usage: sidecall exec [OPTIONS] NAME COMMAND [ARG...]\n" \
    "\n" \
    "  -i, --interactive          connect stdin; accepted, since it always is\n" \
    "  -t, --tty                  run COMMAND in a terminal of its own, such as an interactive shell\n" \
    "  -w, --workdir, --cwd DIR   run COMMAND in DIR, relative to the current working directory\n" \
    "  -e, --env NAME[=VALUE]     set a variable, or pass on the current value if it is set; repeatable\n" \
    "  --env-file FILE            set the variables in the lines NAME[=VALUE] of FILE; repeatable\n" \
    "  --timeout SECONDS          terminate COMMAND after SECONDS and exit with 124\n" \
    "  --connect-timeout SECONDS  wait up to SECONDS for the service to start\n" \
    "  --no-queue                 exit with 75 instead of waiting for a slot\n" \
    "  --no-stdin                 give COMMAND an empty stdin\n" \
    "  --relay                    relay the streams instead of passing their descriptors\n" \
    "  --die-with-parent          cancel the call when the parent process exits\n" \
    "  --outcome-fd N             write the outcome to descriptor N, as one line of JSON\n" \
    "  -d, --detach               print the call's id once COMMAND has started, and exit; see `sidecall wait`\n" \
    "  --id ID                    with -d: the call's id; COMMAND is started at most once by it\n" \
    "  -q, --quiet                print neither waiting calls nor notices of the server\n" \
    "  -v, --verbose              print each step to stderr\n" \
    "  -h, --help                 print this text\n"

enum { CONNECT_OPTION_CONNECT_TIMEOUT, CONNECT_OPTION_HELP };
#define CONNECT_OPTIONS \
    {"--connect-timeout", "SECONDS", CONNECT_OPTION_CONNECT_TIMEOUT, NULL}, \
    {"-h", NULL, CONNECT_OPTION_HELP, NULL}, \
    {"--help", NULL, CONNECT_OPTION_HELP, NULL},
#define CONNECT_USAGE "sidecall connect [OPTIONS] NAME PROGRAM [ARG...]"
#define CONNECT_HELP \
    "Connect to bridge NAME and become PROGRAM: the socket is its stdin and stdout, it inherits stderr, and sets the exit\n" \
    "status of this process.\n" \
    "\n" \
    "usage: sidecall connect [OPTIONS] NAME PROGRAM [ARG...]\n" \
    "\n" \
    "  --connect-timeout SECONDS  wait up to SECONDS for the service to start\n" \
    "  -h, --help                 print this text\n"

enum { PING_OPTION_CONNECT_TIMEOUT, PING_OPTION_TIMEOUT, PING_OPTION_QUIET, PING_OPTION_HELP };
#define PING_OPTIONS \
    {"--connect-timeout", "SECONDS", PING_OPTION_CONNECT_TIMEOUT, NULL}, \
    {"--timeout", "SECONDS", PING_OPTION_TIMEOUT, NULL}, \
    {"-q", NULL, PING_OPTION_QUIET, NULL}, \
    {"--quiet", NULL, PING_OPTION_QUIET, NULL}, \
    {"-h", NULL, PING_OPTION_HELP, NULL}, \
    {"--help", NULL, PING_OPTION_HELP, NULL},
#define PING_USAGE "sidecall ping [OPTIONS] NAME"
#define PING_HELP \
    "Check whether service NAME responds, over its socket, so also across network namespaces. The exit code suits a health\n" \
    "check: 0 if the service responds, 69 if not.\n" \
    "\n" \
    "usage: sidecall ping [OPTIONS] NAME\n" \
    "\n" \
    "  --connect-timeout SECONDS  wait up to SECONDS for the service to start\n" \
    "  --timeout SECONDS          wait up to SECONDS for the answer [default: 5]\n" \
    "  -q, --quiet                print nothing\n" \
    "  -h, --help                 print this text\n"

#define MAIN_HELP \
    "Run a command in another container, over a socket on a shared volume\n" \
    "\n" \
    "usage: sidecall COMMAND ...\n" \
    "\n" \
    "  exec        run a command of a service\n" \
    "  list        list the services of the directory, each with its state\n" \
    "  describe    show the commands of a service, or the usage of one\n" \
    "  ping        check whether a service responds\n" \
    "  doctor      find out why a service cannot be reached\n" \
    "  status      list the calls of a service\n" \
    "  kill        cancel calls\n" \
    "  wait        wait for the end of a detached call, and exit as its command did\n" \
    "  attach      follow a detached call: its output, then its end\n" \
    "  logs        print the output of a detached call\n" \
    "  rm          remove the records of calls that have ended\n" \
    "  serve       serve commands, or one program per connection\n" \
    "  connect     run a program on a connection to a bridge\n" \
    "  install     copy this executable to a volume, for containers without Python\n" \
    "  completion  print a script that completes command lines in bash, zsh or fish\n" \
    "\n" \
    "`sidecall help COMMAND` prints the options of COMMAND, `sidecall --version` the version.\n" \
    "The sockets are in $SIDECALL_DIR, /run/sidecall by default.\n"

#define NAME_INVALID_TEXT "invalid service name %s"
#define NAME_INVALID_HINT "use a name such as `hugin`, or a path"
#define PATH_NOT_ABSOLUTE_TEXT "%s is relative, but the working directory has been removed"
#define PATH_NOT_ABSOLUTE_HINT "use an absolute path"
#define PATH_TOO_LONG_TEXT "path too long: %s"
#define SOCKET_DENIED_TEXT "uid %llu lacks write permission on the socket %s of uid %llu, mode %s"
#define SOCKET_DENIED_HINT "add %llu to `callers` in the service configuration, or run the client as uid %llu"
#define SOCKET_DENIED_BY_POLICY_TEXT "uid %llu has write permission on the socket %s, but the system denies the connection"
#define SOCKET_DENIED_BY_POLICY_HINT "compare the SELinux or AppArmor labels of both containers"
#define DIRECTORY_DENIED_TEXT "uid %llu lacks %s permission on the directory %s of uid %llu, mode %s"
#define DIRECTORY_DENIED_HINT "run `chmod a+rx %s` as uid %llu"
#define DIRECTORY_MISSING_TEXT "the socket is missing, and so is its directory %s"
#define DIRECTORY_MISSING_HINT "mount the shared volume there, or set SIDECALL_DIR"
#define SOCKETS_MISSING_TEXT "the directory %s of the sockets is missing"
#define SOCKETS_MISSING_HINT "mount the shared volume there, or set SIDECALL_DIR"
#define SOCKET_MISSING_TEXT "the socket is missing: %s"
#define SOCKET_MISSING_HINT "start the service with `sidecall serve`, or wait for it with `--connect-timeout SECONDS`"
#define NOT_A_SOCKET_TEXT "%s is not a socket"
#define NOT_A_SOCKET_HINT "give the name of a service, or the path of its socket"
#define SOCKET_STALE_TEXT "no server is listening on %s (stale socket)"
#define SOCKET_STALE_HINT "start the service again with `sidecall serve`; it replaces a stale socket"
#define CANNOT_CONNECT_TEXT "cannot connect to %s: %s"
#define DIRECTORY_OPEN_TO_ALL_TEXT "any user can replace the sockets in %s"
#define DIRECTORY_OPEN_TO_ALL_HINT "run `chmod o-w %s` as its owner"
#define SERVED_BY_ANOTHER_TEXT "uid %llu serves %s, and is neither root, nor you, nor the owner of its directory"
#define SERVED_BY_ANOTHER_HINT "if you trust that server, make it the owner with `chown %llu %s`"
#define SERVER_UNIDENTIFIED_TEXT "uid %llu serves %s, and every unmapped user has that uid"
#define SERVER_UNIDENTIFIED_HINT "run the server as a user that is mapped in this container, or use one user namespace for both"
#define NO_ANSWER_TEXT "the server does not answer"
#define NO_ANSWER_HINT "check whether it is stopped, or not a sidecall server"
#define CONNECTION_CLOSED_TEXT "the server on %s closed the connection without an answer"
#define CONNECTION_CLOSED_HINT "check whether it is a bridge, or socat"
#define IS_BRIDGE_TEXT "the server is a bridge, which takes no calls"
#define IS_BRIDGE_HINT "connect to it with `sidecall connect NAME PROGRAM`"
#define TIMED_OUT_TEXT "the command timed out and was terminated"
#define TIMED_OUT_HINT "raise `--timeout`, or `timeout` in the service configuration"
#define OUTPUT_FAILED_TEXT "the command exited with 0, but its output file could not be created"
#define OUTPUT_FAILED_HINT "check that the command writes the file it was given; see the service log"
#define END_UNKNOWN_TEXT "the server reports an end of a kind unknown to this client: the exit status of the command is unknown"
#define END_UNKNOWN_HINT "use the same release of sidecall on both sides"
#define CONNECTION_LOST_TEXT "the connection to the server was lost: the exit status of the command is unknown"
#define CONNECTION_LOST_HINT "see the service log before you call again"
#define NOT_STOPPED_TEXT "interrupted repeatedly, but the server does not stop the command: its exit status is unknown"
#define NOT_STOPPED_HINT "check whether the server is stopped"
#define TIMEOUT_IGNORED_TEXT "the timeout has passed, but the server does not report an end: the exit status of the command is unknown"
#define TIMEOUT_IGNORED_HINT "check whether the server is stopped"
#define END_IMPOSSIBLE_TEXT "the server reports an impossible end %llu, %llu"
#define VERSION_UNKNOWN_TEXT "the server uses version %llu of the protocol, this client version %llu"
#define VERSION_UNKNOWN_HINT "use the same release of sidecall on both sides"
#define NEED_UNKNOWN_TEXT "the server needs the feature %s, which this client does not have"
#define NEED_UNKNOWN_HINT "use the same release of sidecall on both sides"
#define NOT_ASKED_TO_DESCRIBE_TEXT "the server described the command instead of running it"
#define CALL_TOO_LONG_TEXT "the call is too long: Call of %llu bytes exceeds its limit of %llu"
#define CALL_TOO_LONG_HINT "send large data on stdin, or as a file"
#define CANNOT_READ_TEXT "cannot read %s: %s"
#define CANNOT_READ_HINT "the input of the command is incomplete"
#define CANNOT_WRITE_TEXT "cannot write %s: %s"
#define CANNOT_WRITE_HINT "the output of the command is incomplete"
#define OUTPUT_DROPPED_TEXT "the reader of %s takes no output: the rest was dropped"
#define CANNOT_CONTINUE_TEXT "cannot continue: %s"
#define NOTHING_STARTED_TEXT "cannot continue: %s; nothing was started"
#define WAITING_FOR_SLOT_TEXT "waiting for a slot of %s, %llu ahead"
#define PARENT_ENDED_TEXT "the parent process has ended before the call"
#define PARENT_ENDED_HINT "nothing was started"
#define ID_WITHOUT_DETACH_TEXT "--id goes with -d"
#define ID_WITHOUT_DETACH_HINT "to follow a call that was made, use `sidecall attach %s ID`"
#define TERMINAL_DETACHED_TEXT "-t does not go with -d"
#define TERMINAL_DETACHED_HINT "leave `-t` out: the output of a detached call is recorded"
#define OUTCOME_FD_CLOSED_TEXT "--outcome-fd %s: this descriptor is not open"
#define OUTCOME_FD_CLOSED_HINT "open it with `%s>FILE`"
#define OUTCOME_NOT_WRITTEN_TEXT "cannot write the outcome to descriptor %s: %s"
#define VARIABLE_INVALID_TEXT "invalid --env %s: expected NAME or NAME=VALUE"
#define ENV_FILE_UNREADABLE_TEXT "cannot read --env-file %s: %s"
#define ENV_FILE_TOO_LONG_TEXT "--env-file %s is too long: the limit is %llu bytes"
#define ENV_FILE_INVALID_TEXT "invalid line %llu of --env-file %s: expected NAME=VALUE, NAME, or a comment after #"
#define ENV_FILE_INVALID_HINT "a NAME has no spaces, and a VALUE no NUL bytes"
#define UNKNOWN_OPTION_TEXT "unknown option %s"
#define UNKNOWN_OPTION_HINT "see `%s --help`"
#define UNSUPPORTED_OPTION_TEXT "%s is not supported: %s"
#define UNSUPPORTED_OPTION_HINT "%s"
#define OPTION_AFTER_SERVICE_TEXT "the option %s follows the service"
#define OPTION_AFTER_SERVICE_HINT "put options before NAME: %s"
#define NO_VALUE_TAKEN_TEXT "%s takes no value"
#define VALUE_MISSING_TEXT "%s needs a value: %s"
#define TERMINAL_MISSING_TEXT "-t needs a terminal as stdin"
#define TERMINAL_MISSING_HINT "call without `-t`, or from a terminal"
#define VALUE_IS_OPTION_TEXT "%s needs a value: %s, and the option %s follows"
#define VALUE_IS_OPTION_HINT "if that is the value, use `%s=%s`"
#define DOCTOR_TEXT "for more, run `sidecall doctor %s`"
#define SECONDS_INVALID_TEXT "invalid --%s %s: expected a positive number of seconds"
#define NUMBER_INVALID_TEXT "invalid --%s %s: expected a whole number of at least %llu"
#define SUBCOMMAND_MISSING_TEXT "missing subcommand"
#define SUBCOMMAND_MISSING_HINT "see `sidecall --help`"
#define NO_PYTHON_COMMAND_TEXT "this client has no subcommand %s, and the Python command that might have it was not found"
#define NO_PYTHON_COMMAND_HINT "install sidecall for Python, or set SIDECALL_PYTHON_COMMAND to its path"
#define PROGRAM_MISSING_TEXT "missing program"
#define PROGRAM_MISSING_HINT "usage: %s"
#define SERVICE_MISSING_TEXT "missing service"
#define SERVICE_MISSING_HINT "usage: %s"
#define CALL_MISSING_TEXT "missing call"
#define CALL_MISSING_HINT "usage: %s"
#define COMMAND_MISSING_TEXT "missing command"
#define COMMAND_MISSING_HINT "usage: %s"
#define ANSWER_UNEXPECTED_TEXT "the server answered %s with %s"
#define PING_REPLY_TEXT "%s: %s, round trip %.1f ms, %llu of %llu slots in use, %llu of %llu waiting, %llu connections ended, up %.0f s"

#endif
