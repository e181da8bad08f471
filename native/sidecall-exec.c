/* The native client of sidecall: `sidecall exec`, written from PROTOCOL.md, without an interpreter to start.
 *
 * It does what src/sidecall/cli/exec.py and what that imports do, in the same words; whatever else `sidecall` can do
 * is handed over to the Python command. One process makes one call, so all storage is static: pages that a call does
 * not need are never touched. Nothing is allocated.
 *
 * The order of this file: texts and errors, options, where the service is, the CALL, the answers, the streams,
 * signals, the call as a whole, how it ends.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "printable.h"

#define SOFTWARE "sidecall 0.1.0 native"
#define USAGE "sidecall exec [OPTIONS] NAME COMMAND [ARG...]"

/* Exit codes that are not the command's own: errors.py. */
enum {
    EXIT_USAGE = 64,
    EXIT_UNAVAILABLE = 69,
    EXIT_BUG = 70,
    EXIT_UNPLACED = 73,
    EXIT_BUSY = 75,
    EXIT_PROTOCOL = 76,
    EXIT_DENIED = 77,
    EXIT_TIMED_OUT = 124,
    EXIT_LOST = 125,
    EXIT_CANNOT_EXECUTE = 126,
    EXIT_NO_SUCH_COMMAND = 127,
};

/* Numbers of the protocol: PROTOCOL.md. */
enum {
    HELLO = 1,
    CALL = 2,
    QUEUED = 3,
    STARTED = 4,
    REFUSED = 5,
    EXIT = 6,
    DATA = 7,
    END_OF_STREAM = 8,
    WINDOW = 9,
    STOP = 10,
    SIGNAL = 11,
    PONG = 17,
    DESCRIPTION = 19,
    CALLS = 21,

    VERSION = 1,
    HEADER = 5,
    CONTROL_LIMIT = 64 << 10,
    CALL_LIMIT = 2 << 20,
    DESCRIPTION_LIMIT = 1 << 20,
    CALLS_LIMIT = 16 << 20,
    MAX_DATA = 64 << 10,
    INITIAL_WINDOW = 256 << 10,
    FLAG_NO_WAIT = 1,
    DESCRIPTORS_LOST = 1,
};

enum {
    RECEIVE_SIZE = 256 << 10,
    GRANT_AT = INITIAL_WINDOW / 4, /* bytes consumed before they are granted again: few WINDOW frames */
    CONTROL_ROOM = 64 << 10,       /* kept free for what is not stream data */
    PIPE_PIECE = 4096,             /* what a writable pipe takes without blocking: PIPE_BUF in pipe(7) */
    PATIENCE = 2,                  /* INT signals that the service is trusted to act on */
    LAST_SIGNAL = 64,
    MOST_WORDS = 64, /* of a call, that may name folders */
    MOST_FOLDERS = 128,
    MAX_SOCKET_PATH = 107,
    MOST_CHARACTERS = 1000,                    /* of a reason or a hint */
    LINE_SIZE = (MOST_CHARACTERS + 2) * 10 + 1, /* a character becomes ten bytes at the most: \U0001f600 */
    RAW_SIZE = 2 << 20,                        /* a sentence about a word of 128 KiB, each byte of it escaped */
    ARENA_SIZE = 8 << 20,                      /* more than the words of an execve(2), each below a working folder */
    RETRY_AFTER_MS = 50,
};

_Static_assert(SIGHUP == 1 && SIGUSR1 == 10 && SIGUSR2 == 12 && SIGCONT == 18 && SIGTSTP == 20,
               "the protocol numbers signals as Linux does on x86 and Arm");

enum mode { MODE_NONE = 0, MODE_PASSED = 1, MODE_RELAYED = 2 };

/* The service's state; the caller's follows from it, since it says nothing but HELLO, CALL and what goes with it. */
enum state { STATE_IDLE, STATE_READY, STATE_WAITING, STATE_RUNNING, STATE_DONE };

/* The first four are the numbers of EXIT. */
enum kind { KIND_EXITED, KIND_SIGNALED, KIND_TIMED_OUT, KIND_UNPLACED, KIND_REFUSED, KIND_LOST };

struct line {
    size_t length;
    char text[LINE_SIZE];
};

struct buffer {
    uint8_t *bytes;
    size_t size, start, end;
};

struct stream {
    enum mode mode;
    bool was_closed;  /* before this process put /dev/null there */
    int fd;           /* a relayed stream's own descriptor, or -1 */
    bool nonblocking; /* no write can block */
    bool ended;       /* EOF was sent or received */
    bool ending;      /* to be closed once what is pending is written */
    uint32_t credit;  /* bytes that the sender may still send */
    uint32_t consumed;
    struct buffer pending;
};

struct usage {
    uint64_t queued_us, run_us, user_us, system_us, max_rss;
};

struct outcome {
    enum kind kind;
    int value;
    bool core_dumped;
    bool has_usage;
    struct usage usage;
    struct line reason, hint;
};

struct folder {
    const char *path;
    size_t length;
    bool exists;
    struct stat status;
};

struct call {
    /* What was asked for. */
    char **words; /* NAME COMMAND [ARG...] */
    int word_count;
    char **variables; /* of --env, as given */
    int variable_count;
    const char *cwd, *timeout_text, *wait_text, *outcome_fd_text;
    bool no_wait, no_stdin, relay, die_with_parent, quiet, verbose, wants_help;
    const char *path;      /* the service's socket */
    const char *directory; /* --cwd, absolute; or empty */
    double timeout, wait;
    int outcome_fd;

    /* The connection. */
    int sock;
    bool broken; /* nothing can be sent any more; what was sent to us still counts */
    enum state state;
    struct buffer incoming, outgoing;
    size_t to_skip; /* bytes of a long CALLS that nobody asked for: the one frame that is not kept as a whole */
    struct stream streams[3];
    int interrupts;
    int unwritten, unwritten_error; /* the first stream whose output was lost, and why; or -1 */

    /* The end. */
    bool has_ended, has_failed, must_relay;
    const uint8_t *description;
    size_t description_length;
    size_t call_id_length;
    char call_id[CONTROL_LIMIT];
    struct outcome outcome;
};

static struct call the_call;
static uint8_t incoming_bytes[HEADER + DESCRIPTION_LIMIT + RECEIVE_SIZE];
static uint8_t outgoing_bytes[CALL_LIMIT + CONTROL_LIMIT + (2 << 20)];
static uint8_t pending_bytes[3][INITIAL_WINDOW];
static char arena[ARENA_SIZE];
static size_t arena_used;

/* ---- Texts: every sentence is one printable line, whatever a stranger put into it. ---- */

/* Return the character at *at and move on. A byte that is not UTF-8 becomes a lone surrogate, as in Python. */
static uint32_t decode(const uint8_t **at, const uint8_t *end)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *text = *at;
    uint8_t first = *text;
    *at = text + 1;
    if (first < 0x80)
        return first;
    size_t length = first >= 0xf0 && first < 0xf8 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 0;
    if (length == 0 || first >= 0xf8 || (size_t)(end - text) < length)
        return 0xdc00U | first;
    uint32_t character = first & (0xffU >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0xdc00U | first;
        character = character << 6 | (text[i] & 0x3fU);
    }
    if (character < least[length] || character > 0x10ffff || (character >= 0xd800 && character < 0xe000))
        return 0xdc00U | first;
    *at = text + length;
    return character;
}

static bool is_surrogate(uint32_t character)
{
    return character >= 0xd800 && character < 0xe000;
}

static bool is_utf8(const uint8_t *text, size_t length)
{
    const uint8_t *end = text + length;
    while (text < end)
        if (is_surrogate(decode(&text, end)))
            return false;
    return true;
}

static bool is_printable(uint32_t character)
{
    size_t low = 0, high = sizeof not_printable / sizeof *not_printable;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (character > not_printable[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low == sizeof not_printable / sizeof *not_printable || character < not_printable[low].first;
}

/* Write a character as itself, or escaped as Python does if it is not printable; return its bytes, at most 10. */
static size_t spell(char *into, uint32_t character, const uint8_t *text, size_t length)
{
    if (is_printable(character)) {
        memcpy(into, text, length);
        return length;
    }
    const char *short_form = character == '\n' ? "\\n" : character == '\r' ? "\\r" : character == '\t' ? "\\t" : NULL;
    if (short_form != NULL) {
        memcpy(into, short_form, 2);
        return 2;
    }
    const char *format = character < 0x100 ? "\\x%02x" : character < 0x10000 ? "\\u%04x" : "\\U%08x";
    char escaped[16];
    int size = snprintf(escaped, sizeof escaped, format, (unsigned)character);
    memcpy(into, escaped, (size_t)size);
    return (size_t)size;
}

/* Make a text one printable line, of the first and last 500 characters if it is long. */
static void set_line(struct line *line, const void *bytes, size_t length)
{
    const uint8_t *begin = bytes, *end = begin + length;
    size_t characters = 0, index = 0;
    for (const uint8_t *at = begin; at < end; characters++)
        decode(&at, end);
    line->length = 0;
    for (const uint8_t *at = begin; at < end; index++) {
        const uint8_t *text = at;
        uint32_t character = decode(&at, end);
        if (characters <= MOST_CHARACTERS || index < MOST_CHARACTERS / 2 || index >= characters - MOST_CHARACTERS / 2)
            line->length += spell(line->text + line->length, character, text, (size_t)(at - text));
        else if (index == MOST_CHARACTERS / 2)
            line->length += spell(line->text + line->length, 0x2026, (const uint8_t *)"\u2026", 3);
    }
    line->text[line->length] = '\0';
}

static void set_line_va(struct line *line, const char *format, va_list values)
{
    static char raw[RAW_SIZE];
    int length = vsnprintf(raw, sizeof raw, format, values);
    set_line(line, raw, length < 0 ? 0 : (size_t)length < sizeof raw ? (size_t)length : sizeof raw - 1);
}

/* Return a word as Python's repr() writes it. One at a time: it is overwritten by the next. */
static const char *repr(const char *word)
{
    static char spelled[RAW_SIZE / 2];
    const uint8_t *at = (const uint8_t *)word, *end = at + strlen(word);
    char quote = strchr(word, '\'') != NULL && strchr(word, '"') == NULL ? '"' : '\'';
    size_t length = 0;
    spelled[length++] = quote;
    while (at < end && length < sizeof spelled - 16) {
        const uint8_t *text = at;
        uint32_t character = decode(&at, end);
        if (character == (uint32_t)quote || character == '\\')
            spelled[length++] = '\\';
        length += spell(spelled + length, character, text, (size_t)(at - text));
    }
    spelled[length++] = quote;
    spelled[length] = '\0';
    return spelled;
}

/* The words of glibc, which Python shows, for the errors of a socket or a file that musl has others for. */
static const char *error_text(int number)
{
    switch (number) {
    case ENAMETOOLONG: return "File name too long";
    case ELOOP: return "Too many levels of symbolic links";
    case EMFILE: return "Too many open files";
    case ENFILE: return "Too many open files in system";
    case ENOMEM: return "Cannot allocate memory";
    case ENOBUFS: return "No buffer space available";
    case EIO: return "Input/output error";
    case EDQUOT: return "Disk quota exceeded";
    case ESTALE: return "Stale file handle";
    default: return strerror(number);
    }
}

/* ---- Errors: a failure ends the call; whoever sees `false` only has to return. ---- */

/* Note why the call has failed, and with which code. */
__attribute__((format(printf, 3, 4))) static bool fail(struct call *call, int code, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    set_line_va(&call->outcome.reason, format, values);
    va_end(values);
    call->outcome.hint.length = 0;
    call->outcome.kind = code == EXIT_LOST ? KIND_LOST : KIND_REFUSED;
    call->outcome.value = code;
    call->has_failed = call->has_ended = true;
    return false;
}

/* Note what can be done about the failure. */
__attribute__((format(printf, 2, 3))) static bool hint(struct call *call, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    set_line_va(&call->outcome.hint, format, values);
    va_end(values);
    return false;
}

static void forget_failure(struct call *call)
{
    call->has_failed = call->has_ended = false;
    call->outcome.reason.length = call->outcome.hint.length = 0;
}

static void write_stderr(const char *before, const struct line *line)
{
    char text[LINE_SIZE + 32];
    int length = snprintf(text, sizeof text, "%s%s\n", before, line->text);
    if (write(STDERR_FILENO, text, (size_t)length) < 0)
        return; /* there is nobody to tell */
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    struct line line;
    va_list values;
    va_start(values, format);
    set_line_va(&line, format, values);
    va_end(values);
    write_stderr("sidecall: ", &line);
}

static void complain(const struct call *call)
{
    write_stderr("sidecall: ", &call->outcome.reason);
    if (call->outcome.hint.length > 0)
        write_stderr("hint: ", &call->outcome.hint);
}

/* ---- Options ---- */

struct option {
    const char *name, *value;
};

static const struct option OPTIONS[] = {
    {"--cwd", "FOLDER"},      {"--env", "NAME[=VALUE]"}, {"--timeout", "SECONDS"}, {"--wait", "SECONDS"},
    {"--outcome-fd", "N"},    {"--no-wait", NULL},       {"--no-stdin", NULL},     {"--relay", NULL},
    {"--die-with-parent", NULL}, {"--quiet", NULL},      {"--verbose", NULL},      {"--help", NULL},
    {"-q", NULL},             {"-v", NULL},              {"-h", NULL},
};

static const struct option *find_option(const char *word, size_t length)
{
    for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++)
        if (strlen(OPTIONS[i].name) == length && memcmp(OPTIONS[i].name, word, length) == 0)
            return &OPTIONS[i];
    return NULL;
}

static void set_option(struct call *call, const char *name, char *value)
{
    if (strcmp(name, "--env") == 0)
        call->variables[call->variable_count++] = value;
    else if (strcmp(name, "--cwd") == 0)
        call->cwd = value;
    else if (strcmp(name, "--timeout") == 0)
        call->timeout_text = value;
    else if (strcmp(name, "--wait") == 0)
        call->wait_text = value;
    else if (strcmp(name, "--outcome-fd") == 0)
        call->outcome_fd_text = value;
    else if (strcmp(name, "--no-wait") == 0)
        call->no_wait = true;
    else if (strcmp(name, "--no-stdin") == 0)
        call->no_stdin = true;
    else if (strcmp(name, "--relay") == 0)
        call->relay = true;
    else if (strcmp(name, "--die-with-parent") == 0)
        call->die_with_parent = true;
    else if (name[1] == 'q' || strcmp(name, "--quiet") == 0)
        call->quiet = true;
    else
        call->verbose = true;
}

/* Read options up to the first positional word; `--` ends them too. */
static bool parse_options(struct call *call, char **words)
{
    for (; *words != NULL && (*words)[0] == '-' && (*words)[1] != '\0'; words++) {
        char *word = *words, *equals = strchr(word, '=');
        if (strcmp(word, "--") == 0) {
            words++;
            break;
        }
        size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
        const struct option *option = find_option(word, length);
        if (option == NULL) {
            fail(call, EXIT_USAGE, "unknown option %.*s", (int)length, word);
            return hint(call, "see `sidecall exec --help`");
        }
        if (strcmp(option->name, "--help") == 0 || strcmp(option->name, "-h") == 0) {
            call->wants_help = true;
            return true;
        }
        if (option->value == NULL && equals != NULL)
            return fail(call, EXIT_USAGE, "%s takes no value", option->name);
        if (option->value != NULL && equals == NULL && *++words == NULL)
            return fail(call, EXIT_USAGE, "%s needs a value: %s", option->name, option->value);
        set_option(call, option->name, equals != NULL ? equals + 1 : *words);
    }
    call->words = words;
    while (words[call->word_count] != NULL)
        call->word_count++;
    return true;
}

static char *arena_take(size_t size)
{
    if (size > ARENA_SIZE - arena_used)
        return NULL;
    arena_used += size;
    return arena + arena_used - size;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Read a number as Python's float() does: spaces around it, underscores between digits. Return -1 if it is none. */
static double number_of(const char *text)
{
    static const char spaces[] = " \t\n\v\f\r";
    text += strspn(text, spaces);
    char *copy = arena_take(strlen(text) + 1), *into = copy, *end;
    if (copy == NULL || strspn(text, "0123456789+-.eE_ \t\n\v\f\r") != strlen(text))
        return -1;
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (text[i] != '_')
            *into++ = text[i];
        else if (i == 0 || !is_digit(text[i - 1]) || !is_digit(text[i + 1]))
            return -1;
    }
    *into = '\0';
    double number = strtod(copy, &end);
    return end > copy && end[strspn(end, spaces)] == '\0' ? number : -1;
}

static bool parse_seconds(struct call *call, const char *name, const char *text, double *seconds)
{
    if (text == NULL || *text == '\0')
        return true;
    *seconds = number_of(text);
    if (*seconds > 0 && *seconds < 1e9)
        return true;
    return fail(call, EXIT_USAGE, "%s takes a positive number of seconds, not %s", name, repr(text));
}

static bool parse_outcome_fd(struct call *call)
{
    const char *text = call->outcome_fd_text;
    struct stat status;
    call->outcome_fd = -1;
    if (text == NULL)
        return true;
    if (*text == '\0' || strspn(text, "0123456789") != strlen(text))
        return fail(call, EXIT_USAGE, "--outcome-fd takes a whole number of at least 0, not %s", repr(text));
    while (text[0] == '0' && text[1] != '\0')
        text++;
    call->outcome_fd = strlen(text) < 10 ? atoi(text) : -1;
    if (fstat(call->outcome_fd, &status) == 0)
        return true;
    fail(call, EXIT_USAGE, "--outcome-fd %s: this descriptor is not open", text);
    return hint(call, "open it with `%s>FILE`", text);
}

static bool check_variables(struct call *call)
{
    for (int i = 0; i < call->variable_count; i++) {
        const char *given = call->variables[i];
        if (*given == '\0' || *given == '=')
            return fail(call, EXIT_USAGE, "--env takes NAME or NAME=VALUE, not %s", repr(given));
        if (strchr(given, '=') == NULL && getenv(given) == NULL) {
            fail(call, EXIT_USAGE, "--env %s: there is no such variable here", given);
            return hint(call, "set it, or say --env %s=VALUE", given);
        }
    }
    return true;
}

/* ---- Where the service is, and how to get there ---- */

/* Return the length of a path's folder, as os.path.dirname() cuts it. */
static size_t folder_length(const char *path, size_t length)
{
    while (length > 0 && path[length - 1] != '/')
        length--;
    size_t kept = length;
    while (kept > 0 && path[kept - 1] == '/')
        kept--;
    return kept > 0 ? kept : length;
}

static char *folder_of(const char *path)
{
    size_t length = folder_length(path, strlen(path));
    char *folder = arena_take(length + 1);
    if (folder == NULL)
        return NULL;
    memcpy(folder, path, length);
    folder[length] = '\0';
    return folder;
}

/* Return `path` below `base`, or itself if it is absolute. */
static char *joined(const char *base, const char *path)
{
    size_t length = *path == '/' ? 0 : strlen(base), rest = strlen(path);
    char *whole = arena_take(length + rest + 2);
    if (whole == NULL)
        return NULL;
    memcpy(whole, base, length);
    if (length > 0 && whole[length - 1] != '/')
        whole[length++] = '/';
    memcpy(whole + length, path, rest + 1);
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

static const char *absolute(struct call *call, const char *path)
{
    char cwd[PATH_MAX] = "/";
    if (*path != '/' && getcwd(cwd, sizeof cwd) == NULL) {
        fail(call, EXIT_USAGE, "%s is relative to the working folder, which is gone", repr(path));
        return NULL;
    }
    char *whole = joined(cwd, path);
    if (whole == NULL) {
        fail(call, EXIT_USAGE, "the path is too long: %s", path);
        return NULL;
    }
    normalize(whole);
    return whole;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), size = strlen(end);
    return length >= size && strcmp(text + length - size, end) == 0;
}

/* Find the service's socket: a name with a slash or ending in `.sock` is a path already. */
static bool find_socket(struct call *call, const char *name)
{
    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        fail(call, EXIT_USAGE, "%s is no service name", repr(name));
        return hint(call, "use a word such as `hugin`, or a path");
    }
    if (strchr(name, '/') != NULL || ends_with(name, ".sock")) {
        call->path = absolute(call, name);
        return call->path != NULL;
    }
    const char *folder = getenv("SIDECALL_DIR");
    char *path = joined(folder != NULL && *folder != '\0' ? folder : "/run/sidecall", name);
    if (path == NULL || arena_take(sizeof ".sock") == NULL)
        return fail(call, EXIT_USAGE, "the path is too long: %s", name);
    strcat(path, ".sock");
    call->path = path;
    return true;
}

/* Say what a failed connect means. Returns whether waiting may help. */
static bool explain(struct call *call, int error)
{
    const char *path = call->path, *folder = folder_of(path);
    struct stat status;
    if (error == EACCES || error == EPERM) {
        fail(call, EXIT_DENIED, "permission denied on the socket %s", path);
        return hint(call, "ask for write permission on it, or call as its owner");
    }
    if (error == ENOENT && (stat(folder, &status) != 0 || !S_ISDIR(status.st_mode))) {
        fail(call, EXIT_UNAVAILABLE, "the socket is missing, and so is its folder %s", folder);
        hint(call, "mount the shared volume there, or set SIDECALL_DIR");
    } else if (error == ENOENT) {
        fail(call, EXIT_UNAVAILABLE, "the socket is missing: %s", path);
        hint(call, "start the service with `sidecall serve`, or give it time with `--wait SECONDS`");
    } else if (error != ECONNREFUSED && error != ENOTSOCK && error != ENOTDIR) {
        fail(call, EXIT_UNAVAILABLE, "cannot connect to %s: %s", path, error_text(error));
    } else if (stat(path, &status) != 0 || !S_ISSOCK(status.st_mode)) {
        fail(call, EXIT_UNAVAILABLE, "%s is not a socket", path);
        hint(call, "name a service, or the path of its socket");
    } else {
        fail(call, EXIT_UNAVAILABLE, "the socket is stale, nobody listens on it: %s", path);
        hint(call, "start the service again with `sidecall serve`; it replaces a stale socket");
    }
    return true;
}

/* Connect to a path, one that is too long through a descriptor of its folder: proc(5). Return 0 or the error. */
static int connect_to(int sock, const char *path, const char *folder)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    int opened = -1, error = 0;
    char through[MAX_SOCKET_PATH + 1];
    if (length > MAX_SOCKET_PATH) {
        opened = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (opened < 0)
            return errno;
        int needed = snprintf(through, sizeof through, "/proc/self/fd/%d/%s", opened, strrchr(path, '/') + 1);
        length = (size_t)needed;
        path = through;
    }
    if (length > MAX_SOCKET_PATH) {
        error = ENAMETOOLONG;
    } else {
        memcpy(address.sun_path, path, length);
        socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
        while ((error = connect(sock, (struct sockaddr *)&address, size) == 0 ? 0 : errno) == EINTR)
            continue;
    }
    if (opened >= 0)
        close(opened);
    return error;
}

/* Refuse a service that somebody else may have put into the place of the one that is meant: whoever owns the folder,
 * and root, decides what is in it; so does this user. Sets *error if the folder cannot be looked at. */
static bool is_impostor(struct call *call, int sock, const char *folder, int *error)
{
    struct stat status;
    struct ucred server;
    socklen_t size = sizeof server;
    if (stat(folder, &status) != 0 || getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &server, &size) != 0) {
        *error = errno;
        return false;
    }
    if ((status.st_mode & S_IWOTH) && !(status.st_mode & S_ISVTX)) {
        fail(call, EXIT_DENIED, "anyone may replace the sockets in %s", folder);
        hint(call, "have its owner say `chmod o-w %s`", folder);
        return true;
    }
    if (server.uid == 0 || server.uid == geteuid() || server.uid == status.st_uid)
        return false;
    fail(call, EXIT_DENIED, "uid %u serves %s, and neither owns its folder nor is root or you", server.uid, call->path);
    hint(call, "if it is the one that is meant, give it the folder: `chown %u %s`", server.uid, folder);
    return true;
}

/* Return 0 and call->sock, an error that can be explained, or -1 for one that has been. */
static int connect_once(struct call *call, const char *folder)
{
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return errno;
    int error = connect_to(sock, call->path, folder);
    if (error == 0 && is_impostor(call, sock, folder, &error))
        error = -1;
    if (error == 0)
        call->sock = sock;
    else
        close(sock);
    return error;
}

static int64_t milliseconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool connect_to_service(struct call *call)
{
    const char *folder = folder_of(call->path);
    int64_t deadline = milliseconds_now() + (int64_t)(call->wait * 1000);
    if (folder == NULL)
        return fail(call, EXIT_USAGE, "the path is too long: %s", call->path);
    for (;;) {
        size_t used = arena_used;
        int error = connect_once(call, folder);
        if (error == 0)
            return true;
        if (error < 0 || !explain(call, error))
            return false;
        int64_t remaining = deadline - milliseconds_now();
        if (remaining <= 0)
            return false;
        arena_used = used;
        forget_failure(call);
        poll(NULL, 0, remaining < RETRY_AFTER_MS ? (int)remaining : RETRY_AFTER_MS);
    }
}

/* ---- Bytes under way ---- */

/* Return where `size` more bytes can be put, or NULL if there is no room. */
static uint8_t *make_room(struct buffer *buffer, size_t size)
{
    if (buffer->size - buffer->end < size && buffer->start > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->start, buffer->end - buffer->start);
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    return buffer->size - buffer->end < size ? NULL : buffer->bytes + buffer->end;
}

static size_t filled(const struct buffer *buffer)
{
    return buffer->end - buffer->start;
}

static void drop(struct buffer *buffer, size_t size)
{
    buffer->start += size;
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
}

static void close_once(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void put_number(uint8_t *into, uint64_t number, size_t size)
{
    for (size_t i = 0; i < size; i++)
        into[i] = (uint8_t)(number >> 8 * (size - 1 - i));
}

static uint64_t get_number(const uint8_t *from, size_t size)
{
    uint64_t number = 0;
    for (size_t i = 0; i < size; i++)
        number = number << 8 | from[i];
    return number;
}

/* Send what is pending, as much as the socket takes, descriptors with its first byte. A peer that is gone is not an
 * error here: reading tells, after all that it said has been read. */
static void send_pending(struct call *call, const int *passed, size_t count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(3 * sizeof(int))];
    } control = {0};
    struct iovec data = {call->outgoing.bytes + call->outgoing.start, filled(&call->outgoing)};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = (socklen_t)CMSG_SPACE(count * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = (socklen_t)CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(&control.header), passed, count * sizeof(int));
    }
    ssize_t sent = call->broken || call->sock < 0 ? -1 : sendmsg(call->sock, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
        drop(&call->outgoing, (size_t)sent);
    } else if (call->broken || call->sock < 0 || (errno != EAGAIN && errno != EINTR)) {
        call->broken = true;
        drop(&call->outgoing, filled(&call->outgoing));
    }
}

/* Send a small frame: a stream, or a signal, and perhaps a credit. */
static void send_frame(struct call *call, int type, uint8_t first, const uint32_t *credit)
{
    size_t length = credit != NULL ? 5 : 1;
    bool was_empty = filled(&call->outgoing) == 0;
    uint8_t *frame = make_room(&call->outgoing, HEADER + length);
    if (frame == NULL)
        return; /* thousands of signals that the service has not read: one more says nothing new */
    put_number(frame, length, 4);
    frame[4] = (uint8_t)type;
    frame[5] = first;
    if (credit != NULL)
        put_number(frame + 6, *credit, 4);
    call->outgoing.end += HEADER + length;
    if (was_empty)
        send_pending(call, NULL, 0);
}

/* ---- The CALL ---- */

/* A frame under construction. It counts what does not fit, so that the error can tell how long it would be. */
struct frame {
    uint8_t *bytes;
    size_t length, limit;
};

static void put(struct frame *frame, const void *bytes, size_t size)
{
    if (size > 0 && frame->length + size <= HEADER + frame->limit)
        memcpy(frame->bytes + frame->length, bytes, size);
    frame->length += size;
}

static void put_integer(struct frame *frame, uint64_t number, size_t size)
{
    uint8_t bytes[8];
    put_number(bytes, number, size);
    put(frame, bytes, size);
}

static void put_string(struct frame *frame, const char *text)
{
    size_t length = strlen(text);
    put_integer(frame, length, 4);
    put(frame, text, length);
}

static struct frame begin_frame(struct call *call, int type, size_t limit)
{
    struct frame frame = {make_room(&call->outgoing, HEADER + limit), 0, limit};
    put_integer(&frame, 0, 4);
    put_integer(&frame, (uint64_t)type, 1);
    return frame;
}

static void end_frame(struct call *call, struct frame *frame)
{
    put_number(frame->bytes, frame->length - HEADER, 4);
    call->outgoing.end += frame->length;
}

static void put_hello(struct call *call)
{
    struct frame frame = begin_frame(call, HELLO, CONTROL_LIMIT);
    bool passes = false, relays = false;
    for (int i = 0; i < 3; i++) {
        passes |= call->streams[i].mode == MODE_PASSED;
        relays |= call->streams[i].mode == MODE_RELAYED;
    }
    put_integer(&frame, VERSION, 2);
    put_integer(&frame, (uint64_t)passes + relays, 4);
    if (passes)
        put_string(&frame, "pass");
    if (relays)
        put_string(&frame, "relay");
    put_string(&frame, SOFTWARE);
    end_frame(call, &frame);
}

static void put_variables(struct frame *frame, const struct call *call)
{
    put_integer(frame, (uint64_t)call->variable_count, 4);
    for (int i = 0; i < call->variable_count; i++) {
        const char *given = call->variables[i], *value = strchr(given, '=') == NULL ? getenv(given) : NULL;
        if (value == NULL) {
            put_string(frame, given);
            continue;
        }
        put_integer(frame, strlen(given) + 1 + strlen(value), 4);
        put(frame, given, strlen(given));
        put(frame, "=", 1);
        put(frame, value, strlen(value));
    }
}

static struct folder found_folders[MOST_FOLDERS];
static size_t found_count;

/* Note a path, and whether it is a folder; return false if it is known, or there are enough. */
static bool note_folder(const char *path, size_t length)
{
    if (found_count == MOST_FOLDERS)
        return false;
    for (size_t i = 0; i < found_count; i++)
        if (found_folders[i].length == length && memcmp(found_folders[i].path, path, length) == 0)
            return false;
    struct folder *folder = &found_folders[found_count++];
    char name[PATH_MAX];
    *folder = (struct folder){.path = path, .length = length};
    if (length < sizeof name) { /* no longer one can exist */
        memcpy(name, path, length);
        name[length] = '\0';
        folder->exists = stat(name, &folder->status) == 0 && S_ISDIR(folder->status.st_mode);
    }
    return true;
}

/* Note each folder that a word leads through, if it is a path; of `--name=value` only the value may be one. */
static void note_folders_of(const char *base, const char *word)
{
    const char *equals = strchr(word, '='), *value = *word != '-' ? word : equals != NULL ? equals + 1 : "";
    const char *path = joined(base, value);
    if (path == NULL)
        return; /* more words than a CALL may have */
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/')
        length--;
    if (length == 0) {
        path = "/";
        length = 1;
    }
    while (note_folder(path, length))
        length = folder_length(path, length);
}

static void put_folders(struct frame *frame, const struct call *call, const char *base)
{
    size_t used = arena_used, existing = 0;
    found_count = 0;
    note_folders_of(base, "");
    note_folders_of(base, call->directory);
    for (int i = 2; i < call->word_count && i < MOST_WORDS + 1; i++)
        note_folders_of(base, call->words[i]);
    for (size_t i = 0; i < found_count; i++)
        existing += found_folders[i].exists;
    put_integer(frame, existing, 4);
    for (size_t i = 0; i < found_count; i++) {
        const struct folder *folder = &found_folders[i];
        char numbers[64];
        if (!folder->exists)
            continue;
        int size = snprintf(numbers, sizeof numbers, "%llu:%llu:", (unsigned long long)folder->status.st_dev,
                            (unsigned long long)folder->status.st_ino);
        put_integer(frame, (size_t)size + folder->length, 4);
        put(frame, numbers, (size_t)size);
        put(frame, folder->path, folder->length);
    }
    arena_used = used;
}

/* Round to the nearest millisecond, a half to the even one, but never to 0, which would be no limit. */
static uint64_t timeout_ms(double seconds)
{
    double wanted = seconds * 1000;
    uint64_t whole = (uint64_t)wanted;
    double rest = wanted - (double)whole;
    if (rest > 0.5 || (rest == 0.5 && whole % 2 == 1))
        whole++;
    return seconds > 0 && whole == 0 ? 1 : whole;
}

static bool put_call(struct call *call)
{
    char base[PATH_MAX];
    if (getcwd(base, sizeof base) == NULL)
        base[0] = '\0'; /* it has been removed, which is no reason not to call */
    struct frame frame = begin_frame(call, CALL, CALL_LIMIT);
    put_string(&frame, call->words[1]);
    put_integer(&frame, (uint64_t)call->word_count - 2, 4);
    for (int i = 2; i < call->word_count; i++)
        put_string(&frame, call->words[i]);
    put_variables(&frame, call);
    put_string(&frame, call->directory);
    put_string(&frame, base);
    put_folders(&frame, call, base);
    put_integer(&frame, timeout_ms(call->timeout), 8);
    put_integer(&frame, call->no_wait ? FLAG_NO_WAIT : 0, 1);
    for (int i = 0; i < 3; i++)
        put_integer(&frame, call->streams[i].mode, 1);
    if (frame.length - HEADER > CALL_LIMIT) {
        fail(call, EXIT_USAGE, "the call is too long: Call of %zu bytes is over its %d", frame.length - HEADER,
             CALL_LIMIT);
        return hint(call, "send large things on stdin, or as a file");
    }
    end_frame(call, &frame);
    return true;
}

/* HELLO and CALL go out in one write, and the passed streams with its first byte. */
static void send_call(struct call *call)
{
    int passed[3];
    size_t count = 0;
    for (int i = 0; i < 3; i++)
        if (call->streams[i].mode == MODE_PASSED)
            passed[count++] = i;
    put_hello(call);
    if (put_call(call))
        send_pending(call, passed, count);
}

/* ---- Relayed streams ---- */

/* Return a duplicate of `fd` to read or write on, and whether it is certain not to block.
 *
 * O_NONBLOCK belongs to the open file description, which is shared with other processes: it must not be set on one
 * that was inherited. A pipe or terminal can be opened anew through /proc, which makes a description of our own. A
 * regular file never blocks; the rest (sockets) stay as they are. */
static int own_description(int fd, int flags, bool *nonblocking)
{
    struct stat status;
    char again[32];
    *nonblocking = false;
    if (fstat(fd, &status) == 0 && (S_ISFIFO(status.st_mode) || (S_ISCHR(status.st_mode) && isatty(fd)))) {
        snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
        int own = open(again, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own >= 0) {
            *nonblocking = true;
            return own;
        }
    }
    *nonblocking = S_ISREG(status.st_mode);
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* Say how a stream travels: passed unless it must not be. A terminal is relayed, since O_NONBLOCK set on it by one side
 * would hit the other; a directory is, since passed it would lead out of a mount namespace. */
static enum mode mode_of(const struct call *call, int fd, bool relay)
{
    struct stat status;
    if (call->streams[fd].was_closed || (fd == STDIN_FILENO && call->no_stdin) || fstat(fd, &status) != 0)
        return MODE_NONE;
    return relay || S_ISDIR(status.st_mode) || isatty(fd) ? MODE_RELAYED : MODE_PASSED;
}

static bool open_stream(struct call *call, int number, bool relay)
{
    struct stream *stream = &call->streams[number];
    *stream = (struct stream){.was_closed = stream->was_closed, .fd = -1, .credit = INITIAL_WINDOW};
    stream->pending = (struct buffer){pending_bytes[number], INITIAL_WINDOW, 0, 0};
    stream->mode = mode_of(call, number, relay);
    if (stream->mode != MODE_RELAYED)
        return true;
    stream->fd = own_description(number, number == STDIN_FILENO ? O_RDONLY : O_WRONLY, &stream->nonblocking);
    return stream->fd >= 0 || fail(call, EXIT_BUG, "cannot relay the streams: %s", error_text(errno));
}

static bool may_read_stdin(const struct call *call)
{
    const struct stream *stream = &call->streams[STDIN_FILENO];
    size_t room = call->outgoing.size - filled(&call->outgoing);
    return call->state == STATE_RUNNING && stream->fd >= 0 && stream->credit > 0 &&
           room > HEADER + 1 + MAX_DATA + CONTROL_ROOM;
}

static void read_stdin(struct call *call)
{
    struct stream *stream = &call->streams[STDIN_FILENO];
    bool was_empty = filled(&call->outgoing) == 0;
    size_t most = stream->credit < MAX_DATA ? stream->credit : MAX_DATA;
    uint8_t *frame = make_room(&call->outgoing, HEADER + 1 + most);
    ssize_t size = read(stream->fd, frame + HEADER + 1, most);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) { /* EIO: the terminal hung up; EISDIR: a directory has no bytes */
        close_once(&stream->fd);
        send_frame(call, END_OF_STREAM, STDIN_FILENO, NULL);
        return;
    }
    put_number(frame, (uint64_t)size + 1, 4);
    frame[4] = DATA;
    frame[5] = STDIN_FILENO;
    call->outgoing.end += HEADER + 1 + (size_t)size;
    stream->credit -= (uint32_t)size;
    if (was_empty)
        send_pending(call, NULL, 0);
}

/* Give back the credit for what was written. */
static void count_written(struct call *call, int number, size_t size)
{
    struct stream *stream = &call->streams[number];
    stream->consumed += (uint32_t)size;
    if (stream->consumed < GRANT_AT)
        return;
    send_frame(call, WINDOW, (uint8_t)number, &stream->consumed);
    stream->credit += stream->consumed;
    stream->consumed = 0;
}

/* Write bytes of a stream; return how many were taken. If its reader is gone, or the disk is full, it is closed. */
static size_t write_some(struct call *call, int number, const uint8_t *bytes, size_t size)
{
    struct stream *stream = &call->streams[number];
    if (!stream->nonblocking && size > PIPE_PIECE)
        size = PIPE_PIECE;
    ssize_t written = write(stream->fd, bytes, size);
    if (written >= 0) {
        count_written(call, number, (size_t)written);
        return (size_t)written;
    }
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    if (errno != EPIPE && call->unwritten < 0) {
        call->unwritten = number;
        call->unwritten_error = errno;
    }
    close_once(&stream->fd);
    drop(&stream->pending, filled(&stream->pending));
    send_frame(call, STOP, (uint8_t)number, NULL);
    return 0;
}

static void close_if_written(struct stream *stream)
{
    if (stream->ending && filled(&stream->pending) == 0)
        close_once(&stream->fd);
}

static void write_pending(struct call *call, int number)
{
    struct buffer *pending = &call->streams[number].pending;
    drop(pending, write_some(call, number, pending->bytes + pending->start, filled(pending)));
    close_if_written(&call->streams[number]);
}

/* Write what arrived after all that came before; it is dropped if the reader is gone. The window keeps the rest within
 * the buffer. */
static void write_or_keep(struct call *call, int number, const uint8_t *bytes, size_t size)
{
    struct stream *stream = &call->streams[number];
    if (stream->fd < 0 || size == 0)
        return;
    if (stream->nonblocking && filled(&stream->pending) == 0) {
        size_t written = write_some(call, number, bytes, size);
        bytes += written;
        size -= written;
    }
    uint8_t *into = stream->fd >= 0 ? make_room(&stream->pending, size) : NULL;
    if (into != NULL) {
        memcpy(into, bytes, size);
        stream->pending.end += size;
    }
}

static void end_stream(struct stream *stream)
{
    stream->ending = true;
    close_if_written(stream);
}

/* Leave stdin and stdout to the command: when it closes one, the other end has to see it. */
static void let_go_of_streams(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return;
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    close(null);
}

/* ---- Answers: a frame is checked as a whole before anything is taken from it. ---- */

struct message {
    const char *name;
    uint32_t limit;
    const char *fields; /* 1, 2, 4, 8: a number of that many bytes; s string, t text, l strings, r the rest */
};

static const struct message MESSAGES[] = {
    [HELLO] = {"Hello", CONTROL_LIMIT, "2lt"},
    [CALL] = {"Call", CALL_LIMIT, "sllssl81111"},
    [QUEUED] = {"Queued", CONTROL_LIMIT, "4"},
    [STARTED] = {"Started", CONTROL_LIMIT, "t"},
    [REFUSED] = {"Refused", CONTROL_LIMIT, "1tt"},
    [EXIT] = {"Exit", CONTROL_LIMIT, "11188888"},
    [DATA] = {"Data", MAX_DATA + 1, "1r"},
    [END_OF_STREAM] = {"Eof", CONTROL_LIMIT, "1"},
    [WINDOW] = {"Window", CONTROL_LIMIT, "14"},
    [STOP] = {"Stop", CONTROL_LIMIT, "1"},
    [SIGNAL] = {"Signal", CONTROL_LIMIT, "1"},
    [16] = {"Ping", CONTROL_LIMIT, ""},
    [PONG] = {"Pong", CONTROL_LIMIT, "444488"},
    [18] = {"Describe", CONTROL_LIMIT, "s"},
    [DESCRIPTION] = {"Description", DESCRIPTION_LIMIT, "s"},
    [20] = {"Status", CONTROL_LIMIT, ""},
    [CALLS] = {"Calls", CALLS_LIMIT, "s"},
    [22] = {"Cancel", CONTROL_LIMIT, "t"},
};

/* What is left of a payload while its fields are taken off. */
struct reader {
    struct call *call;
    const char *name;
    const uint8_t *at;
    size_t left;
};

static bool take(struct reader *reader, size_t size)
{
    if (size > reader->left)
        return fail(reader->call, EXIT_PROTOCOL, "%s ends in the middle of a field", reader->name);
    reader->at += size;
    reader->left -= size;
    return true;
}

static bool take_number(struct reader *reader, size_t size, uint64_t *number)
{
    const uint8_t *at = reader->at;
    if (!take(reader, size))
        return false;
    *number = get_number(at, size);
    return true;
}

static bool take_string(struct reader *reader, bool is_text)
{
    uint64_t size;
    if (!take_number(reader, 4, &size))
        return false;
    const uint8_t *text = reader->at;
    if (!take(reader, (size_t)size))
        return false;
    if (is_text && !is_utf8(text, (size_t)size))
        return fail(reader->call, EXIT_PROTOCOL, "%s has a text that is not UTF-8", reader->name);
    return true;
}

static bool take_strings(struct reader *reader)
{
    uint64_t count;
    if (!take_number(reader, 4, &count))
        return false;
    if (count * 4 > reader->left)
        return fail(reader->call, EXIT_PROTOCOL, "%s announces %llu strings, more than it can hold", reader->name,
                    (unsigned long long)count);
    while (count-- > 0)
        if (!take_string(reader, false))
            return false;
    return true;
}

static bool take_field(struct reader *reader, char field)
{
    uint64_t ignored;
    if (field == 'l')
        return take_strings(reader);
    if (field == 's' || field == 't')
        return take_string(reader, field == 't');
    return field == 'r' ? take(reader, reader->left) : take_number(reader, (size_t)(field - '0'), &ignored);
}

static bool check_fields(struct call *call, const struct message *message, const uint8_t *payload, size_t length)
{
    struct reader reader = {call, message->name, payload, length};
    for (const char *field = message->fields; *field != '\0'; field++)
        if (!take_field(&reader, *field))
            return false;
    if (reader.left > 0)
        return fail(call, EXIT_PROTOCOL, "%s has %zu bytes too many", message->name, reader.left);
    return true;
}

/* Move the service's state for a message of it; say what is wrong if it may not say that now. */
static bool check_state(struct call *call, int type)
{
    static const char *const names[] = {"idle", "ready", "waiting", "running", "done"};
    enum state before = call->state, next = before;
    bool fits = false;
    switch (type) {
    case HELLO:
        fits = before == STATE_IDLE;
        next = STATE_READY;
        break;
    case PONG:
    case DESCRIPTION:
    case CALLS:
        fits = before == STATE_READY;
        break;
    case QUEUED:
    case STARTED:
    case REFUSED:
        fits = before == STATE_READY || before == STATE_WAITING;
        next = type == QUEUED ? STATE_WAITING : type == STARTED ? STATE_RUNNING : STATE_DONE;
        break;
    case DATA:
    case END_OF_STREAM:
    case WINDOW:
    case STOP:
        fits = before == STATE_RUNNING;
        break;
    case EXIT:
        fits = before == STATE_READY || before == STATE_WAITING || before == STATE_RUNNING;
        next = STATE_DONE;
        break;
    default:
        break; /* only a caller says that */
    }
    if (!fits)
        return fail(call, EXIT_PROTOCOL, "%s does not fit a service that is %s", MESSAGES[type].name, names[before]);
    call->state = next;
    return true;
}

static void on_stdin_message(struct call *call, int type, const uint8_t *payload)
{
    struct stream *stream = &call->streams[STDIN_FILENO];
    if (type == STOP) {
        stream->credit = 0;
        close_once(&stream->fd);
        return;
    }
    uint64_t credit = get_number(payload + 1, 4);
    if (stream->credit + credit > INITIAL_WINDOW)
        fail(call, EXIT_PROTOCOL, "Window for stream 0 grants more than was consumed");
    else
        stream->credit += (uint32_t)credit;
}

static void on_output_message(struct call *call, int type, int number, const uint8_t *data, size_t size)
{
    struct stream *stream = &call->streams[number];
    if (stream->ended) {
        fail(call, EXIT_PROTOCOL, "%s for stream %d, which has ended", MESSAGES[type].name, number);
    } else if (type == END_OF_STREAM) {
        stream->ended = true;
        end_stream(stream);
    } else if (size > stream->credit) {
        fail(call, EXIT_PROTOCOL, "Data for stream %d is over its window", number);
    } else {
        stream->credit -= (uint32_t)size;
        write_or_keep(call, number, data, size);
    }
}

static void on_stream_message(struct call *call, int type, const uint8_t *payload, size_t length)
{
    int number = payload[0];
    const char *name = MESSAGES[type].name;
    if (number > 2 || call->streams[number].mode != MODE_RELAYED)
        fail(call, EXIT_PROTOCOL, "%s for stream %d, which is not relayed", name, number);
    else if ((number != STDIN_FILENO) != (type == DATA || type == END_OF_STREAM))
        fail(call, EXIT_PROTOCOL, "%s for stream %d comes from the wrong side", name, number);
    else if (number == STDIN_FILENO)
        on_stdin_message(call, type, payload);
    else
        on_output_message(call, type, number, payload + 1, length - 1);
}

static void on_started(struct call *call, const uint8_t *payload)
{
    call->call_id_length = (size_t)get_number(payload, 4);
    memcpy(call->call_id, payload + 4, call->call_id_length);
    if (call->verbose)
        say("started as call %.*s", (int)call->call_id_length, call->call_id);
    let_go_of_streams();
}

static void on_refused(struct call *call, const uint8_t *payload)
{
    static char unknown[CONTROL_LIMIT + 100];
    int code = payload[0];
    size_t length = (size_t)get_number(payload + 1, 4);
    const uint8_t *reason = payload + 5, *hint_text = reason + length + 4;
    static const uint8_t known[] = {DESCRIPTORS_LOST, EXIT_USAGE,  EXIT_UNAVAILABLE,    EXIT_BUSY,
                                    EXIT_PROTOCOL,    EXIT_DENIED, EXIT_CANNOT_EXECUTE, EXIT_NO_SUCH_COMMAND};
    if (memchr(known, code, sizeof known) == NULL) {
        int size = snprintf(unknown, 100, "the service refused with an unknown code %d: ", code);
        memcpy(unknown + size, reason, length);
        reason = (const uint8_t *)unknown;
        length += (size_t)size;
        code = EXIT_PROTOCOL;
    }
    call->must_relay = code == DESCRIPTORS_LOST;
    fail(call, code == DESCRIPTORS_LOST ? EXIT_PROTOCOL : code, "refused");
    set_line(&call->outcome.reason, reason, length);
    set_line(&call->outcome.hint, hint_text, (size_t)get_number(hint_text - 4, 4));
}

static void explain_end(struct outcome *outcome)
{
    static const char deadline[] = "the command ran into its deadline and was stopped";
    static const char more_time[] = "give it more time with `--timeout`, or in the service's configuration";
    static const char unplaced[] =
        "the command returned 0, but what it was to write could not be put into its place";
    static const char see_log[] = "did it write the file that it was told to? The service's log says more";
    if (outcome->kind == KIND_TIMED_OUT) {
        set_line(&outcome->reason, deadline, sizeof deadline - 1);
        set_line(&outcome->hint, more_time, sizeof more_time - 1);
    } else if (outcome->kind == KIND_UNPLACED) {
        set_line(&outcome->reason, unplaced, sizeof unplaced - 1);
        set_line(&outcome->hint, see_log, sizeof see_log - 1);
    }
}

static void on_exit_message(struct call *call, const uint8_t *payload)
{
    struct outcome *outcome = &call->outcome;
    int ended = payload[0], value = payload[1];
    bool by_signal = ended == KIND_SIGNALED && value > 0 && value <= LAST_SIGNAL;
    bool otherwise = ended == KIND_EXITED || ended == KIND_TIMED_OUT || ended == KIND_UNPLACED;
    if (!by_signal && (!otherwise || call->call_id_length == 0)) {
        fail(call, EXIT_PROTOCOL, "the service reports an impossible end %d, %d", ended, value);
        return;
    }
    call->has_ended = true;
    outcome->kind = (enum kind)ended;
    outcome->value = value;
    if (call->call_id_length == 0)
        return; /* interrupted before the command started */
    outcome->core_dumped = payload[2] != 0;
    outcome->has_usage = true;
    outcome->usage = (struct usage){get_number(payload + 3, 8), get_number(payload + 11, 8),
                                    get_number(payload + 19, 8), get_number(payload + 27, 8),
                                    get_number(payload + 35, 8)};
    explain_end(outcome);
    if (outcome->reason.length > 0)
        outcome->value = 0;
}

/* Whether the command was asked for its `--help`, which a DESCRIPTION answers. */
static bool asks_for_description(const struct call *call)
{
    return call->word_count == 3 && (strcmp(call->words[2], "--help") == 0 || strcmp(call->words[2], "-h") == 0);
}

static void on_description(struct call *call, const uint8_t *payload, size_t length)
{
    if (!asks_for_description(call)) {
        fail(call, EXIT_PROTOCOL, "the service described the command instead of running it");
        return;
    }
    call->description = payload + 4;
    call->description_length = length - 4;
    call->has_ended = true;
}

static void on_message(struct call *call, int type, const uint8_t *payload, size_t length)
{
    if (!check_fields(call, &MESSAGES[type], payload, length) || !check_state(call, type))
        return;
    switch (type) {
    case QUEUED:
        if (!call->quiet)
            say("waiting for a slot of %s, %u ahead", call->words[0], (unsigned)get_number(payload, 4));
        break;
    case STARTED: on_started(call, payload); break;
    case REFUSED: on_refused(call, payload); break;
    case EXIT: on_exit_message(call, payload); break;
    case DESCRIPTION: on_description(call, payload, length); break;
    case DATA:
    case END_OF_STREAM:
    case WINDOW:
    case STOP: on_stream_message(call, type, payload, length); break;
    default: break; /* HELLO, PONG: nothing was asked that they would answer */
    }
}

/* A frame that cannot be one is refused by its header. */
static bool check_header(struct call *call, int type, uint64_t length)
{
    if ((size_t)type >= sizeof MESSAGES / sizeof *MESSAGES || MESSAGES[type].name == NULL) {
        fail(call, EXIT_PROTOCOL, "a frame of unknown type %d", type);
        return hint(call, "is the peer a sidecall service or caller?");
    }
    if (length > MESSAGES[type].limit)
        return fail(call, EXIT_PROTOCOL, "%s of %llu bytes is over its %u", MESSAGES[type].name,
                    (unsigned long long)length, MESSAGES[type].limit);
    return true;
}

/* Check the head of a frame that is too long to keep: of what a service may say only CALLS can be, which is one string
 * that nobody asked for. Have it skipped. */
static void take_long_frame(struct call *call, int type, const uint8_t *payload, size_t length)
{
    size_t size = (size_t)get_number(payload, 4);
    if (!check_state(call, type))
        return;
    if (size > length - 4)
        fail(call, EXIT_PROTOCOL, "%s ends in the middle of a field", MESSAGES[type].name);
    else if (size < length - 4)
        fail(call, EXIT_PROTOCOL, "%s has %zu bytes too many", MESSAGES[type].name, length - 4 - size);
    else
        call->to_skip = HEADER + length;
}

static void skip(struct call *call)
{
    size_t size = filled(&call->incoming) < call->to_skip ? filled(&call->incoming) : call->to_skip;
    call->to_skip -= size;
    drop(&call->incoming, size);
}

/* Act on each whole frame that has arrived. */
static void take_frames(struct call *call)
{
    struct buffer *buffer = &call->incoming;
    for (skip(call); !call->has_ended && filled(buffer) >= HEADER; skip(call)) {
        const uint8_t *frame = buffer->bytes + buffer->start;
        size_t length = (size_t)get_number(frame, 4);
        bool is_long = length > DESCRIPTION_LIMIT;
        int type = frame[4];
        if (!check_header(call, type, length) || filled(buffer) < HEADER + (is_long ? 4 : length))
            return;
        if (is_long) {
            take_long_frame(call, type, frame + HEADER, length);
        } else {
            on_message(call, type, frame + HEADER, length);
            drop(buffer, HEADER + length);
        }
    }
}

static void receive(struct call *call)
{
    struct buffer *buffer = &call->incoming;
    size_t left = filled(buffer);
    memmove(buffer->bytes, buffer->bytes + buffer->start, left); /* less than one frame, so there is room */
    buffer->start = 0;
    buffer->end = left;
    /* Without room for control data the kernel discards whatever descriptors come: a caller wants none. */
    ssize_t size = recv(call->sock, buffer->bytes + left, buffer->size - left, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        fail(call, EXIT_LOST, "the connection to the service was lost: whether and how the command ended is unknown");
        hint(call, "look at the service's log before calling again");
        return;
    }
    buffer->end += (size_t)size;
    take_frames(call);
}

/* ---- Signals: a pipe makes them events of the loop. ---- */

static const int SIGNALS[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGTSTP};
enum { SIGNAL_COUNT = sizeof SIGNALS / sizeof *SIGNALS };

static int signal_pipe[2] = {-1, -1};
static struct sigaction previous_actions[SIGNAL_COUNT];

static void note_signal(int number)
{
    int error = errno;
    uint8_t byte = (uint8_t)number;
    if (write(signal_pipe[1], &byte, 1) < 0)
        errno = error; /* the pipe is full: enough have come */
    errno = error;
}

/* A signal that is ignored stays ignored: nohup(1), and a shell's `&`, mean it. */
static bool watch_signals(struct call *call)
{
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return fail(call, EXIT_BUG, "cannot watch for signals: %s", error_text(errno));
    for (int i = 0; i < SIGNAL_COUNT; i++) {
        sigaction(SIGNALS[i], NULL, &previous_actions[i]);
        if (previous_actions[i].sa_handler != SIG_IGN)
            sigaction(SIGNALS[i], &action, NULL);
    }
    return true;
}

static void unwatch_signals(void)
{
    if (signal_pipe[0] < 0)
        return;
    for (int i = 0; i < SIGNAL_COUNT; i++)
        sigaction(SIGNALS[i], &previous_actions[i], NULL);
    close_once(&signal_pipe[0]);
    close_once(&signal_pipe[1]);
}

static void on_signal(struct call *call, int number)
{
    call->interrupts += number == SIGINT;
    if (call->interrupts > PATIENCE) {
        fail(call, EXIT_LOST,
             "interrupted again and again while the service does not act: how the command ended is unknown");
        hint(call, "look at the service: is it stopped?");
        return;
    }
    send_frame(call, SIGNAL, (uint8_t)number, NULL);
    if (number == SIGTSTP) {
        kill(getpid(), SIGSTOP);
        send_frame(call, SIGNAL, SIGCONT, NULL);
    }
}

static void read_signals(struct call *call)
{
    uint8_t numbers[512];
    ssize_t count = read(signal_pipe[0], numbers, sizeof numbers);
    for (ssize_t i = 0; i < count && !call->has_ended; i++)
        on_signal(call, numbers[i]);
}

/* ---- The call as a whole ---- */

enum { POLL_CHANNEL = 3, POLL_SIGNALS = 4, POLL_COUNT = 5 }; /* the streams come first, under their own numbers */

/* Wait until something is ready, and act on all that is. */
static void run_once(struct call *call)
{
    struct pollfd polled[POLL_COUNT];
    short channel_events = filled(&call->outgoing) > 0 ? POLLIN | POLLOUT : POLLIN;
    polled[STDIN_FILENO] = (struct pollfd){may_read_stdin(call) ? call->streams[STDIN_FILENO].fd : -1, POLLIN, 0};
    for (int i = STDOUT_FILENO; i <= STDERR_FILENO; i++)
        polled[i] = (struct pollfd){filled(&call->streams[i].pending) > 0 ? call->streams[i].fd : -1, POLLOUT, 0};
    polled[POLL_CHANNEL] = (struct pollfd){call->sock, channel_events, 0};
    polled[POLL_SIGNALS] = (struct pollfd){signal_pipe[0], POLLIN, 0};
    if (poll(polled, POLL_COUNT, -1) <= 0)
        return;
    if (polled[POLL_CHANNEL].revents & POLLOUT)
        send_pending(call, NULL, 0);
    if (polled[POLL_CHANNEL].revents & ~POLLOUT)
        receive(call);
    if (polled[POLL_SIGNALS].revents && !call->has_ended)
        read_signals(call);
    if (polled[STDIN_FILENO].revents && !call->has_ended && may_read_stdin(call))
        read_stdin(call);
    for (int i = STDOUT_FILENO; i <= STDERR_FILENO; i++)
        if (polled[i].revents && call->streams[i].fd >= 0 && filled(&call->streams[i].pending) > 0)
            write_pending(call, i);
}

/* Write what arrived to where it belongs; an outcome whose output could not be written is none. */
static void flush_streams(struct call *call)
{
    static const char *const names[] = {"stdin", "stdout", "stderr"};
    struct outcome *outcome = &call->outcome;
    close_once(&call->streams[STDIN_FILENO].fd);
    for (int i = STDOUT_FILENO; i <= STDERR_FILENO; i++)
        end_stream(&call->streams[i]);
    while (call->streams[STDOUT_FILENO].fd >= 0 || call->streams[STDERR_FILENO].fd >= 0)
        run_once(call);
    if (call->unwritten < 0 || call->has_failed || outcome->kind != KIND_EXITED || outcome->value != 0)
        return;
    fail(call, EXIT_LOST, "the command returned 0, but its %s could not be written: %s", names[call->unwritten],
         error_text(call->unwritten_error));
    call->has_failed = false; /* it has a call and a usage */
}

static void close_call(struct call *call)
{
    unwatch_signals();
    close_once(&call->sock);
    for (int i = 0; i < 3; i++)
        close_once(&call->streams[i].fd);
}

static void begin_attempt(struct call *call)
{
    call->sock = -1;
    call->broken = call->must_relay = false;
    forget_failure(call);
    call->state = STATE_IDLE;
    call->incoming = (struct buffer){incoming_bytes, sizeof incoming_bytes, 0, 0};
    call->outgoing = (struct buffer){outgoing_bytes, sizeof outgoing_bytes, 0, 0};
    call->to_skip = 0;
    call->interrupts = 0;
    call->unwritten = -1;
}

/* One connection's worth of a call. */
static void attempt(struct call *call, bool relay)
{
    begin_attempt(call);
    for (int i = 0; i < 3; i++)
        call->streams[i].fd = -1;
    bool ready = connect_to_service(call);
    for (int i = 0; i < 3 && ready; i++)
        ready = open_stream(call, i, relay);
    if (ready && watch_signals(call)) {
        send_call(call);
        while (!call->has_ended)
            run_once(call);
        unwatch_signals(); /* from here on Ctrl-C ends the caller, not the ended command */
        close_once(&call->sock);
        flush_streams(call);
    }
    close_call(call);
}

/* Where descriptors get lost on the way the call is made again with relayed streams. */
static void make_call(struct call *call)
{
    attempt(call, call->relay);
    bool passed = false;
    for (int i = 0; i < 3; i++)
        passed |= call->streams[i].mode == MODE_PASSED;
    if (call->must_relay && passed)
        attempt(call, true);
}

static bool prepare_request(struct call *call)
{
    if (call->word_count < 2) {
        fail(call, EXIT_USAGE, "%s missing", call->word_count == 0 ? "a service and a command are" : "a command is");
        return hint(call, "usage: " USAGE);
    }
    if (!find_socket(call, call->words[0]) || !check_variables(call))
        return false;
    call->directory = call->cwd != NULL ? absolute(call, call->cwd) : "";
    return call->directory != NULL && parse_seconds(call, "--timeout", call->timeout_text, &call->timeout) &&
           parse_seconds(call, "--wait", call->wait_text, &call->wait);
}

/* Open /dev/null in the place of a closed stdin, stdout or stderr, so that no socket of ours gets there. */
static bool occupy_closed_streams(struct call *call)
{
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
        call->streams[fd].was_closed = true;
    if (fd < 0)
        return fail(call, EXIT_BUG, "cannot open /dev/null: %s", error_text(errno));
    close(fd);
    return true;
}

/* Be killed when the parent ends; if it has ended by now, end at once.
 *
 * A parent that ended before this process could ask has left it to another one: to one of another session, unless a
 * process of this session collects orphans. A session's leader has a parent in another one from the start. */
static bool die_with_parent(struct call *call)
{
    pid_t parent = getppid(), session = getsid(0);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    bool is_orphan = parent != 0 && session != getpid() && session != getsid(parent);
    if (!is_orphan && getppid() == parent)
        return true;
    fail(call, EXIT_UNAVAILABLE, "the parent has ended before the call was made");
    return hint(call, "nothing was started");
}

/* ---- How it ends ---- */

struct text {
    char bytes[8 * CONTROL_LIMIT];
    size_t length;
};

static struct text json;

__attribute__((format(printf, 1, 2))) static void add(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int size = vsnprintf(json.bytes + json.length, sizeof json.bytes - json.length, format, values);
    va_end(values);
    json.length += (size_t)size;
}

/* Add a string as Python's json does: ASCII alone. */
static void add_string(const char *text, size_t length)
{
    static const char plain[] = "\"\\\b\f\n\r\t", escaped[] = "\"\\bfnrt";
    const uint8_t *at = (const uint8_t *)text, *end = at + length;
    add("\"");
    while (at < end) {
        uint32_t character = decode(&at, end);
        const char *found = character > 0 && character < 0x80 ? strchr(plain, (int)character) : NULL;
        if (found != NULL)
            add("\\%c", escaped[found - plain]);
        else if (character >= ' ' && character < 0x7f)
            add("%c", (int)character);
        else if (character < 0x10000)
            add("\\u%04x", (unsigned)character);
        else
            add("\\u%04x\\u%04x", (unsigned)(0xd7c0 + (character >> 10)), (unsigned)(0xdc00 | (character & 0x3ff)));
    }
    add("\"");
}

/* Add microseconds as seconds, in the fewest digits that mean the same number, as Python does. */
static void add_seconds(const char *name, uint64_t microseconds)
{
    double seconds = (double)microseconds / 1e6;
    char shortest[40];
    int digits = 0;
    do
        snprintf(shortest, sizeof shortest, "%.*e", digits, seconds);
    while (strtod(shortest, NULL) < seconds || strtod(shortest, NULL) > seconds ? ++digits < 17 : false);
    long exponent = strtol(strchr(shortest, 'e') + 1, NULL, 10);
    if (exponent < -4)
        add("\"%s\": %s, ", name, shortest);
    else
        add("\"%s\": %.*f, ", name, digits > exponent ? digits - (int)exponent : 1, seconds);
}

static int exit_code(const struct outcome *outcome)
{
    switch (outcome->kind) {
    case KIND_SIGNALED: return 128 + outcome->value;
    case KIND_TIMED_OUT: return EXIT_TIMED_OUT;
    case KIND_UNPLACED: return EXIT_UNPLACED;
    case KIND_LOST: return EXIT_LOST;
    default: return outcome->value;
    }
}

static const char *const KIND_NAMES[] = {"exited", "signaled", "timed-out", "unplaced", "refused", "lost"};

static bool write_all(int fd, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = write(fd, at, length);
        if (written < 0 && errno != EINTR)
            return false;
        if (written > 0) {
            at += written;
            length -= (size_t)written;
        }
    }
    return true;
}

/* Write one line of JSON: only the fields that mean something. */
static bool write_outcome(const struct call *call)
{
    const struct outcome *outcome = &call->outcome;
    const struct usage *usage = &outcome->usage;
    add("{\"outcome\": \"%s\"", KIND_NAMES[outcome->kind]);
    if (outcome->kind == KIND_EXITED) {
        add(", \"code\": %d", outcome->value);
    } else if (outcome->kind == KIND_SIGNALED) {
        add(", \"signal\": %d, \"core_dumped\": %s", outcome->value, outcome->core_dumped ? "true" : "false");
    } else {
        add(", \"exit_code\": %d, \"reason\": ", exit_code(outcome));
        add_string(outcome->reason.text, outcome->reason.length);
        add(", \"hint\": ");
        add_string(outcome->hint.text, outcome->hint.length);
    }
    if (call->call_id_length > 0 && outcome->has_usage) {
        add(", \"call\": ");
        add_string(call->call_id, call->call_id_length);
    }
    if (outcome->has_usage) {
        add(", \"usage\": {");
        add_seconds("queued", usage->queued_us);
        add_seconds("run", usage->run_us);
        add_seconds("user", usage->user_us);
        add_seconds("system", usage->system_us);
        add("\"max_rss\": %llu}", (unsigned long long)usage->max_rss);
    }
    add("}\n");
    return write_all(call->outcome_fd, json.bytes, json.length);
}

/* End this process by a signal, as the command was ended, without a second core dump. Returns the code to exit with,
 * as shells report the signal, if this process survives: pid 1 of a container does. */
static int die_of(int number)
{
    struct rlimit none = {0, 0};
    sigset_t set;
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* the limit alone does not bind a core_pattern that is a pipe: core(5) */
    signal(number, SIG_DFL);            /* KILL and STOP have no other action; libc keeps some for itself */
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    kill(getpid(), number);
    return 128 + number;
}

static int end_as(const struct call *call)
{
    const struct outcome *outcome = &call->outcome;
    const char *kind = KIND_NAMES[outcome->kind];
    if (call->outcome_fd >= 0 && !write_outcome(call)) {
        if (errno != EPIPE)
            say("the outcome could not be written to descriptor %d: %s", call->outcome_fd, error_text(errno));
        return 1;
    }
    if (call->verbose && outcome->has_usage)
        say("%s %d, ran %.3f s after %.3f s in the queue", kind, outcome->value, (double)outcome->usage.run_us / 1e6,
            (double)outcome->usage.queued_us / 1e6);
    else if (call->verbose)
        say("%s %d", kind, outcome->value);
    if (outcome->has_usage && outcome->reason.length > 0)
        complain(call);
    return outcome->kind == KIND_SIGNALED ? die_of(outcome->value) : exit_code(outcome);
}

/* ---- Handing over to the Python command, which does the rest ---- */

#ifdef SIDECALL_STANDALONE
void hand_over(char **argv); /* it is in the same executable: native/standalone/python.c */
#else

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

/* Become the Python command with the same words. Returns only if there is none. */
static void hand_over(char **argv)
{
    const char *named = getenv("SIDECALL_PYTHON_COMMAND");
    char beside[PATH_MAX + sizeof "sidecall-python"];
    if (named != NULL && strchr(named, '/') != NULL) {
        become(named, argv);
        return;
    }
    if (named != NULL && *named != '\0') {
        become_from_path(named, argv);
        return;
    }
    ssize_t length = readlink("/proc/self/exe", beside, PATH_MAX);
    if (length > 0) {
        strcpy(beside + folder_length(beside, (size_t)length), "/sidecall-python");
        become(beside, argv);
    }
    become_from_path("sidecall-python", argv);
}

#endif

static int no_python_command(struct call *call)
{
    fail(call, EXIT_USAGE, "this client only runs `sidecall exec`, and there is no Python command to do the rest");
    hint(call, "install sidecall for Python, or name its command in SIDECALL_PYTHON_COMMAND");
    complain(call);
    return EXIT_USAGE;
}

static int print_description(const struct call *call)
{
    return write_all(STDOUT_FILENO, call->description, call->description_length) && write_all(STDOUT_FILENO, "\n", 1)
               ? 0
               : 1;
}

static int run_exec(struct call *call)
{
    signal(SIGPIPE, SIG_IGN); /* both are told by an error instead */
    signal(SIGXFSZ, SIG_IGN);
    if ((call->die_with_parent && !die_with_parent(call)) || !occupy_closed_streams(call) || !parse_outcome_fd(call)) {
        complain(call);
        return call->outcome.value;
    }
    if (prepare_request(call))
        make_call(call);
    if (call->description != NULL)
        return print_description(call);
    if (call->has_failed)
        complain(call);
    return end_as(call);
}

int main(int argc, char **argv)
{
    struct call *call = &the_call;
    char *variables[argc > 0 ? argc : 1];
    call->variables = variables;
    if (argc < 2 || strcmp(argv[1], "exec") != 0) {
        hand_over(argv);
        return no_python_command(call);
    }
    if (!parse_options(call, argv + 2)) {
        complain(call);
        return call->outcome.value;
    }
    if (call->wants_help || asks_for_description(call))
        hand_over(argv);
    return call->wants_help ? no_python_command(call) : run_exec(call);
}
